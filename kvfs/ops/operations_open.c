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

static void reply_open(struct request *r, bool keep_cache)
{
    struct fs *fs = r->core->fs;
    struct handle *h = r->open.handle;

    r->open.fi.fh = (uint64_t)(uintptr_t)h;
    r->open.fi.keep_cache = keep_cache;
    r->open.fi.noflush = (h->flags & O_ACCMODE) == O_RDONLY;
    /* Not taken: the process is gone, and the kernel will not release it. */
    if (fuse_reply_open(r->fuse, &r->open.fi) != 0)
        file_close(&fs->files, h);
    request_end(r);
}

static void walk_again(struct request *r)
{
    retry_note(r->core, r->caller.pid, r->ino);
    request_error(r, ESTALE);
}

static void settle_open(struct request *r, bool keep_cache)
{
    struct fs *fs = r->core->fs;
    const struct file *f = r->open.handle->inode->file;
    bool reads = (r->open.fi.flags & O_ACCMODE) != O_WRONLY && (r->open.fi.flags & O_TRUNC) == 0;

    if (reads && !r->open.second_walk &&
        !inode_size_is_known(r->open.handle->inode, f->attr.content_revision)) {
        file_close(&fs->files, r->open.handle);
        walk_again(r);
        return;
    }
    if ((r->open.fi.flags & O_TRUNC) != 0)
        inode_told_attr(r->open.handle->inode, f->attr.content_revision, r->core->marks.notices);
    reply_open(r, keep_cache);
}

static void on_invalidated(struct request *r, int code, struct cursor *body)
{
    struct fs *fs = r->core->fs;

    if (code == 0) {
        settle_open(r, false);
        return;
    }
    file_close(&fs->files, r->open.handle);
    request_fail(r, code);
}

/* attr: what the node said when it opened the file; NULL: it was not asked. */
static void finish_open(struct request *r, struct inode *inode, const struct attr *attr)
{
    struct fs *fs = r->core->fs;
    struct handle *h = file_open(&fs->files, inode, r->open.fi.flags, r->caller.uid, r->process);
    struct file *f = inode->file;
    int lost;

    if (h == NULL) {
        if (attr != NULL)
            link_close_inode(r->core, inode->ino);
        request_error(r, ENOMEM);
        return;
    }
    h->pinned = attr != NULL;
    if (attr != NULL) {
        file_learn(f, attr);
        /* Removed between the second walk's lookup and this open. */
        if (attr->nlink == 0)
            file_removed(&fs->files, f, attr, true);
    }
    r->open.handle = h;
    lost = file_take_lost(&fs->files, f);
    if (lost != 0) {
        file_close(&fs->files, h);
        request_error(r, lost);
        return;
    }
    if (f->n_writers == 0) {
        f->uid = r->caller.uid;
        f->gid = r->caller.gid;
    }
    if ((r->open.fi.flags & O_TRUNC) != 0) {
        if (stage_truncate(&f->stage, 0) != 0) {
            file_close(&fs->files, h);
            request_error(r, ENOMEM);
            return;
        }
        file_touched(&fs->files, f, &r->caller, r->process);
    }
    if (notifier_is_pending(inode))
        request_wait(r, &f->invalidated, on_invalidated);
    else
        settle_open(r, true);
}

static void on_open(struct request *r, int code, struct cursor *body)
{
    struct fs *fs = r->core->fs;
    struct inode *inode = inode_find(&fs->cache, r->ino);
    bool again = retry_is_second(r->core, r->caller.pid, r->ino);
    struct attr attr;

    if (again)
        retry_end(r->core, r->caller.pid);
    r->open.second_walk = again;

    if (code == KV_E_STALE || code == KV_E_NOENT) {
        walk_again(r);
        return;
    }
    if (code != 0) {
        request_fail(r, code);
        return;
    }
    attr_decode(body, &attr);
    if (body->failed || inode == NULL) {
        link_close_inode(r->core, r->ino);
        request_error(r, EIO);
        return;
    }
    if (again) {
        inode_accept_path(&fs->cache, inode);
    } else if (inode_path_is_stale(&fs->cache, inode, r->began.moves)) {
        link_close_inode(r->core, r->ino);
        walk_again(r);
        return;
    }
    finish_open(r, inode, &attr);
}

/* Removed, and kept by those who have it open: only /proc/PID/fd leads to it, and
 * the node is not asked. But the kernel may not have been told yet that the name is
 * gone. So it walks again; who comes back here does not come by a name. */
static void open_orphan(struct request *r, struct inode *inode)
{
    if (!retry_is_second(r->core, r->caller.pid, r->ino)) {
        walk_again(r);
        return;
    }
    retry_end(r->core, r->caller.pid);
    r->open.second_walk = true;
    finish_open(r, inode, NULL);
}

