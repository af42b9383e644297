/* dev: a cluster on this machine to try things with, and to break. */
#include "kvnode/admin/dev.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "kvnode/admin/format.h"
#include "kvnode/admin/verbs.h"
#include "kvnode/config/config.h"
#include "sync/base/clock.h"

#define STOP_MS 10000

int dev_start(struct dev *d, struct dev_node *n)
{
    char *const argv[] = {d->program, (char *)"run", (char *)"--config", n->config, NULL};
    int rc = dev_spawn(argv, n->log, n->pid_file, d->program, &n->pid);
    if (rc != 0)
        return admin_fail(d->a, EXIT_FAILED, n->name, "cannot start: %s", strerror(-rc));
    return EXIT_OK;
}

void dev_stop(struct dev *d, struct dev_node *const *nodes, size_t n)
{
    uint64_t deadline = clock_boot_ms() + STOP_MS;
    for (size_t i = 0; i < n; i++)
        if (nodes[i]->pid != 0) {
            kill(nodes[i]->pid, SIGTERM);
            kill(nodes[i]->pid, SIGCONT); /* a paused one cannot hear */
        }
    for (size_t i = 0; i < n; i++) {
        pid_t pid = nodes[i]->pid;
        uint64_t now = clock_boot_ms();
        if (pid == 0)
            continue;
        if (!dev_wait_gone(pid, now < deadline ? (unsigned)(deadline - now) : 0)) {
            kill(pid, SIGKILL);
            dev_wait_gone(pid, STOP_MS);
            admin_say(d->a, "%s did not stop within %d s and was killed (SIGKILL, pid %ld); its log: %s",
                      nodes[i]->name, STOP_MS / 1000, (long)pid, nodes[i]->log);
        }
        nodes[i]->pid = 0;
        unlink(nodes[i]->pid_file);
    }
}

/* The root directory is made as root's. In a cluster that a user tries things
 * with it has to be the user's, or a mount of theirs could not be written to. */
static int own_root(struct dev *d)
{
    struct request_link l;
    struct admin quiet = *d->a;
    struct attr attr;
    struct command_result result;
    const struct command_body body = {
        .ino = KV_ROOT_INO, .valid = SETATTR_UID | SETATTR_GID, .uid = geteuid(), .gid = getegid()};
    if (geteuid() == 0)
        return EXIT_OK;
    quiet.timeout_ms = d->timeout_ms;
    int rc = request_open_socket(&quiet, d->nodes[0].socket, &l);
    if (rc == 0)
        rc = request_resolve(&l, "", false, &attr);
    if (rc == 0 && attr.uid == 0)
        rc = request_write(&l, COMMAND_SETATTR, &body, &result);
    request_close(&l);
    return rc == 0 ? EXIT_OK : admin_fail_code(d->a, "up", rc, l.detail, true);
}

