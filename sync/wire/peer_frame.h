/* What nodes say to each other: the types of their frames, and the bodies of those that no
 * other module owns (PROTOCOL.md). Every decoder takes whatever bytes there are and refuses
 * what it does not know. Pure. */
#ifndef KVFS_SYNC_WIRE_PEER_FRAME_H
#define KVFS_SYNC_WIRE_PEER_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/base/buffer.h"

enum peer_frame {
    PEER_HELLO = 100,        /* struct peer_hello, then the sender's lives (incarnation.h) */
    PEER_RAFT = 101,         /* an engine message (sync/raft/PROTOCOL.md) */
    PEER_COMMAND = 102,      /* a command for the leader */
    PEER_REFUSED = 103,      /* struct peer_refused: not the leader */
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
    PEER_LIVES = 113,     /* lives: u16 n, n records (incarnation.h) */
    PEER_ADMISSION = 114, /* struct peer_admission */
    PEER_READMIT = 115    /* u64 id: for the leader: the node of that id may begin anew */
};

#define PEER_MAGIC "kvfs-peer-3" /* 2: before there was a feature level */
#define PEER_NAME_MAX 32
#define PEER_CONFIGURATION_MAX 65536

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

/* A command that was not taken. */
struct peer_refused {
    uint64_t session, seq;
    uint64_t part; /* the number of a PART, plus 1; 0: it is none */
};
void peer_refused_encode(struct buffer *b, const struct peer_refused *r);
bool peer_refused_decode(struct cursor *in, struct peer_refused *out);

/* A node with an empty log begins it with this configuration, in that term and with that vote,
 * and takes no part in votes before it has stored up to gate. */
struct peer_admission {
    uint64_t era, term, vote, gate;
    const void *configuration; /* borrowed */
    size_t len;
};
void peer_admission_encode(struct buffer *b, const struct peer_admission *a);
bool peer_admission_decode(struct cursor *in, struct peer_admission *out);

/* The frames that are n numbers of 64 bits. False: there are more or fewer. */
bool peer_numbers_decode(struct cursor *in, uint64_t *out, size_t n);

#endif
