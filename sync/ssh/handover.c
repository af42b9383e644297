#include "sync/ssh/handover.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sync/base/buffer.h"

static const char magic[4] = {'K', 'V', 'B', 'R'};
#define VERSION 2
/* More descriptors than two are a mistake; these many are taken to be closed, and
 * the kernel drops any others. */
#define DESCRIPTORS_MAX 8

union control {
    struct cmsghdr header; /* its alignment */
    char bytes[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
};

int handover_send(int socket, const char *peer_name, int in, int out)
{
    const int fds[2] = {in, out};
    union control control;
    struct buffer b = BUFFER_INIT;
    struct iovec iov;
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = CMSG_SPACE(sizeof fds)};
    struct cmsghdr *c;
    int rv = 0;

    buffer_put_bytes(&b, magic, sizeof magic);
    buffer_put_u8(&b, VERSION);
    buffer_put_text(&b, peer_name);
    if (b.failed) {
        rv = -ENOMEM;
        goto out;
    }
    iov = (struct iovec){.iov_base = b.data, .iov_len = b.len};
    memset(&control, 0, sizeof control);
    c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(c), fds, sizeof fds);
    while (sendmsg(socket, &m, MSG_NOSIGNAL) < 0) {
        if (errno != EINTR) {
            rv = -errno;
            break;
        }
    }
out:
    buffer_deinit(&b);
    return rv;
}

int handover_parse(const void *data, size_t len, char name_out[static SSH_PEER_NAME_MAX + 1])
{
    struct cursor c = cursor_of(data, len);
    const uint8_t *name;
    size_t name_len;

    for (size_t i = 0; i < sizeof magic; i++)
        if (cursor_u8(&c) != (uint8_t)magic[i])
            return -EPROTO;
    if (cursor_u8(&c) != VERSION)
        return -EPROTO;
    name = cursor_string(&c, SSH_PEER_NAME_MAX, &name_len);
    if (!cursor_done(&c) || memchr(name, '\0', name_len) != NULL)
        return -EPROTO;
    memcpy(name_out, name, name_len);
    name_out[name_len] = '\0';
    return identity_peer_name_valid(name_out) ? 0 : -EPROTO;
}

/* How many descriptors came; the first DESCRIPTORS_MAX are in fds. */
static size_t take_descriptors(struct msghdr *m, int fds[static DESCRIPTORS_MAX])
{
    size_t n = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        size_t here;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        here = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds + n, CMSG_DATA(c), here * sizeof(int));
        n += here;
    }
    return n;
}

int handover_receive(int socket, char name_out[static SSH_PEER_NAME_MAX + 1], int *in_out, int *out_out)
{
    uint8_t data[HANDOVER_MAX];
    struct iovec iov = {.iov_base = data, .iov_len = sizeof data};
    union control control;
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control};
    int fds[DESCRIPTORS_MAX];
    size_t n_fds;
    ssize_t n;

    do
        n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    n_fds = take_descriptors(&m, fds);
    if (n_fds == 2 && (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 &&
        handover_parse(data, (size_t)n, name_out) == 0) {
        *in_out = fds[0];
        *out_out = fds[1];
        return 0;
    }
    while (n_fds > 0)
        close(fds[--n_fds]);
    return n == 0 ? -ECONNRESET : -EPROTO;
}

int handover_check_peer(int socket)
{
    struct ucred peer;
    socklen_t size = sizeof peer;

    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return -errno;
    return peer.uid == 0 || peer.uid == geteuid() ? 0 : -EACCES;
}
