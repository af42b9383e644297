/* The connection to a node, and this mount's session in the cluster.
 *
 *   DOWN ──connect, HELLO, (REGISTER), SUBSCRIBE──► UP ──error, rotation──► DOWN
 *
 * A request given to the link stays there until it is answered, cancelled or
 * over its deadline, over any number of connections: what is unanswered is sent
 * again, in order, to the next node. Writes carry (session, number), so the
 * cluster executes each once. The node applies everything that this mount has
 * seen before it says hello. */
#ifndef KVFS_KVFS_LINK_LINK_H
#define KVFS_KVFS_LINK_LINK_H

#include <pthread.h>

#include "kvfs/link/options.h"
#include "kvfs/link/request.h"
#include "sync/wire/client.h"

/* The number of the message's last frame; parts count from 0. */
#define LINK_LAST_PART 0xffff
#define LINK_BUCKETS 1024

struct link {
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
    bool registering;      /* link_register() */
    uint64_t keepalive_ms; /* when the next one is due */

    uint64_t connections; /* made so far */
    uint64_t numbers;     /* last message number */
    uint64_t subscription;
    uint64_t seen;            /* highest revision that this mount knows of */
    uint64_t complete;        /* all events up to this revision were handled */
    struct request_list wire; /* with the link, in order of sending */
    /* Lists of those whose number has the same remainder: nothing that could fail. */
    struct request *by_number[LINK_BUCKETS];
    struct request *visited_next; /* link_connect.c: the one after that which is being visited */

    int wake_fd; /* eventfd: the node thread has something to do */
    pthread_t thread;
    bool running;
};

/* In memory that is all zeros but for the options. */
int link_init(struct core *core);
void link_deinit(struct core *core);

/* First connection, before any thread runs: tries every node once, and looks up
 * where prefix (may be NULL) leads. 0; 1: not yet, reason_out says what is missing,
 * as in "waiting for …"; -1: it will not mend itself, reason_out says why.
 * Without the lock. */
int link_open(struct core *core, const char *prefix, char *reason_out, size_t size);
/* Starts and ends the node thread. Without the lock. */
int link_start(struct core *core);
void link_stop(struct core *core);
/* Makes the node thread look around. Any thread. */
void link_wake(struct core *core);

/* Sends a message whose body the caller has put into r->payload. */
void link_send(struct request *r, enum message_type type, request_fn *on_answer);
/* The same for a replicated command. */
void link_write(struct request *r, enum command_op op, const struct command_body *body,
                request_fn *on_answer);
/* As link_write() for a command that r->transmit sends: gives it its number
 * and puts the head, without the body, into r->payload. */
void link_write_parts(struct request *r, enum command_op op, request_fn *on_answer);
/* From r->transmit: one WRITE frame with r's head; op, flags and body as given. */
void link_transmit(struct request *r, unsigned part, uint8_t op, uint16_t flags, const void *body,
                   size_t len);
/* Whether the code of the node's answer means "ask again", and arranges for that, also
 * with another node. From r->on_part; other answers are asked about before on_answer. */
bool link_retries(struct request *r, int code);
/* Takes a request back; its answer will be ignored. */
void link_cancel(struct request *r);

/* A read of the node's memory of which nothing else is asked: GETATTR, READLINK. */
void link_ask_inode(struct request *r, enum message_type type, uint64_t ino, request_fn *on_answer);
/* OPEN in the name of r's caller. access: OPEN_READ | OPEN_WRITE; local: no barrier. */
void link_open_inode(struct request *r, uint64_t ino, uint8_t access, bool local, request_fn *on_answer);
/* CLOSE: what a connection has pinned goes with it, so it is not repeated on another. */
void link_close_inode(struct core *core, uint64_t ino);

#endif
