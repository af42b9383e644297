#include "sync/wire/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"

#define READ_SIZE (256 * 1024)
#define HELLO_ID 0

struct client {
    int fd;
    struct buffer in;
    size_t in_at; /* bytes of `in` that earlier frames used */
    struct buffer out;
    size_t out_at; /* bytes of `out` that are written */
    size_t open_frame;
    bool dropped; /* client_dropped() */
};

int client_socket_dir(char *path_out, size_t size)
{
    const char *dir = getenv("KVNODE_SOCKET_DIR");
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    int n;

    if (dir != NULL && dir[0] != '\0')
        n = snprintf(path_out, size, "%s", dir);
    else if (geteuid() == 0 || xdg == NULL || xdg[0] == '\0')
        n = snprintf(path_out, size, "/run/kvnode");
    else
        n = snprintf(path_out, size, "%s/kvnode", xdg);
    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int client_socket_path(const char *node, char *path_out, size_t size)
{
    char dir[sizeof(((struct sockaddr_un *)0)->sun_path)];
    int n, rv;

    if (strchr(node, '/') != NULL) {
        n = snprintf(path_out, size, "%s", node);
        return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
    }
    rv = client_socket_dir(dir, sizeof dir);
    if (rv != 0)
        return rv;
    n = snprintf(path_out, size, "%s/%s.sock", dir, node);
    if (n < 0 || (size_t)n >= size)
        return -ENAMETOOLONG;
    if (getenv("KVNODE_SOCKET_DIR") == NULL && access(path_out, F_OK) != 0) {
        char system_path[sizeof dir];

        n = snprintf(system_path, sizeof system_path, "/run/kvnode/%s.sock", node);
        if (n > 0 && (size_t)n < sizeof system_path && (size_t)n < size && access(system_path, F_OK) == 0)
            memcpy(path_out, system_path, (size_t)n + 1);
    }
    return 0;
}

static int hello(struct client *c, enum client_kind kind, const char *name, uint64_t after,
                 unsigned timeout_ms, struct client_node *node_out)
{
    const union request_body request = {.hello = {.magic = bytes_text(MESSAGE_MAGIC),
                                                  .kind = (uint8_t)kind,
                                                  .name = bytes_text(name),
                                                  .after = after,
                                                  .has_protocol = true,
                                                  .protocol = MESSAGE_PROTOCOL}};
    union answer_body answer;
    struct cursor body;
    int rv;

    client_ask(c, MESSAGE_HELLO, HELLO_ID, &request);
    rv = client_call(c, HELLO_ID, timeout_ms, &body, NULL, 0);
    if (rv != 0)
        return rv;
    if (!body_decode_answer(MESSAGE_HELLO, &body, &answer) || answer.hello.protocol != MESSAGE_PROTOCOL ||
        answer.hello.part_size == 0 || answer.hello.part_size > COMMAND_PART_SIZE)
        return -EPROTO;
    if (node_out == NULL)
        return 0;
    *node_out = (struct client_node){.cluster_id = answer.hello.cluster_id,
                                     .applied = answer.hello.applied,
                                     .part_size = answer.hello.part_size,
                                     .value_limit = answer.hello.value_limit,
                                     .level = answer.hello.level,
                                     .trusted = answer.hello.trusted != 0};
    memcpy(node_out->name, answer.hello.name, sizeof node_out->name);
    return 0;
}

int client_open(const char *socket_path, enum client_kind kind, const char *name, uint64_t after,
                unsigned timeout_ms, struct client **client_out, struct client_node *node_out)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct client *c;
    int rv;

    *client_out = NULL;
    if (strlen(socket_path) >= sizeof addr.sun_path)
        return -ENAMETOOLONG;
    memcpy(addr.sun_path, socket_path, strlen(socket_path) + 1);
    c = calloc(1, sizeof *c);
    if (c == NULL)
        return -ENOMEM;
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0) {
        rv = -errno;
        goto err_free;
    }
    /* A unix socket connects at once or, with a full backlog, gives EAGAIN:
     * the node is not accepting, which for the caller is the same as absent. */
    if (connect(c->fd, (struct sockaddr *)&addr, sizeof addr) != 0) {
        rv = errno == EAGAIN ? -ECONNREFUSED : -errno;
        goto err_close;
    }
    rv = hello(c, kind, name, after, timeout_ms, node_out);
    if (rv != 0)
        goto err_close;
    *client_out = c;
    return 0;

err_close:
    close(c->fd);
err_free:
    buffer_deinit(&c->in);
    buffer_deinit(&c->out);
    free(c);
    return rv;
}

