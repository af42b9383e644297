#include "tests/disk/lib/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/fault/lib/needed.h"

#define ORDER_MS 10000

const char *disk_unavailable(void)
{
    if (geteuid() != 0)
        return "needs root";
    return access("/dev/fuse", R_OK | W_OK) != 0 ? "needs /dev/fuse" : NULL;
}

void disk_needed(void)
{
    needed(disk_unavailable());
}

/* The kernel's word, without touching the mount itself. */
static bool is_mounted(void *arg)
{
    struct disk *d = arg;
    FILE *f = fopen("/proc/self/mountinfo", "re");
    char line[1024], at[512];
    unsigned minor;
    bool found = false;

    while (f != NULL && !found && fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "%*u %*u %*u:%u %*s %511s", &minor, at) == 2 && strcmp(at, d->path) == 0) {
            d->connection = minor;
            found = true;
        }
    }
    if (f != NULL)
        fclose(f);
    return found;
}

bool disk_start(struct disk *d, struct guard *g, const char *path, uint64_t seed)
{
    char number[24];
    int in[2], out[2];

    *d = (struct disk){.guard = g};
    snprintf(d->path, sizeof d->path, "%s", path);
    snprintf(number, sizeof number, "%llu", (unsigned long long)seed);
    if (pipe2(in, O_CLOEXEC) != 0)
        return false;
    if (pipe2(out, O_CLOEXEC) != 0) {
        close(in[0]);
        close(in[1]);
        return false;
    }
    d->pid = fork();
    if (d->pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        execl(DISK_LAYER, DISK_LAYER, path, number, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    d->to = in[1];
    d->from = out[0];
    if (d->pid < 0) {
        d->pid = 0;
        close(d->to);
        close(d->from);
        return false;
    }
    guard_process(g, d->pid);
    if (!await(10000, is_mounted, d)) {
        fprintf(stderr, "# %s: the disk does not come up\n", path);
        disk_stop(d);
        return false;
    }
    guard_mount(g, d->connection, d->path);
    return disk_order(d, "syncs", NULL);
}

bool disk_under(struct disk *d, struct cluster *c, unsigned i, uint64_t seed)
{
    const char *data = c->nodes[i].data;
    char aside[200], files[210], out[512];

    snprintf(aside, sizeof aside, "%s.made", data);
    snprintf(files, sizeof files, "%s/.", aside);
    const char *const copy[] = {"cp", "-a", files, data, NULL};

    if (rename(data, aside) != 0 || mkdir(data, 0700) != 0 || !disk_start(d, c->guard, data, seed))
        return false;
    if (run_program(copy, 10000, out, sizeof out) != 0) {
        fprintf(stderr, "# %s\n", out);
        return false;
    }
    return disk_order(d, "settle", NULL);
}

bool disk_order(struct disk *d, const char *order, uint64_t numbers_out[2])
{
    struct pollfd p = {.fd = d->from, .events = POLLIN};
    unsigned long long numbers[2] = {0};
    char answer[128] = "", line[128];
    size_t len = (size_t)snprintf(line, sizeof line, "%s\n", order), got = 0;

    if (d->pid == 0 || write(d->to, line, len) != (ssize_t)len)
        goto failed;
    while (strchr(answer, '\n') == NULL) {
        ssize_t n = poll(&p, 1, ORDER_MS) == 1 ? read(d->from, answer + got, sizeof answer - 1 - got) : 0;

        if (n <= 0)
            goto failed;
        got += (size_t)n;
        answer[got] = '\0';
    }
    if (strncmp(answer, "ok", 2) != 0)
        goto failed;
    (void)sscanf(answer, "ok %llu %llu", &numbers[0], &numbers[1]);
    if (numbers_out != NULL) {
        numbers_out[0] = numbers[0];
        numbers_out[1] = numbers[1];
    }
    return true;

failed:
    fprintf(stderr, "# %s: \"%s\" was answered \"%s\"\n", d->path, order, answer);
    return false;
}

bool disks_cut(struct disk *disks, struct cluster *c, unsigned mask, bool torn, uint64_t numbers_out[2])
{
    bool ok = true;
    unsigned i;

    numbers_out[0] = numbers_out[1] = 0;
    for (i = 0; i < c->n; i++)
        if ((mask >> i & 1) != 0)
            disk_order(&disks[i], "stop", NULL);
    for (i = 0; i < c->n; i++)
        if ((mask >> i & 1) != 0 && c->nodes[i].pid != 0)
            kill(c->nodes[i].pid, SIGKILL);
    for (i = 0; i < c->n; i++) {
        uint64_t numbers[2] = {0};

        if ((mask >> i & 1) == 0)
            continue;
        if (!cluster_ended(c, i, 20000)) {
            fprintf(stderr, "# %s does not end when killed\n", c->nodes[i].name);
            ok = false;
        }
        ok = disk_order(&disks[i], torn ? "tear" : "drop", numbers) && ok;
        numbers_out[0] += numbers[0];
        numbers_out[1] += numbers[1];
    }
    return ok;
}

static bool has_ended(void *arg)
{
    struct disk *d = arg;

    return waitpid(d->pid, NULL, WNOHANG) == d->pid;
}

void disk_stop(struct disk *d)
{
    if (d->pid == 0)
        return;
    close(d->to); /* it unmounts and ends */
    close(d->from);
    if (!await(5000, has_ended, d)) {
        fprintf(stderr, "# %s: the disk is aborted\n", d->path);
        guard_abort(d->connection);
        kill(d->pid, SIGKILL);
        waitpid(d->pid, NULL, 0);
    }
    umount2(d->path, MNT_DETACH);
    guard_process_gone(d->guard, d->pid);
    if (d->connection != 0)
        guard_mount_gone(d->guard, d->connection);
    d->pid = 0;
}

static void save(const struct disk *d, const struct cluster *c, unsigned i)
{
    char to[200], out[256];
    const char *const copy[] = {"cp", "-a", c->nodes[i].data, to, NULL};

    snprintf(to, sizeof to, "%s/%s.saved", c->dir, c->nodes[i].name);
    if (d->pid != 0)
        run_program(copy, 20000, out, sizeof out);
}

bool disks_stop(struct disk *disks, struct cluster *c)
{
    bool right = true;
    unsigned i;

    for (i = 0; i < c->n; i++) {
        if (c->nodes[i].pid != 0)
            cluster_signal(c, i, SIGTERM);
        right = right && !c->nodes[i].dead;
    }
    for (i = 0; i < c->n; i++) {
        if (!right || c->keep)
            save(&disks[i], c, i);
        disk_stop(&disks[i]);
    }
    return right;
}
