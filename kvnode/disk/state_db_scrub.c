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
    [ST_CHUNK] = CHUNK_SQL,
    [ST_CHUNKS] = "SELECT id FROM chunk WHERE id > ? ORDER BY id",
    [ST_LENGTH] = "SELECT length(data) FROM chunk WHERE id = ?",
    [ST_ENTRY] = "SELECT " ENTRY_COLUMNS
                 " FROM entry WHERE (directory, name) > (?, ?) ORDER BY directory, name LIMIT 1",
    [ST_VERSIONS] =
        "SELECT " VERSION_COLUMNS " FROM version WHERE directory = ? AND name = ? ORDER BY revision",
};

struct state_scrub {
    struct state_file file;
    char *path; /* owned */
    sqlite3_stmt *st[ST_COUNT];
    int (*phase)(struct state_scrub *s);
    uint64_t cost, until_ns; /* of this step */
    struct state_scrub_progress progress;

    struct state_row row; /* the one that is looked at; of a value the ids only */

    /* rows */
    sqlite3_stmt *rows; /* of `table` */
    enum state_table table;
    struct meta_record meta;
    uint64_t sum;

    /* values */
    uint64_t ino;
    uint64_t size, content, xattrs;
    uint32_t xattr_size;
    size_t at; /* the value's next chunk, or behind them that of the extended attributes */
    bool in_value;
    uint64_t *seen; /* owned; ids of chunks that were checked; sorted when all are */
    size_t n_seen, cap_seen;

    uint64_t chunk;

    /* history */
    struct id_list version; /* of a row of history */
    uint64_t directory, number, history_digest;
    uint8_t name[KV_NAME_MAX];
    size_t name_len;
    bool in_history;
};

static int fail(const struct state_scrub *s, int code)
{
    int rv = state_file_fail(&s->file, code);

    /* What the disk does not give back is as good as lost. */
    return code == SQLITE_IOERR_READ || code == SQLITE_IOERR_SHORT_READ ? -EUCLEAN : rv;
}

static int damaged(const struct state_scrub *s, const char *what, uint64_t number)
{
    return state_file_damaged(&s->file, what, number);
}

static bool step_full(const struct state_scrub *s)
{
    return s->cost >= STEP_BYTES || clock_boot_ns() >= s->until_ns;
}

/* ---- rows ---- */

static int begin(struct state_scrub *s)
{
    int code =
        sqlite3_get_autocommit(s->file.db) ? sqlite3_exec(s->file.db, "BEGIN", NULL, NULL, NULL) : SQLITE_OK;

    return code == SQLITE_OK ? 0 : fail(s, code);
}

