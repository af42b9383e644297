/* Unlocking: what the process has staged is published first. */
#include "kvfs/file/lock_internal.h"

#include <stdlib.h>

#include <errno.h>

#include "sync/base/clock.h"

static void on_left(struct call *call, int code, const union answer_body *answer)
{
    struct files *files = call->hub->files;
    struct lock_request *r = lock_request_of(call);

    call_end(call);
    if (r == NULL)
        return;
    if (r->closing && lock_is_for_now(code))
        return; /* lock_tick() */
    if (code == 0)
        lock_held_set(files, &r->wish);
    else if (r->err == 0) /* one range would be two, and there is no room for them, say */
        r->err = call_errno(code);
    lock_finish(files, r, r->err);
    lock_start_behind(files);
    lock_renew(files);
}

void lock_leave(struct files *files, struct lock_request *r)
{
    const struct command_body body = lock_body(&r->wish, 0);
    struct call *call;

    r->published = true;
    if (lock_is_moving(files, r->wish.ino)) {
        r->state = LOCK_BEHIND;
        return;
    }
    if (lock_is_left_here(files, r->wish.ino)) {
        lock_leave_here(files, r);
        return;
    }
    call = lock_call(files, &r->wish, r->serial);
    r->state = LOCK_ASKED;
    r->call = call;
    if (call == NULL)
        return; /* lock_tick() */
    call->on_new_session = lock_on_new_session;
    uplink_write(call, COMMAND_UNLOCK, &body, on_left);
}

static void publish_next(struct files *files, struct lock_request *r);

static void on_published(struct call *call, int code, const union answer_body *answer)
{
    struct files *files = call->hub->files;
    struct lock_request *r = lock_request_of(call);
    int err = call_errno(code);

    call_end(call);
    if (r == NULL)
        return;
    if (code != 0 && !r->closing) {
        publish_told(kernel_inode_find(files->cache, r->inos[r->next_ino - 1]));
        lock_finish(files, r, err);
        lock_renew(files);
        return;
    }
    r->err = r->err != 0 ? r->err : err;
    publish_next(files, r);
}

static void publish_next(struct files *files, struct lock_request *r)
{
    struct call *call;

    if (r->next_ino == r->n_inos) {
        lock_leave(files, r);
        return;
    }
    call = lock_call(files, &r->wish, r->serial);
    if (call == NULL) {
        r->next_ino = r->n_inos; /* in memory there is no room even for that: unlocked it is to be */
        lock_leave(files, r);
        return;
    }
    r->state = LOCK_PUBLISHING;
    r->call = call;
    call->deadline_ms = clock_boot_ms() + files->hub->options->timeout_ms;
    publish_wait(kernel_inode_find(files->cache, r->inos[r->next_ino++]), call, on_published);
}

/* All that the process, and who has locked it if that is another one, has staged; what it locked says nothing
 * about what it guards by that. */
static bool find_staged(struct files *files, struct lock_request *r)
{
    const struct held_lock *h = lock_held_find(files, r->wish.ino, r->wish.kind, r->wish.owner);
    struct file *f;
    size_t n = 0;

    TAILQ_FOREACH (f, &files->list, link)
        n++;
    r->inos = n > 0 ? calloc(n, sizeof *r->inos) : NULL;
    if (n > 0 && r->inos == NULL)
        return false;
    TAILQ_FOREACH (f, &files->list, link) {
        if (f->life == FILE_LIVE &&
            (lock_has_written(f, r->wish.process) || (h != NULL && lock_has_written(f, h->process))))
            r->inos[r->n_inos++] = f->inode->ino;
    }
    for (size_t i = 0; i < r->n_inos; i++)
        if ((f = file_find(files, r->inos[i])) != NULL)
            publish_start(files, f);
    return true;
}

void lock_start_leaving(struct files *files, struct lock_request *r)
{
    if (!find_staged(files, r))
        lock_finish(files, r, ENOMEM);
    else
        publish_next(files, r);
}
