/* run, and the bridge that sshd starts for a peer. */
#include "kvnode/admin/verbs.h"

#include <malloc.h>

#include "kvnode/config.h"
#include "sync/base/log.h"
#include "sync/ssh/bridge.h"

/* Buffers beyond this go back to the system when they are freed. By default glibc
 * raises its limit with every such buffer, and keeps them: after 256 MiB of large
 * values a node had 620 MiB instead of 330. */
#define LARGE_BUFFER (256 * 1024)

int verb_run(struct admin *a)
{
    struct config *config;
    char name[64];
    int exit = admin_config(a, &config);
    if (exit != EXIT_OK)
        return exit;
    snprintf(name, sizeof name, "kvnode %s", config->name);
    mallopt(M_MMAP_THRESHOLD, LARGE_BUFFER);
    log_open(name, a->opt[OPT_VERBOSE] != NULL ? LOG_LEVEL_DEBUG : config->log_level);
    exit = a->node_run(config) == 0 ? EXIT_OK : EXIT_FAILED;
    config_free(config);
    return exit;
}

int verb_bridge(struct admin *a)
{
    if (a->opt[OPT_BRIDGE_PEER] == NULL || a->opt[OPT_SOCKET] == NULL)
        return admin_usage(a, "is what sshd runs for a peer: --peer NAME --socket PATH are needed");
    return bridge_run(a->opt[OPT_BRIDGE_PEER], a->opt[OPT_SOCKET]);
}
