#include "kvnode/group/expiry.h"

#include <string.h>

#include "kvnode/group/group.h"
#include "kvnode/group/writes.h"
#include "sync/base/error.h"

/* How far the stored clock may be behind. */
#define CLOCK_BEHIND_MIN_MS 1000
#define CLOCK_BEHIND_MAX_MS (10 * 60 * 1000)
#define CLOCK_BEHIND_SHARE 64

static void on_expired(void *arg, int code, const struct command_result *result)
{
    struct group *g = arg;

    g->expiring = false;
    if (code == KV_OK && result->code == KV_OK && result->removed > 0)
        expiry_beat(g); /* there may be more */
}

static bool clock_is_behind(const struct group *g, uint64_t now, uint64_t next)
{
    uint64_t may = (next > now ? next - now : 0) / CLOCK_BEHIND_SHARE;

    may = may > CLOCK_BEHIND_MAX_MS ? CLOCK_BEHIND_MAX_MS : may;
    may = may < CLOCK_BEHIND_MIN_MS ? CLOCK_BEHIND_MIN_MS : may;
    return next != UINT64_MAX && now - store_elapsed_ms(g->store) > may;
}

void expiry_beat(struct group *g)
{
    const char *name = g->owner->config->name;
    struct command cmd = {
        .op = COMMAND_EXPIRE, .flags = COMMAND_TRUSTED, .node = name, .node_len = strlen(name)};
    struct buffer body = BUFFER_INIT;
    uint64_t now, next;
    size_t n;

    if (g->expiring || !group_serves(g) || !consensus_leader_ready(g->consensus))
        return;
    now = writes_elapsed_ms(g->writes);
    n = store_expired(g->store, now, &body, &next);
    if (!body.failed && (n > 0 || clock_is_behind(g, now, next))) {
        cmd.body = body.data;
        cmd.body_len = body.len;
        g->expiring = true;
        if (writes_start(g->writes, &cmd, on_expired, g) != 0)
            g->expiring = false; /* at a later beat */
    }
    buffer_deinit(&body);
}
