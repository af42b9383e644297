/* Holding the lock of a key while a command runs: `hold` and `once`. */
#ifndef KVFS_KVNODE_ADMIN_HOLD_H
#define KVFS_KVNODE_ADMIN_HOLD_H

#include <limits.h>

#include "kvnode/admin/hold_guard.h"
#include "kvnode/admin/request.h"

#define HOLD_FOR_EVER UINT_MAX
#define HOLD_NOT_HAD (-1) /* by hold_take(): somebody else has it, nothing was said */

struct hold {
    struct admin admin; /* with the patience of a request */
    struct request_link l;
    struct guard guard;
    const char *key; /* borrowed */
    unsigned ttl_ms, wait_ms;
    bool shared;
    uint64_t ino;
    uint64_t owner;
    uint64_t fence;   /* of the grant */
    uint64_t sent_ms; /* when the last word that was answered was sent: the cluster's ttl began later */
    bool lost;
};

/* --ttl and --wait of the command line, and the guard, which is to be there first. output: see guard_start().
 * EXIT_OK, or another exit status after a message; then there is nothing to be ended. */
int hold_begin(struct hold *h, const struct admin *a, unsigned wait_ms, int output);
/* Gets the lock; makes the key if it is missing. EXIT_OK; HOLD_NOT_HAD; another exit status, after a message.
 * hold_end() in any case. */
int hold_take(struct hold *h);
/* Who has it, as a sentence without a full stop: "process 12 at n1 has held it since …". */
void hold_describe(struct hold *h, char *out, size_t size);
/* When it was granted, by the cluster's clock. EXIT_OK, or another exit status after a message. */
int hold_granted(struct hold *h, uint64_t *wall_ns_out);
/* A write that only the holder makes: into the key. 0, KV_E_*, -errno. */
int hold_set(struct hold *h, const void *value, size_t len, struct command_result *result_out);
/* Runs the command, and comes back when nothing of it runs any more. Meanwhile `each` is called when extra_fd
 * is readable; -1: none; false: there will be nothing more. The command's exit status, or another one after
 * a message. */
int hold_run(struct hold *h, int extra_fd, bool (*each)(void *arg), void *arg);
void hold_end(struct hold *h);

#endif
