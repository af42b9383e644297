/* The connection to a node, and this mount's session in the cluster.
 *
 *   DOWN ──connect, HELLO, (REGISTER), SUBSCRIBE──► UP ──error, rotation──► DOWN
 *
 * A call given to the link stays there until it is answered, cancelled or
 * over its deadline, over any number of connections: what is unanswered is sent
 * again, in order, to the next node. Writes carry (session, number), so the
 * cluster executes each once. The node applies everything that this mount has
 * seen before it says hello. */
#ifndef KVFS_KVFS_LINK_UPLINK_H
#define KVFS_KVFS_LINK_UPLINK_H

#include <pthread.h>

#include "kvfs/link/call.h"
#include "kvfs/link/options.h"
#include "sync/wire/client.h"

/* The number of the message's last frame; parts count from 0. */
#define UPLINK_LAST_PART 0xffff
#define UPLINK_BUCKETS 1024

struct uplink {
    struct client *client; /* owned; NULL: down */
    struct client_node node;
    char *paths[OPTIONS_NODES_MAX]; /* owned; sockets */
    unsigned n_paths, current;
    bool broken, rotate; /* the node thread shall drop it, and go on with the next node */
    bool want_write;     /* the socket is full */
    uint64_t rotated_ms; /* when it went to another node */
    unsigned logged;     /* 1 + number of the path that the log has last as connected; 0: none */
    unsigned refusals;   /* connections in a row to nodes in a minority, or with a full disk */
    uint64_t refused_on; /* the last of them */

    uint64_t session; /* 0: none; with read=local until something is written */
    uint8_t nonce[16];
    uint64_t next_seq;
    bool session_lost;
    bool registering;            /* uplink_register() */
    uint64_t keepalive_ms;       /* when the next one is due */
    uint64_t session_timeout_ms; /* the cluster's; 0: not known yet */
    uint64_t settings_of;        /* the connection on which it was asked for; 0: it is to be */
    bool leased;                 /* uplink_set_lease() */
    uint64_t heard_ms; /* the cluster has executed something of this session, not earlier; 0: not yet */

    uint64_t connections;  /* made so far */
    uint64_t numbers;      /* last message number */
    uint64_t seen;         /* highest revision that this mount knows of */
    uint64_t complete;     /* all events up to this revision were handled */
    struct call_list wire; /* with the link, in order of sending */
    /* Lists of those whose number has the same remainder: nothing that could fail. */
    struct call *by_number[UPLINK_BUCKETS];
    struct call *visited_next; /* uplink_connect.c: the one after that which is being visited */

    int wake_fd; /* eventfd: the node thread has something to do */
    pthread_t thread;
    bool running;
};

/* In memory that is all zeros but for the options. */
int uplink_init(struct hub *hub);
void uplink_deinit(struct hub *hub);

/* First connection, before any thread runs: tries every node once, and looks up
 * where prefix (may be NULL) leads. 0; 1: not yet, reason_out says what is missing,
 * as in "waiting for …"; -1: it will not mend itself, reason_out says why.
 * Without the lock. */
int uplink_open(struct hub *hub, const char *prefix, char *reason_out, size_t size);
/* Starts and ends the node thread. Without the lock. */
int uplink_start(struct hub *hub);
void uplink_stop(struct hub *hub);
/* Makes the node thread look around. Any thread. */
void uplink_wake(struct hub *hub);

/* Sends a message; request: NULL if it has no body. */
void uplink_send(struct call *call, enum message_type type, const union request_body *request,
                 call_fn *on_answer);
/* The same for a replicated command. */
void uplink_write(struct call *call, enum command_op op, const struct command_body *body, call_fn *on_answer);
/* As uplink_write() for a command that call->transmit sends: gives it its number
 * and puts the head, without the body, into call->payload. */
void uplink_write_parts(struct call *call, enum command_op op, call_fn *on_answer);
/* From call->transmit: one WRITE frame with the call's head; op, flags and body as given. */
void uplink_transmit(struct call *call, unsigned part, uint8_t op, uint16_t flags, const void *body,
                     size_t len);
/* Whether the code of the node's answer means "ask again", and arranges for that, also
 * with another node. From call->on_part; other answers are asked about before on_answer. */
bool uplink_retries(struct call *call, int code);
/* Takes a call back; its answer will be ignored. */
void uplink_cancel(struct call *call);

/* While it is set, the session is kept as one that is to end soon after this mount does: something is heard
 * of it every few seconds. */
void uplink_set_lease(struct hub *hub, bool leased);

/* To the node: what its INVALs up to this one name is forgotten. */
void uplink_invalidated(struct hub *hub, uint64_t number);
/* The consistency to ask for; enum read_at. */
uint8_t uplink_read_at(const struct hub *hub);
/* A read of the node's memory of which nothing else is asked: GETATTR, READLINK. */
void uplink_ask_inode(struct call *call, enum message_type type, uint64_t ino, call_fn *on_answer);
/* OPEN in the name of the caller. access: OPEN_READ | OPEN_WRITE; local: no barrier. */
void uplink_open_inode(struct call *call, uint64_t ino, uint8_t access, bool local, call_fn *on_answer);
/* CLOSE: what a connection has pinned goes with it, so it is not repeated on another. */
void uplink_close_inode(struct hub *hub, uint64_t ino);

#endif
