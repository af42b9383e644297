#include "sync/wire/message.h"

#include <string.h>

#include "sync/base/error.h"

void event_encode(struct buffer *b, const struct event *e, uint16_t protocol)
{
    buffer_put_u64(b, e->revision);
    buffer_put_u64(b, e->wall_ns);
    buffer_put_u64(b, e->session);
    buffer_put_u64(b, e->seq);
    buffer_put_u8(b, e->kind);
    buffer_put_u8(b, e->op);
    buffer_put_u8(b, e->last);
    buffer_put_u64(b, e->ino);
    buffer_put_u64(b, e->parent);
    buffer_put_u64(b, e->new_parent);
    buffer_put_u64(b, e->base_revision);
    buffer_put_string(b, e->name, e->name_len);
    buffer_put_string(b, e->new_name, e->new_name_len);
    attr_encode(b, &e->attr, protocol);
}

int event_decode(struct cursor *c, struct event *e_out)
{
    e_out->revision = cursor_u64(c);
    e_out->wall_ns = cursor_u64(c);
    e_out->session = cursor_u64(c);
    e_out->seq = cursor_u64(c);
    e_out->kind = cursor_u8(c);
    e_out->op = cursor_u8(c);
    e_out->last = cursor_u8(c);
    e_out->ino = cursor_u64(c);
    e_out->parent = cursor_u64(c);
    e_out->new_parent = cursor_u64(c);
    e_out->base_revision = cursor_u64(c);
    e_out->name = cursor_string(c, KV_NAME_MAX, &e_out->name_len);
    e_out->new_name = cursor_string(c, KV_NAME_MAX, &e_out->new_name_len);
    attr_decode(c, &e_out->attr);
    if (c->failed || e_out->kind < EVENT_CREATE || e_out->kind > EVENT_NOTHING)
        return KV_E_PROTOCOL;
    return KV_OK;
}

void version_row_encode(struct buffer *b, const struct version_row *r)
{
    buffer_put_u64(b, r->version);
    buffer_put_u64(b, r->revision);
    buffer_put_u64(b, r->wall_ns);
    buffer_put_u64(b, r->size);
    buffer_put_u16(b, r->mode);
    buffer_put_u32(b, r->uid);
    buffer_put_u32(b, r->gid);
    buffer_put_u8(b, r->type);
    buffer_put_u8(b, r->deleted);
    buffer_put_u8(b, r->current);
    buffer_put_u8(b, r->attributes_only);
    buffer_put_u8(b, r->op);
    buffer_put_u64(b, r->restored);
    buffer_put_u32(b, r->author_uid);
    buffer_put_text(b, r->author_node);
}

void version_row_decode(struct cursor *c, struct version_row *r_out)
{
    const uint8_t *node;
    size_t len;

    *r_out = (struct version_row){0};
    r_out->version = cursor_u64(c);
    r_out->revision = cursor_u64(c);
    r_out->wall_ns = cursor_u64(c);
    r_out->size = cursor_u64(c);
    r_out->mode = cursor_u16(c);
    r_out->uid = cursor_u32(c);
    r_out->gid = cursor_u32(c);
    r_out->type = cursor_u8(c);
    r_out->deleted = cursor_u8(c);
    r_out->current = cursor_u8(c);
    r_out->attributes_only = cursor_u8(c);
    r_out->op = cursor_u8(c);
    r_out->restored = cursor_u64(c);
    r_out->author_uid = cursor_u32(c);
    node = cursor_string(c, COMMAND_NODE_MAX, &len);
    if (node != NULL)
        memcpy(r_out->author_node, node, len);
}

void log_row_encode(struct buffer *b, const struct log_row *r)
{
    version_row_encode(b, &r->row);
    buffer_put_string(b, r->key, r->key_len);
    buffer_put_string(b, r->from, r->from_len);
}

void log_row_decode(struct cursor *c, struct log_row *r_out)
{
    version_row_decode(c, &r_out->row);
    r_out->key = cursor_string(c, 2 * KV_PATH_MAX, &r_out->key_len);
    r_out->from = cursor_string(c, 2 * KV_PATH_MAX, &r_out->from_len);
}

const char *command_op_name(uint8_t op)
{
    static const char *const names[COMMAND_OP_COUNT] = {
        [COMMAND_REGISTER] = "register", [COMMAND_KEEPALIVE] = "keepalive",
        [COMMAND_END] = "end",           [COMMAND_PART] = "part",
        [COMMAND_CREATE] = "create",     [COMMAND_MKDIR] = "mkdir",
        [COMMAND_SYMLINK] = "symlink",   [COMMAND_UNLINK] = "unlink",
        [COMMAND_RMDIR] = "rmdir",       [COMMAND_RENAME] = "rename",
        [COMMAND_SETATTR] = "setattr",   [COMMAND_PUBLISH] = "write",
        [COMMAND_SET] = "set",           [COMMAND_DEL] = "del",
#ifdef KVFS_NEXT_LEVEL
        [COMMAND_NEXT] = "next",
#endif
        [COMMAND_SETTING] = "setting",   [COMMAND_TICK] = "tick",
        [COMMAND_CLOCK] = "clock",       [COMMAND_PRUNE] = "prune",
    };

    return op < COMMAND_OP_COUNT && names[op] != NULL ? names[op] : "?";
}

const char *version_row_op(const struct version_row *r)
{
    return r->restored != 0 ? "restore" : command_op_name(r->op);
}