void op_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    pid_t process = file_flags_write(fi->flags) ? process_of(fuse_req_ctx(req)->pid) : 0;
    struct fs *fs = fs_enter(req);
    struct request *r = request_begin(&fs->core, req, REQUEST_OPEN);
    struct inode *inode;

    if (r != NULL) {
        r->process = process;
        if (file_flags_write(fi->flags))
            reserve_ahead(&fs->files); /* answered before the open is */
        r->ino = core_ino(&fs->core, node);
        r->open.fi = *fi;
        inode = inode_find(&fs->cache, r->ino);
        if (virtual_is(node)) {
            virtual_open(r, node);
        } else if (file_is_removed(inode) && (inode->file->life == FILE_ORPHAN || inode->file->kept)) {
            open_orphan(r, inode);
        } else {
            /* The first walk's open was the barrier. */
            link_open_inode(r, r->ino, file_flags_access(fi->flags),
                            retry_holds(&fs->core, r->caller.pid, r->ino), on_open);
        }
    }
    fs_leave(fs);
}

/* CREATE */

static void on_pinned(struct request *r, int code, struct cursor *body)
{
    struct fs *fs = r->core->fs;
    struct inode *inode = inode_find(&fs->cache, r->ino);

    /* It was removed before this mount came to know it, and no event will say so. */
    if ((code == KV_E_STALE || code == KV_E_NOENT) && inode != NULL && inode->file != NULL) {
        const struct attr gone = inode->file->attr;

        file_removed(&fs->files, inode->file, &gone, true);
    }
    request_end(r);
}

/* Opens the new file on the node; nobody waits for the answer. */
static void pin(struct fs *fs, struct handle *h)
{
    struct request *r = request_begin(&fs->core, NULL, REQUEST_PLAIN);

    h->pinned = r != NULL;
    if (r == NULL)
        return;
    r->once = true;
    r->ino = h->inode->ino;
    r->caller.uid = h->uid;
    link_open_inode(r, r->ino, OPEN_READ | OPEN_WRITE, true, on_pinned);
}

static void on_created(struct request *r, int code, struct cursor *body)
{
    struct fs *fs = r->core->fs;
    struct attr *attr = &r->result.attr;
    struct fuse_entry_param e;
    struct inode *inode;
    struct handle *h;

    if (code != 0) {
        request_fail(r, code);
        return;
    }
    /* It was there already, and the kernel did not know: it walks again, finds
     * it, checks the permissions and opens it. */
    if (!r->result.created) {
        walk_again(r);
        return;
    }
    inode = reply_fill_entry(r, attr, r->parent, r->name, strlen(r->name), REPLY_UNCHECKED, &e);
    h = inode != NULL ? file_open(&fs->files, inode, r->open.fi.flags, r->caller.uid, r->process) : NULL;
    if (h == NULL) {
        if (inode != NULL)
            inode_forget(&fs->cache, inode->ino, 1);
        request_error(r, ENOMEM);
        return;
    }
    inode->file->fresh = true;
    inode->file->attr = *attr;
    inode->file->uid = r->caller.uid;
    inode->file->gid = r->caller.gid;
    pin(fs, h);
    r->open.fi.fh = (uint64_t)(uintptr_t)h;
    r->open.fi.keep_cache = 1;
    if (fuse_reply_create(r->fuse, &e, &r->open.fi) != 0) {
        file_close(&fs->files, h);
        inode_forget(&fs->cache, attr->ino, 1);
    }
    request_end(r);
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    struct command_body body = {.name = (const uint8_t *)name,
                                .name_len = strlen(name),
                                .mode = (uint16_t)(mode & 07777),
                                .flags = (fi->flags & O_EXCL) != 0};
    struct fs *fs;
    struct request *r;
    pid_t process;

    if (virtual_is(parent) || virtual_is_reserved(name) || body.name_len > KV_NAME_MAX) {
        fuse_reply_err(req, virtual_is(parent) ? EROFS : body.name_len > KV_NAME_MAX ? ENAMETOOLONG : EPERM);
        return;
    }
    process = file_flags_write(fi->flags) ? process_of(fuse_req_ctx(req)->pid) : 0;
    fs = fs_enter(req);
    r = request_begin(&fs->core, req, REQUEST_OPEN);
    if (r != NULL && !request_name(r, name)) {
        request_error(r, ENOMEM);
    } else if (r != NULL) {
        r->process = process;
        reserve_ahead(&fs->files);
        r->parent = core_ino(&fs->core, parent);
        r->open.fi = *fi;
        body.parent = r->parent;
        link_write(r, COMMAND_CREATE, &body, on_created);
    }
    fs_leave(fs);
}
