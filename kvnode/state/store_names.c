/* What several operations do to names: taking one, giving one up, telling so. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kvnode/state/journal_note.h"
#include "kvnode/state/store_internal.h"

bool name_is_temporary(const struct store *s, const struct inode *parent, const void *name, size_t len)
{
    const struct inode *in;
    struct name_pattern p;
    size_t at = 0;

    while (settings_next_pattern(&s->settings, &at, &p)) {
        if (!glob_match(p.glob, p.glob_len, name, len))
            continue;
        if (p.below == NULL)
            return true;
        in = parent;
        for (unsigned depth = 0; in->names != NULL && depth < STORE_DEPTH_MAX; depth++) {
            if (in->names->name_len == p.below_len && memcmp(in->names->name, p.below, p.below_len) == 0)
                return true;
            in = in->names->dir->inode;
        }
    }
    return false;
}

void parent_changed(struct apply *ap, struct inode *parent)
{
    inode_begin(ap->s, parent);
    parent->mtime_ns = parent->ctime_ns = now_ns(ap->s);
    parent->revision = ap->index;
    inode_end(ap->s, parent);
}

int name_open(struct apply *ap, struct inode *parent, struct dentry *d, const void *name, size_t len,
              uint8_t type, struct dentry **d_out, struct directory **past_out)
{
    struct store *s = ap->s;
    struct directory *past = NULL;

    if (d == NULL) {
        d = dentry_new(s, parent->c.dir, name, len);
        if (d == NULL)
            return -ENOMEM;
    } else {
        dentry_begin(s, d);
        dentry_exhume(s, d);
        if ((d->flags & ENTRY_ASIDE) != 0) {
            history_settle_aside(ap, d);
        } else if ((d->flags & ENTRY_PAST) != 0) {
            past = d->u.past;
            past->tomb = NULL;
            d->flags &= (uint8_t)~ENTRY_PAST;
        }
    }
    d->u.inode = NULL;
    d->number = s->next_number++;
    d->flags &= (uint8_t)~ENTRY_NO_HISTORY;
    if (type != INODE_DIRECTORY && name_is_temporary(s, parent, name, len))
        d->flags |= ENTRY_NO_HISTORY;
    *d_out = d;
    if (past != NULL && past_out == NULL)
        directory_release(s, past);
    else if (past_out != NULL)
        *past_out = past;
    return 0;
}

int name_close(struct apply *ap, struct dentry *d, struct directory *past, const struct aside *aside)
{
    struct store *s = ap->s;

    if ((d->flags & ENTRY_HAS_ROWS) == 0) {
        struct directory *dir = d->dir;

        dentry_forget(s, d);
        directory_release(s, dir);
        return 0;
    }
    d->flags &= (uint8_t)~ENTRY_NO_HISTORY;
    d->number = s->next_number++;
    dentry_bury(s, d);
    if (past != NULL) {
        d->flags |= ENTRY_PAST;
        d->u.past = past;
        past->tomb = d;
    } else if (aside != NULL) {
        d->u.aside = malloc(sizeof *aside);
        if (d->u.aside == NULL)
            return -ENOMEM;
        *d->u.aside = *aside;
        d->flags |= ENTRY_ASIDE;
    }
    dentry_end(s, d);
    return 0;
}

/* A directory that is made again goes on with the history of the one that was removed
 * there, and opens it to whom it lets in. Its owner may do as he likes; of anybody else's
 * making it must let in nobody whom the old one kept out. If it does, it has a history of
 * its own, and no name leads to the old one any more. */
static bool inherits(const struct apply *ap, const struct access *last, const struct inode *in)
{
    const struct access new = {in->uid, in->gid, in->mode & 0055};
    struct access both = new;

    if (in->uid == last->uid)
        return true;
    if (in->uid != 0 && store_permits(&(struct caller){.uid = in->uid,
                                                       .gid = ap->who.gid,
                                                       .n_groups = ap->who.n_groups,
                                                       .groups = ap->who.groups},
                                      last->uid, last->gid, last->mode, 1) != KV_OK)
        return false;
    access_meet(&both, last);
    return (both.mode & 0055) == new.mode;
}

