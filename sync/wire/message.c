#include "sync/wire/message.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "sync/base/error.h"
#include "sync/base/lock_ranges.h"
#include "sync/wire/layout.h"

static const struct layout_field event_fields[] = {
    {FIELD(event, revision)},
    {FIELD(event, wall_ns)},
    {FIELD(event, session)},
    {FIELD(event, seq)},
    {FIELD(event, kind)},
    {FIELD(event, op)},
    {FIELD(event, last)},
    {FIELD(event, ino)},
    {FIELD(event, parent)},
    {FIELD(event, new_parent)},
    {FIELD(event, base_revision)},
    {STRING(event, name, KV_NAME_MAX)},
    {STRING(event, new_name, KV_NAME_MAX)},
    {STRUCT(event, attr, &attr_layout)},
};
const struct layout event_layout = LAYOUT("event", event, event_fields);

static const struct layout_field version_row_fields[] = {
    {FIELD(version_row, version)},
    {FIELD(version_row, revision)},
    {FIELD(version_row, wall_ns)},
    {FIELD(version_row, size)},
    {FIELD(version_row, mode)},
    {FIELD(version_row, uid)},
    {FIELD(version_row, gid)},
    {FIELD(version_row, type)},
    {FIELD(version_row, deleted)},
    {FIELD(version_row, current)},
    {FIELD(version_row, attributes_only)},
    {FIELD(version_row, op)},
    {FIELD(version_row, restored)},
    {FIELD(version_row, author_uid)},
    {FIELD(version_row, author_node)},
};
const struct layout version_row_layout = LAYOUT("version_row", version_row, version_row_fields);

static const struct layout_field log_row_fields[] = {
    {STRUCT(log_row, row, &version_row_layout)},
    {STRING(log_row, key, 2 * KV_PATH_MAX)},
    {STRING(log_row, from, 2 * KV_PATH_MAX)},
};
const struct layout log_row_layout = LAYOUT("log_row", log_row, log_row_fields);

static const struct layout_field lock_row_fields[] = {
    {FIELD(lock_row, ino)},
    {FIELD(lock_row, kind)},
    {FIELD(lock_row, session)},
    {FIELD(lock_row, owner)},
    {FIELD(lock_row, start)},
    {FIELD(lock_row, end)},
    {FIELD(lock_row, exclusive)},
    {FIELD(lock_row, wait)},
    {FIELD(lock_row, ticket)},
    {FIELD(lock_row, pid)},
    {STRING(lock_row, node, COMMAND_NODE_MAX)},
};
const struct layout lock_row_layout = LAYOUT("lock_row", lock_row, lock_row_fields);

void lock_row_encode(struct buffer *b, const struct lock_row *r)
{
    layout_encode(b, &lock_row_layout, r, MESSAGE_PROTOCOL);
}

void lock_row_decode(struct cursor *c, struct lock_row *r_out)
{
    layout_decode(c, &lock_row_layout, r_out);
}

const char *lock_kind_name(uint8_t kind)
{
    return kind == LOCK_OF_FLOCK ? "flock" : kind == LOCK_OF_RANGE ? "range" : "delegated";
}

const char *lock_mode_name(const struct lock_row *r)
{
    return r->kind == LOCK_DELEGATED                  ? "delegated"
           : (r->exclusive & LOCK_ROW_EXCLUSIVE) != 0 ? "exclusive"
                                                      : "shared";
}

void lock_row_text(const struct lock_row *r, char text_out[LOCK_TEXT_MAX])
{
    char what[64] = "flock";

    if (r->kind == LOCK_OF_RANGE && r->end == LOCK_RANGE_END)
        snprintf(what, sizeof what, "from %" PRIu64, r->start);
    else if (r->kind == LOCK_OF_RANGE)
        snprintf(what, sizeof what, "%" PRIu64 "-%" PRIu64, r->start, r->end);
    if (r->kind == LOCK_DELEGATED)
        snprintf(what, sizeof what, "all");
    snprintf(text_out, LOCK_TEXT_MAX,
             "%-9s  %s  %s  process %" PRIu32 " at %.*s, session %" PRIu64 ", owner %" PRIx64,
             lock_mode_name(r), what, r->wait != 0 ? "waits" : "holds", r->pid, (int)r->node_len,
             (const char *)r->node, r->session, r->owner);
}

void event_encode(struct buffer *b, const struct event *e, uint16_t protocol)
{
    layout_encode(b, &event_layout, e, protocol);
}

int event_decode(struct cursor *c, struct event *e_out)
{
    if (!layout_decode(c, &event_layout, e_out) || e_out->kind < EVENT_CREATE || e_out->kind > EVENT_NOTHING)
        return KV_E_PROTOCOL;
    return KV_OK;
}

