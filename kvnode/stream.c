#include "kvnode/stream.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_SIZE (256 * 1024)
/* Frames handled in one go before others get their turn. */
#define FRAMES_PER_TURN 256
/* Consumed input is moved away only beyond this, so that a burst of small
 * frames costs one memmove. */
#define COMPACT_AT (64 * 1024)

struct stream {
    uv_poll_t poll;
    struct streams *all; /* borrowed */
    int fd;
    struct stream_callbacks callbacks;
    struct buffer in;
    size_t in_at; /* bytes of `in` already handled */
    struct buffer out;
    size_t out_at; /* bytes of `out` already written */
    size_t pause_at;
    int events; /* what poll watches */
    bool preamble, paused, closed, finish, dirty;
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

static void watch(struct stream *s)
{
    int events = 0;

    if (s->closed)
        return;
    if (!s->paused && s->out.len - s->out_at < s->pause_at)
        events |= UV_READABLE;
    if (s->out.len > s->out_at)
        events |= UV_WRITABLE;
    if (events == s->events)
        return;
    s->events = events;
    if (events == 0)
        uv_poll_stop(&s->poll);
    else if (uv_poll_start(&s->poll, events, on_ready) != 0)
        end(s, -EIO);
}

int stream_open(struct streams *all, int fd, const struct stream_callbacks *callbacks, size_t pause_at,
                struct stream **stream_out)
{
    struct stream *s = calloc(1, sizeof *s);
    int rv = -ENOMEM;

    *stream_out = NULL;
    if (s == NULL)
        goto err_close;
    s->all = all;
    s->fd = fd;
    s->callbacks = *callbacks;
    s->pause_at = pause_at;
    s->preamble = callbacks->on_preamble != NULL;
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
        rv = -errno;
        goto err_free;
    }
    rv = uv_poll_init(all->loop, &s->poll, fd);
    if (rv != 0)
        goto err_free;
    s->poll.data = s;
    watch(s);
    *stream_out = s;
    return 0;

err_free:
    free(s);
err_close:
    close(fd);
    return rv;
}

void stream_frames_follow(struct stream *s)
{
    s->preamble = false;
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

int stream_fd(const struct stream *s)
{
    return s->fd;
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

        if (n == FRAMES_PER_TURN) {
            mark_dirty(s);
            return true;
        }
        if (s->preamble) {
            used = s->callbacks.on_preamble(s->callbacks.arg, data, len);
        } else {
            used = frame_parse(data, len, &frame);
            if (used > 0) {
                int rv = s->callbacks.on_frame(s->callbacks.arg, &frame);

                if (rv < 0)
                    used = rv;
            }
        }
        if (used < 0) {
            /* An answer that says why may wait in `out`: let it leave. */
            s->reason = (int)used;
            stream_finish(s);
            return true;
        }
        if (used == 0 && (s->preamble || len < FRAME_HEADER_LEN + FRAME_PAYLOAD_MAX))
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
        n = recv(s->fd, s->in.data + s->in.len, s->in.cap - s->in.len, 0);
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

static void write_output(struct stream *s)
{
    while (s->out.len > s->out_at) {
        ssize_t n = send(s->fd, s->out.data + s->out_at, s->out.len - s->out_at, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (n < 0) {
            end(s, -errno);
            return;
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

static void on_handle_closed(uv_handle_t *handle)
{
    struct stream *s = handle->data;

    close(s->fd);
    s->callbacks.on_closed(s->callbacks.arg, s->reason);
    /* An answer that came between uv_close() and this has gone to the sink. */
    if (s->dirty)
        TAILQ_REMOVE(&s->all->dirty, s, link);
    buffer_deinit(&s->in);
    buffer_deinit(&s->out);
    free(s);
}

static void on_idle(uv_idle_t *idle)
{
    (void)idle; /* its being active keeps the loop from sleeping */
}

static void flush_one(struct stream *s)
{
    if (s->out.failed)
        end(s, -ENOMEM);
    if (!s->closed)
        write_output(s);
    if (!s->closed && s->finish)
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
    if (!uv_is_closing((uv_handle_t *)&s->poll)) {
        uv_poll_stop(&s->poll);
        uv_close((uv_handle_t *)&s->poll, on_handle_closed);
    }
}

void streams_flush(struct streams *all)
{
    struct stream *last = TAILQ_LAST(&all->dirty, stream_list);
    struct stream *s = NULL;

    /* Each stream once; what becomes dirty meanwhile has the next turn. */
    while (s != last) {
        s = TAILQ_FIRST(&all->dirty);
        TAILQ_REMOVE(&all->dirty, s, link);
        s->dirty = false;
        flush_one(s);
    }
    if (TAILQ_EMPTY(&all->dirty))
        uv_idle_stop(&all->idle);
    else
        uv_idle_start(&all->idle, on_idle);
}

void streams_deinit(struct streams *all)
{
    uv_close((uv_handle_t *)&all->idle, NULL);
}