/* make_only: stop before the start (contrib/quickstart shows it as a step). */
static int up(struct dev *d, bool make_only)
{
    uint64_t wanted = d->complete ? d->n_nodes : 3;
    bool moved;
    if (d->a->n_args > 1 && !admin_parse_number(d->a->args[1], 1, DEV_NODES_MAX, &wanted))
        return admin_usage(d->a, "up %s: use a number of nodes from 1 to %d", d->a->args[1], DEV_NODES_MAX);
    if (!config_number_fits(wanted))
        return admin_usage(d->a, "up %s: a cluster has 1, 3, 5 or 7 nodes", d->a->args[1]);
    if (d->complete && wanted != d->n_nodes)
        return admin_usage(
            d->a,
            "up %s: the cluster in %s has %zu nodes. For another number: kvnode dev down, remove %s, up %s",
            d->a->args[1], d->dir, d->n_nodes, d->dir, d->a->args[1]);
    /* An interrupted attempt may have made more; their number need not be one of a cluster. */
    if (wanted < d->n_nodes)
        wanted = d->n_nodes | 1;
    int exit = dev_prepare(d, wanted, &moved);
    if (exit != EXIT_OK)
        return exit;
    struct dev_node *nodes[DEV_NODES_MAX];
    for (size_t i = 0; i < d->n_nodes; i++)
        nodes[i] = &d->nodes[i];
    if (moved)
        dev_stop(d, nodes, d->n_nodes);
    if (make_only) {
        printf("%zu ed25519 keys\n", d->n_nodes);
        return EXIT_OK;
    }
    for (size_t i = 0; exit == EXIT_OK && i < d->n_nodes; i++) {
        if (nodes[i]->pid == 0)
            exit = dev_start(d, nodes[i]);
        else if (dev_is_paused(nodes[i]->pid))
            kill(nodes[i]->pid, SIGCONT);
    }
    if (exit == EXIT_OK)
        exit = dev_wait_ready(d, nodes, d->n_nodes);
    if (exit != EXIT_OK)
        return exit;
    dev_wait_links(d);
    exit = own_root(d);
    if (exit != EXIT_OK)
        return exit;
    dev_wait_level(d);
    const struct dev_node *leader = dev_leader(d);
    for (size_t i = 0; i < d->n_nodes; i++)
        printf("%s%s%s", i > 0 ? "  " : "", nodes[i]->name, nodes[i] == leader ? " (leader)" : "");
    putchar('\n');
    for (size_t i = 0; i < d->n_nodes; i++)
        if (nodes[i]->http_port != 0)
            printf("%s http://127.0.0.1:%u", i > 0 ? " " : "HTTP:", (unsigned)nodes[i]->http_port);
    putchar('\n');
    return EXIT_OK;
}

static int down(struct dev *d)
{
    struct dev_node *nodes[DEV_NODES_MAX];
    size_t n = 0;
    for (size_t i = 0; i < d->n_nodes; i++)
        if (d->nodes[i].pid != 0)
            nodes[n++] = &d->nodes[i];
    dev_stop(d, nodes, n);
    for (size_t i = 0; i < n; i++)
        printf("%s%s", i > 0 ? "  " : "", nodes[i]->name);
    printf("%s\n", n > 0 ? " stopped" : "no node runs");
    return EXIT_OK;
}

/* "kvnode: dev start all: TEXT" */
__attribute__((format(printf, 3, 4))) static int fail_who(const struct dev *d, int exit, const char *fmt, ...)
{
    char subject[80], text[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    snprintf(subject, sizeof subject, "%s %s", d->a->args[0], d->a->args[1]);
    return admin_fail(d->a, exit, subject, "%s", text);
}

/* The nodes that WHO means, running ones only if alive. */
static int choose(struct dev *d, const char *who, bool alive, struct dev_node **out, size_t *n_out)
{
    *n_out = 0;
    if (strcmp(who, "all") == 0) {
        for (size_t i = 0; i < d->n_nodes; i++)
            if ((d->nodes[i].pid != 0) == alive)
                out[(*n_out)++] = &d->nodes[i];
        if (*n_out > 0)
            return EXIT_OK;
        return fail_who(d, EXIT_FAILED, alive ? "no node runs" : "all nodes run already");
    }
    if (!alive && strcmp(who, "leader") == 0)
        return admin_usage(d->a, "leader: a node that is stopped does not lead; start its name, or all");
    if (!alive && strcmp(who, "follower") == 0) {
        for (size_t i = 0; i < d->n_nodes && *n_out == 0; i++)
            if (d->nodes[i].pid == 0)
                out[(*n_out)++] = &d->nodes[i];
        return *n_out > 0 ? EXIT_OK : fail_who(d, EXIT_FAILED, "all nodes run already");
    }
    if (strcmp(who, "leader") == 0 || strcmp(who, "follower") == 0) {
        struct dev_node *leader = dev_wait_leader(d);
        if (leader == NULL)
            return fail_who(d, EXIT_UNAVAILABLE, "no node leads now. Try: kvnode status");
        out[0] = leader;
        for (size_t i = 0; who[0] == 'f' && i < d->n_nodes && out[0] == leader; i++)
            if (&d->nodes[i] != leader && d->nodes[i].pid != 0 && !dev_is_paused(d->nodes[i].pid))
                out[0] = &d->nodes[i];
        if (who[0] == 'f' && out[0] == leader)
            return fail_who(d, EXIT_FAILED, "no follower runs");
        *n_out = 1;
        return EXIT_OK;
    }
    for (size_t i = 0; i < d->n_nodes; i++) {
        struct dev_node *n = &d->nodes[i];
        if (strcmp(n->name, who) != 0)
            continue;
        if ((n->pid != 0) != alive)
            return fail_who(d, EXIT_FAILED, alive ? "does not run" : "runs already (pid %ld)", (long)n->pid);
        out[0] = n;
        *n_out = 1;
        return EXIT_OK;
    }
    return admin_usage(d->a, "%s: use a node's name (n1), leader, follower or all", who);
}

/* Of the chosen ones those that there is something to do for. */
static int keep_paused(const struct dev *d, struct dev_node **nodes, size_t *n)
{
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++)
        if (dev_is_paused(nodes[i]->pid))
            nodes[kept++] = nodes[i];
    bool one = strcmp(d->a->args[1], "all") != 0;
    *n = kept;
    return kept > 0 ? EXIT_OK : fail_who(d, EXIT_FAILED, one ? "is not paused" : "no node is paused");
}

