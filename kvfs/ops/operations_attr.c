#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "kvfs/file/file.h"
#include "kvfs/file/publish.h"
#include "kvfs/link/process.h"
#include "kvfs/link/stat.h"
#include "kvfs/ops/operations.h"
#include "kvfs/reply/reply.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"

#define STATFS_BLOCK 4096

/* A removed file that is still open lives in this mount only. */
static struct file *removed_file(struct fs *fs, uint64_t ino)
{
    struct inode *inode = inode_find(&fs->cache, ino);

    return inode != NULL && inode->file != NULL && inode->file->life != FILE_LIVE ? inode->file : NULL;
}

/* What the node says of an inode that is gone, or that it does not know. */
static void fail_inode(struct request *r, int code)
{
    request_fail(r, code == KV_E_NOENT ? KV_E_STALE : code);
}

/* r->flag: the kernel takes the answer without checking its age. */
static void on_attr(struct request *r, int code, struct cursor *body)
{
    struct fs *fs = r->core->fs;
    struct file *removed = removed_file(fs, r->ino);
    struct attr attr;

    /* Removed while the node was asked. The kernel asks between CREATE and the end of
     * open(2); ESTALE would have it create the file once more. */
    if (removed != NULL) {
        attr = removed->attr;
        reply_attr(r, &attr, REPLY_UNCHECKED);
        return;
    }
    if (code != 0) {
        fail_inode(r, code);
        return;
    }
    attr_decode(body, &attr);
    if (body->failed)
        request_error(r, EIO);
    else
        reply_attr(r, &attr, r->kind == REQUEST_SETATTR ? REPLY_UNCHECKED : REPLY_CHECKED);
}

/* Answers r with the inode's attributes. */
static void send_attr(struct request *r)
{
    struct fs *fs = r->core->fs;
    struct file *f = removed_file(fs, r->ino);

    if (f != NULL) {
        struct attr attr = f->attr;

        reply_attr(r, &attr, REPLY_UNCHECKED);
        return;
    }
    buffer_clear(&r->payload);
    buffer_put_u8(&r->payload, READ_LOCAL);
    buffer_put_u64(&r->payload, r->ino);
    link_send(r, MESSAGE_GETATTR, on_attr);
}

void attr_start(struct request *r, fuse_ino_t node)
{
    r->ino = core_ino(r->core, node);
    if (virtual_is(node))
        virtual_getattr(r, node);
    else
        send_attr(r);
}

void op_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct fs *fs = fs_enter(req);
    struct request *r = request_begin(&fs->core, req, REQUEST_PLAIN);

    if (r != NULL)
        attr_start(r, node);
    fs_leave(fs);
}

/* SETATTR, in this order: size (staged through a handle, else published at
 * once), owner and mode (after publishing what is staged), times (staged if
 * anything is). */

static void on_set(struct request *r, int code, struct cursor *body)
{
    if (code != 0)
        fail_inode(r, code);
    else
        reply_attr(r, &r->result.attr, REPLY_UNCHECKED);
}

static void set_published(struct request *r, int code, struct cursor *ignored)
{
    struct command_body body = {.ino = r->ino};

    if (code != 0) {
        fail_inode(r, code);
        return;
    }
    if ((r->setattr.to_set & FUSE_SET_ATTR_MODE) != 0) {
        body.valid |= SETATTR_MODE;
        body.mode = (uint16_t)(r->setattr.set.st_mode & 07777);
    }
    if ((r->setattr.to_set & FUSE_SET_ATTR_UID) != 0) {
        body.valid |= SETATTR_UID;
        body.uid = r->setattr.set.st_uid;
    }
    if ((r->setattr.to_set & FUSE_SET_ATTR_GID) != 0) {
        body.valid |= SETATTR_GID;
        body.gid = r->setattr.set.st_gid;
    }
    if ((r->setattr.to_set & FUSE_SET_ATTR_MTIME_NOW) != 0) {
        body.valid |= SETATTR_MTIME_NOW;
    } else if ((r->setattr.to_set & FUSE_SET_ATTR_MTIME) != 0) {
        body.valid |= SETATTR_MTIME;
        body.mtime_ns = stat_time_ns(r->setattr.set.st_mtim);
    }
    if ((r->setattr.to_set & FUSE_SET_ATTR_ATIME_NOW) != 0) {
        body.valid |= SETATTR_ATIME_NOW;
    } else if ((r->setattr.to_set & FUSE_SET_ATTR_ATIME) != 0) {
        body.valid |= SETATTR_ATIME;
        body.atime_ns = stat_time_ns(r->setattr.set.st_atim);
    }
    request_progress(r);
    if (body.valid == 0)
        send_attr(r);
    else
        link_write(r, COMMAND_SETATTR, &body, on_set);
}

