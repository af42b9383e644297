#include "kvfs/link/request.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvfs/link/statx.h"
#include "kvfs/ops/fs.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

#define INTERRUPT_AFTER_MS 100
/* A part may take so many times what a request may. */
#define PARTS_TIMES 6
#define DEADLINE_LOG_MS 1000 /* one line for all of so long */

struct request *request_begin(struct fs *fs, fuse_req_t fuse)
{
    struct request *r = calloc(1, sizeof *r);

    if (r == NULL) {
        if (fuse != NULL)
            fuse_reply_err(fuse, ENOMEM);
        return NULL;
    }
    r->serial = ++fs->serials;
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
    if (fs->ticked_next == r)
        fs->ticked_next = TAILQ_NEXT(r, all);
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

/* A close waits for parts that a busy cluster takes slowly: the node has them, is there,
 * and has refused nothing. A small request is never so long in a node that works. */
static bool is_slow(struct fs *fs, const struct request *r, uint64_t now_ms)
{
    const struct inode *inode = r->waiting != NULL && r->ino != 0 ? inode_find(fs, r->ino) : NULL;
    const struct file *f = inode != NULL ? inode->file : NULL;
    const struct request *on = f != NULL ? f->publication : NULL;

    return on != NULL && f->n_parts > 0 && fs->link.client != NULL && on->sent && on->last_code == 0 &&
           now_ms - r->deadline_ms < (PARTS_TIMES - 1) * fs->options->timeout_ms;
}

/* What became of a request that a program waited for in vain. */
static void log_deadline(struct fs *fs, const struct request *r, uint64_t now_ms)
{
    const struct link *l = &fs->link;
    struct inode *inode = r->ino != 0 ? inode_find(fs, r->ino) : NULL;
    const struct file *f = inode != NULL ? inode->file : NULL;
    const struct request *on = r->waiting != NULL && f != NULL && f->publication != NULL ? f->publication : r;
    const char *what = "an answer";
    char parts[64] = "";

    if (r->fuse == NULL || now_ms - fs->deadline_logged_ms < DEADLINE_LOG_MS) {
        fs->deadlines_unlogged += r->fuse != NULL;
        return;
    }
    if (r->waiting == &fs->reserve.waiting)
        what = "room in the cluster";
    else if (r->waiting != NULL && on == r)
        what = f != NULL && f->queued ? "its turn to be published" : "the kernel or a publication";
    else if (on->type == MESSAGE_WRITE)
        what = command_op_name(on->op);
    if (on != r && f->n_parts > 0)
        snprintf(parts, sizeof parts, ", part %u of %u", f->part_acked, f->n_parts);
    log_warn("process %d, inode %" PRIu64 "%s%s: not answered within %" PRIu64
             " ms: waited for %s%s, %s node %s, %s%s",
             (int)r->caller.pid, r->ino != 0 ? r->ino : r->parent, r->name != NULL ? ", name " : "",
             r->name != NULL ? r->name : "", now_ms - r->started_ms, what, parts,
             l->client != NULL ? "connected to" : "not connected; last", l->node.name,
             on->last_code != 0 ? error_text(on->last_code) : "no reason given",
             on->sent ? "" : ", to be sent again");
    if (fs->deadlines_unlogged > 0)
        log_warn("%u more before that", fs->deadlines_unlogged);
    fs->deadline_logged_ms = now_ms;
    fs->deadlines_unlogged = 0;
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
static bool may_be_killed(struct request *r, uint64_t now_ms)
{
    if (now_ms - r->started_ms <= INTERRUPT_AFTER_MS)
        return false;
    return r->fuse != NULL ? fuse_req_interrupted(r->fuse) : r->statx != 0;
}

unsigned request_tick(struct fs *fs, uint64_t now_ms, struct suspect *suspects_out, unsigned max)
{
    struct request *r = TAILQ_FIRST(&fs->requests);
    unsigned n = 0;

    while (r != NULL) {
        fs->ticked_next = TAILQ_NEXT(r, all);
        /* Neither with the link nor waiting: an operation has it in its hands. */
        if (r->number != 0 || r->waiting != NULL) {
            if (r->deadline_ms <= now_ms && !is_slow(fs, r, now_ms)) {
                log_deadline(fs, r, now_ms);
                give_up(fs, r, timeout_code(r));
            } else if (n < max && may_be_killed(r, now_ms)) {
                suspects_out[n++] = (struct suspect){.serial = r->serial, .thread = r->caller.pid};
            }
        }
        r = fs->ticked_next;
    }
    fs->ticked_next = NULL;
    return n;
}

void request_interrupt(struct fs *fs, uint64_t serial)
{
    struct request *r;

    TAILQ_FOREACH (r, &fs->requests, all) {
        if (r->serial == serial)
            break;
    }
    if (r != NULL && (r->number != 0 || r->waiting != NULL))
        give_up(fs, r, -EINTR);
}
