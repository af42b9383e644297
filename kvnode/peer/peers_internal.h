/* What the parts of peers.h share: the connections (peers_connections.c), what is sent over them and what is
 * asked of them (peers.c), and what the peers say of themselves (peers_status.c). */
#ifndef KVFS_KVNODE_PEER_PEERS_INTERNAL_H
#define KVFS_KVNODE_PEER_PEERS_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "kvnode/config/config.h"
#include "kvnode/loop/stream.h"
#include "kvnode/peer/peers.h"
#include "kvnode/peer/route.h"
#include "kvnode/peer/self.h"

struct bridges;
struct ssh_link;

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
    struct connection *sending;    /* between peers_frame_begin() and peers_frame_end() */
    size_t frame;
    struct peer_view view;
    struct progress progress;

    /* From the link's thread, under peers->lock. */
    int new_fd; /* -1: none */
    char new_error[160];
    bool error_is_new;
};

struct peers {
    struct peers_owner owner;
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

/* NULL: there is none. */
struct peer *peers_by_id(const struct peers *p, uint64_t id);
bool peers_is_up(const struct peer *peer);
const struct config *peers_config(const struct peers *p);

/* ---- frames ---- */

/* Over a link that is up. */
struct buffer *peers_frame_begin(struct peer *peer, uint16_t group, enum peer_frame type, uint64_t id);
void peers_frame_end(struct peer *peer);

/* ---- connections ---- */

/* Opens the peer socket and dials. 0 or -errno with why (512 bytes). */
int peers_connections_open(struct peers *p, char *why);
/* Closes what has not said HELLO in time, and what has gone silent. */
void peers_connections_beat(struct peers *p, uint64_t now_ms);
/* Ends all, and joins the threads that dial; peers_connections_free() after the loop has closed the handles.
 */
void peers_connections_close(struct peers *p);
void peers_connections_free(struct peers *p);

/* ---- status ---- */

/* The peer's link is new. */
void peers_status_tell(struct peer *peer);
/* Every heartbeat: to all, and how far each has got. */
void peers_status_beat(struct peers *p, uint64_t now_ms);
/* Takes PEER_STATUS from now on. */
void peers_status_hear(struct peers *p);

#endif
