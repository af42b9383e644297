/* Reading and writing through handles, and the moments at which what was
 * written is published (publish.h). */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

#include "kvfs/file/file.h"
#include "kvfs/file/publish.h"
#include "kvfs/link/process.h"
#include "kvfs/ops/operations.h"
#include "kvfs/reply/reply.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"

static struct handle *handle_of(const struct fuse_file_info *fi)
{
    return (struct handle *)(uintptr_t)fi->fh;
}

/* A value ends where its attributes say: less is not an end of the file. */
static bool is_short(const struct call *call, const struct attr *attr, size_t len)
{
    uint64_t left = attr->size > call->read.offset ? attr->size - call->read.offset : 0;

    return len < call->read.size && len < left;
}

static void read_file(struct call *call);

static void on_read(struct call *call, int code, const union answer_body *answer)
{
    struct hub *hub = call->hub;
    struct kernel_inode *inode = kernel_inode_find(hub->cache, call->ino);
    struct file *f = inode != NULL ? inode->file : NULL;
    const struct value_answer *a;

    if (code != 0) {
        call_fail_inode(call, code);
        return;
    }
    /* Sent before this mount let a change be shown, and answered as before it: then once more, behind it. */
    if (lease_data_is_pending(hub->cache, call->ino) && hub->cache->lease.answered != call->read.answered) {
        read_file(call);
        return;
    }
    a = &answer->read;
    if (is_short(call, &a->attr, a->data.len)) {
        call_error(call, EIO);
        return;
    }
    if (f != NULL)
        file_learn(f, &a->attr);
    if (inode != NULL)
        inode->told_data = true;
    reply_read(call, f, a->attr.size, a->data.data, a->data.len);
    /* Pages have no time, so what may not be kept is dropped behind the answer. */
    if (inode != NULL && (!lease_keeps_data(hub->cache) || lease_data_is_pending(hub->cache, inode->ino)))
        notifier_inval_given(hub->cache, inode);
}

static void read_file(struct call *call)
{
    struct fs *fs = call->hub->fs;
    struct file *f = file_find(&fs->files, call->ino);

    if (f != NULL && f->life == FILE_LOST) {
        call_error(call, ESTALE);
    } else if (!file_needs_node(f, call->read.offset, call->read.size)) {
        f->inode->told_data = true;
        reply_read(call, f, f->attr.size, NULL, 0);
    } else {
        const union request_body request = {.read = {.at = uplink_read_at(call->hub),
                                                     .ino = call->ino,
                                                     .offset = call->read.offset,
                                                     .length = (uint32_t)call->read.size}};

        call->read.answered = fs->cache.lease.answered;
        uplink_send(call, MESSAGE_READ, &request, on_read);
    }
}

void op_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi)
{
    struct fs *fs = fs_enter(req);
    struct call *call = call_begin(&fs->hub, req, CALL_READ);

    if (call != NULL) {
        call->ino = hub_ino(&fs->hub, node);
        call->read.offset = (uint64_t)offset;
        call->read.size = size < READ_LENGTH_MAX ? size : READ_LENGTH_MAX;
        call->read.fh = fi->fh;
        if (virtual_is(node))
            virtual_read(call, node);
        else
            read_file(call);
    }
    fs_leave(fs);
}

/* Bytes that a program writes. */
struct written {
    const struct fuse_ctx *who; /* NULL: a page written behind, whose handle is a guess */
    pid_t process;
    const void *data;
    size_t size;
    uint64_t offset;
    bool append;
    bool fenced;     /* through a handle of a process that has lost a lock */
    bool past_pages; /* through a handle with FOPEN_DIRECT_IO: the kernel does not put them into its page
                        cache */
};

static struct written written_of(const struct fuse_ctx *who, const struct fuse_file_info *fi,
                                 const void *data, size_t size, uint64_t offset)
{
    return (struct written){.who = fi->writepage ? NULL : who,
                            .data = data,
                            .size = size,
                            .offset = offset,
                            .append = (fi->flags & O_APPEND) != 0 && !fi->writepage,
                            .past_pages = !fi->writepage && file_appends_only(handle_of(fi)->flags)};
}

/* Bytes written here and there are an edit each. So many are published without waiting
 * for the close, */
#define PIECES_PUBLISHED 8192
/* and so many not taken before others are published. */
#define PIECES_MAX 65536

/* Stages one write. Returns an errno; ENOSPC: *room_out more bytes are needed; EAGAIN: a
 * publication has to come first. */
