#include "kvnode/peer/peers.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvnode/group/reads.h"
#include "kvnode/group/snapshots.h"
#include "kvnode/group/writes.h"
#include "kvnode/node/node_state.h"
#include "kvnode/peer/bridges.h"
#include "kvnode/peer/door.h"
#include "kvnode/peer/health_look.h"
#include "kvnode/peer/members.h"
#include "kvnode/peer/route.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"
#include "sync/ssh/identity.h"
#include "sync/ssh/link.h"
#include "sync/wire/peer_frame.h"

static_assert(PEER_NAME_MAX == SSH_PEER_NAME_MAX, "a HELLO has room for every name");

/* A peer that sends nothing for so many heartbeats is taken for dead. */
#define SILENT_BEATS 10
#define SILENT_MIN_MS 3000
/* A connection has this long to say HELLO; of more than so many that have not, the
 * oldest goes. */
#define HELLO_MS 5000
#define UNKNOWN_MAX 16
/* A peer that is back waits no longer than this for the one that dials it. */
#define BACKOFF_MAX_MS 1500
#define PAUSE_AT (64 * 1024 * 1024)
/* Raft messages beyond this are dropped: the core sends them again. */
#define DROP_AT (32 * 1024 * 1024)

struct connection {
    struct peers *peers; /* borrowed */
    struct peer *peer;   /* borrowed */
    struct stream *stream;
    int bridge; /* owned: the socket of the process that handed the stream over, or -1 */
    bool hello; /* received */
    bool evicted;
    uint64_t opened_ms, heard_ms;
    struct connection *next; /* in peers->connections */
};

struct peer {
    struct peers *peers; /* borrowed */
    const struct config_peer *config;
    char address[300];
    struct ssh_link *link;         /* owned; NULL: the peer dials us */
    struct connection *connection; /* the newest; NULL: none */
    struct connection *sending;    /* between peers_begin and peers_end */
    size_t frame;
    struct peer_view view;
    struct progress progress;

    /* From the link's thread, under peers->lock. */
    int new_fd; /* -1: none */
    char new_error[160];
    bool error_is_new;
};

struct peers {
    struct node *node; /* borrowed */
    struct peer *all;
    size_t n;
    struct progress own;
    struct connection *connections;
    struct bridges *bridges; /* owned */
    struct route route;
    uv_async_t wake;
    pthread_mutex_t lock;
    bool stopped;
};

static struct peer *peer_by_id(const struct peers *p, uint64_t id)
{
    size_t i;

    for (i = 0; i < p->n; i++)
        if (p->all[i].view.id == id)
            return &p->all[i];
    return NULL;
}

static struct peer *peer_by_name(const struct peers *p, const char *name)
{
    size_t i;

    for (i = 0; i < p->n; i++)
        if (strcmp(p->all[i].config->name, name) == 0)
            return &p->all[i];
    return NULL;
}

static bool is_up(const struct peer *peer)
{
    return peer->connection != NULL && peer->connection->hello;
}

/* ---- frames out ---- */

static struct buffer *begin(struct peer *peer, enum peer_frame type, uint64_t id)
{
    struct buffer *b = stream_output(peer->connection->stream);

    peer->sending = peer->connection;
    peer->frame = frame_begin(b, (uint8_t)type, NODE_GROUP, id);
    return b;
}

static void end(struct peer *peer)
{
    struct buffer *b = stream_output(peer->sending->stream);

    frame_end(b, peer->frame);
    peer->sending = NULL;
}

struct buffer *peers_begin(struct peers *p, uint64_t id, enum peer_frame type, uint64_t frame_id)
{
    struct peer *peer = peer_by_id(p, id);

    if (peer == NULL || !is_up(peer))
        return NULL;
    if (stream_pending(peer->connection->stream) > DROP_AT)
        return NULL;
    if (type == PEER_RAFT && door_shut(p->node->door, id, NULL))
        return NULL;
    return begin(peer, type, frame_id);
}

void peers_end(struct peers *p, uint64_t id)
{
    end(peer_by_id(p, id));
}

/* ---- what a group asks ---- */

static struct buffer *link_begin(void *arg, uint64_t id, enum peer_frame type, uint64_t frame_id)
{
    return peers_begin(arg, id, type, frame_id);
}

