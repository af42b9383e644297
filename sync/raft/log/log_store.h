/* log.db: the Raft logs, terms and votes of this node's groups, on disk.
 *
 * A SQLite database (WAL journal, synchronous FULL, exclusive lock) with one
 * committer thread that owns the connection, and beside it `log.db-floor`: the
 * last index of each group that was durable, from which a log that lost its
 * tail is recognised. The loop thread queues operations, the committer puts
 * everything queued into one transaction and reports through `notify`;
 * log_store_poll() hands the completions out, in order, on the loop thread.
 *
 * All functions on the loop thread unless they say otherwise. `notify` is
 * called on the committer thread, without a lock held; it should only wake the
 * loop (uv_async_send).
 *
 * Failure modes:
 *  - Disk full: not fatal. Queued operations stay queued and are tried again
 *    with backoff; nothing is reported as done meanwhile. log_store_state() is
 *    LOG_STORE_FULL: a leader should hand over. Terms and votes can still be
 *    saved for a while (a reserve file is given up for them).
 *  - A failed write or fsync: final. log_store_state() is LOG_STORE_FAILED, the
 *    process must end: what the kernel holds in memory and what is on the disk
 *    may differ. `log.db.failed` is left behind; the next open then copies the
 *    database to a new file and fsyncs that before anything is served from it.
 *  - Damage found while loading: -EBADMSG and a text for people. The node must
 *    not come back under its old id with this or an emptied log. */
#ifndef KVFS_SYNC_RAFT_LOG_LOG_STORE_H
#define KVFS_SYNC_RAFT_LOG_LOG_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/base/histogram.h"
#include "sync/raft/engine/entry.h"
#include "sync/raft/engine/snapshot_meta.h"

struct log_store;

enum log_store_state { LOG_STORE_OK, LOG_STORE_FULL, LOG_STORE_FAILED };

#define LOG_STORE_ERROR_LEN 512
/* How the text of -EBADMSG ends: what to do. */
#define LOG_STORE_MEND                                                                                       \
    "this node must not vote with it again. Remove log.db* and groups/ beside it, start the node, and let "  \
    "it begin anew: kvnode readmit NAME, at another node"

/* Opens or creates the file, checks that it is one of ours and starts the
 * committer. why (LOG_STORE_ERROR_LEN bytes): on failure a sentence that names
 * the file and says what to do. notify may be called until log_store_close()
 * has returned.
 * -EBADMSG: damaged, or lost although its floor file exists; -EBUSY: another
 * process has it open; -EPROTO: written by a newer version; -ENOMEM, -EIO, -ENOSPC,
 * -EACCES. */
int log_store_open(const char *path, void (*notify)(void *arg), void *arg, struct log_store **out, char *why);
/* Commits what is queued (unless full or failed), joins the thread. */
void log_store_close(struct log_store *s); /* NULL is ignored */

/* The stored log of one group. */
struct log_store_log {
    uint64_t term, vote;
    bool exists;                   /* something was ever stored for the group */
    struct snapshot_meta snapshot; /* index 0: none */
    uint64_t start_index;          /* of entries[0], or where the next entry goes */
    struct entry **entries;        /* owned array of owned references */
    size_t n_entries;
};

/* Reads and verifies a group's log: every checksum, no gap, not shorter than
 * the floor. While nothing is queued: at the start, or after a log_store_sync()
 * that gave 0. On 0 the caller deinits *out. -EBADMSG (with why), -EIO, -ENOMEM. */
int log_store_load(struct log_store *s, uint16_t group, struct log_store_log *out, char *why);
void log_store_log_deinit(struct log_store_log *l);

/* Term and vote; waits until durable (one fsync, some 150 µs). Overtakes
 * queued appends, which is safe. -EIO: failed; KV_E_NOSPC: full. */
int log_store_save_term(struct log_store *s, uint16_t group, uint64_t term, uint64_t vote);

/* The following queue and return at once: 0, -ENOMEM, or -EIO once failed. */

/* In one transaction: delete entries >= index, append n from index on. Takes
 * references. Answered by LOG_STORE_APPENDED. */
int log_store_append(struct log_store *s, uint16_t group, uint64_t index, struct entry *const *entries,
                     size_t n);
/* The log starts at keep_from (<= meta->index + 1) behind meta. Rows go in
 * slices between other transactions. Not answered. Copies meta. */
int log_store_trim(struct log_store *s, uint16_t group, const struct snapshot_meta *meta, uint64_t keep_from);
/* Everything is replaced by the snapshot `meta`; the next append is at
 * meta->index + 1. Answered by LOG_STORE_RESET. */
int log_store_reset(struct log_store *s, uint16_t group, const struct snapshot_meta *meta);

/* One small note beside the logs, for the owner of the file: who it is, what it knows of
 * others. It is as old or as new as the logs, so an older copy of the file has an older note.
 * Replaces the last one; not answered. Copies. */
int log_store_put_note(struct log_store *s, const void *data, size_t len);
/* The same at the start, while nothing is queued: durable on return, also on a full disk if the
 * reserve suffices. 0, KV_E_NOSPC, -EIO. */
int log_store_save_note(struct log_store *s, const void *data, size_t len);
/* A random number that log.db was made with: a log that took the place of another has another. */
uint64_t log_store_life(const struct log_store *s);
/* As it was when the file was opened; borrowed, NULL and 0: none. */
const void *log_store_note(const struct log_store *s, size_t *len_out);

/* Waits until all that is queued is durable. -EIO, KV_E_NOSPC as above (what is
 * queued stays queued). */
int log_store_sync(struct log_store *s);

enum log_store_event_type { LOG_STORE_APPENDED, LOG_STORE_RESET };
struct log_store_event {
    enum log_store_event_type type;
    uint16_t group;
};
/* Hands out up to max completions in the order of the calls; returns their
 * number. Call until it returns less than max. */
size_t log_store_poll(struct log_store *s, struct log_store_event *events, size_t max);
/* Any thread. A change of the state calls notify too. */
enum log_store_state log_store_state(const struct log_store *s);
/* Bytes of payload queued and not yet durable. */
uint64_t log_store_queued_bytes(const struct log_store *s);
/* Commits so far, for status pages. */
uint64_t log_store_commits(const struct log_store *s);
/* How long the disk took for each of them, a copy. */
void log_store_syncs(const struct log_store *s, struct histogram *out);

#endif
