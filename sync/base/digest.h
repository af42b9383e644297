/* Checksums: XXH3 (xxhash), against accident, not against malice. Any thread. */
#ifndef KVFS_SYNC_BASE_DIGEST_H
#define KVFS_SYNC_BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

/* 64-bit XXH3 of len bytes, chained: seed is the predecessor's digest, or 0. */
uint64_t digest64(uint64_t seed, const void *data, size_t len);

/* A running digest of a stream. */
struct digest_stream;
struct digest_stream *digest_stream_new(void); /* NULL: out of memory */
void digest_stream_add(struct digest_stream *s, const void *data, size_t len);
uint64_t digest_stream_value(const struct digest_stream *s);
void digest_stream_free(struct digest_stream *s); /* NULL is ignored */

#endif
