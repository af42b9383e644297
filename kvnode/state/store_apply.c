/* Applying a command: the clocks, the session, the body, the operation, the
 * result. What refuses a command before it was executed (unknown session, a
 * number acknowledged before, missing parts, too much for one command) leaves no
 * result, so that the client can try again under the same number. */
#include <errno.h>
#include <string.h>

#include "kvnode/state/journal_note.h"
#include "kvnode/state/store_internal.h"
#include "sync/wire/feature.h"
#include "sync/wire/txn.h"

/* What a signed time in nanoseconds can hold, less the steps of a very long life. */
#define WALL_MAX ((uint64_t)INT64_MAX / 2)

/* The level rises only, and only if all members know it: that is what the leader knows when it
 * stamps, and else it stamps no time. A node that does not know it goes no further. */
static int check_level(const struct apply *ap)
{
    uint64_t level;

    if (!setting_number(SETTING_FEATURE_LEVEL, ap->body->value, ap->body->value_len, &level))
        return KV_E_INVAL;
    if (ap->cmd->op != COMMAND_SETTING || ap->cmd->wall_ns == 0 ||
        level < ap->s->settings.number[SETTING_FEATURE_LEVEL])
        return KV_E_REFUSED;
    return level <= FEATURE_LEVEL ? KV_OK : -EOPNOTSUPP;
}

static int apply_setting(struct apply *ap)
{
    struct store *s = ap->s;
    enum setting i = setting_find(ap->body->name, ap->body->name_len);
    bool was_set, is_set;
    uint64_t digest = 0;
    int rv;

    if (!permission_root(&ap->who))
        return KV_E_PERM;
    if (i == SETTING_COUNT || setting_level(i) > store_level(s))
        return KV_E_INVAL;
    if (i == SETTING_FEATURE_LEVEL) {
        rv = check_level(ap);
        if (rv != KV_OK)
            return rv;
    }
    was_set = s->settings.text[i] != NULL;
    if (was_set)
        digest = setting_row_digest(setting_name(i), s->settings.text[i]);
    rv = settings_set(&s->settings, i, ap->body->value, ap->body->value_len);
    if (rv != KV_OK)
        return rv;
    is_set = s->settings.text[i] != NULL;
    s->digest -= digest;
    if (is_set)
        s->digest += setting_row_digest(setting_name(i), s->settings.text[i]);
    if (was_set || is_set)
        journal_setting(s->journal, setting_name(i), s->settings.text[i]);
    emit_event(ap, &(struct event){.kind = EVENT_NOTHING,
                                   .attr = {.size = s->settings.number[SETTING_VALUE_LIMIT]}});
    return KV_OK;
}

/* A stored time that is ahead of all clocks would be for as long as it takes them to
 * get there. Whether a majority's clocks agree is what the leader knows when it stamps: it stamps this
 * command with their time, or with 0 (clock_watch_set_back_ns()). The rest is decided here, on
 * every node alike. */
static int apply_clock(struct apply *ap)
{
    uint64_t stamp = ap->cmd->wall_ns, asked = ap->body->wall_ns;

    if (!permission_root(&ap->who))
        return KV_E_PERM;
    if (stamp == 0 || stamp + CLOCK_BACK_MIN_NS >= ap->s->wall_ns ||
        (asked > stamp ? asked - stamp : stamp - asked) > CLOCK_BACK_SLACK_NS)
        return KV_E_REFUSED;
    ap->s->wall_ns = stamp;
    return KV_OK;
}

static int (*const operations[COMMAND_OP_COUNT])(struct apply *ap) = {
    [COMMAND_CREATE] = apply_create,
    [COMMAND_MKDIR] = apply_mkdir,
    [COMMAND_SYMLINK] = apply_symlink,
    [COMMAND_UNLINK] = apply_unlink,
    [COMMAND_RMDIR] = apply_rmdir,
    [COMMAND_RENAME] = apply_rename,
    [COMMAND_SETATTR] = apply_setattr,
    [COMMAND_PUBLISH] = apply_publish,
    [COMMAND_SET] = apply_set,
    [COMMAND_DEL] = apply_del,
    [COMMAND_SETTING] = apply_setting,
    [COMMAND_CLOCK] = apply_clock,
    [COMMAND_PRUNE] = apply_prune,
    [COMMAND_MKNOD] = apply_mknod,
    [COMMAND_LOCK] = apply_lock,
    [COMMAND_UNLOCK] = apply_unlock,
    [COMMAND_UNWAIT] = apply_unwait,
    [COMMAND_LOCK_TAKE] = apply_lock,
    [COMMAND_LOCK_PUT] = apply_lock_put,
    [COMMAND_SETXATTR] = apply_setxattr,
    [COMMAND_REMOVEXATTR] = apply_removexattr,
    [COMMAND_LINK] = apply_link,
    [COMMAND_EXPIRE] = apply_expire,
    [COMMAND_TXN] = apply_txn,
#ifdef KVFS_NEXT_LEVEL
    [COMMAND_NEXT] = apply_setting,
#endif
};

/* What a body says that has a flag in the header is as before there was such a flag without it, and with it
 * of the level that the flag asks for. rv: what decoding the body gave. */
static int check_flags(const struct command *cmd, const struct command_body *body, int rv)
{
    int plain;

    if (cmd->op == COMMAND_TXN && (cmd->flags & COMMAND_FENCE) == 0) {
        plain = txn_check_plain(body->items, body->items_len);
        return plain != KV_OK ? plain : rv;
    }
    if ((cmd->op == COMMAND_SET && ((body->flags & SET_TTL) != 0) != ((cmd->flags & COMMAND_TTL) != 0)) ||
        ((command_body_flags(cmd->op, body) ^ cmd->flags) & COMMAND_FENCE) != 0)
        return KV_E_PROTOCOL;
    return rv;
}

