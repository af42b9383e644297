/* A client with a session of its own that survives its node: what got no answer
 * is sent again, under the same number, to the next node that answers. One
 * thread a caller; callers share nothing. */
#ifndef KVFS_TESTS_FAULT_CALLER_H
#define KVFS_TESTS_FAULT_CALLER_H

#include "sync/wire/client.h"
#include "tests/fault/lib/cluster.h"

struct caller {
    const struct cluster *cluster; /* borrowed; only names of sockets are read */
    struct client *client;
    struct client_node node;
    unsigned at;      /* index of the node it talks to, or would next */
    bool pinned;      /* stays with that node */
    uint64_t id;      /* of the last request */
    uint64_t session; /* 0: the node's is borrowed */
    uint64_t seq;
    uint64_t seen; /* highest revision in an answer; the next node must have applied it */
    unsigned reconnects, resent;
    char detail[256]; /* the last refusal's text */
};

/* Does not connect yet. */
void caller_init(struct caller *c, const struct cluster *cluster, unsigned first);
void caller_deinit(struct caller *c);

/* Everything below gives 0, a KV_E_* code or -errno; -ETIMEDOUT after timeout_ms
 * of trying. Refusals that promise that nothing was written are tried again. */
int caller_register(struct caller *c, unsigned timeout_ms);
/* A read or an administrative request; body may be NULL, and answer_out, which borrows until the next
 * request. */
int caller_ask(struct caller *c, enum message_type type, const union request_body *body, unsigned timeout_ms,
               union answer_body *answer_out);
/* A command, in parts if it is long, under the next number of the session. After
 * -ETIMEDOUT its outcome is unknown. */
int caller_write(struct caller *c, enum command_op op, const struct command_body *body, unsigned timeout_ms,
                 struct command_result *result_out);
int caller_set(struct caller *c, const char *key, const void *value, size_t len, unsigned timeout_ms,
               struct command_result *result_out);
int caller_append(struct caller *c, uint64_t ino, const void *data, size_t len, unsigned timeout_ms,
                  struct command_result *result_out);
/* The first bytes of a value. at: enum read_at. */
int caller_get(struct caller *c, const char *key, enum read_at at, unsigned timeout_ms, struct attr *attr_out,
               char *data_out, size_t size, size_t *len_out);
/* The whole value, which the caller frees through buffer_deinit(). */
int caller_get_all(struct caller *c, const char *key, unsigned timeout_ms, struct attr *attr_out,
                   struct buffer *data_out);

#endif