static int stage_data(struct fs *fs, struct file *f, const struct written *w, uint64_t *room_out)
{
    uint64_t limit = fs->hub.uplink.node.value_limit, end, at = w->offset;
    int rc;

    if (f == NULL || w->fenced)
        return EIO;
    if (f->life == FILE_LOST)
        return ESTALE;
    if (f->life == FILE_LIVE && stage_pieces(&f->stage) >= PIECES_MAX)
        return EAGAIN;
    end = file_size(f);
    if (w->append)
        at = end;
    if (at > limit || w->size > limit - at)
        return EFBIG;
    if (!room_fits(&fs->files, f, at + w->size > end ? at + w->size : end, room_out))
        return ENOSPC;
    rc = w->append ? stage_append(&f->stage, w->data, w->size)
                   : stage_write(&f->stage, w->offset, w->data, w->size);
    file_touched(&fs->files, f, w->who, w->process);
    if (!w->past_pages)
        f->inode->told_data = true; /* the kernel put it into its page cache itself */
    if (rc != 0)
        return ENOMEM;
    /* The kernel has put an append where it believes the end to be. */
    if (at != w->offset)
        notifier_inval(&fs->cache, f->inode, true);
    room_ahead(&fs->files);
    if (stage_pieces(&f->stage) >= PIECES_PUBLISHED && f->retry_ms <= clock_boot_ms())
        publish_start(&fs->files, f);
    return 0;
}

/* It goes past the kernel's pages: where there are some, they are dropped before it has happened. Of others
 * the kernel keeps the page locked until they are answered, and dropping it would wait for that: what counts
 * is how the handle was opened, not what fcntl(F_SETFL) has made of it. */
static bool must_drop_pages(struct fs *fs, bool past_pages, uint64_t ino)
{
    const struct kernel_inode *inode = kernel_inode_find(&fs->cache, ino);

    return past_pages && inode != NULL && (inode->told_data || notifier_is_pending(inode));
}

static void on_pages_dropped(struct call *call, int code, const union answer_body *answer)
{
    fuse_reply_write(call->fuse, call->write.taken);
    call_end(call);
}

/* It is staged, whatever comes. */
static void drop_pages(struct call *call)
{
    struct fs *fs = call->hub->fs;
    struct kernel_inode *inode = kernel_inode_find(&fs->cache, call->ino);

    notifier_inval(&fs->cache, inode, true);
    call_wait(call, &inode->file->invalidated, on_pages_dropped);
}

/* stage_data() has said ENOSPC or EAGAIN: then on_answer tries again. */
static void wait_to_write(struct call *call, int err, call_fn *on_answer)
{
    struct fs *fs = call->hub->fs;
    struct file *f = file_find(&fs->files, call->ino);

    if (err == ENOSPC) {
        room_wait(call, on_answer);
    } else {
        call_wait(call, &f->waiters, on_answer);
        publish_start(&fs->files, f);
    }
}

static void on_write_room(struct call *call, int code, const union answer_body *answer)
{
    struct fs *fs = call->hub->fs;
    struct written w = written_of(&call->caller, &call->write.fi, call->write.data.data, call->write.data.len,
                                  call->write.offset);
    int err;

    if (code != 0) {
        call_fail(call, code);
        return;
    }
    w.process = call->process;
    w.fenced = !call->write.fi.writepage && handle_of(&call->write.fi)->fenced;
    err = stage_data(fs, file_find(&fs->files, call->ino), &w, &call->room);
    if (err == ENOSPC || err == EAGAIN) {
        wait_to_write(call, err, on_write_room);
    } else if (err != 0) {
        call_error(call, err);
    } else {
        call->write.taken = call->write.data.len;
        if (must_drop_pages(fs, w.past_pages, call->ino))
            drop_pages(call);
        else
            on_pages_dropped(call, 0, NULL);
    }
}

/* The node has to be asked first: the bytes are kept until it has answered. */
static void write_later(struct fs *fs, fuse_req_t req, uint64_t ino, const struct written *w, int err,
                        uint64_t room, const struct fuse_file_info *fi)
{
    struct call *call = call_begin(&fs->hub, req, CALL_WRITE);

    if (call == NULL)
        return;
    call->ino = ino;
    call->process = w->process;
    call->write.offset = w->offset;
    call->write.fi = *fi;
    call->room = room;
    buffer_put_bytes(&call->write.data, w->data, w->size);
    if (call->write.data.failed)
        call_error(call, ENOMEM);
    else
        wait_to_write(call, err, on_write_room);
}

