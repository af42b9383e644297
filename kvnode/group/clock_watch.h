/* What a node does about its clock: a leader whose clock is off from the
 * majority's (skew.h) does not stamp with it, says so, and hands leadership to a
 * node whose clock is right. A clock that was set (it has stepped against
 * CLOCK_BOOTTIME), or that nobody has confirmed since the node started, is not
 * stamped with until the others have spoken, which takes a heartbeat. Loop thread
 * only. */
#ifndef KVFS_KVNODE_GROUP_CLOCK_WATCH_H
#define KVFS_KVNODE_GROUP_CLOCK_WATCH_H

#include "kvnode/group/skew.h"

struct node;

/* In struct node; zeros at the start. */
struct clock_watch {
    struct skew skew;
    struct skew_view view; /* as of the last beat */
    bool confirmed;        /* since the start, and since it was last set */
    uint64_t doubted_ms;   /* since when it is not */
    int64_t base_ns;       /* time of day less CLOCK_BOOTTIME, as of the last look */
    uint64_t off_since_ms; /* 0: it is not off */
    uint64_t again_ms;     /* not handed over before */
    bool told, told_ahead;
};

void clock_watch_beat(struct node *n, uint64_t now_ms);
/* This node's time of day; 0: it is not to be stamped with. */
uint64_t clock_watch_wall_ns(struct node *n);
/* How far the stored time is ahead of the clocks that a majority of the nodes agree on;
 * 0: not at all, or there is no such majority. */
uint64_t clock_watch_ahead_ns(const struct node *n);

/* The time to which the stored time may be set back now: that of a majority's clocks, which agree, and
 * of which it is ahead by more than CLOCK_BACK_MIN_NS. 0: it may not. */
uint64_t clock_watch_set_back_ns(struct node *n);

#endif
