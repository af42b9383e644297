#include "kvnode/state/xattrs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"

/* Beyond the places of all chunks of a value, so that no content has such a term. */
#define PLACE UINT32_MAX

uint64_t xattrs_term(const uint8_t *data, uint32_t len)
{
    return chunk_term(PLACE, data, len);
}

struct xattrs *xattrs_new(struct chunk *c, bool *malformed_out)
{
    struct xattrs *x = malloc(sizeof *x);
    uint32_t n = 0;

    *malformed_out = !xattrs_check(c->data, c->used, &n) || n == 0;
    if (x == NULL || *malformed_out) {
        chunk_unref(c);
        free(x);
        return NULL;
    }
    *x = (struct xattrs){.chunk = c, .digest = xattrs_term(c->data, c->used), .n = n};
    return x;
}

void xattrs_free(struct xattrs *x)
{
    if (x == NULL)
        return;
    chunk_unref(x->chunk);
    free(x);
}

static struct cursor walk(const struct xattrs *x)
{
    return x != NULL ? cursor_of(x->chunk->data, x->chunk->used) : cursor_of("", 0);
}

bool xattrs_get(const struct xattrs *x, const struct bytes *name, struct bytes *value_out)
{
    struct xattr one;

    if (x == NULL || !xattr_find(x->chunk->data, x->chunk->used, name, &one))
        return false;
    *value_out = one.value;
    return true;
}

static bool same(const struct bytes *a, const struct bytes *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

int xattrs_with(const struct xattrs *x, const struct bytes *name, const struct bytes *value, uint64_t id,
                struct xattrs **x_out)
{
    struct cursor c = walk(x);
    struct buffer b = BUFFER_INIT;
    struct bytes before;
    struct xattr one;
    struct chunk *chunk = NULL;
    bool had = xattrs_get(x, name, &before), put = value == NULL, malformed;
    int rv = 0;

    *x_out = NULL;
    if (value == NULL ? !had : had && same(&before, value))
        return 1;
    if (value != NULL && !had && x != NULL && x->n == KV_XATTRS_COUNT_MAX)
        return KV_E_NOSPC;
    while (xattr_next(&c, &one) == 1) {
        int order = xattr_compare(&one.name, name);

        if (order >= 0 && !put) {
            xattr_encode(&b, &(struct xattr){*name, *value});
            put = true;
        }
        if (order != 0)
            xattr_encode(&b, &one);
    }
    if (!put)
        xattr_encode(&b, &(struct xattr){*name, *value});
    if (b.failed)
        rv = -ENOMEM;
    else if (b.len > KV_XATTRS_MAX)
        rv = KV_E_NOSPC;
    else if (b.len > 0 && (chunk = chunk_new(id, (uint32_t)b.len)) == NULL)
        rv = -ENOMEM;
    if (chunk != NULL) {
        memcpy(chunk->data, b.data, b.len);
        chunk->used = (uint32_t)b.len;
        *x_out = xattrs_new(chunk, &malformed);
        if (*x_out == NULL)
            rv = -ENOMEM;
    }
    buffer_deinit(&b);
    return rv;
}
