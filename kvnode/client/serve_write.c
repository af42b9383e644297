/* Writes: what a client may write, and as whom. */
#include <errno.h>
#include <string.h>

#include "kvnode/client/client_conn.h"
#include "kvnode/group/removal.h"
#include "kvnode/group/writes.h"
#include "sync/base/error.h"

static void on_written(void *arg, int code, const struct command_result *result)
{
    struct request *r = arg;
    const char *detail = NULL;
    struct buffer *out;
    size_t at;

    if (code == KV_OK && r->locks && result->code == KV_E_BUSY) {
        code = KV_E_BUSY; /* then mounts of before ask again */
        detail = "another mount has the file's lock table, and gives it back; nothing was locked";
    } else if (code == KV_E_NOSPC) {
        detail = "the disk of this node is full; another one may have room";
    } else if (code == KV_E_BUSY) {
        detail = "this node has too many writes under way; nothing was written";
    }
    out = answer_begin(r->conn, r->id, &at);
    if (out != NULL) {
        if (code == KV_OK)
            body_encode_answer(out, MESSAGE_WRITE, &(union answer_body){.write = *result}, r->conn->protocol);
        answer_end(r->conn, at, code, detail);
    }
    request_end(r);
}

/* A publication goes only through a handle whose opening was checked here. The inode
 * is the first field of its body, or stands with its last piece; one in parts that
 * does not name it is checked when it is applied. */
static bool may_publish(struct client_conn *c, const struct command *cmd)
{
    struct cursor piece;
    uint32_t n_parts;
    uint64_t ino;

    if (cmd->op != COMMAND_PUBLISH)
        return true;
    if ((cmd->flags & COMMAND_PARTS) == 0)
        ino = command_ino(cmd);
    else if ((cmd->flags & COMMAND_OPENED) == 0)
        return true;
    else if (!command_last_piece(cmd, &n_parts, &ino, &piece))
        return false;
    return client_has_open(c, ino, OPEN_WRITE);
}

/* Sessions have numbers that are easy to guess: one is open to those only who have
 * registered it. */
static bool is_own_session(struct client_conn *c, uint64_t session)
{
    uint32_t owner;

    return store_session_owner(c->owner->group->store, session, &owner) == KV_OK && owner == c->who.uid;
}

static bool is_of_locks(const struct command *cmd)
{
    return cmd->op == COMMAND_LOCK || cmd->op == COMMAND_UNLOCK || cmd->op == COMMAND_UNWAIT ||
           cmd->op == COMMAND_LOCK_TAKE || cmd->op == COMMAND_LOCK_PUT;
}

/* What a client that is not trusted may not write; 0 if it may. */
static int check_untrusted(struct client_conn *c, const struct command *cmd, bool has_owner,
                           const char **detail_out)
{
    if (has_owner) {
        *detail_out = "only root and the node's own user may write for others";
        return KV_E_PERM;
    }
    if (!may_publish(c, cmd)) {
        *detail_out = "the file is not open for writing here";
        return KV_E_ACCES;
    }
    if ((cmd->op == COMMAND_LOCK || cmd->op == COMMAND_LOCK_TAKE) &&
        !client_has_open(c, command_ino(cmd), 0)) {
        *detail_out = "the file is not open here";
        return KV_E_ACCES;
    }
    if (cmd->session == 0 && (cmd->op == COMMAND_END || cmd->op == COMMAND_PART)) {
        *detail_out = "not with the node's session";
        return KV_E_PERM;
    }
    if (cmd->op != COMMAND_REGISTER && cmd->session != 0 && !is_own_session(c, cmd->session)) {
        *detail_out = NULL;
        return KV_E_SESSION;
    }
    return KV_OK;
}

#define DETAIL_ROOM 256

/* What the log would refuse, or has already, need not go there. KV_OK: it goes;
 * KV_E_DUPLICATE: a part that is here. text: for the reason, if it has numbers. */
static int check_bounds(struct client_conn *c, const struct client_user *user, const struct command *cmd,
                        char text[DETAIL_ROOM], const char **why_out)
{
    const struct store *s = c->owner->group->store;
    struct command_body body;

    *why_out = client_user_refuses_write(user, cmd->body_len);
    if (*why_out != NULL)
        return KV_E_BUSY;
    if ((cmd->op != COMMAND_PART && cmd->op != COMMAND_REGISTER) ||
        command_body_decode(cmd->op, cmd->body, cmd->body_len, &body) != KV_OK)
        return KV_OK;
    if (cmd->op == COMMAND_PART)
        return store_part_check(s, cmd->session, cmd->seq, body.part, body.value_len, why_out);
    if (!store_register_refused(s, c->who.trusted ? 0 : c->who.uid, body.nonce, text, DETAIL_ROOM))
        return KV_OK;
    *why_out = text;
    return KV_E_BUSY;
}

