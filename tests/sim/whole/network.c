/* peer_links.h over simulated links. A link is a connection between two hosts, dialled
 * by the lower id like in kvnode/peer/peers.c: in each direction frames arrive in order
 * or not at all. A cut holds frames back, like TCP; silence then makes a side give
 * the link up, and what was under way is lost. */
#include <stdlib.h>
#include <string.h>

#include "kvnode/peer/door.h"
#include "kvnode/peer/route.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/wire/feature.h"
#include "sync/wire/peer_frame.h"
#include "tests/sim/whole/whole.h"

#define SILENT_MS 3000
#define HELLO_MS 5000
#define FRAME_END 0 /* the other side has closed */

struct frame_in_flight {
    uint16_t group;
    uint8_t type;
    uint64_t connection, id;
    int64_t at;
    struct buffer payload;
    STAILQ_ENTRY(frame_in_flight) link;
};

struct direction {
    STAILQ_HEAD(, frame_in_flight) frames;
    bool scheduled;
    int64_t last_at;
    size_t bytes;
};

/* One end of a link. */
struct side {
    uint64_t connection; /* 0: none */
    bool up;             /* after its HELLO */
    uint64_t opened_ms, heard_ms;
    struct frame_in_flight *sending;
};

struct peers {
    struct host *host;
    struct route route;
    struct side sides[MAX_HOSTS + 1];
};

static struct {
    struct direction directions[MAX_HOSTS + 1][MAX_HOSTS + 1]; /* from, to */
    bool cut[MAX_HOSTS + 1][MAX_HOSTS + 1];
    int64_t delay_min, delay_max;
    uint64_t next_connection;
    struct frame_in_flight *in_hand; /* being handled: freed later, even if the node dies of it */
} network;

static void frame_drop(struct frame_in_flight *f)
{
    if (f != NULL)
        buffer_deinit(&f->payload);
    free(f);
}

static void direction_clear(struct direction *d)
{
    struct frame_in_flight *f;

    while ((f = STAILQ_FIRST(&d->frames)) != NULL) {
        STAILQ_REMOVE_HEAD(&d->frames, link);
        frame_drop(f);
    }
    d->bytes = 0;
}

void network_reset(void)
{
    memset(&network, 0, sizeof network);
    for (int a = 0; a <= MAX_HOSTS; a++)
        for (int b = 0; b <= MAX_HOSTS; b++)
            STAILQ_INIT(&network.directions[a][b].frames);
    network.delay_max = 2 * MS;
}

void network_free(void)
{
    for (int a = 0; a <= MAX_HOSTS; a++)
        for (int b = 0; b <= MAX_HOSTS; b++)
            direction_clear(&network.directions[a][b]);
    frame_drop(network.in_hand);
    network.in_hand = NULL;
}

/* ---- frames under way ---- */

static void arrive(struct host *to, void *arg, uint64_t from);

static void schedule(struct direction *d, int from, struct host *to)
{
    struct frame_in_flight *f = STAILQ_FIRST(&d->frames);

    if (f == NULL || d->scheduled || !to->up)
        return;
    d->scheduled = true;
    queue_at(f->at, to, arrive, NULL, (uint64_t)from, NULL);
}

static void put(int from, int to, struct frame_in_flight *f)
{
    struct direction *d = &network.directions[from][to];
    int64_t delay = world.calm ? rnd_range(50, 2 * MS) : rnd_range(network.delay_min, network.delay_max);

    counters.frames++;
    f->at = world.now + delay + (int64_t)f->payload.len / 100;
    if (f->at < d->last_at)
        f->at = d->last_at;
    d->last_at = f->at;
    d->bytes += f->payload.len;
    STAILQ_INSERT_TAIL(&d->frames, f, link);
    schedule(d, from, &world.hosts[to]);
}

static struct frame_in_flight *frame_new(uint8_t type, uint64_t connection, uint64_t id)
{
    struct frame_in_flight *f = calloc(1, sizeof *f);

    if (f == NULL)
        abort();
    f->type = type;
    f->connection = connection;
    f->id = id;
    return f;
}

/* ---- a link's life ---- */

static void put_hello(struct host *h, int peer, uint64_t connection)
{
    struct frame_in_flight *f = frame_new(PEER_HELLO, connection, 0);

    door_put_hello(h->node.door, &f->payload);
    put(h->id, peer, f);
}

static void dial(struct host *h, void *arg, uint64_t peer);

