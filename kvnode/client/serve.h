/* The clients of this node: its unix socket, their requests and the answers
 * (sync/wire/message.h). Loop thread only. */
#ifndef KVFS_KVNODE_CLIENT_SERVE_H
#define KVFS_KVNODE_CLIENT_SERVE_H

#include <stddef.h>
#include <stdint.h>

#include "kvnode/loop/stream.h"

struct door;
struct group;
struct past;
struct self;
struct serve;
struct turn;

/* What the clients' side uses of its node; all borrowed. */
struct serve_owner {
    const struct self *self;
    struct streams *streams;
    const struct turn *turn;
    struct group *group;
    struct door *door;
    struct past *past;
};

/* Opens the client socket. The owner is copied. 0 or -errno with why (512 bytes). */
int serve_start(const struct serve_owner *owner, struct serve **out, char *why);
/* Takes no more clients and closes those there are. */
void serve_stop(struct serve *s);
void serve_free(struct serve *s); /* after the loop has closed the handles */
/* A client in this process, as whom it is said here: served, bounded and counted like one that has
 * connected. It begins with HELLO. *stream_out: to be fed frames (stream_feed()); what is answered goes to
 * take (stream_open_local()), and closed is called with arg once it has ended, also if the stream was closed
 * here. groups: at most COMMAND_GROUPS_MAX; copied. 0, -ENOMEM, or KV_E_BUSY with a sentence in *why_out. */
struct serve_local {
    uint32_t uid, gid;
    const uint32_t *groups;
    uint32_t n_groups;
    void *arg;
    stream_taker *take; /* called with arg */
    void (*closed)(void *arg);
};
int serve_attach(struct serve *s, const struct serve_local *local, struct stream **stream_out,
                 const char **why_out);
/* Every heartbeat: who says no HELLO is disconnected; how much all clients hold. */
void serve_beat(struct serve *s, uint64_t now_ms); /* NULL is ignored */
unsigned serve_clients(const struct serve *s);
/* An inode that clients hold open was removed, and keeps so many bytes. NULL is ignored. */
void serve_held(struct serve *s, uint64_t ino, uint64_t bytes);
/* A new state is in force: what clients had pinned in the old one is gone; they
 * are disconnected and come back. */
void serve_reset(struct serve *s);

#endif
