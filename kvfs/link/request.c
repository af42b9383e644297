#include "kvfs/link/request.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvfs/link/core.h"
#include "kvfs/link/statx.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

#define INTERRUPT_AFTER_MS 100
/* A part may take so many times what a request may. */
#define PARTS_TIMES 6
#define DEADLINE_LOG_MS 1000 /* one line for all of so long */

static void free_kind(struct request *r)
{
    switch (r->kind) {
    case REQUEST_RENAME:
        free(r->rename.new_name);
        break;
    case REQUEST_WRITE:
        buffer_deinit(&r->write.data);
        break;
    case REQUEST_OPENDIR:
        buffer_deinit(&r->opendir.names);
        break;
    case REQUEST_PULL:
        buffer_deinit(&r->pull.data);
        break;
    default:
        break;
    }
}

struct request *request_begin(struct core *core, fuse_req_t fuse, enum request_kind kind)
{
    struct request *r = calloc(1, sizeof *r);

    if (r == NULL) {
        if (fuse != NULL)
            fuse_reply_err(fuse, ENOMEM);
        return NULL;
    }
    r->core = core;
    r->kind = kind;
    r->serial = ++core->requests.serials;
    r->fuse = fuse;
    if (fuse != NULL)
        r->caller = *fuse_req_ctx(fuse);
    r->started_ms = clock_boot_ms();
    r->deadline_ms = r->started_ms + core->options->timeout_ms;
    r->began = core->marks;
    TAILQ_INSERT_TAIL(&core->requests.all, r, all);
    return r;
}

void request_end(struct request *r)
{
    struct core *core = r->core;

    link_cancel(r);
    if (r->waiting != NULL)
        TAILQ_REMOVE(r->waiting, r, place);
    if (core->requests.ticked_next == r)
        core->requests.ticked_next = TAILQ_NEXT(r, all);
    TAILQ_REMOVE(&core->requests.all, r, all);
    buffer_deinit(&r->payload);
    free_kind(r);
    free(r->name);
    free(r);
}

bool request_name(struct request *r, const char *name)
{
    r->name = strdup(name);
    return r->name != NULL;
}

int request_errno(int code)
{
    return code < 0 ? -code : error_errno(code);
}

void request_error(struct request *r, int err)
{
    struct core *core = r->core;

    /* Checking permissions on its way, say, the kernel came by an inode that is gone. */
    if ((r->fuse != NULL || r->statx != 0) && err == ESTALE && !retry_is(core, r->caller.pid))
        retry_note(core, r->caller.pid, 0);
    if (r->fuse != NULL)
        fuse_reply_err(r->fuse, err);
    else if (r->statx != 0)
        statx_reply_error(r, err);
    request_end(r);
}

void request_fail(struct request *r, int code)
{
    bool writes =
        r->type == 0 || r->type == MESSAGE_WRITE ||
        (r->type == MESSAGE_OPEN && r->kind == REQUEST_OPEN && (r->open.fi.flags & O_ACCMODE) != O_RDONLY);

    /* "Read-only" is no answer to somebody who wants to read. */
    request_error(r, code == KV_E_ROFS && !writes ? EIO : request_errno(code));
}

void request_fail_inode(struct request *r, int code)
{
    request_fail(r, code == KV_E_NOENT ? KV_E_STALE : code);
}

void request_wait(struct request *r, struct request_list *list, request_fn *on_answer)
{
    r->on_answer = on_answer;
    r->waiting = list;
    TAILQ_INSERT_TAIL(list, r, place);
}

void request_wake(struct request *r, int code)
{
    struct cursor nothing = cursor_of(NULL, 0);

    TAILQ_REMOVE(r->waiting, r, place);
    r->waiting = NULL;
    r->on_answer(r, code, &nothing);
}

void request_wake_all(struct request_list *list, int code)
{
    /* Those that come to the list meanwhile wait for the next occasion. */
    struct request *last = TAILQ_LAST(list, request_list);
    bool more = last != NULL;

    while (more) {
        struct request *r = TAILQ_FIRST(list);

        more = r != last;
        request_wake(r, code);
    }
}

void request_progress(struct request *r)
{
    if (r->deadline_ms != UINT64_MAX)
        r->deadline_ms = clock_boot_ms() + r->core->options->timeout_ms;
}

