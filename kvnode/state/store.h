/* The replicated state machine: namespace, current values, history numbering
 * and sessions, in memory. Loop thread only, but for what says otherwise.
 *
 * Deterministic: store_apply() looks at the command and at the state that
 * earlier commands left, and at nothing else (no clock, disk, file, setting of
 * this node, pointer order or hash-table order). Every node that has applied
 * the same commands has the same state and the same digest.
 *
 * Each change is also noted in the journal (journal.h), which the write-behind
 * thread takes to state.db. */
#ifndef KVFS_KVNODE_STATE_STORE_H
#define KVFS_KVNODE_STATE_STORE_H

#include <stdbool.h>

#include "kvnode/state/settings.h"
#include "sync/wire/message.h"

struct store;
struct journal; /* journal.h */

struct store_events {
    void *arg;
    /* Called by store_apply(), in order; everything in the event is borrowed. */
    void (*on_event)(void *arg, const struct event *event);
    /* A pinned inode has lost its name, and keeps so many bytes; may be NULL. */
    void (*on_held)(void *arg, uint64_t ino, uint64_t bytes);
};

/* An empty state: the root directory (mode 0755, uid and gid 0), default
 * settings, applied index 0. journal: where changes are noted, borrowed, may be
 * NULL (simulation). NULL: out of memory. */
struct store *store_new(uint16_t group, struct journal *journal, const struct store_events *events);
void store_free(struct store *s);

/* Applies the log entry at index, which must be above store_applied() (entries
 * that are no commands advance it through store_skip()). bytes: an encoded
 * command with its clocks. Returns 0; the outcome, good or bad, is *result_out.
 * A command that does not decode is a result KV_E_PROTOCOL, and still takes its
 * index. -ENOMEM: out of memory, the state is damaged, the process must end.
 * -EOPNOTSUPP: the cluster is at a feature level that this program does not know
 * (feature.h); nothing was applied, the process must end. */
int store_apply(struct store *s, uint64_t index, const void *bytes, size_t len,
                struct command_result *result_out);
/* Prepares the next command, for about `budget` bytes of work: a large content is
 * made before it takes the old one's place. 1: there is more to do, call again with
 * the same arguments, and apply nothing meanwhile; 0: store_apply() will be short;
 * -ENOMEM. Nothing of the replicated state changes, and store_apply() gives the same
 * with and without. */
int store_prepare(struct store *s, const void *bytes, size_t len, size_t budget);
/* Gives some memory back that large commands have left. True: there is more. To be called in each turn. */
bool store_tidy(struct store *s);
void store_skip(struct store *s, uint64_t index);
uint64_t store_applied(const struct store *s);
uint64_t store_wall_ns(const struct store *s); /* clocks of the last command */
uint64_t store_elapsed_ms(const struct store *s);
/* Digest over memory and history as of store_applied(), kept up to date by
 * every change: the sum (mod 2^64) of the digests of all rows. O(1). */
uint64_t store_digest(const struct store *s);

/* Who asks. uid 0 and trusted callers may do everything. */
struct caller {
    uint32_t uid, gid;
    uint32_t n_groups;
    const uint32_t *groups; /* borrowed */
    bool trusted;
};

/* The mode bits' word on that: KV_OK or KV_E_ACCES. mask: 4 r, 2 w, 1 x. */
int store_permits(const struct caller *who, uint32_t uid, uint32_t gid, uint16_t mode, unsigned mask);

/* Mode bits and whom they speak of. */
struct access {
    uint32_t uid, gid;
    uint16_t mode;
};
/* Takes from a, in its own terms of owner, group and others, whatever b may refuse to one
 * of them. What is left is granted by both; where they have other owners it may be less. */
void access_meet(struct access *a, const struct access *b);

/* Reads, from memory. 0 or an enum kv_error. who may be NULL: trusted. */
int store_lookup(const struct store *s, const struct caller *who, uint64_t parent, const void *name,
                 size_t name_len, struct attr *attr_out);
