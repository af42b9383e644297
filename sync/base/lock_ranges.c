#include "sync/base/lock_ranges.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* [lo, hi) go, and up to three come. */
struct plan {
    size_t lo, hi, n;
    struct lock_range come[3];
};

void lock_ranges_deinit(struct lock_ranges *r)
{
    free(r->at);
    *r = (struct lock_ranges){0};
}

size_t lock_ranges_find(const struct lock_ranges *r, uint64_t start)
{
    size_t low = 0, high = r->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (r->at[middle].end < start)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* What touches the range is looked at, too: it may become one with it. */
static struct plan plan_of(const struct lock_ranges *r, uint64_t start, uint64_t end, enum lock_mode mode)
{
    struct plan p = {.lo = lock_ranges_find(r, start > 0 ? start - 1 : 0)};
    struct lock_range left = {0}, right = {0};
    uint64_t from = start, to = end;

    for (p.hi = p.lo; p.hi < r->n && r->at[p.hi].start <= end + 1; p.hi++)
        ;
    if (p.lo < p.hi) {
        const struct lock_range *first = &r->at[p.lo], *last = &r->at[p.hi - 1];

        if (first->start < start && first->mode == mode)
            from = first->start;
        else if (first->start < start)
            left = (struct lock_range){first->start, first->end < start - 1 ? first->end : start - 1,
                                       first->mode};
        if (last->end > end && last->mode == mode)
            to = last->end;
        else if (last->end > end)
            right = (struct lock_range){last->start > end + 1 ? last->start : end + 1, last->end, last->mode};
    }
    if (left.mode != LOCK_NONE)
        p.come[p.n++] = left;
    if (mode != LOCK_NONE)
        p.come[p.n++] = (struct lock_range){from, to, mode};
    if (right.mode != LOCK_NONE)
        p.come[p.n++] = right;
    return p;
}

size_t lock_ranges_after(const struct lock_ranges *r, uint64_t start, uint64_t end, enum lock_mode mode)
{
    struct plan p = plan_of(r, start, end, mode);

    return r->n - (p.hi - p.lo) + p.n;
}

int lock_ranges_set(struct lock_ranges *r, uint64_t start, uint64_t end, enum lock_mode mode)
{
    struct plan p = plan_of(r, start, end, mode);
    size_t n = r->n - (p.hi - p.lo) + p.n;

    if (n > r->cap) {
        size_t cap = n < 4 ? 4 : 2 * n;
        struct lock_range *at = realloc(r->at, cap * sizeof *at);

        if (at == NULL)
            return -ENOMEM;
        r->at = at;
        r->cap = cap;
    }
    if (p.hi < r->n)
        memmove(r->at + p.lo + p.n, r->at + p.hi, (r->n - p.hi) * sizeof *r->at);
    if (p.n > 0)
        memcpy(r->at + p.lo, p.come, p.n * sizeof *r->at);
    r->n = n;
    return 0;
}

bool lock_ranges_cover(const struct lock_ranges *r, uint64_t start, uint64_t end, enum lock_mode mode)
{
    for (size_t i = lock_ranges_find(r, start); i < r->n && r->at[i].start <= start && r->at[i].mode >= mode;
         i++) {
        if (r->at[i].end >= end)
            return true;
        start = r->at[i].end + 1;
    }
    return false;
}

const struct lock_range *lock_ranges_conflict(const struct lock_ranges *r, uint64_t start, uint64_t end,
                                              enum lock_mode mode)
{
    for (size_t i = lock_ranges_find(r, start); i < r->n && r->at[i].start <= end; i++)
        if (mode == LOCK_EXCLUSIVE || r->at[i].mode == LOCK_EXCLUSIVE)
            return &r->at[i];
    return NULL;
}
