/* The node's own session: clients without one (the command line) write under it.
 *
 *   NONE ──first write, or a beat──► ASKED ──registered──► READY
 *    ▲                                 └── failed ──► NONE   │
 *    └────────────────────── it has ended ───────────────────┘
 *
 * Until it is READY, writes wait here; when a registration fails, they fail with
 * it. Loop thread only. */
#ifndef KVFS_KVNODE_GROUP_OWN_SESSION_H
#define KVFS_KVNODE_GROUP_OWN_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "kvnode/group/writes.h"

struct own_write;

/* Sends a command that has its session and number (the registration: 0 and one by chance); acked_below
 * is the owner's to set. 0: done is called once; else a refusal. */
typedef int own_session_start(void *owner, struct command *cmd, uint64_t deadline_ms, writes_done *done,
                              void *arg);

struct own_session {
    const char *node_name; /* borrowed */
    uint64_t request_ms;   /* until the deadline of a write */
    own_session_start *start;
    void *owner;
    enum { OWN_SESSION_NONE, OWN_SESSION_ASKED, OWN_SESSION_READY } state;
    uint64_t id, next_seq; /* id: of the last one that was registered, 0: none was */
    uint8_t nonce[16];
    STAILQ_HEAD(, own_write) waiting;
    size_t n, bytes; /* that wait */
};

void own_session_init(struct own_session *s, const char *node_name, uint64_t request_ms,
                      own_session_start *start, void *owner);
void own_session_deinit(struct own_session *s); /* calls nobody */
/* A write under the session, as soon as it is there. 0: done is called once, perhaps from inside this
 * call; else a refusal, and done is not called. The command is copied. */
int own_session_write(struct own_session *s, const struct command *cmd, writes_done *done, void *arg);
bool own_session_is(const struct own_session *s, uint64_t id);
/* It is not to be used any more: the next write asks for another one. */
void own_session_ended(struct own_session *s);
/* Every heartbeat. code: everything that waits is refused with it; KV_OK: what has waited too long. */
void own_session_beat(struct own_session *s, uint64_t now_ms, int code);
/* The node stops: what waits is answered as after its deadline. */
void own_session_stop(struct own_session *s);

#endif
