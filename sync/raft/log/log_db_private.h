/* What the files of log.db share: log_db.c (opening), log_db_load.c,
 * log_db_write.c. Not for others. */
#ifndef KVFS_SYNC_RAFT_LOG_LOG_DB_PRIVATE_H
#define KVFS_SYNC_RAFT_LOG_LOG_DB_PRIVATE_H

#include <sqlite3.h>

#include "sync/raft/log/log_db.h"
#include "sync/raft/log/log_floor.h"

#define LOG_DB_MAX_GROUPS 64 /* groups with a log on one node */

/* What the tables hold of a group, without the entries. */
struct group {
    uint16_t number;
    uint64_t term, vote;
    uint64_t start_index, start_sum;
    struct snapshot_meta snapshot; /* owned */
    uint64_t last_index, last_sum; /* start_index - 1 and start_sum when empty */
    uint64_t oldest;               /* no row before it; < start_index: something to sweep */
    uint64_t floor;                /* what the floor file says */
    bool stored;                   /* it has its row */
    bool appended;                 /* in this transaction */
};

enum statement {
    ST_BEGIN,
    ST_COMMIT,
    ST_ROLLBACK,
    ST_INSERT,
    ST_DELETE,
    ST_SUM,
    ST_RANGE,
    ST_OLDEST,
    ST_PUT_GROUP,
    ST_GET_GROUP,
    ST_PUT_NOTE,
    ST_GET_NOTE,
    ST_COUNT
};

struct log_db {
    sqlite3 *sql;
    sqlite3_stmt *st[ST_COUNT];
    struct log_floor floor;
    char *path;
    void *note; /* owned; as of the opening */
    size_t note_len;
    struct group groups[LOG_DB_MAX_GROUPS], before[LOG_DB_MAX_GROUPS]; /* before: as of log_db_begin() */
    unsigned n_groups, n_before;
    int journal_pages;
};

/* SQLite's result as one of ours. */
int log_db_translate(int rc);
/* Writes why; returns -EBADMSG / result. */
int log_db_damaged(const struct log_db *db, char *why, const char *what);
int log_db_explain(const struct log_db *db, int result, char *why);
/* Runs a statement that gives no rows. */
int log_db_run(struct log_db *db, enum statement which);
int64_t log_db_key(uint16_t group, uint64_t index);
int64_t log_db_key_end(uint16_t group);
uint64_t log_db_entry_sum(uint64_t previous, int64_t key, const struct entry *e);
uint64_t log_db_group_sum(const struct group *g);
struct group *log_db_group(struct log_db *db, uint16_t number); /* NULL: too many */
void log_db_release_groups(struct group *groups, unsigned n);

#endif
