#include "kvnode/admin/batch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define END_LOOK_MS 20
#define END_LOOKS 500 /* that long the command has to end before it is killed */

static const int ending[] = {SIGTERM, SIGINT, SIGHUP};

/* For the signal handler: what it has to end. */
static volatile sig_atomic_t running;

/* Ends the command, then this process, by the same signal. Only what is allowed in a handler. */
static void on_signal(int signal)
{
    pid_t child = (pid_t)running;
    if (child > 0) {
        kill(-child, signal);
        for (int i = 0; i < END_LOOKS && waitpid(child, NULL, WNOHANG) == 0; i++)
            poll(NULL, 0, END_LOOK_MS);
        kill(-child, SIGKILL);
    }
    raise(signal); /* by then with its default meaning */
}

void batch_init(struct batch *b, const struct admin *a)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    *b = (struct batch){.admin = a, .command = a->command, .fd = -1};
    for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++)
        sigaddset(&action.sa_mask, ending[i]);
    for (size_t i = 0; a->command != NULL && i < sizeof ending / sizeof ending[0]; i++)
        sigaction(ending[i], &action, NULL);
}

void batch_deinit(struct batch *b)
{
    if (b->child > 0) {
        kill(-b->child, SIGTERM);
        waitpid(b->child, NULL, 0);
        close(b->fd);
        running = 0;
    }
    buffer_deinit(&b->keys);
}

static bool is_there(const struct batch *b, const uint8_t *key, size_t len)
{
    const uint8_t *at = b->keys.data, *end = at + b->keys.len;
    for (size_t n; at < end; at += n + 1) {
        n = (size_t)((const uint8_t *)memchr(at, '\n', (size_t)(end - at)) - at);
        if (n == len && memcmp(at, key, len) == 0)
            return true;
    }
    return false;
}

void batch_add(struct batch *b, const void *key, size_t len)
{
    b->any = true;
    if (b->all || is_there(b, key, len))
        return;
    b->all = memchr(key, '\n', len) != NULL || memchr(key, '\0', len) != NULL ||
             b->keys.len + len + 1 > BATCH_KEYS_MAX;
    if (b->all) {
        buffer_clear(&b->keys);
        return;
    }
    buffer_put_bytes(&b->keys, key, len);
    buffer_put_u8(&b->keys, '\n');
}

/* In the child. */
static void run(const struct batch *b, const char *keys, const char *token, int tell)
{
    sigset_t none;
    int fd = open("/dev/null", O_RDONLY);
    sigemptyset(&none);
    setpgid(0, 0);
    for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++)
        signal(ending[i], SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (fd >= 0 && dup2(fd, STDIN_FILENO) >= 0 && setenv("KVNODE_KEYS", keys, 1) == 0 &&
        setenv("KVNODE_TOKEN", token, 1) == 0)
        execvp(b->command[0], b->command);
    int why = errno;
    if (write(tell, &why, sizeof why) < 0)
        _exit(126);
    _exit(127);
}

/* The errno with which exec failed, or 0: it runs. */
static int exec_result(int fd)
{
    int why = 0;
    ssize_t n;
    do
        n = read(fd, &why, sizeof why);
    while (n < 0 && errno == EINTR);
    close(fd);
    return n > 0 ? why : 0;
}

static int fail(const struct batch *b, int why)
{
    return admin_fail(b->admin, why == ENOENT ? 127 : 126, NULL, "cannot run %s: %s", b->command[0],
                      strerror(why));
}

int batch_start(struct batch *b, const char *token)
{
    sigset_t held, before;
    int tell[2];
    if (b->child > 0 || !b->any)
        return EXIT_OK;
    if (b->keys.len > 0)
        b->keys.len--; /* the last newline */
    buffer_put_u8(&b->keys, '\0');
    if (b->keys.failed || pipe2(tell, O_CLOEXEC) != 0)
        return fail(b, b->keys.failed ? ENOMEM : errno);
    fflush(stdout);
    sigemptyset(&held);
    for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++)
        sigaddset(&held, ending[i]);
    sigprocmask(SIG_BLOCK, &held, &before);
    pid_t child = fork();
    if (child == 0)
        run(b, b->all ? "*" : (const char *)b->keys.data, token, tell[1]);
    int why = child < 0 ? errno : 0;
    running = child > 0 ? child : 0;
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(tell[1]);
    int failed = exec_result(tell[0]);
    buffer_clear(&b->keys);
    b->any = b->all = false;
    if (child < 0)
        return fail(b, why);
    b->fd = failed == 0 ? pidfd_open(child, 0) : -1;
    if (b->fd < 0) {
        why = failed != 0 ? failed : errno;
        kill(child, SIGKILL);
        running = 0;
        waitpid(child, NULL, 0);
        return fail(b, why);
    }
    b->child = child;
    return EXIT_OK;
}

int batch_fd(const struct batch *b)
{
    return b->fd;
}

bool batch_ended(struct batch *b, int *status_out)
{
    int status = 0;
    if (b->child == 0 || waitpid(b->child, &status, WNOHANG) != b->child)
        return false;
    running = 0;
    close(b->fd);
    b->fd = -1;
    b->child = 0;
    *status_out = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return true;
}
