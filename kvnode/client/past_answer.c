/* The answer to a question about the past: what was read, with paths as of now, and without what the client
 * may not see. */
#include "kvnode/client/past.h"
#include "kvnode/client/past_question.h"
#include "sync/base/error.h"

/* Directories that may be walked through for a page of the log, whatever it is that they hide. */
#define LOG_STEPS 50000

/* The path of a key as of now; of a directory that is gone, or deeper than any path, the
 * name alone. */
static void make_path(const struct store *store, const struct history_place *place, struct buffer *path)
{
    int rv;

    buffer_clear(path);
    if (place->directory == 0)
        return;
    rv = store_history_path(store, place->directory, path);
    if (rv != KV_OK || path->len + 1 + place->name_len > KV_PATH_MAX) {
        buffer_clear(path);
        buffer_put_bytes(path, rv == KV_E_NOENT ? "(gone)" : "(deep)", 6);
    }
    if (path->len > 0)
        buffer_put_u8(path, '/');
    buffer_put_bytes(path, place->name, place->name_len);
}

/* What a caller may see of the log, with the last answer: rows of one directory come together. */
struct sight {
    const struct store *store;
    const struct caller *who;
    uint64_t directory;
    bool shown;
    unsigned steps;
};

static bool is_shown(struct sight *s, uint64_t directory)
{
    if (directory != s->directory) {
        s->shown = store_history_shown(s->store, s->who, directory, &s->steps);
        s->directory = directory;
    }
    return s->shown;
}

/* What becomes of a closed directory is told no more than what is in it. */
static bool may_enter(const struct caller *who, const struct version_row *row)
{
    return row->type != INODE_DIRECTORY || row->uid == who->uid ||
           store_permits(who, row->uid, row->gid, row->mode, 1) == KV_OK;
}

/* Which rows behind the place that was asked from may have gone with the history of their
 * names: those above the first revision, up to the second. */
static void find_gap(const struct question *q, struct log_answer *answer)
{
    bool amid = q->has_cursor && q->directory != WHOLE;
    uint64_t after = amid && q->number > 0 ? q->number - 1 : q->number;
    bool any = q->dropped > after;

    answer->gap_after = any ? after : 0;
    answer->gap_until = any ? q->dropped : 0;
}

/* Appends the rows that may be seen; the last that was looked at, and its revision. */
static uint32_t log_rows(struct question *q, struct buffer *out, struct place *last_out)
{
    const struct store *store = q->request->conn->owner->group->store;
    struct sight sight = {.store = store, .who = &q->request->conn->who};
    struct cursor in = cursor_of(q->rows.data, q->rows.len);
    struct buffer key = BUFFER_INIT, from = BUFFER_INIT;
    uint32_t i, count = 0;

    for (i = 0; i < q->count; i++) {
        struct history_entry entry;
        struct log_row row;

        if (out->len > LOG_BYTES || sight.steps > LOG_STEPS) {
            q->more = true;
            break;
        }
        layout_decode(&in, &question_entry, &entry);
        *last_out = (struct place){entry.row.revision, entry.key.directory,
                                   bytes_of(entry.key.name, entry.key.name_len)};
        if (!is_shown(&sight, entry.key.directory) || !may_enter(sight.who, &entry.row))
            continue;
        if (entry.from.directory != 0 && !is_shown(&sight, entry.from.directory))
            entry.from.directory = 0;
        make_path(store, &entry.key, &key);
        make_path(store, &entry.from, &from);
        row = (struct log_row){entry.row, key.data, key.len, from.data, from.len};
        log_row_encode(out, &row);
        labels_put(&q->labels, &row.row);
        q->labelled = q->labelled || row.row.label[0] != '\0';
        out->failed |= key.failed | from.failed;
        count++;
    }
    buffer_deinit(&key);
    buffer_deinit(&from);
    return count;
}

static void put_log(struct question *q, struct buffer *out)
{
    struct place last = {.revision = q->number, .directory = WHOLE};
    struct buffer rows = BUFFER_INIT, cursor = BUFFER_INIT;
    union answer_body answer = {.log.rows.count = log_rows(q, &rows, &last)};

    if (!q->more && q->flushed < q->number && q->count == 0) {
        /* This node is not there yet. */
        if (q->has_cursor)
            last = (struct place){q->number, q->directory, q->name};
    } else if (!q->more) {
        /* All that there is; of a revision that is there nothing is missing. */
        last = (struct place){.revision = last.revision > q->flushed ? last.revision : q->flushed,
                              .directory = WHOLE};
    }
    layout_encode(&cursor, &place_layout, &last, MESSAGE_PROTOCOL);
    answer.log.more = q->more;
    answer.log.rows.bytes = bytes_of(rows.data, rows.len);
    answer.log.cursor = bytes_of(cursor.data, cursor.len);
    answer.log.has_labels = q->labelled;
    answer.log.labels = bytes_of(q->labels.data, q->labels.len);
    find_gap(q, &answer.log);
    body_encode_answer(out, MESSAGE_LOG, &answer, MESSAGE_PROTOCOL);
    out->failed |= rows.failed | cursor.failed | q->labels.failed;
    buffer_deinit(&rows);
    buffer_deinit(&cursor);
}

