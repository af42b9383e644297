/* The links to the other nodes: dialled through SSH by the node with the lower
 * id, accepted from the bridge by the other. Loop thread only.
 *
 * A link carries frames (sync/wire/frame.h) of the types below, which are
 * described byte by byte in sync/wire/PROTOCOL.md. It counts as up after the
 * other side's HELLO: cluster, name and id have to be those of the
 * configuration and of the SSH key. */
#ifndef KVFS_KVNODE_PEER_PEERS_H
#define KVFS_KVNODE_PEER_PEERS_H

#include <stdbool.h>
#include <stdint.h>

#include "kvnode/peer/health.h"
#include "sync/base/buffer.h"

struct node;
struct peers;

enum peer_frame {
    PEER_HELLO = 100,        /* string magic, u64 cluster, u16 id, string name, lives (door.h) */
    PEER_RAFT = 101,         /* an engine message (sync/raft/PROTOCOL.md) */
    PEER_COMMAND = 102,      /* a command for the leader */
    PEER_REFUSED = 103,      /* u64 session, u64 seq, u64 part: not the leader */
    PEER_READ = 104,         /* id: token; a ReadIndex for a follower */
    PEER_READ_ANSWER = 105,  /* id: token; u16 code, u64 index */
    PEER_STATUS = 106,       /* u8 role, u64 term, u64 applied, u64 digest index, u64 digest, u8 flags,
                                fields (health.h) */
    PEER_SNAPSHOT = 107,     /* to the receiver (sync/raft/PROTOCOL.md) */
    PEER_SNAPSHOT_ACK = 108, /* to the sender */
    PEER_WANT_STATE = 109,   /* empty: the sender's state.db is damaged, its log is not */
    PEER_VERIFY = 110,       /* id: run; u64 index, u64 rate: see verify.h */
    PEER_VERIFY_ANSWER =
        111,              /* id: run; u8 place, u64 index, u64 digest, u8 state, u64 read, u64 size, string */
    PEER_TRANSFER = 112,  /* u64 to, 0: choose: for the leader, who hands over */
    PEER_LIVES = 113,     /* lives: u16 n, n records (sync/raft/engine/incarnation.h) */
    PEER_ADMISSION = 114, /* u64 era, u64 term, u64 vote, u64 index, string configuration */
    PEER_READMIT = 115    /* u64 id: for the leader: the node of that id may begin anew */
};

/* What is known of a peer. */
struct peer_view {
    uint64_t id;
    const char *name, *address; /* borrowed from the configuration */
    bool up;
    bool fresh;            /* up, and its last status is no older than PEER_FRESH_MS */
    uint64_t last_seen_ms; /* clock_boot_ms(), 0: never */
    uint64_t status_ms;    /* clock_boot_ms() when the last status came, 0: none came yet */
    struct health health;  /* what it said of itself then */
    uint64_t applied, digest_index, digest, term;
    uint8_t role;    /* enum peer_role */
    bool damaged;    /* its scrub found its state.db damaged */
    bool stateless;  /* it awaits a state, and serves nobody */
    char error[160]; /* why there is no link, or "" */
};
/* A peer's status that is older says nothing of it any more (three heartbeats, if they are longer). */
#define PEER_FRESH_MS 1500
#define PEER_FLAG_DAMAGED 1
#define PEER_FLAG_STATELESS 2
enum peer_role { PEER_FOLLOWER, PEER_CANDIDATE, PEER_LEADER };

/* Opens the peer socket and starts dialling. 0 or -errno with why (512 bytes). */
int peers_start(struct node *node, struct peers **out, char *why);
/* Ends all links and joins their threads. */
void peers_stop(struct peers *p);
void peers_free(struct peers *p); /* after the loop has closed the handles */

/* Where to append the payload of a frame to that peer; NULL: no link. peers_end()
 * finishes it. */
struct buffer *peers_begin(struct peers *p, uint64_t peer, enum peer_frame type, uint64_t id);
void peers_end(struct peers *p, uint64_t peer);
/* False: no link to it. */
bool peers_send_command(struct peers *p, uint64_t peer, const void *bytes, size_t len);
void peers_send_refusal(struct peers *p, uint64_t peer, uint64_t session, uint64_t seq, uint64_t part);
/* Bytes that wait to be written to it. */
size_t peers_pending(const struct peers *p, uint64_t peer);
/* The most that waits for any of them. */
size_t peers_pending_most(const struct peers *p);
/* There is a link to it that takes one more command. */
bool peers_can_send(const struct peers *p, uint64_t peer);
bool peers_up(const struct peers *p, uint64_t peer);
unsigned peers_up_count(const struct peers *p);
/* Every heartbeat: status to all, links that have gone silent are closed. */
void peers_beat(struct peers *p, uint64_t now_ms);
/* How the peer gets on; id 0: this node. Never NULL; borrowed. */
const struct progress *peers_progress(const struct peers *p, uint64_t id);
void peers_each(const struct peers *p, void *arg, void (*emit)(void *arg, const struct peer_view *view));

#endif
