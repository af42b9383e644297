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
#include <stdlib.h>
#include <string.h>

#include "kvfs/file/file.h"
#include "kvfs/file/publish.h"
#include "kvfs/link/process.h"
#include "kvfs/link/stat.h"
#include "kvfs/ops/operations.h"
#include "kvfs/reply/reply.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"

static void reply_open(struct call *call, bool keep_cache)
{
    struct fs *fs = call->hub->fs;
    struct handle *h = call->open.handle;

    call->open.fi.fh = (uint64_t)(uintptr_t)h;
    call->open.fi.keep_cache = keep_cache;
    call->open.fi.noflush = (h->flags & O_ACCMODE) == O_RDONLY && !lock_any(&fs->files, h->inode->ino);
    call->open.fi.direct_io = file_appends_only(h->flags);
    /* Not taken: the process is gone, and the kernel will not release it. */
    if (fuse_reply_open(call->fuse, &call->open.fi) != 0)
        file_close(&fs->files, h);
    call_end(call);
}

static void on_moved(struct call *call, int code, const union answer_body *answer)
{
    if (code != 0) {
        call_fail(call, code);
        return;
    }
    retry_note(call->hub, call->caller.pid, call->ino);
    call_error(call, ESTALE);
}

static void walk_again(struct call *call)
{
    struct call_list *moves = submounts_to_wait_for(call->hub->cache);

    /* In a CREATE the kernel has the directory locked, and may need it for the move. */
    if (moves != NULL && call->name == NULL)
        call_wait(call, moves, on_moved);
    else
        on_moved(call, 0, NULL);
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

/* attr: what the node said when it opened the file, or, if `lazy`, before; NULL: it was not asked. */
static void finish_open(struct call *call, struct kernel_inode *inode, const struct attr *attr, bool lazy)
{
    struct fs *fs = call->hub->fs;
    struct handle *h = file_open(&fs->files, inode, call->open.fi.flags, call->caller.uid, call->process);
    struct file *f = inode->file;
    int lost;

    if (h == NULL) {
        if (attr != NULL && !lazy)
            uplink_close_inode(call->hub, inode->ino);
        call_error(call, ENOMEM);
        return;
    }
    h->pinned = attr != NULL && !lazy;
    h->lazy = lazy;
    fs->files.n_lazy += lazy;
    if (attr != NULL) {
        file_learn(f, attr);
        /* Removed between the second walk's lookup and this open. */
        if (attr->nlink == 0)
            removed_file(&fs->files, f, attr);
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
        /* Who comes here twice comes by no name (/proc/self/fd/N), or by one that was right when it began. */
        if (again && file_is_removed(inode))
            finish_open(call, inode, NULL, false);
        else
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
    finish_open(call, inode, &answer->open, false);
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
    finish_open(call, inode, NULL, false);
}

/* Under the lease of a node that trusts this mount nothing is missing to open a file for reading: what the
 * kernel has of it is what there is. Only who shows other owners than the node knows has it look at
 * permissions. */
static bool open_known(struct call *call, struct kernel_inode *inode)
{
    const struct options *o = call->hub->options;
    const struct attr *known = known_attr(call->hub->cache, inode);
    struct attr attr;

    if (known == NULL || known->type != INODE_FILE || known->nlink == 0 || o->has_uid || o->has_gid ||
        o->umask != 0 || (call->open.fi.flags & (O_ACCMODE | O_TRUNC)) != O_RDONLY ||
        retry_is(call->hub, call->caller.pid) || file_is_removed(inode) || notifier_is_pending(inode) ||
        !kernel_inode_size_is_known(inode, known->content_revision) ||
        kernel_inode_path_is_stale(call->hub->cache, inode, call->began.moves))
        return false;
    attr = *known;
    finish_open(call, inode, &attr, true);
    return true;
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
        } else if (!open_known(call, inode)) {
            retry_asks(&fs->hub, call->caller.pid);
            /* The first walk's open was the barrier. */
            uplink_open_inode(call, call->ino, file_flags_access(fi->flags),
                              retry_holds(&fs->hub, call->caller.pid, call->ino), on_open);
        }
    }
    fs_leave(fs);
}

/* CREATE */

#define CREATE_ROUNDS_MAX 100

