/* Children are found by their parents in /proc: there is no list of them that holds still. */
#include "kvnode/admin/hold_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct process {
    pid_t pid, parent;
};

/* From the state on: proc(5), fields 3 and 20. */
static long n_threads(const char *state)
{
    const char *p = state;
    for (int i = 3; i < 20 && p != NULL; i++)
        if ((p = strchr(p, ' ')) != NULL)
            p++;
    return p != NULL ? strtol(p, NULL, 10) : 0;
}

/* A process whose first thread has ended is a zombie to look at, and runs on with its others. */
static bool read_parent(const char *pid, pid_t *parent_out)
{
    char path[288], text[512], *p;
    int fd;
    ssize_t n;
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    p = strrchr(text, ')');
    if (p == NULL || p[1] != ' ' || p[2] == '\0' || p[2] == 'X')
        return false;
    *parent_out = (pid_t)strtol(p + 3, NULL, 10);
    return p[2] != 'Z' || n_threads(p + 2) > 1;
}

static size_t read_processes(struct process **all_out)
{
    struct process *all = NULL;
    size_t n = 0, cap = 0;
    struct dirent *e;
    DIR *dir = opendir("/proc");
    while (dir != NULL && (e = readdir(dir)) != NULL) {
        pid_t parent;
        if (e->d_name[0] < '1' || e->d_name[0] > '9' || !read_parent(e->d_name, &parent))
            continue;
        if (n == cap) {
            cap = cap > 0 ? 2 * cap : 256;
            struct process *more = reallocarray(all, cap, sizeof *all);
            if (more == NULL)
                break;
            all = more;
        }
        all[n++] = (struct process){.pid = (pid_t)strtol(e->d_name, NULL, 10), .parent = parent};
    }
    if (dir != NULL)
        closedir(dir);
    *all_out = all;
    return n;
}

unsigned tree_signal(int number)
{
    struct process *all;
    size_t n = read_processes(&all), found = 0;
    unsigned refused = 0;
    /* Those that are found go to the front, and are looked at as parents in their turn. */
    for (size_t at = 0; at <= found; at++) {
        pid_t parent = at == 0 ? getpid() : all[at - 1].pid;
        for (size_t i = found; i < n; i++) {
            struct process p = all[i];
            if (p.parent != parent)
                continue;
            all[i] = all[found];
            all[found++] = p;
        }
    }
    for (size_t i = 0; i < found; i++)
        if (kill(all[i].pid, number) != 0 && errno == EPERM)
            refused++;
    free(all);
    return refused;
}

/* ---- cgroups ---- */

/* The file in the cgroup. */
static void put(const char *cgroup, const char *file, const char *text)
{
    char path[PATH_MAX];
    int fd;
    if (cgroup[0] == '\0' || (size_t)snprintf(path, sizeof path, "%s/%s", cgroup, file) >= sizeof path)
        return;
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)!write(fd, text, strlen(text));
    close(fd);
}

void tree_cgroup_make(char *path_out, size_t size)
{
    char line[PATH_MAX], own[PATH_MAX] = "", kill_file[PATH_MAX];
    const struct mntent *m;
    FILE *f = fopen("/proc/self/cgroup", "re");
    path_out[0] = '\0';
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "0::/", 4) == 0)
            snprintf(own, sizeof own, "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
    if (f != NULL)
        fclose(f);
    f = own[0] != '\0' ? setmntent("/proc/mounts", "re") : NULL;
    while (f != NULL && (m = getmntent(f)) != NULL) {
        if (strcmp(m->mnt_type, "cgroup2") != 0)
            continue;
        int n = snprintf(path_out, size, "%s%s/kvnode-hold-%ld", m->mnt_dir, strcmp(own, "/") != 0 ? own : "",
                         (long)getpid());
        if (n < 0 || (size_t)n >= size || mkdir(path_out, 0755) != 0)
            path_out[0] = '\0';
        break;
    }
    if (f != NULL)
        endmntent(f);
    /* Before Linux 5.14 there is nothing in it that is of use. */
    if (path_out[0] != '\0' &&
        ((size_t)snprintf(kill_file, sizeof kill_file, "%s/cgroup.kill", path_out) >= sizeof kill_file ||
         access(kill_file, W_OK) != 0)) {
        rmdir(path_out);
        path_out[0] = '\0';
    }
}

void tree_cgroup_enter(const char *path)
{
    put(path, "cgroup.procs", "0");
}

void tree_cgroup_kill(const char *path)
{
    put(path, "cgroup.kill", "1");
}

void tree_cgroup_remove(const char *path)
{
    if (path[0] != '\0')
        rmdir(path);
}
