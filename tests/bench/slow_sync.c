/* A disk of another speed: preloaded, it makes each fsync and fdatasync take
 * $SLOW_SYNC_US microseconds longer, in the nodes and in the floor alike.
 *
 *   LD_PRELOAD=$PWD/build/tests/bench/libslow_sync.so SLOW_SYNC_US=90 kvnode dev up 3
 *   LD_PRELOAD=… SLOW_SYNC_US=90 kvnode bench
 *
 * A ratio to the floor depends on the disk as much as on the program: where a
 * sync costs next to nothing, all the rest of a write counts as many syncs. */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static int slowly(const char *name, int (**real)(int), int fd)
{
    const char *text = getenv("SLOW_SYNC_US");
    long us = text != NULL ? strtol(text, NULL, 10) : 0;
    struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};

    if (*real == NULL)
        *(void **)real = dlsym(RTLD_NEXT, name);
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0); /* of this thread, in ns: else 50 µs are added */
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
    return (*real)(fd);
}

int fsync(int fd)
{
    static int (*real)(int);

    return slowly("fsync", &real, fd);
}

int fdatasync(int fd)
{
    static int (*real)(int);

    return slowly("fdatasync", &real, fd);
}
