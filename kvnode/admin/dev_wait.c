/* Looking at the try-out cluster's nodes, and waiting for them. */
#include "kvnode/admin/dev.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "sync/wire/feature.h"

#define LOOK_AGAIN_MS 20
#define TELL_AFTER_MS 2000
#define LINKS_MS 8000
#define LEVEL_MS 8000

static void pause_ms(unsigned ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

static bool runs(const struct dev_node *n)
{
    return n->pid != 0 && !dev_is_paused(n->pid);
}

json_t *dev_ask(const struct dev *d, const struct dev_node *n, unsigned timeout_ms)
{
    struct admin quiet = *d->a;
    json_t *status = NULL;
    quiet.timeout_ms = timeout_ms;
    struct request_link l = {.admin = &quiet};
    request_restart_clock(&l);
    if (client_open(n->socket, CLIENT_ADMIN, "kvnode dev", 0, timeout_ms, &l.client, &l.node) != 0)
        return NULL;
    if (cluster_status(&l, &status) != 0)
        status = NULL;
    request_close(&l);
    return status;
}

/* The last lines of a node's log, indented, to standard error. */
static void show_log(const struct dev_node *n)
{
    char text[2048];
    int fd = open(n->log, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    off_t size = lseek(fd, 0, SEEK_END);
    off_t at = size > (off_t)sizeof text - 1 ? size - (off_t)sizeof text + 1 : 0;
    ssize_t got = pread(fd, text, sizeof text - 1, at);
    close(fd);
    if (got <= 0)
        return;
    text[got] = '\0';
    char *line = text + got;
    for (int lines = 0; line > text && lines < 9; line--)
        lines += line[-1] == '\n';
    fprintf(stderr, "%s, the end of its log (%s):\n", n->name, n->log);
    for (char *save, *l = strtok_r(line, "\n", &save); l != NULL; l = strtok_r(NULL, "\n", &save))
        fprintf(stderr, "  %s\n", l);
}

/* What one node says, condensed. */
struct view {
    bool answers, quorum;
    char leader[40];
    json_int_t term, applied, commit;
    bool caught_up; /* as the leader sees it, or this node leads */
};

static void look(const struct dev *d, const struct dev_node *n, struct view *v)
{
    json_t *s = dev_ask(d, n, 500);
    *v = (struct view){.answers = s != NULL};
    if (s == NULL)
        return;
    v->quorum = json_is_true(json_object_get(s, "quorum"));
    snprintf(v->leader, sizeof v->leader, "%s", cluster_text(s, "leader"));
    v->term = cluster_number(s, "term");
    v->applied = cluster_number(s, "applied");
    v->commit = cluster_number(s, "commit");
    json_decref(s);
}

/* The node that leads, asked of the nodes that run: of several claims (a paused
 * or cut-off leader) the highest term counts. NULL: none. */
struct dev_node *dev_leader(struct dev *d)
{
    struct dev_node *leader = NULL;
    json_int_t term = -1;
    for (size_t i = 0; i < d->n_nodes; i++) {
        struct dev_node *n = &d->nodes[i];
        if (n->pid == 0 || dev_is_paused(n->pid))
            continue;
        json_t *s = dev_ask(d, n, 1000);
        if (s != NULL && strcmp(cluster_text(s, "role"), "leader") == 0 && cluster_number(s, "term") > term) {
            term = cluster_number(s, "term");
            leader = n;
        }
        json_decref(s);
    }
    return leader;
}

struct dev_node *dev_wait_leader(struct dev *d)
{
    uint64_t deadline = clock_boot_ms() + d->timeout_ms;
    struct dev_node *leader = dev_leader(d);
    while (leader == NULL && dev_count_running(d) >= d->n_nodes / 2 + 1 && clock_boot_ms() < deadline) {
        pause_ms(LOOK_AGAIN_MS);
        leader = dev_leader(d);
    }
    return leader;
}

size_t dev_count_running(const struct dev *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n_nodes; i++)
        n += runs(&d->nodes[i]);
    return n;
}

/* Whether member m can take a write and hears the other nodes that run. */
static bool is_back(const struct dev *d, const json_t *m)
{
    const json_t *hears = json_object_get(m, "hears"), *h;
    const char *name = cluster_text(m, "name");
    size_t i;
    if (!json_is_true(json_object_get(m, "usable")))
        return false;
    for (size_t k = 0; k < d->n_nodes; k++) {
        const struct dev_node *other = &d->nodes[k];
        bool heard = !runs(other) || strcmp(other->name, name) == 0;
        json_array_foreach(hears, i, h)
        {
            heard |= strcmp(json_string_value(h), other->name) == 0;
        }
        if (!heard)
            return false;
    }
    return true;
}

/* Whether every running node sees of every running node that it is back: both ends of a
 * link count, or the sentence about failures is of a moment ago. A node that was away
 * is dialled again within a few seconds; until then `kvnode status` there calls it
 * unreachable. */
static bool all_see(const struct dev *d)
{
    for (size_t i = 0; i < d->n_nodes; i++) {
        const json_t *m;
        size_t j, seen = 0;
        if (!runs(&d->nodes[i]))
            continue;
        json_t *s = dev_ask(d, &d->nodes[i], 500);
        json_array_foreach(json_object_get(s, "members"), j, m)
        {
            for (size_t k = 0; k < d->n_nodes; k++)
                if (runs(&d->nodes[k]) && strcmp(d->nodes[k].name, cluster_text(m, "name")) == 0)
                    seen += is_back(d, m);
        }
        json_decref(s);
        if (seen < dev_count_running(d))
            return false;
    }
    return true;
}

void dev_wait_links(const struct dev *d)
{
    uint64_t deadline = clock_boot_ms() + LINKS_MS;
    while (!all_see(d) && clock_boot_ms() < deadline)
        pause_ms(LOOK_AGAIN_MS);
}

/* Whether the cluster will rise by itself: it is below the level of this build, and nothing was written yet
 * (kvnode/group/level.h). */
static bool will_rise(const struct dev *d)
{
    struct dev_node *leader = dev_leader((struct dev *)d);
    struct admin quiet = *d->a;
    struct request_link l;
    struct attr root;
    bool will;

    if (leader == NULL)
        return true;
    json_t *s = dev_ask(d, leader, 1000);
    will = s != NULL && cluster_number(s, "feature_level") < FEATURE_LEVEL;
    json_decref(s);
    if (!will)
        return false;
    quiet.timeout_ms = 1000;
    int rc = request_open_socket(&quiet, leader->socket, &l);
    if (rc == 0)
        rc = request_resolve(&l, "", false, &root);
    request_close(&l);
    return rc != 0 || root.mtime_ns == 0;
}

void dev_wait_level(const struct dev *d)
{
    uint64_t deadline = clock_boot_ms() + LEVEL_MS;
    while (will_rise(d) && clock_boot_ms() < deadline)
        pause_ms(LOOK_AGAIN_MS);
}

/* Waits until the nodes answer, and, if enough run, until they have a leader and
 * have applied what it had committed. What is missing is told after 2 s and when
 * time is up. */
int dev_wait_ready(struct dev *d, struct dev_node *const *nodes, size_t n)
{
    bool enough = dev_count_running(d) >= d->n_nodes / 2 + 1, told = false;
    uint64_t begin = clock_boot_ms(), deadline = begin + d->timeout_ms;
    json_int_t goal = -1;
    for (;;) {
        const struct dev_node *missing = NULL;
        const char *why = "";
        for (size_t i = 0; i < n && missing == NULL; i++) {
            struct view v;
            if (dev_running(nodes[i]->pid_file) == 0) {
                admin_fail(d->a, EXIT_FAILED, nodes[i]->name, "ended while it was starting");
                show_log(nodes[i]);
                return EXIT_FAILED;
            }
            look(d, nodes[i], &v);
            if (!v.answers)
                why = "does not answer yet";
            else if (enough && v.leader[0] == '\0')
                why = "knows no leader yet";
            else if (enough && goal < 0) {
                /* Where the leader is now is where the others have to come. */
                struct dev_node *leader = dev_leader(d);
                struct view l = {0};
                if (leader != NULL)
                    look(d, leader, &l);
                why = "knows a leader that does not answer yet";
                if (l.answers && l.quorum)
                    goal = l.commit;
            }
            if (v.answers && goal >= 0 && v.leader[0] != '\0')
                why = v.applied >= goal ? "" : "is catching up";
            if (v.answers && !enough)
                why = "";
            if (why[0] != '\0')
                missing = nodes[i];
        }
        if (missing == NULL)
            return EXIT_OK;
        uint64_t now = clock_boot_ms();
        if (now >= deadline) {
            admin_fail(d->a, EXIT_UNAVAILABLE, missing->name,
                       "%s after %u s; it goes on running. Try: kvnode doctor", why, d->timeout_ms / 1000);
            show_log(missing);
            return EXIT_UNAVAILABLE;
        }
        if (!told && now - begin > TELL_AFTER_MS && isatty(STDERR_FILENO)) {
            admin_say(d->a, "waiting: %s %s", missing->name, why);
            told = true;
        }
        pause_ms(LOOK_AGAIN_MS);
    }
}
