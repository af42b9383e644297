#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sync/base/digest.h"
#include "sync/base/disk.h"
#include "sync/base/error.h"
#include "sync/raft/transfer/snapshot_message.h"
#include "sync/raft/transfer/snapshot_transfer.h"

struct snapshot_receiver {
    enum snapshot_receiver_state state;
    char *path; /* owned */
    int fd;     /* owned; -1 in IDLE */
    uint64_t id, term, size, digest, received;
    uint64_t finished; /* id of the last transfer that went through, 0: none */
    struct snapshot_meta meta;
    struct digest_stream *hasher; /* owned; of what was received, which comes in order */
};

int snapshot_receiver_new(const char *path, struct snapshot_receiver **out)
{
    struct snapshot_receiver *r = calloc(1, sizeof *r);

    *out = NULL;
    if (r == NULL || (r->path = strdup(path)) == NULL) {
        free(r);
        return -ENOMEM;
    }
    r->fd = -1;
    *out = r;
    return 0;
}

static void reset(struct snapshot_receiver *r)
{
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
    digest_stream_free(r->hasher);
    r->hasher = NULL;
    snapshot_meta_deinit(&r->meta);
    r->id = r->received = r->size = 0;
    r->state = SNAPSHOT_RECEIVER_IDLE;
}

void snapshot_receiver_free(struct snapshot_receiver *r)
{
    if (r == NULL)
        return;
    reset(r);
    free(r->path);
    free(r);
}

void snapshot_receiver_drop(struct snapshot_receiver *r)
{
    if (r->state != SNAPSHOT_RECEIVER_IDLE)
        unlink(r->path);
    reset(r);
}

static void reply_with(struct buffer *reply, enum snapshot_message_type type, uint64_t id, uint64_t offset,
                       uint32_t reason)
{
    struct snapshot_message m = {.type = type, .id = id, .offset = offset, .reason = reason};

    snapshot_message_encode(&m, reply);
}

/* The file or memory failed: tell the sender, give up. */
static int give_up(struct snapshot_receiver *r, int result, uint64_t id, struct buffer *reply)
{
    reply_with(reply, SNAPSHOT_REFUSED, id, 0, result == -ENOSPC ? KV_E_NOSPC : KV_E_IO);
    snapshot_receiver_drop(r);
    return result;
}

static int verify(struct snapshot_receiver *r, struct buffer *reply)
{
    if (digest_stream_value(r->hasher) != r->digest)
        return give_up(r, KV_E_IO, r->id, reply);
    r->state = SNAPSHOT_RECEIVER_VERIFIED;
    return 0;
}

static int begin(struct snapshot_receiver *r, struct snapshot_message *m, struct buffer *reply)
{
    if (m->id == r->finished) { /* its FINISHED was lost with the link */
        reply_with(reply, SNAPSHOT_FINISHED, m->id, 0, 0);
        return 0;
    }
    if (m->id == r->id) {
        if (m->size != r->size || m->digest != r->digest || m->meta.index != r->meta.index)
            return KV_E_PROTOCOL;
        r->term = m->term;
        reply_with(reply, SNAPSHOT_ACK, r->id, r->received, 0);
        return 0;
    }
    /* A transfer that is being installed is not given up for a newer one. */
    if (r->state == SNAPSHOT_RECEIVER_VERIFIED || r->state == SNAPSHOT_RECEIVER_COMPLETE) {
        reply_with(reply, SNAPSHOT_REFUSED, m->id, 0, KV_E_BUSY);
        return 0;
    }
    snapshot_receiver_drop(r);
    r->fd = open(r->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (r->fd < 0)
        return give_up(r, -errno, m->id, reply);
    r->state = SNAPSHOT_RECEIVER_RECEIVING;
    r->hasher = digest_stream_new();
    if (r->hasher == NULL)
        return give_up(r, -ENOMEM, m->id, reply);
    r->id = m->id;
    r->term = m->term;
    r->size = m->size;
    r->digest = m->digest;
    r->meta = m->meta; /* consumed */
    memset(&m->meta, 0, sizeof m->meta);
    reply_with(reply, SNAPSHOT_ACK, r->id, 0, 0);
    return 0;
}

static int write_piece(struct snapshot_receiver *r, const uint8_t *data, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pwrite(r->fd, data + done, len - done, (off_t)(r->received + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        done += (size_t)n;
    }
    return 0;
}

static int chunk(struct snapshot_receiver *r, const struct snapshot_message *m, struct buffer *reply)
{
    int result;

    if (m->id != r->id || r->state != SNAPSHOT_RECEIVER_RECEIVING)
        return 0; /* of a transfer that was given up */
    if (m->offset != r->received || m->len > r->size - r->received)
        return KV_E_PROTOCOL;
    result = write_piece(r, m->data, m->len);
    if (result != 0)
        return give_up(r, result, r->id, reply);
    digest_stream_add(r->hasher, m->data, m->len);
    r->received += m->len;
    reply_with(reply, SNAPSHOT_ACK, r->id, r->received, 0);
    return 0;
}

int snapshot_receiver_receive(struct snapshot_receiver *r, const void *data, size_t len, struct buffer *reply)
{
    struct snapshot_message m;
    int result = snapshot_message_decode(data, len, &m);

    if (result != 0)
        return result;
    switch (m.type) {
    case SNAPSHOT_BEGIN:
        result = begin(r, &m, reply);
        break;
    case SNAPSHOT_CHUNK:
        result = chunk(r, &m, reply);
        break;
    case SNAPSHOT_END:
        if (m.id == r->id && r->state == SNAPSHOT_RECEIVER_RECEIVING)
            result = r->received == r->size ? verify(r, reply) : KV_E_PROTOCOL;
        break;
    default:
        result = KV_E_PROTOCOL;
        break;
    }
    snapshot_meta_deinit(&m.meta);
    if (result == 0 && reply->failed)
        result = -ENOMEM;
    return result;
}

enum snapshot_receiver_state snapshot_receiver_state(const struct snapshot_receiver *r)
{
    return r->state;
}

int snapshot_receiver_sync(struct snapshot_receiver *r)
{
    int result;

    if (r->state != SNAPSHOT_RECEIVER_VERIFIED)
        return -EINVAL;
    if (fsync(r->fd) != 0)
        return -errno;
    result = disk_sync_name(r->path);
    if (result == 0)
        r->state = SNAPSHOT_RECEIVER_COMPLETE;
    return result;
}

const struct snapshot_meta *snapshot_receiver_meta(const struct snapshot_receiver *r, uint64_t *term_out)
{
    *term_out = r->term;
    return &r->meta;
}

void snapshot_receiver_finish(struct snapshot_receiver *r, struct buffer *reply)
{
    reply_with(reply, SNAPSHOT_FINISHED, r->id, 0, 0);
    r->finished = r->id;
    reset(r);
}

uint64_t snapshot_receiver_received(const struct snapshot_receiver *r, uint64_t *size_out)
{
    *size_out = r->size;
    return r->received;
}
