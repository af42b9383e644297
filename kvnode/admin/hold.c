/* hold: a command under a cluster lock. The time for which the lock is ours is counted from the sending of
 * the last word that was answered, by this machine's clock that does not stop; the cluster counts from when
 * it stamped that word, which was later. At 3/5 of it the command is asked to end, at 4/5 it is killed
 * (hold_guard.h), and only after all of it another one can get the lock. */
#include "kvnode/admin/hold.h"
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/lock_ranges.h"

#define TICK_MS 200 /* how often those who wait look whether they were interrupted */
#define PAUSE_MS 100

/* Signals go to the command, when there is one. */
static volatile sig_atomic_t interrupted;
static struct guard *volatile signalled;

static void on_signal(int number)
{
    int before = errno;
    if (signalled != NULL)
        guard_signal(signalled, number);
    else if (interrupted != 0) /* he insists; the lock runs out */
        _exit(128 + number);
    interrupted = number;
    errno = before;
}

static void catch_signals(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
    /* Stopped by ^Z it would lose the lock. */
    signal(SIGTSTP, SIG_IGN);
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, old;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(numbers[i], &sa, NULL);
}

int hold_begin(struct hold *h, const struct admin *a, unsigned wait_ms, int output)
{
    int rc;
    *h = (struct hold){.admin = *a, .key = a->args[0], .wait_ms = wait_ms, .ttl_ms = 10000};
    h->shared = a->opt[OPT_SHARED] != NULL;
    if (a->opt[OPT_LEASE] != NULL && (!admin_parse_time(a->opt[OPT_LEASE], &h->ttl_ms) ||
                                      h->ttl_ms < LOCK_LEASE_MIN_MS || h->ttl_ms > LOCK_LEASE_MAX_MS))
        return admin_usage(a, "--ttl %s: use a time from 1s to 1h", a->opt[OPT_LEASE]);
    if (a->opt[OPT_WAIT] != NULL && strcmp(a->opt[OPT_WAIT], "0") == 0)
        h->wait_ms = 0;
    else if (a->opt[OPT_WAIT] != NULL && !admin_parse_time(a->opt[OPT_WAIT], &h->wait_ms))
        return admin_usage(a, "--wait %s: use a time such as 500ms, 10s or 2m, or 0", a->opt[OPT_WAIT]);
    rc = admin_key(a, h->key, false, false);
    if (rc != EXIT_OK)
        return rc;
    if (getrandom(&h->owner, sizeof h->owner, 0) != (ssize_t)sizeof h->owner)
        return admin_fail(a, EXIT_FAILED, h->key, "no random numbers");
    rc = guard_start(&h->guard, h->key, a->args + 1, output);
    if (rc != 0)
        return admin_fail(a, EXIT_FAILED, h->key, "cannot make the process that guards the command: %s",
                          strerror(-rc));
    catch_signals();
    return EXIT_OK;
}

/* ---- getting it ---- */

static bool may_pass(int rc)
{
    return rc == -ECONNRESET || rc == -EPIPE || rc == -ECONNREFUSED || rc == -ENOENT || rc == -ETIMEDOUT ||
           rc == KV_E_UNAVAILABLE || rc == KV_E_NOTLEADER || rc == KV_E_BUSY || rc == KV_E_ROFS ||
           rc == KV_E_UNKNOWN;
}

/* "kvnode hold backup@host", for `kvnode locks`. */
static int join(struct hold *h)
{
    char client[200], host[65] = "";
    const char *command = h->admin.n_args > 1 ? strrchr(h->admin.args[1], '/') : NULL;
    command = command != NULL ? command + 1 : h->admin.n_args > 1 ? h->admin.args[1] : "";
    gethostname(host, sizeof host - 1);
    snprintf(client, sizeof client, "kvnode %s %.100s@%s", h->admin.verb->name, command, host);
    return request_register(&h->l, client);
}

