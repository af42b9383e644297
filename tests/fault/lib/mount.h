/* A mount by a real kvfs, watched by the cluster's guard. What a test does in it
 * runs in threads or processes of its own, with a bound on the wait. */
#ifndef KVFS_TESTS_FAULT_MOUNT_H
#define KVFS_TESTS_FAULT_MOUNT_H

#include "tests/fault/lib/cluster.h"

struct mounted {
    struct cluster *cluster; /* borrowed */
    char path[80], log[80];
    pid_t pid;
    unsigned connection; /* fusectl's number */
};

/* Why mounting is not possible here, or NULL. */
const char *mount_unavailable(void);
/* nodes: indexes in the order of preference, n of them. options: "timeout=5", or NULL.
 * False: it does not come up. */
bool mount_start(struct mounted *m, struct cluster *c, const char *name, const unsigned *nodes, unsigned n,
                 const char *options);
/* Unmounts and waits for the end of kvfs; aborts the connection if that takes
 * too long. False: something was wrong. */
bool mount_stop(struct mounted *m);

#endif