/* What a client that is not trusted says of itself does not count. What it has open it
 * has reached, wherever that is by now. */
static uint16_t stamped_flags(const struct client_conn *c, const struct command *cmd)
{
    unsigned flags = cmd->flags;

    if (c->who.trusted)
        return cmd->flags;
    flags &= ~(unsigned)COMMAND_TRUSTED;
    if (cmd->op == COMMAND_PUBLISH && (flags & COMMAND_PARTS) != 0)
        return (uint16_t)flags; /* may_publish() */
    flags &= ~(unsigned)COMMAND_OPENED;
    if ((cmd->op == COMMAND_SETATTR || cmd->op == COMMAND_SETXATTR || cmd->op == COMMAND_REMOVEXATTR) &&
        (flags & COMMAND_PARTS) == 0 && client_has_open(c, command_ino(cmd), 0))
        flags |= COMMAND_OPENED;
    return (uint16_t)flags;
}

int serve_write(struct client_conn *c, const struct frame *frame, const union request_body *body)
{
    const struct write_request *in = &body->write;
    uint32_t groups[COMMAND_GROUPS_MAX];
    struct command_result here = {.revision = store_applied(c->owner->group->store)};
    const char *detail = NULL;
    char text[DETAIL_ROOM];
    struct client_user *user;
    struct command cmd;
    struct request *r;
    uint32_t i;
    int rv;

    rv = command_decode(in->command.data, in->command.len, &cmd);
    if (rv == KV_E_NOTSUP) {
        answer_code(c, frame->id, rv, "this node's version does not know the operation");
        return 0;
    }
    if (rv != KV_OK) {
        answer_code(c, frame->id, KV_E_PROTOCOL, "malformed command");
        return -EPROTO;
    }
    if (cmd.op == COMMAND_EXPIRE) {
        answer_code(c, frame->id, KV_E_PERM, "only nodes say what has expired");
        return 0;
    }
    if (is_of_locks(&cmd) && (cmd.session == 0 || (cmd.flags & COMMAND_PARTS) != 0)) {
        answer_code(c, frame->id, KV_E_INVAL, "locks need a session of the client's own, and come whole");
        return 0;
    }
    if (!c->who.trusted)
        rv = check_untrusted(c, &cmd, in->has_owner != 0, &detail);
    user = client_user_as(c->user, in->has_owner ? in->uid : c->who.uid);
    if (rv == KV_OK)
        rv = check_bounds(c, user, &cmd, text, &detail);
    if (rv != KV_OK && rv != KV_E_DUPLICATE) {
        client_user_put(user);
        answer_code(c, frame->id, rv, detail);
        return 0;
    }
    cmd.uid = in->has_owner ? in->uid : c->who.uid;
    cmd.gid = in->has_owner ? in->gid : c->who.gid;
    cmd.n_groups = in->has_owner ? 0 : c->who.n_groups;
    for (i = 0; i < cmd.n_groups; i++)
        groups[i] = __builtin_bswap32(c->groups[i]);
    cmd.groups = (const uint8_t *)groups;
    cmd.flags = stamped_flags(c, &cmd);
    if (cmd.op == COMMAND_REGISTER) {
        cmd.uid = c->who.uid; /* for nobody else, and never as the node */
        if (c->who.trusted)
            cmd.flags |= COMMAND_TRUSTED; /* the session is root's */
    }
    cmd.node = c->owner->self->config->name;
    cmd.node_len = strlen(cmd.node);
    r = request_new(c, frame, body);
    if (r == NULL) {
        client_user_put(user);
        return -ENOMEM;
    }
    r->writer = user;
    r->locks = cmd.op == COMMAND_LOCK;
    r->written = frame->len;
    client_user_write(user, 1, r->written);
    if (rv == KV_E_DUPLICATE) {
        on_written(r, KV_OK, &here);
        return 0;
    }
    rv = removal_start(c->owner->group, &cmd, on_written, r);
    if (rv > 0)
        on_written(r, rv, NULL);
    return rv < 0 ? rv : 0;
}
