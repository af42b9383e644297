/* What somebody should do something about, a sentence each, in the order of harm. Loop
 * thread only. */
#ifndef KVFS_KVNODE_PEER_WARNINGS_H
#define KVFS_KVNODE_PEER_WARNINGS_H

#include <jansson.h>

struct members;
struct self;
struct store_usage;

/* A new array of strings. */
json_t *warnings(const struct self *self, const struct members *members, const struct store_usage *usage);
/* The one about the i-th of the rivals. */
void warnings_rival(const struct self *self, size_t i, char *out, size_t size);

#endif
