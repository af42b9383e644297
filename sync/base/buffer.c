/* Large buffers have mappings of their own: they grow by moving pages, not bytes (copying 32 MiB into new
 * pages takes 25 ms), and their memory goes back to the kernel for certain, and piece by piece if need be.
 * malloc(3) takes even large blocks from its heap, if that has room, and copies. */
#include "sync/base/buffer.h"

#include <assert.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* From this capacity on; SIZE_MAX: never, where a sanitizer is to see each byte. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LARGE SIZE_MAX
#else
#define LARGE ((size_t)1024 * 1024)
#endif

static void release(uint8_t *data, size_t cap)
{
    if (cap >= LARGE)
        munmap(data, cap);
    else
        free(data);
}

/* NULL: out of memory, nothing has changed. */
static uint8_t *resize(const struct buffer *b, size_t cap)
{
    void *data;

    if (cap < LARGE)
        return realloc(b->data, cap);
    if (b->cap >= LARGE) {
        data = mremap(b->data, b->cap, cap, MREMAP_MAYMOVE);
        return data != MAP_FAILED ? data : NULL;
    }
    data = mmap(NULL, cap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return NULL;
    if (b->len > 0)
        memcpy(data, b->data, b->len);
    free(b->data);
    return data;
}

void buffer_deinit(struct buffer *b)
{
    release(b->data, b->cap);
    *b = (struct buffer)BUFFER_INIT;
}

bool buffer_shed(struct buffer *b, size_t n)
{
    if (b->cap < LARGE || b->cap - LARGE < n) {
        buffer_deinit(b);
        return false;
    }
    munmap(b->data + b->cap - n, n);
    b->cap -= n;
    if (b->len > b->cap)
        b->len = b->cap;
    return true;
}

void buffer_clear(struct buffer *b)
{
    b->len = 0;
    b->failed = false;
}

void buffer_consume(struct buffer *b, size_t n)
{
    assert(n <= b->len);
    b->len -= n;
    if (b->len > 0)
        memmove(b->data, b->data + n, b->len);
}

bool buffer_reserve(struct buffer *b, size_t n)
{
    size_t cap = b->cap > 0 ? b->cap : 64;
    uint8_t *data;

    if (b->failed)
        return false;
    if (n <= b->cap - b->len)
        return true;
    if (n > SIZE_MAX / 4 - b->len) {
        b->failed = true;
        return false;
    }
    while (cap < b->len + n)
        cap *= 2;
    data = resize(b, cap);
    if (data == NULL) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void buffer_put_bytes(struct buffer *b, const void *data, size_t n)
{
    if (n == 0 || !buffer_reserve(b, n))
        return;
    memcpy(b->data + b->len, data, n);
    b->len += n;
}

void buffer_put_u8(struct buffer *b, uint8_t v)
{
    buffer_put_bytes(b, &v, sizeof v);
}

void buffer_put_u16(struct buffer *b, uint16_t v)
{
    v = htobe16(v);
    buffer_put_bytes(b, &v, sizeof v);
}

void buffer_put_u32(struct buffer *b, uint32_t v)
{
    v = htobe32(v);
    buffer_put_bytes(b, &v, sizeof v);
}

void buffer_put_u64(struct buffer *b, uint64_t v)
{
    v = htobe64(v);
    buffer_put_bytes(b, &v, sizeof v);
}

void buffer_put_string(struct buffer *b, const void *data, size_t n)
{
    if (n > UINT32_MAX) {
        b->failed = true;
        return;
    }
    buffer_put_u32(b, (uint32_t)n);
    buffer_put_bytes(b, data, n);
}

void buffer_put_text(struct buffer *b, const char *text)
{
    buffer_put_string(b, text, strlen(text));
}

void buffer_set_u32(struct buffer *b, size_t at, uint32_t v)
{
    assert(b->failed || (at <= b->len && b->len - at >= sizeof v));
    if (b->failed)
        return;
    v = htobe32(v);
    memcpy(b->data + at, &v, sizeof v);
}

void buffer_set_u64(struct buffer *b, size_t at, uint64_t v)
{
    assert(b->failed || (at <= b->len && b->len - at >= sizeof v));
    if (b->failed)
        return;
    v = htobe64(v);
    memcpy(b->data + at, &v, sizeof v);
}

struct bytes bytes_of(const void *data, size_t len)
{
    return (struct bytes){data, len};
}

struct bytes bytes_text(const char *text)
{
    return bytes_of(text, strlen(text));
}

struct cursor cursor_of(const void *data, size_t len)
{
    return (struct cursor){data, len, false};
}

const uint8_t *cursor_bytes(struct cursor *c, size_t n)
{
    const uint8_t *p = c->data;

    if (c->failed || n > c->len) {
        c->failed = true;
        return NULL;
    }
    if (n > 0)
        c->data += n;
    c->len -= n;
    return p != NULL ? p : (const uint8_t *)"";
}

uint8_t cursor_u8(struct cursor *c)
{
    const uint8_t *p = cursor_bytes(c, 1);

    return p != NULL ? *p : 0;
}

uint16_t cursor_u16(struct cursor *c)
{
    const uint8_t *p = cursor_bytes(c, sizeof(uint16_t));
    uint16_t v = 0;

    if (p != NULL)
        memcpy(&v, p, sizeof v);
    return be16toh(v);
}

uint32_t cursor_u32(struct cursor *c)
{
    const uint8_t *p = cursor_bytes(c, sizeof(uint32_t));
    uint32_t v = 0;

    if (p != NULL)
        memcpy(&v, p, sizeof v);
    return be32toh(v);
}

uint64_t cursor_u64(struct cursor *c)
{
    const uint8_t *p = cursor_bytes(c, sizeof(uint64_t));
    uint64_t v = 0;

    if (p != NULL)
        memcpy(&v, p, sizeof v);
    return be64toh(v);
}

const uint8_t *cursor_string(struct cursor *c, size_t max, size_t *len_out)
{
    uint32_t n = cursor_u32(c);
    const uint8_t *p = NULL;

    *len_out = 0;
    if (!c->failed && n > max)
        c->failed = true;
    if (!c->failed)
        p = cursor_bytes(c, n);
    if (p != NULL)
        *len_out = n;
    return p;
}

bool cursor_done(const struct cursor *c)
{
    return !c->failed && c->len == 0;
}
