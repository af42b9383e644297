#include "sync/wire/attr.h"

#include <string.h>

#include "sync/base/error.h"

void attr_encode(struct buffer *b, const struct attr *a)
{
    buffer_put_u64(b, a->ino);
    buffer_put_u8(b, a->type);
    buffer_put_u16(b, a->mode);
    buffer_put_u32(b, a->uid);
    buffer_put_u32(b, a->gid);
    buffer_put_u32(b, a->nlink);
    buffer_put_u64(b, a->size);
    buffer_put_u64(b, a->mtime_ns);
    buffer_put_u64(b, a->ctime_ns);
    buffer_put_u64(b, a->version);
    buffer_put_u64(b, a->revision);
    buffer_put_u64(b, a->content_revision);
}

void attr_decode(struct cursor *c, struct attr *a_out)
{
    a_out->ino = cursor_u64(c);
    a_out->type = cursor_u8(c);
    a_out->mode = cursor_u16(c);
    a_out->uid = cursor_u32(c);
    a_out->gid = cursor_u32(c);
    a_out->nlink = cursor_u32(c);
    a_out->size = cursor_u64(c);
    a_out->mtime_ns = cursor_u64(c);
    a_out->ctime_ns = cursor_u64(c);
    a_out->version = cursor_u64(c);
    a_out->revision = cursor_u64(c);
    a_out->content_revision = cursor_u64(c);
}

static bool name_is(const void *name, size_t len, const char *word)
{
    return len == strlen(word) && memcmp(name, word, len) == 0;
}

int name_check(const void *name, size_t len)
{
    if (len == 0 || name_is(name, len, ".") || name_is(name, len, ".."))
        return KV_E_INVAL;
    if (len > KV_NAME_MAX)
        return KV_E_NAMETOOLONG;
    if (memchr(name, '/', len) != NULL || memchr(name, '\0', len) != NULL)
        return KV_E_INVAL;
    if (name_is(name, len, ".versions") || name_is(name, len, ".kvfs"))
        return KV_E_PERM;
    return KV_OK;
}
