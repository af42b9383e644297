/* The wall clock as the leader stamps it into commands. Pure; loop thread.
 *
 * The state machine sees to it that a command is later than the one before it, by a
 * nanosecond if need be (store_apply.c). But if the leader's clock is behind what
 * was stamped before (by an earlier leader whose clock was ahead), nanoseconds are
 * not enough: rsync compares seconds, people look at times. So the leader goes on
 * from the stored time, a little slower than time passes, until its clock has
 * caught up:
 *
 *   stamp = max(clock, stored + passed × 199/200)
 *
 * 3 s are made up in 10 minutes, a day in 200 days; for that see `kvnode clock`. */
#ifndef KVFS_KVNODE_GROUP_STAMPS_H
#define KVFS_KVNODE_GROUP_STAMPS_H

#include <stdbool.h>
#include <stdint.h>

/* All zeros: nothing is known yet. */
struct stamps {
    uint64_t from_ns; /* the stored time that is continued; 0: none */
    uint64_t from_boot_ns;
    bool set_back; /* a command that sets the stored time back is in the log: it is not continued */
};

/* The stamp of the next command. clock_ns: this node's time of day; 0: it is known to
 * be wrong. stored_ns: of the newest command in the state; 0: not known yet. */
uint64_t stamps_next(struct stamps *s, uint64_t clock_ns, uint64_t boot_ns, uint64_t stored_ns);
/* The leader proposes a command that sets the stored time back; a node applies one. */
void stamps_setting_back(struct stamps *s);
void stamps_set_back(struct stamps *s);

#endif
