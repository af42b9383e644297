/* Running a program to its end, under a deadline. */
#ifndef KVFS_SYNC_SSH_PROCESS_H
#define KVFS_SYNC_SSH_PROCESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct buffer;

/* Runs argv[0] (a path, or a name looked up in $PATH) with standard input from
 * /dev/null and both outputs appended to `output` (at most 64 KiB, the rest is
 * dropped; NULL: all dropped), default signals, and reaps it. Blocks for at most
 * timeout_ms, then kills it. Any thread; the process must not reap children that
 * it does not know (waitpid(-1)).
 *
 * 0 with its wait status in *status_out; -ENOENT, -EACCES: not startable;
 * -ETIMEDOUT; another negative errno. */
int process_run(const char *const argv[], uint32_t timeout_ms, struct buffer *output, int *status_out);

/* Reaps pid within timeout_ms; 0 or -ETIMEDOUT (it still runs) or -ECHILD. */
int process_wait(pid_t pid, uint32_t timeout_ms, int *status_out);

/* First of the directories dirs (NULL-terminated), then of $PATH, that has an
 * executable file `name`; an absolute path in out. 0 or -ENOENT. */
int process_find(const char *name, const char *const dirs[], char *out, size_t size);

#endif
