/* Reads that are answered from memory. Each handler takes its request, decoded, and
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
    return store_reach(c->owner->group->store, &c->who, ino);
}

static int may_read(struct client_conn *c, uint64_t ino)
{
    int rv;

    if (c->who.trusted || client_has_open(c, ino, OPEN_READ))
        return KV_OK;
    rv = store_reach(c->owner->group->store, &c->who, ino);
    return rv == KV_OK ? store_access(c->owner->group->store, &c->who, ino, 4) : rv;
}

static void put(const struct client_conn *c, uint8_t type, const union answer_body *answer,
                struct buffer *out)
{
    body_encode_answer(out, type, answer, c->protocol);
}

static int read_barrier(struct client_conn *c, const union request_body *in, struct buffer *out)
{
    const union answer_body answer = {.barrier.revision = store_applied(c->owner->group->store)};

    (void)in;
    put(c, MESSAGE_BARRIER, &answer, out);
    return KV_OK;
}

static int read_lookup(struct client_conn *c, const union request_body *in, struct buffer *out)
{
    const struct name_request *r = &in->lookup;
    union answer_body answer;
    int rv =
        store_lookup(c->owner->group->store, &c->who, r->parent, r->name.data, r->name.len, &answer.lookup);

    if (rv == KV_OK)
        put(c, MESSAGE_LOOKUP, &answer, out);
    return rv;
}

static int read_getattr(struct client_conn *c, const union request_body *in, struct buffer *out)
{
    union answer_body answer;
    int rv = may_look(c, in->getattr.ino);

    if (rv == KV_OK)
        rv = store_getattr(c->owner->group->store, in->getattr.ino, &answer.getattr);
    if (rv == KV_OK)
        put(c, MESSAGE_GETATTR, &answer, out);
    return rv;
}

static int read_readlink(struct client_conn *c, const union request_body *in, struct buffer *out)
{
    size_t at;
    int rv = may_look(c, in->readlink.ino);

    if (rv != KV_OK)
        return rv;
    put(c, MESSAGE_READLINK, NULL, out);
    at = out->len;
    rv = store_readlink(c->owner->group->store, in->readlink.ino, out);
    body_string_end(out, at);
    return rv;
}

static int read_getxattr(struct client_conn *c, const union request_body *in, struct buffer *out)
{
    const struct xattr_request *r = &in->getxattr;
    size_t at;
    int rv = may_read(c, r->ino);

    if (rv != KV_OK)
        return rv;
    put(c, MESSAGE_GETXATTR, NULL, out);
    at = out->len;
    rv = store_getxattr(c->owner->group->store, r->ino, r->name.data, r->name.len, out);
    body_string_end(out, at);
    return rv;
}

/* Which there are is told as attributes are (listxattr(2) asks for no permission). */
static int read_listxattr(struct client_conn *c, const union request_body *in, struct buffer *out)
{
    size_t at;
    int rv = may_look(c, in->listxattr.ino);

    if (rv != KV_OK)
        return rv;
    put(c, MESSAGE_LISTXATTR, NULL, out);
    at = out->len;
    rv = store_listxattr(c->owner->group->store, in->listxattr.ino, out);
    body_string_end(out, at);
    return rv;
}

/* The answer to READ or GET; the data are put right where they belong. */
static int put_value(struct client_conn *c, uint8_t type, const struct attr *attr, uint64_t offset,
                     uint32_t len, struct buffer *out)
{
    const union answer_body answer = {.read.attr = *attr};
    size_t at;
    int rv;

    if (len > READ_LENGTH_MAX)
        return KV_E_INVAL;
    put(c, type, &answer, out);
    at = out->len;
    rv = store_read(c->owner->group->store, attr->ino, offset, len, out);
    body_string_end(out, at);
    return rv;
}

/* The same, of a file that has no name any more. */
static int put_removed(struct client_conn *c, const struct read_request *r, struct buffer *out)
{
    struct buffer data = BUFFER_INIT;
    union answer_body answer;
    int rv;

    if (r->length > READ_LENGTH_MAX)
        return KV_E_INVAL;
    rv = store_read_removed(c->owner->group->store, &c->who, r->ino, r->offset, r->length, &answer.read.attr,
                            &data);
    if (rv == KV_OK) {
        answer.read.data = bytes_of(data.data, data.len);
        put(c, MESSAGE_READ, &answer, out);
        out->failed |= data.failed;
    }
    buffer_deinit(&data);
    return rv;
}

static int read_read(struct client_conn *c, const union request_body *in, struct buffer *out)
{
    const struct read_request *r = &in->read;
    struct attr attr;
    int rv = may_read(c, r->ino);

    if (rv == KV_OK)
        rv = store_getattr(c->owner->group->store, r->ino, &attr);
    if (rv == KV_OK)
        rv = put_value(c, MESSAGE_READ, &attr, r->offset, r->length, out);
    return rv == KV_E_STALE ? put_removed(c, r, out) : rv;
}

