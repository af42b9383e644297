/* The consensus engine of one group: Raft (Ongaro's thesis) over an I/O-free
 * core, with the guards that the core needs.
 *
 * The engine owns the in-memory log, feeds events to the core, carries out what
 * the core asks for in the only safe order, answers reads (ReadIndex and leader
 * lease) and decides what of the log may go. It does no I/O, has no clock, no
 * lock and no thread: the caller passes the time, storage and network are
 * behind struct engine_ops. All calls on one thread; no call from inside an
 * operation of engine_ops except the accessors.
 *
 * Times are milliseconds of a clock that never goes back (clock_boot_ms()).
 *
 * The loop of a node:
 *
 *     for each message read           engine_receive()
 *     for each append durable         engine_entries_saved()    in order
 *     for each request                engine_submit() / engine_read_index()
 *     if (now >= engine_timeout())    engine_tick()
 *     engine_flush()                  once, at the end of the turn
 *     wait until engine_timeout()
 *
 * Results: 0; positive enum kv_error: refused, nothing has changed; negative
 * errno: the engine is dead (engine_failure() says why) and every later call
 * returns the same. A dead engine has to be freed; the process should end,
 * because what was promised to peers and what is on the disk may differ. */
#ifndef KVFS_SYNC_RAFT_ENGINE_ENGINE_H
#define KVFS_SYNC_RAFT_ENGINE_ENGINE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/raft/engine/configuration.h"
#include "sync/raft/engine/entry.h"
#include "sync/raft/engine/message.h"
#include "sync/raft/engine/snapshot_meta.h"

/* The failure of an engine whose log differs from the leader's in what is committed. */
#define ENGINE_CONTRADICTED (-ESTALE)

struct engine;
struct engine_knobs; /* knobs.h, for tests */

enum engine_role { ENGINE_FOLLOWER, ENGINE_CANDIDATE, ENGINE_LEADER };

/* What the engine asks of its owner. `ctx` is passed as first argument.
 * An int result: 0, or non-zero = it failed and the engine is dead. */
struct engine_ops {
    void *ctx;

    /* Term and vote are durable when it returns. */
    int (*save_term)(void *ctx, uint64_t term, uint64_t vote);

    /* Queue: delete what is stored at >= index, append n entries from index
     * on. Take references; the array is gone on return. Every call is answered
     * by one engine_entries_saved(), in the order of the calls, when it is
     * durable, even after an install has begun. flush: durable on return
     * (engine_entries_saved() still comes, later). */
    int (*save_entries)(void *ctx, uint64_t index, struct entry *const *entries, size_t n, bool flush);

    /* Queue, in order with save_entries: the log now starts at keep_from
     * behind the snapshot `meta` (keep_from <= meta->index + 1), drop what is
     * older. No answer. */
    int (*trim_log)(void *ctx, const struct snapshot_meta *meta, uint64_t keep_from);

    /* Queue: replace the state by the received file of `meta`, then reset the
     * stored log to nothing behind meta. When that is durable and the state
     * machine serves the new state: engine_snapshot_installed(). */
    int (*install)(void *ctx, const struct snapshot_meta *meta);

    /* Takes the message. May drop it. */
    void (*send)(void *ctx, struct engine_message *m);

    /* The peer needs the state as a file. Make one at applied index J,
     * engine_snapshot_meta(J), engine_pin_log(J), stream it; at the end
     * engine_snapshot_sent() or engine_snapshot_failed(), and engine_unpin_log().
     * Not called again for this peer before one of the two. Transfers are void
     * when leadership is lost: stop them at on_role. */
    void (*send_snapshot)(void *ctx, uint64_t peer);

    /* Entry `index` is committed, and durable here: every index once, in
     * order, from applied_index + 1 on. Barriers and changes are reported too. Borrowed; take a reference to
     * keep it. */
    int (*apply)(void *ctx, uint64_t index, struct entry *e);

    /* Our role or term as leader changed. On losing leadership every proposal
     * not yet applied has an unknown outcome. */
    void (*on_role)(void *ctx, enum engine_role role, uint64_t term);

    /* A read of engine_read_index(). result 0: serve it once applied >= index.
     * KV_E_NOTLEADER: leadership was lost first; ask again elsewhere. */
    void (*on_read)(void *ctx, uint64_t token, uint64_t index, int result);

    /* Leader: the peer refuses entry `index`, though it has acknowledged all up to
     * `match` in this term. Over links that keep the order of messages this proves that it
     * has lost what it acknowledged: do not let it in any more. NULL: not of interest. */
    void (*on_log_shorter)(void *ctx, uint64_t peer, uint64_t index, uint64_t match);
};

