/* Internal to gate.c and gate_write.c. */
#ifndef KVFS_KVNODE_WEB_GATE_INTERNAL_H
#define KVFS_KVNODE_WEB_GATE_INTERNAL_H

#include "kvnode/web/gate.h"

struct stream;

struct gate {
    struct gates *all; /* borrowed */
    struct web_who who;
    struct stream *stream; /* NULL: it has ended */
    unsigned refs;
    bool trusted;
    bool listed;     /* found by gate_get() */
    bool in_answers; /* answers are being handed out: not to be freed */
    uint64_t last_id;
    struct gate_call *calls;
    struct gate_call hello;
    struct feed *feed;            /* who follows the log here, or NULL */
    bool subscribed;              /* events come */
    struct gate_session *session; /* a reference; NULL: none yet */
    LIST_ENTRY(gate) link;
};

/* A WRITE of the command; the author is the node's to fill. */
void gate_ask_write(struct gate *g, struct gate_call *call, const struct command *cmd, gate_done *done,
                    void *arg);
void gate_session_put(struct gate_session *s); /* NULL is ignored */

#endif
