/* A list in the order of the log. Each record has, beside what the command may change, the names by which
 * that was found: (directory, hash of the name). Two commands that share one meet: when the first is applied,
 * the second may find another inode there. */
#include "kvnode/state/touch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/state/store_internal.h"

#define NAMES_MAX 16
/* Files of an EXPIRE that are named one by one: each is two of TOUCH_MAX. */
#define EXPIRED_MAX 3

struct key {
    uint64_t parent, hash;
};

struct record {
    uint64_t index;
    const void *bytes; /* borrowed from the log */
    size_t len;
    struct touches touches;
    unsigned n_names;
    struct key names[NAMES_MAX];
    unsigned changed_from; /* names[] from there on may come, go, or get another inode by it */
    bool any_name;         /* more names than there is room for: it meets everything with a name */
    bool path;             /* found by a path */
    bool short_of;         /* which ended before its last name */
    bool moves;            /* it gives a name to what has one already: RENAME, LINK */
    bool unborn; /* it names a directory by a number that nothing has yet: a guess, and it may come true */
    bool walks;  /* it changes everything because of what is before it on its path: until that is applied */
    bool met;    /* and that moves nothing */
};

struct touch_list {
    struct record *records; /* owned; a ring */
    size_t head, n, cap;    /* cap: a power of two */
};

struct touch_list *touch_list_new(void)
{
    return calloc(1, sizeof(struct touch_list));
}

void touch_list_free(struct touch_list *l)
{
    if (l != NULL)
        free(l->records);
    free(l);
}

static struct record *at(const struct touch_list *l, size_t i)
{
    return &l->records[(l->head + i) & (l->cap - 1)];
}

static int grow(struct touch_list *l)
{
    size_t cap = l->cap > 0 ? l->cap * 2 : 64;
    struct record *records = malloc(cap * sizeof *records);

    if (records == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < l->n; i++)
        records[i] = *at(l, i);
    free(l->records);
    l->records = records;
    l->head = 0;
    l->cap = cap;
    return 0;
}

/* ---- what a command changes ---- */

static void add(struct record *r, uint64_t ino, uint8_t what)
{
    struct touches *t = &r->touches;

    for (unsigned i = 0; i < t->n; i++)
        if (t->of[i].ino == ino) {
            t->of[i].what |= what;
            return;
        }
    t->of[t->n++] = (struct touch){ino, what};
}

static void add_all(struct record *r)
{
    r->touches.all = true;
    r->touches.n = 0;
}

/* Names that nobody has looked for, too. */
static void add_all_names(struct record *r)
{
    add_all(r);
    r->any_name = true;
}

/* The last one is always there. */
static void add_name(struct record *r, uint64_t parent, const void *name, size_t len)
{
    if (r->n_names == NAMES_MAX)
        r->any_name = true;
    else
        r->n_names++;
    r->names[r->n_names - 1] = (struct key){parent, XXH3_64bits(name, len)};
}

static const struct inode *child(const struct store *s, uint64_t parent, const void *name, size_t len)
{
    const struct inode *in = inode_live(s, parent);
    const struct dentry *d =
        in != NULL && in->type == INODE_DIRECTORY ? dentry_find(s, in->c.dir, name, len) : NULL;

    return d != NULL && !dentry_is_dead(d) ? d->u.inode : NULL;
}

/* A name that comes, goes or gets another inode, and the inode that it has now. */
static const struct inode *touch_name(struct record *r, const struct store *s, uint64_t parent,
                                      const void *name, size_t len)
{
    const struct inode *in = child(s, parent, name, len);

    r->unborn = r->unborn || inode_live(s, parent) == NULL;
    add(r, parent, TOUCH_NAMES | TOUCH_ATTR);
    if (in != NULL)
        add(r, in->ino, TOUCH_ATTR);
    add_name(r, parent, name, len);
    return in;
}