static void dial_later(struct host *h, int peer)
{
    if (h->id < peer)
        queue_at(world.now + rnd_range(20 * MS, world.calm ? 200 * MS : SECOND), h, dial, NULL,
                 (uint64_t)peer, NULL);
}

static void dial(struct host *h, void *arg, uint64_t peer)
{
    struct side *s = &h->node.peers->sides[peer];
    struct host *other = &world.hosts[peer];

    if (s->connection != 0)
        return;
    if (!other->up || other->paused_until > world.now || network.cut[h->id][peer] ||
        network.cut[peer][h->id]) {
        dial_later(h, (int)peer);
        return;
    }
    s->connection = ++network.next_connection;
    s->opened_ms = s->heard_ms = clock_boot_ms();
    put_hello(h, (int)peer, s->connection);
}

/* This end closes; the other hears of it if the way is free. */
static void close_side(struct host *h, int peer, bool tell)
{
    struct side *s = &h->node.peers->sides[peer];

    if (s->connection == 0)
        return;
    if (tell)
        put(h->id, peer, frame_new(FRAME_END, s->connection, 0));
    if (s->up)
        trace("n%d: the link with n%d is lost", h->id, peer);
    s->connection = 0;
    s->up = false;
    dial_later(h, peer);
}

static struct buffer *link_begin(void *arg, uint16_t group, uint64_t peer, enum peer_frame type, uint64_t id)
{
    struct peers *p = arg;
    struct side *s = &p->sides[peer];

    if (peer == 0 || peer > MAX_HOSTS || !s->up ||
        ((type == PEER_RAFT || type == PEER_LEASE) && door_shut(p->host->node.door, peer, NULL)))
        return NULL;
    s->sending = frame_new((uint8_t)type, s->connection, id);
    s->sending->group = group;
    return &s->sending->payload;
}

static void link_end(void *arg, uint64_t peer)
{
    struct peers *p = arg;
    struct side *s = &p->sides[peer];

    put(p->host->id, (int)peer, s->sending);
    s->sending = NULL;
}

/* Of what a node says of itself only the time of day; the rest is looked up, see link_each(). */
static void send_status(struct host *h, int peer)
{
    struct buffer *b = link_begin(h->node.peers, PEER_NO_GROUP, (uint64_t)peer, PEER_STATUS, 0);

    if (b == NULL)
        return;
    buffer_put_u64(b, store_applied(h->node.group->store));
    buffer_put_u64(b, clock_wall_ns());
    link_end(h->node.peers, (uint64_t)peer);
}

static int on_status(void *arg, uint64_t peer, const struct frame *frame)
{
    struct cursor in = cursor_of(frame->payload + 8, frame->len - 8);
    struct host *h = arg;

    skew_hear(&h->node.clock.skew, peer, (int64_t)(cursor_u64(&in) - clock_wall_ns()), clock_boot_ms());
    return 0;
}

static void on_hello(struct host *h, int from, const struct frame_in_flight *f)
{
    struct side *s = &h->node.peers->sides[from];
    struct cursor in = cursor_of(f->payload.data, f->payload.len);
    uint64_t connection = f->connection;

    if (!door_take_hello(h->node.door, (uint64_t)from, &in))
        violation("n%d takes the HELLO of n%d for malformed", h->id, from);

    if (s->connection != connection) { /* they dialled us; the newer one counts */
        s->connection = connection;
        s->up = false;
        s->opened_ms = clock_boot_ms();
    }
    s->heard_ms = clock_boot_ms();
    s->up = true;
    if (from < h->id)
        put_hello(h, from, connection);
    counters.links++;
    trace("n%d is linked with n%d", h->id, from);
    send_status(h, from);
    group_linked(h->node.group, (uint64_t)from);
}

static void on_frame(struct host *h, uint64_t from, const struct frame_in_flight *f)
{
    const struct frame frame = {
        .type = f->type, .group = f->group, .id = f->id, .payload = f->payload.data, .len = f->payload.len};

    if (route_take(&h->node.peers->route, from, &frame) == KV_E_PROTOCOL)
        violation("n%d takes a frame of type %u from n%lu for malformed", h->id, f->type, from);
}

/* The bug that can be planted: nobody is shut out, and nobody is let in either (route_of()). */
bool __real_door_shut(const struct door *d, uint64_t peer, const char **why_out);
bool __wrap_door_shut(const struct door *d, uint64_t peer, const char **why_out);
bool __wrap_door_shut(const struct door *d, uint64_t peer, const char **why_out)
{
    return options.plant != PLANT_DOOR_OPEN && __real_door_shut(d, peer, why_out);
}

