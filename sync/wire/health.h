/* What a node knows of itself and the others cannot see: room on its disk, damage,
 * how far it has got, its clock, whom it reaches. It travels to all peers with
 * every PEER_STATUS, so that any node can say which of them can take a write.
 *
 * On the wire: u16 number of fields, each u16 tag and its value. A tag below
 * HEALTH_TAG_STRING is followed by a u64, the others by a string: a field that
 * the reader does not know is skipped, one that the sender does not know is 0
 * (or ""). Tags are never given a second meaning. */
#ifndef KVFS_SYNC_WIRE_HEALTH_H
#define KVFS_SYNC_WIRE_HEALTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/base/buffer.h"

#define HEALTH_TAG_STRING 0x8000
#define HEALTH_FIELDS_MAX 256
#define HEALTH_STRING_MAX 1024
#define HEALTH_VERSION_MAX 32
#define HEALTH_HTTP_MAX 80
#define HEALTH_LINKS_MAX 32 /* CONFIG_PEERS_MAX */

enum health_flag {
    HEALTH_LOG_FULL = 1 << 0,   /* log.db has no room: nothing is acknowledged */
    HEALTH_STATE_FULL = 1 << 1, /* state.db has none */
    HEALTH_DAMAGED = 1 << 2,    /* its scrub found state.db damaged; memory is whole */
    HEALTH_STATELESS = 1 << 3,  /* it awaits or loads a state */
    HEALTH_GONE_BACK = 1 << 4,  /* its files are older than what it has acknowledged */
    HEALTH_WAITING = 1 << 5,    /* it is no member yet, and waits to be let in */
    HEALTH_STOPPING = 1 << 6,
    HEALTH_CLOCK_OFF = 1 << 7, /* its clock differs from the majority's */
    HEALTH_RIVALS = 1 << 8     /* its peers belong to another cluster: it serves nobody */
};
/* A node with one of these acknowledges no write. */
#define HEALTH_USELESS                                                                                       \
    (HEALTH_LOG_FULL | HEALTH_STATE_FULL | HEALTH_DAMAGED | HEALTH_STATELESS | HEALTH_GONE_BACK |            \
     HEALTH_WAITING | HEALTH_STOPPING | HEALTH_RIVALS)

struct health {
    uint64_t flags;                     /* enum health_flag */
    uint64_t commit, last_index, first; /* of its log */
    uint64_t durable;                   /* what state.db has for good */
    int64_t wall_ns;                    /* CLOCK_REALTIME when this was sent; 0: not told */
    uint64_t uptime_ms;
    uint64_t keys, live_bytes, max_keys, max_bytes;
    uint64_t disk_free, disk_total; /* bytes, of the file system with its data directory; 0 and 0: unknown */
    uint64_t rss;                   /* resident memory, bytes */
    uint64_t level;                 /* the highest feature level that it knows (feature.h) */
    uint64_t election_ms;           /* the least time after which it votes against a leader that it heard */
    uint64_t commit_p50_us, commit_p99_us; /* of a leader: how long what it proposed in the last second took
                                              to be committed; 0: nothing was */
    uint64_t leader;                       /* whom it takes for the leader; 0: nobody */
    uint64_t links[HEALTH_LINKS_MAX];      /* ids of those it hears */
    size_t n_links;
    char http[HEALTH_HTTP_MAX];       /* HOST:PORT where it serves HTTP, "": nowhere; printable ASCII */
    char version[HEALTH_VERSION_MAX]; /* printable ASCII */
};

/* Appends it; b->failed as ever. */
void health_encode(struct buffer *b, const struct health *h);
/* Reads what health_encode() wrote, or a newer node's. An empty cursor is a node that
 * tells nothing: all 0. False: malformed. */
bool health_decode(struct cursor *in, struct health *out);

#endif
