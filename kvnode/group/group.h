/* A Raft group of this node: all that there is once for each of them, and how its parts find each
 * other. Each part owns its own state behind its header; this struct only holds them together. It knows
 * nothing of the node but what its owner gives it. Loop thread only.
 *
 *   writes ──┐               ┌── peer_links
 *   reads  ──┼── consensus ──┤
 *            │     │ apply   └── outgoing, incoming
 *   events ◄─┴── store ── journal ── writeback ── state.db
 */
#ifndef KVFS_KVNODE_GROUP_GROUP_H
#define KVFS_KVNODE_GROUP_GROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "kvnode/config/config.h"
#include "kvnode/disk/writeback.h"
#include "kvnode/group/clock_lead.h"
#include "kvnode/group/clock_watch.h"
#include "kvnode/group/condition.h"
#include "kvnode/group/consensus.h"
#include "kvnode/group/digest_ring.h"
#include "kvnode/group/heal.h"
#include "kvnode/group/meter.h"
#include "kvnode/group/peer_handlers.h"
#include "kvnode/group/peer_links.h"
#include "kvnode/group/reserve.h"
#include "kvnode/group/shared_log.h"
#include "kvnode/loop/turn.h"
#include "kvnode/state/journal.h"
#include "kvnode/state/store.h"

/* Longer than a client's own deadline would be waiting for nothing. */
#define GROUP_REQUEST_MS 9500
/* Of the tokens of consensus_read_index(), those with this bit are the owner's. */
#define GROUP_OWNER_TOKEN (UINT64_C(1) << 63)

struct events;
struct incoming;
struct leases;
struct mounts;
struct outgoing;
struct reads;
struct scrub;
struct verify;
struct writes;

/* What a group uses of its node. */
struct group_owner {
    void *arg;
    const struct config *config; /* borrowed, as all of these */
    uv_loop_t *loop;
    struct turn *turn;
    struct shared_log *log; /* before group_open() */
    struct clock_watch *clock;
    const struct peer_links *links; /* before group_start() */

    /* A removed inode that is pinned keeps so many bytes. */
    void (*on_held)(void *arg, uint64_t ino, uint64_t bytes);
    /* The state goes, and with it all pins; another one is in force, in another state.db. */
    void (*on_state_dropped)(void *arg);
    void (*on_state_replaced)(void *arg);
    /* state.db has got on. */
    void (*on_written_behind)(void *arg);
    /* See consensus.h. */
    void (*on_read)(void *arg, uint64_t token, uint64_t index, int code); /* of a GROUP_OWNER_TOKEN */
    void (*on_log_shorter)(void *arg, uint64_t peer, uint64_t index, uint64_t match);
    void (*on_contradiction)(void *arg);
};

struct group {
    const struct group_owner *owner; /* borrowed */
    uint16_t number;
    char dir[4000];        /* what belongs to this group */
    char state_path[4096]; /* dir/state.db */

    /* The state machine. Replaced as a whole by an install. */
    struct journal *journal;
    struct store *store;
    struct writeback *writeback; /* NULL while an install is under way */
    uv_async_t writeback_wake;
    uint64_t durable_told; /* what consensus knows to be durable */
    struct digest_ring digests;
    uint64_t apply_until_ns; /* clock_boot_ns(): when applying has had its time of this turn; 0: not begun */
    bool applying;           /* group_apply() is under way */
    uv_idle_t behind;        /* runs while it has more to do */

    struct peer_handlers handlers; /* who takes what peers say to this group */
    struct consensus *consensus;
    struct events *events;
    struct incoming *incoming;
    struct leases *leases;
    struct mounts *mounts;
    struct outgoing *outgoing;
    struct reads *reads;
    struct reserve reserve; /* promised to clients */
    struct scrub *scrub;
    struct verify *verify;
    struct writes *writes;
    struct clock_lead clock;
    struct meter meter;