/* Staged; if the kernel can be told in time. */
static void write_past_pages(struct fs *fs, fuse_req_t req, uint64_t ino, size_t size)
{
    struct call *call = call_begin(&fs->hub, NULL, CALL_WRITE);

    if (call == NULL) {
        notifier_inval(&fs->cache, kernel_inode_find(&fs->cache, ino), true);
        fuse_reply_write(req, size);
        return;
    }
    call->fuse = req;
    call->caller = *fuse_req_ctx(req);
    call->ino = ino;
    call->write.taken = size;
    drop_pages(call);
}

void op_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t offset,
              struct fuse_file_info *fi)
{
    const struct fuse_ctx *who = fuse_req_ctx(req);
    struct written w;
    struct fs *fs;
    uint64_t ino, room = 0;
    int err;

    if (virtual_is(node)) {
        fuse_reply_err(req, EROFS);
        return;
    }
    w = written_of(who, fi, data, size, (uint64_t)offset);
    fs = fs_enter(req);
    ino = hub_ino(&fs->hub, node);
    if (w.who != NULL && file_asks_for_process(file_find(&fs->files, ino), who->pid)) {
        fs_leave(fs);
        w.process = process_of(who->pid);
        fs_enter(req);
    }
    w.fenced = !fi->writepage && handle_of(fi)->fenced;
    err = stage_data(fs, file_find(&fs->files, ino), &w, &room);
    if (err == ENOSPC || err == EAGAIN)
        write_later(fs, req, ino, &w, err, room, fi);
    else if (err != 0)
        fuse_reply_err(req, err);
    else if (must_drop_pages(fs, w.past_pages, ino))
        write_past_pages(fs, req, ino, size);
    else
        fuse_reply_write(req, size);
    fs_leave(fs);
}

static void on_published(struct call *call, int code, const union answer_body *answer)
{
    struct fs *fs = call->hub->fs;

    if (code != 0)
        publish_told(kernel_inode_find(&fs->cache, call->ino));
    call_fail(call, code);
}

static void publish(struct fs *fs, fuse_req_t req, uint64_t ino)
{
    struct call *call = call_begin(&fs->hub, req, CALL_PLAIN);
    int lost;

    if (call == NULL)
        return;
    call->ino = ino;
    lost = file_take_lost(&fs->files, file_find(&fs->files, ino));
    if (lost != 0)
        call_error(call, lost);
    else
        publish_wait(kernel_inode_find(&fs->cache, ino), call, on_published);
}

/* FLUSH: one descriptor was closed. It publishes if its process has opened or
 * written the file (a forked child closes its copies without having had to do
 * with them), and, if nothing but an emptying is staged, only if the process has no
 * duplicate of it: a shell opens the file of `>`, duplicates the descriptor, and closes
 * the first before the command writes. How many open files there are tells nothing: one
 * that was closed just now may yet be counted. */
void op_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    pid_t process = process_of(fuse_req_ctx(req)->pid);
    struct fs *fs = fs_enter(req);
    struct file *f = virtual_is(node) ? NULL : file_find(&fs->files, hub_ino(&fs->hub, node));
    pid_t thread = fuse_req_ctx(req)->pid;
    uint64_t ino = hub_ino(&fs->hub, node);
    struct lock_wish wish = {.ino = ino,
                             .kind = LOCK_OF_RANGE,
                             .owner = fi->lock_owner,
                             .end = LOCK_RANGE_END,
                             .process = process,
                             .caller = *fuse_req_ctx(req)};
    bool emptied, ours;
    int flags;

    /* A process that closes one of its descriptors unlocks all that it has locked by others, too. */
    if (!virtual_is(node) && lock_is_held(&fs->files, ino, fi->lock_owner)) {
        lock_flush(&fs->files, req, &wish, file_take_lost(&fs->files, f));
        fs_leave(fs);
        return;
    }
    if (!virtual_is(node) && handle_of(fi)->fenced) {
        fs_leave(fs);
        fuse_reply_err(req, EIO);
        return;
    }
    if (!file_is_dirty(f) && (f == NULL || f->lost == 0)) {
        fs_leave(fs);
        fuse_reply_err(req, 0);
        return;
    }
    ours = file_is_of(f, handle_of(fi), process);
    flags = handle_of(fi)->flags;
    emptied = stage_only_emptied(&f->stage);
    fs_leave(fs);

    if (!ours || (emptied && process_has_duplicate(thread, ino, flags))) {
        fuse_reply_err(req, 0);
        return;
    }
    fs_enter(req);
    publish(fs, req, ino);
    fs_leave(fs);
}

