/* The accepting end of a peer link: what sshd runs for a peer's key.
 *
 * `kvnode bridge --peer n2 --socket /path/peer.sock` is the forced command of
 * peer n2's line in authorized_keys. It connects to this machine's node, says
 * in a short preamble which peer the key belongs to (PROTOCOL.md), and from
 * then on relays standard input to the socket and the socket to standard
 * output. The bytes are not looked at. */
#ifndef KVFS_SYNC_SSH_BRIDGE_H
#define KVFS_SYNC_SSH_BRIDGE_H

#include <stddef.h>
#include <stdint.h>

struct buffer;

/* A peer's name: 1 to 32 characters of A-Z a-z 0-9 . _ - */
#define SSH_PEER_NAME_MAX 32
/* Longest preamble: magic, version, string length, name. */
#define BRIDGE_PREAMBLE_MAX (4 + 1 + 4 + SSH_PEER_NAME_MAX)

enum bridge_exit {
    BRIDGE_EXIT_OK = 0,      /* one side closed; what had been received was delivered */
    BRIDGE_EXIT_NO_NODE = 1, /* the node's socket does not answer, or is not ours */
    BRIDGE_EXIT_USAGE = 2,   /* bad name or path; standard input or output is not sshd's */
    BRIDGE_EXIT_IO = 3,      /* an unexpected error while relaying */
};

/* Relays until one side closes; the value is the process's exit status (enum
 * bridge_exit). A failure is told in one line on standard error, which sshd
 * carries to the dialling node.
 *
 * Standard input and output must each be a socket or a pipe (sshd's), never a
 * terminal or a file. At most 256 KiB a direction are held; a slow side stops
 * the reading of the other. End of file on standard input is passed on as a
 * half-close, after which the node has 5 s to close its side; the node's
 * closing ends the bridge once standard output has taken the rest (bounded by
 * 5 s too). Ignores SIGPIPE in the whole process. Single-threaded. */
int bridge_run(const char *peer_name, const char *socket_path);

/* Appends the preamble for a valid peer name. */
void bridge_preamble_put(struct buffer *b, const char *peer_name);

/* Parses a preamble at the start of the node's input of len bytes.
 * > 0: its size in bytes; name_out holds the peer's name, NUL-terminated.
 * 0: more bytes are needed (never with len >= BRIDGE_PREAMBLE_MAX).
 * -EPROTO: not a preamble: wrong magic or version, or a name outside the rules;
 * close the connection. Noticed at the first byte that is wrong. */
int bridge_preamble_parse(const void *data, size_t len, char name_out[static SSH_PEER_NAME_MAX + 1]);

/* For a connection accepted on the peer socket: the process at the other end
 * runs as this process's user or as root (SO_PEERCRED). 0, -EACCES, or the
 * negative errno of getsockopt. */
int bridge_accept_check(int fd);

#endif