void version_row_encode(struct buffer *b, const struct version_row *r)
{
    layout_encode(b, &version_row_layout, r, MESSAGE_PROTOCOL);
}

void version_row_decode(struct cursor *c, struct version_row *r_out)
{
    layout_decode(c, &version_row_layout, r_out);
}

void labels_put(struct buffer *labels, const struct version_row *row)
{
    buffer_put_bytes(labels, row->label, strlen(row->label) + 1);
}

void labels_next(struct cursor *labels, struct version_row *row)
{
    const uint8_t *end = labels->len > 0 ? memchr(labels->data, '\0', labels->len) : NULL;
    size_t len = end != NULL ? (size_t)(end - labels->data) : 0;

    row->label[0] = '\0';
    if (end == NULL)
        return;
    if (command_label_check((const char *)labels->data, len)) {
        memcpy(row->label, labels->data, len);
        row->label[len] = '\0';
    }
    cursor_bytes(labels, len + 1);
}

void log_row_encode(struct buffer *b, const struct log_row *r)
{
    layout_encode(b, &log_row_layout, r, MESSAGE_PROTOCOL);
}

void log_row_decode(struct cursor *c, struct log_row *r_out)
{
    layout_decode(c, &log_row_layout, r_out);
}

const char *command_op_name(uint8_t op)
{
    static const char *const names[COMMAND_OP_COUNT] = {
        [COMMAND_REGISTER] = "register",
        [COMMAND_KEEPALIVE] = "keepalive",
        [COMMAND_END] = "end",
        [COMMAND_PART] = "part",
        [COMMAND_CREATE] = "create",
        [COMMAND_MKDIR] = "mkdir",
        [COMMAND_SYMLINK] = "symlink",
        [COMMAND_UNLINK] = "unlink",
        [COMMAND_RMDIR] = "rmdir",
        [COMMAND_RENAME] = "rename",
        [COMMAND_SETATTR] = "setattr",
        [COMMAND_PUBLISH] = "write",
        [COMMAND_SET] = "set",
        [COMMAND_DEL] = "del",
#ifdef KVFS_NEXT_LEVEL
        [COMMAND_NEXT] = "next",
#endif
        [COMMAND_SETTING] = "setting",
        [COMMAND_TICK] = "tick",
        [COMMAND_CLOCK] = "clock",
        [COMMAND_PRUNE] = "prune",
        [COMMAND_MKNOD] = "mknod",
        [COMMAND_LOCK] = "lock",
        [COMMAND_UNLOCK] = "unlock",
        [COMMAND_UNWAIT] = "unwait",
        [COMMAND_LOCK_TAKE] = "lock_take",
        [COMMAND_LOCK_PUT] = "lock_put",
        [COMMAND_SETXATTR] = "setxattr",
        [COMMAND_REMOVEXATTR] = "removexattr",
        [COMMAND_LINK] = "link",
        [COMMAND_EXPIRE] = "expire",
        [COMMAND_TXN] = "txn",
    };

    return op < COMMAND_OP_COUNT && names[op] != NULL ? names[op] : "?";
}

const char *version_row_op(const struct version_row *r)
{
    return r->restored != 0 ? "restore" : command_op_name(r->op);
}

void inval_encode(struct buffer *b, const struct inval *i)
{
    buffer_put_u64(b, i->number);
    buffer_put_u64(b, i->index);
    buffer_put_u64(b, i->session);
    buffer_put_u8(b, i->all);
    buffer_put_u8(b, i->n);
    for (unsigned k = 0; k < i->n; k++) {
        buffer_put_u64(b, i->of[k].ino);
        buffer_put_u8(b, i->of[k].what);
    }
}

int inval_decode(struct cursor *c, struct inval *out)
{
    out->number = cursor_u64(c);
    out->index = cursor_u64(c);
    out->session = cursor_u64(c);
    out->all = cursor_u8(c);
    out->n = cursor_u8(c);
    if (out->n > INVAL_MAX)
        return KV_E_PROTOCOL;
    for (unsigned k = 0; k < out->n; k++) {
        out->of[k].ino = cursor_u64(c);
        out->of[k].what = cursor_u8(c);
    }
    return c->failed ? KV_E_PROTOCOL : KV_OK;
}

void beat_encode(struct buffer *b, const struct beat *beat)
{
    buffer_put_u64(b, beat->until_ms);
    buffer_put_u64(b, beat->applied);
    buffer_put_u8(b, beat->in_force);
}

int beat_decode(struct cursor *c, struct beat *out)
{
    out->until_ms = cursor_u64(c);
    out->applied = cursor_u64(c);
    out->in_force = cursor_u8(c);
    return c->failed ? KV_E_PROTOCOL : KV_OK;
}