static int signal_nodes(struct dev *d, const char *who, int number, const char *name, const char *done)
{
    struct dev_node *nodes[DEV_NODES_MAX];
    size_t n;
    int exit = choose(d, who, true, nodes, &n);
    if (exit == EXIT_OK && number == SIGCONT)
        exit = keep_paused(d, nodes, &n);
    for (size_t i = 0; exit == EXIT_OK && i < n; i++) {
        if (kill(nodes[i]->pid, number) != 0)
            return admin_fail(d->a, EXIT_FAILED, nodes[i]->name, "%s", strerror(errno));
        if (number == SIGKILL && !dev_wait_gone(nodes[i]->pid, STOP_MS))
            return admin_fail(d->a, EXIT_FAILED, nodes[i]->name, "still there %d s after SIGKILL",
                              STOP_MS / 1000);
        printf("%s %s (%s, pid %ld)\n", nodes[i]->name, done, name, (long)nodes[i]->pid);
    }
    return exit;
}

static int start(struct dev *d, const char *who)
{
    struct dev_node *nodes[DEV_NODES_MAX];
    size_t n;
    int exit = choose(d, who, false, nodes, &n);
    uint64_t begin = clock_boot_ms();
    if (exit != EXIT_OK)
        return exit;
    for (size_t i = 0; i < n; i++)
        if (!dev_port_is_free(nodes[i]->port) ||
            (nodes[i]->http_port != 0 && !dev_port_is_free(nodes[i]->http_port)))
            return admin_fail(
                d->a, EXIT_FAILED, nodes[i]->name,
                "its %s 127.0.0.1:%u is taken by another program. Try: kvnode dev up, which chooses "
                "another port",
                dev_port_is_free(nodes[i]->port) ? "HTTP port" : "port",
                (unsigned)(dev_port_is_free(nodes[i]->port) ? nodes[i]->http_port : nodes[i]->port));
    for (size_t i = 0; exit == EXIT_OK && i < n; i++)
        exit = dev_start(d, nodes[i]);
    if (exit == EXIT_OK)
        exit = dev_wait_ready(d, nodes, n);
    if (exit != EXIT_OK)
        return exit;
    char took[32], tolerance[80] = "";
    format_duration(clock_boot_ms() - begin, took, sizeof took);
    dev_wait_links(d);
    struct dev_node *leader = dev_leader(d);
    json_t *status = leader != NULL ? dev_ask(d, leader, 2000) : dev_ask(d, nodes[0], 2000);
    for (size_t i = 0; i < n; i++)
        printf("%s%s", i > 0 ? ", " : "", nodes[i]->name);
    if (status != NULL && json_is_true(json_object_get(status, "quorum"))) {
        cluster_tolerance(status, tolerance, sizeof tolerance);
        printf(" caught up in %s. %s\n", took, tolerance);
    } else {
        printf(" started in %s. %zu of %zu nodes run, %zu are needed to write.\n", took, dev_count_running(d),
               d->n_nodes, d->n_nodes / 2 + 1);
    }
    json_decref(status);
    return EXIT_OK;
}

