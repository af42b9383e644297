/* What a group does about the node's clock (clock_watch.h): a leader whose clock is off hands leadership to a
 * node whose clock is right. Loop thread only. */
#ifndef KVFS_KVNODE_GROUP_CLOCK_LEAD_H
#define KVFS_KVNODE_GROUP_CLOCK_LEAD_H

#include <stdbool.h>
#include <stdint.h>

struct group;

/* In struct group; zeros at the start. */
struct clock_lead {
    uint64_t again_ms; /* not handed over before */
    bool told_ahead;
};

/* Every heartbeat, after clock_watch_beat(). */
void clock_lead_beat(struct group *g, uint64_t now_ms);

#endif
