/* The store: building, reading, taking apart. Applying is in store_apply*.c. */
#include "kvnode/state/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/state/journal_note.h"
#include "kvnode/state/store_internal.h"
#include "sync/wire/ttl.h"

uint64_t store_new_ino(struct store *s)
{
    return (uint64_t)s->group << 48 | s->next_ino++;
}

static int make_root(struct store *s)
{
    struct inode *root = inode_new(s, KV_ROOT_INO, INODE_DIRECTORY);

    if (root == NULL)
        return -ENOMEM;
    s->root = root;
    root->c.dir = directory_new(s, KV_ROOT_INO);
    if (root->c.dir == NULL)
        return -ENOMEM;
    root->c.dir->inode = root;
    root->mode = 0755;
    inode_end(s, root);
    return 0;
}

struct store *store_new(uint16_t group, struct journal *journal, const struct store_events *events)
{
    struct store *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->group = group;
    s->journal = journal;
    journal_store(journal, s);
    if (events != NULL)
        s->events = *events;
    s->next_ino = KV_ROOT_INO + 1;
    s->next_number = 1;
    s->next_chunk = 1;
    TAILQ_INIT(&s->dead);
    TAILQ_INIT(&s->session_order);
    settings_init(&s->settings);
    s->locks = lock_table_new();
    if (s->locks == NULL || make_root(s) < 0 || journal_failed(journal)) {
        store_free(s);
        return NULL;
    }
    return s;
}

void store_free(struct store *s)
{
    struct dentry *d, *next_d;
    struct inode *in, *next_in;
    struct directory *dir, *next_dir;
    struct pin *pin, *next_pin;

    if (s == NULL)
        return;
    store_unprepare(s);
    session_drop_all(s);
    lock_table_free(s->locks);
    fences_free(s);
    STORE_EACH(s->dentries, d, next_d)
    dentry_destroy(s, d);
    STORE_EACH(s->inodes, in, next_in)
    inode_destroy(s, in);
    while (s->removed != NULL)
        inode_forget_removed(s);
    HASH_ITER(hh, s->directories, dir, next_dir)
    {
        HASH_DELETE(hh, s->directories, dir);
        free(dir);
    }
    HASH_ITER(hh, s->pins, pin, next_pin)
    {
        HASH_DELETE(hh, s->pins, pin);
        free(pin);
    }
    store_spent_free(s);
    free(s->ttls.heap);
    settings_deinit(&s->settings);
    free(s);
}

uint64_t store_applied(const struct store *s)
{
    return s->applied;
}

uint64_t store_wall_ns(const struct store *s)
{
    return s->wall_ns;
}

uint64_t store_elapsed_ms(const struct store *s)
{
    return s->elapsed_ms;
}

void store_meta(const struct store *s, struct meta_row *row_out)
{
    *row_out = (struct meta_row){s->wall_ns, s->elapsed_ms, s->next_ino, s->next_number};
}

uint64_t store_digest(const struct store *s)
{
    struct meta_row row;

    store_meta(s, &row);
    return s->digest + meta_row_digest(&row);
}

/* A directory, for reading. */
static int find_directory(const struct store *s, uint64_t ino, struct inode **in_out)
{
    *in_out = inode_live(s, ino);
    if (*in_out == NULL)
        return KV_E_STALE;
    return (*in_out)->type == INODE_DIRECTORY ? KV_OK : KV_E_NOTDIR;
}

int store_lookup(const struct store *s, const struct caller *who, uint64_t parent, const void *name,
                 size_t name_len, struct attr *attr_out)
{
    struct inode *in;
    const struct dentry *d;
    int rv = find_directory(s, parent, &in);

    if (rv == KV_OK && name_len > KV_NAME_MAX)
        rv = KV_E_NAMETOOLONG;
    if (rv == KV_OK)
        rv = permission_reach(who, in, NULL);
    if (rv == KV_OK)
        rv = permission_check(who, in, 1);
    if (rv != KV_OK)
        return rv;
    d = dentry_find(s, in->c.dir, name, name_len);
    if (d == NULL || dentry_is_dead(d))
        return KV_E_NOENT;
    dentry_attr(d, attr_out);
    return KV_OK;
}

