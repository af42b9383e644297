/* The cluster's wall clock as a mount can know it, for the times of what is
 * written here and published later (the mtime of write(2), not of close). Pure.
 *
 *   now = stamp of the newest event + time since it came
 *
 * The time of day of this machine plays no part once an event has come: files
 * made by the leader's clock (create, mkdir) and files written here are dated by
 * the same one. Every stamp is later than all before it, and than everything that
 * the mount has heard of (as in Lamport's clocks). It runs a little slow, so that
 * it does not get ahead of a leader that lets its own slow down (writes.c). */
#ifndef KVFS_KVFS_LINK_STAMP_H
#define KVFS_KVFS_LINK_STAMP_H

#include <stdint.h>

/* All zeros: nothing is known yet. */
struct stamp {
    int64_t heard_ns;     /* stamp of the newest event; 0: none */
    uint64_t heard_at_ns; /* when it came, clock_boot_ns() */
    int64_t last_ns;      /* given out last */
};

/* An event with this stamp has come. One far behind what was given out means that
 * the cluster's clock was set back; then this one goes back, too. */
void stamp_learn(struct stamp *s, uint64_t wall_ns, uint64_t boot_ns);
/* The time for something that happens now. wall_ns: this machine's time of day, for
 * as long as nothing has been heard. */
int64_t stamp_next(struct stamp *s, uint64_t boot_ns, uint64_t wall_ns);

#endif
