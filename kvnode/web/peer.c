/* Why the kernel's answer is looked at so closely: a socket whose process has closed it is still there for a
 * while (FIN_WAIT, TIME_WAIT) and belongs to nobody; the kernel then says uid 0. So does it find another
 * socket that listens on that port, if the connection's own is gone. Whoever sent "GET" and hung up would be
 * root. */
#include "kvnode/web/peer.h"

#include <errno.h>
#include <grp.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define UID_NOBODY 65534

void peer_of_unix(int fd, struct web_who *who_out)
{
    struct ucred cred;
    socklen_t len = sizeof cred;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
        cred = (struct ucred){.uid = UID_NOBODY, .gid = UID_NOBODY};
    who_out->uid = cred.uid;
    who_out->gid = cred.gid;
    who_out->n_groups = 0;
    len = sizeof who_out->groups;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, who_out->groups, &len) == 0)
        who_out->n_groups = (uint32_t)(len / sizeof who_out->groups[0]);
}

/* Of those the process has the socket still, whatever it has shut down of it. */
static bool is_connected(uint8_t state)
{
    return state == TCP_ESTABLISHED || state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2;
}

/* The connection as its other end has it. */
static int fill_id(int fd, struct inet_diag_req_v2 *req)
{
    struct sockaddr_storage own, other;
    socklen_t own_len = sizeof own, other_len = sizeof other;

    if (getsockname(fd, (struct sockaddr *)&own, &own_len) != 0 ||
        getpeername(fd, (struct sockaddr *)&other, &other_len) != 0)
        return -errno;
    req->sdiag_family = (uint8_t)own.ss_family;
    req->sdiag_protocol = IPPROTO_TCP;
    req->idiag_states = UINT32_MAX;
    req->id.idiag_cookie[0] = req->id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    if (own.ss_family == AF_INET) {
        const struct sockaddr_in *to = (const struct sockaddr_in *)&own,
                                 *from = (const struct sockaddr_in *)&other;

        req->id.idiag_sport = from->sin_port;
        req->id.idiag_dport = to->sin_port;
        memcpy(req->id.idiag_src, &from->sin_addr, sizeof from->sin_addr);
        memcpy(req->id.idiag_dst, &to->sin_addr, sizeof to->sin_addr);
        return 0;
    }
    if (own.ss_family == AF_INET6) {
        const struct sockaddr_in6 *to = (const struct sockaddr_in6 *)&own,
                                  *from = (const struct sockaddr_in6 *)&other;

        req->id.idiag_sport = from->sin6_port;
        req->id.idiag_dport = to->sin6_port;
        memcpy(req->id.idiag_src, &from->sin6_addr, sizeof from->sin6_addr);
        memcpy(req->id.idiag_dst, &to->sin6_addr, sizeof to->sin6_addr);
        return 0;
    }
    return -EAFNOSUPPORT;
}

static int ask(int netlink, const struct inet_diag_req_v2 *req, struct inet_diag_msg *msg_out)
{
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 req;
    } out = {
        .header = {.nlmsg_len = sizeof out, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
        .req = *req};
    union {
        struct nlmsghdr header;
        char bytes[4096];
    } in;
    ssize_t n = send(netlink, &out, sizeof out, 0);

    if (n < 0)
        return -errno;
    /* The kernel answers inside send(2), so there is nothing to wait for. */
    n = recv(netlink, &in, sizeof in, MSG_DONTWAIT);
    if (n < 0)
        return -errno;
    if (!NLMSG_OK(&in.header, (size_t)n))
        return -EPROTO;
    if (in.header.nlmsg_type == NLMSG_ERROR && in.header.nlmsg_len >= NLMSG_LENGTH(sizeof(struct nlmsgerr)))
        return ((const struct nlmsgerr *)NLMSG_DATA(&in.header))->error;
    if (in.header.nlmsg_type != SOCK_DIAG_BY_FAMILY || in.header.nlmsg_len < NLMSG_LENGTH(sizeof *msg_out))
        return -EPROTO;
    memcpy(msg_out, NLMSG_DATA(&in.header), sizeof *msg_out);
    return 0;
}

int peer_of_loopback(int fd, uint32_t *uid_out)
{
    struct inet_diag_req_v2 req = {0};
    struct inet_diag_msg msg = {0};
    struct sockaddr_storage other;
    socklen_t other_len = sizeof other;
    int netlink, rv = fill_id(fd, &req);

    if (rv != 0)
        return rv;
    netlink = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (netlink < 0)
        return -errno;
    rv = ask(netlink, &req, &msg);
    close(netlink);
    if (rv == -ENOENT)
        return -EACCES;
    if (rv != 0)
        return rv < 0 ? rv : -EPROTO;
    /* Ours is there still, so nobody else can have had those addresses and ports meanwhile. */
    if (getpeername(fd, (struct sockaddr *)&other, &other_len) != 0)
        return -EACCES;
    if (msg.idiag_inode == 0 || !is_connected(msg.idiag_state) || msg.id.idiag_sport != req.id.idiag_sport ||
        msg.id.idiag_dport != req.id.idiag_dport ||
        memcmp(msg.id.idiag_src, req.id.idiag_src, sizeof req.id.idiag_src) != 0 ||
        memcmp(msg.id.idiag_dst, req.id.idiag_dst, sizeof req.id.idiag_dst) != 0)
        return -EACCES;
    *uid_out = msg.idiag_uid;
    return 0;
}

bool peer_groups_known(uint32_t uid)
{
    return uid == 0 || uid == geteuid();
}

void peer_groups(struct web_who *who)
{
    char text[16384];
    struct passwd account, *found = NULL;
    gid_t groups[COMMAND_GROUPS_MAX];
    int i, n = COMMAND_GROUPS_MAX;

    who->gid = UID_NOBODY;
    who->n_groups = 0;
    if (who->uid == 0) {
        who->gid = 0; /* to whom permissions do not matter */
        return;
    }
    if (who->uid == geteuid()) {
        who->gid = getegid();
        n = getgroups(COMMAND_GROUPS_MAX, groups);
    } else if (getpwuid_r(who->uid, &account, text, sizeof text, &found) == 0 && found != NULL) {
        who->gid = found->pw_gid;
        if (getgrouplist(found->pw_name, found->pw_gid, groups, &n) < 0)
            n = 0; /* more than can be told to the others */
    } else {
        n = 0;
    }
    for (i = 0; i < n; i++)
        who->groups[who->n_groups++] = groups[i];
}
