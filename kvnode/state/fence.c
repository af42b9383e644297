/* Fences: a row for each file that has one, in the digest and in state.db. A file has one from the first lock
 * with LOCK_FLAG_FENCE until it goes. */
#include <errno.h>
#include <stdlib.h>

#include "kvnode/state/journal_note.h"
#include "kvnode/state/store_internal.h"

static struct fence *find(const struct store *s, uint64_t ino)
{
    struct fence *f;

    HASH_FIND(hh, s->fences, &ino, sizeof ino, f);
    return f;
}

const struct fence_row *fence_find(const struct store *s, uint64_t ino)
{
    const struct fence *f = find(s, ino);

    return f != NULL ? &f->row : NULL;
}

static int enter(struct store *s, const struct fence_row *row)
{
    struct fence *f = calloc(1, sizeof *f);

    if (f == NULL)
        return -ENOMEM;
    f->row = *row;
    HASH_ADD(hh, s->fences, row.ino, sizeof f->row.ino, f);
    if (f->hh.tbl == NULL) {
        free(f);
        return -ENOMEM;
    }
    s->digest += fence_row_digest(row);
    return 0;
}

/* As if somebody had held the lock until now: no number from before is good. */
int fence_make(struct store *s, uint64_t ino)
{
    struct fence_row row = {.ino = ino, .revision = s->applying, .wall_ns = s->wall_ns, .exclusive = true};

    if (find(s, ino) != NULL)
        return 0;
    if (enter(s, &row) < 0)
        return -ENOMEM;
    journal_fence(s->journal, &row);
    return 0;
}

void fence_granted(struct store *s, uint64_t ino, bool exclusive)
{
    struct fence *f = find(s, ino);

    if (f == NULL || (!exclusive && !f->row.exclusive))
        return;
    s->digest -= fence_row_digest(&f->row);
    f->row.revision = s->applying;
    f->row.wall_ns = s->wall_ns;
    f->row.exclusive = exclusive;
    s->digest += fence_row_digest(&f->row);
    journal_fence(s->journal, &f->row);
}

void fence_drop(struct store *s, uint64_t ino)
{
    struct fence *f = find(s, ino);

    if (f == NULL)
        return;
    s->digest -= fence_row_digest(&f->row);
    journal_fence_gone(s->journal, ino);
    HASH_DELETE(hh, s->fences, f);
    free(f);
}

bool fence_permits(const struct store *s, uint64_t ino, uint64_t fence)
{
    const struct fence *f = find(s, ino);

    return f != NULL && fence == f->row.revision;
}

int fence_load(struct store *s, const struct fence_row *row)
{
    const struct inode *in = inode_find(s, row->ino);

    if (in == NULL || find(s, row->ino) != NULL)
        return -EUCLEAN;
    return enter(s, row);
}

void fences_free(struct store *s)
{
    struct fence *f, *next;

    HASH_ITER(hh, s->fences, f, next)
    {
        HASH_DELETE(hh, s->fences, f);
        free(f);
    }
}
