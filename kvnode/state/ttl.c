/* Times to live, in a binary heap: its own array, since an inode knows its place in it. */
#include <stdlib.h>

#include "kvnode/state/store_internal.h"

/* What there are bits for: more than KV_TTL_MAX_MS. */
#define TTL_MASK ((UINT64_C(1) << 40) - 1)
/* Of the content of what one command removes: so many are freed in one turn. */
#define EXPIRED_CHUNKS_MAX 4096

const struct ttl *ttl_of(const struct ttls *t, const struct inode *in)
{
    return in->ttl > 0 ? &t->heap[in->ttl - 1] : NULL;
}

static void place(struct ttls *t, uint32_t i, const struct ttl *ttl)
{
    t->heap[i] = *ttl;
    ttl->in->ttl = i + 1;
}

/* Into the heap, which has a gap at i, on the way up or down from there. */
static void settle(struct ttls *t, uint32_t i, const struct ttl *ttl)
{
    uint32_t child;

    while (i > 0 && t->heap[(i - 1) / 2].expires_ms > ttl->expires_ms) {
        place(t, i, &t->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    while ((child = 2 * i + 1) < t->n) {
        if (child + 1 < t->n && t->heap[child + 1].expires_ms < t->heap[child].expires_ms)
            child++;
        if (t->heap[child].expires_ms >= ttl->expires_ms)
            break;
        place(t, i, &t->heap[child]);
        i = child;
    }
    place(t, i, ttl);
}

static bool reserve(struct ttls *t)
{
    uint32_t cap = t->cap > 0 ? t->cap + t->cap / 2 : 64;
    struct ttl *heap;

    if (t->n < t->cap)
        return true;
    heap = realloc(t->heap, cap * sizeof *heap); /* a large one is moved by its pages */
    if (heap == NULL)
        return false;
    t->heap = heap;
    t->cap = cap;
    return true;
}

void ttl_put(struct store *s, struct inode *in, uint64_t ttl_ms, uint64_t expires_ms)
{
    struct ttls *t = &s->ttls;
    const struct ttl ttl = {.in = in,
                            .ttl_ms = ttl_ms & TTL_MASK,
                            .expires_ms = in->type == INODE_FILE ? expires_ms : UINT64_MAX};

    if (in->ttl == 0) {
        if (!reserve(t)) {
            s->failed = true;
            return;
        }
        in->ttl = ++t->n;
        t->files += in->type == INODE_FILE;
    }
    settle(t, in->ttl - 1, &ttl);
}

void ttl_drop(struct store *s, struct inode *in)
{
    struct ttls *t = &s->ttls;
    uint32_t at = in->ttl - 1;

    if (in->ttl == 0)
        return;
    in->ttl = 0;
    t->files -= in->type == INODE_FILE;
    t->n--;
    if (at < t->n) {
        const struct ttl last = t->heap[t->n];

        settle(t, at, &last);
    }
}

/* Everything due stands at the top: a walk from there that ends at what is not. */
size_t store_expired(struct store *s, uint64_t now_ms, size_t max, uint32_t round, struct buffer *list,
                     uint64_t *next_ms_out)
{
    const struct ttls *t = &s->ttls;
    uint32_t path[64], depth = 0;
    size_t n = 0, names = 0, chunks = 0;

    *next_ms_out = t->files > 0 ? t->heap[0].expires_ms : UINT64_MAX;
    if (t->files == 0)
        return 0;
    path[depth++] = 0;
    while (depth > 0 && n < COMMAND_EXPIRE_MAX && names < max && chunks < EXPIRED_CHUNKS_MAX) {
        uint32_t i = path[--depth];

        if (i >= t->n || t->heap[i].expires_ms > now_ms)
            continue;
        if (t->heap[i].asked != round) {
            t->heap[i].asked = round & 0xffffff;
            buffer_put_u64(list, t->heap[i].in->ino);
            buffer_put_u64(list, t->heap[i].in->revision);
            names += t->heap[i].in->n_names;
            chunks += value_chunks(t->heap[i].in->size);
            n++;
        }
        path[depth++] = 2 * i + 2;
        path[depth++] = 2 * i + 1;
    }
    return n;
}
