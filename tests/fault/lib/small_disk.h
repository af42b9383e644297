/* A node's data folder on a file system of its own that can be filled: ext4 in an
 * image on a loop device where the machine has them, a tmpfs elsewhere. */
#ifndef KVFS_TESTS_FAULT_SMALL_DISK_H
#define KVFS_TESTS_FAULT_SMALL_DISK_H

#include <stdbool.h>

#define SMALL_DISK_MAX_MB 400

/* Makes one with that many MiB free and mounts it on the folder, which exists;
 * the image lies beside it. Says on stdout, once, which kind it is. Needs root. */
bool small_disk_mount(const char *folder, unsigned mb);
/* From now on mb in all, of what is used and what is free; not less than before. */
bool small_disk_grow(const char *folder, unsigned mb);
/* The loop device goes as well, as soon as nobody has a file open. */
void small_disk_unmount(const char *folder);

#endif
