/* This node, as far as it can tell of itself: to its peers with every status, and to whoever asks one of
 * them how it gets on. Its owner fills what is borrowed. Loop thread only. */
#ifndef KVFS_KVNODE_PEER_SELF_H
#define KVFS_KVNODE_PEER_SELF_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "sync/wire/peer_frame.h"

struct clock_watch;
struct config;
struct door;
struct group;
struct peers;
struct rivals;

struct self {
    const struct config *config; /* borrowed, as all of these */
    uv_loop_t *loop;
    const struct group *group; /* whose state, log and role are the node's: the first */
    const struct door *door;
    const struct clock_watch *clock;
    const struct rivals *rivals;
    const struct peers *peers;

    uint64_t started_ms; /* clock_boot_ms() */
    bool stopping;
    struct {
        uv_fs_t request;
        bool asked;                          /* the request is under way */
        uint64_t at_ms;                      /* clock_boot_ms() of the last one */
        uint64_t disk_free, disk_total, rss; /* bytes; 0: not known yet */
        uint64_t state_bytes;                /* of state.db */
    } probe;                                 /* see self_beat() */
};

/* As of now. */
void self_look(const struct self *s, struct peer_status *out);
/* Why this node serves nobody: it has no state, is no member yet, has gone back, or its peers belong to
 * another cluster; NULL: it serves. */
const char *self_no_service(const struct self *s);
/* Every beat: has the disk's room measured now and then, on another thread. */
void self_beat(struct self *s, uint64_t now_ms);

#endif
