/* Changes of attributes and content. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "kvnode/state/store_internal.h"

/* A publication that comes later than this after the change bears its own time. */
#define STAMP_AGE_MAX_NS (60 * INT64_C(1000000000))

/* The root has no name. */
void rows_begin(struct apply *ap, struct inode *in)
{
    const struct dentry *d;

    DENTRY_EACH (d, in)
        dentry_begin(ap->s, d);
    inode_begin(ap->s, in);
}

void rows_end(struct apply *ap, struct inode *in, const struct note *note)
{
    struct note each = *note;
    struct dentry *d;

    DENTRY_EACH (d, in)
        each.again |= history_note(ap, d, in, &each);
    inode_end(ap->s, in);
    DENTRY_EACH (d, in)
        dentry_end(ap->s, d);
}

static int check_setattr(const struct apply *ap, const struct inode *in)
{
    const struct command_body *body = ap->body;
    const struct caller *who = &ap->who;
    bool owner = who->uid == in->uid;

    if (permission_root(who))
        return KV_OK;
    if ((ap->cmd->flags & COMMAND_OPENED) == 0) {
        int rv = permission_reach(who, in, NULL);

        if (rv != KV_OK)
            return rv;
    }
    if ((body->valid & (SETATTR_MODE | SETATTR_MTIME | SETATTR_ATIME)) != 0 && !owner)
        return KV_E_PERM;
    if ((body->valid & SETATTR_UID) != 0 && (body->uid != in->uid || !owner))
        return KV_E_PERM;
    if ((body->valid & SETATTR_GID) != 0 && (!owner || !permission_in_group(who, body->gid)))
        return KV_E_PERM;
    if ((body->valid & (SETATTR_MTIME_NOW | SETATTR_ATIME_NOW)) != 0 && !owner)
        return permission_check(who, in, 2);
    return KV_OK;
}

int apply_setattr(struct apply *ap)
{
    static const struct note attributes = {.kind = NOTE_ATTRIBUTES};
    const struct command_body *body = ap->body;
    struct inode *in = inode_live(ap->s, body->ino);
    uint16_t mode;
    uint32_t uid, gid;
    int64_t mtime_ns, atime_ns;
    int rv;

    if (in == NULL)
        return KV_E_STALE;
    rv = check_setattr(ap, in);
    if (rv != KV_OK)
        return rv;
    mode = in->mode;
    uid = (body->valid & SETATTR_UID) != 0 ? body->uid : in->uid;
    gid = (body->valid & SETATTR_GID) != 0 ? body->gid : in->gid;
    mtime_ns = in->mtime_ns;
    atime_ns = in->atime_ns;
    if ((uid != in->uid || gid != in->gid) && !permission_root(&ap->who) && in->type == INODE_FILE)
        mode &= (uint16_t) ~(S_ISUID | S_ISGID);
    if ((body->valid & SETATTR_MODE) != 0) {
        mode = body->mode & 07777;
        if (!permission_root(&ap->who) && !permission_in_group(&ap->who, gid))
            mode &= (uint16_t)~S_ISGID;
    }
    if ((body->valid & SETATTR_MTIME) != 0)
        mtime_ns = body->mtime_ns;
    else if ((body->valid & SETATTR_MTIME_NOW) != 0)
        mtime_ns = now_ns(ap->s);
    if ((body->valid & SETATTR_ATIME) != 0)
        atime_ns = body->atime_ns;
    else if ((body->valid & SETATTR_ATIME_NOW) != 0)
        atime_ns = now_ns(ap->s);
    if (mode != in->mode || uid != in->uid || gid != in->gid || mtime_ns != in->mtime_ns ||
        atime_ns != in->atime_ns) {
        rows_begin(ap, in);
        in->mode = mode;
        in->uid = uid;
        in->gid = gid;
        in->mtime_ns = mtime_ns;
        in->atime_ns = atime_ns;
        in->ctime_ns = now_ns(ap->s);
        in->revision = ap->index;
        if ((body->valid & (SETATTR_MTIME_NOW | SETATTR_MTIME)) == SETATTR_MTIME_NOW)
            ttl_renew(ap, in);
        rows_end(ap, in, &attributes);
        emit_name(ap, EVENT_ATTR, in->names, in);
    }
    inode_attr(in, &ap->result->attr);
    return KV_OK;
}

/* Would a value that goes from old_size to size break a limit? Shrinking never does. */
static int check_size(const struct store *s, uint64_t old_size, uint64_t size)
{
    if (size <= old_size)
        return KV_OK;
    if (size > s->settings.number[SETTING_VALUE_LIMIT])
        return KV_E_FBIG;
    return s->bytes + (size - old_size) > s->settings.number[SETTING_MAX_BYTES] ? KV_E_NOSPC : KV_OK;
}

