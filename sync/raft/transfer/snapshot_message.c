#include "sync/raft/transfer/snapshot_message.h"

#include <string.h>

#include "sync/base/error.h"
#include "sync/raft/transfer/snapshot_transfer.h"

void snapshot_message_encode(const struct snapshot_message *m, struct buffer *out)
{
    buffer_put_u8(out, SNAPSHOT_MESSAGE_VERSION);
    buffer_put_u8(out, (uint8_t)m->type);
    buffer_put_u64(out, m->id);
    switch (m->type) {
    case SNAPSHOT_BEGIN:
        buffer_put_u64(out, m->term);
        snapshot_meta_encode(&m->meta, out);
        buffer_put_u64(out, m->size);
        buffer_put_u64(out, m->digest);
        break;
    case SNAPSHOT_CHUNK:
        buffer_put_u64(out, m->offset);
        buffer_put_string(out, m->data, m->len);
        break;
    case SNAPSHOT_ACK:
        buffer_put_u64(out, m->offset);
        break;
    case SNAPSHOT_REFUSED:
        buffer_put_u32(out, m->reason);
        break;
    case SNAPSHOT_END:
    case SNAPSHOT_FINISHED:
        break;
    }
}

static int decode_begin(struct cursor *c, struct snapshot_message *m)
{
    int result;

    m->term = cursor_u64(c);
    result = snapshot_meta_decode(c, &m->meta);
    if (result != 0)
        return result;
    m->size = cursor_u64(c);
    m->digest = cursor_u64(c);
    if (m->term == 0 || m->meta.term > m->term || m->size > SNAPSHOT_MAX_FILE)
        return KV_E_PROTOCOL;
    return 0;
}

int snapshot_message_decode(const void *data, size_t len, struct snapshot_message *m)
{
    struct cursor c = cursor_of(data, len);
    int result = 0;

    memset(m, 0, sizeof *m);
    if (cursor_u8(&c) != SNAPSHOT_MESSAGE_VERSION)
        return KV_E_PROTOCOL;
    m->type = (enum snapshot_message_type)cursor_u8(&c);
    m->id = cursor_u64(&c);
    switch (m->type) {
    case SNAPSHOT_BEGIN:
        result = decode_begin(&c, m);
        break;
    case SNAPSHOT_CHUNK:
        m->offset = cursor_u64(&c);
        m->data = cursor_string(&c, SNAPSHOT_CHUNK_BYTES, &m->len);
        if (m->len == 0)
            result = KV_E_PROTOCOL;
        break;
    case SNAPSHOT_ACK:
        m->offset = cursor_u64(&c);
        break;
    case SNAPSHOT_REFUSED:
        m->reason = cursor_u32(&c);
        if (m->reason == 0 || m->reason >= KV_E_COUNT)
            result = KV_E_PROTOCOL;
        break;
    case SNAPSHOT_END:
    case SNAPSHOT_FINISHED:
        break;
    default:
        result = KV_E_PROTOCOL;
        break;
    }
    if (result == 0 && (!cursor_done(&c) || m->id == 0))
        result = KV_E_PROTOCOL;
    if (result != 0)
        snapshot_meta_deinit(&m->meta);
    return result;
}
