#include "sync/wire/xattr.h"

#include <errno.h>
#include <string.h>

#include "sync/base/error.h"

static bool begins(const void *name, size_t len, const char *prefix)
{
    return len >= strlen(prefix) && memcmp(name, prefix, strlen(prefix)) == 0;
}

int xattr_name_check(const void *name, size_t len)
{
    if (len > KV_XATTR_NAME_MAX)
        return KV_E_NAMETOOLONG;
    if (!begins(name, len, XATTR_USER) || len == strlen(XATTR_USER) || memchr(name, '\0', len) != NULL)
        return KV_E_INVAL;
    return begins(name, len, XATTR_VIRTUAL) ? KV_E_PERM : KV_OK;
}

int xattr_compare(const struct bytes *a, const struct bytes *b)
{
    size_t n = a->len < b->len ? a->len : b->len;
    int order = n > 0 ? memcmp(a->data, b->data, n) : 0;

    return order != 0 ? order : (a->len > b->len) - (a->len < b->len);
}

void xattr_encode(struct buffer *b, const struct xattr *x)
{
    buffer_put_string(b, x->name.data, x->name.len);
    buffer_put_string(b, x->value.data, x->value.len);
}

int xattr_next(struct cursor *c, struct xattr *x_out)
{
    if (c->len == 0 && !c->failed)
        return 0;
    x_out->name.data = cursor_string(c, KV_XATTR_NAME_MAX, &x_out->name.len);
    x_out->value.data = cursor_string(c, KV_XATTR_VALUE_MAX, &x_out->value.len);
    return c->failed ? -EPROTO : 1;
}

bool xattr_find(const void *bytes, size_t len, const struct bytes *name, struct xattr *x_out)
{
    struct cursor c = cursor_of(bytes, len);

    while (xattr_next(&c, x_out) == 1)
        if (xattr_compare(&x_out->name, name) == 0)
            return true;
    return false;
}

bool xattrs_check(const void *bytes, size_t len, uint32_t *n_out)
{
    struct cursor c = cursor_of(bytes, len);
    struct xattr x, before = {0};
    int rv;

    *n_out = 0;
    while ((rv = xattr_next(&c, &x)) == 1) {
        if (xattr_name_check(x.name.data, x.name.len) != KV_OK ||
            (*n_out > 0 && xattr_compare(&before.name, &x.name) >= 0))
            return false;
        before = x;
        ++*n_out;
    }
    return rv == 0 && len <= KV_XATTRS_MAX && *n_out <= KV_XATTRS_COUNT_MAX;
}