static int show(struct dev *d)
{
    if (d->a->opt[OPT_JSON] == NULL)
        printf("%-5s %-8s %-8s %-16s %-22s %s\n", "NODE", "STATE", "PID", "SSHD", "HTTP", "LOG");
    for (size_t i = 0; i < d->n_nodes; i++) {
        const struct dev_node *n = &d->nodes[i];
        const char *state = n->pid == 0 ? "stopped" : dev_is_paused(n->pid) ? "paused" : "running";
        char pid[16] = "-", http[32] = "-";
        if (n->pid != 0)
            snprintf(pid, sizeof pid, "%ld", (long)n->pid);
        if (n->http_port != 0)
            snprintf(http, sizeof http, "http://127.0.0.1:%u", (unsigned)n->http_port);
        if (d->a->opt[OPT_JSON] != NULL)
            json_line(json_pack("{s:s, s:s, s:I, s:i, s:i, s:s, s:s}", "name", n->name, "state", state, "pid",
                                (json_int_t)n->pid, "port", (int)n->port, "http_port", (int)n->http_port,
                                "log", n->log, "socket", n->socket));
        else
            printf("%-5s %-8s %-8s 127.0.0.1:%-6u %-22s %s\n", n->name, state, pid, (unsigned)n->port, http,
                   n->log);
    }
    return EXIT_OK;
}

int verb_dev(struct admin *a)
{
    static const struct {
        const char *name;
        bool needs_who;
    } actions[] = {{"up", false},   {"down", false}, {"status", false}, {"kill", true},
                   {"start", true}, {"pause", true}, {"resume", true},  {"make", false}};
    static struct dev d; /* large */
    const char *action = a->args[0];
    size_t known = 0;
    while (known < 8 && strcmp(actions[known].name, action) != 0)
        known++;
    if (known == 8)
        return admin_usage(a, "%s: use up, down, kill, start, pause, resume or status", action);
    if (actions[known].needs_who != (a->n_args == 2) && known != 0 && known != 7)
        return admin_usage(a,
                           actions[known].needs_who ? "%s whom? a node's name, leader, follower or all"
                                                    : "%s takes no argument",
                           action);
    int exit = dev_open(a, &d);
    if (exit != EXIT_OK)
        return exit;
    if (d.n_nodes == 0 && known != 0 && known != 7) {
        if (known == 1)
            return EXIT_OK;
        return admin_fail(a, EXIT_FAILED, action, "there is no cluster in %s. Try: kvnode dev up", d.dir);
    }
    switch (known) {
    case 0:
    case 7:
        return up(&d, known == 7);
    case 1:
        return down(&d);
    case 2:
        return show(&d);
    case 3:
        return signal_nodes(&d, a->args[1], SIGKILL, "SIGKILL", "killed");
    case 4:
        return start(&d, a->args[1]);
    case 5:
        return signal_nodes(&d, a->args[1], SIGSTOP, "SIGSTOP", "paused");
    default:
        return signal_nodes(&d, a->args[1], SIGCONT, "SIGCONT", "resumed");
    }
}
