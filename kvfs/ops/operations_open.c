/* OPEN is the barrier: the node answers it as of a moment after it was asked,
 * and by then every event up to that moment has been handled here. So
 *
 *   - if a name on the path was changed meanwhile, the kernel may have come here
 *     by a name that was wrong: ESTALE makes it walk the path again, with fresh
 *     lookups, and what it finds then was true after the open began;
 *   - if the content was changed and the kernel's pages are still to be dropped,
 *     the answer waits for that;
 *   - if the kernel may believe in an old length, ESTALE as well: an open brings
 *     no attributes, and a lookup does. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "kvfs/file/file.h"
#include "kvfs/file/publish.h"
#include "kvfs/link/process.h"
#include "kvfs/ops/operations.h"
#include "kvfs/reply/reply.h"
#include "sync/base/error.h"

static void reply_open(struct call *call, bool keep_cache)
{
    struct fs *fs = call->hub->fs;
    struct handle *h = call->open.handle;

    call->open.fi.fh = (uint64_t)(uintptr_t)h;
    call->open.fi.keep_cache = keep_cache;
    call->open.fi.noflush = (h->flags & O_ACCMODE) == O_RDONLY;
    /* Not taken: the process is gone, and the kernel will not release it. */
    if (fuse_reply_open(call->fuse, &call->open.fi) != 0)
        file_close(&fs->files, h);
    call_end(call);
}

static void walk_again(struct call *call)
{
    retry_note(call->hub, call->caller.pid, call->ino);
    call_error(call, ESTALE);
}

static void settle_open(struct call *call, bool keep_cache)
{
    struct fs *fs = call->hub->fs;
    const struct file *f = call->open.handle->inode->file;
    bool reads = (call->open.fi.flags & O_ACCMODE) != O_WRONLY && (call->open.fi.flags & O_TRUNC) == 0;

    if (reads && !call->open.second_walk &&
        !kernel_inode_size_is_known(call->open.handle->inode, f->attr.content_revision)) {
        file_close(&fs->files, call->open.handle);
        walk_again(call);
        return;
    }
    if ((call->open.fi.flags & O_TRUNC) != 0)
        kernel_inode_told_attr(call->open.handle->inode, f->attr.content_revision, call->hub->marks.notices);
    reply_open(call, keep_cache);
}

static void on_invalidated(struct call *call, int code, const union answer_body *answer)
{
    struct fs *fs = call->hub->fs;

    if (code == 0) {
        settle_open(call, false);
        return;
    }
    file_close(&fs->files, call->open.handle);
    call_fail(call, code);
}

/* attr: what the node said when it opened the file; NULL: it was not asked. */
static void finish_open(struct call *call, struct kernel_inode *inode, const struct attr *attr)
{
    struct fs *fs = call->hub->fs;
    struct handle *h = file_open(&fs->files, inode, call->open.fi.flags, call->caller.uid, call->process);
    struct file *f = inode->file;
    int lost;

    if (h == NULL) {
        if (attr != NULL)
            uplink_close_inode(call->hub, inode->ino);
        call_error(call, ENOMEM);
        return;
    }
    h->pinned = attr != NULL;
    if (attr != NULL) {
        file_learn(f, attr);
        /* Removed between the second walk's lookup and this open. */
        if (attr->nlink == 0)
            removed_file(&fs->files, f, attr, true);
    }
    call->open.handle = h;
    lost = file_take_lost(&fs->files, f);
    if (lost != 0) {
        file_close(&fs->files, h);
        call_error(call, lost);
        return;
    }
    if (f->n_writers == 0) {
        f->uid = call->caller.uid;
        f->gid = call->caller.gid;
    }
    if ((call->open.fi.flags & O_TRUNC) != 0) {
        if (stage_truncate(&f->stage, 0) != 0) {
            file_close(&fs->files, h);
            call_error(call, ENOMEM);
            return;
        }
        file_touched(&fs->files, f, &call->caller, call->process);
    }
    if (notifier_is_pending(inode))
        call_wait(call, &f->invalidated, on_invalidated);
    else
        settle_open(call, true);
}

static void on_open(struct call *call, int code, const union answer_body *answer)
{
    struct fs *fs = call->hub->fs;
    struct kernel_inode *inode = kernel_inode_find(&fs->cache, call->ino);
    bool again = retry_is_second(call->hub, call->caller.pid, call->ino);

    if (again)
        retry_end(call->hub, call->caller.pid);
    call->open.second_walk = again;

    if (code == KV_E_STALE || code == KV_E_NOENT) {
        walk_again(call);
        return;
    }
    if (code != 0 && code != KV_E_PROTOCOL) {
        call_fail(call, code);
        return;
    }
    if (code != 0 || inode == NULL) { /* an answer that is no answer: it may be open there */
        uplink_close_inode(call->hub, call->ino);
        call_error(call, EIO);
        return;
    }
    if (again) {
        kernel_inode_accept_path(&fs->cache, inode);
    } else if (kernel_inode_path_is_stale(&fs->cache, inode, call->began.moves)) {
        uplink_close_inode(call->hub, call->ino);
        walk_again(call);
        return;
    }
    finish_open(call, inode, &answer->open);
}

