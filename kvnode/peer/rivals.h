/* Peers that belong to another cluster: somebody has exchanged the sections of nodes that
 * were founded apart, or has given a node the wrong id. What they hold cannot be joined, and
 * who writes to one of them takes it for what the others will have, too. So a node serves
 * nobody while those that do not belong elsewhere, itself among them, are no majority of
 * the nodes that its configuration names: of two founders both stop, of three nodes the
 * one that was mistaken. Nothing is removed; what it has is served again once the
 * sections are right. Pure; loop thread. */
#ifndef KVFS_KVNODE_PEER_RIVALS_H
#define KVFS_KVNODE_PEER_RIVALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RIVALS_MAX 32 /* CONFIG_PEERS_MAX */

/* All zeros: none is known. */
struct rivals {
    struct {
        uint64_t id, cluster;
    } all[RIVALS_MAX];
    size_t n;
};

/* The peer says to which cluster it belongs; own: this node's. It is believed until it says
 * otherwise, whether it is linked or not. True: that is news. */
bool rivals_hear(struct rivals *r, uint64_t peer, uint64_t cluster, uint64_t own);
/* The peer's cluster; 0: ours, as far as is known. */
uint64_t rivals_cluster(const struct rivals *r, uint64_t peer);
/* Of n nodes in the configuration, this one among them, too many belong elsewhere. */
bool rivals_prevail(const struct rivals *r, size_t n);

#endif
