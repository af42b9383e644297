/* A pass is a list of phases; each goes through a table by key, a few rows a
 * step. Between two steps no transaction is open, except within what can only be
 * judged as a whole: the sum over the small tables, one value, one history. What
 * is written behind the cursor's back is new, and a later pass sees it. */
#include "kvnode/disk/state_db_scrub.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/disk/state_db_internal.h"
#include "kvnode/state/store_internal.h"
#include "sync/base/clock.h"
#include "sync/base/digest.h"

/* A step ends after so many bytes, or so much time on a disk that has to seek. A row
 * without a value counts as ROW_COST. */
#define STEP_BYTES (256 * 1024)
#define STEP_NS 5000000
#define ROW_COST 256
#define LOOKUP_COST 64

enum statement {
    ST_INODE,   /* the next one */
    ST_CHUNK,   /* data of an id */
    ST_CHUNKS,  /* the next ids */
    ST_LENGTH,  /* of an id */
    ST_ENTRY,   /* the next one */
    ST_VERSIONS /* of an entry */
};
#define ST_COUNT (ST_VERSIONS + 1)

static const char *const sqls[ST_COUNT] = {
    [ST_INODE] = "SELECT " INODE_COLUMNS " FROM inode WHERE ino > ? ORDER BY ino LIMIT 1",
    [ST_CHUNK] = "SELECT checksum, data FROM chunk WHERE id = ?",
    [ST_CHUNKS] = "SELECT id FROM chunk WHERE id > ? ORDER BY id",
    [ST_LENGTH] = "SELECT length(data) FROM chunk WHERE id = ?",
    [ST_ENTRY] = "SELECT " ENTRY_COLUMNS
                 " FROM entry WHERE (directory, name) > (?, ?) ORDER BY directory, name LIMIT 1",
    [ST_VERSIONS] =
        "SELECT " VERSION_COLUMNS " FROM version WHERE directory = ? AND name = ? ORDER BY revision",
};

struct state_scrub {
    sqlite3 *db;
    char *path;  /* owned */
    char *error; /* borrowed */
    sqlite3_stmt *st[ST_COUNT];
    int (*phase)(struct state_scrub *s);
    uint64_t cost, until_ns; /* of this step */
    struct state_scrub_progress progress;

    /* rows */
    sqlite3_stmt *table;
    size_t tables_done;
    struct meta_record meta;
    uint64_t sum;

    /* values */
    struct id_list ids;
    uint64_t ino;
    uint64_t size, content;
    size_t at; /* the value's next chunk */
    bool in_value;
    uint64_t *seen; /* owned; ids of chunks that were checked; sorted when all are */
    size_t n_seen, cap_seen;

    uint64_t chunk;

    /* history */
    uint64_t directory, number, history_digest;
    uint8_t name[KV_NAME_MAX];
    size_t name_len;
    bool in_history;
};

static int fail(struct state_scrub *s, int code)
{
    int rv = state_db_fail(s->db, code, s->path, "cannot read", s->error);

    /* What the disk does not give back is as good as lost. */
    return code == SQLITE_IOERR_READ || code == SQLITE_IOERR_SHORT_READ ? -EUCLEAN : rv;
}

static int damaged(struct state_scrub *s, const char *what, uint64_t number)
{
    return state_db_damaged(s->path, s->error, "%s %llu", what, (unsigned long long)number);
}

static bool step_full(const struct state_scrub *s)
{
    return s->cost >= STEP_BYTES || clock_boot_ns() >= s->until_ns;
}

/* ---- rows ---- */

static bool inode_term(struct state_scrub *s, sqlite3_stmt *st)
{
    struct inode_row row;
    bool good = inode_row_read(st, &row) && id_list_read(&s->ids, st, INODE_CHUNKS);

    s->sum += inode_row_digest(&row);
    return good;
}

static bool entry_term(struct state_scrub *s, sqlite3_stmt *st)
{
    struct entry_row row;

    if (!entry_row_read(st, &row))
        return false;
    s->sum += entry_row_digest(&row);
    return true;
}

static bool session_term(struct state_scrub *s, sqlite3_stmt *st)
{
    struct session_row row;

    if (!session_row_read(st, &row))
        return false;
    s->sum += session_row_digest(&row);
    return true;
}

static bool result_term(struct state_scrub *s, sqlite3_stmt *st)
{
    struct cursor c = cursor_of(sqlite3_column_blob(st, 2), (size_t)sqlite3_column_bytes(st, 2));
    struct command_result result;

    command_result_decode(&c, &result);
    s->sum += result_row_digest((uint64_t)sqlite3_column_int64(st, 0), (uint64_t)sqlite3_column_int64(st, 1),
                                &result);
    return cursor_done(&c);
}

