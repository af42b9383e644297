/* What a power cut leaves of names: a name that came or went is on the disk once
 * its directory is synced (fsync(2)), not when the file is. */
#ifndef KVFS_SYNC_BASE_DISK_H
#define KVFS_SYNC_BASE_DISK_H

/* Each returns 0 or -errno. Blocking; any thread. */

/* The names in this directory. */
int disk_sync_directory(const char *dir);
/* The name `path` itself, in the directory that holds it. */
int disk_sync_name(const char *path);

#endif
