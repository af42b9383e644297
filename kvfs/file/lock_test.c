/* F_GETLK. */
#include "kvfs/file/lock_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

static bool is_in_the_way(const struct call *call, const struct lock_row *row)
{
    const struct lock_wish *w = call->lock.wish;

    return row->kind == LOCK_OF_RANGE && row->wait == 0 && row->start <= w->end && row->end >= w->start &&
           (row->exclusive || w->mode == LOCK_EXCLUSIVE) &&
           (row->session != call->hub->uplink.session || row->owner != w->owner);
}

/* What is locked in a table of this mount's own. */
static void test_here(const struct files *files, const struct lock_wish *w, struct flock *lock_out)
{
    const struct held_lock *h;

    TAILQ_FOREACH (h, &files->locks.held, link) {
        const struct lock_range *r = h->ino == w->ino && h->kind == LOCK_OF_RANGE && h->owner != w->owner
                                         ? lock_ranges_conflict(&h->ranges, w->start, w->end, w->mode)
                                         : NULL;

        if (r == NULL)
            continue;
        lock_out->l_type = r->mode == LOCK_EXCLUSIVE ? F_WRLCK : F_RDLCK;
        lock_out->l_start = (off_t)r->start;
        lock_out->l_len = r->end == LOCK_RANGE_END ? 0 : (off_t)(r->end - r->start + 1);
        lock_out->l_pid = h->process;
        return;
    }
}

/* Another mount has the table, and only that knows: it is to give it back first. */
static void want(struct call *call)
{
    struct files *files = call->hub->files;
    struct lock_request *r = lock_request_new(files, call->fuse, lock_serial(files), call->lock.wish);

    call->fuse = NULL;
    call_end(call);
    if (r == NULL)
        return;
    r->tests = true;
    lock_ask(files, r);
    lock_renew(files);
}

void lock_test_again(struct files *files, struct lock_request *r)
{
    if (r->req != NULL)
        lock_test(files, r->req, &r->wish);
    lock_request_free(files, r);
}

static void on_tested(struct call *call, int code, const union answer_body *answer)
{
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    struct lock_row row;
    struct cursor c;

    if (code != 0) {
        call_fail(call, code);
        return;
    }
    c = rows_cursor(&answer->locks.rows);
    for (uint32_t i = 0; i < answer->locks.rows.count; i++) {
        lock_row_decode(&c, &row);
        if (row.kind == LOCK_DELEGATED && row.session != call->hub->uplink.session) {
            want(call);
            return;
        }
        if (row.kind == LOCK_DELEGATED) {
            test_here(call->hub->files, call->lock.wish, &lock);
            break;
        }
        if (!is_in_the_way(call, &row))
            continue;
        lock.l_type = row.exclusive ? F_WRLCK : F_RDLCK;
        lock.l_start = (off_t)row.start;
        lock.l_len = row.end == LOCK_RANGE_END ? 0 : (off_t)(row.end - row.start + 1);
        /* A number of another machine's would be taken for one of this. */
        lock.l_pid = row.session == call->hub->uplink.session ? (pid_t)row.pid : 0;
        break;
    }
    fuse_reply_lock(call->fuse, &lock);
    call_end(call);
}

void lock_test(struct files *files, fuse_req_t req, const struct lock_wish *wish)
{
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    struct call *call;

    /* Else it is to be asked whether this mount has it still. */
    if (lock_is_here(files, wish->ino) && lock_is_fresh(files)) {
        test_here(files, wish, &lock);
        fuse_reply_lock(req, &lock);
        return;
    }
    call = call_begin(files->hub, req, CALL_LOCK);
    if (call == NULL)
        return;
    call->ino = wish->ino;
    call->lock.wish = malloc(sizeof *wish);
    if (call->lock.wish == NULL) {
        call_error(call, ENOMEM);
        return;
    }
    *call->lock.wish = *wish;
    uplink_send(call, MESSAGE_LOCKS,
                &(union request_body){.locks = {.at = READ_LINEARIZABLE, .ino = wish->ino}}, on_tested);
}
