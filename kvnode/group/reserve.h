/* Room for what mounts have staged, so that a full cluster refuses write(2) and not
 * close(2), which few programs look at. Pure. Loop thread only.
 *
 * What a connection holds counts as used when this node promises room to others: it
 * promises no more than is free. Nothing of it is replicated. Nodes do not know of
 * each other's promises, and together may promise too much when the cluster is
 * nearly full, by what is staged on their mounts at that moment; whether a
 * publication fits is decided when it is applied. */
#ifndef KVFS_KVNODE_GROUP_RESERVE_H
#define KVFS_KVNODE_GROUP_RESERVE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "kvnode/state/store.h"

/* What a connection holds. All zeros: nothing. */
struct reservation {
    LIST_ENTRY(reservation) link; /* while bytes > 0 */
    uint64_t bytes;
    uint32_t uid; /* of the client */
    bool trusted;
};

/* All zeros: nothing is held. */
struct reserve {
    LIST_HEAD(, reservation) holders;
    uint64_t bytes; /* their sum */
};

/* Bytes that the connections of a user who is not trusted may hold, as a multiple of
 * the largest value: enough for what a program writes at once, not for all there is. */
#define RESERVE_USER_VALUES 8

/* Sets what the connection holds. held: what it believes to hold (it has published the
 * rest). At least `least` bytes if it is to be given more, `wanted` if there is
 * plenty: of what is free beyond `least` a sixteenth, so that steps get small where
 * every byte counts. wanted <= held: that much, always. *granted_out is what it holds
 * now, less than `least`: there is no room.
 * KV_OK; KV_E_BUSY: the user holds too much on this node; as it was. */
int reserve_set(struct reserve *r, struct reservation *v, const struct store_usage *usage, uint64_t held,
                uint64_t least, uint64_t wanted, uint64_t *granted_out);
/* The connection has gone. */
void reserve_drop(struct reserve *r, struct reservation *v);

#endif
