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
    "fresh, creation, content, xattr_size, xattr_digest, ttl, expires, chunks"
#define INODE_CHUNKS 21 /* where `chunks` stands in it, from 0 */
#define ENTRY_COLUMNS                                                                                        \
    "directory, name, flags, number, ino, past, past_uid, past_gid, past_mode, last_version, "               \
    "history_digest, aside_revision, aside_ms, "                                                             \
    "aside_digest"
#define VERSION_COLUMNS                                                                                      \
    "directory, name, revision, version, op, wall, type, deleted, attributes_only, size, mode, uid, gid, "   \
    "mtime, "                                                                                                \
    "ino, child, author_uid, author_node, label, restored, from_directory, from_name, to_directory, "        \
    "to_name, "                                                                                              \
    "content, xattr_size, xattr_digest, "                                                                    \
    "chunks, checksum"
#define LOCK_COLUMNS "ino, kind, session, owner, start, end, exclusive, wait, ticket, pid, node"
#define LOCK_TABLE                                                                                           \
    "CREATE TABLE lock(ino INTEGER, kind INTEGER, session INTEGER, owner INTEGER, start INTEGER, end "       \
    "INTEGER, exclusive INTEGER, wait INTEGER, ticket INTEGER, pid INTEGER, node TEXT,"                      \
    " PRIMARY KEY(ino, kind, session, owner, start, wait)) WITHOUT ROWID;"
#define FENCE_COLUMNS "ino, revision, wall, exclusive"
#define FENCE_TABLE                                                                                          \
    "CREATE TABLE fence(ino INTEGER PRIMARY KEY, revision INTEGER, wall INTEGER, exclusive INTEGER);"
#define SESSION_COLUMNS "id, nonce, client, owner, seen, acked_below, lease"

/* What is wrong, in `error`; returns the errno for an SQLite code. */
int state_db_fail(sqlite3 *db, int code, const char *path, const char *what, char error[STATE_DB_ERROR_MAX]);
/* Damage that SQLite does not see. Returns -EUCLEAN. */
int state_db_damaged(const char *path, char error[STATE_DB_ERROR_MAX], const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* A file that is being read, and where to say what is wrong with it. All borrowed. */
struct state_file {
    sqlite3 *db;
    const char *path;
    char *error; /* STATE_DB_ERROR_MAX */
};
int state_file_fail(const struct state_file *f, int code); /* state_db_fail(): cannot read */
int state_file_damaged(const struct state_file *f, const char *what, uint64_t number);

/* What a query gives that has one number; 0: no row. A code. */
int state_db_read_number(sqlite3 *db, const char *sql, int64_t *number_out);

/* The name of the VFS for state.db, static; NULL: SQLite's default. Any thread. */
const char *state_db_vfs(void);

enum state_db_mode {
    STATE_DB_READ,    /* -ENOENT if it is missing */
    STATE_DB_RECOVER, /* the same, for the one who may write: takes over what a crash left in the WAL */
    STATE_DB_CREATE   /* makes it with its tables if it is missing */
};
/* Opens and checks that the file is ours. */
int state_db_open(const char *path, enum state_db_mode mode, sqlite3 **db_out,
                  char error[STATE_DB_ERROR_MAX]);

/* Chunk ids of a row: those of its value, then that of its extended attributes, if it has any. */
struct id_list {
    uint64_t *ids; /* owned */
    size_t n, cap;
};
/* Whether a row with a value of that size, and so many bytes of extended attributes, has as many. */
bool id_list_fits(const struct id_list *l, uint64_t size, uint64_t xattr_size);
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
bool lock_row_read(sqlite3_stmt *st, struct lock_row *row_out);
int lock_row_bind(sqlite3_stmt *st, const struct lock_row *row);
bool fence_row_read(sqlite3_stmt *st, struct fence_row *row_out);
int fence_row_bind(sqlite3_stmt *st, const struct fence_row *row);

/* The newest revision of which a row of history was dropped with its name, up to where the operation
 * log may have gaps; no row: none was. It is not part of the digest. Of what was dropped before there
 * was that table (format 6) nothing is known. */
#define DROPPED_TABLE                                                                                        \
    "CREATE TABLE IF NOT EXISTS dropped(id INTEGER PRIMARY KEY CHECK(id = 1), revision INTEGER, checksum "   \
    "INTEGER);"
#define DROPPED_COLUMNS "revision, checksum"
uint64_t dropped_checksum(uint64_t revision);
bool dropped_row_read(sqlite3_stmt *st, uint64_t *revision_out);

/* The tables of the state, all but version and chunk, which are of history and values, in an
 * order in which each row finds those that it refers to. */
enum state_table {
    STATE_SETTING,
    STATE_INODE,
    STATE_ENTRY,
    STATE_SESSION,
    STATE_RESULT,
    STATE_PART,
    STATE_LOCK,
    STATE_FENCE,
    STATE_DROPPED
};
#define STATE_TABLES (STATE_DROPPED + 1)

/* A row of one of them; pointers are borrowed from the statement, until its next step. */
struct state_row {
    union {
        struct {
            const char *name, *value;
        } setting;
        struct inode_row inode;
        struct entry_row entry;
        struct session_row session;
        struct {
            uint64_t session, seq;
            struct command_result result;
        } result;
        struct {
            uint64_t session, seq;
            uint32_t number;
            const void *bytes;
            size_t len;
        } part;
        struct lock_row lock;
        struct fence_row fence;
    } u;
    uint64_t number;    /* what tells it from others, in messages; DROPPED: the revision */
    struct id_list ids; /* INODE: of its value; owned */
};

const char *state_table_name(enum state_table t);
/* A statement over all of its rows. A code. */
int state_table_open(sqlite3 *db, enum state_table t, sqlite3_stmt **st_out);
/* The row on which a statement over the table's columns stands; *row zeros at first, and
 * id_list_deinit(&row->ids) in the end. False: damaged, and row->number says which. */
bool state_row_read(enum state_table t, sqlite3_stmt *st, struct state_row *row);
/* What it adds to the state's digest. */
uint64_t state_row_digest(enum state_table t, const struct state_row *row);
/* Gives `each` every row of the table until it returns other than 0, which it then returns. A
 * row that is damaged by itself is not given, but -EUCLEAN returned, with f->error. */
typedef int state_row_each(void *arg, enum state_table t, const struct state_row *row);
int state_table_each(const struct state_file *f, enum state_table t, void *arg, state_row_each *each);

/* A chunk's row, through CHUNK_SQL, which the caller resets. SQLITE_ROW: it is there, and good if it
 * is as its checksum says and has len bytes at least; another code: SQLITE_DONE, or why not. */
#define CHUNK_SQL "SELECT checksum, data FROM chunk WHERE id=?"
struct stored_chunk {
    const uint8_t *data;
    size_t len;
    bool good;
};
int stored_chunk_read(sqlite3_stmt *st, uint64_t id, uint64_t len, struct stored_chunk *out);

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
