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
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvnode/config/config.h"
#include "kvnode/config/data_dir.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/raft/log/log_check.h"
#include "sync/raft/log/log_store.h"
#include "sync/ssh/doctor.h"

#define MEND_MAX 512
#define GROUP 0 /* the one that a node has */

struct doctor {
    const struct admin *a;
    const char *node; /* name of the node under examination, or NULL */
    bool dev;         /* it is one of a `kvnode dev` cluster */
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

/* Whether a node has the directory now. The lock is let go at once: a node that starts waits for it. */
static bool in_use(const struct config *c)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/lock", c->data_dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool taken = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (fd >= 0)
        close(fd);
    return taken;
}

/* What log.db says of itself, and how to go on from there: a sentence each. */
static void say_damaged(struct doctor *d, const struct config *c, char *why)
{
    char mend[MEND_MAX] = "";
    char *at = strstr(why, ": " LOG_STORE_MEND);
    if (at != NULL) {
        const char *rest = at + 2, *name = strstr(rest, "NAME");
        snprintf(mend, sizeof mend, "%.*s%s%s", (int)(name - rest), rest, c->name, name + 4);
        *at = '\0';
    }
    report(d, SSH_CHECK_FAIL, "log", why, mend);
}

/* As the next start reads it. *is_member_out: it has been a member of its cluster. */
static void check_log(struct doctor *d, const struct config *c, bool *is_member_out)
{
    char path[PATH_MAX], floor[PATH_MAX], readmitted[PATH_MAX], why[LOG_STORE_ERROR_LEN] = "";
    bool exists;
    snprintf(path, sizeof path, "%s/log.db", c->data_dir);
    snprintf(floor, sizeof floor, "%s/log.db-floor", c->data_dir);
    snprintf(readmitted, sizeof readmitted, "%s/" DATA_DIR_READMITTED, c->data_dir);
    *is_member_out = true;
    if (access(path, F_OK) != 0 && access(floor, F_OK) != 0) {
        *is_member_out = false;
        if (access(c->founding, F_OK) == 0) {
            say(d, SSH_CHECK_PASS, "log", "", "not yet begun (founding)");
        } else {
            char mend[MEND_MAX];
            snprintf(mend, sizeof mend,
                     "start it; if its data were lost, also: kvnode readmit %s, at another node", c->name);
            say(d, SSH_CHECK_WARN, "log", mend,
                "no log yet: this node waits until a member of the cluster lets it in");
        }
        return;
    }
    if (in_use(c)) {
        say(d, SSH_CHECK_PASS, "log", "", "%s (a running node has it: not examined)", path);
        return;
    }
    if (access(readmitted, F_OK) == 0) {
        say(d, SSH_CHECK_PASS, "log", "", "%s (goes at the next start: this node was readmitted)", path);
        return;
    }
    int rc = log_check(path, GROUP, &exists, why);
    if (rc == -EAGAIN || (rc != 0 && in_use(c)))
        say(d, SSH_CHECK_PASS, "log", "", "%s (a node starts with it: not examined)", path);
    else if (rc == 0)
        say(d, SSH_CHECK_PASS, "log", "", "%s", path);
    else if (rc == -EBADMSG || rc == -EINVAL || rc == -EPROTO)
        say_damaged(d, c, why);
    else
        say(d, SSH_CHECK_WARN, "log", "make room, or set TMPDIR to a folder that has it", "not examined: %s",
            why);
    if (rc == 0)
        *is_member_out = exists;
}

/* What a start of a node refuses that is no member yet. */
static void check_sections(struct doctor *d, const struct config *c)
{
    if (c->n_peers == 0 && access(c->founding, F_OK) != 0)
        say(d, SSH_CHECK_FAIL, "nodes",
            "append those of the others: kvnode config --peer prints a node's own, on its machine",
            "this node is to be let into cluster %016llx, and its configuration has no [peer] section",
            (unsigned long long)c->cluster_id);
}

