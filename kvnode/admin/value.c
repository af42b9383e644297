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
        const union request_body body = {.get = {.at = local ? READ_LOCAL : READ_LINEARIZABLE,
                                                 .path = bytes_text(key),
                                                 .offset = v->data.len,
                                                 .length = READ_LENGTH_MAX,
                                                 .content_revision = pinned}};
        union answer_body answer;
        int rc = request_ask(l, MESSAGE_GET, &body, &answer);
        if (rc != 0)
            return rc;
        const struct attr *attr = &answer.get.attr;
        buffer_put_bytes(&v->data, answer.get.data.data, answer.get.data.len);
        if (v->data.failed)
            return -ENOMEM;
        pinned = attr->content_revision;
        size = attr->size;
        v->version = attr->version;
        v->revision = attr->revision;
        v->ino = attr->ino;
        if (answer.get.data.len == 0)
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
        const union request_body body = {.version = {.directory = directory,
                                                     .name = bytes_of(name, name_len),
                                                     .version = version,
                                                     .offset = v->data.len,
                                                     .length = READ_LENGTH_MAX}};
        union answer_body answer;
        rc = request_ask(l, MESSAGE_VERSION, &body, &answer);
        if (rc != 0)
            return rc;
        const struct version_row *row = &answer.version.row;
        buffer_put_bytes(&v->data, answer.version.data.data, answer.version.data.len);
        if (v->data.failed)
            return -ENOMEM;
        size = row->size;
        v->version = row->version;
        v->revision = row->revision;
        if (answer.version.data.len == 0)
            break;
        request_restart_clock(l);
    } while (v->data.len < size);
    return 0;
}