/* The key's inode, made if it is missing. */
static int find_key(struct hold *h)
{
    struct attr attr;
    int rc = request_resolve(&h->l, h->key, false, &attr);
    if (rc == KV_E_NOENT) {
        const struct command_body body = {.path = (const uint8_t *)h->key,
                                          .path_len = strlen(h->key),
                                          .flags = SET_PARENTS | SET_IF_VERSION,
                                          .mode = 0644};
        struct command_result result;
        rc = request_write(&h->l, COMMAND_SET, &body, &result);
        if (rc == 0 || rc == KV_E_VERSION)
            rc = request_resolve(&h->l, h->key, false, &attr);
    }
    if (rc != 0)
        return rc;
    if (attr.type != INODE_FILE)
        return attr.type == INODE_DIRECTORY ? KV_E_ISDIR : KV_E_INVAL;
    h->ino = attr.ino;
    return 0;
}

/* A node takes locks of what is open there. */
static int open_key(struct hold *h)
{
    union answer_body answer;
    union request_body body = {.open = {.at = READ_LINEARIZABLE, .ino = h->ino, .access = OPEN_READ}};
    int rc = request_ask(&h->l, MESSAGE_OPEN, &body, &answer);
    if (rc == KV_E_ACCES) {
        body.open.access = OPEN_WRITE;
        rc = request_ask(&h->l, MESSAGE_OPEN, &body, &answer);
    }
    return rc;
}

/* Asks for it, or again: the same ticket keeps its place. 0: it is ours; KV_E_LOCKED. */
static int ask(struct hold *h, bool wait)
{
    const struct command_body body = {
        .ino = h->ino,
        .kind = LOCK_OF_FLOCK,
        .flags =
            (uint8_t)(LOCK_FLAG_FENCE | (h->shared ? 0 : LOCK_FLAG_EXCLUSIVE) | (wait ? LOCK_FLAG_WAIT : 0)),
        .owner = h->owner,
        .end = LOCK_RANGE_END,
        .ticket = wait ? 1 : 0,
        .pid = (uint32_t)getpid(),
        .lease_ms = h->ttl_ms};
    struct command_result result = {0};
    uint64_t now = clock_boot_ms();
    int rc = 0;
    request_restart_clock(&h->l);
    for (int tries = 0; tries < 3; tries++) {
        rc = request_write(&h->l, COMMAND_LOCK, &body, &result);
        if (rc != KV_E_ACCES || open_key(h) != 0) /* it was another connection */
            break;
    }
    if (rc != 0)
        return rc;
    h->sent_ms = now;
    h->fence = result.base_revision;
    return result.created != 0 ? 0 : KV_E_LOCKED;
}

/* Is it still the lock of what stands under the key? */
static int still_there(struct hold *h)
{
    struct attr attr;
    int rc = request_resolve(&h->l, h->key, false, &attr);
    return rc == 0 && attr.ino != h->ino ? KV_E_STALE : rc == KV_E_NOENT ? KV_E_STALE : rc;
}

/* Events of the node, for those who wait. */
static void listen_to(struct hold *h, struct request_link *events)
{
    union answer_body answer;
    if (events->client != NULL || request_open_socket(&h->admin, h->l.socket, events) != 0)
        return;
    if (request_ask(events, MESSAGE_SUBSCRIBE, &(union request_body){.subscribe.after = h->l.node.applied},
                    &answer) != 0)
        request_close(events);
}

/* Until the wait has ended, or this time has come. */
static void await_event(struct hold *h, struct request_link *events, uint64_t until_ms)
{
    uint64_t now;
    while (interrupted == 0 && (now = clock_boot_ms()) < until_ms) {
        unsigned left = until_ms - now < TICK_MS ? (unsigned)(until_ms - now) : TICK_MS;
        struct frame frame;
        struct event e;
        int rc = events->client != NULL ? client_wait(events->client, left, &frame) : -ENOTCONN;
        if (rc == -ETIMEDOUT)
            continue;
        if (rc != 1) {
            request_close(events);
            request_pause(left < PAUSE_MS ? left : PAUSE_MS);
            return;
        }
        if (frame.type != MESSAGE_EVENT)
            continue;
        struct cursor c = cursor_of(frame.payload, frame.len);
        if (event_decode(&c, &e) == KV_OK && e.kind == EVENT_NOTHING && e.parent == h->l.session &&
            e.ino == h->ino)
            return;
    }
}

