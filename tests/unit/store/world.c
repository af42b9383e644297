#include "tests/unit/store/world.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/state/store_internal.h"

static void on_event(void *arg, const struct event *e)
{
    struct world *w = arg;
    struct world_event *out = &w->events[w->n_events % WORLD_EVENTS];

    *out = (struct world_event){
        .kind = e->kind,
        .op = e->op,
        .last = e->last,
        .ino = e->ino,
        .parent = e->parent,
        .new_parent = e->new_parent,
        .base_revision = e->base_revision,
        .attr = e->attr,
    };
    memcpy(out->name, e->name, e->name_len);
    memcpy(out->new_name, e->new_name, e->new_name_len);
    w->n_events++;
}

struct store_events world_events(struct world *w)
{
    return (struct store_events){.arg = w, .on_event = on_event};
}

void world_init(struct world *w, bool with_journal)
{
    struct store_events events = world_events(w);

    *w = (struct world){
        .wall_ns = 1000000000ULL * 1700000000ULL, .elapsed_ms = 1000, .flags = COMMAND_TRUSTED};
    w->j = with_journal ? journal_new() : NULL;
    w->s = store_new(0, w->j, &events);
    world_register(w, "the-world's-own!", &w->session);
    w->acked_below = 1;
}

void world_deinit(struct world *w)
{
    store_free(w->s);
    journal_free(w->j);
    buffer_deinit(&w->bytes);
}

void world_adopt(struct world *w, struct store *s, struct journal *j)
{
    store_free(w->s);
    journal_free(w->j);
    w->s = s;
    w->j = j;
}

int world_apply(struct world *w, const void *bytes, size_t len)
{
    w->n_events = 0;
    w->index++;
    if (w->tap != NULL)
        w->tap(w->tap_arg, w->index, bytes, len);
    if (store_apply(w->s, w->index, bytes, len, &w->result) != 0)
        abort();
    return w->result.code;
}

int world_raw(struct world *w, uint8_t op, uint64_t session, uint64_t seq, const void *body, size_t len)
{
    uint32_t groups[4];
    struct command cmd = {
        .op = op,
        .flags = (uint16_t)(w->flags | (w->label != NULL ? COMMAND_LABEL : 0)),
        .label = w->label,
        .label_len = w->label != NULL ? strlen(w->label) : 0,
        .session = session,
        .seq = seq,
        .acked_below = session == w->session ? w->acked_below : 0,
        .wall_ns = w->wall_ns += 1000000,
        .elapsed_ms = w->elapsed_ms += 1,
        .uid = w->uid,
        .gid = w->gid,
        .n_groups = w->n_groups,
        .groups = (const uint8_t *)groups,
        .node = "n1",
        .node_len = 2,
        .body = body,
        .body_len = len,
    };

    for (uint32_t i = 0; i < w->n_groups; i++)
        groups[i] = htobe32(w->groups[i]);
    buffer_clear(&w->bytes);
    command_encode(&w->bytes, &cmd);
    if (w->instead != NULL) {
        w->instead(w->instead_arg, w->bytes.data, w->bytes.len);
        return KV_OK;
    }
    return world_apply(w, w->bytes.data, w->bytes.len);
}

int world_command(struct world *w, uint8_t op, const struct command_body *body)
{
    struct buffer b = BUFFER_INIT;
    int rv;

    command_body_encode(&b, op, body);
    w->seq++;
    w->acked_below = w->seq;
    w->flags |= command_body_flags(op, body);
    rv = world_raw(w, op, w->session, w->seq, b.data, b.len);
    w->flags &= (uint16_t) ~(COMMAND_TTL | COMMAND_FENCE);
    buffer_deinit(&b);
    return rv;
}

int world_register(struct world *w, const char *nonce16, uint64_t *session_out)
{
    struct buffer b = BUFFER_INIT;
    struct command_body body = {
        .nonce = (const uint8_t *)nonce16, .name = (const uint8_t *)"test", .name_len = 4};
    int rv;

    command_body_encode(&b, COMMAND_REGISTER, &body);
    rv = world_raw(w, COMMAND_REGISTER, 0, 0, b.data, b.len);
    buffer_deinit(&b);
    *session_out = w->result.session;
    return rv;
}

