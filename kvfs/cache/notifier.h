/* Tells the kernel what to forget, from a thread of its own that holds no lock
 * while it does: a notification waits for reads of the same inode, which other
 * threads answer.
 *
 *   content, attributes   FUSE_NOTIFY_INVAL_INODE
 *   names (names.h)       FUSE_NOTIFY_INC_EPOCH (Linux 6.16): all names are looked
 *                         up again. (FUSE_NOTIFY_INVAL_ENTRY takes the directory's
 *                         lock and waits for a request that holds it.) An epoch
 *                         unmounts what is mounted inside: then submounts.h.
 *
 * The new state is always there before the kernel is told to ask for it. An
 * answer that is on its way meanwhile does no harm: the kernel drops attributes
 * that were asked for before the notification, and a name keeps the epoch of
 * its request. Only an inode that the kernel does not have yet, though it was
 * sent to it, is asked for again until it is there. */
#ifndef KVFS_KVFS_CACHE_NOTIFIER_H
#define KVFS_KVFS_CACHE_NOTIFIER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "kvfs/link/call.h"

struct cache;
struct kernel_inode;

TAILQ_HEAD(inval_list, kernel_inode);

struct notifier {
    pthread_t thread;
    pthread_cond_t cond;
    struct inval_list list; /* by inode.inval_link */
    bool running, epoch_works;
    uint64_t notices;          /* inodes that were put into the list so far */
    uint64_t busy;             /* the number of that which the kernel is being told; 0: none */
    bool names_busy;           /* it is being told of names */
    uint64_t names_done;       /* how often it was */
    uint64_t ticket;           /* the node is answered when the inodes up to that number are done */
    struct call_list settling; /* notifier_settle() */
};

void notifier_init(struct cache *cache);
/* Finds out whether the kernel knows epochs, and starts the thread. After the
 * kernel's INIT; without the lock. */
int notifier_start(struct cache *cache);
void notifier_stop(struct cache *cache); /* without the lock */

/* Attributes, or content too, of the inode have changed. */
void notifier_inval(struct cache *cache, struct kernel_inode *inode, bool data);
/* The same of content that the kernel is just given and may not keep: the node is not answered before it is
 * dropped. */
void notifier_inval_given(struct cache *cache, struct kernel_inode *inode);
/* It has something to do, or to answer to the node when what is queued is done. */
void notifier_wake(struct cache *cache);
/* Calls on_answer(call, 0) when the kernel has forgotten all that it was to forget when this was called;
 * perhaps at once. A call of the kind CALL_LOCK, without a deadline. */
void notifier_settle(struct cache *cache, struct call *call, call_fn *on_answer);
/* Everything may have changed. */
void notifier_drop_all(struct cache *cache);
/* The inode is about to be freed. */
void notifier_forget(struct cache *cache, struct kernel_inode *inode);
/* Whether the kernel has not yet been told of a change of the inode. */
bool notifier_is_pending(const struct kernel_inode *inode);

#endif
