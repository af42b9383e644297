#include "kvfs/virtual/virtual.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "kvfs/cache/cache.h"
#include "kvfs/link/stat.h"
#include "kvfs/reply/reply.h"

bool virtual_is_reserved(const char *name)
{
    return name[0] == '.' &&
           (strcmp(name, VIRTUAL_VERSIONS_NAME) == 0 || strcmp(name, VIRTUAL_CONTROL_NAME) == 0);
}

void virtual_init(struct virtual_table *virtuals, struct hub *hub)
{
    virtuals->hub = hub;
    hub->virtuals = virtuals;
}

struct virtual_node *virtual_find(struct virtual_table *virtuals, uint64_t id)
{
    struct virtual_node *v;

    HASH_FIND(by_id, virtuals->ids, &id, sizeof id, v);
    return v;
}

struct virtual_node *virtual_get(struct virtual_table *virtuals, const char *key)
{
    struct virtual_node *v;

    HASH_FIND(by_key, virtuals->keys, key, strlen(key), v);
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
    v->id = VIRTUAL_BIT | ++virtuals->last;
    HASH_ADD(by_id, virtuals->ids, id, sizeof v->id, v);
    if (!HASH_ADDED(by_id, v))
        goto fail;
    HASH_ADD_KEYPTR(by_key, virtuals->keys, v->key, strlen(v->key), v);
    if (HASH_ADDED(by_key, v))
        return v;
    HASH_DELETE(by_id, virtuals->ids, v);
fail:
    free(v->key);
    free(v);
    return NULL;
}

static void virtual_free(struct virtual_table *virtuals, struct virtual_node *v)
{
    HASH_DELETE(by_id, virtuals->ids, v);
    HASH_DELETE(by_key, virtuals->keys, v);
    free(v->key);
    free(v->name);
    free(v);
}

void virtual_deinit(struct virtual_table *virtuals)
{
    struct virtual_node *v, *next;

    HASH_ITER(by_id, virtuals->ids, v, next)
    virtual_free(virtuals, v);
}

void virtual_forget(struct virtual_table *virtuals, fuse_ino_t node, uint64_t n)
{
    struct virtual_node *v = virtual_find(virtuals, node);

    if (v == NULL)
        return;
    v->nlookup -= n < v->nlookup ? n : v->nlookup;
    if (v->nlookup == 0)
        virtual_free(virtuals, v);
}

void virtual_reply_entry(struct call *call, struct virtual_node *v, bool stable)
{
    struct virtual_table *virtuals = call->hub->virtuals;
    struct fuse_entry_param e = {.ino = v->id, .generation = 1};

    v->attr.ino = v->id;
    e.attr_timeout = v->attr.type == INODE_DIRECTORY ? 0 : TIMEOUT_LONG;
    e.entry_timeout = stable ? TIMEOUT_LONG : 0;
    stat_of(call->hub->options, &v->attr, &e.attr);
    v->nlookup++;
    if (fuse_reply_entry(call->fuse, &e) != 0)
        virtual_forget(virtuals, v->id, 1);
    call_end(call);
}

void virtual_lookup(struct call *call, fuse_ino_t parent)
{
    struct virtual_table *virtuals = call->hub->virtuals;
    struct virtual_node *v = virtual_is(parent) ? virtual_find(virtuals, parent) : NULL;

    if (v != NULL && v->ops->lookup != NULL)
        v->ops->lookup(call, v);
    else if (virtual_is(parent))
        call_error(call, v != NULL ? ENOTDIR : ESTALE);
    else if (strcmp(call->name, VIRTUAL_VERSIONS_NAME) == 0 && call->hub->options->versions != VERSIONS_OFF)
        versions_lookup_root(call);
    else if (strcmp(call->name, VIRTUAL_CONTROL_NAME) == 0 && parent == FUSE_ROOT_ID)
        control_files_lookup_root(call);
    else
        call_error(call, ENOENT);
}

void virtual_getattr(struct call *call, fuse_ino_t node)
{
    struct virtual_table *virtuals = call->hub->virtuals;
    struct virtual_node *v = virtual_find(virtuals, node);

    if (v == NULL) {
        call_error(call, ESTALE);
        return;
    }
    reply_stat(call, &v->attr, v->attr.type == INODE_DIRECTORY ? 0 : TIMEOUT_LONG);
}

void virtual_readlink(struct call *call, fuse_ino_t node)
{
    struct virtual_table *virtuals = call->hub->virtuals;
    struct virtual_node *v = virtual_find(virtuals, node);

    if (v != NULL && v->ops->readlink != NULL)
        v->ops->readlink(call, v);
    else
        call_error(call, v != NULL ? EINVAL : ESTALE);
}

void virtual_xattrs(struct call *call, fuse_ino_t node)
{
    struct virtual_node *v = virtual_find(call->hub->virtuals, node);

    if (v == NULL)
        call_error(call, ESTALE);
    else if (v->ops->xattrs != NULL)
        v->ops->xattrs(call, v);
    else
        reply_xattrs(call, &(struct bytes){0});
}

void virtual_opendir(struct call *call, fuse_ino_t node)
{
    struct virtual_table *virtuals = call->hub->virtuals;
    struct virtual_node *v = virtual_find(virtuals, node);

    if (v != NULL && v->ops->opendir != NULL)
        v->ops->opendir(call, v);
    else
        call_error(call, v != NULL ? ENOTDIR : ESTALE);
}

void virtual_open(struct call *call, fuse_ino_t node)
{
    struct virtual_table *virtuals = call->hub->virtuals;
    struct virtual_node *v = virtual_find(virtuals, node);

    if (v == NULL)
        call_error(call, ESTALE);
    else if ((call->open.fi.flags & O_ACCMODE) != O_RDONLY || (call->open.fi.flags & O_TRUNC) != 0)
        call_error(call, EROFS);
    else if (v->ops->open != NULL)
        v->ops->open(call, v);
    else
        call_error(call, EISDIR);
}

void virtual_read(struct call *call, fuse_ino_t node)
{
    struct virtual_table *virtuals = call->hub->virtuals;
    struct virtual_node *v = virtual_find(virtuals, node);

    if (v != NULL && v->ops->read != NULL)
        v->ops->read(call, v);
    else
        call_error(call, v != NULL ? EISDIR : ESTALE);
}

void virtual_release(struct virtual_table *virtuals, const struct fuse_file_info *fi)
{
    control_files_release(fi);
}
