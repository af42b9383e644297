#include "sync/wire/frame.h"

#include <errno.h>

size_t frame_begin(struct buffer *b, uint8_t type, uint16_t group, uint64_t id)
{
    size_t begin = b->len;

    buffer_put_u32(b, 0);
    buffer_put_u8(b, FRAME_VERSION);
    buffer_put_u8(b, type);
    buffer_put_u16(b, group);
    buffer_put_u64(b, id);
    return begin;
}

void frame_end(struct buffer *b, size_t begin)
{
    size_t after_length;

    if (b->failed)
        return;
    after_length = b->len - begin - sizeof(uint32_t);
    if (after_length > FRAME_HEADER_LEN - sizeof(uint32_t) + FRAME_PAYLOAD_MAX) {
        b->failed = true;
        return;
    }
    buffer_set_u32(b, begin, (uint32_t)after_length);
}

long frame_parse(const void *data, size_t len, struct frame *frame_out)
{
    struct cursor c = cursor_of(data, len);
    uint32_t after_length = cursor_u32(&c);
    uint8_t version = cursor_u8(&c);
    size_t total = (size_t)after_length + sizeof(uint32_t);

    /* Judge as early as the bytes allow: a stream that is no protocol of ours
     * must not make us wait for gigabytes. */
    if (len >= sizeof(uint32_t) && (total < FRAME_HEADER_LEN || total > FRAME_HEADER_LEN + FRAME_PAYLOAD_MAX))
        return -EPROTO;
    if (len > sizeof(uint32_t) && version != FRAME_VERSION)
        return -EPROTO;
    if (len < FRAME_HEADER_LEN || len < total)
        return 0;
    frame_out->type = cursor_u8(&c);
    frame_out->group = cursor_u16(&c);
    frame_out->id = cursor_u64(&c);
    frame_out->payload = c.data;
    frame_out->len = total - FRAME_HEADER_LEN;
    return (long)total;
}
