/* A truncation that comes later decides what of an edit can survive: behind it
 * stands `low`, the smallest size that any later truncation cuts to. The draft is
 * kept cut to `low` from the start, so nothing in it is ever dropped again. The
 * size without that cut is counted along, for appends and zeros. */
#include "kvnode/state/rewrite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"

#define EDIT_COST 64  /* of an edit, beside its bytes */
#define CHUNK_COST 16 /* of a chunk that nobody touched */

void rewrite_begin_edits(struct rewrite *r, const struct value *base, uint64_t base_digest,
                         const uint8_t *edits, size_t len, const struct rewrite_limits *limits,
                         uint64_t *next_id)
{
    *r = (struct rewrite){.base = *base,
                          .base_digest = base_digest,
                          .limits = *limits,
                          .next_id = next_id,
                          .edits = edits,
                          .edits_len = len,
                          .c = cursor_of(edits, len),
                          .size = base->size,
                          .largest = base->size};
}

static int check_size(const struct rewrite *r, uint64_t size)
{
    if (size <= r->base.size)
        return KV_OK;
    if (size > r->limits.value)
        return KV_E_FBIG;
    return size - r->base.size > r->limits.room ? KV_E_NOSPC : KV_OK;
}

static void refuse(struct rewrite *r, int code)
{
    r->phase = REWRITE_DONE;
    r->code = code;
}

static int begin_run(struct rewrite *r)
{
    uint64_t low = r->n_cuts > 0 ? r->cuts[0].size : UINT64_MAX;
    int rv = draft_begin(&r->draft, &r->base, r->next_id);

    r->draft.apart = r->apart;
    r->phase = REWRITE_RUN;
    r->c = cursor_of(r->edits, r->edits_len);
    r->size = r->base.size;
    return rv == 0 && low < r->base.size ? draft_truncate(&r->draft, low) : rv;
}

void rewrite_begin_value(struct rewrite *r, const struct value *base, uint64_t base_digest,
                         const uint8_t *value, size_t len, const struct rewrite_limits *limits,
                         uint64_t *next_id)
{
    rewrite_begin_edits(r, base, base_digest, NULL, 0, limits, next_id);
    r->largest = len;
    r->e = (struct edit){.kind = EDIT_WRITE, .data = value, .len = len};
    r->sum.touched = true;
}

/* Whether the edit is a time. */
static bool take_time(const struct edit *e, struct edits_sum *sum)
{
    switch (e->kind) {
    case EDIT_MTIME:
        sum->has_mtime = true;
        sum->mtime_ns = (int64_t)e->number;
        return true;
    case EDIT_ATIME:
        sum->has_atime = true;
        sum->atime_ns = (int64_t)e->number;
        return true;
    case EDIT_STAMP:
        sum->has_stamp = true;
        sum->stamp_ns = (int64_t)e->number;
        return true;
    default:
        return false;
    }
}

static int note_cut(struct rewrite *r, uint64_t size)
{
    while (r->n_cuts > 0 && r->cuts[r->n_cuts - 1].size >= size)
        r->n_cuts--;
    if (r->n_cuts == r->cap_cuts) {
        size_t cap = r->cap_cuts > 0 ? 2 * r->cap_cuts : 16;
        struct rewrite_cut *cuts = realloc(r->cuts, cap * sizeof *cuts);

        if (cuts == NULL)
            return -ENOMEM;
        r->cuts = cuts;
        r->cap_cuts = cap;
    }
    r->cuts[r->n_cuts++] = (struct rewrite_cut){r->c.len, size};
    return 0;
}

/* The size behind an edit that changes content. */
static uint64_t size_after(const struct edit *e, uint64_t size)
{
    if (e->kind == EDIT_TRUNCATE)
        return e->number;
    if (e->kind == EDIT_APPEND)
        return size + e->len;
    return e->len > 0 && e->number + e->len > size ? e->number + e->len : size;
}

static int scan(struct rewrite *r, size_t *budget)
{
    struct edit e;
    int rv;

    while (*budget > 0) {
        *budget -= *budget < EDIT_COST ? *budget : EDIT_COST;
        rv = edit_next(&r->c, &e);
        if (rv < 0) {
            refuse(r, KV_E_PROTOCOL);
            return 0;
        }
        if (rv == 0) {
            rv = check_size(r, r->size);
            if (rv == KV_OK && r->largest > r->base.size && r->largest > r->limits.value)
                rv = KV_E_FBIG;
            if (rv == KV_OK)
                return begin_run(r);
            refuse(r, rv);
            return 0;
        }
        if (take_time(&e, &r->sum))
            continue;
        r->sum.touched = true;
        if (e.number > INT64_MAX) {
            refuse(r, KV_E_FBIG);
            return 0;
        }
        r->size = size_after(&e, r->size);
        if (r->size > r->largest)
            r->largest = r->size;
        if (e.kind == EDIT_TRUNCATE && note_cut(r, e.number) < 0)
            return -ENOMEM;
    }
    return 0;
}