static unsigned min_ms(uint64_t a, uint64_t b)
{
    return (unsigned)(a < b ? a : b);
}

/* One try at all of it. */
static int take_once(struct hold *h, struct request_link *events, uint64_t until_ms)
{
    bool wait = h->wait_ms > 0;
    int rc = h->l.session != 0 ? 0 : join(h);
    if (rc == 0)
        rc = find_key(h);
    if (rc == 0)
        rc = open_key(h);
    if (rc == 0)
        rc = ask(h, wait);
    while (rc == KV_E_LOCKED && wait && interrupted == 0 && clock_boot_ms() < until_ms) {
        uint64_t again = clock_boot_ms() + min_ms(h->ttl_ms / 4, until_ms - clock_boot_ms());
        listen_to(h, events);
        await_event(h, events, again);
        rc = ask(h, true);
    }
    if (rc == 0)
        rc = still_there(h);
    return rc;
}

int hold_take(struct hold *h)
{
    uint64_t begin = clock_boot_ms();
    uint64_t until = h->wait_ms == HOLD_FOR_EVER ? UINT64_MAX : begin + h->wait_ms;
    struct request_link events = {0};
    bool told = false;
    int exit = request_open(&h->admin, &h->l), rc;
    if (exit != EXIT_OK)
        return exit;
    if (h->l.node.level < 3)
        return admin_fail(
            &h->admin, EXIT_REFUSED, h->key,
            "the cluster is at feature level %u, and knows these locks from level 3 on; nothing "
            "was done. When all nodes have this version: kvnode config --cluster feature_level=3",
            h->l.node.level);
    for (;;) {
        rc = take_once(h, &events, until);
        if (rc == 0 || rc == KV_E_LOCKED || interrupted != 0)
            break;
        if (rc == KV_E_SESSION)
            h->l.session = 0;
        else if (rc == KV_E_STALE)
            request_end_session(&h->l); /* of another file; the key's is asked for */
        else if (!may_pass(rc) || h->l.way_back[0] != '\0' ||
                 (h->wait_ms != HOLD_FOR_EVER ? clock_boot_ms() >= until
                                              : h->admin.opt[OPT_TIMEOUT] != NULL && !told))
            break;
        if (may_pass(rc) && !told)
            admin_say(&h->admin, "kvnode: %s; waiting",
                      h->l.detail[0] != '\0' ? h->l.detail
                      : rc > 0               ? error_text(rc)
                                             : strerror(-rc));
        told = told || may_pass(rc);
        request_pause(PAUSE_MS);
        (void)request_reconnect(&h->l);
    }
    request_close(&events);
    if (interrupted != 0)
        return 128 + interrupted;
    if (rc == KV_E_LOCKED)
        return HOLD_NOT_HAD;
    if (rc == KV_E_ISDIR)
        return admin_fail(&h->admin, EXIT_REFUSED, h->key, "it is a directory; nothing was done");
    return rc == 0 ? EXIT_OK : cluster_fail(&h->l, h->key, rc, true);
}

static int ask_held(struct hold *h, uint64_t session, union answer_body *answer_out)
{
    const union request_body body = {.held = {.at = READ_LINEARIZABLE, .ino = h->ino, .session = session}};
    return request_ask(&h->l, MESSAGE_HELD, &body, answer_out);
}

void hold_describe(struct hold *h, char *out, size_t size)
{
    union answer_body answer;
    char node[COMMAND_NODE_MAX + 1], since[40] = "";
    const union request_body body = {.locks = {.at = READ_LINEARIZABLE, .ino = h->ino}};
    struct lock_row row = {.wait = 1};
    request_restart_clock(&h->l);
    snprintf(out, size, "somebody else holds it");
    if (request_ask(&h->l, MESSAGE_LOCKS, &body, &answer) != 0)
        return;
    struct cursor rows = rows_cursor(&answer.locks.rows);
    for (uint32_t i = 0; i < answer.locks.rows.count && (row.kind != LOCK_OF_FLOCK || row.wait != 0); i++)
        lock_row_decode(&rows, &row);
    if (row.kind != LOCK_OF_FLOCK || row.wait != 0)
        return;
    uint32_t pid = row.pid;
    snprintf(node, sizeof node, "%.*s", (int)row.node_len, (const char *)row.node);
    snprintf(out, size, "process %" PRIu32 " at node %s holds it", pid, node);
    if (ask_held(h, row.session, &answer) != 0 || answer.held.fence == 0)
        return;
    format_time((int64_t)answer.held.since_ns, since, sizeof since);
    snprintf(out, size, "process %" PRIu32 " at node %s (%.*s) has held it since %s", pid, node,
             (int)answer.held.client.len, (const char *)answer.held.client.data, since);
}

