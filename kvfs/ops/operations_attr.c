#include <errno.h>
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

/* A removed file that is still open lives in this mount only. Whether it is one; it is answered then. */
static bool answer_removed(struct call *call)
{
    const struct kernel_inode *inode = kernel_inode_find(call->hub->cache, call->ino);
    struct attr attr;

    if (inode == NULL || inode->file == NULL || inode->file->life == FILE_LIVE)
        return false;
    attr = inode->file->attr;
    reply_attr(call, &attr, REPLY_UNCHECKED);
    return true;
}

static void on_attr(struct call *call, int code, const union answer_body *answer)
{
    /* The kernel takes that answer without checking its age. */
    enum reply_trust trust = call->kind == CALL_SETATTR ? REPLY_UNCHECKED : REPLY_CHECKED;
    struct attr attr;

    /* Removed while the node was asked. The kernel asks between CREATE and the end of
     * open(2); ESTALE would have it create the file once more. */
    if (answer_removed(call))
        return;
    if (code != 0) {
        call_fail_inode(call, code);
        return;
    }
    attr = answer->getattr;
    reply_attr(call, &attr, trust);
}

/* The same of what is known here. */
static bool answer_known(struct call *call)
{
    const struct attr *known =
        call->kind == CALL_PLAIN
            ? known_attr(call->hub->cache, kernel_inode_find(call->hub->cache, call->ino))
            : NULL;
    struct attr attr;

    if (known == NULL)
        return false;
    attr = *known;
    reply_attr(call, &attr, REPLY_CHECKED);
    return true;
}

/* Answers the call with the inode's attributes. */
static void send_attr(struct call *call)
{
    if (!answer_removed(call) && !answer_known(call))
        uplink_ask_inode(call, MESSAGE_GETATTR, call->ino, on_attr);
}

void attr_start(struct call *call, fuse_ino_t node)
{
    call->ino = hub_ino(call->hub, node);
    if (virtual_is(node))
        virtual_getattr(call, node);
    else
        send_attr(call);
}

void op_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct fs *fs = fs_enter(req);
    struct call *call = call_begin(&fs->hub, req, CALL_PLAIN);

    if (call != NULL)
        attr_start(call, node);
    fs_leave(fs);
}

/* SETATTR, in this order: size (staged through a handle, else published at
 * once), owner and mode (after publishing what is staged), times (staged if
 * anything is). */

static void set_removed(struct call *call, struct file *f);

static void on_set(struct call *call, int code, const union answer_body *answer)
{
    const struct kernel_inode *inode = kernel_inode_find(call->hub->cache, call->ino);
    bool second_walk = retry_holds(call->hub, call->caller.pid, call->ino);

    /* What the second walk has found was there when the call had begun: that it was removed since is
     * no error, as it would be none a moment later. */
    if ((code == KV_E_STALE || code == KV_E_NOENT) && file_is_removed(inode) &&
        (call->setattr.handle != NULL || second_walk)) {
        if (second_walk)
            retry_end(call->hub, call->caller.pid);
        set_removed(call, inode->file);
    } else if (code != 0) {
        call_fail_inode(call, code);
    } else {
        if (second_walk)
            retry_end(call->hub, call->caller.pid);
        reply_attr(call, &call->result.attr, REPLY_UNCHECKED);
    }
}

static void set_published(struct call *call, int code, const union answer_body *ignored)
{
    if (code != 0) {
        call_fail_inode(call, code);
        return;
    }
    call_progress(call);
    if (call->setattr.wanted.valid == 0)
        send_attr(call);
    else
        uplink_write(call, COMMAND_SETATTR, &call->setattr.wanted, on_set);
}

#define OWNER (SETATTR_MODE | SETATTR_UID | SETATTR_GID)
#define MTIME (SETATTR_MTIME | SETATTR_MTIME_NOW)
#define ATIME (SETATTR_ATIME | SETATTR_ATIME_NOW)

static int64_t mtime_of(const struct command_body *wanted, int64_t now)
{
    return (wanted->valid & SETATTR_MTIME_NOW) != 0 ? now : wanted->mtime_ns;
}

static int64_t atime_of(const struct command_body *wanted, int64_t now)
{
    return (wanted->valid & SETATTR_ATIME_NOW) != 0 ? now : wanted->atime_ns;
}

