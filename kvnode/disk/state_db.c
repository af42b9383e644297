/* The file and its tables: making it, opening it, checking that it is ours. */
#include "kvnode/disk/state_db.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvnode/disk/state_db_internal.h"
#include "sync/wire/feature.h"

static const char schema[] =
    "CREATE TABLE meta(id INTEGER PRIMARY KEY CHECK(id = 1), shard INTEGER, applied INTEGER, digest INTEGER,"
    " wall INTEGER, elapsed INTEGER, next_ino INTEGER, next_number INTEGER);"
    "CREATE TABLE owner(id INTEGER PRIMARY KEY CHECK(id = 1), cluster INTEGER, node INTEGER, life INTEGER, "
    "checksum INTEGER, program TEXT);"
    "CREATE TABLE setting(name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;"
    "CREATE TABLE inode(ino INTEGER PRIMARY KEY, type INTEGER, mode INTEGER, uid INTEGER, gid INTEGER,"
    " size INTEGER, mtime INTEGER, ctime INTEGER, atime INTEGER, btime INTEGER, version INTEGER, revision "
    "INTEGER, content_revision "
    "INTEGER,"
    " history INTEGER, fresh INTEGER, creation INTEGER, content INTEGER, chunks, xattr_size INTEGER,"
    " xattr_digest INTEGER, ttl INTEGER, expires INTEGER);"
    "CREATE TABLE entry(directory INTEGER, name TEXT, flags INTEGER, number INTEGER, ino INTEGER, past "
    "INTEGER,"
    " past_uid INTEGER, past_gid INTEGER, past_mode INTEGER,"
    " last_version INTEGER, history_digest INTEGER, aside_revision INTEGER, aside_ms INTEGER,"
    " aside_digest INTEGER, PRIMARY KEY(directory, name)) WITHOUT ROWID;"
    "CREATE TABLE version(directory INTEGER, name TEXT, revision INTEGER, version INTEGER, op TEXT, wall "
    "INTEGER,"
    " type INTEGER, deleted INTEGER, attributes_only INTEGER, size INTEGER, mode INTEGER, uid INTEGER, gid "
    "INTEGER,"
    " mtime INTEGER, ino INTEGER, child INTEGER, author_uid INTEGER, author_node TEXT, restored INTEGER,"
    " from_directory INTEGER, from_name TEXT, to_directory INTEGER, to_name TEXT, content INTEGER, chunks,"
    " checksum INTEGER, xattr_size INTEGER, xattr_digest INTEGER, label TEXT, PRIMARY KEY(revision, "
    "directory, "
    "name)) "
    "WITHOUT ROWID;"
    "CREATE INDEX version_of_name ON version(directory, name, revision);"
    "CREATE INDEX version_of_inode ON version(ino);"
    "CREATE TABLE chunk(id INTEGER PRIMARY KEY, checksum INTEGER, data BLOB);"
    "CREATE TABLE session(id INTEGER PRIMARY KEY, nonce BLOB, client TEXT, owner INTEGER, seen INTEGER,"
    " acked_below INTEGER, lease INTEGER);"
    "CREATE TABLE result(session INTEGER, seq INTEGER, result BLOB, PRIMARY KEY(session, seq)) WITHOUT ROWID;"
    "CREATE TABLE part(session INTEGER, seq INTEGER, number INTEGER, data BLOB,"
    " PRIMARY KEY(session, seq, number));" LOCK_TABLE FENCE_TABLE DROPPED_TABLE;

int state_db_fail(sqlite3 *db, int code, const char *path, const char *what, char error[STATE_DB_ERROR_MAX])
{
    const char *text = db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(code);
    bool damaged = (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB;

    snprintf(error, STATE_DB_ERROR_MAX, "%s: %s: %s%s%s", path, what, text, damaged ? "; " : "",
             damaged ? STATE_DB_MEND : "");
    switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR: /* a table or a column is missing */
        return -EUCLEAN;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_PERM:
    case SQLITE_READONLY:
        return -EACCES;
    default:
        return -EIO;
    }
}