static struct command_body named(uint64_t parent, const char *name)
{
    return (struct command_body){
        .parent = parent, .name = (const uint8_t *)name, .name_len = strlen(name), .mode = 0644};
}

int world_create(struct world *w, uint64_t parent, const char *name)
{
    struct command_body body = named(parent, name);

    body.flags = 1;
    return world_command(w, COMMAND_CREATE, &body);
}

int world_mkdir(struct world *w, uint64_t parent, const char *name)
{
    struct command_body body = named(parent, name);

    body.mode = 0755;
    return world_command(w, COMMAND_MKDIR, &body);
}

int world_symlink(struct world *w, uint64_t parent, const char *name, const char *target)
{
    struct command_body body = named(parent, name);

    body.target = (const uint8_t *)target;
    body.target_len = strlen(target);
    return world_command(w, COMMAND_SYMLINK, &body);
}

int world_mknod(struct world *w, uint64_t parent, const char *name, uint8_t type)
{
    struct command_body body = named(parent, name);

    body.type = type;
    return world_command(w, COMMAND_MKNOD, &body);
}

int world_setxattr_bytes(struct world *w, uint64_t ino, const char *name, const void *value, size_t len,
                         uint8_t flags)
{
    struct command_body body = named(0, name);

    body.ino = ino;
    body.value = value;
    body.value_len = len;
    body.flags = flags;
    return world_command(w, COMMAND_SETXATTR, &body);
}

int world_setxattr(struct world *w, uint64_t ino, const char *name, const char *value, uint8_t flags)
{
    return world_setxattr_bytes(w, ino, name, value, strlen(value), flags);
}

int world_removexattr(struct world *w, uint64_t ino, const char *name)
{
    struct command_body body = named(0, name);

    body.ino = ino;
    return world_command(w, COMMAND_REMOVEXATTR, &body);
}

const char *world_xattr(const struct world *w, uint64_t ino, const char *name)
{
    static char text[1024];
    struct buffer b = BUFFER_INIT;

    if (store_getxattr(w->s, ino, name, strlen(name), &b) != KV_OK)
        snprintf(text, sizeof text, "(none)");
    else
        snprintf(text, sizeof text, "%.*s", (int)b.len, b.len > 0 ? (const char *)b.data : "");
    buffer_deinit(&b);
    return text;
}

const char *world_xattrs(const struct world *w, uint64_t ino)
{
    static char text[1024];
    struct buffer b = BUFFER_INIT;

    text[0] = '\0';
    if (store_listxattr(w->s, ino, &b) == KV_OK && b.len > 0 && b.len < sizeof text) {
        for (size_t i = 0; i < b.len; i++)
            text[i] = b.data[i] != '\0' ? (char)b.data[i] : ' ';
        text[b.len - 1] = '\0';
    }
    buffer_deinit(&b);
    return text;
}

int world_link(struct world *w, uint64_t ino, uint64_t parent, const char *name)
{
    struct command_body body = named(parent, name);

    body.ino = ino;
    return world_command(w, COMMAND_LINK, &body);
}

int world_unlink(struct world *w, uint64_t parent, const char *name)
{
    struct command_body body = named(parent, name);

    return world_command(w, COMMAND_UNLINK, &body);
}

int world_rmdir(struct world *w, uint64_t parent, const char *name)
{
    struct command_body body = named(parent, name);

    return world_command(w, COMMAND_RMDIR, &body);
}

static int move(struct world *w, uint64_t parent, const char *name, uint64_t new_parent, const char *new_name,
                uint8_t flags)
{
    struct command_body body = named(parent, name);

    body.new_parent = new_parent;
    body.new_name = (const uint8_t *)new_name;
    body.new_name_len = strlen(new_name);
    body.flags = flags;
    return world_command(w, COMMAND_RENAME, &body);
}

