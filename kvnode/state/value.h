/* Values: lists of chunks of 64 KiB that are shared and never change.
 *
 * All chunks of a value but the last are full; the number of chunks and the
 * length of the last follow from the size. A hole (NULL) reads as zeros.
 *
 * A chunk's bytes [0, used) belong to somebody and never change again. A value
 * that ends exactly at `used` may be appended to by extending the same chunk, in
 * place or in a larger copy *under the same id*: everything stored under one id
 * is a prefix of the longest, so state.db keeps only that (an append-only file
 * costs its size, not the sum of its tails). Ids are this node's own affair.
 *
 * Loop thread, except: any thread may hold a reference, read id and the bytes
 * that it was promised, and drop the reference. */
#ifndef KVFS_KVNODE_STATE_VALUE_H
#define KVFS_KVNODE_STATE_VALUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/base/buffer.h"
#include "sync/wire/attr.h"

struct chunk {
    _Atomic uint32_t refs;
    uint32_t cap;
    uint32_t used;
    uint32_t queued; /* bytes that the journal was given under this id */
    uint64_t id;
    uint32_t slot;   /* journal: 1 + place in the batch that is being made, or 0 */
    bool superseded; /* a larger copy carries the id on: do not extend this one */
    bool history;    /* a row of history refers to the id: it outlives current values */
    uint8_t data[];
};

/* New chunk of `cap` bytes, none used, one reference. NULL: out of memory. */
struct chunk *chunk_new(uint64_t id, uint32_t cap);
struct chunk *chunk_ref(struct chunk *c);
void chunk_unref(struct chunk *c); /* NULL is ignored; any thread */

struct value {
    uint64_t size;
    union {
        struct chunk *one;   /* size <= KV_CHUNK_SIZE; may be NULL: empty, or a hole */
        struct chunk **list; /* owned array of value_chunks(size) */
    } c;
};

static inline size_t value_chunks(uint64_t size)
{
    return (size_t)((size + KV_CHUNK_SIZE - 1) / KV_CHUNK_SIZE);
}

/* Length of chunk i of a value of this size. */
static inline uint32_t value_chunk_len(uint64_t size, size_t i)
{
    uint64_t left = size - (uint64_t)i * KV_CHUNK_SIZE;

    return left < KV_CHUNK_SIZE ? (uint32_t)left : KV_CHUNK_SIZE;
}

static inline struct chunk *const *value_list(const struct value *v)
{
    return v->size > KV_CHUNK_SIZE ? v->c.list : &v->c.one;
}

void value_deinit(struct value *v);
/* Appends at most len bytes from offset to out. */
void value_read(const struct value *v, uint64_t offset, uint64_t len, struct buffer *out);
/* Digest of the content: the sum of its chunks' terms. Empty: 0. */
uint64_t value_digest(const struct value *v);
/* What chunk i (len bytes at data; NULL: zeros) adds to the digest. Any thread. */
uint64_t chunk_term(size_t i, const uint8_t *data, uint32_t len);

/* A value being edited: a list of its own that shares the chunks. */
struct draft {
    struct chunk **list; /* owned */
    size_t cap;
    uint64_t size;
    uint64_t *next_id; /* borrowed: where new ids come from */
    /* Extends no chunk of the base in place: for a draft that is not made in one go,
     * as the journal may be sealed meanwhile. */
    bool apart;
};

/* All return 0 or -ENOMEM; after -ENOMEM only draft_discard() is left. The
 * caller has checked sizes against the limits. */
int draft_begin(struct draft *d, const struct value *base, uint64_t *next_id);
int draft_truncate(struct draft *d, uint64_t size);
int draft_write(struct draft *d, uint64_t offset, const uint8_t *data, size_t len);
/* Chunk i, which the draft, the base or both have, will not change any more: the
 * base's is taken if its bytes came out the same, else *same_out becomes false and
 * the digest goes from the base's to the draft's. Returns whether it was the
 * base's all the time (no byte was looked at). */
bool draft_settle(struct draft *d, const struct value *base, size_t i, uint64_t *digest, bool *same_out);
/* The draft takes the value's place; v's old content is handed back in *old_out. */
void draft_commit(struct draft *d, struct value *v, struct value *old_out);
void draft_discard(struct draft *d);

#endif
