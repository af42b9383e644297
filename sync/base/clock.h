/* The three clocks. Any thread.
 *
 * Tests and the simulation link their own definitions of these three functions
 * in place of clock.c's (they are weak). */
#ifndef KVFS_SYNC_BASE_CLOCK_H
#define KVFS_SYNC_BASE_CLOCK_H

#include <stdint.h>

/* Milliseconds since boot, suspended time included (CLOCK_BOOTTIME): elections,
 * leases and deadlines. */
uint64_t clock_boot_ms(void);
/* Nanoseconds since boot (CLOCK_BOOTTIME): measurements. */
uint64_t clock_boot_ns(void);
/* Nanoseconds since 1970-01-01 UTC: what people are shown. */
uint64_t clock_wall_ns(void);

#endif