int hold_granted(struct hold *h, uint64_t *wall_ns_out)
{
    union answer_body answer;
    request_restart_clock(&h->l);
    int rc = ask_held(h, h->l.session, &answer);
    if (rc != 0)
        return cluster_fail(&h->l, h->key, rc, true);
    *wall_ns_out = answer.held.since_ns;
    return EXIT_OK;
}

int hold_set(struct hold *h, const void *value, size_t len, struct command_result *result_out)
{
    const struct command_body body = {.path = (const uint8_t *)h->key,
                                      .path_len = strlen(h->key),
                                      .flags = SET_MUST_EXIST | SET_FENCE,
                                      .fence = h->fence,
                                      .value = value,
                                      .value_len = len};
    request_restart_clock(&h->l);
    return request_write(&h->l, COMMAND_SET, &body, result_out);
}

/* ---- holding it ---- */

static uint64_t end_ms(const struct hold *h)
{
    return h->sent_ms + h->ttl_ms * UINT64_C(3) / 5;
}

static uint64_t kill_ms(const struct hold *h)
{
    return h->sent_ms + h->ttl_ms * UINT64_C(4) / 5;
}

static void lose(struct hold *h, bool now, const char *why)
{
    if (h->lost)
        return;
    h->lost = true;
    if (now)
        guard_deadline(&h->guard, clock_boot_ms(), clock_boot_ms());
    admin_fail(&h->admin, EXIT_UNKNOWN, h->key, "the lock is lost (%s); the command is ended", why);
}

/* Keeps the lock, if anybody answers in time. */
static void keep(struct hold *h)
{
    static const struct command_body nothing;
    struct command_result result;
    uint64_t now = clock_boot_ms(), end = end_ms(h);
    int rc = -ECONNRESET;
    /* One that stands still has a part of the time only; there may be another one. */
    h->l.deadline_ms = now + min_ms(h->ttl_ms / 6, end > now ? end - now : 1);
    if (h->l.client != NULL)
        rc = request_write(&h->l, COMMAND_KEEPALIVE, &nothing, &result);
    if (rc == 0) {
        h->sent_ms = now;
        guard_deadline(&h->guard, end_ms(h), kill_ms(h));
        rc = still_there(h);
        if (rc == KV_E_STALE)
            lose(h, true, "the key was deleted, or another file was put in its place");
        return;
    }
    if (rc == KV_E_SESSION) {
        lose(h, true, "the cluster has not heard of it for too long");
        return;
    }
    now = clock_boot_ms();
    if (now < end && (h->l.client == NULL || rc < 0)) {
        h->admin.timeout_ms = min_ms(h->ttl_ms / 5, end - now);
        (void)request_reconnect(&h->l);
    }
    if (clock_boot_ms() >= end)
        lose(h, false, rc > 0 ? error_text(rc) : strerror(-rc));
}

/* What became of the command. */
static int outcome(struct hold *h)
{
    const struct guard *g = &h->guard;
    if (h->lost)
        return EXIT_UNKNOWN;
    if (g->exec_error != 0)
        return admin_fail(&h->admin, g->exec_error == ENOENT ? 127 : 126, h->key, "cannot run %s: %s",
                          h->admin.args[1], strerror(g->exec_error));
    if (!g->ended)
        return admin_fail(&h->admin, EXIT_UNKNOWN, h->key,
                          "the process that guards the command was killed; the command was ended");
    return WIFSIGNALED(g->status) ? 128 + WTERMSIG(g->status) : WEXITSTATUS(g->status);
}