static const struct peer_handlers *group(void *arg, uint16_t number)
{
    struct host *h = arg;

    return number == NODE_GROUP ? &h->node.group->handlers : NULL;
}

static struct route route_of(struct host *h)
{
    struct route r = {.door = h->node.door, .group = group, .arg = h};

    peer_handlers_enter(&r.nodes, PEER_STATUS, on_status, h);
    door_hear_peers(h->node.door, &r.nodes);
    if (options.plant == PLANT_DOOR_OPEN)
        r.nodes.of[PEER_ADMISSION - PEER_FIRST].take = NULL;
    return r;
}

static void arrive(struct host *to, void *arg, uint64_t from)
{
    struct direction *d = &network.directions[from][to->id];
    struct side *s = &to->node.peers->sides[from];
    struct frame_in_flight *f = STAILQ_FIRST(&d->frames);

    d->scheduled = false;
    if (f == NULL)
        return;
    if (network.cut[from][to->id]) {
        d->scheduled = true;
        queue_at(world.now + 10 * MS, to, arrive, NULL, from, NULL);
        return;
    }
    if (f->at > world.now) { /* what it was scheduled for is gone */
        schedule(d, (int)from, to);
        return;
    }
    STAILQ_REMOVE_HEAD(&d->frames, link);
    d->bytes -= f->payload.len;
    frame_drop(network.in_hand);
    network.in_hand = f;
    schedule(d, (int)from, to);
    if (options.plant == PLANT_LOST_FRAME && f->type == PEER_COMMAND && rnd_chance(0.02))
        return;
    if (options.verbose > 1)
        trace("n%d <- n%lu: frame %u, %zu bytes%s", to->id, from, f->type, f->payload.len,
              f->connection != s->connection ? ", of another link" : "");
    if (f->type == PEER_HELLO &&
        (from < (uint64_t)to->id ? f->connection > s->connection : f->connection == s->connection)) {
        on_hello(to, (int)from, f);
        return;
    }
    if (f->connection != s->connection || f->type == PEER_HELLO) {
        if (f->type != PEER_HELLO && f->type != FRAME_END) /* nobody is at this end of it: a reset */
            put(to->id, (int)from, frame_new(FRAME_END, f->connection, 0));
        return;
    }
    s->heard_ms = clock_boot_ms();
    if (f->type == FRAME_END)
        close_side(to, (int)from, false);
    else if (s->up)
        on_frame(to, from, f);
}

/* ---- what is asked of the links ---- */

static size_t link_pending(void *arg, uint64_t peer)
{
    const struct peers *p = arg;

    return p->sides[peer].up ? network.directions[p->host->id][peer].bytes : 0;
}

static size_t link_pending_most(void *arg)
{
    size_t most = 0;

    for (uint64_t i = 1; i <= MAX_HOSTS; i++)
        if (link_pending(arg, i) > most)
            most = link_pending(arg, i);
    return most;
}

static bool link_up(void *arg, uint64_t peer)
{
    const struct peers *p = arg;

    return peer > 0 && peer <= MAX_HOSTS && p->sides[peer].up;
}

/* Nodes of one build. */
static uint64_t link_level(void *arg)
{
    (void)arg;
    return FEATURE_LEVEL;
}

static uint64_t link_election(void *arg)
{
    const struct peers *p = arg;

    return p->host->node.config->election_ms;
}

static unsigned link_up_count(void *arg)
{
    const struct peers *p = arg;
    unsigned n = 0;

    for (int i = 1; i <= world.n; i++)
        n += p->sides[i].up && !door_shut(p->host->node.door, (uint64_t)i, NULL);
    return n;
}

static void link_each(void *arg, void *to, void (*emit)(void *to, const struct peer_glance *peer))
{
    const struct peers *p = arg;

    for (int i = 1; i <= world.n; i++) {
        struct peer_glance peer = {.id = (uint64_t)i, .up = p->sides[i].up, .fresh = p->sides[i].up};

        if (&world.hosts[i] == p->host)
            continue;
        if (peer.up && world.hosts[i].up) {
            const struct node *other = &world.hosts[i].node;

            peer.damaged = other->group->condition == CONDITION_MENDING;
            peer.stateless = !group_serves(other->group);
            peer.applied = store_applied(other->group->store);
            /* Of HEALTH_USELESS what there is here. */
            peer.useless = peer.damaged || peer.stateless || door_standing(other->door) != STANDING_MEMBER;
        }
        emit(to, &peer);
    }
}

