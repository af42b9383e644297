/* A client in this process for each of those who come by HTTP: one connection of the node's own protocol
 * (serve_attach()) for all requests of one user, so that what he may see, what he may write and how much of
 * this node he may use is decided where it is for everybody. Loop thread only. */
#ifndef KVFS_KVNODE_WEB_GATE_H
#define KVFS_KVNODE_WEB_GATE_H

#include <stdbool.h>
#include <sys/queue.h>

#include "kvnode/web/peer.h"
#include "sync/base/hash.h"
#include "sync/wire/body.h"

/* A gate that nobody uses is kept for so long, and so many of them: its session serves the next connection of
 * its user, as the cluster has a bound of sessions. */
#define GATE_IDLE_MS 60000
#define GATES_IDLE_MAX 32

struct gate;
struct group;
struct serve;

/* code: KV_OK with the answer, KV_E_* with the node's detail (may be ""), or -ECONNRESET: the connection
 * ended, and what was asked may have been done. Nothing is kept after the call. */
typedef void gate_done(void *arg, int code, const union answer_body *answer, const char *detail);
/* An event frame of the subscription. */
typedef void gate_event(void *arg, const struct event *event);

/* A question on its way; part of who asks. */
struct gate_call {
    struct gate *gate; /* NULL: not under way */
    uint64_t id;
    uint8_t type;
    gate_done *done;
    void *arg;
    bool lost;                  /* there was no memory for it: it is in the gate's list of such */
    LIST_ENTRY(gate_call) link; /* in that */
    UT_hash_handle hh;
};

struct gate_session {
    uint64_t id;       /* 0: asked for */
    uint8_t nonce[16]; /* of its registration; nobody but the nodes is told it */
    uint64_t next_seq;
    bool retired;  /* a write's outcome is not known: it is asked for under this session, so nothing new is */
    uint64_t keep; /* the number whose result has to be kept, 0: none */
    unsigned refs;
    struct gate *gate; /* a reference, as the session has one to itself; while it is asked for */
    TAILQ_HEAD(, gate_write) writes;  /* under way, by number */
    TAILQ_HEAD(, gate_write) waiting; /* for it to be registered */
    struct gate_call call;            /* the registration's */
};

/* A write on its way; part of who asks. */
struct gate_write {
    struct gate_call call;
    struct gate *gate;            /* NULL: not under way */
    struct gate_session *session; /* a reference; NULL: it goes under a number of an earlier try */
    uint64_t session_id, seq;     /* under which it goes; 0: not yet */
    uint64_t tag;                 /* what who asks for its result has to know as well */
    enum command_op op;
    uint16_t flags;     /* further ones of the command */
    struct buffer body; /* owned */
    uint32_t part;      /* the next one */
    unsigned tries;
    bool alone; /* long: a session of its own */
    bool sent;  /* the command itself: from here on it may have been executed */
    /* result: only with KV_OK, and with refusals by the state machine. */
    void (*done)(void *arg, int code, const struct command_result *result, const char *detail);
    void *arg;
    TAILQ_ENTRY(gate_write) link;
};

struct gates {
    struct serve *serve;       /* borrowed */
    const struct group *group; /* borrowed */
    LIST_HEAD(, gate) all;
    unsigned n, n_idle;
    bool
        asked; /* something, since its owner reset this: the loop must not sleep before the streams' output */
    bool orphans; /* some have calls that nobody answers */
    bool feeding; /* some feeds have more to hand on */
};

/* An earlier try, as its 504 has named it. */
struct gate_key {
    uint64_t session, seq, tag; /* session 0: none */
};

void gates_init(struct gates *all, struct serve *serve, const struct group *group);
/* A reference to his gate; NULL: out of memory, or with why. */
struct gate *gate_get(struct gates *all, const struct web_who *who, const char **why_out);
struct gate *gate_ref(struct gate *g); /* one more reference */
void gate_put(struct gate *g);         /* NULL is ignored */
/* After the loop has closed their streams. */
void gates_deinit(struct gates *all);

/* End of a turn: answers what was asked of a connection that had ended, and goes on with what feeds have to
 * hand on. True: once more. */
bool gates_turn(struct gates *all);
/* Closes those that nobody has used for GATE_IDLE_MS. */
void gates_beat(struct gates *all, uint64_t now_ms);
/* It serves nobody any more: a new request takes a new one. */
bool gate_ended(const struct gate *g);
void gate_ask(struct gate *g, struct gate_call *call, uint8_t type, const union request_body *body,
              gate_done *done, void *arg);
/* It is not called any more. */
void gate_cancel(struct gate_call *call);

/* Takes the body over; flags: COMMAND_*, besides those that are said here. done is never called from inside
 * this. key: NULL, or of an earlier try, whose result comes if it was executed.
 */
void gate_write(struct gate *g, struct gate_write *w, enum command_op op, uint16_t flags, struct buffer *body,
                const struct gate_key *key,
                void (*done)(void *arg, int code, const struct command_result *result, const char *detail),
                void *arg);
/* Nobody waits for it any more. If its command is on its way it may still be executed. */
void gate_write_cancel(struct gate_write *w);

#endif