/* Joins the parts, decodes the body, runs the operation. */
static int execute(struct apply *ap, struct session *ss)
{
    const struct command *cmd = ap->cmd;
    const void *bytes = cmd->body;
    size_t len = cmd->body_len;
    struct command_body body;
    int rv;

    if ((cmd->flags & COMMAND_PARTS) != 0) {
        rv = session_join(ss, cmd, &bytes, &len);
        if (rv != 0)
            return rv;
    }
    rv = command_body_decode(cmd->op, bytes, len, &body);
    ap->body = &body;
    rv = check_flags(cmd, &body, rv);
    if (rv == KV_OK)
        rv = operations[cmd->op](ap);
    if ((cmd->flags & COMMAND_PARTS) != 0)
        session_drop_upload(ap->s, ss, session_upload(ss, cmd->seq));
    return rv;
}

/* PART, KEEPALIVE and END leave no result: repeating them does no harm. */
static int apply_part(struct apply *ap, struct session *ss)
{
    struct command_body body;
    int rv = command_body_decode(COMMAND_PART, ap->cmd->body, ap->cmd->body_len, &body);

    if (rv != KV_OK)
        return rv;
    return session_part(ap->s, ss, ap->cmd->seq, body.part, body.value, body.value_len);
}

static int apply_in_session(struct apply *ap)
{
    const struct command *cmd = ap->cmd;
    struct store *s = ap->s;
    struct session *ss = cmd->session != 0 ? session_find(s, cmd->session) : NULL;
    const struct command_result *kept;
    int rv, kept_rv;

    if (cmd->session == 0)
        return KV_E_PROTOCOL;
    if (ss == NULL)
        return KV_E_SESSION;
    session_touch(s, ss, cmd->acked_below);
    if (cmd->op == COMMAND_KEEPALIVE)
        return KV_OK;
    if (cmd->op == COMMAND_END) {
        session_drop(s, ss);
        return KV_OK;
    }
    if (cmd->seq == 0)
        return KV_E_PROTOCOL;
    if (cmd->seq < ss->acked_below)
        return KV_E_DUPLICATE;
    kept = session_kept(ss, cmd->seq);
    if (cmd->op == COMMAND_PART)
        return kept != NULL ? KV_OK : apply_part(ap, ss);
    if (kept != NULL) {
        *ap->result = *kept;
        return ap->result->code;
    }
    if (session_results_full(ss))
        return KV_E_BUSY;
    rv = execute(ap, ss);
    if (rv < 0 || rv == KV_E_PART || rv == KV_E_BUSY)
        return rv;
    ap->result->code = (uint16_t)rv;
    kept_rv = session_keep(s, ss, cmd->seq, ap->result);
    return kept_rv < 0 ? kept_rv : rv;
}

static int apply_register(struct apply *ap)
{
    struct command_body body;
    int rv = command_body_decode(COMMAND_REGISTER, ap->cmd->body, ap->cmd->body_len, &body);

    ap->body = &body;
    return rv == KV_OK ? session_register(ap) : rv;
}

static int apply_command(struct apply *ap)
{
    const struct command *cmd = ap->cmd;
    struct store *s = ap->s;

    /* At least one step a command, so that what was changed later is later, whatever
     * the leader's clock says. */
    s->wall_ns = cmd->wall_ns > s->wall_ns && cmd->wall_ns <= WALL_MAX ? cmd->wall_ns : s->wall_ns + 1;
    if (cmd->elapsed_ms > s->elapsed_ms)
        s->elapsed_ms = cmd->elapsed_ms;
    session_expire(s);
    ap->who = (struct caller){.uid = cmd->uid,
                              .gid = cmd->gid,
                              .n_groups = cmd->n_groups,
                              .groups = s->groups,
                              .trusted = (cmd->flags & COMMAND_TRUSTED) != 0};
    for (uint32_t i = 0; i < cmd->n_groups; i++)
        s->groups[i] = command_group(cmd, i);
    if (cmd->op == COMMAND_TICK)
        return KV_OK;
    if (cmd->op == COMMAND_REGISTER)
        return apply_register(ap);
    return apply_in_session(ap);
}

int store_apply(struct store *s, uint64_t index, const void *bytes, size_t len,
                struct command_result *result_out)
{
    struct command cmd;
    struct apply ap = {.s = s, .index = index, .cmd = &cmd, .result = result_out};
    int rv;

    *result_out = (struct command_result){.revision = index};
    s->applying = index;
    rv = command_decode(bytes, len, &cmd);
    if (rv == KV_OK)
        rv = apply_command(&ap);
    else
        cmd = (struct command){0};
    if (rv == KV_E_NOTSUP)
        rv = -EOPNOTSUPP; /* it was accepted by those who know it */
    if (rv == -EOPNOTSUPP) {
        s->failed = true;
        return rv;
    }
    s->applied = index;
    store_unprepare(s);
    directory_limit_dead(s);
    emit_waits(&ap);
    emit_last(&ap);
    journal_command(s->journal);
    if (rv < 0 || s->failed || journal_failed(s->journal)) {
        s->failed = true;
        return -ENOMEM;
    }
    result_out->code = (uint16_t)rv;
    return 0;
}

void store_skip(struct store *s, uint64_t index)
{
    s->applied = index;
}