static void link_end(void *arg, uint64_t id)
{
    peers_end(arg, id);
}

static size_t pending(const struct peer *peer)
{
    return peer != NULL && is_up(peer) ? stream_pending(peer->connection->stream) : 0;
}

static size_t link_pending(void *arg, uint64_t id)
{
    return pending(peer_by_id(arg, id));
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
    const struct peer *peer = peer_by_id(arg, id);

    return peer != NULL && is_up(peer);
}

static bool link_can_send(void *arg, uint64_t id)
{
    const struct peer *peer = peer_by_id(arg, id);

    return peer != NULL && is_up(peer) && pending(peer) <= DROP_AT;
}

static unsigned link_up_count(void *arg)
{
    const struct peers *p = arg;
    unsigned up = 0;
    size_t i;

    for (i = 0; i < p->n; i++)
        up += is_up(&p->all[i]) && !door_shut(p->node->door, p->all[i].view.id, NULL);
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

    members_look(p->node, &members);
    return members_level(&members);
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
                               .level = link_level};
}

static void send_hello(struct connection *c)
{
    const struct config *config = c->peers->node->config;
    struct buffer *b = stream_output(c->stream);
    size_t frame = frame_begin(b, PEER_HELLO, NODE_GROUP, 0);

    peer_hello_encode(b, config->cluster_id, config->id, config->name);
    door_put_hello(c->peers->node->door, b);
    frame_end(b, frame);
}

static void send_status(struct peer *peer, const struct health *health)
{
    struct node *n = peer->peers->node;
    struct buffer *b = begin(peer, PEER_STATUS, 0);
    uint8_t role = consensus_is_leader(n->group->consensus)      ? PEER_LEADER
                   : consensus_is_candidate(n->group->consensus) ? PEER_CANDIDATE
                                                                 : PEER_FOLLOWER;

    peer_status_encode(b, &(struct peer_status){.role = role,
                                                .term = consensus_term(n->group->consensus),
                                                .applied = store_applied(n->group->store),
                                                .digest_index = store_applied(n->group->store),
                                                .digest = store_digest(n->group->store),
                                                .flags = (n->group->mending ? PEER_FLAG_DAMAGED : 0) |
                                                         (n->group->stateless ? PEER_FLAG_STATELESS : 0),
                                                .health = *health});
    end(peer);
}

/* ---- frames in ---- */

static void set_error(struct peer *peer, const char *text)
{
    snprintf(peer->view.error, sizeof peer->view.error, "%s", text);
}

/* Both sides are to know: who was dialled says its HELLO before it closes. */
static int refuse_rival(struct connection *c, uint64_t cluster)
{
    struct node *n = c->peers->node;
    struct peer *peer = c->peer;

    snprintf(peer->view.error, sizeof peer->view.error, "it belongs to cluster %016llx, this node to %016llx",
             (unsigned long long)cluster, (unsigned long long)n->config->cluster_id);
    if (rivals_hear(&n->rivals, peer->config->id, cluster, n->config->cluster_id))
        log_error("%s belongs to cluster %016llx, this node to %016llx: refused%s", peer->config->name,
                  (unsigned long long)cluster, (unsigned long long)n->config->cluster_id,
                  rivals_prevail(&n->rivals, n->config->n_peers + 1) ? ", and this node serves nobody" : "");
    if (peer->link != NULL)
        return -EPROTO;
    send_hello(c);
    stream_finish(c->stream);
    return 0;
}

