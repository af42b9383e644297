/* Daemons of the try-out cluster: started apart from the terminal, found again
 * by a pid file that also holds the process's start time, so that no signal
 * ever goes to a process that merely got the same number later. */
#ifndef KVFS_KVNODE_ADMIN_DEV_PROCESS_H
#define KVFS_KVNODE_ADMIN_DEV_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

/* Starts argv[0] with argv in a session of its own, in /, standard output and
 * error appended to log_path, and writes the pid file. program: becomes
 * KVNODE_PROGRAM. 0 or -errno. */
int dev_spawn(char *const argv[], const char *log_path, const char *pid_path, const char *program,
              pid_t *pid_out);
/* The live process of a pid file, or 0. */
pid_t dev_running(const char *pid_path);
/* Stopped by SIGSTOP. */
bool dev_is_paused(pid_t pid);
/* Waits for a process's end. True: it has ended. */
bool dev_wait_gone(pid_t pid, unsigned timeout_ms);

#endif
