#include "kvnode/past.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "kvnode/client_conn.h"
#include "kvnode/history.h"
#include "kvnode/reads.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

#define ROWS_MAX 4096
/* Room that a row may take in an answer. */
#define ROW_BYTES 16384

struct question {
    struct past *past; /* borrowed */
    struct request *request;
    uint64_t flushed; /* the revision that has to be in state.db */
    /* Decoded. */
    uint64_t directory, number, offset;
    uint32_t n;
    bool local;          /* PAST_LOCAL */
    const uint8_t *name; /* in request->body */
    size_t name_len;
    /* Filled by the worker. */
    int code;
    bool more;
    uint32_t count;
    struct version_row last; /* VERSION: owner and mode that it had at last */
    struct buffer rows;
    STAILQ_ENTRY(question) link;
};
STAILQ_HEAD(question_list, question);

struct past {
    struct node *node;             /* borrowed */
    struct history_reader *reader; /* the worker's while one is under way */
    struct question_list waiting;  /* for the write-behind, or for the worker */
    struct question *working;
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
    return q->count < q->n && !q->rows.failed && q->rows.len < FRAME_PAYLOAD_MAX - ROW_BYTES;
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

/* Keys by their directories' history ids; the loop thread makes paths of them. */
static bool emit_entry(void *arg, const struct history_entry *entry)
{
    struct question *q = arg;

    /* The rows of one revision stay together, so the limit may be passed by some. */
    if (q->rows.failed || q->rows.len > FRAME_PAYLOAD_MAX / 2) {
        q->more = true;
        return false;
    }
    version_row_encode(&q->rows, &entry->row);
    put_place(&q->rows, &entry->key);
    put_place(&q->rows, &entry->from);
    q->count++;
    return true;
}

static void on_work(uv_work_t *work)
{
    struct past *p = work->data;
    struct question *q = p->working;
    struct buffer data = BUFFER_INIT;
    struct version_row row;
    bool more = false;

    if (p->worker_reopen || p->reader == NULL) {
        history_close(p->reader);
        p->reader = history_open(p->node->state_path);
    }
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
        q->code = history_read(p->reader, q->directory, q->name, q->name_len, q->number, q->offset, q->n,
                               &row, &data);
        if (q->code == KV_OK)
            q->code = history_attributes(p->reader, q->directory, q->name, q->name_len, q->number, &q->last);
        if (q->code == KV_OK) {
            version_row_encode(&q->rows, &row);
            buffer_put_string(&q->rows, data.data, data.len);
            q->rows.failed |= data.failed;
        }
        buffer_deinit(&data);
        break;
    default:
        q->code = history_log(p->reader, q->number, q->n, q, emit_entry, &more);
        q->more |= more;
        break;
    }
    if (q->code < 0 || q->rows.failed)
        q->code = KV_E_IO;
}

/* ---- the answer ---- */

/* The path of a key as of now; of a directory that is gone the name alone. */
static void put_path(struct node *n, struct cursor *in, struct buffer *out)
{
    uint64_t directory = cursor_u64(in);
    size_t len;
    const uint8_t *name = cursor_string(in, KV_NAME_MAX, &len);
    struct buffer path = BUFFER_INIT;

    if (directory != 0 && name != NULL) {
        if (store_history_path(n->store, directory, &path) != KV_OK) {
            buffer_clear(&path);
            buffer_put_bytes(&path, "(gone)", 6);
        }
        if (path.len > 0)
            buffer_put_u8(&path, '/');
        buffer_put_bytes(&path, name, len);
    }
    buffer_put_string(out, path.data, path.len);
    out->failed |= path.failed;
    buffer_deinit(&path);
}

static void put_log(struct node *n, struct question *q, struct buffer *out)
{
    struct cursor in = cursor_of(q->rows.data, q->rows.len);
    uint32_t i;

    for (i = 0; i < q->count; i++) {
        struct version_row row;

        version_row_decode(&in, &row);
        version_row_encode(out, &row);
        put_path(n, &in, out); /* key */
        put_path(n, &in, out); /* from */
    }
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
        q->code = store_permits(&c->who, q->last.uid, q->last.gid, q->last.mode, 4);
    if (q->code == KV_OK) {
        if (type != MESSAGE_VERSION) {
            buffer_put_u8(out, q->more);
            buffer_put_u32(out, q->count);
        }
        if (type == MESSAGE_LOG)
            put_log(p->node, q, out);
        else
            buffer_put_bytes(out, q->rows.data, q->rows.len);
    }
    answer_end(c, at, q->code, NULL);
}