int store_getattr(const struct store *s, uint64_t ino, struct attr *attr_out)
{
    const struct inode *in = inode_find(s, ino);

    if (in == NULL)
        return KV_E_STALE;
    inode_attr(in, attr_out);
    return KV_OK;
}

int store_access(const struct store *s, const struct caller *who, uint64_t ino, unsigned mask)
{
    const struct inode *in = inode_find(s, ino);

    return in != NULL ? permission_check(who, in, mask) : KV_E_STALE;
}

int store_reach(const struct store *s, const struct caller *who, uint64_t ino)
{
    const struct inode *in;

    if (permission_root(who))
        return inode_find(s, ino) != NULL ? KV_OK : KV_E_STALE;
    in = inode_live(s, ino);
    return in != NULL ? permission_reach(who, in, NULL) : KV_E_STALE;
}

int store_resolve(const struct store *s, const struct caller *who, const void *path, size_t path_len,
                  struct attr *attr_out, uint64_t *parent_out, const uint8_t **name_out, size_t *name_len_out)
{
    struct walked at;
    int rv;

    if (path_len > KV_PATH_MAX)
        return KV_E_NAMETOOLONG;
    rv = path_walk(s, who, path, path_len, &at);
    *parent_out = at.parent->ino;
    *name_out = at.name;
    *name_len_out = at.name_len;
    if (rv == KV_E_NOENT && at.rest_len > at.name_len)
        *parent_out = 0;
    if (rv == KV_OK && at.entry != NULL)
        dentry_attr(at.entry, attr_out);
    else if (rv == KV_OK)
        inode_attr(at.inode, attr_out);
    return rv;
}

int store_read(const struct store *s, uint64_t ino, uint64_t offset, uint32_t len, struct buffer *out)
{
    const struct inode *in = inode_find(s, ino);
    struct value v;

    if (in == NULL)
        return KV_E_STALE;
    if (in->type != INODE_FILE)
        return in->type == INODE_DIRECTORY ? KV_E_ISDIR : KV_E_INVAL;
    v = inode_value(in);
    value_read(&v, offset, len, out);
    return KV_OK;
}

int store_read_removed(const struct store *s, const struct caller *who, uint64_t ino, uint64_t offset,
                       uint32_t len, struct attr *attr_out, struct buffer *out)
{
    const struct inode *in = inode_removed(s, ino);
    struct value v;

    if (in == NULL || (!permission_root(who) && who->uid != in->uid))
        return KV_E_STALE;
    inode_attr(in, attr_out);
    v = inode_value(in);
    value_read(&v, offset, len, out);
    return KV_OK;
}

int store_readlink(const struct store *s, uint64_t ino, struct buffer *out)
{
    const struct inode *in = inode_find(s, ino);
    struct value v;

    if (in == NULL)
        return KV_E_STALE;
    if (in->type != INODE_SYMLINK)
        return KV_E_INVAL;
    v = inode_value(in);
    value_read(&v, 0, v.size, out);
    return KV_OK;
}

static int ttl_text(const struct store *s, const struct inode *in, bool expires, struct buffer *out)
{
    const struct ttl *t = ttl_of(&s->ttls, in);
    char text[TTL_TEXT_MAX] = "";
    uint64_t left;

    if (t == NULL || (expires && in->type != INODE_FILE))
        return KV_E_NOATTR;
    if (!expires) {
        buffer_put_bytes(out, text, ttl_format(t->ttl_ms, text));
        return KV_OK;
    }
    /* As of the last command: it comes later by what no command has told of yet, or the cluster cannot be
     * written to. */
    left = t->expires_ms > s->elapsed_ms ? t->expires_ms - s->elapsed_ms : 0;
    buffer_put_bytes(out, text, ttl_format_end(s->wall_ns / 1000000 + left, text));
    return KV_OK;
}

