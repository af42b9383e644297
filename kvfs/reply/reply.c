#include "kvfs/reply/reply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvfs/link/stat.h"
#include "kvfs/link/statx.h"
#include "sync/base/clock.h"
#include "sync/wire/xattr.h"

static double attr_timeout(struct cache *cache, struct kernel_inode *inode, enum reply_trust trust)
{
    double s = trust == REPLY_UNCHECKED || file_is_dirty(inode->file) ? 0 : lease_attr_s(cache, inode->ino);

    lease_told(cache, inode, s);
    return s;
}

/* All but its place, and how long the kernel may believe it. */
static struct kernel_inode *fill_entry(const struct call *call, struct attr *attr,
                                       struct fuse_entry_param *e_out)
{
    struct cache *cache = call->hub->cache;
    struct kernel_inode *inode = kernel_inode_get(cache, attr->ino);

    *e_out = (struct fuse_entry_param){0};
    if (inode == NULL)
        return NULL;
    inode->nlookup++;
    if (inode->file != NULL)
        file_learn(inode->file, attr);
    file_view(inode->file, attr);
    e_out->ino = hub_node(call->hub, attr->ino);
    e_out->generation = 1;
    stat_of(call->hub->options, attr, &e_out->attr);
    inode->told_attr = true;
    kernel_inode_told_attr(inode, attr->content_revision, call->began.notices);
    return inode;
}

struct kernel_inode *reply_fill_entry(const struct call *call, struct attr *attr, uint64_t parent,
                                      const void *name, size_t name_len, enum reply_trust trust,
                                      struct fuse_entry_param *e_out)
{
    const struct attr told = *attr; /* without the edits of this mount */
    struct cache *cache = call->hub->cache;
    struct kernel_inode *inode = fill_entry(call, attr, e_out);

    if (inode == NULL)
        return NULL;
    kernel_inode_set_place(cache, inode, attr, parent, name, name_len);
    kernel_inode_told_name(cache, inode);
    submounts_found(cache, attr->ino);
    /* How long attributes are right hangs on the place, too. */
    if (trust == REPLY_CHECKED) {
        known_tell_name(cache, parent, name, name_len, attr->ino);
        known_tell_attr(cache, inode, &told);
    }
    e_out->entry_timeout = lease_names_s(cache, parent);
    e_out->attr_timeout = attr_timeout(cache, inode, trust);
    return inode;
}

static void send_entry(struct call *call, const struct kernel_inode *inode, const struct fuse_entry_param *e)
{
    uint64_t ino = inode != NULL ? inode->ino : 0, now = clock_boot_ms();

    if (inode == NULL) {
        call_error(call, ENOMEM);
        return;
    }
    if (fuse_reply_entry(call->fuse, e) != 0)
        kernel_inode_forget(call->hub->cache, ino, 1);
    lease_given(call->hub->cache, now);
    call_end(call);
}

void reply_entry(struct call *call, struct attr *attr, enum reply_trust trust)
{
    struct fuse_entry_param e;
    struct kernel_inode *inode =
        reply_fill_entry(call, attr, call->parent, call->name, strlen(call->name), trust, &e);

    send_entry(call, inode, &e);
}

void reply_entry_once(struct call *call, struct attr *attr)
{
    struct cache *cache = call->hub->cache;
    struct fuse_entry_param e;
    struct kernel_inode *inode = fill_entry(call, attr, &e);

    if (inode != NULL && inode->parent == 0)
        kernel_inode_set_place(cache, inode, attr, call->parent, call->name, strlen(call->name));
    if (inode != NULL)
        e.attr_timeout = attr_timeout(cache, inode, REPLY_CHECKED);
    send_entry(call, inode, &e);
}

