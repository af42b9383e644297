#include "kvnode/client/past.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "kvnode/client/client_conn.h"
#include "kvnode/disk/history.h"
#include "kvnode/group/reads.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

#define ROWS_MAX 4096
/* What pages of the operation log have: their paths are made on the loop. */
#define LOG_BYTES (256 * 1024)
/* Directories that may be walked through for a page of it, whatever it is that they hide. */
#define LOG_STEPS 50000
/* A cursor of the log: u64 revision, u64 directory, name. The whole revision: */
#define WHOLE UINT64_MAX

struct question {
    struct past *past; /* borrowed */
    struct request *request;
    uint64_t flushed; /* the revision that has to be in state.db */
    /* Decoded. */
    uint64_t ino; /* of the directory */
    uint64_t directory, number, offset;
    uint32_t n;
    bool local;          /* PAST_LOCAL */
    const uint8_t *name; /* in request->body */
    size_t name_len;
    bool has_cursor; /* LOG: number, directory and name are the row behind which it goes on */
    /* Filled by the worker. */
    bool done;
    int code;
    bool more;
    uint32_t count;
    uint64_t last;                /* LOG: revision of the last row */
    uint64_t dropped;             /* LOG: of history_log() */
    struct history_guards guards; /* VERSION: whose permission it needs */
    struct buffer rows;
    STAILQ_ENTRY(question) link;
};
STAILQ_HEAD(question_list, question);

/* The worker takes what waits together, until it has this much to answer: a way to its
 * thread and back costs more than most questions. */
#define BATCH_BYTES 65536

struct past {
    struct node *node;             /* borrowed */
    struct history_reader *reader; /* the worker's while one is under way */
    struct question_list waiting;  /* for the write-behind, or for the worker */
    struct question_list working;  /* the worker's; what it did not come to goes back */
    bool busy;                     /* the worker has them */
    uv_work_t work;
    bool reopen;        /* state.db is another file: the next question opens it anew */
    bool worker_reopen; /* the same, for the one under way */
};

static void work_next(struct past *p);

struct past *past_new(struct node *node)
{
    struct past *p = calloc(1, sizeof *p);

    if (p == NULL)
        return NULL;
    p->node = node;
    p->work.data = p;
    STAILQ_INIT(&p->waiting);
    STAILQ_INIT(&p->working);
    return p;
}

static void question_free(struct question *q)
{
    request_end(q->request);
    buffer_deinit(&q->rows);
    free(q);
}

void past_free(struct past *p)
{
    struct question *q;

    if (p == NULL)
        return;
    STAILQ_CONCAT(&p->waiting, &p->working);
    while ((q = STAILQ_FIRST(&p->waiting)) != NULL) {
        STAILQ_REMOVE_HEAD(&p->waiting, link);
        question_free(q);
    }
    history_close(p->reader);
    free(p);
}

void past_reopen(struct past *p)
{
    p->reopen = true;
}

/* ---- the worker ---- */

static bool room(const struct question *q)
{
    return q->count < q->n && !q->rows.failed && q->rows.len < FRAME_PAYLOAD_MAX - PAST_ROW_MAX;
}

static bool emit_row(void *arg, const struct version_row *row)
{
    struct question *q = arg;

    if (!room(q)) {
        q->more = true;
        return false;
    }
    version_row_encode(&q->rows, row);
    q->count++;
    return true;
}

static void put_place(struct buffer *b, const struct history_place *place)
{
    buffer_put_u64(b, place->directory);
    buffer_put_string(b, place->name, place->name_len);
}

/* Keys by their directories' history ids; the loop thread makes paths of them. Without a
 * cursor a client can go on only at the next revision, so its rows stay together. */
static bool emit_entry(void *arg, const struct history_entry *entry)
{
    struct question *q = arg;
    bool enough = q->count >= q->n && (q->has_cursor || entry->row.revision != q->last);

    if (enough || q->rows.failed || q->rows.len > LOG_BYTES) {
        q->more = true;
        return false;
    }
    version_row_encode(&q->rows, &entry->row);
    put_place(&q->rows, &entry->key);
    put_place(&q->rows, &entry->from);
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
    buffer_put_string(&q->rows, name, name_len);
    q->count++;
    return true;
}

static int read_version(struct past *p, struct question *q)
{
    struct buffer data = BUFFER_INIT;
    struct version_row row;
    int rv = history_guards(p->reader, q->directory, q->name, q->name_len, q->number, &q->guards);

    if (rv == KV_OK)
        rv = history_read(p->reader, q->directory, q->name, q->name_len, q->number, q->offset, q->n, &row,
                          &data);
    if (rv == KV_OK) {
        version_row_encode(&q->rows, &row);
        buffer_put_string(&q->rows, data.data, data.len);
        q->rows.failed |= data.failed;
    }
    buffer_deinit(&data);
    return rv;
}

