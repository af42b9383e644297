/* Making, removing and renaming names. Each operation checks everything first
 * and changes nothing unless it succeeds. */
#include <errno.h>
#include <string.h>

#include "kvnode/state/store_internal.h"

/* The directory `ino`, in which a name is about to change. */
static int find_parent(const struct apply *ap, uint64_t ino, struct inode **parent_out)
{
    int rv;

    *parent_out = inode_live(ap->s, ino);
    if (*parent_out == NULL)
        return KV_E_STALE;
    rv = permission_reach(&ap->who, *parent_out, NULL);
    if (rv != KV_OK)
        return rv;
    /* Without it he must not even learn which names there are. */
    return (*parent_out)->type == INODE_DIRECTORY ? permission_check(&ap->who, *parent_out, 1) : KV_E_NOTDIR;
}

/* A living name. */
static int find_victim(const struct apply *ap, struct inode **parent_out, struct dentry **d_out)
{
    int rv = find_parent(ap, ap->body->parent, parent_out);

    if (rv != KV_OK)
        return rv;
    *d_out = dentry_find(ap->s, (*parent_out)->c.dir, ap->body->name, ap->body->name_len);
    if (*d_out == NULL || dentry_is_dead(*d_out))
        return KV_E_NOENT;
    return permission_remove(&ap->who, *parent_out, (*d_out)->u.inode);
}

/* Common to everything that makes a name in body->parent. d_out: dead or NULL,
 * or with KV_E_EXIST the living one. */
static int check_new(const struct apply *ap, uint64_t bytes, struct inode **parent_out, struct dentry **d_out)
{
    const struct store *s = ap->s;
    int rv = find_parent(ap, ap->body->parent, parent_out);

    if (rv != KV_OK)
        return rv;
    *d_out = dentry_find(s, (*parent_out)->c.dir, ap->body->name, ap->body->name_len);
    if (*d_out != NULL && !dentry_is_dead(*d_out))
        return KV_E_EXIST;
    rv = permission_check(&ap->who, *parent_out, 3);
    if (rv != KV_OK)
        return rv;
    if (s->keys >= s->settings.number[SETTING_MAX_KEYS] ||
        (bytes > 0 && s->bytes + bytes > s->settings.number[SETTING_MAX_BYTES]))
        return KV_E_NOSPC;
    return KV_OK;
}

static const struct note content = {.kind = NOTE_CONTENT};

int apply_create(struct apply *ap)
{
    struct inode *parent, *in;
    struct dentry *d;
    int rv = check_new(ap, 0, &parent, &d);

    if (rv == KV_E_EXIST && ap->body->flags == 0) {
        in = d->u.inode;
        if (in->type == INODE_DIRECTORY)
            return KV_E_ISDIR;
        if (in->type != INODE_FILE)
            return KV_E_EXIST;
        dentry_attr(d, &ap->result->attr);
        return KV_OK;
    }
    if (rv != KV_OK)
        return rv;
    rv = name_add(ap, parent, d, ap->body->name, ap->body->name_len, INODE_FILE, ap->body->mode, &in);
    if (rv < 0)
        return rv;
    in->flags |= INODE_FRESH;
    ttl_written(ap, in, 0);
    name_added(ap, in->names, &content);
    ap->result->created = 1;
    inode_attr(in, &ap->result->attr);
    return KV_OK;
}

/* What has nothing in it. */
static int make_empty(struct apply *ap, uint8_t type)
{
    struct inode *parent, *in;
    struct dentry *d;
    int rv = check_new(ap, 0, &parent, &d);

    if (rv != KV_OK)
        return rv;
    rv = name_add(ap, parent, d, ap->body->name, ap->body->name_len, type, ap->body->mode, &in);
    if (rv < 0)
        return rv;
    name_added(ap, in->names, &content);
    ap->result->created = 1;
    inode_attr(in, &ap->result->attr);
    return KV_OK;
}

