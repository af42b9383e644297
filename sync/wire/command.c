/* Encoding of replicated commands. The field lists of each operation stand
 * once, in body_fields(), walked by an encoder and by a decoder. */
#include "sync/wire/command.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "sync/base/error.h"
#include "sync/base/lock_ranges.h"
#include "sync/base/utf8.h"
#include "sync/wire/layout.h"
#include "sync/wire/ttl.h"
#include "sync/wire/txn.h"
#include "sync/wire/xattr.h"

void command_encode(struct buffer *b, const struct command *cmd)
{
    buffer_put_u8(b, COMMAND_FORMAT);
    buffer_put_u8(b, cmd->op);
    buffer_put_u16(b, cmd->flags);
    buffer_put_u64(b, cmd->session);
    buffer_put_u64(b, cmd->seq);
    buffer_put_u64(b, cmd->acked_below);
    buffer_put_u64(b, cmd->wall_ns);
    buffer_put_u64(b, cmd->elapsed_ms);
    buffer_put_u32(b, cmd->uid);
    buffer_put_u32(b, cmd->gid);
    buffer_put_u32(b, cmd->n_groups);
    buffer_put_bytes(b, cmd->groups, (size_t)cmd->n_groups * sizeof(uint32_t));
    buffer_put_string(b, cmd->node, cmd->node_len);
    if ((cmd->flags & COMMAND_LABEL) != 0)
        buffer_put_string(b, cmd->label, cmd->label_len);
    buffer_put_bytes(b, cmd->body, cmd->body_len);
}

size_t command_size(const struct command *cmd)
{
    return COMMAND_ELAPSED_AT + sizeof cmd->elapsed_ms + 3 * sizeof(uint32_t) +
           (size_t)cmd->n_groups * sizeof(uint32_t) + sizeof(uint32_t) + cmd->node_len +
           ((cmd->flags & COMMAND_LABEL) != 0 ? sizeof(uint32_t) + cmd->label_len : 0) + cmd->body_len;
}

void command_write(uint8_t *bytes, const struct command *cmd)
{
    struct buffer b = {.data = bytes, .cap = command_size(cmd)}; /* full, and never too small */

    command_encode(&b, cmd);
    assert(b.data == bytes && b.len == b.cap);
}

/* Bytes of the character that s begins with, if it can be seen and is one of UTF-8 (RFC 3629); else 0. */
static size_t visible(const uint8_t *s, size_t len)
{
    uint32_t c;
    size_t n = utf8_decode(s, len, &c);

    if (n == 0 || c <= 0x20 || (c >= 0x7F && c <= 0xA0))
        return 0;
    /* Spaces, and what turns the direction of writing or shows nothing. */
    if (c == 0xAD || c == 0x1680 || (c >= 0x2000 && c <= 0x200F) || (c >= 0x2028 && c <= 0x202F) ||
        (c >= 0x205F && c <= 0x206F) || c == 0x3000 || c == 0xFEFF)
        return 0;
    return n;
}

bool command_label_check(const char *label, size_t len)
{
    if (len == 0 || len > COMMAND_LABEL_MAX || memchr(label, '@', len) != NULL)
        return false;
    for (size_t i = 0, n; i < len; i += n)
        if ((n = visible((const uint8_t *)label + i, len - i)) == 0)
            return false;
    return true;
}