int hold_run(struct hold *h, int extra_fd, bool (*each)(void *arg), void *arg)
{
    unsigned timeout_ms = h->admin.timeout_ms;
    bool done = false;
    guard_deadline(&h->guard, end_ms(h), kill_ms(h));
    guard_run(&h->guard, h->fence);
    signalled = &h->guard;
    if (interrupted != 0)
        guard_signal(&h->guard, interrupted);
    while (!done) {
        uint64_t now = clock_boot_ms(), renew = h->sent_ms + h->ttl_ms / 5,
                 next = h->lost ? kill_ms(h) + 50 : renew;
        bool died = h->guard.died;
        struct pollfd p[] = {{.fd = died ? -1 : guard_fd(&h->guard), .events = POLLIN},
                             {.fd = extra_fd, .events = POLLIN}};
        int n = poll(p, 2, next > now ? (int)min_ms(next - now, died ? PAUSE_MS : 60000) : 0);
        now = clock_boot_ms();
        if (n > 0 && (p[1].revents & (POLLIN | POLLHUP)) != 0 && !each(arg))
            extra_fd = -1;
        if (n > 0 && p[0].revents != 0)
            done = guard_news(&h->guard);
        else if (died) /* what is left of the command may not be ended by us: it is waited for */
            done = guard_kill(&h->guard, 1) == 0;
        if (!done && now >= kill_ms(h) + 50) {
            lose(h, false, "nothing was heard in time");
            unsigned left = guard_kill(&h->guard, h->ttl_ms);
            if (left > 0)
                admin_fail(&h->admin, EXIT_UNKNOWN, h->key, "%u processes of the command could not be ended",
                           left);
            done = true;
        } else if (!done && !h->lost && now >= renew) {
            keep(h);
            if (!h->lost && clock_boot_ms() < h->sent_ms + h->ttl_ms / 5 + PAUSE_MS)
                continue;
            if (!h->lost && h->l.client == NULL)
                request_pause(PAUSE_MS / 2);
        }
    }
    /* Stopped for too long, it learns only now that the guard has ended everything. */
    if (clock_boot_ms() >= end_ms(h))
        lose(h, false, "nothing was heard in time");
    signalled = NULL;
    h->admin.timeout_ms = timeout_ms;
    return outcome(h);
}

void hold_end(struct hold *h)
{
    request_restart_clock(&h->l);
    if (h->l.client != NULL && !h->lost)
        request_end_session(&h->l);
    request_close(&h->l);
    guard_end(&h->guard);
}

/* ---- the verb ---- */

/* "root@host 4711 18231": who, its process, the fence. */
static int elect(struct hold *h)
{
    char text[200], host[65] = "", name[64];
    struct command_result result;
    gethostname(host, sizeof host - 1);
    format_user(geteuid(), name, sizeof name);
    int n = snprintf(text, sizeof text, "%s@%s %ld %" PRIu64 "\n", name, host, (long)getpid(), h->fence);
    int rc = hold_set(h, text, (size_t)n, &result);
    return rc == 0 ? EXIT_OK : cluster_fail(&h->l, h->key, rc, true);
}

int verb_hold(struct admin *a)
{
    char who[256];
    struct command_result result;
    struct hold h;
    if (a->opt[OPT_ELECT] != NULL && a->opt[OPT_SHARED] != NULL)
        return admin_usage(a, "--elect and --shared exclude each other");
    int exit = hold_begin(&h, a, HOLD_FOR_EVER, -1);
    if (exit != EXIT_OK)
        return exit;
    exit = hold_take(&h);
    if (exit == HOLD_NOT_HAD) {
        hold_describe(&h, who, sizeof who);
        exit = admin_fail(a, EXIT_REFUSED, h.key, "%s; the command was not run", who);
    } else if (exit == EXIT_OK && a->opt[OPT_ELECT] != NULL) {
        exit = elect(&h);
    }
    if (exit == EXIT_OK && h.fence != 0) {
        exit = hold_run(&h, -1, NULL, NULL);
        if (a->opt[OPT_ELECT] != NULL && !h.lost)
            (void)hold_set(&h, NULL, 0, &result); /* nobody leads */
    }
    hold_end(&h);
    return exit;
}
