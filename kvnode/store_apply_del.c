/* `del`: removes a key or a whole directory. All permissions are checked before
 * the first name goes, so that it happens entirely or not at all. Walks without
 * recursion: the depth is the caller's to choose. */
#include "kvnode/store_internal.h"

/* The next dentry of the tree below top, parents first; NULL: done. d NULL: the first. */
static struct dentry *next_below(const struct inode *top, struct dentry *d)
{
    struct inode *in = d != NULL ? d->u.inode : (struct inode *)top;

    if (in->type == INODE_DIRECTORY && !RB_EMPTY(&in->c.dir->living))
        return RB_MIN(dentry_tree, &in->c.dir->living);
    while (d != NULL) {
        struct dentry *next = RB_NEXT(dentry_tree, &d->dir->living, d);

        if (next != NULL)
            return next;
        in = d->dir->inode;
        if (in == top)
            return NULL;
        d = in->name;
    }
    return NULL;
}

static int check_tree(const struct apply *ap, const struct inode *top)
{
    int rv = KV_OK;

    if (permission_root(&ap->who))
        return KV_OK;
    for (struct dentry *d = next_below(top, NULL); d != NULL && rv == KV_OK; d = next_below(top, d))
        rv = permission_remove(&ap->who, d->dir->inode, d->u.inode);
    return rv;
}

int apply_del(struct apply *ap)
{
    struct walked at;
    struct inode *in, *leaf, *parent;
    int rv = path_walk(ap->s, &ap->who, ap->body->path, ap->body->path_len, &at);

    if (rv != KV_OK)
        return rv;
    in = at.inode;
    if (in == ap->s->root)
        return KV_E_PERM;
    rv = permission_remove(&ap->who, at.parent, in);
    if (rv != KV_OK)
        return rv;
    if (in->type == INODE_DIRECTORY && in->c.dir->n_living > 0) {
        if (ap->body->flags == 0)
            return KV_E_NOTEMPTY;
        rv = check_tree(ap, in);
        if (rv != KV_OK)
            return rv;
    }
    for (leaf = in;;) {
        bool last;

        while (leaf->type == INODE_DIRECTORY && !RB_EMPTY(&leaf->c.dir->living))
            leaf = RB_MIN(dentry_tree, &leaf->c.dir->living)->u.inode;
        last = leaf == in;
        parent = leaf->name->dir->inode;
        rv = name_remove(ap, leaf->name);
        ap->result->removed++;
        if (rv < 0 || last)
            return rv;
        leaf = parent;
    }
}
