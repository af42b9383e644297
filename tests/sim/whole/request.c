/* What clients ask for. Keys come in objects: of one name ("k0", or "d1/k" below a
 * directory), and of three, among which is renamed ("g0.a", "g0.b", "g0.c").
 *
 * A value is a list of records: u64 op, u32 length of the record, stuffing. So
 * whoever reads it knows every write that made it, and sees damage. */
#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "sync/base/error.h"
#include "sync/wire/txn.h"
#include "tests/sim/whole/linear.h"
#include "tests/sim/whole/whole.h"

#define RECORD_MIN 12

static bool in_directory(int object)
{
    return object < N_PLAIN && object % 2 == 1;
}

void op_path(const struct op *op, int name, char path_out[32])
{
    if (op->object >= N_PLAIN)
        snprintf(path_out, 32, "g%d.%c", op->object - N_PLAIN, 'a' + name);
    else if (in_directory(op->object))
        snprintf(path_out, 32, "d%d/k", op->object);
    else
        snprintf(path_out, 32, "k%d", op->object);
}

static enum kind choose_plain(const struct op *op, const struct known *known)
{
    int64_t r = rnd_range(0, 99);

    if (r < 1)
        return OP_CLOCK;
    if (r < 35)
        return OP_GET;
    if (r < 50)
        return OP_SET;
    if (r < 65 && known->sure && known->content != LINEAR_EMPTY) /* whose version says nothing */
        return OP_CAS;
    if (r < 80 && known->ino != 0)
        return OP_APPEND;
    if (r < 86 && known->ino != 0)
        return OP_OVERWRITE;
    if (r < 90)
        return OP_DEL;
    if (r < 95 && !in_directory(op->object))
        return OP_UNLINK;
    if (!in_directory(op->object))
        return OP_CREATE;
    return OP_SET;
}

void op_choose(struct op *op, const struct known *known)
{
    op->object = (int)rnd_range(0, N_OBJECTS - 1);
    if (op->object < N_PLAIN) {
        known += op->object;
        op->kind = choose_plain(op, known);
        op->expect = known->content;
        op->expect_number = known->version;
        op->ino = known->ino;
    } else {
        int64_t r = rnd_range(0, 99);

        op->a = (int)rnd_range(0, 2);
        op->b = (op->a + (int)rnd_range(1, 2)) % 3;
        op->kind = r < 40 ? OP_GET : r < 60 ? OP_SET : r < 90 ? OP_RENAME : OP_DEL;
    }
    if (!op->sessionless && truth_fenced() != 0) {
        if (op->id % 32 == 2 || op->id % 32 == 7)
            op->kind = OP_LOCK;
        else if (op->id % 32 == 11)
            op->kind = OP_UNLOCK;
        else if (op->id % 32 == 5 || op->id % 32 == 14)
            op->kind = OP_FENCED;
    }
    op->len = (uint32_t)rnd_range(RECORD_MIN, rnd_chance(0.02) ? 70000 : 200);
    op->in_parts =
        !op->sessionless && rnd_chance(0.15) &&
        (op->kind == OP_SET || op->kind == OP_APPEND || op->kind == OP_OVERWRITE || op->kind == OP_CAS);
}

static uint8_t stuffing(uint64_t id, uint32_t at)
{
    return (uint8_t)(id * 31 + at);
}

static void put_value(const struct op *op, struct buffer *b)
{
    buffer_put_u64(b, op->id);
    buffer_put_u32(b, op->len);
    for (uint32_t i = RECORD_MIN; i < op->len; i++)
        buffer_put_u8(b, stuffing(op->id, i));
}

bool op_is_txn(const struct op *op)
{
    return op->kind == OP_SET && op->txn;
}

uint64_t op_ttl_ms(const struct op *op)
{
    return 500 + op->id * 7919 % 6000;
}

void live_path(const struct op *op, char path_out[32])
{
    snprintf(path_out, 32, "live/%lu", op->id % N_LIVE);
}

static void put_item(struct buffer *b, const char *path, uint64_t ttl_ms, const void *value, size_t len)
{
    txn_encode(b, &(struct txn_item){.kind = TXN_SET,
                                     .path = (const uint8_t *)path,
                                     .path_len = strlen(path),
                                     .ttl_ms = ttl_ms,
                                     .value = value,
                                     .value_len = len});
}

static void put_txn(const struct op *op, const char *path, const struct buffer *value, struct buffer *b)
{
    char live[32];

    live_path(op, live);
    put_item(b, path, 0, value->data, value->len);
    put_item(b, PAIR_ONE, 0, &op->id, sizeof op->id);
    put_item(b, PAIR_TWO, 0, &op->id, sizeof op->id);
    put_item(b, live, op_ttl_ms(op), &op->id, sizeof op->id);
}

static void put_fenced(struct op *op, struct buffer *b)
{
    op->expect = truth_fence(op->id % 64 == 5);
    txn_encode(b, &(struct txn_item){.kind = TXN_IF_FENCE,
                                     .path = (const uint8_t *)PAIR_ONE,
                                     .path_len = strlen(PAIR_ONE),
                                     .fence = op->expect});
    put_item(b, PAIR_ONE, 0, &op->id, sizeof op->id);
    put_item(b, PAIR_TWO, 0, &op->id, sizeof op->id);
}

static void put_lock(const struct op *op, struct command_body *f)
{
    f->ino = truth_fenced();
    f->kind = LOCK_OF_FLOCK;
    f->owner = 1;
    f->end = INT64_MAX;
    f->flags = op->kind == OP_LOCK ? LOCK_FLAG_EXCLUSIVE | LOCK_FLAG_FENCE : 0;
    f->lease_ms = FENCE_LEASE_MS;
}

