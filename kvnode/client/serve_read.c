/* Reads that are answered from memory. Each handler decodes its request and
 * appends its answer; sync/wire/message.h describes both. */
#include <stdlib.h>

#include "kvnode/client/client_conn.h"
#include "sync/base/error.h"

bool client_has_open(const struct client_conn *c, uint64_t ino, unsigned access)
{
    const struct open_inode *o;

    HASH_FIND(hh, c->open, &ino, sizeof ino, o);
    return o != NULL && (o->access & access) == access;
}

/* What an untrusted client has opened counts as permission to look at it. */
static int may_look(struct client_conn *c, uint64_t ino)
{
    if (c->who.trusted || client_has_open(c, ino, 0))
        return KV_OK;
    return store_reach(c->node->group->store, &c->who, ino);
}

static int may_read(struct client_conn *c, uint64_t ino)
{
    int rv;

    if (c->who.trusted || client_has_open(c, ino, OPEN_READ))
        return KV_OK;
    rv = store_reach(c->node->group->store, &c->who, ino);
    return rv == KV_OK ? store_access(c->node->group->store, &c->who, ino, 4) : rv;
}

static int read_barrier(struct client_conn *c, struct cursor *in, struct buffer *out)
{
    if (!cursor_done(in))
        return KV_E_PROTOCOL;
    buffer_put_u64(out, store_applied(c->node->group->store));
    return KV_OK;
}

static int read_lookup(struct client_conn *c, struct cursor *in, struct buffer *out)
{
    uint64_t parent = cursor_u64(in);
    size_t len;
    const uint8_t *name = cursor_string(in, KV_PATH_MAX, &len);
    struct attr attr;
    int rv;

    if (!cursor_done(in))
        return KV_E_PROTOCOL;
    rv = store_lookup(c->node->group->store, &c->who, parent, name, len, &attr);
    if (rv == KV_OK)
        attr_encode(out, &attr, c->protocol);
    return rv;
}

static int read_getattr(struct client_conn *c, struct cursor *in, struct buffer *out)
{
    uint64_t ino = cursor_u64(in);
    struct attr attr;
    int rv;

    if (!cursor_done(in))
        return KV_E_PROTOCOL;
    rv = may_look(c, ino);
    if (rv == KV_OK)
        rv = store_getattr(c->node->group->store, ino, &attr);
    if (rv == KV_OK)
        attr_encode(out, &attr, c->protocol);
    return rv;
}

static int read_readlink(struct client_conn *c, struct cursor *in, struct buffer *out)
{
    uint64_t ino = cursor_u64(in);
    size_t at = out->len;
    int rv;

    if (!cursor_done(in))
        return KV_E_PROTOCOL;
    buffer_put_u32(out, 0);
    rv = may_look(c, ino);
    if (rv == KV_OK)
        rv = store_readlink(c->node->group->store, ino, out);
    if (rv == KV_OK)
        buffer_set_u32(out, at, (uint32_t)(out->len - at - sizeof(uint32_t)));
    return rv;
}

/* attr, then the data as a string. */
static int put_value(struct client_conn *c, const struct attr *attr, uint64_t offset, uint32_t len,
                     struct buffer *out)
{
    size_t at;
    int rv;

    if (len > READ_LENGTH_MAX)
        return KV_E_INVAL;
    attr_encode(out, attr, c->protocol);
    at = out->len;
    buffer_put_u32(out, 0);
    rv = store_read(c->node->group->store, attr->ino, offset, len, out);
    if (rv == KV_OK)
        buffer_set_u32(out, at, (uint32_t)(out->len - at - sizeof(uint32_t)));
    return rv;
}

/* attr, then the data as a string, of a file that has no name any more. */
static int put_removed(struct client_conn *c, uint64_t ino, uint64_t offset, uint32_t len, struct buffer *out)
{
    struct buffer data = BUFFER_INIT;
    struct attr attr;
    int rv;

    if (len > READ_LENGTH_MAX)
        return KV_E_INVAL;
    rv = store_read_removed(c->node->group->store, &c->who, ino, offset, len, &attr, &data);
    if (rv == KV_OK) {
        attr_encode(out, &attr, c->protocol);
        buffer_put_string(out, data.data, data.len);
        out->failed |= data.failed;
    }
    buffer_deinit(&data);
    return rv;
}

