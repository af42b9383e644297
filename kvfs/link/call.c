#include "kvfs/link/call.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvfs/link/hub.h"
#include "kvfs/link/statx.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

#define INTERRUPT_AFTER_MS 100
/* A part may take so many times what a call may. */
#define PARTS_TIMES 6
#define DEADLINE_LOG_MS 1000 /* one line for all of so long */

static void free_kind(struct call *call)
{
    switch (call->kind) {
    case CALL_RENAME:
        free(call->rename.new_name);
        break;
    case CALL_OPEN:
        free(call->open.groups);
        break;
    case CALL_WRITE:
        buffer_deinit(&call->write.data);
        break;
    case CALL_COPY:
        buffer_deinit(&call->copy.data);
        break;
    case CALL_OPENDIR:
        buffer_deinit(&call->opendir.names);
        break;
    case CALL_PULL:
        buffer_deinit(&call->pull.data);
        break;
    case CALL_LOCK:
        free(call->lock.wish);
        break;
    default:
        break;
    }
}

struct call *call_begin(struct hub *hub, fuse_req_t fuse, enum call_kind kind)
{
    struct call *call = calloc(1, sizeof *call);

    if (call == NULL) {
        if (fuse != NULL)
            fuse_reply_err(fuse, ENOMEM);
        return NULL;
    }
    call->hub = hub;
    call->kind = kind;
    call->serial = ++hub->calls.serials;
    call->fuse = fuse;
    if (fuse != NULL)
        call->caller = *fuse_req_ctx(fuse);
    call->started_ms = clock_boot_ms();
    call->deadline_ms = call->started_ms + hub->options->timeout_ms;
    call->began = hub->marks;
    TAILQ_INSERT_TAIL(&hub->calls.all, call, all);
    return call;
}

void call_end(struct call *call)
{
    struct hub *hub = call->hub;

    uplink_cancel(call);
    if (call->waiting != NULL)
        TAILQ_REMOVE(call->waiting, call, place);
    if (hub->calls.ticked_next == call)
        hub->calls.ticked_next = TAILQ_NEXT(call, all);
    TAILQ_REMOVE(&hub->calls.all, call, all);
    buffer_deinit(&call->payload);
    free_kind(call);
    free(call->name);
    free(call);
}

bool call_name(struct call *call, const char *name)
{
    call->name = strdup(name);
    return call->name != NULL;
}

int call_errno(int code)
{
    return code < 0 ? -code : error_errno(code);
}

void call_error(struct call *call, int err)
{
    struct hub *hub = call->hub;

    /* Checking permissions on its way, say, the kernel came by an inode that is gone. */
    if ((call->fuse != NULL || call->statx != 0) && err == ESTALE && !retry_is(hub, call->caller.pid))
        retry_note(hub, call->caller.pid, 0);
    if (call->fuse != NULL)
        fuse_reply_err(call->fuse, err);
    else if (call->statx != 0)
        statx_reply_error(call, err);
    call_end(call);
}

void call_fail(struct call *call, int code)
{
    bool writes = call->type == 0 || call->type == MESSAGE_WRITE ||
                  (call->type == MESSAGE_OPEN && call->kind == CALL_OPEN &&
                   (call->open.fi.flags & O_ACCMODE) != O_RDONLY);

    /* "Read-only" is no answer to somebody who wants to read. */
    call_error(call, code == KV_E_ROFS && !writes ? EIO : call_errno(code));
}

void call_fail_inode(struct call *call, int code)
{
    call_fail(call, code == KV_E_NOENT ? KV_E_STALE : code);
}

void call_wait(struct call *call, struct call_list *list, call_fn *on_answer)
{
    call->on_answer = on_answer;
    call->waiting = list;
    TAILQ_INSERT_TAIL(list, call, place);
}

void call_wake(struct call *call, int code)
{
    TAILQ_REMOVE(call->waiting, call, place);
    call->waiting = NULL;
    call->on_answer(call, code, NULL);
}

void call_wake_all(struct call_list *list, int code)
{
    /* Those that come to the list meanwhile wait for the next occasion. */
    struct call *last = TAILQ_LAST(list, call_list);
    bool more = last != NULL;

    while (more) {
        struct call *call = TAILQ_FIRST(list);

        more = call != last;
        call_wake(call, code);
    }
}

void call_progress(struct call *call)
{
    if (call->deadline_ms != UINT64_MAX)
        call->deadline_ms = clock_boot_ms() + call->hub->options->timeout_ms;
}

