/* Writes, exactly once. A gate's writes go under a session that it has registered, so that one whose outcome
 * is not known can be asked for again, at any node, by (session, number): that is the Idempotency-Key of a
 * 504. The session is retired then: it lives on untouched for the cluster's session_timeout, and the next
 * write has a new one.
 *
 *   waiting ──session is registered──► parts, one after the other ──► the command ──► answered
 *
 * A long value has a session of its own, which ends with it: its parts take their time, and meanwhile the
 * results of all others would have to be kept. */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "kvnode/group/group.h"
#include "kvnode/web/gate_internal.h"
#include "sync/base/digest.h"
#include "sync/base/error.h"

#define TRIES_MAX 5

static void send_next(struct gate_write *w);

void gate_session_put(struct gate_session *s)
{
    if (s != NULL && --s->refs == 0)
        free(s);
}

/* Leaves its session. */
static void leave(struct gate_write *w)
{
    struct gate_session *s = w->session;

    if (s == NULL)
        return;
    if (w->seq != 0)
        TAILQ_REMOVE(&s->writes, w, link);
    else
        TAILQ_REMOVE(&s->waiting, w, link);
    w->session = NULL;
    gate_session_put(s);
}

static void forget_write(struct gate_write *w)
{
    struct gate *g = w->gate;

    gate_cancel(&w->call);
    leave(w);
    buffer_deinit(&w->body);
    w->gate = NULL;
    gate_put(g);
}

static struct command command_of(const struct gate *g, enum command_op op, uint64_t session, uint64_t seq)
{
    /* A cluster that does not know labels does without. */
    bool labelled = g->who.label[0] != '\0' && store_level(g->all->group->store) >= COMMAND_LABEL_LEVEL;

    /* As on the command line: the node's own account may do what root may. */
    return (struct command){.op = (uint8_t)op,
                            .flags = (g->trusted ? COMMAND_TRUSTED : 0) | (labelled ? COMMAND_LABEL : 0),
                            .session = session,
                            .seq = seq,
                            .label = labelled ? g->who.label : NULL,
                            .label_len = labelled ? strlen(g->who.label) : 0,
                            .node = ""};
}

struct end {
    struct gate_call call;
    struct gate *gate; /* a reference */
    uint64_t session, seq;
};

static void on_ended(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct end *e = arg;

    (void)code;
    (void)answer;
    (void)detail;
    gate_put(e->gate);
    free(e);
}

static void ask_end(struct end *e)
{
    struct command cmd = command_of(e->gate, COMMAND_END, e->session, e->seq);

    gate_ask_write(e->gate, &e->call, &cmd, on_ended, e);
}

/* NULL: it cannot be asked for; the session ends by itself, when it has been silent for long enough. */
static struct end *end_new(struct gate *g, uint64_t session, uint64_t seq)
{
    struct end *e = g->stream != NULL ? calloc(1, sizeof *e) : NULL;

    if (e == NULL)
        return NULL;
    e->gate = gate_ref(g);
    e->session = session;
    e->seq = seq;
    return e;
}

static void end_session(struct gate *g, uint64_t session, uint64_t seq)
{
    struct end *e = end_new(g, session, seq);

    if (e != NULL)
        ask_end(e);
}

void gate_session_end(struct gate *g)
{
    struct gate_session *s = g->session;

    if (s != NULL && s->id != 0 && !s->retired && TAILQ_EMPTY(&s->writes))
        end_session(g, s->id, s->next_seq);
}

/* The answer to a command for which nobody waits any more. */
static void on_unwanted(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct end *e = arg;

    (void)answer;
    (void)detail;
    if (code == -ECONNRESET)
        on_ended(e, code, NULL, "");
    else
        ask_end(e);
}

/* Nobody waits for the one write of the session, and nobody has been told how to ask for its result. */
static void end_cancelled(struct gate_write *w)
{
    struct end *e = end_new(w->gate, w->session_id, w->seq + 1);

    if (e == NULL)
        return;
    if (w->sent && w->call.gate != NULL)
        gate_call_move(&w->call, &e->call, on_unwanted, e);
    else
        ask_end(e);
}