/* A command by path: the names along it, as far as they are there, and the first one that is missing. */
static const struct inode *touch_path(struct record *r, const struct store *s, const uint8_t *path,
                                      size_t len, uint64_t *parent_out)
{
    const uint8_t *end = path + len, *slash;
    const struct inode *in = s->root;

    r->path = true;
    *parent_out = 0;
    while (path < end && in != NULL && in->type == INODE_DIRECTORY) {
        slash = memchr(path, '/', (size_t)(end - path));
        if (slash == NULL)
            slash = end;
        if (slash > path) {
            *parent_out = in->ino;
            add_name(r, in->ino, path, (size_t)(slash - path));
            in = child(s, in->ino, path, (size_t)(slash - path));
        }
        path = slash + 1;
    }
    r->short_of = path < end;
    r->changed_from = r->n_names;
    return path >= end ? in : NULL; /* what is below a file changes nothing */
}

static void touch_set(struct record *r, const struct store *s, const uint8_t *path, size_t len)
{
    uint64_t parent;
    const struct inode *in = touch_path(r, s, path, len, &parent);

    if (in != NULL) {
        add(r, in->ino, TOUCH_ATTR | TOUCH_DATA);
    } else if (parent != 0) {
        r->changed_from = r->n_names - 1;
        add(r, parent, TOUCH_NAMES | TOUCH_ATTR);
    }
}

static void touch_del(struct record *r, const struct store *s, const struct command_body *body)
{
    uint64_t parent;
    const struct inode *in = touch_path(r, s, body->path, body->path_len, &parent);

    if (parent == 0)
        return;
    r->changed_from = r->n_names - 1;
    if (in == NULL) { /* it may come */
        add(r, parent, TOUCH_NAMES | TOUCH_ATTR);
        return;
    }
    if (in->type == INODE_DIRECTORY && body->flags != 0) { /* with what comes to be below it */
        add_all(r);
        return;
    }
    add(r, parent, TOUCH_NAMES | TOUCH_ATTR);
    add(r, in->ino, TOUCH_ATTR);
}

/* What has been moved, or has got a name, since it was proposed is of another revision, and stays. */
static void touch_expire(struct record *r, const struct store *s, const struct command_body *body)
{
    uint64_t ino, revision;

    for (size_t i = 0; i < body->n_expired && !r->touches.all; i++) {
        const struct inode *in;

        command_expired(body, i, &ino, &revision);
        in = inode_live(s, ino);
        if (i == EXPIRED_MAX || (in != NULL && in->n_names > 1))
            add_all_names(r);
        else if (in != NULL && in->names != NULL)
            touch_name(r, s, in->names->dir->inode->ino, in->names->name, in->names->name_len);
    }
}

static void touch_body(struct record *r, const struct store *s, uint8_t op, const struct command_body *body)
{
    switch (op) {
    case COMMAND_CREATE:
    case COMMAND_MKDIR:
    case COMMAND_SYMLINK:
    case COMMAND_MKNOD:
    case COMMAND_UNLINK:
    case COMMAND_RMDIR:
        touch_name(r, s, body->parent, body->name, body->name_len);
        break;
    case COMMAND_RENAME:
        touch_name(r, s, body->parent, body->name, body->name_len);
        touch_name(r, s, body->new_parent, body->new_name, body->new_name_len);
        break;
    case COMMAND_LINK:
        touch_name(r, s, body->parent, body->name, body->name_len);
        add(r, body->ino, TOUCH_ATTR);
        break;
    case COMMAND_SETATTR:
    case COMMAND_SETXATTR:
    case COMMAND_REMOVEXATTR:
        add(r, body->ino, TOUCH_ATTR);
        break;
    case COMMAND_PUBLISH:
        add(r, body->ino, TOUCH_ATTR | TOUCH_DATA);
        break;
    case COMMAND_SET:
        touch_set(r, s, body->path, body->path_len);
        break;
    case COMMAND_DEL:
        touch_del(r, s, body);
        break;
    case COMMAND_EXPIRE:
        touch_expire(r, s, body);
        break;
    case COMMAND_TXN:
    case COMMAND_PRUNE:
        add_all_names(r);
        break;
    default: /* sessions, settings, clocks: nothing that is kept */
        break;
    }
}

