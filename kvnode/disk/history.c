/* Reads of history. Each row carries a checksum and each chunk its own; what
 * does not match is reported as KV_E_IO, never shown. A damaged index can lead to a
 * good row of another name: that it is the one that was asked for is checked too. */
#include "kvnode/disk/history.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/disk/state_db_internal.h"
#include "kvnode/state/xattrs.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

#define OF_NAME "SELECT " VERSION_COLUMNS " FROM version WHERE directory=?1 AND name=?2 "

enum statement {
    ST_LIST,
    ST_VERSION,
    ST_LAST,
    ST_AT,
    ST_LOG,
    ST_DROPPED,
    ST_NAMES,
    ST_CHUNK,
    ST_CURRENT,
    ST_COUNT
};

static const char *const texts[ST_COUNT] = {
    [ST_LIST] = OF_NAME "AND revision<?3 ORDER BY revision DESC",
    [ST_VERSION] =
        OF_NAME "AND version=?3 AND deleted=0 AND attributes_only=0 ORDER BY revision DESC LIMIT 1",
    [ST_LAST] = OF_NAME "AND version=?3 AND deleted=0 ORDER BY revision DESC LIMIT 1",
    [ST_AT] = OF_NAME "AND wall<=?3 ORDER BY revision DESC LIMIT 1",
    [ST_LOG] = "SELECT " VERSION_COLUMNS " FROM version WHERE (revision, directory, name) > (?3, ?1, ?2)"
               " ORDER BY revision, directory, name",
    [ST_DROPPED] = "SELECT " DROPPED_COLUMNS " FROM dropped",
    [ST_NAMES] = "SELECT name FROM entry WHERE directory=?1 AND name>?2 AND flags&4<>0 ORDER BY name",
    [ST_CHUNK] = CHUNK_SQL,
    /* The newest row says whether the key lives, and the number that is current. */
    [ST_CURRENT] = "SELECT directory, name, version, deleted, (SELECT max(revision) FROM version WHERE "
                   "directory=?1 AND name=?2 AND"
                   " version=v.version AND attributes_only=0 AND deleted=0) FROM version AS v"
                   " WHERE directory=?1 AND name=?2 ORDER BY revision DESC LIMIT 1",
};

/* What guards a version, while the name has this newest row. */
struct guards {
    uint64_t directory, version, newest;
    uint8_t name[KV_NAME_MAX];
    size_t name_len; /* 0: nothing is kept */
    struct history_guards guards;
};

struct history_reader {
    char *path; /* owned */
    sqlite3 *db;
    sqlite3_stmt *st[ST_COUNT];
    struct id_list ids;
    struct history_place asked; /* during a call; name NULL: rows of any name */
    struct guards kept;         /* a long version is read in many pieces */
};

struct history_reader *history_open(const char *path)
{
    struct history_reader *r = calloc(1, sizeof *r);
    char error[STATE_DB_ERROR_MAX];

    if (r == NULL)
        return NULL;
    r->path = strdup(path);
    if (r->path == NULL || state_db_open(path, STATE_DB_READ, &r->db, error) < 0) {
        if (r->path != NULL)
            log_error("history: %s", error);
        history_close(r);
        return NULL;
    }
    for (int i = 0; i < ST_COUNT; i++) {
        int code = sqlite3_prepare_v3(r->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &r->st[i], NULL);

        if (code != SQLITE_OK) {
            state_db_fail(r->db, code, path, "cannot read history", error);
            log_error("%s", error);
            history_close(r);
            return NULL;
        }
    }
    return r;
}

void history_close(struct history_reader *r)
{
    if (r == NULL)
        return;
    for (int i = 0; i < ST_COUNT; i++)
        sqlite3_finalize(r->st[i]);
    sqlite3_close(r->db);
    id_list_deinit(&r->ids);
    free(r->path);
    free(r);
}

static int fail(struct history_reader *r, int code)
{
    char error[STATE_DB_ERROR_MAX];

    if (code == SQLITE_NOMEM)
        return -ENOMEM;
    state_db_fail(r->db, code, r->path, "cannot read history", error);
    log_error("%s", error);
    return KV_E_IO;
}