#define TIMES (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW | FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW)

struct file_times {
    bool has_mtime, has_atime;
    int64_t mtime_ns, atime_ns;
};

/* The times that are asked for. */
static struct file_times times_of(const struct request *r, int64_t now)
{
    return (struct file_times){
        .has_mtime = (r->setattr.to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) != 0,
        .has_atime = (r->setattr.to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW)) != 0,
        .mtime_ns =
            (r->setattr.to_set & FUSE_SET_ATTR_MTIME_NOW) != 0 ? now : stat_time_ns(r->setattr.set.st_mtim),
        .atime_ns =
            (r->setattr.to_set & FUSE_SET_ATTR_ATIME_NOW) != 0 ? now : stat_time_ns(r->setattr.set.st_atim),
    };
}

static void set_removed(struct request *r, struct file *f)
{
    if ((r->setattr.to_set & FUSE_SET_ATTR_MODE) != 0)
        f->attr.mode = (uint16_t)(r->setattr.set.st_mode & 07777);
    if ((r->setattr.to_set & FUSE_SET_ATTR_UID) != 0)
        f->attr.uid = r->setattr.set.st_uid;
    if ((r->setattr.to_set & FUSE_SET_ATTR_GID) != 0)
        f->attr.gid = r->setattr.set.st_gid;
    f->attr.ctime_ns = core_now_ns(r->core);
    if ((r->setattr.to_set & TIMES) != 0) {
        struct file_times t = times_of(r, f->attr.ctime_ns);

        f->attr.mtime_ns = t.has_mtime ? t.mtime_ns : f->attr.mtime_ns;
        f->attr.atime_ns = t.has_atime ? t.atime_ns : f->attr.atime_ns;
    }
    send_attr(r);
}

static void set_times(struct request *r, struct file *f)
{
    struct fs *fs = r->core->fs;
    struct file_times t;

    file_touched(&fs->files, f, NULL, 0);
    t = times_of(r, f->touched_ns);
    if (t.has_mtime)
        stage_set_mtime(&f->stage, t.mtime_ns);
    if (t.has_atime)
        stage_set_atime(&f->stage, t.atime_ns);
    send_attr(r);
}

static void set_rest(struct request *r, bool publish)
{
    static const int owner = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
    struct fs *fs = r->core->fs;
    struct cursor nothing = cursor_of(NULL, 0);
    struct inode *inode = inode_find(&fs->cache, r->ino);
    struct file *f = inode != NULL ? inode->file : NULL;

    if (f != NULL && f->life != FILE_LIVE)
        set_removed(r, f);
    else if (publish || (r->setattr.to_set & owner) != 0)
        publish_wait(inode, r, set_published);
    else if ((r->setattr.to_set & TIMES) != 0 && file_is_dirty(f))
        set_times(r, f);
    else
        set_published(r, 0, &nothing);
}

static void set_size(struct request *r, const struct attr *attr);

static void on_size_room(struct request *r, int code, struct cursor *body)
{
    if (code != 0)
        fail_inode(r, code);
    else
        set_size(r, NULL);
}

static void on_size_attr(struct request *r, int code, struct cursor *body)
{
    struct attr attr;

    if (code != 0) {
        fail_inode(r, code);
        return;
    }
    attr_decode(body, &attr);
    if (body->failed)
        request_error(r, EIO);
    else
        set_size(r, &attr);
}

