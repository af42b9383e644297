#include "sync/raft/log/log_db.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "sync/base/digest.h"
#include "sync/base/disk.h"
#include "sync/raft/log/log_db_private.h"

#define APPLICATION_ID 0x6b76664c /* "kvfL" */
/* 3: not by which program it was written. An older one is brought up to this when it is opened. */
#define FORMAT_VERSION 4
#define FORMAT_OLDEST 3
#define SCHEMA_ENTRY                                                                                         \
    "CREATE TABLE entry(key INTEGER PRIMARY KEY,term INTEGER,type INTEGER,sum INTEGER,data BLOB)"
#define SCHEMA_GRP                                                                                           \
    "CREATE TABLE grp(grp INTEGER PRIMARY KEY,term INTEGER,vote INTEGER,start_index INTEGER,"                \
    "start_sum INTEGER,snapshot_index INTEGER,snapshot_term INTEGER,conf_index INTEGER,conf BLOB,sum "       \
    "INTEGER)"
#define SCHEMA_LIFE "CREATE TABLE life(id INTEGER PRIMARY KEY,sum INTEGER,life INTEGER, program TEXT)"
#define LIFE_SEED 4 /* of its checksum */
#define SCHEMA_NOTE "CREATE TABLE note(id INTEGER PRIMARY KEY,sum INTEGER,data BLOB)"
#define NOTE_SEED 3 /* of its checksum */

static const char *const statements[ST_COUNT] = {
    [ST_BEGIN] = "BEGIN IMMEDIATE",
    [ST_COMMIT] = "COMMIT",
    [ST_ROLLBACK] = "ROLLBACK",
    [ST_INSERT] = "INSERT INTO entry VALUES(?1,?2,?3,?4,?5)",
    [ST_DELETE] = "DELETE FROM entry WHERE key>=?1 AND key<?2",
    [ST_SUM] = "SELECT sum FROM entry WHERE key=?1",
    [ST_RANGE] = "SELECT key,term,type,sum,data FROM entry WHERE key>=?1 AND key<?2 ORDER BY key",
    [ST_OLDEST] = "SELECT min(key),max(key) FROM entry WHERE key>=?1 AND key<?2",
    [ST_PUT_GROUP] = "INSERT OR REPLACE INTO grp VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)",
    [ST_GET_GROUP] =
        ("SELECT term,vote,start_index,start_sum,snapshot_index,snapshot_term,conf_index,conf,sum FROM grp "
         "WHERE grp=?1"),
    [ST_PUT_NOTE] = "INSERT OR REPLACE INTO note VALUES(1,?1,?2)",
    [ST_GET_NOTE] = "SELECT sum,data FROM note WHERE id=1",
};

/* ---- results ---- */

int log_db_translate(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return 0;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return -EBADMSG;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
        return -EACCES;
    default:
        return -EIO;
    }
}

int log_db_damaged(const struct log_db *db, char *why, const char *what)
{
    snprintf(why, LOG_STORE_ERROR_LEN, "%s is damaged (%s): " LOG_STORE_MEND, db->path, what);
    return -EBADMSG;
}

int log_db_explain(const struct log_db *db, int result, char *why)
{
    switch (result) {
    case 0:
        return 0;
    case -EBADMSG:
        return log_db_damaged(db, why, sqlite3_errmsg(db->sql));
    case -EBUSY:
        snprintf(why, LOG_STORE_ERROR_LEN, "%s is in use by another process: stop that node first", db->path);
        break;
    case -ENOSPC:
        snprintf(why, LOG_STORE_ERROR_LEN, "%s: the disk is full: make room and start again", db->path);
        break;
    default:
        snprintf(why, LOG_STORE_ERROR_LEN, "%s: %s: check the disk and the permissions", db->path,
                 db->sql != NULL ? sqlite3_errmsg(db->sql) : strerror(-result));
        break;
    }
    return result;
}

/* Runs a statement that gives no rows; bindings are dropped. */
int log_db_run(struct log_db *db, enum statement which)
{
    int rc = sqlite3_step(db->st[which]);

    sqlite3_reset(db->st[which]);
    return log_db_translate(rc);
}

static int run_text(struct log_db *db, const char *text)
{
    return log_db_translate(sqlite3_exec(db->sql, text, NULL, NULL, NULL));
}