static void check_data(struct doctor *d, const struct config *c)
{
    struct stat st;
    struct statvfs fs;
    bool is_member;
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
    check_log(d, c, &is_member);
    if (!is_member)
        check_sections(d, c);
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

static bool is_gone(const char *state)
{
    return strcmp(state, "unreachable") == 0 || strcmp(state, "silent") == 0;
}

/* What a member's state asks for. asked: the node whose view it is. */
static void mend_member(const struct doctor *d, const json_t *m, const char *asked, char *out, size_t size)
{
    const char *state = cluster_text(m, "state"), *name = cluster_text(m, "name");
    out[0] = '\0';
    if (strcmp(state, "healthy") == 0)
        return;
    if (strcmp(state, "gone back") == 0)
        snprintf(out, size, "kvnode readmit %s%s", name, strcmp(name, asked) == 0 ? ", at another node" : "");
    else if (d->dev && is_gone(state))
        snprintf(out, size, "kvnode dev start %s (resume, if it is paused)", name);
    else if (strcmp(name, asked) == 0)
        snprintf(out, size, "its log says more");
    else
        snprintf(out, size, "kvnode doctor on that machine, and its log, say more");
}

/* What brings back a cluster that does not work. */
static void mend_cluster(const struct doctor *d, const json_t *status, char *out, size_t size)
{
    const char *way_back = cluster_text(status, "way_back");
    bool down = false, gone_back = false;
    const json_t *m;
    size_t i;
    out[0] = '\0';
    if (way_back[0] != '\0') {
        snprintf(out, size, "%s", way_back);
        return;
    }
    json_array_foreach(json_object_get(status, "members"), i, m)
    {
        down |= is_gone(cluster_text(m, "state"));
        gone_back |= strcmp(cluster_text(m, "state"), "gone back") == 0;
    }
    if (down)
        snprintf(out, size, "%s",
                 d->dev ? "kvnode dev start all (resume, if they are paused)"
                        : "start the nodes that are down");
    else if (gone_back)
        snprintf(out, size, "readmit those that have gone back, as below");
    else
        snprintf(out, size, "kvnode status, and the nodes' logs, say more");
}

static void check_status(struct doctor *d, struct request_link *l)
{
    json_t *status, *m;
    char sentence[400], mend[MEND_MAX];
    size_t i;
    int rc = cluster_status(l, &status);
    if (rc != 0) {
        say(d, SSH_CHECK_FAIL, "cluster", "look into the node's log", "no status: %s",
            rc > 0 ? error_text(rc) : strerror(-rc));
        return;
    }
    cluster_sentence(status, sentence, sizeof sentence);
    bool quorum = json_is_true(json_object_get(status, "quorum"));
    mend_cluster(d, status, mend, sizeof mend);
    say(d, quorum ? SSH_CHECK_PASS : SSH_CHECK_FAIL, "cluster", quorum ? "" : mend, "%s", sentence);
    json_array_foreach(json_object_get(status, "members"), i, m)
    {
        const char *state = cluster_text(m, "state"), *error = cluster_text(m, "error");
        bool ok = strcmp(state, "healthy") == 0;
        mend_member(d, m, cluster_text(status, "node"), mend, sizeof mend);
        say(d, ok ? SSH_CHECK_PASS : SSH_CHECK_WARN, "member", mend, "%s %s %s%s%s", cluster_text(m, "name"),
            strcmp(state, "gone back") == 0 ? "has" : "is", state, error[0] != '\0' ? ": " : "", error);
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

/* c: the node's configuration, or NULL. */
static void mend_node(const struct doctor *d, const struct config *c, char *out, size_t size)
{
    if (d->dev)
        snprintf(out, size, "start it: kvnode dev start %s (resume, if it is paused)", c->name);
    else if (c != NULL && d->a->opt[OPT_CONFIG] != NULL)
        snprintf(out, size, "start it: kvnode run -c %s (or systemctl start kvnode@NAME)",
                 d->a->opt[OPT_CONFIG]);
    else
        snprintf(out, size, "start it: kvnode run -n %s (or systemctl start kvnode@%s)",
                 c != NULL ? c->name : "NAME", c != NULL ? c->name : "NAME");
}

/* The node behind a socket. */
static void check_node(struct doctor *d, const struct config *c, const char *socket)
{
    struct request_link l = {.admin = d->a};
    char mend[MEND_MAX];
    request_restart_clock(&l);
    int rc = client_open(socket, CLIENT_ADMIN, "kvnode doctor", 0, 3000, &l.client, &l.node);
    if (rc != 0) {
        mend_node(d, c, mend, sizeof mend);
        say(d, SSH_CHECK_FAIL, "node", mend, "%s: %s", socket, rc > 0 ? error_text(rc) : strerror(-rc));
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
        struct doctor theirs = {.a = d->a, .node = d->node, .dev = d->dev};
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

/* DIR/NAME/data beside DIR/conf/NAME.conf and DIR/env: see kvnode/admin/dev.h. */
static bool is_dev(const struct config *c)
{
    char path[PATH_MAX], end[128];
    int n = snprintf(end, sizeof end, "/%s/data", c->name);
    size_t len = strlen(c->data_dir);
    if (len < (size_t)n || strcmp(c->data_dir + len - n, end) != 0)
        return false;
    len -= (size_t)n;
    snprintf(path, sizeof path, "%.*s/conf/%s.conf", (int)len, c->data_dir, c->name);
    if (access(path, F_OK) != 0)
        return false;
    snprintf(path, sizeof path, "%.*s/env", (int)len, c->data_dir);
    return access(path, F_OK) == 0;
}

/* This command, for another account. */
static void mend_account(const struct doctor *d, char *out, size_t size)
{
    const char *file = d->a->opt[OPT_CONFIG];
    snprintf(out, size, "run kvnode doctor%s%s as that account, or as root, for the rest",
             file != NULL ? " -c " : "", file != NULL ? file : "");
}

static void check_configured(struct doctor *d, const struct config *c)
{
    struct stat st;
    char mend[MEND_MAX];
    d->node = c->name;
    d->dev = is_dev(c);
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
        mend_account(d, mend, sizeof mend);
        say(d, SSH_CHECK_WARN, "account", mend, "the node's files belong to %s, and only it can judge them",
            pw != NULL ? pw->pw_name : number);
    }
    if (!config_number_fits(c->n_peers + 1))
        say(d, SSH_CHECK_FAIL, "nodes", "add or remove a [peer] section",
            "a cluster has 1, 3, 5 or 7 nodes, the configuration names %zu", c->n_peers + 1);
    if (c->n_peers > 0)
        check_peers(d, c);
    check_node(d, c, c->socket);
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
        check_node(d, NULL, found.gl_pathv[i]);
    globfree(&found);
}

/* file may be NULL: found by the node's name. */
static void say_unread(struct doctor *d, const char *file, const char *message)
{
    char mend[MEND_MAX];
    snprintf(mend, sizeof mend, "mend that line; kvnode config%s%s shows what is read",
             file != NULL ? " -c " : "", file != NULL ? file : "");
    report(d, SSH_CHECK_FAIL, "configuration", message, mend);
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
            say_unread(d, found.gl_pathv[i], message);
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
            say_unread(&d, a->opt[OPT_CONFIG], message);
        }
    }
    if (a->opt[OPT_JSON] == NULL)
        printf("%u failed, %u warning%s\n", d.n_failed, d.n_warned, d.n_warned == 1 ? "" : "s");
    return d.n_failed > 0 ? EXIT_FAILED : EXIT_OK;
}
