/* Files whose last name has gone, and that live on in this mount: somebody has them open, or holds
 * the inode. */
#ifndef KVFS_KVFS_FILE_REMOVED_H
#define KVFS_KVFS_FILE_REMOVED_H

#include <stdbool.h>
#include <stdint.h>

#include "kvfs/file/file.h"

/* Removed inodes that no handle is open for, and that the kernel still knows: somebody's
 * working directory, a bind mount of one file, an O_PATH descriptor. The oldest go first. */
struct removed {
    struct file_list list;
    unsigned n;
    uint64_t bytes;
};

/* The last name of an inode has gone. */
void removed_inode(struct files *files, struct kernel_inode *inode, const struct attr *attr);
/* The same for its file. */
void removed_file(struct files *files, struct file *f, const struct attr *attr);
/* Nobody has it open, and the kernel knows it: whether it is kept for that. */
bool removed_keep(struct files *files, struct file *f);
void removed_let_go(struct files *files, struct file *f);
/* Fetches the values of what the kernel has not forgotten by now. */
void removed_tick(struct files *files, uint64_t now_ms);

#endif