static struct rewrite_limits limits(const struct store *s)
{
    uint64_t max = s->settings.number[SETTING_MAX_BYTES];

    return (struct rewrite_limits){.value = s->settings.number[SETTING_VALUE_LIMIT],
                                   .room = s->bytes < max ? max - s->bytes : 0};
}

/* What the body makes of base: as it was prepared, or now. The caller deinits
 * *r_out. 0, a refusal or -ENOMEM. */
static int rewritten(struct apply *ap, const struct value *base, uint64_t base_digest, struct rewrite *r,
                     struct rewrite **r_out)
{
    struct store *s = ap->s;
    int rv;

    *r_out = store_prepared(ap, base);
    if (*r_out == NULL) {
        *r_out = r;
        rewrite_begin(r, s, ap->cmd->op, ap->body, base, base_digest);
        rv = rewrite_work(r, SIZE_MAX);
        if (rv < 0) {
            rewrite_deinit(r);
            return rv;
        }
    }
    rv = (*r_out)->code;
    if (rv != KV_OK)
        rewrite_deinit(*r_out);
    return rv;
}

void rewrite_begin(struct rewrite *r, struct store *s, uint8_t op, const struct command_body *body,
                   const struct value *base, uint64_t base_digest)
{
    struct rewrite_limits l = limits(s);

    if (op == COMMAND_SYMLINK) /* checked as a name is */
        l = (struct rewrite_limits){UINT64_MAX, UINT64_MAX};
    if (op == COMMAND_PUBLISH)
        rewrite_begin_edits(r, base, base_digest, body->edits, body->edits_len, &l, &s->next_chunk);
    else
        rewrite_begin_value(r, base, base_digest, op == COMMAND_SET ? body->value : body->target,
                            op == COMMAND_SET ? body->value_len : body->target_len, &l, &s->next_chunk);
}

struct times {
    int64_t mtime_ns, ctime_ns, atime_ns;
};

/* When what is published was changed: as the mount says, if that can be. It is not
 * later than now, not long ago (who looks for what changed since he looked last
 * would pass it over), and later than the change by others that it lands on. */
static int64_t publication_time(const struct store *s, const struct inode *in, const struct edits_sum *sum)
{
    int64_t now = now_ns(s), stamp = sum->has_stamp ? sum->stamp_ns : now;

    if (stamp > now)
        stamp = now;
    if (stamp < now - STAMP_AGE_MAX_NS)
        stamp = now - STAMP_AGE_MAX_NS;
    if (stamp <= in->mtime_ns && in->mtime_ns <= now && (in->flags & INODE_FRESH) == 0)
        stamp = in->mtime_ns + 1 < now ? in->mtime_ns + 1 : now;
    return stamp;
}

/* The times that a publication leaves. Explicit ones are the owner's to set (as in
 * utimensat(2)); from others they mean the time of the change. */
static struct times publication_times(const struct apply *ap, const struct inode *in,
                                      const struct edits_sum *sum)
{
    bool owner = permission_root(&ap->who) || ap->who.uid == in->uid;
    int64_t stamp = publication_time(ap->s, in, sum);
    struct times t = {in->mtime_ns, stamp, in->atime_ns};

    if (sum->touched || sum->has_mtime)
        t.mtime_ns = sum->has_mtime && owner ? sum->mtime_ns : stamp;
    if (sum->has_atime)
        t.atime_ns = owner ? sum->atime_ns : stamp;
    if (t.ctime_ns < in->ctime_ns && in->ctime_ns <= now_ns(ap->s))
        t.ctime_ns = in->ctime_ns;
    return t;
}

static void set_times(struct inode *in, const struct times *t)
{
    in->mtime_ns = t->mtime_ns;
    in->ctime_ns = t->ctime_ns;
    in->atime_ns = t->atime_ns;
}

/* A time to live belongs to the content; what was made only now has its own already. */
static void written(struct apply *ap, struct inode *in, bool fresh)
{
    if (fresh && ap->body->ttl_ms == 0 && ttl_of(&ap->s->ttls, in) != NULL)
        ttl_renew(ap, in);
    else
        ttl_written(ap, in, ap->body->ttl_ms);
}

/* The same content was written again. */
static void written_again(struct apply *ap, struct inode *in)
{
    if (ttl_of(&ap->s->ttls, in) == NULL && ap->body->ttl_ms == 0 &&
        ttl_of(&ap->s->ttls, in->names->dir->inode) == NULL)
        return;
    inode_begin(ap->s, in);
    written(ap, in, (in->flags & INODE_FRESH) != 0);
    inode_end(ap->s, in);
}