int world_rename(struct world *w, uint64_t parent, const char *name, uint64_t new_parent,
                 const char *new_name)
{
    return move(w, parent, name, new_parent, new_name, 0);
}

int world_exchange(struct world *w, uint64_t parent, const char *name, uint64_t new_parent,
                   const char *new_name)
{
    return move(w, parent, name, new_parent, new_name, MOVE_EXCHANGE);
}

int world_setattr(struct world *w, const struct command_body *body)
{
    return world_command(w, COMMAND_SETATTR, body);
}

int world_chmod(struct world *w, uint64_t ino, uint16_t mode)
{
    struct command_body body = {.ino = ino, .valid = SETATTR_MODE, .mode = mode};

    return world_command(w, COMMAND_SETATTR, &body);
}

int world_publish(struct world *w, uint64_t ino, bool replace, const struct edit *edits, size_t n)
{
    struct buffer b = BUFFER_INIT;
    struct command_body body = {.ino = ino, .flags = replace};
    int rv;

    for (size_t i = 0; i < n; i++)
        edit_encode(&b, &edits[i]);
    body.edits = b.data;
    body.edits_len = b.len;
    rv = world_command(w, COMMAND_PUBLISH, &body);
    buffer_deinit(&b);
    return rv;
}

int world_write(struct world *w, uint64_t ino, uint64_t offset, const void *data, size_t len)
{
    struct edit e = {.kind = EDIT_WRITE, .number = offset, .data = data, .len = len};

    return world_publish(w, ino, false, &e, 1);
}

int world_append(struct world *w, uint64_t ino, const void *data, size_t len)
{
    struct edit e = {.kind = EDIT_APPEND, .data = data, .len = len};

    return world_publish(w, ino, false, &e, 1);
}

int world_truncate(struct world *w, uint64_t ino, uint64_t size)
{
    struct edit e = {.kind = EDIT_TRUNCATE, .number = size};

    return world_publish(w, ino, false, &e, 1);
}

int world_set_bytes(struct world *w, const char *path, const void *value, size_t len, uint8_t flags,
                    uint64_t version)
{
    struct command_body body = {
        .path = (const uint8_t *)path,
        .path_len = strlen(path),
        .flags = flags,
        .version = version,
        .mode = 0644,
        .value = value,
        .value_len = len,
    };

    return world_command(w, COMMAND_SET, &body);
}

int world_set(struct world *w, const char *path, const char *value)
{
    return world_set_bytes(w, path, value, strlen(value), SET_PARENTS, 0);
}

int world_set_ttl(struct world *w, const char *path, const char *value, uint64_t ttl_ms)
{
    struct command_body body = {.path = (const uint8_t *)path,
                                .path_len = strlen(path),
                                .flags = SET_PARENTS | SET_TTL,
                                .ttl_ms = ttl_ms,
                                .mode = 0644,
                                .value = (const uint8_t *)value,
                                .value_len = strlen(value)};

    return world_command(w, COMMAND_SET, &body);
}

uint64_t world_expire(struct world *w)
{
    struct buffer list = BUFFER_INIT;
    struct command_body body = {0};
    uint64_t next;

    body.n_expired = store_expired(w->s, w->elapsed_ms, 1000, ++w->round, &list, &next);
    body.expired = list.data;
    if (world_command(w, COMMAND_EXPIRE, &body) != KV_OK && w->instead == NULL)
        abort();
    buffer_deinit(&list);
    return w->result.removed;
}

int world_del(struct world *w, const char *path, bool recursive)
{
    struct command_body body = {.path = (const uint8_t *)path, .path_len = strlen(path), .flags = recursive};

    return world_command(w, COMMAND_DEL, &body);
}

int world_setting(struct world *w, const char *name, const char *value)
{
    struct command_body body = {.name = (const uint8_t *)name,
                                .name_len = strlen(name),
                                .value = (const uint8_t *)value,
                                .value_len = strlen(value)};

    return world_command(w, COMMAND_SETTING, &body);
}

int world_tick(struct world *w)
{
    return world_raw(w, COMMAND_TICK, 0, 0, "", 0);
}

