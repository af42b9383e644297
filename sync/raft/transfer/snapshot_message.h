/* The messages of a snapshot transfer, as bytes (PROTOCOL.md). For
 * snapshot_sender.c and snapshot_receiver.c. */
#ifndef KVFS_SYNC_RAFT_TRANSFER_SNAPSHOT_MESSAGE_H
#define KVFS_SYNC_RAFT_TRANSFER_SNAPSHOT_MESSAGE_H

#include <stdint.h>

#include "sync/base/buffer.h"
#include "sync/raft/engine/snapshot_meta.h"

#define SNAPSHOT_MESSAGE_VERSION 1

/* The numbers are on the wire. */
enum snapshot_message_type {
    SNAPSHOT_BEGIN = 1, /* sender */
    SNAPSHOT_CHUNK,
    SNAPSHOT_END,
    SNAPSHOT_ACK, /* receiver: it has everything before `offset` */
    SNAPSHOT_FINISHED,
    SNAPSHOT_REFUSED,
};

struct snapshot_message {
    enum snapshot_message_type type;
    uint64_t id;           /* of the transfer */
    uint64_t term;         /* BEGIN: the sender's */
    uint64_t size, digest; /* BEGIN: of the whole file */
    uint64_t offset;       /* CHUNK, ACK */
    uint32_t reason;       /* REFUSED: enum kv_error */
    const uint8_t *data;   /* CHUNK: borrowed from the message's bytes */
    size_t len;
    struct snapshot_meta meta; /* BEGIN: owned */
};

void snapshot_message_encode(const struct snapshot_message *m, struct buffer *out);
/* 0 (the caller deinits m->meta), KV_E_PROTOCOL or -ENOMEM. */
int snapshot_message_decode(const void *data, size_t len, struct snapshot_message *m);

#endif
