/* Encoding and decoding: a growable buffer and a checked cursor.
 *
 * The types are those of RFC 4251 §5: fixed-size unsigned integers in network
 * byte order, and `string`: a u32 length followed by that many bytes.
 *
 * Both are sticky: after a failure every further call does nothing (a get gives
 * 0), and one check of `failed` at the end is enough. Not thread-safe. */
#ifndef KVFS_SYNC_BASE_BUFFER_H
#define KVFS_SYNC_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    uint8_t *data; /* owned */
    size_t len, cap;
    bool failed; /* out of memory */
};

#define BUFFER_INIT                                                                                          \
    {                                                                                                        \
        NULL, 0, 0, false                                                                                    \
    }

void buffer_deinit(struct buffer *b);
void buffer_clear(struct buffer *b); /* keeps the memory */
/* Gives back the last n bytes (whole MiB) of the memory, with what is in them: what buffer_deinit() does, in
 * steps, as it takes 10 ms for 64 MiB. False: that was the last. */
bool buffer_shed(struct buffer *b, size_t n);
/* Drops the first n bytes (n <= len). */
void buffer_consume(struct buffer *b, size_t n);
/* Room for n more bytes at data + len; false: out of memory. Does not move len. */
bool buffer_reserve(struct buffer *b, size_t n);
void buffer_put_u8(struct buffer *b, uint8_t v);
void buffer_put_u16(struct buffer *b, uint16_t v);
void buffer_put_u32(struct buffer *b, uint32_t v);
void buffer_put_u64(struct buffer *b, uint64_t v);
void buffer_put_bytes(struct buffer *b, const void *data, size_t n); /* no length before it */
void buffer_put_string(struct buffer *b, const void *data, size_t n);
void buffer_put_text(struct buffer *b, const char *text); /* string without its NUL */
/* Overwrites the 4 or 8 bytes at offset `at` (within len). */
void buffer_set_u32(struct buffer *b, size_t at, uint32_t v);
void buffer_set_u64(struct buffer *b, size_t at, uint64_t v);

/* Bytes of somebody else's. */
struct bytes {
    const uint8_t *data; /* borrowed */
    size_t len;
};

struct bytes bytes_of(const void *data, size_t len);
struct bytes bytes_text(const char *text); /* without its NUL */

struct cursor {
    const uint8_t *data; /* borrowed; the next byte */
    size_t len;          /* bytes left */
    bool failed;         /* read past the end */
};

struct cursor cursor_of(const void *data, size_t len);
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_u16(struct cursor *c);
uint32_t cursor_u32(struct cursor *c);
uint64_t cursor_u64(struct cursor *c);
/* n bytes in place, or NULL with `failed`. Borrowed from the cursor's data. */
const uint8_t *cursor_bytes(struct cursor *c, size_t n);
/* A string in place; fails if it is longer than max. */
const uint8_t *cursor_string(struct cursor *c, size_t max, size_t *len_out);
/* All consumed and nothing failed. */
bool cursor_done(const struct cursor *c);

#endif
