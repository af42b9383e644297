#include "kvnode/group/events.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "kvnode/loop/stream.h"
#include "sync/base/error.h"

#define RING_SLOTS 32768
#define RING_BYTES (8 * 1024 * 1024)
#define SUBSCRIBER_BACKLOG (32 * 1024 * 1024)

struct slot {
    uint64_t revision;
    uint8_t *bytes; /* owned; the encoded event */
    size_t len;
};

struct subscriber {
    struct stream *stream; /* borrowed */
    uint16_t protocol;
    uint64_t request;
    uint64_t after; /* events up to here are not wanted */
    /* Takes out what this one may not see; NULL: he may see all. */
    void (*redact)(void *arg, struct event *event);
    void *arg;
    bool sparse, told; /* it has been told, and has not asked since */
    TAILQ_ENTRY(subscriber) link;
};

struct events {
    struct slot ring[RING_SLOTS];
    size_t first, n; /* slots in use: first, first + 1, … modulo RING_SLOTS */
    size_t bytes;
    uint64_t dropped; /* highest revision of which something is no longer in the ring */
    struct buffer scratch, redacted;
    unsigned n_subscribers;
    TAILQ_HEAD(, subscriber) subscribers;
};

struct events *events_new(void)
{
    struct events *e = calloc(1, sizeof *e);

    if (e != NULL)
        TAILQ_INIT(&e->subscribers);
    return e;
}

static void drop_oldest(struct events *e)
{
    struct slot *s = &e->ring[e->first];

    e->dropped = s->revision;
    e->bytes -= s->len;
    free(s->bytes);
    s->bytes = NULL;
    e->first = (e->first + 1) % RING_SLOTS;
    e->n--;
}

void events_free(struct events *e)
{
    if (e == NULL)
        return;
    while (e->n > 0)
        drop_oldest(e);
    while (!TAILQ_EMPTY(&e->subscribers))
        events_unsubscribe(e, TAILQ_FIRST(&e->subscribers));
    buffer_deinit(&e->scratch);
    buffer_deinit(&e->redacted);
    free(e);
}

static void send_event(struct events *e, struct subscriber *s, const void *bytes, size_t len)
{
    struct buffer *out;
    size_t frame;

    if (s->sparse && s->told)
        return;
    s->told = true;
    out = stream_output(s->stream);
    frame = frame_begin(out, MESSAGE_EVENT, 0, s->request);
    if (s->redact != NULL) {
        struct cursor c = cursor_of(bytes, len);
        struct event event;

        buffer_clear(&e->redacted);
        if (event_decode(&c, &event) == KV_OK) {
            s->redact(s->arg, &event);
            event_encode(&e->redacted, &event, MESSAGE_PROTOCOL);
        }
        if (e->redacted.failed || e->redacted.len == 0) {
            stream_close(s->stream); /* it comes back, and hears of the gap */
            return;
        }
        bytes = e->redacted.data;
        len = e->redacted.len;
    }
    /* Their attributes come last. */
    buffer_put_bytes(out, bytes, s->protocol < PROTOCOL_TIMES ? len - ATTR_TIMES_LEN : len);
    frame_end(out, frame);
    if (stream_pending(s->stream) > SUBSCRIBER_BACKLOG)
        stream_close(s->stream);
}

void events_add(struct events *e, const struct event *event)
{
    struct subscriber *s;
    struct slot *slot;

    buffer_clear(&e->scratch);
    event_encode(&e->scratch, event, MESSAGE_PROTOCOL);
    TAILQ_FOREACH (s, &e->subscribers, link)
        send_event(e, s, e->scratch.data, e->scratch.len);
    while (e->n == RING_SLOTS || (e->n > 0 && e->bytes + e->scratch.len > RING_BYTES))
        drop_oldest(e);
    slot = &e->ring[(e->first + e->n) % RING_SLOTS];
    slot->bytes = e->scratch.failed ? NULL : malloc(e->scratch.len);
    if (slot->bytes == NULL) {
        /* Without memory for it this revision counts as dropped: whoever resumes
         * behind it hears of a gap. */
        while (e->n > 0)
            drop_oldest(e);
        e->dropped = event->revision;
        return;
    }
    memcpy(slot->bytes, e->scratch.data, e->scratch.len);
    slot->len = e->scratch.len;
    slot->revision = event->revision;
    e->bytes += slot->len;
    e->n++;
}

void events_reset(struct events *e, uint64_t revision)
{
    struct subscriber *s;

    while (e->n > 0)
        drop_oldest(e);
    if (revision > e->dropped)
        e->dropped = revision;
    TAILQ_FOREACH (s, &e->subscribers, link)
        stream_close(s->stream);
}

struct subscriber *events_subscribe(struct events *e, struct stream *stream, uint16_t protocol,
                                    uint64_t request, uint64_t after, uint64_t applied, uint64_t *from_out)
{
    struct subscriber *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->stream = stream;
    s->protocol = protocol;
    s->request = request;
    s->after = after;
    *from_out = after + 1;
    /* What follows `after` has left the ring, or this node has never had it: a gap. */
    if (after < e->dropped || after > applied) {
        s->after = applied;
        *from_out = (after > applied ? after : applied) + 2;
    }
    TAILQ_INSERT_TAIL(&e->subscribers, s, link);
    e->n_subscribers++;
    return s;
}

void events_replay(struct events *e, struct subscriber *s)
{
    size_t i;

    for (i = 0; i < e->n; i++) {
        const struct slot *slot = &e->ring[(e->first + i) % RING_SLOTS];

        if (slot->revision > s->after)
            send_event(e, s, slot->bytes, slot->len);
    }
}

void events_redact(struct subscriber *s, void (*redact)(void *arg, struct event *event), void *arg)
{
    s->redact = redact;
    s->arg = arg;
}

void events_sparse(struct subscriber *s)
{
    s->sparse = true;
}

void events_asked(struct subscriber *s)
{
    if (s != NULL)
        s->told = false;
}

void events_unsubscribe(struct events *e, struct subscriber *s)
{
    if (s == NULL)
        return;
    TAILQ_REMOVE(&e->subscribers, s, link);
    e->n_subscribers--;
    free(s);
}

unsigned events_subscribers(const struct events *e)
{
    return e->n_subscribers;
}