static int on_hello(struct connection *c, struct cursor *in)
{
    const struct config *config = c->peers->node->config;
    struct peer *peer = c->peer;
    struct health health;
    struct peer_hello hello;

    if (!peer_hello_decode(in, &hello) || !hello.same_protocol) {
        set_error(peer, "it speaks another protocol");
        log_error("%s: speaks another protocol; refused", peer->config->name);
        return -EPROTO;
    }
    if (hello.cluster != config->cluster_id)
        return refuse_rival(c, hello.cluster);
    if (hello.id != peer->config->id || hello.name_len != strlen(peer->config->name) ||
        memcmp(hello.name, peer->config->name, hello.name_len) != 0) {
        set_error(peer, "its key is another node's");
        log_error("%s (id %u): the node behind this key says it is %.*s (id %u); refused", peer->config->name,
                  peer->config->id, (int)hello.name_len, hello.name, hello.id);
        return -EPROTO;
    }
    if (!door_take_hello(c->peers->node->door, peer->config->id, in)) {
        set_error(peer, "it speaks another protocol");
        log_error("%s: sent a malformed HELLO; refused", peer->config->name);
        return -EPROTO;
    }
    if (peer->connection != NULL && peer->connection != c)
        stream_close(peer->connection->stream); /* the newer one counts */
    c->hello = true;
    rivals_hear(&c->peers->node->rivals, hello.id, hello.cluster, config->cluster_id);
    peer->connection = c;
    peer->view.error[0] = '\0';
    if (peer->link == NULL)
        send_hello(c);
    log_info("linked with %s", peer->config->name);
    health_look(c->peers->node, &health);
    send_status(peer, &health);
    reads_retry(c->peers->node->group->reads);
    writes_retry(c->peers->node->group->writes, true);
    snapshots_linked(c->peers->node->group->snapshots, peer->view.id);
    return 0;
}

static int on_status(void *arg, uint64_t id, const struct frame *frame)
{
    struct cursor in = cursor_of(frame->payload, frame->len);
    struct peers *p = arg;
    struct peer_view *v = &peer_by_id(p, id)->view;
    struct peer_status said;

    if (!peer_status_decode(&in, &said))
        return KV_E_PROTOCOL;
    v->status = said;
    v->status_ms = clock_boot_ms();
    if (said.health.wall_ns != 0)
        skew_hear(&p->node->clock.skew, id, said.health.wall_ns - (int64_t)clock_wall_ns(), v->status_ms);
    return 0;
}

static const struct peer_handlers *group(void *arg, uint16_t number)
{
    const struct peers *p = arg;

    return number == NODE_GROUP ? &p->node->group->handlers : NULL;
}

static int on_frame(void *arg, const struct frame *frame)
{
    struct connection *c = arg;
    struct peer *peer = c->peer;
    struct cursor in = cursor_of(frame->payload, frame->len);

    c->heard_ms = clock_boot_ms();
    if (c->hello == (frame->type == PEER_HELLO)) /* the first, and no other */
        return -EPROTO;
    peer->view.last_seen_ms = c->heard_ms;
    if (frame->type == PEER_HELLO)
        return frame->group == PEER_NO_GROUP ? on_hello(c, &in) : -EPROTO;
    if (route_take(&c->peers->route, peer->view.id, frame) == KV_E_PROTOCOL) {
        log_error("%s sent a malformed frame of type %u; link closed", peer->config->name, frame->type);
        return -EPROTO;
    }
    return 0;
}

static void on_closed(void *arg, int reason)
{
    struct connection *c = arg;
    struct peers *p = c->peers;
    struct connection **at;

    for (at = &p->connections; *at != NULL; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            break;
        }
    }
    if (c->peer->connection == c) {
        c->peer->connection = NULL;
        if (!p->stopped) {
            if (c->hello)
                log_warn("link with %s lost: %s", c->peer->config->name,
                         reason == 0 ? "closed by the other side" : strerror(-reason));
            if (c->peer->view.error[0] == '\0')
                set_error(c->peer, "the link was lost");
        }
    }
    if (c->bridge >= 0)
        close(c->bridge);
    free(c);
}

/* bridge: -1 on the dialling side. Takes the descriptors, also on failure. */
static struct connection *open_connection(struct peers *p, struct peer *peer, int in, int out, int bridge)
{
    struct stream_callbacks callbacks = {.on_frame = on_frame, .on_closed = on_closed};
    struct connection *c = calloc(1, sizeof *c);

    if (c == NULL) {
        close(in);
        if (out != in)
            close(out);
        if (bridge >= 0)
            close(bridge);
        return NULL;
    }
    c->peers = p;
    c->peer = peer;
    c->bridge = bridge;
    c->opened_ms = c->heard_ms = clock_boot_ms();
    callbacks.arg = c;
    if (stream_open(&p->node->streams, in, out, &callbacks, PAUSE_AT, &c->stream) != 0) {
        if (bridge >= 0)
            close(bridge);
        free(c);
        return NULL;
    }
    c->next = p->connections;
    p->connections = c;
    return c;
}

