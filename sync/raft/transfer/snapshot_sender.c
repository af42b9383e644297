#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/base/digest.h"
#include "sync/base/error.h"
#include "sync/raft/transfer/snapshot_message.h"
#include "sync/raft/transfer/snapshot_transfer.h"

enum sender_state {
    SENDER_HASHING,   /* the digest is not known yet */
    SENDER_OPENING,   /* BEGIN is to be sent */
    SENDER_BEGUN,     /* waits for the offset to start from */
    SENDER_STREAMING, /* chunks, then END */
    SENDER_CLOSING,   /* waits for FINISHED */
    SENDER_DONE,
    SENDER_REFUSED,
};

struct snapshot_sender {
    enum sender_state state;
    int fd; /* owned */
    uint64_t id, term, size, digest;
    struct snapshot_meta meta;    /* owned */
    struct digest_stream *hasher; /* owned, in HASHING */
    uint64_t sent, acked;         /* in HASHING, sent counts what is hashed */
    int refusal;
    uint8_t *chunk; /* owned, SNAPSHOT_CHUNK_BYTES */
};

int snapshot_sender_new(int fd, uint64_t transfer_id, uint64_t term, const struct snapshot_meta *meta,
                        const uint64_t *digest, struct snapshot_sender **out)
{
    struct snapshot_sender *s = calloc(1, sizeof *s);
    struct stat st;
    int result = 0;

    *out = NULL;
    if (s == NULL) {
        close(fd);
        return -ENOMEM;
    }
    s->fd = fd;
    s->id = transfer_id;
    s->term = term;
    snapshot_meta_copy(meta, &s->meta);
    s->chunk = malloc(SNAPSHOT_CHUNK_BYTES);
    if (s->chunk == NULL)
        result = -ENOMEM;
    else if (fstat(fd, &st) != 0)
        result = -errno;
    else if ((uint64_t)st.st_size > SNAPSHOT_MAX_FILE)
        result = -EFBIG;
    else
        s->size = (uint64_t)st.st_size;
    if (result == 0 && digest != NULL) {
        s->digest = *digest;
        s->state = SENDER_OPENING;
    } else if (result == 0) {
        s->hasher = digest_stream_new();
        if (s->hasher == NULL)
            result = -ENOMEM;
    }
    if (result != 0) {
        snapshot_sender_free(s);
        return result;
    }
    *out = s;
    return 0;
}

void snapshot_sender_free(struct snapshot_sender *s)
{
    if (s == NULL)
        return;
    close(s->fd);
    digest_stream_free(s->hasher);
    snapshot_meta_deinit(&s->meta);
    free(s->chunk);
    free(s);
}

/* Reads the piece at offset into chunk; its length, or -errno. */
static ssize_t read_piece(struct snapshot_sender *s, uint64_t offset)
{
    size_t want = s->size - offset < SNAPSHOT_CHUNK_BYTES ? (size_t)(s->size - offset) : SNAPSHOT_CHUNK_BYTES;
    size_t have = 0;

    while (have < want) {
        ssize_t n = pread(s->fd, s->chunk + have, want - have, (off_t)(offset + have));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        have += (size_t)n;
    }
    return (ssize_t)have;
}

static int hash_piece(struct snapshot_sender *s)
{
    ssize_t n = read_piece(s, s->sent);

    if (n < 0)
        return (int)n;
    digest_stream_add(s->hasher, s->chunk, (size_t)n);
    s->sent += (uint64_t)n;
    if (s->sent == s->size) {
        s->digest = digest_stream_value(s->hasher);
        digest_stream_free(s->hasher);
        s->hasher = NULL;
        s->sent = 0;
        s->state = SENDER_OPENING;
    }
    return SNAPSHOT_AGAIN;
}

static int send_message(const struct snapshot_message *m, struct buffer *out)
{
    snapshot_message_encode(m, out);
    return out->failed ? -ENOMEM : SNAPSHOT_MESSAGE;
}

static int stream_piece(struct snapshot_sender *s, struct buffer *out)
{
    struct snapshot_message m = {.type = SNAPSHOT_CHUNK, .id = s->id, .offset = s->sent};
    ssize_t n;

    if (s->sent == s->size) {
        m.type = SNAPSHOT_END;
        s->state = SENDER_CLOSING;
        return send_message(&m, out);
    }
    if (s->sent - s->acked + SNAPSHOT_CHUNK_BYTES > SNAPSHOT_WINDOW_BYTES)
        return SNAPSHOT_WAIT;
    n = read_piece(s, s->sent);
    if (n < 0)
        return (int)n;
    m.data = s->chunk;
    m.len = (size_t)n;
    s->sent += (uint64_t)n;
    return send_message(&m, out);
}

int snapshot_sender_step(struct snapshot_sender *s, struct buffer *out)
{
    struct snapshot_message begin = {.type = SNAPSHOT_BEGIN, .id = s->id, .term = s->term, .size = s->size};

    switch (s->state) {
    case SENDER_HASHING:
        return hash_piece(s);
    case SENDER_OPENING:
        begin.digest = s->digest;
        begin.meta = s->meta; /* borrowed by the encoder */
        s->state = SENDER_BEGUN;
        return send_message(&begin, out);
    case SENDER_STREAMING:
        return stream_piece(s, out);
    case SENDER_BEGUN:
    case SENDER_CLOSING:
        return SNAPSHOT_WAIT;
    case SENDER_DONE:
        return SNAPSHOT_DONE;
    case SENDER_REFUSED:
        break;
    }
    return -EREMOTEIO;
}

int snapshot_sender_receive(struct snapshot_sender *s, const void *data, size_t len)
{
    struct snapshot_message m;
    int result = snapshot_message_decode(data, len, &m);

    if (result != 0)
        return result;
    snapshot_meta_deinit(&m.meta);
    if (m.id != s->id)
        return 0; /* of a transfer that is over */
    switch (m.type) {
    case SNAPSHOT_ACK:
        if (s->state == SENDER_BEGUN && m.offset <= s->size) {
            s->sent = s->acked = m.offset;
            s->state = SENDER_STREAMING;
            return 0;
        }
        if (m.offset > s->sent)
            return KV_E_PROTOCOL;
        if (m.offset > s->acked)
            s->acked = m.offset;
        return 0;
    case SNAPSHOT_FINISHED:
        if (s->state != SENDER_CLOSING && s->state != SENDER_BEGUN && s->state != SENDER_DONE)
            return KV_E_PROTOCOL;
        s->acked = s->size;
        s->state = SENDER_DONE;
        return 0;
    case SNAPSHOT_REFUSED:
        s->refusal = (int)m.reason;
        s->state = SENDER_REFUSED;
        return 0;
    default:
        return KV_E_PROTOCOL;
    }
}

void snapshot_sender_restart(struct snapshot_sender *s)
{
    if (s->state == SENDER_BEGUN || s->state == SENDER_STREAMING || s->state == SENDER_CLOSING)
        s->state = SENDER_OPENING;
}

bool snapshot_sender_digest(const struct snapshot_sender *s, uint64_t *digest_out)
{
    *digest_out = s->digest;
    return s->state != SENDER_HASHING;
}

uint64_t snapshot_sender_acked(const struct snapshot_sender *s)
{
    return s->acked;
}

uint64_t snapshot_sender_size(const struct snapshot_sender *s)
{
    return s->size;
}

uint64_t snapshot_sender_index(const struct snapshot_sender *s)
{
    return s->meta.index;
}

int snapshot_sender_refusal(const struct snapshot_sender *s)
{
    return s->refusal;
}
