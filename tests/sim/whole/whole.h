/* A deterministic simulation of whole nodes: kvnode's writes, reads, snapshots,
 * consensus, store and journal as they are, and everything below them (loop,
 * clocks, random source, disks, links, the files' contents) made of random
 * numbers. One seed is one run; time is virtual, in microseconds.
 *
 *   main.c       options, one run, the loop over seeds
 *   queue.c      what happens next, random numbers, the trace
 *   loop.c       libuv as far as the nodes use it, clocks, random bytes, the end of a process
 *   defaults.c   settings of the engine that kvnode does not offer
 *   host.c       one machine: starting a node like node/node.c, crashes, what a group's callbacks report
 *   disk.c       log_store.h: log.db with writes in flight, torn by crashes, slow, full, failing
 *   state.c      state_db.h and writeback.h: state.db is an index; loading it applies the log up to there
 *   network.c    peer_links.h: links that are slow, one-way, cut, and made anew
 *   client.c     clients with sessions: numbering, retries, giving up
 *   lockers.c    mounts that lock files, and have tables of locks for themselves
 *   request.c    what they ask: choosing operations, encoding, what a read sees
 *   request_way.c  requests at the node, and on the way
 *   truth.c      what must hold whatever happens
 *   history.c    what clients saw, given to linear.c
 *   linear.c     the checker of linearizability
 *   faults.c     what goes wrong
 *   forget.c     nodes that are put back from an older copy of their files, or lose them
 *   plant.h      bugs that are planted, so that finding them is tested */
#ifndef KVFS_TESTS_SIM_WHOLE_WHOLE_H
#define KVFS_TESTS_SIM_WHOLE_WHOLE_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "kvnode/node/node_state.h"
#include "kvnode/peer/peers.h"
#include "sync/raft/engine/configuration.h"
#include "sync/raft/log/log_store.h"
#include "tests/sim/whole/plant.h"

#define MAX_HOSTS 5
#define MS 1000
#define SECOND 1000000

struct options {
    int verbose; /* 1: what happens, 2: frames and the nodes' own log too */
    int hosts;   /* 0: 3 to 5 */
    bool no_faults;
    bool damage;        /* state.db may be found damaged */
    bool locks;         /* mounts lock files, too */
    bool forget;        /* files may be lost, or replaced by an older copy of them */
    bool sessions_only; /* no requests without a session */
    int64_t fault_us, calm_us;
    enum plant plant;
};
extern struct options options;

/* ---- what happens next ---- */

struct host;
typedef void happening(struct host *h, void *arg, uint64_t number);

uint64_t rnd(void);
int64_t rnd_range(int64_t from, int64_t to); /* both included */
bool rnd_chance(double p);
uint64_t mix(uint64_t a, uint64_t b);

void queue_reset(uint64_t seed);
/* At t, in this life of the host; NULL: in the world. drop: takes arg if it never
 * happens (may be NULL). */
void queue_at(int64_t t, struct host *h, happening *what, void *arg, uint64_t number,
              void (*drop)(void *arg));
/* The next thing happens; false: nothing is left, or its time is beyond `until`. */
bool queue_step(int64_t until);

