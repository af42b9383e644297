/* Preloaded into a process: its clocks are off by what the file $KVFS_TEST_CLOCK
 * says (lib/clocks.h), from one call to the next. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "tests/fault/lib/clocks.h"

#define SECOND 1000000000

static int (*real)(clockid_t, struct timespec *);
static const volatile struct clock_offsets *offsets;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("KVFS_TEST_CLOCK");
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *p = fd >= 0 ? mmap(NULL, sizeof *offsets, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

    if (fd >= 0)
        close(fd);
    if (p != MAP_FAILED)
        offsets = p;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    int64_t shift = 0, ns;
    int rv;

    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    rv = real(id, t);
    if (rv != 0 || offsets == NULL)
        return rv;
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)
        shift = offsets->wall_ns;
    else if (id == CLOCK_BOOTTIME)
        shift = offsets->boot_ns;
    ns = (int64_t)t->tv_sec * SECOND + t->tv_nsec + shift;
    t->tv_sec = ns / SECOND;
    t->tv_nsec = ns % SECOND;
    return 0;
}

int gettimeofday(struct timeval *tv, void *zone)
{
    struct timespec t;

    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &t) != 0)
        return -1;
    tv->tv_sec = t.tv_sec;
    tv->tv_usec = t.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out)
{
    struct timespec t;

    if (clock_gettime(CLOCK_REALTIME, &t) != 0)
        return (time_t)-1;
    if (out != NULL)
        *out = t.tv_sec;
    return t.tv_sec;
}
