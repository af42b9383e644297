/* Long commands, prepared in steps before they are applied. What takes long is
 * making and hashing the chunks of a large content; the rest of a publication or
 * `set` is short. The content is a function of the command and the state before it,
 * and nothing is applied in between, so it is what store_apply() would make. If
 * that refuses the command, the content is dropped. */
#include <errno.h>
#include <stdlib.h>

#include "kvnode/state/store_internal.h"
#include "sync/wire/txn.h"

/* Commands with less work (bytes of the body, of the old content) are not prepared. */
#define SHORT_MAX ((size_t)512 * 1024)

struct prepared {
    const void *bytes; /* borrowed: the command */
    uint64_t applied;  /* when it was begun */
    struct content {
        size_t item; /* of a transaction, from 1 on; 0 */
        struct rewrite rewrite;
    } * contents; /* owned */
    size_t n, made;
    size_t next; /* the first that store_prepared() was not asked for */
};

/* What the command would write to. base_out: no bytes if that is missing. */
static bool find_base(const struct store *s, uint8_t op, const struct command_body *body,
                      struct value *base_out, uint64_t *digest_out)
{
    const struct inode *in = NULL;
    struct walked at;
    int rv;

    *base_out = (struct value){0};
    *digest_out = 0;
    if (op == COMMAND_PUBLISH) {
        in = inode_live(s, body->ino);
        if (in == NULL)
            return false;
    } else {
        rv = path_walk(s, NULL, body->path, body->path_len, &at);
        if (rv == KV_E_NOENT)
            return true;
        if (rv != KV_OK)
            return false;
        in = at.inode;
    }
    if (in->type != INODE_FILE)
        return false;
    *base_out = inode_value(in);
    *digest_out = in->content_digest;
    return true;
}

/* The bytes of a list of edits tell little about the work: a short one may touch
 * every chunk of a large content, or extend it. */
static bool is_short(uint8_t op, const struct command_body *body, const struct value *base, size_t len)
{
    struct cursor c = cursor_of(body->edits, body->edits_len);
    struct edit e;

    if (len > SHORT_MAX || base->size > SHORT_MAX)
        return false;
    if (op == COMMAND_SET)
        return true;
    for (int n = 0; edit_next(&c, &e) == 1; n++)
        if (n == 64 || ((e.kind == EDIT_TRUNCATE || e.kind == EDIT_WRITE) && e.number > SHORT_MAX))
            return false;
    return true;
}

static int begin_content(struct store *s, uint8_t op, const struct command_body *body, size_t item,
                         const struct value *base, uint64_t digest)
{
    struct prepared *p = s->prepared;
    struct content *c = &p->contents[p->n];

    c->item = item;
    rewrite_begin(&c->rewrite, s, op, body, base, digest);
    c->rewrite.apart = true;
    /* What there is room for is known when those before it are done (store_txn_plan.c). */
    if (item > 0)
        c->rewrite.limits = (struct rewrite_limits){UINT64_MAX, UINT64_MAX};
    p->n++;
    return 0;
}

static int reserve(struct store *s, const void *bytes, size_t n)
{
    s->prepared = calloc(1, sizeof *s->prepared);
    if (s->prepared != NULL)
        s->prepared->contents = calloc(n, sizeof *s->prepared->contents);
    if (s->prepared == NULL || s->prepared->contents == NULL) {
        free(s->prepared);
        s->prepared = NULL;
        return -ENOMEM;
    }
    s->prepared->bytes = bytes;
    s->prepared->applied = s->applied;
    return 0;
}

/* All values that it sets, in either branch. One whose key comes to stand for something else by what is done
 * before it is made anew then. */
static int begin_txn(struct store *s, const void *bytes, const struct command_body *body)
{
    struct cursor c = cursor_of(body->items, body->items_len);
    struct txn_item item;
    int rv = body->items_len > SHORT_MAX ? reserve(s, bytes, TXN_ITEMS_MAX) : 0;

    for (size_t n = 1; rv == 0 && s->prepared != NULL && txn_next(&c, &item) == 1; n++) {
        const struct command_body set = {
            .path = item.path, .path_len = item.path_len, .value = item.value, .value_len = item.value_len};
        struct value base;
        uint64_t digest;

        if (item.kind == TXN_SET && find_base(s, COMMAND_SET, &set, &base, &digest))
            rv = begin_content(s, COMMAND_SET, &set, n, &base, digest);
    }
    return rv;
}

static int begin(struct store *s, const void *bytes, size_t len)
{
    struct command cmd;
    struct command_body body;
    const struct session *ss;
    const void *whole;
    struct value base;
    uint64_t digest;
    size_t whole_len;
    int rv;

    if (command_decode(bytes, len, &cmd) != KV_OK ||
        (cmd.op != COMMAND_PUBLISH && cmd.op != COMMAND_SET && cmd.op != COMMAND_TXN))
        return 0;
    ss = cmd.session != 0 ? session_find(s, cmd.session) : NULL;
    if (ss == NULL || cmd.seq == 0 || cmd.seq < ss->acked_below || session_kept(ss, cmd.seq) != NULL)
        return 0;
    whole = cmd.body;
    whole_len = cmd.body_len;
    if ((cmd.flags & COMMAND_PARTS) != 0) {
        rv = session_join(ss, &cmd, &whole, &whole_len);
        if (rv != 0)
            return rv < 0 ? rv : 0;
    }
    if (command_body_decode(cmd.op, whole, whole_len, &body) != KV_OK)
        return 0;
    if (cmd.op == COMMAND_TXN)
        return begin_txn(s, bytes, &body);
    if (!find_base(s, cmd.op, &body, &base, &digest) || is_short(cmd.op, &body, &base, whole_len))
        return 0;
    rv = reserve(s, bytes, 1);
    return rv == 0 ? begin_content(s, cmd.op, &body, 0, &base, digest) : rv;
}

int store_prepare(struct store *s, const void *bytes, size_t len, size_t budget)
{
    struct prepared *p = s->prepared;
    int rv;

    if (p != NULL && (p->bytes != bytes || p->applied != s->applied))
        store_unprepare(s);
    if (s->prepared == NULL) {
        rv = begin(s, bytes, len);
        if (rv < 0 || s->prepared == NULL)
            return rv;
    }
    p = s->prepared;
    if (p->made < p->n) {
        rv = rewrite_work(&p->contents[p->made].rewrite, budget);
        if (rv < 0)
            return rv;
        p->made += p->contents[p->made].rewrite.phase == REWRITE_DONE;
    }
    return p->made < p->n;
}

struct rewrite *store_prepared(struct apply *ap, const struct value *base)
{
    struct prepared *p = ap->s->prepared;
    struct rewrite *r;

    while (p != NULL && p->next < p->n && p->contents[p->next].item < ap->item)
        p->next++;
    if (p == NULL || p->next == p->n || p->contents[p->next].item != ap->item)
        return NULL;
    r = &p->contents[p->next].rewrite;
    if (r->phase != REWRITE_DONE || r->base.size != base->size ||
        (base->size > 0 && value_list(&r->base)[0] != value_list(base)[0]))
        return NULL;
    return r;
}

void store_unprepare(struct store *s)
{
    if (s->prepared == NULL)
        return;
    for (size_t i = 0; i < s->prepared->n; i++)
        rewrite_deinit(&s->prepared->contents[i].rewrite);
    free(s->prepared->contents);
    free(s->prepared);
    s->prepared = NULL;
}