int64_t log_db_key(uint16_t group, uint64_t index)
{
    return (int64_t)((uint64_t)group << 48 | index);
}

int64_t log_db_key_end(uint16_t group)
{
    return log_db_key(group, (UINT64_C(1) << 48) - 1);
}

/* ---- checksums ---- */

uint64_t log_db_entry_sum(uint64_t previous, int64_t key, const struct entry *e)
{
    uint64_t header[3] = {(uint64_t)key, e->term, (uint64_t)e->type << 32 | e->len};

    return digest64(digest64(previous, header, sizeof header), e->data, e->len);
}

uint64_t log_db_group_sum(const struct group *g)
{
    uint64_t words[] = {g->number,    g->term,           g->vote,          g->start_index,
                        g->start_sum, g->snapshot.index, g->snapshot.term, g->snapshot.conf_index};
    uint64_t sum = digest64(0, words, sizeof words);

    return g->snapshot.conf != NULL ? digest64(sum, g->snapshot.conf->data, g->snapshot.conf->len) : sum;
}

/* ---- groups in memory ---- */

static struct group *find_group(struct log_db *db, uint16_t number)
{
    for (unsigned i = 0; i < db->n_groups; i++)
        if (db->groups[i].number == number)
            return &db->groups[i];
    return NULL;
}

struct group *log_db_group(struct log_db *db, uint16_t number)
{
    struct group *g = find_group(db, number);

    if (g != NULL || db->n_groups == LOG_DB_MAX_GROUPS)
        return g;
    g = &db->groups[db->n_groups++];
    memset(g, 0, sizeof *g);
    g->number = number;
    g->start_index = g->oldest = 1;
    return g;
}

void log_db_release_groups(struct group *groups, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        snapshot_meta_deinit(&groups[i].snapshot);
}

/* ---- opening ---- */

static int on_commit_to_journal(void *arg, sqlite3 *sql, const char *name, int pages)
{
    struct log_db *db = arg;

    db->journal_pages = pages;
    return SQLITE_OK;
}

static int pragma_int(struct log_db *db, const char *text, int64_t *out)
{
    sqlite3_stmt *st;
    int rc = sqlite3_prepare_v2(db->sql, text, -1, &st, NULL);

    if (rc == SQLITE_OK) {
        rc = sqlite3_step(st);
        *out = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
        sqlite3_finalize(st);
    }
    return log_db_translate(rc);
}

/* A damaged schema must not decide how the rows are read. */
static int check_schema(struct log_db *db, char *why)
{
    static const char query[] = "SELECT sql FROM sqlite_schema ORDER BY name";
    static const char *const expected[] = {SCHEMA_ENTRY, SCHEMA_GRP, SCHEMA_LIFE, SCHEMA_NOTE};
    sqlite3_stmt *st;
    unsigned n = 0;
    int rc = sqlite3_prepare_v2(db->sql, query, -1, &st, NULL);

    if (rc != SQLITE_OK)
        return log_db_explain(db, log_db_translate(rc), why);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        const char *sql = (const char *)sqlite3_column_text(st, 0);

        if (n >= 4 || sql == NULL || strcmp(sql, expected[n]) != 0)
            break;
        n++;
    }
    sqlite3_finalize(st);
    if (rc != SQLITE_DONE && rc != SQLITE_ROW)
        return log_db_explain(db, log_db_translate(rc), why);
    return rc == SQLITE_DONE && n == 4 ? 0 : log_db_damaged(db, why, "its tables are not those of a log");
}

static int create(struct log_db *db)
{
    char text[160];
    int64_t life = 0;
    int result = run_text(db, "BEGIN EXCLUSIVE");

    snprintf(text, sizeof text, "PRAGMA application_id=%d;PRAGMA user_version=%d", APPLICATION_ID,
             FORMAT_VERSION);
    if (result == 0)
        result = run_text(db, SCHEMA_ENTRY ";" SCHEMA_GRP ";" SCHEMA_LIFE ";" SCHEMA_NOTE);
    if (result == 0)
        result = run_text(db, text);
    if (result == 0 && getrandom(&life, sizeof life, 0) != (ssize_t)sizeof life)
        result = -EIO;
    life |= 1; /* 0: not known */
    snprintf(text, sizeof text, "INSERT INTO life VALUES(1,%" PRId64 ",%" PRId64 ",'" KVFS_VERSION "')",
             (int64_t)digest64(LIFE_SEED, &life, sizeof life), life);
    if (result == 0)
        result = run_text(db, text);
    return result == 0 ? run_text(db, "COMMIT") : result;
}

