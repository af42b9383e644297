/* Nodes as real processes, in a folder of their own under $TMPDIR, linked over
 * SSH on ports of their own. One thread, except where a call says otherwise.
 *
 * A node that a test did not end must not end: cluster_free() looks, and reads the
 * logs for what sanitizers and assertions print. */
#ifndef KVFS_TESTS_FAULT_CLUSTER_H
#define KVFS_TESTS_FAULT_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/fault/lib/guard.h"

struct clock_offsets;

#define CLUSTER_MAX 5
#define FLAGS_MAX 8

struct cluster_options {
    unsigned n;
    const char *flags[FLAGS_MAX]; /* "storage.log_keep_entries=2048", …: for every node */
    /* Not 0: that node's data lies on a small_disk with this room; needs root. */
    unsigned disk_mb[CLUSTER_MAX];
    bool namespaces;  /* each node in a network namespace of its own; needs root */
    bool clocks;      /* each node's clocks can be shifted (clocks.h) */
    unsigned files;   /* descriptors that a node may have; 0: as it is */
    unsigned seconds; /* the guard's limit, times the rounds; 0: 240 */
};

struct cluster_node {
    char name[8];
    char data[160], conf[160], log[160], socket[108], address[64];
    pid_t pid; /* 0: does not run */
    bool dead; /* it ended, and nobody asked for that */
    int status;
    struct clock_offsets *clock; /* owned, shared with the node; NULL without `clocks` */
};

struct cluster {
    char dir[64];
    unsigned n;
    struct cluster_node nodes[CLUSTER_MAX];
    struct cluster_options options;
    struct guard *guard;
    unsigned net; /* number in the names of the namespaces */
    bool keep;    /* leave the folder behind */
};

/* What a node says of itself. */
struct view {
    bool leader, ready, quorum;
    char leader_name[40];
    uint64_t term, applied, commit, log_first, last, durable, memory;
    unsigned clients;
    char digest[20];
    char warnings[512];
    unsigned tolerated;           /* failures */
    char states[CLUSTER_MAX][16]; /* "healthy", …: of n1, n2 …; "": not told */
    uint64_t disk_total[CLUSTER_MAX];
};

/* Makes and starts the nodes and waits until one leads. NULL: it failed (the
 * reason is printed) or *skip_out says what is missing for it. */
struct cluster *cluster_new(const struct cluster_options *options, const char **skip_out);
/* The same without starting them. */
struct cluster *cluster_make(const struct cluster_options *options, const char **skip_out);
/* Starts them and waits until one leads and all serve. False: they do not; the
 * reason is printed, the folder is kept. */
bool cluster_up(struct cluster *c);
/* Stops all. False: something was wrong with the nodes; the folder is kept and named. */
bool cluster_free(struct cluster *c);

bool cluster_start(struct cluster *c, unsigned i);
/* Sends the signal; with SIGKILL or SIGTERM the end is awaited. */
void cluster_signal(struct cluster *c, unsigned i, int sig);
/* Waits for a node's end; false: it runs on. The exit status is in nodes[i].status. */
bool cluster_ended(struct cluster *c, unsigned i, unsigned timeout_ms);
/* Still running, and not because it hangs in a wait of ours. */
bool cluster_runs(struct cluster *c, unsigned i);

/* False: no answer within the time. */
bool cluster_view(const struct cluster *c, unsigned i, unsigned timeout_ms, struct view *view_out);
/* The node that leads and is ready, by its own word. CLUSTER_MAX: none in that time. */
unsigned cluster_leader(struct cluster *c, unsigned timeout_ms);
/* All running nodes have applied the same revision with the same digest. */
bool cluster_equal(struct cluster *c, unsigned timeout_ms);
/* The node answers requests. */
bool cluster_serves(struct cluster *c, unsigned i, unsigned timeout_ms);
/* Text in the node's log. */
bool cluster_logged(const struct cluster *c, unsigned i, const char *text);
/* Waits until it is there. */
bool cluster_logs(const struct cluster *c, unsigned i, const char *text, unsigned timeout_ms);
size_t cluster_log_size(const struct cluster *c, unsigned i);
/* What it has logged from there on (the first 64 KiB); valid until the next call. */
const char *cluster_log_since(const struct cluster *c, unsigned i, size_t from);

/* Runs a program with its output in out (NUL-terminated) and ends it after the
 * time. Exit status, or -1. */
int run_program(const char *const argv[], unsigned timeout_ms, char *out, size_t size);
/* kvnode with arguments; KVNODE_NODE names node i's socket. */
int run_kvnode(struct cluster *c, unsigned i, unsigned timeout_ms, char *out, size_t size,
               const char *const args[]);

/* Calls until it gives true, with short pauses; false: the time is over. */
bool await(unsigned timeout_ms, bool (*condition)(void *arg), void *arg);
void pause_ms(unsigned ms);
/* $KVFS_FAULT_ROUNDS, or the default. */
unsigned rounds(unsigned fallback);

#endif
