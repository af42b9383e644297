/* Who has connected. On a unix socket the kernel says it (SO_PEERCRED). On loopback it is asked for the
 * socket at the other end, by sock_diag(7): NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY with the connection's two
 * addresses, as seen from there. 12 to 30 µs. */
#ifndef KVFS_KVNODE_WEB_PEER_H
#define KVFS_KVNODE_WEB_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "sync/wire/command.h"

/* As whom somebody is served. */
struct web_who {
    uint32_t uid, gid;
    uint32_t n_groups;
    uint32_t groups[COMMAND_GROUPS_MAX];
    char label[COMMAND_LABEL_MAX + 1]; /* of what he writes, or "" */
};

/* Who sits at the other end of a unix socket. */
void peer_of_unix(int fd, struct web_who *who_out);
/* The uid of the process that has the other end of a TCP connection of this machine. 0, or -errno: -EACCES:
 * nobody holds it any more, so that the kernel does not know whose it was (it would say root). */
int peer_of_loopback(int fd, uint32_t *uid_out);
/* The group and the groups of that user: those of this process, if it is its own user, else the account's by
 * getpwuid_r(3) and getgrouplist(3), which may take its time: any thread but the loop's. Without an account:
 * none. */
void peer_groups(struct web_who *who);
/* Whether peer_groups() does not wait for anything. */
bool peer_groups_known(uint32_t uid);

#endif
