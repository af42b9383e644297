/* The file and its tables: opening, checking, reading and binding rows. */
#include "kvnode/disk/state_db.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvnode/disk/state_db_internal.h"
#include "sync/base/digest.h"
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
    " history INTEGER, fresh INTEGER, creation INTEGER, content INTEGER, chunks);"
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
    " checksum INTEGER, PRIMARY KEY(revision, directory, name)) WITHOUT ROWID;"
    "CREATE INDEX version_of_name ON version(directory, name, revision);"
    "CREATE INDEX version_of_inode ON version(ino);"
    "CREATE TABLE chunk(id INTEGER PRIMARY KEY, checksum INTEGER, data BLOB);"
    "CREATE TABLE session(id INTEGER PRIMARY KEY, nonce BLOB, client TEXT, owner INTEGER, seen INTEGER,"
    " acked_below INTEGER);"
    "CREATE TABLE result(session INTEGER, seq INTEGER, result BLOB, PRIMARY KEY(session, seq)) WITHOUT ROWID;"
    "CREATE TABLE part(session INTEGER, seq INTEGER, number INTEGER, data BLOB,"
    " PRIMARY KEY(session, seq, number));" DROPPED_TABLE;

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

static int read_number(sqlite3 *db, const char *sql, int64_t *number_out)
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
    int code =
        read_number(db, "SELECT CAST(value AS INTEGER) FROM setting WHERE name='feature_level'", &level);

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
    int code = read_number(db, "PRAGMA application_id", &id);

    if (code == SQLITE_OK)
        code = read_number(db, "PRAGMA user_version", &version);
    if (code == SQLITE_OK)
        code = read_number(db, "SELECT count(*) FROM sqlite_master", &tables);
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
    code = sqlite3_open_v2(path, &db, flags[mode] | SQLITE_OPEN_NOMUTEX, NULL);
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

bool id_list_reserve(struct id_list *l, size_t n)
{
    uint64_t *ids;

    if (n <= l->cap)
        return true;
    ids = realloc(l->ids, n * sizeof *ids);
    if (ids == NULL)
        return false;
    l->ids = ids;
    l->cap = n;
    return true;
}

void id_list_deinit(struct id_list *l)
{
    free(l->ids);
    *l = (struct id_list){0};
}

bool id_list_read(struct id_list *l, sqlite3_stmt *st, int column)
{
    struct cursor c;
    size_t n;

    l->n = 0;
    switch (sqlite3_column_type(st, column)) {
    case SQLITE_NULL:
        return true;
    case SQLITE_INTEGER:
        if (!id_list_reserve(l, 1))
            return false;
        l->ids[0] = (uint64_t)sqlite3_column_int64(st, column);
        l->n = 1;
        return true;
    case SQLITE_BLOB:
        c = cursor_of(sqlite3_column_blob(st, column), (size_t)sqlite3_column_bytes(st, column));
        n = c.len / 8;
        if (c.len % 8 != 0 || n < 2 || !id_list_reserve(l, n))
            return false;
        while (l->n < n)
            l->ids[l->n++] = cursor_u64(&c);
        return true;
    default:
        return false;
    }
}

int id_list_bind(const struct id_list *l, sqlite3_stmt *st, int parameter, struct buffer *scratch)
{
    if (l->n == 0)
        return sqlite3_bind_null(st, parameter);
    if (l->n == 1)
        return sqlite3_bind_int64(st, parameter, (int64_t)l->ids[0]);
    buffer_clear(scratch);
    for (size_t i = 0; i < l->n; i++)
        buffer_put_u64(scratch, l->ids[i]);
    if (scratch->failed)
        return SQLITE_NOMEM;
    return sqlite3_bind_blob64(st, parameter, scratch->data, scratch->len, SQLITE_TRANSIENT);
}

int state_db_bind_number(sqlite3_stmt *st, int bound, int parameter, uint64_t number)
{
    return bound != SQLITE_OK ? bound : sqlite3_bind_int64(st, parameter, (int64_t)number);
}