static bool part_term(struct state_scrub *s, sqlite3_stmt *st)
{
    size_t len = (size_t)sqlite3_column_bytes(st, 3);

    s->sum += part_row_digest((uint64_t)sqlite3_column_int64(st, 0), (uint64_t)sqlite3_column_int64(st, 1),
                              (uint32_t)sqlite3_column_int64(st, 2), sqlite3_column_blob(st, 3), len);
    s->cost += len;
    return true;
}

static bool setting_term(struct state_scrub *s, sqlite3_stmt *st)
{
    const char *name = (const char *)sqlite3_column_text(st, 0),
               *value = (const char *)sqlite3_column_text(st, 1);

    s->sum += setting_row_digest(name != NULL ? name : "", value != NULL ? value : "");
    return true;
}

static bool dropped_term(struct state_scrub *s, sqlite3_stmt *st)
{
    uint64_t revision;

    (void)s;
    return dropped_row_read(st, &revision);
}

static const struct {
    const char *name, *sql;
    bool (*term)(struct state_scrub *s, sqlite3_stmt *st);
} tables[] = {
    {"inode", "SELECT " INODE_COLUMNS " FROM inode", inode_term},
    {"entry", "SELECT " ENTRY_COLUMNS " FROM entry", entry_term},
    {"session", "SELECT " SESSION_COLUMNS " FROM session", session_term},
    {"result", "SELECT session, seq, result FROM result", result_term},
    {"part", "SELECT session, seq, number, data FROM part", part_term},
    {"setting", "SELECT name, value FROM setting", setting_term},
    {"dropped", "SELECT " DROPPED_COLUMNS " FROM dropped", dropped_term},
};
#define N_TABLES (sizeof tables / sizeof tables[0])

static int begin(struct state_scrub *s)
{
    int code = sqlite3_get_autocommit(s->db) ? sqlite3_exec(s->db, "BEGIN", NULL, NULL, NULL) : SQLITE_OK;

    return code == SQLITE_OK ? 0 : fail(s, code);
}

static int end(struct state_scrub *s)
{
    int code = sqlite3_exec(s->db, "COMMIT", NULL, NULL, NULL);

    return code == SQLITE_OK ? 0 : fail(s, code);
}

static int values(struct state_scrub *s);

static int finish_rows(struct state_scrub *s)
{
    int rv = end(s);

    if (rv < 0)
        return rv;
    s->sum += meta_row_digest(&s->meta.row);
    if (s->sum != s->meta.digest)
        return damaged(s, "the digest is not that of index", s->meta.applied);
    s->progress.index = s->meta.applied;
    s->progress.digest = s->meta.digest;
    s->progress.rows_done = true;
    s->phase = values;
    return 1;
}

static int rows(struct state_scrub *s)
{
    int code = SQLITE_OK;

    while (!step_full(s)) {
        if (s->table == NULL) {
            if (s->tables_done == N_TABLES)
                return finish_rows(s);
            code = sqlite3_prepare_v2(s->db, tables[s->tables_done].sql, -1, &s->table, NULL);
            if (code != SQLITE_OK)
                return fail(s, code);
        }
        code = sqlite3_step(s->table);
        if (code == SQLITE_ROW) {
            s->cost += ROW_COST;
            if (!tables[s->tables_done].term(s, s->table))
                return state_db_damaged(s->path, s->error, "a row of table %s: %lld",
                                        tables[s->tables_done].name,
                                        (long long)sqlite3_column_int64(s->table, 0));
            continue;
        }
        if (code != SQLITE_DONE)
            return fail(s, code);
        sqlite3_finalize(s->table);
        s->table = NULL;
        s->tables_done++;
    }
    return 1;
}

/* The first phase: everything is as of one transaction. */
static int start(struct state_scrub *s)
{
    int rv = begin(s);

    if (rv == 0)
        rv = state_db_read_meta(s->db, s->path, &s->meta, s->error);
    if (rv == -ENOENT)
        return 0; /* nothing was written yet */
    if (rv < 0)
        return rv;
    s->phase = rows;
    return 1;
}

/* ---- values ---- */

/* The chunk's row in ST_CHUNK, which the caller resets; at least `len` long. */
static int check_chunk(struct state_scrub *s, uint64_t id, uint64_t len, const uint8_t **data_out)
{
    sqlite3_stmt *st = s->st[ST_CHUNK];
    size_t stored;
    int code;

    code = state_db_step(st, state_db_bind_number(st, SQLITE_OK, 1, id));
    if (code != SQLITE_ROW)
        return code == SQLITE_DONE ? damaged(s, "no chunk", id) : fail(s, code);
    *data_out = sqlite3_column_blob(st, 1);
    stored = (size_t)sqlite3_column_bytes(st, 1);
    s->cost += LOOKUP_COST + stored;
    if (stored < len || digest64(id, *data_out, stored) != (uint64_t)sqlite3_column_int64(st, 0))
        return damaged(s, "chunk", id);
    return 0;
}