int command_decode(const void *bytes, size_t len, struct command *cmd_out)
{
    struct cursor c = cursor_of(bytes, len);
    uint8_t format = cursor_u8(&c);

    *cmd_out = (struct command){0};
    cmd_out->op = cursor_u8(&c);
    cmd_out->flags = cursor_u16(&c);
    cmd_out->session = cursor_u64(&c);
    cmd_out->seq = cursor_u64(&c);
    cmd_out->acked_below = cursor_u64(&c);
    cmd_out->wall_ns = cursor_u64(&c);
    cmd_out->elapsed_ms = cursor_u64(&c);
    cmd_out->uid = cursor_u32(&c);
    cmd_out->gid = cursor_u32(&c);
    cmd_out->n_groups = cursor_u32(&c);
    if (cmd_out->n_groups > COMMAND_GROUPS_MAX)
        return KV_E_PROTOCOL;
    cmd_out->groups = cursor_bytes(&c, (size_t)cmd_out->n_groups * sizeof(uint32_t));
    cmd_out->node = (const char *)cursor_string(&c, COMMAND_NODE_MAX, &cmd_out->node_len);
    if ((cmd_out->flags & COMMAND_LABEL) != 0) {
        cmd_out->label = (const char *)cursor_string(&c, COMMAND_LABEL_MAX, &cmd_out->label_len);
        if (c.failed || !command_label_check(cmd_out->label, cmd_out->label_len))
            return KV_E_PROTOCOL;
    }
    if (c.failed || format != COMMAND_FORMAT || cmd_out->op == 0)
        return KV_E_PROTOCOL;
    if (cmd_out->op >= COMMAND_OP_COUNT || (cmd_out->flags & ~COMMAND_FLAGS) != 0)
        return KV_E_NOTSUP;
    cmd_out->body = c.data;
    cmd_out->body_len = c.len;
    return KV_OK;
}

uint64_t command_ino(const struct command *cmd)
{
    struct cursor c = cursor_of(cmd->body, cmd->body_len);

    return cursor_u64(&c);
}

bool command_last_piece(const struct command *cmd, uint32_t *n_parts_out, uint64_t *ino_out,
                        struct cursor *piece_out)
{
    struct cursor c = cursor_of(cmd->body, cmd->body_len);

    *n_parts_out = cursor_u32(&c);
    *ino_out = cmd->op == COMMAND_PUBLISH && (cmd->flags & COMMAND_OPENED) != 0 ? cursor_u64(&c) : 0;
    *piece_out = c;
    return !c.failed;
}

void command_last_piece_encode(struct buffer *b, uint32_t n_parts, uint64_t ino, const void *piece,
                               size_t len)
{
    buffer_put_u32(b, n_parts);
    if (ino != 0)
        buffer_put_u64(b, ino);
    buffer_put_bytes(b, piece, len);
}

void command_set_clocks(uint8_t *bytes, uint64_t wall_ns, uint64_t elapsed_ms)
{
    wall_ns = htobe64(wall_ns);
    elapsed_ms = htobe64(elapsed_ms);
    memcpy(bytes + COMMAND_WALL_AT, &wall_ns, sizeof wall_ns);
    memcpy(bytes + COMMAND_ELAPSED_AT, &elapsed_ms, sizeof elapsed_ms);
}

uint32_t command_group(const struct command *cmd, uint32_t i)
{
    uint32_t gid;

    memcpy(&gid, cmd->groups + (size_t)i * sizeof gid, sizeof gid);
    return be32toh(gid);
}

/* The operation that a body walk carries out on each field. */
struct walk {
    struct buffer *to;   /* encoding */
    struct cursor *from; /* decoding */
};

static void walk_u8(struct walk *w, uint8_t *v)
{
    if (w->to != NULL)
        buffer_put_u8(w->to, *v);
    else
        *v = cursor_u8(w->from);
}

static void walk_u16(struct walk *w, uint16_t *v)
{
    if (w->to != NULL)
        buffer_put_u16(w->to, *v);
    else
        *v = cursor_u16(w->from);
}

static void walk_u32(struct walk *w, uint32_t *v)
{
    if (w->to != NULL)
        buffer_put_u32(w->to, *v);
    else
        *v = cursor_u32(w->from);
}

static void walk_u64(struct walk *w, uint64_t *v)
{
    if (w->to != NULL)
        buffer_put_u64(w->to, *v);
    else
        *v = cursor_u64(w->from);
}

static void walk_i64(struct walk *w, int64_t *v)
{
    uint64_t bits = (uint64_t)*v;

    walk_u64(w, &bits);
    *v = (int64_t)bits;
}

static void walk_string(struct walk *w, const uint8_t **data, size_t *len, size_t max)
{
    if (w->to != NULL)
        buffer_put_string(w->to, *data, *len);
    else
        *data = cursor_string(w->from, max, len);
}