/* Gives in the new content if it is another than its own. Returns whether it was. */
static bool take_content(struct apply *ap, struct inode *in, struct rewrite *r, bool replace,
                         const struct times *times, uint64_t restored)
{
    struct note note = {.kind = NOTE_CONTENT, .restored = restored};
    uint64_t base_revision = in->content_revision;
    struct event e = {.kind = EVENT_CONTENT};
    bool fresh = (in->flags & INODE_FRESH) != 0;
    struct dentry *d;

    if (r->same)
        return false;
    rows_begin(ap, in);
    if (replace && (in->flags & INODE_FRESH) != 0) {
        history_replace_creation(ap, in->names, in);
    } else {
        history_end_creation(in);
        DENTRY_EACH (d, in)
            history_next_version(d, in);
    }
    content_commit(ap, in, &r->draft, r->digest);
    set_times(in, times);
    in->revision = in->content_revision = ap->index;
    written(ap, in, fresh);
    if (ap->cmd->uid != 0) {
        in->mode &= (uint16_t)~S_ISUID;
        if ((in->mode & S_IXGRP) != 0)
            in->mode &= (uint16_t)~S_ISGID;
    }
    rows_end(ap, in, &note);
    e.ino = in->ino;
    e.parent = in->names->dir->inode->ino;
    e.name = in->names->name;
    e.name_len = in->names->name_len;
    e.base_revision = base_revision;
    inode_attr(in, &e.attr);
    emit_event(ap, &e);
    return true;
}

/* Content as it was, time not. The first publication of an empty file ends its
 * creation all the same. */
static void take_times(struct apply *ap, struct inode *in, bool replace, const struct times *times)
{
    bool created = replace && (in->flags & INODE_FRESH) != 0;
    struct note note = {.kind = created ? NOTE_CONTENT : NOTE_ATTRIBUTES};

    rows_begin(ap, in);
    if (created)
        history_replace_creation(ap, in->names, in);
    set_times(in, times);
    in->revision = ap->index;
    rows_end(ap, in, &note);
    emit_name(ap, EVENT_ATTR, in->names, in);
}

static bool is_expected(const struct command_body *body, const struct inode *in)
{
    if ((body->flags & PUBLISH_IF_REVISION) != 0)
        return body->version == in->content_revision;
    return body->version == 0 || body->version == in->version;
}

/* What is published through a handle was checked when that was opened, by the node that
 * takes the command: in one piece its inode is seen there, in parts it is named with the
 * last piece, and has to be the one that the first part is for. A command in parts
 * without the name is checked now. Owners could change the mode anyway. */
static int check_publish(const struct apply *ap, const struct inode *in)
{
    struct cursor piece;
    uint32_t n_parts;
    uint64_t opened;
    int rv;

    if ((ap->cmd->flags & COMMAND_PARTS) == 0)
        return KV_OK;
    if ((ap->cmd->flags & COMMAND_OPENED) != 0)
        return command_last_piece(ap->cmd, &n_parts, &opened, &piece) && opened == in->ino ? KV_OK
                                                                                           : KV_E_ACCES;
    rv = permission_reach(&ap->who, in, NULL);
    return rv == KV_OK && ap->who.uid != in->uid ? permission_check(&ap->who, in, 2) : rv;
}

int apply_publish(struct apply *ap)
{
    const struct command_body *body = ap->body;
    struct inode *in = inode_live(ap->s, body->ino);
    struct rewrite own, *r;
    struct value base;
    bool replace = (body->flags & PUBLISH_REPLACE_CREATION) != 0;
    struct times times;
    int rv;

    if (in == NULL)
        return KV_E_STALE;
    if (in->type != INODE_FILE)
        return in->type == INODE_DIRECTORY ? KV_E_ISDIR : KV_E_INVAL;
    rv = check_publish(ap, in);
    if (rv != KV_OK)
        return rv;
    ap->result->base_version = in->version;
    ap->result->base_revision = in->content_revision;
    if (!is_expected(body, in))
        return KV_E_VERSION;
    base = inode_value(in);
    rv = rewritten(ap, &base, in->content_digest, &own, &r);
    if (rv != KV_OK)
        return rv;
    times = publication_times(ap, in, &r->sum);
    if (!take_content(ap, in, r, replace, &times, 0)) {
        if (r->sum.touched)
            written_again(ap, in);
        if (times.mtime_ns != in->mtime_ns || times.atime_ns != in->atime_ns)
            take_times(ap, in, replace, &times);
    }
    rewrite_deinit(r);
    inode_attr(in, &ap->result->attr);
    return KV_OK;
}

