/* Threads that were answered ESTALE on their way to an open file: the kernel walks
 * the path once more, with fresh lookups, and a second ESTALE would reach the
 * program. So the lookups of that walk are as of then (linearizable), the file
 * that it finds is held open on the node until the thread opens it or a second is
 * over, and the open is accepted whatever happens to the names meanwhile: what
 * it found was true after the open(2) began. */
#ifndef KVFS_KVFS_LINK_RETRY_H
#define KVFS_KVFS_LINK_RETRY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct hub;

#define RETRY_SLOTS 64

struct retry_table {
    struct {
        pid_t pid; /* 0: free */
        uint64_t until_ms;
        uint64_t refused;    /* the inode whose open was answered ESTALE, or 0 */
        uint64_t held;       /* inode opened on the node, or 0 */
        uint64_t connection; /* on which it was */
    } slots[RETRY_SLOTS];
};

/* The thread is answered ESTALE; refused: by the open of this inode, or 0. */
void retry_note(struct hub *hub, pid_t pid, uint64_t refused);
bool retry_is(struct hub *hub, pid_t pid);
/* Whether that is what its walk has found. */
bool retry_holds(struct hub *hub, pid_t pid, uint64_t ino);
/* Whether its open of this inode is that of a second walk. */
bool retry_is_second(struct hub *hub, pid_t pid, uint64_t ino);
/* Its walk has found this inode, which the node holds open. */
void retry_hold(struct hub *hub, pid_t pid, uint64_t ino);
/* It has got to the end of its walk. */
void retry_end(struct hub *hub, pid_t pid);
/* Drops what was never opened. */
void retry_tick(struct hub *hub, uint64_t now_ms);

#endif