    uint64_t minority_since_ms;   /* 0: a majority is linked */
    uint64_t leaderless_since_ms; /* 0: a leader is known */
    uint64_t full_since_ms;       /* 0: log.db's disk has room */
    uint64_t room_since_ms;       /* of a disk that was full: it has had room from then on */
    bool has_log;                 /* when it was opened */
    enum condition condition;     /* of the state; through group_condition() only */
    struct heal heal;
    unsigned expiring;         /* EXPIREs under way; expiry.h */
    uint32_t expiry_round;     /* of store_expired() */
    uint64_t expiry_again_ms;  /* when the next one goes, boot clock; 0: whenever it has to */
    bool root_given;           /* the owner of a new cluster's root directory is settled */
    uint64_t level_awaited_ms; /* 0: no write has waited for it here, see level_awaited() */
    bool level_asked;          /* a new cluster's feature level is being raised, or was: see level_beat() */
};

/* ---- life, in this order ---- */

/* Makes the parts that need no file. dir exists. 0 or -ENOMEM; *out is there in any case but without
 * memory for itself (NULL). */
int group_new(uint16_t number, const char *dir, const struct group_owner *owner, struct group **out);
/* Loads the state, a damaged one is set aside; reads the log. Nothing is written that a node to which the
 * files do not belong would miss. 0, or -errno with why (512 bytes). */
int group_open(struct group *g, bool *has_log_out, char *why);
/* Completes an install that was cut off; a state without its log is set aside. Likewise. */
int group_recover(struct group *g, char *why);
/* Writes behind from here on; takes_part: the engine goes live, else consensus_start() is the owner's.
 * Likewise. */
int group_start(struct group *g, bool takes_part, char *why);
/* Everything that waits for this group is answered as after its deadline. */
void group_end_requests(struct group *g);
/* Nothing is promised any more, and what was promised is written. False: a worker is still at a state file,
 * so the process ends here instead. */
bool group_stop(struct group *g);
void group_free(struct group *g); /* after the loop has closed the handles; NULL is ignored */

/* ---- turns and beats ---- */

/* The link to that peer is there, perhaps again: what may have been lost goes once more. */
void group_linked(struct group *g, uint64_t peer);

/* When it wants another turn, ms from now; UINT64_MAX: whenever. */
uint64_t group_turn_end(struct group *g);
void group_turn_over(struct group *g); /* behind all output */
void group_beat(struct group *g, uint64_t now_ms);
/* There is more to do: the loop does not sleep before the next turn. */
void group_turn_again(struct group *g);
/* Applies what is committed, as far as this turn has time for it. */
void group_apply(struct group *g);
struct consensus_callbacks group_consensus_callbacks(struct group *g);

/* This node knows that it cannot reach a majority. */
bool group_in_minority(const struct group *g);
/* This node's log.db has had no room for a while: it stores and applies nothing, so
 * that its clients are better served by another node. */
bool group_disk_full(const struct group *g);
/* Ends the process after a failure that must not be survived. */
void group_die(const char *why) __attribute__((noreturn));

/* ---- the state ---- */

/* Makes a fresh store with its journal, events connected. 0 or -ENOMEM. */
int group_store_new(struct group *g, struct journal **journal_out, struct store **store_out);
/* Nobody but the parts of the group moves it; to where the condition may not go is a bug. */
void group_condition(struct group *g, enum condition to);
bool group_serves(const struct group *g); /* condition_serves() */
/* The state is about to be replaced (REPLACING or HEALING): takes it out of force, and serves nobody until
 * then. dropped_free() ends the writer and frees all; any thread, and before the new
 * state is loaded. */
struct dropped {
    struct writeback *writeback;
    struct store *store;
    struct journal *journal;
};
void group_store_drop(struct group *g, enum condition why, struct dropped *dropped_out);
void dropped_free(struct dropped *d);
/* Puts a loaded store in force, with its write-behind (the old one is freed). */
void group_store_replace(struct group *g, struct journal *journal, struct store *store,
                         struct writeback *writeback);
/* The state that was loaded while HEALING is there: applies what the log has beyond it, and serves;
 * or, if the log begins behind it, awaits another one. */
void group_healed(struct group *g);
/* A damaged state.db, or one that is not to be used, is kept under another name, and an empty state takes its
 * place. 0, or -errno with why (512 bytes). */
int group_set_aside(struct group *g, char *why);
/* What state.db has to be marked with here. */
struct state_owner group_state_owner(const struct group *g);
/* Waits for the disk: any thread. 0 or -errno with why. */
int group_start_writeback(struct group *g, const struct state_owner *own, struct journal *journal,
                          struct store *store, struct writeback **out, char *why);
/* The writer of state.db has got on, or changed its state. */
void group_written_behind(struct group *g);

#endif