/* There is no room to make the file so long, as far as its length is known. */
static void wait_for_size(struct request *r, bool known)
{
    if (known) {
        reserve_wait(r, on_size_room);
        return;
    }
    buffer_clear(&r->payload);
    buffer_put_u8(&r->payload, READ_LOCAL);
    buffer_put_u64(&r->payload, r->ino);
    link_send(r, MESSAGE_GETATTR, on_size_attr);
}

/* attr: as the node knows it now, or NULL. */
static void set_size(struct request *r, const struct attr *attr)
{
    struct fs *fs = r->core->fs;
    struct inode *inode = inode_get(&fs->cache, r->ino);
    struct file *f = inode != NULL ? file_get(&fs->files, inode) : NULL;
    uint64_t size = (uint64_t)r->setattr.set.st_size;
    bool has_handle = r->setattr.has_handle;
    int rc;

    if (f == NULL) {
        request_error(r, ENOMEM);
        return;
    }
    if (attr != NULL)
        file_learn(f, attr);
    if (size > r->core->link.node.value_limit) {
        file_put(&fs->files, inode);
        request_error(r, EFBIG);
        return;
    }
    if (!reserve_fits(&fs->files, f, size, &r->room)) {
        bool known = f->attr.ino != 0;

        file_put(&fs->files, inode);
        wait_for_size(r, known);
        return;
    }
    rc = stage_truncate(&f->stage, size);
    file_touched(&fs->files, f, &r->caller, r->process);
    if (rc != 0) {
        file_put(&fs->files, inode);
        request_error(r, ENOMEM);
        return;
    }
    r->type = 0; /* what fails from here on is a write */
    set_rest(r, !has_handle && f->life == FILE_LIVE);
}

void op_setattr(fuse_req_t req, fuse_ino_t node, struct stat *set, int to_set, struct fuse_file_info *fi)
{
    struct fs *fs;
    struct request *r;
    pid_t process;

    if (virtual_is(node)) {
        fuse_reply_err(req, EROFS);
        return;
    }
    process = (to_set & FUSE_SET_ATTR_SIZE) != 0 ? process_of(fuse_req_ctx(req)->pid) : 0;
    fs = fs_enter(req);
    r = request_begin(&fs->core, req, REQUEST_SETATTR);
    if (r != NULL) {
        r->process = process;
        r->setattr.has_handle = fi != NULL;
        r->ino = core_ino(&fs->core, node);
        r->setattr.set = *set;
        r->setattr.to_set = to_set;
        if ((to_set & FUSE_SET_ATTR_SIZE) != 0)
            set_size(r, NULL);
        else
            set_rest(r, false);
    }
    fs_leave(fs);
}

static void on_readlink(struct request *r, int code, struct cursor *body)
{
    char target[KV_PATH_MAX + 1];
    const uint8_t *text;
    size_t len = 0;

    if (code != 0) {
        fail_inode(r, code);
        return;
    }
    text = cursor_string(body, KV_PATH_MAX, &len);
    if (text == NULL) {
        request_error(r, EIO);
        return;
    }
    memcpy(target, text, len);
    target[len] = '\0';
    fuse_reply_readlink(r->fuse, target);
    request_end(r);
}

void op_readlink(fuse_req_t req, fuse_ino_t node)
{
    struct fs *fs = fs_enter(req);
    struct request *r = request_begin(&fs->core, req, REQUEST_PLAIN);

    if (r != NULL && virtual_is(node)) {
        virtual_readlink(r, node);
    } else if (r != NULL) {
        buffer_put_u8(&r->payload, READ_LOCAL);
        buffer_put_u64(&r->payload, core_ino(&fs->core, node));
        link_send(r, MESSAGE_READLINK, on_readlink);
    }
    fs_leave(fs);
}

