/* How a bridge gives its stream to the node: one message on the peer socket, a
 * name and two descriptors (PROTOCOL.md, "Handover").
 *
 * The peer socket is an AF_UNIX socket of type SOCK_SEQPACKET: a message comes
 * whole or not at all. */
#ifndef KVFS_SYNC_SSH_HANDOVER_H
#define KVFS_SYNC_SSH_HANDOVER_H

#include <stddef.h>

#include "sync/ssh/identity.h"

/* Longest message: magic, version, string length, name. */
#define HANDOVER_MAX (4 + 1 + 4 + SSH_PEER_NAME_MAX)

/* Sends name (valid) and copies of in (what the peer says) and out (what it is
 * told) over a connected peer socket. 0, or a negative errno; EAGAIN cannot
 * happen on a new connection. */
int handover_send(int socket, const char *peer_name, int in, int out);

/* Takes the message from an accepted connection. 0: the name is NUL-terminated,
 * in and out are the caller's, close-on-exec. -EAGAIN: nothing yet. -ECONNRESET:
 * the bridge has gone. -EPROTO: something else; close the connection. Nothing
 * stays open after a failure. Never blocks on a non-blocking socket. */
int handover_receive(int socket, char name_out[static SSH_PEER_NAME_MAX + 1], int *in_out, int *out_out);

/* The message's bytes. 0 with the name, or -EPROTO: wrong magic or version, a
 * name outside the rules, bytes missing or left over. */
int handover_parse(const void *data, size_t len, char name_out[static SSH_PEER_NAME_MAX + 1]);

/* For either end of a connection: the process at the other one runs as this
 * process's user or as root (SO_PEERCRED). 0, -EACCES, or the negative errno of
 * getsockopt. */
int handover_check_peer(int socket);

#endif
