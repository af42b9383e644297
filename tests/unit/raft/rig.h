/* One engine with everything around it written down: what it asked for can be
 * looked at, what comes back is up to the test. */
#ifndef KVFS_TESTS_UNIT_RAFT_RIG_H
#define KVFS_TESTS_UNIT_RAFT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sync/raft/engine/engine.h"
#include "sync/raft/engine/knobs.h"

#define RIG_MAX 512

struct rig {
    struct engine *engine;
    struct engine_config config;
    struct engine_knobs knobs;
    uint64_t now;

    struct engine_message *sent[RIG_MAX]; /* owned */
    unsigned n_sent;
    uint64_t term, vote;
    unsigned n_terms_saved, n_saves, n_flushed; /* n_saves: not answered yet */
    uint64_t saved_index;                       /* of the newest save_entries */
    size_t saved_n;
    struct snapshot_meta trimmed; /* of the newest trim_log */
    uint64_t keep_from;
    unsigned n_trims, n_installs, n_snapshots;
    uint64_t snapshot_peer;
    uint64_t applied[RIG_MAX];
    unsigned n_applied;
    enum engine_role role;
    uint64_t read_token, read_index;
    int read_result;
    unsigned n_reads;
    uint64_t shorter_peer, shorter_index, shorter_match; /* of on_log_shorter */
    int fail_save_term, fail_save_entries, fail_apply;   /* results to give */
};

/* Server 1 of voters 1 .. voters, started in `term` with a log of
 * that configuration (entry 1, term 1) and then entries of the given
 * terms, 0-terminated (NULL: none). */
void rig_init(struct rig *r, const struct engine_knobs *knobs);
void rig_start(struct rig *r, unsigned voters, uint64_t term, const uint64_t *terms);
void rig_start_with(struct rig *r, const struct configuration *c, uint64_t term, const uint64_t *terms);
void rig_deinit(struct rig *r);

/* Engine 1 becomes leader by the votes of all others; its barrier is durable
 * here, not committed. */
void rig_elect(struct rig *r);
/* Every write asked for is durable. */
void rig_save(struct rig *r);
void rig_forget(struct rig *r); /* what was sent */
/* The newest message of that type to the server (0: to any); NULL: none. */
struct engine_message *rig_sent(struct rig *r, enum raft_message_kind type, uint64_t to);
unsigned rig_count(const struct rig *r, enum raft_message_kind type, uint64_t to);

/* AppendEntries from server `from` with entries of the given terms (0-terminated, or NULL). */
int rig_append(struct rig *r, uint64_t from, uint64_t term, uint64_t prev_index, uint64_t prev_term,
               uint64_t commit, const uint64_t *terms);
struct engine_message *rig_append_message(struct rig *r, uint64_t from, uint64_t term, uint64_t prev_index,
                                          uint64_t prev_term, uint64_t commit, const uint64_t *terms);
int rig_accept(struct rig *r, uint64_t from, uint64_t index);
int rig_reject(struct rig *r, uint64_t from, uint64_t index, uint64_t last);
int rig_vote_request(struct rig *r, uint64_t from, uint64_t term, uint64_t last_index, uint64_t last_term,
                     bool pre_vote);
int rig_install(struct rig *r, uint64_t from, uint64_t term, uint64_t index, uint64_t index_term);
int rig_submit(struct rig *r, unsigned n);

struct configuration rig_voters(unsigned n);

#endif