int store_getattr(const struct store *s, uint64_t ino, struct attr *attr_out);
int store_access(const struct store *s, const struct caller *who, uint64_t ino,
                 unsigned mask /* 4 r, 2 w, 1 x */);
/* Whether the caller could come to the inode by a path: what a request by number needs.
 * KV_OK; KV_E_ACCES; KV_E_NAMETOOLONG; KV_E_STALE: no such inode, or one without a name,
 * which is left to those who have it open. */
int store_reach(const struct store *s, const struct caller *who, uint64_t ino);
/* path: "a/b/c" or "/a/b/c"; "" and "/" are the root. Also gives the parent and
 * where the last name begins (borrowed from path). Does not follow symbolic links. */
int store_resolve(const struct store *s, const struct caller *who, const void *path, size_t path_len,
                  struct attr *attr_out, uint64_t *parent_out, const uint8_t **name_out,
                  size_t *name_len_out);
/* Appends at most len bytes of the value from offset to out. */
int store_read(const struct store *s, uint64_t ino, uint64_t offset, uint32_t len, struct buffer *out);
/* The same of a file that was removed lately and is kept on this node for those who
 * still hold it; its owner and trusted callers only. KV_E_STALE: not kept (any more). */
int store_read_removed(const struct store *s, const struct caller *who, uint64_t ino, uint64_t offset,
                       uint32_t len, struct attr *attr_out, struct buffer *out);
int store_readlink(const struct store *s, uint64_t ino, struct buffer *out);
/* Appends the value of an extended attribute; KV_E_NOATTR: there is none of that name. XATTR_TTL and
 * XATTR_EXPIRES are among them (sync/wire/ttl.h), and are not listed. */
int store_getxattr(const struct store *s, uint64_t ino, const void *name, size_t name_len,
                   struct buffer *out);
/* Appends the names of all, each with a NUL behind it. */
int store_listxattr(const struct store *s, uint64_t ino, struct buffer *out);
/* Entries after cookie in listing order; stops when emit returns false. */
int store_readdir(const struct store *s, uint64_t ino, uint64_t cookie, void *arg,
                  bool (*emit)(void *arg, uint64_t cookie, const uint8_t *name, size_t name_len,
                               const struct attr *attr));
/* A name with history, living or not: the number of its last version, and whether it is
 * gone. KV_E_NOENT: no history. */
int store_past_name(const struct store *s, uint64_t ino, const void *name, size_t name_len,
                    uint64_t *version_out, bool *deleted_out);
/* History key of a directory's entries: version rows are keyed by (history id, name, revision). */
int store_history_id(const struct store *s, uint64_t ino, uint64_t *history_id_out);
/* Path of a directory by its history id, as of now: appends "a/b" to out. KV_E_NOENT if it is gone. */
int store_history_path(const struct store *s, uint64_t history_id, struct buffer *out);

/* Levels that a walk up to the root takes at most. No path has more; trees that are moved
 * below one another can. */
#define STORE_DEPTH_MAX 4096

/* Whether the caller could list that directory and look up what is in it; of one that is
 * gone: could have when it went, and could reach the place where it was. *steps grows by
 * the directories that were looked at. */
bool store_history_shown(const struct store *s, const struct caller *who, uint64_t history_id,
                         unsigned *steps);
/* How many names are below a path, at most max; 0 if there is nothing. */
#define STORE_DEL_MAX 512 /* as many names one command removes below a key */
size_t store_below(const struct store *s, const void *path, size_t len, size_t max);

/* Keeps the value of an inode readable after its last name has gone (this node
 * only, not replicated). Counted. Pinning a missing inode: KV_E_STALE. */
int store_pin(struct store *s, uint64_t ino);
void store_unpin(struct store *s, uint64_t ino);      /* what has lost its name is kept aside from then on */
void store_unpin_drop(struct store *s, uint64_t ino); /* it is not */

