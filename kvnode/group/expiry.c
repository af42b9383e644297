#include "kvnode/group/expiry.h"

#include <string.h>

#include "kvnode/group/group.h"
#include "kvnode/group/writes.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"

/* 100,000 that are over at once are gone after two seconds, and half of a loop's time stays for others. */
#define BATCH 500
#define BATCH_MS 10
/* Under way at once, so that the log's fsync is not waited for each time. */
#define BATCHES 4

/* How far the stored clock may be behind. */
#define CLOCK_BEHIND_MIN_MS 1000
#define CLOCK_BEHIND_MAX_MS (10 * 60 * 1000)
#define CLOCK_BEHIND_SHARE 64

static void on_expired(void *arg, int code, const struct command_result *result)
{
    struct group *g = arg;

    g->expiring--;
    if (code != KV_OK || result->code != KV_OK || result->removed == 0)
        g->expiry_again_ms = 0; /* at the next beat */
}

static bool clock_is_behind(const struct group *g, uint64_t now, uint64_t next)
{
    uint64_t may = (next > now ? next - now : 0) / CLOCK_BEHIND_SHARE;

    may = may > CLOCK_BEHIND_MAX_MS ? CLOCK_BEHIND_MAX_MS : may;
    may = may < CLOCK_BEHIND_MIN_MS ? CLOCK_BEHIND_MIN_MS : may;
    return next != UINT64_MAX && now > store_elapsed_ms(g->store) + may;
}

void expiry_beat(struct group *g)
{
    const char *name = g->owner->config->name;
    struct command cmd = {
        .op = COMMAND_EXPIRE, .flags = COMMAND_TRUSTED, .node = name, .node_len = strlen(name)};
    struct buffer body = BUFFER_INIT;
    uint64_t now, next;
    size_t n;

    if (g->expiring == BATCHES || !group_serves(g) || !consensus_leader_ready(g->consensus))
        return;
    /* The clock is told at beats: what was written right before one is younger than it says. */
    now = writes_elapsed_ms(g->writes);
    now -= now < g->owner->config->heartbeat_ms ? now : g->owner->config->heartbeat_ms;
    if (g->expiring == 0) /* what was under way has gone, or has to be named again */
        g->expiry_round = g->expiry_round % 0xffffff + 1;
    n = store_expired(g->store, now, BATCH, g->expiry_round, &body, &next);
    /* A batch ends at a number of names, or at one of chunks: the next look tells whether it was the last. */
    g->expiry_again_ms = n > 0 ? clock_boot_ms() + BATCH_MS : 0;
    if (!body.failed && (n > 0 || (g->expiring == 0 && clock_is_behind(g, now, next)))) {
        cmd.body = body.data;
        cmd.body_len = body.len;
        g->expiring++;
        if (writes_start(g->writes, &cmd, on_expired, g) != 0)
            g->expiring--; /* at a later beat */
    }
    buffer_deinit(&body);
}

uint64_t expiry_turn_end(struct group *g)
{
    uint64_t now = clock_boot_ms();

    if (g->expiring == BATCHES || g->expiry_again_ms == 0)
        return UINT64_MAX;
    if (now < g->expiry_again_ms)
        return g->expiry_again_ms - now;
    g->expiry_again_ms = 0;
    expiry_beat(g);
    return UINT64_MAX;
}
