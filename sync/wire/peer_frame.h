/* What nodes say to each other: the types of their frames, and what is in them (PROTOCOL.md).
 * Every body that no other module owns has its encoder and its decoder here. A decoder takes
 * whatever bytes there are and refuses what it does not know, what is cut short and what is too
 * long; it leaves the cursor behind the body. Pure. */
#ifndef KVFS_SYNC_WIRE_PEER_FRAME_H
#define KVFS_SYNC_WIRE_PEER_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/base/buffer.h"
#include "sync/wire/health.h"

enum peer_frame {
    /* Of nodes as such. They bear the group PEER_NO_GROUP. */
    PEER_HELLO = 100,     /* struct peer_hello, then the sender's lives (sync/raft/engine/incarnation.h) */
    PEER_STATUS = 106,    /* struct peer_status */
    PEER_LIVES = 113,     /* lives */
    PEER_ADMISSION = 114, /* struct peer_admission */
    PEER_READMIT = 115,   /* an id: for the leader: the node of that id may begin anew */

    /* Of a group. */
    PEER_RAFT = 101,          /* an engine's message (sync/raft/PROTOCOL.md) */
    PEER_COMMAND = 102,       /* a command for the leader (command.h) */
    PEER_REFUSED = 103,       /* struct peer_refused: not the leader */
    PEER_READ = 104,          /* empty; the frame's id: token. A ReadIndex for a follower */
    PEER_READ_ANSWER = 105,   /* struct peer_read_answer; the frame's id: token */
    PEER_SNAPSHOT = 107,      /* to the receiver (sync/raft/PROTOCOL.md) */
    PEER_SNAPSHOT_ACK = 108,  /* to the sender */
    PEER_WANT_STATE = 109,    /* empty: the sender's state.db is damaged, its log is not */
    PEER_VERIFY = 110,        /* struct peer_verify; the frame's id: run */
    PEER_VERIFY_ANSWER = 111, /* struct peer_verify_answer; the frame's id: run */
    PEER_LEASE =
        116, /* an engine's message about read leases, which is passed over where they are not known */
    PEER_TRANSFER = 112 /* an id, 0: choose: for the leader, who hands over */
};
#define PEER_FIRST 100
#define PEER_LAST 116
#define PEER_NO_GROUP 0

#define PEER_MAGIC "kvfs-peer-3" /* 2: before there was a feature level */
#define PEER_NAME_MAX 32
#define PEER_CONFIGURATION_MAX 65536
#define PEER_ERROR_MAX 511

/* The front of a HELLO. Strings are borrowed from the frame and not terminated. */
struct peer_hello {
    bool same_protocol; /* else nothing below means anything */
    uint64_t cluster;
    uint16_t id;
    const char *name;
    size_t name_len;
};
void peer_hello_encode(struct buffer *b, uint64_t cluster, uint16_t id, const char *name);
/* Leaves the lives under the cursor. False: malformed. */
bool peer_hello_decode(struct cursor *in, struct peer_hello *out);

/* Every heartbeat, what a node says of itself. */
enum peer_role { PEER_FOLLOWER, PEER_CANDIDATE, PEER_LEADER };
#define PEER_FLAG_DAMAGED 1   /* its scrub found its state.db damaged, its memory is not */
#define PEER_FLAG_STATELESS 2 /* it awaits a state, and serves nobody */
struct peer_status {
    uint8_t role; /* enum peer_role */
    uint64_t term, applied;
    uint64_t digest_index, digest;
    uint8_t flags; /* PEER_FLAG_… */
    struct health health;
};
void peer_status_encode(struct buffer *b, const struct peer_status *s);
bool peer_status_decode(struct cursor *in, struct peer_status *out);

/* A command that was not taken. */
struct peer_refused {
    uint64_t session, seq;
    uint64_t part; /* the number of a PART, plus 1; 0: it is none */
};
void peer_refused_encode(struct buffer *b, const struct peer_refused *r);
bool peer_refused_decode(struct cursor *in, struct peer_refused *out);

/* The index that a follower's read has to wait for, or why there is none. */
struct peer_read_answer {
    uint16_t code; /* error.h */
    uint64_t index;
};
void peer_read_answer_encode(struct buffer *b, const struct peer_read_answer *a);
bool peer_read_answer_decode(struct cursor *in, struct peer_read_answer *out);

/* What is your digest at this index, and what does your scrub say, which begins with a new run? */
struct peer_verify {
    uint64_t index, rate; /* bytes a second, 0: the configured rate */
};
void peer_verify_encode(struct buffer *b, const struct peer_verify *v);
bool peer_verify_decode(struct cursor *in, struct peer_verify *out);

/* Where a node is, seen from the index that it was asked about. */
enum peer_place {
    PEER_PLACE_THERE,     /* the digest is that of the index */
    PEER_PLACE_BEFORE,    /* not applied yet */
    PEER_PLACE_FORGOTTEN, /* beyond, and the digest is not remembered */
    PEER_PLACE_STATELESS  /* a state file is awaited */
};
struct peer_verify_answer {
    uint8_t place; /* enum peer_place */
    uint64_t index, digest;
    uint8_t scrub;       /* enum scrub_state, kvnode/group/scrub.h: for the reader to look at */
    uint64_t read, size; /* bytes */
    const char *error;   /* borrowed, not terminated; at most PEER_ERROR_MAX bytes */
    size_t error_len;
};
void peer_verify_answer_encode(struct buffer *b, const struct peer_verify_answer *a);
bool peer_verify_answer_decode(struct cursor *in, struct peer_verify_answer *out);

/* A node with an empty log begins it with this configuration, in that term and with that vote,
 * and takes no part in votes before it has stored up to gate. */
struct peer_admission {
    uint64_t era, term, vote, gate;
    const void *configuration; /* borrowed */
    size_t len;
};
void peer_admission_encode(struct buffer *b, const struct peer_admission *a);
bool peer_admission_decode(struct cursor *in, struct peer_admission *out);

/* The frames that name a node and nothing else. */
void peer_id_encode(struct buffer *b, uint64_t id);
bool peer_id_decode(struct cursor *in, uint64_t *id_out);

#endif
