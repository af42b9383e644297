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

void peer_status_encode(struct buffer *b, const struct peer_status *s)
{
    buffer_put_u8(b, s->role);
    buffer_put_u64(b, s->term);
    buffer_put_u64(b, s->applied);
    buffer_put_u64(b, s->digest_index);
    buffer_put_u64(b, s->digest);
    buffer_put_u8(b, s->flags);
    health_encode(b, &s->health);
}

bool peer_status_decode(struct cursor *in, struct peer_status *out)
{
    out->role = cursor_u8(in);
    out->term = cursor_u64(in);
    out->applied = cursor_u64(in);
    out->digest_index = cursor_u64(in);
    out->digest = cursor_u64(in);
    out->flags = cursor_u8(in);
    return health_decode(in, &out->health);
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

void peer_read_answer_encode(struct buffer *b, const struct peer_read_answer *a)
{
    buffer_put_u16(b, a->code);
    buffer_put_u64(b, a->index);
}

bool peer_read_answer_decode(struct cursor *in, struct peer_read_answer *out)
{
    out->code = cursor_u16(in);
    out->index = cursor_u64(in);
    return cursor_done(in);
}

void peer_verify_encode(struct buffer *b, const struct peer_verify *v)
{
    buffer_put_u64(b, v->index);
    buffer_put_u64(b, v->rate);
}

bool peer_verify_decode(struct cursor *in, struct peer_verify *out)
{
    out->index = cursor_u64(in);
    out->rate = cursor_u64(in);
    return cursor_done(in);
}

void peer_verify_answer_encode(struct buffer *b, const struct peer_verify_answer *a)
{
    buffer_put_u8(b, a->place);
    buffer_put_u64(b, a->index);
    buffer_put_u64(b, a->digest);
    buffer_put_u8(b, a->scrub);
    buffer_put_u64(b, a->read);
    buffer_put_u64(b, a->size);
    buffer_put_string(b, a->error, a->error_len);
}

bool peer_verify_answer_decode(struct cursor *in, struct peer_verify_answer *out)
{
    out->place = cursor_u8(in);
    out->index = cursor_u64(in);
    out->digest = cursor_u64(in);
    out->scrub = cursor_u8(in);
    out->read = cursor_u64(in);
    out->size = cursor_u64(in);
    out->error = (const char *)cursor_string(in, PEER_ERROR_MAX, &out->error_len);
    return cursor_done(in) && out->place <= PEER_PLACE_STATELESS;
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

void peer_id_encode(struct buffer *b, uint64_t id)
{
    buffer_put_u64(b, id);
}

bool peer_id_decode(struct cursor *in, uint64_t *id_out)
{
    *id_out = cursor_u64(in);
    return cursor_done(in);
}
