/* Clients: each does one thing after the other. With a session, what is not
 * answered is asked again under its number, of any node; without, its outcome is
 * then unknown. */
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"
#include "tests/sim/whole/client.h"
#include "tests/sim/whole/linear.h"

#define MAX_CLIENTS 12
#define CALM_TIMEOUT (9 * SECOND)

static struct client clients[MAX_CLIENTS];
static int n_clients;
static bool stopping;

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
    if (world.calm)
        c->host = c->host % world.n + 1; /* down its list: chance would find a dead node for ever */
    else if (rnd_chance(0.7))
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
    int64_t timeout = world.calm ? CALM_TIMEOUT : c->timeout;

    if (!h->up) {
        retry(c);
        return;
    }
    request_send(c);
    queue_at(world.now + timeout, NULL, on_timeout, c, c->attempt, NULL);
}

static void learn(struct client *c, const struct op *op, const struct answer *a)
{
    struct known *k = &c->known[op->object];

    if (op->object >= N_PLAIN || op_is_aside(op))
        return;
    k->sure = true;
    if (op_is_txn(op)) { /* tells nothing of the key */
        k->sure = false;
        k->ino = 0;
    } else if (op->kind == OP_GET) {
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

void client_answered(struct host *none, void *arg, uint64_t number)
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
    requests_free();
    for (int i = 0; i < n_clients; i++)
        buffer_deinit(&clients[i].body);
    memset(clients, 0, sizeof clients);
    for (size_t i = 0; i < n_ops; i++)
        free(ops[i]);
    n_ops = 0;
}