int apply_mkdir(struct apply *ap)
{
    return make_empty(ap, INODE_DIRECTORY);
}

int apply_mknod(struct apply *ap)
{
    return make_empty(ap, ap->body->type);
}

int apply_symlink(struct apply *ap)
{
    struct inode *parent, *in;
    struct dentry *d;
    struct rewrite r;
    struct value none = {0};
    int rv = check_new(ap, ap->body->target_len, &parent, &d);

    if (rv != KV_OK)
        return rv;
    rv = name_add(ap, parent, d, ap->body->name, ap->body->name_len, INODE_SYMLINK, 0777, &in);
    if (rv < 0)
        return rv;
    rewrite_begin(&r, ap->s, COMMAND_SYMLINK, ap->body, &none, 0);
    rv = rewrite_work(&r, SIZE_MAX);
    if (rv == 0)
        content_commit(ap, in, &r.draft, r.digest);
    rewrite_deinit(&r);
    if (rv < 0)
        return rv;
    name_added(ap, in->names, &content);
    ap->result->created = 1;
    inode_attr(in, &ap->result->attr);
    return KV_OK;
}

int apply_link(struct apply *ap)
{
    const struct command_body *body = ap->body;
    struct inode *parent, *in = inode_live(ap->s, body->ino);
    struct note note = {.kind = NOTE_CONTENT};
    struct dentry *d;
    int rv;

    if (in == NULL)
        return KV_E_STALE;
    rv = permission_reach(&ap->who, in, NULL);
    if (rv == KV_OK)
        rv = check_new(ap, 0, &parent, &d);
    if (rv != KV_OK)
        return rv;
    if (in->type == INODE_DIRECTORY)
        return KV_E_PERM;
    if (in->n_names >= INODE_NAMES_MAX)
        return KV_E_MLINK;
    rv = name_open(ap, parent, d, body->name, body->name_len, in->type, &d, NULL);
    if (rv < 0)
        return rv;
    note.from = in->names;
    inode_begin(ap->s, in);
    history_end_creation(in);
    in->ctime_ns = now_ns(ap->s);
    in->revision = ap->index;
    dentry_attach(ap->s, d, in);
    history_next_version(d, in);
    name_added(ap, d, &note);
    ap->result->created = 1;
    dentry_attr(d, &ap->result->attr);
    return KV_OK;
}

int apply_unlink(struct apply *ap)
{
    struct inode *parent;
    struct dentry *d;
    int rv = find_victim(ap, &parent, &d);

    if (rv != KV_OK)
        return rv;
    if (d->u.inode->type == INODE_DIRECTORY)
        return KV_E_ISDIR;
    if (d->u.inode->n_names == 1)
        ap->result->removed = d->u.inode->ino;
    return name_remove(ap, d);
}

int apply_rmdir(struct apply *ap)
{
    struct inode *parent, *in;
    struct dentry *d;
    int rv = find_victim(ap, &parent, &d);

    if (rv != KV_OK)
        return rv;
    in = d->u.inode;
    if (in->type != INODE_DIRECTORY)
        return KV_E_NOTDIR;
    if (in->c.dir->n_living > 0)
        return KV_E_NOTEMPTY;
    ap->result->removed = in->ino;
    return name_remove(ap, d);
}

/* Is in a directory that new_parent lies in? */
static int check_loop(const struct inode *in, const struct inode *new_parent)
{
    unsigned depth = 0;

    if (in->type != INODE_DIRECTORY)
        return KV_OK;
    for (const struct inode *up = new_parent; up != NULL;
         up = up->names != NULL ? up->names->dir->inode : NULL) {
        if (up == in)
            return KV_E_LOOP;
        if (depth++ == STORE_DEPTH_MAX) /* moved there, tree by tree */
            return KV_E_NAMETOOLONG;
    }
    return KV_OK;
}