/* All that is left. */
static void walk_rest(struct walk *w, const uint8_t **data, size_t *len)
{
    if (w->to != NULL) {
        buffer_put_bytes(w->to, *data, *len);
    } else {
        *len = w->from->len;
        *data = cursor_bytes(w->from, *len);
    }
}

static void walk_expired(struct walk *w, struct command_body *body)
{
    size_t len = body->n_expired * COMMAND_EXPIRE_SIZE;

    walk_rest(w, &body->expired, &len);
    body->n_expired = len / COMMAND_EXPIRE_SIZE;
    if (w->from != NULL && (len % COMMAND_EXPIRE_SIZE != 0 || body->n_expired > COMMAND_EXPIRE_MAX))
        w->from->failed = true;
}

static void walk_put(struct walk *w, struct command_body *body)
{
    size_t len = body->n_put * LOCK_PUT_SIZE;

    walk_rest(w, &body->put, &len);
    body->n_put = len / LOCK_PUT_SIZE;
    if (w->from != NULL && (len % LOCK_PUT_SIZE != 0 || body->n_put > LOCK_PUT_MAX))
        w->from->failed = true;
}

static void body_fields(struct walk *w, uint8_t op, struct command_body *body)
{
    size_t nonce_len = 16;
    /* One more than allowed, so that name_check() can tell what is wrong. */
    size_t name_max = KV_PATH_MAX + 1;

    switch (op) {
    case COMMAND_REGISTER:
        if (w->to != NULL)
            buffer_put_bytes(w->to, body->nonce, nonce_len);
        else
            body->nonce = cursor_bytes(w->from, nonce_len);
        walk_string(w, &body->name, &body->name_len, KV_NAME_MAX);
        break;
    case COMMAND_PART:
        walk_u32(w, &body->part);
        walk_string(w, &body->value, &body->value_len, COMMAND_PART_SIZE);
        break;
    case COMMAND_CREATE:
    case COMMAND_MKDIR:
    case COMMAND_MKNOD:
        walk_u64(w, &body->parent);
        walk_string(w, &body->name, &body->name_len, name_max);
        walk_u16(w, &body->mode);
        if (op == COMMAND_CREATE)
            walk_u8(w, &body->flags);
        if (op == COMMAND_MKNOD)
            walk_u8(w, &body->type);
        break;
    case COMMAND_SYMLINK:
        walk_u64(w, &body->parent);
        walk_string(w, &body->name, &body->name_len, name_max);
        walk_string(w, &body->target, &body->target_len, KV_PATH_MAX);
        break;
    case COMMAND_LINK:
        walk_u64(w, &body->ino);
        walk_u64(w, &body->parent);
        walk_string(w, &body->name, &body->name_len, name_max);
        break;
    case COMMAND_UNLINK:
    case COMMAND_RMDIR:
        walk_u64(w, &body->parent);
        walk_string(w, &body->name, &body->name_len, name_max);
        break;
    case COMMAND_RENAME:
        walk_u64(w, &body->parent);
        walk_string(w, &body->name, &body->name_len, name_max);
        walk_u64(w, &body->new_parent);
        walk_string(w, &body->new_name, &body->new_name_len, name_max);
        walk_u8(w, &body->flags);
        break;
    case COMMAND_SETATTR:
        walk_u64(w, &body->ino);
        walk_u8(w, &body->valid);
        walk_u16(w, &body->mode);
        walk_u32(w, &body->uid);
        walk_u32(w, &body->gid);
        walk_i64(w, &body->mtime_ns);
        if ((body->valid & SETATTR_ATIME) != 0)
            walk_i64(w, &body->atime_ns);
        break;
    case COMMAND_SETXATTR:
    case COMMAND_REMOVEXATTR:
        walk_u64(w, &body->ino);
        walk_string(w, &body->name, &body->name_len, name_max);
        if (op == COMMAND_REMOVEXATTR)
            break;
        walk_u8(w, &body->flags);
        walk_string(w, &body->value, &body->value_len, KV_XATTR_VALUE_MAX + 1);
        break;
    case COMMAND_PUBLISH:
        walk_u64(w, &body->ino);
        walk_u8(w, &body->flags);
        walk_u64(w, &body->version);
        walk_rest(w, &body->edits, &body->edits_len);
        break;
    case COMMAND_SET:
        walk_string(w, &body->path, &body->path_len, name_max);
        walk_u8(w, &body->flags);
        walk_u64(w, &body->version);
        walk_u64(w, &body->from_version);
        walk_u16(w, &body->mode);
        if ((body->flags & SET_TTL) != 0)
            walk_u64(w, &body->ttl_ms);
        if ((body->flags & SET_FENCE) != 0)
            walk_u64(w, &body->fence);
        walk_rest(w, &body->value, &body->value_len);
        break;
    case COMMAND_EXPIRE:
        walk_expired(w, body);
        break;
    case COMMAND_TXN:
        walk_rest(w, &body->items, &body->items_len);
        break;
    case COMMAND_PRUNE:
        walk_u64(w, &body->session);
        walk_u64(w, &body->seq);
        walk_string(w, &body->path, &body->path_len, name_max);
        break;
    case COMMAND_DEL:
        walk_string(w, &body->path, &body->path_len, name_max);
        walk_u8(w, &body->flags);
        break;
    case COMMAND_SETTING:
#ifdef KVFS_NEXT_LEVEL
    case COMMAND_NEXT:
#endif
        walk_string(w, &body->name, &body->name_len, KV_NAME_MAX);
        walk_string(w, &body->value, &body->value_len, KV_PATH_MAX);
        break;
    case COMMAND_CLOCK:
        walk_u64(w, &body->wall_ns);
        break;
    case COMMAND_LOCK:
    case COMMAND_LOCK_TAKE:
        walk_u64(w, &body->ino);
        walk_u8(w, &body->kind);
        walk_u8(w, &body->flags);
        walk_u64(w, &body->owner);
        walk_u64(w, &body->start);
        walk_u64(w, &body->end);
        walk_u64(w, &body->ticket);
        walk_u32(w, &body->pid);
        if ((body->flags & LOCK_FLAG_FENCE) != 0)
            walk_u32(w, &body->lease_ms);
        break;
    case COMMAND_UNLOCK:
        walk_u64(w, &body->ino);
        walk_u8(w, &body->kind);
        walk_u64(w, &body->owner);
        walk_u64(w, &body->start);
        walk_u64(w, &body->end);
        break;
    case COMMAND_UNWAIT:
        walk_u64(w, &body->ino);
        walk_u64(w, &body->ticket);
        break;
    case COMMAND_LOCK_PUT:
        walk_u64(w, &body->ino);
        walk_u64(w, &body->version);
        walk_put(w, body);
        break;
    default: /* KEEPALIVE, END, TICK: empty */
        break;
    }
}