int store_getxattr(const struct store *s, uint64_t ino, const void *name, size_t name_len, struct buffer *out)
{
    const struct inode *in = inode_find(s, ino);
    const struct bytes wanted = bytes_of(name, name_len);
    struct bytes value;

    if (in == NULL)
        return KV_E_STALE;
    if (xattr_is_ttl(name, name_len) || xattr_is_expires(name, name_len))
        return ttl_text(s, in, xattr_is_expires(name, name_len), out);
    if (!xattrs_get(in->xattrs, &wanted, &value))
        return KV_E_NOATTR;
    buffer_put_bytes(out, value.data, value.len);
    return KV_OK;
}

int store_listxattr(const struct store *s, uint64_t ino, struct buffer *out)
{
    const struct inode *in = inode_find(s, ino);
    struct cursor c;
    struct xattr x;

    if (in == NULL)
        return KV_E_STALE;
    c = cursor_of(in->xattrs != NULL ? in->xattrs->chunk->data : NULL, xattrs_len(in->xattrs));
    while (xattr_next(&c, &x) == 1) {
        buffer_put_bytes(out, x.name.data, x.name.len);
        buffer_put_u8(out, 0);
    }
    return KV_OK;
}

int store_readdir(const struct store *s, uint64_t ino, uint64_t cookie, void *arg,
                  bool (*emit)(void *arg, uint64_t cookie, const uint8_t *name, size_t name_len,
                               const struct attr *attr))
{
    struct dentry after = {.number = cookie + 1};
    struct inode *in;
    int rv = find_directory(s, ino, &in);

    if (rv != KV_OK || cookie == UINT64_MAX)
        return rv;
    for (struct dentry *d = RB_NFIND(dentry_tree, &in->c.dir->living, &after); d != NULL;
         d = RB_NEXT(dentry_tree, &in->c.dir->living, d)) {
        struct attr attr;

        dentry_attr(d, &attr);
        if (!emit(arg, d->number, d->name, d->name_len, &attr))
            break;
    }
    return KV_OK;
}

int store_past_name(const struct store *s, uint64_t ino, const void *name, size_t name_len,
                    uint64_t *version_out, bool *deleted_out)
{
    struct inode *in;
    const struct dentry *d;
    int rv = find_directory(s, ino, &in);

    if (rv != KV_OK)
        return rv;
    d = dentry_find(s, in->c.dir, name, name_len);
    if (d == NULL || (d->flags & ENTRY_HAS_ROWS) == 0)
        return KV_E_NOENT;
    *version_out = d->last_version;
    *deleted_out = dentry_is_dead(d);
    return KV_OK;
}

int store_history_id(const struct store *s, uint64_t ino, uint64_t *history_id_out)
{
    struct inode *in;
    int rv = find_directory(s, ino, &in);

    if (rv == KV_OK)
        *history_id_out = in->c.dir->history_id;
    return rv;
}

int store_history_path(const struct store *s, uint64_t history_id, struct buffer *out)
{
    const struct directory *dir = directory_find(s, history_id);
    const struct dentry *way[KV_PATH_MAX / 2 + 1];
    size_t n = 0;

    if (dir == NULL || dir->inode == NULL)
        return KV_E_NOENT;
    for (const struct dentry *d = dir->inode->names; d != NULL; d = d->dir->inode->names) {
        if (n == sizeof way / sizeof way[0])
            return KV_E_NAMETOOLONG;
        way[n++] = d;
    }
    while (n-- > 0) {
        buffer_put_bytes(out, way[n]->name, way[n]->name_len);
        if (n > 0)
            buffer_put_u8(out, '/');
    }
    return KV_OK;
}

