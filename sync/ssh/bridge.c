/* Two byte queues and a poll.
 *
 *     sshd ── stdin ──> to_node ──> peer socket ── node
 *     sshd <─ stdout ── to_sshd <── peer socket ── node
 *
 * Each turn reads what is there and writes it on at once, without waiting for
 * poll to say that the other side is writable: a message costs one poll, one
 * read and one write. poll is asked for writability only while a queue is not
 * empty.
 *
 * How it ends. The SSH connection broke: standard output reports a hang-up and
 * standard input, once it is read empty, end of file; what had arrived goes to
 * the node and the socket is closed. The dialler half-closed: end of file on
 * standard input alone; the node gets a half-close and, for a while, can still
 * answer. The node closed or died: end of file on the socket; the rest goes out
 * and the bridge exits, which closes the channel. */
#include "sync/ssh/bridge.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "sync/base/buffer.h"
#include "sync/base/clock.h"
#include "sync/ssh/fifo.h"
#include "sync/ssh/identity.h"

#define QUEUE_MAX ((size_t)256 * 1024)
#define LINGER_MS 5000
#define CONNECT_MS 5000

static const char preamble_magic[4] = {'K', 'V', 'B', 'R'};
#define PREAMBLE_VERSION 1

void bridge_preamble_put(struct buffer *b, const char *peer_name)
{
    buffer_put_bytes(b, preamble_magic, sizeof preamble_magic);
    buffer_put_u8(b, PREAMBLE_VERSION);
    buffer_put_text(b, peer_name);
}

int bridge_preamble_parse(const void *data, size_t len, char name_out[static SSH_PEER_NAME_MAX + 1])
{
    const size_t fixed = sizeof preamble_magic + 1 + 4;
    struct cursor c = cursor_of(data, len);
    uint32_t name_len;

    for (size_t i = 0; i < sizeof preamble_magic && c.len > 0; i++)
        if (cursor_u8(&c) != (uint8_t)preamble_magic[i])
            return -EPROTO;
    if (c.len > 0 && cursor_u8(&c) != PREAMBLE_VERSION)
        return -EPROTO;
    if (len < fixed)
        return 0;
    name_len = cursor_u32(&c);
    if (name_len < 1 || name_len > SSH_PEER_NAME_MAX)
        return -EPROTO;
    if (c.len < name_len)
        return 0;
    memcpy(name_out, c.data, name_len);
    name_out[name_len] = '\0';
    if (strlen(name_out) != name_len || !identity_peer_name_valid(name_out))
        return -EPROTO;
    return (int)(fixed + name_len);
}

int bridge_accept_check(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return -errno;
    return peer.uid == 0 || peer.uid == geteuid() ? 0 : -EACCES;
}

static int complain(int status, const char *what, const char *why)
{
    fprintf(stderr, "kvnode bridge: %s: %s\n", what, why);
    return status;
}

/* NULL when fd is something that sshd gives to a command. */
static const char *stream_trouble(int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return "closed";
    if (isatty(fd))
        return "a terminal; this command is run by sshd, not by hand";
    if (!S_ISSOCK(st.st_mode) && !S_ISFIFO(st.st_mode))
        return "neither a socket nor a pipe; this command is run by sshd, not by hand";
    return NULL;
}

static bool set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) >= 0;
}

static int wait_connected(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int error = 0;
    socklen_t size = sizeof error;

    if (poll(&p, 1, CONNECT_MS) == 0)
        return -ETIMEDOUT;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        return -errno;
    return -error;
}

/* A blocking connect to a unix socket waits for ever while the backlog is full;
 * a non-blocking one says EAGAIN then. */
