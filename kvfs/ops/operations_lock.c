/* flock(2) and fcntl(2): what the kernel asks, made into wishes (kvfs/file/lock.h). It comes here only when
 * the locks are in the cluster; else the kernel keeps them itself. */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include "kvfs/link/process.h"
#include "kvfs/ops/operations.h"

/* It may have been answered at the same moment: a number does no harm. */
static void on_interrupt(fuse_req_t req, void *serial)
{
    struct fs *fs = fs_enter(req);

    lock_interrupt(&fs->files, (uint64_t)(uintptr_t)serial);
    fs_leave(fs);
}

static void start(fuse_req_t req, fuse_ino_t node, struct lock_wish *w)
{
    struct fs *fs;
    uint64_t serial;

    if (virtual_is(node)) {
        fuse_reply_err(req, ENOLCK);
        return;
    }
    w->process = process_of(fuse_req_ctx(req)->pid);
    w->caller = *fuse_req_ctx(req);
    fs = fs_enter(req);
    serial = lock_serial(&fs->files);
    fs_leave(fs);
    /* libfuse calls it with a lock of its own, so not under ours. */
    if (w->mode != LOCK_NONE)
        fuse_req_interrupt_func(req, on_interrupt, (void *)(uintptr_t)serial);
    fs_enter(req);
    w->ino = hub_ino(&fs->hub, node);
    w->interrupted = w->wait && fuse_req_interrupted(req) != 0;
    lock_start(&fs->files, req, serial, w);
    fs_leave(fs);
}

void op_flock(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, int op)
{
    struct lock_wish w = {.kind = LOCK_OF_FLOCK,
                          .mode = (op & LOCK_UN) != 0   ? LOCK_NONE
                                  : (op & LOCK_EX) != 0 ? LOCK_EXCLUSIVE
                                                        : LOCK_SHARED,
                          .wait = (op & (LOCK_UN | LOCK_NB)) == 0,
                          .owner = fi->lock_owner,
                          .end = LOCK_RANGE_END,
                          .handle = (struct handle *)(uintptr_t)fi->fh};

    start(req, node, &w);
}

/* False: no range that there can be. */
static bool range_of(const struct flock *lock, struct lock_wish *w)
{
    if (lock->l_start < 0 || lock->l_len < 0)
        return false;
    w->start = (uint64_t)lock->l_start;
    w->end = lock->l_len == 0 ? LOCK_RANGE_END : w->start + (uint64_t)lock->l_len - 1;
    w->mode = lock->l_type == F_UNLCK ? LOCK_NONE : lock->l_type == F_WRLCK ? LOCK_EXCLUSIVE : LOCK_SHARED;
    return w->end <= LOCK_RANGE_END;
}

void op_setlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *lock, int sleep)
{
    struct lock_wish w = {
        .kind = LOCK_OF_RANGE, .owner = fi->lock_owner, .handle = (struct handle *)(uintptr_t)fi->fh};

    if (!range_of(lock, &w)) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    w.wait = sleep != 0 && w.mode != LOCK_NONE;
    start(req, node, &w);
}

void op_getlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *lock)
{
    struct lock_wish w = {.kind = LOCK_OF_RANGE, .owner = fi->lock_owner};
    struct fs *fs;

    if (virtual_is(node) || !range_of(lock, &w)) {
        fuse_reply_err(req, virtual_is(node) ? ENOLCK : EINVAL);
        return;
    }
    fs = fs_enter(req);
    w.ino = hub_ino(&fs->hub, node);
    lock_test(&fs->files, req, &w);
    fs_leave(fs);
}
