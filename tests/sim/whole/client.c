/* Clients: each does one thing after the other. With a session, what is not
 * answered is asked again under its number, of any node; without, its outcome is
 * then unknown. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/reads.h"
#include "kvnode/writes.h"
#include "sync/base/error.h"
#include "tests/sim/whole/linear.h"
#include "tests/sim/whole/whole.h"

#define MAX_CLIENTS 12
#define CALM_TIMEOUT (9 * SECOND)

struct client {
    int id, host;
    bool sessionless;
    uint64_t session, seq;
    uint8_t nonce[16];
    struct op *op;    /* NULL: idle, or registering */
    bool registering; /* the session is being asked for */
    bool doubt;       /* an attempt may have been executed */
    unsigned tries, tries_max;
    uint64_t attempt; /* answers to others are ignored */
    uint64_t floor;   /* what was acknowledged to anybody before this read */
    /* The command. */
    uint8_t command;
    struct buffer body;
    size_t piece, part, n_parts; /* a body in parts: n_parts before the last piece */
    int64_t think, timeout;
    struct known known[N_OBJECTS];
};

/* A request under way to a node, or kept by it. */
struct request {
    struct client *client;
    struct host *host;
    struct op *op; /* NULL: a registration */
    uint64_t attempt;
    bool kept; /* by the node's writes or reads */
    LIST_ENTRY(request) link;
};

struct answer {
    struct client *client;
    uint64_t attempt;
    int code;
    bool has_result;
    struct command_result result;
    uint64_t content, applied;
    struct attr attr;
};

static struct client clients[MAX_CLIENTS];
static int n_clients;
static bool stopping;
static LIST_HEAD(, request) requests = LIST_HEAD_INITIALIZER(requests);

static struct op **ops; /* all of the run, by id from 1 */
static size_t n_ops, cap_ops;

static void begin(struct host *none, void *arg, uint64_t number);
static void ask(struct client *c);

struct op *op_by_id(uint64_t id)
{
    return id > 0 && id <= n_ops ? ops[id - 1] : NULL;
}

size_t op_count(void)
{
    return n_ops;
}

struct op *op_at(size_t i)
{
    return ops[i];
}

static struct op *op_new(struct client *c)
{
    struct op *op = calloc(1, sizeof *op);

    if (n_ops == cap_ops) {
        cap_ops = cap_ops > 0 ? 2 * cap_ops : 1024;
        ops = realloc(ops, cap_ops * sizeof(struct op *));
    }
    if (op == NULL || ops == NULL)
        abort();
    ops[n_ops++] = op;
    op->id = n_ops;
    op->client = c->id;
    op->call = world.now;
    op->sessionless = c->sessionless;
    return op;
}

static void begin_later(struct client *c)
{
    queue_at(world.now + rnd_range(0, c->think), NULL, begin, c, 0, NULL);
}

/* ---- at the node ---- */

static void request_free(void *arg)
{
    struct request *r = arg;

    LIST_REMOVE(r, link);
    free(r);
}

static void on_answer(struct host *none, void *arg, uint64_t number);

static struct answer *answer_new(struct request *r, int code)
{
    struct answer *a = calloc(1, sizeof *a);

    if (a == NULL)
        abort();
    a->client = r->client;
    a->attempt = r->attempt;
    a->code = code;
    return a;
}

static void send_answer(struct request *r, struct answer *a)
{
    request_free(r);
    queue_at(world.now + rnd_range(10, 300), NULL, on_answer, a, 0, free);
}

/* What a dead node kept is gone; some of its clients see their connection end. */
void clients_host_crashed(struct host *h)
{
    struct request *r, *next;

    for (r = LIST_FIRST(&requests); r != NULL; r = next) {
        next = LIST_NEXT(r, link);
        if (r->host != h || !r->kept)
            continue;
        if (world.calm || rnd_chance(0.5))
            send_answer(r, answer_new(r, KV_E_UNKNOWN));
        else
            request_free(r);
    }
}

