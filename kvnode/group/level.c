#include "kvnode/group/level.h"

#include <stdio.h>
#include <string.h>

#include "kvnode/group/writes.h"
#include "kvnode/group/group.h"
#include "kvnode/state/settings.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/wire/feature.h"

#define AWAITED_MS 3000

bool level_has(const struct store *s, const struct command *cmd)
{
    return feature_level_of(cmd) <= store_level(s);
}

static uint64_t known_by_all(const struct group *g)
{
    return g->owner->links->level(g->owner->links->arg);
}

bool level_forbids(const struct group *g, const void *bytes, size_t len)
{
    struct command_body body;
    struct command cmd;
    uint64_t level;

    if (command_decode(bytes, len, &cmd) != KV_OK || (cmd.flags & COMMAND_PARTS) != 0)
        return true;
    return command_body_decode(cmd.op, cmd.body, cmd.body_len, &body) == KV_OK &&
           setting_find(body.name, body.name_len) == SETTING_FEATURE_LEVEL &&
           setting_number(SETTING_FEATURE_LEVEL, body.value, body.value_len, &level) &&
           level > store_level(g->store) && level > known_by_all(g);
}

static bool nothing_written(const struct group *g)
{
    struct attr root;

    return store_getattr(g->store, KV_ROOT_INO, &root) == KV_OK && root.mtime_ns == 0;
}

bool level_awaited(struct group *g, const struct command *cmd)
{
    uint64_t now;

    switch (cmd->op) {
    case COMMAND_REGISTER:
    case COMMAND_KEEPALIVE:
    case COMMAND_END:
    case COMMAND_SETATTR:
    case COMMAND_SETTING:
    case COMMAND_TICK:
    case COMMAND_CLOCK:
        return false;
    default:
        break;
    }
    if (store_level(g->store) >= FEATURE_LEVEL || !group_serves(g) || !nothing_written(g))
        return false;
    now = clock_boot_ms();
    if (g->level_awaited_ms == 0)
        g->level_awaited_ms = now;
    return now - g->level_awaited_ms < AWAITED_MS;
}

static void on_raised(void *arg, int code, const struct command_result *result)
{
    struct group *g = arg;

    g->level_asked = code == KV_OK && result->code == KV_OK;
}

void level_beat(struct group *g)
{
    struct command_body body = {.name = (const uint8_t *)setting_name(SETTING_FEATURE_LEVEL)};
    struct command cmd = {.op = COMMAND_SETTING,
                          .flags = COMMAND_TRUSTED,
                          .node = g->owner->config->name,
                          .node_len = strlen(g->owner->config->name)};
    struct buffer b = BUFFER_INIT;
    char text[16];

    if (g->level_asked || !group_serves(g) || store_level(g->store) >= FEATURE_LEVEL ||
        !consensus_leader_ready(g->consensus) || !nothing_written(g) || known_by_all(g) < FEATURE_LEVEL)
        return;
    snprintf(text, sizeof text, "%d", FEATURE_LEVEL);
    body.name_len = strlen((const char *)body.name);
    body.value = (const uint8_t *)text;
    body.value_len = strlen(text);
    command_body_encode(&b, cmd.op, &body);
    cmd.body = b.data;
    cmd.body_len = b.len;
    g->level_asked = !b.failed && writes_start(g->writes, &cmd, on_raised, g) == 0;
    buffer_deinit(&b);
}
