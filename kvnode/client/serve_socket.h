/* The unix socket at which clients come in. */
#ifndef KVFS_KVNODE_CLIENT_SERVE_SOCKET_H
#define KVFS_KVNODE_CLIENT_SERVE_SOCKET_H

#include "kvnode/config/config.h"

/* Makes it, with its mode and group, and listens: not blocking, the caller closes it and
 * unlinks its name. What is left of a dead process is replaced. -errno, -EADDRINUSE if
 * somebody answers there; why (512 bytes) has a sentence, or is as it was. */
int serve_socket(const struct config *config, char *why);

#endif
