/* The byte ranges that one owner has locked in one file, as fcntl(2) has it: of each byte at most
 * one lock, shared or exclusive. A new lock takes the place of what is below it; ranges of one mode
 * that touch are one range. */
#ifndef KVFS_SYNC_BASE_LOCK_RANGES_H
#define KVFS_SYNC_BASE_LOCK_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOCK_RANGE_END ((uint64_t)INT64_MAX) /* the last byte that there can be */

enum lock_mode { LOCK_NONE = 0, LOCK_SHARED = 1, LOCK_EXCLUSIVE = 2 };

struct lock_range {
    uint64_t start, end; /* both are in it; end: LOCK_RANGE_END at most */
    enum lock_mode mode; /* never LOCK_NONE */
};

struct lock_ranges {
    struct lock_range *at; /* owned; ascending, none overlaps another */
    size_t n, cap;
};

void lock_ranges_deinit(struct lock_ranges *r);
/* As how many ranges r would be after lock_ranges_set(). */
size_t lock_ranges_after(const struct lock_ranges *r, uint64_t start, uint64_t end, enum lock_mode mode);
/* Locks the range in that mode, or unlocks it. 0; -ENOMEM: as it was. */
int lock_ranges_set(struct lock_ranges *r, uint64_t start, uint64_t end, enum lock_mode mode);
/* The place of the first one that ends at or behind `start`; r->n: there is none. */
size_t lock_ranges_find(const struct lock_ranges *r, uint64_t start);
/* Whether every byte is locked, in that mode or a stronger one. */
bool lock_ranges_cover(const struct lock_ranges *r, uint64_t start, uint64_t end, enum lock_mode mode);
/* Whether somebody else's lock of that mode has to wait for one of these. The first one; NULL: none. */
const struct lock_range *lock_ranges_conflict(const struct lock_ranges *r, uint64_t start, uint64_t end,
                                              enum lock_mode mode);

#endif
