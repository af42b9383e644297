/* Start: configuration, `sshd -t` (an option of a later OpenSSH is dropped when
 * this one does not know it), a look at the port, fork and exec.
 *
 * The look at the port is for the message alone: between it and sshd's own bind
 * another program may take the port; then sshd ends, and sshd_reaped tells its
 * last words.
 *
 * fork and not posix_spawn, because the death signal has to be asked for in the
 * child (prctl). The child calls async-signal-safe functions only. */
#include "sync/ssh/sshd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/base/buffer.h"
#include "sync/base/clock.h"
#include "sync/ssh/identity.h"
#include "sync/ssh/process.h"
#include "sync/ssh/sshd_config.h"

#define CHECK_MS 5000
#define STOP_MS 2000
#define RETRY_MIN_MS 500
#define RETRY_MAX_MS 10000
#define STABLE_MS 10000
#define PRIVILEGE_SEPARATION_DIR "/run/sshd"

struct sshd {
    struct sshd_config config; /* strings owned */
    char program[PATH_MAX];
    char config_path[PATH_MAX], log_path[PATH_MAX];
    char user[64];
    bool checked;          /* sshd -t has accepted the configuration */
    bool strict_modes;     /* as last written */
    bool source_penalties; /* this sshd knows PerSourcePenalties */
    pid_t pid;             /* 0: not running */
    uint64_t started_ms;
    uint32_t retry_ms;
};

__attribute__((format(printf, 4, 5))) static int refuse(int error, char *message, size_t size,
                                                        const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(message, size, fmt, args);
    va_end(args);
    return error;
}

static int check_arguments(const struct sshd_config *c, char *message, size_t size)
{
    if (c->run_dir == NULL || !identity_path_valid(c->run_dir) || c->host_key_path == NULL ||
        !identity_path_valid(c->host_key_path) || c->authorized_keys_path == NULL ||
        !identity_path_valid(c->authorized_keys_path))
        return refuse(-EINVAL, message, size,
                      "sshd: a path is missing, not absolute, or has a character other than letters, digits "
                      "and /._-+,:@=");
    if (c->port == 0)
        return refuse(-EINVAL, message, size, "sshd: port 0");
    if (c->listen_address != NULL &&
        strspn(c->listen_address, "0123456789abcdefABCDEF.:") != strlen(c->listen_address))
        return refuse(-EINVAL, message, size, "sshd: the address to listen on must be numeric: %s",
                      c->listen_address);
    if (c->log_level != NULL && strspn(c->log_level, "ABCDEFGHIJKLMNOPQRSTUVWXYZ123") != strlen(c->log_level))
        return refuse(-EINVAL, message, size, "sshd: no such log level: %s", c->log_level);
    return 0;
}

int sshd_new(const struct sshd_config *config, struct sshd **sshd_out, char *message_out, size_t message_size)
{
    static const char *const dirs[] = {"/usr/sbin", "/usr/local/sbin", "/sbin", NULL};
    struct sshd *s;
    struct passwd *pw;
    int error;

    *sshd_out = NULL;
    message_out[0] = '\0';
    error = check_arguments(config, message_out, message_size);
    if (error < 0)
        return error;
    s = calloc(1, sizeof *s);
    if (s == NULL)
        return refuse(-ENOMEM, message_out, message_size, "out of memory");
    s->retry_ms = RETRY_MIN_MS;
    s->source_penalties = true;
    s->config.port = config->port;
    s->config.run_dir = strdup(config->run_dir);
    s->config.listen_address = strdup(config->listen_address != NULL ? config->listen_address : "127.0.0.1");
    s->config.host_key_path = strdup(config->host_key_path);
    s->config.authorized_keys_path = strdup(config->authorized_keys_path);
    s->config.log_level = strdup(config->log_level != NULL ? config->log_level : "INFO");
    s->config.extra = config->extra != NULL ? strdup(config->extra) : NULL;
    if (s->config.run_dir == NULL || s->config.listen_address == NULL || s->config.host_key_path == NULL ||
        s->config.authorized_keys_path == NULL || s->config.log_level == NULL ||
        (config->extra != NULL && s->config.extra == NULL)) {
        error = refuse(-ENOMEM, message_out, message_size, "out of memory");
        goto fail;
    }
    pw = getpwuid(geteuid());
    if (pw == NULL || snprintf(s->user, sizeof s->user, "%s", pw->pw_name) >= (int)sizeof s->user) {
        error = refuse(-EINVAL, message_out, message_size,
                       "sshd: user id %u has no entry in the passwd database, so nobody can log in to it",
                       geteuid());
        goto fail;
    }
    /* sshd insists on an absolute path: it executes itself for each connection. */
    if (config->program != NULL && config->program[0] == '/')
        error = snprintf(s->program, sizeof s->program, "%s", config->program) < PATH_MAX ? 0 : -ENAMETOOLONG;
    else
        error = process_find("sshd", dirs, s->program, sizeof s->program);
    if (error == 0 && access(s->program, X_OK) < 0)
        error = -errno;
    if (error < 0) {
        refuse(error, message_out, message_size, "sshd is not installed (package openssh-server): %s",
               strerror(-error));
        goto fail;
    }
    if (snprintf(s->config_path, sizeof s->config_path, "%s/sshd_config", config->run_dir) >= PATH_MAX ||
        snprintf(s->log_path, sizeof s->log_path, "%s/sshd.log", config->run_dir) >= PATH_MAX) {
        error = refuse(-EINVAL, message_out, message_size, "sshd: the run directory's path is too long");
        goto fail;
    }
    *sshd_out = s;
    return 0;
fail:
    sshd_free(s);
    return error;
}

