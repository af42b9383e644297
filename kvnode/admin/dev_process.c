#include "kvnode/admin/dev_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/base/clock.h"

/* State letter and start time (fields 3 and 22 of proc(5)'s stat). False: no
 * such process. The name in field 2 may hold anything, so count from its ")". */
static bool read_stat(pid_t pid, char *state_out, unsigned long long *start_out)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    const char *p = strrchr(text, ')');
    if (p == NULL || p[1] != ' ')
        return false;
    p += 2;
    *state_out = *p;
    for (int field = 3; field < 22; field++) {
        p = strchr(p, ' ');
        if (p == NULL)
            return false;
        p++;
    }
    *start_out = strtoull(p, NULL, 10);
    return true;
}

static int write_pid(const char *path, pid_t pid)
{
    char state, temporary[4096];
    unsigned long long start;
    if (!read_stat(pid, &state, &start))
        return -ESRCH;
    if ((size_t)snprintf(temporary, sizeof temporary, "%s.new", path) >= sizeof temporary)
        return -ENAMETOOLONG;
    FILE *f = fopen(temporary, "we");
    if (f == NULL)
        return -errno;
    fprintf(f, "%ld %llu\n", (long)pid, start);
    if (fclose(f) != 0 || rename(temporary, path) != 0)
        return -errno;
    return 0;
}

pid_t dev_running(const char *pid_path)
{
    long pid = 0;
    unsigned long long recorded = 0, start;
    char state;
    FILE *f = fopen(pid_path, "re");
    if (f == NULL)
        return 0;
    int n = fscanf(f, "%ld %llu", &pid, &recorded);
    fclose(f);
    if (n != 2 || pid <= 1 || !read_stat((pid_t)pid, &state, &start))
        return 0;
    return start == recorded && state != 'Z' && state != 'X' ? (pid_t)pid : 0;
}

bool dev_is_paused(pid_t pid)
{
    char state;
    unsigned long long start;
    return read_stat(pid, &state, &start) && state == 'T';
}

bool dev_wait_gone(pid_t pid, unsigned timeout_ms)
{
    char state;
    unsigned long long start;
    uint64_t deadline = clock_boot_ms() + timeout_ms;
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    bool gone = fd < 0 && errno == ESRCH;
    while (!gone) {
        uint64_t now = clock_boot_ms();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        (void)waitpid(pid, NULL, WNOHANG); /* if it is our own child */
        /* A zombie may have threads yet that wait for a disk and hold its ports; the pidfd waits for them. */
        if (fd >= 0)
            gone = poll(&p, 1, 0) > 0;
        else
            gone = !read_stat(pid, &state, &start) || state == 'Z' || state == 'X';
        if (gone || now >= deadline)
            break;
        /* Without pidfd (an old kernel) this is a poll every 20 ms. */
        poll(&p, fd >= 0 ? 1 : 0, fd >= 0 ? (int)(deadline - now) : 20);
    }
    if (fd >= 0)
        close(fd);
    return gone;
}

/* The environment of a daemon keeps nothing of the caller's that would change its
 * configuration. */
static void clean_environment(const char *program)
{
    extern char **environ;
    for (char **e = environ; *e != NULL;) {
        char name[128];
        size_t len = strcspn(*e, "=");
        if (strncmp(*e, "KVNODE_", 7) == 0 && len < sizeof name) {
            memcpy(name, *e, len);
            name[len] = '\0';
            unsetenv(name); /* moves the rest down */
        } else {
            e++;
        }
    }
    unsetenv("STATE_DIRECTORY");
    unsetenv("CREDENTIALS_DIRECTORY");
    unsetenv("RUNTIME_DIRECTORY");
    setenv("KVNODE_PROGRAM", program, 1);
}

int dev_spawn(char *const argv[], const char *log_path, const char *pid_path, const char *program,
              pid_t *pid_out)
{
    int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (log < 0 || null < 0) {
        int rc = -errno;
        if (log >= 0)
            close(log);
        return rc;
    }
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        setsid();
        if (dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0 || chdir("/") != 0)
            _exit(126);
        close_range(3, ~0U, 0);
        clean_environment(program);
        execv(argv[0], argv);
        dprintf(2, "kvnode: cannot run %s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    int rc = pid < 0 ? -errno : write_pid(pid_path, pid);
    close(log);
    close(null);
    *pid_out = pid;
    return rc;
}
