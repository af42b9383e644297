/* Chunk lists. A draft takes a reference to every chunk of its base, so a chunk
 * with one reference can only be the draft's own, made by an earlier edit of the
 * same command, and may be changed in place. Such a change gives it a new id when
 * it touches bytes that may already be stored under the old one. */
#include "kvnode/state/value.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/digest.h"

/* A truncated chunk is copied when that frees at least this much. */
#define CHUNK_WASTE_MAX 16384

static const uint8_t zeros[KV_CHUNK_SIZE];

struct chunk *chunk_new(uint64_t id, uint32_t cap)
{
    struct chunk *c = malloc(offsetof(struct chunk, data) + cap);

    if (c == NULL)
        return NULL;
    atomic_init(&c->refs, 1);
    c->cap = cap;
    c->used = 0;
    c->queued = 0;
    c->id = id;
    c->slot = 0;
    c->superseded = false;
    c->history = false;
    return c;
}

struct chunk *chunk_ref(struct chunk *c)
{
    if (c != NULL)
        atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void chunk_unref(struct chunk *c)
{
    if (c != NULL && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
        free(c);
}

static bool chunk_is_own(const struct chunk *c)
{
    return atomic_load_explicit(&c->refs, memory_order_acquire) == 1;
}

uint64_t chunk_term(size_t i, const uint8_t *data, uint32_t len)
{
    return digest64((uint64_t)i + 1, data != NULL ? data : zeros, len);
}

void value_deinit(struct value *v)
{
    size_t n = value_chunks(v->size);

    for (size_t i = 0; i < n; i++)
        chunk_unref(value_list(v)[i]);
    if (n > 1)
        free(v->c.list);
    *v = (struct value){0};
}

void value_read(const struct value *v, uint64_t offset, uint64_t len, struct buffer *out)
{
    struct chunk *const *list = value_list(v);

    if (offset >= v->size)
        return;
    if (len > v->size - offset)
        len = v->size - offset;
    if (!buffer_reserve(out, len))
        return;
    while (len > 0) {
        const struct chunk *c = list[offset / KV_CHUNK_SIZE];
        uint32_t at = (uint32_t)(offset % KV_CHUNK_SIZE);
        uint64_t n = KV_CHUNK_SIZE - at < len ? KV_CHUNK_SIZE - at : len;

        buffer_put_bytes(out, c != NULL ? c->data + at : zeros, n);
        offset += n;
        len -= n;
    }
}

static uint64_t list_term(struct chunk *const *list, uint64_t size, size_t i)
{
    return chunk_term(i, list[i] != NULL ? list[i]->data : NULL, value_chunk_len(size, i));
}

uint64_t value_digest(const struct value *v)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < value_chunks(v->size); i++)
        sum += list_term(value_list(v), v->size, i);
    return sum;
}

int draft_begin(struct draft *d, const struct value *base, uint64_t *next_id)
{
    size_t n = value_chunks(base->size);

    *d = (struct draft){.size = base->size, .next_id = next_id, .cap = n > 0 ? n : 1};
    d->list = malloc(d->cap * sizeof *d->list);
    if (d->list == NULL) {
        *d = (struct draft){0};
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++)
        d->list[i] = chunk_ref(value_list(base)[i]);
    return 0;
}

void draft_discard(struct draft *d)
{
    for (size_t i = 0; i < value_chunks(d->size); i++)
        chunk_unref(d->list[i]);
    free(d->list);
    *d = (struct draft){0};
}

/* Puts `fresh` in the place of chunk i. */
static void draft_replace(struct draft *d, size_t i, struct chunk *fresh)
{
    chunk_unref(d->list[i]);
    d->list[i] = fresh;
}

/* A chunk of the draft's own for place i with room for cap bytes, holding the
 * first `keep` bytes of what is there. */
static struct chunk *draft_copy(struct draft *d, size_t i, uint32_t keep, uint32_t cap)
{
    struct chunk *old = d->list[i];
    struct chunk *fresh = chunk_new((*d->next_id)++, cap);

    if (fresh == NULL)
        return NULL;
    if (keep > 0)
        memcpy(fresh->data, old != NULL ? old->data : zeros, keep);
    fresh->used = keep;
    draft_replace(d, i, fresh);
    return fresh;
}

/* Makes chunk i, of old_len bytes, len bytes long by adding `data`. */
static int draft_extend(struct draft *d, size_t i, uint32_t old_len, const uint8_t *data, uint32_t len)
{
    struct chunk *c = d->list[i];
    bool extensible = c != NULL && !c->superseded && c->used == old_len && (!d->apart || chunk_is_own(c));

    if (!extensible) {
        c = draft_copy(d, i, old_len, len);
    } else if (c->cap < len) {
        uint32_t cap = c->cap < KV_CHUNK_SIZE / 2 ? 2 * c->cap : KV_CHUNK_SIZE;
        struct chunk *larger = chunk_new(c->id, cap < len ? len : cap);

        if (larger == NULL)
            return -ENOMEM;
        memcpy(larger->data, c->data, old_len);
        larger->queued = c->queued;
        larger->slot = c->slot;
        larger->history = c->history;
        c->superseded = true;
        draft_replace(d, i, larger);
        c = larger;
    }
    if (c == NULL)
        return -ENOMEM;
    memcpy(c->data + old_len, data, len - old_len);
    c->used = len;
    return 0;
}

