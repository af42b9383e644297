/* Waiting for a condition, with a bound; never for a time:
 *
 *   uint64_t until = 0;
 *
 *   while (!is_there() && look_again(&until, 10000))
 *       ;
 *   assert_true(is_there()); */
#ifndef KVFS_TESTS_LIB_LOOK_AGAIN_H
#define KVFS_TESTS_LIB_LOOK_AGAIN_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* After a short pause true, until within_ms have gone by since the first call, that with *until_ms 0. Any
 * thread. */
static inline bool look_again(uint64_t *until_ms, unsigned within_ms)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    struct timespec t;
    uint64_t now;

    clock_gettime(CLOCK_BOOTTIME, &t);
    now = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
    if (*until_ms == 0)
        *until_ms = now + within_ms;
    if (now >= *until_ms)
        return false;
    nanosleep(&pause, NULL);
    return true;
}

#endif
