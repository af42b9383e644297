/* The node's HTTP API: one more way to be a client, next to the unix socket (kvnode/client). Its connections
 * live in the node's own loop, and what they ask goes the way of all requests (gate.h). Loop thread only. */
#ifndef KVFS_KVNODE_WEB_WEB_H
#define KVFS_KVNODE_WEB_WEB_H

#include <stdint.h>

struct group;
struct self;
struct serve;
struct turn;
struct web;

/* What it uses of its node; all borrowed. */
struct web_owner {
    const struct self *self;
    const struct group *group;
    struct serve *serve;
    struct turn *turn;
};

/* Opens the sockets that the configuration names ([http]); *out is NULL if it names none. The owner is
 * copied. 0 or -errno with why (512 bytes). */
int web_start(const struct web_owner *owner, struct web **out, char *why);
/* All of these ignore NULL. */
/* Before all else that happens at the end of a turn: what has come in is asked. */
void web_turn_begin(struct web *w);
/* End of a turn, behind the streams' output: what has been answered leaves. */
void web_turn_end(struct web *w);
void web_beat(struct web *w, uint64_t now_ms);
/* Behind the last output of the streams: takes no more; what is answered still leaves, all else is cut off.
 */
void web_stop(struct web *w);
void web_free(struct web *w); /* after the loop has closed the handles */

#endif
