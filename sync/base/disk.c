#include "sync/base/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int disk_sync_directory(const char *dir)
{
    int rv, fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    rv = fsync(fd) != 0 ? -errno : 0;
    close(fd);
    return rv;
}

int disk_sync_name(const char *path)
{
    char dir[PATH_MAX], *slash;

    if (snprintf(dir, sizeof dir, "%s", path) >= (int)sizeof dir)
        return -ENAMETOOLONG;
    slash = strrchr(dir, '/');
    if (slash == NULL)
        return disk_sync_directory(".");
    slash[slash == dir] = '\0';
    return disk_sync_directory(dir);
}