static void set_removed(struct call *call, struct file *f)
{
    const struct command_body *wanted = &call->setattr.wanted;
    struct attr *attr = &f->attr;

    attr->ctime_ns = hub_now_ns(call->hub);
    if ((wanted->valid & SETATTR_MODE) != 0)
        attr->mode = wanted->mode;
    if ((wanted->valid & SETATTR_UID) != 0)
        attr->uid = wanted->uid;
    if ((wanted->valid & SETATTR_GID) != 0)
        attr->gid = wanted->gid;
    if ((wanted->valid & MTIME) != 0)
        attr->mtime_ns = mtime_of(wanted, attr->ctime_ns);
    if ((wanted->valid & ATIME) != 0)
        attr->atime_ns = atime_of(wanted, attr->ctime_ns);
    send_attr(call);
}

static void set_times(struct call *call, struct file *f)
{
    const struct command_body *wanted = &call->setattr.wanted;

    file_touched(call->hub->files, f, NULL, 0);
    if ((wanted->valid & MTIME) != 0)
        stage_set_mtime(&f->stage, mtime_of(wanted, f->touched_ns));
    if ((wanted->valid & ATIME) != 0)
        stage_set_atime(&f->stage, atime_of(wanted, f->touched_ns));
    send_attr(call);
}

static void set_rest(struct call *call, bool publish)
{
    uint8_t valid = call->setattr.wanted.valid;
    struct kernel_inode *inode = kernel_inode_find(call->hub->cache, call->ino);
    struct file *f = inode != NULL ? inode->file : NULL;

    if (f != NULL && f->life != FILE_LIVE)
        set_removed(call, f);
    else if (publish || (valid & OWNER) != 0)
        publish_wait(inode, call, set_published);
    else if ((valid & (MTIME | ATIME)) != 0 && file_is_dirty(f))
        set_times(call, f);
    else
        set_published(call, 0, NULL);
}

static void set_size(struct call *call, const struct attr *attr);

static void on_size_room(struct call *call, int code, const union answer_body *answer)
{
    if (code != 0)
        call_fail_inode(call, code);
    else
        set_size(call, NULL);
}

static void on_size_attr(struct call *call, int code, const union answer_body *answer)
{
    if (code != 0)
        call_fail_inode(call, code);
    else
        set_size(call, &answer->getattr);
}

/* There is no room to make the file so long, as far as its length is known. */
static void wait_for_size(struct call *call, bool known)
{
    if (known) {
        room_wait(call, on_size_room);
        return;
    }
    uplink_ask_inode(call, MESSAGE_GETATTR, call->ino, on_size_attr);
}

/* attr: as the node knows it now, or NULL. */
static void set_size(struct call *call, const struct attr *attr)
{
    struct fs *fs = call->hub->fs;
    struct kernel_inode *inode = kernel_inode_get(&fs->cache, call->ino);
    struct file *f = inode != NULL ? file_get(&fs->files, inode) : NULL;
    uint64_t size = call->setattr.size;
    const struct handle *handle = call->setattr.handle;
    int rc;

    if (f == NULL) {
        call_error(call, ENOMEM);
        return;
    }
    if (handle != NULL && handle->fenced) { /* since it waits for room, perhaps */
        file_put(&fs->files, inode);
        call_error(call, EIO);
        return;
    }
    if (attr != NULL)
        file_learn(f, attr);
    if (size > call->hub->uplink.node.value_limit) {
        file_put(&fs->files, inode);
        call_error(call, EFBIG);
        return;
    }
    if (!room_fits(&fs->files, f, size, &call->room)) {
        bool known = f->attr.ino != 0;

        file_put(&fs->files, inode);
        wait_for_size(call, known);
        return;
    }
    rc = stage_truncate(&f->stage, size);
    file_touched(&fs->files, f, &call->caller, call->process);
    if (rc != 0) {
        file_put(&fs->files, inode);
        call_error(call, ENOMEM);
        return;
    }
    call->type = 0; /* what fails from here on is a write */
    set_rest(call, handle == NULL && f->life == FILE_LIVE);
}

/* All but the size. */
static struct command_body wanted_of(uint64_t ino, const struct stat *set, int to_set)
{
    struct command_body body = {.ino = ino};

