/* What /proc tells about the processes behind requests. Any thread; none of
 * these takes locks or touches the mounted file system. 25-150 us each. */
#ifndef KVFS_KVFS_PROCESS_H
#define KVFS_KVFS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The thread has SIGKILL pending: its system call can only be abandoned. */
bool process_is_killed(pid_t tid);

/* Whether thread tid belongs to the process of one of the n threads `of`, or
 * else to a process that already ran when a handle was opened (opened_ms on
 * CLOCK_BOOTTIME): only a process that was forked later can hold an inherited
 * copy of the descriptor without having opened or written the file itself. */
bool process_is_one_of(pid_t tid, const pid_t *of, size_t n, uint64_t opened_ms);

/* Whether the process of thread tid has a descriptor, open for writing, of an
 * inode with this number on a kvfs mount. True if it cannot be told. */
bool process_holds(pid_t tid, uint64_t ino);

#endif