/* Why a request that nobody answered in time failed. */
static int timeout_code(const struct request *r)
{
    if (r->seq != 0 && r->sends > 0)
        return KV_E_UNKNOWN;
    return r->last_code == KV_E_ROFS || r->last_code == KV_E_NOSPC ? r->last_code : KV_E_UNAVAILABLE;
}

static struct request_wait wait_of(const struct request *r)
{
    struct request_wait wait = {.on = r};

    if (r->waiting != NULL)
        r->core->owner->describe_wait(r, &wait);
    return wait;
}

/* A close waits for parts that a busy cluster takes slowly: the node has them, is there,
 * and has refused nothing. A small request is never so long in a node that works. */
static bool is_slow(const struct request *r, uint64_t now_ms)
{
    const struct core *core = r->core;
    struct request_wait wait = wait_of(r);

    return wait.n_parts > 0 && core->link.client != NULL && wait.on->sent && wait.on->last_code == 0 &&
           now_ms - r->deadline_ms < (PARTS_TIMES - 1) * core->options->timeout_ms;
}

/* What became of a request that a program waited for in vain. */
static void log_deadline(const struct request *r, uint64_t now_ms)
{
    struct request_table *t = &r->core->requests;
    const struct link *l = &r->core->link;
    struct request_wait wait = wait_of(r);
    const struct request *on = wait.on;
    const char *what = wait.what;
    char parts[64] = "";

    if (r->fuse == NULL || now_ms - t->deadline_logged_ms < DEADLINE_LOG_MS) {
        t->deadlines_unlogged += r->fuse != NULL;
        return;
    }
    if (what == NULL)
        what = on->type == MESSAGE_WRITE ? command_op_name(on->op) : "an answer";
    if (wait.n_parts > 0)
        snprintf(parts, sizeof parts, ", part %u of %u", wait.part, wait.n_parts);
    log_warn("process %d, inode %" PRIu64 "%s%s: not answered within %" PRIu64
             " ms: waited for %s%s, %s node %s, %s%s",
             (int)r->caller.pid, r->ino != 0 ? r->ino : r->parent, r->name != NULL ? ", name " : "",
             r->name != NULL ? r->name : "", now_ms - r->started_ms, what, parts,
             l->client != NULL ? "connected to" : "not connected; last", l->node.name,
             on->last_code != 0 ? error_text(on->last_code) : "no reason given",
             on->sent ? "" : ", to be sent again");
    if (t->deadlines_unlogged > 0)
        log_warn("%u more before that", t->deadlines_unlogged);
    t->deadline_logged_ms = now_ms;
    t->deadlines_unlogged = 0;
}

static void give_up(struct request *r, int code)
{
    struct cursor nothing = cursor_of(NULL, 0);

    if (r->waiting != NULL) {
        request_wake(r, code);
        return;
    }
    link_cancel(r);
    r->on_answer(r, code, &nothing);
}

/* A page-cache read cannot be interrupted, and a signal with a handler must not
 * fail a system call that is about to succeed (git's progress timer, say): only
 * a process that is being killed is let go before the deadline. */
static bool may_be_killed(struct request *r, uint64_t now_ms)
{
    if (now_ms - r->started_ms <= INTERRUPT_AFTER_MS)
        return false;
    return r->fuse != NULL ? fuse_req_interrupted(r->fuse) : r->statx != 0;
}

unsigned request_tick(struct core *core, uint64_t now_ms, struct suspect *suspects_out, unsigned max)
{
    struct request *r = TAILQ_FIRST(&core->requests.all);
    unsigned n = 0;

    while (r != NULL) {
        core->requests.ticked_next = TAILQ_NEXT(r, all);
        /* Neither with the link nor waiting: an operation has it in its hands. */
        if (r->number != 0 || r->waiting != NULL) {
            if (r->deadline_ms <= now_ms && !is_slow(r, now_ms)) {
                log_deadline(r, now_ms);
                give_up(r, timeout_code(r));
            } else if (n < max && may_be_killed(r, now_ms)) {
                suspects_out[n++] = (struct suspect){.serial = r->serial, .thread = r->caller.pid};
            }
        }
        r = core->requests.ticked_next;
    }
    core->requests.ticked_next = NULL;
    return n;
}

void request_interrupt(struct core *core, uint64_t serial)
{
    struct request *r;

    TAILQ_FOREACH (r, &core->requests.all, all) {
        if (r->serial == serial)
            break;
    }
    if (r != NULL && (r->number != 0 || r->waiting != NULL))
        give_up(r, -EINTR);
}
