/* Messages between the engines of a group, and their bytes (PROTOCOL.md).
 *
 * One owner at a time; the loop thread of whoever owns it. */
#ifndef KVFS_SYNC_RAFT_ENGINE_MESSAGE_H
#define KVFS_SYNC_RAFT_ENGINE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/base/buffer.h"
#include "sync/raft/engine/entry.h"
#include "sync/raft/engine/snapshot_meta.h"

#define RAFT_MESSAGE_VERSION 1
/* Payload bytes after which an AppendEntries is split; one entry always fits. */
#define RAFT_MESSAGE_SPLIT_BYTES (512u * 1024u)
#define RAFT_MESSAGE_MAX_ENTRIES 4096u
/* Log positions stay below (they are 48 bits in log.db's keys). */
#define MESSAGE_MAX_INDEX (UINT64_C(1) << 47)
/* No encoded message is longer (split bytes, one longest entry, the headers). */
#define RAFT_MESSAGE_MAX_LEN (2u * 1024u * 1024u)

/* The numbers are on the wire. */
enum raft_message_kind {
    RAFT_MESSAGE_APPEND = 1,    /* leader -> all: AppendEntries, heartbeat, commit notice (Raft §3.5) */
    RAFT_MESSAGE_APPEND_RESULT, /* and its answer */
    RAFT_MESSAGE_VOTE,          /* candidate -> voters: RequestVote and pre-vote (Raft §3.4, §9.6) */
    RAFT_MESSAGE_VOTE_RESULT,
    RAFT_MESSAGE_INSTALL, /* for a receiver that has the whole state file (Raft §5.3); never on the wire */
    RAFT_MESSAGE_TIMEOUT_NOW, /* leader -> its successor (Raft §3.10) */
    RAFT_MESSAGE_PING = 16,   /* leader -> voters: is your term above mine? (ReadIndex, Raft §6.4) */
    RAFT_MESSAGE_PONG,
    RAFT_MESSAGE_ECHO,  /* follower -> leader: I accepted what you sent at sent_ms (lease, Raft §6.4.1) */
    RAFT_MESSAGE_LEASE, /* holder -> leader: read leases, see lease.c */
    RAFT_MESSAGE_GRANT, /* leader -> holder */
};

enum lease_kind { LEASE_INDEX, LEASE_REQUEST, LEASE_RETURN };

struct engine_message {
    enum raft_message_kind type;
    uint64_t from, to; /* server ids; both are on the wire, and the link's peer must equal `from` */
    uint64_t term;     /* sender's term; VOTE: the term it stands for; PONG, ECHO: the term answered */
    uint64_t sent_ms;  /* sender's clock; ECHO, GRANT: the other's, echoed */
    union {
        struct {
            uint64_t prev_index, prev_term, leader_commit;
        } append;
        struct {
            uint64_t rejected;   /* the index that did not match, or 0 */
            uint64_t last_index; /* acknowledged up to here, or where to try next */
        } append_result;
        struct {
            uint64_t last_index, last_term; /* of the candidate's log */
            bool disrupt_leader, pre_vote;
        } vote;
        struct {
            bool granted, pre_vote;
        } vote_result;
        struct {
            uint64_t last_index, last_term;
        } timeout_now;
        struct {
            uint64_t seq;
            uint64_t peer_term; /* PONG: the answering voter's term */
        } ping;
        struct {
            enum lease_kind kind;
            uint64_t invalidated; /* up to this index, as accepted in this term */
        } lease;
        struct {
            uint32_t length_ms; /* from sent_ms on, on the holder's clock */
            uint64_t visible;   /* commit index of the leader: usable by who has invalidated that */
        } grant;
    };
    struct entry **entries; /* APPEND: owned array of owned references */
    uint32_t n_entries;
    struct snapshot_meta meta; /* INSTALL */
};

/* Zeroed but for the arguments; NULL: out of memory. */
struct engine_message *message_new(enum raft_message_kind type, uint64_t from, uint64_t to);
/* The install message that a receiver hands to its engine when the file of a
 * transfer is complete; `term` is the sender's term, carried by the transfer.
 * Copies meta. NULL: out of memory. */
struct engine_message *message_new_install(uint64_t from, uint64_t to, uint64_t term,
                                           const struct snapshot_meta *meta);
/* Shares the entries. NULL: out of memory. */
struct engine_message *message_copy(const struct engine_message *m);
void message_free(struct engine_message *m); /* NULL is ignored */

/* Appends the bytes; out->failed tells of lack of memory. Not for INSTALL,
 * which the transfer of its file stands for (snapshot_transfer.h). */
void message_encode(const struct engine_message *m, struct buffer *out);
/* 0 with a new message in *out; KV_E_PROTOCOL: not exactly one well-formed
 * message (unknown type or version, a length beyond the bytes at hand, a
 * limit of this header or of entry.h broken, a configuration that is none);
 * -ENOMEM. */
int message_decode(const void *data, size_t len, struct engine_message **out);

/* "AE 1->2 term 3 ..." for traces; always terminated. */
void message_format(const struct engine_message *m, char *text, size_t len);

#endif
