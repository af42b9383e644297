#include "tests/fault/lib/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

const char *mount_unavailable(void)
{
    static char out[256];
    const char *const fusermount[] = {"fusermount3", "-V", NULL};

    if (access("/dev/fuse", R_OK | W_OK) != 0)
        return "needs /dev/fuse";
    if (geteuid() != 0 && run_program(fusermount, 5000, out, sizeof out) != 0)
        return "needs fusermount3";
    return NULL;
}

/* The kernel's word, without touching the mount itself. */
static bool find(const char *path, unsigned *connection_out)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    char line[1024], at[512];
    unsigned major, minor;
    bool found = false;

    while (f != NULL && !found && fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "%*u %*u %u:%u %*s %511s", &major, &minor, at) == 3 && strcmp(at, path) == 0) {
            *connection_out = minor;
            found = true;
        }
    }
    if (f != NULL)
        fclose(f);
    return found;
}

static bool is_up(void *arg)
{
    struct mounted *m = arg;
    int status;

    if (m->pid != 0 && waitpid(m->pid, &status, WNOHANG) == m->pid) {
        fprintf(stderr, "# kvfs ended with status %d; see %s\n", status, m->log);
        guard_process_gone(m->cluster->guard, m->pid);
        m->pid = 0;
    }
    return m->pid == 0 || find(m->path, &m->connection);
}

static bool is_gone(void *arg)
{
    struct mounted *m = arg;
    int status;

    if (m->pid != 0 && waitpid(m->pid, &status, WNOHANG) == m->pid) {
        guard_process_gone(m->cluster->guard, m->pid);
        m->pid = 0;
        if (status != 0)
            fprintf(stderr, "# kvfs ended with status %d; see %s\n", status, m->log);
    }
    return m->pid == 0;
}

bool mount_start(struct mounted *m, struct cluster *c, const char *name, const unsigned *nodes, unsigned n,
                 const char *options)
{
    char sockets[CLUSTER_MAX * 110] = "", o[128];
    unsigned i;
    int fd;

    *m = (struct mounted){.cluster = c};
    snprintf(m->path, sizeof m->path, "%s/%s", c->dir, name);
    snprintf(m->log, sizeof m->log, "%s/%s.log", c->dir, name);
    snprintf(o, sizeof o, "%s", options != NULL ? options : "timeout=5");
    for (i = 0; i < n; i++) {
        if (i > 0)
            strcat(sockets, ",");
        strcat(sockets, c->nodes[nodes[i]].socket);
    }
    if (mkdir(m->path, 0700) != 0 && errno != EEXIST)
        return false;
    fd = open(m->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    m->pid = fork();
    if (m->pid == 0) {
        const char *const argv[] = {FAULT_KVFS, "-f", sockets, m->path, "-o", o, NULL};

        setpgid(0, 0);
        dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    close(fd);
    if (m->pid < 0)
        return false;
    guard_process(c->guard, m->pid);
    if (!await(15000, is_up, m) || m->pid == 0) {
        fprintf(stderr, "# the mount does not come up; see %s\n", m->log);
        c->keep = true;
        return false;
    }
    guard_mount(c->guard, m->connection, m->path);
    return true;
}

static bool says(const char *log, const char *needle)
{
    FILE *f = fopen(log, "re");
    char line[2048];
    bool found = false;

    while (f != NULL && !found && fgets(line, sizeof line, f) != NULL)
        found = strstr(line, needle) != NULL;
    if (f != NULL)
        fclose(f);
    return found;
}

bool mount_stop(struct mounted *m)
{
    bool ok = true;
    unsigned connection;

    if (m->cluster == NULL)
        return true;
    if (m->pid != 0 && !is_gone(m)) {
        kill(m->pid, SIGCONT);
        kill(m->pid, SIGTERM);
        if (!await(15000, is_gone, m)) {
            fprintf(stderr, "# kvfs does not end: its connection is aborted\n");
            ok = false;
            guard_abort(m->connection);
            kill(m->pid, SIGKILL);
            await(5000, is_gone, m);
        }
    } else {
        fprintf(stderr, "# kvfs had ended by itself\n");
        ok = false;
    }
    if (find(m->path, &connection)) {
        guard_abort(connection);
        umount2(m->path, MNT_DETACH);
        fprintf(stderr, "# %s was still mounted\n", m->path);
        ok = false;
    }
    guard_mount_gone(m->cluster->guard, m->connection);
    if (says(m->log, "AddressSanitizer") || says(m->log, "LeakSanitizer") || says(m->log, "runtime error:")) {
        fprintf(stderr, "# %s: a sanitizer speaks\n", m->log);
        ok = false;
    }
    if (!ok)
        m->cluster->keep = true;
    m->cluster = NULL;
    return ok;
}
