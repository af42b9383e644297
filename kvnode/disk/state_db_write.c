/* A batch becomes a transaction: chunks, then the records in their order, then
 * meta. Everything or nothing: after a crash the file is as of the batch before,
 * and the log leads on from there. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/disk/state_db_internal.h"
#include "kvnode/state/journal_record.h"
#include "kvnode/state/value.h"
#include "sync/base/digest.h"

enum statement {
    ST_BEGIN,
    ST_COMMIT,
    ST_CHUNK,
    ST_CHUNK_GONE,
    ST_INODE,
    ST_INODE_GONE,
    ST_ENTRY,
    ST_ENTRY_GONE,
    ST_VERSION,
    ST_VERSION_GONE,
    ST_VERSION_DROP,
    ST_VERSION_NEWEST,
    ST_DROPPED,
    ST_VERSION_CHUNKS,
    ST_GONE_CHUNKS,
    ST_INODE_CHUNKS,
    ST_SESSION,
    ST_SESSION_GONE,
    ST_SESSION_RESULTS_GONE,
    ST_SESSION_PARTS_GONE,
    ST_RESULT,
    ST_RESULTS_GONE,
    ST_PART,
    ST_PARTS_GONE,
    ST_SETTING,
    ST_SETTING_GONE,
    ST_LOCK,
    ST_LOCK_GONE,
    ST_FENCE,
    ST_FENCE_GONE,
    ST_META,
    ST_TOUCH,
    ST_COUNT
};

static const char *const texts[ST_COUNT] = {
    [ST_BEGIN] = "BEGIN IMMEDIATE",
    [ST_COMMIT] = "COMMIT",
    [ST_CHUNK] = "REPLACE INTO chunk(id, checksum, data) VALUES(?,?,?)",
    [ST_CHUNK_GONE] = "DELETE FROM chunk WHERE id=?",
    [ST_INODE] = "REPLACE INTO inode(" INODE_COLUMNS ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [ST_INODE_GONE] = "DELETE FROM inode WHERE ino=?",
    [ST_ENTRY] = "REPLACE INTO entry(" ENTRY_COLUMNS ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [ST_ENTRY_GONE] = "DELETE FROM entry WHERE directory=? AND name=?",
    [ST_VERSION] = "INSERT INTO version(" VERSION_COLUMNS
                   ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [ST_VERSION_GONE] = "DELETE FROM version WHERE directory=? AND name=? AND revision>=?",
    [ST_VERSION_DROP] = "DELETE FROM version WHERE directory=? AND name=? AND revision<=?",
    [ST_VERSION_NEWEST] = "SELECT max(revision) FROM version WHERE directory=? AND name=? AND revision<=?",
    [ST_DROPPED] = "REPLACE INTO dropped(id, " DROPPED_COLUMNS ") SELECT 1, ?1, ?2"
                   " WHERE NOT EXISTS(SELECT 1 FROM dropped WHERE revision>=?1)",
    [ST_VERSION_CHUNKS] = "SELECT chunks, ino FROM version WHERE directory=? AND name=? AND revision<=?"
                          " AND chunks IS NOT NULL",
    [ST_GONE_CHUNKS] = "SELECT chunks, ino FROM version WHERE directory=? AND name=? AND revision>=?"
                       " AND chunks IS NOT NULL",
    [ST_INODE_CHUNKS] =
        "SELECT chunks FROM inode WHERE ino=?1 UNION ALL SELECT chunks FROM version WHERE ino=?1",
    [ST_SESSION] = "REPLACE INTO session(" SESSION_COLUMNS ") VALUES(?,?,?,?,?,?,?)",
    [ST_SESSION_GONE] = "DELETE FROM session WHERE id=?",
    [ST_SESSION_RESULTS_GONE] = "DELETE FROM result WHERE session=?",
    [ST_SESSION_PARTS_GONE] = "DELETE FROM part WHERE session=?",
    [ST_RESULT] = "REPLACE INTO result(session, seq, result) VALUES(?,?,?)",
    [ST_RESULTS_GONE] = "DELETE FROM result WHERE session=? AND seq<?",
    [ST_PART] = "REPLACE INTO part(session, seq, number, data) VALUES(?,?,?,?)",
    [ST_PARTS_GONE] = "DELETE FROM part WHERE session=? AND seq=?",
    [ST_SETTING] = "REPLACE INTO setting(name, value) VALUES(?,?)",
    [ST_SETTING_GONE] = "DELETE FROM setting WHERE name=?",
    [ST_LOCK] = "REPLACE INTO lock(" LOCK_COLUMNS ") VALUES(?,?,?,?,?,?,?,?,?,?,?)",
    [ST_LOCK_GONE] =
        "DELETE FROM lock WHERE ino=? AND kind=? AND session=? AND owner=? AND start=? AND wait=?",
    [ST_FENCE] = "REPLACE INTO fence(" FENCE_COLUMNS ") VALUES(?,?,?,?)",
    [ST_FENCE_GONE] = "DELETE FROM fence WHERE ino=?",
    [ST_META] = "REPLACE INTO meta(id, shard, applied, digest, wall, elapsed, next_ino, next_number)"
                " VALUES(1,?,?,?,?,?,?,?)",
    [ST_TOUCH] = "UPDATE meta SET applied=~applied",
};

struct state_writer {
    sqlite3 *db; /* borrowed */
    uint16_t group;
    bool full; /* synchronous=FULL is set */
    sqlite3_stmt *st[ST_COUNT];
    struct id_list ids;
    struct id_list gone, gone_of; /* of a batch: chunks of rows of history that it takes back, and whose */
};