void client_close(struct client *c)
{
    if (c == NULL)
        return;
    close(c->fd);
    buffer_deinit(&c->in);
    buffer_deinit(&c->out);
    free(c);
}

int client_fd(const struct client *c)
{
    return c->fd;
}

struct buffer *client_queue(struct client *c, enum message_type type, uint64_t id)
{
    if (c->out_at == c->out.len) {
        buffer_clear(&c->out);
        c->out_at = 0;
    }
    c->open_frame = frame_begin(&c->out, (uint8_t)type, 0, id);
    return &c->out;
}

void client_queue_end(struct client *c)
{
    frame_end(&c->out, c->open_frame);
}

void client_ask(struct client *c, enum message_type type, uint64_t id, const union request_body *body)
{
    body_encode_request(client_queue(c, type, id), (uint8_t)type, body);
    client_queue_end(c);
}

int client_flush(struct client *c)
{
    if (c->out.failed)
        return -ENOMEM;
    while (c->out_at < c->out.len) {
        ssize_t n = send(c->fd, c->out.data + c->out_at, c->out.len - c->out_at, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 1;
        if (n < 0)
            return -errno;
        c->out_at += (size_t)n;
    }
    return 0;
}

/* Reads what the socket has. 1: something, 0: nothing now, -errno. */
static int fill(struct client *c)
{
    ssize_t n;

    if (c->in_at > 0) {
        buffer_consume(&c->in, c->in_at);
        c->in_at = 0;
    }
    if (!buffer_reserve(&c->in, READ_SIZE))
        return -ENOMEM;
    do
        n = recv(c->fd, c->in.data + c->in.len, c->in.cap - c->in.len, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
    if (n == 0)
        return -ECONNRESET;
    c->in.len += (size_t)n;
    return 1;
}

int client_next(struct client *c, struct frame *frame_out)
{
    for (;;) {
        long n = 0;
        int rv;

        if (c->in.len > c->in_at)
            n = frame_parse(c->in.data + c->in_at, c->in.len - c->in_at, frame_out);
        if (n < 0)
            return (int)n;
        if (n > 0) {
            c->in_at += (size_t)n;
            return 1;
        }
        rv = fill(c);
        if (rv <= 0)
            return rv;
    }
}

int client_wait(struct client *c, unsigned timeout_ms, struct frame *frame_out)
{
    uint64_t deadline = clock_boot_ms() + timeout_ms;

    for (;;) {
        int left = client_flush(c);
        int rv = client_next(c, frame_out);
        uint64_t now = clock_boot_ms();
        struct pollfd p = {.fd = c->fd, .events = POLLIN};

        if (rv != 0)
            return rv;
        if (left < 0)
            return left;
        if (now >= deadline)
            return -ETIMEDOUT;
        if (left > 0)
            p.events |= POLLOUT;
        if (poll(&p, 1, (int)(deadline - now)) < 0 && errno != EINTR)
            return -errno;
    }
}

int client_answer(const struct frame *frame, struct cursor *body_out, char *detail_out, size_t size)
{
    struct cursor c = cursor_of(frame->payload, frame->len);
    int code = cursor_u16(&c);

    if (detail_out != NULL && size > 0)
        detail_out[0] = '\0';
    if (c.failed || frame->type != MESSAGE_ANSWER)
        return -EPROTO;
    if (code != KV_OK && detail_out != NULL && size > 0) {
        struct cursor text = c;
        size_t len;
        const uint8_t *detail = cursor_string(&text, FRAME_PAYLOAD_MAX, &len);

        if (detail != NULL) {
            len = len < size - 1 ? len : size - 1;
            memcpy(detail_out, detail, len);
            detail_out[len] = '\0';
        }
    }
    *body_out = c;
    return code;
}

bool client_dropped(struct client *c)
{
    bool dropped = c->dropped;

    c->dropped = false;
    return dropped;
}

int client_call(struct client *c, uint64_t id, unsigned timeout_ms, struct cursor *body_out, char *detail_out,
                size_t detail_size)
{
    uint64_t deadline = clock_boot_ms() + timeout_ms;
    struct frame frame;

    for (;;) {
        uint64_t now = clock_boot_ms();
        int rv = client_wait(c, now < deadline ? (unsigned)(deadline - now) : 0, &frame);

        if (rv < 0)
            return rv;
        if (frame.type == MESSAGE_ANSWER && frame.id == id)
            return client_answer(&frame, body_out, detail_out, detail_size);
        c->dropped = true;
    }
}