void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Something does not hold: prints and leaves the run. */
void violation(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* ---- disks ---- */

enum disk_operation_type { DISK_APPEND, DISK_TRIM, DISK_RESET, DISK_NOTE };

struct disk_operation {
    enum disk_operation_type type;
    uint64_t index;
    struct entry **entries;
    size_t n;
    struct snapshot_meta meta;
    struct buffer note;
};

/* log.db: what is on the disk, and what is on its way there. */
struct disk {
    bool exists;
    uint64_t term, vote;
    uint64_t old_term, old_vote; /* PLANT_LOST_VOTE: what was saved before */
    uint64_t start_index;
    struct entry **entries;
    size_t n, cap;
    struct snapshot_meta snapshot;
    struct buffer note;
    struct disk_operation *queue;
    size_t n_queue, cap_queue;
    bool busy;
    int64_t slow_until, full_until;
    bool fsync_fails; /* the next one */
    bool failed;      /* one did: the node has to end */
};

bool disk_has(const struct host *h, uint64_t index, uint64_t term);
uint64_t disk_last(const struct disk *d);
/* Any prefix of what was on its way has arrived, the next one perhaps in part. */
void disk_crash(struct host *h);
/* The node is down: a copy of what is on its disk; what is there in place of it; nothing in place of it. */
void disk_copy(const struct host *h, struct disk *copy_out);
void disk_put_back(struct host *h, const struct disk *copy);
void disk_wipe(struct host *h);
void disk_deinit(struct disk *d);

/* state.db. */
struct state_file {
    bool exists, damaged;
    bool lost;                 /* it was damaged, and nothing has taken its place yet */
    uint64_t flushed, durable; /* survives the end of the process; of the machine */
    uint64_t label;            /* what the file that was installed was said to end at; 0: none was */
    int64_t slow_until;
};
void state_crash(struct host *h, bool power_cut);

/* ---- hosts ---- */

struct host {
    int id;
    bool up, serving;
    unsigned epoch, lives;
    struct node node;
    struct config config;
    struct config_peer peers[MAX_HOSTS];
    char name[16], dir[128];
    struct disk disk;
    struct state_file state;
    /* Clocks. */
    int64_t boot_offset_us, drift_ppm, wall_offset_us;
    int64_t paused_until;
    int64_t clock_set_us; /* when somebody set it last; 0: never */
    bool turn_pending;
    bool behind;                          /* a turn is queued because there is more to apply */
    bool rebuilding;                      /* the store is being loaded: nothing that it reports is news */
    unsigned state_life;                  /* of the write-behind */
    void *stores[4], *journals[4];        /* alive in its memory */
    struct consensus_callbacks callbacks; /* the group's own */
    uint64_t applied_term;                /* PLANT_LOST_RESULT: in which it applied last */
    bool founding;                        /* it was made to found the cluster, and has not */
    bool forgetful;                       /* its files went back or were lost, and it is not whole again */
    uint64_t forgot;                      /* the end of the log that it lost last */
};

struct world {
    struct host hosts[MAX_HOSTS + 1]; /* [0] is not used */
    int n;
    int64_t now;
    uint64_t seed;
    bool calm;       /* no more faults */
    int64_t settled; /* then: all serve, with a leader */
    bool leases;     /* reads under them are served */
    bool short_sessions;
    struct host *current;
    jmp_buf death;
    bool mortal; /* death is set */
    char dir[64];
};
extern struct world world;

uint64_t host_boot_us(const struct host *h);
int64_t host_when_ms(const struct host *h, uint64_t boot_ms); /* world time at which its clock shows that */
void host_start(struct host *h);
void host_crash(struct host *h, bool power_cut);
bool host_leads(const struct host *h);
/* Runs what on the host as one turn of its loop, or part of one. */
void host_run(struct host *h, happening *what, void *arg, uint64_t number);
struct host *host_of_loop(const uv_loop_t *loop);
struct host *host_of_path(const char *path);
/* node.c's part in starting: false, if it cannot, with why. */
bool host_serves(const struct host *h);
bool host_takes_part(const struct host *h); /* it is up, a member, and has not gone back */
/* The node is down: its files are lost. */
void host_wipe(struct host *h);

/* ---- network ---- */

void network_reset(void);
void network_start(struct host *h);
void network_crash(struct host *h, bool power_cut);
void network_random(void);
void network_break_some(void);
void network_calm(void);
void network_free(void);

/* ---- clients ---- */

enum kind {
    OP_SET,
    OP_CAS,
    OP_CREATE,
    OP_APPEND,
    OP_OVERWRITE,
    OP_UNLINK,
    OP_DEL,
    OP_RENAME,
    OP_GET,
    OP_CLOCK,  /* the cluster's time is set back */
    OP_EXPIRE, /* the setting that lets sessions end soon */
    OP_LOCK,   /* of PAIR_ONE, with a fence */
    OP_UNLOCK,
    OP_FENCED, /* a transaction under that fence, or an older one: sets the pair */
    OP_KINDS
};

enum outcome {
    OUTCOME_OPEN,    /* unknown: executed at any time, or never */
    OUTCOME_NONE,    /* surely not executed */
    OUTCOME_ANSWERED /* code says how */
};

/* One operation of a client: what it asked, and what it learned. */
struct op {
    uint64_t id;
    int client;
    enum kind kind;
    int object, a, b;       /* names within the object */
    uint64_t expect;        /* CAS: the content, 0: none */
    uint64_t expect_number; /* its version */
    uint64_t ino;           /* APPEND, OVERWRITE */
    uint32_t len;           /* bytes of the value */
    bool in_parts, sessionless, txn;
    int64_t call, answered;
    enum outcome outcome;
    int code;
    uint64_t content;  /* GET: what was read, 0: nothing */
    uint64_t revision; /* of the result; GET: applied index of the node */
    /* truth.c */
    unsigned executions;
    uint64_t executed_at;
    struct command_result truth;
};

void clients_start(void);
void clients_stop(void); /* nothing new is begun */
bool clients_idle(void); /* everything has been answered or given up */
void clients_free(void);
void clients_host_crashed(struct host *h);
struct op *op_by_id(uint64_t id);
size_t op_count(void);
struct op *op_at(size_t i);
const char *op_text(const struct op *op); /* static */

/* Some SETs are the first line of a transaction, which sets two more keys to the operation's number, and one
 * that has a time to live: once nodes have the level for it. */
#define PAIR_ONE "pair/one"
#define PAIR_TWO "pair/two"
#define N_LIVE 5
bool op_is_txn(const struct op *op);
uint64_t op_ttl_ms(const struct op *op);
void live_path(const struct op *op, char path_out[32]);
bool truth_has_transactions(void);
/* They say nothing of the keys that the checker knows. */
static inline bool op_is_aside(const struct op *op)
{
    return op->kind >= OP_CLOCK;
}
#define FENCE_LEASE_MS 3000
uint64_t truth_fenced(void);    /* the inode of PAIR_ONE; 0: none, or no node knows of fences */
uint64_t truth_fence(bool old); /* where its fence is; or was before */
bool truth_is_level(void);      /* all nodes serve, and have applied the same */

/* request.c */
#define N_PLAIN 6  /* objects of one name */
#define N_GROUPS 2 /* objects of three names, among which is renamed */
#define N_OBJECTS (N_PLAIN + N_GROUPS)
struct known { /* what a client knows of an object of one name */
    uint64_t content, version, ino;
    bool sure;
};
void op_choose(struct op *op, const struct known *known /* one an object */);
void op_path(const struct op *op, int name, char path_out[32]);
/* The body of op's command. */
void op_body(struct op *op, struct buffer *body, uint8_t *command_out);
/* Reads op's key as it is in the store. */
void op_read(struct host *h, const struct op *op, uint64_t *content_out, struct attr *attr_out);

/* ---- truth ---- */

void truth_reset(void);
uint64_t truth_last(void);
/* The host has applied index. bytes NULL: no command. */
void truth_applied(struct host *h, uint64_t index, const void *bytes, size_t len);
void truth_leads(struct host *h, uint64_t term);
void truth_event(struct host *h, uint64_t revision, const void *bytes, size_t len);
void truth_loaded(struct host *h, struct store *s);
/* Applies 1..index to an empty store. */
void truth_rebuild(struct host *h, struct store *s, uint64_t index);
/* PLANT_NO_SESSION: the number of a command that was executed before is changed. */
void truth_forget_number(uint64_t index, uint8_t *bytes, size_t len);
uint64_t truth_acknowledged(void); /* the highest revision that a client has heard of */
void truth_heard(uint64_t revision);
void truth_check_answer(struct op *op, const struct command_result *result);
void truth_check_end(void);
void history_check(void);

/* ---- faults ---- */

/* forget.c: files that are put back or lost. */
void forget_start(void);
void forget_free(void);
void forget_some(struct host *h); /* the node has just ended */

#define ANSWER_WITHIN_ELECTIONS 7 /* in the calm; a tie or two */
void faults_start(void);
void faults_stop(void);

struct counters {
    uint64_t happenings, frames, commits, crashes, starts, deaths, installs, links, leaders, transfers,
        writes, reads, answered, open, refused, retries, parts, heals, sessions_lost, put_back, wiped,
        readmitted, set_back, leased;
};
extern struct counters counters;

#endif