struct state_writer *state_writer_new(sqlite3 *db, uint16_t group)
{
    struct state_writer *w = calloc(1, sizeof *w);

    if (w == NULL)
        return NULL;
    w->db = db;
    w->group = group;
    for (int i = 0; i < ST_COUNT; i++) {
        if (sqlite3_prepare_v3(db, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &w->st[i], NULL) != SQLITE_OK) {
            state_writer_free(w);
            return NULL;
        }
    }
    return w;
}

void state_writer_free(struct state_writer *w)
{
    if (w == NULL)
        return;
    for (int i = 0; i < ST_COUNT; i++)
        sqlite3_finalize(w->st[i]);
    id_list_deinit(&w->ids);
    id_list_deinit(&w->gone);
    id_list_deinit(&w->gone_of);
    free(w);
}

/* bound: of what was bound before; SQLite takes a parameter that was not for NULL. */
static int run_bound(sqlite3_stmt *st, int bound)
{
    int code;

    if (bound != SQLITE_OK)
        return bound;
    code = sqlite3_step(st);

    sqlite3_reset(st);
    return code == SQLITE_DONE || code == SQLITE_ROW ? SQLITE_OK : code;
}

static int run(sqlite3_stmt *st)
{
    return run_bound(st, SQLITE_OK);
}

/* Numbers cannot fail but by a wrong place. */
static void bind_number(sqlite3_stmt *st, int parameter, uint64_t number)
{
    int code = sqlite3_bind_int64(st, parameter, (int64_t)number);

    assert(code == SQLITE_OK);
    (void)code;
}

static int run_number(struct state_writer *w, enum statement i, uint64_t number)
{
    bind_number(w->st[i], 1, number);
    return run(w->st[i]);
}

static int run_numbers(struct state_writer *w, enum statement i, uint64_t a, uint64_t b)
{
    bind_number(w->st[i], 2, b);
    return run_number(w, i, a);
}

static int write_chunk(struct state_writer *w, const struct batch_chunk *bc)
{
    sqlite3_stmt *st = w->st[ST_CHUNK];

    if (bc->chunk == NULL)
        return SQLITE_OK;
    bind_number(st, 1, bc->chunk->id);
    bind_number(st, 2, digest64(bc->chunk->id, bc->chunk->data, bc->len));
    return run_bound(st, sqlite3_bind_blob64(st, 3, bc->chunk->data, bc->len, SQLITE_STATIC));
}

static bool take_ids(struct state_writer *w, struct cursor *c)
{
    uint32_t n = cursor_u32(c);

    w->ids.n = 0;
    if (!id_list_reserve(&w->ids, n))
        return false;
    while (w->ids.n < n)
        w->ids.ids[w->ids.n++] = cursor_u64(c);
    return true;
}

static int write_inode(struct state_writer *w, struct cursor *c)
{
    struct inode_row row;
    struct buffer scratch = BUFFER_INIT;
    int code;

    inode_row_decode(c, &row);
    if (!take_ids(w, c))
        return SQLITE_NOMEM;
    code = inode_row_bind(w->st[ST_INODE], &row);
    if (code == SQLITE_OK)
        code = id_list_bind(&w->ids, w->st[ST_INODE], INODE_CHUNKS + 1, &scratch);
    code = run_bound(w->st[ST_INODE], code);
    buffer_deinit(&scratch);
    return code;
}