static int read_log(struct past *p, struct question *q)
{
    const struct history_place at = {q->directory, q->name, q->name_len};

    return history_log(p->reader, q->number, q->has_cursor && q->directory != WHOLE ? &at : NULL, q,
                       emit_entry, &q->dropped);
}

static void look_up(struct past *p, struct question *q)
{
    bool more = false;

    q->done = true;
    if (p->reader == NULL) {
        q->code = KV_E_IO;
        return;
    }
    switch (q->request->type) {
    case MESSAGE_HISTORY:
        q->code =
            history_list(p->reader, q->directory, q->name, q->name_len, q->number, q->n, q, emit_row, &more);
        q->more |= more;
        break;
    case MESSAGE_VERSION:
        q->code = read_version(p, q);
        break;
    case MESSAGE_NAMES:
        q->code = history_names(p->reader, q->directory, q->name, q->name_len, q, emit_name);
        break;
    default:
        q->code = read_log(p, q);
        break;
    }
    if (q->code < 0 || q->rows.failed)
        q->code = KV_E_IO;
}

static void on_work(uv_work_t *work)
{
    struct past *p = work->data;
    struct question *q;
    size_t bytes = 0;

    if (p->worker_reopen || p->reader == NULL) {
        history_close(p->reader);
        p->reader = history_open(p->node->group->state_path);
    }
    STAILQ_FOREACH(q, &p->working, link)
    {
        if (bytes >= BATCH_BYTES)
            break;
        look_up(p, q);
        bytes += q->rows.len + 256;
    }
}

/* ---- the answer ---- */

static struct history_place take_place(struct cursor *in)
{
    struct history_place place = {.directory = cursor_u64(in)};

    place.name = cursor_string(in, KV_NAME_MAX, &place.name_len);
    return place;
}

/* The path of a key as of now; of a directory that is gone, or deeper than any path, the
 * name alone. */