struct engine_config {
    uint64_t id;                 /* ours, > 0 */
    uint32_t seed;               /* of election times; 0 counts as 1 */
    uint32_t election_ms;        /* 1000; timers run 1x to 2x of it */
    uint32_t heartbeat_ms;       /* election_ms / 10 */
    uint32_t install_ms;         /* 2000 to 5000: after that the core asks for a snapshot again */
    uint32_t max_inflight;       /* entries sent to a peer and not acknowledged, 256 */
    uint64_t max_inflight_bytes; /* and their payload, but for the last of them; 4 MiB */
    bool pre_vote;
    /* What of the log stays for laggards: as much as fits both budgets, but
     * never less than `trailing` entries behind the durable state. */
    uint32_t keep_entries;   /* 100,000 */
    uint64_t keep_bytes;     /* 1 GiB, payload and 64 bytes an entry */
    uint32_t trailing;       /* at least 2,048 in production */
    uint32_t trim_step;      /* do not trim for fewer entries than this; 1,024 */
    uint32_t drift_permille; /* bound on the clocks' difference in speed, for leases; 10 */
    uint32_t
        lease_ms; /* length of a read lease, below election_ms; 0, the default: none are given or asked for */
    const struct engine_knobs *knobs; /* NULL, but in tests; borrowed for the engine's life */
};

/* Fills the values named above; id and seed are the caller's. */
void engine_config_defaults(struct engine_config *c);

/* 0, -ENOMEM or -EINVAL. Copies config and ops. */
int engine_new(const struct engine_config *config, const struct engine_ops *ops, struct engine **out);
void engine_free(struct engine *e); /* NULL is ignored. Calls no operation. */
/* Why the engine is dead; NULL while it lives. */
const char *engine_failure(const struct engine *e);

/* What storage holds. */
struct engine_stored {
    uint64_t term, vote;
    const struct snapshot_meta *snapshot; /* NULL: the log starts at 1 */
    uint64_t start_index;                 /* of entries[0]; snapshot->index + 1 or 1 when there are none */
    struct entry *const *entries;         /* references are taken */
    size_t n_entries;
    uint64_t applied_index; /* what the durable state machine already contains */
};

/* Once, before anything else. A new cluster: every founding node stores term
 * 1, vote 0 and as entry 1, of term 1, the same ENTRY_CHANGE, and starts with
 * that. A joining node starts with nothing: term 0, start_index 1, no entries.
 * -EBADMSG: the parts contradict each other (a gap behind the snapshot; no
 * configuration at index 1; a state that ends before the log starts, while one
 * older than the snapshot is fine; a log that ends before the snapshot or before
 * applied_index). May call save_term, send, apply, on_role. */
int engine_start(struct engine *e, uint64_t now, const struct engine_stored *stored);

/* Takes the message, whatever the result. KV_E_PROTOCOL: it contradicts
 * itself; close the link. After an INSTALL either `install` was called or
 * the file is not needed (engine_installing() is false): delete it. */
int engine_receive(struct engine *e, uint64_t now, struct engine_message *m);
/* The oldest unanswered save_entries is durable. */
int engine_entries_saved(struct engine *e, uint64_t now);
/* The install is done. */
int engine_snapshot_installed(struct engine *e, uint64_t now);
bool engine_installing(const struct engine *e);

int engine_tick(struct engine *e, uint64_t now);
/* When to call engine_tick(), absolute. */
uint64_t engine_timeout(const struct engine *e);
/* End of a loop turn: starts a ReadIndex round for the reads that wait, tells
 * followers a commit index that no other message has carried to them. */
int engine_flush(struct engine *e, uint64_t now);

/* Leader: appends n entries (commands; their terms are set, references are
 * taken). *first_index_out (may be NULL) is the first one's index; apply()
 * reports them later, unless leadership is lost. KV_E_NOTLEADER: not the
 * leader, or a transfer is under way. KV_E_INVAL: n == 0 or no command. */
int engine_submit(struct engine *e, uint64_t now, struct entry *const *entries, size_t n,
                  uint64_t *first_index_out);
/* Leader: hand leadership to `id` (0: to the most advanced voter). Submits are
 * refused until another leader appears or election_ms have passed.
 * KV_E_NOTLEADER, KV_E_BUSY (one is under way), KV_E_NOENT (no such voter).
 * While read leases run it begins when they are over. */
int engine_transfer(struct engine *e, uint64_t now, uint64_t id);
/* Leader: replaces the configuration; one server at a time (Raft §4.1).
 * KV_E_NOTLEADER; KV_E_BUSY: a change is under way, no entry of this term is
 * committed yet, or read leases run (none is renewed for a while then): try again; KV_E_INVAL: more than one
 * voter differs, or it would demote or remove this leader (transfer first). Add a server as standby and make
 * it a voter when engine_match_index() is near engine_last_index(). */
int engine_change(struct engine *e, uint64_t now, const struct configuration *c);

