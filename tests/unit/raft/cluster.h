/* A cluster under virtual time: real engines, disks and links that take one
 * millisecond, snapshot files streamed by the real transfer. What a node does
 * around its engine, in small. */
#ifndef KVFS_TESTS_UNIT_RAFT_CLUSTER_H
#define KVFS_TESTS_UNIT_RAFT_CLUSTER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>

#include "sync/raft/engine/engine.h"
#include "sync/raft/engine/knobs.h"
#include "sync/raft/transfer/snapshot_transfer.h"

#define CLUSTER_MAX 5
#define CLUSTER_FILE_PADDING 700000 /* bytes, so that a state file takes several chunks */

struct member_state {
    uint64_t applied, hash;
};

struct member {
    struct cluster *cluster;
    uint64_t id;
    bool up;
    struct engine *engine;
    /* on disk */
    uint64_t term, vote, start_index;
    struct entry **log;
    size_t n_log;
    struct snapshot_meta snapshot;
    struct member_state durable;
    /* in memory */
    struct member_state state;
    unsigned unsaved; /* appends to report in the next millisecond */
    bool install_queued;
    struct snapshot_meta install;
    uint64_t wanted_by; /* send_snapshot() was called for this peer, 0: none */
    struct snapshot_sender *sender;
    uint64_t sender_peer;
    struct snapshot_receiver *receiver;
    unsigned installs;
    uint64_t applied_at[1024]; /* when each index was applied */
};

struct cluster {
    uint64_t now;
    unsigned n;
    struct member members[CLUSTER_MAX + 1];
    bool cut[CLUSTER_MAX + 1][CLUSTER_MAX + 1];
    struct engine_message *wire[8192]; /* delivered in the next millisecond */
    unsigned n_wire;
    char directory[64];
    char trace[4096]; /* "ID leader term T" and the like, a line each */
    uint64_t keep_entries, trailing;
    struct engine_knobs knobs;
};

void cluster_setup(struct cluster *c, unsigned n);
void cluster_teardown(struct cluster *c);
void cluster_start(struct cluster *c, uint64_t id);
void cluster_stop(struct cluster *c, uint64_t id); /* as by SIGKILL */
void cluster_run(struct cluster *c, unsigned ms);
/* Runs until there is a leader that can read; its id. */
uint64_t cluster_leader(struct cluster *c);
/* n commands through the leader, `ms` between them. */
void cluster_submit(struct cluster *c, unsigned n, unsigned ms);
void cluster_isolate(struct cluster *c, uint64_t id, bool isolated);
/* The member's state is durable up to what it has applied. */
void cluster_write_behind(struct cluster *c, uint64_t id);
/* Every running member has applied the same, up to the leader's commit index. */
void cluster_assert_equal(struct cluster *c);

#endif
