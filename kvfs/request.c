#include "kvfs/request.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvfs/fs.h"
#include "kvfs/process.h"
#include "kvfs/statx.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"

#define INTERRUPT_AFTER_MS 100

struct request *request_begin(struct fs *fs, fuse_req_t fuse)
{
    struct request *r = calloc(1, sizeof *r);

    if (r == NULL) {
        if (fuse != NULL)
            fuse_reply_err(fuse, ENOMEM);
        return NULL;
    }
    r->fuse = fuse;
    if (fuse != NULL)
        r->caller = *fuse_req_ctx(fuse);
    r->started_ms = clock_boot_ms();
    r->deadline_ms = r->started_ms + fs->options->timeout_ms;
    r->moves = fs->inodes.moves;
    r->notices = fs->notifier.notices;
    TAILQ_INSERT_TAIL(&fs->requests, r, all);
    return r;
}

void request_end(struct fs *fs, struct request *r)
{
    link_cancel(fs, r);
    if (r->waiting != NULL)
        TAILQ_REMOVE(r->waiting, r, place);
    TAILQ_REMOVE(&fs->requests, r, all);
    buffer_deinit(&r->payload);
    buffer_deinit(&r->data);
    free(r->name);
    free(r->new_name);
    free(r);
}

bool request_names(struct request *r, const char *name, const char *new_name)
{
    r->name = strdup(name);
    if (new_name != NULL)
        r->new_name = strdup(new_name);
    return r->name != NULL && (new_name == NULL || r->new_name != NULL);
}

int request_errno(int code)
{
    return code < 0 ? -code : error_errno(code);
}

void request_error(struct fs *fs, struct request *r, int err)
{
    /* Checking permissions on its way, say, the kernel came by an inode that is gone. */
    if ((r->fuse != NULL || r->statx != 0) && err == ESTALE && !retry_is(fs, r->caller.pid))
        retry_note(fs, r->caller.pid, 0);
    if (r->fuse != NULL)
        fuse_reply_err(r->fuse, err);
    else if (r->statx != 0)
        statx_reply_error(fs, r, err);
    request_end(fs, r);
}

void request_fail(struct fs *fs, struct request *r, int code)
{
    bool writes = r->type == 0 || r->type == MESSAGE_WRITE ||
                  (r->type == MESSAGE_OPEN && (r->fi.flags & O_ACCMODE) != O_RDONLY);

    /* "Read-only" is no answer to somebody who wants to read. */
    request_error(fs, r, code == KV_E_ROFS && !writes ? EIO : request_errno(code));
}

void request_wait(struct request *r, struct request_list *list, request_fn *on_answer)
{
    r->on_answer = on_answer;
    r->waiting = list;
    TAILQ_INSERT_TAIL(list, r, place);
}

void request_wake(struct fs *fs, struct request *r, int code)
{
    struct cursor nothing = cursor_of(NULL, 0);

    TAILQ_REMOVE(r->waiting, r, place);
    r->waiting = NULL;
    r->on_answer(fs, r, code, &nothing);
}

void request_wake_all(struct fs *fs, struct request_list *list, int code)
{
    /* Those that come to the list meanwhile wait for the next occasion. */
    struct request *last = TAILQ_LAST(list, request_list);
    bool more = last != NULL;

    while (more) {
        struct request *r = TAILQ_FIRST(list);

        more = r != last;
        request_wake(fs, r, code);
    }
}

void request_progress(struct fs *fs, struct request *r)
{
    if (r->deadline_ms != UINT64_MAX)
        r->deadline_ms = clock_boot_ms() + fs->options->timeout_ms;
}

/* Why a request that nobody answered in time failed. */
static int timeout_code(const struct request *r)
{
    if (r->seq != 0 && r->sends > 0)
        return KV_E_UNKNOWN;
    return r->last_code == KV_E_ROFS || r->last_code == KV_E_NOSPC ? r->last_code : KV_E_UNAVAILABLE;
}

static void give_up(struct fs *fs, struct request *r, int code)
{
    struct cursor nothing = cursor_of(NULL, 0);

    if (r->waiting != NULL) {
        request_wake(fs, r, code);
        return;
    }
    link_cancel(fs, r);
    r->on_answer(fs, r, code, &nothing);
}

/* A page-cache read cannot be interrupted, and a signal with a handler must not
 * fail a system call that is about to succeed (git's progress timer, say): only
 * a process that is being killed is let go before the deadline. */
static bool is_killed(struct request *r, uint64_t now_ms)
{
    bool interrupted = r->fuse != NULL
                           ? now_ms - r->started_ms > INTERRUPT_AFTER_MS && fuse_req_interrupted(r->fuse)
                           : r->statx != 0 && now_ms - r->started_ms > INTERRUPT_AFTER_MS;

    return interrupted && process_is_killed(r->caller.pid);
}

void request_tick(struct fs *fs, uint64_t now_ms)
{
    struct request *r = TAILQ_FIRST(&fs->requests);

    while (r != NULL) {
        struct request *next = TAILQ_NEXT(r, all);

        /* Neither with the link nor waiting: an operation has it in its hands. */
        if (r->number != 0 || r->waiting != NULL) {
            int code = 0;

            if (r->deadline_ms <= now_ms)
                code = timeout_code(r);
            else if (is_killed(r, now_ms))
                code = -EINTR;
            if (code != 0) {
                give_up(fs, r, code);
                /* Anything may have been ended by that. */
                next = TAILQ_FIRST(&fs->requests);
            }
        }
        r = next;
    }
}
