/* Commands on their way out of this node, into the log or to the leader, so that a
 * large writer delays nobody.
 *
 *   session 7: small ──┐ in turns, ─────────► out
 *   session 9: small ──┘ first            ▲
 *   session 7: large ──┐ in turns, while  │
 *   session 9: large ──┘ there is room ───┘
 *
 * Large is a part of a command, a command that joins parts, and whatever is longer
 * than FAIR_SMALL_MAX. The sessions of a class take turns by bytes. Each class of a
 * session keeps its order; a small command may overtake large ones of other numbers,
 * which may come in any order anyway. How much of the large ones is under way beyond
 * the queue is the caller's to limit. Loop thread only. */
#ifndef KVFS_KVNODE_GROUP_FAIR_QUEUE_H
#define KVFS_KVNODE_GROUP_FAIR_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "sync/base/hash.h"
#include "sync/raft/engine/entry.h"

#define FAIR_SMALL_MAX (32 * 1024)

struct command;

struct fair_item {
    struct entry *entry; /* owned */
    uint64_t peer;       /* who forwarded it, 0: this node */
    void *own;           /* the caller's */
    uint64_t session;
    bool large;
    struct fair_lane *lane;      /* NULL: out of the queue */
    TAILQ_ENTRY(fair_item) link; /* in its lane */
};

/* What one session has in one class; there while it has anything. */
struct fair_lane {
    uint64_t session;
    TAILQ_HEAD(, fair_item) items;
    size_t credit; /* bytes that it may still take in this turn */
    TAILQ_ENTRY(fair_lane) link;
    UT_hash_handle hh;
};

struct fair_class {
    struct fair_lane *by_session;
    TAILQ_HEAD(, fair_lane) lanes; /* whose turn it is comes first */
    size_t n, bytes, quantum;
};

struct fair_queue {
    struct fair_class small, large;
};

void fair_queue_init(struct fair_queue *q);
void fair_queue_deinit(struct fair_queue *q);
/* Takes a reference of e, the encoded cmd; peer and own are the caller's to set. NULL: out of memory. */
struct fair_item *fair_queue_add(struct fair_queue *q, const struct command *cmd, struct entry *e);
/* The next one of its class, out of the queue, to be freed by fair_item_free(); NULL: none. */
struct fair_item *fair_queue_take(struct fair_queue *q, bool large);
/* Takes it out of the queue wherever it is, and frees it. */
void fair_queue_drop(struct fair_queue *q, struct fair_item *item);
void fair_item_free(struct fair_item *item);

#endif
