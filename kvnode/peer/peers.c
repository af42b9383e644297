#include "kvnode/peer/peers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/peer/door.h"
#include "kvnode/peer/members.h"
#include "kvnode/peer/peers_internal.h"
#include "sync/wire/frame.h"

/* Raft messages beyond this are dropped: the core sends them again. */
#define DROP_AT (32 * 1024 * 1024)

struct peer *peers_by_id(const struct peers *p, uint64_t id)
{
    size_t i;

    for (i = 0; i < p->n; i++)
        if (p->all[i].view.id == id)
            return &p->all[i];
    return NULL;
}

bool peers_is_up(const struct peer *peer)
{
    return peer->connection != NULL && peer->connection->hello;
}

const struct config *peers_config(const struct peers *p)
{
    return p->owner.self->config;
}

/* ---- frames out ---- */

struct buffer *peers_frame_begin(struct peer *peer, uint16_t group, enum peer_frame type, uint64_t id)
{
    struct buffer *b = stream_output(peer->connection->stream);

    peer->sending = peer->connection;
    peer->frame = frame_begin(b, (uint8_t)type, group, id);
    return b;
}

void peers_frame_end(struct peer *peer)
{
    struct buffer *b = stream_output(peer->sending->stream);

    frame_end(b, peer->frame);
    peer->sending = NULL;
}

/* ---- what a group asks ---- */

static struct buffer *link_begin(void *arg, uint16_t group, uint64_t id, enum peer_frame type,
                                 uint64_t frame_id)
{
    const struct peers *p = arg;
    struct peer *peer = peers_by_id(p, id);

    if (peer == NULL || !peers_is_up(peer) || stream_pending(peer->connection->stream) > DROP_AT)
        return NULL;
    if ((type == PEER_RAFT || type == PEER_LEASE) && door_shut(p->owner.door, id, NULL))
        return NULL;
    return peers_frame_begin(peer, group, type, frame_id);
}

static void link_end(void *arg, uint64_t id)
{
    peers_frame_end(peers_by_id(arg, id));
}

static size_t pending(const struct peer *peer)
{
    return peer != NULL && peers_is_up(peer) ? stream_pending(peer->connection->stream) : 0;
}

static size_t link_pending(void *arg, uint64_t id)
{
    return pending(peers_by_id(arg, id));
}

static size_t link_pending_most(void *arg)
{
    const struct peers *p = arg;
    size_t i, most = 0;

    for (i = 0; i < p->n; i++)
        if (pending(&p->all[i]) > most)
            most = pending(&p->all[i]);
    return most;
}

static bool link_up(void *arg, uint64_t id)
{
    const struct peer *peer = peers_by_id(arg, id);

    return peer != NULL && peers_is_up(peer);
}

static bool link_can_send(void *arg, uint64_t id)
{
    const struct peer *peer = peers_by_id(arg, id);

    return peer != NULL && peers_is_up(peer) && pending(peer) <= DROP_AT;
}

static unsigned link_up_count(void *arg)
{
    const struct peers *p = arg;
    unsigned up = 0;
    size_t i;

    for (i = 0; i < p->n; i++)
        up += peers_is_up(&p->all[i]) && !door_shut(p->owner.door, p->all[i].view.id, NULL);
    return up;
}

struct glances {
    void *to;
    void (*emit)(void *to, const struct peer_glance *peer);
};

static void glance(void *arg, const struct peer_view *view)
{
    const struct glances *g = arg;
    struct peer_glance peer = {.id = view->id,
                               .applied = view->status.applied,
                               .up = view->up,
                               .fresh = view->fresh,
                               .damaged = (view->status.flags & PEER_FLAG_DAMAGED) != 0,
                               .stateless = (view->status.flags & PEER_FLAG_STATELESS) != 0,
                               .useless = (view->status.health.flags & HEALTH_USELESS) != 0,
                               .clock_off = (view->status.health.flags & HEALTH_CLOCK_OFF) != 0};

    g->emit(g->to, &peer);
}

static void link_each(void *arg, void *to, void (*emit)(void *to, const struct peer_glance *peer))
{
    struct glances g = {to, emit};

    peers_each(arg, &g, glance);
}

static uint64_t link_level(void *arg)
{
    const struct peers *p = arg;
    struct members members;

    members_look(p->owner.self, &members);
    return members_level(&members);
}

/* A peer that has never told anything is down, and has not promised anything; what one told last counts also
 * while it is down. */
static uint64_t link_election(void *arg)
{
    const struct peers *p = arg;
    uint64_t least = UINT64_MAX;

    for (size_t i = 0; i < p->n; i++) {
        const struct peer_view *v = &p->all[i].view;

        if ((v->status_ms != 0 || peers_is_up(&p->all[i])) && v->status.health.election_ms < least)
            least = v->status.health.election_ms;
    }
    return least;
}

struct peer_links peers_links(struct peers *p)
{
    return (struct peer_links){.arg = p,
                               .begin = link_begin,
                               .end = link_end,
                               .up = link_up,
                               .up_count = link_up_count,
                               .can_send = link_can_send,
                               .pending = link_pending,
                               .pending_most = link_pending_most,
                               .each = link_each,
                               .level = link_level,
                               .election_ms = link_election};
}

/* ---- life ---- */

int peers_start(const struct peers_owner *owner, struct peers **out, char *why)
{
    const struct config *config = owner->self->config;
    struct peers *p = calloc(1, sizeof *p);
    size_t i;

    *out = NULL;
    if (p == NULL)
        return -ENOMEM;
    p->owner = *owner;
    p->n = config->n_peers;
    p->route = (struct route){.door = owner->door, .group = owner->group, .arg = owner->arg};
    peers_status_hear(p);
    door_hear_peers(owner->door, &p->route.nodes);
    p->all = calloc(p->n > 0 ? p->n : 1, sizeof *p->all);
    if (p->all == NULL) {
        free(p);
        return -ENOMEM;
    }
    for (i = 0; i < p->n; i++) {
        struct peer *peer = &p->all[i];

        peer->peers = p;
        peer->config = &config->peers[i];
        peer->new_fd = -1;
        snprintf(peer->address, sizeof peer->address, strchr(peer->config->host, ':') ? "[%s]:%u" : "%s:%u",
                 peer->config->host, peer->config->port);
        peer->view.id = peer->config->id;
        peer->view.name = peer->config->name;
        peer->view.address = peer->address;
        snprintf(peer->view.error, sizeof peer->view.error, "not linked yet");
    }
    *out = p;
    return peers_connections_open(p, why);
}

void peers_stop(struct peers *p)
{
    if (p != NULL)
        peers_connections_close(p);
}

void peers_free(struct peers *p)
{
    if (p == NULL)
        return;
    peers_connections_free(p);
    free(p->all);
    free(p);
}

void peers_beat(struct peers *p, uint64_t now_ms)
{
    peers_connections_beat(p, now_ms);
    peers_status_beat(p, now_ms);
}
