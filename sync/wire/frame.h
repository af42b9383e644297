/* Frames: how messages are cut out of a byte stream. No I/O.
 *
 *   u32 length     bytes after this field: 12 + payload
 *   u8  version    FRAME_VERSION
 *   u8  type       enum message_type, or a link's own types
 *   u16 group      shard of the key space; 0
 *   u64 id         pairs an answer with its request
 *   payload
 *
 * Integers are in network byte order (RFC 4251 §5). The same frames are used
 * between clients and nodes and between nodes. See PROTOCOL.md. */
#ifndef KVFS_SYNC_WIRE_FRAME_H
#define KVFS_SYNC_WIRE_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "sync/base/buffer.h"

#define FRAME_VERSION 1
#define FRAME_HEADER_LEN 16
/* Longest payload: a read of 1 MiB and its attributes. */
#define FRAME_PAYLOAD_MAX (1024 * 1024 + 64 * 1024)

struct frame {
    uint8_t type;
    uint16_t group;
    uint64_t id;
    const uint8_t *payload; /* borrowed from the parsed bytes */
    size_t len;
};

/* Starts a frame at the end of b; the caller then puts the payload. Returns the
 * offset to hand to frame_end(). */
size_t frame_begin(struct buffer *b, uint8_t type, uint16_t group, uint64_t id);
/* Fills in the length. A payload over FRAME_PAYLOAD_MAX sets b->failed. */
void frame_end(struct buffer *b, size_t begin);

/* Cuts the first frame out of len bytes. Returns its total size in bytes, 0 if
 * more bytes are needed, -EPROTO if these bytes can never become a frame
 * (length out of bounds, unknown version). */
long frame_parse(const void *data, size_t len, struct frame *frame_out);

#endif
