/* What a transaction would do, without doing it. Nothing that was applied is ever taken back: so every item
 * is tried on a picture of the names first, in which those before it have happened, with the checks that the
 * operations make themselves (store_apply_*.c). The picture has only what the items come by: a node for each
 * inode, made or found, and what each name stands for.
 *
 *   (directory, name) ──vname──► vnode ──► inode, if it is there already */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kvnode/state/store_internal.h"
#include "sync/wire/txn.h"

#define BUCKETS 4096 /* a power of two */

struct vnode {
    struct vnode *next; /* all, to be freed */
    struct inode *in;   /* borrowed; NULL: the transaction makes it */
    struct vnode *up;   /* directories: in which it is; NULL: the root */
    uint64_t size, bytes;
    uint64_t n_living; /* directories: names in it */
    uint32_t uid, gid, n_names;
    uint16_t mode;
    uint8_t type;
    bool changed; /* an item has changed it, or one of its names */
};

/* What a name stands for; of dir NULL: the inode whose number is the name. */
struct vname {
    struct vname *next;
    const struct vnode *dir;
    struct vnode *node; /* NULL: nothing */
    bool changed;
    size_t len;
    uint8_t name[];
};

struct plan {
    const struct apply *ap;
    struct vname **buckets; /* owned */
    struct vnode *nodes;    /* owned */
    struct vnode *root;
    uint64_t keys, bytes;
    size_t names, chunks;
    bool failed; /* out of memory */
};

static void plan_free(struct plan *p)
{
    for (size_t i = 0; p->buckets != NULL && i < BUCKETS; i++) {
        while (p->buckets[i] != NULL) {
            struct vname *n = p->buckets[i];

            p->buckets[i] = n->next;
            free(n);
        }
    }
    while (p->nodes != NULL) {
        struct vnode *n = p->nodes;

        p->nodes = n->next;
        free(n);
    }
    free(p->buckets);
}

static struct vname **find(struct plan *p, const struct vnode *dir, const void *name, size_t len)
{
    uint64_t hash = XXH3_64bits_withSeed(name, len, (uint64_t)(uintptr_t)dir);
    struct vname **at = &p->buckets[hash & (BUCKETS - 1)];

    while (*at != NULL && ((*at)->dir != dir || (*at)->len != len || memcmp((*at)->name, name, len) != 0))
        at = &(*at)->next;
    return at;
}

static struct vname *add(struct plan *p, const struct vnode *dir, const void *name, size_t len,
                         struct vnode *node)
{
    struct vname *n = malloc(sizeof *n + len), **at = find(p, dir, name, len);

    if (n == NULL) {
        p->failed = true;
        return NULL;
    }
    *n = (struct vname){.dir = dir, .node = node, .len = len};
    memcpy(n->name, name, len);
    *at = n;
    return n;
}

static struct vnode *new_node(struct plan *p, uint8_t type)
{
    struct vnode *n = calloc(1, sizeof *n);

    if (n == NULL) {
        p->failed = true;
        return NULL;
    }
    n->type = type;
    n->next = p->nodes;
    p->nodes = n;
    return n;
}

/* The node of what is there, in this directory (NULL: the root). */
static struct vnode *node_of(struct plan *p, struct inode *in, struct vnode *up)
{
    struct vname *known = *find(p, NULL, &in->ino, sizeof in->ino);
    struct vnode *n;

    if (known != NULL)
        return known->node;
    n = new_node(p, in->type);
    if (n == NULL)
        return NULL;
    n->in = in;
    n->up = up;
    n->size = in->type != INODE_DIRECTORY ? in->size : 0;
    n->bytes = inode_bytes(in);
    n->n_living = in->type == INODE_DIRECTORY ? in->c.dir->n_living : 0;
    n->uid = in->uid;
    n->gid = in->gid;
    n->mode = in->mode;
    n->n_names = in->n_names;
    return add(p, NULL, &in->ino, sizeof in->ino, n) != NULL ? n : NULL;
}

