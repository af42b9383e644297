/* One SSH client connection as a step machine: libssh2 over buffers of ours.
 *
 *   BANNER+KEX ── host key pinned? ── LOGIN ── OPEN ── EXEC ── UP ── EOF/CLOSED
 *       RFC 4253 §4-§8           RFC 4252 §7   RFC 4254 §5.1, §6.5, §5.2-5.3
 *
 * libssh2 never sees the socket: its SEND callback appends to `out` and always
 * takes everything, its RECV callback takes from `in` and says EAGAIN when that
 * is empty. libssh2 1.10 mishandles partial writes (a window adjustment after
 * one fails with -7, a rekey under load hangs); so none ever happens. The owner
 * moves bytes between these two buffers and the socket with
 * ssh_session_receive and ssh_session_send, and calls the step, read and write
 * functions, repeating until none makes progress, before it sleeps in poll.
 *
 * Not thread-safe: one thread a session. ssh_session_global_init first. */
#ifndef KVFS_SYNC_SSH_SESSION_H
#define KVFS_SYNC_SSH_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "sync/ssh/link.h"

/* The algorithms, pinned at both ends (RFC 8709, RFC 8731, RFC 4344, RFC 6668).
 * libssh2 1.10 has no strict key exchange; without chacha20-poly1305 and
 * encrypt-then-MAC the Terrapin attack (CVE-2023-48795) has no target. */
#define SSH_KEX_ALGORITHMS "curve25519-sha256"
#define SSH_HOST_KEY_ALGORITHMS "ssh-ed25519"
#define SSH_CIPHERS "aes128-ctr"
#define SSH_MACS "hmac-sha2-256"

struct ssh_session;

struct ssh_session_config { /* all borrowed until ssh_session_free */
    const char *host;       /* as pinned; with `port`, looked up as [host]:port, then host */
    uint16_t port;
    const char *user;
    const char *private_key_path;
    const char *known_hosts_path;
    const char *command;
};

enum ssh_step {
    SSH_STEP_WAIT,   /* nothing to do before more bytes arrive */
    SSH_STEP_UP,     /* the command runs: read and write may be called */
    SSH_STEP_FAILED, /* see ssh_session_failure, ssh_session_message */
};

/* libssh2's process-wide set-up, once; any thread. 0 or -ENOMEM. */
int ssh_session_global_init(void);

/* fd: a connected, non-blocking TCP socket, borrowed; sets TCP_NODELAY on it.
 * NULL: out of memory. */
struct ssh_session *ssh_session_new(const struct ssh_session_config *config, int fd);
/* Frees without waiting for the peer; what is in `out` is dropped. NULL is
 * ignored. */
void ssh_session_free(struct ssh_session *s);

/* Towards UP, as far as the received bytes allow. */
enum ssh_step ssh_session_step(struct ssh_session *s);

/* Socket to `in`, one recv of up to 256 KiB (nothing while `in` holds more).
 * > 0: bytes; -EAGAIN; 0: end of file; another negative errno. The last two are
 * remembered: what is in `in` can still be processed. */
ssize_t ssh_session_receive(struct ssh_session *s);
/* False: a receive would give nothing, so polling for input would spin: the end
 * was seen, or `in` is full. */
bool ssh_session_receives(const struct ssh_session *s);
/* `out` to the socket, until it takes no more. Bytes left (>= 0) or a negative
 * errno. */
ssize_t ssh_session_send(struct ssh_session *s);
/* Bytes waiting in `out`: the caller stops writing when there are many. */
size_t ssh_session_unsent(const struct ssh_session *s);

/* The channel's data. Only after SSH_STEP_UP. > 0: bytes; -EAGAIN: none now;
 * 0: end of file (read only); -EPIPE: the session failed or the channel was
 * closed, with the reason in ssh_session_failure.
 *
 * After a write gave -EAGAIN, the next one must begin with the same bytes
 * (libssh2 may have begun a packet with them). A write also processes what
 * arrived, and so does ssh_session_process, without widening the receive
 * window: for when the caller has no room to read into. */
ssize_t ssh_session_read(struct ssh_session *s, void *data, size_t len);
ssize_t ssh_session_write(struct ssh_session *s, const void *data, size_t len);
int ssh_session_process(struct ssh_session *s); /* 0 or -EPIPE */
/* Half-close (RFC 4254 §5.3). 0, -EAGAIN or -EPIPE. Repeatable. */
int ssh_session_write_eof(struct ssh_session *s);
/* The remote command's end: true when its exit status (or the closing without
 * one) has arrived; then failure and message are set to it. */
bool ssh_session_ended(struct ssh_session *s);

/* What it is doing until SSH_STEP_UP: "logging in". Never NULL. */
const char *ssh_session_stage(const struct ssh_session *s);

enum ssh_failure ssh_session_failure(const struct ssh_session *s);
/* One clause without the peer's name: "host key of [h]:22 is unknown …".
 * Borrowed, never NULL. */
const char *ssh_session_message(const struct ssh_session *s);

#endif