static int read_read(struct client_conn *c, struct cursor *in, struct buffer *out)
{
    uint64_t ino = cursor_u64(in), offset = cursor_u64(in);
    uint32_t len = cursor_u32(in);
    struct attr attr;
    int rv;

    if (!cursor_done(in))
        return KV_E_PROTOCOL;
    rv = may_read(c, ino);
    if (rv == KV_OK)
        rv = store_getattr(c->node->group->store, ino, &attr);
    if (rv == KV_OK)
        rv = put_value(c, &attr, offset, len, out);
    return rv == KV_E_STALE ? put_removed(c, ino, offset, len, out) : rv;
}

struct listing {
    struct buffer *out;
    uint16_t protocol;
    uint32_t n, max;
    bool full;
    bool names_only; /* the caller may list the directory and not look up what is in it */
};

/* Leaves room in the frame for the largest entry. */
static bool listing_full(struct listing *l)
{
    l->full = l->n == l->max || l->out->failed || l->out->len > FRAME_PAYLOAD_MAX - 1024;
    return l->full;
}

static bool emit_entry(void *arg, uint64_t cookie, const uint8_t *name, size_t name_len,
                       const struct attr *attr)
{
    struct listing *l = arg;

    if (listing_full(l))
        return false;
    buffer_put_u64(l->out, cookie);
    buffer_put_string(l->out, name, name_len);
    attr_encode(l->out, l->names_only ? &(struct attr){.ino = attr->ino, .type = attr->type} : attr,
                l->protocol);
    l->n++;
    return true;
}

/* u8 eof, u32 count, entries. */
static int put_listing(struct listing *l, int rv, struct buffer *body, struct buffer *out)
{
    if (rv == KV_OK) {
        buffer_put_u8(out, !l->full);
        buffer_put_u32(out, l->n);
        buffer_put_bytes(out, body->data, body->len);
        out->failed |= body->failed;
    }
    buffer_deinit(body);
    return rv;
}

static int read_readdir(struct client_conn *c, struct cursor *in, struct buffer *out)
{
    uint64_t ino = cursor_u64(in), cookie = cursor_u64(in);
    uint32_t n = cursor_u32(in);
    struct buffer body = BUFFER_INIT;
    struct listing l = {.out = &body, .protocol = c->protocol, .max = n};
    int rv;

    if (!cursor_done(in))
        return KV_E_PROTOCOL;
    rv = may_read(c, ino);
    l.names_only = rv == KV_OK && store_access(c->node->group->store, &c->who, ino, 1) != KV_OK;
    if (rv == KV_OK)
        rv = store_readdir(c->node->group->store, ino, cookie, &l, emit_entry);
    return put_listing(&l, rv, &body, out);
}

static void forget_open(struct client_conn *c, struct open_inode *o)
{
    HASH_DEL(c->open, o);
    client_user_unhold(o->user, o);
    client_user_open(o->user, -1);
    client_user_put(o->user);
    free(o);
}

/* A first opening of the inode on this connection, in the name of uid. NULL: there is no room. */
static struct open_inode *add_open(struct client_conn *c, uint64_t ino, uint32_t uid)
{
    struct client_user *user = client_user_as(c->user, uid);
    struct open_inode *o = NULL;

    c->why = client_user_refuses_open(user);
    if (c->why == NULL)
        o = calloc(1, sizeof *o);
    if (o != NULL) {
        o->ino = ino;
        o->user = user;
        HASH_ADD(hh, c->open, ino, sizeof o->ino, o);
        if (HASH_ADDED(hh, o)) {
            client_user_open(user, 1);
            return o;
        }
    }
    free(o);
    client_user_put(user);
    return NULL;
}

static int read_open(struct client_conn *c, struct cursor *in, struct buffer *out)
{
    uint64_t ino = cursor_u64(in);
    uint8_t access = cursor_u8(in);
    uint32_t uid = in->len > 0 ? cursor_u32(in) : c->who.uid;
    unsigned mask = ((access & OPEN_READ) != 0 ? 4u : 0u) | ((access & OPEN_WRITE) != 0 ? 2u : 0u);
    struct open_inode *o;
    struct attr attr;
    int rv;

    if (!cursor_done(in) || access == 0 || access > (OPEN_READ | OPEN_WRITE))
        return KV_E_PROTOCOL;
    rv = store_getattr(c->node->group->store, ino, &attr);
    if (rv != KV_OK)
        return rv == KV_E_NOENT ? KV_E_STALE : rv;
    /* The owner could change the mode anyway, and a mount that comes back after
     * losing its node opens again what it had open (git writes on in a 0444 file). */
    rv = may_look(c, ino);
    if (rv == KV_OK && !c->who.trusted && attr.uid != c->who.uid)
        rv = store_access(c->node->group->store, &c->who, ino, mask);
    if (rv != KV_OK)
        return rv;
    HASH_FIND(hh, c->open, &ino, sizeof ino, o);
    c->why = NULL;
    if (o == NULL)
        o = add_open(c, ino, uid);
    if (o == NULL)
        return KV_E_BUSY;
    rv = store_pin(c->node->group->store, ino);
    if (rv != KV_OK) {
        if (o->count == 0)
            forget_open(c, o);
        return rv < 0 ? KV_E_BUSY : rv;
    }
    o->count++;
    o->access |= access;
    if (attr.nlink == 0)
        client_user_hold(o->user, o, attr.size);
    attr_encode(out, &attr, c->protocol);
    return KV_OK;
}

