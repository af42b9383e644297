#include "kvnode/loop/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "kvnode/loop/turn.h"
#include "sync/base/clock.h"

#define READ_SIZE (256 * 1024)
/* What one system call is given, so that a socket with much room does not take it all at once. */
#define WRITE_SIZE (256 * 1024)
/* Frames handled in one go before others get their turn. */
#define FRAMES_PER_TURN 256
/* Consumed input is moved away only beyond this, so that a burst of small
 * frames costs one memmove. */
#define COMPACT_AT (64 * 1024)

struct stream {
    struct streams *all; /* borrowed */
    int in_fd, out_fd;   /* owned; the same one for a socket */
    uv_poll_t in_poll;   /* for a socket it watches both ways */
    uv_poll_t out_poll;  /* used if there are two descriptors */
    unsigned open_polls; /* not yet closed by the loop */
    /* Of a stream without descriptors: */
    stream_taker *take; /* what becomes of its output; NULL: it has descriptors */
    bool taking;
    uv_idle_t anchor; /* never runs: its closing is what the stream's end comes from */
    struct stream_callbacks callbacks;
    struct buffer in;
    size_t in_at; /* bytes of `in` already handled */
    struct buffer out;
    size_t out_at; /* bytes of `out` already written */
    size_t pause_at;
    int in_events, out_events; /* what the polls watch */
    bool paused, closed, finish, dirty;
    int reason;
    TAILQ_ENTRY(stream) link; /* in all->dirty */
};

static void on_ready(uv_poll_t *poll, int status, int events);

void streams_init(struct streams *all, uv_loop_t *loop)
{
    all->loop = loop;
    TAILQ_INIT(&all->dirty);
    uv_idle_init(loop, &all->idle);
}

static void mark_dirty(struct stream *s)
{
    if (!s->dirty) {
        s->dirty = true;
        TAILQ_INSERT_TAIL(&s->all->dirty, s, link);
    }
}

static void end(struct stream *s, int reason)
{
    if (s->closed)
        return;
    s->closed = true;
    s->reason = reason;
    mark_dirty(s);
}

static void watch_poll(struct stream *s, uv_poll_t *poll, int *watched, int events)
{
    if (events == *watched)
        return;
    *watched = events;
    if (events == 0)
        uv_poll_stop(poll);
    else if (uv_poll_start(poll, events, on_ready) != 0)
        end(s, -EIO);
}

static bool is_pair(const struct stream *s)
{
    return s->in_fd != s->out_fd;
}

static void watch(struct stream *s)
{
    int in = 0, out = 0;

    if (s->closed || s->take != NULL)
        return;
    if (!s->paused && s->out.len - s->out_at < s->pause_at)
        in = UV_READABLE;
    if (s->out.len > s->out_at)
        out = UV_WRITABLE;
    if (is_pair(s))
        watch_poll(s, &s->out_poll, &s->out_events, out);
    else
        in |= out;
    watch_poll(s, &s->in_poll, &s->in_events, in);
}

static void free_stream(struct stream *s)
{
    if (s->take == NULL) {
        close(s->in_fd);
        if (is_pair(s))
            close(s->out_fd);
    }
    buffer_deinit(&s->in);
    buffer_deinit(&s->out);
    free(s);
}

/* The half-made stream of a failed stream_open() is freed after its poll. */
static void on_unused_closed(uv_handle_t *handle)
{
    free_stream(handle->data);
}

int stream_open(struct streams *all, int in, int out, const struct stream_callbacks *callbacks,
                size_t pause_at, struct stream **stream_out)
{
    struct stream *s = calloc(1, sizeof *s);
    int rv;

    *stream_out = NULL;
    if (s == NULL) {
        close(in);
        if (out != in)
            close(out);
        return -ENOMEM;
    }
    s->all = all;
    s->in_fd = in;
    s->out_fd = out;
    s->callbacks = *callbacks;
    s->pause_at = pause_at;
    s->in_poll.data = s->out_poll.data = s;
    rv = uv_poll_init(all->loop, &s->in_poll, in); /* makes it non-blocking */
    if (rv != 0) {
        free_stream(s);
        return rv;
    }
    s->open_polls = 1;
    if (is_pair(s)) {
        rv = uv_poll_init(all->loop, &s->out_poll, out);
        if (rv != 0) {
            uv_close((uv_handle_t *)&s->in_poll, on_unused_closed);
            return rv;
        }
        s->open_polls = 2;
    }
    watch(s);
    *stream_out = s;
    return 0;
}

