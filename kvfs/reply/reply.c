#include "kvfs/reply/reply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvfs/link/stat.h"
#include "kvfs/link/statx.h"

static double attr_timeout(const struct inode *inode, enum reply_trust trust)
{
    return trust == REPLY_UNCHECKED || file_is_dirty(inode->file) ? 0 : TIMEOUT_LONG;
}

struct inode *reply_fill_entry(const struct request *r, struct attr *attr, uint64_t parent, const void *name,
                               size_t name_len, enum reply_trust trust, struct fuse_entry_param *e_out)
{
    struct cache *cache = r->core->cache;
    struct inode *inode = inode_get(cache, attr->ino);

    *e_out = (struct fuse_entry_param){0};
    if (inode == NULL)
        return NULL;
    inode->nlookup++;
    inode_set_place(inode, parent, name, name_len);
    inode_told_name(cache, inode);
    if (inode->file != NULL)
        file_learn(inode->file, attr);
    file_view(inode->file, attr);
    e_out->ino = core_node(r->core, attr->ino);
    e_out->generation = 1;
    e_out->entry_timeout = cache->entry_timeout;
    e_out->attr_timeout = attr_timeout(inode, trust);
    stat_of(r->core->options, attr, &e_out->attr);
    inode->told_attr = true;
    inode_told_attr(inode, attr->content_revision, r->began.notices);
    return inode;
}

void reply_entry(struct request *r, struct attr *attr, enum reply_trust trust)
{
    struct cache *cache = r->core->cache;
    struct fuse_entry_param e;

    if (reply_fill_entry(r, attr, r->parent, r->name, strlen(r->name), trust, &e) == NULL) {
        request_error(r, ENOMEM);
        return;
    }
    if (fuse_reply_entry(r->fuse, &e) != 0)
        inode_forget(cache, attr->ino, 1);
    request_end(r);
}

void reply_missing(struct request *r)
{
    struct cache *cache = r->core->cache;
    struct fuse_entry_param e = {.entry_timeout = cache->entry_timeout};
    struct inode *parent = inode_find(cache, r->parent);

    if (parent == NULL) {
        request_error(r, ENOENT);
        return;
    }
    parent->negatives = true;
    retry_end(r->core, r->caller.pid); /* if it was walking again, it has got nowhere */
    fuse_reply_entry(r->fuse, &e);
    request_end(r);
}

void reply_stat(struct request *r, const struct attr *attr, double timeout)
{
    struct stat st;

    if (r->statx != 0) {
        statx_reply(r, attr, timeout);
    } else {
        stat_of(r->core->options, attr, &st);
        fuse_reply_attr(r->fuse, &st, timeout);
    }
    request_end(r);
}

void reply_attr(struct request *r, struct attr *attr, enum reply_trust trust)
{
    struct cache *cache = r->core->cache;
    struct inode *inode = inode_find(cache, attr->ino);
    double timeout = 0;

    if (inode != NULL) {
        if (inode->file != NULL)
            file_learn(inode->file, attr);
        file_view(inode->file, attr);
        timeout = attr_timeout(inode, trust);
        inode->told_attr = true;
        inode_told_attr(inode, attr->content_revision,
                        trust == REPLY_CHECKED ? r->began.notices : r->core->marks.notices);
    }
    reply_stat(r, attr, timeout);
}

void reply_data(struct request *r, const void *data, size_t len)
{
    fuse_reply_buf(r->fuse, data, len);
    request_end(r);
}

void reply_read(struct request *r, const struct file *f, uint64_t base_size, const uint8_t *data, size_t len)
{
    uint8_t *window;

    if (len > r->read.size)
        len = r->read.size;
    if (!file_is_dirty(f) && (f == NULL || f->life == FILE_LIVE)) {
        reply_data(r, data, len);
        return;
    }
    window = calloc(1, r->read.size > 0 ? r->read.size : 1);
    if (window == NULL) {
        request_error(r, ENOMEM);
        return;
    }
    if (len > 0)
        memcpy(window, data, len);
    reply_data(r, window, file_overlay(f, base_size, r->read.offset, window, r->read.size));
    free(window);
}

void reply_link(struct request *r, const void *target, size_t len)
{
    char text[KV_PATH_MAX + 1];

    memcpy(text, target, len);
    text[len] = '\0';
    fuse_reply_readlink(r->fuse, text);
    request_end(r);
}

void reply_xattr(struct request *r, const void *value, size_t len)
{
    if (r->getxattr.size == 0) {
        fuse_reply_xattr(r->fuse, len);
        request_end(r);
    } else if (len > r->getxattr.size) {
        request_error(r, ERANGE);
    } else {
        reply_data(r, value, len);
    }
}
