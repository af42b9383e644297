/* What /proc tells about the processes behind requests. Any thread; none of
 * these takes locks or touches the mounted file system. 2-150 us each.
 *
 * A process may be in the middle of execve(2), whose FLUSH of a descriptor that
 * is closed on exec is the very request that asks here. From /proc/PID/stat, maps,
 * mem and others a reader gets nothing until the exec is done (seen on Linux 6.18),
 * which would be never: only status, fdinfo and mountinfo are read. */
#ifndef KVFS_KVFS_LINK_PROCESS_H
#define KVFS_KVFS_LINK_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The thread has SIGKILL pending: its system call can only be abandoned. */
bool process_is_killed(pid_t tid);

/* The process that a thread belongs to; 0 if it cannot be told (it is gone, or
 * not in sight from this PID namespace). */
pid_t process_of(pid_t tid);

/* Whether the process of thread tid has a descriptor that may be a duplicate of one of this
 * inode on a kvfs mount, opened with these flags and neither read, written nor sought on: its
 * access mode, O_APPEND and position are the same. True if it cannot be told. */
bool process_has_duplicate(pid_t tid, uint64_t ino, int flags);

/* /proc/sys/fs/protected_regular: 1, who opens with O_CREAT gets no file of somebody else's in a sticky
 * directory that all may write to; 2, nor where a group may. 0 if it cannot be read. */
unsigned process_protected_regular(void);

#endif
