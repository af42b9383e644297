#include "sync/ssh/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/base/buffer.h"
#include "sync/base/clock.h"

#define OUTPUT_MAX ((size_t)64 * 1024)

extern char **environ;

/* pidfd_open has no wrapper in the oldest glibc that we build with. */
static int open_pidfd(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

int process_wait(pid_t pid, uint32_t timeout_ms, int *status_out)
{
    uint64_t deadline = clock_boot_ms() + timeout_ms;
    int fd = open_pidfd(pid), result;

    for (;;) {
        uint64_t now = clock_boot_ms();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        pid_t got = waitpid(pid, status_out, WNOHANG);

        if (got == pid)
            result = 0;
        else if (got < 0 && errno != EINTR)
            result = -errno;
        else if (now >= deadline)
            result = -ETIMEDOUT;
        else {
            /* Without a pidfd: look again every few milliseconds. */
            poll(&p, 1, fd >= 0 ? (int)(deadline - now) : 5);
            continue;
        }
        break;
    }
    if (fd >= 0)
        close(fd);
    return result;
}

static int start(const char *const argv[], int output_fd, pid_t *pid_out)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int error;

    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    error = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (error == 0)
        error = posix_spawn_file_actions_adddup2(&actions, output_fd, STDOUT_FILENO);
    if (error == 0)
        error = posix_spawn_file_actions_adddup2(&actions, output_fd, STDERR_FILENO);
    if (error == 0)
        error = posix_spawnp(pid_out, argv[0], &actions, &attr, (char *const *)argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return -error;
}

/* Until end of file or the deadline. */
static void collect(int fd, uint64_t deadline, struct buffer *output)
{
    char text[4096];

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        uint64_t now = clock_boot_ms();
        ssize_t n;

        if (now >= deadline)
            return;
        if (poll(&p, 1, (int)(deadline - now)) <= 0)
            continue;
        n = read(fd, text, sizeof text);
        if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
            return;
        if (n > 0 && output != NULL && output->len + (size_t)n <= OUTPUT_MAX)
            buffer_put_bytes(output, text, (size_t)n);
    }
}

int process_run(const char *const argv[], uint32_t timeout_ms, struct buffer *output, int *status_out)
{
    uint64_t deadline = clock_boot_ms() + timeout_ms, now;
    int fds[2], result;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    result = start(argv, fds[1], &pid);
    close(fds[1]);
    if (result == 0) {
        collect(fds[0], deadline, output);
        now = clock_boot_ms();
        result = process_wait(pid, now < deadline ? (uint32_t)(deadline - now) : 0, status_out);
        if (result == -ETIMEDOUT) {
            kill(pid, SIGKILL);
            waitpid(pid, status_out, 0);
        }
    }
    close(fds[0]);
    return result;
}

static int is_program(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

int process_find(const char *name, const char *const dirs[], char *out, size_t size)
{
    const char *path = getenv("PATH");

    for (; *dirs != NULL; dirs++)
        if (snprintf(out, size, "%s/%s", *dirs, name) < (int)size && is_program(out))
            return 0;
    while (path != NULL && *path != '\0') {
        size_t n = strcspn(path, ":");

        if (path[0] == '/' && snprintf(out, size, "%.*s/%s", (int)n, path, name) < (int)size &&
            is_program(out))
            return 0;
        path += n + (path[n] == ':');
    }
    return -ENOENT;
}