static struct peer_links links_of(struct peers *p)
{
    return (struct peer_links){.arg = p,
                               .begin = link_begin,
                               .end = link_end,
                               .up = link_up,
                               .up_count = link_up_count,
                               .can_send = link_up,
                               .pending = link_pending,
                               .pending_most = link_pending_most,
                               .each = link_each,
                               .election_ms = link_election,
                               .level = link_level};
}

void peers_beat(struct peers *p, uint64_t now_ms)
{
    for (int i = 1; i <= world.n; i++) {
        struct side *s = &p->sides[i];

        if (s->connection == 0)
            continue;
        if (now_ms - (s->up ? s->heard_ms : s->opened_ms) > (s->up ? SILENT_MS : HELLO_MS))
            close_side(p->host, i, true);
        else if (s->up)
            send_status(p->host, i);
    }
}

/* ---- hosts come and go ---- */

void network_start(struct host *h)
{
    h->node.peers = calloc(1, sizeof *h->node.peers);
    if (h->node.peers == NULL)
        abort();
    h->node.peers->host = h;
    h->node.peers->route = route_of(h);
    h->node.links = links_of(h->node.peers);
    for (int i = 1; i <= world.n; i++) {
        network.directions[i][h->id].scheduled = false;
        schedule(&network.directions[i][h->id], i, h);
        if (i > h->id)
            queue_at(world.now + rnd_range(0, 100 * MS), h, dial, NULL, (uint64_t)i, NULL);
    }
}

/* A dead process' kernel closes its connections; a machine without power says
 * nothing. */
void network_crash(struct host *h, bool power_cut)
{
    struct peers *p = h->node.peers;

    for (int i = 1; p != NULL && i <= world.n; i++) {
        struct direction *out = &network.directions[h->id][i];

        frame_drop(p->sides[i].sending);
        direction_clear(&network.directions[i][h->id]);
        network.directions[i][h->id].scheduled = false;
        if (power_cut || rnd_chance(0.5))
            direction_clear(out);
        if (!power_cut && p->sides[i].connection != 0)
            put(h->id, i, frame_new(FRAME_END, p->sides[i].connection, 0));
    }
    free(p);
    h->node.peers = NULL;
}

/* ---- faults ---- */

static void cut_one_way(int a)
{
    bool out = rnd_chance(0.5);

    for (int i = 1; i <= world.n; i++)
        if (i != a)
            *(out ? &network.cut[a][i] : &network.cut[i][a]) = true;
}

void network_random(void)
{
    int a = (int)rnd_range(1, world.n), side[MAX_HOSTS + 1];

    memset(network.cut, 0, sizeof network.cut);
    switch (rnd_range(0, 6)) {
    case 0: /* one alone */
        for (int i = 1; i <= world.n; i++)
            network.cut[a][i] = network.cut[i][a] = i != a;
        break;
    case 1:
        cut_one_way(a);
        break;
    case 2: /* two parts */
        for (int i = 1; i <= world.n; i++)
            side[i] = (int)rnd_range(0, 1);
        for (int i = 1; i <= world.n; i++)
            for (int k = 1; k <= world.n; k++)
                network.cut[i][k] = side[i] != side[k];
        break;
    case 3: /* holes */
        for (int i = 1; i <= world.n; i++)
            for (int k = 1; k <= world.n; k++)
                network.cut[i][k] = i != k && rnd_chance(0.25);
        break;
    default:
        break;
    }
    network.delay_min = rnd_range(20, 2 * MS);
    network.delay_max =
        network.delay_min + (rnd_chance(0.2) ? rnd_range(0, 300 * MS) : rnd_range(0, 10 * MS));
    trace("another network, delay %ld to %ld us", network.delay_min, network.delay_max);
    for (int i = 1; i <= world.n; i++)
        for (int k = 1; k <= world.n; k++)
            if (network.cut[i][k])
                trace("  n%d does not reach n%d", i, k);
}

/* Frames under way are lost, and one end, at least, hears of it. */
void network_break_some(void)
{
    int a = (int)rnd_range(1, world.n), b = (int)rnd_range(1, world.n);
    struct host *h = &world.hosts[a];

    if (a == b || !h->up || h->node.peers->sides[b].connection == 0)
        return;
    world.current = h;
    trace("the link between n%d and n%d breaks", a, b);
    direction_clear(&network.directions[a][b]);
    direction_clear(&network.directions[b][a]);
    close_side(h, b, rnd_chance(0.7));
}

void network_calm(void)
{
    memset(network.cut, 0, sizeof network.cut);
}