bool store_history_shown(const struct store *s, const struct caller *who, uint64_t history_id,
                         unsigned *steps)
{
    const struct directory *dir;
    unsigned mask = 5;

    if (permission_root(who))
        return true;
    for (dir = directory_find(s, history_id); dir != NULL; (*steps)++) {
        const struct inode *in = dir->inode;
        const struct access now = in != NULL ? (struct access){in->uid, in->gid, in->mode} : dir->last;
        const struct dentry *name = in != NULL ? in->names : dir->tomb;

        if (now.uid != who->uid && store_permits(who, now.uid, now.gid, now.mode, mask) != KV_OK)
            return false;
        if (in != NULL)
            return permission_reach(who, in, steps) == KV_OK;
        if (name == NULL)
            return false; /* its place was taken: nobody can say where it was */
        dir = name->dir;
        mask = 1;
    }
    return false;
}

int store_pin(struct store *s, uint64_t ino)
{
    struct inode *in = inode_find(s, ino);
    struct pin *pin;

    if (in == NULL)
        return KV_E_STALE;
    HASH_FIND(hh, s->pins, &ino, sizeof ino, pin);
    if (pin == NULL) {
        pin = calloc(1, sizeof *pin);
        if (pin == NULL)
            return -ENOMEM;
        pin->ino = ino;
        HASH_ADD(hh, s->pins, ino, sizeof pin->ino, pin);
        if (pin->hh.tbl == NULL) {
            free(pin);
            return -ENOMEM;
        }
        in->flags |= INODE_PINNED;
    }
    pin->count++;
    return KV_OK;
}

/* The inode, if that was the last pin and it has no name any more. */
static struct inode *unpin(struct store *s, uint64_t ino)
{
    struct inode *in = inode_find(s, ino);
    struct pin *pin;

    HASH_FIND(hh, s->pins, &ino, sizeof ino, pin);
    if (pin == NULL || --pin->count > 0)
        return NULL;
    HASH_DELETE(hh, s->pins, pin);
    free(pin);
    in->flags &= (uint8_t)~INODE_PINNED;
    return in->names == NULL && in != s->root ? in : NULL;
}

/* An open that walked the path again was closed here, and the mount may have come back to
 * the same inode: it is no different from one that nobody had open. */
void store_unpin(struct store *s, uint64_t ino)
{
    struct inode *in = unpin(s, ino);

    if (in != NULL)
        inode_let_go(s, in);
}

void store_unpin_drop(struct store *s, uint64_t ino)
{
    struct inode *in = unpin(s, ino);

    if (in != NULL)
        inode_destroy(s, in);
}

uint64_t store_setting(const struct store *s, enum setting i)
{
    return s->settings.number[i];
}

unsigned store_level(const struct store *s)
{
    return (unsigned)s->settings.number[SETTING_FEATURE_LEVEL];
}

void store_usage(const struct store *s, struct store_usage *usage_out)
{
    *usage_out = (struct store_usage){
        .keys = s->keys,
        .bytes = s->bytes,
        .max_keys = s->settings.number[SETTING_MAX_KEYS],
        .max_bytes = s->settings.number[SETTING_MAX_BYTES],
        .value_limit = s->settings.number[SETTING_VALUE_LIMIT],
        .sessions = HASH_CNT(hh, s->sessions),
        .part_bytes = s->part_bytes,
        /* The structs, an average name, a chunk's head, their places in the tables. */
        .memory = s->n_inodes * (sizeof(struct inode) + offsetof(struct chunk, data) + 24) +
                  s->n_dentries * (sizeof(struct dentry) + 32),
    };
}

int store_session_result(const struct store *s, uint64_t session, uint64_t seq,
                         struct command_result *result_out)
{
    const struct session *ss = session_find(s, session);
    const struct command_result *kept;

    if (ss == NULL)
        return KV_E_SESSION;
    if (seq < ss->acked_below)
        return KV_E_DUPLICATE;
    kept = session_kept(ss, seq);
    if (kept == NULL)
        return 0;
    *result_out = *kept;
    return 1;
}

void store_settings(const struct store *s, void *arg,
                    void (*emit)(void *arg, const char *name, const char *value, const char *fallback))
{
    for (int i = 0; i < SETTING_COUNT; i++)
        emit(arg, setting_name((enum setting)i), settings_text(&s->settings, (enum setting)i),
             setting_default((enum setting)i));
}
