/* How far a node is behind what is committed, in time. Pure. */
#ifndef KVFS_KVNODE_PEER_PROGRESS_H
#define KVFS_KVNODE_PEER_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* How a node gets on with what is committed. Zeroed to begin with. */
struct progress {
    uint64_t mark, mark_ms; /* an index that was committed then */
    uint64_t caught_ms;     /* it had all that was committed at this time; 0: not known yet */
    uint64_t applied, risen_ms;
    bool caught; /* has all that was committed at the last note */
};

/* newest: what is known to be committed, anywhere. Times: clock_boot_ms(). */
void progress_note(struct progress *p, uint64_t now_ms, uint64_t newest, uint64_t applied);
/* For how long it has not had all. */
uint64_t progress_lag_ms(const struct progress *p, uint64_t now_ms);

#endif