void op_fsync(fuse_req_t req, fuse_ino_t node, int data_only, struct fuse_file_info *fi)
{
    struct fs *fs;

    if (virtual_is(node)) {
        fuse_reply_err(req, 0);
        return;
    }
    fs = fs_enter(req);
    if (handle_of(fi)->fenced)
        fuse_reply_err(req, EIO);
    else
        publish(fs, req, hub_ino(&fs->hub, node));
    fs_leave(fs);
}

void op_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct fs *fs = fs_enter(req);

    if (virtual_is(node))
        virtual_release(&fs->virtuals, fi);
    if (!virtual_is(node)) {
        lock_released(&fs->files, handle_of(fi));
        file_close(&fs->files, handle_of(fi));
    }
    fs_leave(fs);
    fuse_reply_err(req, 0);
}

/* FALLOCATE. Nothing is allocated in advance: the file gets longer, and what is to be zeros, or a hole, is
 * written as zeros (a hole that a value would have is not told from them). */

static const uint8_t zeros[1024 * 1024];

/* One step of what has to be zeros, which lies within the file. An errno; 0 and no offset left: done. */
static int put_zeros(struct call *call)
{
    struct fs *fs = call->hub->fs;
    struct file *f = file_find(&fs->files, call->ino);
    uint64_t size = f != NULL ? file_size(f) : 0, end = call->allocate.end < size ? call->allocate.end : size;
    struct written w = {.who = &call->caller,
                        .process = call->process,
                        .data = zeros,
                        .offset = call->allocate.offset,
                        .past_pages = true}; /* the kernel drops its pages when it has the answer */
    int err;

    if (call->allocate.offset >= end) {
        call->allocate.zeroes = false;
        return 0;
    }
    w.size = end - w.offset < sizeof zeros ? (size_t)(end - w.offset) : sizeof zeros;
    err = stage_data(fs, f, &w, &call->room);
    if (err == 0)
        call->allocate.offset += w.size;
    return err;
}

static void allocate(struct call *call, int code, const union answer_body *answer);

/* One step of it. False: it is answered, or waits. */
static bool allocate_step(struct call *call)
{
    struct fs *fs = call->hub->fs;
    struct file *f = file_find(&fs->files, call->ino);
    uint64_t end = call->allocate.end;
    int err = 0;

    if (f == NULL || f->life == FILE_LOST) {
        err = ESTALE;
    } else if (handle_of(&call->allocate.fi)->fenced) { /* since it has begun, perhaps */
        err = EIO;
    } else if (end > call->hub->uplink.node.value_limit) {
        err = EFBIG;
    } else if (end > file_size(f) && !(call->allocate.keeps_size && call->allocate.zeroes)) {
        if (!room_fits(&fs->files, f, end, &call->room)) {
            room_wait(call, allocate);
            return false;
        }
        if (!call->allocate.keeps_size) {
            /* What lies beyond the end is zeros then. */
            if (call->allocate.zeroes && call->allocate.offset < file_size(f))
                err = -stage_truncate(&f->stage, call->allocate.offset);
            else
                err = 0;
            if (err == 0)
                err = -stage_truncate(&f->stage, end);
            call->allocate.zeroes = false;
            file_touched(&fs->files, f, &call->caller, call->process);
        }
    } else if (call->allocate.zeroes) {
        err = put_zeros(call);
        if (err == ENOSPC || err == EAGAIN) {
            wait_to_write(call, err, allocate);
            return false;
        }
        if (err == 0 && call->allocate.zeroes)
            return true;
    }
    call_error(call, err);
    return false;
}

/* What it has waited for is there. */
static void allocate(struct call *call, int code, const union answer_body *answer)
{
    if (code != 0) {
        call_fail(call, code);
        return;
    }
    while (allocate_step(call))
        ;
}

void op_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t offset, off_t len,
                  struct fuse_file_info *fi)
{
    static const int known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
    struct fs *fs;
    struct call *call;
    pid_t process;
    bool more;