uint64_t past_covered(const struct bytes *cursor)
{
    struct cursor c = cursor_of(cursor->data, cursor->len);
    struct place place;

    return layout_decode(&c, &place_layout, &place) && place.directory == WHOLE ? place.revision : 0;
}

/* Names as the directory has them now; one that is gone by now with its history is left out. */
static void put_names(struct question *q, struct buffer *out)
{
    struct cursor in = cursor_of(q->rows.data, q->rows.len);
    struct buffer rows = BUFFER_INIT;
    union answer_body answer = {.names.more = q->more};
    uint32_t i;

    for (i = 0; i < q->count; i++) {
        struct names_row row;
        bool deleted;

        names_row_decode(&in, &row);
        if (store_past_name(q->request->conn->owner->group->store, q->ino, row.name.data, row.name.len,
                            &row.version, &deleted) != KV_OK)
            continue;
        row.deleted = deleted;
        names_row_encode(&rows, &row);
        answer.names.rows.count++;
    }
    answer.names.rows.bytes = bytes_of(rows.data, rows.len);
    body_encode_answer(out, MESSAGE_NAMES, &answer, MESSAGE_PROTOCOL);
    out->failed |= rows.failed;
    buffer_deinit(&rows);
}

/* The attributes to be checked by a kernel that shows the version to several users. */
static void put_version(struct question *q, struct buffer *out)
{
    union answer_body answer = {.version = {.row = q->row, .data = bytes_of(q->rows.data, q->rows.len)}};
    struct access a = q->guards.list[0];
    uint32_t i;

    for (i = 1; i < q->guards.n; i++)
        access_meet(&a, &q->guards.list[i]);
    answer.version.mode = a.mode;
    answer.version.uid = a.uid;
    answer.version.gid = a.gid;
    body_encode_answer(out, MESSAGE_VERSION, &answer, MESSAGE_PROTOCOL);
}

static void put_version_xattrs(struct question *q, struct buffer *out)
{
    const union answer_body answer = {.version_xattrs.xattrs = bytes_of(q->rows.data, q->rows.len)};

    body_encode_answer(out, MESSAGE_VERSION_XATTRS, &answer, MESSAGE_PROTOCOL);
}

static void put_history(struct question *q, struct buffer *out)
{
    const union answer_body answer = {.history = {.more = q->more,
                                                  .rows = {q->count, bytes_of(q->rows.data, q->rows.len)},
                                                  .has_labels = q->labelled,
                                                  .labels = bytes_of(q->labels.data, q->labels.len)}};

    body_encode_answer(out, MESSAGE_HISTORY, &answer, MESSAGE_PROTOCOL);
}

/* A version needs what it needed when it was written, what the name needed at the end of
 * each file that has borne it since, and what it needs now. Without content it is a row of
 * the history, which needs less. */
static int may_read_version(struct question *q)
{
    const struct caller *who = &q->request->conn->who;
    struct attr attr;
    uint32_t i;
    int rv = KV_OK;

    if (store_lookup(q->request->conn->owner->group->store, NULL, q->ino, q->name.data, q->name.len, &attr) ==
        KV_OK) {
        const struct access now = {attr.uid, attr.gid, attr.mode};

        /* Of a name that keeps no history at present there is no row with that. */
        if (q->guards.n == HISTORY_GUARDS_MAX)
            access_meet(&q->guards.list[q->guards.n - 1], &now);
        else
            q->guards.list[q->guards.n++] = now;
    }
    for (i = 0; i < q->guards.n && rv == KV_OK && q->n > 0; i++)
        rv = store_permits(who, q->guards.list[i].uid, q->guards.list[i].gid, q->guards.list[i].mode, 4);
    return rv;
}

void question_answer(struct question *q)
{
    struct client_conn *c = q->request->conn;
    uint8_t type = q->request->type;
    struct buffer *out;
    size_t at;

    out = answer_begin(c, q->request->id, &at);
    if (out == NULL)
        return;
    if (q->code == KV_OK && (type == MESSAGE_VERSION || type == MESSAGE_VERSION_XATTRS))
        q->code = may_read_version(q);
    if (q->code == KV_OK && type == MESSAGE_VERSION)
        put_version(q, out);
    else if (q->code == KV_OK && type == MESSAGE_VERSION_XATTRS)
        put_version_xattrs(q, out);
    else if (q->code == KV_OK && type == MESSAGE_LOG)
        put_log(q, out);
    else if (q->code == KV_OK && type == MESSAGE_NAMES)
        put_names(q, out);
    else if (q->code == KV_OK)
        put_history(q, out);
    answer_end(c, at, q->code, NULL);
}