static int damaged(struct history_reader *r, const char *what, uint64_t number)
{
    log_error("%s: damaged: %s %llu; " STATE_DB_MEND, r->path, what, (unsigned long long)number);
    return KV_E_IO;
}

static int bind_place(const struct history_reader *r, sqlite3_stmt *st)
{
    int bound = state_db_bind_number(st, SQLITE_OK, 1, r->asked.directory);

    return state_db_bind_name(st, bound, 2, r->asked.name, r->asked.name_len);
}

/* The place, and a number that may be beyond what SQLite knows: all there is. */
static int bind_place_and(const struct history_reader *r, sqlite3_stmt *st, uint64_t number)
{
    return state_db_bind_number(st, bind_place(r, st), 3, number < INT64_MAX ? number : INT64_MAX);
}

static bool is_asked(const struct history_reader *r, uint64_t directory, const void *name, size_t name_len)
{
    return r->asked.name == NULL || (directory == r->asked.directory && name_len == r->asked.name_len &&
                                     memcmp(name, r->asked.name, name_len) == 0);
}

/* Revision of the row that is the current content, or 0. One read transaction
 * spans this and what follows, so that both see the same moment. */
static int begin(struct history_reader *r, uint64_t directory, const void *name, size_t name_len,
                 uint64_t *current_out)
{
    sqlite3_stmt *st = r->st[ST_CURRENT];
    int code = sqlite3_exec(r->db, "BEGIN", NULL, NULL, NULL);
    bool found = false;

    *current_out = 0;
    r->asked = (struct history_place){directory, name, name_len};
    if (code != SQLITE_OK)
        return fail(r, code);
    if (name == NULL)
        return KV_OK;
    code = state_db_step(st, bind_place(r, st));
    if (code == SQLITE_ROW) {
        found = is_asked(r, (uint64_t)sqlite3_column_int64(st, 0), sqlite3_column_text(st, 1),
                         (size_t)sqlite3_column_bytes(st, 1));
        if (sqlite3_column_int64(st, 3) == 0)
            *current_out = (uint64_t)sqlite3_column_int64(st, 4);
    }
    sqlite3_reset(st);
    if (code == SQLITE_ROW)
        return found ? KV_OK : damaged(r, "index of history of directory", directory);
    return code == SQLITE_DONE ? KV_E_NOENT : fail(r, code);
}

static int end(struct history_reader *r, sqlite3_stmt *st, int rv)
{
    if (st != NULL)
        sqlite3_reset(st);
    sqlite3_exec(r->db, "COMMIT", NULL, NULL, NULL);
    return rv;
}

static int read_row(struct history_reader *r, sqlite3_stmt *st, uint64_t current, struct history_row *row_out)
{
    if (!history_row_read(st, row_out, &r->ids))
        return damaged(r, "row of history of revision", row_out->row.revision);
    if (!is_asked(r, row_out->directory, row_out->name, row_out->name_len))
        return damaged(r, "index of history of directory", r->asked.directory);
    row_out->row.restored = row_out->restored;
    row_out->row.current = current != 0 && row_out->row.revision == current;
    return KV_OK;
}

int history_list(struct history_reader *r, uint64_t directory, const void *name, size_t name_len,
                 uint64_t before, uint32_t n, void *arg,
                 bool (*emit)(void *arg, const struct version_row *row), bool *more_out)
{
    sqlite3_stmt *st = r->st[ST_LIST];
    uint64_t current;
    uint32_t shown = 0;
    int bound, code = SQLITE_DONE, rv = begin(r, directory, name, name_len, &current);

    *more_out = false;
    if (rv != KV_OK)
        return end(r, NULL, rv);
    bound = bind_place_and(r, st, before == 0 ? UINT64_MAX : before);
    while (rv == KV_OK && (code = state_db_step(st, bound)) == SQLITE_ROW) {
        struct history_row row;

        if (shown == n) {
            *more_out = true;
            break;
        }
        rv = read_row(r, st, current, &row);
        if (rv == KV_OK && !emit(arg, &row.row)) {
            *more_out = true;
            break;
        }
        shown++;
    }
    if (rv == KV_OK && code != SQLITE_ROW && code != SQLITE_DONE)
        rv = fail(r, code);
    return end(r, st, rv);
}