static void on_statfs(struct request *r, int code, struct cursor *body)
{
    struct statvfs st = {.f_bsize = STATFS_BLOCK, .f_frsize = STATFS_BLOCK, .f_namemax = KV_NAME_MAX};
    uint64_t keys, bytes, max_keys, max_bytes;

    if (code != 0) {
        request_fail(r, code);
        return;
    }
    keys = cursor_u64(body);
    bytes = cursor_u64(body);
    max_keys = cursor_u64(body);
    max_bytes = cursor_u64(body);
    st.f_blocks = max_bytes / STATFS_BLOCK;
    st.f_bfree = bytes < max_bytes ? (max_bytes - bytes) / STATFS_BLOCK : 0;
    st.f_bavail = st.f_bfree;
    st.f_files = max_keys;
    st.f_ffree = keys < max_keys ? max_keys - keys : 0;
    st.f_favail = st.f_ffree;
    fuse_reply_statfs(r->fuse, &st);
    request_end(r);
}

void op_statfs(fuse_req_t req, fuse_ino_t node)
{
    struct fs *fs = fs_enter(req);
    struct request *r = request_begin(&fs->core, req, REQUEST_PLAIN);

    if (r != NULL)
        link_send(r, MESSAGE_STATFS, on_statfs);
    fs_leave(fs);
}

/* Extended attributes: a few of kvfs's own, to read and not to list, so that
 * cp -a and rsync -X do not copy them. The kernel asks for security.* before
 * every write: that is answered without taking the lock. */

#define XATTR_PREFIX "user.kv."

static void on_xattr_attr(struct request *r, int code, struct cursor *body)
{
    struct attr attr;
    char value[64];
    int n;

    if (code != 0) {
        fail_inode(r, code);
        return;
    }
    attr_decode(body, &attr);
    if (strcmp(r->name, "version") == 0)
        n = snprintf(value, sizeof value, "%" PRIu64, attr.version);
    else
        n = snprintf(value, sizeof value, "%" PRIu64 "-%" PRIu64, attr.ino >> 48, attr.revision);
    reply_xattr(r, value, (size_t)n);
}

static void on_xattr_history(struct request *r, int code, struct cursor *body)
{
    struct version_row row;
    char value[128];
    int n;

    if (code != 0) {
        fail_inode(r, code);
        return;
    }
    cursor_u8(body);
    if (cursor_u32(body) == 0) {
        request_error(r, ENODATA);
        return;
    }
    version_row_decode(body, &row);
    n = snprintf(value, sizeof value, "%" PRIu32 "@%s", row.author_uid, row.author_node);
    reply_xattr(r, value, (size_t)n);
}

static void send_xattr(struct request *r)
{
    struct fs *fs = r->core->fs;
    struct inode *inode = inode_find(&fs->cache, r->ino);

    if (strcmp(r->name, "version") == 0 || strcmp(r->name, "revision") == 0) {
        buffer_put_u8(&r->payload, READ_LOCAL);
        buffer_put_u64(&r->payload, r->ino);
        link_send(r, MESSAGE_GETATTR, on_xattr_attr);
    } else if (strcmp(r->name, "author") == 0 && inode != NULL && inode->name != NULL) {
        buffer_put_u64(&r->payload, inode->parent);
        buffer_put_text(&r->payload, inode->name);
        buffer_put_u64(&r->payload, 0);
        buffer_put_u32(&r->payload, r->core->options->read_local ? 1 | PAST_LOCAL : 1);
        link_send(r, MESSAGE_HISTORY, on_xattr_history);
    } else {
        request_error(r, ENODATA);
    }
}

void op_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
    struct fs *fs;
    struct request *r;

    if (strncmp(name, XATTR_PREFIX, strlen(XATTR_PREFIX)) != 0 || virtual_is(node)) {
        fuse_reply_err(req, ENODATA);
        return;
    }
    fs = fs_enter(req);
    r = request_begin(&fs->core, req, REQUEST_GETXATTR);
    if (r != NULL && !request_name(r, name + strlen(XATTR_PREFIX))) {
        request_error(r, ENOMEM);
    } else if (r != NULL) {
        r->ino = core_ino(&fs->core, node);
        r->getxattr.size = size;
        send_xattr(r);
    }
    fs_leave(fs);
}

void op_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
    if (size == 0)
        fuse_reply_xattr(req, 0);
    else
        fuse_reply_buf(req, NULL, 0);
}
