/* A deterministic simulation of a cluster: real engines, and everything around
 * them (clocks, disks, network, crashes, the state machine, snapshot files)
 * made of random numbers. One seed is one run; time is virtual.
 *
 *   sim.c      options, one run, the loop over seeds
 *   events.c   the queue of what happens next, random numbers
 *   truth.c    what must hold whatever happens, checked after every event
 *   disk.c     the stored log and state, writes in flight, torn by crashes
 *   network.c  messages, cuts, loss, repetition, disorder; snapshot transfers
 *   node.c     one node around its engine: start, crash, operations
 *   lease.c    read leases: owners, mounts that cache, readers
 *   faults.c   what goes wrong, and what clients and administrators ask */
#ifndef KVFS_TESTS_SIM_SIM_H
#define KVFS_TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdnoreturn.h>

#include "sync/raft/engine/engine.h"
#include "sync/raft/engine/internal.h"
#include "sync/raft/engine/knobs.h"

#define MAX_NODES 7
#define MAX_TERM 65536

/* ---- options ---- */

struct options {
    int verbose; /* 1: trace what happens, 2: messages too */
    int nodes;   /* voters at the beginning, 0: 3 or 5 */
    bool no_change, no_transfer, no_crash, no_faults, fifo;
    bool no_acknowledge_check;
    bool leases, no_pending, no_invalidation; /* read leases; two bugs of their owners */
    int real_drift;                           /* permille, of the clocks; -1: drift */
    bool early_ticks;                         /* call engine_tick() every 10 ms: must not matter */
    int drift;                                /* permille */
    int64_t fault_ms, heal_ms;
    struct engine_knobs knobs;
};
extern struct options options;

/* ---- the state machine and its file ---- */

struct state {
    uint64_t applied, chain, count;
};

/* ---- events ---- */

enum event_type {
    EVENT_MESSAGE, /* arrives; data: struct engine_message */
    EVENT_DISK,    /* the disk of a node has finished something */
    EVENT_CRASH,
    EVENT_RESTART,
    EVENT_FORGET, /* a voter restarts and is cut off from its leader */
    EVENT_SUBMIT,
    EVENT_CHANGE,
    EVENT_TRANSFER, /* of leadership */
    EVENT_NETWORK,  /* another network */
    EVENT_SLOW,     /* a disk becomes slow for a while */
    EVENT_READ,
    EVENT_LOOK,              /* somebody reads at a node or from its mount's cache */
    EVENT_LETTER,            /* something arrives at a mount */
    EVENT_DISTURB,           /* a mount becomes slow, or idle */
    EVENT_PAUSE,             /* a process is stopped for a while */
    EVENT_STATE_DURABLE,     /* write-behind of a state machine */
    EVENT_SNAPSHOT_FILE,     /* a state file is made; data: struct transfer, in these four */
    EVENT_SNAPSHOT_ARRIVES,  /* it is complete at the receiver */
    EVENT_SNAPSHOT_FINISHED, /* the sender hears of that */
    EVENT_SNAPSHOT_FAILED,   /* the sender gives up */
    EVENT_HEAL,              /* no more faults */
    EVENT_MARK,              /* what is proposed now has to be applied everywhere */
};

struct event {
    int64_t t;
    uint64_t seq;
    enum event_type type;
    int node;
    unsigned epoch; /* of the node when the event was made */
    void *data;
};

void events_reset(uint64_t seed);
void events_push(int64_t t, enum event_type type, int node, void *data);
/* The same event, later: as if it had come then. */
void events_push_again(const struct event *e, int64_t t);
bool events_next(int64_t *t_out); /* false: none */
struct event events_pop(void);
void events_free_data(struct event *e);

uint64_t rnd(void);
int64_t rnd_range(int64_t from, int64_t to); /* both included */
bool rnd_chance(double p);
uint64_t mix(uint64_t a, uint64_t b);

/* ---- disks ---- */

struct disk {
    uint64_t term, vote;
    uint64_t start_index;
    struct entry **entries;
    size_t n, cap;
    struct snapshot_meta snapshot;
    struct state state;          /* the state file */
    bool half_installed;         /* the state file was replaced, the log not yet */
    struct snapshot_meta labels; /* of that state file */
};

enum disk_operation_type { DISK_APPEND, DISK_TRIM, DISK_INSTALL };

