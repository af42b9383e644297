/* Threads whose open(2) was answered ESTALE: the kernel walks the path again with
 * fresh lookups, and what that second walk finds is accepted, whatever happens
 * to the names meanwhile: it was true after the open began. The file that it
 * finds is held open on the node until the thread opens it or a second is over. */
#ifndef KVFS_KVFS_RETRY_H
#define KVFS_KVFS_RETRY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fs;

#define RETRY_SLOTS 64

struct retry_table {
    struct {
        pid_t pid; /* 0: free */
        uint64_t until_ms;
        uint64_t held;       /* inode opened on the node, or 0 */
        uint64_t connection; /* on which it was */
    } slots[RETRY_SLOTS];
};

/* The thread's open is answered ESTALE. */
void retry_note(struct fs *fs, pid_t pid);
bool retry_is(struct fs *fs, pid_t pid);
/* Whether that is what its walk has found. */
bool retry_holds(struct fs *fs, pid_t pid, uint64_t ino);
/* Its walk has found this inode, which the node holds open. */
void retry_hold(struct fs *fs, pid_t pid, uint64_t ino);
/* Its next open is here: whether it was walking again. Ends that. */
bool retry_take(struct fs *fs, pid_t pid);
/* Drops what was never opened. */
void retry_tick(struct fs *fs, uint64_t now_ms);

#endif