void op_body(struct op *op, struct buffer *body, uint8_t *command_out)
{
    struct command_body f = {.mode = 0644};
    struct buffer value = BUFFER_INIT, edits = BUFFER_INIT, items = BUFFER_INIT;
    char path[32], other[32];

    op_path(op, op->a, path);
    op_path(op, op->b, other);
    put_value(op, &value);
    op->txn = op->id % 4 == 0 && truth_has_transactions();
    switch (op->kind) {
    case OP_SET:
    case OP_CAS:
        *command_out = COMMAND_SET;
        f.path = (const uint8_t *)path;
        f.path_len = strlen(path);
        f.flags = SET_PARENTS | (op->kind == OP_CAS ? SET_IF_VERSION : 0);
        f.version = op->expect_number;
        f.value = value.data;
        f.value_len = value.len;
        if (!op_is_txn(op))
            break;
        *command_out = COMMAND_TXN;
        put_txn(op, path, &value, &items);
        f.items = items.data;
        f.items_len = items.len;
        break;
    case OP_APPEND:
    case OP_OVERWRITE:
        *command_out = COMMAND_PUBLISH;
        f.ino = op->ino;
        if (op->kind == OP_OVERWRITE)
            edit_encode(&edits, &(struct edit){.kind = EDIT_TRUNCATE});
        edit_encode(&edits, &(struct edit){.kind = op->kind == OP_APPEND ? EDIT_APPEND : EDIT_WRITE,
                                           .data = value.data,
                                           .len = value.len});
        f.edits = edits.data;
        f.edits_len = edits.len;
        break;
    case OP_DEL:
        *command_out = COMMAND_DEL;
        f.path = (const uint8_t *)path;
        f.path_len = strlen(path);
        break;
    case OP_CLOCK: /* what somebody thinks that the clocks are at; now and then he is wrong */
        *command_out = COMMAND_CLOCK;
        f.wall_ns = (uint64_t)(UINT64_C(1700000000) * SECOND + (uint64_t)world.now) * 1000;
        if (rnd_chance(0.2))
            f.wall_ns -= (uint64_t)rnd_range(0, 7200) * SECOND * 1000;
        break;
    case OP_LOCK:
    case OP_UNLOCK:
        *command_out = op->kind == OP_LOCK ? COMMAND_LOCK : COMMAND_UNLOCK;
        put_lock(op, &f);
        break;
    case OP_FENCED:
        *command_out = COMMAND_TXN;
        put_fenced(op, &items);
        f.items = items.data;
        f.items_len = items.len;
        break;
    case OP_EXPIRE:
        *command_out = COMMAND_SETTING;
        f.name = (const uint8_t *)"session_timeout";
        f.name_len = 15;
        f.value = (const uint8_t *)"10s";
        f.value_len = 3;
        break;
    default:
        *command_out = op->kind == OP_CREATE   ? COMMAND_CREATE
                       : op->kind == OP_UNLINK ? COMMAND_UNLINK
                                               : COMMAND_RENAME;
        f.parent = f.new_parent = KV_ROOT_INO;
        f.name = (const uint8_t *)path;
        f.name_len = strlen(path);
        f.new_name = (const uint8_t *)other;
        f.new_name_len = strlen(other);
        f.flags = op->kind == OP_CREATE;
        break;
    }
    command_body_encode(body, *command_out, &f);
    buffer_deinit(&value);
    buffer_deinit(&edits);
    buffer_deinit(&items);
}

void op_read(struct host *h, const struct op *op, uint64_t *content_out, struct attr *attr_out)
{
    struct store *s = h->node.group->store;
    struct buffer b = BUFFER_INIT;
    struct cursor c;
    const uint8_t *name;
    size_t name_len;
    uint64_t parent;
    char path[32];

    *content_out = LINEAR_ABSENT;
    memset(attr_out, 0, sizeof *attr_out);
    op_path(op, op->a, path);
    if (store_resolve(s, NULL, path, strlen(path), attr_out, &parent, &name, &name_len) != KV_OK)
        return;
    if (store_read(s, attr_out->ino, 0, UINT32_MAX, &b) != KV_OK || b.len != attr_out->size)
        violation("n%d: %s cannot be read", h->id, path);
    *content_out = LINEAR_EMPTY;
    c = cursor_of(b.data, b.len);
    while (c.len > 0) {
        uint64_t id = cursor_u64(&c);
        uint32_t len = cursor_u32(&c);
        const uint8_t *rest = cursor_bytes(&c, len - RECORD_MIN);

        if (c.failed)
            violation("n%d: %s holds half a record", h->id, path);
        for (uint32_t i = RECORD_MIN; i < len; i++)
            if (rest[i - RECORD_MIN] != stuffing(id, i))
                violation("n%d: %s holds a damaged record of op %lu", h->id, path, id);
        *content_out = linear_fold(*content_out, id);
    }
    buffer_deinit(&b);
}

const char *op_text(const struct op *op)
{
    static const char *const kinds[OP_KINDS] = {"SET",    "SET if", "CREATE", "APPEND", "OVERWRITE",
                                                "UNLINK", "DEL",    "RENAME", "GET",    "CLOCK",
                                                "EXPIRE", "LOCK",   "UNLOCK", "FENCED"};
    static char text[128];
    char path[32], other[32];

    op_path(op, op->a, path);
    op_path(op, op->b, other);
    snprintf(text, sizeof text, "%s %s%s%s", kinds[op->kind], path, op->kind == OP_RENAME ? " to " : "",
             op->kind == OP_RENAME ? other : "");
    return text;
}