static void finish(struct gate_write *w, int code, const struct command_result *result, const char *detail)
{
    struct gate_session *s = w->session;

    if (code == KV_E_UNKNOWN && s != NULL) {
        s->retired = true;
        if (s->keep == 0 || w->seq < s->keep)
            s->keep = w->seq;
    } else if (w->alone && s != NULL && s->id != 0) {
        end_session(w->gate, s->id, w->seq + 1);
    }
    forget_write(w);
    w->done(w->arg, code, result, detail);
}

static void on_written(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct gate_write *w = arg;
    const struct command_result *result = code == KV_OK ? &answer->write : NULL;

    if (result != NULL)
        code = result->code;
    if (code == KV_E_PART && ++w->tries < TRIES_MAX) {
        w->part = 0; /* the leader changed on the way, and none of them is there */
        w->sent = false;
        send_next(w);
        return;
    }
    if (code == KV_OK && !w->sent) {
        w->part++;
        send_next(w);
        return;
    }
    if (code == -ECONNRESET || code == KV_E_UNKNOWN || (code == KV_E_SESSION && w->session != NULL))
        code = w->sent ? KV_E_UNKNOWN : KV_E_UNAVAILABLE;
    else if (code == KV_E_PART)
        code = KV_E_UNAVAILABLE;
    finish(w, code, result, detail);
}

static uint64_t acked_below(const struct gate_write *w)
{
    uint64_t first;

    if (w->session == NULL)
        return 0;
    first = TAILQ_FIRST(&w->session->writes)->seq;
    return w->session->keep != 0 && w->session->keep < first ? w->session->keep : first;
}

static void send_next(struct gate_write *w)
{
    size_t at = (size_t)w->part * COMMAND_PART_SIZE, left = w->body.len - at;
    struct buffer b = BUFFER_INIT;
    struct command cmd = command_of(w->gate, w->op, w->session_id, w->seq);

    cmd.acked_below = acked_below(w);
    cmd.body = w->body.data + at;
    cmd.body_len = left;
    if (left > COMMAND_PART_SIZE) {
        const struct command_body part = {
            .part = w->part, .value = w->body.data + at, .value_len = COMMAND_PART_SIZE};

        command_body_encode(&b, COMMAND_PART, &part);
        cmd.op = COMMAND_PART;
    } else {
        w->sent = true;
        cmd.flags |= w->flags;
        if (w->part > 0) {
            cmd.flags |= COMMAND_PARTS;
            command_last_piece_encode(&b, w->part, 0, w->body.data + at, left);
        }
    }
    if (b.len > 0) {
        cmd.body = b.data;
        cmd.body_len = b.len;
    }
    gate_ask_write(w->gate, &w->call, &cmd, on_written, w);
    buffer_deinit(&b);
}

/* Numbers of sessions and of their writes are easy to guess, and whoever sends a command under one that is
 * yet to come has its result told as that of another. The nonce of a session is known to the nodes alone. */
static uint64_t tag_of(const uint8_t nonce[16], uint64_t seq)
{
    struct {
        uint8_t nonce[16];
        uint64_t seq;
    } of = {.seq = htobe64(seq)};

    memcpy(of.nonce, nonce, sizeof of.nonce);
    return digest64(digest64(0, &of, sizeof of), nonce, sizeof of.nonce);
}

static void begin(struct gate_write *w)
{
    w->session_id = w->session->id;
    w->seq = w->session->next_seq++;
    w->tag = tag_of(w->session->nonce, w->seq);
    TAILQ_INSERT_TAIL(&w->session->writes, w, link);
    send_next(w);
}

static void on_registered(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct gate_session *s = arg;
    struct gate *g = s->gate;
    struct gate_write *w;
    char why[256];

    s->gate = NULL;
    if (code == KV_OK)
        code = answer->write.code;
    if (code == KV_OK)
        s->id = answer->write.session;
    else if (code == -ECONNRESET || code == KV_E_UNKNOWN)
        code = KV_E_UNAVAILABLE;
    snprintf(why, sizeof why, "%s", detail);
    if (code != KV_OK)
        s->retired = true;
    while ((w = TAILQ_FIRST(&s->waiting)) != NULL) {
        if (code == KV_OK) {
            TAILQ_REMOVE(&s->waiting, w, link);
            begin(w);
        } else {
            finish(w, code, NULL, why);
        }
    }
    if (s->refs == 1 && s->id != 0 && s->next_seq == 1) /* who asked for it has gone */
        end_session(g, s->id, 1);
    gate_session_put(s);
    gate_put(g);
}