/* Of a command in parts the beginning counts, which is here if its first part was applied. */
static void touch_parts(struct record *r, const struct store *s, const struct command *cmd)
{
    const struct session *ss = session_find(s, cmd->session);
    const struct upload *up = ss != NULL ? session_upload(ss, cmd->seq) : NULL;
    struct cursor c, piece;
    uint32_t n_parts;
    uint64_t opened = 0;
    const uint8_t *path;
    size_t len;

    if (!command_last_piece(cmd, &n_parts, &opened, &piece))
        return;
    if (cmd->op == COMMAND_PUBLISH && opened != 0) { /* or it is refused */
        add(r, opened, TOUCH_ATTR | TOUCH_DATA);
        return;
    }
    c = up != NULL ? cursor_of(up->bytes.data, up->bytes.len) : cursor_of("", 0);
    if (cmd->op == COMMAND_PUBLISH && c.len >= 8) {
        add(r, cursor_u64(&c), TOUCH_ATTR | TOUCH_DATA);
        return;
    }
    path = cmd->op == COMMAND_SET ? cursor_string(&c, KV_PATH_MAX, &len) : NULL;
    if (path != NULL)
        touch_set(r, s, path, len);
    else
        add_all_names(r);
}

static void resolve(struct record *r, const struct store *s)
{
    struct command_body body;
    struct command cmd;

    r->touches = (struct touches){0};
    r->n_names = r->changed_from = 0;
    r->any_name = r->path = r->short_of = r->unborn = r->walks = r->met = false;
    if (command_decode(r->bytes, r->len, &cmd) != KV_OK)
        return;
    r->moves = cmd.op == COMMAND_RENAME || cmd.op == COMMAND_LINK;
    if ((cmd.flags & COMMAND_PARTS) != 0)
        touch_parts(r, s, &cmd);
    else if (command_body_decode(cmd.op, cmd.body, cmd.body_len, &body) == KV_OK)
        touch_body(r, s, cmd.op, &body);
}

/* ---- the list ---- */

static bool share_a_name(const struct record *a, const struct record *b)
{
    if ((a->any_name && b->n_names > 0) || (b->any_name && a->n_names > 0))
        return true;
    for (unsigned i = 0; i < a->n_names; i++)
        for (unsigned k = 0; k < b->n_names; k++)
            if (a->names[i].parent == b->names[k].parent && a->names[i].hash == b->names[k].hash)
                return true;
    return false;
}

/* Whether b may change one of the names of a. */
static bool is_changed_by(const struct record *a, const struct record *b)
{
    if (a->any_name && b->changed_from < b->n_names)
        return true;
    for (unsigned i = 0; i < a->n_names; i++)
        for (unsigned k = b->changed_from; k < b->n_names; k++)
            if (a->names[i].parent == b->names[k].parent && a->names[i].hash == b->names[k].hash)
                return true;
    return false;
}

/* What a path will find, when those before it have been applied, and below what, is not to be seen yet if
 *   - it goes over a name that is about to be moved there or away, or ends at a directory that is not there
 *     yet, below which something may be moved before its turn comes;
 *   - it goes over a name that is about to come or go. What it changes then is another inode than now, and
 *     mounts are told of a command once.
 * Such a command is taken to change everything. n: how many are before it. */
static void walk_into_others(const struct touch_list *l, size_t n, struct record *r)
{
    for (size_t i = 0; r->path && i < n; i++) {
        const struct record *o = at(l, i);

        if ((o->moves || (o->touches.all && !o->met)) && (r->short_of || share_a_name(o, r))) {
            r->walks = true;
            r->met = false;
            add_all(r);
            return;
        }
        r->met = r->met || is_changed_by(r, o);
    }
    r->met = r->met && !r->touches.all;
    if (r->met) {
        r->walks = true;
        add_all(r);
    }
}

int touch_add(struct touch_list *l, const struct store *s, uint64_t index, const void *bytes, size_t len,
              struct touches *touches_out)
{
    struct record r = {.index = index, .bytes = bytes, .len = len};
    int rv;

    resolve(&r, s);
    walk_into_others(l, l->n, &r);
    *touches_out = r.touches;
    /* With a name it may find something when those before it have been applied. */
    if (!r.touches.all && r.touches.n == 0 && r.n_names == 0)
        return 0;
    rv = l->n == l->cap ? grow(l) : 0;
    if (rv != 0)
        return rv;
    *at(l, l->n++) = r;
    return 0;
}

