/* The Raft engine of a group on its loop: its log (shared_log.h), timer, and the way to the
 * peers and to the state machine. The only part of kvnode that knows the
 * engine's interface. Loop thread only.
 *
 * A failure of the log's disk or a broken invariant ends the process at once
 * (exit status 70) with a message: what was promised and what is stored may
 * differ, and the next start sorts that out. So the calls below return refusals
 * only (positive enum kv_error). */
#ifndef KVFS_KVNODE_GROUP_CONSENSUS_H
#define KVFS_KVNODE_GROUP_CONSENSUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "kvnode/group/shared_log.h"
#include "sync/base/buffer.h"
#include "sync/raft/engine/entry.h"
#include "sync/raft/engine/snapshot_meta.h"

struct consensus;
struct configuration;

struct consensus_callbacks {
    void *arg;
    /* More is committed and durable here: up to consensus_applied(). */
    void (*committed)(void *arg);
    /* Role, term or known leader may have changed. */
    void (*on_leadership)(void *arg);
    /* A read of consensus_read_index(); code 0: index must be applied before it is served. */
    void (*on_read)(void *arg, uint64_t token, uint64_t index, int code);
    /* Where the bytes of a message to a peer go; NULL: no link, it is dropped. lease: the message is about
     * read leases, which earlier versions do not know. send_end() follows. */
    struct buffer *(*send_begin)(void *arg, uint64_t peer, bool lease);
    void (*send_end)(void *arg, uint64_t peer);
    /* The peer needs a state file; ends with consensus_snapshot_sent()/_failed(). */
    void (*send_snapshot)(void *arg, uint64_t peer);
    /* Leader: what the peer acknowledged (up to match) it has no more. */
    void (*on_log_shorter)(void *arg, uint64_t peer, uint64_t index, uint64_t match);
    /* This process is about to end because the log contradicts the leader's in what is committed:
     * it is to be known at the next start. */
    void (*on_contradiction)(void *arg);
    /* Put the received state file in force; then consensus_reset_log(meta). */
    void (*install)(void *arg, const struct snapshot_meta *meta);
};

struct consensus_config {
    uint16_t group;
    uint64_t id;
    struct shared_log *log; /* borrowed */
    uint32_t election_ms, heartbeat_ms;
    uint64_t keep_entries, keep_bytes;
};

/* Reads the group's log and verifies it. 0, or negative errno with a sentence in why
 * (512 bytes). *exists_out: whether there is one. */
int consensus_open(const struct consensus_config *config, uv_loop_t *loop,
                   const struct consensus_callbacks *callbacks, struct consensus **out, bool *exists_out,
                   char *why);
/* Before the start: the index behind which the stored log begins, 0: it is whole. */
uint64_t consensus_log_begins_behind(const struct consensus *c);
/* Stores a configuration as the first entry, and the term and vote to begin with: (1, 0) for
 * a new cluster. Only when no log exists. 0 or -errno. */
int consensus_found(struct consensus *c, const struct configuration *founders, uint64_t term, uint64_t vote);
/* Before the start: the end of the stored log and the stored term. */
void consensus_stored_end(const struct consensus *c, uint64_t *index_out, uint64_t *term_out);
/* An install that was cut off after the state file was in place: completes it. */
int consensus_finish_install(struct consensus *c, const struct snapshot_meta *meta);
/* Goes live; what is committed behind `applied` is applied soon. 0 or -errno with why. */
int consensus_start(struct consensus *c, uint64_t applied, char *why);
bool consensus_started(const struct consensus *c);
/* For good: neither votes, counts nor leads any more; as before the start. */
void consensus_freeze(struct consensus *c);
/* False: it follows and stores, but neither stands for election nor votes. At first true. */
void consensus_set_voting(struct consensus *c, bool voting);
/* Frees everything; what is queued is shared_log_close()'s. */
void consensus_close(struct consensus *c);

/* A message from the peer's engine. 0, or KV_E_PROTOCOL: close the link. */
int consensus_receive(struct consensus *c, uint64_t peer, const void *data, size_t len);
/* Leader: appends; takes references. KV_E_NOTLEADER. */
int consensus_submit(struct consensus *c, struct entry *const *entries, size_t n);
/* Leader: a linearizable read; on_read answers. KV_E_NOTLEADER, KV_E_BUSY: soon. */
int consensus_read_index(struct consensus *c, uint64_t token);
/* Leader: the commit index is current without asking anybody (lease). */
bool consensus_lease_valid(struct consensus *c);
/* Read leases, see sync/raft/engine/engine.h. */
void consensus_want_lease(struct consensus *c, bool want);
void consensus_refuse_leases(struct consensus *c, bool refuse); /* leader; at first true */
uint64_t consensus_accepted(const struct consensus *c);
void consensus_invalidated(struct consensus *c, uint64_t index);
uint64_t consensus_invalidated_index(const struct consensus *c); /* UINT64_MAX: of another term */
uint64_t consensus_lease_until(const struct consensus *c);       /* clock_boot_ms(); 0: none */
int consensus_transfer(struct consensus *c, uint64_t to /* 0: choose */);
/* End of a loop turn. */
void consensus_turn_end(struct consensus *c);

/* state.db is durable up to index: the log behind it may go. */
void consensus_state_durable(struct consensus *c, uint64_t index);
int consensus_snapshot_meta(struct consensus *c, uint64_t index, struct snapshot_meta *meta_out);
int consensus_pin_log(struct consensus *c, uint64_t index);
void consensus_unpin_log(struct consensus *c, uint64_t index);
void consensus_snapshot_sent(struct consensus *c, uint64_t peer);
void consensus_snapshot_failed(struct consensus *c, uint64_t peer);
/* The whole file of `from` is here; false: not wanted after all. */
bool consensus_snapshot_received(struct consensus *c, uint64_t from, uint64_t term,
                                 const struct snapshot_meta *meta);
/* The state of meta is in force: the log begins behind it. */
void consensus_reset_log(struct consensus *c, const struct snapshot_meta *meta);

/* An entry of the log, borrowed until the next call; NULL: not in it. */
struct entry *consensus_entry(const struct consensus *c, uint64_t index);
/* Up to here entries may be applied; what the state machine lacks of that is in the
 * log, which is trimmed only behind consensus_state_durable(). */
uint64_t consensus_applied(const struct consensus *c);

uint64_t consensus_leader(const struct consensus *c); /* id, 0: unknown */
bool consensus_is_leader(const struct consensus *c);
bool consensus_leader_ready(const struct consensus *c); /* leads, and may serve */
bool consensus_is_candidate(const struct consensus *c);
uint64_t consensus_term(const struct consensus *c);
uint64_t consensus_commit(const struct consensus *c);
uint64_t consensus_first(const struct consensus *c);
uint64_t consensus_last(const struct consensus *c);
uint64_t consensus_stored(const struct consensus *c);
/* Leader: what the peer has acknowledged in this term; 0 otherwise. */
uint64_t consensus_match(const struct consensus *c, uint64_t peer);
bool consensus_disk_full(const struct consensus *c);
/* Members as of now: id, address, voter. */
void consensus_members(const struct consensus *c, void *arg,
                       void (*emit)(void *arg, uint64_t id, const char *address, bool voter));
/* What a new member's log has to begin with, a reference for the caller; NULL: it is none of
 * the members. */
struct entry *consensus_first_entry(const struct consensus *c, uint64_t for_id);
unsigned consensus_voters(const struct consensus *c);

#endif