struct store_usage {
    uint64_t keys, bytes;         /* names; logical bytes of current values, each once */
    uint64_t max_keys, max_bytes; /* cluster settings */
    uint64_t value_limit;
    uint64_t sessions;
    uint64_t part_bytes; /* of unfinished commands */
    uint64_t memory;     /* estimate, bytes over the values */
};
void store_usage(const struct store *s, struct store_usage *usage_out);
/* A setting that is a number. */
uint64_t store_setting(const struct store *s, enum setting i);
/* The cluster's feature level as of here. */
unsigned store_level(const struct store *s);

/* The session's result for seq, if it was executed: 1 and the result; 0: not
 * executed yet; KV_E_SESSION: no such session; KV_E_DUPLICATE: acknowledged. */
int store_session_result(const struct store *s, uint64_t session, uint64_t seq,
                         struct command_result *result_out);

/* Who registered the session: his uid, 0 for root and whom nodes trust like him,
 * COMMAND_UID_NODE for a node itself. KV_OK or KV_E_SESSION. */
int store_session_owner(const struct store *s, uint64_t session, uint32_t *uid_out);
/* The nonce that it was registered with, which no client is told. KV_OK or KV_E_SESSION. */
int store_session_nonce(const struct store *s, uint64_t session, uint8_t nonce_out[16]);
/* He cannot register a session under this nonce now; why_out: which bound he has met and
 * who holds what is under it (a sentence). A node always can. */
bool store_register_refused(const struct store *s, uint32_t owner, const uint8_t nonce[16], char *why_out,
                            size_t size);
/* What a part of a command would meet now. KV_OK: it goes to the log. KV_E_DUPLICATE:
 * it is here. KV_E_BUSY: no room for the unfinished commands of its session, its
 * owner or all, and none is held of this one; why_out: which (a sentence). */
int store_part_check(const struct store *s, uint64_t session, uint64_t seq, uint32_t number, size_t len,
                     const char **why_out);

/* What keeps this owner of the session from a lock, F_GETLK. KV_OK: row_out, which borrows from the store;
 * KV_E_NOENT: nothing does. */
int store_lock_test(const struct store *s, uint64_t session, uint64_t owner, uint64_t ino, uint8_t kind,
                    bool exclusive, uint64_t start, uint64_t end, struct lock_row *row_out);
/* What is known of who holds the lock of a file, beside its row: see HELD (message.h). who: its path only if
 * he could list where it is; NULL: in any case. path: makes and keeps what held_out borrows. */
struct held_answer;
void store_held(const struct store *s, const struct caller *who, uint64_t ino, uint64_t session,
                struct held_answer *held_out, struct buffer *path);
/* The files of which something is locked, from this number on, and what of each: ranges first, then those who
 * wait, in their order. A file at a time: next_file() before each; false ends it. */
void store_locks(const struct store *s, uint64_t from_ino, void *arg,
                 bool (*next_file)(void *arg, uint64_t ino),
                 void (*emit)(void *arg, const struct lock_row *row));

/* What is to be expired at elapsed time now_ms (COMMAND_EXPIRE): appends (u64 ino, u64 revision) of such
 * files to list, until they have max names or more. Each once a round, which is a number from 1 on of 24
 * bits: what is under way is not named again. next_ms_out: when the next one is due; UINT64_MAX: no file has
 * a time to live. Returns how many, at most COMMAND_EXPIRE_MAX, and not many more chunks than 4096. */
size_t store_expired(struct store *s, uint64_t now_ms, size_t max, uint32_t round, struct buffer *list,
                     uint64_t *next_ms_out);

/* Settings in a fixed order: emit(name, value, default). See `kvnode config`. */
void store_settings(const struct store *s, void *arg,
                    void (*emit)(void *arg, const char *name, const char *value, const char *fallback));

#endif
