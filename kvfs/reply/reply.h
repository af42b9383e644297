/* Answers to the kernel that change what it knows: the counts of its
 * references, and how long it may believe what. Each ends the call. */
#ifndef KVFS_KVFS_REPLY_REPLY_H
#define KVFS_KVFS_REPLY_REPLY_H

#include "kvfs/file/files.h"

/* How long the kernel may use attributes. Zero for a file with unpublished
 * edits (its times are settled when it is published), and for answers that the
 * kernel takes without looking whether a notification has overtaken them. */
enum reply_trust { REPLY_CHECKED, REPLY_UNCHECKED };

/* Fills in a directory entry of parent for the answer to the call, and counts a
 * reference. NULL: out of memory. */
struct kernel_inode *reply_fill_entry(const struct call *call, struct attr *attr, uint64_t parent,
                                      const void *name, size_t name_len, enum reply_trust trust,
                                      struct fuse_entry_param *e_out);
/* LOOKUP, MKDIR, SYMLINK, MKNOD; the name is call->name in call->parent. */
void reply_entry(struct call *call, struct attr *attr, enum reply_trust trust);
/* LOOKUP of a name that may lead elsewhere by now: who asked finds attr's inode by it, once; nothing is known
 * of it afterwards, and a place that is known stays. */
void reply_entry_once(struct call *call, struct attr *attr);
/* LOOKUP of a missing name. */
void reply_missing(struct call *call);
/* GETATTR, SETATTR, FUSE_STATX: exactly these; timeout in seconds. */
void reply_stat(struct call *call, const struct attr *attr, double timeout);
/* The same with the edits of this mount. */
void reply_attr(struct call *call, struct attr *attr, enum reply_trust trust);
/* READ: bytes of the published value of base_size bytes, with the edits of this mount. */
void reply_read(struct call *call, const struct file *f, uint64_t base_size, const uint8_t *data, size_t len);
/* READLINK: up to KV_PATH_MAX bytes. */
void reply_link(struct call *call, const void *target, size_t len);
void reply_data(struct call *call, const void *data, size_t len);
/* GETXATTR: the value, or its length if size is 0. */
void reply_xattr(struct call *call, const void *value, size_t len);
/* The one that the call asks for, or all their names, of these (sync/wire/xattr.h). */
void reply_xattrs(struct call *call, const struct bytes *xattrs);

#endif
