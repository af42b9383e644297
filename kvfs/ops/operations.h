/* The operations of the file system, as libfuse calls them (fuse_lowlevel.h says
 * what each may answer). Worker threads; each takes the lock itself.
 *
 *   operations.c            the table, and the handshake with the kernel
 *   operations_name.c       names: lookup, make, remove, rename
 *   operations_attr.c       attributes
 *   operations_xattr.c      extended ones
 *   operations_open.c       open, create
 *   operations_io.c         read, write, and when to publish
 *   operations_lock.c       locks
 *   operations_directory.c  listings */
#ifndef KVFS_KVFS_OPS_OPERATIONS_H
#define KVFS_KVFS_OPS_OPERATIONS_H

#include "kvfs/ops/fs.h"

extern const struct fuse_lowlevel_ops operations;

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t node, uint64_t nlookup);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
               const char *new_name, unsigned flags);
void op_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t new_parent, const char *new_name);

void op_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
/* What GETATTR and FUSE_STATX do; under the lock. */
void attr_start(struct call *call, fuse_ino_t node);
void op_setattr(fuse_req_t req, fuse_ino_t node, struct stat *set, int to_set, struct fuse_file_info *fi);
void op_readlink(fuse_req_t req, fuse_ino_t node);
void op_statfs(fuse_req_t req, fuse_ino_t node);

void op_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size);
void op_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size,
                 int flags);
void op_removexattr(fuse_req_t req, fuse_ino_t node, const char *name);
void op_listxattr(fuse_req_t req, fuse_ino_t node, size_t size);

void op_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);

void op_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t offset,
              struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t node, int data_only, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t offset, off_t len,
                  struct fuse_file_info *fi);
void op_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_offset, struct fuse_file_info *from_fi,
                        fuse_ino_t to, off_t to_offset, struct fuse_file_info *to_fi, size_t len, int flags);

void op_flock(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, int op);
void op_setlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *lock, int sleep);
void op_getlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *lock);

void op_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t node, int data_only, struct fuse_file_info *fi);

#endif