static int connect_to_node(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint64_t deadline = clock_boot_ms() + CONNECT_MS;
    int fd, error;

    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    for (;;) {
        error = connect(fd, (const struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
        if (error == -EINPROGRESS)
            error = wait_connected(fd);
        if (error != -EAGAIN && error != -EINTR)
            break;
        if (clock_boot_ms() >= deadline) {
            error = -ETIMEDOUT;
            break;
        }
        poll(NULL, 0, 5);
    }
    if (error == 0)
        error = bridge_accept_check(fd);
    if (error < 0) {
        close(fd);
        return error;
    }
    return fd;
}

struct relay {
    int in, out, node; /* borrowed */
    struct fifo to_node, to_sshd;
    bool in_ended, node_told, node_ended, out_gone;
};

enum { MOVED = 1, IDLE = 0, BROKEN = -1, ENDED = 2 };

static int take(int fd, struct fifo *queue)
{
    size_t room = QUEUE_MAX - fifo_used(queue);
    uint8_t *space;
    ssize_t n;

    if (room == 0)
        return IDLE;
    space = fifo_reserve(queue, room);
    if (space == NULL)
        return BROKEN;
    n = read(fd, space, room);
    if (n > 0) {
        fifo_added(queue, (size_t)n);
        return MOVED;
    }
    if (n == 0 || errno == ECONNRESET)
        return ENDED;
    return errno == EAGAIN || errno == EINTR ? IDLE : BROKEN;
}

/* ENDED: the reader is gone. */
static int give(int fd, struct fifo *queue)
{
    int moved = IDLE;

    while (fifo_used(queue) > 0) {
        ssize_t n = write(fd, fifo_head(queue), fifo_used(queue));

        if (n > 0) {
            fifo_consume(queue, (size_t)n);
            moved = MOVED;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && errno == EAGAIN) {
            break;
        } else {
            return errno == EPIPE || errno == ECONNRESET ? ENDED : BROKEN;
        }
    }
    return moved;
}

static int turn(struct relay *r, const struct pollfd *p)
{
    int result;

    if (!r->in_ended && p[0].revents != 0) {
        result = take(r->in, &r->to_node);
        if (result == BROKEN)
            return BROKEN;
        r->in_ended = result == ENDED;
    }
    if (!r->node_ended && (p[1].revents & ~POLLOUT) != 0 && !r->out_gone) {
        result = take(r->node, &r->to_sshd);
        if (result == BROKEN)
            return BROKEN;
        r->node_ended = result == ENDED;
    }
    if (!r->out_gone) {
        result = give(r->out, &r->to_sshd);
        if (result == BROKEN)
            return BROKEN;
        r->out_gone = result == ENDED;
    }
    if (!r->node_ended) {
        result = give(r->node, &r->to_node);
        if (result == BROKEN)
            return BROKEN;
        /* The node does not read any more; what it sent before may still wait. */
        if (result == ENDED)
            fifo_consume(&r->to_node, fifo_used(&r->to_node));
    }
    if (r->in_ended && !r->node_told && fifo_used(&r->to_node) == 0) {
        shutdown(r->node, SHUT_WR);
        r->node_told = true;
    }
    if (r->node_ended && (r->out_gone || fifo_used(&r->to_sshd) == 0))
        return ENDED;
    return r->out_gone && r->node_told ? ENDED : MOVED;
}

/* What to wait for. A descriptor of which nothing is wanted is left out: its
 * hang-up would be reported for ever. Standard output stays in, asked for
 * nothing: a hang-up there is how a broken connection shows while nothing is
 * read. */
static void prepare(const struct relay *r, struct pollfd p[3])
{
    bool in_open = !r->in_ended && !r->node_ended && fifo_used(&r->to_node) < QUEUE_MAX;
    bool node_open = !r->node_ended && !r->out_gone && fifo_used(&r->to_sshd) < QUEUE_MAX;
    bool node_full = !r->node_ended && fifo_used(&r->to_node) > 0;

    p[0] = (struct pollfd){.fd = in_open ? r->in : -1, .events = POLLIN};
    p[1] = (struct pollfd){.fd = node_open || node_full ? r->node : -1};
    p[1].events = (short)((node_open ? POLLIN : 0) | (node_full ? POLLOUT : 0));
    p[2] = (struct pollfd){.fd = r->out_gone ? -1 : r->out};
    p[2].events = fifo_used(&r->to_sshd) > 0 ? POLLOUT : 0;
}

static int relay_run(struct relay *r)
{
    uint64_t deadline = 0;
    struct pollfd p[3];

    for (;;) {
        int timeout = -1, n, result;

        prepare(r, p);
        if (r->in_ended || r->node_ended || r->out_gone) {
            uint64_t now = clock_boot_ms();

            if (deadline == 0)
                deadline = now + LINGER_MS;
            if (now >= deadline)
                return BRIDGE_EXIT_OK;
            timeout = (int)(deadline - now);
        }
        n = poll(p, 3, timeout);
        if (n < 0 && errno != EINTR)
            return complain(BRIDGE_EXIT_IO, "poll", strerror(errno));
        if (n <= 0)
            continue;
        if (p[2].revents & (POLLERR | POLLHUP | POLLNVAL))
            r->out_gone = true;
        result = turn(r, p);
        if (result == BROKEN)
            return complain(BRIDGE_EXIT_IO, "relaying", strerror(errno));
        if (result == ENDED)
            return BRIDGE_EXIT_OK;
    }
}

int bridge_run(const char *peer_name, const char *socket_path)
{
    struct relay r = {.in = STDIN_FILENO, .out = STDOUT_FILENO};
    struct buffer preamble = BUFFER_INIT;
    const char *trouble;
    uint8_t *space;
    int status;

    signal(SIGPIPE, SIG_IGN);
    if (peer_name == NULL || !identity_peer_name_valid(peer_name))
        return complain(BRIDGE_EXIT_USAGE, "--peer", "not a peer's name");
    if (socket_path == NULL || socket_path[0] != '/')
        return complain(BRIDGE_EXIT_USAGE, "--socket", "not an absolute path");
    if ((trouble = stream_trouble(STDIN_FILENO)) != NULL)
        return complain(BRIDGE_EXIT_USAGE, "standard input", trouble);
    if ((trouble = stream_trouble(STDOUT_FILENO)) != NULL)
        return complain(BRIDGE_EXIT_USAGE, "standard output", trouble);
    if (!set_nonblocking(STDIN_FILENO) || !set_nonblocking(STDOUT_FILENO))
        return complain(BRIDGE_EXIT_IO, "standard input and output", strerror(errno));
    r.node = connect_to_node(socket_path);
    if (r.node < 0) {
        fprintf(stderr, "kvnode bridge: the node does not answer at %s: %s\n", socket_path,
                r.node == -EACCES ? "it runs as another user" : strerror(-r.node));
        return BRIDGE_EXIT_NO_NODE;
    }
    bridge_preamble_put(&preamble, peer_name);
    space = fifo_reserve(&r.to_node, QUEUE_MAX);
    if (preamble.failed || space == NULL) {
        status = complain(BRIDGE_EXIT_IO, "starting", strerror(ENOMEM));
    } else {
        memcpy(space, preamble.data, preamble.len);
        fifo_added(&r.to_node, preamble.len);
        status = relay_run(&r);
    }
    buffer_deinit(&preamble);
    fifo_deinit(&r.to_node);
    fifo_deinit(&r.to_sshd);
    close(r.node);
    return status;
}
