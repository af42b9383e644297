/* The tables of log.db: what one connection does. log_store.c owns it and
 * calls it on one thread at a time.
 *
 *   entry(key = group << 48 | index, term, type, sum, data)
 *   grp(grp, term, vote, start_index, start_sum, snapshot_index,
 *       snapshot_term, conf_index, conf, sum)
 *   life(id = 1, sum, life)
 *   note(id = 1, sum, data)
 *
 * entry.sum is an XXH3 over the row, chained to its predecessor's; the chain
 * begins with grp.start_sum. Rows before start_index are dead; they are deleted
 * in slices by log_db_sweep().
 *
 * Results: 0, or -ENOSPC (roll back and try again later), -EBADMSG, -ENOMEM,
 * -EIO (final). */
#ifndef KVFS_SYNC_RAFT_LOG_LOG_DB_H
#define KVFS_SYNC_RAFT_LOG_LOG_DB_H

#include "sync/raft/log/log_store.h"

struct log_db;

int log_db_open(const char *path, struct log_db **out, char *why);
void log_db_close(struct log_db *db); /* NULL is ignored */
/* The note as of the opening; borrowed, NULL and 0: none. */
const void *log_db_note(const struct log_db *db, size_t *len_out);
/* A random number that the file was made with: what lies beside it carries it, too. */
uint64_t log_db_life(const struct log_db *db);
int log_db_load(struct log_db *db, uint16_t group, struct log_store_log *out, char *why);

int log_db_begin(struct log_db *db);
/* Within a transaction: */
int log_db_save_term(struct log_db *db, uint16_t group, uint64_t term, uint64_t vote);
int log_db_append(struct log_db *db, uint16_t group, uint64_t index, struct entry *const *entries, size_t n);
int log_db_trim(struct log_db *db, uint16_t group, const struct snapshot_meta *meta, uint64_t keep_from);
int log_db_reset(struct log_db *db, uint16_t group, const struct snapshot_meta *meta);
int log_db_put_note(struct log_db *db, const void *data, size_t len);
/* Deletes up to max dead rows. */
int log_db_sweep(struct log_db *db, unsigned max);
int log_db_commit(struct log_db *db);
void log_db_rollback(struct log_db *db);

bool log_db_needs_sweep(const struct log_db *db);
/* After a commit: checkpoints when the journal has grown enough. */
int log_db_checkpoint(struct log_db *db);

#endif
