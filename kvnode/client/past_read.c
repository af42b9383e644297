/* What a worker reads of state.db for a question. */
#include "kvnode/client/past.h"
#include "kvnode/client/past_question.h"
#include "sync/base/error.h"

static const struct layout_field place_fields[] = {
    {FIELD(place, revision)},
    {FIELD(place, directory)},
    {REST(place, name)},
};
const struct layout place_layout = LAYOUT(NULL, place, place_fields);

static const struct layout_field history_place_fields[] = {
    {FIELD(history_place, directory)},
    {STRING(history_place, name, KV_NAME_MAX)},
};
static const struct layout history_place_layout = LAYOUT(NULL, history_place, history_place_fields);

static const struct layout_field entry_fields[] = {
    {STRUCT(history_entry, row, &version_row_layout)},
    {FIELD(history_entry, row.label)},
    {STRUCT(history_entry, key, &history_place_layout)},
    {STRUCT(history_entry, from, &history_place_layout)},
};
const struct layout question_entry = LAYOUT(NULL, history_entry, entry_fields);

static bool room(const struct question *q)
{
    return q->count < q->n && !q->rows.failed &&
           q->rows.len + q->labels.len < FRAME_PAYLOAD_MAX - PAST_ROW_MAX;
}

static bool emit_row(void *arg, const struct version_row *row)
{
    struct question *q = arg;

    if (!room(q)) {
        q->more = true;
        return false;
    }
    version_row_encode(&q->rows, row);
    labels_put(&q->labels, row);
    q->labelled = q->labelled || row->label[0] != '\0';
    q->rows.failed |= q->labels.failed;
    q->count++;
    return true;
}

/* Without a cursor a client can go on only at the next revision, so its rows stay together. */
static bool emit_entry(void *arg, const struct history_entry *entry)
{
    struct question *q = arg;
    bool enough = q->count >= q->n && (q->has_cursor || entry->row.revision != q->last);

    if (enough || q->rows.failed || q->rows.len > LOG_BYTES) {
        q->more = true;
        return false;
    }
    layout_encode(&q->rows, &question_entry, entry, MESSAGE_PROTOCOL);
    q->last = entry->row.revision;
    q->count++;
    return true;
}

static bool emit_name(void *arg, const uint8_t *name, size_t name_len)
{
    struct question *q = arg;

    if (!room(q)) {
        q->more = true;
        return false;
    }
    names_row_encode(&q->rows, &(struct names_row){.name = bytes_of(name, name_len)});
    q->count++;
    return true;
}

static int read_version(struct question *q, struct history_reader *reader)
{
    int rv = history_guards(reader, q->directory, q->name.data, q->name.len, q->number, &q->guards);

    if (rv == KV_OK && q->request->type == MESSAGE_VERSION_XATTRS)
        return history_xattrs(reader, q->directory, q->name.data, q->name.len, q->number, &q->rows);
    if (rv == KV_OK)
        rv = history_read(reader, q->directory, q->name.data, q->name.len, q->number, q->offset, q->n,
                          &q->row, &q->rows);
    return rv;
}

static int read_log(struct question *q, struct history_reader *reader)
{
    const struct history_place at = {q->directory, q->name.data, q->name.len};

    return history_log(reader, q->number, q->has_cursor && q->directory != WHOLE ? &at : NULL, q, emit_entry,
                       &q->dropped);
}

void question_read(struct question *q, struct history_reader *reader)
{
    bool more = false;

    q->done = true;
    if (reader == NULL) {
        q->code = KV_E_IO;
        return;
    }
    switch (q->request->type) {
    case MESSAGE_HISTORY:
        q->code = history_list(reader, q->directory, q->name.data, q->name.len, q->number, q->n, q, emit_row,
                               &more);
        q->more |= more;
        break;
    case MESSAGE_VERSION:
    case MESSAGE_VERSION_XATTRS:
        q->code = read_version(q, reader);
        break;
    case MESSAGE_NAMES:
        q->code = history_names(reader, q->directory, q->name.data, q->name.len, q, emit_name);
        break;
    default:
        q->code = read_log(q, reader);
        break;
    }
    if (q->code < 0 || q->rows.failed)
        q->code = KV_E_IO;
}