/* May in leave its directory for new_parent? Its `..` changes then. */
static int check_move(const struct apply *ap, const struct inode *in, const struct inode *new_parent)
{
    if (in->type != INODE_DIRECTORY || in->names->dir->inode == new_parent)
        return KV_OK;
    return permission_check(&ap->who, in, 2);
}

/* May d go to new_parent, where `over` is (dead, NULL or replaced)? */
static int check_rename(const struct apply *ap, const struct dentry *d, struct inode *new_parent,
                        const struct dentry *over)
{
    const struct inode *in = d->u.inode, *victim = NULL;
    int rv;

    if (over != NULL && !dentry_is_dead(over))
        victim = over->u.inode;
    if (victim != NULL && (ap->body->flags & MOVE_NOREPLACE) != 0)
        return KV_E_EXIST;
    rv = victim != NULL ? permission_remove(&ap->who, new_parent, victim)
                        : permission_check(&ap->who, new_parent, 3);
    if (rv == KV_OK)
        rv = check_move(ap, in, new_parent);
    if (rv != KV_OK)
        return rv;
    if (in->type == INODE_DIRECTORY) {
        rv = check_loop(in, new_parent);
        if (rv != KV_OK)
            return rv;
        if (victim != NULL && victim->type != INODE_DIRECTORY)
            return KV_E_NOTDIR;
        if (victim != NULL && victim->c.dir->n_living > 0)
            return KV_E_NOTEMPTY;
    } else if (victim != NULL && victim->type == INODE_DIRECTORY) {
        return KV_E_ISDIR;
    }
    return KV_OK;
}

/* Takes the inode that a rename replaces out of d, whose row is left begun. */
static void replace_victim(struct apply *ap, struct dentry *d)
{
    struct inode *victim = d->u.inode;
    struct directory *dir = victim->type == INODE_DIRECTORY ? victim->c.dir : NULL;

    if (victim->n_names == 1)
        ap->result->removed = victim->ino;
    dentry_begin(ap->s, d);
    name_take(ap, d);
    if (dir != NULL) {
        dir->inode = NULL;
        directory_release(ap->s, dir);
    }
    d->number = ap->s->next_number++;
}

static void emit_rename(struct apply *ap, const struct inode *from, const void *name, size_t name_len,
                        const struct dentry *to)
{
    struct event e = {
        .kind = EVENT_RENAME,
        .ino = to->u.inode->ino,
        .parent = from->ino,
        .name = name,
        .name_len = name_len,
        .new_parent = to->dir->inode->ino,
        .new_name = to->name,
        .new_name_len = to->name_len,
    };

    dentry_attr(to, &e.attr);
    emit_event(ap, &e);
}

/* Moves the inode of d to `to`; both rows are begun and ended here or by name_close(). */
static int move(struct apply *ap, struct dentry *d, struct dentry *to)
{
    struct store *s = ap->s;
    struct inode *in = d->u.inode;
    struct aside aside;
    bool set_aside = in->type != INODE_DIRECTORY && (to->flags & ENTRY_NO_HISTORY) != 0 &&
                     (d->flags & ENTRY_NO_HISTORY) == 0;
    struct note left = {.kind = NOTE_TOMBSTONE, .to = to, .aside_out = set_aside ? &aside : NULL};
    struct note arrived = {.kind = NOTE_CONTENT, .from = d};

    dentry_begin(s, d);
    inode_begin(s, in);
    history_note(ap, d, in, &left);
    dentry_detach(s, d);
    history_end_creation(in);
    in->ctime_ns = now_ns(s);
    in->revision = ap->index;
    dentry_attach(s, to, in);
    history_next_version(to, in);
    history_note(ap, to, in, &arrived);
    inode_end(s, in);
    dentry_end(s, to);
    return name_close(ap, d, NULL, set_aside ? &aside : NULL);
}

