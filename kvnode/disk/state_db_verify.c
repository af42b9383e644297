/* The whole file against its digest: every row, every chunk, and for each name
 * the sum of its history. Reads tables in order, in one transaction; memory in
 * proportion to the number of chunk lengths in use. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/disk/state_db_internal.h"
#include "kvnode/state/store_internal.h"
#include "sync/base/digest.h"

/* What the first len bytes of a chunk add to a value's digest. A chunk stands
 * at one place in the values of one inode, so that is the same everywhere. */
struct term {
    UT_hash_handle hh;
    struct {
        uint64_t id, len;
    } key;
    uint64_t term;
};

struct verify {
    sqlite3 *db;
    const char *path;
    char *error;
    sqlite3_stmt *chunk, *versions;
    bool version_waits; /* versions stands on a row that no entry has claimed */
    struct term *terms; /* owned */
    struct id_list ids;
    struct history_row row;
    uint64_t sum;
};

static int fail(struct verify *v, int code)
{
    return state_db_fail(v->db, code, v->path, "cannot read", v->error);
}

static int damaged(struct verify *v, const char *what, uint64_t number)
{
    return state_db_damaged(v->path, v->error, "%s %llu", what, (unsigned long long)number);
}

static int for_rows(struct verify *v, const char *sql, int (*each)(struct verify *v, sqlite3_stmt *st))
{
    sqlite3_stmt *st;
    int rv = 0, code = sqlite3_prepare_v2(v->db, sql, -1, &st, NULL);

    if (code != SQLITE_OK)
        return fail(v, code);
    while (rv == 0 && (code = sqlite3_step(st)) == SQLITE_ROW)
        rv = each(v, st);
    if (rv == 0 && code != SQLITE_DONE)
        rv = fail(v, code);
    sqlite3_finalize(st);
    return rv;
}

static int read_term(struct verify *v, size_t i, uint64_t id, uint32_t len, uint64_t *term_out)
{
    const uint8_t *data;
    size_t stored;
    int code, rv = 0;

    code = state_db_step(v->chunk, state_db_bind_number(v->chunk, SQLITE_OK, 1, id));
    if (code != SQLITE_ROW) {
        rv = code == SQLITE_DONE ? damaged(v, "missing chunk", id) : fail(v, code);
    } else {
        data = sqlite3_column_blob(v->chunk, 1);
        stored = (size_t)sqlite3_column_bytes(v->chunk, 1);
        if (stored < len || digest64(id, data, stored) != (uint64_t)sqlite3_column_int64(v->chunk, 0))
            rv = damaged(v, "chunk", id);
        else
            *term_out = chunk_term(i, data, len);
    }
    sqlite3_reset(v->chunk);
    return rv;
}

static int chunk_digest(struct verify *v, size_t i, uint64_t id, uint32_t len, uint64_t *sum)
{
    struct term *t, probe = {.key = {id, len}};
    int rv;

    if (id == 0) {
        *sum += chunk_term(i, NULL, len);
        return 0;
    }
    HASH_FIND(hh, v->terms, &probe.key, sizeof probe.key, t);
    if (t == NULL) {
        t = calloc(1, sizeof *t);
        if (t == NULL)
            return fail(v, SQLITE_NOMEM);
        t->key = probe.key;
        rv = read_term(v, i, id, len, &t->term);
        if (rv < 0) {
            free(t);
            return rv;
        }
        HASH_ADD(hh, v->terms, key, sizeof t->key, t);
        if (t->hh.tbl == NULL) {
            free(t);
            return fail(v, SQLITE_NOMEM);
        }
    }
    *sum += t->term;
    return 0;
}

/* Digest of the content that v->ids lists. */
static int content_digest(struct verify *v, uint64_t size, uint64_t *digest_out)
{
    int rv = 0;

    *digest_out = 0;
    if (size > INT64_MAX || v->ids.n != value_chunks(size))
        return damaged(v, "a value of size", size);
    for (size_t i = 0; rv == 0 && i < v->ids.n; i++)
        rv = chunk_digest(v, i, v->ids.ids[i], value_chunk_len(size, i), digest_out);
    return rv;
}

static int verify_inode(struct verify *v, sqlite3_stmt *st)
{
    struct inode_row row;
    uint64_t digest;
    int rv;

    if (!inode_row_read(st, &row) || !id_list_read(&v->ids, st, INODE_CHUNKS))
        return damaged(v, "inode", row.ino);
    rv = content_digest(v, row.size, &digest);
    if (rv == 0 && digest != row.content_digest)
        rv = damaged(v, "content of inode", row.ino);
    v->sum += inode_row_digest(&row);
    return rv;
}

/* Moves on to the next row of history, in v->row. */
static int next_version(struct verify *v)
{
    int code = sqlite3_step(v->versions);
    uint64_t digest;
    int rv;

    v->version_waits = code == SQLITE_ROW;
    if (code == SQLITE_DONE)
        return 0;
    if (code != SQLITE_ROW)
        return fail(v, code);
    if (!history_row_read(v->versions, &v->row, &v->ids))
        return damaged(v, "row of history of revision", v->row.row.revision);
    rv = content_digest(v, v->row.row.type == INODE_DIRECTORY ? 0 : v->row.row.size, &digest);
    if (rv == 0 && digest != v->row.content_digest)
        rv = damaged(v, "content of revision", v->row.row.revision);
    return rv;
}