int stream_open_local(struct streams *all, const struct stream_callbacks *callbacks, stream_taker *take,
                      struct stream **stream_out)
{
    struct stream *s = calloc(1, sizeof *s);

    *stream_out = s;
    if (s == NULL)
        return -ENOMEM;
    s->all = all;
    s->in_fd = s->out_fd = -1;
    s->callbacks = *callbacks;
    s->pause_at = SIZE_MAX; /* its output is taken whole */
    s->take = take;
    s->anchor.data = s;
    uv_idle_init(all->loop, &s->anchor);
    s->open_polls = 1;
    return 0;
}

struct buffer *stream_output(struct stream *s)
{
    mark_dirty(s);
    return &s->out;
}

size_t stream_pending(const struct stream *s)
{
    return s->out.len - s->out_at;
}

void stream_pause(struct stream *s)
{
    s->paused = true;
    watch(s);
}

void stream_resume(struct stream *s)
{
    if (!s->paused)
        return;
    s->paused = false;
    mark_dirty(s); /* frames may wait in `in` */
}

void stream_close(struct stream *s)
{
    end(s, -ECANCELED);
}

void stream_finish(struct stream *s)
{
    s->finish = true;
    mark_dirty(s);
}

/* Frames have had their time of this turn; the first one always has. */
static bool time_is_up(struct streams *all)
{
    uint64_t now = clock_boot_ns();

    if (all->until_ns == 0)
        all->until_ns = now + TURN_INPUT_NS;
    return now >= all->until_ns;
}

static bool may_handle(const struct stream *s)
{
    return !s->closed && !s->finish && !s->paused && s->out.len - s->out_at < s->pause_at;
}

/* Hands out what is complete in `in`, up to a limit. Whether it was anything. */
static bool handle_input(struct stream *s)
{
    unsigned n = 0;

    while (may_handle(s) && s->in.len > s->in_at) {
        const uint8_t *data = s->in.data + s->in_at;
        size_t len = s->in.len - s->in_at;
        struct frame frame;
        long used;

        if (n == FRAMES_PER_TURN || time_is_up(s->all)) {
            mark_dirty(s);
            return true;
        }
        used = frame_parse(data, len, &frame);
        if (used > 0) {
            uint64_t since = s->all->turn != NULL ? clock_boot_ns() : 0;
            int rv = s->callbacks.on_frame(s->callbacks.arg, &frame);

            if (s->all->turn != NULL)
                turn_part(s->all->turn, since, "frame of type", NULL, frame.type);
            if (rv < 0)
                used = rv;
        }
        if (used < 0) {
            /* An answer that says why may wait in `out`: let it leave. */
            s->reason = (int)used;
            stream_finish(s);
            return true;
        }
        if (used == 0 && len < FRAME_HEADER_LEN + FRAME_PAYLOAD_MAX)
            break;
        s->in_at += (size_t)used;
        n++;
    }
    if (s->in_at == s->in.len) {
        buffer_clear(&s->in);
        s->in_at = 0;
    } else if (s->in_at >= COMPACT_AT) {
        buffer_consume(&s->in, s->in_at);
        s->in_at = 0;
    }
    return n > 0;
}

static void read_input(struct stream *s)
{
    ssize_t n;

    if (!buffer_reserve(&s->in, READ_SIZE)) {
        end(s, -ENOMEM);
        return;
    }
    do
        n = read(s->in_fd, s->in.data + s->in.len, s->in.cap - s->in.len);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        s->in.len += (size_t)n;
        handle_input(s);
    } else if (n == 0) {
        end(s, 0);
    } else if (errno != EAGAIN && errno != EWOULDBLOCK) {
        end(s, -errno);
    }
}

void stream_feed(struct stream *s, const void *frames, size_t len)
{
    if (s->closed || s->finish)
        return;
    buffer_put_bytes(&s->in, frames, len);
    if (s->in.failed)
        end(s, -ENOMEM);
    else if (s->taking || !may_handle(s))
        mark_dirty(s);
    else if (handle_input(s))
        mark_dirty(s);
}

size_t stream_waiting(const struct stream *s)
{
    return s->in.len - s->in_at;
}