/* Why a call that nobody answered in time failed. */
static int timeout_code(const struct call *call)
{
    if (call->seq != 0 && call->sends > 0)
        return KV_E_UNKNOWN;
    return call->last_code == KV_E_ROFS || call->last_code == KV_E_NOSPC ? call->last_code : KV_E_UNAVAILABLE;
}

static struct call_wait wait_of(const struct call *call)
{
    struct call_wait wait = {.on = call};

    if (call->waiting != NULL)
        call->hub->owner->describe_wait(call, &wait);
    return wait;
}

/* A close waits for parts that a busy cluster takes slowly: the node has them, is there,
 * and has refused nothing. A small one is never so long in a node that works. */
static bool is_slow(const struct call *call, uint64_t now_ms)
{
    const struct hub *hub = call->hub;
    struct call_wait wait = wait_of(call);

    return wait.n_parts > 0 && hub->uplink.client != NULL && wait.on->sent && wait.on->last_code == 0 &&
           now_ms - call->deadline_ms < (PARTS_TIMES - 1) * hub->options->timeout_ms;
}

/* What became of a call that a program waited for in vain. */
static void log_deadline(const struct call *call, uint64_t now_ms)
{
    struct call_table *t = &call->hub->calls;
    const struct uplink *u = &call->hub->uplink;
    struct call_wait wait = wait_of(call);
    const struct call *on = wait.on;
    const char *what = wait.what;
    char parts[64] = "";

    if (call->fuse == NULL || now_ms - t->deadline_logged_ms < DEADLINE_LOG_MS) {
        t->deadlines_unlogged += call->fuse != NULL;
        return;
    }
    if (what == NULL)
        what = on->type == MESSAGE_WRITE ? command_op_name(on->op) : "an answer";
    if (wait.n_parts > 0)
        snprintf(parts, sizeof parts, ", part %u of %u", wait.part, wait.n_parts);
    log_warn("process %d, inode %" PRIu64 "%s%s: not answered within %" PRIu64
             " ms: waited for %s%s, %s node %s, %s%s",
             (int)call->caller.pid, call->ino != 0 ? call->ino : call->parent,
             call->name != NULL ? ", name " : "", call->name != NULL ? call->name : "",
             now_ms - call->started_ms, what, parts,
             u->client != NULL ? "connected to" : "not connected; last", u->node.name,
             on->last_code != 0 ? error_text(on->last_code) : "no reason given",
             on->sent ? "" : ", to be sent again");
    if (t->deadlines_unlogged > 0)
        log_warn("%u more before that", t->deadlines_unlogged);
    t->deadline_logged_ms = now_ms;
    t->deadlines_unlogged = 0;
}

static void give_up(struct call *call, int code)
{
    if (call->waiting != NULL) {
        call_wake(call, code);
        return;
    }
    uplink_cancel(call);
    call->on_answer(call, code, NULL);
}

/* A page-cache read cannot be interrupted, and a signal with a handler must not
 * fail a system call that is about to succeed (git's progress timer, say): only
 * a process that is being killed is let go before the deadline. */
static bool may_be_killed(struct call *call, uint64_t now_ms)
{
    if (now_ms - call->started_ms <= INTERRUPT_AFTER_MS)
        return false;
    return call->fuse != NULL ? fuse_req_interrupted(call->fuse) : call->statx != 0;
}

unsigned call_tick(struct hub *hub, uint64_t now_ms, struct suspect *suspects_out, unsigned max)
{
    struct call *call = TAILQ_FIRST(&hub->calls.all);
    unsigned n = 0;

    while (call != NULL) {
        hub->calls.ticked_next = TAILQ_NEXT(call, all);
        /* Neither with the link nor waiting: an operation has it in its hands. */
        if (call->number != 0 || call->waiting != NULL) {
            if (call->deadline_ms <= now_ms && !is_slow(call, now_ms)) {
                log_deadline(call, now_ms);
                give_up(call, timeout_code(call));
            } else if (n < max && may_be_killed(call, now_ms)) {
                suspects_out[n++] = (struct suspect){.serial = call->serial, .thread = call->caller.pid};
            }
        }
        call = hub->calls.ticked_next;
    }
    hub->calls.ticked_next = NULL;
    return n;
}

void call_interrupt(struct hub *hub, uint64_t serial)
{
    struct call *call;

    TAILQ_FOREACH (call, &hub->calls.all, all) {
        if (call->serial == serial)
            break;
    }
    if (call != NULL && (call->number != 0 || call->waiting != NULL))
        give_up(call, -EINTR);
}
