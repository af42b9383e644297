#include "kvnode/client/past.h"

#include <errno.h>
#include <stdlib.h>

#include "kvnode/client/past_question.h"
#include "kvnode/group/reads.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

#define ROWS_MAX 4096

STAILQ_HEAD(question_list, question);

/* The worker takes what waits together, until it has this much to answer: a way to its
 * thread and back costs more than most questions. */
#define BATCH_BYTES 65536

struct past {
    struct group *group;           /* borrowed */
    const struct self *self;       /* borrowed */
    struct history_reader *reader; /* the worker's while one is under way */
    struct question_list waiting;  /* for the write-behind, or for the worker */
    struct question_list working;  /* the worker's; what it did not come to goes back */
    bool busy;                     /* the worker has them */
    uv_work_t work;
    bool reopen;        /* state.db is another file: the next question opens it anew */
    bool worker_reopen; /* the same, for the one under way */
};

static void work_next(struct past *p);

struct past *past_new(struct group *group, const struct self *self)
{
    struct past *p = calloc(1, sizeof *p);

    if (p == NULL)
        return NULL;
    p->group = group;
    p->self = self;
    p->work.data = p;
    STAILQ_INIT(&p->waiting);
    STAILQ_INIT(&p->working);
    return p;
}

static void question_free(struct question *q)
{
    request_end(q->request);
    buffer_deinit(&q->rows);
    buffer_deinit(&q->labels);
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

static void on_work(uv_work_t *work)
{
    struct past *p = work->data;
    struct question *q;
    size_t bytes = 0;

    if (p->worker_reopen || p->reader == NULL) {
        history_close(p->reader);
        p->reader = history_open(p->group->state_path);
    }
    STAILQ_FOREACH(q, &p->working, link)
    {
        if (bytes >= BATCH_BYTES)
            break;
        question_read(q, p->reader);
        bytes += q->rows.len + 256;
    }
}

static void answer_working(struct past *p, int failed)
{
    struct question *q;

    while ((q = STAILQ_FIRST(&p->working)) != NULL && (q->done || failed != 0)) {
        STAILQ_REMOVE_HEAD(&p->working, link);
        if (failed != 0)
            q->code = failed;
        question_answer(q);
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
    struct question *q = STAILQ_FIRST(&p->waiting);

    if (q == NULL || p->busy || p->group->writeback == NULL || p->self->stopping)
        return;
    if (writeback_flushed_index(p->group->writeback) < q->flushed) {
        if (writeback_flush(p->group->writeback) != 0)
            group_die("out of memory");
        return; /* past_flushed() goes on */
    }
    while ((q = STAILQ_FIRST(&p->waiting)) != NULL &&
           writeback_flushed_index(p->group->writeback) >= q->flushed) {
        STAILQ_REMOVE_HEAD(&p->waiting, link);
        STAILQ_INSERT_TAIL(&p->working, q, link);
    }
    p->busy = true;
    p->worker_reopen = p->reopen;
    p->reopen = false;
    if (uv_queue_work(p->group->owner->loop, &p->work, on_work, on_worked) != 0) {
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
    struct store *s = p->group->store;
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
        code = store_history_id(p->group->store, q->ino, &q->directory);
    if (code != KV_OK) {
        q->code = code;
        question_answer(q);
        question_free(q);
        return;
    }
    q->flushed = store_applied(p->group->store);
    /* What a full disk keeps from being written is not waited for. */
    if (q->local && p->group->writeback != NULL && writeback_state(p->group->writeback) != WRITEBACK_OK)
        q->flushed = writeback_flushed_index(p->group->writeback);
    STAILQ_INSERT_TAIL(&p->waiting, q, link);
    work_next(p);
}

/* A client that knows of cursors gives one, empty the first time. False: it is none of ours. */
static bool take_cursor(struct question *q, const struct bytes *cursor)
{
    struct cursor c = cursor_of(cursor->data, cursor->len);
    struct place place;

    q->has_cursor = true;
    q->directory = WHOLE;
    if (cursor->len == 0)
        return true;
    if (!layout_decode(&c, &place_layout, &place))
        return false;
    q->number = place.revision;
    q->directory = place.directory;
    q->name = place.name;
    return true;
}

/* False: malformed. */
static bool take_body(struct question *q)
{
    const union request_body *in = &q->request->body;

    switch (q->request->type) {
    case MESSAGE_HISTORY:
        q->ino = in->history.directory;
        q->name = in->history.name;
        q->number = in->history.before;
        q->n = in->history.n;
        return true;
    case MESSAGE_VERSION:
        q->ino = in->version.directory;
        q->name = in->version.name;
        q->number = in->version.version;
        q->offset = in->version.offset;
        q->n = in->version.length < READ_LENGTH_MAX ? in->version.length : READ_LENGTH_MAX;
        return true;
    case MESSAGE_VERSION_XATTRS:
        q->ino = in->version_xattrs.directory;
        q->name = in->version_xattrs.name;
        q->number = in->version_xattrs.version;
        q->n = 1; /* as content: it may be read by who may read that */
        return true;
    case MESSAGE_NAMES:
        q->ino = in->names.directory;
        q->name = in->names.after;
        q->n = in->names.n;
        return true;
    default:
        q->number = in->log.after;
        q->n = in->log.n;
        return !in->log.has_cursor || take_cursor(q, &in->log.cursor);
    }
}

int past_request(struct past *p, struct client_conn *conn, const struct frame *frame,
                 const union request_body *body)
{
    struct question *q = calloc(1, sizeof *q);
    bool listed = frame->type == MESSAGE_HISTORY || frame->type == MESSAGE_LOG;

    if (q == NULL)
        return -ENOMEM;
    q->past = p;
    q->request = request_keep(conn, frame, body);
    if (q->request == NULL) {
        free(q);
        return -ENOMEM;
    }
    if (!take_body(q)) {
        answer_code(conn, frame->id, KV_E_PROTOCOL, "malformed request");
        question_free(q);
        return -EPROTO;
    }
    if (listed) {
        q->local = (q->n & PAST_LOCAL) != 0;
        q->n &= ~PAST_LOCAL;
    }
    if (frame->type != MESSAGE_VERSION && q->n > ROWS_MAX)
        q->n = ROWS_MAX;
    if (q->n == 0 && frame->type == MESSAGE_LOG)
        q->n = 1; /* a page that gets nobody on would be asked for again and again */
    /* A version never changes: what is found here is right. Names are read from this node. */
    if (q->local || !listed)
        on_current(q, KV_OK);
    else
        reads_start(p->group->reads, on_current, q);
    return 0;
}