/* NULL: out of memory. */
static struct vname *lookup(struct plan *p, struct vnode *dir, const void *name, size_t len)
{
    struct vname *known = *find(p, dir, name, len);
    const struct dentry *d;
    struct vnode *node = NULL;

    if (known != NULL)
        return known;
    d = dir->in != NULL ? dentry_find(p->ap->s, dir->in->c.dir, name, len) : NULL;
    if (d != NULL && !dentry_is_dead(d)) {
        node = node_of(p, d->u.inode, dir);
        if (node == NULL)
            return NULL;
    }
    return add(p, dir, name, len, node);
}

static int check(const struct plan *p, const struct vnode *n, unsigned mask)
{
    return store_permits(&p->ap->who, n->uid, n->gid, n->mode, mask);
}

/* permission_remove() */
static int check_remove(const struct plan *p, const struct vnode *dir, const struct vnode *victim)
{
    const struct caller *who = &p->ap->who;
    int rv = check(p, dir, 3);

    if (rv != KV_OK || permission_root(who) || (dir->mode & S_ISVTX) == 0)
        return rv;
    return who->uid == victim->uid || who->uid == dir->uid ? KV_OK : KV_E_PERM;
}

struct place {
    struct vnode *dir;   /* of the last name found or missing */
    struct vname *name;  /* that one */
    const uint8_t *rest; /* KV_E_NOENT: from the missing name on */
    size_t rest_len;
};

/* path_walk() */
static int walk(struct plan *p, const uint8_t *path, size_t len, struct place *at)
{
    const uint8_t *q = path, *end = path + len;
    struct vnode *n = p->root;

    *at = (struct place){.dir = n};
    while (q < end) {
        const uint8_t *slash = memchr(q, '/', (size_t)(end - q)), *stop = slash != NULL ? slash : end;
        int rv;

        if (stop == q) {
            q++;
            continue;
        }
        if (n->type != INODE_DIRECTORY)
            return KV_E_NOTDIR;
        rv = check(p, n, 1);
        if (rv != KV_OK)
            return rv;
        *at = (struct place){n, lookup(p, n, q, (size_t)(stop - q)), q, (size_t)(end - q)};
        if (at->name == NULL)
            return -ENOMEM;
        if (at->name->node == NULL)
            return KV_E_NOENT;
        n = at->name->node;
        q = stop;
    }
    return KV_OK;
}

/* Each name, and each file, once. n: of how many names a row changes. */
static int change(struct plan *p, struct vname *name, struct vnode *node, uint32_t n)
{
    if ((name != NULL && name->changed) || (node != NULL && node->changed))
        return KV_E_INVAL;
    if (name != NULL)
        name->changed = true;
    if (node != NULL)
        node->changed = true;
    p->names += n;
    return p->names > TXN_NAMES_MAX ? KV_E_FBIG : KV_OK;
}

/* Its value goes. */
static int drop_value(struct plan *p, const struct vnode *n)
{
    p->chunks += value_chunks(n->size);
    return p->chunks > TXN_CHUNKS_MAX ? KV_E_FBIG : KV_OK;
}

/* name_add() */
static int make(struct plan *p, struct vnode *dir, struct vname *name, uint8_t type, uint16_t mode)
{
    struct vnode *n;
    int rv = change(p, name, NULL, 1);

    if (rv != KV_OK)
        return rv;
    n = new_node(p, type);
    if (n == NULL)
        return -ENOMEM;
    n->up = dir;
    n->mode = mode;
    n->uid = p->ap->cmd->uid;
    n->gid = p->ap->cmd->gid;
    n->n_names = 1;
    n->changed = true;
    if ((dir->mode & S_ISGID) != 0) {
        n->gid = dir->gid;
        if (type == INODE_DIRECTORY)
            n->mode |= S_ISGID;
    }
    name->node = n;
    dir->n_living++;
    p->keys++;
    return KV_OK;
}

