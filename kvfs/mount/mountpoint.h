/* The directory that is mounted on. */
#ifndef KVFS_KVFS_MOUNT_MOUNTPOINT_H
#define KVFS_KVFS_MOUNT_MOUNTPOINT_H

#include <stdbool.h>
#include <stdio.h>

enum mountpoint_state { MOUNTPOINT_FREE, MOUNTPOINT_MOUNTED, MOUNTPOINT_DEAD };

/* Makes path absolute and checks that it is a directory that can be mounted on.
 * A dead kvfs mount there (its process was killed) is taken away first; a living one
 * is an error unless `mounted` is what is wanted. Returns the path (owned by the
 * caller), or NULL after an error message on stderr. */
char *mountpoint_prepare(const char *path, bool mounted);

/* What of kvfs is mounted there, on top of anything else. */
enum mountpoint_state mountpoint_state(const char *path);
/* Keeps other kvfs from mounting there until it is closed: a descriptor, or -1. */
int mountpoint_lock(const char *path);

/* The text of a mountinfo file: whether the last mount on path is one of kvfs. */
bool mountpoint_is_kvfs(FILE *mountinfo, const char *path);

/* Takes the mount out of the tree; whoever has files open there keeps them.
 * As root by umount2(2), else by fusermount3. 0 or -1. */
int mountpoint_detach(const char *path);

#endif