/* Removed, and kept by those who have it open: only /proc/PID/fd leads to it, and
 * the node is not asked. But the kernel may not have been told yet that the name is
 * gone. So it walks again; who comes back here does not come by a name. */
static void open_orphan(struct call *call, struct kernel_inode *inode)
{
    if (!retry_is_second(call->hub, call->caller.pid, call->ino)) {
        walk_again(call);
        return;
    }
    retry_end(call->hub, call->caller.pid);
    call->open.second_walk = true;
    finish_open(call, inode, NULL);
}

void op_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    pid_t process = file_flags_write(fi->flags) ? process_of(fuse_req_ctx(req)->pid) : 0;
    struct fs *fs = fs_enter(req);
    struct call *call = call_begin(&fs->hub, req, CALL_OPEN);
    struct kernel_inode *inode;

    if (call != NULL) {
        call->process = process;
        if (file_flags_write(fi->flags))
            room_ahead(&fs->files); /* answered before the open is */
        call->ino = hub_ino(&fs->hub, node);
        call->open.fi = *fi;
        inode = kernel_inode_find(&fs->cache, call->ino);
        if (virtual_is(node)) {
            virtual_open(call, node);
        } else if (file_is_removed(inode) && (inode->file->life == FILE_ORPHAN || inode->file->kept)) {
            open_orphan(call, inode);
        } else {
            /* The first walk's open was the barrier. */
            uplink_open_inode(call, call->ino, file_flags_access(fi->flags),
                              retry_holds(&fs->hub, call->caller.pid, call->ino), on_open);
        }
    }
    fs_leave(fs);
}

/* CREATE */

static void on_pinned(struct call *call, int code, const union answer_body *answer)
{
    struct fs *fs = call->hub->fs;
    struct kernel_inode *inode = kernel_inode_find(&fs->cache, call->ino);

    /* It was removed before this mount came to know it, and no event will say so. */
    if ((code == KV_E_STALE || code == KV_E_NOENT) && inode != NULL && inode->file != NULL) {
        const struct attr gone = inode->file->attr;

        removed_file(&fs->files, inode->file, &gone, true);
    }
    call_end(call);
}

/* Opens the new file on the node; nobody waits for the answer. */
static void pin(struct fs *fs, struct handle *h)
{
    struct call *call = call_begin(&fs->hub, NULL, CALL_PLAIN);

    h->pinned = call != NULL;
    if (call == NULL)
        return;
    call->once = true;
    call->ino = h->inode->ino;
    call->caller.uid = h->uid;
    uplink_open_inode(call, call->ino, OPEN_READ | OPEN_WRITE, true, on_pinned);
}

static void on_created(struct call *call, int code, const union answer_body *answer)
{
    struct fs *fs = call->hub->fs;
    struct attr *attr = &call->result.attr;
    struct fuse_entry_param e;
    struct kernel_inode *inode;
    struct handle *h;

    if (code != 0) {
        call_fail(call, code);
        return;
    }
    /* It was there already, and the kernel did not know: it walks again, finds
     * it, checks the permissions and opens it. */
    if (!call->result.created) {
        walk_again(call);
        return;
    }
    inode = reply_fill_entry(call, attr, call->parent, call->name, strlen(call->name), REPLY_UNCHECKED, &e);
    h = inode != NULL ? file_open(&fs->files, inode, call->open.fi.flags, call->caller.uid, call->process)
                      : NULL;
    if (h == NULL) {
        if (inode != NULL)
            kernel_inode_forget(&fs->cache, inode->ino, 1);
        call_error(call, ENOMEM);
        return;
    }
    inode->file->fresh = true;
    inode->file->attr = *attr;
    inode->file->uid = call->caller.uid;
    inode->file->gid = call->caller.gid;
    pin(fs, h);
    call->open.fi.fh = (uint64_t)(uintptr_t)h;
    call->open.fi.keep_cache = 1;
    if (fuse_reply_create(call->fuse, &e, &call->open.fi) != 0) {
        file_close(&fs->files, h);
        kernel_inode_forget(&fs->cache, attr->ino, 1);
    }
    call_end(call);
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    struct command_body body = {.name = (const uint8_t *)name,
                                .name_len = strlen(name),
                                .mode = (uint16_t)(mode & 07777),
                                .flags = (fi->flags & O_EXCL) != 0};
    struct fs *fs;
    struct call *call;
    pid_t process;

    if (virtual_is(parent) || virtual_is_reserved(name) || body.name_len > KV_NAME_MAX) {
        fuse_reply_err(req, virtual_is(parent) ? EROFS : body.name_len > KV_NAME_MAX ? ENAMETOOLONG : EPERM);
        return;
    }
    process = file_flags_write(fi->flags) ? process_of(fuse_req_ctx(req)->pid) : 0;
    fs = fs_enter(req);
    call = call_begin(&fs->hub, req, CALL_OPEN);
    if (call != NULL && !call_name(call, name)) {
        call_error(call, ENOMEM);
    } else if (call != NULL) {
        call->process = process;
        room_ahead(&fs->files);
        call->parent = hub_ino(&fs->hub, parent);
        call->open.fi = *fi;
        body.parent = call->parent;
        uplink_write(call, COMMAND_CREATE, &body, on_created);
    }
    fs_leave(fs);
}
