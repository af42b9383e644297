/* A big value takes several requests; the first answer's content revision is
 * asked for in all further ones, and when the node says that it has gone,
 * everything begins anew. Versions never change, so they need no such care. */
#include "kvnode/admin/value.h"

#include <errno.h>
#include <string.h>

#include "sync/base/error.h"

static int read_current(struct request_link *l, const char *key, bool local, struct value *v)
{
    uint64_t pinned = 0, size = 0;
    buffer_clear(&v->data);
    do {
        struct buffer body = BUFFER_INIT;
        struct cursor answer;
        struct attr attr;
        size_t len = 0;
        buffer_put_u8(&body, local ? READ_LOCAL : READ_LINEARIZABLE);
        buffer_put_text(&body, key);
        buffer_put_u64(&body, v->data.len);
        buffer_put_u32(&body, READ_LENGTH_MAX);
        buffer_put_u64(&body, pinned);
        int rc = request_ask(l, MESSAGE_GET, &body, &answer);
        buffer_deinit(&body);
        if (rc != 0)
            return rc;
        attr_decode(&answer, &attr);
        const uint8_t *data = cursor_string(&answer, READ_LENGTH_MAX, &len);
        if (data == NULL && answer.failed)
            return -EPROTO;
        buffer_put_bytes(&v->data, data, len);
        if (v->data.failed)
            return -ENOMEM;
        pinned = attr.content_revision;
        size = attr.size;
        v->version = attr.version;
        v->revision = attr.revision;
        if (len == 0)
            break;
        request_restart_clock(l);
    } while (v->data.len < size);
    return 0;
}

int fetch_value(struct request_link *l, const char *key, bool local, struct value *v)
{
    int rc;
    do
        rc = read_current(l, key, local, v);
    while (rc == KV_E_STALE && v->data.len > 0 && request_left(l) > 0);
    return rc;
}

int fetch_version(struct request_link *l, const char *key, uint64_t version, struct value *v)
{
    uint64_t directory, size = 0;
    const char *name;
    size_t name_len;
    int rc = request_parent(l, key, &directory, &name, &name_len);
    if (rc != 0)
        return rc;
    do {
        struct buffer body = BUFFER_INIT;
        struct cursor answer;
        struct version_row row;
        size_t len = 0;
        buffer_put_u64(&body, directory);
        buffer_put_string(&body, name, name_len);
        buffer_put_u64(&body, version);
        buffer_put_u64(&body, v->data.len);
        buffer_put_u32(&body, READ_LENGTH_MAX);
        rc = request_ask(l, MESSAGE_VERSION, &body, &answer);
        buffer_deinit(&body);
        if (rc != 0)
            return rc;
        version_row_decode(&answer, &row);
        const uint8_t *data = cursor_string(&answer, READ_LENGTH_MAX, &len);
        if (data == NULL && answer.failed)
            return -EPROTO;
        buffer_put_bytes(&v->data, data, len);
        if (v->data.failed)
            return -ENOMEM;
        size = row.size;
        v->version = row.version;
        v->revision = row.revision;
        if (len == 0)
            break;
        request_restart_clock(l);
    } while (v->data.len < size);
    return 0;
}