void reply_missing(struct call *call)
{
    struct cache *cache = call->hub->cache;
    struct fuse_entry_param e = {0};
    uint64_t now = clock_boot_ms();
    struct kernel_inode *parent = kernel_inode_find(cache, call->parent);

    if (parent == NULL) {
        call_error(call, ENOENT);
        return;
    }
    e.entry_timeout = lease_miss_s(cache, parent, call->name);
    known_tell_name(cache, call->parent, call->name, strlen(call->name), 0);
    retry_miss(call->hub, call->caller.pid); /* if it was walking again, it has got nowhere */
    fuse_reply_entry(call->fuse, &e);
    lease_given(cache, now);
    call_end(call);
}

void reply_stat(struct call *call, const struct attr *attr, double timeout)
{
    uint64_t now = clock_boot_ms();
    struct stat st;

    if (call->statx != 0) {
        statx_reply(call, attr, timeout);
    } else {
        stat_of(call->hub->options, attr, &st);
        fuse_reply_attr(call->fuse, &st, timeout);
    }
    if (timeout > 0)
        lease_given(call->hub->cache, now);
    call_end(call);
}

void reply_attr(struct call *call, struct attr *attr, enum reply_trust trust)
{
    struct cache *cache = call->hub->cache;
    struct kernel_inode *inode = kernel_inode_find(cache, attr->ino);
    double timeout = 0;

    if (inode != NULL) {
        if (inode->file != NULL)
            file_learn(inode->file, attr);
        if (trust == REPLY_CHECKED)
            known_tell_attr(cache, inode, attr);
        file_view(inode->file, attr);
        timeout = attr_timeout(cache, inode, trust);
        inode->told_attr = true;
        kernel_inode_told_attr(inode, attr->content_revision,
                               trust == REPLY_CHECKED ? call->began.notices : call->hub->marks.notices);
    }
    reply_stat(call, attr, timeout);
}

void reply_data(struct call *call, const void *data, size_t len)
{
    fuse_reply_buf(call->fuse, data, len);
    call_end(call);
}

void reply_read(struct call *call, const struct file *f, uint64_t base_size, const uint8_t *data, size_t len)
{
    uint8_t *window;

    if (len > call->read.size)
        len = call->read.size;
    if (!file_is_dirty(f) && (f == NULL || f->life == FILE_LIVE)) {
        reply_data(call, data, len);
        return;
    }
    window = calloc(1, call->read.size > 0 ? call->read.size : 1);
    if (window == NULL) {
        call_error(call, ENOMEM);
        return;
    }
    if (len > 0)
        memcpy(window, data, len);
    reply_data(call, window, file_overlay(f, base_size, call->read.offset, window, call->read.size));
    free(window);
}

void reply_link(struct call *call, const void *target, size_t len)
{
    char text[KV_PATH_MAX + 1];

    memcpy(text, target, len);
    text[len] = '\0';
    fuse_reply_readlink(call->fuse, text);
    call_end(call);
}

void reply_xattr(struct call *call, const void *value, size_t len)
{
    if (call->getxattr.size == 0) {
        fuse_reply_xattr(call->fuse, len);
        call_end(call);
    } else if (len > call->getxattr.size) {
        call_error(call, ERANGE);
    } else {
        reply_data(call, value, len);
    }
}

void reply_xattrs(struct call *call, const struct bytes *xattrs)
{
    struct cursor c = cursor_of(xattrs->data, xattrs->len);
    struct buffer names = BUFFER_INIT;
    struct xattr x;

    if (call->name != NULL) {
        const struct bytes name = bytes_text(call->name);

        if (xattr_find(xattrs->data, xattrs->len, &name, &x))
            reply_xattr(call, x.value.data, x.value.len);
        else
            call_error(call, ENODATA);
        return;
    }
    while (xattr_next(&c, &x) == 1) {
        buffer_put_bytes(&names, x.name.data, x.name.len);
        buffer_put_u8(&names, 0);
    }
    if (names.failed)
        call_error(call, ENOMEM);
    else
        reply_xattr(call, names.data, names.len);
    buffer_deinit(&names);
}
