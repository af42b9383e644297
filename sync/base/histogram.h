/* How long something took, counted: four slots to each doubling, so that a quantile is right within a
 * quarter. A histogram is copied and compared as it is; whoever shares one between threads locks it. */
#ifndef KVFS_SYNC_BASE_HISTOGRAM_H
#define KVFS_SYNC_BASE_HISTOGRAM_H

#include <stdint.h>

/* The first slot is up to 16 µs, the last but one ends at 33 s. */
#define HISTOGRAM_FIRST_US 16
#define HISTOGRAM_DOUBLINGS 21
#define HISTOGRAM_SLOTS (2 + 4 * HISTOGRAM_DOUBLINGS)

struct histogram {
    uint64_t n, sum_us;
    uint64_t slots[HISTOGRAM_SLOTS];
};

/* times: so often. */
void histogram_add(struct histogram *h, uint64_t us, uint64_t times);
/* What a slot goes up to, itself included; UINT64_MAX: the last one. */
uint64_t histogram_bound_us(unsigned slot);
/* The time that so many of 1,000 keep within, rounded up to its slot's end, of what has come since `before`
 * was a copy of it (NULL: of all). 0: nothing has come. */
uint64_t histogram_quantile_us(const struct histogram *h, const struct histogram *before,
                               unsigned of_thousand);

#endif
