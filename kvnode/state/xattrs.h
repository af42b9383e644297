/* The extended attributes of an inode: one block of bytes (sync/wire/xattr.h), which is never changed but
 * replaced. It is a chunk (value.h) and is stored as one, behind those of the value: so rows of history
 * share it, as they share content. An inode without any has none. */
#ifndef KVFS_KVNODE_STATE_XATTRS_H
#define KVFS_KVNODE_STATE_XATTRS_H

#include "kvnode/state/value.h"
#include "sync/wire/xattr.h"

struct xattrs {
    struct chunk *chunk; /* a reference, owned */
    uint64_t digest;
    uint32_t n;
};

/* Takes the chunk over; NULL: out of memory (then it is dropped), or the bytes are not an inode's. The first:
 * *malformed_out is false. */
struct xattrs *xattrs_new(struct chunk *c, bool *malformed_out);
void xattrs_free(struct xattrs *x); /* NULL is ignored */
/* Of an inode's, which may be NULL: bytes, and their digest; 0 if there are none. */
static inline uint32_t xattrs_len(const struct xattrs *x)
{
    return x != NULL ? x->chunk->used : 0;
}
static inline uint64_t xattrs_digest(const struct xattrs *x)
{
    return x != NULL ? x->digest : 0;
}
/* Of bytes; any thread. */
uint64_t xattrs_term(const uint8_t *data, uint32_t len);
/* The value of one; false: there is none. Borrowed. */
bool xattrs_get(const struct xattrs *x, const struct bytes *name, struct bytes *value_out);

/* What becomes of x when name is given a value, or none (NULL); *x_out: NULL if none is left. id: of the new
 * chunk. 0; 1: it has that value, or none, already; KV_E_NOSPC: too many bytes or attributes; -ENOMEM. */
int xattrs_with(const struct xattrs *x, const struct bytes *name, const struct bytes *value, uint64_t id,
                struct xattrs **x_out);

#endif
