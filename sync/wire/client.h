/* One connection of a client to one node's socket. Not thread-safe.
 *
 * Blocking calls have a deadline and are for the command line; a program with
 * an event loop uses client_fd(), client_queue*(), client_flush() and
 * client_next() with the connection in non-blocking mode (it always is). */
#ifndef KVFS_SYNC_WIRE_CLIENT_H
#define KVFS_SYNC_WIRE_CLIENT_H

#include "sync/wire/body.h"

struct client;

/* What the node said in its HELLO. */
struct client_node {
    char name[COMMAND_NODE_MAX + 1];
    uint64_t cluster_id;
    uint64_t applied;
    uint32_t part_size;
    uint64_t value_limit;
    unsigned level; /* the cluster's feature level then; 0: an older node */
    bool trusted;   /* this client may state another caller's uid */
};

/* The socket of a node: a name with a slash is a path itself, else
 * $KVNODE_SOCKET_DIR/NAME.sock, /run/kvnode/NAME.sock for root, else
 * $XDG_RUNTIME_DIR/kvnode/NAME.sock (or /run/kvnode/NAME.sock if that exists).
 * 0, or -ENAMETOOLONG if it does not fit. */
int client_socket_path(const char *node, char *path_out, size_t size);
/* Directory in which sockets without a slash are looked up. 0 or -ENAMETOOLONG. */
int client_socket_dir(char *path_out, size_t size);

/* Connects and exchanges HELLO within timeout_ms. after: the answer comes only
 * once the node has applied this revision (0: at once). 0; -errno (-ECONNREFUSED,
 * -ENOENT, -ETIMEDOUT …); KV_E_* that the node answered. */
int client_open(const char *socket_path, enum client_kind kind, const char *name, uint64_t after,
                unsigned timeout_ms, struct client **client_out, struct client_node *node_out);
void client_close(struct client *c); /* NULL is ignored */
int client_fd(const struct client *c);

/* A request; nothing is sent before client_flush(). body: NULL if it has none. */
void client_ask(struct client *c, enum message_type type, uint64_t id, const union request_body *body);
/* Starts one that ends with bytes of the caller's (WRITE): he puts them and the body before into the
 * returned buffer, then calls client_queue_end(). */
struct buffer *client_queue(struct client *c, enum message_type type, uint64_t id);
void client_queue_end(struct client *c);
/* Writes what the socket takes. 0: all written; 1: some is left (wait for
 * POLLOUT); -errno: the connection is lost. */
int client_flush(struct client *c);
/* The next frame: 1; 0: none yet (after reading all that the socket has);
 * -errno: the connection is lost. The frame borrows from the client until the
 * next call. */
int client_next(struct client *c, struct frame *frame_out);
/* As client_next(), but waits up to timeout_ms, flushing meanwhile. -ETIMEDOUT. */
int client_wait(struct client *c, unsigned timeout_ms, struct frame *frame_out);

/* Reads an answer's head: its code; body_out is what follows. For a code other
 * than 0, detail_out (may be NULL, size bytes) gets the node's text. */
int client_answer(const struct frame *frame, struct cursor *body_out, char *detail_out, size_t size);

/* Whether client_call() has dropped a frame since this was asked last: an event may have come with an answer.
 */
bool client_dropped(struct client *c);
/* Sends the request that client_queue() began and client_queue_end() ended with
 * this id, and waits for its answer; other frames are dropped. Code or -errno. */
int client_call(struct client *c, uint64_t id, unsigned timeout_ms, struct cursor *body_out, char *detail_out,
                size_t detail_size);

#endif
