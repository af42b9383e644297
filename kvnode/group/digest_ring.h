/* The digests of the last states: what nodes that are not at the same index need to
 * compare themselves at one. Loop thread only. */
#ifndef KVFS_KVNODE_GROUP_DIGEST_RING_H
#define KVFS_KVNODE_GROUP_DIGEST_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define DIGEST_RING_SIZE 16384 /* some tenths of a second at full speed; a question takes a millisecond */

struct digest_ring {
    struct {
        uint64_t index, digest;
    } slots[DIGEST_RING_SIZE]; /* index 0: empty */
};

static inline void digest_ring_note(struct digest_ring *r, uint64_t index, uint64_t digest)
{
    r->slots[index % DIGEST_RING_SIZE].index = index;
    r->slots[index % DIGEST_RING_SIZE].digest = digest;
}

/* Another state is in force, as of that index. */
static inline void digest_ring_reset(struct digest_ring *r, uint64_t index, uint64_t digest)
{
    memset(r, 0, sizeof *r);
    digest_ring_note(r, index, digest);
}

/* False: forgotten, or not reached yet. */
static inline bool digest_ring_find(const struct digest_ring *r, uint64_t index, uint64_t *digest_out)
{
    *digest_out = r->slots[index % DIGEST_RING_SIZE].digest;
    return index != 0 && r->slots[index % DIGEST_RING_SIZE].index == index;
}

#endif
