/* Transactions: the comparisons, then one of the branches, planned as a whole (store_txn_plan.c) and then
 * done item by item by the operations that there are. Each says what it is to history, as if it had come
 * alone. */
#include <string.h>

#include "kvnode/state/store_internal.h"
#include "sync/wire/txn.h"

/* c: NULL, zeros. */
static bool chunk_is(const struct chunk *c, const uint8_t *bytes, uint32_t len)
{
    if (c != NULL)
        return memcmp(c->data, bytes, len) == 0;
    for (uint32_t i = 0; i < len; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

/* KV_OK: it holds; KV_E_VERSION: it does not; anything else: it cannot be asked. */
static int compare(const struct apply *ap, const struct txn_item *item)
{
    struct walked at;
    struct value v;
    uint64_t version;
    size_t done = 0;
    int rv = path_walk(ap->s, &ap->who, item->path, item->path_len, &at);
    bool there = rv == KV_OK, same;

    if (!there && rv != KV_E_NOENT && rv != KV_E_NOTDIR)
        return rv;
    version = there && at.entry != NULL ? dentry_version(at.entry) : 0;
    switch (item->kind) {
    case TXN_IF_VERSION:
        return (item->version == 0 ? !there : there && version == item->version) ? KV_OK : KV_E_VERSION;
    case TXN_IF_MISSING:
        return there ? KV_E_VERSION : KV_OK;
    case TXN_IF_EXISTS:
        return there ? KV_OK : KV_E_VERSION;
    case TXN_IF_FENCE:
        return there && fence_permits(ap->s, at.inode->ino, item->fence) ? KV_OK : KV_E_VERSION;
    default:
        break;
    }
    if (!there || at.inode->type != INODE_FILE)
        return KV_E_VERSION;
    rv = permission_check(&ap->who, at.inode, 4);
    if (rv != KV_OK)
        return rv;
    v = inode_value(at.inode);
    same = v.size == item->value_len;
    for (size_t i = 0; same && i < value_chunks(v.size); i++) {
        uint32_t len = value_chunk_len(v.size, i);

        same = chunk_is(value_list(&v)[i], item->value + done, len);
        done += len;
    }
    return same ? KV_OK : KV_E_VERSION;
}

static int do_set(struct apply *ap, const struct txn_item *item)
{
    const struct command_body body = {.path = item->path,
                                      .path_len = item->path_len,
                                      .flags = SET_PARENTS,
                                      .mode = 0644,
                                      .ttl_ms = item->ttl_ms,
                                      .value = item->value,
                                      .value_len = item->value_len};

    ap->body = &body;
    return apply_set(ap);
}

static int do_del(struct apply *ap, const struct txn_item *item)
{
    const struct command_body body = {.path = item->path, .path_len = item->path_len};

    ap->body = &body;
    return apply_del(ap);
}

/* The directory and the last name of a path; the name need not be there. */
static int find_name(const struct apply *ap, const uint8_t *path, size_t len, struct walked *at)
{
    int rv = path_walk(ap->s, &ap->who, path, len, at);

    return rv == KV_E_NOENT && at->rest_len == at->name_len ? KV_OK : rv;
}

static int do_move(struct apply *ap, const struct txn_item *item)
{
    struct walked from, to;
    struct command_body body;
    int rv = find_name(ap, item->path, item->path_len, &from);

    if (rv == KV_OK)
        rv = find_name(ap, item->to, item->to_len, &to);
    if (rv != KV_OK)
        return rv;
    body = (struct command_body){.parent = from.parent->ino,
                                 .name = from.name,
                                 .name_len = from.name_len,
                                 .new_parent = to.parent->ino,
                                 .new_name = to.name,
                                 .new_name_len = to.name_len};
    ap->body = &body;
    return apply_rename(ap);
}

static int do_mkdir(struct apply *ap, const struct txn_item *item)
{
    struct walked at;
    struct command_body body;
    int rv = find_name(ap, item->path, item->path_len, &at);

    if (rv != KV_OK)
        return rv;
    body = (struct command_body){
        .parent = at.parent->ino, .name = at.name, .name_len = at.name_len, .mode = 0755};
    ap->body = &body;
    return apply_mkdir(ap);
}

static const struct {
    uint8_t op;
    int (*go)(struct apply *ap, const struct txn_item *item);
} operations[] = {
    [TXN_SET] = {COMMAND_SET, do_set},
    [TXN_DEL] = {COMMAND_DEL, do_del},
    [TXN_MOVE] = {COMMAND_RENAME, do_move},
    [TXN_MKDIR] = {COMMAND_MKDIR, do_mkdir},
};

/* One branch, which begins at item number `first`. */
static int run(struct apply *ap, struct cursor items, size_t first)
{
    const struct command *txn = ap->cmd;
    struct command as = *txn;
    struct command_result *result = ap->result, each;
    struct txn_item item;
    size_t refused;
    int rv = txn_plan(ap, items, first, &refused);

    if (rv != KV_OK) {
        result->removed = refused;
        return rv;
    }
    ap->cmd = &as;
    ap->result = &each;
    ap->item = first;
    while (rv == KV_OK && txn_next(&items, &item) == 1 && item.kind != TXN_ELSE) {
        each = (struct command_result){.revision = ap->index};
        as.op = operations[item.kind].op;
        rv = operations[item.kind].go(ap, &item);
        ap->item++;
    }
    ap->cmd = txn;
    ap->result = result;
    ap->item = 0;
    return rv;
}

int apply_txn(struct apply *ap)
{
    const struct command_body *body = ap->body;
    struct cursor c = cursor_of(body->items, body->items_len), at = c;
    struct command_result *result = ap->result;
    struct txn_item item;
    size_t n = 1;
    int rv;

    for (; txn_next(&c, &item) == 1 && txn_is_comparison(item.kind); n++) {
        rv = compare(ap, &item);
        if (rv != KV_OK && (result->removed == 0 || rv != KV_E_VERSION))
            result->removed = n; /* the first that does not hold, or the one that cannot be asked */
        if (rv != KV_OK && rv != KV_E_VERSION)
            return rv;
        at = c;
    }
    result->created = result->removed == 0;
    if (result->created == 0) { /* the other branch */
        for (n++; item.kind != TXN_ELSE; n++)
            if (txn_next(&c, &item) != 1)
                return KV_E_VERSION;
        at = c;
    }
    rv = run(ap, at, n);
    ap->body = body;
    return rv;
}