void sshd_free(struct sshd *s)
{
    if (s == NULL)
        return;
    sshd_stop(s);
    free((char *)s->config.run_dir);
    free((char *)s->config.listen_address);
    free((char *)s->config.host_key_path);
    free((char *)s->config.authorized_keys_path);
    free((char *)s->config.log_level);
    free((char *)s->config.extra);
    free(s);
}

void sshd_config_text(const struct sshd *s, struct buffer *b)
{
    sshd_config_write(&s->config, s->user, s->strict_modes, s->checked && s->source_penalties, b);
}

static int write_config(struct sshd *s, bool source_penalties, char *message, size_t size)
{
    struct buffer text = BUFFER_INIT;
    int fd = open(s->config_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600), error = 0;

    if (fd < 0)
        return refuse(-errno, message, size, "cannot write %s: %s", s->config_path, strerror(errno));
    sshd_config_write(&s->config, s->user, s->strict_modes, source_penalties, &text);
    if (text.failed)
        error = -ENOMEM;
    else if (write(fd, text.data, text.len) != (ssize_t)text.len)
        error = errno != 0 ? -errno : -EIO;
    close(fd);
    buffer_deinit(&text);
    return error == 0 ? 0
                      : refuse(error, message, size, "cannot write %s: %s", s->config_path, strerror(-error));
}

/* The last line, for a message. */
static void last_line(const char *text, size_t len, char *out, size_t size)
{
    size_t begin;

    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
        len--;
    begin = len;
    while (begin > 0 && text[begin - 1] != '\n')
        begin--;
    if (len - begin >= size)
        len = begin + size - 1;
    for (size_t i = begin; i < len; i++)
        *out++ = text[i] >= ' ' && text[i] < 0x7f ? text[i] : '?';
    *out = '\0';
}

static int check_config(struct sshd *s, char *message, size_t size)
{
    const char *const argv[] = {s->program, "-t", "-f", s->config_path, NULL};
    bool penalties = s->source_penalties;
    struct buffer output = BUFFER_INIT;
    char text[256];
    int error, status = 0;

    for (;;) {
        error = write_config(s, penalties, message, size);
        if (error < 0 || s->checked)
            break;
        buffer_clear(&output);
        error = process_run(argv, CHECK_MS, &output, &status);
        if (error < 0) {
            refuse(error, message, size, "cannot run %s -t: %s", s->program, strerror(-error));
            break;
        }
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            break;
        if (penalties && memmem(output.data, output.len, "PerSourcePenalties", 18) != NULL) {
            penalties = false;
            continue;
        }
        last_line((char *)output.data, output.len, text, sizeof text);
        error = refuse(-EINVAL, message, size, "sshd refuses its configuration %s: %s", s->config_path,
                       text[0] != '\0' ? text : "no reason given");
        break;
    }
    buffer_deinit(&output);
    if (error == 0) {
        s->checked = true;
        s->source_penalties = penalties;
    }
    return error;
}

static int check_port(const struct sshd_config *c, char *message, size_t size)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    char digits[8];
    int fd, on = 1, error = 0;

    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
    snprintf(digits, sizeof digits, "%u", c->port);
    if (getaddrinfo(c->listen_address, digits, &hints, &list) != 0)
        return refuse(-EINVAL, message, size, "sshd: not an address: %s", c->listen_address);
    fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* As sshd does: the remains of old connections do not count. */
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, list->ai_addr, list->ai_addrlen) < 0 || listen(fd, 1) < 0)
        error = -errno;
    if (fd >= 0)
        close(fd);
    freeaddrinfo(list);
    if (error == -EADDRINUSE)
        refuse(error, message, size, "port %u at %s is taken by another program", c->port, c->listen_address);
    else if (error < 0)
        refuse(error, message, size, "cannot listen on port %u at %s: %s", c->port, c->listen_address,
               strerror(-error));
    return error;
}