/* A reference. NULL: out of memory. */
static struct gate_session *session_new(struct gate *g)
{
    struct gate_session *s = calloc(1, sizeof *s);
    struct command cmd = command_of(g, COMMAND_REGISTER, 0, 0);
    struct buffer b = BUFFER_INIT;
    struct command_body body = {.name = (const uint8_t *)"http", .name_len = strlen("http")};

    if (s == NULL || getrandom(s->nonce, sizeof s->nonce, 0) != (ssize_t)sizeof s->nonce) {
        free(s);
        return NULL;
    }
    body.nonce = s->nonce;
    s->refs = 2; /* one is the registration's */
    s->gate = gate_ref(g);
    s->next_seq = 1;
    TAILQ_INIT(&s->writes);
    TAILQ_INIT(&s->waiting);
    command_body_encode(&b, COMMAND_REGISTER, &body);
    cmd.body = b.data;
    cmd.body_len = b.len;
    gate_ask_write(g, &s->call, &cmd, on_registered, s);
    buffer_deinit(&b);
    return s;
}

/* The gate's own, or a new one in its place. Borrowed. */
static struct gate_session *session_of(struct gate *g)
{
    struct gate_session *s = g->session;
    uint32_t owner;

    if (s != NULL && !s->retired &&
        (s->id == 0 || store_session_owner(g->all->group->store, s->id, &owner) == KV_OK))
        return s;
    gate_session_put(s);
    g->session = session_new(g);
    return g->session;
}

static void on_no_memory(void *arg, int code, const union answer_body *answer, const char *detail)
{
    (void)code;
    (void)answer;
    (void)detail;
    finish(arg, KV_E_BUSY, NULL, "out of memory");
}

/* This node has all by now that was told to anybody: it knows the session, if it still is. */
static void on_repetition(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct gate_write *w = arg;
    const struct store *store = w->gate->all->group->store;
    uint8_t nonce[16];
    uint32_t owner;

    (void)answer;
    if (code == KV_OK)
        code = store_session_nonce(store, w->session_id, nonce);
    if (code == KV_OK)
        code = store_session_owner(store, w->session_id, &owner);
    if (code == KV_OK &&
        (owner != (w->gate->trusted ? 0 : w->gate->who.uid) || w->tag != tag_of(nonce, w->seq)))
        code = KV_E_SESSION;
    if (code == KV_OK) {
        send_next(w);
        return;
    }
    if (code == -ECONNRESET)
        code = KV_E_UNAVAILABLE;
    finish(w, code, NULL, detail);
}

void gate_write(struct gate *g, struct gate_write *w, enum command_op op, uint16_t flags, struct buffer *body,
                const struct gate_key *key,
                void (*done)(void *arg, int code, const struct command_result *result, const char *detail),
                void *arg)
{
    struct gate_session *s;

    *w = (struct gate_write){.gate = g,
                             .op = op,
                             .flags = flags,
                             .body = *body,
                             .session_id = key != NULL ? key->session : 0,
                             .seq = key != NULL ? key->seq : 0,
                             .tag = key != NULL ? key->tag : 0,
                             .alone = body->len > COMMAND_PART_SIZE,
                             .done = done,
                             .arg = arg};
    *body = (struct buffer)BUFFER_INIT;
    g->refs++;
    if (w->session_id != 0) {
        gate_ask(g, &w->call, MESSAGE_BARRIER, NULL, on_repetition, w);
        return;
    }
    s = w->alone ? session_new(g) : session_of(g);
    if (s == NULL || w->body.failed) {
        if (w->alone)
            gate_session_put(s);
        gate_ask(g, &w->call, MESSAGE_STATFS, NULL, on_no_memory, w); /* whatever it says: from the loop */
        return;
    }
    w->session = s;
    if (!w->alone)
        s->refs++;
    if (s->id != 0) {
        begin(w);
    } else {
        TAILQ_INSERT_TAIL(&s->waiting, w, link);
    }
}

void gate_write_cancel(struct gate_write *w)
{
    if (w->gate == NULL)
        return;
    if (w->alone && w->session != NULL && w->seq != 0)
        end_cancelled(w);
    forget_write(w);
}
