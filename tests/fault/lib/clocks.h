/* Clocks of single nodes that jump (clock_shift.c). */
#ifndef KVFS_TESTS_FAULT_CLOCKS_H
#define KVFS_TESTS_FAULT_CLOCKS_H

#include <stdint.h>

/* What a node's clocks show beyond the machine's. Shared with the node. */
struct clock_offsets {
    int64_t wall_ns; /* CLOCK_REALTIME: somebody sets it, in any direction */
    int64_t boot_ns; /* CLOCK_BOOTTIME, and not CLOCK_MONOTONIC: the machine has slept; only grows */
};

#endif