/* It never got there. */
static void request_lost(void *arg)
{
    struct request *r = arg;

    if (world.calm)
        send_answer(r, answer_new(r, KV_E_UNKNOWN));
    else
        request_free(r);
}

static void on_written(void *arg, int code, const struct command_result *result)
{
    struct request *r = arg;
    struct answer *a = answer_new(r, code);

    if (result != NULL) {
        a->has_result = true;
        a->result = *result;
    }
    send_answer(r, a);
}

static void on_readable(void *arg, int code)
{
    struct request *r = arg;
    struct answer *a = answer_new(r, code);

    if (code == KV_OK) {
        op_read(r->host, r->op, &a->content, &a->attr);
        a->applied = store_applied(r->host->node.store);
        if (r->client->attempt == r->attempt && a->applied < r->client->floor)
            violation("a stale read: n%d serves it at %lu, %lu was acknowledged before it was asked",
                      r->host->id, a->applied, r->client->floor);
    }
    send_answer(r, a);
}

static void write_at(struct host *h, struct request *r)
{
    struct client *c = r->client;
    char node[COMMAND_NODE_MAX + 1];
    struct command cmd = {.op = c->command, .flags = COMMAND_TRUSTED, .node = node};
    struct buffer part = BUFFER_INIT;
    int rv;

    snprintf(node, sizeof node, "n%d.%lu", h->id, c->op != NULL ? c->op->id : 0);
    cmd.node_len = strlen(node);
    cmd.body = c->body.data;
    cmd.body_len = c->body.len;
    if (!c->sessionless && !c->registering) {
        cmd.session = c->session;
        cmd.seq = cmd.acked_below = c->seq;
    }
    if (!c->registering && c->part < c->n_parts) {
        struct command_body body = {
            .part = (uint32_t)c->part, .value = c->body.data + c->part * c->piece, .value_len = c->piece};

        cmd.op = COMMAND_PART;
        command_body_encode(&part, COMMAND_PART, &body);
        cmd.body = part.data;
        cmd.body_len = part.len;
        counters.parts++;
    } else if (c->n_parts > 0) {
        cmd.flags |= COMMAND_PARTS;
        cmd.body = c->body.data + c->n_parts * c->piece;
        cmd.body_len = c->body.len - c->n_parts * c->piece;
    }
    rv = writes_start(h->node.writes, &cmd, on_written, r);
    buffer_deinit(&part);
    if (rv != 0)
        send_answer(r, answer_new(r, rv));
}

static void at_node(struct host *h, void *arg, uint64_t number)
{
    struct request *r = arg;
    struct client *c = r->client;

    r->kept = true;
    if (c->attempt != r->attempt) /* it has given up waiting: its connection is closed */
        request_free(r);
    else if (!host_serves(h))
        send_answer(r, answer_new(r, KV_E_UNAVAILABLE));
    else if (c->op != NULL && c->op->kind == OP_GET && options.plant == PLANT_STALE_READ)
        on_readable(r, KV_OK);
    else if (c->op != NULL && c->op->kind == OP_GET)
        reads_start(h->node.reads, on_readable, r);
    else
        write_at(h, r);
}

/* ---- at the client ---- */

static void finish(struct client *c, enum outcome outcome, int code)
{
    struct op *op = c->op;

    op->outcome = outcome;
    op->code = code;
    op->answered = world.now;
    trace("client %d: op %lu %s: %s", c->id, op->id, op_text(op),
          outcome == OUTCOME_ANSWERED ? error_text(code)
          : outcome == OUTCOME_OPEN   ? "unknown outcome"
                                      : "not executed");
    counters.answered += outcome == OUTCOME_ANSWERED;
    counters.open += outcome == OUTCOME_OPEN;
    counters.refused += outcome == OUTCOME_NONE;
    if (outcome == OUTCOME_NONE && op->executions > 0)
        violation("op %lu was executed at %lu, its client is told that it was not", op->id, op->executed_at);
    if (outcome == OUTCOME_OPEN && op->object < N_PLAIN)
        c->known[op->object].sure = false;
    c->op = NULL;
    c->attempt++;
    if (op->kind == OP_GET)
        counters.reads++;
    else
        counters.writes++;
    begin_later(c);
}

