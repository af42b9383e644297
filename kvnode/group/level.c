#include "kvnode/group/level.h"

#include <stdio.h>
#include <string.h>

#include "kvnode/group/writes.h"
#include "kvnode/node/node_state.h"
#include "kvnode/state/settings.h"
#include "sync/base/error.h"
#include "sync/wire/feature.h"

bool level_has(const struct node *n, const struct command *cmd)
{
    return feature_level_of(cmd) <= store_level(n->store);
}

static uint64_t known_by_all(const struct node *n)
{
    return n->links.level(n->links.arg);
}

bool level_forbids(const struct node *n, const void *bytes, size_t len)
{
    struct command_body body;
    struct command cmd;
    uint64_t level;

    if (command_decode(bytes, len, &cmd) != KV_OK || (cmd.flags & COMMAND_PARTS) != 0)
        return true;
    return command_body_decode(cmd.op, cmd.body, cmd.body_len, &body) == KV_OK &&
           setting_find(body.name, body.name_len) == SETTING_FEATURE_LEVEL &&
           setting_number(SETTING_FEATURE_LEVEL, body.value, body.value_len, &level) &&
           level > store_level(n->store) && level > known_by_all(n);
}

static void on_raised(void *arg, int code, const struct command_result *result)
{
    struct node *n = arg;

    n->level_asked = code == KV_OK && result->code == KV_OK;
}

void level_beat(struct node *n)
{
    struct command_body body = {.name = (const uint8_t *)setting_name(SETTING_FEATURE_LEVEL)};
    struct command cmd = {.op = COMMAND_SETTING,
                          .flags = COMMAND_TRUSTED,
                          .node = n->config->name,
                          .node_len = strlen(n->config->name)};
    struct buffer b = BUFFER_INIT;
    struct attr root;
    char text[16];

    if (n->level_asked || n->stateless || store_level(n->store) >= FEATURE_LEVEL ||
        !consensus_leader_ready(n->consensus) || store_getattr(n->store, KV_ROOT_INO, &root) != KV_OK ||
        root.mtime_ns != 0 || known_by_all(n) < FEATURE_LEVEL)
        return;
    snprintf(text, sizeof text, "%d", FEATURE_LEVEL);
    body.name_len = strlen((const char *)body.name);
    body.value = (const uint8_t *)text;
    body.value_len = strlen(text);
    command_body_encode(&b, cmd.op, &body);
    cmd.body = b.data;
    cmd.body_len = b.len;
    n->level_asked = !b.failed && writes_start(n->writes, &cmd, on_raised, n) == 0;
    buffer_deinit(&b);
}
