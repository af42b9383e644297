/* Extended attributes of files and directories: what a name of one may be, the limits, and all those of an
 * inode as they are stored and travel:
 *
 *   string name, string value, for each, in the order of the names' bytes
 *
 * Only the namespace user.* is offered, but for user.kv.*, which are made up by mounts
 * (kvfs/ops/operations_xattr.c). */
#ifndef KVFS_SYNC_WIRE_XATTR_H
#define KVFS_SYNC_WIRE_XATTR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/base/buffer.h"

/* They belong to level 2 (feature.h). */
#define KV_XATTR_NAME_MAX 255    /* bytes in a name, "user." included */
#define KV_XATTR_VALUE_MAX 65536 /* bytes in a value */
/* Bytes of all those of an inode, in the form above: room for one of the longest value under the longest
 * name. */
#define KV_XATTRS_MAX (KV_XATTR_VALUE_MAX + KV_XATTR_NAME_MAX + 8)
#define KV_XATTRS_COUNT_MAX 1024 /* of an inode */

#define XATTR_USER "user."
#define XATTR_VIRTUAL "user.kv."

struct xattr {
    struct bytes name, value; /* borrowed */
};

/* Of a command: KV_OK; KV_E_INVAL: no namespace that is offered, nothing behind it, or a NUL; KV_E_PERM: one
 * of user.kv.*; KV_E_NAMETOOLONG. */
int xattr_name_check(const void *name, size_t len);
/* The order in which they stand. */
int xattr_compare(const struct bytes *a, const struct bytes *b);

void xattr_encode(struct buffer *b, const struct xattr *x);
/* 1: one; 0: the end; -EPROTO: malformed. */
int xattr_next(struct cursor *c, struct xattr *x_out);
/* The one of that name. False: there is none. */
bool xattr_find(const void *bytes, size_t len, const struct bytes *name, struct xattr *x_out);
/* Whether these are an inode's: well-formed, in order, good names, within all limits. *n_out: how many. */
bool xattrs_check(const void *bytes, size_t len, uint32_t *n_out);

#endif