struct listing {
    struct buffer rows;
    uint16_t protocol;
    uint32_t n, max;
    bool full;
    bool names_only; /* the caller may list the directory and not look up what is in it */
};

/* Leaves room in the frame for the largest entry. */
static bool listing_full(struct listing *l)
{
    l->full = l->n == l->max || l->rows.failed || l->rows.len > FRAME_PAYLOAD_MAX - 1024;
    return l->full;
}

static bool emit_entry(void *arg, uint64_t cookie, const uint8_t *name, size_t name_len,
                       const struct attr *attr)
{
    struct listing *l = arg;
    struct readdir_row row = {.cookie = cookie, .name = bytes_of(name, name_len)};

    if (listing_full(l))
        return false;
    if (l->names_only)
        row.attr = (struct attr){.ino = attr->ino, .type = attr->type};
    else
        row.attr = *attr;
    readdir_row_encode(&l->rows, &row, l->protocol);
    l->n++;
    return true;
}

static int read_readdir(struct client_conn *c, const union request_body *in, struct buffer *out)
{
    const struct readdir_request *r = &in->readdir;
    struct listing l = {.rows = BUFFER_INIT, .protocol = c->protocol, .max = r->n};
    int rv = may_read(c, r->ino);

    l.names_only = rv == KV_OK && store_access(c->owner->group->store, &c->who, r->ino, 1) != KV_OK;
    if (rv == KV_OK)
        rv = store_readdir(c->owner->group->store, r->ino, r->cookie, &l, emit_entry);
    if (rv == KV_OK) {
        const union answer_body answer = {
            .readdir = {.eof = !l.full, .rows = {l.n, bytes_of(l.rows.data, l.rows.len)}}};

        put(c, MESSAGE_READDIR, &answer, out);
        out->failed |= l.rows.failed;
    }
    buffer_deinit(&l.rows);
    return rv;
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

static int read_open(struct client_conn *c, const union request_body *in, struct buffer *out)
{
    const struct open_request *r = &in->open;
    unsigned mask = ((r->access & OPEN_READ) != 0 ? 4u : 0u) | ((r->access & OPEN_WRITE) != 0 ? 2u : 0u);
    union answer_body answer;
    struct attr *attr = &answer.open;
    struct open_inode *o;
    int rv;

    if (r->access == 0 || r->access > (OPEN_READ | OPEN_WRITE))
        return KV_E_PROTOCOL;
    rv = store_getattr(c->owner->group->store, r->ino, attr);
    if (rv != KV_OK)
        return rv == KV_E_NOENT ? KV_E_STALE : rv;
    /* The owner could change the mode anyway, and a mount that comes back after
     * losing its node opens again what it had open (git writes on in a 0444 file). */
    rv = may_look(c, r->ino);
    if (rv == KV_OK && !c->who.trusted && attr->uid != c->who.uid)
        rv = store_access(c->owner->group->store, &c->who, r->ino, mask);
    if (rv != KV_OK)
        return rv;
    HASH_FIND(hh, c->open, &r->ino, sizeof r->ino, o);
    c->why = NULL;
    if (o == NULL)
        o = add_open(c, r->ino, r->has_uid ? r->uid : c->who.uid);
    if (o == NULL)
        return KV_E_BUSY;
    rv = store_pin(c->owner->group->store, r->ino);
    if (rv != KV_OK) {
        if (o->count == 0)
            forget_open(c, o);
        return rv < 0 ? KV_E_BUSY : rv;
    }
    o->count++;
    o->access |= r->access;
    if (attr->nlink == 0)
        client_user_hold(o->user, o, attr->size);
    put(c, MESSAGE_OPEN, &answer, out);
    return KV_OK;
}

static int read_close(struct client_conn *c, const union request_body *in, struct buffer *out)
{
    struct open_inode *o;

    (void)out;
    HASH_FIND(hh, c->open, &in->close.ino, sizeof in->close.ino, o);
    if (o == NULL)
        return KV_E_STALE;
    if (o->count > 0) { /* else it was let go of */
        store_unpin(c->owner->group->store, in->close.ino);
        o->count--;
    }
    if (o->count == 0)
        forget_open(c, o);
    return KV_OK;
}

static int read_statfs(struct client_conn *c, const union request_body *in, struct buffer *out)
{
    struct store_usage usage;
    union answer_body answer;

    (void)in;
    store_usage(c->owner->group->store, &usage);
    answer.statfs = (struct statfs_answer){usage.keys, usage.bytes, usage.max_keys, usage.max_bytes};
    put(c, MESSAGE_STATFS, &answer, out);
    return KV_OK;
}

static int resolve(struct client_conn *c, const struct bytes *path, struct resolve_answer *out)
{
    return store_resolve(c->owner->group->store, &c->who, path->data, path->len, &out->attr, &out->parent,
                         &out->name.data, &out->name.len);
}

static int read_resolve(struct client_conn *c, const union request_body *in, struct buffer *out)
{
    union answer_body answer;
    int rv = resolve(c, &in->resolve.path, &answer.resolve);

    if (rv == KV_OK)
        put(c, MESSAGE_RESOLVE, &answer, out);
    return rv;
}

static int read_get(struct client_conn *c, const union request_body *in, struct buffer *out)
{
    const struct get_request *r = &in->get;
    struct resolve_answer found;
    int rv = resolve(c, &r->path, &found);

    if (rv == KV_OK && found.attr.type == INODE_DIRECTORY)
        rv = KV_E_ISDIR;
    if (rv == KV_OK)
        rv = may_read(c, found.attr.ino);
    if (rv == KV_OK && r->content_revision != 0 && r->content_revision != found.attr.content_revision)
        rv = KV_E_STALE;
    if (rv == KV_OK)
        rv = put_value(c, MESSAGE_GET, &found.attr, r->offset, r->length, out);
    return rv;
}

#define LOCK_ROW_MAX 256 /* encoded */
/* Room that is left for the locks of one file. */
#define LOCKS_ROOM (512 * 1024)

struct lock_listing {
    struct client_conn *c; /* borrowed */
    struct buffer rows;
    uint32_t n;
    uint64_t ino;
    bool all, more;
    bool shown; /* of the file that is being listed */
};

static bool next_locked_file(void *arg, uint64_t ino)
{
    struct lock_listing *l = arg;

    if (!l->all)
        return l->shown = ino == l->ino;
    l->shown = may_look(l->c, ino) == KV_OK;
    l->more = l->rows.failed || l->rows.len > FRAME_PAYLOAD_MAX - LOCKS_ROOM;
    return !l->more;
}

static void emit_lock(void *arg, const struct lock_row *row)
{
    struct lock_listing *l = arg;

    if (!l->shown)
        return;
    if (l->rows.len > FRAME_PAYLOAD_MAX - LOCK_ROW_MAX) { /* of one file there are not so many */
        l->more = true;
        return;
    }
    lock_row_encode(&l->rows, row);
    l->n++;
}

static int read_locks(struct client_conn *c, const union request_body *in, struct buffer *out)
{
    const struct locks_request *r = &in->locks;
    struct lock_listing l = {.c = c, .rows = BUFFER_INIT, .ino = r->ino, .all = r->all != 0};
    int rv = l.all ? KV_OK : may_look(c, r->ino);

    if (rv != KV_OK)
        return rv;
    store_locks(c->owner->group->store, r->ino, &l, next_locked_file, emit_lock);
    put(c, MESSAGE_LOCKS,
        &(union answer_body){.locks = {.more = l.more, .rows = {l.n, bytes_of(l.rows.data, l.rows.len)}}},
        out);
    out->failed |= l.rows.failed;
    buffer_deinit(&l.rows);
    return KV_OK;
}

static int read_held(struct client_conn *c, const union request_body *in, struct buffer *out)
{
    const struct held_request *r = &in->held;
    struct buffer path = BUFFER_INIT;
    struct held_answer held;
    int rv = may_look(c, r->ino);

    if (rv != KV_OK)
        return rv;
    store_held(c->owner->group->store, c->who.trusted ? NULL : &c->who, r->ino, r->session, &held, &path);
    put(c, MESSAGE_HELD, &(union answer_body){.held = held}, out);
    out->failed |= path.failed;
    buffer_deinit(&path);
    return KV_OK;
}

static int (*const handlers[MESSAGE_REQUEST_COUNT])(struct client_conn *, const union request_body *,
                                                    struct buffer *) = {
    [MESSAGE_BARRIER] = read_barrier,     [MESSAGE_LOOKUP] = read_lookup, [MESSAGE_GETATTR] = read_getattr,
    [MESSAGE_READLINK] = read_readlink,   [MESSAGE_READ] = read_read,     [MESSAGE_READDIR] = read_readdir,
    [MESSAGE_OPEN] = read_open,           [MESSAGE_CLOSE] = read_close,   [MESSAGE_STATFS] = read_statfs,
    [MESSAGE_RESOLVE] = read_resolve,     [MESSAGE_GET] = read_get,       [MESSAGE_GETXATTR] = read_getxattr,
    [MESSAGE_LISTXATTR] = read_listxattr, [MESSAGE_LOCKS] = read_locks,   [MESSAGE_HELD] = read_held,
};

bool serve_is_read(uint8_t type)
{
    return type < MESSAGE_REQUEST_COUNT && handlers[type] != NULL;
}

int serve_read(struct client_conn *conn, uint8_t type, const union request_body *in, struct buffer *out)
{
    return handlers[type](conn, in, out);
}
