/* The cluster's feature level (sync/wire/feature.h): what may be written at the present one, and
 * when it may rise. Loop thread only. */
#ifndef KVFS_KVNODE_GROUP_LEVEL_H
#define KVFS_KVNODE_GROUP_LEVEL_H

#include <stdbool.h>
#include <stddef.h>

struct command;
struct group;
struct store;

/* Whether the cluster is, as far as this node knows, at the level of this command. */
bool level_has(const struct store *s, const struct command *cmd);
/* As leader: whether this encoded command would raise the level, and a member is not heard or
 * has not said that it knows the new one. */
bool level_forbids(const struct group *g, const void *bytes, size_t len);
/* Every beat: a cluster in which nothing was written yet is given the highest level that all
 * members know. */
void level_beat(struct group *g);
/* As leader: whether this command has to wait for level_beat(), because it would be the first
 * thing written in a new cluster, whose members have not all been heard yet. For 3 s at most:
 * then the cluster begins at the level that it has. */
bool level_awaited(struct group *g, const struct command *cmd);

#endif
