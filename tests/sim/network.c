#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

static struct {
    double loss, repetition;
    int64_t delay_min, delay_max;
    bool fifo;
    int64_t last_arrival[MAX_NODES + 1][MAX_NODES + 1];
} network;

void network_reset(void)
{
    memset(&network, 0, sizeof network);
}

void network_random(void)
{
    int side[MAX_NODES + 1];
    int a = (int)rnd_range(1, MAX_NODES);

    memset(world.cut, 0, sizeof world.cut);
    for (int i = 1; i <= MAX_NODES; i++)
        side[i] = (int)rnd_range(0, 1);
    switch (rnd_range(0, 5)) {
    case 0:
        break;
    case 1: /* odd against even */
        for (int i = 1; i <= MAX_NODES; i++)
            for (int k = 1; k <= MAX_NODES; k++)
                world.cut[i][k] = i % 2 != k % 2;
        break;
    case 2: /* one alone */
        for (int k = 1; k <= MAX_NODES; k++)
            world.cut[a][k] = world.cut[k][a] = true;
        break;
    case 3: /* one way only */
        for (int k = 1; k <= MAX_NODES; k++)
            *(rnd_chance(0.5) ? &world.cut[a][k] : &world.cut[k][a]) = true;
        break;
    case 4:
        for (int i = 1; i <= MAX_NODES; i++)
            for (int k = 1; k <= MAX_NODES; k++)
                world.cut[i][k] = rnd_chance(0.2);
        break;
    case 5: /* two parts */
        for (int i = 1; i <= MAX_NODES; i++)
            for (int k = 1; k <= MAX_NODES; k++)
                world.cut[i][k] = side[i] != side[k];
        break;
    }
    network.loss = rnd_chance(0.5) ? 0 : (double)rnd_range(0, 20) / 100.0;
    network.repetition = rnd_chance(0.5) || options.fifo ? 0 : (double)rnd_range(0, 10) / 100.0;
    network.delay_min = rnd_range(0, 5);
    network.delay_max = network.delay_min + (rnd_chance(0.2) ? rnd_range(0, 400) : rnd_range(0, 30));
    network.fifo = options.fifo || rnd_chance(0.5);
    trace("another network: loss %.2f, delay %ld..%ld ms%s", network.loss, network.delay_min,
          network.delay_max, network.fifo ? ", in order" : "");
}

static void put(struct engine_message *m)
{
    int64_t delay = world.healed ? rnd_range(1, 5) : rnd_range(network.delay_min, network.delay_max);
    int64_t at;

    if (!world.healed && rnd_chance(0.01))
        delay += rnd_range(0, 3000);
    at = world.now + delay;
    if (world.healed || network.fifo) {
        if (at < network.last_arrival[m->from][m->to])
            at = network.last_arrival[m->from][m->to];
        network.last_arrival[m->from][m->to] = at;
    }
    events_push(at, EVENT_MESSAGE, 0, m);
}

static void trace_message(const char *what, const struct engine_message *m)
{
    char text[160];

    if (options.verbose < 2)
        return;
    message_format(m, text, sizeof text);
    trace("%s %s", what, text);
}

void network_send(struct node *from, struct engine_message *m)
{
    counters.messages++;
    if (m->type == RAFT_MESSAGE_INSTALL || m->to == 0 || m->to > MAX_NODES || m->from != (uint64_t)from->id)
        violation("node %d sends a message of type %d to %lu", from->id, m->type, m->to);
    trace_message("sends  ", m);
    truth_on_acknowledge(from, m);
    if (!world.healed && (world.cut[m->from][m->to] || rnd_chance(network.loss))) {
        counters.lost++;
        message_free(m);
        return;
    }
    if (!world.healed && rnd_chance(network.repetition))
        put(message_copy(m));
    put(m);
}

/* Every message goes through its bytes. */
static struct engine_message *over_the_wire(struct engine_message *m)
{
    struct engine_message *decoded = NULL;
    struct buffer b = BUFFER_INIT;

    message_encode(m, &b);
    if (message_decode(b.data, b.len, &decoded) != 0)
        violation("a message of type %d does not survive its encoding", m->type);
    buffer_deinit(&b);
    message_free(m);
    return decoded;
}

static void deliver(struct engine_message *m)
{
    struct node *n = &world.nodes[m->to];

    if (!n->up || (!world.healed && world.cut[m->from][m->to])) {
        message_free(m);
        return;
    }
    trace_message("receives", m);
    m = over_the_wire(m);
    node_check(n, engine_receive(n->engine, node_clock(n), m), "receive");
}

