/* The processes of a node's own sshd. */
#ifndef KVFS_TESTS_FAULT_SSHD_H
#define KVFS_TESTS_FAULT_SSHD_H

#include "tests/fault/lib/cluster.h"

/* The listener, and the children that serve connections; how many, at most max. */
unsigned sshd_find(const struct cluster *c, unsigned node, pid_t *pids, unsigned max);

#endif
