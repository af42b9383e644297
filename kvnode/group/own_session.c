#include "kvnode/group/own_session.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"

/* A write that waits for the session. */
struct own_write {
    struct command cmd; /* borrows from bytes */
    uint8_t *bytes;     /* owned: groups, node name and body */
    size_t len;
    writes_done *done;
    void *arg;
    uint64_t deadline_ms;
    STAILQ_ENTRY(own_write) link;
};

void own_session_init(struct own_session *s, const char *node_name, uint64_t request_ms,
                      own_session_start *start, void *owner)
{
    *s = (struct own_session){
        .node_name = node_name, .request_ms = request_ms, .start = start, .owner = owner};
    STAILQ_INIT(&s->waiting);
}

static struct own_write *take(struct own_session *s)
{
    struct own_write *o = STAILQ_FIRST(&s->waiting);

    STAILQ_REMOVE_HEAD(&s->waiting, link);
    s->n--;
    s->bytes -= o->len;
    return o;
}

static void own_write_free(struct own_write *o)
{
    free(o->bytes);
    free(o);
}

/* The first one ends without having been sent. */
static void refuse_first(struct own_session *s, int code)
{
    struct own_write *o = take(s);

    o->done(o->arg, code, NULL);
    own_write_free(o);
}

void own_session_deinit(struct own_session *s)
{
    while (!STAILQ_EMPTY(&s->waiting))
        own_write_free(take(s));
}

static int start_numbered(struct own_session *s, struct command *cmd, uint64_t deadline_ms, writes_done *done,
                          void *arg)
{
    cmd->session = s->id;
    cmd->seq = s->next_seq++;
    return s->start(s->owner, cmd, deadline_ms, done, arg);
}

static void on_registered(void *arg, int code, const struct command_result *result)
{
    struct own_session *s = arg;
    uint64_t now = clock_boot_ms();
    bool ok = code == 0 && result->code == KV_OK;

    s->state = ok ? OWN_SESSION_READY : OWN_SESSION_NONE;
    if (ok) {
        s->id = result->session;
        s->next_seq = 1;
    } else if (code == 0) {
        code = result->code;
    }
    while (!STAILQ_EMPTY(&s->waiting)) {
        struct own_write *o = take(s);
        int rv = ok ? 0 : code;

        if (rv == 0 && now < o->deadline_ms)
            rv = start_numbered(s, &o->cmd, o->deadline_ms, o->done, o->arg);
        else if (rv == 0 || rv == KV_E_UNKNOWN)
            rv = KV_E_UNAVAILABLE; /* only the registration may have happened */
        if (rv != 0)
            o->done(o->arg, rv, NULL);
        own_write_free(o);
    }
}

static void ask(struct own_session *s)
{
    struct buffer b = BUFFER_INIT;
    struct command_body body = {.nonce = s->nonce, .name = (const uint8_t *)"node", .name_len = 4};
    struct command cmd = {.op = COMMAND_REGISTER, .flags = COMMAND_TRUSTED, .uid = COMMAND_UID_NODE};

    if (getrandom(s->nonce, sizeof s->nonce, 0) != (ssize_t)sizeof s->nonce)
        return;
    command_body_encode(&b, COMMAND_REGISTER, &body);
    memcpy(&cmd.seq, s->nonce, sizeof cmd.seq);
    cmd.node = s->node_name;
    cmd.node_len = strlen(s->node_name);
    cmd.body = b.data;
    cmd.body_len = b.len;
    if (!b.failed && s->start(s->owner, &cmd, clock_boot_ms() + s->request_ms, on_registered, s) == 0)
        s->state = OWN_SESSION_ASKED;
    buffer_deinit(&b);
}

static int wait_for_session(struct own_session *s, const struct command *cmd, writes_done *done, void *arg)
{
    size_t groups = (size_t)cmd->n_groups * sizeof(uint32_t);
    struct own_write *o = calloc(1, sizeof *o);

    if (o == NULL)
        return KV_E_BUSY;
    o->len = groups + cmd->node_len + cmd->body_len;
    o->bytes = malloc(o->len + 1);
    if (o->bytes == NULL) {
        free(o);
        return KV_E_BUSY;
    }
    o->cmd = *cmd;
    if (groups > 0)
        memcpy(o->bytes, cmd->groups, groups);
    memcpy(o->bytes + groups, cmd->node, cmd->node_len);
    if (cmd->body_len > 0)
        memcpy(o->bytes + groups + cmd->node_len, cmd->body, cmd->body_len);
    o->cmd.groups = o->bytes;
    o->cmd.node = (const char *)o->bytes + groups;
    o->cmd.body = o->bytes + groups + cmd->node_len;
    o->done = done;
    o->arg = arg;
    o->deadline_ms = clock_boot_ms() + s->request_ms;
    STAILQ_INSERT_TAIL(&s->waiting, o, link);
    s->n++;
    s->bytes += o->len;
    if (s->state == OWN_SESSION_NONE)
        ask(s);
    return 0;
}

int own_session_write(struct own_session *s, const struct command *cmd, writes_done *done, void *arg)
{
    struct command copy = *cmd;

    if (s->state != OWN_SESSION_READY)
        return wait_for_session(s, cmd, done, arg);
    return start_numbered(s, &copy, clock_boot_ms() + s->request_ms, done, arg);
}

bool own_session_is(const struct own_session *s, uint64_t id)
{
    return id != 0 && id == s->id;
}

void own_session_ended(struct own_session *s)
{
    if (s->state == OWN_SESSION_READY)
        s->state = OWN_SESSION_NONE;
}

void own_session_beat(struct own_session *s, uint64_t now_ms, int code)
{
    const struct own_write *o;

    while ((o = STAILQ_FIRST(&s->waiting)) != NULL && (code != KV_OK || o->deadline_ms <= now_ms))
        refuse_first(s, code != KV_OK ? code : KV_E_UNAVAILABLE);
    if (!STAILQ_EMPTY(&s->waiting) && s->state == OWN_SESSION_NONE)
        ask(s);
}

void own_session_stop(struct own_session *s)
{
    while (!STAILQ_EMPTY(&s->waiting))
        refuse_first(s, KV_E_UNAVAILABLE);
}