void command_body_encode(struct buffer *b, uint8_t op, const struct command_body *body)
{
    struct command_body copy = *body;
    struct walk w = {.to = b};

    body_fields(&w, op, &copy);
}

uint16_t command_body_flags(uint8_t op, const struct command_body *body)
{
    unsigned flags = op == COMMAND_SET && (body->flags & SET_TTL) != 0 ? COMMAND_TTL : 0;

    if ((op == COMMAND_SET && (body->flags & SET_FENCE) != 0) ||
        (op == COMMAND_LOCK && (body->flags & LOCK_FLAG_FENCE) != 0) ||
        (op == COMMAND_TXN && txn_has_fence(body->items, body->items_len)))
        flags |= COMMAND_FENCE;
    return (uint16_t)flags;
}

/* Every component of a path must be a good name; one leading slash is allowed. */
static int path_check(const uint8_t *path, size_t len)
{
    size_t at = len > 0 && path[0] == '/' ? 1 : 0;

    if (len > KV_PATH_MAX)
        return KV_E_NAMETOOLONG;
    if (at == len)
        return KV_E_INVAL;
    while (at <= len) {
        const uint8_t *slash = at < len ? memchr(path + at, '/', len - at) : NULL;
        size_t n = slash != NULL ? (size_t)(slash - path) - at : len - at;
        int rv = name_check(path + at, n);

        if (rv != KV_OK)
            return rv;
        at += n + 1;
    }
    return KV_OK;
}