static void on_pinned(struct call *call, int code, const union answer_body *answer)
{
    struct fs *fs = call->hub->fs;
    struct kernel_inode *inode = kernel_inode_find(&fs->cache, call->ino);

    /* It was removed before this mount came to know it, and no event will say so. */
    if ((code == KV_E_STALE || code == KV_E_NOENT) && inode != NULL && inode->file != NULL) {
        const struct attr gone = inode->file->attr;

        removed_file(&fs->files, inode->file, &gone);
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

/* The kernel may open it, as of its mode bits: it has not seen them, since it believes that the file is new.
 */
static bool may_open(const struct call *call, const struct attr *attr)
{
    uint8_t access = file_flags_access(call->open.fi.flags);
    unsigned mask = ((access & OPEN_READ) != 0 ? 4u : 0) | ((access & OPEN_WRITE) != 0 ? 2u : 0);
    unsigned shift = 0;
    struct stat st;
    bool in_group;

    stat_of(call->hub->options, attr, &st); /* what this mount shows of it */
    in_group = call->caller.gid == st.st_gid;
    if ((call->open.fi.flags & O_TRUNC) != 0)
        mask |= 2;
    if (call->caller.uid == 0)
        return true;
    for (size_t i = 0; i < call->open.n_groups; i++)
        in_group = in_group || call->open.groups[i] == st.st_gid;
    if (call->caller.uid == st.st_uid)
        shift = 6;
    else if (in_group)
        shift = 3;
    return (st.st_mode >> shift & mask) == mask;
}

static void send_create(struct call *call);

/* An errno. */
static int take_existing(struct call *call, struct handle *h, const struct attr *attr)
{
    struct fs *fs = call->hub->fs;
    struct file *f = h->inode->file;
    int lost;

    h->pinned = true;
    file_learn(f, attr);
    if (attr->nlink == 0)
        removed_file(&fs->files, f, attr);
    lost = file_take_lost(&fs->files, f);
    if (lost != 0 || (call->open.fi.flags & O_TRUNC) == 0)
        return lost;
    if (stage_truncate(&f->stage, 0) != 0)
        return ENOMEM;
    file_touched(&fs->files, f, &call->caller, call->process);
    return 0;
}

/* The file is there, new or not, and the node holds it open if it is not. */
static void created(struct call *call, struct attr *attr, bool is_new)
{
    struct fs *fs = call->hub->fs;
    uint64_t now = clock_boot_ms();
    struct fuse_entry_param e;
    struct kernel_inode *inode;
    struct handle *h;
    struct file *f;
    int err;

    inode = reply_fill_entry(call, attr, call->parent, call->name, strlen(call->name), REPLY_UNCHECKED, &e);
    h = inode != NULL ? file_open(&fs->files, inode, call->open.fi.flags, call->caller.uid, call->process)
                      : NULL;
    if (h == NULL) {
        if (inode != NULL)
            kernel_inode_forget(&fs->cache, inode->ino, 1);
        if (!is_new)
            uplink_close_inode(call->hub, attr->ino);
        call_error(call, ENOMEM);
        return;
    }
    f = inode->file;
    if (is_new) {
        f->fresh = true;
        f->attr = *attr;
        pin(fs, h);
    } else {
        err = take_existing(call, h, attr);
        if (err != 0) {
            file_close(&fs->files, h);
            kernel_inode_forget(&fs->cache, attr->ino, 1);
            call_error(call, err);
            return;
        }
    }
    if (f->n_writers == 0 || is_new) {
        f->uid = call->caller.uid;
        f->gid = call->caller.gid;
    }
    retry_end(call->hub, call->caller.pid);
    call->open.fi.fh = (uint64_t)(uintptr_t)h;
    call->open.fi.keep_cache = is_new;
    if (!is_new) /* of what became of its name meanwhile this mount was told when it did not know it */
        e.entry_timeout = 0;
    call->open.fi.direct_io = file_appends_only(call->open.fi.flags);
    if (fuse_reply_create(call->fuse, &e, &call->open.fi) != 0) {
        file_close(&fs->files, h);
        kernel_inode_forget(&fs->cache, attr->ino, 1);
    }
    if (e.entry_timeout > 0)
        lease_given(&fs->cache, now);
    call_end(call);
}

static void on_existing(struct call *call, int code, const union answer_body *answer)
{
    struct attr attr;

    if ((code == KV_E_STALE || code == KV_E_NOENT) && ++call->open.rounds < CREATE_ROUNDS_MAX) {
        send_create(call);
        return;
    }
    if (code != 0) {
        if (code == KV_E_PROTOCOL) /* an answer that is no answer: it may be open there */
            uplink_close_inode(call->hub, call->ino);
        call_fail(call, code);
        return;
    }
    attr = answer->open;
    if (attr.nlink == 0 && ++call->open.rounds < CREATE_ROUNDS_MAX) { /* another client keeps it */
        uplink_close_inode(call->hub, call->ino);
        send_create(call);
        return;
    }
    created(call, &attr, false);
}

static void open_existing(struct call *call)
{
    call->ino = call->result.attr.ino;
    uplink_open_inode(call, call->ino, file_flags_access(call->open.fi.flags), true, on_existing);
}

/* The directory that it is in: the kernel would look at that, too. */
static void on_directory(struct call *call, int code, const union answer_body *answer)
{
    struct stat directory, file;

    if (code != 0) {
        call_fail_inode(call, code);
        return;
    }
    stat_of(call->hub->options, &answer->getattr, &directory);
    stat_of(call->hub->options, &call->result.attr, &file);
    if (stat_is_protected(&directory, &file, call->caller.uid, call->open.protection))
        call_error(call, EACCES);
    else
        open_existing(call);
}

static void on_created(struct call *call, int code, const union answer_body *answer)
{
    struct attr *attr = &call->result.attr;

    if (code != 0) {
        call_fail(call, code);
    } else if (call->result.created) {
        created(call, attr, true);
    } else if (!call->open.second_walk) {
        /* It was there already, and the kernel did not know: it walks again, finds
         * it, checks the permissions and opens it. */
        walk_again(call);
    } else if (!may_open(call, attr)) {
        call_error(call, EACCES);
    } else {
        /* It has walked again, found nothing, and now there is something: others remove it and make it again
         * all the time. */
        if (call->open.protection > 0)
            uplink_ask_inode(call, MESSAGE_GETATTR, call->parent, on_directory);
        else
            open_existing(call);
    }
}

static void send_create(struct call *call)
{
    struct command_body body = {.parent = call->parent,
                                .name = (const uint8_t *)call->name,
                                .name_len = strlen(call->name),
                                .mode = call->open.mode,
                                .flags = call->open.exclusive};

    uplink_write(call, COMMAND_CREATE, &body, on_created);
}

/* The caller's groups. Without a lock: it reads /proc. */
static size_t groups_of(fuse_req_t req, uint32_t **groups_out)
{
    gid_t few[1];
    int room = fuse_req_getgroups(req, 0, few), n;

    *groups_out = room > 0 ? malloc((size_t)room * sizeof **groups_out) : NULL;
    if (*groups_out == NULL)
        return 0;
    n = fuse_req_getgroups(req, room, *groups_out); /* how many there are, not how many fit */
    return n < 0 ? 0 : (size_t)(n < room ? n : room);
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    const struct fuse_ctx *who = fuse_req_ctx(req);
    size_t len = strlen(name), n_groups = 0;
    uint32_t *groups = NULL;
    unsigned protection = 0;
    struct fs *fs;
    struct call *call;
    pid_t process;
    bool again;

    if (virtual_is(parent) || virtual_is_reserved(name) || len > KV_NAME_MAX) {
        fuse_reply_err(req, virtual_is(parent) ? EROFS : len > KV_NAME_MAX ? ENAMETOOLONG : EPERM);
        return;
    }
    process = file_flags_write(fi->flags) ? process_of(who->pid) : 0;
    fs = fs_enter(req);
    again = retry_is(&fs->hub, who->pid) || retry_missed(&fs->hub, who->pid);
    retry_asks(&fs->hub, who->pid);
    if (again) {
        fs_leave(fs);
        protection = process_protected_regular();
        if (who->uid != 0)
            n_groups = groups_of(req, &groups);
        fs_enter(req);
    }
    call = call_begin(&fs->hub, req, CALL_OPEN);
    if (call == NULL) {
        free(groups);
        fs_leave(fs);
        return;
    }
    call->open.groups = groups; /* consumed */
    call->open.n_groups = n_groups;
    call->open.protection = protection;
    call->open.second_walk = again;
    call->open.exclusive = (fi->flags & O_EXCL) != 0;
    call->open.mode = (uint16_t)(mode & 07777);
    call->open.fi = *fi;
    call->process = process;
    call->parent = hub_ino(&fs->hub, parent);
    if (!call_name(call, name)) {
        call_error(call, ENOMEM);
    } else {
        room_ahead(&fs->files);
        send_create(call);
    }
    fs_leave(fs);
}
