#include "sync/wire/attr.h"

#include <stdio.h>
#include <string.h>

#include "sync/base/error.h"
#include "sync/wire/layout.h"

static const struct layout_field fields[] = {
    {FIELD(attr, ino)},
    {FIELD(attr, type)},
    {FIELD(attr, mode)},
    {FIELD(attr, uid)},
    {FIELD(attr, gid)},
    {FIELD(attr, nlink)},
    {FIELD(attr, size)},
    {FIELD(attr, mtime_ns)},
    {FIELD(attr, ctime_ns)},
    {FIELD(attr, version)},
    {FIELD(attr, revision)},
    {FIELD(attr, content_revision)},
    {FIELD(attr, atime_ns), .since = PROTOCOL_TIMES},
    {FIELD(attr, btime_ns), .since = PROTOCOL_TIMES},
};
const struct layout attr_layout = LAYOUT("attr", attr, fields);

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

int key_check(const char *key, bool directory, char *why_out, size_t size)
{
    size_t len = strlen(key);
    const char *p = key[0] == '/' ? key + 1 : key;

    if (len > KV_PATH_MAX) {
        snprintf(why_out, size, "path is %zu bytes; the limit is %d", len, KV_PATH_MAX);
        return KV_E_NAMETOOLONG;
    }
    if (*p == '\0' && !directory) {
        snprintf(why_out, size, len == 0 ? "the key is empty" : "/ is the root directory, not a key");
        return KV_E_INVAL;
    }
    for (const char *end = key + len; p < end;) {
        const char *slash = memchr(p, '/', (size_t)(end - p)), *stop = slash != NULL ? slash : end;
        int code = name_check(p, (size_t)(stop - p));

        if (code == KV_E_NAMETOOLONG)
            snprintf(why_out, size, "a name is %td bytes; the limit is %d", stop - p, KV_NAME_MAX);
        else if (code == KV_E_PERM)
            snprintf(why_out, size, "the name %.*s is reserved", (int)(stop - p), p);
        else if (code != KV_OK && stop == p)
            snprintf(why_out, size, "a key has no empty part (two slashes in a row)");
        else if (code != KV_OK)
            snprintf(why_out, size, "a key has no `%.*s` part", (int)(stop - p), p);
        if (code != KV_OK)
            return code;
        p = slash != NULL ? slash + 1 : end;
        if (slash != NULL && p == end && !directory) {
            snprintf(why_out, size, "a key does not end in a slash");
            return KV_E_INVAL;
        }
    }
    return KV_OK;
}
