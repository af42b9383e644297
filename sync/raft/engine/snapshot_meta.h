/* The point of the log that a state machine's file stands for: everything up
 * to and including `index` is in it. Raft thesis §5.1.
 *
 * Kept with the log (as its start), in the state file itself, and carried by
 * an install message. */
#ifndef KVFS_SYNC_RAFT_ENGINE_SNAPSHOT_META_H
#define KVFS_SYNC_RAFT_ENGINE_SNAPSHOT_META_H

#include <stdbool.h>
#include <stdint.h>

#include "sync/base/buffer.h"
#include "sync/raft/engine/entry.h"

struct snapshot_meta {
    uint64_t index; /* last entry contained; 0: there is no snapshot */
    uint64_t term;  /* its term */
    uint64_t conf_index;
    struct entry *conf; /* owned reference; the ENTRY_CHANGE in force at index */
};

/* *out gets its own reference to conf. */
void snapshot_meta_copy(const struct snapshot_meta *m, struct snapshot_meta *out);
void snapshot_meta_deinit(struct snapshot_meta *m); /* puts conf, zeroes */

/* u64 index, u64 term, u64 conf_index, string conf. */
void snapshot_meta_encode(const struct snapshot_meta *m, struct buffer *out);
/* 0, or KV_E_PROTOCOL (also when conf is no configuration), or -ENOMEM. On 0
 * the caller deinits *out. */
int snapshot_meta_decode(struct cursor *c, struct snapshot_meta *out);

#endif