static int check_paths(struct sshd *s, char *message, size_t size)
{
    char culprit[PATH_MAX];
    struct stat st;

    switch (sshd_path_safety(s->config.authorized_keys_path, culprit, sizeof culprit)) {
    case PATH_SAFE:
        s->strict_modes = true;
        break;
    case PATH_STICKY:
        s->strict_modes = false;
        break;
    case PATH_EXPOSED:
        return refuse(-EPERM, message, size,
                      "others may write to %s, so they could give themselves access: "
                      "chmod go-w it",
                      culprit);
    }
    if (stat(s->config.host_key_path, &st) < 0)
        return refuse(-errno, message, size, "no host key %s: %s", s->config.host_key_path, strerror(errno));
    if (geteuid() == 0 && mkdir(PRIVILEGE_SEPARATION_DIR, 0755) < 0 && errno != EEXIST)
        return refuse(-errno, message, size, "cannot create " PRIVILEGE_SEPARATION_DIR ": %s",
                      strerror(errno));
    return 0;
}

static void run_child(const struct sshd *s, pid_t parent, int log_fd)
{
    const char *const argv[] = {s->program, "-D", "-e", "-f", s->config_path, NULL};
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    sigset_t none;
    int null_fd;

    /* Its own group: an interrupt from the terminal is the node's business. */
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(127);
    for (int sig = 1; sig < NSIG; sig++)
        sigaction(sig, &dfl, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    null_fd = open("/dev/null", O_RDWR);
    if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 || dup2(log_fd, STDOUT_FILENO) < 0 ||
        dup2(log_fd, STDERR_FILENO) < 0)
        _exit(127);
    syscall(SYS_close_range, 3u, ~0u, 0u);
    execv(s->program, (char *const *)argv);
    _exit(127);
}

int sshd_start(struct sshd *s, char *message_out, size_t message_size)
{
    pid_t parent = getpid(), pid;
    int error, log_fd;

    message_out[0] = '\0';
    if (s->pid != 0)
        return -EALREADY;
    error = check_paths(s, message_out, message_size);
    if (error == 0)
        error = check_config(s, message_out, message_size);
    if (error == 0)
        error = check_port(&s->config, message_out, message_size);
    if (error < 0)
        return error;
    log_fd = open(s->log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log_fd < 0)
        return refuse(-errno, message_out, message_size, "cannot write %s: %s", s->log_path, strerror(errno));
    pid = fork();
    if (pid == 0)
        run_child(s, parent, log_fd);
    error = pid < 0 ? -errno : 0;
    close(log_fd);
    if (error < 0)
        return refuse(error, message_out, message_size, "cannot start sshd: %s", strerror(-error));
    s->pid = pid;
    s->started_ms = clock_boot_ms();
    return 0;
}

pid_t sshd_pid(const struct sshd *s)
{
    return s->pid;
}

static void read_log_end(const struct sshd *s, char *out, size_t size)
{
    int fd = open(s->log_path, O_RDONLY | O_CLOEXEC);
    char text[1024];
    struct stat st;
    ssize_t n;

    out[0] = '\0';
    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0) {
        off_t from = st.st_size > (off_t)sizeof text ? st.st_size - (off_t)sizeof text : 0;

        n = pread(fd, text, sizeof text, from);
        if (n > 0)
            last_line(text, (size_t)n, out, size);
    }
    close(fd);
}

bool sshd_reaped(struct sshd *s, pid_t pid, int status, uint32_t *retry_ms_out, char *message_out,
                 size_t message_size)
{
    char text[256];

    if (pid <= 0 || pid != s->pid)
        return false;
    s->pid = 0;
    if (clock_boot_ms() - s->started_ms >= STABLE_MS)
        s->retry_ms = RETRY_MIN_MS;
    *retry_ms_out = s->retry_ms;
    s->retry_ms = s->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : s->retry_ms * 2;
    read_log_end(s, text, sizeof text);
    if (WIFSIGNALED(status))
        snprintf(message_out, message_size, "sshd (pid %d) was killed by signal %d; its log ends: %s",
                 (int)pid, WTERMSIG(status), text);
    else
        snprintf(message_out, message_size, "sshd (pid %d) ended with status %d; its log ends: %s", (int)pid,
                 WEXITSTATUS(status), text);
    return true;
}

bool sshd_poll(struct sshd *s, uint32_t *retry_ms_out, char *message_out, size_t message_size)
{
    int status = 0;

    if (s->pid == 0 || waitpid(s->pid, &status, WNOHANG) != s->pid)
        return false;
    return sshd_reaped(s, s->pid, status, retry_ms_out, message_out, message_size);
}

void sshd_stop(struct sshd *s)
{
    int status;

    if (s->pid == 0)
        return;
    kill(s->pid, SIGTERM);
    kill(s->pid, SIGCONT); /* a stopped process takes no SIGTERM */
    if (process_wait(s->pid, STOP_MS, &status) == -ETIMEDOUT) {
        kill(s->pid, SIGKILL);
        while (waitpid(s->pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    s->pid = 0;
}
