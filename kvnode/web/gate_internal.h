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
    LIST_HEAD(, gate_call) lost; /* calls for which there was no memory; the stream is closed */
    struct gate_call hello, subscription;
    uint64_t idle_ms;             /* clock_boot_ms(): since when it is not used, while refs is 0 */
    struct feed *feed;            /* who follows the log here, or NULL */
    bool subscribed;              /* events come */
    struct gate_session *session; /* a reference; NULL: none yet */
    LIST_ENTRY(gate) link;
};

/* A WRITE of the command; the author is the node's to fill. */
void gate_ask_write(struct gate *g, struct gate_call *call, const struct command *cmd, gate_done *done,
                    void *arg);
/* What is asked is answered to another: from has its call no more. */
void gate_call_move(struct gate_call *from, struct gate_call *to, gate_done *done, void *arg);
void gate_session_put(struct gate_session *s); /* NULL is ignored */
/* Its session is not needed any more: it ends, unless a write's outcome may be asked for under it. */
void gate_session_end(struct gate *g);

#endif