/* `set` of a key that exists. */
static int set_existing(struct apply *ap, struct inode *in)
{
    const struct command_body *body = ap->body;
    const struct times now = {now_ns(ap->s), now_ns(ap->s), in->atime_ns};
    struct value base = inode_value(in);
    struct rewrite own, *r;
    int rv = rewritten(ap, &base, in->content_digest, &own, &r);

    if (rv != KV_OK)
        return rv;
    if (!take_content(ap, in, r, false, &now, (body->flags & SET_RESTORE) != 0 ? body->from_version : 0))
        written_again(ap, in);
    rewrite_deinit(r);
    return KV_OK;
}

/* `set` of a missing key: its missing directories first. */
static int set_new(struct apply *ap, const struct walked *at, struct dentry **entry_out)
{
    const struct command_body *body = ap->body;
    struct note note = {.kind = NOTE_CONTENT};
    const uint8_t *p = at->rest, *end = p + at->rest_len, *slash;
    struct inode *parent = at->parent, *in;
    struct value none = {0};
    struct rewrite own, *r;
    int rv = rewritten(ap, &none, 0, &own, &r);

    if (rv != KV_OK)
        return rv;
    while ((slash = memchr(p, '/', (size_t)(end - p))) != NULL) {
        struct dentry *d = dentry_find(ap->s, parent->c.dir, p, (size_t)(slash - p));

        rv = name_add(ap, parent, d, p, (size_t)(slash - p), INODE_DIRECTORY, 0755, &in);
        if (rv < 0)
            goto out;
        name_added(ap, in->names, &note);
        parent = in;
        p = slash + 1;
    }
    rv = name_add(ap, parent, dentry_find(ap->s, parent->c.dir, p, (size_t)(end - p)), p, (size_t)(end - p),
                  INODE_FILE, body->mode, &in);
    if (rv < 0)
        goto out;
    content_commit(ap, in, &r->draft, r->digest);
    ttl_written(ap, in, body->ttl_ms);
    note.restored = (body->flags & SET_RESTORE) != 0 ? body->from_version : 0;
    name_added(ap, in->names, &note);
    ap->result->created = 1;
    *entry_out = in->names;
out:
    rewrite_deinit(r);
    return rv;
}

static int check_set_new(const struct apply *ap, const struct walked *at)
{
    const struct store *s = ap->s;
    uint64_t names = 1;
    int rv;

    for (size_t i = 0; i < at->rest_len; i++)
        names += at->rest[i] == '/';
    if ((ap->body->flags & SET_MUST_EXIST) != 0 || (names > 1 && (ap->body->flags & SET_PARENTS) == 0))
        return KV_E_NOENT;
    if ((ap->body->flags & SET_IF_VERSION) != 0 && ap->body->version != 0)
        return KV_E_VERSION;
    rv = permission_check(&ap->who, at->parent, 3);
    if (rv != KV_OK)
        return rv;
    if (s->keys + names > s->settings.number[SETTING_MAX_KEYS])
        return KV_E_NOSPC;
    return check_size(s, 0, ap->body->value_len);
}

static int check_fence(struct apply *ap, const struct inode *in)
{
    const struct fence_row *f = in != NULL ? fence_find(ap->s, in->ino) : NULL;

    if ((ap->body->flags & SET_FENCE) == 0 || (in != NULL && fence_permits(ap->s, in->ino, ap->body->fence)))
        return KV_OK;
    ap->result->base_revision = f != NULL ? f->revision : 0;
    return KV_E_FENCE;
}

int apply_set(struct apply *ap)
{
    const struct command_body *body = ap->body;
    struct walked at;
    struct inode *in;
    int rv = path_walk(ap->s, &ap->who, body->path, body->path_len, &at);

    if (rv == KV_E_NOENT) {
        rv = check_set_new(ap, &at);
        if (rv == KV_OK)
            rv = check_fence(ap, NULL);
        if (rv == KV_OK)
            rv = set_new(ap, &at, &at.entry);
    } else if (rv == KV_OK) {
        in = at.inode;
        if (in->type == INODE_DIRECTORY)
            return KV_E_ISDIR;
        if (in->type != INODE_FILE)
            return in->type == INODE_SYMLINK ? KV_E_LOOP : KV_E_INVAL;
        rv = permission_check(&ap->who, in, 2);
        if (rv != KV_OK)
            return rv;
        ap->result->base_version = dentry_version(at.entry);
        ap->result->base_revision = in->content_revision;
        if ((body->flags & SET_IF_VERSION) != 0 &&
            (body->version == 0 || body->version != dentry_version(at.entry)))
            return KV_E_VERSION;
        rv = check_fence(ap, in);
        if (rv != KV_OK)
            return rv;
        rv = set_existing(ap, in);
    }
    if (rv == KV_OK)
        dentry_attr(at.entry, &ap->result->attr);
    return rv;
}