/* ---- dialling ---- */

static void on_link_connected(void *arg, int fd) /* the link's thread */
{
    struct peer *peer = arg;
    struct peers *p = peer->peers;

    pthread_mutex_lock(&p->lock);
    if (peer->new_fd >= 0)
        close(peer->new_fd);
    peer->new_fd = fd;
    pthread_mutex_unlock(&p->lock);
    uv_async_send(&p->wake);
}

static void on_link_failed(void *arg, enum ssh_failure failure, const char *message,
                           uint32_t retry_ms) /* the link's thread */
{
    struct peer *peer = arg;
    struct peers *p = peer->peers;

    (void)failure;
    (void)retry_ms;
    pthread_mutex_lock(&p->lock);
    if (strncmp(peer->new_error, message, sizeof peer->new_error - 1) != 0) {
        snprintf(peer->new_error, sizeof peer->new_error, "%s", message);
        log_warn("%s", message); /* once, not at every attempt */
    }
    peer->error_is_new = true;
    pthread_mutex_unlock(&p->lock);
    uv_async_send(&p->wake);
}

static void on_wake(uv_async_t *wake)
{
    struct peers *p = wake->data;
    size_t i;

    for (i = 0; i < p->n; i++) {
        struct peer *peer = &p->all[i];
        struct connection *c;
        int fd;

        pthread_mutex_lock(&p->lock);
        fd = peer->new_fd;
        peer->new_fd = -1;
        if (peer->error_is_new)
            set_error(peer, peer->new_error);
        peer->error_is_new = false;
        pthread_mutex_unlock(&p->lock);
        if (fd < 0)
            continue;
        if (p->stopped) {
            close(fd);
            continue;
        }
        if (peer->connection != NULL)
            stream_close(peer->connection->stream);
        c = open_connection(p, peer, fd, fd, -1);
        peer->connection = c;
        if (c != NULL)
            send_hello(c);
    }
}

/* ---- accepting ---- */

/* A descriptor each: those that say nothing must not use them up. */
static void limit_unknown(struct peers *p)
{
    struct connection *c, *oldest = NULL;
    unsigned n = 0;

    for (c = p->connections; c != NULL; c = c->next) { /* the newest comes first */
        if (!c->hello && !c->evicted && c->peer->link == NULL) {
            oldest = c;
            n++;
        }
    }
    if (n < UNKNOWN_MAX)
        return;
    oldest->evicted = true;
    stream_close(oldest->stream);
}

/* A peer's key has logged in. */
static void on_stream(void *arg, const char *name, int in, int out, int bridge)
{
    struct peers *p = arg;
    struct peer *peer = peer_by_name(p, name);

    if (peer == NULL)
        log_warn("a bridge for an unknown peer %s; refused", name);
    else if (peer->link != NULL)
        log_warn("%s dials, but this node (the lower id) does; refused", name);
    if (peer == NULL || peer->link != NULL) {
        close(in);
        close(out);
        close(bridge);
        return;
    }
    limit_unknown(p);
    open_connection(p, peer, in, out, bridge);
}

static int listen_for_bridges(struct peers *p, char *why)
{
    char path[CONFIG_SOCKET_PATH_MAX + 1];
    int rv;

    if (config_peer_socket(p->node->config, path) != 0) {
        snprintf(why, 512, "the path of the peer socket is too long");
        return -ENAMETOOLONG;
    }
    rv = bridges_listen(&p->node->loop, path, on_stream, p, &p->bridges);
    if (rv != 0)
        snprintf(why, 512, "%s: %s", path, strerror(-rv));
    return rv;
}