/* Every path of a transaction. */
static int txn_paths_check(const struct command_body *body)
{
    struct cursor c = cursor_of(body->items, body->items_len);
    struct txn_item item;
    int rv = txn_check(body->items, body->items_len);

    while (rv == KV_OK && txn_next(&c, &item) == 1) {
        if (item.kind != TXN_ELSE)
            rv = path_check(item.path, item.path_len);
        if (rv == KV_OK && item.kind == TXN_MOVE)
            rv = path_check(item.to, item.to_len);
    }
    return rv;
}

/* Of user.kv.* the cluster has one that can be changed. */
static int changeable_xattr(const struct command_body *body)
{
    return xattr_is_ttl(body->name, body->name_len) ? KV_OK : xattr_name_check(body->name, body->name_len);
}

static int body_flags_check(uint8_t op, const struct command_body *body)
{
    uint8_t allowed = op == COMMAND_SET         ? SET_FLAGS
                      : op == COMMAND_PUBLISH   ? PUBLISH_FLAGS
                      : op == COMMAND_RENAME    ? MOVE_FLAGS
                      : op == COMMAND_LOCK      ? LOCK_FLAGS
                      : op == COMMAND_LOCK_TAKE ? LOCK_TAKE_FLAGS
                      : op == COMMAND_SETXATTR  ? XATTR_FLAGS
                                                : 1;

    if (op == COMMAND_RENAME && body->flags == MOVE_FLAGS)
        return KV_E_PROTOCOL;
    if (body->kind >= LOCK_KINDS)
        return KV_E_PROTOCOL;
    if ((body->flags & ~allowed) != 0 || (body->valid & ~SETATTR_VALID) != 0 || (body->mode & ~07777) != 0)
        return KV_E_PROTOCOL;
    if ((body->flags & SET_TTL) != 0 && op == COMMAND_SET &&
        (body->ttl_ms < KV_TTL_MIN_MS || body->ttl_ms > KV_TTL_MAX_MS))
        return KV_E_INVAL;
    if (op == COMMAND_LOCK && (body->flags & LOCK_FLAG_FENCE) != 0 &&
        (body->kind != LOCK_OF_FLOCK || body->lease_ms < LOCK_LEASE_MIN_MS ||
         body->lease_ms > LOCK_LEASE_MAX_MS))
        return KV_E_INVAL;
    if (op == COMMAND_MKNOD && body->type != INODE_FIFO && body->type != INODE_SOCKET)
        return KV_E_PROTOCOL;
    return KV_OK;
}

void command_put(const struct command_body *body, size_t i, struct lock_put *put_out)
{
    struct cursor c = cursor_of(body->put + i * LOCK_PUT_SIZE, LOCK_PUT_SIZE);

    put_out->kind = cursor_u8(&c);
    put_out->exclusive = cursor_u8(&c);
    put_out->owner = cursor_u64(&c);
    put_out->start = cursor_u64(&c);
    put_out->end = cursor_u64(&c);
    put_out->pid = cursor_u32(&c);
}

void lock_put_encode(struct buffer *b, const struct lock_put *put)
{
    buffer_put_u8(b, put->kind);
    buffer_put_u8(b, put->exclusive);
    buffer_put_u64(b, put->owner);
    buffer_put_u64(b, put->start);
    buffer_put_u64(b, put->end);
    buffer_put_u32(b, put->pid);
}

static int put_check(const struct command_body *body)
{
    struct lock_put put;

    for (size_t i = 0; i < body->n_put; i++) {
        command_put(body, i, &put);
        if (put.kind >= LOCK_KINDS || put.exclusive > 1 || put.start > put.end || put.end > LOCK_RANGE_END ||
            (put.kind == LOCK_OF_FLOCK && (put.start != 0 || put.end != LOCK_RANGE_END)))
            return KV_E_PROTOCOL;
    }
    return KV_OK;
}

