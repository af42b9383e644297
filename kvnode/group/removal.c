#include "kvnode/group/removal.h"

#include <stdlib.h>

#include "kvnode/group/group.h"
#include "sync/base/error.h"

/* Steps under way at once, so that the log's fsync is not waited for each time. */
#define STEPS 4

struct removal {
    struct group *group; /* borrowed */
    struct buffer bytes; /* the client's command, encoded */
    struct command cmd;  /* borrows from bytes */
    struct buffer step;  /* body of a step */
    const uint8_t *path; /* borrowed from bytes */
    size_t path_len;
    unsigned under_way;
    bool drained; /* nothing is left that needs a step */
    uint64_t removed;
    int code; /* why no more steps are made; 0: nothing */
    struct command_result refusal;
    writes_done *done;
    void *arg;
};

static void go_on(struct removal *m);

static void removal_free(struct removal *m)
{
    buffer_deinit(&m->bytes);
    buffer_deinit(&m->step);
    free(m);
}

static void finish(struct removal *m, int code, const struct command_result *result)
{
    struct command_result sum = result != NULL ? *result : (struct command_result){0};

    sum.removed += m->removed;
    if (code != KV_OK && sum.removed > 0) { /* not all of it, but not nothing either */
        sum.code = (uint16_t)code;
        code = KV_OK;
    }
    m->done(m->arg, code, &sum);
    removal_free(m);
}

static bool is_large(const struct removal *m)
{
    return store_below(m->group->store, m->path, m->path_len, STORE_DEL_MAX + 1) > STORE_DEL_MAX;
}

static void on_last(void *arg, int code, const struct command_result *result)
{
    struct removal *m = arg;

    if (code != KV_OK || result->code != KV_E_BUSY || !is_large(m)) {
        finish(m, code, result);
        return;
    }
    m->drained = false; /* it has grown meanwhile */
    go_on(m);
}

/* No more steps. One that may have happened outweighs those that surely have not. */
static void stop(struct removal *m, int code, const struct command_result *refusal)
{
    if (m->code == KV_E_UNKNOWN)
        return;
    m->code = code;
    m->refusal = refusal != NULL ? *refusal : (struct command_result){0};
}

static void on_step(void *arg, int code, const struct command_result *result)
{
    struct removal *m = arg;

    m->under_way--;
    if (code != KV_OK) {
        stop(m, code, NULL);
    } else if (result->code == KV_OK) {
        m->removed += result->removed;
        m->drained |= result->removed < STORE_DEL_MAX;
    } else if (result->code == KV_E_NOENT || result->code == KV_E_STALE) {
        m->drained = true; /* somebody else's removal, or this number was executed: it says so */
    } else {
        stop(m, result->code, result);
    }
    go_on(m);
}

static int start_step(struct removal *m)
{
    struct command cmd = m->cmd;
    struct command_body body = {
        .session = m->cmd.session, .seq = m->cmd.seq, .path = m->path, .path_len = m->path_len};
    int rv;

    buffer_clear(&m->step);
    command_body_encode(&m->step, COMMAND_PRUNE, &body);
    if (m->step.failed)
        return KV_E_BUSY;
    cmd.op = COMMAND_PRUNE;
    cmd.session = cmd.seq = cmd.acked_below = 0;
    cmd.body = m->step.data;
    cmd.body_len = m->step.len;
    m->under_way++;
    rv = writes_start(m->group->writes, &cmd, on_step, m);
    if (rv != 0)
        m->under_way--;
    return rv;
}

static void go_on(struct removal *m)
{
    int rv;

    while (m->code == 0 && !m->drained && m->under_way < STEPS) {
        m->drained = !is_large(m);
        if (!m->drained)
            m->code = start_step(m);
    }
    if (m->under_way > 0)
        return;
    if (m->code != 0) {
        finish(m, m->refusal.code != 0 ? KV_OK : m->code, m->refusal.code != 0 ? &m->refusal : NULL);
        return;
    }
    rv = writes_start(m->group->writes, &m->cmd, on_last, m); /* m may be answered, and gone, behind it */
    if (rv != 0)
        finish(m, rv, NULL);
}

int removal_start(struct group *group, const struct command *cmd, writes_done *done, void *arg)
{
    struct command_result ignored;
    struct command_body body;
    struct removal *m;

    if (cmd->op != COMMAND_DEL || (cmd->flags & COMMAND_PARTS) != 0 ||
        command_body_decode(cmd->op, cmd->body, cmd->body_len, &body) != KV_OK || body.flags == 0 ||
        (cmd->session != 0 && store_session_result(group->store, cmd->session, cmd->seq, &ignored) != 0))
        return writes_start(group->writes, cmd, done, arg);
    m = calloc(1, sizeof *m);
    if (m == NULL)
        return KV_E_BUSY;
    *m = (struct removal){.group = group, .done = done, .arg = arg};
    command_encode(&m->bytes, cmd);
    if (m->bytes.failed || command_decode(m->bytes.data, m->bytes.len, &m->cmd) != KV_OK ||
        command_body_decode(COMMAND_DEL, m->cmd.body, m->cmd.body_len, &body) != KV_OK) {
        removal_free(m);
        return KV_E_BUSY;
    }
    m->path = body.path;
    m->path_len = body.path_len;
    go_on(m);
    return 0;
}