/* At least one piece leaves. True: there is more, and only the time is missing. */
static bool write_output(struct stream *s, uint64_t until_ns)
{
    bool first = true;

    while (s->out.len > s->out_at) {
        size_t len = s->out.len - s->out_at;
        ssize_t n;

        if (!first && turn_time_is_up(until_ns)) {
            mark_dirty(s);
            return true;
        }
        first = false;
        if (s->take != NULL) {
            s->taking = true; /* nothing is appended to what is being read */
            s->out_at += s->take(s->callbacks.arg, s->out.data + s->out_at, len);
            s->taking = false;
            if (s->out.len == s->out_at)
                break;
            mark_dirty(s); /* it has no time for more */
            return true;
        }
        n = write(s->out_fd, s->out.data + s->out_at, len < WRITE_SIZE ? len : WRITE_SIZE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (n < 0) {
            end(s, -errno);
            return false;
        }
        s->out_at += (size_t)n;
    }
    if (s->out_at == s->out.len) {
        buffer_clear(&s->out);
        s->out_at = 0;
        /* One large answer must not hold its memory for ever. */
        if (s->out.cap > 4 * (size_t)READ_SIZE)
            buffer_deinit(&s->out);
    } else if (s->out_at > s->out.cap / 2) {
        buffer_consume(&s->out, s->out_at);
        s->out_at = 0;
    }
    return false;
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct stream *s = poll->data;

    if (status < 0) {
        end(s, -ECONNRESET); /* libuv says EBADF for every error of the socket */
        return;
    }
    if ((events & UV_WRITABLE) != 0)
        mark_dirty(s);
    if ((events & UV_READABLE) != 0 && !s->closed && !s->finish)
        read_input(s);
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct stream *s = handle->data;

    if (--s->open_polls > 0)
        return;
    s->callbacks.on_closed(s->callbacks.arg, s->reason);
    /* An answer that came between uv_close() and this has gone to the sink. */
    if (s->dirty)
        TAILQ_REMOVE(&s->all->dirty, s, link);
    free_stream(s);
}

static void on_idle(uv_idle_t *idle)
{
    (void)idle; /* its being active keeps the loop from sleeping */
}

static void flush_one(struct stream *s, uint64_t until_ns)
{
    bool more = false;

    if (s->out.failed)
        end(s, -ENOMEM);
    if (!s->closed) {
        uint64_t since = s->all->turn != NULL ? clock_boot_ns() : 0;

        more = write_output(s, until_ns);
        if (s->all->turn != NULL)
            turn_part(s->all->turn, since, "output", "", 0);
    }
    if (!s->closed && s->finish && !more)
        end(s, s->reason != 0 ? s->reason : -ECANCELED);
    /* What came of it is for the end of a turn, and this one is over. */
    if (!s->closed && s->in.len > s->in_at && may_handle(s) && handle_input(s))
        mark_dirty(s);
    if (!s->closed) {
        watch(s);
        return;
    }
    if (s->dirty) {
        TAILQ_REMOVE(&s->all->dirty, s, link);
        s->dirty = false;
    }
    if (s->take != NULL) {
        if (!uv_is_closing((uv_handle_t *)&s->anchor))
            uv_close((uv_handle_t *)&s->anchor, on_poll_closed);
    } else if (!uv_is_closing((uv_handle_t *)&s->in_poll)) {
        uv_close((uv_handle_t *)&s->in_poll, on_poll_closed);
        if (is_pair(s))
            uv_close((uv_handle_t *)&s->out_poll, on_poll_closed);
    }
}

static void flush(struct streams *all, uint64_t until_ns)
{
    struct stream *last = TAILQ_LAST(&all->dirty, stream_list);
    struct stream *s = NULL;

    all->until_ns = 0;
    /* Each stream once, as far as there is time; who has had none is first in the next turn, and what becomes
     * dirty meanwhile is behind him. */
    while (s != last && (s == NULL || !turn_time_is_up(until_ns))) {
        s = TAILQ_FIRST(&all->dirty);
        TAILQ_REMOVE(&all->dirty, s, link);
        s->dirty = false;
        flush_one(s, until_ns);
    }
    all->until_ns = 0;
    if (TAILQ_EMPTY(&all->dirty))
        uv_idle_stop(&all->idle);
    else
        uv_idle_start(&all->idle, on_idle);
}

void streams_flush(struct streams *all)
{
    flush(all, clock_boot_ns() + TURN_OUTPUT_NS);
}

void streams_flush_last(struct streams *all)
{
    flush(all, UINT64_MAX);
}

void streams_deinit(struct streams *all)
{
    uv_close((uv_handle_t *)&all->idle, NULL);
}
