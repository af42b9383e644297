/* What the engine's own files share. Not for others. */
#ifndef KVFS_SYNC_RAFT_ENGINE_INTERNAL_H
#define KVFS_SYNC_RAFT_ENGINE_INTERNAL_H

#include "sync/raft/engine/core.h"
#include "sync/raft/engine/engine.h"
#include "sync/raft/engine/entry_log.h"
#include "sync/raft/engine/knobs.h"

/* Every server that was ever in the configuration since we became leader. */
#define MAX_PEERS (2 * CONFIGURATION_MAX_SERVERS)

/* What a leader knows of a server beside what the core knows; reset when
 * leadership begins. */
struct peer {
    uint64_t id;
    uint64_t echo_ms;      /* newest sending time that it echoed, 0: none */
    uint64_t pong_seq;     /* newest ReadIndex round that it confirmed */
    uint64_t told_commit;  /* the commit index that our messages let it reach */
    uint64_t snapshot_ms;  /* when its transfer ended; repeats are dropped for install_ms, 0: none did */
    bool snapshot_running; /* send_snapshot() was called and not answered yet */
    /* Its read lease, as we count it: until when (0: none), and up to where it has invalidated. */
    uint64_t lease_until, lease_invalidated;
    uint64_t lease_sent_ms;    /* its clock, of the newest message about that */
    uint64_t late_since_ms;    /* what is stored waits for its invalidation; 0: no */
    uint64_t shunned_until_ms; /* it gets no lease */
    uint64_t shun_ms;          /* the last time for so long */
};

/* A write handed to save_entries and not yet durable. A truncation shortens
 * what it may acknowledge: comparing terms at its completion is not enough, as
 * an entry of the same index and term can have been deleted and queued again. */
struct pending_write {
    uint64_t from, upto;
};

struct write_queue {
    struct pending_write *slots; /* owned */
    size_t head, n, cap;
};

/* Configurations that are applied, oldest first; [0] is the snapshot's. */
struct applied_configuration {
    uint64_t index;
    struct entry *entry; /* owned reference */
};

struct read_list {
    uint64_t *tokens; /* owned */
    size_t n, cap;
};

/* ReadIndex: reads wait in `waiting` until a round starts, then are in `asked`. */
struct reads {
    struct read_list waiting, asked;
    uint64_t seq;     /* of the newest round */
    uint64_t index;   /* commit index when the round started */
    uint64_t sent_ms; /* when it was last asked */
};

/* lease.c. The holder's side, a leader's own lease included, and what a leader promised. */
struct lease {
    bool wanted;
    bool refused;         /* leader: grants none */
    uint64_t term;        /* that accepted, invalidated, told and until belong to */
    uint64_t accepted;    /* follower: our log is the leader's up to here, at least */
    uint64_t invalidated; /* up to here the owner has had everything forgotten */
    uint64_t told;        /* what of that the leader was told */
    uint64_t until;       /* 0: no lease */
    uint64_t since_ms;    /* what was asked before says nothing of us as we are now */
    uint64_t asked_ms;
    uint64_t promise_ms; /* until then: no vote, no candidacy, and nothing more is shown */
    uint64_t pause_ms;   /* leader: grants nothing before, so that a change gets its turn */
    bool transfer_waits; /* leader: for the leases to run out */
    uint64_t transfer_to;
};

struct engine {
    struct engine_config config;
    struct engine_knobs knobs; /* copy, all false without */
    struct engine_ops ops;
    struct core *core; /* owned */
    uint64_t now, started_ms, ticked_ms;
    uint64_t heard_ms;  /* when a leader's message was last accepted */
    uint64_t echoed_ms; /* sending time of the newest message echoed, on the leader's clock */
    uint64_t echoed_term;

    struct entry_log log;
    struct write_queue writes;
    uint64_t commit;    /* never goes back; the core's can */
    uint64_t applied;   /* reported to apply(), or contained in what was restored */
    uint64_t fsm_index; /* the state machine has everything up to here */

