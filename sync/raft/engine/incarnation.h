/* Which life of each node is the newest that anybody knows of, and what that node
 * had acknowledged: by this a node is recognised whose files were put back from an
 * older copy, or lost. Raft counts on it that no server forgets; one that did may
 * neither vote nor count (Raft thesis §11.7.3 on what stable storage has to keep).
 *
 * A node counts its starts in its own log.db and gives each a random number, durably
 * before it says HELLO to anybody. Everybody remembers, durably, the newest life of every node;
 * these tables are exchanged, so that a node that was away learns what it missed.
 *
 * Nothing here is guessed: each contradiction below is impossible for a node whose
 * files are its own newest ones. What it cannot see: a copy that was made while the node
 * ran, put back before the others knew of anything that it acknowledged since; and one
 * that was started INCARNATION_PAST times before any of those that know better heard.
 *
 * Pure; any thread. */
#ifndef KVFS_SYNC_RAFT_ENGINE_INCARNATION_H
#define KVFS_SYNC_RAFT_ENGINE_INCARNATION_H

#include <stdbool.h>
#include <stdint.h>

#include "sync/base/buffer.h"

#define INCARNATIONS_MAX 33 /* CONFIGURATION_MAX_SERVERS, and the node itself */

/* Lives before this one that a record remembers: files that were put back, and started more than
 * once before anybody heard of it, have as many starts as the others know of, but not the same. */
#define INCARNATION_PAST 16

struct incarnation {
    uint64_t id;
    uint64_t era;                    /* how often it was let in anew; what is below counts within it */
    uint64_t boot, nonce;            /* how often it was started, 0: not yet; that start's random number */
    uint64_t past[INCARNATION_PAST]; /* the random numbers of boot - 1, boot - 2, …; 0: none */
    /* The end of its log and its term at that start. */
    uint64_t born_index, born_term;
    /* It is known to have had that much: committed and durable there. 0: it has never had a log. */
    uint64_t index, term;
    bool gone; /* it was found to have gone back */
};

enum incarnation_fault {
    INCARNATION_FINE = 0,
    INCARNATION_KNOWN_GONE, /* found before */
    INCARNATION_OLD_ERA,    /* let in anew since then */
    INCARNATION_OLD_BOOT,   /* it has been started more often than it knows */
    INCARNATION_TWIN,       /* another start had that number */
    INCARNATION_LOG_SHORT,  /* its log ended before what it had acknowledged */
    INCARNATION_TERM_LOW    /* its term was lower than one in which it may have voted */
};

/* What `known` (of the same id) has against the life that `said` tells of. */
enum incarnation_fault incarnation_check(const struct incarnation *known, const struct incarnation *said);
/* For people: "it was started from an older copy of its files", … */
const char *incarnation_fault_text(enum incarnation_fault fault);

struct incarnations {
    struct incarnation all[INCARNATIONS_MAX];
    unsigned n;
};

/* NULL: nothing is known of it. Borrowed from t. */
struct incarnation *incarnations_find(struct incarnations *t, uint64_t id);
/* The record, made if it is missing; NULL: the table is full. */
struct incarnation *incarnations_get(struct incarnations *t, uint64_t id);

enum incarnation_news {
    INCARNATION_OLD_NEWS,
    INCARNATION_PROGRESS, /* only index or term: may be made durable later */
    INCARNATION_NEWS      /* make it durable before acting on it, and tell the others */
};
/* Takes what is newer of `said`, be it from the node itself or from another's table. Lives that
 * contradict each other leave the record `gone`. A full table is INCARNATION_OLD_NEWS. */
enum incarnation_news incarnations_merge(struct incarnations *t, const struct incarnation *said);

#define INCARNATION_BYTES (65 + 8 * INCARNATION_PAST)
void incarnation_encode(struct buffer *b, const struct incarnation *i);
/* False: malformed. */
bool incarnation_decode(struct cursor *in, struct incarnation *out);
/* u16 n, n records. */
void incarnations_encode(struct buffer *b, const struct incarnations *t);
bool incarnations_decode(struct cursor *in, struct incarnations *out);

#endif