int state_db_bind_name(sqlite3_stmt *st, int bound, int parameter, const void *name, size_t len)
{
    if (bound != SQLITE_OK)
        return bound;
    return sqlite3_bind_text(st, parameter, len > 0 ? name : "", (int)len, SQLITE_STATIC);
}

int state_db_step(sqlite3_stmt *st, int bound)
{
    return bound == SQLITE_OK ? sqlite3_step(st) : bound;
}

/* One column after the other. */
struct columns {
    sqlite3_stmt *st;
    int at;
    int code; /* binding: the first failure. A parameter that is not bound would be written as NULL */
};

static void bound(struct columns *c, int code)
{
    if (c->code == SQLITE_OK)
        c->code = code;
}

static uint64_t get_number(struct columns *c)
{
    return (uint64_t)sqlite3_column_int64(c->st, c->at++);
}

static int64_t get_time(struct columns *c)
{
    return sqlite3_column_int64(c->st, c->at++);
}

static const uint8_t *get_name(struct columns *c, uint8_t *len_out, bool *good)
{
    const uint8_t *name = sqlite3_column_text(c->st, c->at);
    int len = sqlite3_column_bytes(c->st, c->at++);

    if (len > KV_NAME_MAX)
        *good = false;
    *len_out = (uint8_t)len;
    return name;
}

static void put_number(struct columns *c, uint64_t n)
{
    bound(c, sqlite3_bind_int64(c->st, c->at++, (int64_t)n));
}

static void put_time(struct columns *c, int64_t ns)
{
    bound(c, sqlite3_bind_int64(c->st, c->at++, ns));
}

/* Zero stands as NULL where it means "none". */
static void put_optional(struct columns *c, uint64_t n)
{
    if (n != 0)
        put_number(c, n);
    else
        bound(c, sqlite3_bind_null(c->st, c->at++));
}

static void put_name(struct columns *c, const uint8_t *name, uint8_t len)
{
    if (len == 0)
        bound(c, sqlite3_bind_null(c->st, c->at++));
    else
        bound(c, sqlite3_bind_text(c->st, c->at++, (const char *)name, len, SQLITE_TRANSIENT));
}

bool inode_row_read(sqlite3_stmt *st, struct inode_row *row_out)
{
    struct columns c = {.st = st};
    uint64_t type;

    row_out->ino = get_number(&c);
    type = get_number(&c);
    row_out->type = (uint8_t)type;
    row_out->mode = (uint16_t)get_number(&c);
    row_out->uid = (uint32_t)get_number(&c);
    row_out->gid = (uint32_t)get_number(&c);
    row_out->size = get_number(&c);
    row_out->mtime_ns = get_time(&c);
    row_out->ctime_ns = get_time(&c);
    row_out->atime_ns = get_time(&c);
    row_out->btime_ns = get_time(&c);
    row_out->version = get_number(&c);
    row_out->revision = get_number(&c);
    row_out->content_revision = get_number(&c);
    row_out->history = get_number(&c);
    row_out->fresh = get_number(&c) != 0;
    row_out->creation = get_number(&c);
    row_out->content_digest = get_number(&c);
    return type >= INODE_FILE && type <= INODE_SYMLINK;
}

int inode_row_bind(sqlite3_stmt *st, const struct inode_row *row)
{
    struct columns c = {.st = st, .at = 1};

    put_number(&c, row->ino);
    put_number(&c, row->type);
    put_number(&c, row->mode);
    put_number(&c, row->uid);
    put_number(&c, row->gid);
    put_number(&c, row->size);
    put_time(&c, row->mtime_ns);
    put_time(&c, row->ctime_ns);
    put_time(&c, row->atime_ns);
    put_time(&c, row->btime_ns);
    put_number(&c, row->version);
    put_number(&c, row->revision);
    put_number(&c, row->content_revision);
    put_optional(&c, row->history);
    put_number(&c, row->fresh);
    put_optional(&c, row->creation);
    put_number(&c, row->content_digest);
    return c.code;
}

