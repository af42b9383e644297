/* The stream of changes to this node's subscribers (mounts, watchers): a ring of
 * the latest events, and who wants them. Loop thread only.
 *
 * An event is in the subscriber's output before the answer to the request that
 * caused it. A subscriber that does not keep up is disconnected; it comes back
 * with the last revision it saw, and if the ring no longer has what follows it is
 * told of the gap and drops its caches. */
#ifndef KVFS_KVNODE_GROUP_EVENTS_H
#define KVFS_KVNODE_GROUP_EVENTS_H

#include "sync/wire/message.h"

struct events;
struct stream;
struct subscriber;

struct events *events_new(void); /* NULL: out of memory */
void events_free(struct events *e);
/* From store_apply(). */
void events_add(struct events *e, const struct event *event);
/* Everything up to `revision` is gone (a snapshot was installed): all subscribers
 * are disconnected. */
void events_reset(struct events *e, uint64_t revision);
/* Subscribes the stream. *from_out: after + 1, or more if there is a gap: the ring
 * does not reach back, or this node never had `after`; then everything applied so
 * far has to be looked at anew. Call events_replay() once
 * that has been answered. protocol: the form of their attributes; request: the id
 * that EVENT frames carry. NULL: out of memory. */
struct subscriber *events_subscribe(struct events *e, struct stream *stream, uint16_t protocol,
                                    uint64_t request, uint64_t after, uint64_t applied, uint64_t *from_out);
/* Before the first event: redact() takes out of each what this subscriber may not see. */
void events_redact(struct subscriber *s, void (*redact)(void *arg, struct event *event), void *arg);
/* It asks for what has happened (LOG) and only wants to know that something has: after an event it is sent no
 * other before events_asked(). */
void events_sparse(struct subscriber *s);
void events_asked(struct subscriber *s); /* NULL is ignored */
void events_replay(struct events *e, struct subscriber *s);
void events_unsubscribe(struct events *e, struct subscriber *s); /* NULL is ignored */
unsigned events_subscribers(const struct events *e);

#endif
