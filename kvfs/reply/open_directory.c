/* Opening, closing and opening again; what is in one is read by operations_directory.c. */
#include "kvfs/reply/open_directory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvfs/ops/fs.h"

void open_directory_close(struct fs *fs, struct open_directory *d)
{
    if (d == NULL)
        return;
    if (!d->virtual)
        TAILQ_REMOVE(&fs->directories, d, link);
    if (d->pinned)
        link_close_inode(fs, d->ino);
    buffer_deinit(&d->names);
    free(d->offsets);
    free(d);
}

void open_directory_free_all(struct fs *fs)
{
    while (!TAILQ_EMPTY(&fs->directories))
        open_directory_close(fs, TAILQ_FIRST(&fs->directories));
}

static void reply(struct fs *fs, struct request *r, struct open_directory *d)
{
    r->fi.fh = (uint64_t)(uintptr_t)d;
    if (fuse_reply_open(r->fuse, &r->fi) != 0)
        open_directory_close(fs, d);
    request_end(fs, r);
}

void open_directory_reply(struct fs *fs, struct request *r, bool pinned)
{
    struct open_directory *d = calloc(1, sizeof *d);

    if (d == NULL) {
        if (pinned)
            link_close_inode(fs, r->ino);
        request_error(fs, r, ENOMEM);
        return;
    }
    d->ino = r->ino;
    d->uid = r->caller.uid;
    d->pinned = pinned;
    TAILQ_INSERT_TAIL(&fs->directories, d, link);
    reply(fs, r, d);
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

void open_directory_reply_list(struct fs *fs, struct request *r, struct buffer *names, bool reverse)
{
    struct open_directory *d = calloc(1, sizeof *d);

    if (d == NULL || names->failed) {
        free(d);
        request_error(fs, r, ENOMEM);
        return;
    }
    d->virtual = true;
    d->names = *names;
    *names = (struct buffer)BUFFER_INIT; /* consumed */
    if (!index_names(d, reverse)) {
        open_directory_close(fs, d);
        request_error(fs, r, ENOMEM);
        return;
    }
    reply(fs, r, d);
}

static void on_reopened(struct fs *fs, struct request *r, int code, struct cursor *body)
{
    request_end(fs, r); /* reading it tells */
}

void open_directory_reopen_all(struct fs *fs)
{
    struct open_directory *d;

    TAILQ_FOREACH (d, &fs->directories, link) {
        struct request *r = request_begin(fs, NULL);

        d->pinned = r != NULL;
        if (r == NULL)
            continue;
        r->ino = d->ino;
        r->once = true;
        r->deadline_ms = UINT64_MAX;
        r->caller.uid = d->uid;
        link_open_inode(fs, r, d->ino, OPEN_READ, true, on_reopened);
    }
}