static int check_size(const struct plan *p, uint64_t old_size, uint64_t size)
{
    const uint64_t *settings = p->ap->s->settings.number;

    if (size <= old_size)
        return KV_OK;
    if (size > settings[SETTING_VALUE_LIMIT])
        return KV_E_FBIG;
    return p->bytes + (size - old_size) > settings[SETTING_MAX_BYTES] ? KV_E_NOSPC : KV_OK;
}

static void resize(struct plan *p, struct vnode *n, uint64_t size)
{
    p->bytes += size - n->size;
    n->bytes += size - n->size;
    n->size = size;
}

static int set_new(struct plan *p, struct place at, const struct txn_item *item)
{
    const uint8_t *end = at.rest + at.rest_len, *slash;
    uint64_t names = 1;
    int rv;

    for (size_t i = 0; i < at.rest_len; i++)
        names += at.rest[i] == '/';
    rv = check(p, at.dir, 3);
    if (rv != KV_OK)
        return rv;
    if (p->keys + names > p->ap->s->settings.number[SETTING_MAX_KEYS])
        return KV_E_NOSPC;
    rv = check_size(p, 0, item->value_len);
    while (rv == KV_OK && (slash = memchr(at.rest, '/', (size_t)(end - at.rest))) != NULL) {
        rv = make(p, at.dir, at.name, INODE_DIRECTORY, 0755);
        if (rv != KV_OK)
            return rv;
        at.dir = at.name->node;
        at.rest = slash + 1;
        slash = memchr(at.rest, '/', (size_t)(end - at.rest));
        at.name = lookup(p, at.dir, at.rest, (size_t)((slash != NULL ? slash : end) - at.rest));
        if (at.name == NULL)
            return -ENOMEM;
    }
    if (rv == KV_OK)
        rv = make(p, at.dir, at.name, INODE_FILE, 0644);
    if (rv == KV_OK)
        resize(p, at.name->node, item->value_len);
    return rv;
}

static int plan_set(struct plan *p, const struct txn_item *item)
{
    struct place at;
    struct vnode *n;
    int rv = walk(p, item->path, item->path_len, &at);

    if (rv == KV_E_NOENT)
        return set_new(p, at, item);
    if (rv != KV_OK)
        return rv;
    n = at.name->node;
    if (n->type == INODE_DIRECTORY)
        return KV_E_ISDIR;
    if (n->type != INODE_FILE)
        return n->type == INODE_SYMLINK ? KV_E_LOOP : KV_E_INVAL;
    rv = check(p, n, 2);
    if (rv == KV_OK)
        rv = check_size(p, n->size, item->value_len);
    if (rv == KV_OK)
        rv = change(p, at.name, n, n->n_names);
    if (rv == KV_OK)
        rv = drop_value(p, n);
    if (rv == KV_OK)
        resize(p, n, item->value_len);
    return rv;
}

/* A name goes, and what it stands for with its last one. */
static int take(struct plan *p, struct vnode *dir, struct vname *name)
{
    struct vnode *n = name->node;

    name->node = NULL;
    dir->n_living--;
    p->keys--;
    if (--n->n_names > 0)
        return KV_OK;
    p->bytes -= n->bytes;
    return drop_value(p, n);
}

static int plan_del(struct plan *p, const struct txn_item *item)
{
    struct place at;
    int rv = walk(p, item->path, item->path_len, &at);

    if (rv != KV_OK)
        return rv;
    rv = check_remove(p, at.dir, at.name->node);
    if (rv == KV_OK && at.name->node->n_living > 0)
        rv = KV_E_NOTEMPTY;
    if (rv == KV_OK)
        rv = change(p, at.name, at.name->node, 1);
    return rv == KV_OK ? take(p, at.dir, at.name) : rv;
}