int name_add(struct apply *ap, struct inode *parent, struct dentry *d, const void *name, size_t len,
             uint8_t type, uint16_t mode, struct inode **in_out)
{
    struct store *s = ap->s;
    struct directory *dir = NULL;
    struct inode *in;
    int rv = name_open(ap, parent, d, name, len, type, &d, type == INODE_DIRECTORY ? &dir : NULL);

    if (rv < 0)
        return rv;
    in = inode_new(s, store_new_ino(s), type);
    if (in == NULL)
        return -ENOMEM;
    in->mode = mode & 07777;
    in->uid = ap->cmd->uid;
    in->gid = ap->cmd->gid;
    if ((parent->mode & S_ISGID) != 0) {
        in->gid = parent->gid;
        if (type == INODE_DIRECTORY)
            in->mode |= S_ISGID;
    }
    if (dir != NULL && !inherits(ap, &dir->last, in)) {
        directory_release(s, dir);
        dir = NULL;
    }
    if (type == INODE_DIRECTORY) {
        in->c.dir = dir != NULL ? dir : directory_new(s, in->ino);
        if (in->c.dir == NULL)
            return -ENOMEM;
        in->c.dir->inode = in;
    }
    in->mtime_ns = in->ctime_ns = in->atime_ns = in->btime_ns = now_ns(s);
    in->revision = in->content_revision = ap->index;
    dentry_attach(s, d, in);
    history_next_version(d, in);
    *in_out = in;
    return 0;
}

void name_added(struct apply *ap, struct dentry *d, const struct note *note)
{
    struct inode *in = d->u.inode;

    history_note(ap, d, in, note);
    inode_end(ap->s, in);
    dentry_end(ap->s, d);
    parent_changed(ap, d->dir->inode);
    emit_name(ap, EVENT_CREATE, d, in);
}

static void emit_removal(struct apply *ap, const struct dentry *d, const struct inode *in, bool last)
{
    struct event e = {.kind = EVENT_REMOVE,
                      .ino = in->ino,
                      .parent = d->dir->inode->ino,
                      .name = d->name,
                      .name_len = d->name_len};

    inode_attr(in, &e.attr);
    if (last)
        e.attr.nlink = 0;
    emit_event(ap, &e);
}

void name_take(struct apply *ap, struct dentry *d)
{
    struct store *s = ap->s;
    struct inode *in = d->u.inode;

    if (in->n_names == 1) {
        emit_removal(ap, d, in, true);
        dentry_detach(s, d);
        inode_remove(s, in);
        return;
    }
    inode_begin(s, in);
    dentry_detach(s, d);
    in->ctime_ns = now_ns(s);
    in->revision = ap->index;
    inode_end(s, in);
    emit_removal(ap, d, in, false);
}

int name_remove(struct apply *ap, struct dentry *d)
{
    struct inode *in = d->u.inode, *parent = d->dir->inode;
    struct directory *past = in->type == INODE_DIRECTORY ? in->c.dir : NULL;
    static const struct note tombstone = {.kind = NOTE_TOMBSTONE};

    if (past != NULL)
        past->last = (struct access){in->uid, in->gid, in->mode};
    dentry_begin(ap->s, d);
    history_note(ap, d, in, &tombstone);
    name_take(ap, d);
    if (past != NULL)
        past->inode = NULL;
    parent_changed(ap, parent);
    return name_close(ap, d, past, NULL);
}

void emit_name(struct apply *ap, uint8_t kind, const struct dentry *d, const struct inode *in)
{
    struct event e = {.kind = kind, .ino = in->ino};

    if (d != NULL) {
        e.parent = d->dir->inode->ino;
        e.name = d->name;
        e.name_len = d->name_len;
    }
    if (d != NULL)
        dentry_attr(d, &e.attr);
    else
        inode_attr(in, &e.attr);
    emit_event(ap, &e);
}

static void emit_held(struct store *s, bool last)
{
    if (!s->has_held)
        return;
    s->has_held = false;
    s->held.last = last;
    if (s->events.on_event != NULL)
        s->events.on_event(s->events.arg, &s->held);
}

void emit_event(struct apply *ap, const struct event *e)
{
    struct store *s = ap->s;

    emit_held(s, false);
    s->held = *e;
    s->held.revision = ap->index;
    s->held.wall_ns = s->wall_ns;
    s->held.session = ap->cmd->session;
    s->held.seq = ap->cmd->seq;
    s->held.op = ap->cmd->op;
    if (e->name_len > 0)
        memcpy(s->held_name, e->name, e->name_len);
    if (e->new_name_len > 0)
        memcpy(s->held_new_name, e->new_name, e->new_name_len);
    s->held.name = s->held_name;
    s->held.new_name = s->held_new_name;
    s->has_held = true;
}

void emit_last(struct apply *ap)
{
    static const struct event nothing = {.kind = EVENT_NOTHING};

    if (!ap->s->has_held)
        emit_event(ap, &nothing);
    emit_held(ap->s, true);
}

void content_commit(struct apply *ap, struct inode *in, struct draft *draft, uint64_t digest)
{
    struct store *s = ap->s;
    struct value v = inode_value(in), old;

    draft_commit(draft, &v, &old);
    s->bytes += v.size - old.size;
    inode_set_value(in, &v);
    in->content_digest = digest;
    journal_chunks_gone(s->journal, &old, &v);
    value_deinit(&old);
}