static void on_worked(uv_work_t *work, int status)
{
    struct past *p = work->data;
    struct question *q = p->working;

    p->working = NULL;
    if (status != 0)
        q->code = KV_E_UNAVAILABLE;
    answer(p, q);
    question_free(q);
    work_next(p);
}

static void work_next(struct past *p)
{
    struct node *n = p->node;
    struct question *q = STAILQ_FIRST(&p->waiting);

    if (q == NULL || p->working != NULL || n->writeback == NULL || n->stopping)
        return;
    if (writeback_flushed_index(n->writeback) < q->flushed) {
        if (writeback_flush(n->writeback) != 0)
            node_die("out of memory");
        return; /* past_flushed() goes on */
    }
    STAILQ_REMOVE_HEAD(&p->waiting, link);
    p->working = q;
    p->worker_reopen = p->reopen;
    p->reopen = false;
    if (uv_queue_work(&n->loop, &p->work, on_work, on_worked) != 0) {
        p->working = NULL;
        q->code = KV_E_BUSY;
        answer(p, q);
        question_free(q);
    }
}

void past_flushed(struct past *p)
{
    work_next(p);
}

/* The directory must let the caller through to the name, and what bears the name
 * now must be readable, else what was written before it was closed to him would
 * stay open. The bits that the version had at last are looked at when they are known. */
static int may_look(struct past *p, struct question *q)
{
    const struct caller *who = &q->request->conn->who;
    struct store *s = p->node->store;
    struct attr attr;
    int rv;

    if (q->request->type == MESSAGE_LOG || who->trusted)
        return KV_OK;
    rv = store_access(s, who, q->directory, 1);
    if (rv != KV_OK || q->request->type != MESSAGE_VERSION)
        return rv;
    rv = store_lookup(s, who, q->directory, q->name, q->name_len, &attr);
    if (rv == KV_OK)
        rv = store_access(s, who, attr.ino, 4);
    return rv == KV_E_NOENT ? KV_OK : rv;
}

static void on_current(void *arg, int code)
{
    struct question *q = arg;
    struct past *p = q->past;

    if (code == KV_OK)
        code = may_look(p, q);
    if (code == KV_OK && q->request->type != MESSAGE_LOG)
        code = store_history_id(p->node->store, q->directory, &q->directory);
    if (code != KV_OK) {
        q->code = code;
        answer(p, q);
        question_free(q);
        return;
    }
    q->flushed = store_applied(p->node->store);
    /* What a full disk keeps from being written is not waited for. */
    if (q->local && p->node->writeback != NULL && writeback_state(p->node->writeback) != WRITEBACK_OK)
        q->flushed = writeback_flushed_index(p->node->writeback);
    STAILQ_INSERT_TAIL(&p->waiting, q, link);
    work_next(p);
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
        q->directory = cursor_u64(&in);
        q->name = cursor_string(&in, KV_NAME_MAX, &q->name_len);
    }
    q->number = cursor_u64(&in);
    if (frame->type == MESSAGE_VERSION)
        q->offset = cursor_u64(&in);
    q->n = cursor_u32(&in);
    if (!cursor_done(&in)) {
        answer_code(conn, frame->id, KV_E_PROTOCOL, "malformed request");
        question_free(q);
        return -EPROTO;
    }
    if (frame->type == MESSAGE_VERSION) {
        /* A version never changes: what is found here is right. */
        if (q->n > READ_LENGTH_MAX)
            q->n = READ_LENGTH_MAX;
        on_current(q, KV_OK);
    } else {
        q->local = (q->n & PAST_LOCAL) != 0;
        q->n &= ~PAST_LOCAL;
        if (q->n > ROWS_MAX)
            q->n = ROWS_MAX;
        if (q->local)
            on_current(q, KV_OK);
        else
            reads_start(p->node->reads, on_current, q);
    }
    return 0;
}
