/* Switches that turn a guard off, so that tests and the simulator can show the
 * defect that it guards against. For tests only: true is never safe. */
#ifndef KVFS_SYNC_RAFT_ENGINE_KNOBS_H
#define KVFS_SYNC_RAFT_ENGINE_KNOBS_H

#include <stdbool.h>

struct engine_knobs {
    bool no_init_fix;     /* answer to a stale leader looks like an acknowledgement */
    bool no_trim;         /* entries that were compacted away are appended again */
    bool no_solo_guard;   /* a sole voter leads twice in one term */
    bool no_split;        /* a change that is not first in its message */
    bool no_barrier;      /* changes and reads before an entry of the own term is committed */
    bool raw_commit;      /* the commit index goes back */
    bool no_prevote_fix;  /* a refused pre-vote never learns the term */
    bool no_vote_fix;     /* a non-voter by its own log never votes */
    bool no_change_guard; /* a server learns of its demotion before it is committed */
    bool no_stale_filter; /* a stale rejection stops replication to a peer */
    bool no_fast_back;    /* one round trip for each conflicting entry */
    bool no_start_guard;  /* a restarted voter votes although it may hold a lease */
    bool no_install_hold; /* heartbeats are refused while a snapshot is installed */
    bool no_agreement;    /* a leader without a committed entry is followed */
    bool no_write_clip;   /* a write whose entries were replaced counts as theirs */
    bool double_lease;    /* a lease twice as long as is safe */
    /* Read leases (lease.c). */
    bool no_lease_hold;       /* entries are shown before the holders have invalidated them */
    bool no_lease_promise;    /* a leader that steps down votes, stands and shows at once */
    bool lease_ungated;       /* used before what the leader shows is invalidated */
    bool lease_from_receipt;  /* counted from the answer */
    bool lease_log_end;       /* what stands in the log counts as the leader's */
    bool lease_too_long;      /* beyond the leader's own */
    bool lease_short_hold;    /* the leader's end comes before the holder's */
    bool lease_fast_transfer; /* leadership is handed over while leases run */
    bool lease_fast_change;   /* voters change while leases run */
    bool lease_early;         /* a restarted holder asks while its last life's may run */
};

#endif
