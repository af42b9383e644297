/* Extended attributes. Their changes are changes of attributes: ctime, a row of history, no version of their
 * own. */
#include <errno.h>
#include <sys/stat.h>

#include "kvnode/state/journal_note.h"
#include "kvnode/state/store_internal.h"
#include "sync/wire/ttl.h"

/* As Linux asks for user.*: what has content or names only, and whoever may write there, which says
 * little of a directory with the sticky bit. */
static int check(const struct apply *ap, const struct inode *in)
{
    const struct caller *who = &ap->who;
    int rv = KV_OK;

    if (!permission_root(who) && (ap->cmd->flags & COMMAND_OPENED) == 0)
        rv = permission_reach(who, in, NULL);
    if (rv != KV_OK)
        return rv;
    if (in->type != INODE_FILE && in->type != INODE_DIRECTORY)
        return KV_E_PERM;
    if (in->type == INODE_DIRECTORY && (in->mode & S_ISVTX) != 0 && !permission_root(who) &&
        who->uid != in->uid)
        return KV_E_PERM;
    return permission_check(who, in, 2);
}

static void take(struct apply *ap, struct inode *in, struct xattrs *x)
{
    static const struct note attributes = {.kind = NOTE_ATTRIBUTES};
    struct store *s = ap->s;
    struct xattrs *old = in->xattrs;

    rows_begin(ap, in);
    in->xattrs = x;
    in->ctime_ns = now_ns(s);
    in->revision = ap->index;
    s->bytes += xattrs_len(x);
    s->bytes -= xattrs_len(old);
    rows_end(ap, in, &attributes);
    if (old != NULL)
        journal_chunk_gone(s->journal, old->chunk);
    xattrs_free(old);
    emit_name(ap, EVENT_ATTR, in->names, in);
}

/* value: NULL to remove it. */
static int change(struct apply *ap, struct inode *in, const struct bytes *value)
{
    const struct bytes name = bytes_of(ap->body->name, ap->body->name_len);
    struct store *s = ap->s;
    struct xattrs *x;
    uint64_t max = s->settings.number[SETTING_MAX_BYTES];
    uint32_t before = xattrs_len(in->xattrs), after;
    int rv = xattrs_with(in->xattrs, &name, value, s->next_chunk, &x);

    if (rv < 0 || rv == KV_E_NOSPC)
        return rv;
    after = xattrs_len(x);
    if (rv == 0 && after > before && s->bytes + (after - before) > max) {
        xattrs_free(x);
        return KV_E_NOSPC;
    }
    if (rv == 0) {
        s->next_chunk++;
        take(ap, in, x);
    }
    inode_attr(in, &ap->result->attr);
    return KV_OK;
}

int apply_setxattr(struct apply *ap)
{
    const struct command_body *body = ap->body;
    const struct bytes name = bytes_of(body->name, body->name_len),
                       value = bytes_of(body->value, body->value_len);
    struct inode *in = inode_live(ap->s, body->ino);
    struct bytes before;
    bool has;
    int rv;

    if (in == NULL)
        return KV_E_STALE;
    rv = check(ap, in);
    if (rv != KV_OK)
        return rv;
    if (xattr_is_ttl(body->name, body->name_len))
        return ttl_change(ap, in);
    has = xattrs_get(in->xattrs, &name, &before);
    if (has && (body->flags & XATTR_ADD) != 0)
        return KV_E_EXIST;
    if (!has && (body->flags & XATTR_CHANGE) != 0)
        return KV_E_NOATTR;
    return change(ap, in, &value);
}

int apply_removexattr(struct apply *ap)
{
    const struct bytes name = bytes_of(ap->body->name, ap->body->name_len);
    struct inode *in = inode_live(ap->s, ap->body->ino);
    struct bytes before;
    int rv;

    if (in == NULL)
        return KV_E_STALE;
    rv = check(ap, in);
    if (rv != KV_OK)
        return rv;
    if (xattr_is_ttl(name.data, name.len))
        return ttl_change(ap, in);
    if (!xattrs_get(in->xattrs, &name, &before))
        return KV_E_NOATTR;
    return change(ap, in, NULL);
}
