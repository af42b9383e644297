/* What the files that read and write state.db share. Not for others. */
#ifndef KVFS_KVNODE_DISK_STATE_DB_INTERNAL_H
#define KVFS_KVNODE_DISK_STATE_DB_INTERNAL_H

#include <sqlite3.h>
#include <stdbool.h>

#include "kvnode/disk/state_db.h"
#include "kvnode/state/journal.h"
#include "kvnode/state/store_rows.h"

#define STATE_DB_MEND "stop the node, delete the file and start again: it is fetched from another node"

/* Column lists, in the order in which the functions below bind and read them. */
#define INODE_COLUMNS                                                                                        \
    "ino, type, mode, uid, gid, size, mtime, ctime, atime, btime, version, revision, content_revision, "     \
    "history, "                                                                                              \
    "fresh, creation, content, chunks"
#define INODE_CHUNKS 17 /* where `chunks` stands in it, from 0 */
#define ENTRY_COLUMNS                                                                                        \
    "directory, name, flags, number, ino, past, past_uid, past_gid, past_mode, last_version, "               \
    "history_digest, aside_revision, aside_ms, "                                                             \
    "aside_digest"
#define VERSION_COLUMNS                                                                                      \
    "directory, name, revision, version, op, wall, type, deleted, attributes_only, size, mode, uid, gid, "   \
    "mtime, "                                                                                                \
    "ino, child, author_uid, author_node, restored, from_directory, from_name, to_directory, to_name, "      \
    "content, "                                                                                              \
    "chunks, checksum"
#define SESSION_COLUMNS "id, nonce, client, owner, seen, acked_below"

/* What is wrong, in `error`; returns the errno for an SQLite code. */
int state_db_fail(sqlite3 *db, int code, const char *path, const char *what, char error[STATE_DB_ERROR_MAX]);
/* Damage that SQLite does not see. Returns -EUCLEAN. */
int state_db_damaged(const char *path, char error[STATE_DB_ERROR_MAX], const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

enum state_db_mode {
    STATE_DB_READ,    /* -ENOENT if it is missing */
    STATE_DB_RECOVER, /* the same, for the one who may write: takes over what a crash left in the WAL */
    STATE_DB_CREATE   /* makes it with its tables if it is missing */
};
/* Opens and checks that the file is ours. */
int state_db_open(const char *path, enum state_db_mode mode, sqlite3 **db_out,
                  char error[STATE_DB_ERROR_MAX]);

/* Chunk ids of a row. */
struct id_list {
    uint64_t *ids; /* owned */
    size_t n, cap;
};
bool id_list_reserve(struct id_list *l, size_t n); /* false: out of memory */
void id_list_deinit(struct id_list *l);
/* From a `chunks` column; false: malformed, or out of memory (l->cap stays below n). */
bool id_list_read(struct id_list *l, sqlite3_stmt *st, int column);
/* The _bind functions give a code of SQLite: unless it is SQLITE_OK the statement must not be run. */
int id_list_bind(const struct id_list *l, sqlite3_stmt *st, int parameter, struct buffer *scratch);

/* For reading: bound is the code of what was bound to the statement before. A parameter that
 * is not bound would be NULL, and another row found. */
int state_db_bind_number(sqlite3_stmt *st, int bound, int parameter, uint64_t number);
int state_db_bind_name(sqlite3_stmt *st, int bound, int parameter, const void *name, size_t len);
/* sqlite3_step() if all was bound, else the code of that. */
int state_db_step(sqlite3_stmt *st, int bound);

/* Rows: from a statement over the columns above; to its parameters 1…n. False: malformed. */
bool inode_row_read(sqlite3_stmt *st, struct inode_row *row_out);
int inode_row_bind(sqlite3_stmt *st, const struct inode_row *row);
bool entry_row_read(sqlite3_stmt *st, struct entry_row *row_out);
int entry_row_bind(sqlite3_stmt *st, const struct entry_row *row);
/* Also checks the row's checksum, for which it reads the ids. */
bool history_row_read(sqlite3_stmt *st, struct history_row *row_out, struct id_list *ids_out);
int history_row_bind(sqlite3_stmt *st, const struct history_row *row, const struct id_list *ids);
bool session_row_read(sqlite3_stmt *st, struct session_row *row_out);
int session_row_bind(sqlite3_stmt *st, const struct session_row *row);

/* The newest revision of which a row of history was dropped with its name; no row: none was. */
#define DROPPED_TABLE                                                                                        \
    "CREATE TABLE IF NOT EXISTS dropped(id INTEGER PRIMARY KEY CHECK(id = 1), revision INTEGER, checksum "   \
    "INTEGER);"
#define DROPPED_COLUMNS "revision, checksum"
uint64_t dropped_checksum(uint64_t revision);
bool dropped_row_read(sqlite3_stmt *st, uint64_t *revision_out);

/* -ENODATA: it is nobody's yet. */
int state_db_read_owner(sqlite3 *db, const char *path, struct state_owner *out,
                        char error[STATE_DB_ERROR_MAX]);

struct meta_record {
    uint64_t group, applied, digest;
    struct meta_row row;
};
/* 0 or a negative errno with `error`. */
int state_db_read_meta(sqlite3 *db, const char *path, struct meta_record *meta_out,
                       char error[STATE_DB_ERROR_MAX]);

/* Makes the changes of b in a transaction of its own. `durable`: synchronous=FULL,
 * which syncs the whole WAL; a batch without records does only that.
 * An SQLite code, SQLITE_OK on success; after any other nothing was changed. */
struct state_writer;
struct state_writer *state_writer_new(sqlite3 *db,
                                      uint16_t group); /* NULL: out of memory, or see sqlite3_errmsg() */
void state_writer_free(struct state_writer *w);
int state_writer_apply(struct state_writer *w, const struct batch *b, bool durable);

#endif
