/* The changes of keys as a stream, for GET /v1/events: rows of the operation log, which have names and
 * authors and outlive failovers and restarts; the node's stream of events only says that there are new ones.
 * One reader of the log for each user (gate.h), as 1,000 followers must not be 1,000 readers; who has to
 * catch up reads by himself, a page at a time as he can take it, until he has come to where the reader is. At
 * least once, in order, without gaps that are not told. Loop thread only. */
#ifndef KVFS_KVNODE_WEB_FEED_H
#define KVFS_KVNODE_WEB_FEED_H

#include "kvnode/web/gate.h"

struct feed;

/* Who follows it; part of its owner, who fills the callbacks. They may not leave. */
struct follower {
    struct feed *feed; /* NULL: it follows none */
    struct gate_call call;
    uint64_t after;       /* the revision up to which all has been told */
    uint64_t asked;       /* where the feed was when a page was asked for */
    struct buffer cursor; /* of the log, behind that; empty: by `after` */
    bool from_now, joined;
    bool held; /* it was not ready: feed_more() goes on */
    /* Takes one more page; amid: takes one more row of a page that it has begun with. */
    bool (*ready)(void *arg, bool amid);
    /* last: no other row of its revision follows. text: what it was made into for a follower before, or
     * empty: the first one puts it there. */
    void (*row)(void *arg, const struct log_row *row, bool last, struct buffer *text);
    /* Of what follows, some of revisions above the first and up to the second are no longer kept. */
    void (*gap)(void *arg, uint64_t after, uint64_t until);
    void (*flush)(void *arg); /* a page has ended */
    void (*end)(
        void *arg); /* it follows no longer: the log could not be read, or another state was put in place */
    void *arg;
    LIST_ENTRY(follower) link;
};

/* f->after, or f->from_now, says from where. False: out of memory. */
bool feed_follow(struct gate *g, struct follower *f);
void feed_leave(struct follower *f); /* who follows none is ignored */
/* It is ready again. */
void feed_more(struct follower *f);

/* From gate.c: something has changed. */
void feed_wake(struct feed *d);
/* The same: it hands on what it has read, to one follower at least, as far as there is time. True: there is
 * more. */
bool feed_turn(struct feed *d, uint64_t until_ns);
/* The same: its gate serves nobody any more. */
void feed_end(struct feed *d);

#endif
