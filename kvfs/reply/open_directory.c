/* Opening, closing and opening again; what is in one is read by operations_directory.c. */
#include "kvfs/reply/open_directory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvfs/link/hub.h"

void open_directories_init(struct open_directories *directories, struct hub *hub)
{
    directories->hub = hub;
    hub->directories = directories;
    TAILQ_INIT(&directories->list);
}

void open_directory_close(struct open_directories *directories, struct open_directory *d)
{
    if (d == NULL)
        return;
    if (!d->virtual)
        TAILQ_REMOVE(&directories->list, d, link);
    if (d->pinned)
        uplink_close_inode(directories->hub, d->ino);
    buffer_deinit(&d->names);
    free(d->offsets);
    free(d);
}

void open_directories_deinit(struct open_directories *directories)
{
    while (!TAILQ_EMPTY(&directories->list))
        open_directory_close(directories, TAILQ_FIRST(&directories->list));
}

static void reply(struct call *call, struct open_directory *d)
{
    struct open_directories *directories = call->hub->directories;

    call->opendir.fi.fh = (uint64_t)(uintptr_t)d;
    if (fuse_reply_open(call->fuse, &call->opendir.fi) != 0)
        open_directory_close(directories, d);
    call_end(call);
}

void open_directory_reply(struct call *call, bool pinned)
{
    struct open_directories *directories = call->hub->directories;
    struct open_directory *d = calloc(1, sizeof *d);

    if (d == NULL) {
        if (pinned)
            uplink_close_inode(call->hub, call->ino);
        call_error(call, ENOMEM);
        return;
    }
    d->ino = call->ino;
    d->uid = call->caller.uid;
    d->pinned = pinned;
    TAILQ_INSERT_TAIL(&directories->list, d, link);
    reply(call, d);
}

static bool index_names(struct open_directory *d, bool reverse)
{
    size_t at, n = 0, i;

    for (at = 0; at < d->names.len; at += strlen((const char *)d->names.data + at) + 1)
        n++;
    d->offsets = calloc(n + 1, sizeof *d->offsets);
    if (d->offsets == NULL)
        return false;
    d->n = n;
    for (at = 0, i = 0; i < n; at += strlen((const char *)d->names.data + at) + 1, i++)
        d->offsets[reverse ? n - 1 - i : i] = at;
    return true;
}

void open_directory_reply_list(struct call *call, struct buffer *names, bool reverse)
{
    struct open_directories *directories = call->hub->directories;
    struct open_directory *d = calloc(1, sizeof *d);

    if (d == NULL || names->failed) {
        free(d);
        call_error(call, ENOMEM);
        return;
    }
    d->virtual = true;
    d->names = *names;
    *names = (struct buffer)BUFFER_INIT; /* consumed */
    if (!index_names(d, reverse)) {
        open_directory_close(directories, d);
        call_error(call, ENOMEM);
        return;
    }
    reply(call, d);
}

static void on_reopened(struct call *call, int code, const union answer_body *answer)
{
    call_end(call); /* reading it tells */
}

void open_directories_reopen(struct open_directories *directories)
{
    struct open_directory *d;

    TAILQ_FOREACH (d, &directories->list, link) {
        struct call *call = call_begin(directories->hub, NULL, CALL_PLAIN);

        d->pinned = call != NULL;
        if (call == NULL)
            continue;
        call->ino = d->ino;
        call->once = true;
        call->deadline_ms = UINT64_MAX;
        call->caller.uid = d->uid;
        uplink_open_inode(call, d->ino, OPEN_READ, true, on_reopened);
    }
}
