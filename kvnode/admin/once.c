/* once: a command that is to run once in the cluster in a period. Who has the lock of the key looks at the
 * record in it, whether it is due; the record is written before the command runs and behind it, under the
 * fence. What time it is, the cluster says: when the lock was granted. So a record that says that it runs,
 * found by one who has the lock, is of a run that nobody has finished. */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/hold.h"
#include "kvnode/admin/value.h"
#include "kvnode/admin/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/wire/ttl.h"

#define OUTPUT_MAX ((size_t)64 * 1024) /* what is kept of it: the end */
/* What is passed on at a time, and how long it is waited that there is room for that. */
#define TURNS 16
#define ROOM_MS 20
/* Who comes every day comes a moment earlier now and then. */
#define EARLY_SHARE 10
#define EARLY_MAX_MS 60000

struct once {
    struct hold h;
    uint64_t every_ms;
    uint64_t retries;
    uint64_t now_ns; /* by the cluster's clock */
    json_t *record;  /* owned; NULL: there is none */
    int output;      /* of the command: to read from */
    struct buffer tail;
    bool cut;
};

static int64_t number(const json_t *record, const char *name)
{
    return json_integer_value(json_object_get(record, name));
}

/* The record. EXIT_OK, or another exit status after a message. */
static int read_record(struct once *o)
{
    struct value v = {.data = BUFFER_INIT};
    int exit = EXIT_OK;
    request_restart_clock(&o->h.l);
    int rc = fetch_value(&o->h.l, o->h.key, false, &v);
    if (rc != 0) {
        exit = cluster_fail(&o->h.l, o->h.key, rc, true);
    } else if (v.data.len > 0) {
        o->record = json_loadb((const char *)v.data.data, v.data.len, 0, NULL);
        if (cluster_text(o->record, "state")[0] == '\0')
            exit = admin_fail(
                &o->h.admin, EXIT_REFUSED, o->h.key,
                "there is something else in this key than the record of a command that runs once; the "
                "command was not run");
    }
    buffer_deinit(&v.data);
    return exit;
}

static uint64_t next_ns(const struct once *o)
{
    uint64_t early = o->every_ms / EARLY_SHARE;
    early = early < EARLY_MAX_MS ? early : EARLY_MAX_MS;
    return (uint64_t)number(o->record, "period_unix_ns") + (o->every_ms - early) * 1000000;
}

static bool is_due(const struct once *o)
{
    const char *state = cluster_text(o->record, "state");
    if (o->record == NULL || o->now_ns >= next_ns(o))
        return true;
    if (strcmp(state, "failed") == 0)
        return (uint64_t)number(o->record, "tries") <= o->retries;
    return strcmp(state, "done") != 0; /* it ran when its holder died */
}

/* "backup ran at 2026-… at host, status 0". */
static void tell_done(const struct once *o)
{
    char at[40], next[40];
    const struct admin *a = &o->h.admin;
    if (a->opt[OPT_JSON] != NULL) {
        json_line(json_incref(o->record));
        return;
    }
    format_time((int64_t)number(o->record, "started_unix_ns"), at, sizeof at);
    format_time((int64_t)next_ns(o), next, sizeof next);
    admin_say(a,
              "kvnode: once %s: process %" PRId64 " at %s ran %s at %s (exit status %" PRId64
              "); it is due from %s on",
              o->h.key, number(o->record, "pid"), cluster_text(o->record, "host"),
              cluster_text(o->record, "command"), at, number(o->record, "status"), next);
}

static int write_record(struct once *o)
{
    struct command_result result;
    char *text = json_dumps(o->record, JSON_INDENT(1) | JSON_REAL_PRECISION(12));
    if (text == NULL)
        return -ENOMEM;
    size_t len = strlen(text);
    text[len] = '\n'; /* in the place of the NUL */
    int rc = hold_set(&o->h, text, len + 1, &result);
    free(text);
    return rc;
}

static int begin_record(struct once *o)
{
    char host[65] = "", at[40];
    const char *state = cluster_text(o->record, "state");
    bool again = o->record != NULL && o->now_ns < next_ns(o);
    int64_t tries = again && strcmp(state, "failed") == 0 ? number(o->record, "tries") : 0;
    /* A try that is repeated does not begin the period anew. */
    uint64_t started = tries > 0 ? (uint64_t)number(o->record, "period_unix_ns") : o->now_ns;
    gethostname(host, sizeof host - 1);
    format_time_utc((int64_t)o->now_ns, at, sizeof at);
    json_decref(o->record);
    o->record = json_pack("{s:s, s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:I}", "state", "running", "host", host,
                          "pid", (json_int_t)getpid(), "command", o->h.admin.args[1], "started", at,
                          "started_unix_ns", (json_int_t)o->now_ns, "period_unix_ns", (json_int_t)started,
                          "tries", (json_int_t)(tries + 1), "fence", (json_int_t)o->h.fence);
    if (o->record == NULL)
        return admin_fail(&o->h.admin, EXIT_FAILED, o->h.key,
                          "the host's name or the command's is not UTF-8");
    int rc = write_record(o);
    return rc == 0 ? EXIT_OK : cluster_fail(&o->h.l, o->h.key, rc, true);
}