static int write_version(struct state_writer *w, struct cursor *c)
{
    struct history_row row;
    struct cursor again;

    history_row_decode(c, &row);
    again = *c;
    if (cursor_u32(&again) == RECORD_VALUE_AGAIN)
        *c = again; /* w->ids are of the record before */
    else if (!take_ids(w, c))
        return SQLITE_NOMEM;
    return run_bound(w->st[ST_VERSION], history_row_bind(w->st[ST_VERSION], &row, &w->ids));
}

/* Numbers in ascending order, each once. */
static int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static bool append_ids(struct id_list *to, const struct id_list *from)
{
    if (to->n + from->n > to->cap && !id_list_reserve(to, 2 * (to->n + from->n)))
        return false;
    if (from->n > 0)
        memcpy(to->ids + to->n, from->ids, from->n * sizeof *from->ids);
    to->n += from->n;
    return true;
}

static void sort_ids(struct id_list *l)
{
    size_t n = 0;

    if (l->n == 0)
        return;
    qsort(l->ids, l->n, sizeof *l->ids, compare_numbers);
    for (size_t i = 0; i < l->n; i++)
        if (n == 0 || l->ids[i] != l->ids[n - 1])
            l->ids[n++] = l->ids[i];
    l->n = n;
}

/* All chunks that rows of st (bound; column 0 chunks, perhaps column 1 an inode) name. */
static int collect(struct state_writer *w, sqlite3_stmt *st, struct id_list *chunks, struct id_list *inodes)
{
    int code;

    while ((code = sqlite3_step(st)) == SQLITE_ROW) {
        struct id_list one = {.ids = &(uint64_t){0}, .n = 1, .cap = 1};

        if (!id_list_read(&w->ids, st, 0) || !append_ids(chunks, &w->ids)) {
            code = SQLITE_NOMEM;
            break;
        }
        if (inodes == NULL)
            continue;
        one.ids[0] = (uint64_t)sqlite3_column_int64(st, 1);
        if (!append_ids(inodes, &one)) {
            code = SQLITE_NOMEM;
            break;
        }
    }
    sqlite3_reset(st);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

/* directory, name and revision. The name stays where it is in the batch. */
static int bind_rows_of_name(sqlite3_stmt *st, struct cursor *c)
{
    size_t len;
    const uint8_t *name;

    bind_number(st, 1, cursor_u64(c));
    name = cursor_string(c, KV_NAME_MAX, &len);
    bind_number(st, 3, cursor_u64(c));
    return sqlite3_bind_text(st, 2, (const char *)name, (int)len, SQLITE_STATIC);
}

/* Notes up to where the operation log is not whole any more, before a name's rows go. */
static int note_dropped(struct state_writer *w, struct cursor *c)
{
    sqlite3_stmt *st = w->st[ST_VERSION_NEWEST];
    int code = bind_rows_of_name(st, c);
    uint64_t newest = 0;

    if (code == SQLITE_OK && (code = sqlite3_step(st)) == SQLITE_ROW) {
        newest = (uint64_t)sqlite3_column_int64(st, 0);
        code = SQLITE_OK;
    }
    sqlite3_reset(st);
    return code == SQLITE_OK && newest > 0 ? run_numbers(w, ST_DROPPED, newest, dropped_checksum(newest))
                                           : code;
}

/* Removes those of the chunks in gone that nothing needs any more. A chunk belongs to one inode for
 * ever, so only rows of the same inodes, under other names or newer, and their current values can
 * still need it. */
static int drop_chunks(struct state_writer *w, struct id_list *gone, struct id_list *inodes)
{
    struct id_list needed = {0};
    int code = SQLITE_OK;

    sort_ids(inodes);
    for (size_t i = 0; code == SQLITE_OK && i < inodes->n; i++) {
        bind_number(w->st[ST_INODE_CHUNKS], 1, inodes->ids[i]);
        code = collect(w, w->st[ST_INODE_CHUNKS], &needed, NULL);
    }
    sort_ids(gone);
    sort_ids(&needed);
    for (size_t i = 0; code == SQLITE_OK && i < gone->n; i++) {
        if (needed.n == 0 ||
            bsearch(&gone->ids[i], needed.ids, needed.n, sizeof *needed.ids, compare_numbers) == NULL)
            code = run_number(w, ST_CHUNK_GONE, gone->ids[i]);
    }
    id_list_deinit(&needed);
    return code;
}

/* Drops the history of a name. */
static int write_history_drop(struct state_writer *w, struct cursor *c)
{
    struct id_list gone = {0}, inodes = {0};
    struct cursor same = *c, again = *c;
    int code = note_dropped(w, &again);

    if (code == SQLITE_OK)
        code = bind_rows_of_name(w->st[ST_VERSION_CHUNKS], c);
    if (code == SQLITE_OK)
        code = collect(w, w->st[ST_VERSION_CHUNKS], &gone, &inodes);
    if (code == SQLITE_OK)
        code = run_bound(w->st[ST_VERSION_DROP], bind_rows_of_name(w->st[ST_VERSION_DROP], &same));
    if (code == SQLITE_OK)
        code = drop_chunks(w, &gone, &inodes);
    id_list_deinit(&gone);
    id_list_deinit(&inodes);
    return code;
}

/* What a row that is taken back has used (extended attributes of a file before its first publication) may be
 * used by one that is written behind it: looked at when all rows of the batch are there. */
static int write_history_gone(struct state_writer *w, struct cursor *c)
{
    struct cursor same = *c;
    int code = bind_rows_of_name(w->st[ST_GONE_CHUNKS], &same);

    if (code == SQLITE_OK)
        code = collect(w, w->st[ST_GONE_CHUNKS], &w->gone, &w->gone_of);
    if (code != SQLITE_OK)
        return code;
    return run_bound(w->st[ST_VERSION_GONE], bind_rows_of_name(w->st[ST_VERSION_GONE], c));
}

static int write_entry(struct state_writer *w, struct cursor *c)
{
    struct entry_row row;

    entry_row_decode(c, &row);
    return run_bound(w->st[ST_ENTRY], entry_row_bind(w->st[ST_ENTRY], &row));
}

static int write_entry_gone(struct state_writer *w, struct cursor *c)
{
    sqlite3_stmt *st = w->st[ST_ENTRY_GONE];
    size_t len;
    const uint8_t *name;

    bind_number(st, 1, cursor_u64(c));
    name = cursor_string(c, KV_NAME_MAX, &len);
    return run_bound(st, sqlite3_bind_text(st, 2, (const char *)name, (int)len, SQLITE_STATIC));
}

static int write_session(struct state_writer *w, struct cursor *c)
{
    struct session_row row;

    session_row_decode(c, &row);
    return run_bound(w->st[ST_SESSION], session_row_bind(w->st[ST_SESSION], &row));
}

static int write_session_gone(struct state_writer *w, struct cursor *c)
{
    uint64_t id = cursor_u64(c);
    int code = run_number(w, ST_SESSION_GONE, id);

    if (code == SQLITE_OK)
        code = run_number(w, ST_SESSION_RESULTS_GONE, id);
    if (code == SQLITE_OK)
        code = run_number(w, ST_SESSION_PARTS_GONE, id);
    return code;
}

static int write_result(struct state_writer *w, struct cursor *c)
{
    sqlite3_stmt *st = w->st[ST_RESULT];
    uint64_t session = cursor_u64(c), seq = cursor_u64(c);
    size_t len;
    const uint8_t *bytes = cursor_string(c, SIZE_MAX, &len);

    bind_number(st, 1, session);
    bind_number(st, 2, seq);
    return run_bound(st, sqlite3_bind_blob64(st, 3, bytes, len, SQLITE_STATIC));
}

static int write_part(struct state_writer *w, struct cursor *c)
{
    sqlite3_stmt *st = w->st[ST_PART];
    uint64_t session = cursor_u64(c), seq = cursor_u64(c);
    size_t len;
    const uint8_t *bytes;

    bind_number(st, 1, session);
    bind_number(st, 2, seq);
    bind_number(st, 3, cursor_u32(c));
    bytes = cursor_string(c, SIZE_MAX, &len);
    return run_bound(st, sqlite3_bind_blob64(st, 4, bytes, len, SQLITE_STATIC));
}

static int write_setting(struct state_writer *w, struct cursor *c, bool gone)
{
    sqlite3_stmt *st = w->st[gone ? ST_SETTING_GONE : ST_SETTING];
    size_t len;
    const uint8_t *text = cursor_string(c, SIZE_MAX, &len);
    int code;

    code = sqlite3_bind_text(st, 1, (const char *)text, (int)len, SQLITE_STATIC);
    if (!gone && code == SQLITE_OK) {
        text = cursor_string(c, SIZE_MAX, &len);
        code = sqlite3_bind_text(st, 2, (const char *)text, (int)len, SQLITE_STATIC);
    }
    return run_bound(st, code);
}

static int write_lock(struct state_writer *w, struct cursor *c)
{
    struct lock_row row;

    lock_row_decode(c, &row);
    return run_bound(w->st[ST_LOCK], lock_row_bind(w->st[ST_LOCK], &row));
}

static int write_lock_gone(struct state_writer *w, struct cursor *c)
{
    sqlite3_stmt *st = w->st[ST_LOCK_GONE];

    bind_number(st, 1, cursor_u64(c));
    bind_number(st, 2, cursor_u8(c));
    for (int i = 3; i < 7; i++)
        bind_number(st, i, cursor_u64(c));
    return run(st);
}

static int write_fence(struct state_writer *w, struct cursor *c)
{
    struct fence_row row;

    row.ino = cursor_u64(c);
    row.revision = cursor_u64(c);
    row.wall_ns = cursor_u64(c);
    row.exclusive = cursor_u8(c) != 0;
    return run_bound(w->st[ST_FENCE], fence_row_bind(w->st[ST_FENCE], &row));
}

static int write_meta(struct state_writer *w, struct cursor *c, const struct batch *b)
{
    sqlite3_stmt *st = w->st[ST_META];

    bind_number(st, 1, w->group);
    bind_number(st, 2, b->index);
    bind_number(st, 3, b->digest);
    for (int i = 4; i < 8; i++)
        bind_number(st, i, cursor_u64(c));
    return run(st);
}

static int write_record(struct state_writer *w, struct cursor *c, const struct batch *b)
{
    uint64_t first, second;

    switch (cursor_u8(c)) {
    case RECORD_INODE:
        return write_inode(w, c);
    case RECORD_INODE_GONE:
        return run_number(w, ST_INODE_GONE, cursor_u64(c));
    case RECORD_ENTRY:
        return write_entry(w, c);
    case RECORD_ENTRY_GONE:
        return write_entry_gone(w, c);
    case RECORD_HISTORY:
        return write_version(w, c);
    case RECORD_HISTORY_GONE:
        return write_history_gone(w, c);
    case RECORD_HISTORY_DROP:
        return write_history_drop(w, c);
    case RECORD_SESSION:
        return write_session(w, c);
    case RECORD_SESSION_GONE:
        return write_session_gone(w, c);
    case RECORD_RESULT:
        return write_result(w, c);
    case RECORD_RESULTS_GONE:
        first = cursor_u64(c);
        second = cursor_u64(c);
        return run_numbers(w, ST_RESULTS_GONE, first, second);
    case RECORD_PART:
        return write_part(w, c);
    case RECORD_PARTS_GONE:
        first = cursor_u64(c);
        second = cursor_u64(c);
        return run_numbers(w, ST_PARTS_GONE, first, second);
    case RECORD_SETTING:
        return write_setting(w, c, false);
    case RECORD_SETTING_GONE:
        return write_setting(w, c, true);
    case RECORD_CHUNK_GONE:
        return run_number(w, ST_CHUNK_GONE, cursor_u64(c));
    case RECORD_LOCK:
        return write_lock(w, c);
    case RECORD_LOCK_GONE:
        return write_lock_gone(w, c);
    case RECORD_FENCE:
        return write_fence(w, c);
    case RECORD_FENCE_GONE:
        return run_number(w, ST_FENCE_GONE, cursor_u64(c));
    case RECORD_META:
        return write_meta(w, c, b);
    default:
        assert(false); /* the journal wrote it */
        return SQLITE_INTERNAL;
    }
}

int state_writer_apply(struct state_writer *w, const struct batch *b, bool durable)
{
    struct cursor c = cursor_of(b->records.data, b->records.len);
    int code = SQLITE_OK;

    if (w->full != durable) {
        code = sqlite3_exec(w->db, durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", NULL,
                            NULL, NULL);
        if (code != SQLITE_OK)
            return code;
        w->full = durable;
    }
    w->gone.n = w->gone_of.n = 0;
    code = run(w->st[ST_BEGIN]);
    if (code != SQLITE_OK)
        return code;
    for (size_t i = 0; i < b->n_chunks && code == SQLITE_OK; i++)
        code = write_chunk(w, &b->chunks[i]);
    while (c.len > 0 && code == SQLITE_OK)
        code = write_record(w, &c, b);
    if (code == SQLITE_OK && w->gone.n > 0)
        code = drop_chunks(w, &w->gone, &w->gone_of);
    /* A commit without a changed page would sync nothing, and SQLite changes no page
     * for a row that stays as it is: there and back. */
    for (int i = 0; i < 2 && code == SQLITE_OK && b->records.len == 0; i++)
        code = run(w->st[ST_TOUCH]);
    assert(!c.failed);
    if (code == SQLITE_OK)
        code = run(w->st[ST_COMMIT]);
    if (code != SQLITE_OK && sqlite3_get_autocommit(w->db) == 0)
        sqlite3_exec(w->db, "ROLLBACK", NULL, NULL, NULL);
    return code;
}