/* Of what changes everything nobody knows which names it has changed. */
static bool may_find_another(const struct record *r, const struct record *done)
{
    if (r->touches.all && !r->walks)
        return false; /* whatever it finds */
    return done->touches.all || (done->n_names > 0 && (r->unborn || share_a_name(done, r)));
}

void touch_applied(struct touch_list *l, const struct store *s, uint64_t index)
{
    while (l->n > 0 && at(l, 0)->index <= index) {
        const struct record done = *at(l, 0);

        l->head = (l->head + 1) & (l->cap - 1);
        l->n--;
        for (size_t i = 0; i < l->n; i++) {
            struct record *r = at(l, i);

            if (r->index <= index || !may_find_another(r, &done))
                continue;
            resolve(r, s);
            walk_into_others(l, i, r);
        }
    }
}

void touch_cut(struct touch_list *l, uint64_t index)
{
    while (l->n > 0 && at(l, l->n - 1)->index >= index)
        l->n--;
}

static bool touches(const struct touches *t, uint64_t ino, uint8_t what)
{
    for (unsigned i = 0; i < t->n; i++)
        if (t->of[i].ino == ino && (t->of[i].what & what) != 0)
            return true;
    return t->all;
}

uint64_t touch_on(const struct touch_list *l, uint64_t ino, uint8_t what, uint64_t upto)
{
    for (size_t i = l->n; i > 0; i--)
        if (at(l, i - 1)->index <= upto && touches(&at(l, i - 1)->touches, ino, what))
            return at(l, i - 1)->index;
    return 0;
}

uint64_t touch_on_name(const struct touch_list *l, uint64_t parent, const void *name, size_t len,
                       uint64_t upto)
{
    struct record one = {0};

    add_name(&one, parent, name, len);
    for (size_t i = l->n; i > 0; i--) {
        const struct record *r = at(l, i - 1);

        if (r->index <= upto &&
            (r->touches.all || (touches(&r->touches, parent, TOUCH_NAMES) && share_a_name(r, &one))))
            return r->index;
    }
    return 0;
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

uint64_t touch_on_entry(const struct touch_list *l, const struct store *s, uint64_t parent, const void *name,
                        size_t len, uint64_t upto)
{
    const struct inode *in = child(s, parent, name, len);
    uint64_t index = later(touch_on(l, parent, TOUCH_ATTR, upto), touch_on_name(l, parent, name, len, upto));

    return in != NULL ? later(index, touch_on(l, in->ino, TOUCH_ANY, upto)) : index;
}

uint64_t touch_on_path(const struct touch_list *l, const struct store *s, const void *path, size_t len,
                       uint64_t upto)
{
    const uint8_t *at = path, *end = at + len, *slash;
    const struct inode *in = s->root;
    uint64_t index = touch_on(l, KV_ROOT_INO, TOUCH_ANY, upto);

    for (; at < end && in != NULL && in->type == INODE_DIRECTORY; at = slash + 1) {
        slash = memchr(at, '/', (size_t)(end - at));
        if (slash == NULL)
            slash = end;
        if (slash == at)
            continue;
        index = later(index, touch_on_entry(l, s, in->ino, at, (size_t)(slash - at), upto));
        in = child(s, in->ino, at, (size_t)(slash - at));
    }
    return index;
}

uint64_t touch_on_move(const struct touch_list *l, uint64_t upto)
{
    for (size_t i = l->n; i > 0; i--)
        if (at(l, i - 1)->index <= upto && (at(l, i - 1)->moves || at(l, i - 1)->touches.all))
            return at(l, i - 1)->index;
    return 0;
}

uint64_t touch_newest(const struct touch_list *l, uint64_t upto)
{
    for (size_t i = l->n; i > 0; i--)
        if (at(l, i - 1)->index <= upto)
            return at(l, i - 1)->index;
    return 0;
}

size_t touch_count(const struct touch_list *l)
{
    return l->n;
}
