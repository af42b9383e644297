#include "sync/ssh/dial.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sync/base/clock.h"

/* Shared by the thread that looks up and the one that waits; the last one to
 * let go frees it. */
struct lookup {
    atomic_int holders;
    int done_fd; /* owned; eventfd */
    char *host;  /* owned */
    char port[8];
    int error;             /* of getaddrinfo; valid once `done` */
    struct addrinfo *list; /* owned; the same */
    atomic_bool done;      /* set before done_fd is rung */
};

static int look_up(const char *host, const char *port, int flags, struct addrinfo **list)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};

    hints.ai_flags = AI_NUMERICSERV | flags;
    return getaddrinfo(host, port, &hints, list);
}

static void lookup_release(struct lookup *l)
{
    if (atomic_fetch_sub(&l->holders, 1) > 1)
        return;
    if (l->list != NULL)
        freeaddrinfo(l->list);
    if (l->done_fd >= 0)
        close(l->done_fd);
    free(l->host);
    free(l);
}

static void *lookup_main(void *arg)
{
    struct lookup *l = arg;
    uint64_t one = 1;

    l->error = look_up(l->host, l->port, 0, &l->list);
    atomic_store(&l->done, true);
    while (write(l->done_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
    lookup_release(l);
    return NULL;
}

static struct lookup *lookup_start(const char *host, const char *port)
{
    struct lookup *l = calloc(1, sizeof *l);
    pthread_attr_t attr;
    pthread_t thread;
    int error;

    if (l == NULL)
        return NULL;
    atomic_init(&l->holders, 2);
    snprintf(l->port, sizeof l->port, "%s", port);
    l->host = strdup(host);
    l->done_fd = eventfd(0, EFD_CLOEXEC);
    if (l->host == NULL || l->done_fd < 0)
        goto fail;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    error = pthread_create(&thread, &attr, lookup_main, l);
    pthread_attr_destroy(&attr);
    if (error == 0)
        return l;
fail:
    atomic_store(&l->holders, 1);
    lookup_release(l);
    return NULL;
}

/* 0: fd is ready; -ETIMEDOUT; -ECANCELED. */
static int wait_for(int fd, short events, uint64_t deadline_ms, int stop_fd)
{
    for (;;) {
        struct pollfd p[2] = {{.fd = fd, .events = events}, {.fd = stop_fd, .events = POLLIN}};
        uint64_t now = clock_boot_ms();
        int n = poll(p, 2, now < deadline_ms ? (int)(deadline_ms - now) : 0);

        if (n > 0 && p[1].revents != 0)
            return -ECANCELED;
        if (n > 0 && p[0].revents != 0)
            return 0;
        if (n == 0 && clock_boot_ms() >= deadline_ms)
            return -ETIMEDOUT;
    }
}

static int connect_one(const struct addrinfo *a, uint64_t deadline_ms, int stop_fd)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    int error = 0, on = 1, idle_s = 10, interval_s = 5, probes = 3, user_ms = 15000;
    socklen_t size = sizeof error;

    if (fd < 0)
        return -errno;
    if (connect(fd, a->ai_addr, a->ai_addrlen) < 0)
        error = -errno;
    if (error == -EINPROGRESS || error == -EINTR) {
        error = wait_for(fd, POLLOUT, deadline_ms, stop_fd);
        if (error == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0)
            error = -error;
    }
    if (error < 0) {
        close(fd);
        return error;
    }
    /* The second line of defence: the first are the frames of the stream. */
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_ms, sizeof user_ms);
    return fd;
}

static int connect_any(const struct addrinfo *list, uint64_t deadline_ms, int stop_fd)
{
    int error = -EADDRNOTAVAIL, left = 0;

    for (const struct addrinfo *a = list; a != NULL; a = a->ai_next)
        left++;
    for (const struct addrinfo *a = list; a != NULL; a = a->ai_next, left--) {
        uint64_t now = clock_boot_ms(), share;

        if (now >= deadline_ms)
            return -ETIMEDOUT;
        share = (deadline_ms - now) / (uint64_t)left;
        error = connect_one(a, now + share, stop_fd);
        if (error >= 0 || error == -ECANCELED)
            break;
    }
    return error;
}

static enum ssh_failure describe(int error, char *message, size_t size)
{
    switch (-error) {
    case ECONNREFUSED:
        snprintf(message, size, "connection refused: nothing listens there");
        return SSH_FAILED_REFUSED;
    case ETIMEDOUT:
        snprintf(message, size, "timeout: no answer to the TCP connection");
        return SSH_FAILED_TIMEOUT;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
        snprintf(message, size, "cannot open a socket: %s", strerror(-error));
        return SSH_FAILED_LOCAL;
    default:
        snprintf(message, size, "cannot connect: %s", strerror(-error));
        return SSH_FAILED_NETWORK;
    }
}

/* The name's addresses, on a thread of its own. 0, -ECANCELED, or a negative errno
 * with the reason. */
static int resolve(const char *host, const char *port, uint64_t deadline_ms, int stop_fd,
                   struct addrinfo **list_out, char *message, size_t size)
{
    struct lookup *l = lookup_start(host, port);
    int result;

    if (l == NULL) {
        snprintf(message, size, "cannot look the host name up: out of memory or threads");
        return -ENOMEM;
    }
    result = wait_for(l->done_fd, POLLIN, deadline_ms, stop_fd);
    if (result == -ETIMEDOUT) {
        snprintf(message, size, "timeout: the name service does not answer");
    } else if (result == 0 && atomic_load(&l->done) && l->error != 0) {
        snprintf(message, size, "no address for this host name: %s", gai_strerror(l->error));
        result = -ENOENT;
    } else if (result == 0) {
        *list_out = l->list;
        l->list = NULL; /* the caller's */
    }
    lookup_release(l);
    return result;
}

int dial(const char *host, uint16_t port, uint64_t deadline_ms, int stop_fd, enum ssh_failure *failure_out,
         char *message_out, size_t message_size)
{
    struct addrinfo *list = NULL;
    char digits[8];
    int result;

    snprintf(digits, sizeof digits, "%u", port);
    if (look_up(host, digits, AI_NUMERICHOST, &list) != 0) {
        result = resolve(host, digits, deadline_ms, stop_fd, &list, message_out, message_size);
        if (result < 0) {
            *failure_out = result == -ENOMEM ? SSH_FAILED_LOCAL : SSH_FAILED_RESOLVE;
            return result;
        }
    }
    result = connect_any(list, deadline_ms, stop_fd);
    freeaddrinfo(list);
    if (result < 0 && result != -ECANCELED)
        *failure_out = describe(result, message_out, message_size);
    return result;
}