/* Overwrites [at, at + n) of chunk i, whose length goes from old_len to len. */
static int draft_overwrite(struct draft *d, size_t i, uint32_t old_len, uint32_t at, const uint8_t *data,
                           uint32_t n)
{
    struct chunk *c = d->list[i];
    uint32_t len = at + n > old_len ? at + n : old_len, cap = len;

    if (c == NULL || !chunk_is_own(c) || c->cap < len) {
        /* Our own that grows again: not once for each byte. */
        if (c != NULL && chunk_is_own(c) && 2 * c->cap > len)
            cap = 2 * c->cap < KV_CHUNK_SIZE ? 2 * c->cap : KV_CHUNK_SIZE;
        c = draft_copy(d, i, at == 0 && n >= old_len ? 0 : old_len, cap);
        if (c == NULL)
            return -ENOMEM;
    } else {
        c->id = (*d->next_id)++;
        c->queued = 0;
        c->slot = 0;
        c->history = false;
        c->superseded = false;
    }
    memcpy(c->data + at, data, n);
    c->used = len;
    return 0;
}

/* How many of the n bytes at `at` the existing part of chunk i already has: all
 * of them that it covers, or 0. */
static uint32_t draft_same(const struct draft *d, size_t i, uint32_t old_len, uint32_t at,
                           const uint8_t *data, uint32_t n)
{
    const struct chunk *c = d->list[i];
    uint32_t covered = at + n <= old_len ? n : old_len - at;

    return c != NULL && memcmp(c->data + at, data, covered) == 0 ? covered : 0;
}

static int draft_grow(struct draft *d, uint64_t size)
{
    size_t n = value_chunks(d->size), m = value_chunks(size);
    uint32_t last_len;

    if (n > 0 && d->list[n - 1] != NULL) {
        last_len = value_chunk_len(d->size, n - 1);
        if (value_chunk_len(size, n - 1) > last_len) {
            int rv = draft_extend(d, n - 1, last_len, zeros, value_chunk_len(size, n - 1));

            if (rv < 0)
                return rv;
        }
    }
    if (m > d->cap) {
        size_t cap = d->cap * 2 > m ? d->cap * 2 : m;
        struct chunk **list = realloc(d->list, cap * sizeof *list);

        if (list == NULL)
            return -ENOMEM;
        d->list = list;
        d->cap = cap;
    }
    for (size_t i = n; i < m; i++)
        d->list[i] = NULL;
    d->size = size;
    return 0;
}

int draft_truncate(struct draft *d, uint64_t size)
{
    size_t m = value_chunks(size);

    if (size >= d->size)
        return size > d->size ? draft_grow(d, size) : 0;
    for (size_t i = m; i < value_chunks(d->size); i++)
        chunk_unref(d->list[i]);
    d->size = size;
    if (m > 0 && d->list[m - 1] != NULL) {
        uint32_t len = value_chunk_len(size, m - 1);

        if (d->list[m - 1]->cap - len > CHUNK_WASTE_MAX && draft_copy(d, m - 1, len, len) == NULL)
            return -ENOMEM;
    }
    return 0;
}

int draft_write(struct draft *d, uint64_t offset, const uint8_t *data, size_t len)
{
    int rv = 0;

    if (len == 0)
        return 0;
    if (offset > d->size)
        rv = draft_grow(d, offset);
    while (rv == 0 && len > 0) {
        size_t i = (size_t)(offset / KV_CHUNK_SIZE);
        uint32_t at = (uint32_t)(offset % KV_CHUNK_SIZE);
        uint32_t n = KV_CHUNK_SIZE - at < len ? KV_CHUNK_SIZE - at : (uint32_t)len;
        uint32_t old_len = i < value_chunks(d->size) ? value_chunk_len(d->size, i) : 0;

        if (old_len == 0) {
            /* A chunk that begins here. Room for it in the list, as a hole at first. */
            rv = draft_grow(d, offset + n);
            if (rv == 0)
                rv = draft_overwrite(d, i, 0, 0, data, n);
        } else {
            uint32_t same = draft_same(d, i, old_len, at, data, n);

            if (same == n)
                rv = 0;
            else if (at + same == old_len)
                rv = draft_extend(d, i, old_len, data + same, at + n);
            else
                rv = draft_overwrite(d, i, old_len, at, data, n);
            if (rv == 0 && offset + n > d->size)
                d->size = offset + n;
        }
        offset += n;
        data += n;
        len -= n;
    }
    return rv;
}

bool draft_settle(struct draft *d, const struct value *base, size_t i, uint64_t *digest, bool *same_out)
{
    struct chunk *old = i < value_chunks(base->size) ? value_list(base)[i] : NULL;
    uint32_t old_len = i < value_chunks(base->size) ? value_chunk_len(base->size, i) : 0;
    uint32_t len = i < value_chunks(d->size) ? value_chunk_len(d->size, i) : 0;

    if (len == old_len) {
        if (d->list[i] == old)
            return true;
        if (memcmp(old != NULL ? old->data : zeros, d->list[i] != NULL ? d->list[i]->data : zeros, len) ==
            0) {
            draft_replace(d, i, chunk_ref(old));
            return false;
        }
    }
    if (old_len > 0)
        *digest -= list_term(value_list(base), base->size, i);
    if (len > 0)
        *digest += list_term(d->list, d->size, i);
    *same_out = false;
    return false;
}

void draft_commit(struct draft *d, struct value *v, struct value *old_out)
{
    size_t n = value_chunks(d->size);
    struct value fresh = {.size = d->size};

    if (n > 1) {
        struct chunk **list = realloc(d->list, n * sizeof *list);

        fresh.c.list = list != NULL ? list : d->list;
    } else {
        if (n == 1)
            fresh.c.one = d->list[0];
        free(d->list);
    }
    *old_out = *v;
    *v = fresh;
    *d = (struct draft){0};
}
