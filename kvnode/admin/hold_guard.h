/* Runs a command for as long as a lock lasts, and ends it in time: all of it.
 *
 *   kvnode hold ──fork──► guard ──fork──► the command ──► …
 *
 * The guard is there before the lock is. Everything that the command starts comes to the guard when its
 * parent ends (PR_SET_CHILD_SUBREAPER), so that nothing of it gets away by a session of its own or a double
 * fork; the tree has ended when the guard has no child. It looks at the deadline in shared memory itself, and
 * at the pipe from kvnode hold, so it needs nobody to tell it. If it is killed or stopped, its children
 * come to kvnode hold, which does the same at the same deadline. Only when both are stopped nobody does.
 *
 * Where a cgroup can be made (v2, Linux 5.14), the command is in one of its own, and that is killed as well.
 *
 * What runs as another user (setuid) may not be signalled, and is waited for. */
#ifndef KVFS_KVNODE_ADMIN_HOLD_GUARD_H
#define KVFS_KVNODE_ADMIN_HOLD_GUARD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct guard_shared;

struct guard {
    pid_t pid;                   /* 0: there is none (any more) */
    int to, from;                /* pipes */
    struct guard_shared *shared; /* owned */
    char cgroup[512];            /* of the command, or "" */
    bool started;                /* the command */
    bool ended;                  /* and its status is known */
    int status;                  /* of waitpid(2) */
    int exec_error;              /* why it could not be run; 0: it was */
    bool died;                   /* the guard: what it had is ours, and is to be ended by guard_kill() */
};

/* output: where the command's standard output and error go; -1: where ours do. 0 or -errno. */
int guard_start(struct guard *g, const char *key, char **argv, int output);
/* By CLOCK_BOOTTIME: when the tree is asked to end (TERM), and when it is killed. */
void guard_deadline(struct guard *g, uint64_t end_ms, uint64_t kill_ms);
void guard_run(struct guard *g, uint64_t fence);
/* To the command's process group. May be called by a handler of signals. */
void guard_signal(struct guard *g, int signal);
/* Readable: there is news. */
int guard_fd(const struct guard *g);
/* Takes the news. True: nothing of the command runs any more; false: go on. */
bool guard_news(struct guard *g);
/* Kills the guard and everything that it had; until kill_ms has passed by so much, more than that can only be
 * waited for. Returns how many could not be ended. */
unsigned guard_kill(struct guard *g, unsigned patience_ms);
/* The guard ends without having run anything, or having ended it. */
void guard_end(struct guard *g);

#endif