static int verify_entry(struct verify *v, sqlite3_stmt *st)
{
    struct entry_row row;
    uint64_t sum = 0;
    int rv = 0;

    if (!entry_row_read(st, &row))
        return damaged(v, "an entry of directory", row.directory);
    while (rv == 0 && v->version_waits && v->row.directory == row.directory &&
           v->row.name_len == row.name_len && memcmp(v->row.name, row.name, row.name_len) == 0) {
        sum += history_row_digest(&v->row);
        rv = next_version(v);
    }
    if (rv == 0 && sum != row.history_digest)
        rv = damaged(v, "history of entry", row.number);
    v->sum += entry_row_digest(&row);
    return rv;
}

static int verify_session(struct verify *v, sqlite3_stmt *st)
{
    struct session_row row;

    if (!session_row_read(st, &row))
        return damaged(v, "session", row.id);
    v->sum += session_row_digest(&row);
    return 0;
}

static int verify_result(struct verify *v, sqlite3_stmt *st)
{
    uint64_t seq = (uint64_t)sqlite3_column_int64(st, 1);
    struct cursor c = cursor_of(sqlite3_column_blob(st, 2), (size_t)sqlite3_column_bytes(st, 2));
    struct command_result result;

    command_result_decode(&c, &result);
    if (!cursor_done(&c))
        return damaged(v, "result", seq);
    v->sum += result_row_digest((uint64_t)sqlite3_column_int64(st, 0), seq, &result);
    return 0;
}

static int verify_part(struct verify *v, sqlite3_stmt *st)
{
    v->sum += part_row_digest((uint64_t)sqlite3_column_int64(st, 0), (uint64_t)sqlite3_column_int64(st, 1),
                              (uint32_t)sqlite3_column_int64(st, 2), sqlite3_column_blob(st, 3),
                              (size_t)sqlite3_column_bytes(st, 3));
    return 0;
}

static int verify_setting(struct verify *v, sqlite3_stmt *st)
{
    const char *name = (const char *)sqlite3_column_text(st, 0),
               *value = (const char *)sqlite3_column_text(st, 1);

    v->sum += setting_row_digest(name != NULL ? name : "", value != NULL ? value : "");
    return 0;
}

static int verify_dropped(struct verify *v, sqlite3_stmt *st)
{
    uint64_t revision;

    return dropped_row_read(st, &revision) ? 0 : damaged(v, "history dropped up to revision", revision);
}

static int verify_entries(struct verify *v)
{
    int rv, code = sqlite3_prepare_v2(
                v->db, "SELECT " VERSION_COLUMNS " FROM version ORDER BY directory, name, revision", -1,
                &v->versions, NULL);

    if (code != SQLITE_OK)
        return fail(v, code);
    rv = next_version(v);
    if (rv == 0)
        rv = for_rows(v, "SELECT " ENTRY_COLUMNS " FROM entry ORDER BY directory, name", verify_entry);
    if (rv == 0 && v->version_waits)
        rv = damaged(v, "history without an entry, revision", v->row.row.revision);
    return rv;
}

static int verify_all(struct verify *v, uint64_t *index_out, uint64_t *digest_out)
{
    struct meta_record meta;
    int rv = state_db_read_meta(v->db, v->path, &meta, v->error);

    if (rv == -ENOENT)
        return damaged(v, "no meta row, format", STATE_DB_USER_VERSION);
    if (rv == 0)
        rv = for_rows(v, "SELECT " INODE_COLUMNS " FROM inode", verify_inode);
    if (rv == 0)
        rv = verify_entries(v);
    if (rv == 0)
        rv = for_rows(v, "SELECT " SESSION_COLUMNS " FROM session", verify_session);
    if (rv == 0)
        rv = for_rows(v, "SELECT session, seq, result FROM result", verify_result);
    if (rv == 0)
        rv = for_rows(v, "SELECT session, seq, number, data FROM part", verify_part);
    if (rv == 0)
        rv = for_rows(v, "SELECT name, value FROM setting", verify_setting);
    if (rv == 0)
        rv = for_rows(v, "SELECT " DROPPED_COLUMNS " FROM dropped", verify_dropped);
    if (rv < 0)
        return rv;
    v->sum += meta_row_digest(&meta.row);
    *index_out = meta.applied;
    *digest_out = v->sum;
    return v->sum == meta.digest ? 0 : damaged(v, "the digest is not that of index", meta.applied);
}

int state_db_verify(const char *path, uint64_t *index_out, uint64_t *digest_out,
                    char error[STATE_DB_ERROR_MAX])
{
    struct verify v = {.path = path, .error = error};
    struct term *t, *next;
    int code, rv = state_db_open(path, STATE_DB_READ, &v.db, error);

    if (rv < 0)
        return rv;
    code = sqlite3_exec(v.db, "BEGIN", NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_prepare_v2(v.db, "SELECT checksum, data FROM chunk WHERE id=?", -1, &v.chunk, NULL);
    rv = code == SQLITE_OK ? verify_all(&v, index_out, digest_out) : fail(&v, code);
    sqlite3_finalize(v.chunk);
    sqlite3_finalize(v.versions);
    sqlite3_close(v.db);
    id_list_deinit(&v.ids);
    HASH_ITER(hh, v.terms, t, next)
    {
        HASH_DELETE(hh, v.terms, t);
        free(t);
    }
    return rv;
}
