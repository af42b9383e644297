#include "sync/base/clock.h"

#include <time.h>

static uint64_t read_clock(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

__attribute__((weak)) uint64_t clock_boot_ns(void)
{
    return read_clock(CLOCK_BOOTTIME);
}

__attribute__((weak)) uint64_t clock_boot_ms(void)
{
    return read_clock(CLOCK_BOOTTIME) / 1000000u;
}

__attribute__((weak)) uint64_t clock_wall_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}
