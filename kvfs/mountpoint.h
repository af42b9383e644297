/* The directory that is mounted on. */
#ifndef KVFS_KVFS_MOUNTPOINT_H
#define KVFS_KVFS_MOUNTPOINT_H

/* Makes path absolute and checks that it is a directory that can be mounted on.
 * A dead kvfs mount there (its process was killed) is taken away first. Returns
 * the path (owned by the caller), or NULL after an error message on stderr. */
char *mountpoint_prepare(const char *path);

/* Takes the mount out of the tree; whoever has files open there keeps them.
 * As root by umount2(2), else by fusermount3. 0 or -1. */
int mountpoint_detach(const char *path);

#endif