static int read_close(struct client_conn *c, struct cursor *in, struct buffer *out)
{
    uint64_t ino = cursor_u64(in);
    struct open_inode *o;

    (void)out;
    if (!cursor_done(in))
        return KV_E_PROTOCOL;
    HASH_FIND(hh, c->open, &ino, sizeof ino, o);
    if (o == NULL)
        return KV_E_STALE;
    if (o->count > 0) { /* else it was let go of */
        store_unpin(c->node->group->store, ino);
        o->count--;
    }
    if (o->count == 0)
        forget_open(c, o);
    return KV_OK;
}

static int read_statfs(struct client_conn *c, struct cursor *in, struct buffer *out)
{
    struct store_usage usage;

    if (!cursor_done(in))
        return KV_E_PROTOCOL;
    store_usage(c->node->group->store, &usage);
    buffer_put_u64(out, usage.keys);
    buffer_put_u64(out, usage.bytes);
    buffer_put_u64(out, usage.max_keys);
    buffer_put_u64(out, usage.max_bytes);
    return KV_OK;
}

static int read_resolve(struct client_conn *c, struct cursor *in, struct buffer *out)
{
    size_t len, name_len;
    const uint8_t *path = cursor_string(in, KV_PATH_MAX + 1, &len), *name;
    struct attr attr;
    uint64_t parent;
    int rv;

    if (!cursor_done(in))
        return KV_E_PROTOCOL;
    rv = store_resolve(c->node->group->store, &c->who, path, len, &attr, &parent, &name, &name_len);
    if (rv == KV_OK) {
        attr_encode(out, &attr, c->protocol);
        buffer_put_u64(out, parent);
        buffer_put_string(out, name, name_len);
    }
    return rv;
}

static int read_get(struct client_conn *c, struct cursor *in, struct buffer *out)
{
    size_t len, name_len;
    const uint8_t *path = cursor_string(in, KV_PATH_MAX + 1, &len), *name;
    uint64_t offset = cursor_u64(in);
    uint32_t length = cursor_u32(in);
    uint64_t content_revision = cursor_u64(in), parent;
    struct attr attr;
    int rv;

    if (!cursor_done(in))
        return KV_E_PROTOCOL;
    rv = store_resolve(c->node->group->store, &c->who, path, len, &attr, &parent, &name, &name_len);
    if (rv == KV_OK && attr.type == INODE_DIRECTORY)
        rv = KV_E_ISDIR;
    if (rv == KV_OK)
        rv = may_read(c, attr.ino);
    if (rv == KV_OK && content_revision != 0 && content_revision != attr.content_revision)
        rv = KV_E_STALE;
    if (rv == KV_OK)
        rv = put_value(c, &attr, offset, length, out);
    return rv;
}

static int (*const handlers[MESSAGE_REQUEST_COUNT])(struct client_conn *, struct cursor *,
                                                    struct buffer *) = {
    [MESSAGE_BARRIER] = read_barrier,   [MESSAGE_LOOKUP] = read_lookup, [MESSAGE_GETATTR] = read_getattr,
    [MESSAGE_READLINK] = read_readlink, [MESSAGE_READ] = read_read,     [MESSAGE_READDIR] = read_readdir,
    [MESSAGE_OPEN] = read_open,         [MESSAGE_CLOSE] = read_close,   [MESSAGE_STATFS] = read_statfs,
    [MESSAGE_RESOLVE] = read_resolve,   [MESSAGE_GET] = read_get,
};

bool serve_is_read(uint8_t type)
{
    return type < MESSAGE_REQUEST_COUNT && handlers[type] != NULL;
}

int serve_read(struct client_conn *conn, uint8_t type, struct cursor *in, struct buffer *out)
{
    return handlers[type](conn, in, out);
}