static int note_seen(struct state_scrub *s, uint64_t id)
{
    if (s->n_seen == s->cap_seen) {
        size_t cap = s->cap_seen > 0 ? 2 * s->cap_seen : 1024;
        uint64_t *seen = realloc(s->seen, cap * sizeof *seen);

        if (seen == NULL)
            return fail(s, SQLITE_NOMEM);
        s->seen = seen;
        s->cap_seen = cap;
    }
    s->seen[s->n_seen++] = id;
    return 0;
}

static int compare_ids(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static int chunks(struct state_scrub *s);

/* The next inode into s; 0: there is none. */
static int next_value(struct state_scrub *s)
{
    sqlite3_stmt *st = s->st[ST_INODE];
    struct inode_row row;
    int code, rv = 1;

    code = state_db_step(st, state_db_bind_number(st, SQLITE_OK, 1, s->ino));
    s->cost += ROW_COST;
    if (code != SQLITE_ROW) {
        rv = code == SQLITE_DONE ? 0 : fail(s, code);
    } else if (!inode_row_read(st, &row) || !id_list_read(&s->ids, st, INODE_CHUNKS) ||
               row.size > INT64_MAX || s->ids.n != value_chunks(row.size)) {
        rv = damaged(s, "inode", (uint64_t)sqlite3_column_int64(st, 0));
    } else {
        s->ino = row.ino;
        s->size = row.size;
        s->content = row.content_digest;
        s->sum = 0;
        s->at = 0;
        s->in_value = true;
    }
    sqlite3_reset(st);
    return rv;
}

static int value_step(struct state_scrub *s)
{
    uint64_t id = s->ids.ids[s->at];
    uint32_t len = value_chunk_len(s->size, s->at);
    const uint8_t *data = NULL;
    int rv = 0;

    if (id != 0) {
        rv = check_chunk(s, id, len, &data);
        if (rv == 0)
            rv = note_seen(s, id);
    }
    if (rv == 0)
        s->sum += chunk_term(s->at, data, len);
    sqlite3_reset(s->st[ST_CHUNK]);
    s->at++;
    return rv;
}

static int values(struct state_scrub *s)
{
    int rv = begin(s);

    while (rv == 0 && !step_full(s)) {
        if (!s->in_value) {
            rv = next_value(s);
            if (rv == 0) {
                if (s->n_seen > 0)
                    qsort(s->seen, s->n_seen, sizeof *s->seen, compare_ids);
                s->phase = chunks;
                break;
            }
            if (rv < 0)
                return rv;
            rv = 0;
        }
        while (rv == 0 && s->at < s->ids.n && !step_full(s))
            rv = value_step(s);
        if (rv == 0 && s->at == s->ids.n) {
            s->in_value = false;
            if (s->sum != s->content)
                return damaged(s, "content of inode", s->ino);
        }
    }
    if (rv == 0 && !s->in_value)
        rv = end(s);
    return rv < 0 ? rv : 1;
}

/* ---- chunks ---- */

static int history(struct state_scrub *s);

static int chunks(struct state_scrub *s)
{
    sqlite3_stmt *st = s->st[ST_CHUNKS];
    const uint8_t *data;
    int code = SQLITE_ROW, rv = begin(s);
    int bound = state_db_bind_number(st, SQLITE_OK, 1, s->chunk);

    while (rv == 0 && !step_full(s) && (code = state_db_step(st, bound)) == SQLITE_ROW) {
        s->chunk = (uint64_t)sqlite3_column_int64(st, 0);
        s->cost += LOOKUP_COST;
        if (s->n_seen > 0 && bsearch(&s->chunk, s->seen, s->n_seen, sizeof *s->seen, compare_ids) != NULL)
            continue;
        rv = check_chunk(s, s->chunk, 0, &data);
        sqlite3_reset(s->st[ST_CHUNK]);
    }
    if (rv == 0 && code != SQLITE_ROW && code != SQLITE_DONE)
        rv = fail(s, code);
    sqlite3_reset(st);
    if (rv == 0)
        rv = end(s);
    if (rv == 0 && code == SQLITE_DONE)
        s->phase = history;
    return rv < 0 ? rv : 1;
}

/* ---- history ---- */

static int bind_name(const struct state_scrub *s, sqlite3_stmt *st)
{
    return state_db_bind_name(st, state_db_bind_number(st, SQLITE_OK, 1, s->directory), 2, s->name,
                              s->name_len);
}

/* The next name into s; 0: there is none. */
static int next_entry(struct state_scrub *s)
{
    sqlite3_stmt *st = s->st[ST_ENTRY];
    struct entry_row row;
    int code, rv = 1;

    code = state_db_step(st, bind_name(s, st));
    s->cost += ROW_COST;
    if (code != SQLITE_ROW) {
        rv = code == SQLITE_DONE ? 0 : fail(s, code);
    } else if (!entry_row_read(st, &row)) {
        rv = damaged(s, "an entry of directory", (uint64_t)sqlite3_column_int64(st, 0));
    } else {
        s->directory = row.directory;
        s->name_len = row.name_len;
        memcpy(s->name, row.name, row.name_len);
        s->number = row.number;
        s->history_digest = row.history_digest;
        s->sum = 0;
        s->in_history = true;
        code = bind_name(s, s->st[ST_VERSIONS]);
        if (code != SQLITE_OK)
            rv = fail(s, code);
    }
    sqlite3_reset(st);
    return rv;
}

/* Its bytes were looked at under their ids. */
static int check_presence(struct state_scrub *s, uint64_t id, uint32_t len)
{
    sqlite3_stmt *st = s->st[ST_LENGTH];
    int code, rv = 0;

    if (id == 0)
        return 0;
    code = state_db_step(st, state_db_bind_number(st, SQLITE_OK, 1, id));
    s->cost += LOOKUP_COST;
    if (code != SQLITE_ROW)
        rv = code == SQLITE_DONE ? damaged(s, "no chunk", id) : fail(s, code);
    else if (sqlite3_column_int64(st, 0) < (int64_t)len)
        rv = damaged(s, "too short: chunk", id);
    sqlite3_reset(st);
    return rv;
}

static int check_version(struct state_scrub *s, sqlite3_stmt *st)
{
    struct history_row row;
    uint64_t size;
    int rv = 0;

    s->cost += ROW_COST;
    if (!history_row_read(st, &row, &s->ids))
        return damaged(s, "row of history of revision", (uint64_t)sqlite3_column_int64(st, 2));
    size = row.row.type == INODE_DIRECTORY ? 0 : row.row.size;
    if (size > INT64_MAX || s->ids.n != value_chunks(size))
        return damaged(s, "size in revision", row.row.revision);
    for (size_t i = 0; rv == 0 && i < s->ids.n; i++)
        rv = check_presence(s, s->ids.ids[i], value_chunk_len(size, i));
    s->sum += history_row_digest(&row);
    return rv;
}

static int history(struct state_scrub *s)
{
    sqlite3_stmt *st = s->st[ST_VERSIONS];
    int code, rv = begin(s);

    while (rv == 0 && !step_full(s)) {
        if (!s->in_history) {
            rv = next_entry(s);
            if (rv <= 0) {
                sqlite3_reset(st);
                return rv < 0 ? rv : end(s); /* the end of the last phase */
            }
            rv = 0;
        }
        code = SQLITE_ROW;
        while (rv == 0 && !step_full(s) && (code = sqlite3_step(st)) == SQLITE_ROW)
            rv = check_version(s, st);
        if (rv < 0 || code == SQLITE_ROW)
            continue;
        if (code != SQLITE_DONE)
            return fail(s, code);
        sqlite3_reset(st);
        s->in_history = false;
        if (s->sum != s->history_digest)
            return damaged(s, "history of entry", s->number);
    }
    if (rv == 0 && !s->in_history)
        rv = end(s);
    return rv < 0 ? rv : 1;
}

/* ---- the pass ---- */

int state_scrub_open(const char *path, struct state_scrub **out, char error[STATE_DB_ERROR_MAX])
{
    struct state_scrub *s = calloc(1, sizeof *s);
    int code = SQLITE_NOMEM, rv;

    *out = NULL;
    if (s == NULL || (s->path = strdup(path)) == NULL) {
        free(s);
        return state_db_fail(NULL, code, path, "cannot open", error);
    }
    s->error = error;
    s->phase = start;
    rv = state_db_open(path, STATE_DB_READ, &s->db, error);
    for (int i = 0; rv == 0 && i < ST_COUNT; i++) {
        code = sqlite3_prepare_v2(s->db, sqls[i], -1, &s->st[i], NULL);
        if (code != SQLITE_OK)
            rv = fail(s, code);
    }
    if (rv < 0) {
        state_scrub_close(s);
        return rv;
    }
    *out = s;
    return 0;
}

int state_scrub_step(struct state_scrub *s, struct state_scrub_progress *progress_out)
{
    int rv;

    s->cost = 0;
    s->until_ns = clock_boot_ns() + STEP_NS;
    rv = s->phase(s);
    s->progress.read += s->cost;
    *progress_out = s->progress;
    return rv;
}

void state_scrub_close(struct state_scrub *s)
{
    if (s == NULL)
        return;
    for (int i = 0; i < ST_COUNT; i++)
        sqlite3_finalize(s->st[i]);
    sqlite3_finalize(s->table);
    sqlite3_close(s->db);
    id_list_deinit(&s->ids);
    free(s->seen);
    free(s->path);
    free(s);
}
