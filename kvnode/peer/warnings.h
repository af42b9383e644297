/* What somebody should do something about, a sentence each, in the order of harm. Loop
 * thread only. */
#ifndef KVFS_KVNODE_PEER_WARNINGS_H
#define KVFS_KVNODE_PEER_WARNINGS_H

#include <jansson.h>

struct members;
struct node;
struct store_usage;

/* A new array of strings. */
json_t *warnings(struct node *n, const struct members *members, const struct store_usage *usage);
/* The one about the i-th of n->rivals. */
void warnings_rival(const struct node *n, size_t i, char *out, size_t size);

#endif
