/* doctor: the checks of start-up and those around it, each with its mend. */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvnode/config.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/ssh/doctor.h"

struct doctor {
    const struct admin *a;
    const char *node; /* name of the node under examination, or NULL */
    unsigned n_failed, n_warned;
};

static void report(void *arg, enum ssh_check result, const char *name, const char *detail, const char *mend)
{
    struct doctor *d = arg;
    static const char *const words[] = {"PASS", "WARN", "FAIL"};
    static const char *const colors[] = {"\033[32m", "\033[33m", "\033[31m"};
    d->n_failed += result == SSH_CHECK_FAIL;
    d->n_warned += result == SSH_CHECK_WARN;
    if (d->a->opt[OPT_JSON] != NULL) {
        json_line(json_pack("{s:s?, s:s, s:s, s:s, s:s}", "node", d->node, "check", name, "result",
                            words[result], "detail", detail, "mend", mend));
        return;
    }
    if (result == SSH_CHECK_PASS && d->a->opt[OPT_QUIET] != NULL)
        return;
    printf("%s%s%s  %-18s %s\n", d->a->color ? colors[result] : "", words[result],
           d->a->color ? "\033[0m" : "", name, detail);
    if (mend[0] != '\0')
        printf("      %-18s %s\n", "", mend);
}

