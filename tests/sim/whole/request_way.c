/* Requests on their way to a node, kept by it, and their answers on the way back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/group/leases.h"
#include "kvnode/group/reads.h"
#include "kvnode/group/removal.h"
#include "kvnode/state/touch.h"
#include "sync/base/error.h"
#include "tests/sim/whole/client.h"

/* A request under way to a node, or kept by it. */
struct request {
    struct client *client;
    struct host *host;
    struct op *op; /* NULL: a registration */
    uint64_t attempt;
    bool leased; /* what it reads need not be of the newest revision */
    bool kept;   /* by the node's writes or reads */
    LIST_ENTRY(request) link;
};

static LIST_HEAD(, request) requests = LIST_HEAD_INITIALIZER(requests);

static void request_free(void *arg)
{
    struct request *r = arg;

    LIST_REMOVE(r, link);
    free(r);
}

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
    queue_at(world.now + rnd_range(10, 300), NULL, client_answered, a, 0, free);
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
        a->applied = store_applied(r->host->node.group->store);
        if (!r->leased && r->client->attempt == r->attempt && a->applied < r->client->floor &&
            options.plant != PLANT_STALE_READ) /* that one is left to the checker */
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

    if (c->op != NULL && (c->op->kind == OP_LOCK || c->op->kind == OP_FENCED))
        cmd.flags |= COMMAND_FENCE;
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
        buffer_put_u32(&part, (uint32_t)c->n_parts);
        buffer_put_bytes(&part, c->body.data + c->n_parts * c->piece, c->body.len - c->n_parts * c->piece);
        cmd.body = part.data;
        cmd.body_len = part.len;
    }
    rv = removal_start(h->node.group, &cmd, on_written, r);
    buffer_deinit(&part);
    if (rv != 0)
        send_answer(r, answer_new(r, rv));
}

/* As a connection does it. */
static void read_at(struct host *h, struct request *r)
{
    struct group *g = h->node.group;
    uint64_t index = 0;
    char path[32];

    if (!world.leases || !leases_current(g->leases)) {
        reads_start(g->reads, on_readable, r);
        return;
    }
    counters.leased++;
    r->leased = true;
    if (options.plant != PLANT_NO_WAIT) {
        op_path(r->op, r->op->a, path);
        index = touch_on_path(leases_touches(g->leases), g->store, path, strlen(path),
                              leases_forgotten(g->leases));
    }
    reads_start_behind(g->reads, index, on_readable, r);
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
        read_at(h, r);
    else
        write_at(h, r);
}

void request_send(struct client *c)
{
    struct host *h = &world.hosts[c->host];
    struct request *r = calloc(1, sizeof *r);

    if (r == NULL)
        abort();
    r->client = c;
    r->host = h;
    r->op = c->op;
    r->attempt = c->attempt;
    LIST_INSERT_HEAD(&requests, r, link);
    queue_at(world.now + rnd_range(10, 300), h, at_node, r, 0, request_lost);
}

void requests_free(void)
{
    while (!LIST_EMPTY(&requests))
        request_free(LIST_FIRST(&requests));
}
