/* Opening, closing and opening again; what is in one is read by operations_directory.c. */
#include "kvfs/reply/open_directory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvfs/link/core.h"

void open_directories_init(struct open_directories *directories, struct core *core)
{
    directories->core = core;
    core->directories = directories;
    TAILQ_INIT(&directories->list);
}

void open_directory_close(struct open_directories *directories, struct open_directory *d)
{
    if (d == NULL)
        return;
    if (!d->virtual)
        TAILQ_REMOVE(&directories->list, d, link);
    if (d->pinned)
        link_close_inode(directories->core, d->ino);
    buffer_deinit(&d->names);
    free(d->offsets);
    free(d);
}

void open_directories_deinit(struct open_directories *directories)
{
    while (!TAILQ_EMPTY(&directories->list))
        open_directory_close(directories, TAILQ_FIRST(&directories->list));
}

static void reply(struct request *r, struct open_directory *d)
{
    struct open_directories *directories = r->core->directories;

    r->opendir.fi.fh = (uint64_t)(uintptr_t)d;
    if (fuse_reply_open(r->fuse, &r->opendir.fi) != 0)
        open_directory_close(directories, d);
    request_end(r);
}

void open_directory_reply(struct request *r, bool pinned)
{
    struct open_directories *directories = r->core->directories;
    struct open_directory *d = calloc(1, sizeof *d);

    if (d == NULL) {
        if (pinned)
            link_close_inode(r->core, r->ino);
        request_error(r, ENOMEM);
        return;
    }
    d->ino = r->ino;
    d->uid = r->caller.uid;
    d->pinned = pinned;
    TAILQ_INSERT_TAIL(&directories->list, d, link);
    reply(r, d);
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

void open_directory_reply_list(struct request *r, struct buffer *names, bool reverse)
{
    struct open_directories *directories = r->core->directories;
    struct open_directory *d = calloc(1, sizeof *d);

    if (d == NULL || names->failed) {
        free(d);
        request_error(r, ENOMEM);
        return;
    }
    d->virtual = true;
    d->names = *names;
    *names = (struct buffer)BUFFER_INIT; /* consumed */
    if (!index_names(d, reverse)) {
        open_directory_close(directories, d);
        request_error(r, ENOMEM);
        return;
    }
    reply(r, d);
}

static void on_reopened(struct request *r, int code, struct cursor *body)
{
    request_end(r); /* reading it tells */
}

void open_directories_reopen(struct open_directories *directories)
{
    struct open_directory *d;

    TAILQ_FOREACH (d, &directories->list, link) {
        struct request *r = request_begin(directories->core, NULL, REQUEST_PLAIN);

        d->pinned = r != NULL;
        if (r == NULL)
            continue;
        r->ino = d->ino;
        r->once = true;
        r->deadline_ms = UINT64_MAX;
        r->caller.uid = d->uid;
        link_open_inode(r, d->ino, OPEN_READ, true, on_reopened);
    }
}
