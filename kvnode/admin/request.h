/* Talking to a node: which one, requests with the verb's deadline, writes.
 *
 * A node that has no leader refuses with "nothing was written", so those
 * requests are repeated until the deadline; not so at a node that waits for no leader but for people. A lost
 * connection is repeated (with any node, unless one was named) only for reads and for writes of a session. */
#ifndef KVFS_KVNODE_ADMIN_REQUEST_H
#define KVFS_KVNODE_ADMIN_REQUEST_H

#include "kvnode/admin/admin.h"
#include "sync/wire/client.h"

#define DETAIL_MAX 512

struct request_link {
    const struct admin *admin; /* borrowed */
    struct client *client;     /* owned; NULL: not connected */
    struct client_node node;
    char socket[108];
    uint64_t last_id;
    uint64_t deadline_ms;      /* boot clock */
    uint64_t session;          /* 0: none; exactly-once writes */
    uint64_t seq;              /* of the session's last write */
    const char *label;         /* of what it writes; borrowed; NULL: none */
    bool label_told;           /* that the cluster does not know labels */
    bool told;                 /* that this takes long */
    bool no_repeat;            /* a lost connection is the caller's to replace */
    char denied[DETAIL_MAX];   /* why a socket may not be used, or "" */
    char detail[DETAIL_MAX];   /* the node's text of the last failure, may be "" */
    char way_back[DETAIL_MAX]; /* the node serves nobody until this is done; "": no such thing */
};

/* Connects to the first that answers of the nodes that -n or $KVNODE_NODE names (n1,n2), else to the first of
 * the sockets in the socket directory behind which a node serves, or answers if none does; they must all
 * belong to one cluster. Prints what failed; exit status. */
int request_open(const struct admin *a, struct request_link *l_out);
/* Another connection in the place of the one there is, to any node of those, with a new
 * deadline. 0, KV_E_*, -errno with l->detail. */
int request_reconnect(struct request_link *l);
void request_pause(unsigned ms);
/* The same with one socket, without a message. 0, KV_E_*, -errno. */
int request_open_socket(const struct admin *a, const char *socket, struct request_link *l_out);
void request_close(struct request_link *l);
/* Milliseconds until the deadline, at least 0. */
unsigned request_left(const struct request_link *l);
/* After a refusal that time may mend: pauses, true: it is not too late to ask again. */
bool request_again(const struct request_link *l, int code);
/* A new deadline of --timeout from now. */
void request_restart_clock(struct request_link *l);

/* Sends a request (NULL: it has no body) and waits for the answer, of which answer_out
 * borrows until the next request. 0, KV_E_* or -errno (-EPROTO: it is malformed). For
 * requests that may be repeated: reads. */
int request_ask(struct request_link *l, enum message_type type, const union request_body *body,
                union answer_body *answer_out);

/* The attributes of what a key names. */
int request_resolve(struct request_link *l, const char *key, bool local, struct attr *attr_out);
/* Whether a read has to be linearizable: not with --local. */
uint8_t request_at(const struct request_link *l);
/* The number of rows for a request about the past; with --local of what the node has. */
uint32_t request_rows(const struct request_link *l, uint32_t rows);
/* The directory in which a key stands (which need not exist itself) and its last
 * name, borrowed from key; with --local as the node has it. 0 or KV_E_*; the root has no name: KV_E_INVAL. */
int request_parent(struct request_link *l, const char *key, uint64_t *directory_out, const char **name_out,
                   size_t *name_len_out);

/* A write. Without a session (l->session 0) a lost connection is an unknown
 * outcome. Codes inside the result are returned too. A body over the node's
 * part size is sent in parts, which needs a session. */
int request_write(struct request_link *l, enum command_op op, const struct command_body *body,
                  struct command_result *result_out);
/* A session for exactly-once writes. 0, KV_E_*, -errno. */
int request_register(struct request_link *l, const char *client);
/* Ends it; failures do not matter (it runs out by itself). */
void request_end_session(struct request_link *l);

#endif
