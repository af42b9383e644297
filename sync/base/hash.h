/* uthash with one policy for want of memory: an addition that fails leaves the table
 * as it was and the handle's tbl NULL, and whoever adds looks at it (HASH_ADDED).
 * uthash's own would be exit(), which no part of this project does. */
#ifndef KVFS_SYNC_BASE_HASH_H
#define KVFS_SYNC_BASE_HASH_H

#ifdef UTHASH_H
#error "uthash.h is included through sync/base/hash.h only"
#endif

#define XXH_INLINE_ALL
#include <xxhash.h>
#define HASH_FUNCTION(key, len, hash) ((hash) = (unsigned)XXH3_64bits(key, len))
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* Whether item is in the table of the handle hh. */
#define HASH_ADDED(hh, item) ((item)->hh.tbl != NULL)

#endif
