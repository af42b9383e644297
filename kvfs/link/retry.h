/* Threads that were answered ESTALE on their way to an open file: the kernel walks
 * the path once more, with fresh lookups, and a second ESTALE would reach the
 * program. So the lookups of that walk are as of then (linearizable), the file
 * that it finds is held open on the node until the thread opens it or has asked for nothing
 * for a second, and the open is accepted whatever happens to the names meanwhile: what
 * it found was true after the open(2) began. */
#ifndef KVFS_KVFS_LINK_RETRY_H
#define KVFS_KVFS_LINK_RETRY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct hub;

#define RETRY_MAX 4096 /* threads; those beyond walk as if for the first time */
#define RETRY_VAIN_MAX 256

struct retry;

/* A lookup that waited in vain for the cluster. */
struct retry_vain {
    uint64_t hash; /* of thread, directory and name */
    uint64_t until_ms;
    int code;
};

struct retry_table {
    struct retry *by_thread; /* uthash */
    unsigned n;
    struct retry_vain vain[RETRY_VAIN_MAX]; /* by hash */
};

/* The thread is answered ESTALE; refused: by the open of this inode, or 0. */
void retry_note(struct hub *hub, pid_t pid, uint64_t refused);
bool retry_is(struct hub *hub, pid_t pid);
/* It asks for something on its way: for as long as that takes it is not given up (an election, say). */
void retry_asks(struct hub *hub, pid_t pid);
void retry_answered(struct hub *hub, pid_t pid);
/* Whether that is what its walk has found. */
bool retry_holds(struct hub *hub, pid_t pid, uint64_t ino);
/* Whether its open of this inode is that of a second walk. */
bool retry_is_second(struct hub *hub, pid_t pid, uint64_t ino);
/* Its walk has found this inode, which the node holds open. */
void retry_hold(struct hub *hub, pid_t pid, uint64_t ino);
/* It has got to the end of its walk. */
void retry_end(struct hub *hub, pid_t pid);
/* It has found that the name is missing. If it was to make it then, that is still of the second walk. */
void retry_miss(struct hub *hub, pid_t pid);
bool retry_missed(struct hub *hub, pid_t pid);
/* The thread's lookup has waited in vain. If the kernel asked to know whether a name that it has is still
 * right, it takes any error for a no, and asks for the name anew: for the same system call, which would take
 * twice as long as a request may. The second time the code is at hand, once; 0: it did not wait for that. */
void retry_waited(struct hub *hub, pid_t pid, uint64_t parent, const char *name, int code);
int retry_waited_code(struct hub *hub, pid_t pid, uint64_t parent, const char *name);
/* Drops what was never opened. */
void retry_tick(struct hub *hub, uint64_t now_ms);
void retry_deinit(struct hub *hub);

#endif
