#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kvnode/web/web_internal.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static char *base64(const uint8_t *in, size_t len)
{
    char *out = malloc((len + 2) / 3 * 4 + 1), *at = out;
    size_t i;

    if (out == NULL)
        return NULL;
    for (i = 0; i < len; i += 3) {
        uint32_t n = (uint32_t)in[i] << 16 | (i + 1 < len ? (uint32_t)in[i + 1] << 8 : 0) |
                     (i + 2 < len ? in[i + 2] : 0u);

        *at++ = alphabet[n >> 18];
        *at++ = alphabet[n >> 12 & 63];
        *at++ = i + 1 < len ? alphabet[n >> 6 & 63] : '=';
        *at++ = i + 2 < len ? alphabet[n & 63] : '=';
    }
    *at = '\0';
    return out;
}

bool web_base64_decode(const char *text, size_t len, struct buffer *out)
{
    size_t i;

    if (len % 4 != 0)
        return false;
    for (i = 0; i < len; i += 4) {
        uint32_t n = 0;
        unsigned k, pad = 0;

        for (k = 0; k < 4; k++) {
            const char *at = text[i + k] != '\0' ? strchr(alphabet, text[i + k]) : NULL;

            if (text[i + k] == '=' && i + 4 == len && k >= 2)
                pad++;
            else if (at == NULL || pad > 0)
                return false;
            n = n << 6 | (at != NULL ? (uint32_t)(at - alphabet) : 0);
        }
        buffer_put_u8(out, (uint8_t)(n >> 16));
        if (pad < 2)
            buffer_put_u8(out, (uint8_t)(n >> 8));
        if (pad < 1)
            buffer_put_u8(out, (uint8_t)n);
    }
    return !out->failed;
}

/* How many bytes a character of well-formed UTF-8 has (RFC 3629 §4); 0: it is none. */
static size_t utf8_len(const uint8_t *p)
{
    uint8_t low = 0x80, high = 0xbf;
    size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    size_t i;

    if (p[0] == 0xe0)
        low = 0xa0;
    else if (p[0] == 0xed)
        high = 0x9f;
    else if (p[0] == 0xf0)
        low = 0x90;
    else if (p[0] == 0xf4)
        high = 0x8f;
    for (i = 1; i < len; i++) {
        if (p[i] < low || p[i] > high)
            return 0;
        low = 0x80;
        high = 0xbf;
    }
    return len;
}

void web_json_clean(char *text)
{
    uint8_t *p = (uint8_t *)text;

    while (*p != '\0') {
        size_t len = utf8_len(p);

        if (len == 0)
            *p = '?';
        p += len > 0 ? len : 1;
    }
}

void web_json_set(json_t *object, const char *name, const void *data, size_t len)
{
    json_t *text = json_stringn(data != NULL ? data : "", len);
    char long_name[64], *encoded;

    if (text != NULL) {
        json_object_set_new(object, name, text);
        return;
    }
    encoded = base64(data, len);
    snprintf(long_name, sizeof long_name, "%s_base64", name);
    if (encoded != NULL)
        json_object_set_new(object, long_name, json_string(encoded));
    free(encoded);
}

void web_json_set_base64(json_t *object, const char *name, const void *data, size_t len)
{
    char *encoded = base64(data, len);

    json_object_set_new(object, name, encoded != NULL ? json_string(encoded) : json_null());
    free(encoded);
}

json_t *web_json_token(uint64_t revision)
{
    return json_sprintf("0-%llu", (unsigned long long)revision);
}

json_t *web_json_time(int64_t ns)
{
    int64_t seconds = ns / 1000000000 - (ns % 1000000000 < 0);
    time_t t = (time_t)seconds;
    char text[64];
    struct tm tm;

    if (gmtime_r(&t, &tm) == NULL || strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        return json_null();
    return json_sprintf("%s.%03uZ", text, (unsigned)((ns - seconds * 1000000000) / 1000000));
}

const char *web_type_name(uint8_t type)
{
    static const char *const types[] = {[INODE_FILE] = "file",
                                        [INODE_DIRECTORY] = "directory",
                                        [INODE_SYMLINK] = "symlink",
                                        [INODE_FIFO] = "fifo",
                                        [INODE_SOCKET] = "socket"};

    return type < sizeof types / sizeof types[0] && types[type] != NULL ? types[type] : "?";
}

json_t *web_json_row(const struct version_row *row)
{
    json_t *o = json_pack("{s:I, s:o, s:o, s:I, s:s, s:s, s:I, s:b, s:b, s:b, s:s}", "version",
                          (json_int_t)row->version, "revision", web_json_token(row->revision), "time",
                          web_json_time((int64_t)row->wall_ns), "author_uid", (json_int_t)row->author_uid,
                          "author_node", row->author_node, "type", web_type_name(row->type), "size",
                          (json_int_t)row->size, "current", row->current != 0, "deleted", row->deleted != 0,
                          "attributes_only", row->attributes_only != 0, "operation", version_row_op(row));

    if (o != NULL && row->label[0] != '\0')
        json_object_set_new(o, "label", json_string(row->label));
    return o;
}