int command_body_decode(uint8_t op, const void *bytes, size_t len, struct command_body *body_out)
{
    struct cursor c = cursor_of(bytes, len);
    struct walk w = {.from = &c};
    int rv;

    *body_out = (struct command_body){0};
    body_fields(&w, op, body_out);
    if (!cursor_done(&c))
        return KV_E_PROTOCOL;
    rv = body_flags_check(op, body_out);
    if (rv != KV_OK)
        return rv;
    switch (op) {
    case COMMAND_RENAME:
        rv = name_check(body_out->new_name, body_out->new_name_len);
        if (rv != KV_OK)
            return rv;
        return name_check(body_out->name, body_out->name_len);
    case COMMAND_SYMLINK:
        if (body_out->target_len == 0 || memchr(body_out->target, '\0', body_out->target_len) != NULL)
            return KV_E_INVAL;
        return name_check(body_out->name, body_out->name_len);
    case COMMAND_CREATE:
    case COMMAND_MKDIR:
    case COMMAND_MKNOD:
    case COMMAND_LINK:
    case COMMAND_UNLINK:
    case COMMAND_RMDIR:
        return name_check(body_out->name, body_out->name_len);
    case COMMAND_SETXATTR:
        if (body_out->value_len > KV_XATTR_VALUE_MAX)
            return KV_E_FBIG;
        return changeable_xattr(body_out);
    case COMMAND_REMOVEXATTR:
        return changeable_xattr(body_out);
    case COMMAND_SET:
    case COMMAND_DEL:
    case COMMAND_PRUNE:
        return path_check(body_out->path, body_out->path_len);
    case COMMAND_TXN:
        return txn_paths_check(body_out);
    case COMMAND_LOCK_PUT:
        return put_check(body_out);
    case COMMAND_LOCK:
    case COMMAND_LOCK_TAKE:
    case COMMAND_UNLOCK:
        return body_out->start <= body_out->end && body_out->end <= LOCK_RANGE_END ? KV_OK : KV_E_INVAL;
    default:
        return KV_OK;
    }
}

void command_expired(const struct command_body *body, size_t i, uint64_t *ino_out, uint64_t *revision_out)
{
    struct cursor c = cursor_of(body->expired + i * COMMAND_EXPIRE_SIZE, COMMAND_EXPIRE_SIZE);

    *ino_out = cursor_u64(&c);
    *revision_out = cursor_u64(&c);
}

void edit_encode(struct buffer *b, const struct edit *e)
{
    buffer_put_u8(b, e->kind);
    if (e->kind != EDIT_APPEND)
        buffer_put_u64(b, e->number);
    if (e->kind == EDIT_WRITE || e->kind == EDIT_APPEND)
        buffer_put_string(b, e->data, e->len);
}

int edit_next(struct cursor *c, struct edit *e_out)
{
    if (c->len == 0 && !c->failed)
        return 0;
    *e_out = (struct edit){.kind = cursor_u8(c)};
    switch (e_out->kind) {
    case EDIT_TRUNCATE:
    case EDIT_MTIME:
    case EDIT_ATIME:
    case EDIT_STAMP:
        e_out->number = cursor_u64(c);
        break;
    case EDIT_WRITE:
        e_out->number = cursor_u64(c);
        e_out->data = cursor_string(c, SIZE_MAX, &e_out->len);
        break;
    case EDIT_APPEND:
        e_out->data = cursor_string(c, SIZE_MAX, &e_out->len);
        break;
    default:
        return -EPROTO;
    }
    return c->failed ? -EPROTO : 1;
}

static const struct layout_field result_fields[] = {
    {FIELD(command_result, code)},          {FIELD(command_result, created)},
    {FIELD(command_result, revision)},      {FIELD(command_result, base_version)},
    {FIELD(command_result, base_revision)}, {FIELD(command_result, session)},
    {FIELD(command_result, removed)},       {STRUCT(command_result, attr, &attr_layout)},
};
const struct layout command_result_layout = LAYOUT("command_result", command_result, result_fields);

void command_result_encode(struct buffer *b, const struct command_result *r, uint16_t protocol)
{
    layout_encode(b, &command_result_layout, r, protocol);
}

void command_result_decode(struct cursor *c, struct command_result *r_out)
{
    layout_decode(c, &command_result_layout, r_out);
}
