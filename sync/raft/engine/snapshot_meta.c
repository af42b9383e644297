#include "sync/raft/engine/snapshot_meta.h"

#include <errno.h>
#include <string.h>

#include "sync/base/error.h"
#include "sync/raft/engine/configuration.h"

void snapshot_meta_copy(const struct snapshot_meta *m, struct snapshot_meta *out)
{
    *out = *m;
    if (out->conf != NULL)
        entry_ref(out->conf);
}

void snapshot_meta_deinit(struct snapshot_meta *m)
{
    entry_put(m->conf);
    memset(m, 0, sizeof *m);
}

void snapshot_meta_encode(const struct snapshot_meta *m, struct buffer *out)
{
    buffer_put_u64(out, m->index);
    buffer_put_u64(out, m->term);
    buffer_put_u64(out, m->conf_index);
    buffer_put_string(out, m->conf->data, m->conf->len);
}

int snapshot_meta_decode(struct cursor *c, struct snapshot_meta *out)
{
    struct configuration conf;
    const uint8_t *data;
    size_t len;

    memset(out, 0, sizeof *out);
    out->index = cursor_u64(c);
    out->term = cursor_u64(c);
    out->conf_index = cursor_u64(c);
    data = cursor_string(c, ENTRY_MAX_LEN, &len);
    if (c->failed || out->index == 0 || out->term == 0 || out->conf_index == 0 ||
        out->conf_index > out->index || configuration_decode(data, len, &conf) != 0) {
        memset(out, 0, sizeof *out);
        return KV_E_PROTOCOL;
    }
    out->conf = entry_new(ENTRY_CHANGE, data, len);
    if (out->conf == NULL) {
        memset(out, 0, sizeof *out);
        return -ENOMEM;
    }
    return 0;
}
