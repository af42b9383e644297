#include "sync/wire/txn.h"

#include <errno.h>

#include "sync/base/error.h"
#include "sync/wire/attr.h"
#include "sync/wire/ttl.h"

void txn_encode(struct buffer *b, const struct txn_item *item)
{
    buffer_put_u8(b, item->kind);
    if (item->kind == TXN_ELSE)
        return;
    buffer_put_string(b, item->path, item->path_len);
    if (item->kind == TXN_IF_VERSION)
        buffer_put_u64(b, item->version);
    if (item->kind == TXN_IF_FENCE)
        buffer_put_u64(b, item->fence);
    if (item->kind == TXN_SET)
        buffer_put_u64(b, item->ttl_ms);
    if (item->kind == TXN_SET || item->kind == TXN_IF_VALUE)
        buffer_put_string(b, item->value, item->value_len);
    if (item->kind == TXN_MOVE)
        buffer_put_string(b, item->to, item->to_len);
}

int txn_next(struct cursor *c, struct txn_item *item_out)
{
    if (c->len == 0 && !c->failed)
        return 0;
    *item_out = (struct txn_item){.kind = cursor_u8(c)};
    if (item_out->kind < TXN_IF_VERSION || item_out->kind > TXN_IF_FENCE)
        return -EPROTO;
    if (item_out->kind == TXN_ELSE)
        return c->failed ? -EPROTO : 1;
    /* One more than allowed, so that the check of paths can tell what is wrong. */
    item_out->path = cursor_string(c, KV_PATH_MAX + 1, &item_out->path_len);
    if (item_out->kind == TXN_IF_VERSION)
        item_out->version = cursor_u64(c);
    if (item_out->kind == TXN_IF_FENCE)
        item_out->fence = cursor_u64(c);
    if (item_out->kind == TXN_SET)
        item_out->ttl_ms = cursor_u64(c);
    if (item_out->kind == TXN_SET || item_out->kind == TXN_IF_VALUE)
        item_out->value = cursor_string(c, SIZE_MAX, &item_out->value_len);
    if (item_out->kind == TXN_MOVE)
        item_out->to = cursor_string(c, KV_PATH_MAX + 1, &item_out->to_len);
    return c->failed ? -EPROTO : 1;
}

bool txn_has_fence(const void *bytes, size_t len)
{
    struct cursor c = cursor_of(bytes, len);
    struct txn_item item;

    while (txn_next(&c, &item) == 1)
        if (item.kind == TXN_IF_FENCE)
            return true;
    return false;
}

static size_t components(const uint8_t *path, size_t len)
{
    size_t n = 1;

    for (size_t i = 0; i < len; i++)
        n += path[i] == '/';
    return n;
}

static int check(const void *bytes, size_t len, bool fences)
{
    struct cursor c = cursor_of(bytes, len);
    size_t n = 0, set = 0, compared = 0, paths = 0;
    bool operations = false, otherwise = false;
    struct txn_item item;
    int rv;

    while ((rv = txn_next(&c, &item)) == 1) {
        if (item.kind == TXN_IF_FENCE && !fences)
            return KV_E_PROTOCOL;
        if ((txn_is_comparison(item.kind) && operations) || (item.kind == TXN_ELSE && otherwise))
            return KV_E_PROTOCOL;
        operations = operations || !txn_is_comparison(item.kind);
        otherwise = otherwise || item.kind == TXN_ELSE;
        if (item.kind == TXN_ELSE)
            continue;
        set += item.kind == TXN_SET ? item.value_len : 0;
        compared += item.kind == TXN_IF_VALUE ? item.value_len : 0;
        paths +=
            components(item.path, item.path_len) + (item.to_len > 0 ? components(item.to, item.to_len) : 0);
        if (++n > TXN_ITEMS_MAX || set > TXN_BYTES_MAX || compared > TXN_COMPARED_MAX ||
            paths > TXN_COMPONENTS_MAX)
            return KV_E_FBIG;
        if (item.ttl_ms > KV_TTL_MAX_MS)
            return KV_E_INVAL;
    }
    return rv < 0 || n == 0 ? KV_E_PROTOCOL : KV_OK;
}

int txn_check(const void *bytes, size_t len)
{
    return check(bytes, len, true);
}

int txn_check_plain(const void *bytes, size_t len)
{
    return check(bytes, len, false);
}
