/* Connections: one is dialled through SSH by the node with the lower id, by a thread of its own, and handed
 * over by the bridge to the other. It counts from its HELLO on, and the newest one of a peer is the one that
 * counts. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvnode/peer/rivals.h"
#include "kvnode/peer/bridges.h"
#include "kvnode/peer/door.h"
#include "kvnode/peer/peers_internal.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"
#include "sync/ssh/identity.h"
#include "sync/ssh/link.h"
#include "sync/wire/frame.h"

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

static void set_error(struct peer *peer, const char *text)
{
    snprintf(peer->view.error, sizeof peer->view.error, "%s", text);
}

static void send_hello(struct connection *c)
{
    const struct config *config = peers_config(c->peers);
    struct buffer *b = stream_output(c->stream);
    size_t frame = frame_begin(b, PEER_HELLO, PEER_NO_GROUP, 0);

    peer_hello_encode(b, config->cluster_id, config->id, config->name);
    door_put_hello(c->peers->owner.door, b);
    frame_end(b, frame);
}

/* Both sides are to know: who was dialled says its HELLO before it closes. */
static int refuse_rival(struct connection *c, uint64_t cluster)
{
    const struct config *config = peers_config(c->peers);
    struct rivals *rivals = c->peers->owner.rivals;
    struct peer *peer = c->peer;

    snprintf(peer->view.error, sizeof peer->view.error, "it belongs to cluster %016llx, this node to %016llx",
             (unsigned long long)cluster, (unsigned long long)config->cluster_id);
    if (rivals_hear(rivals, peer->config->id, cluster, config->cluster_id))
        log_error("%s belongs to cluster %016llx, this node to %016llx: refused%s", peer->config->name,
                  (unsigned long long)cluster, (unsigned long long)config->cluster_id,
                  rivals_prevail(rivals, config->n_peers + 1) ? ", and this node serves nobody" : "");
    if (peer->link != NULL)
        return -EPROTO;
    send_hello(c);
    stream_finish(c->stream);
    return 0;
}

static int on_hello(struct connection *c, struct cursor *in)
{
    const struct config *config = peers_config(c->peers);
    struct peer *peer = c->peer;
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
    if (!door_take_hello(c->peers->owner.door, peer->config->id, in)) {
        set_error(peer, "it speaks another protocol");
        log_error("%s: sent a malformed HELLO; refused", peer->config->name);
        return -EPROTO;
    }
    if (peer->connection != NULL && peer->connection != c)
        stream_close(peer->connection->stream); /* the newer one counts */
    c->hello = true;
    rivals_hear(c->peers->owner.rivals, hello.id, hello.cluster, config->cluster_id);
    peer->connection = c;
    peer->view.error[0] = '\0';
    if (peer->link == NULL)
        send_hello(c);
    log_info("linked with %s", peer->config->name);
    peers_status_tell(peer);
    c->peers->owner.on_linked(c->peers->owner.arg, peer->view.id);
    return 0;
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
    if (stream_open(p->owner.streams, in, out, &callbacks, PAUSE_AT, &c->stream) != 0) {
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

static struct peer *peer_by_name(const struct peers *p, const char *name)
{
    size_t i;

    for (i = 0; i < p->n; i++)
        if (strcmp(p->all[i].config->name, name) == 0)
            return &p->all[i];
    return NULL;
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

    if (config_peer_socket(peers_config(p), path) != 0) {
        snprintf(why, 512, "the path of the peer socket is too long");
        return -ENAMETOOLONG;
    }
    rv = bridges_listen(p->owner.self->loop, path, on_stream, p, &p->bridges);
    if (rv != 0)
        snprintf(why, 512, "%s: %s", path, strerror(-rv));
    return rv;
}

int peers_connections_open(struct peers *p, char *why)
{
    const struct config *config = peers_config(p);
    size_t i;
    int rv;

    pthread_mutex_init(&p->lock, NULL);
    uv_async_init(p->owner.self->loop, &p->wake, on_wake);
    p->wake.data = p;
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

void peers_connections_beat(struct peers *p, uint64_t now_ms)
{
    uint64_t silent = (uint64_t)peers_config(p)->heartbeat_ms * SILENT_BEATS;
    struct connection *c;

    if (silent < SILENT_MIN_MS)
        silent = SILENT_MIN_MS;
    bridges_beat(p->bridges, now_ms);
    for (c = p->connections; c != NULL; c = c->next) {
        if (!c->hello && now_ms - c->opened_ms > HELLO_MS)
            stream_close(c->stream);
        else if (c->hello && now_ms - c->heard_ms > silent)
            stream_close(c->stream);
    }
}

void peers_connections_close(struct peers *p)
{
    struct connection *c;
    size_t i;

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

void peers_connections_free(struct peers *p)
{
    bridges_free(p->bridges);
    pthread_mutex_destroy(&p->lock);
}
