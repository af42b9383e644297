/* What the kernel may keep under the node's read lease. The node says until when (BEAT), and what has to be
 * forgotten before a change becomes visible anywhere (INVAL); it hears when that is done (INVALIDATED), which
 * the notifier's thread sends behind the notifications. So nothing that the kernel has is ever older than
 * what somebody was told of, and nothing is kept
 *   - for longer than the BEAT says: whoever stops this process, or its node, finds the kernel asking again
 * soon.
 *     That is true of names and attributes; pages have no such time: while this process does not run, an open
 *     descriptor shows what it has read;
 *   - of what a command may change that is not applied yet at the node.
 *
 * Where there are no leases (feature level 1, lease=0, an older node, or none for the moment) no time is
 * told: the kernel keeps nothing, and a majority is asked each time. With read=open and read=local it keeps
 * all until an event tells otherwise: then it may be behind by as long as an event takes. */
#ifndef KVFS_KVFS_CACHE_LEASE_H
#define KVFS_KVFS_CACHE_LEASE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "sync/wire/message.h"

struct cache;
struct kernel_inode;

#define LEASE_PENDING_MAX 64
#define LEASE_MISSES 1024

TAILQ_HEAD(told_list, kernel_inode);

struct lease {
    uint64_t until_ms;         /* clock_boot_ms() */
    uint64_t applied;          /* at the node, as far as it has told */
    uint64_t number, answered; /* INVALs of this connection: the last that came, and that was answered */
    struct inval pending[LEASE_PENDING_MAX]; /* not applied yet; in the order of the log */
    unsigned n;
    uint64_t all_until;      /* everything is pending up to this index */
    bool held;               /* something was kept, or opened here alone, since all was dropped */
    struct told_list told;   /* inodes whose attributes the kernel may keep for a time, by inode.told_link:
                              * those   told last are the last */
    uint64_t names_until_ms; /* the same of names */
    uint64_t misses[LEASE_MISSES]; /* hashes of names that were looked for and not there */
};

void lease_init(struct cache *cache);
/* A new connection. */
void lease_begin(struct cache *cache);
void lease_inval(struct cache *cache, const struct inval *inval);
void lease_beat(struct cache *cache, const struct beat *beat);
/* The node has applied that, as an event or a BEAT tells. */
void lease_applied(struct cache *cache, uint64_t index);
/* How long the kernel may keep attributes of the inode; names in a directory. Seconds. */
double lease_attr_s(struct cache *cache, uint64_t ino);
/* The kernel is told them, for so long. */
void lease_told(struct cache *cache, struct kernel_inode *inode, double attr_s);
double lease_names_s(struct cache *cache, uint64_t directory);
/* A miss is kept from the second time on: so a new name, which is looked for once before it is made, costs
 * no dropping of all names. */
double lease_miss_s(struct cache *cache, struct kernel_inode *directory, const char *name);
/* The inode is about to be freed. */
void lease_forget(struct cache *cache, struct kernel_inode *inode);
/* The kernel has been given what may be kept, as of then: drops it if that took so long that it may be kept
 * no more. */
void lease_given(struct cache *cache, uint64_t asked_ms);
/* Whether what the node has told now is right until it tells otherwise (known.h); and whether the time for
 * which it would tell is not over. */
bool lease_may_keep_attr(struct cache *cache, uint64_t ino);
bool lease_may_keep_names(struct cache *cache, uint64_t directory);
bool lease_runs(const struct cache *cache);

/* Content that was read may be that of before a pending change. */
bool lease_data_is_pending(const struct cache *cache, uint64_t ino);
/* Whether the kernel may keep content that it is given now, as far as the lease goes. */
bool lease_keeps_data(struct cache *cache);
/* Drops what the kernel does not drop by itself when the time is over; not later than in *wait_ms_out it is
 * to be called again. Notifier thread. */
void lease_wait(struct cache *cache, unsigned *wait_ms_out);
/* What is to be answered to the node when all notifications up to now are done; 0: nothing. */
uint64_t lease_unanswered(const struct cache *cache);

#endif