/* Appends [at, at + n) of a chunk of which a version uses len bytes. */
static int read_chunk(struct history_reader *r, uint64_t id, uint32_t len, uint32_t at, uint32_t n,
                      struct buffer *out)
{
    sqlite3_stmt *st = r->st[ST_CHUNK];
    struct stored_chunk stored;
    int code, rv = KV_OK;

    if (id == 0) {
        if (buffer_reserve(out, n)) {
            memset(out->data + out->len, 0, n);
            out->len += n;
        }
        return KV_OK;
    }
    code = stored_chunk_read(st, id, len, &stored);
    if (code != SQLITE_ROW)
        rv = code == SQLITE_DONE ? damaged(r, "missing chunk", id) : fail(r, code);
    else if (!stored.good)
        rv = damaged(r, "chunk", id);
    else
        buffer_put_bytes(out, stored.data + at, n);
    sqlite3_reset(st);
    return rv;
}

static int read_content(struct history_reader *r, const struct history_row *row, uint64_t offset,
                        uint64_t len, struct buffer *out)
{
    uint64_t size = row->row.size;
    int rv = KV_OK;

    if (row->row.type == INODE_DIRECTORY || offset >= size)
        return KV_OK;
    if (!id_list_fits(&r->ids, size, row->xattr_size))
        return damaged(r, "size of revision", row->row.revision);
    if (len > size - offset)
        len = size - offset;
    while (rv == KV_OK && len > 0) {
        size_t i = (size_t)(offset / KV_CHUNK_SIZE);
        uint32_t at = (uint32_t)(offset % KV_CHUNK_SIZE);
        uint32_t n = KV_CHUNK_SIZE - at < len ? KV_CHUNK_SIZE - at : (uint32_t)len;

        rv = read_chunk(r, r->ids.ids[i], value_chunk_len(size, i), at, n, out);
        offset += n;
        len -= n;
    }
    return rv == KV_OK && out->failed ? -ENOMEM : rv;
}

int history_read(struct history_reader *r, uint64_t directory, const void *name, size_t name_len,
                 uint64_t version, uint64_t offset, uint32_t len, struct version_row *row_out,
                 struct buffer *out)
{
    sqlite3_stmt *st = r->st[ST_VERSION];
    struct history_row row;
    uint64_t current;
    int code, rv = begin(r, directory, name, name_len, &current);

    if (rv != KV_OK)
        return end(r, NULL, rv);
    code = state_db_step(st, bind_place_and(r, st, version));
    if (code == SQLITE_ROW) {
        rv = read_row(r, st, current, &row);
        if (rv == KV_OK) {
            *row_out = row.row;
            rv = read_content(r, &row, offset, len, out);
        }
    } else {
        rv = code == SQLITE_DONE ? KV_E_NOVERSION : fail(r, code);
    }
    return end(r, st, rv);
}

int history_xattrs(struct history_reader *r, uint64_t directory, const void *name, size_t name_len,
                   uint64_t version, struct buffer *out)
{
    sqlite3_stmt *st = r->st[ST_LAST];
    struct history_row row;
    uint64_t current;
    uint32_t n;
    int code, rv = begin(r, directory, name, name_len, &current);

    if (rv != KV_OK)
        return end(r, NULL, rv);
    code = state_db_step(st, bind_place_and(r, st, version));
    if (code == SQLITE_ROW)
        rv = read_row(r, st, current, &row);
    else
        rv = code == SQLITE_DONE ? KV_E_NOVERSION : fail(r, code);
    if (rv == KV_OK && row.xattr_size > 0) {
        if (r->ids.n == 0 || r->ids.ids[r->ids.n - 1] == 0)
            rv = damaged(r, "extended attributes of revision", row.row.revision);
        else
            rv = read_chunk(r, r->ids.ids[r->ids.n - 1], row.xattr_size, 0, row.xattr_size, out);
        if (rv == KV_OK && out->failed)
            rv = -ENOMEM;
        else if (rv == KV_OK &&
                 (xattrs_term(out->data + out->len - row.xattr_size, row.xattr_size) != row.xattr_digest ||
                  !xattrs_check(out->data + out->len - row.xattr_size, row.xattr_size, &n)))
            rv = damaged(r, "extended attributes of revision", row.row.revision);
    }
    return end(r, st, rv);
}

