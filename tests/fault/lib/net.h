/* A network namespace a node, joined by a bridge, so that links can be cut for
 * real: packets vanish, nobody is told. Needs root and ip(8).
 *
 * Everything is inside namespaces; nothing leaves this machine. */
#ifndef KVFS_TESTS_FAULT_NET_H
#define KVFS_TESTS_FAULT_NET_H

#include <stdbool.h>
#include <stddef.h>

/* Makes n of them. A number for their names, 0: not possible here. */
unsigned net_new(unsigned n);
void net_free(unsigned net, unsigned n);
void net_name(unsigned net, unsigned i, char *out, size_t size);
void net_address(unsigned net, unsigned i, char *out, size_t size);
/* Cuts node i off from all others, or joins it again. */
bool net_cut(unsigned net, unsigned i, bool cut);
/* The same for what goes from one node to another only: what comes back arrives. */
bool net_cut_way(unsigned net, unsigned from, unsigned to, bool cut);

#endif
