/* Where a node's files are when nobody says: systemd's directories first, the
 * system's for root, the XDG folders for a user. */
#include "kvnode/config/config_value.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *config_system_dir(const char *variable, char *out, size_t size)
{
    const char *value = getenv(variable);
    if (value == NULL || value[0] != '/')
        return NULL;
    snprintf(out, size, "%.*s", (int)strcspn(value, ":"), value);
    return out;
}

static int home_dir(const char *variable, const char *below, const char *tail, char *out, size_t size)
{
    const char *base = getenv(variable);
    int n;
    if (base != NULL && base[0] == '/') {
        n = snprintf(out, size, "%s/kvnode%s%s", base, tail[0] != '\0' ? "/" : "", tail);
    } else {
        const char *home = getenv("HOME");
        if (home == NULL || home[0] != '/')
            return -ENOENT;
        n = snprintf(out, size, "%s/%s/kvnode%s%s", home, below, tail[0] != '\0' ? "/" : "", tail);
    }
    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int config_dir(char *path_out, size_t size)
{
    const char *dir = getenv("KVNODE_CONFIG_DIR");
    if (dir != NULL && dir[0] == '/')
        return (size_t)snprintf(path_out, size, "%s", dir) < size ? 0 : -ENAMETOOLONG;
    if (geteuid() == 0 && getenv("XDG_CONFIG_HOME") == NULL)
        return (size_t)snprintf(path_out, size, "/etc/kvnode") < size ? 0 : -ENAMETOOLONG;
    return home_dir("XDG_CONFIG_HOME", ".config", "", path_out, size);
}

int config_default_data(const char *name, char *path_out, size_t size)
{
    if (config_system_dir("STATE_DIRECTORY", path_out, size) != NULL)
        return 0;
    if (geteuid() == 0 && getenv("XDG_STATE_HOME") == NULL)
        return (size_t)snprintf(path_out, size, "/var/lib/kvnode/%s", name) < size ? 0 : -ENAMETOOLONG;
    return home_dir("XDG_STATE_HOME", ".local/state", name, path_out, size);
}

int config_peer_socket(const struct config *config, char path_out[static CONFIG_SOCKET_PATH_MAX + 1])
{
    int n = strcmp(config->run_dir, config->data_dir) == 0
                ? snprintf(path_out, CONFIG_SOCKET_PATH_MAX + 1, "%s/peer.sock", config->data_dir)
                : snprintf(path_out, CONFIG_SOCKET_PATH_MAX + 1, "%s/%s.peer", config->run_dir, config->name);
    return n > CONFIG_SOCKET_PATH_MAX ? -ENAMETOOLONG : 0;
}
