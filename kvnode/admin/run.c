/* run, and the bridge that sshd starts for a peer. */
#include "kvnode/admin/verbs.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvnode/config/config.h"
#include "sync/base/log.h"
#include "sync/ssh/bridge.h"

/* Buffers beyond this go back to the system when they are freed. By default glibc
 * raises its limit with every such buffer, and keeps them: after 256 MiB of large
 * values a node had 620 MiB instead of 330. */
#define LARGE_BUFFER (256 * 1024)

static void account_name(uid_t uid, char *out, size_t size)
{
    const struct passwd *pw = getpwuid(uid);
    if (pw != NULL)
        snprintf(out, size, "%s", pw->pw_name);
    else
        snprintf(out, size, "#%u", (unsigned)uid); /* as sudo -u and chown take it */
}

/* What another account makes in the node's folder the node's own could not use any more
 * (root), or it fails half-way. So: before anything is touched. */
static int check_owner(const struct admin *a, const struct config *c)
{
    static const char *const names[] = {"",          "/lock", "/log.db",        "/groups",
                                        "/groups/0", "/ssh",  "/ssh/client_key"};
    char path[PATH_MAX], owner[64], self[64];
    struct stat st;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if ((size_t)snprintf(path, sizeof path, "%s%s", c->data_dir, names[i]) >= sizeof path)
            return EXIT_OK; /* what opens it says so */
        if (lstat(path, &st) != 0) {
            account_name(geteuid(), self, sizeof self);
            if (errno == EACCES)
                return admin_fail(
                    a, EXIT_REFUSED, NULL,
                    "%s: %s may not look: a node runs as the owner of its files; nothing was touched. "
                    "Try, as root: kvnode doctor",
                    path, self);
            continue;
        }
        if (st.st_uid == geteuid())
            continue;
        account_name(st.st_uid, owner, sizeof owner);
        account_name(geteuid(), self, sizeof self);
        if (i == 0)
            return admin_fail(
                a, EXIT_REFUSED, NULL,
                "%s belongs to %s, and this is %s: a node runs as the owner of its files; nothing was "
                "touched. Try: sudo -u %s kvnode run -n %s, or systemctl start kvnode@%s",
                path, owner, self, owner, c->name, c->name);
        return admin_fail(
            a, EXIT_REFUSED, NULL,
            "%s belongs to %s, not to %s, whose node it is: it was made as the wrong account; nothing "
            "was touched. Try, as root: chown %s %s",
            path, owner, self, self, path);
    }
    return EXIT_OK;
}

int verb_run(struct admin *a)
{
    struct config *config;
    char name[64];
    int exit = admin_config(a, &config);
    if (exit != EXIT_OK)
        return exit;
    exit = check_owner(a, config);
    if (exit != EXIT_OK) {
        config_free(config);
        return exit;
    }
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
