/* The whole file against its digest: every row, every chunk, and for each name
 * the sum of its history. Reads tables in order, in one transaction; memory in
 * proportion to the number of chunk lengths in use. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/disk/state_db_internal.h"
#include "kvnode/state/store_internal.h"

/* What the first len bytes of a chunk add to a value's digest, or are for extended attributes. A chunk stands
 * at one place in the values of one inode, so that is the same everywhere. */
struct term {
    UT_hash_handle hh;
    struct {
        uint64_t id, len;
    } key;
    uint64_t term;
};

#define XATTRS SIZE_MAX

struct verify {
    struct state_file file;
    sqlite3_stmt *chunk, *versions;
    bool version_waits; /* versions stands on a row that no entry has claimed */
    struct term *terms; /* owned */
    struct id_list ids; /* of row */
    struct history_row row;
    uint64_t sum;
};

static int fail(const struct verify *v, int code)
{
    return state_file_fail(&v->file, code);
}

static int damaged(const struct verify *v, const char *what, uint64_t number)
{
    return state_file_damaged(&v->file, what, number);
}

/* i: place in the value, or XATTRS. */
static int read_term(struct verify *v, size_t i, uint64_t id, uint32_t len, uint64_t *term_out)
{
    struct stored_chunk stored;
    int code = stored_chunk_read(v->chunk, id, len, &stored), rv = 0;

    if (code != SQLITE_ROW)
        rv = code == SQLITE_DONE ? damaged(v, "missing chunk", id) : fail(v, code);
    else if (!stored.good)
        rv = damaged(v, "chunk", id);
    else
        *term_out = i == XATTRS ? xattrs_term(stored.data, len) : chunk_term(i, stored.data, len);
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

static int content_digest(struct verify *v, uint64_t size, uint32_t xattr_size, const struct id_list *ids,
                          uint64_t *digest_out, uint64_t *xattr_digest_out)
{
    size_t n = value_chunks(size);
    int rv = 0;

    *digest_out = *xattr_digest_out = 0;
    if (!id_list_fits(ids, size, xattr_size))
        return damaged(v, "a value of size", size);
    for (size_t i = 0; rv == 0 && i < n; i++)
        rv = chunk_digest(v, i, ids->ids[i], value_chunk_len(size, i), digest_out);
    if (rv == 0 && xattr_size > 0)
        rv = ids->ids[n] != 0 ? chunk_digest(v, XATTRS, ids->ids[n], xattr_size, xattr_digest_out)
                              : damaged(v, "missing chunk", 0);
    return rv;
}

static int verify_inode(struct verify *v, const struct state_row *row)
{
    const struct inode_row *in = &row->u.inode;
    uint64_t digest, xattr_digest;
    int rv = content_digest(v, in->size, in->xattr_size, &row->ids, &digest, &xattr_digest);

    if (rv == 0 && digest != in->content_digest)
        rv = damaged(v, "content of inode", in->ino);
    if (rv == 0 && xattr_digest != in->xattr_digest)
        rv = damaged(v, "extended attributes of inode", in->ino);
    return rv;
}

/* Moves on to the next row of history, in v->row. */
static int next_version(struct verify *v)
{
    int code = sqlite3_step(v->versions);
    uint64_t digest, xattr_digest;
    int rv;

    v->version_waits = code == SQLITE_ROW;
    if (code == SQLITE_DONE)
        return 0;
    if (code != SQLITE_ROW)
        return fail(v, code);
    if (!history_row_read(v->versions, &v->row, &v->ids))
        return damaged(v, "row of history of revision", v->row.row.revision);
    rv = content_digest(v, v->row.row.type == INODE_DIRECTORY ? 0 : v->row.row.size, v->row.xattr_size,
                        &v->ids, &digest, &xattr_digest);
    if (rv == 0 && digest != v->row.content_digest)
        rv = damaged(v, "content of revision", v->row.row.revision);
    if (rv == 0 && xattr_digest != v->row.xattr_digest)
        rv = damaged(v, "extended attributes of revision", v->row.row.revision);
    return rv;
}

static int verify_entry(struct verify *v, const struct entry_row *row)
{
    uint64_t sum = 0;
    int rv = 0;

    while (rv == 0 && v->version_waits && v->row.directory == row->directory &&
           v->row.name_len == row->name_len && memcmp(v->row.name, row->name, row->name_len) == 0) {
        sum += history_row_digest(&v->row);
        rv = next_version(v);
    }
    if (rv == 0 && sum != row->history_digest)
        rv = damaged(v, "history of entry", row->number);
    return rv;
}

/* Beside its own digest, which the sum has, a row is right as far as its table knows. */
static int verify_row(void *arg, enum state_table t, const struct state_row *row)
{
    struct verify *v = arg;

    v->sum += state_row_digest(t, row);
    if (t == STATE_INODE)
        return verify_inode(v, row);
    return t == STATE_ENTRY ? verify_entry(v, &row->u.entry) : 0;
}

/* History beside the entries, both in the order of their names. */
static int verify_entries(struct verify *v)
{
    int rv, code = sqlite3_prepare_v2(
                v->file.db, "SELECT " VERSION_COLUMNS " FROM version ORDER BY directory, name, revision", -1,
                &v->versions, NULL);

    if (code != SQLITE_OK)
        return fail(v, code);
    rv = next_version(v);
    if (rv == 0)
        rv = state_table_each(&v->file, STATE_ENTRY, v, verify_row);
    if (rv == 0 && v->version_waits)
        rv = damaged(v, "history without an entry, revision", v->row.row.revision);
    return rv;
}

static int verify_all(struct verify *v, uint64_t *index_out, uint64_t *digest_out)
{
    struct meta_record meta;
    int rv = state_db_read_meta(v->file.db, v->file.path, &meta, v->file.error);

    if (rv == -ENOENT)
        return damaged(v, "no meta row, format", STATE_DB_USER_VERSION);
    for (enum state_table t = 0; t < STATE_TABLES && rv == 0; t++)
        rv = t == STATE_ENTRY ? verify_entries(v) : state_table_each(&v->file, t, v, verify_row);
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
    struct verify v = {.file = {.path = path, .error = error}};
    struct term *t, *next;
    int code, rv = state_db_open(path, STATE_DB_READ, &v.file.db, error);

    if (rv < 0)
        return rv;
    code = sqlite3_exec(v.file.db, "BEGIN", NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_prepare_v2(v.file.db, CHUNK_SQL, -1, &v.chunk, NULL);
    rv = code == SQLITE_OK ? verify_all(&v, index_out, digest_out) : fail(&v, code);
    sqlite3_finalize(v.chunk);
    sqlite3_finalize(v.versions);
    sqlite3_close(v.file.db);
    id_list_deinit(&v.ids);
    HASH_ITER(hh, v.terms, t, next)
    {
        HASH_DELETE(hh, v.terms, t);
        free(t);
    }
    return rv;
}
