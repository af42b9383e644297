/* The tables of the state, once for all who go through them: what a row is read from, what it
 * is called and what it adds to the digest. */
#include <stdio.h>

#include "kvnode/disk/state_db_internal.h"
#include "sync/base/digest.h"

static bool setting_read(sqlite3_stmt *st, struct state_row *row)
{
    const char *name = (const char *)sqlite3_column_text(st, 0);
    const char *value = (const char *)sqlite3_column_text(st, 1);

    row->u.setting.name = name != NULL ? name : "";
    row->u.setting.value = value != NULL ? value : "";
    return true;
}

static uint64_t setting_digest(const struct state_row *row)
{
    return setting_row_digest(row->u.setting.name, row->u.setting.value);
}

static bool inode_read(sqlite3_stmt *st, struct state_row *row)
{
    bool good = inode_row_read(st, &row->u.inode) && id_list_read(&row->ids, st, INODE_CHUNKS);

    row->number = row->u.inode.ino;
    return good;
}

static uint64_t inode_digest(const struct state_row *row)
{
    return inode_row_digest(&row->u.inode);
}

static bool entry_read(sqlite3_stmt *st, struct state_row *row)
{
    bool good = entry_row_read(st, &row->u.entry);

    row->number = row->u.entry.directory;
    return good;
}

static uint64_t entry_digest(const struct state_row *row)
{
    return entry_row_digest(&row->u.entry);
}

static bool session_read(sqlite3_stmt *st, struct state_row *row)
{
    bool good = session_row_read(st, &row->u.session);

    row->number = row->u.session.id;
    return good;
}

static uint64_t session_digest(const struct state_row *row)
{
    return session_row_digest(&row->u.session);
}

static bool result_read(sqlite3_stmt *st, struct state_row *row)
{
    struct cursor c = cursor_of(sqlite3_column_blob(st, 2), (size_t)sqlite3_column_bytes(st, 2));

    row->u.result.session = (uint64_t)sqlite3_column_int64(st, 0);
    row->u.result.seq = row->number = (uint64_t)sqlite3_column_int64(st, 1);
    command_result_decode(&c, &row->u.result.result);
    return cursor_done(&c);
}

static uint64_t result_digest(const struct state_row *row)
{
    return result_row_digest(row->u.result.session, row->u.result.seq, &row->u.result.result);
}

static bool part_read(sqlite3_stmt *st, struct state_row *row)
{
    row->u.part.session = (uint64_t)sqlite3_column_int64(st, 0);
    row->u.part.seq = row->number = (uint64_t)sqlite3_column_int64(st, 1);
    row->u.part.number = (uint32_t)sqlite3_column_int64(st, 2);
    row->u.part.bytes = sqlite3_column_blob(st, 3);
    row->u.part.len = (size_t)sqlite3_column_bytes(st, 3);
    return true;
}

static uint64_t part_digest(const struct state_row *row)
{
    return part_row_digest(row->u.part.session, row->u.part.seq, row->u.part.number, row->u.part.bytes,
                           row->u.part.len);
}

static bool lock_read(sqlite3_stmt *st, struct state_row *row)
{
    bool good = lock_row_read(st, &row->u.lock);

    row->number = row->u.lock.ino;
    return good;
}

static uint64_t lock_digest(const struct state_row *row)
{
    return lock_row_digest(&row->u.lock);
}

static bool fence_read(sqlite3_stmt *st, struct state_row *row)
{
    bool good = fence_row_read(st, &row->u.fence);

    row->number = row->u.fence.ino;
    return good;
}

static uint64_t fence_digest(const struct state_row *row)
{
    return fence_row_digest(&row->u.fence);
}

static bool dropped_read(sqlite3_stmt *st, struct state_row *row)
{
    return dropped_row_read(st, &row->number);
}

static const struct {
    const char *name;
    const char *what; /* in messages; before row->number */
    const char *columns, *order;
    bool (*read)(sqlite3_stmt *st, struct state_row *row);
    uint64_t (*digest)(const struct state_row *row); /* NULL: it is not in the state's */
} tables[STATE_TABLES] = {
    [STATE_SETTING] = {"setting", "setting", "name, value", "name", setting_read, setting_digest},
    [STATE_INODE] = {"inode", "inode", INODE_COLUMNS, "ino", inode_read, inode_digest},
    [STATE_ENTRY] = {"entry", "an entry of directory", ENTRY_COLUMNS, "directory, name", entry_read,
                     entry_digest},
    [STATE_SESSION] = {"session", "session", SESSION_COLUMNS, "seen, id", session_read, session_digest},
    [STATE_RESULT] = {"result", "result", "session, seq, result", "session, seq", result_read, result_digest},
    [STATE_PART] = {"part", "part of command", "session, seq, number, data", "session, seq, number",
                    part_read, part_digest},
    [STATE_LOCK] = {"lock", "a lock of inode", LOCK_COLUMNS, "ino, kind, session, owner, start, wait",
                    lock_read, lock_digest},
    [STATE_FENCE] = {"fence", "the fence of inode", FENCE_COLUMNS, "ino", fence_read, fence_digest},
    [STATE_DROPPED] = {"dropped", "history dropped up to revision", DROPPED_COLUMNS, "id", dropped_read,
                       NULL},
};

int state_table_open(sqlite3 *db, enum state_table t, sqlite3_stmt **st_out)
{
    char sql[512];

    snprintf(sql, sizeof sql, "SELECT %s FROM %s ORDER BY %s", tables[t].columns, tables[t].name,
             tables[t].order);
    return sqlite3_prepare_v2(db, sql, -1, st_out, NULL);
}

const char *state_table_name(enum state_table t)
{
    return tables[t].name;
}

bool state_row_read(enum state_table t, sqlite3_stmt *st, struct state_row *row)
{
    return tables[t].read(st, row);
}

uint64_t state_row_digest(enum state_table t, const struct state_row *row)
{
    return tables[t].digest != NULL ? tables[t].digest(row) : 0;
}

int state_table_each(const struct state_file *f, enum state_table t, void *arg, state_row_each *each)
{
    struct state_row row = {0};
    sqlite3_stmt *st;
    int rv = 0, code = state_table_open(f->db, t, &st);

    if (code != SQLITE_OK)
        return state_file_fail(f, code);
    while (rv == 0 && (code = sqlite3_step(st)) == SQLITE_ROW)
        rv =
            tables[t].read(st, &row) ? each(arg, t, &row) : state_file_damaged(f, tables[t].what, row.number);
    if (rv == 0 && code != SQLITE_DONE)
        rv = state_file_fail(f, code);
    sqlite3_finalize(st);
    id_list_deinit(&row.ids);
    return rv;
}

int stored_chunk_read(sqlite3_stmt *st, uint64_t id, uint64_t len, struct stored_chunk *out)
{
    int code = state_db_step(st, state_db_bind_number(st, SQLITE_OK, 1, id));

    if (code != SQLITE_ROW)
        return code;
    out->data = sqlite3_column_blob(st, 1);
    out->len = (size_t)sqlite3_column_bytes(st, 1);
    out->good = out->len >= len && digest64(id, out->data, out->len) == (uint64_t)sqlite3_column_int64(st, 0);
    return code;
}
