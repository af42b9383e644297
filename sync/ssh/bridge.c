/* It hands its standard input and output over and waits for the node to be done
 * with them: no byte of the stream passes through this process.
 *
 *     sshd ══ pipes ══ node          bridge ── peer socket ── node
 *
 * How it ends. The SSH connection broke: the node reads end of file, closes the
 * stream and the bridge's connection. The node closed or died: its descriptors
 * are gone, and so is the connection. The bridge is killed: sshd sees its child
 * die and closes the pipes. */
#include "sync/ssh/bridge.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "sync/ssh/handover.h"

#define CONNECT_MS 5000

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
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
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
        error = handover_check_peer(fd);
    if (error < 0) {
        close(fd);
        return error;
    }
    return fd;
}

/* Until the other side closes. Nothing is expected to come. */
static int wait_closed(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    while (poll(&p, 1, -1) < 0)
        if (errno != EINTR)
            return complain(BRIDGE_EXIT_IO, "poll", strerror(errno));
    return BRIDGE_EXIT_OK;
}

int bridge_run(const char *peer_name, const char *socket_path)
{
    const char *trouble;
    int node, status, error;

    signal(SIGPIPE, SIG_IGN);
    if (peer_name == NULL || !identity_peer_name_valid(peer_name))
        return complain(BRIDGE_EXIT_USAGE, "--peer", "not a peer's name");
    if (socket_path == NULL || socket_path[0] != '/')
        return complain(BRIDGE_EXIT_USAGE, "--socket", "not an absolute path");
    if ((trouble = stream_trouble(STDIN_FILENO)) != NULL)
        return complain(BRIDGE_EXIT_USAGE, "standard input", trouble);
    if ((trouble = stream_trouble(STDOUT_FILENO)) != NULL)
        return complain(BRIDGE_EXIT_USAGE, "standard output", trouble);
    node = connect_to_node(socket_path);
    if (node < 0) {
        fprintf(stderr, "kvnode bridge: the node does not answer at %s: %s\n", socket_path,
                node == -EACCES ? "it runs as another user" : strerror(-node));
        return BRIDGE_EXIT_NO_NODE;
    }
    error = handover_send(node, peer_name, STDIN_FILENO, STDOUT_FILENO);
    if (error < 0) {
        status = complain(BRIDGE_EXIT_IO, "handing over", strerror(-error));
    } else {
        /* From now on they are the node's alone: its end is the stream's. */
        close(STDIN_FILENO);
        close(STDOUT_FILENO);
        status = wait_closed(node);
    }
    close(node);
    return status;
}
