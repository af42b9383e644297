/* One connection that is up: bytes between a session's channel and a socketpair.
 *
 *   caller ── pair ──> to_peer ──> ssh write ──> `out` ──> tcp
 *   caller <─ pair ─── to_caller <─ ssh read <── `in` <─── tcp
 *
 * Internal to the link; on its thread. */
#ifndef KVFS_SYNC_SSH_PUMP_H
#define KVFS_SYNC_SSH_PUMP_H

#include <stdbool.h>
#include <stdint.h>

#include "sync/ssh/fifo.h"
#include "sync/ssh/link.h"

struct ssh_session;

struct pump {
    struct ssh_session *ssh; /* borrowed; SSH_STEP_UP */
    int tcp;                 /* borrowed */
    int pair;                /* owned: the link's end of the socketpair */
    int stop_fd;             /* borrowed */

    /* Result. */
    uint64_t n_received; /* bytes from the peer's command */
    enum ssh_failure failure;
    char message[640];

    struct fifo to_peer, to_caller;
    bool caller_ended;  /* it half-closed or closed */
    bool caller_closed; /* nobody reads any more: what arrives is dropped */
    bool eof_told;      /* the channel was told of caller_ended */
    bool peer_ended;    /* end of file from the channel */
    uint64_t linger_ms; /* when to give up waiting for the rest; 0: nothing ended yet */
};

enum pump_end {
    PUMP_STOPPED,       /* stop_fd */
    PUMP_CALLER_CLOSED, /* the caller closed or half-closed, and the rest was delivered or given up */
    PUMP_FAILED,        /* failure and message are set */
};

/* Returns when the connection is over. The pair is still open. */
enum pump_end pump_run(struct pump *p);

/* Gives the caller what is left (for at most 500 ms), then end of file. */
void pump_deinit(struct pump *p);

#endif
