/* One question to one node, and what it says to that: nothing is tried again. */
#ifndef KVFS_TESTS_FAULT_ONCE_H
#define KVFS_TESTS_FAULT_ONCE_H

#include "sync/wire/message.h"
#include "tests/fault/lib/cluster.h"

/* A KV_E_* code, or -errno. After -ETIMEDOUT the node may go on trying. */
int once_write(const struct cluster *c, unsigned i, const char *key, const char *value, unsigned timeout_ms);
/* The value as a string in out; of a refusal its detail, if there is one. */
int once_read(const struct cluster *c, unsigned i, const char *key, enum read_at at, unsigned timeout_ms,
              char *out, size_t size);

#endif