/* Leader: a linearizable read (Raft §6.4); on_read answers. Reads that arrive
 * while a round is in flight share the next one. KV_E_NOTLEADER; KV_E_BUSY: no
 * entry of this term is committed yet: try again in some milliseconds. */
int engine_read_index(struct engine *e, uint64_t now, uint64_t token);
/* Leader: whether everything committed anywhere is at or below
 * engine_commit_index() until another call (Raft §6.4.1). Serve reads at that
 * index without a round trip. */
bool engine_lease_valid(const struct engine *e, uint64_t now);

/* ---- read leases (lease.c) ----
 *
 * With config.lease_ms every server, the leader included, may hold one. While it does, nothing becomes
 * visible anywhere (is applied, reported to followers, answered to a read) before its owner has said, by
 * engine_invalidated(), that everything which the entry touches is forgotten there. So what the owner serves
 * from its memory, and what others have cached of that, is linearizable, if
 *  - engine_lease_until() is not over: a time on this server's clock, which must not stand still while
 * others' run;
 *  - no entry in (applied, engine_accepted_index()], as the owner has looked at them, touches it: then the
 * answer waits until that one is applied, or is given and nobody keeps it;
 *  - caches are dropped before that time, and from when an entry is looked at.
 * When the term changes the owner looks at the entries behind engine_applied_index() again. */

/* Wants one from now on, or gives it back: then the caches are dropped already. */
int engine_want_lease(struct engine *e, uint64_t now, bool want);
/* Up to here the log is the present leader's; what is behind may be replaced. Falls back with the term. */
uint64_t engine_accepted_index(const struct engine *e);
/* The owner has had forgotten what entries up to index touch, as far as they are accepted. At the end of a
 * turn. */
int engine_invalidated(struct engine *e, uint64_t now, uint64_t index);
/* What counts as forgotten here, perhaps since it is committed; UINT64_MAX: the term has just changed. */
uint64_t engine_invalidated_index(const struct engine *e);
/* Leader: grants none, itself included, as long as this is set; those that run stay. */
void engine_refuse_leases(struct engine *e, bool refuse);
/* 0: none. */
uint64_t engine_lease_until(const struct engine *e);

/* ---- snapshots ---- */

/* The state machine's file is durable up to `index` (never goes back): the log
 * behind it may go. Calls trim_log when there is something to drop. */
int engine_state_durable(struct engine *e, uint64_t now, uint64_t index);
/* What a state file at `index` has to be labelled with. index: applied here,
 * and not older than the log's start.
 * KV_E_NOENT otherwise. The caller deinits *out. */
int engine_snapshot_meta(const struct engine *e, uint64_t index, struct snapshot_meta *out);
/* Keeps the log from `index` on until unpinned. Pins nest; each costs a
 * slot of ENGINE_MAX_PINS: KV_E_BUSY. KV_E_NOENT: that part is gone. */
#define ENGINE_MAX_PINS 32
int engine_pin_log(struct engine *e, uint64_t index);
void engine_unpin_log(struct engine *e, uint64_t index);
/* The peer has the whole file and its engine was given the install message /
 * the transfer was given up (a new one may be asked for). */
void engine_snapshot_sent(struct engine *e, uint64_t now, uint64_t peer);
void engine_snapshot_failed(struct engine *e, uint64_t peer);

/* ---- accessors ---- */

uint64_t engine_id(const struct engine *e);
enum engine_role engine_role(const struct engine *e);
uint64_t engine_term(const struct engine *e);
uint64_t engine_vote(const struct engine *e);
uint64_t engine_leader(const struct engine *e); /* id, 0: unknown */
/* Leader with a committed entry of its term: reads and changes are possible. */
bool engine_leader_ready(const struct engine *e);
bool engine_transferring(const struct engine *e);
uint64_t engine_commit_index(const struct engine *e);
uint64_t engine_applied_index(const struct engine *e);
uint64_t engine_stored_index(const struct engine *e);   /* last one durable here */
uint64_t engine_snapshot_index(const struct engine *e); /* 0: none */
uint64_t engine_first_index(const struct engine *e);    /* of the log in memory */
uint64_t engine_last_index(const struct engine *e);
uint64_t engine_log_bytes(const struct engine *e);
uint64_t engine_term_at(const struct engine *e, uint64_t index); /* 0: not in the log */
/* Borrowed until the next call; NULL: not in the log. */
struct entry *engine_entry_at(const struct engine *e, uint64_t index);
/* Leader: what the peer is known to have; 0: nothing known or no such peer. */
uint64_t engine_match_index(const struct engine *e, uint64_t peer);
/* The configuration in force, perhaps not committed yet. */
void engine_configuration(const struct engine *e, struct configuration *out);
uint64_t engine_uncommitted_change(const struct engine *e); /* its index, 0: none */

#endif