bool entry_row_read(sqlite3_stmt *st, struct entry_row *row_out)
{
    struct columns c = {.st = st};
    bool good = true;

    row_out->directory = get_number(&c);
    row_out->name = get_name(&c, &row_out->name_len, &good);
    row_out->flags = (uint8_t)get_number(&c);
    row_out->number = get_number(&c);
    row_out->ino = get_number(&c);
    row_out->past = get_number(&c);
    row_out->past_uid = (uint32_t)get_number(&c);
    row_out->past_gid = (uint32_t)get_number(&c);
    row_out->past_mode = (uint16_t)get_number(&c);
    row_out->last_version = get_number(&c);
    row_out->history_digest = get_number(&c);
    row_out->aside_revision = get_number(&c);
    row_out->aside_ms = get_number(&c);
    row_out->aside_digest = get_number(&c);
    return good && row_out->name_len > 0 && (row_out->flags & ~ENTRY_FLAGS) == 0;
}

int entry_row_bind(sqlite3_stmt *st, const struct entry_row *row)
{
    struct columns c = {.st = st, .at = 1};

    put_number(&c, row->directory);
    put_name(&c, row->name, row->name_len);
    put_number(&c, row->flags);
    put_number(&c, row->number);
    put_optional(&c, row->ino);
    put_optional(&c, row->past);
    put_optional(&c, row->past_uid);
    put_optional(&c, row->past_gid);
    put_optional(&c, row->past_mode);
    put_number(&c, row->last_version);
    put_number(&c, row->history_digest);
    put_optional(&c, row->aside_revision);
    put_optional(&c, row->aside_ms);
    put_optional(&c, row->aside_digest);
    return c.code;
}

static const char *op_text(const struct history_row *row)
{
    return row->restored != 0 ? "restore" : command_op_name(row->row.op);
}

static uint8_t op_of(const char *text)
{
    uint8_t op = 1;

    if (text == NULL)
        return 0;
    if (strcmp(text, "restore") == 0)
        return COMMAND_SET;
    while (op < COMMAND_OP_COUNT && strcmp(command_op_name(op), text) != 0)
        op++;
    return op < COMMAND_OP_COUNT ? op : 0;
}

/* Covers what is this node's own, the ids, on top of the row's digest. */
static uint64_t version_checksum(const struct history_row *row, const struct id_list *ids)
{
    return digest64(history_row_digest(row), ids->n > 0 ? (const void *)ids->ids : "",
                    ids->n * sizeof *ids->ids);
}

bool history_row_read(sqlite3_stmt *st, struct history_row *row_out, struct id_list *ids_out)
{
    struct columns c = {.st = st};
    struct version_row *v = &row_out->row;
    const char *node;
    size_t node_len;
    bool good = true;

    *row_out = (struct history_row){0};
    row_out->directory = get_number(&c);
    row_out->name = get_name(&c, &row_out->name_len, &good);
    v->revision = get_number(&c);
    v->version = get_number(&c);
    v->op = op_of((const char *)sqlite3_column_text(st, c.at++));
    v->wall_ns = get_number(&c);
    v->type = (uint8_t)get_number(&c);
    v->deleted = (uint8_t)get_number(&c);
    v->attributes_only = (uint8_t)get_number(&c);
    v->size = get_number(&c);
    v->mode = (uint16_t)get_number(&c);
    v->uid = (uint32_t)get_number(&c);
    v->gid = (uint32_t)get_number(&c);
    row_out->mtime_ns = get_time(&c);
    row_out->ino = get_number(&c);
    row_out->child = get_number(&c);
    v->author_uid = (uint32_t)get_number(&c);
    node = (const char *)sqlite3_column_text(st, c.at);
    node_len = (size_t)sqlite3_column_bytes(st, c.at++);
    if (node_len > COMMAND_NODE_MAX)
        good = false;
    else if (node != NULL)
        memcpy(v->author_node, node, node_len);
    row_out->restored = get_number(&c);
    row_out->from_directory = get_number(&c);
    row_out->from_name = get_name(&c, &row_out->from_len, &good);
    row_out->to_directory = get_number(&c);
    row_out->to_name = get_name(&c, &row_out->to_len, &good);
    row_out->content_digest = get_number(&c);
    good = id_list_read(ids_out, st, c.at++) && good;
    return good && get_number(&c) == version_checksum(row_out, ids_out);
}

