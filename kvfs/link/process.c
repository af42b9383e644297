#include "kvfs/link/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Reads a small file of /proc whole. Length, or -1. */
static ssize_t read_file(const char *path, char *buf, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n;

    if (fd < 0)
        return -1;
    while (len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0)
        len += (size_t)n;
    close(fd);
    buf[len] = '\0';
    return (ssize_t)len;
}

/* The value after "\nNAME:" in a status file; NULL if it is not there. */
static const char *field(const char *text, const char *name)
{
    const char *p = text;
    size_t len = strlen(name);

    while (p != NULL) {
        if (strncmp(p, name, len) == 0 && p[len] == ':')
            return p + len + 1;
        p = strchr(p, '\n');
        p = p == NULL ? NULL : p + 1;
    }
    return NULL;
}

static bool read_status(pid_t tid, char *buf, size_t size)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/status", (int)tid);
    return tid > 0 && read_file(path, buf, size) > 0;
}

static bool has_signal(const char *status, const char *name, int sig)
{
    const char *p = field(status, name);

    return p != NULL && ((strtoull(p, NULL, 16) >> (sig - 1)) & 1) != 0;
}

bool process_is_killed(pid_t tid)
{
    char status[4096];

    if (tid <= 0)
        return false; /* in a namespace that is not seen from here */
    if (!read_status(tid, status, sizeof status))
        return true; /* it is gone */
    return has_signal(status, "SigPnd", SIGKILL) || has_signal(status, "ShdPnd", SIGKILL);
}

pid_t process_of(pid_t tid)
{
    char status[4096];
    const char *p;
    int fd;

    if (tid <= 0)
        return 0;
    /* Only a process's first thread, whose number is the process's, has this kind of descriptor. */
    fd = (int)syscall(SYS_pidfd_open, tid, 0);
    if (fd >= 0) {
        close(fd);
        return tid;
    }
    if (!read_status(tid, status, sizeof status))
        return 0;
    p = field(status, "Tgid");
    return p == NULL ? 0 : (pid_t)strtol(p, NULL, 10);
}

/* Whether mount `id` of the process is one of kvfs. */
static bool is_our_mount(pid_t pid, long id)
{
    char path[64], line[4096];
    bool found = false;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/mountinfo", (int)pid);
    f = fopen(path, "re");
    if (f == NULL)
        return true;
    while (!found && fgets(line, sizeof line, f) != NULL)
        found = strtol(line, NULL, 10) == id && strstr(line, " - fuse.kvfs ") != NULL;
    fclose(f);
    return found;
}

#define SAME_FLAGS (O_ACCMODE | O_APPEND)

bool process_has_duplicate(pid_t tid, uint64_t ino, int opened)
{
    char path[64];
    struct dirent *entry;
    bool holds = false;
    DIR *dir;

    snprintf(path, sizeof path, "/proc/%d/fdinfo", (int)tid);
    dir = opendir(path);
    if (dir == NULL)
        return errno != ENOENT && errno != ESRCH;
    while (!holds && (entry = readdir(dir)) != NULL) {
        char name[384], info[1024];
        const char *number, *flags, *mount, *position;

        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (read_file(name, info, sizeof info) <= 0)
            continue;
        number = field(info, "ino");
        flags = field(info, "flags");
        mount = field(info, "mnt_id");
        position = strncmp(info, "pos:", 4) == 0 ? info + 4 : NULL;
        if (flags == NULL || ((strtoul(flags, NULL, 8) ^ (unsigned)opened) & SAME_FLAGS) != 0)
            continue;
        if (position != NULL && strtoull(position, NULL, 10) != 0)
            continue;
        /* Before Linux 5.14 there is no "ino": then it cannot be told. */
        if (number == NULL)
            holds = true;
        else if (strtoull(number, NULL, 10) == ino)
            holds = mount == NULL || is_our_mount(tid, strtol(mount, NULL, 10));
    }
    closedir(dir);
    return holds;
}

unsigned process_protected_regular(void)
{
    char text[16];

    return read_file("/proc/sys/fs/protected_regular", text, sizeof text) > 0
               ? (unsigned)strtoul(text, NULL, 10)
               : 0;
}
