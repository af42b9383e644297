/* Whose clock is right: the times of day of the nodes against each other, from
 * what they say of themselves with every status (health.h). Pure; loop thread.
 *
 * A status is under way for a time that nobody measures, which makes the sender's
 * clock look slow by that much. So a clock is taken to be ahead by the most that
 * the last SKEW_SAMPLES messages say: what came fastest tells best.
 *
 * No clock is right by itself. The nodes whose clocks agree within SKEW_OFF_NS are
 * a group; if the largest group has a majority of the voters and this node is not
 * in it, its clock is off. */
#ifndef KVFS_KVNODE_GROUP_SKEW_H
#define KVFS_KVNODE_GROUP_SKEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SKEW_OFF_NS INT64_C(1000000000)
#define SKEW_SAMPLES 64   /* 3 s of heartbeats: more than bulk data holds them up */
#define SKEW_PEERS_MAX 32 /* CONFIG_PEERS_MAX */
/* What is older says nothing any more. */
#define SKEW_FRESH_MS 3000

struct skew_peer {
    uint64_t id; /* 0: a free place */
    int64_t offsets[SKEW_SAMPLES];
    unsigned n; /* samples so far */
    uint64_t heard_ms;
};

/* All zeros: nothing is known. */
struct skew {
    struct skew_peer peers[SKEW_PEERS_MAX];
};

struct skew_view {
    bool agreed;         /* a majority of the voters has clocks that agree */
    bool off;            /* and this node's is not among them */
    int64_t majority_ns; /* with agreed: its clock less ours (the middle one) */
};

/* A status has come: the peer's clock less ours at this moment. */
void skew_hear(struct skew *s, uint64_t id, int64_t offset_ns, uint64_t now_ms);
/* The peer's clock less ours; false: not known. */
bool skew_offset(const struct skew *s, uint64_t id, uint64_t now_ms, int64_t *offset_out);
/* voters: ids of all, this node's own is self. */
struct skew_view skew_judge(const struct skew *s, uint64_t self, const uint64_t *voters, size_t n_voters,
                            uint64_t now_ms);

#endif