    struct snapshot_meta snapshot; /* the core's; index 0: none */
    struct snapshot_meta installing;
    bool is_installing;
    struct applied_configuration *configurations; /* owned */
    size_t n_configurations, cap_configurations;
    uint64_t pins[ENGINE_MAX_PINS];
    unsigned n_pins;

    enum engine_role role;
    uint64_t term_first;  /* leader: index of the first entry of this term, 0: not known yet */
    bool transferred;     /* leader: a transfer was tried in this term */
    uint64_t demoted;     /* leader: server that must not see its demotion before it is committed */
    uint64_t demoted_at;  /* the index of that change */
    bool answering_stale; /* while a message of an older term's leader is stepped */
    struct peer peers[MAX_PEERS];
    unsigned n_peers;
    struct reads reads;
    struct lease lease;
    uint64_t leased_ms; /* of the last lease_tick() */

    int dead; /* negative errno, 0: alive */
    char failure[256];
};

/* engine.c */
/* Marks the engine dead, once; returns the negative errno. */
int engine_die(struct engine *e, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Passes refusals and 0 on; a negative result of a core_ call kills the engine. */
int engine_check(struct engine *e, int result, const char *what);
/* The peer's record, made on first use; NULL: too many servers. */
struct peer *engine_peer(struct engine *e, uint64_t id);
uint64_t engine_core_timeout(const struct engine *e);

/* step.c */
int step_update(struct engine *e, struct core_update *u, struct entry *const *given);
/* Applies what is committed. At the end of every entry point. */
int step_advance(struct engine *e);
void step_send(struct engine *e, struct engine_message *m);
/* Leader, before the core may send entries: to one peer, which has all up to `match`, or (0) to all. The core
 * counts entries where memory and a turn's time are bytes. */
void step_open_window(struct engine *e, uint64_t peer, uint64_t match);
int step_submit(struct engine *e, struct entry *const *entries, size_t n, uint64_t *first_index_out);

/* writes.c */
void write_queue_deinit(struct write_queue *q);
bool write_queue_push(struct write_queue *q, uint64_t from, uint64_t upto);
struct pending_write write_queue_pop(struct write_queue *q); /* n > 0 */
/* Nothing at or behind index may be acknowledged by the writes of now. */
void write_queue_clip(struct write_queue *q, uint64_t index);

/* reads.c */
void reads_fail(struct engine *e);
void reads_on_pong(struct engine *e, const struct engine_message *m);
int reads_flush(struct engine *e);
uint64_t reads_timeout(const struct engine *e); /* UINT64_MAX: none */
void reads_deinit(struct reads *r);
/* The length of the leader's own lease, counted from the sending of what a majority accepted. */
uint64_t reads_lease_ms(const struct engine *e);

/* lease.c */
void lease_start(struct engine *e);   /* before the core's */
void lease_started(struct engine *e); /* and behind it */
/* Role or term may have changed in the core: before anything of the update is carried out. */
void lease_follow(struct engine *e);
/* Our log was replaced by a state file: what was accepted, asked and granted before is void. */
void lease_void(struct engine *e);
/* An AppendEntries went through the core. */
void lease_accept(struct engine *e, const struct engine_message *m);
/* Brings the commit index up to what may be shown. */
void lease_show(struct engine *e);
/* What of this commit index may be told to others. */
uint64_t lease_announce(const struct engine *e, uint64_t commit);
bool lease_forbids_vote(const struct engine *e); /* and any candidacy */
void lease_on_request(struct engine *e, const struct engine_message *m);
void lease_on_grant(struct engine *e, const struct engine_message *m);
void lease_flush(struct engine *e); /* end of a turn */
/* Leases run: the transfer is made when they are over. */
bool lease_delays_transfer(struct engine *e, uint64_t to);
/* Leases run: none is renewed for a while, and then it may be asked again. */
bool lease_delays_change(struct engine *e);
uint64_t lease_timeout(const struct engine *e); /* UINT64_MAX: none */
int lease_tick(struct engine *e);

/* snapshot.c */
int snapshot_note_configuration(struct engine *e, uint64_t index, struct entry *change);
void snapshot_request(struct engine *e, uint64_t peer);
void snapshot_deinit(struct engine *e);

#endif