/* The row that a statement with one number besides the place finds. */
static int read_one(struct history_reader *r, enum statement which, uint64_t directory, const void *name,
                    size_t name_len, uint64_t number, struct version_row *row_out)
{
    sqlite3_stmt *st = r->st[which];
    struct history_row row;
    uint64_t current;
    int code, rv = begin(r, directory, name, name_len, &current);

    if (rv != KV_OK)
        return end(r, NULL, rv);
    code = state_db_step(st, bind_place_and(r, st, number));
    if (code == SQLITE_ROW) {
        rv = read_row(r, st, current, &row);
        if (rv == KV_OK)
            *row_out = row.row;
    } else {
        rv = code == SQLITE_DONE ? KV_E_NOVERSION : fail(r, code);
    }
    return end(r, st, rv);
}

static void add_guard(struct history_guards *g, const struct version_row *row)
{
    const struct access a = {row->uid, row->gid, row->mode};

    for (uint32_t i = 1; i < g->n; i++)
        if (g->list[i].uid == a.uid && g->list[i].gid == a.gid && g->list[i].mode == a.mode)
            return;
    if (g->n < HISTORY_GUARDS_MAX)
        g->list[g->n++] = a;
    else
        access_meet(&g->list[g->n - 1], &a);
}

/* Rows from the newest down to the version's newest: the last row of each file that has
 * borne the name since, and that one, which comes first in the list. */
static int find_guards(struct history_reader *r, uint64_t version, struct guards *g)
{
    sqlite3_stmt *st = r->st[ST_LIST];
    uint64_t later = 0; /* the inode that bore the name after this row */
    int bound, code = SQLITE_DONE, rv = KV_OK;
    struct history_row row = {0};
    bool found = false;

    g->newest = 0;
    g->guards.n = 1; /* kept free for the version's own */
    bound = bind_place_and(r, st, INT64_MAX);
    while (rv == KV_OK && !found && (code = state_db_step(st, bound)) == SQLITE_ROW) {
        rv = read_row(r, st, 0, &row);
        if (rv != KV_OK || row.row.type == INODE_DIRECTORY)
            continue;
        if (g->newest == 0)
            g->newest = row.row.revision;
        found = row.row.version == version;
        if (found)
            g->guards.list[0] = (struct access){row.row.uid, row.row.gid, row.row.mode};
        else if (row.ino != later || row.row.deleted)
            add_guard(&g->guards, &row.row);
        later = row.ino;
    }
    if (rv == KV_OK && !found)
        rv = code == SQLITE_DONE ? KV_E_NOVERSION : fail(r, code);
    sqlite3_reset(st);
    return rv;
}

int history_guards(struct history_reader *r, uint64_t directory, const void *name, size_t name_len,
                   uint64_t version, struct history_guards *guards_out)
{
    struct guards *g = &r->kept;
    struct history_row newest;
    sqlite3_stmt *st = r->st[ST_LIST];
    uint64_t current;
    int code, rv = begin(r, directory, name, name_len, &current);
    bool kept = false;

    if (rv != KV_OK)
        return end(r, NULL, rv);
    if (name_len > 0 && g->directory == directory && g->version == version && g->name_len == name_len &&
        memcmp(g->name, name, name_len) == 0) {
        code = state_db_step(st, bind_place_and(r, st, INT64_MAX));
        rv = code == SQLITE_ROW ? read_row(r, st, 0, &newest) : fail(r, code);
        kept = rv == KV_OK && newest.row.revision == g->newest;
        sqlite3_reset(st);
    }
    if (rv == KV_OK && !kept) {
        g->name_len = 0;
        rv = find_guards(r, version, g);
        if (rv == KV_OK) {
            g->directory = directory;
            g->version = version;
            memcpy(g->name, name, name_len);
            g->name_len = name_len;
        }
    }
    if (rv == KV_OK)
        *guards_out = g->guards;
    return end(r, NULL, rv);
}

