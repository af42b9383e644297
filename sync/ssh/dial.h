/* A TCP connection under a deadline, from a thread that can be called off. */
#ifndef KVFS_SYNC_SSH_DIAL_H
#define KVFS_SYNC_SSH_DIAL_H

#include <stddef.h>
#include <stdint.h>

#include "sync/ssh/link.h"

/* Resolves host and connects to its addresses in turn, each within its share of
 * the time left. Blocks until deadline_ms (clock_boot_ms) at the latest, and not
 * longer than until stop_fd is readable (-1: none). Any thread.
 *
 * >= 0: a connected, non-blocking, close-on-exec socket, the caller's.
 * -ECANCELED: stop_fd. Another negative errno: *failure_out and one clause for a
 * person in message_out ("connection refused: nothing listens there").
 *
 * Numeric addresses are taken as they are. A name is looked up on a thread of
 * its own, since getaddrinfo knows no deadline; when it takes longer than the
 * deadline that thread is left alone and frees itself. */
int dial(const char *host, uint16_t port, uint64_t deadline_ms, int stop_fd, enum ssh_failure *failure_out,
         char *message_out, size_t message_size);

#endif
