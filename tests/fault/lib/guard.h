/* A watchdog beside a test: a process of its own that cleans up after the test
 * when it dies or takes too long. It aborts the test's mounts (a stuck FUSE
 * request blocks sync(2) for the whole machine) and kills the processes that the
 * test has started, by their ids. */
#ifndef KVFS_TESTS_FAULT_GUARD_H
#define KVFS_TESTS_FAULT_GUARD_H

#include <stdbool.h>
#include <sys/types.h>

struct guard;

/* Forks it; it acts when this process ends, or seconds after now. NULL: cannot. */
struct guard *guard_start(unsigned seconds);
/* Nothing is left to clean up: ends it. */
void guard_end(struct guard *g);
void guard_process(struct guard *g, pid_t pid);
void guard_process_gone(struct guard *g, pid_t pid);
/* connection: N of /sys/fs/fuse/connections/N. */
void guard_mount(struct guard *g, unsigned connection, const char *mountpoint);
void guard_mount_gone(struct guard *g, unsigned connection);

/* Fails every request of that FUSE connection, also those under way. False: there is none. */
bool guard_abort(unsigned connection);

#endif
