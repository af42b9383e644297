/* Times to live: who gets one with what is written, and what goes when its time is over.
 *
 * The leader looks when something is due (kvnode/group/expiry.h) and proposes which. Applying asks once more:
 * by the clock that came with the command, so what was renewed in between stays, whoever proposed it. */
#include "kvnode/state/store_internal.h"
#include "sync/wire/ttl.h"

static void put(struct apply *ap, struct inode *in, uint64_t ttl_ms)
{
    ttl_put(ap->s, in, ttl_ms, ap->s->elapsed_ms + ttl_ms);
}

void ttl_written(struct apply *ap, struct inode *in, uint64_t ttl_ms)
{
    const struct ttl *inherited = ttl_of(&ap->s->ttls, in->names->dir->inode);

    if (ttl_ms == 0 && inherited != NULL)
        ttl_ms = inherited->ttl_ms;
    if (ttl_ms > 0)
        put(ap, in, ttl_ms);
    else
        ttl_drop(ap->s, in);
}

void ttl_renew(struct apply *ap, struct inode *in)
{
    const struct ttl *t = ttl_of(&ap->s->ttls, in);

    if (t != NULL && in->type == INODE_FILE)
        put(ap, in, t->ttl_ms);
}

/* No change of attributes to stat(2), and none to history: what renews its time every second would fill it.
 */
int ttl_change(struct apply *ap, struct inode *in)
{
    const struct command_body *body = ap->body;
    bool has = ttl_of(&ap->s->ttls, in) != NULL;
    uint64_t ttl_ms = 0;

    if (ap->cmd->op == COMMAND_SETXATTR) {
        if (has && (body->flags & XATTR_ADD) != 0)
            return KV_E_EXIST;
        if (!has && (body->flags & XATTR_CHANGE) != 0)
            return KV_E_NOATTR;
        if (!ttl_parse(body->value, body->value_len, &ttl_ms))
            return KV_E_INVAL;
    } else if (!has) {
        return KV_E_NOATTR;
    }
    inode_begin(ap->s, in);
    if (ttl_ms > 0)
        put(ap, in, ttl_ms);
    else
        ttl_drop(ap->s, in);
    inode_end(ap->s, in);
    inode_attr(in, &ap->result->attr);
    return KV_OK;
}

static bool is_over(const struct store *s, const struct inode *in, uint64_t revision)
{
    const struct ttl *t = in != NULL ? ttl_of(&s->ttls, in) : NULL;

    return t != NULL && in->type == INODE_FILE && t->expires_ms <= s->elapsed_ms && in->revision == revision;
}

int apply_expire(struct apply *ap)
{
    uint64_t ino, revision;
    int rv = KV_OK;

    for (size_t i = 0; i < ap->body->n_expired && ap->result->removed < EXPIRE_NAMES_MAX; i++) {
        struct inode *in;

        command_expired(ap->body, i, &ino, &revision);
        in = inode_live(ap->s, ino);
        if (!is_over(ap->s, in, revision))
            continue;
        for (uint32_t n = in->n_names; n > 0 && rv == KV_OK; n--) {
            rv = name_remove(ap, in->names);
            ap->result->removed++;
        }
        if (rv != KV_OK)
            return rv;
    }
    return KV_OK;
}