int state_db_damaged(const char *path, char error[STATE_DB_ERROR_MAX], const char *fmt, ...)
{
    char what[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    snprintf(error, STATE_DB_ERROR_MAX, "%s: damaged: %s; %s", path, what, STATE_DB_MEND);
    return -EUCLEAN;
}

int state_file_fail(const struct state_file *f, int code)
{
    return state_db_fail(f->db, code, f->path, "cannot read", f->error);
}

int state_file_damaged(const struct state_file *f, const char *what, uint64_t number)
{
    return state_db_damaged(f->path, f->error, "%s %llu", what, (unsigned long long)number);
}

int state_db_read_number(sqlite3 *db, const char *sql, int64_t *number_out)
{
    sqlite3_stmt *st;
    int code = sqlite3_prepare_v2(db, sql, -1, &st, NULL);

    if (code != SQLITE_OK)
        return code;
    code = sqlite3_step(st);
    *number_out = code == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    sqlite3_finalize(st);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

static int make_tables(sqlite3 *db)
{
    char head[128];
    int code;

    snprintf(head, sizeof head, "PRAGMA application_id=%d; PRAGMA user_version=%d;", STATE_DB_APPLICATION_ID,
             STATE_DB_USER_VERSION);
    code = sqlite3_exec(db, "PRAGMA journal_mode=WAL; BEGIN IMMEDIATE;", NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_exec(db, head, NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_exec(db, schema, NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    return code;
}

/* Each takes a file of that format to the next one. */
static const char *const upgrades[STATE_DB_USER_VERSION] = {
    [5] = "CREATE TABLE owner(id INTEGER PRIMARY KEY CHECK(id = 1), cluster INTEGER, node INTEGER, life "
          "INTEGER, checksum INTEGER)",
    [6] = "ALTER TABLE owner ADD COLUMN program TEXT;"
          "UPDATE owner SET program='" KVFS_VERSION "';" DROPPED_TABLE,
    [7] = LOCK_TABLE
    "ALTER TABLE inode ADD COLUMN xattr_size INTEGER; ALTER TABLE inode ADD COLUMN xattr_digest INTEGER;"
    "ALTER TABLE inode ADD COLUMN ttl INTEGER; ALTER TABLE inode ADD COLUMN expires INTEGER;"
    "ALTER TABLE version ADD COLUMN xattr_size INTEGER;"
    "ALTER TABLE version ADD COLUMN xattr_digest INTEGER;",
    [8] = FENCE_TABLE "ALTER TABLE session ADD COLUMN lease INTEGER;"
                      "ALTER TABLE version ADD COLUMN label TEXT;",
};

static int upgrade(sqlite3 *db, int64_t from)
{
    char head[64];
    int code = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);

    for (int64_t v = from; code == SQLITE_OK && v < STATE_DB_USER_VERSION; v++)
        code = sqlite3_exec(db, upgrades[v], NULL, NULL, NULL);
    snprintf(head, sizeof head, "PRAGMA user_version=%d; COMMIT", STATE_DB_USER_VERSION);
    if (code == SQLITE_OK)
        code = sqlite3_exec(db, head, NULL, NULL, NULL);
    if (code != SQLITE_OK)
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return code;
}

/* Whole, but of another version of this program: which wrote it is what to use. */
static int other_format(sqlite3 *db, const char *path, int64_t version, char error[STATE_DB_ERROR_MAX])
{
    const char *program = "another version of kvnode";
    sqlite3_stmt *st = NULL;
    char text[64];

    if (sqlite3_prepare_v2(db, "SELECT program FROM owner", -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW && sqlite3_column_text(st, 0) != NULL) {
        snprintf(text, sizeof text, "kvnode %.32s", (const char *)sqlite3_column_text(st, 0));
        program = text;
    }
    snprintf(error, STATE_DB_ERROR_MAX,
             "%.300s has format %lld, written by %s; this is kvnode " KVFS_VERSION
             ", which knows %d to %d: use %s",
             path, (long long)version, program, STATE_DB_OLDEST_VERSION, STATE_DB_USER_VERSION, program);
    sqlite3_finalize(st);
    return -EPROTO;
}

/* What is in a state of a later feature level cannot be known. */
static int check_level(sqlite3 *db, const char *path, char error[STATE_DB_ERROR_MAX])
{
    int64_t level = 0;
    int code = state_db_read_number(
        db, "SELECT CAST(value AS INTEGER) FROM setting WHERE name='feature_level'", &level);

    if (code != SQLITE_OK)
        return state_db_fail(db, code, path, "cannot read its feature level", error);
    if (level <= FEATURE_LEVEL)
        return 0;
    snprintf(error, STATE_DB_ERROR_MAX,
             "%.300s is at feature level %lld, this program (kvnode " KVFS_VERSION
             ") knows %d: start this node with the version that the other nodes have; nothing is lost",
             path, (long long)level, FEATURE_LEVEL);
    return -EPROTO;
}

/* Is the file ours? An empty one is made ours if we may create. */
static int check_kind(sqlite3 *db, const char *path, enum state_db_mode mode, char error[STATE_DB_ERROR_MAX])
{
    int64_t id = 0, version = 0, tables = 0;
    struct stat st;
    int code = state_db_read_number(db, "PRAGMA application_id", &id);

    if (code == SQLITE_OK)
        code = state_db_read_number(db, "PRAGMA user_version", &version);
    if (code == SQLITE_OK)
        code = state_db_read_number(db, "SELECT count(*) FROM sqlite_master", &tables);
    if (code == SQLITE_OK && id == 0 && tables == 0 && mode == STATE_DB_CREATE) {
        code = make_tables(db);
        if (code != SQLITE_OK)
            return state_db_fail(db, code, path, "cannot make its tables", error);
        return 0;
    }
    if (code != SQLITE_OK)
        return state_db_fail(db, code, path, "cannot read", error);
    if (id == 0 && tables == 0 && mode == STATE_DB_RECOVER && (stat(path, &st) < 0 || st.st_size % 512 == 0))
        return -ENOENT; /* a crash came before its tables */
    if (id != STATE_DB_APPLICATION_ID)
        return state_db_damaged(path, error, "application id %lld, not kvfs", (long long)id);
    if (version < STATE_DB_OLDEST_VERSION || version > STATE_DB_USER_VERSION)
        return other_format(db, path, version, error);
    if (version < STATE_DB_USER_VERSION && mode == STATE_DB_READ) {
        snprintf(error, STATE_DB_ERROR_MAX,
                 "%.300s has the older format %lld: it is brought up when a node starts with it", path,
                 (long long)version);
        return -EPROTO;
    }
    if (version < STATE_DB_USER_VERSION) {
        code = upgrade(db, version);
        if (code != SQLITE_OK)
            return state_db_fail(db, code, path, "cannot be brought to this version's format", error);
    }
    return check_level(db, path, error);
}

int state_db_open(const char *path, enum state_db_mode mode, sqlite3 **db_out, char error[STATE_DB_ERROR_MAX])
{
    static const int flags[] = {
        [STATE_DB_READ] = SQLITE_OPEN_READONLY,
        [STATE_DB_RECOVER] = SQLITE_OPEN_READWRITE,
        [STATE_DB_CREATE] = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
    };
    sqlite3 *db = NULL;
    int code, rv;

    *db_out = NULL;
    if (mode != STATE_DB_CREATE && access(path, F_OK) != 0) {
        snprintf(error, STATE_DB_ERROR_MAX, "%s: %s", path, strerror(errno));
        return -errno;
    }
    code = sqlite3_open_v2(path, &db, flags[mode] | SQLITE_OPEN_NOMUTEX, state_db_vfs());
    if (code == SQLITE_OK) {
        sqlite3_extended_result_codes(db, 1);
        sqlite3_busy_timeout(db, 5000);
        code = sqlite3_exec(db, "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;", NULL, NULL, NULL);
    }
    if (code != SQLITE_OK) {
        rv = state_db_fail(db, code, path, "cannot open", error);
        sqlite3_close(db);
        return rv;
    }
    rv = check_kind(db, path, mode, error);
    if (rv < 0) {
        sqlite3_close(db);
        return rv;
    }
    *db_out = db;
    return 0;
}
