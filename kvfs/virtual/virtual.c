#include "kvfs/virtual/virtual.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "kvfs/ops/fs.h"
#include "kvfs/reply/reply.h"

bool virtual_is_reserved(const char *name)
{
    return name[0] == '.' &&
           (strcmp(name, VIRTUAL_VERSIONS_NAME) == 0 || strcmp(name, VIRTUAL_CONTROL_NAME) == 0);
}

struct virtual_node *virtual_find(struct fs *fs, uint64_t id)
{
    struct virtual_node *v;

    HASH_FIND(by_id, fs->virtuals.ids, &id, sizeof id, v);
    return v;
}

struct virtual_node *virtual_get(struct fs *fs, const char *key)
{
    struct virtual_node *v;

    HASH_FIND(by_key, fs->virtuals.keys, key, strlen(key), v);
    if (v != NULL)
        return v;
    v = calloc(1, sizeof *v);
    if (v == NULL)
        return NULL;
    v->key = strdup(key);
    if (v->key == NULL) {
        free(v);
        return NULL;
    }
    v->id = VIRTUAL_BIT | ++fs->virtuals.last;
    HASH_ADD(by_id, fs->virtuals.ids, id, sizeof v->id, v);
    if (!HASH_ADDED(by_id, v))
        goto fail;
    HASH_ADD_KEYPTR(by_key, fs->virtuals.keys, v->key, strlen(v->key), v);
    if (HASH_ADDED(by_key, v))
        return v;
    HASH_DELETE(by_id, fs->virtuals.ids, v);
fail:
    free(v->key);
    free(v);
    return NULL;
}

static void virtual_free(struct fs *fs, struct virtual_node *v)
{
    HASH_DELETE(by_id, fs->virtuals.ids, v);
    HASH_DELETE(by_key, fs->virtuals.keys, v);
    free(v->key);
    free(v->name);
    free(v);
}

void virtual_free_all(struct fs *fs)
{
    struct virtual_node *v, *next;

    HASH_ITER(by_id, fs->virtuals.ids, v, next)
    virtual_free(fs, v);
}

void virtual_forget(struct fs *fs, fuse_ino_t node, uint64_t n)
{
    struct virtual_node *v = virtual_find(fs, node);

    if (v == NULL)
        return;
    v->nlookup -= n < v->nlookup ? n : v->nlookup;
    if (v->nlookup == 0)
        virtual_free(fs, v);
}

void virtual_reply_entry(struct fs *fs, struct request *r, struct virtual_node *v, bool stable)
{
    struct fuse_entry_param e = {.ino = v->id, .generation = 1};

    v->attr.ino = v->id;
    e.attr_timeout = v->attr.type == INODE_DIRECTORY ? 0 : TIMEOUT_LONG;
    e.entry_timeout = stable ? TIMEOUT_LONG : 0;
    fs_stat(fs, &v->attr, &e.attr);
    v->nlookup++;
    if (fuse_reply_entry(r->fuse, &e) != 0)
        virtual_forget(fs, v->id, 1);
    request_end(fs, r);
}

void virtual_lookup(struct fs *fs, struct request *r, fuse_ino_t parent)
{
    struct virtual_node *v = virtual_is(parent) ? virtual_find(fs, parent) : NULL;

    if (v != NULL && v->ops->lookup != NULL)
        v->ops->lookup(fs, r, v);
    else if (virtual_is(parent))
        request_error(fs, r, v != NULL ? ENOTDIR : ESTALE);
    else if (strcmp(r->name, VIRTUAL_VERSIONS_NAME) == 0 && fs->options->versions != VERSIONS_OFF)
        versions_lookup_root(fs, r);
    else if (strcmp(r->name, VIRTUAL_CONTROL_NAME) == 0 && parent == FUSE_ROOT_ID)
        control_lookup_root(fs, r);
    else
        request_error(fs, r, ENOENT);
}

void virtual_getattr(struct fs *fs, struct request *r, fuse_ino_t node)
{
    struct virtual_node *v = virtual_find(fs, node);

    if (v == NULL) {
        request_error(fs, r, ESTALE);
        return;
    }
    reply_stat(fs, r, &v->attr, v->attr.type == INODE_DIRECTORY ? 0 : TIMEOUT_LONG);
}

void virtual_readlink(struct fs *fs, struct request *r, fuse_ino_t node)
{
    struct virtual_node *v = virtual_find(fs, node);

    if (v != NULL && v->ops->readlink != NULL)
        v->ops->readlink(fs, r, v);
    else
        request_error(fs, r, v != NULL ? EINVAL : ESTALE);
}

void virtual_opendir(struct fs *fs, struct request *r, fuse_ino_t node)
{
    struct virtual_node *v = virtual_find(fs, node);

    if (v != NULL && v->ops->opendir != NULL)
        v->ops->opendir(fs, r, v);
    else
        request_error(fs, r, v != NULL ? ENOTDIR : ESTALE);
}

void virtual_open(struct fs *fs, struct request *r, fuse_ino_t node)
{
    struct virtual_node *v = virtual_find(fs, node);

    if (v == NULL)
        request_error(fs, r, ESTALE);
    else if ((r->fi.flags & O_ACCMODE) != O_RDONLY || (r->fi.flags & O_TRUNC) != 0)
        request_error(fs, r, EROFS);
    else if (v->ops->open != NULL)
        v->ops->open(fs, r, v);
    else
        request_error(fs, r, EISDIR);
}

void virtual_read(struct fs *fs, struct request *r, fuse_ino_t node)
{
    struct virtual_node *v = virtual_find(fs, node);

    if (v != NULL && v->ops->read != NULL)
        v->ops->read(fs, r, v);
    else
        request_error(fs, r, v != NULL ? EISDIR : ESTALE);
}

void virtual_release(struct fs *fs, const struct fuse_file_info *fi)
{
    control_release(fi);
}
