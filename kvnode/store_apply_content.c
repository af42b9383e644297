/* Changes of attributes and content. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "kvnode/store_internal.h"

/* Rows of in and its name, around a change. The root has no name. */
static void rows_begin(struct apply *ap, struct inode *in)
{
    if (in->name != NULL)
        dentry_begin(ap->s, in->name);
    inode_begin(ap->s, in);
}

static void rows_end(struct apply *ap, struct inode *in, const struct note *note)
{
    if (in->name != NULL)
        history_note(ap, in->name, in, note);
    inode_end(ap->s, in);
    if (in->name != NULL)
        dentry_end(ap->s, in->name);
}

static int check_setattr(const struct apply *ap, const struct inode *in)
{
    const struct command_body *body = ap->body;
    const struct caller *who = &ap->who;
    bool owner = who->uid == in->uid;

    if (permission_root(who))
        return KV_OK;
    if ((body->valid & (SETATTR_MODE | SETATTR_MTIME)) != 0 && !owner)
        return KV_E_PERM;
    if ((body->valid & SETATTR_UID) != 0 && (body->uid != in->uid || !owner))
        return KV_E_PERM;
    if ((body->valid & SETATTR_GID) != 0 && (!owner || !permission_in_group(who, body->gid)))
        return KV_E_PERM;
    if ((body->valid & SETATTR_MTIME_NOW) != 0 && !owner)
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
    uint64_t mtime_ns;
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
        mtime_ns = ap->s->wall_ns;
    if (mode != in->mode || uid != in->uid || gid != in->gid || mtime_ns != in->mtime_ns) {
        rows_begin(ap, in);
        in->mode = mode;
        in->uid = uid;
        in->gid = gid;
        in->mtime_ns = mtime_ns;
        in->ctime_ns = ap->s->wall_ns;
        in->revision = ap->index;
        rows_end(ap, in, &attributes);
        emit_name(ap, EVENT_ATTR, in->name, in);
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

struct edits_sum {
    bool touched; /* content was written, changed or not */
    bool has_mtime;
    uint64_t mtime_ns;
};

/* Sizes along the edits, before anything is done. */
static int check_edits(const struct store *s, const struct inode *in, const struct command_body *body,
                       struct edits_sum *sum_out)
{
    struct cursor c = cursor_of(body->edits, body->edits_len);
    uint64_t size = in->size, largest = in->size;
    struct edit e;
    int rv;

    *sum_out = (struct edits_sum){0};
    while ((rv = edit_next(&c, &e)) == 1) {
        if (e.kind == EDIT_MTIME) {
            sum_out->has_mtime = true;
            sum_out->mtime_ns = e.number;
            continue;
        }
        sum_out->touched = true;
        if (e.number > INT64_MAX)
            return KV_E_FBIG;
        if (e.kind == EDIT_TRUNCATE)
            size = e.number;
        else if (e.kind == EDIT_APPEND)
            size += e.len;
        else if (e.len > 0 && e.number + e.len > size)
            size = e.number + e.len;
        if (size > largest)
            largest = size;
    }
    if (rv < 0)
        return KV_E_PROTOCOL;
    rv = check_size(s, in->size, size);
    if (rv == KV_OK && largest > in->size && largest > s->settings.number[SETTING_VALUE_LIMIT])
        rv = KV_E_FBIG;
    return rv;
}

static int draft_edits(struct draft *d, const struct command_body *body)
{
    struct cursor c = cursor_of(body->edits, body->edits_len);
    struct edit e;
    int rv = 0;

    while (rv == 0 && edit_next(&c, &e) == 1) {
        switch (e.kind) {
        case EDIT_TRUNCATE:
            rv = draft_truncate(d, e.number);
            break;
        case EDIT_WRITE:
            rv = draft_write(d, e.number, e.data, e.len);
            break;
        case EDIT_APPEND:
            rv = draft_write(d, d->size, e.data, e.len);
            break;
        default:
            break;
        }
    }
    return rv;
}

/* Gives in the content of the draft (consumed) if it is another than its own.
 * Returns whether it was. */
static bool take_content(struct apply *ap, struct inode *in, struct draft *d, bool replace, uint64_t mtime_ns,
                         uint64_t restored)
{
    struct note note = {.kind = NOTE_CONTENT, .restored = restored};
    struct value old = inode_value(in);
    uint64_t digest, base_revision = in->content_revision;
    struct event e = {.kind = EVENT_CONTENT};

    draft_share(d, &old);
    digest = draft_digest(d, &old, in->content_digest);
    if (digest == in->content_digest && draft_equals(d, &old)) {
        draft_discard(d);
        return false;
    }
    rows_begin(ap, in);
    if (replace && (in->flags & INODE_FRESH) != 0) {
        history_replace_creation(ap, in->name, in);
    } else {
        history_end_creation(in);
        history_next_version(in->name, in);
    }
    content_commit(ap, in, d, digest);
    in->mtime_ns = mtime_ns;
    in->ctime_ns = ap->s->wall_ns;
    in->revision = in->content_revision = ap->index;
    if (ap->cmd->uid != 0) {
        in->mode &= (uint16_t)~S_ISUID;
        if ((in->mode & S_IXGRP) != 0)
            in->mode &= (uint16_t)~S_ISGID;
    }
    rows_end(ap, in, &note);
    e.ino = in->ino;
    e.parent = in->name->dir->inode->ino;
    e.name = in->name->name;
    e.name_len = in->name->name_len;
    e.base_revision = base_revision;
    inode_attr(in, &e.attr);
    emit_event(ap, &e);
    return true;
}

/* Content as it was, time not. The first publication of an empty file ends its
 * creation all the same. */
static void take_time(struct apply *ap, struct inode *in, bool replace, uint64_t mtime_ns)
{
    bool created = replace && (in->flags & INODE_FRESH) != 0;
    struct note note = {.kind = created ? NOTE_CONTENT : NOTE_ATTRIBUTES};

    rows_begin(ap, in);
    if (created)
        history_replace_creation(ap, in->name, in);
    in->mtime_ns = mtime_ns;
    in->ctime_ns = ap->s->wall_ns;
    in->revision = ap->index;
    rows_end(ap, in, &note);
    emit_name(ap, EVENT_ATTR, in->name, in);
}

int apply_publish(struct apply *ap)
{
    const struct command_body *body = ap->body;
    struct inode *in = inode_live(ap->s, body->ino);
    struct edits_sum sum;
    struct draft draft;
    struct value base;
    uint64_t mtime_ns;
    int rv;

    if (in == NULL)
        return KV_E_STALE;
    if (in->type != INODE_FILE)
        return in->type == INODE_DIRECTORY ? KV_E_ISDIR : KV_E_INVAL;
    /* What is published through a handle was checked when that was opened, by the node
     * that takes the command. Which inode a command in parts is for stands in its first
     * part, which that node may not have seen. Owners could change the mode anyway. */
    if ((ap->cmd->flags & COMMAND_PARTS) != 0 && ap->who.uid != in->uid) {
        rv = permission_check(&ap->who, in, 2);
        if (rv != KV_OK)
            return rv;
    }
    ap->result->base_version = in->version;
    ap->result->base_revision = in->content_revision;
    if (body->version != 0 && body->version != in->version)
        return KV_E_VERSION;
    rv = check_edits(ap->s, in, body, &sum);
    if (rv != KV_OK)
        return rv;
    base = inode_value(in);
    rv = draft_begin(&draft, &base, &ap->s->next_chunk);
    if (rv < 0)
        return rv;
    rv = draft_edits(&draft, body);
    if (rv < 0) {
        draft_discard(&draft);
        return rv;
    }
    mtime_ns = sum.has_mtime ? sum.mtime_ns : sum.touched ? ap->s->wall_ns : in->mtime_ns;
    if (!take_content(ap, in, &draft, body->flags != 0, mtime_ns, 0) && mtime_ns != in->mtime_ns)
        take_time(ap, in, body->flags != 0, mtime_ns);
    inode_attr(in, &ap->result->attr);
    return KV_OK;
}

/* `set` of a key that exists. */
static int set_existing(struct apply *ap, struct inode *in)
{
    const struct command_body *body = ap->body;
    struct value base = inode_value(in);
    struct draft draft;
    int rv = check_size(ap->s, in->size, body->value_len);

    if (rv == KV_OK)
        rv = draft_begin(&draft, &base, &ap->s->next_chunk);
    if (rv != KV_OK)
        return rv;
    if (body->value_len < in->size)
        rv = draft_truncate(&draft, body->value_len);
    if (rv == 0)
        rv = draft_write(&draft, 0, body->value, body->value_len);
    if (rv < 0) {
        draft_discard(&draft);
        return rv;
    }
    take_content(ap, in, &draft, false, ap->s->wall_ns,
                 (body->flags & SET_RESTORE) != 0 ? body->from_version : 0);
    return KV_OK;
}

/* `set` of a missing key: its missing directories first. */
static int set_new(struct apply *ap, const struct walked *at, struct inode **in_out)
{
    const struct command_body *body = ap->body;
    struct note note = {.kind = NOTE_CONTENT};
    const uint8_t *p = at->rest, *end = p + at->rest_len, *slash;
    struct inode *parent = at->parent, *in;
    struct value none = {0};
    struct draft draft;
    int rv;

    while ((slash = memchr(p, '/', (size_t)(end - p))) != NULL) {
        struct dentry *d = dentry_find(ap->s, parent->c.dir, p, (size_t)(slash - p));

        rv = name_add(ap, parent, d, p, (size_t)(slash - p), INODE_DIRECTORY, 0755, &in);
        if (rv < 0)
            return rv;
        name_added(ap, in, &note);
        parent = in;
        p = slash + 1;
    }
    rv = name_add(ap, parent, dentry_find(ap->s, parent->c.dir, p, (size_t)(end - p)), p, (size_t)(end - p),
                  INODE_FILE, body->mode, &in);
    if (rv == 0)
        rv = draft_begin(&draft, &none, &ap->s->next_chunk);
    if (rv < 0)
        return rv;
    rv = draft_write(&draft, 0, body->value, body->value_len);
    if (rv < 0) {
        draft_discard(&draft);
        return rv;
    }
    content_commit(ap, in, &draft, draft_digest(&draft, &none, 0));
    note.restored = (body->flags & SET_RESTORE) != 0 ? body->from_version : 0;
    name_added(ap, in, &note);
    ap->result->created = 1;
    *in_out = in;
    return KV_OK;
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

int apply_set(struct apply *ap)
{
    const struct command_body *body = ap->body;
    struct walked at;
    struct inode *in = NULL;
    int rv = path_walk(ap->s, &ap->who, body->path, body->path_len, &at);

    if (rv == KV_E_NOENT) {
        rv = check_set_new(ap, &at);
        if (rv == KV_OK)
            rv = set_new(ap, &at, &in);
    } else if (rv == KV_OK) {
        in = at.inode;
        if (in->type == INODE_DIRECTORY)
            return KV_E_ISDIR;
        if (in->type == INODE_SYMLINK)
            return KV_E_LOOP;
        rv = permission_check(&ap->who, in, 2);
        if (rv != KV_OK)
            return rv;
        ap->result->base_version = in->version;
        ap->result->base_revision = in->content_revision;
        if ((body->flags & SET_IF_VERSION) != 0 && (body->version == 0 || body->version != in->version))
            return KV_E_VERSION;
        rv = set_existing(ap, in);
    }
    if (rv == KV_OK)
        inode_attr(in, &ap->result->attr);
    return rv;
}