static uint64_t low(struct rewrite *r)
{
    while (r->next_cut < r->n_cuts && r->cuts[r->next_cut].left >= r->c.len)
        r->next_cut++;
    return r->next_cut < r->n_cuts ? r->cuts[r->next_cut].size : UINT64_MAX;
}

/* Carries out r->e, or a chunk's worth of it. */
static int run_edit(struct rewrite *r, size_t *budget)
{
    struct edit *e = &r->e;
    uint64_t keep = low(r), size = size_after(e, r->size), from;
    size_t n;
    int rv;

    if (e->kind == EDIT_TRUNCATE || e->len == 0) {
        e->len = 0;
        r->size = size;
        size = size < keep ? size : keep;
        return size > r->draft.size ? draft_truncate(&r->draft, size) : 0;
    }
    from = e->kind == EDIT_APPEND ? r->size : e->number;
    if (from >= keep) {
        e->len = 0;
        r->size = size;
        return draft_truncate(&r->draft, keep);
    }
    n = KV_CHUNK_SIZE - (size_t)(from % KV_CHUNK_SIZE);
    if (n > e->len)
        n = e->len;
    rv = draft_write(&r->draft, from, e->data, n < keep - from ? n : (size_t)(keep - from));
    *budget -= *budget < n ? *budget : n;
    e->data += n;
    e->len -= n;
    if (e->kind == EDIT_WRITE)
        e->number += n;
    if (from + n > r->size)
        r->size = from + n;
    return rv;
}

static bool is_time(uint8_t kind)
{
    return kind == EDIT_MTIME || kind == EDIT_ATIME || kind == EDIT_STAMP;
}

static int run(struct rewrite *r, size_t *budget)
{
    int rv = 0;

    while (rv == 0 && *budget > 0) {
        uint64_t made = *r->next_id;

        *budget -= *budget < EDIT_COST ? *budget : EDIT_COST;
        if (r->e.len == 0) {
            if (edit_next(&r->c, &r->e) != 1) {
                r->phase = REWRITE_FINISH;
                r->digest = r->base_digest;
                r->same = r->draft.size == r->base.size;
                return 0;
            }
            if (is_time(r->e.kind)) {
                r->e.len = 0;
                continue;
            }
        }
        rv = run_edit(r, budget);
        if (*r->next_id != made)
            *budget -= *budget < KV_CHUNK_SIZE ? *budget : KV_CHUNK_SIZE;
    }
    return rv;
}

static void finish(struct rewrite *r, size_t *budget)
{
    size_t n = value_chunks(r->draft.size), m = value_chunks(r->base.size);

    while (*budget > 0) {
        size_t i = r->chunk++, cost;

        if (i >= n && i >= m) {
            r->phase = REWRITE_DONE;
            return;
        }
        cost = draft_settle(&r->draft, &r->base, i, &r->digest, &r->same) ? CHUNK_COST : 2 * KV_CHUNK_SIZE;
        *budget -= *budget < cost ? *budget : cost;
    }
}

int rewrite_work(struct rewrite *r, size_t budget)
{
    bool endless = budget == SIZE_MAX;
    int rv = 0;

    /* A whole new value needs no scan of edits. */
    if (r->phase == REWRITE_SCAN && r->e.kind != 0) {
        rv = check_size(r, r->largest);
        if (rv != KV_OK) {
            refuse(r, rv);
            return 0;
        }
        if (r->largest < r->base.size && note_cut(r, r->largest) < 0)
            return -ENOMEM;
        rv = begin_run(r);
        r->n_cuts = 0; /* it lies behind us */
        if (r->largest < r->size)
            r->size = r->largest;
    }
    while (rv == 0 && budget > 0 && r->phase != REWRITE_DONE) {
        if (r->phase == REWRITE_SCAN)
            rv = scan(r, &budget);
        else if (r->phase == REWRITE_RUN)
            rv = run(r, &budget);
        else
            finish(r, &budget);
        if (endless)
            budget = SIZE_MAX;
    }
    return rv;
}

void rewrite_deinit(struct rewrite *r)
{
    draft_discard(&r->draft);
    free(r->cuts);
    *r = (struct rewrite){0};
}
