/* Attributes of an inode as they travel, and the limits on names and paths. */
#ifndef KVFS_SYNC_WIRE_ATTR_H
#define KVFS_SYNC_WIRE_ATTR_H

#include <stdbool.h>
#include <stdint.h>

#include "sync/base/buffer.h"

struct layout; /* layout.h */

#define KV_NAME_MAX 255  /* bytes in a name */
#define KV_PATH_MAX 4095 /* bytes in a path */
#define KV_CHUNK_SIZE 65536
#define KV_ROOT_INO 1 /* the root directory, group 0 */

enum inode_type {
    INODE_FILE = 1,
    INODE_DIRECTORY = 2,
    INODE_SYMLINK = 3,
    /* Names for what the kernel of one machine connects; no content. From level 2 on. */
    INODE_FIFO = 4,
    INODE_SOCKET = 5,
};

struct attr {
    uint64_t ino;  /* group << 48 | number; never reused */
    uint8_t type;  /* enum inode_type */
    uint16_t mode; /* permission bits, 07777 */
    uint32_t uid, gid;
    uint32_t nlink; /* 0: removed, alive only through an open handle */
    uint64_t size;  /* bytes; of a directory the number of entries; of a link the target's length */
    /* Nanoseconds since 1970 UTC, before it negative. ctime and btime are the cluster's
     * wall clock; mtime and atime may have been set to anything. */
    int64_t mtime_ns, ctime_ns, atime_ns, btime_ns;
    /* Number of the current content, 1, 2, 3 …; 0 for directories and files that keep no history. It is
     * the name's: of several the one's that was asked for, else the first's. */
    uint64_t version;
    uint64_t revision;         /* log index of the last change of anything above */
    uint64_t content_revision; /* log index of the last change of the content */
};

/* From PROTOCOL_TIMES on atime and btime follow the rest, ATTR_TIMES_LEN bytes. */
#define PROTOCOL_TIMES 2
#define ATTR_TIMES_LEN 16
extern const struct layout attr_layout;

/* 0, or KV_E_INVAL (empty, ".", "..", a slash or NUL inside), KV_E_NAMETOOLONG,
 * KV_E_PERM (".versions", ".kvfs": reserved). */
int name_check(const void *name, size_t len);

/* The same for a key a/b/c as people write it, of at most KV_PATH_MAX bytes. With
 * `directory` it may be the root ("" or "/") and end in a slash. On a code other
 * than 0 why_out (size bytes) says which rule was broken, as the rest of a sentence. */
int key_check(const char *key, bool directory, char *why_out, size_t size);

#endif
