#include "tests/fault/lib/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/base/clock.h"

#define THINGS_MAX 64
#define FUSECTL "/sys/fs/fuse/connections"

enum what { NOTHING, PROCESS, MOUNT };

/* What the test tells; small enough to be written at once (PIPE_BUF). */
struct note {
    enum what what;
    bool gone;
    unsigned number;
    char path[256];
};

struct guard {
    pid_t pid;
    int fd;
};

bool guard_abort(unsigned connection)
{
    char path[64];
    int fd;
    bool done;

    snprintf(path, sizeof path, FUSECTL "/%u/abort", connection);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    done = write(fd, "1", 1) == 1;
    close(fd);
    return done;
}

static void clean_up(const struct note *things)
{
    unsigned i;

    for (i = 0; i < THINGS_MAX; i++) {
        if (things[i].what == MOUNT) {
            guard_abort(things[i].number);
            umount2(things[i].path, MNT_DETACH);
        }
    }
    for (i = 0; i < THINGS_MAX; i++)
        if (things[i].what == PROCESS)
            kill((pid_t)things[i].number, SIGKILL);
}

static void apply(struct note *things, const struct note *n)
{
    unsigned i;

    for (i = 0; i < THINGS_MAX; i++) {
        if (n->gone && things[i].what == n->what && things[i].number == n->number)
            things[i].what = NOTHING;
        else if (!n->gone && things[i].what == NOTHING) {
            things[i] = *n;
            return;
        }
    }
}

static void watch(int fd, uint64_t deadline_ms)
{
    struct note things[THINGS_MAX] = {0}, n;
    struct pollfd p = {.fd = fd, .events = POLLIN};

    for (;;) {
        uint64_t now = clock_boot_ms();
        ssize_t got;

        if (now >= deadline_ms) {
            static const char late[] = "# the watchdog's time is over: everything is killed\n";

            (void)!write(STDERR_FILENO, late, sizeof late - 1);
            break;
        }
        if (poll(&p, 1, (int)(deadline_ms - now)) <= 0)
            continue;
        got = read(fd, &n, sizeof n);
        if (got == 0)
            break;
        if (got == (ssize_t)sizeof n)
            apply(things, &n);
    }
    clean_up(things);
}

struct guard *guard_start(unsigned seconds)
{
    struct guard *g = calloc(1, sizeof *g);
    int fds[2];

    if (g == NULL || pipe2(fds, O_CLOEXEC) != 0) {
        free(g);
        return NULL;
    }
    g->fd = fds[1];
    if (geteuid() == 0 && mount("none", FUSECTL, "fusectl", 0, NULL) != 0 && errno != EBUSY)
        perror(FUSECTL);
    g->pid = fork();
    if (g->pid == 0) {
        setsid(); /* an interrupt at the terminal is for the test */
        close(fds[1]);
        watch(fds[0], clock_boot_ms() + seconds * UINT64_C(1000));
        _exit(0);
    }
    close(fds[0]);
    if (g->pid < 0) {
        close(g->fd);
        free(g);
        return NULL;
    }
    return g;
}

static void tell(struct guard *g, enum what what, bool gone, unsigned number, const char *path)
{
    struct note n;

    memset(&n, 0, sizeof n);
    n.what = what;
    n.gone = gone;
    n.number = number;
    snprintf(n.path, sizeof n.path, "%s", path);
    while (write(g->fd, &n, sizeof n) < 0 && errno == EINTR)
        ;
}

void guard_end(struct guard *g)
{
    if (g == NULL)
        return;
    close(g->fd);
    waitpid(g->pid, NULL, 0);
    free(g);
}

void guard_process(struct guard *g, pid_t pid)
{
    tell(g, PROCESS, false, (unsigned)pid, "");
}

void guard_process_gone(struct guard *g, pid_t pid)
{
    tell(g, PROCESS, true, (unsigned)pid, "");
}

void guard_mount(struct guard *g, unsigned connection, const char *mountpoint)
{
    tell(g, MOUNT, false, connection, mountpoint);
}

void guard_mount_gone(struct guard *g, unsigned connection)
{
    tell(g, MOUNT, true, connection, "");
}