static void put_path(struct node *n, const struct history_place *place, struct buffer *out)
{
    struct buffer path = BUFFER_INIT;

    if (place->directory != 0) {
        int rv = store_history_path(n->group->store, place->directory, &path);

        if (rv != KV_OK || path.len + 1 + place->name_len > KV_PATH_MAX) {
            buffer_clear(&path);
            buffer_put_bytes(&path, rv == KV_E_NOENT ? "(gone)" : "(deep)", 6);
        }
        if (path.len > 0)
            buffer_put_u8(&path, '/');
        buffer_put_bytes(&path, place->name, place->name_len);
    }
    buffer_put_string(out, path.data, path.len);
    out->failed |= path.failed;
    buffer_deinit(&path);
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

static void put_cursor(struct buffer *out, uint64_t revision, const struct history_place *place)
{
    struct buffer b = BUFFER_INIT;

    buffer_put_u64(&b, revision);
    buffer_put_u64(&b, place->directory);
    buffer_put_bytes(&b, place->name, place->name_len);
    buffer_put_string(out, b.data, b.len);
    out->failed |= b.failed;
    buffer_deinit(&b);
}

/* Which rows behind the place that was asked from may have gone with the history of their
 * names: those above the first revision, up to the second. */
static void put_gap(struct buffer *out, const struct question *q)
{
    bool amid = q->has_cursor && q->directory != WHOLE;
    uint64_t after = amid && q->number > 0 ? q->number - 1 : q->number;
    bool any = q->dropped > after;

    buffer_put_u64(out, any ? after : 0);
    buffer_put_u64(out, any ? q->dropped : 0);
}

/* u8 more, u32 count, rows, the cursor behind the last row that was looked at, the gap. */
static void put_log(struct node *n, struct question *q, struct buffer *out)
{
    struct sight sight = {.store = n->group->store, .who = &q->request->conn->who};
    struct cursor in = cursor_of(q->rows.data, q->rows.len);
    struct history_place key = {.directory = WHOLE};
    size_t at = out->len;
    uint32_t i, count = 0;
    uint64_t revision = q->number;

    buffer_put_u8(out, q->more);
    buffer_put_u32(out, 0);
    for (i = 0; i < q->count; i++) {
        struct history_place from;
        struct version_row row;

        if (out->len - at > LOG_BYTES || sight.steps > LOG_STEPS) {
            q->more = true;
            break;
        }
        version_row_decode(&in, &row);
        key = take_place(&in);
        from = take_place(&in);
        revision = row.revision;
        if (!is_shown(&sight, key.directory) || !may_enter(sight.who, &row))
            continue;
        version_row_encode(out, &row);
        put_path(n, &key, out);
        if (from.directory != 0 && !is_shown(&sight, from.directory))
            from.directory = 0;
        put_path(n, &from, out);
        count++;
    }
    if (!q->more && q->flushed < q->number && q->count == 0) {
        /* This node is not there yet. */
        if (q->has_cursor)
            key = (struct history_place){q->directory, q->name, q->name_len};
    } else if (!q->more) {
        /* All that there is; of a revision that is there nothing is missing. */
        key = (struct history_place){.directory = WHOLE};
        revision = revision > q->flushed ? revision : q->flushed;
    }
    put_cursor(out, revision, &key);
    put_gap(out, q);
    if (!out->failed) {
        out->data[at] = q->more;
        buffer_set_u32(out, at + 1, count);
    }
}

/* Names as the directory has them now; one that is gone by now with its history is left out. */
static void put_names(struct node *n, struct question *q, struct buffer *out)
{
    struct cursor in = cursor_of(q->rows.data, q->rows.len);
    size_t at = out->len;
    uint32_t i, count = 0;

    buffer_put_u8(out, q->more);
    buffer_put_u32(out, 0);
    for (i = 0; i < q->count; i++) {
        size_t len;
        const uint8_t *name = cursor_string(&in, KV_NAME_MAX, &len);
        uint64_t version;
        bool deleted;

        if (name == NULL || store_past_name(n->group->store, q->ino, name, len, &version, &deleted) != KV_OK)
            continue;
        buffer_put_string(out, name, len);
        buffer_put_u64(out, version);
        buffer_put_u8(out, deleted);
        count++;
    }
    if (!out->failed)
        buffer_set_u32(out, at + 1, count);
}

/* The attributes to be checked by a kernel that shows the version to several users. */
static void put_version(struct question *q, struct buffer *out)
{
    struct access a = q->guards.list[0];
    uint32_t i;

    for (i = 1; i < q->guards.n; i++)
        access_meet(&a, &q->guards.list[i]);
    buffer_put_bytes(out, q->rows.data, q->rows.len);
    buffer_put_u16(out, a.mode);
    buffer_put_u32(out, a.uid);
    buffer_put_u32(out, a.gid);
}

/* A version needs what it needed when it was written, what the name needed at the end of
 * each file that has borne it since, and what it needs now. Without content it is a row of
 * the history, which needs less. */
static int may_read_version(struct past *p, struct question *q)
{
    const struct caller *who = &q->request->conn->who;
    struct attr attr;
    uint32_t i;
    int rv = KV_OK;

    if (store_lookup(p->node->group->store, NULL, q->ino, q->name, q->name_len, &attr) == KV_OK) {
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

static void answer(struct past *p, struct question *q)
{
    struct client_conn *c = q->request->conn;
    uint8_t type = q->request->type;
    struct buffer *out;
    size_t at;

    out = answer_begin(c, q->request->id, &at);
    if (out == NULL)
        return;
    if (q->code == KV_OK && type == MESSAGE_VERSION)
        q->code = may_read_version(p, q);
    if (q->code == KV_OK && type == MESSAGE_VERSION) {
        put_version(q, out);
    } else if (q->code == KV_OK && type == MESSAGE_LOG) {
        put_log(p->node, q, out);
    } else if (q->code == KV_OK && type == MESSAGE_NAMES) {
        put_names(p->node, q, out);
    } else if (q->code == KV_OK) {
        buffer_put_u8(out, q->more);
        buffer_put_u32(out, q->count);
        buffer_put_bytes(out, q->rows.data, q->rows.len);
    }
    answer_end(c, at, q->code, NULL);
}

static void answer_working(struct past *p, int failed)
{
    struct question *q;

    while ((q = STAILQ_FIRST(&p->working)) != NULL && (q->done || failed != 0)) {
        STAILQ_REMOVE_HEAD(&p->working, link);
        if (failed != 0)
            q->code = failed;
        answer(p, q);
        question_free(q);
    }
    STAILQ_CONCAT(&p->working, &p->waiting); /* what is left comes first */
    STAILQ_CONCAT(&p->waiting, &p->working);
}

static void on_worked(uv_work_t *work, int status)
{
    struct past *p = work->data;

    p->busy = false;
    answer_working(p, status != 0 ? KV_E_UNAVAILABLE : 0);
    work_next(p);
}

static void work_next(struct past *p)
{
    struct node *n = p->node;
    struct question *q = STAILQ_FIRST(&p->waiting);

    if (q == NULL || p->busy || n->group->writeback == NULL || n->stopping)
        return;
    if (writeback_flushed_index(n->group->writeback) < q->flushed) {
        if (writeback_flush(n->group->writeback) != 0)
            group_die("out of memory");
        return; /* past_flushed() goes on */
    }
    while ((q = STAILQ_FIRST(&p->waiting)) != NULL &&
           writeback_flushed_index(n->group->writeback) >= q->flushed) {
        STAILQ_REMOVE_HEAD(&p->waiting, link);
        STAILQ_INSERT_TAIL(&p->working, q, link);
    }
    p->busy = true;
    p->worker_reopen = p->reopen;
    p->reopen = false;
    if (uv_queue_work(&n->loop, &p->work, on_work, on_worked) != 0) {
        p->busy = false;
        answer_working(p, KV_E_BUSY);
    }
}

void past_flushed(struct past *p)
{
    work_next(p);
}

/* As for the directory itself: a name that one gives needs search permission, as for
 * stat(); being told names needs permission to list them. The log is sifted row by row. */
static int may_look(struct past *p, struct question *q)
{
    const struct caller *who = &q->request->conn->who;
    struct store *s = p->node->group->store;
    int rv;

    if (q->request->type == MESSAGE_LOG || client_has_open(q->request->conn, q->ino, OPEN_READ))
        return KV_OK;
    rv = store_reach(s, who, q->ino);
    return rv == KV_OK ? store_access(s, who, q->ino, q->request->type == MESSAGE_NAMES ? 4 : 1) : rv;
}

static void on_current(void *arg, int code)
{
    struct question *q = arg;
    struct past *p = q->past;

    if (code == KV_OK)
        code = may_look(p, q);
    if (code == KV_OK && q->request->type != MESSAGE_LOG)
        code = store_history_id(p->node->group->store, q->ino, &q->directory);
    if (code != KV_OK) {
        q->code = code;
        answer(p, q);
        question_free(q);
        return;
    }
    q->flushed = store_applied(p->node->group->store);
    /* What a full disk keeps from being written is not waited for. */
    if (q->local && p->node->group->writeback != NULL &&
        writeback_state(p->node->group->writeback) != WRITEBACK_OK)
        q->flushed = writeback_flushed_index(p->node->group->writeback);
    STAILQ_INSERT_TAIL(&p->waiting, q, link);
    work_next(p);
}

/* A client that knows of cursors gives one, empty the first time. */
static void take_cursor(struct question *q, struct cursor *in)
{
    size_t len;
    const uint8_t *bytes = cursor_string(in, 16 + KV_NAME_MAX, &len);
    struct cursor c = cursor_of(bytes, len);

    q->has_cursor = true;
    q->directory = WHOLE;
    if (bytes == NULL || len == 0)
        return;
    q->number = cursor_u64(&c);
    q->directory = cursor_u64(&c);
    q->name_len = c.len;
    q->name = cursor_bytes(&c, c.len);
    in->failed |= c.failed;
}

int past_request(struct past *p, struct client_conn *conn, const struct frame *frame)
{
    struct question *q = calloc(1, sizeof *q);
    struct cursor in;

    if (q == NULL)
        return -ENOMEM;
    q->past = p;
    q->request = request_new(conn, frame);
    if (q->request == NULL) {
        free(q);
        return -ENOMEM;
    }
    in = cursor_of(q->request->body, q->request->len);
    if (frame->type != MESSAGE_LOG) {
        q->ino = cursor_u64(&in);
        q->name = cursor_string(&in, KV_NAME_MAX, &q->name_len);
    }
    if (frame->type != MESSAGE_NAMES)
        q->number = cursor_u64(&in);
    if (frame->type == MESSAGE_VERSION)
        q->offset = cursor_u64(&in);
    q->n = cursor_u32(&in);
    if (frame->type == MESSAGE_LOG && in.len > 0)
        take_cursor(q, &in);
    if (!cursor_done(&in)) {
        answer_code(conn, frame->id, KV_E_PROTOCOL, "malformed request");
        question_free(q);
        return -EPROTO;
    }
    if (frame->type == MESSAGE_VERSION && q->n > READ_LENGTH_MAX)
        q->n = READ_LENGTH_MAX;
    if (frame->type == MESSAGE_VERSION || frame->type == MESSAGE_NAMES) {
        /* A version never changes: what is found here is right. Names are read from this node. */
        if (frame->type == MESSAGE_NAMES && q->n > ROWS_MAX)
            q->n = ROWS_MAX;
        on_current(q, KV_OK);
    } else {
        q->local = (q->n & PAST_LOCAL) != 0;
        q->n &= ~PAST_LOCAL;
        if (q->n > ROWS_MAX)
            q->n = ROWS_MAX;
        if (q->n == 0 && frame->type == MESSAGE_LOG)
            q->n = 1; /* a page that gets nobody on would be asked for again and again */
        if (q->local)
            on_current(q, KV_OK);
        else
            reads_start(p->node->group->reads, on_current, q);
    }
    return 0;
}
