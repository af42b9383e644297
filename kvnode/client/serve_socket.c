#include "kvnode/client/serve_socket.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* A socket file that nobody listens on is a leftover; one that answers is in use. */
static int claim(const char *path, const struct sockaddr_un *addr)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool used;

    if (fd < 0)
        return -errno;
    used = connect(fd, (const struct sockaddr *)addr, sizeof *addr) == 0 || errno == EAGAIN;
    close(fd);
    if (used)
        return -EADDRINUSE;
    unlink(path);
    return 0;
}

static void mkdir_parent(const char *path)
{
    char dir[CONFIG_SOCKET_PATH_MAX + 1];
    char *slash;

    snprintf(dir, sizeof dir, "%s", path);
    slash = strrchr(dir, '/');
    if (slash != NULL && slash != dir) {
        *slash = '\0';
        mkdir(dir, 0755); /* bind() tells what is wrong */
    }
}

static int give_to_group(const struct config *config, char *why)
{
    struct group *g = getgrnam(config->socket_group);

    if (g == NULL) {
        snprintf(why, 512, "socket_group %s: no such group", config->socket_group);
        return -EINVAL;
    }
    return chown(config->socket, (uid_t)-1, g->gr_gid) == 0 ? 0 : -errno;
}

static int bind_and_listen(int fd, const struct config *config, const struct sockaddr_un *addr, char *why)
{
    mode_t mask = umask(0777 & ~config->socket_mode);
    int rv = bind(fd, (const struct sockaddr *)addr, sizeof *addr) != 0 ? -errno : 0;

    umask(mask);
    if (rv == 0 && config->socket_group[0] != '\0') {
        rv = give_to_group(config, why);
        if (rv == -EINVAL)
            return rv; /* it is said why */
    }
    if (rv == 0 && listen(fd, 128) != 0)
        rv = -errno;
    if (rv != 0)
        snprintf(why, 512, "%s: %s", config->socket, strerror(-rv));
    return rv;
}

int serve_socket(const struct config *config, char *why)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd, rv;

    if (strlen(config->socket) >= sizeof addr.sun_path)
        return -ENAMETOOLONG;
    memcpy(addr.sun_path, config->socket, strlen(config->socket) + 1);
    mkdir_parent(config->socket);
    rv = claim(config->socket, &addr);
    if (rv == -EADDRINUSE)
        snprintf(why, 512, "%s is in use: is this node running already?", config->socket);
    if (rv != 0)
        return rv;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    rv = bind_and_listen(fd, config, &addr, why);
    if (rv == 0)
        return fd;
    close(fd);
    return rv;
}
