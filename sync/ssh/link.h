/* The dialling end of a peer link: SSH, seen as a stream socket.
 *
 * A link keeps one SSH connection to one peer, for ever: it connects,
 * authenticates, starts the peer's forced command and then moves bytes between
 * that command and one end of a socketpair. The other end is the caller's.
 * When the connection ends, the link dials again with a growing delay, and hands
 * over a new socketpair: one connection, one descriptor.
 *
 * One thread a link runs all this; it blocks all signals. Inside a connection
 * it holds at most about 1 MiB towards the peer and 2 MiB (the channel's
 * window) from it; when a side does not take more, the link stops reading the
 * other, so a slow peer slows down its own stream only. */
#ifndef KVFS_SYNC_SSH_LINK_H
#define KVFS_SYNC_SSH_LINK_H

#include <stdint.h>

enum ssh_failure {
    SSH_FAILED_RESOLVE,          /* the host name has no address */
    SSH_FAILED_REFUSED,          /* nothing listens at the port */
    SSH_FAILED_TIMEOUT,          /* not up within connect_timeout_ms */
    SSH_FAILED_NETWORK,          /* unreachable, reset: the message has the errno's text */
    SSH_FAILED_PROTOCOL,         /* no SSH server, or no algorithm in common */
    SSH_FAILED_HOST_KEY_UNKNOWN, /* no pin for host and port */
    SSH_FAILED_HOST_KEY_CHANGED, /* the pin is another key */
    SSH_FAILED_OWN_KEY,          /* our private key or the pin file cannot be read */
    SSH_FAILED_KEY_REFUSED,      /* the peer does not know our key */
    SSH_FAILED_EXEC,             /* authenticated, but no channel or command */
    SSH_FAILED_REMOTE_ENDED,     /* the peer's command ended (its status and first line of stderr) */
    SSH_FAILED_LOST,             /* the connection broke while it was up */
    SSH_FAILED_LOCAL,            /* out of memory or descriptors */
    SSH_FAILURE_COUNT
};

/* "host key unknown". Never NULL. */
const char *ssh_failure_text(enum ssh_failure failure);

/* All strings are copied by ssh_link_start. The two files are read anew at each
 * attempt, so replacing them (atomically) needs no restart. */
struct ssh_link_config {
    const char *name;             /* the peer, for messages: "n2" */
    const char *host;             /* name, IPv4 or IPv6 address, without brackets */
    uint16_t port;                /* of the peer's sshd */
    const char *user;             /* the account there */
    const char *private_key_path; /* ed25519, OpenSSH format, no passphrase */
    const char *known_hosts_path; /* identity_write_known_hosts() */
    const char *command;          /* asked for; the peer's forced command decides. NULL: "kvfs-peer" */
    uint32_t connect_timeout_ms;  /* connect, handshake, login and exec together; 0: 5,000 */
    uint32_t backoff_min_ms;      /* 0: 100 */
    uint32_t backoff_max_ms;      /* 0: 5,000 */
};

/* Both are called on the link's thread, never at the same time, and never after
 * ssh_link_stop has returned. They must not block and must not call
 * ssh_link_stop. */
struct ssh_link_callbacks {
    /* The peer's command runs (it may still end at once: only an answer from
     * the peer's node proves the way). fd: the caller's now: a non-blocking,
     * close-on-exec AF_UNIX stream socket. To end this connection, close it
     * (written bytes are still delivered, within 500 ms); shutdown(SHUT_WR) is
     * passed on as end of file, after which the peer has 10 s to close. At its
     * end the descriptor reads as end of file. */
    void (*on_connected)(void *arg, int fd);
    /* An attempt failed, or a connection that was up ended for another reason
     * than the caller's closing (then before the descriptor reads end of
     * file). message: one English line for a person, names peer, host and
     * port; borrowed for the call. The next attempt follows in retry_ms. May
     * be NULL. */
    void (*on_failed)(void *arg, enum ssh_failure failure, const char *message, uint32_t retry_ms);
    void *arg;
};

struct ssh_link;

/* Starts the link's thread; the first attempt is made at once. Any thread.
 * 0 with *link_out (free it with ssh_link_stop); -EINVAL: a missing string, port
 * 0; -ENOMEM, -EMFILE, -EAGAIN: no memory, descriptors or thread. */
int ssh_link_start(const struct ssh_link_config *config, const struct ssh_link_callbacks *callbacks,
                   struct ssh_link **link_out);

/* Ends the connection, joins the thread and frees the link. Takes some
 * milliseconds, also in the middle of an attempt: nothing on the thread waits
 * for the network alone. Descriptors handed out stay the caller's (they read
 * end of file). One that was handed over but not yet taken up by the caller is
 * the caller's to close. Any thread but the link's own. NULL is ignored. */
void ssh_link_stop(struct ssh_link *link);

#endif
