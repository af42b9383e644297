/* `del`: removes a key or a directory with what is below it, if that is not much: at
 * most STORE_DEL_MAX names, so that the command is short. What is larger is made
 * smaller first, by `prune` (see kvnode/group/removal.h). All permissions are checked
 * before the first name goes, so that each command happens entirely or not at all.
 * Walks without recursion: the depth is the caller's to choose. */
#include "kvnode/state/store_internal.h"

/* The first name below in that has none below it; NULL: in has none. */
static struct dentry *first_leaf(const struct inode *in)
{
    struct dentry *d = NULL;

    while (in->type == INODE_DIRECTORY && !RB_EMPTY(&in->c.dir->living)) {
        d = RB_MIN(dentry_tree, &in->c.dir->living);
        in = d->u.inode;
    }
    return d;
}

/* The next one behind d below top, children before their directory; NULL: that was all. */
static struct dentry *next_leaf(const struct inode *top, struct dentry *d)
{
    struct dentry *next = RB_NEXT(dentry_tree, &d->dir->living, d), *leaf;

    if (next == NULL)
        return d->dir->inode != top ? d->dir->inode->names : NULL;
    leaf = first_leaf(next->u.inode);
    return leaf != NULL ? leaf : next;
}

/* The first names below top, at most max, in the order in which they can go. */
static size_t gather(const struct inode *top, struct dentry **names, size_t max)
{
    size_t n = 0;

    for (struct dentry *d = first_leaf(top); d != NULL && n < max; d = next_leaf(top, d))
        names[n++] = d;
    return n;
}

size_t store_below(const struct store *s, const void *path, size_t len, size_t max)
{
    struct walked at;
    size_t n = 0;

    if (path_walk(s, NULL, path, len, &at) != KV_OK)
        return 0;
    for (struct dentry *d = first_leaf(at.inode); d != NULL && n < max; d = next_leaf(at.inode, d))
        n++;
    return n;
}

/* The key that the body names, which may be removed. */
static int find(const struct apply *ap, struct dentry **entry_out)
{
    struct walked at;
    int rv = path_walk(ap->s, &ap->who, ap->body->path, ap->body->path_len, &at);

    if (rv != KV_OK)
        return rv;
    *entry_out = at.entry;
    return at.entry == NULL ? KV_E_PERM : permission_remove(&ap->who, at.parent, at.inode);
}

static int remove_all(struct apply *ap, struct dentry **names, size_t n)
{
    int rv = KV_OK;

    for (size_t i = 0; i < n && rv == KV_OK; i++)
        rv = permission_remove(&ap->who, names[i]->dir->inode, names[i]->u.inode);
    for (size_t i = 0; i < n && rv == KV_OK; i++) {
        rv = name_remove(ap, names[i]);
        ap->result->removed++;
    }
    return rv;
}

int apply_del(struct apply *ap)
{
    struct dentry *names[STORE_DEL_MAX + 1];
    struct dentry *key;
    size_t n;
    int rv = find(ap, &key);

    if (rv != KV_OK)
        return rv;
    n = gather(key->u.inode, names, STORE_DEL_MAX + 1);
    if (n > 0 && ap->body->flags == 0)
        return KV_E_NOTEMPTY;
    if (n > STORE_DEL_MAX)
        return KV_E_BUSY;
    names[n++] = key;
    return remove_all(ap, names, n);
}

int apply_prune(struct apply *ap)
{
    struct dentry *names[STORE_DEL_MAX];
    const struct command_body *body = ap->body;
    const struct session *ss = body->session != 0 ? session_find(ap->s, body->session) : NULL;
    const struct command *prune = ap->cmd;
    struct command as_del = *prune;
    struct dentry *key;
    int rv;

    /* A step that was late must not touch what has come since its request was answered. */
    if (body->session != 0 &&
        (ss == NULL || body->seq < ss->acked_below || session_kept(ss, body->seq) != NULL))
        return KV_E_STALE;
    rv = find(ap, &key);
    if (rv != KV_OK)
        return rv;
    as_del.op = COMMAND_DEL; /* what it is to people */
    ap->cmd = &as_del;
    rv = remove_all(ap, names, gather(key->u.inode, names, STORE_DEL_MAX));
    ap->cmd = prune;
    return rv;
}
