/* What a node says to another one, made by hand. */
#ifndef KVFS_TESTS_FAULT_PEER_FRAMES_H
#define KVFS_TESTS_FAULT_PEER_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/base/buffer.h"
#include "sync/raft/engine/incarnation.h"

/* Types of frames between nodes (sync/wire/peer_frame.h). */
#define PEER_FIRST 100
#define PEER_LAST 109

/* Connects to a peer socket, as a bridge does; non-blocking. -1: refused. */
int peer_open(const char *socket_path);
/* Hands a stream over there under that name; our end of it, non-blocking, or -1. */
int peer_stream(const char *socket_path, const char *name);
/* life: that node's own as it tells of it; NULL: a node that has just been made. */
void peer_hello(struct buffer *b, uint64_t cluster, uint16_t id, const char *name,
                const struct incarnation *life_out);
/* What the node at that socket knows of the life of `id`, by its answer to a HELLO of that peer. */
bool peer_life(const char *socket_path, uint64_t cluster, uint16_t id, const char *name,
               struct incarnation *life_out);
/* One valid frame of that type from `from` to `to`, of a term that has long gone. n chooses among
 * the engine's messages. */
void peer_frame(struct buffer *b, uint8_t type, uint64_t from, uint64_t to, unsigned n);
/* Whether these bytes would be taken as an engine's message of a term that counts:
 * what a peer may say then is beyond what can be guarded against. */
bool peer_counts(const void *frame, size_t len);

#endif