struct attr world_attr(const struct world *w, const char *path)
{
    struct attr attr = {0};
    uint64_t parent;
    const uint8_t *name;
    size_t len;

    if (store_resolve(w->s, NULL, path, strlen(path), &attr, &parent, &name, &len) != KV_OK)
        attr = (struct attr){0};
    return attr;
}

uint64_t world_ino(const struct world *w, const char *path)
{
    return world_attr(w, path).ino;
}

uint64_t world_version(const struct world *w, const char *path)
{
    return world_attr(w, path).version;
}

const char *world_get(const struct world *w, const char *path)
{
    static char text[1024];
    struct attr attr = world_attr(w, path);
    struct buffer b = BUFFER_INIT;
    int rv = attr.type == INODE_SYMLINK ? store_readlink(w->s, attr.ino, &b)
                                        : store_read(w->s, attr.ino, 0, 1023, &b);

    if (rv != KV_OK)
        snprintf(text, sizeof text, "(missing)");
    else
        snprintf(text, sizeof text, "%.*s", (int)b.len, b.len > 0 ? (const char *)b.data : "");
    buffer_deinit(&b);
    return text;
}

static bool list_one(void *arg, uint64_t cookie, const uint8_t *name, size_t len, const struct attr *attr)
{
    char *text = arg;
    size_t at = strlen(text);

    snprintf(text + at, 1024 - at, "%s%.*s", at > 0 ? " " : "", (int)len, (const char *)name);
    return true;
}

const char *world_list(const struct world *w, const char *path)
{
    static char text[1024];

    text[0] = '\0';
    if (store_readdir(w->s, world_ino(w, path), 0, text, list_one) != KV_OK)
        return "(missing)";
    return text;
}

static bool any_file(void *arg, uint64_t ino)
{
    (void)arg;
    (void)ino;
    return true;
}

static void add_lock(void *arg, const struct lock_row *row)
{
    *(uint64_t *)arg += lock_row_digest(row);
}

bool world_digest_is_right(const struct world *w)
{
    struct store *s = w->s;
    uint64_t sum = 0, keys = 0, names = 0, bytes = 0, dead = 0;
    struct inode *in, *next_in;
    struct dentry *d, *next_d;
    struct session *ss, *next_ss;
    struct upload *up;
    struct meta_row meta;

    STORE_EACH(s->inodes, in, next_in)
    {
        struct inode_row row;
        struct value v = inode_value(in);

        if (in->names == NULL && in != s->root)
            continue;
        inode_row(&s->ttls, in, &row);
        sum += inode_row_digest(&row);
        if (in->type != INODE_DIRECTORY && value_digest(&v) != in->content_digest)
            return false;
        if (in->type != INODE_DIRECTORY)
            bytes += in->size;
        if (in->xattrs != NULL) {
            uint32_t n;

            if (!xattrs_check(in->xattrs->chunk->data, in->xattrs->chunk->used, &n) || n != in->xattrs->n ||
                xattrs_term(in->xattrs->chunk->data, in->xattrs->chunk->used) != in->xattrs->digest)
                return false;
            bytes += in->xattrs->chunk->used;
        }
        for (d = in->names; d != NULL; d = d->next_name) {
            if (d->u.inode != in || (d->next_name != NULL && d->next_name->number <= d->number))
                return false;
            names++;
        }
        keys += in->n_names;
    }
    STORE_EACH(s->dentries, d, next_d)
    {
        struct entry_row row;

        dentry_row(d, &row);
        sum += entry_row_digest(&row);
        dead += dentry_is_dead(d);
    }
    HASH_ITER(hh, s->sessions, ss, next_ss)
    {
        struct session_row row;

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
    store_locks(s, 0, &sum, any_file, add_lock);
    for (const struct fence *f = s->fences; f != NULL; f = f->hh.next)
        sum += fence_row_digest(&f->row);
    store_meta(s, &meta);
    return sum + meta_row_digest(&meta) == store_digest(s) && keys == s->keys && names == keys &&
           bytes == s->bytes && dead == s->n_dead;
}
