/* What a node knows of its clock, against those of the others (skew.h). A clock that is off from the
 * majority's is not stamped with. Nor is one that was set (it has stepped against CLOCK_BOOTTIME), or that
 * nobody has confirmed since the node started, until the others have spoken, which takes a heartbeat. One
 * for all groups; what a leader does about it: clock_lead.h. Loop thread only. */
#ifndef KVFS_KVNODE_GROUP_CLOCK_WATCH_H
#define KVFS_KVNODE_GROUP_CLOCK_WATCH_H

#include "kvnode/group/skew.h"

/* Zeros at the start. */
struct clock_watch {
    struct skew skew;
    struct skew_view view; /* as of the last beat */
    bool confirmed;        /* since the start, and since it was last set */
    uint64_t doubted_ms;   /* since when it is not */
    int64_t base_ns;       /* time of day less CLOCK_BOOTTIME, as of the last look */
    uint64_t off_since_ms; /* 0: it is not off */
    bool told;
};

/* voters: ids of all, this node's own is self. */
void clock_watch_beat(struct clock_watch *w, uint64_t self, const uint64_t *voters, size_t n_voters,
                      uint64_t now_ms);
/* It has been off for so long that another node should lead. */
bool clock_watch_gives_way(const struct clock_watch *w, uint64_t now_ms);
/* The peer's clock is one of the majority's. */
bool clock_watch_trusts(const struct clock_watch *w, uint64_t peer, uint64_t now_ms);

/* stored_ns, in all of these: the time of the last change in the state, 0: there is none.
 * This node's time of day; 0: it is not to be stamped with. */
uint64_t clock_watch_wall_ns(struct clock_watch *w, uint64_t stored_ns);
/* How far the stored time is ahead of the clocks that a majority of the nodes agree on;
 * 0: not at all, or there is no such majority. */
uint64_t clock_watch_ahead_ns(const struct clock_watch *w, uint64_t stored_ns);
/* The time to which the stored time may be set back now: that of a majority's clocks, which agree, and
 * of which it is ahead by more than CLOCK_BACK_MIN_NS. 0: it may not. */
uint64_t clock_watch_set_back_ns(struct clock_watch *w, uint64_t stored_ns);

#endif