struct disk_operation {
    enum disk_operation_type type;
    bool done; /* written early, by a flush */
    uint64_t index;
    struct entry **entries;
    size_t n;
    struct snapshot_meta meta;
    struct state file; /* INSTALL */
};

struct node;
struct entry *disk_entry(const struct disk *d, uint64_t index);
uint64_t disk_last(const struct disk *d);
/* The disk holds what is needed to say that `index` of `term` is durable. */
bool disk_has(const struct disk *d, uint64_t index, uint64_t term);
struct disk_operation *disk_queue(struct node *n, enum disk_operation_type type);
void disk_kick(struct node *n);
void disk_flush(struct node *n);
void disk_format(struct node *n, struct entry *first);
/* One or more operations of the queue are finished, and the engine is told. */
void disk_finish(struct node *n);
/* Any prefix of the queue has reached the disk, the next one perhaps in part. */
void disk_crash(struct node *n);
void disk_complete_install(struct disk *d);
void disk_free(struct node *n);

/* ---- nodes ---- */

struct node {
    int id;
    bool up;
    unsigned epoch, lives;
    struct engine *engine;
    struct disk disk;
    struct disk_operation *queue;
    size_t n_queue, cap_queue;
    bool disk_busy;
    int64_t slow_until;
    int64_t paused_until;
    struct state state;
    int64_t clock_offset;
    int drift;
    int64_t tick_jitter;
    const struct state *arriving; /* the file of the install message being received */
    /* for truth.c */
    uint64_t max_term, checked_commit;
};

struct world {
    struct node nodes[MAX_NODES + 1]; /* [0] is not used */
    int64_t now;
    uint64_t seed;
    bool healed, calm;
    bool cut[MAX_NODES + 1][MAX_NODES + 1];
    struct engine_config base;
    uint64_t mark_commit;
    bool mark_read_pending;
};
extern struct world world;

uint64_t node_clock(const struct node *n);
int64_t node_when(const struct node *n, uint64_t clock); /* world time at which its clock shows that */
bool node_leads(const struct node *n);
void node_start(struct node *n);
void node_crash(struct node *n);
/* After every call of an engine: its result, the invariants, the end of the turn. */
void node_check(struct node *n, int result, const char *what);

/* ---- network ---- */

struct transfer {
    int from, to;
    unsigned from_epoch;
    uint64_t term; /* of the sender when the transfer began */
    struct snapshot_meta meta;
    struct state file;
    int tries;
    bool repeated; /* delivered once more; nobody waits for it */
};

void network_reset(void);
void network_random(void);
void network_send(struct node *from, struct engine_message *m);
void network_request_snapshot(struct node *from, uint64_t to);
void network_on_event(struct event *e);
void transfer_free(struct transfer *t);

/* ---- read leases ---- */

void lease_reset(void);
void lease_on_start(struct node *n);
void lease_on_state(struct node *n);
void lease_on_apply(struct node *n, uint64_t index, const struct entry *e);
void lease_turn(struct node *n);
void lease_look(struct node *n);
void lease_on_letter(struct node *n);
void lease_disturb(struct node *n);

/* ---- faults and clients ---- */

void faults_begin(void);
void faults_on_event(struct event *e);
/* At the end of a run: everything that was marked is done. */
void faults_check_end(void);

/* ---- truth ---- */

void truth_reset(void);
uint64_t truth_committed(void);
void truth_on_committed(uint64_t index, struct entry *e, int node, uint64_t term);
void truth_on_append(struct node *n, uint64_t index, struct entry *const *entries, size_t count);
void truth_on_term(struct node *n, uint64_t term, uint64_t vote);
void truth_on_role(struct node *n, enum engine_role role, uint64_t term);
void truth_on_apply(struct node *n, uint64_t index, struct entry *e);
void truth_on_state_file(const struct node *n, const struct state *s);
void truth_on_acknowledge(struct node *n, const struct engine_message *m);
uint64_t truth_read_begins(int node);
void truth_read_refused(void);
void truth_read_answered(uint64_t token, uint64_t index, int result);
void truth_lease_read(struct node *n);
void truth_check(struct node *n);

/* ---- reporting ---- */

struct counters {
    uint64_t events, messages, lost, commits, elections, crashes, starts, trims, transfers_begun, installs,
        changes, leader_transfers, reads, reads_failed, lease_yes, lease_no, notices, lease_reads,
        lease_cached, lease_without, pauses;
};
extern struct counters counters;

void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* An invariant is broken: prints and leaves the run. */
noreturn void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