__attribute__((format(printf, 5, 6))) static void
say(struct doctor *d, enum ssh_check result, const char *name, const char *mend, const char *fmt, ...)
{
    char detail[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(detail, sizeof detail, fmt, ap);
    va_end(ap);
    report(d, result, name, detail, mend);
}

static void check_data(struct doctor *d, const struct config *c)
{
    struct stat st;
    struct statvfs fs;
    char path[PATH_MAX];
    if (stat(c->data_dir, &st) != 0) {
        say(d, SSH_CHECK_FAIL, "data directory", "kvnode init makes a node's data directory", "%s: %s",
            c->data_dir, strerror(errno));
        return;
    }
    if (!S_ISDIR(st.st_mode))
        say(d, SSH_CHECK_FAIL, "data directory", "give [node] data a directory", "%s is no directory",
            c->data_dir);
    else if ((st.st_mode & 077) != 0)
        say(d, SSH_CHECK_FAIL, "data directory", "chmod 700 it", "%s has mode %03o: others may enter",
            c->data_dir, (unsigned)st.st_mode & 0777);
    else
        say(d, SSH_CHECK_PASS, "data directory", "", "%s", c->data_dir);
    snprintf(path, sizeof path, "%s/log.db", c->data_dir);
    bool log = access(path, F_OK) == 0, founding = access(c->founding, F_OK) == 0;
    if (!log && !founding)
        say(d, SSH_CHECK_WARN, "log",
            "start it; if its data were lost, also: kvnode readmit, at another node",
            "no log yet: this node waits until a member of the cluster lets it in");
    else
        say(d, SSH_CHECK_PASS, "log", "", "%s", log ? path : "not yet begun (founding)");
    if (statvfs(c->data_dir, &fs) == 0) {
        char free_text[32];
        uint64_t left = (uint64_t)fs.f_bavail * fs.f_frsize;
        format_size(left, free_text, sizeof free_text);
        enum ssh_check r = left < UINT64_C(64) << 20  ? SSH_CHECK_FAIL
                           : left < UINT64_C(2) << 30 ? SSH_CHECK_WARN
                                                      : SSH_CHECK_PASS;
        say(d, r, "free disk",
            r == SSH_CHECK_PASS ? "" : "make room: a node with a full disk stops acknowledging", "%s for %s",
            free_text, c->data_dir);
    }
}

static void check_socket_dir(struct doctor *d, const struct config *c)
{
    char dir[CONFIG_SOCKET_PATH_MAX + 1];
    snprintf(dir, sizeof dir, "%s", c->socket);
    char *slash = strrchr(dir, '/');
    slash[slash == dir] = '\0';
    if (access(dir, W_OK | X_OK) != 0 && errno != ENOENT)
        say(d, SSH_CHECK_FAIL, "socket directory", "choose another [node] socket, or run as its owner",
            "%s: %s", dir, strerror(errno));
    else
        say(d, SSH_CHECK_PASS, "socket directory", "", "%s", dir);
}

static void check_machine(struct doctor *d)
{
    struct timex t = {0};
    int state = adjtimex(&t);
    if (clock_wall_ns() / 1000000000 < 1700000000)
        say(d, SSH_CHECK_FAIL, "clock", "set the clock and run an NTP client", "the clock is years behind");
    else if (state < 0 || (t.status & STA_UNSYNC) != 0)
        say(d, SSH_CHECK_WARN, "clock", "run an NTP client; times of versions come from this clock",
            "the kernel does not call the clock synchronised");
    else
        say(d, SSH_CHECK_PASS, "clock", "", "synchronised");
    if (access("/dev/fuse", R_OK | W_OK) != 0)
        say(d, SSH_CHECK_WARN, "fuse",
            errno == EACCES ? "chmod 666 /dev/fuse, as distributions do; only mounts need it"
                            : "modprobe fuse; only mounts need it",
            "/dev/fuse: %s", strerror(errno));
    else
        say(d, SSH_CHECK_PASS, "fuse", "", "/dev/fuse");
}

static void check_status(struct doctor *d, struct request_link *l)
{
    json_t *status, *m;
    char sentence[400];
    size_t i;
    int rc = cluster_status(l, &status);
    if (rc != 0) {
        say(d, SSH_CHECK_FAIL, "cluster", "look into the node's log", "no status: %s",
            rc > 0 ? error_text(rc) : strerror(-rc));
        return;
    }
    cluster_sentence(status, sentence, sizeof sentence);
    bool quorum = json_is_true(json_object_get(status, "quorum"));
    say(d, quorum ? SSH_CHECK_PASS : SSH_CHECK_FAIL, "cluster", quorum ? "" : "start the nodes that are down",
        "%s", sentence);
    json_array_foreach(json_object_get(status, "members"), i, m)
    {
        const char *state = cluster_text(m, "state"), *error = cluster_text(m, "error");
        bool ok = strcmp(state, "healthy") == 0;
        say(d, ok ? SSH_CHECK_PASS : SSH_CHECK_WARN, "member",
            ok ? "" : "kvnode doctor on that machine, and its log, say more", "%s is %s%s%s",
            cluster_text(m, "name"), state, error[0] != '\0' ? ": " : "", error);
    }
    json_int_t files = cluster_number(status, "open_files_limit");
    if (files != 0)
        say(d, files < 1024 ? SSH_CHECK_WARN : SSH_CHECK_PASS, "open files",
            files < 1024 ? "ulimit -n 4096 (LimitNOFILE= of the service)" : "", "the node's limit is %lld",
            (long long)files);
    json_array_foreach(json_object_get(status, "warnings"), i, m)
    {
        say(d, SSH_CHECK_WARN, "warning", "", "%s", json_string_value(m));
    }
    json_decref(status);
}

/* The node behind a socket. */
static void check_node(struct doctor *d, const char *socket)
{
    struct request_link l = {.admin = d->a};
    request_restart_clock(&l);
    int rc = client_open(socket, CLIENT_ADMIN, "kvnode doctor", 0, 3000, &l.client, &l.node);
    if (rc != 0) {
        say(d, SSH_CHECK_FAIL, "node", "start it: kvnode run (or systemctl start kvnode@NAME)", "%s: %s",
            socket, rc > 0 ? error_text(rc) : strerror(-rc));
        return;
    }
    say(d, SSH_CHECK_PASS, "node", "", "%s answers at %s", l.node.name, socket);
    check_status(d, &l);
    request_close(&l);
}

static void check_peers(struct doctor *d, const struct config *c)
{
    for (size_t i = 0; i < c->n_peers; i++) {
        const struct ssh_check_config peer = {.host = c->peers[i].host, .port = c->peers[i].port};
        ssh_check_port(&peer, report, d);
    }
}

/* $RUNTIME_DIRECTORY is the service's, not ours: then it lies beside the clients' socket. */
static void find_peer_socket(const struct config *c, char path[static CONFIG_SOCKET_PATH_MAX + 1])
{
    char beside[CONFIG_SOCKET_PATH_MAX + 8];
    const char *slash = strrchr(c->socket, '/');
    if (access(path, F_OK) == 0)
        return;
    int n = snprintf(beside, sizeof beside, "%.*s/%s.peer", (int)(slash - c->socket), c->socket, c->name);
    if (n > 0 && n <= CONFIG_SOCKET_PATH_MAX && access(beside, F_OK) == 0)
        memcpy(path, beside, (size_t)n + 1);
}

/* What only the account under which the node runs can judge: what it may read and write,
 * its shell, its keys. */
static void check_as_account(struct doctor *d, const struct config *c)
{
    char peer_socket[CONFIG_SOCKET_PATH_MAX + 1];
    check_data(d, c);
    check_socket_dir(d, c);
    if (c->n_peers == 0 || config_peer_socket(c, peer_socket) != 0)
        return;
    find_peer_socket(c, peer_socket);
    const struct ssh_check_config ssh = {.client_key_path = c->client_key,
                                         .host_key_path = c->private_sshd ? c->host_key : NULL,
                                         .authorized_keys_path = c->authorized_keys,
                                         .known_hosts_path = c->known_hosts,
                                         .bridge_path = c->program,
                                         .socket_path = peer_socket};
    ssh_check_programs(&ssh, report, d);
    ssh_check_account(&ssh, report, d);
    ssh_check_files(&ssh, report, d);
}

static bool become(uid_t uid, gid_t gid)
{
    const struct passwd *pw = getpwuid(uid);
    if (pw != NULL ? initgroups(pw->pw_name, pw->pw_gid) != 0 : setgroups(1, &gid) != 0)
        return false;
    return setgid(pw != NULL ? pw->pw_gid : gid) == 0 && setuid(uid) == 0;
}

/* Root looks with the account's eyes: in a child, which tells how many checks failed. */
static void check_as(struct doctor *d, const struct config *c, uid_t uid, gid_t gid)
{
    unsigned counts[2];
    int fds[2], status;
    ssize_t got = -1;
    fflush(stdout);
    pid_t pid = pipe2(fds, O_CLOEXEC) == 0 ? fork() : -1;
    if (pid == 0) {
        struct doctor theirs = {.a = d->a, .node = d->node};
        if (!become(uid, gid))
            _exit(1);
        check_as_account(&theirs, c);
        counts[0] = theirs.n_failed;
        counts[1] = theirs.n_warned;
        _exit(fflush(stdout) != 0 || write(fds[1], counts, sizeof counts) != (ssize_t)sizeof counts);
    }
    if (pid > 0) {
        close(fds[1]);
        got = read(fds[0], counts, sizeof counts);
        close(fds[0]);
        waitpid(pid, &status, 0);
    }
    if (got != (ssize_t)sizeof counts) {
        say(d, SSH_CHECK_FAIL, "account", "", "cannot look as uid %u, whose the node's files are",
            (unsigned)uid);
        return;
    }
    d->n_failed += counts[0];
    d->n_warned += counts[1];
}

static void check_configured(struct doctor *d, const struct config *c)
{
    struct stat st;
    d->node = c->name;
    if (d->a->opt[OPT_JSON] == NULL)
        printf("%s (%s)\n", c->name, c->file != NULL ? c->file : "no file");
    if (stat(c->data_dir, &st) != 0 || st.st_uid == geteuid()) {
        check_as_account(d, c);
    } else if (geteuid() == 0) {
        check_as(d, c, st.st_uid, st.st_gid);
    } else {
        const struct passwd *pw = getpwuid(st.st_uid);
        char number[24];
        snprintf(number, sizeof number, "uid %u", (unsigned)st.st_uid);
        say(d, SSH_CHECK_WARN, "account", "run kvnode doctor as that account, or as root, for the rest",
            "the node's files belong to %s, and only it can judge them", pw != NULL ? pw->pw_name : number);
    }
    if (!config_number_fits(c->n_peers + 1))
        say(d, SSH_CHECK_FAIL, "nodes", "add or remove a [peer] section",
            "a cluster has 1, 3, 5 or 7 nodes, the configuration names %zu", c->n_peers + 1);
    if (c->n_peers > 0)
        check_peers(d, c);
    check_node(d, c->socket);
}

/* Without a configuration: whatever answers. */
static void check_sockets(struct doctor *d)
{
    char dir[108], pattern[PATH_MAX];
    glob_t found;
    if (client_socket_dir(dir, sizeof dir) != 0)
        return;
    snprintf(pattern, sizeof pattern, "%s/*.sock", dir);
    if (glob(pattern, 0, NULL, &found) != 0) {
        say(d, SSH_CHECK_FAIL, "node", "start a node: kvnode init, kvnode run; or set KVNODE_SOCKET_DIR",
            "there is no socket in %s", dir);
        return;
    }
    for (size_t i = 0; i < found.gl_pathc; i++)
        check_node(d, found.gl_pathv[i]);
    globfree(&found);
}

/* All configurations of the directory, when none was named and there are several. */
static bool check_all(struct doctor *d)
{
    char dir[PATH_MAX - 16], pattern[PATH_MAX];
    glob_t found;
    if (d->a->opt[OPT_NODE] != NULL || d->a->opt[OPT_CONFIG] != NULL || getenv("KVNODE_NODE") != NULL ||
        getenv("KVNODE_CONFIG") != NULL || config_dir(dir, sizeof dir) != 0)
        return false;
    snprintf(pattern, sizeof pattern, "%s/*.conf", dir);
    if (glob(pattern, 0, NULL, &found) != 0)
        return false;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        const struct config_request request = {
            .file = found.gl_pathv[i], .flags = d->a->settings, .n_flags = d->a->n_settings};
        struct config *c;
        char message[1024];
        if (config_load(&request, &c, message, sizeof message) != 0) {
            report(d, SSH_CHECK_FAIL, "configuration", message,
                   "mend that line; kvnode config shows what is read");
            continue;
        }
        check_configured(d, c);
        config_free(c);
    }
    globfree(&found);
    return true;
}

int verb_doctor(struct admin *a)
{
    struct doctor d = {.a = a};
    check_machine(&d);
    if (!check_all(&d)) {
        const struct config_request request = {.file = a->opt[OPT_CONFIG],
                                               .name = a->opt[OPT_NODE],
                                               .flags = a->settings,
                                               .n_flags = a->n_settings};
        struct config *c;
        char message[1024];
        int rc = config_load(&request, &c, message, sizeof message);
        if (rc == 0) {
            check_configured(&d, c);
            config_free(c);
        } else if (rc == -ENOENT && a->opt[OPT_CONFIG] == NULL && a->opt[OPT_NODE] == NULL) {
            check_sockets(&d);
        } else {
            report(&d, SSH_CHECK_FAIL, "configuration", message,
                   "mend that line; kvnode config shows what is read");
        }
    }
    if (a->opt[OPT_JSON] == NULL)
        printf("%u failed, %u warnings\n", d.n_failed, d.n_warned);
    return d.n_failed > 0 ? EXIT_FAILED : EXIT_OK;
}
