/* What this mount has locked, as far as its programs were told; and what becomes of that when the session
 * ends. */
#include "kvfs/file/lock_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/log.h"

void lock_held_free(struct locks *locks, struct held_lock *h)
{
    TAILQ_REMOVE(&locks->held, h, link);
    lock_ranges_deinit(&h->ranges);
    free(h);
}

struct held_lock *lock_held_find(const struct files *files, uint64_t ino, uint8_t kind, uint64_t owner)
{
    struct held_lock *h;

    TAILQ_FOREACH (h, &files->locks.held, link) {
        if (h->ino == ino && h->kind == kind && h->owner == owner)
            return h;
    }
    return NULL;
}

bool lock_any(const struct files *files, uint64_t ino)
{
    const struct held_lock *h;

    TAILQ_FOREACH (h, &files->locks.held, link) {
        if (h->ino == ino)
            return true;
    }
    return false;
}

bool lock_is_held(const struct files *files, uint64_t ino, uint64_t owner)
{
    return lock_held_find(files, ino, LOCK_OF_RANGE, owner) != NULL;
}

void lock_each_here(const struct files *files, uint64_t ino,
                    void (*each)(void *arg, const struct lock_row *row), void *arg)
{
    const struct uplink *u = &files->hub->uplink;
    const struct held_lock *h;

    TAILQ_FOREACH (h, &files->locks.held, link) {
        for (size_t i = 0; h->ino == ino && i < h->ranges.n; i++)
            each(arg, &(struct lock_row){.ino = ino,
                                         .kind = h->kind,
                                         .session = u->session,
                                         .owner = h->owner,
                                         .start = h->ranges.at[i].start,
                                         .end = h->ranges.at[i].end,
                                         .exclusive = h->ranges.at[i].mode == LOCK_EXCLUSIVE,
                                         .pid = (uint32_t)h->process,
                                         .node = (const uint8_t *)u->node.name,
                                         .node_len = strlen(u->node.name)});
    }
}

/* False: out of memory. */
bool lock_held_set(struct files *files, const struct lock_wish *w)
{
    struct held_lock *h = lock_held_find(files, w->ino, w->kind, w->owner);

    if (h == NULL && w->mode == LOCK_NONE)
        return true;
    if (h == NULL) {
        h = calloc(1, sizeof *h);
        if (h == NULL)
            return false;
        h->ino = w->ino;
        h->kind = w->kind;
        h->owner = w->owner;
        TAILQ_INSERT_TAIL(&files->locks.held, h, link);
    }
    if (w->mode != LOCK_NONE) {
        h->process = w->process;
        h->handle = w->handle;
    }
    if (lock_ranges_set(&h->ranges, w->start, w->end, w->mode) < 0) {
        if (h->ranges.n == 0)
            lock_held_free(&files->locks, h);
        return false;
    }
    if (h->ranges.n == 0)
        lock_held_free(&files->locks, h);
    return true;
}

/* Others shall learn of our end soon while there is something that they may wait for. */
void lock_renew(struct files *files)
{
    uplink_set_lease(files->hub, !TAILQ_EMPTY(&files->locks.held) || !TAILQ_EMPTY(&files->locks.requests) ||
                                     lock_has_delegations(files));
}

bool lock_has_written(const struct file *f, pid_t process)
{
    if (process == 0 || f->n_writers > FILE_WRITERS)
        return true;
    for (unsigned i = 0; i < f->n_writers; i++)
        if (f->writers[i].process == process || f->writers[i].process == 0)
            return true;
    return false;
}

/* ---- when the session has ended ---- */

static void fence_process(struct files *files, pid_t process, const struct handle *handle)
{
    struct kernel_inode *inode, *next;
    struct handle *h;

    HASH_ITER(hh, files->cache->inodes.by_ino, inode, next)
    {
        if (inode->file == NULL)
            continue;
        TAILQ_FOREACH (h, &inode->file->handles, link) {
            if (h == handle || (process != 0 && h->opener == process))
                h->fenced = true;
        }
        if (inode->file->listed && lock_has_written(inode->file, process))
            publish_fence(inode->file);
    }
}

void lock_lose(struct files *files, struct held_lock *h, const char *why)
{
    log_error("inode %" PRIu64
              ": the lock of process %d is lost, %s; what the process writes through what it "
              "has open fails",
              h->ino, (int)h->process, why);
    fence_process(files, h->process, h->handle);
    lock_held_free(&files->locks, h);
}

void lock_session_lost(struct files *files)
{
    struct lock_request *r, *next;

    while (!TAILQ_EMPTY(&files->locks.held))
        lock_lose(files, TAILQ_FIRST(&files->locks.held), "nothing was heard of this mount for too long");
    lock_delegations_lost(files);
    for (r = TAILQ_FIRST(&files->locks.requests); r != NULL; r = next) {
        next = TAILQ_NEXT(r, link);
        r->ended = r->missed = r->fresh = false;
        if (r->wish.mode == LOCK_NONE)
            continue;
        if (r->state == LOCK_GRANTED || (r->wish.handle != NULL && r->wish.handle->fenced)) {
            r->err = EIO;
            lock_answer(r, EIO);
        }
        if (r->state == LOCK_QUEUED && r->req == NULL)
            lock_request_free(files, r);
        /* Others are asked for anew: lock_ask_again(). */
    }
}