int history_at(struct history_reader *r, uint64_t directory, const void *name, size_t name_len,
               uint64_t wall_ns, struct version_row *row_out)
{
    return read_one(r, ST_AT, directory, name, name_len, wall_ns, row_out);
}

int history_names(struct history_reader *r, uint64_t directory, const void *after, size_t after_len,
                  void *arg, bool (*emit)(void *arg, const uint8_t *name, size_t name_len))
{
    sqlite3_stmt *st = r->st[ST_NAMES];
    uint64_t nobody;
    int bound, code, rv = begin(r, directory, NULL, 0, &nobody);

    if (rv != KV_OK)
        return end(r, NULL, rv);
    bound = state_db_bind_name(st, state_db_bind_number(st, SQLITE_OK, 1, directory), 2, after, after_len);
    while ((code = state_db_step(st, bound)) == SQLITE_ROW) {
        const uint8_t *name = sqlite3_column_text(st, 0);

        if (name != NULL && !emit(arg, name, (size_t)sqlite3_column_bytes(st, 0)))
            break;
    }
    return end(r, st, code == SQLITE_ROW || code == SQLITE_DONE ? KV_OK : fail(r, code));
}

static bool is_behind(const struct history_row *row, uint64_t revision, const struct history_place *at)
{
    size_t n = row->name_len < at->name_len ? row->name_len : at->name_len;
    int order;

    if (row->row.revision != revision)
        return row->row.revision > revision;
    if (row->directory != at->directory)
        return row->directory > at->directory;
    order = n > 0 ? memcmp(row->name, at->name, n) : 0;
    return order != 0 ? order > 0 : row->name_len > at->name_len;
}

static int read_dropped(struct history_reader *r, uint64_t *revision_out)
{
    sqlite3_stmt *st = r->st[ST_DROPPED];
    int code = sqlite3_step(st), rv = KV_OK;

    *revision_out = 0;
    if (code == SQLITE_ROW && !dropped_row_read(st, revision_out))
        rv = damaged(r, "history dropped up to revision", *revision_out);
    else if (code != SQLITE_ROW && code != SQLITE_DONE)
        rv = fail(r, code);
    sqlite3_reset(st);
    return rv;
}

int history_log(struct history_reader *r, uint64_t revision, const struct history_place *at, void *arg,
                bool (*emit)(void *arg, const struct history_entry *entry), uint64_t *dropped_out)
{
    const struct history_place whole = {.directory = INT64_MAX, .name = (const uint8_t *)""};
    sqlite3_stmt *st = r->st[ST_LOG];
    uint64_t nobody;
    int bound, code = SQLITE_DONE, rv = begin(r, 0, NULL, 0, &nobody);

    if (rv == KV_OK)
        rv = read_dropped(r, dropped_out);
    if (rv != KV_OK)
        return end(r, NULL, rv);
    if (at == NULL)
        at = &whole;
    bound = state_db_bind_number(st, SQLITE_OK, 1, at->directory < INT64_MAX ? at->directory : INT64_MAX);
    bound = state_db_bind_name(st, bound, 2, at->name, at->name_len);
    bound = state_db_bind_number(st, bound, 3, revision < INT64_MAX ? revision : INT64_MAX);
    while (rv == KV_OK && (code = state_db_step(st, bound)) == SQLITE_ROW) {
        struct history_row row;
        struct history_entry entry;

        rv = read_row(r, st, 0, &row);
        if (rv == KV_OK && !is_behind(&row, revision, at))
            rv = damaged(r, "order of history at revision", row.row.revision);
        if (rv != KV_OK)
            break;
        entry = (struct history_entry){
            .row = row.row,
            .key = {row.directory, row.name, row.name_len},
            .from = {row.from_directory, row.from_name, row.from_len},
            .to = {row.to_directory, row.to_name, row.to_len},
        };
        if (!emit(arg, &entry))
            break;
    }
    if (rv == KV_OK && code != SQLITE_ROW && code != SQLITE_DONE)
        rv = fail(r, code);
    return end(r, st, rv);
}
