/* Open directories. A real one has no state: each part of a listing is asked of
 * the node by the number of the last entry (which is the same on every node). A
 * virtual one is listed whole when it is opened. */
#ifndef KVFS_KVFS_DIRECTORY_H
#define KVFS_KVFS_DIRECTORY_H

#include "kvfs/request.h"
#include "sync/base/buffer.h"

struct directory {
    bool virtual;
    struct buffer names; /* virtual: n × NUL-terminated name preceded by its type, enum inode_type */
    size_t *offsets;     /* owned; n of them */
    size_t n;
};

/* Answers OPENDIR with a listing of names (taken over), last first if `reverse`. */
void directory_reply_list(struct fs *fs, struct request *r, struct buffer *names, bool reverse);

#endif
