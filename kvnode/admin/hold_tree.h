/* All processes that descend from this one; and a cgroup of their own, where one can be made. */
#ifndef KVFS_KVNODE_ADMIN_HOLD_TREE_H
#define KVFS_KVNODE_ADMIN_HOLD_TREE_H

#include <stddef.h>

/* Who is missed, because its parent ended just now, is found by the next look. Returns how many refused it.
 */
unsigned tree_signal(int number);

/* A cgroup (v2) below this process's own, which kills all that is in it at once, whatever it does: where
 * root, or who was given that cgroup, may make one. "" if it cannot be made; tree_signal() does without. */
void tree_cgroup_make(char *path_out, size_t size);
void tree_cgroup_enter(const char *path); /* this process, and what it starts */
void tree_cgroup_kill(const char *path);
void tree_cgroup_remove(const char *path); /* when nobody is in it */

#endif
