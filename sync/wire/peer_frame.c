#include "sync/wire/peer_frame.h"

#include <string.h>

void peer_hello_encode(struct buffer *b, uint64_t cluster, uint16_t id, const char *name)
{
    buffer_put_text(b, PEER_MAGIC);
    buffer_put_u64(b, cluster);
    buffer_put_u16(b, id);
    buffer_put_text(b, name);
}

bool peer_hello_decode(struct cursor *in, struct peer_hello *out)
{
    size_t len;
    const void *magic = cursor_string(in, 64, &len);

    *out = (struct peer_hello){0};
    if (in->failed)
        return false;
    out->same_protocol = len == strlen(PEER_MAGIC) && memcmp(magic, PEER_MAGIC, len) == 0;
    if (!out->same_protocol)
        return true;
    out->cluster = cursor_u64(in);
    out->id = cursor_u16(in);
    out->name = (const char *)cursor_string(in, PEER_NAME_MAX, &out->name_len);
    return !in->failed;
}

void peer_refused_encode(struct buffer *b, const struct peer_refused *r)
{
    buffer_put_u64(b, r->session);
    buffer_put_u64(b, r->seq);
    buffer_put_u64(b, r->part);
}

bool peer_refused_decode(struct cursor *in, struct peer_refused *out)
{
    out->session = cursor_u64(in);
    out->seq = cursor_u64(in);
    out->part = cursor_u64(in);
    return cursor_done(in);
}

void peer_admission_encode(struct buffer *b, const struct peer_admission *a)
{
    buffer_put_u64(b, a->era);
    buffer_put_u64(b, a->term);
    buffer_put_u64(b, a->vote);
    buffer_put_u64(b, a->gate);
    buffer_put_string(b, a->configuration, a->len);
}

bool peer_admission_decode(struct cursor *in, struct peer_admission *out)
{
    *out = (struct peer_admission){0};
    out->era = cursor_u64(in);
    out->term = cursor_u64(in);
    out->vote = cursor_u64(in);
    out->gate = cursor_u64(in);
    out->configuration = cursor_string(in, PEER_CONFIGURATION_MAX, &out->len);
    return cursor_done(in) && out->term != 0;
}

bool peer_numbers_decode(struct cursor *in, uint64_t *out, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        out[i] = cursor_u64(in);
    return cursor_done(in);
}