    if ((to_set & FUSE_SET_ATTR_MODE) != 0) {
        body.valid |= SETATTR_MODE;
        body.mode = (uint16_t)(set->st_mode & 07777);
    }
    if ((to_set & FUSE_SET_ATTR_UID) != 0) {
        body.valid |= SETATTR_UID;
        body.uid = set->st_uid;
    }
    if ((to_set & FUSE_SET_ATTR_GID) != 0) {
        body.valid |= SETATTR_GID;
        body.gid = set->st_gid;
    }
    if ((to_set & FUSE_SET_ATTR_MTIME_NOW) != 0) {
        body.valid |= SETATTR_MTIME_NOW;
    } else if ((to_set & FUSE_SET_ATTR_MTIME) != 0) {
        body.valid |= SETATTR_MTIME;
        body.mtime_ns = stat_time_ns(set->st_mtim);
    }
    if ((to_set & FUSE_SET_ATTR_ATIME_NOW) != 0) {
        body.valid |= SETATTR_ATIME_NOW;
    } else if ((to_set & FUSE_SET_ATTR_ATIME) != 0) {
        body.valid |= SETATTR_ATIME;
        body.atime_ns = stat_time_ns(set->st_atim);
    }
    return body;
}

void op_setattr(fuse_req_t req, fuse_ino_t node, struct stat *set, int to_set, struct fuse_file_info *fi)
{
    struct fs *fs;
    struct call *call;
    pid_t process;

    if (virtual_is(node)) {
        fuse_reply_err(req, EROFS);
        return;
    }
    process = (to_set & FUSE_SET_ATTR_SIZE) != 0 ? process_of(fuse_req_ctx(req)->pid) : 0;
    fs = fs_enter(req);
    call = call_begin(&fs->hub, req, CALL_SETATTR);
    if (call != NULL) {
        call->process = process;
        call->setattr.handle = fi != NULL ? (const struct handle *)(uintptr_t)fi->fh : NULL;
        call->ino = hub_ino(&fs->hub, node);
        call->setattr.wanted = wanted_of(call->ino, set, to_set);
        call->setattr.size = (uint64_t)set->st_size;
        if ((to_set & FUSE_SET_ATTR_SIZE) != 0)
            set_size(call, NULL);
        else
            set_rest(call, false);
    }
    fs_leave(fs);
}

static void on_readlink(struct call *call, int code, const union answer_body *answer)
{
    if (code != 0)
        call_fail_inode(call, code);
    else
        reply_link(call, answer->readlink.target.data, answer->readlink.target.len);
}

void op_readlink(fuse_req_t req, fuse_ino_t node)
{
    struct fs *fs = fs_enter(req);
    struct call *call = call_begin(&fs->hub, req, CALL_PLAIN);

    if (call != NULL && virtual_is(node)) {
        virtual_readlink(call, node);
    } else if (call != NULL) {
        uplink_ask_inode(call, MESSAGE_READLINK, hub_ino(&fs->hub, node), on_readlink);
    }
    fs_leave(fs);
}

static void on_statfs(struct call *call, int code, const union answer_body *answer)
{
    struct statvfs st = {.f_bsize = STATFS_BLOCK, .f_frsize = STATFS_BLOCK, .f_namemax = KV_NAME_MAX};
    const struct statfs_answer *a;

    if (code != 0) {
        call_fail(call, code);
        return;
    }
    a = &answer->statfs;
    st.f_blocks = a->max_bytes / STATFS_BLOCK;
    st.f_bfree = a->bytes < a->max_bytes ? (a->max_bytes - a->bytes) / STATFS_BLOCK : 0;
    st.f_bavail = st.f_bfree;
    st.f_files = a->max_keys;
    st.f_ffree = a->keys < a->max_keys ? a->max_keys - a->keys : 0;
    st.f_favail = st.f_ffree;
    fuse_reply_statfs(call->fuse, &st);
    call_end(call);
}

void op_statfs(fuse_req_t req, fuse_ino_t node)
{
    struct fs *fs = fs_enter(req);
    struct call *call = call_begin(&fs->hub, req, CALL_PLAIN);

    if (call != NULL)
        uplink_send(call, MESSAGE_STATFS, NULL, on_statfs);
    fs_leave(fs);
}
