/* The Raft core behind our own types: a thin adapter around raft_step() of
 * libraft (cowsql/raft) 0.22, the only file that knows raft.h.
 *
 * Pure: an event goes in, an update comes out, and nothing happens in between.
 * The adapter hides the library's rules of memory ownership; what the library
 * does wrong is guarded above it (receive.c, step.c, membership.c).
 *
 * Results: 0; positive kv_error: refused; negative errno: broken, stop
 * (-ENOMEM; -ENOTRECOVERABLE: a committed entry would be overwritten;
 * -EBADMSG). */
#ifndef KVFS_SYNC_RAFT_ENGINE_CORE_H
#define KVFS_SYNC_RAFT_ENGINE_CORE_H

#include "sync/raft/engine/engine.h"

struct core;

/* What a step asks for, in the order in which to do it. */
struct core_update {
    bool term_or_vote; /* make core_term() and core_vote() durable, before anything else */
    /* Append n_entries at entries_index, dropping what was there: the given
     * entries from given_first on, or, if `noop` is set, that one. */
    uint64_t entries_index;
    size_t n_entries, given_first;
    struct entry *noop; /* owned by the receiver of the update */
    bool install;       /* drop the log, install the snapshot of the message */
    /* Headers of messages to send: of an APPEND `n_entries` is set, `entries`
     * is not; of an INSTALL only `to`. Borrowed until the next step. */
    const struct engine_message *messages;
    size_t n_messages;
    bool role;   /* core_role() or the term of leadership changed */
    bool commit; /* core_commit_index() changed; it can go back */
};

int core_new(const struct engine_config *config, struct core **out);
void core_free(struct core *c); /* NULL is ignored */

int core_start(struct core *c, uint64_t now, const struct engine_stored *stored, struct core_update *u);
/* One message; of an APPEND, only its entries [first, first + n), with
 * prev_index and prev_term as they stand in m. as_voter: vote as if our own
 * configuration said that we may. */
int core_receive(struct core *c, uint64_t now, const struct engine_message *m, size_t first, size_t n,
                 bool as_voter, struct core_update *u);
/* index: highest durable one that is still in the log, above core_stored_index(). */
int core_entries_saved(struct core *c, uint64_t now, uint64_t index, struct core_update *u);
int core_snapshot_installed(struct core *c, uint64_t now, struct core_update *u);
/* meta->index is in the log and not the snapshot's already; the core keeps
 * `trailing` entries up to it and all behind it. */
int core_snapshot_taken(struct core *c, uint64_t now, const struct snapshot_meta *meta, unsigned trailing,
                        struct core_update *u);
/* The ENTRY_CHANGE at index is committed. */
int core_change_committed(struct core *c, uint64_t now, uint64_t index, const struct entry *change,
                          struct core_update *u);
int core_timeout(struct core *c, uint64_t now, struct core_update *u);
/* Leader; entries of the current term; a change alone. */
int core_submit(struct core *c, uint64_t now, struct entry *const *entries, size_t n, struct core_update *u);
int core_transfer(struct core *c, uint64_t now, uint64_t id, struct core_update *u);

uint64_t core_timeout_ms(const struct core *c); /* absolute */
enum engine_role core_role(const struct core *c);
uint64_t core_term(const struct core *c);
uint64_t core_vote(const struct core *c);
uint64_t core_leader(const struct core *c);
uint64_t core_commit_index(const struct core *c);
uint64_t core_stored_index(const struct core *c);
uint64_t core_last_index(const struct core *c);
bool core_installing(const struct core *c);
uint64_t core_transferee(const struct core *c);
/* Leader: how many entries may be sent to a peer beyond those that it has acknowledged, > 0. */
void core_set_window(struct core *c, unsigned n);
/* Leader: false if there is no such server. */
bool core_match_index(const struct core *c, uint64_t id, uint64_t *index_out);
uint64_t core_uncommitted_change(const struct core *c);

unsigned core_n_servers(const struct core *c);
uint64_t core_server_id(const struct core *c, unsigned i);
bool core_server_votes(const struct core *c, unsigned i);
void core_configuration(const struct core *c, struct configuration *out);

#endif