/* in is at d now, where `from` was its name. */
static void arrive(struct apply *ap, struct dentry *d, struct inode *in, const struct dentry *from)
{
    struct store *s = ap->s;
    struct note arrived = {.kind = NOTE_CONTENT, .from = from};

    history_end_creation(in);
    in->ctime_ns = now_ns(s);
    in->revision = ap->index;
    d->flags &= (uint8_t)~ENTRY_NO_HISTORY;
    if (in->type != INODE_DIRECTORY && name_is_temporary(s, d->dir->inode, d->name, d->name_len))
        d->flags |= ENTRY_NO_HISTORY;
    dentry_attach(s, d, in);
    history_next_version(d, in);
    history_note(ap, d, in, &arrived);
}

/* Both names stay where they are in their listings. */
static void exchange(struct apply *ap, struct dentry *d, struct dentry *to)
{
    struct store *s = ap->s;
    struct inode *in = d->u.inode, *other = to->u.inode;

    dentry_begin(s, d);
    dentry_begin(s, to);
    inode_begin(s, in);
    inode_begin(s, other);
    dentry_detach(s, d);
    dentry_detach(s, to);
    arrive(ap, to, in, d);
    arrive(ap, d, other, to);
    inode_end(s, in);
    inode_end(s, other);
    dentry_end(s, d);
    dentry_end(s, to);
}

static int apply_exchange(struct apply *ap, struct inode *parent, struct dentry *d, struct inode *new_parent,
                          struct dentry *to)
{
    int rv;

    if (to == NULL || dentry_is_dead(to))
        return KV_E_NOENT;
    rv = permission_remove(&ap->who, new_parent, to->u.inode);
    if (rv == KV_OK)
        rv = check_move(ap, d->u.inode, new_parent);
    if (rv == KV_OK)
        rv = check_move(ap, to->u.inode, parent);
    if (rv != KV_OK)
        return rv;
    rv = check_loop(d->u.inode, new_parent);
    if (rv == KV_OK)
        rv = check_loop(to->u.inode, parent);
    if (rv != KV_OK)
        return rv;
    exchange(ap, d, to);
    parent_changed(ap, parent);
    if (new_parent != parent)
        parent_changed(ap, new_parent);
    emit_rename(ap, parent, d->name, d->name_len, to);
    emit_rename(ap, new_parent, to->name, to->name_len, d);
    dentry_attr(to, &ap->result->attr);
    return KV_OK;
}

int apply_rename(struct apply *ap)
{
    const struct command_body *body = ap->body;
    struct inode *parent, *new_parent;
    struct dentry *d, *to;
    int rv = find_victim(ap, &parent, &d);

    if (rv == KV_OK)
        rv = find_parent(ap, body->new_parent, &new_parent);
    if (rv != KV_OK)
        return rv;
    to = dentry_find(ap->s, new_parent->c.dir, body->new_name, body->new_name_len);
    /* The same, or another name of the same: nothing happens, as rename(2) says. */
    if (to != NULL && !dentry_is_dead(to) && to->u.inode == d->u.inode &&
        (body->flags & MOVE_NOREPLACE) == 0) {
        dentry_attr(to, &ap->result->attr);
        return KV_OK;
    }
    if ((body->flags & MOVE_EXCHANGE) != 0)
        return apply_exchange(ap, parent, d, new_parent, to);
    rv = check_rename(ap, d, new_parent, to);
    if (rv != KV_OK)
        return rv;
    if (to != NULL && !dentry_is_dead(to)) {
        replace_victim(ap, to);
    } else {
        rv = name_open(ap, new_parent, to, body->new_name, body->new_name_len, d->u.inode->type, &to, NULL);
        if (rv < 0)
            return rv;
    }
    rv = move(ap, d, to);
    if (rv < 0)
        return rv;
    parent_changed(ap, parent);
    if (new_parent != parent)
        parent_changed(ap, new_parent);
    emit_rename(ap, parent, body->name, body->name_len, to);
    dentry_attr(to, &ap->result->attr);
    return KV_OK;
}