static int check_kinds(const struct vnode *n, const struct vnode *victim, const struct vnode *dir)
{
    unsigned depth = 0;

    if (n->type != INODE_DIRECTORY)
        return victim != NULL && victim->type == INODE_DIRECTORY ? KV_E_ISDIR : KV_OK;
    for (; dir != NULL; dir = dir->up) {
        if (dir == n)
            return KV_E_LOOP;
        if (depth++ == STORE_DEPTH_MAX)
            return KV_E_NAMETOOLONG;
    }
    if (victim == NULL)
        return KV_OK;
    if (victim->type != INODE_DIRECTORY)
        return KV_E_NOTDIR;
    return victim->n_living > 0 ? KV_E_NOTEMPTY : KV_OK;
}

static int plan_move(struct plan *p, const struct txn_item *item)
{
    struct place from, to;
    struct vnode *n, *victim;
    int rv = walk(p, item->path, item->path_len, &from);

    if (rv == KV_OK)
        rv = check_remove(p, from.dir, from.name->node);
    if (rv != KV_OK)
        return rv;
    n = from.name->node;
    rv = walk(p, item->to, item->to_len, &to);
    if (rv != KV_OK && (rv != KV_E_NOENT || memchr(to.rest, '/', to.rest_len) != NULL))
        return rv;
    victim = to.name->node;
    if (victim == n)
        return KV_OK; /* nothing happens, as rename(2) says */
    rv = victim != NULL ? check_remove(p, to.dir, victim) : check(p, to.dir, 3);
    if (rv == KV_OK && n->type == INODE_DIRECTORY && from.dir != to.dir)
        rv = check(p, n, 2);
    if (rv == KV_OK)
        rv = check_kinds(n, victim, to.dir);
    if (rv == KV_OK)
        rv = change(p, from.name, n, 1);
    if (rv == KV_OK)
        rv = change(p, to.name, victim, 1);
    if (rv == KV_OK && victim != NULL)
        rv = take(p, to.dir, to.name);
    if (rv != KV_OK)
        return rv;
    from.name->node = NULL;
    from.dir->n_living--;
    to.name->node = n;
    to.dir->n_living++;
    if (n->type == INODE_DIRECTORY)
        n->up = to.dir;
    return KV_OK;
}

static int plan_mkdir(struct plan *p, const struct txn_item *item)
{
    struct place at;
    int rv = walk(p, item->path, item->path_len, &at);

    if (rv == KV_OK)
        return KV_E_EXIST;
    if (rv != KV_E_NOENT || memchr(at.rest, '/', at.rest_len) != NULL)
        return rv;
    rv = check(p, at.dir, 3);
    if (rv == KV_OK && p->keys >= p->ap->s->settings.number[SETTING_MAX_KEYS])
        rv = KV_E_NOSPC;
    return rv == KV_OK ? make(p, at.dir, at.name, INODE_DIRECTORY, 0755) : rv;
}

static int plan_item(struct plan *p, const struct txn_item *item)
{
    switch (item->kind) {
    case TXN_SET:
        return plan_set(p, item);
    case TXN_DEL:
        return plan_del(p, item);
    case TXN_MOVE:
        return plan_move(p, item);
    default:
        return plan_mkdir(p, item);
    }
}

int txn_plan(const struct apply *ap, struct cursor items, size_t first, size_t *item_out)
{
    struct plan p = {.ap = ap, .keys = ap->s->keys, .bytes = ap->s->bytes};
    struct txn_item item;
    int rv = KV_OK;

    *item_out = first;
    p.buckets = calloc(BUCKETS, sizeof *p.buckets);
    p.root = p.buckets != NULL ? node_of(&p, ap->s->root, NULL) : NULL;
    if (p.root == NULL)
        rv = -ENOMEM;
    while (rv == KV_OK && txn_next(&items, &item) == 1 && item.kind != TXN_ELSE) {
        rv = plan_item(&p, &item);
        if (rv == KV_OK)
            ++*item_out;
    }
    plan_free(&p);
    return p.failed ? -ENOMEM : rv;
}