/* Each takes a file of that format to the next one. */
static const char *const upgrades[FORMAT_VERSION] = {
    [3] = "ALTER TABLE life ADD COLUMN program TEXT; UPDATE life SET program='" KVFS_VERSION "'",
};

static int upgrade(struct log_db *db, int64_t from)
{
    char text[64];
    int result = run_text(db, "BEGIN IMMEDIATE");

    for (int64_t v = from; result == 0 && v < FORMAT_VERSION; v++)
        result = run_text(db, upgrades[v]);
    snprintf(text, sizeof text, "PRAGMA user_version=%d;COMMIT", FORMAT_VERSION);
    if (result == 0)
        result = run_text(db, text);
    if (result != 0)
        run_text(db, "ROLLBACK");
    return result;
}

/* Whole, but of another version of this program: which wrote it is what to use. */
static int other_format(struct log_db *db, int64_t version, char *why)
{
    const char *program = version > FORMAT_VERSION ? "the newer program" : "the older program";
    sqlite3_stmt *st = NULL;
    char text[64];

    if (sqlite3_prepare_v2(db->sql, "SELECT program FROM life", -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW && sqlite3_column_text(st, 0) != NULL) {
        snprintf(text, sizeof text, "kvnode %.32s", (const char *)sqlite3_column_text(st, 0));
        program = text;
    }
    snprintf(why, LOG_STORE_ERROR_LEN,
             "%.300s has format %" PRId64 ", this program (kvnode " KVFS_VERSION ") knows %d to %d: use %s",
             db->path, version, FORMAT_OLDEST, FORMAT_VERSION, program);
    sqlite3_finalize(st);
    return -EPROTO;
}

static int open_tables(struct log_db *db, bool fresh, char *why)
{
    int64_t application = 0, version = 0, tables = 0, differs = 0;
    int result;

    /* EXCLUSIVE before the journal mode: then the journal's index is plain memory. */
    result = run_text(db, "PRAGMA locking_mode=EXCLUSIVE;PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;"
                          "PRAGMA wal_autocheckpoint=0;PRAGMA temp_store=MEMORY;PRAGMA cell_size_check=ON;"
                          "PRAGMA cache_size=-8192;PRAGMA secure_delete=FAST");
    if (result == 0)
        result = pragma_int(db, "PRAGMA application_id", &application);
    if (result == 0)
        result = pragma_int(db, "PRAGMA user_version", &version);
    if (result == 0)
        result = pragma_int(db, "SELECT count(*) FROM sqlite_schema", &tables);
    if (result != 0)
        return log_db_explain(db, result, why);
    if (application == 0 && version == 0 && tables == 0) {
        if (!fresh)
            return log_db_damaged(db, why, "it is empty, but entries were acknowledged");
        result = create(db);
        if (result == 0)
            result = disk_sync_name(db->path);
        return log_db_explain(db, result, why);
    }
    if (application != APPLICATION_ID)
        return log_db_damaged(db, why, "it is no log of this program");
    if (version < FORMAT_OLDEST || version > FORMAT_VERSION)
        return other_format(db, version, why);
    if (version < FORMAT_VERSION) {
        result = upgrade(db, version);
        if (result != 0)
            return log_db_explain(db, result, why);
    }
    result = check_schema(db, why);
    if (result != 0)
        return result;
    result = pragma_int(db, "SELECT program IS NOT '" KVFS_VERSION "' FROM life", &differs);
    if (result == 0 && differs != 0)
        result = run_text(db, "UPDATE life SET program='" KVFS_VERSION "'");
    if (result == -ENOSPC)
        result = 0; /* a name is not worth a start */
    return log_db_explain(db, result, why);
}

/* And that the floor is this log's. */
static int load_life(struct log_db *db, char *why)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db->sql, "SELECT sum,life FROM life WHERE id=1", -1, &st, NULL);
    int64_t sum = 0, life = 0;

    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        sum = sqlite3_column_int64(st, 0);
        life = sqlite3_column_int64(st, 1);
    }
    sqlite3_finalize(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return log_db_explain(db, log_db_translate(rc), why);
    if (life == 0 || (uint64_t)sum != digest64(LIFE_SEED, &life, sizeof life))
        return log_db_damaged(db, why, "its life");
    db->floor.life = (uint64_t)life;
    if (!log_floor_is_foreign(&db->floor))
        return 0;
    snprintf(
        why, LOG_STORE_ERROR_LEN,
        "%.300s and log.db-floor do not belong together: one of them is another node's, or of another life "
        "of this one. Put back the one that was beside the other",
        db->path);
    return -EINVAL;
}

