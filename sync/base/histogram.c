/* A slot (low, high] is found by the place of the highest bit of (us - 1) and the two bits below it. */
#include "sync/base/histogram.h"

#include <stddef.h>

static unsigned slot_of(uint64_t us)
{
    unsigned high, slot;

    if (us <= HISTOGRAM_FIRST_US)
        return 0;
    high = 63 - (unsigned)__builtin_clzll(us - 1); /* 4 and more */
    slot = 1 + (high - 4) * 4 + (unsigned)((us - 1) >> (high - 2) & 3);
    return slot < HISTOGRAM_SLOTS - 1 ? slot : HISTOGRAM_SLOTS - 1;
}

uint64_t histogram_bound_us(unsigned slot)
{
    if (slot >= HISTOGRAM_SLOTS - 1)
        return UINT64_MAX;
    return slot == 0 ? HISTOGRAM_FIRST_US : (uint64_t)(5 + (slot - 1) % 4) << (2 + (slot - 1) / 4);
}

void histogram_add(struct histogram *h, uint64_t us, uint64_t times)
{
    h->n += times;
    h->sum_us += us * times;
    h->slots[slot_of(us)] += times;
}

uint64_t histogram_quantile_us(const struct histogram *h, const struct histogram *before,
                               unsigned of_thousand)
{
    uint64_t n = h->n - (before != NULL ? before->n : 0), seen = 0;
    unsigned i;

    if (n == 0)
        return 0;
    for (i = 0; i < HISTOGRAM_SLOTS - 1; i++) {
        seen += h->slots[i] - (before != NULL ? before->slots[i] : 0);
        if (seen * 1000 >= n * of_thousand)
            break;
    }
    /* What is above all bounds is above the last one. */
    return histogram_bound_us(i < HISTOGRAM_SLOTS - 1 ? i : i - 1);
}
