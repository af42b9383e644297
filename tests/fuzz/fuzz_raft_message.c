/* Messages between engines and those of snapshot transfers: whatever the bytes,
 * the decoders refuse them or give a message that encodes to the same bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sync/raft/engine/message.h"
#include "sync/raft/transfer/snapshot_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_be_same(const struct buffer *b, const uint8_t *data, size_t size)
{
    if (!b->failed && (b->len != size || memcmp(b->data, data, size) != 0))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct snapshot_message s;
    struct engine_message *m;
    struct buffer b = BUFFER_INIT;
    char text[64];

    if (message_decode(data, size, &m) == 0) {
        message_encode(m, &b);
        must_be_same(&b, data, size);
        message_format(m, text, sizeof text);
        message_free(m);
    }
    buffer_clear(&b);
    if (snapshot_message_decode(data, size, &s) == 0) {
        snapshot_message_encode(&s, &b);
        must_be_same(&b, data, size);
        snapshot_meta_deinit(&s.meta);
    }
    buffer_deinit(&b);
    return 0;
}
