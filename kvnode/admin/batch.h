/* The command that watch runs: for each batch of keys, never two at once. What comes while it runs is one
 * more batch. It has a process group of its own and reads nothing; TERM, INT and HUP of this process end it
 * first. */
#ifndef KVFS_KVNODE_ADMIN_BATCH_H
#define KVFS_KVNODE_ADMIN_BATCH_H

#include <sys/types.h>

#include "kvnode/admin/admin.h"
#include "sync/base/buffer.h"

/* Of the names that KVNODE_KEYS has; beyond it stands a * for all of them. */
#define BATCH_KEYS_MAX (32 * 1024)

struct batch {
    const struct admin *admin;
    char **command;     /* borrowed */
    struct buffer keys; /* owned; each with a newline behind it */
    bool any, all;      /* there are some; more than there is room for */
    pid_t child;        /* 0: none runs */
    int fd;             /* of the child; -1 */
};

void batch_init(struct batch *b, const struct admin *a);
void batch_deinit(struct batch *b);
/* One with a newline in it makes it all. */
void batch_add(struct batch *b, const void *key, size_t len);
/* Runs it if there are keys and none runs, with KVNODE_KEYS and KVNODE_TOKEN. EXIT_OK, or EXIT_FAILED after a
 * message: it cannot be run. */
int batch_start(struct batch *b, const char *token);
/* To be polled: readable when the one that runs has ended; -1: none runs. */
int batch_fd(const struct batch *b);
/* True: it has ended; *status_out: as a shell tells it. */
bool batch_ended(struct batch *b, int *status_out);

#endif
