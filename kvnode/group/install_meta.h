/* The meta of an install under way, in a file: written before state.db is replaced, read at
 * start-up to reset a log that had no time to be. */
#ifndef KVFS_KVNODE_GROUP_INSTALL_META_H
#define KVFS_KVNODE_GROUP_INSTALL_META_H

#include "sync/raft/engine/snapshot_meta.h"

/* Durably. 0 or -errno. */
int install_meta_write(const char *group_dir, const struct snapshot_meta *meta);
/* Before anything is opened at start-up: what an interrupted install left in the
 * group's folder. 1: *meta_out has to be given to consensus_finish_install() (and
 * install_meta_remove() called after it); 0: nothing; -errno: there may be something
 * that cannot be read. */
int install_meta_recover(const char *group_dir, uint64_t applied, struct snapshot_meta *meta_out);
void install_meta_remove(const char *group_dir);

#endif
