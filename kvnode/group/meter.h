/* What a group does, counted: commands that were executed, and how long those that this node proposes as the
 * leader take to be committed. For status pages; nothing depends on it. Loop thread only. */
#ifndef KVFS_KVNODE_GROUP_METER_H
#define KVFS_KVNODE_GROUP_METER_H

#include <stdint.h>

#include "sync/base/histogram.h"
#include "sync/wire/command.h"

#define METER_BATCHES 256
#define METER_WINDOW_MS 1000

struct meter {
    struct histogram commit; /* from the proposal of a command to its commit */
    uint64_t writes;         /* commands of clients that were executed here, as on every node */
    /* Of the last window in which there were any; 0: there were none in the last one. */
    uint64_t p50_us, p99_us;

    uint64_t window_ms; /* boot clock: when this one began */
    struct histogram before;
    uint64_t term;
    struct {
        uint64_t index, since_ns;
        unsigned n;
    } out[METER_BATCHES]; /* proposed, in order: a ring. One for which there is no room is not measured */
    unsigned first, n;
};

/* n commands, of which the last one is to have this index, go into the log now. */
void meter_proposed(struct meter *m, uint64_t term, uint64_t index, unsigned n, uint64_t now_ns);
/* The log of this term is committed up to there. */
void meter_committed(struct meter *m, uint64_t term, uint64_t index, uint64_t now_ns);
void meter_executed(struct meter *m, enum command_op op);
void meter_beat(struct meter *m, uint64_t now_ms);

#endif
