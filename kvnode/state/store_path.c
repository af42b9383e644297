/* Paths, as the command line and the administrator's scripts give them. */
#include <string.h>

#include "kvnode/state/store_internal.h"

int path_walk(const struct store *s, const struct caller *who, const void *path, size_t len,
              struct walked *walked_out)
{
    const uint8_t *p = path, *end = p + len;
    struct inode *in = s->root, *parent = s->root;

    *walked_out = (struct walked){.parent = parent, .inode = in, .name = end, .rest = end};
    while (p < end) {
        const uint8_t *slash = memchr(p, '/', (size_t)(end - p));
        const uint8_t *stop = slash != NULL ? slash : end;
        struct dentry *d;
        int rv;

        if (stop == p) { /* doubled, leading and trailing slashes */
            p++;
            continue;
        }
        *walked_out = (struct walked){in, NULL, NULL, p, (size_t)(stop - p), p, (size_t)(end - p)};
        if (in->type != INODE_DIRECTORY)
            return KV_E_NOTDIR;
        if (stop - p > KV_NAME_MAX)
            return KV_E_NAMETOOLONG;
        rv = permission_check(who, in, 1);
        if (rv != KV_OK)
            return rv;
        d = dentry_find(s, in->c.dir, p, (size_t)(stop - p));
        if (d == NULL || dentry_is_dead(d))
            return KV_E_NOENT;
        in = d->u.inode;
        walked_out->inode = in;
        walked_out->entry = d;
        walked_out->rest = end;
        walked_out->rest_len = 0;
        p = stop;
    }
    return KV_OK;
}
