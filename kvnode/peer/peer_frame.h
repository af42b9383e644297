/* The bodies of those peer frames that no other module owns (sync/wire/PROTOCOL.md). Every
 * decoder takes whatever bytes there are and refuses what it does not know. Pure. */
#ifndef KVFS_KVNODE_PEER_PEER_FRAME_H
#define KVFS_KVNODE_PEER_PEER_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/base/buffer.h"

#define PEER_MAGIC "kvfs-peer-3" /* 2: before there was a feature level */
#define PEER_CONFIGURATION_MAX 65536

/* The front of a HELLO. Strings are borrowed from the frame and not terminated. */
struct peer_hello {
    bool same_protocol; /* else nothing below means anything */
    uint64_t cluster;
    uint16_t id;
    const char *name;
    size_t name_len;
};
void peer_hello_encode(struct buffer *b, uint64_t cluster, uint16_t id, const char *name);
/* Leaves the lives (incarnation.h) under the cursor. False: malformed. */
bool peer_hello_decode(struct cursor *in, struct peer_hello *out);

/* A node with an empty log begins it with this configuration, in that term and with that vote,
 * and takes no part in votes before it has stored up to gate. */
struct peer_admission {
    uint64_t era, term, vote, gate;
    const void *configuration; /* borrowed */
    size_t len;
};
void peer_admission_encode(struct buffer *b, const struct peer_admission *a);
bool peer_admission_decode(struct cursor *in, struct peer_admission *out);

/* The frames that are n numbers of 64 bits. False: there are more or fewer. */
bool peer_numbers_decode(struct cursor *in, uint64_t *out, size_t n);

#endif
