#include "sync/ssh/doctor.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "sync/ssh/dial.h"
#include "sync/ssh/identity.h"
#include "sync/ssh/process.h"
#include "sync/ssh/sshd_config.h"

#define PORT_MS 2000

/* One result. fmt makes the detail; mend may be "". */
struct reporter {
    ssh_check_report *report;
    void *arg;
};

__attribute__((format(printf, 5, 6))) static void
say(const struct reporter *r, enum ssh_check result, const char *name, const char *mend, const char *fmt, ...)
{
    char detail[PATH_MAX + 256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(detail, sizeof detail, fmt, args);
    va_end(args);
    r->report(r->arg, result, name, detail, mend);
}

static void check_program(const struct reporter *r, const char *name, const char *program, const char *given,
                          const char *mend)
{
    static const char *const dirs[] = {"/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/bin", NULL};
    char path[PATH_MAX];

    if (given != NULL && access(given, X_OK) == 0)
        say(r, SSH_CHECK_PASS, name, "", "%s", given);
    else if (given != NULL)
        say(r, SSH_CHECK_FAIL, name, mend, "%s: %s", given, strerror(errno));
    else if (process_find(program, dirs, path, sizeof path) == 0)
        say(r, SSH_CHECK_PASS, name, "", "%s", path);
    else
        say(r, SSH_CHECK_FAIL, name, mend, "%s was not found", program);
}

void ssh_check_programs(const struct ssh_check_config *c, ssh_check_report *report, void *arg)
{
    struct reporter r = {report, arg};

    check_program(&r, "sshd program", "sshd", c->sshd_program, "install the package openssh-server");
    check_program(&r, "ssh-keygen program", "ssh-keygen", NULL, "install the package openssh-client");
    if (c->bridge_path == NULL)
        return;
    if (!identity_path_valid(c->bridge_path))
        say(&r, SSH_CHECK_FAIL, "bridge program", "install it under a path of letters, digits and /._-",
            "%s cannot stand in authorized_keys", c->bridge_path);
    else
        check_program(&r, "bridge program", "kvnode", c->bridge_path,
                      "install kvnode there, or correct the path");
}

void ssh_check_account(const struct ssh_check_config *c, ssh_check_report *report, void *arg)
{
    struct reporter r = {report, arg};
    const struct passwd *pw = getpwuid(geteuid());
    const char *shell, *base;
    struct stat st;

    (void)c;
    if (pw == NULL) {
        say(&r, SSH_CHECK_FAIL, "account", "create the account with useradd, or run as another user",
            "user id %u has no passwd entry, and sshd lets nobody in without one", geteuid());
    } else {
        say(&r, SSH_CHECK_PASS, "account", "", "%s (uid %u)", pw->pw_name, pw->pw_uid);
        shell = pw->pw_shell != NULL && pw->pw_shell[0] != '\0' ? pw->pw_shell : "/bin/sh";
        base = strrchr(shell, '/') != NULL ? strrchr(shell, '/') + 1 : shell;
        if (strcmp(base, "nologin") == 0 || strcmp(base, "false") == 0 || access(shell, X_OK) < 0)
            say(&r, SSH_CHECK_FAIL, "login shell", "give it a shell: usermod -s /bin/sh ACCOUNT",
                "sshd runs the bridge through %s, which runs nothing", shell);
        else
            say(&r, SSH_CHECK_PASS, "login shell", "", "%s", shell);
        if (stat(pw->pw_dir, &st) < 0 || !S_ISDIR(st.st_mode))
            say(&r, SSH_CHECK_WARN, "home directory", "create it; sshd logs a complaint at each login",
                "%s does not exist", pw->pw_dir);
        else
            say(&r, SSH_CHECK_PASS, "home directory", "", "%s", pw->pw_dir);
    }
    if (stat("/etc/nologin", &st) == 0)
        say(&r, geteuid() == 0 ? SSH_CHECK_WARN : SSH_CHECK_FAIL, "/etc/nologin",
            "remove it when the maintenance is over", "it is there, and stops every login but root's");
    else
        say(&r, SSH_CHECK_PASS, "/etc/nologin", "", "absent");
}

static void check_key(const struct reporter *r, const char *name, const char *path)
{
    char key[IDENTITY_PUBLIC_MAX], print[IDENTITY_FINGERPRINT_MAX] = "?";
    struct stat st;
    int error;

    if (path == NULL)
        return;
    if (stat(path, &st) < 0) {
        say(r, SSH_CHECK_FAIL, name, "start the node once: it makes its keys", "%s: %s", path,
            strerror(errno));
        return;
    }
    if (st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
        say(r, SSH_CHECK_FAIL, name, "chown it to the node's user and chmod 600 it", "%s: uid %u, mode %04o",
            path, st.st_uid, st.st_mode & 07777u);
        return;
    }
    error = identity_read_public(path, key);
    if (error < 0) {
        say(r, SSH_CHECK_FAIL, name, "replace it by: ssh-keygen -t ed25519 -N '' -f FILE", "%s: %s", path,
            error == -EINVAL ? "not an ed25519 key in OpenSSH form without a passphrase" : strerror(-error));
        return;
    }
    identity_fingerprint(key, print);
    say(r, SSH_CHECK_PASS, name, "", "%s %s", path, print);
}

static void check_trusted(const struct reporter *r, const char *name, const char *path)
{
    char culprit[PATH_MAX];

    if (path == NULL)
        return;
    if (access(path, R_OK) < 0)
        say(r, SSH_CHECK_FAIL, name, "start the node: it writes this file from its list of peers", "%s: %s",
            path, strerror(errno));
    else if (sshd_path_safety(path, culprit, sizeof culprit) == PATH_EXPOSED)
        say(r, SSH_CHECK_FAIL, name, "chmod go-w it, or chown it to the node's user or root",
            "%s: others may write to %s", path, culprit);
    else
        say(r, SSH_CHECK_PASS, name, "", "%s", path);
}

void ssh_check_files(const struct ssh_check_config *c, ssh_check_report *report, void *arg)
{
    struct reporter r = {report, arg};
    struct stat st;

    check_key(&r, "client key", c->client_key_path);
    check_key(&r, "host key", c->host_key_path);
    check_trusted(&r, "authorized keys", c->authorized_keys_path);
    check_trusted(&r, "pinned host keys", c->known_hosts_path);
    if (c->socket_path == NULL)
        return;
    if (stat(c->socket_path, &st) < 0)
        say(&r, SSH_CHECK_WARN, "peer socket", "start the node", "%s: %s", c->socket_path, strerror(errno));
    else if (!S_ISSOCK(st.st_mode) || (st.st_mode & 077) != 0)
        say(&r, SSH_CHECK_FAIL, "peer socket", "stop the node, remove the file, start the node",
            "%s is not a socket of mode 0600", c->socket_path);
    else
        say(&r, SSH_CHECK_PASS, "peer socket", "", "%s", c->socket_path);
}

void ssh_check_port(const struct ssh_check_config *c, ssh_check_report *report, void *arg)
{
    struct reporter r = {report, arg};
    uint64_t deadline = clock_boot_ms() + PORT_MS, now;
    enum ssh_failure failure = SSH_FAILED_LOCAL;
    char message[256] = "", banner[5] = "";
    size_t n = 0;
    int fd;

    if (c->host == NULL || c->port == 0)
        return;
    fd = dial(c->host, c->port, deadline, -1, &failure, message, sizeof message);
    if (fd < 0) {
        say(&r, SSH_CHECK_FAIL, "port",
            "start the node there; look at its firewall and at the configured address", "%s port %u: %s",
            c->host, c->port, message);
        return;
    }
    /* RFC 4253 §4.2: the server may begin at once. */
    while (n < 4 && (now = clock_boot_ms()) < deadline) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t got;

        if (poll(&p, 1, (int)(deadline - now)) <= 0)
            continue;
        got = recv(fd, banner + n, 4 - n, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
            break;
        n += got > 0 ? (size_t)got : 0;
    }
    close(fd);
    if (memcmp(banner, "SSH-", 4) == 0)
        say(&r, SSH_CHECK_PASS, "port", "", "%s port %u speaks SSH", c->host, c->port);
    else
        say(&r, SSH_CHECK_FAIL, "port", "look which program has the port: ss -ltnp",
            "%s port %u is open, but %s", c->host, c->port, n == 0 ? "says nothing" : "does not speak SSH");
}

void ssh_check_environment(const struct ssh_check_config *c, ssh_check_report *report, void *arg)
{
    ssh_check_programs(c, report, arg);
    ssh_check_account(c, report, arg);
    ssh_check_files(c, report, arg);
    ssh_check_port(c, report, arg);
}
