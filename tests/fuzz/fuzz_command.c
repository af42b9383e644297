/* Any sequence of bytes as log entries: a small store must never crash, and its
 * digest must stay the sum of its rows, on a twin that hears the same too.
 *
 * Input: commands, each u16 length and that many bytes. A first byte of 0xff makes
 * a well-formed header around the rest, so that bodies are reached. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/state/journal.h"
#include "kvnode/state/store_internal.h"
#include "sync/base/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static uint64_t recompute(struct store *s)
{
    uint64_t sum = 0;
    struct inode *in, *next_in;
    struct dentry *d, *next_d;
    struct session *ss, *next_ss;
    struct meta_row meta;

    STORE_EACH(s->inodes, in, next_in)
    {
        struct inode_row row;
        struct value v = inode_value(in);

        inode_row(&s->ttls, in, &row);
        if (in->type != INODE_DIRECTORY && row.content_digest != value_digest(&v))
            abort();
        if (row.xattr_size > 0 &&
            row.xattr_digest != xattrs_term(in->xattrs->chunk->data, in->xattrs->chunk->used))
            abort();
        sum += inode_row_digest(&row);
    }
    STORE_EACH(s->dentries, d, next_d)
    {
        struct entry_row row;

        dentry_row(d, &row);
        sum += entry_row_digest(&row);
    }
    HASH_ITER(hh, s->sessions, ss, next_ss)
    {
        struct session_row row;
        struct upload *up;

        session_row(ss, &row);
        sum += session_row_digest(&row);
        for (size_t i = 0; i < ss->n; i++)
            sum +=
                result_row_digest(ss->id, ss->results[ss->first + i].seq, &ss->results[ss->first + i].result);
        LIST_FOREACH (up, &ss->uploads, peers)
            sum += up->digest;
    }
    for (int i = 0; i < SETTING_COUNT; i++)
        if (s->settings.text[i] != NULL)
            sum += setting_row_digest(setting_name((enum setting)i), s->settings.text[i]);
    store_meta(s, &meta);
    return sum + meta_row_digest(&meta);
}

/* The entry as given, or its tail as the body of a good header. */
static void make_entry(struct buffer *b, const uint8_t *data, size_t len, uint64_t index)
{
    struct command cmd = {.op = COMMAND_REGISTER,
                          .session = 1,
                          .seq = index,
                          .acked_below = index,
                          .node = "n1",
                          .node_len = 2};

    buffer_clear(b);
    if (len < 3 || data[0] != 0xff) {
        buffer_put_bytes(b, data, len);
        return;
    }
    cmd.op = (uint8_t)(1 + data[1] % (COMMAND_OP_COUNT - 1));
    cmd.flags = data[2] & COMMAND_FLAGS;
    cmd.uid = data[2] >> 4;
    cmd.elapsed_ms = cmd.wall_ns = index * 1000;
    cmd.body = data + 3;
    cmd.body_len = len - 3;
    if ((data[2] & 4) != 0)
        cmd.acked_below = 0;
    if ((data[2] & 8) != 0)
        cmd.seq = 7;
    command_encode(b, &cmd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const uint8_t nonce[16 + 4];
    struct journal *j = journal_new();
    struct store *s = store_new(0, j, NULL), *twin = store_new(0, NULL, NULL);
    struct cursor c = cursor_of(data, len);
    struct command hello = {
        .op = COMMAND_REGISTER, .node = "n1", .node_len = 2, .body = nonce, .body_len = sizeof nonce};
    struct buffer b = BUFFER_INIT;
    struct command_result r1, r2;
    uint64_t index = 1;

    command_encode(&b, &hello);
    do {
        size_t n;
        int rv;

        rv = store_apply(s, index, b.data, b.len, &r1);
        if (store_apply(twin, index, b.data, b.len, &r2) != rv || (rv != 0 && rv != -EOPNOTSUPP))
            abort();
        if (rv != 0)
            break; /* of a level that is not known: the process ends here */
        if (r1.code != r2.code || store_digest(s) != store_digest(twin) || store_digest(s) != recompute(s))
            abort();
        index++;
        n = cursor_u16(&c);
        if (n > c.len)
            n = c.len;
        make_entry(&b, cursor_bytes(&c, n), n, index);
        if (index % 5 == 0) {
            struct batch *batch;

            if (journal_seal(j, s, &batch) != 0)
                abort();
            batch_free(batch);
        }
    } while (!c.failed && index < 200);
    buffer_deinit(&b);
    store_free(s);
    store_free(twin);
    journal_free(j);
    return 0;
}