static void again(struct host *none, void *arg, uint64_t number)
{
    struct client *c = arg;

    if (c->attempt == number)
        ask(c);
}

/* This attempt has failed; another one, of another node perhaps. */
static void retry(struct client *c)
{
    c->attempt++;
    counters.retries++;
    if (c->op != NULL && !world.calm && (++c->tries >= c->tries_max || (c->op->sessionless && c->doubt))) {
        finish(c, c->doubt ? OUTCOME_OPEN : OUTCOME_NONE, 0);
        return;
    }
    if (c->op != NULL && c->op->sessionless && c->doubt) {
        finish(c, OUTCOME_OPEN, 0);
        return;
    }
    if (rnd_chance(0.7))
        c->host = (int)rnd_range(1, world.n);
    queue_at(world.now + rnd_range(0, 300 * MS), NULL, again, c, c->attempt, NULL);
}

static void on_timeout(struct host *none, void *arg, uint64_t number)
{
    struct client *c = arg;

    if (c->attempt != number)
        return;
    c->doubt = true;
    retry(c);
}

static void ask(struct client *c)
{
    struct host *h = &world.hosts[c->host];
    struct request *r;
    int64_t timeout = world.calm ? CALM_TIMEOUT : c->timeout;

    if (!h->up) {
        retry(c);
        return;
    }
    r = calloc(1, sizeof *r);
    if (r == NULL)
        abort();
    r->client = c;
    r->host = h;
    r->op = c->op;
    r->attempt = c->attempt;
    LIST_INSERT_HEAD(&requests, r, link);
    queue_at(world.now + rnd_range(10, 300), h, at_node, r, 0, request_lost);
    queue_at(world.now + timeout, NULL, on_timeout, c, c->attempt, NULL);
}

static void learn(struct client *c, const struct op *op, const struct answer *a)
{
    struct known *k = &c->known[op->object];

    if (op->object >= N_PLAIN || op->kind == OP_EXPIRE)
        return;
    k->sure = true;
    if (op->kind == OP_GET) {
        k->content = a->content;
        k->version = a->attr.version;
        k->ino = a->attr.ino;
    } else if (a->result.code == KV_OK && (op->kind == OP_SET || op->kind == OP_CAS)) {
        k->content = linear_fold(LINEAR_EMPTY, op->id);
        k->version = a->result.attr.version;
        k->ino = a->result.attr.ino;
    } else {
        k->sure = false;
        if (a->result.code == KV_E_STALE)
            k->ino = 0;
    }
}

static void session_lost(struct client *c)
{
    trace("client %d: its session has ended", c->id);
    counters.sessions_lost++;
    c->session = 0;
    if (c->op != NULL)
        finish(c, c->doubt ? OUTCOME_OPEN : OUTCOME_NONE, KV_E_SESSION);
}

static void on_result(struct client *c, const struct answer *a)
{
    const struct command_result *result = &a->result;
    struct op *op = c->op;

    if (c->registering) {
        if (result->code != KV_OK) {
            retry(c);
            return;
        }
        c->registering = false;
        c->session = result->session;
        c->seq = 0;
        c->attempt++;
        begin_later(c);
    } else if (result->code == KV_E_SESSION) {
        session_lost(c);
    } else if (result->code == KV_E_PART) {
        c->part = 0;
        retry(c);
    } else if (result->code == KV_E_DUPLICATE && !c->sessionless) {
        violation("client %d: the number %lu counts as acknowledged", c->id, c->seq);
    } else if (result->code == KV_E_DUPLICATE || result->code == KV_E_BUSY) {
        retry(c);
    } else if (c->part < c->n_parts) {
        c->part++;
        c->attempt++;
        ask(c);
    } else {
        truth_check_answer(op, result);
        truth_heard(result->revision);
        op->revision = result->revision;
        learn(c, op, a);
        finish(c, OUTCOME_ANSWERED, result->code);
    }
}