/* Some of what it has said, the end of which is kept. 0: it has closed it; < 0: there is nothing now. */
static ssize_t take_output(struct once *o, char *bytes, size_t size)
{
    ssize_t n = read(o->output, bytes, size);
    if (n <= 0)
        return n;
    buffer_put_bytes(&o->tail, bytes, (size_t)n);
    if (o->tail.len > 2 * OUTPUT_MAX) {
        memmove(o->tail.data, o->tail.data + o->tail.len - OUTPUT_MAX, OUTPUT_MAX);
        o->tail.len = OUTPUT_MAX;
        o->cut = true;
    }
    return n;
}

/* To where it would have gone. */
static void pass_on(const void *bytes, size_t len)
{
    const char *at = bytes;
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, at, len);
        if (n < 0 && errno != EINTR)
            return; /* nobody reads it */
        at += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
}

/* Never for long: who reads it slowly, or never, holds up the command as without us, but not what keeps its
 * lock. So only as much as a pipe is sure to take. */
static bool on_output(void *arg)
{
    struct once *o = arg;
    char bytes[PIPE_BUF];
    ssize_t n = 1;
    for (unsigned i = 0; i < TURNS && n > 0; i++) {
        struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
        if (poll(&p, 1, ROOM_MS) <= 0)
            return true;
        n = take_output(o, bytes, sizeof bytes);
        if (n > 0)
            pass_on(bytes, (size_t)n);
    }
    return n != 0;
}

static void end_record(struct once *o, int exit, uint64_t ms)
{
    size_t from = o->tail.len > OUTPUT_MAX ? o->tail.len - OUTPUT_MAX : 0;
    o->cut = o->cut || from > 0;
    /* Not in the middle of a character. */
    while (o->cut && from < o->tail.len && (o->tail.data[from] & 0xC0) == 0x80)
        from++;
    json_object_set_new(o->record, "state", json_string(exit == 0 ? "done" : "failed"));
    json_object_set_new(o->record, "status", json_integer(exit));
    json_object_set_new(o->record, "seconds", json_real((double)ms / 1000));
    json_object_set_new(o->record, "output_cut", json_boolean(o->cut));
    json_set_bytes(o->record, "output", o->tail.data + from, o->tail.len - from);
    int rc = write_record(o);
    if (rc != 0)
        cluster_fail(&o->h.l, o->h.key, rc, true);
}

static int run(struct once *o)
{
    uint64_t begin = clock_boot_ms();
    int exit = begin_record(o);
    if (exit != EXIT_OK)
        return exit;
    struct buffer rest = BUFFER_INIT;
    char bytes[16384];
    ssize_t n;
    exit = hold_run(&o->h, o->output, on_output, o);
    while ((n = take_output(o, bytes, sizeof bytes)) > 0)
        buffer_put_bytes(&rest, bytes, (size_t)n);
    if (!o->h.lost)
        end_record(o, exit, clock_boot_ms() - begin);
    pass_on(rest.data, rest.len);
    buffer_deinit(&rest);
    return exit;
}

static int take(struct once *o)
{
    char who[256];
    int exit = hold_take(&o->h);
    if (exit == HOLD_NOT_HAD) {
        hold_describe(&o->h, who, sizeof who);
        admin_say(&o->h.admin, "kvnode: once %s: %s, and runs it", o->h.key, who);
        return EXIT_OK;
    }
    if (exit == EXIT_OK)
        exit = hold_granted(&o->h, &o->now_ns);
    if (exit == EXIT_OK)
        exit = read_record(o);
    if (exit != EXIT_OK)
        return exit;
    if (is_due(o))
        return run(o);
    tell_done(o);
    return EXIT_OK;
}

int verb_once(struct admin *a)
{
    struct once o = {0};
    int output[2];
    if (a->opt[OPT_EVERY] == NULL)
        return admin_usage(a, "--every TIME is missing: how often it is to run, such as 1h or 1d");
    if (!ttl_parse(a->opt[OPT_EVERY], strlen(a->opt[OPT_EVERY]), &o.every_ms) || o.every_ms < 1000)
        return admin_usage(a, "--every %s: use a time such as 90s, 10m, 36h or 7d, of a second at least",
                           a->opt[OPT_EVERY]);
    if (a->opt[OPT_RETRY] != NULL && !admin_parse_number(a->opt[OPT_RETRY], 0, 1000000, &o.retries))
        return admin_usage(a, "--retry %s: use a number", a->opt[OPT_RETRY]);
    if (pipe2(output, O_CLOEXEC) != 0)
        return admin_fail(a, EXIT_FAILED, NULL, "%s", strerror(errno));
    fcntl(output[0], F_SETFL, O_NONBLOCK);
    o.output = output[0];
    int exit = hold_begin(&o.h, a, 0, output[1]);
    close(output[1]);
    if (exit == EXIT_OK) {
        exit = take(&o);
        hold_end(&o.h);
    }
    close(output[0]);
    buffer_deinit(&o.tail);
    json_decref(o.record);
    return exit;
}
