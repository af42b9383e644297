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
    struct call *call = call_begin(files->hub, req, CALL_LOCK);

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