int peers_start(struct node *node, struct peers **out, char *why)
{
    const struct config *config = node->config;
    struct peers *p = calloc(1, sizeof *p);
    size_t i;
    int rv;

    *out = NULL;
    if (p == NULL)
        return -ENOMEM;
    p->node = node;
    p->n = config->n_peers;
    p->route = (struct route){.door = node->door, .group = group, .arg = p};
    peer_handlers_enter(&p->route.nodes, PEER_STATUS, on_status, p);
    door_hear_peers(node->door, &p->route.nodes);
    pthread_mutex_init(&p->lock, NULL);
    p->all = calloc(p->n > 0 ? p->n : 1, sizeof *p->all);
    if (p->all == NULL) {
        free(p);
        return -ENOMEM;
    }
    uv_async_init(&node->loop, &p->wake, on_wake);
    p->wake.data = p;
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
        set_error(peer, "not linked yet");
    }
    *out = p;
    rv = listen_for_bridges(p, why);
    if (rv != 0)
        return rv;
    for (i = 0; i < p->n; i++) {
        struct peer *peer = &p->all[i];
        struct ssh_link_callbacks callbacks = {on_link_connected, on_link_failed, peer};
        struct ssh_link_config link = {.name = peer->config->name,
                                       .host = peer->config->host,
                                       .port = peer->config->port,
                                       .user = peer->config->user,
                                       .private_key_path = config->client_key,
                                       .known_hosts_path = config->known_hosts,
                                       .backoff_max_ms = BACKOFF_MAX_MS};

        if (config->id > peer->config->id)
            continue;
        rv = ssh_link_start(&link, &callbacks, &peer->link);
        if (rv != 0) {
            snprintf(why, 512, "link to %s: %s", peer->config->name, strerror(-rv));
            return rv;
        }
    }
    return 0;
}

void peers_stop(struct peers *p)
{
    struct connection *c;
    size_t i;

    if (p == NULL)
        return;
    p->stopped = true;
    for (i = 0; i < p->n; i++) {
        ssh_link_stop(p->all[i].link);
        p->all[i].link = NULL;
        if (p->all[i].new_fd >= 0)
            close(p->all[i].new_fd);
        p->all[i].new_fd = -1;
    }
    for (c = p->connections; c != NULL; c = c->next)
        stream_close(c->stream);
    bridges_close(p->bridges);
    uv_close((uv_handle_t *)&p->wake, NULL);
}

void peers_free(struct peers *p)
{
    if (p == NULL)
        return;
    bridges_free(p->bridges);
    pthread_mutex_destroy(&p->lock);
    free(p->all);
    free(p);
}

const struct progress *peers_progress(const struct peers *p, uint64_t id)
{
    static const struct progress nothing;
    const struct peer *peer = peer_by_id(p, id);

    return id == 0 ? &p->own : peer != NULL ? &peer->progress : &nothing;
}

static void note_progress(struct peers *p, uint64_t now_ms, uint64_t commit)
{
    uint64_t newest = commit;
    size_t i;

    for (i = 0; i < p->n; i++)
        if (is_up(&p->all[i]) && p->all[i].view.status.health.commit > newest)
            newest = p->all[i].view.status.health.commit;
    progress_note(&p->own, now_ms, newest, store_applied(p->node->group->store));
    for (i = 0; i < p->n; i++)
        if (is_up(&p->all[i]))
            progress_note(&p->all[i].progress, now_ms, newest, p->all[i].view.status.applied);
}

void peers_beat(struct peers *p, uint64_t now_ms)
{
    uint64_t silent = (uint64_t)p->node->config->heartbeat_ms * SILENT_BEATS;
    struct health health;
    struct connection *c;
    size_t i;

    if (silent < SILENT_MIN_MS)
        silent = SILENT_MIN_MS;
    bridges_beat(p->bridges, now_ms);
    for (c = p->connections; c != NULL; c = c->next) {
        if (!c->hello && now_ms - c->opened_ms > HELLO_MS)
            stream_close(c->stream);
        else if (c->hello && now_ms - c->heard_ms > silent)
            stream_close(c->stream);
    }
    health_look(p->node, &health);
    note_progress(p, now_ms, health.commit);
    for (i = 0; i < p->n; i++)
        if (is_up(&p->all[i]))
            send_status(&p->all[i], &health);
}

void peers_each(const struct peers *p, void *arg, void (*emit)(void *arg, const struct peer_view *view))
{
    uint64_t now = clock_boot_ms(), fresh = (uint64_t)p->node->config->heartbeat_ms * 3;
    size_t i;

    if (fresh < PEER_FRESH_MS)
        fresh = PEER_FRESH_MS;
    for (i = 0; i < p->n; i++) {
        struct peer_view view = p->all[i].view;

        view.up = is_up(&p->all[i]);
        view.fresh = view.up && view.status_ms != 0 && now - view.status_ms <= fresh;
        emit(arg, &view);
    }
}