/* ---- snapshot transfers ---- */

void transfer_free(struct transfer *t)
{
    snapshot_meta_deinit(&t->meta);
    free(t);
}

void network_request_snapshot(struct node *from, uint64_t to)
{
    struct transfer *t = calloc(1, sizeof *t);

    if (t == NULL)
        abort();
    t->from = from->id;
    t->to = (int)to;
    t->from_epoch = from->epoch;
    t->term = engine_term(from->engine);
    counters.transfers_begun++;
    events_push(world.now + rnd_range(0, 100), EVENT_SNAPSHOT_FILE, from->id, t);
}

static bool sender_lives(const struct transfer *t)
{
    return world.nodes[t->from].up && world.nodes[t->from].epoch == t->from_epoch;
}

/* The sender copies its state at whatever index it has applied by now. */
static void make_file(struct transfer *t)
{
    struct node *n = &world.nodes[t->from];
    int result;

    if (!sender_lives(t)) {
        transfer_free(t);
        return;
    }
    t->file = n->state;
    result = node_leads(n) ? engine_snapshot_meta(n->engine, n->state.applied, &t->meta) : 1;
    if (result == 0 && engine_pin_log(n->engine, t->meta.index) != 0) {
        snapshot_meta_deinit(&t->meta);
        result = 1;
    }
    if (result != 0) {
        engine_snapshot_failed(n->engine, (uint64_t)t->to);
        transfer_free(t);
        return;
    }
    trace("node %d sends its state at %lu to node %d", t->from, t->meta.index, t->to);
    events_push(world.now + rnd_range(5, world.healed ? 50 : 1500), EVENT_SNAPSHOT_ARRIVES, 0, t);
}

static void arrive(struct transfer *t)
{
    struct node *n = &world.nodes[t->to];
    struct engine_message *m;

    if (!n->up || (!world.healed && (world.cut[t->from][t->to] || world.cut[t->to][t->from]))) {
        if (t->repeated) {
            transfer_free(t);
        } else if (++t->tries > 5) {
            events_push(world.now + 1, EVENT_SNAPSHOT_FAILED, 0, t);
        } else { /* the link comes back, the transfer goes on where it was */
            events_push(world.now + rnd_range(50, 1000), EVENT_SNAPSHOT_ARRIVES, 0, t);
        }
        return;
    }
    m = message_new_install((uint64_t)t->from, (uint64_t)t->to, t->term, &t->meta);
    if (m == NULL)
        abort();
    trace_message("receives", m);
    n->arriving = &t->file;
    node_check(n, engine_receive(n->engine, node_clock(n), m), "receive install");
    n->arriving = NULL;
    if (t->repeated) {
        transfer_free(t);
        return;
    }
    if (!world.healed && rnd_chance(0.1)) {
        struct transfer *again = malloc(sizeof *again);

        if (again == NULL)
            abort();
        *again = *t;
        snapshot_meta_copy(&t->meta, &again->meta);
        again->repeated = true;
        events_push(world.now + rnd_range(0, 2000), EVENT_SNAPSHOT_ARRIVES, 0, again);
    }
    events_push(world.now + rnd_range(1, 50),
                !world.healed && rnd_chance(0.1) ? EVENT_SNAPSHOT_FAILED : EVENT_SNAPSHOT_FINISHED, 0, t);
}

static void finish(struct transfer *t, bool sent)
{
    struct node *n = &world.nodes[t->from];

    if (sender_lives(t)) {
        engine_unpin_log(n->engine, t->meta.index);
        if (sent)
            engine_snapshot_sent(n->engine, node_clock(n), (uint64_t)t->to);
        else
            engine_snapshot_failed(n->engine, (uint64_t)t->to);
    }
    transfer_free(t);
}

void network_on_event(struct event *e)
{
    switch (e->type) {
    case EVENT_MESSAGE:
        deliver(e->data);
        break;
    case EVENT_SNAPSHOT_FILE:
        make_file(e->data);
        break;
    case EVENT_SNAPSHOT_ARRIVES:
        arrive(e->data);
        break;
    case EVENT_SNAPSHOT_FINISHED:
        finish(e->data, true);
        break;
    case EVENT_SNAPSHOT_FAILED:
        finish(e->data, false);
        break;
    default:
        break;
    }
}