    if (virtual_is(node) || (mode & ~known) != 0) {
        fuse_reply_err(req, virtual_is(node) ? EROFS : EOPNOTSUPP);
        return;
    }
    process = process_of(fuse_req_ctx(req)->pid);
    fs = fs_enter(req);
    call = call_begin(&fs->hub, req, CALL_ALLOCATE);
    more = call != NULL;
    if (call != NULL) {
        call->process = process;
        call->ino = hub_ino(&fs->hub, node);
        call->allocate.fi = *fi;
        call->allocate.offset = (uint64_t)offset;
        call->allocate.end = (uint64_t)offset + (uint64_t)len;
        call->allocate.keeps_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
        call->allocate.zeroes = (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0;
    }
    /* Others get in between: it may be long. Nobody else has the call meanwhile. */
    while (more && (more = allocate_step(call))) {
        fs_leave(fs);
        fs_enter(req);
    }
    fs_leave(fs);
}

/* COPY_FILE_RANGE, a piece at a time: what is short the caller asks for again. */

static void put_copied(struct call *call, int code, const union answer_body *answer)
{
    struct fs *fs = call->hub->fs;
    struct written w = written_of(&call->caller, &call->copy.fi, call->copy.data.data, call->copy.data.len,
                                  call->copy.offset);
    int err;

    if (code != 0) {
        call_fail(call, code);
        return;
    }
    w.process = call->process;
    w.fenced = handle_of(&call->copy.fi)->fenced;
    err = stage_data(fs, file_find(&fs->files, call->ino), &w, &call->room);
    if (err == ENOSPC || err == EAGAIN) {
        wait_to_write(call, err, put_copied);
    } else if (err != 0) {
        call_error(call, err);
    } else {
        fuse_reply_write(call->fuse, w.size);
        call_end(call);
    }
}

/* data: of the published value of base_size bytes. */
static void take_copied(struct call *call, const struct file *f, uint64_t base_size, const void *data,
                        size_t len)
{
    struct buffer *b = &call->copy.data;
    size_t size = call->copy.size;

    if (!buffer_reserve(b, size)) {
        call_error(call, ENOMEM);
        return;
    }
    memset(b->data, 0, size);
    if (len > 0)
        memcpy(b->data, data, len < size ? len : size);
    b->len = file_overlay(f, base_size, call->copy.from_offset, b->data, size);
    call->type = 0; /* what fails from here on is a write */
    if (b->len > 0) {
        put_copied(call, 0, NULL);
    } else {
        fuse_reply_write(call->fuse, 0);
        call_end(call);
    }
}

static void on_copied(struct call *call, int code, const union answer_body *answer)
{
    struct file *f = file_find(call->hub->files, call->copy.from);
    uint64_t size, left;

    if (code != 0) {
        call_fail_inode(call, code);
        return;
    }
    size = answer->read.attr.size;
    left = size > call->copy.from_offset ? size - call->copy.from_offset : 0;
    if (answer->read.data.len < call->copy.size && answer->read.data.len < left) {
        call_error(call, EIO); /* a value ends where its attributes say */
        return;
    }
    if (f != NULL)
        file_learn(f, &answer->read.attr);
    call_progress(call);
    take_copied(call, f, size, answer->read.data.data, answer->read.data.len);
}

void op_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_offset, struct fuse_file_info *from_fi,
                        fuse_ino_t to, off_t to_offset, struct fuse_file_info *to_fi, size_t len, int flags)
{
    struct fs *fs;
    struct call *call;
    struct file *f;
    pid_t process;

    /* The kernel copies by itself then: of .versions, say. */
    if (virtual_is(from) || virtual_is(to)) {
        fuse_reply_err(req, virtual_is(to) ? EROFS : EOPNOTSUPP);
        return;
    }
    process = process_of(fuse_req_ctx(req)->pid);
    fs = fs_enter(req);
    call = call_begin(&fs->hub, req, CALL_COPY);
    if (call == NULL) {
        fs_leave(fs);
        return;
    }
    call->process = process;
    call->ino = hub_ino(&fs->hub, to);
    call->copy.fi = *to_fi;
    call->copy.from = hub_ino(&fs->hub, from);
    call->copy.from_offset = (uint64_t)from_offset;
    call->copy.offset = (uint64_t)to_offset;
    call->copy.size = len < READ_LENGTH_MAX ? len : READ_LENGTH_MAX;
    f = file_find(&fs->files, call->copy.from);
    if (f != NULL && f->life == FILE_LOST) {
        call_error(call, ESTALE);
    } else if (!file_needs_node(f, call->copy.from_offset, call->copy.size)) {
        take_copied(call, f, f->attr.size, NULL, 0);
    } else {
        const union request_body request = {.read = {.at = uplink_read_at(call->hub),
                                                     .ino = call->copy.from,
                                                     .offset = call->copy.from_offset,
                                                     .length = (uint32_t)call->copy.size}};

        uplink_send(call, MESSAGE_READ, &request, on_copied);
    }
    fs_leave(fs);
}