static void on_answer(struct host *none, void *arg, uint64_t number)
{
    struct answer *a = arg;
    struct client *c = a->client;

    if (a->attempt != c->attempt) {
        free(a);
        return;
    }
    if (a->code == KV_OK && a->has_result) {
        on_result(c, a);
    } else if (a->code == KV_OK) {
        truth_heard(a->applied);
        c->op->content = a->content;
        c->op->revision = a->applied;
        learn(c, c->op, a);
        finish(c, OUTCOME_ANSWERED, KV_OK);
    } else if (a->code == KV_E_SESSION) {
        session_lost(c);
    } else if (a->code == KV_E_DUPLICATE) {
        violation("client %d: the number %lu counts as acknowledged", c->id, c->seq);
    } else {
        if (a->code != KV_E_UNAVAILABLE && a->code != KV_E_ROFS && a->code != KV_E_BUSY)
            c->doubt = true;
        retry(c);
    }
    free(a);
}

/* ---- beginning ---- */

static void register_session(struct client *c)
{
    struct command_body body = {.nonce = c->nonce, .name = (const uint8_t *)"client", .name_len = 6};

    for (size_t i = 0; i < sizeof c->nonce; i++)
        c->nonce[i] = (uint8_t)rnd();
    c->registering = true;
    c->command = COMMAND_REGISTER;
    buffer_clear(&c->body);
    command_body_encode(&c->body, COMMAND_REGISTER, &body);
}

static void begin(struct host *none, void *arg, uint64_t number)
{
    struct client *c = arg;
    struct op *op;

    if (c->op != NULL || c->registering || stopping)
        return;
    c->attempt++;
    c->tries = 0;
    c->tries_max = (unsigned)rnd_range(2, 10);
    c->doubt = false;
    c->part = c->n_parts = 0;
    if (!c->sessionless && c->session == 0) {
        register_session(c);
        ask(c);
        return;
    }
    op = c->op = op_new(c);
    op_choose(op, c->known);
    if (world.short_sessions && c->id == 1) {
        world.short_sessions = false;
        op->kind = OP_EXPIRE;
        op->in_parts = false;
    }
    if (op->kind == OP_GET) {
        c->floor = truth_acknowledged();
    } else {
        c->seq++;
        buffer_clear(&c->body);
        op_body(op, &c->body, &c->command);
        if (op->in_parts) {
            c->piece = (size_t)rnd_range(20, (int64_t)c->body.len / 2 + 20) + c->body.len / 40;
            c->n_parts = c->body.len / c->piece;
        }
    }
    trace("client %d: op %lu %s, at n%d", c->id, op->id, op_text(op), c->host);
    ask(c);
}

void clients_start(void)
{
    int64_t think = rnd_range(2 * MS, 200 * MS);

    stopping = false;
    n_clients = (int)rnd_range(2, MAX_CLIENTS);
    for (int i = 0; i < n_clients; i++) {
        struct client *c = &clients[i];

        c->id = i + 1;
        c->host = (int)rnd_range(1, world.n);
        c->sessionless = !options.sessions_only && rnd_chance(0.25);
        c->think = rnd_chance(0.1) ? 15 * SECOND : think;
        c->timeout = rnd_range(300 * MS, rnd_chance(0.5) ? 2 * SECOND : 12 * SECOND);
        begin_later(c);
    }
}

void clients_stop(void)
{
    stopping = true;
}

bool clients_idle(void)
{
    for (int i = 0; i < n_clients; i++)
        if (clients[i].op != NULL)
            return false;
    return true;
}

void clients_free(void)
{
    while (!LIST_EMPTY(&requests))
        request_free(LIST_FIRST(&requests));
    for (int i = 0; i < n_clients; i++)
        buffer_deinit(&clients[i].body);
    memset(clients, 0, sizeof clients);
    for (size_t i = 0; i < n_ops; i++)
        free(ops[i]);
    n_ops = 0;
}
