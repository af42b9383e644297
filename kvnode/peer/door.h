/* Who may take part: this node's own life and those of the others, as they tell of
 * them (sync/raft/engine/incarnation.h), remembered in log.db. Loop thread only.
 *
 *   founder   made by `kvnode init` without --cluster: founds at its first start
 *   waiting   an empty log: it takes part once a member lets it in: the founder while its
 *             log holds nothing but the founding, or a leader in office; and only if none
 *             of them knows of an earlier node of that id
 *   gone back its files are older than what it acknowledged, or were lost: it neither
 *             votes, counts nor serves; the others drop what it sends. The way back is a
 *             readmission by the leader
 *
 * Byte by byte: sync/wire/PROTOCOL.md. */
#ifndef KVFS_KVNODE_PEER_DOOR_H
#define KVFS_KVNODE_PEER_DOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/base/buffer.h"

struct config;
struct door;
struct group;
struct peer_handlers;
struct peer_links;
struct shared_log;
struct turn;

enum standing { STANDING_MEMBER, STANDING_WAITING, STANDING_GONE_BACK };

/* Before anything is opened: removes the log and state of a node that was readmitted. 0 or
 * -errno with why (512 bytes). */
int door_discard(const struct config *config, char *why);

/* What it uses of its node; all borrowed. */
struct door_owner {
    const struct config *config;
    struct group *group; /* whose log says who is a member: opened, not started */
    struct shared_log *log;
    struct turn *turn;
    const struct peer_links *links; /* before door_beat() */
    /* This node is to begin anew: the process starts again, and door_discard() finds what is to go. */
    void *arg;
    void (*on_readmitted)(void *arg);
};

/* Reads the note in log.db, refuses another node's files before it writes anything, and counts this start
 * durably. The owner is copied. 0 or -errno with why (512 bytes); *out is there in any case but without
 * memory for itself (NULL). */
int door_open(const struct door_owner *owner, bool has_log, struct door **out, char *why);
void door_free(struct door *d); /* NULL is ignored */
/* Before this node founds a cluster; its log has been stored. */
void door_founded(struct door *d);

enum standing door_standing(const struct door *d);
/* A sentence about it, or "". */
const char *door_text(const struct door *d);
/* Gone back: the command that mends it, and where, for people; else "". Borrowed. */
const char *door_way_back(const struct door *d);
/* The peer has gone back as far as this node knows: nothing it says about the log or votes
 * counts, and it gets none of that. why_out (may be NULL): for people; borrowed. */
bool door_shut(const struct door *d, uint64_t peer, const char **why_out);

/* What HELLO carries behind the names: every record, the sender's own among them. */
void door_put_hello(struct door *d, struct buffer *b);
/* The peer's. False: malformed. */
bool door_take_hello(struct door *d, uint64_t peer, struct cursor *in);
/* Takes LIVES, ADMISSION and READMIT from now on. */
void door_hear_peers(struct door *d, struct peer_handlers *handlers);
/* A read that this asked consensus for with a token of its own (GROUP_OWNER_TOKEN is set in it): this
 * node was the leader when it asked. */
void door_leads(struct door *d, uint64_t token);
/* Leader: the peer refuses what it has acknowledged. */
void door_log_shorter(struct door *d, uint64_t peer, uint64_t index, uint64_t match);
/* What is committed here differs from what the leader has: remembers it, so that the next start
 * takes no part, and says what to do. The caller ends the process. */
void door_contradicted(struct door *d);
/* Every heartbeat. */
void door_beat(struct door *d, uint64_t now_ms);
/* The node of that id, gone back or wiped, may begin anew with an empty log, and votes when it
 * has all that the leader has now. A follower passes it on to the leader. KV_E_UNAVAILABLE: there is
 * none; KV_E_NOENT: no such member; KV_E_EXIST: nothing is wrong with it; KV_E_NOSPC. */
int door_readmit(struct door *d, uint64_t id);

#endif