static int end(struct state_scrub *s)
{
    int code = sqlite3_exec(s->file.db, "COMMIT", NULL, NULL, NULL);

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

static int check_row(struct state_scrub *s)
{
    s->cost += ROW_COST;
    if (!state_row_read(s->table, s->rows, &s->row))
        return state_db_damaged(s->file.path, s->file.error, "a row of table %s: %lld",
                                state_table_name(s->table), (long long)sqlite3_column_int64(s->rows, 0));
    s->sum += state_row_digest(s->table, &s->row);
    if (s->table == STATE_PART)
        s->cost += s->row.u.part.len;
    return 0;
}

static int rows(struct state_scrub *s)
{
    int code, rv = 0;

    while (rv == 0 && !step_full(s)) {
        if (s->rows == NULL) {
            if (s->table == STATE_TABLES)
                return finish_rows(s);
            code = state_table_open(s->file.db, s->table, &s->rows);
            if (code != SQLITE_OK)
                return fail(s, code);
        }
        code = sqlite3_step(s->rows);
        if (code == SQLITE_ROW) {
            rv = check_row(s);
            continue;
        }
        if (code != SQLITE_DONE)
            return fail(s, code);
        sqlite3_finalize(s->rows);
        s->rows = NULL;
        s->table++;
    }
    return rv < 0 ? rv : 1;
}

/* The first phase: everything is as of one transaction. */
static int start(struct state_scrub *s)
{
    int rv = begin(s);

    if (rv == 0)
        rv = state_db_read_meta(s->file.db, s->file.path, &s->meta, s->file.error);
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
    struct stored_chunk stored;
    int code = stored_chunk_read(s->st[ST_CHUNK], id, len, &stored);

    if (code != SQLITE_ROW)
        return code == SQLITE_DONE ? damaged(s, "no chunk", id) : fail(s, code);
    s->cost += LOOKUP_COST + stored.len;
    if (!stored.good)
        return damaged(s, "chunk", id);
    *data_out = stored.data;
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
    const struct inode_row *row = &s->row.u.inode;
    sqlite3_stmt *st = s->st[ST_INODE];
    int code, rv = 1;

    code = state_db_step(st, state_db_bind_number(st, SQLITE_OK, 1, s->ino));
    s->cost += ROW_COST;
    if (code != SQLITE_ROW) {
        rv = code == SQLITE_DONE ? 0 : fail(s, code);
    } else if (!state_row_read(STATE_INODE, st, &s->row) ||
               !id_list_fits(&s->row.ids, row->size, row->xattr_size)) {
        rv = damaged(s, "inode", (uint64_t)sqlite3_column_int64(st, 0));
    } else {
        s->ino = row->ino;
        s->size = row->size;
        s->content = row->content_digest;
        s->xattr_size = row->xattr_size;
        s->xattrs = row->xattr_digest;
        s->sum = 0;
        s->at = 0;
        s->in_value = true;
    }
    sqlite3_reset(st);
    return rv;
}

static int value_step(struct state_scrub *s)
{
    uint64_t id = s->row.ids.ids[s->at];
    bool xattrs = s->at == value_chunks(s->size);
    uint32_t len = xattrs ? s->xattr_size : value_chunk_len(s->size, s->at);
    const uint8_t *data = NULL;
    int rv = 0;

    if (id != 0) {
        rv = check_chunk(s, id, len, &data);
        if (rv == 0)
            rv = note_seen(s, id);
    }
    if (rv == 0 && !xattrs)
        s->sum += chunk_term(s->at, data, len);
    else if (rv == 0 && (data == NULL || xattrs_term(data, len) != s->xattrs))
        rv = damaged(s, "extended attributes of inode", s->ino);
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
        while (rv == 0 && s->at < s->row.ids.n && !step_full(s))
            rv = value_step(s);
        if (rv == 0 && s->at == s->row.ids.n) {
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
    const struct entry_row *row = &s->row.u.entry;
    int code, rv = 1;

    code = state_db_step(st, bind_name(s, st));
    s->cost += ROW_COST;
    if (code != SQLITE_ROW) {
        rv = code == SQLITE_DONE ? 0 : fail(s, code);
    } else if (!state_row_read(STATE_ENTRY, st, &s->row)) {
        rv = damaged(s, "an entry of directory", (uint64_t)sqlite3_column_int64(st, 0));
    } else {
        s->directory = row->directory;
        s->name_len = row->name_len;
        memcpy(s->name, row->name, row->name_len);
        s->number = row->number;
        s->history_digest = row->history_digest;
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
    if (!history_row_read(st, &row, &s->version))
        return damaged(s, "row of history of revision", (uint64_t)sqlite3_column_int64(st, 2));
    size = row.row.type == INODE_DIRECTORY ? 0 : row.row.size;
    if (!id_list_fits(&s->version, size, row.xattr_size))
        return damaged(s, "size in revision", row.row.revision);
    for (size_t i = 0; rv == 0 && i < s->version.n; i++)
        rv = check_presence(s, s->version.ids[i],
                            i < value_chunks(size) ? value_chunk_len(size, i) : row.xattr_size);
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
    s->file = (struct state_file){.path = s->path, .error = error};
    s->phase = start;
    rv = state_db_open(path, STATE_DB_READ, &s->file.db, error);
    for (int i = 0; rv == 0 && i < ST_COUNT; i++) {
        code = sqlite3_prepare_v2(s->file.db, sqls[i], -1, &s->st[i], NULL);
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
    sqlite3_finalize(s->rows);
    sqlite3_close(s->file.db);
    id_list_deinit(&s->row.ids);
    id_list_deinit(&s->version);
    free(s->seen);
    free(s->path);
    free(s);
}
