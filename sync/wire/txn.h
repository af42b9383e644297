/* Transactions: the body of a COMMAND_TXN. Comparisons, what is done if all of them hold, and what is done
 * else:
 *
 *   u8 TXN_IF_…, its fields …   u8 TXN_SET, …   u8 TXN_ELSE   u8 TXN_DEL, …
 *
 * All or nothing, in one command of one revision. No name, and no file under whichever of its names, is
 * changed by two lines of a branch (TXN_TWICE): a row of history is a name's at a revision. */
#ifndef KVFS_SYNC_WIRE_TXN_H
#define KVFS_SYNC_WIRE_TXN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/base/buffer.h"

/* They belong to level 2 (feature.h). */
#define TXN_ITEMS_MAX 1024           /* comparisons and operations of both branches */
#define TXN_BYTES_MAX (64UL << 20)   /* of all values that are set */
#define TXN_COMPARED_MAX (1UL << 20) /* of all values that are compared */
#define TXN_COMPONENTS_MAX 16384     /* of all paths */

enum txn_kind {
    TXN_IF_VERSION = 1, /* string path, u64 version; 0: it is missing */
    TXN_IF_MISSING = 2, /* string path */
    TXN_IF_EXISTS = 3,  /* string path */
    TXN_IF_VALUE = 4,   /* string path, string value: of a file that the caller may read */
    TXN_SET = 5,        /* string path, u64 ttl_ms (0: none), string value; missing directories are made */
    TXN_DEL = 6,        /* string path: a key, or an empty directory */
    TXN_MOVE = 7,       /* string path, string path of the new name, which is replaced */
    TXN_MKDIR = 8,      /* string path */
    TXN_ELSE = 9,       /* nothing: once */
    TXN_IF_FENCE = 10   /* string path, u64 fence: as SET_FENCE. The command has COMMAND_FENCE; level 3 */
};

struct txn_item {
    uint8_t kind;
    const uint8_t *path, *to, *value; /* borrowed */
    size_t path_len, to_len, value_len;
    uint64_t version, ttl_ms, fence;
};

void txn_encode(struct buffer *b, const struct txn_item *item);
/* 1: an item; 0: the end; -EPROTO: malformed. Paths are not checked. */
int txn_next(struct cursor *c, struct txn_item *item_out);
static inline bool txn_is_comparison(uint8_t kind)
{
    return kind <= TXN_IF_VALUE || kind == TXN_IF_FENCE;
}
/* Has it such an item? */
bool txn_has_fence(const void *bytes, size_t len);

/* A whole body: kinds in their order, and the limits above. KV_OK; KV_E_PROTOCOL; KV_E_FBIG: over a limit;
 * KV_E_INVAL: a time to live out of its bounds. Paths are the caller's to check. */
int txn_check(const void *bytes, size_t len);
/* The same without COMMAND_FENCE: a fence is malformed, as before there was any. */
int txn_check_plain(const void *bytes, size_t len);

#endif
