/* Attributes as the kernel knows them. Pure. */
#ifndef KVFS_KVFS_LINK_STAT_H
#define KVFS_KVFS_LINK_STAT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "kvfs/link/options.h"
#include "sync/wire/attr.h"

/* As stat(2) shows them on a mount with these options. */
void stat_of(const struct options *options, const struct attr *attr, struct stat *st_out);
/* S_IFREG and its like, of an enum inode_type. */
mode_t stat_type(uint8_t type);
/* Whether fs.protected_regular, which has that value, keeps this user from opening the file with O_CREAT in
 * the directory: may_create_in_sticky() in fs/namei.c. */
bool stat_is_protected(const struct stat *directory, const struct stat *file, uint32_t uid,
                       unsigned protection);
struct timespec stat_timespec(int64_t ns);
/* A time in the unit of attributes; beyond their range the last second within it. */
int64_t stat_time_ns(struct timespec t);

#endif