uint64_t log_db_life(const struct log_db *db)
{
    return db->floor.life;
}

static int load_note(struct log_db *db, char *why)
{
    sqlite3_stmt *st = db->st[ST_GET_NOTE];
    int rc = sqlite3_step(st), result = 0;

    if (rc == SQLITE_ROW) {
        uint64_t sum = (uint64_t)sqlite3_column_int64(st, 0);
        const void *data = sqlite3_column_blob(st, 1);

        db->note_len = (size_t)sqlite3_column_bytes(st, 1);
        db->note = malloc(db->note_len + 1);
        if (db->note == NULL)
            result = log_db_explain(db, -ENOMEM, why);
        else if (db->note_len > 0)
            memcpy(db->note, data, db->note_len);
        if (result == 0 && digest64(NOTE_SEED, db->note, db->note_len) != sum)
            result = log_db_damaged(db, why, "checksum of its owner's note");
    } else if (rc != SQLITE_DONE) {
        result = log_db_explain(db, log_db_translate(rc), why);
    }
    sqlite3_reset(st);
    return result;
}

const void *log_db_note(const struct log_db *db, size_t *len_out)
{
    *len_out = db->note_len;
    return db->note;
}

int log_db_put_note(struct log_db *db, const void *data, size_t len)
{
    sqlite3_stmt *st = db->st[ST_PUT_NOTE];
    int rc = sqlite3_bind_int64(st, 1, (int64_t)digest64(NOTE_SEED, data, len));

    if (rc == SQLITE_OK)
        rc = sqlite3_bind_blob(st, 2, data, (int)len, SQLITE_STATIC);
    return rc == SQLITE_OK ? log_db_run(db, ST_PUT_NOTE) : log_db_translate(rc);
}

int log_db_open(const char *path, struct log_db **out, char *why)
{
    struct log_db *db = calloc(1, sizeof *db);
    char floor_path[4096];
    bool fresh;
    int result;

    *out = NULL;
    if (db == NULL || (db->path = strdup(path)) == NULL) {
        free(db);
        snprintf(why, LOG_STORE_ERROR_LEN, "%s: out of memory", path);
        return -ENOMEM;
    }
    db->floor.fd = -1;
    snprintf(floor_path, sizeof floor_path, "%s-floor", path);
    result = log_floor_open(floor_path, &db->floor);
    if (result != 0) {
        snprintf(why, LOG_STORE_ERROR_LEN, "%.300s: %s", floor_path, strerror(-result));
        goto fail;
    }
    fresh = !log_floor_any(&db->floor);
    result = log_db_translate(sqlite3_open_v2(
        path, &db->sql,
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL));
    if (result != 0) {
        log_db_explain(db, result, why);
        goto fail;
    }
    result = open_tables(db, fresh, why);
    if (result != 0)
        goto fail;
    for (int i = 0; i < ST_COUNT; i++) {
        result = log_db_translate(
            sqlite3_prepare_v3(db->sql, statements[i], -1, SQLITE_PREPARE_PERSISTENT, &db->st[i], NULL));
        if (result != 0) {
            log_db_explain(db, result == -EIO ? -EBADMSG : result, why);
            result = result == -EIO ? -EBADMSG : result;
            goto fail;
        }
    }
    result = load_life(db, why);
    if (result == 0)
        result = load_note(db, why);
    if (result != 0)
        goto fail;
    sqlite3_wal_hook(db->sql, on_commit_to_journal, db);
    *out = db;
    return 0;

fail:
    log_db_close(db);
    return result;
}

void log_db_close(struct log_db *db)
{
    if (db == NULL)
        return;
    for (int i = 0; i < ST_COUNT; i++)
        sqlite3_finalize(db->st[i]);
    sqlite3_close(db->sql);
    log_floor_close(&db->floor);
    log_db_release_groups(db->groups, db->n_groups);
    log_db_release_groups(db->before, db->n_before);
    free(db->note);
    free(db->path);
    free(db);
}