int history_row_bind(sqlite3_stmt *st, const struct history_row *row, const struct id_list *ids)
{
    const struct version_row *v = &row->row;
    struct columns c = {.st = st, .at = 1};
    struct buffer scratch = BUFFER_INIT;

    put_number(&c, row->directory);
    put_name(&c, row->name, row->name_len);
    put_number(&c, v->revision);
    put_number(&c, v->version);
    bound(&c, sqlite3_bind_text(st, c.at++, op_text(row), -1, SQLITE_STATIC));
    put_number(&c, v->wall_ns);
    put_number(&c, v->type);
    put_number(&c, v->deleted);
    put_number(&c, v->attributes_only);
    put_number(&c, v->size);
    put_number(&c, v->mode);
    put_number(&c, v->uid);
    put_number(&c, v->gid);
    put_time(&c, row->mtime_ns);
    put_number(&c, row->ino);
    put_optional(&c, row->child);
    put_number(&c, v->author_uid);
    bound(&c, sqlite3_bind_text(st, c.at++, v->author_node, -1, SQLITE_TRANSIENT));
    put_optional(&c, row->restored);
    put_optional(&c, row->from_directory);
    put_name(&c, row->from_name, row->from_len);
    put_optional(&c, row->to_directory);
    put_name(&c, row->to_name, row->to_len);
    put_number(&c, row->content_digest);
    bound(&c, id_list_bind(ids, st, c.at++, &scratch));
    put_number(&c, version_checksum(row, ids));
    buffer_deinit(&scratch);
    return c.code;
}

bool session_row_read(sqlite3_stmt *st, struct session_row *row_out)
{
    struct columns c = {.st = st};
    const void *nonce;
    bool good = true;

    row_out->id = get_number(&c);
    nonce = sqlite3_column_blob(st, c.at);
    good = nonce != NULL && sqlite3_column_bytes(st, c.at) == sizeof row_out->nonce;
    if (good)
        memcpy(row_out->nonce, nonce, sizeof row_out->nonce);
    c.at++;
    row_out->client = get_name(&c, &row_out->client_len, &good);
    row_out->owner = (uint32_t)get_number(&c);
    row_out->seen_ms = get_number(&c);
    row_out->acked_below = get_number(&c);
    return good;
}

int session_row_bind(sqlite3_stmt *st, const struct session_row *row)
{
    struct columns c = {.st = st, .at = 1};

    put_number(&c, row->id);
    bound(&c, sqlite3_bind_blob(st, c.at++, row->nonce, sizeof row->nonce, SQLITE_TRANSIENT));
    put_name(&c, row->client, row->client_len);
    put_number(&c, row->owner);
    put_number(&c, row->seen_ms);
    put_number(&c, row->acked_below);
    return c.code;
}

int state_db_read_meta(sqlite3 *db, const char *path, struct meta_record *meta_out,
                       char error[STATE_DB_ERROR_MAX])
{
    struct columns c = {0};
    int code = sqlite3_prepare_v2(
        db, "SELECT shard, applied, digest, wall, elapsed, next_ino, next_number FROM meta", -1, &c.st, NULL);

    if (code == SQLITE_OK)
        code = sqlite3_step(c.st);
    if (code == SQLITE_DONE) {
        sqlite3_finalize(c.st);
        return -ENOENT; /* a crash came before the first batch */
    }
    if (code != SQLITE_ROW) {
        sqlite3_finalize(c.st);
        return state_db_fail(db, code, path, "cannot read", error);
    }
    meta_out->group = get_number(&c);
    meta_out->applied = get_number(&c);
    meta_out->digest = get_number(&c);
    meta_out->row.wall_ns = get_number(&c);
    meta_out->row.elapsed_ms = get_number(&c);
    meta_out->row.next_ino = get_number(&c);
    meta_out->row.next_number = get_number(&c);
    sqlite3_finalize(c.st);
    return 0;
}
