/* Calls that might hang, seen from outside. Each thread notes in shared memory
 * which call it is in and since when; a process of its own looks. When a call
 * takes longer than the limit it prints who waits where (of the caller and of
 * every thread of the mounts' kvfs), aborts the mounts' connections, so that
 * nothing stays in the kernel, and remembers it. */
#ifndef KVFS_TESTS_FAULT_WATCH_H
#define KVFS_TESTS_FAULT_WATCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/fault/lib/mount.h"

#define WATCH_SLOTS 32

/* One thread; only it writes here. */
struct watched {
    _Atomic uint64_t since_ms; /* CLOCK_BOOTTIME; 0: in no call */
    _Atomic int tid;
    char what[160];
    uint64_t longest_ms;
    char longest[160];
    uint64_t calls;
};

/* Shared with the processes that are forked after watch_new(). */
struct watch {
    struct watched slots[WATCH_SLOTS];
    _Atomic bool hung;
    pid_t pid;
};

struct watch *watch_new(void);
/* Forks the process that looks. The mounts are not changed afterwards. False: cannot. */
bool watch_start(struct watch *w, const struct cluster *c, const struct mounted *mounts, unsigned n,
                 unsigned limit_ms);
/* Ends it and gives the memory back. False: a call took longer than the limit. */
bool watch_free(struct watch *w);

__attribute__((format(printf, 2, 3))) void watch_enter(struct watched *s, const char *fmt, ...);
/* Keeps errno. */
void watch_leave(struct watched *s);
/* The longest call of all, for people. */
const struct watched *watch_longest(const struct watch *w);

#endif
