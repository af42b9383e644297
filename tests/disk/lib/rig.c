#include "tests/disk/lib/rig.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"

#define WRITE_MS 90000
#define APPEND_EVERY 3
#define LONG_EVERY 40   /* of more than a chunk */
#define PARTS_EVERY 250 /* of more than a command */
#define VALUE_MAX 300000
#define LINE_MAX_LEN 48

/* ---- writers ---- */

__attribute__((format(printf, 2, 3))) static void found_wrong(struct rig *r, const char *fmt, ...)
{
    va_list ap;

    pthread_mutex_lock(&r->lock);
    if (r->wrong[0] == '\0') {
        va_start(ap, fmt);
        vsnprintf(r->wrong, sizeof r->wrong, fmt, ap);
        va_end(ap);
    }
    pthread_cond_broadcast(&r->change);
    pthread_mutex_unlock(&r->lock);
}

static size_t value_of(unsigned writer, uint64_t n, char *out)
{
    size_t len = n % PARTS_EVERY == 0 ? VALUE_MAX : n % LONG_EVERY == 0 ? 70000 + n % 1000 : 20 + n % 500;
    size_t i = (size_t)snprintf(out, VALUE_MAX, "writer %u number %llu ", writer, (unsigned long long)n);

    for (; i < len; i++)
        out[i] = (char)('a' + (i * 7 + n + writer) % 26);
    return len;
}

static void key_of(unsigned writer, char out[32])
{
    snprintf(out, 32, "power/w%u", writer);
}

/* An acknowledgement. False: the writer is to end. */
static bool done(struct writer *w, bool appended, uint64_t us)
{
    struct rig *r = w->rig;
    bool go_on;

    pthread_mutex_lock(&r->lock);
    w->done += !appended;
    w->appended += appended;
    if (w->n_us == w->cap_us) {
        uint64_t *us_list;

        w->cap_us = w->cap_us > 0 ? 2 * w->cap_us : 1024;
        us_list = realloc(w->us, w->cap_us * sizeof *us_list);
        if (us_list == NULL)
            abort();
        w->us = us_list;
    }
    w->us[w->n_us++] = us;
    pthread_cond_broadcast(&r->change);
    while (r->hold && !r->stop) {
        w->held = true;
        pthread_cond_broadcast(&r->change);
        pthread_cond_wait(&r->change, &r->lock);
    }
    w->held = false;
    go_on = !r->stop;
    pthread_mutex_unlock(&r->lock);
    return go_on;
}

/* Registers a session and writes until it is told to stop or something is wrong. */
static void *write_on(void *arg)
{
    struct writer *w = arg;
    struct rig *r = w->rig;
    struct command_result result;
    char *value = malloc(VALUE_MAX), key[32], line[LINE_MAX_LEN];
    uint64_t n = 0, lines = 0;
    int rv = caller_register(&w->caller, WRITE_MS);

    key_of(w->number, key);
    if (rv != 0)
        found_wrong(r, "writer %u gets no session: %s", w->number, error_text(rv));
    while (rv == 0 && value != NULL) {
        size_t len = value_of(w->number, ++n, value);
        uint64_t begin = clock_boot_ns();

        rv = caller_set(&w->caller, key, value, len, WRITE_MS, &result);
        if (rv == 0 && result.attr.version != n) {
            found_wrong(r, "%s: number %llu is version %llu", key, (unsigned long long)n,
                        (unsigned long long)result.attr.version);
            break;
        }
        if (rv != 0 || !done(w, false, (clock_boot_ns() - begin) / 1000))
            break;
        if (n % APPEND_EVERY != 0)
            continue;
        len = (size_t)snprintf(line, sizeof line, "%u %llu\n", w->number, (unsigned long long)++lines);
        begin = clock_boot_ns();
        rv = caller_append(&w->caller, r->shared_ino, line, len, WRITE_MS, &result);
        if (rv != 0 || !done(w, true, (clock_boot_ns() - begin) / 1000))
            break;
    }
    if (rv != 0)
        found_wrong(r, "writer %u, number %llu: %s %s", w->number, (unsigned long long)n,
                    rv > 0 ? error_text(rv) : strerror(-rv), w->caller.detail);
    free(value);
    return NULL;
}

bool rig_write(struct rig *r, unsigned first, bool pinned)
{
    struct command_result result;
    struct caller c;
    unsigned i;
    int rv;

    caller_init(&c, r->c, first);
    rv = caller_set(&c, "power/shared", "", 0, 10000, &result);
    caller_deinit(&c);
    r->shared_ino = result.attr.ino;
    for (i = 0; rv == 0 && i < RIG_WRITERS; i++) {
        struct writer *w = &r->writers[i];

        *w = (struct writer){.rig = r, .number = i};
        caller_init(&w->caller, r->c, pinned ? first : (first + i) % RIG_NODES);
        w->caller.pinned = pinned;
        w->running = pthread_create(&w->thread, NULL, write_on, w) == 0;
        rv = w->running ? 0 : -EAGAIN;
    }
    return rv == 0;
}

/* ---- waiting for them ---- */

/* With the lock held: waits for `reached` of every writer. */
static bool wait_for(struct rig *r, bool (*reached)(const struct writer *w, uint64_t want),
                     const uint64_t *want, unsigned timeout_ms)
{
    uint64_t deadline = clock_boot_ms() + timeout_ms;

    for (;;) {
        struct timespec t;
        unsigned i = 0;

        while (i < RIG_WRITERS && reached(&r->writers[i], want != NULL ? want[i] : 0))
            i++;
        if (i == RIG_WRITERS || r->wrong[0] != '\0' || clock_boot_ms() >= deadline)
            return i == RIG_WRITERS && r->wrong[0] == '\0';
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_sec += 1; /* to look at the deadline */
        pthread_cond_timedwait(&r->change, &r->lock, &t);
    }
}

static bool has_done(const struct writer *w, uint64_t want)
{
    return w->done >= want;
}

static bool is_held(const struct writer *w, uint64_t want)
{
    (void)want;
    return w->held;
}

bool rig_progress(struct rig *r, uint64_t n, unsigned timeout_ms)
{
    uint64_t want[RIG_WRITERS];
    bool reached;

    pthread_mutex_lock(&r->lock);
    for (unsigned i = 0; i < RIG_WRITERS; i++)
        want[i] = r->writers[i].done + n;
    reached = wait_for(r, has_done, want, timeout_ms);
    pthread_mutex_unlock(&r->lock);
    return reached;
}

bool rig_hold(struct rig *r, unsigned timeout_ms)
{
    bool reached;

    pthread_mutex_lock(&r->lock);
    r->hold = true;
    reached = wait_for(r, is_held, NULL, timeout_ms);
    pthread_mutex_unlock(&r->lock);
    return reached;
}

void rig_go_on(struct rig *r)
{
    pthread_mutex_lock(&r->lock);
    r->hold = false;
    pthread_cond_broadcast(&r->change);
    pthread_mutex_unlock(&r->lock);
}

static int by_size(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

void rig_assert_right(struct rig *r)
{
    bool right = rig_hold(r, 30000) && rig_is_right(r);

    if (!right)
        r->c->keep = true;
    if (r->wrong[0] != '\0')
        print_message("# %s\n", r->wrong);
    assert_true(right);
    rig_go_on(r);
}

uint64_t rig_measure(struct rig *r, uint64_t *worst_us_out, size_t *n_out)
{
    uint64_t *all, median = 0;
    size_t n = 0;

    pthread_mutex_lock(&r->lock);
    for (unsigned i = 0; i < RIG_WRITERS; i++)
        n += r->writers[i].n_us;
    all = calloc(n + 1, sizeof *all);
    n = 0;
    for (unsigned i = 0; all != NULL && i < RIG_WRITERS; i++) {
        struct writer *w = &r->writers[i];

        if (w->n_us > 0)
            memcpy(all + n, w->us, w->n_us * sizeof *all);
        n += w->n_us;
        w->n_us = 0;
    }
    pthread_mutex_unlock(&r->lock);
    if (n > 0) {
        qsort(all, n, sizeof *all, by_size);
        median = all[n / 2];
    }
    if (worst_us_out != NULL)
        *worst_us_out = n > 0 ? all[n - 1] : 0;
    if (n_out != NULL)
        *n_out = n;
    free(all);
    return median;
}

/* ---- what was promised ---- */

/* Every line once, each writer's in order: as many as it was promised, or one more
 * that is under way. */
static bool check_shared(struct rig *r, const char *text, size_t len)
{
    uint64_t seen[RIG_WRITERS] = {0};
    size_t at = 0;
    unsigned i;

    while (at < len) {
        const char *end = memchr(text + at, '\n', len - at);
        unsigned writer = RIG_WRITERS;
        unsigned long long n = 0;
        char line[LINE_MAX_LEN];

        snprintf(line, sizeof line, "%.*s", (int)(end != NULL ? end - (text + at) : 40), text + at);
        if (end == NULL || sscanf(line, "%u %llu", &writer, &n) != 2 || writer >= RIG_WRITERS) {
            found_wrong(r, "the shared file has \"%.40s\" at %zu of %zu", line, at, len);
            return false;
        }
        if (n != ++seen[writer]) {
            found_wrong(r, "the shared file has \"%s\" where %u %llu belongs: %s", line, writer,
                        (unsigned long long)seen[writer], n < seen[writer] ? "done twice" : "lost");
            return false;
        }
        at = (size_t)(end - text) + 1;
    }
    for (i = 0; i < RIG_WRITERS; i++) {
        if (seen[i] != r->writers[i].appended) {
            found_wrong(r, "the shared file has %llu lines of writer %u, %llu were acknowledged",
                        (unsigned long long)seen[i], i, (unsigned long long)r->writers[i].appended);
            return false;
        }
    }
    return true;
}

static bool check_key(struct rig *r, struct caller *c, unsigned writer, struct buffer *got)
{
    char *want = malloc(VALUE_MAX), key[32];
    uint64_t n = r->writers[writer].done;
    struct attr attr;
    size_t len;
    int rv;
    bool right;

    if (want == NULL)
        abort();
    key_of(writer, key);
    len = value_of(writer, n, want);
    rv = caller_get_all(c, key, 10000, &attr, got);
    right = rv == 0 && attr.version == n && got->len == len && memcmp(got->data, want, len) == 0;
    if (rv != 0)
        found_wrong(r, "%s cannot be read: %s", key, rv > 0 ? error_text(rv) : strerror(-rv));
    else if (!right)
        found_wrong(r, "%s is version %llu (\"%.40s\"), acknowledged was %llu", key,
                    (unsigned long long)attr.version, got->len >= 40 ? (const char *)got->data : "…",
                    (unsigned long long)n);
    free(want);
    return right;
}

bool rig_is_right(struct rig *r)
{
    struct buffer got = BUFFER_INIT;
    struct caller c;
    struct attr attr;
    bool right = r->wrong[0] == '\0';
    unsigned i;
    int rv;

    caller_init(&c, r->c, 0);
    if (right) {
        rv = caller_get_all(&c, "power/shared", 20000, &attr, &got);
        if (rv != 0)
            found_wrong(r, "power/shared cannot be read: %s", rv > 0 ? error_text(rv) : strerror(-rv));
        right = rv == 0 && check_shared(r, (const char *)got.data, got.len);
    }
    for (i = 0; right && i < RIG_WRITERS; i++)
        right = r->writers[i].done == 0 || check_key(r, &c, i, &got);
    if (right && !cluster_equal(r->c, 30000)) {
        found_wrong(r, "the nodes differ");
        right = false;
    }
    caller_deinit(&c);
    buffer_deinit(&got);
    return right;
}

/* ---- power ---- */

void rig_cut(struct rig *r, unsigned mask, bool torn, uint64_t numbers_out[2])
{
    if (!disks_cut(r->disks, r->c, mask, torn, numbers_out))
        found_wrong(r, "the power does not go as it should");
}

/* Why a node ended, from its log. */
static void print_end(struct rig *r, unsigned i)
{
    char out[1024];
    const char *const argv[] = {"tail", "-n", "4", r->c->nodes[i].log, NULL};

    run_program(argv, 5000, out, sizeof out);
    fprintf(stderr, "# %s does not serve; its log ends: %s\n", r->c->nodes[i].name, out);
}

struct start {
    struct rig *r;
    unsigned i;
};

static bool serves_or_ended(void *arg)
{
    struct start *s = arg;

    return cluster_ended(s->r->c, s->i, 0) || cluster_serves(s->r->c, s->i, 0);
}

bool rig_restart(struct rig *r, unsigned mask, unsigned timeout_ms)
{
    unsigned i;
    bool all = true;

    for (i = 0; i < RIG_NODES; i++)
        if ((mask >> i & 1) != 0 && !cluster_start(r->c, i))
            return false;
    for (i = 0; i < RIG_NODES; i++) {
        struct start s = {r, i};

        if ((mask >> i & 1) == 0)
            continue;
        if (!await(timeout_ms, serves_or_ended, &s) || r->c->nodes[i].pid == 0) {
            print_end(r, i);
            all = false;
        }
    }
    return all;
}

/* ---- life cycle ---- */

bool rig_start(struct rig *r, const char *what)
{
    const struct cluster_options options = {
        .n = RIG_NODES, .flags = {"storage.log_keep_entries=2048"}, .seconds = 240};
    pthread_condattr_t attributes;
    const char *skip_reason;
    unsigned i;

    *r = (struct rig){0};
    disk_needed();
    dice_init(&r->dice, what);
    pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&r->change, &attributes);
    pthread_condattr_destroy(&attributes);
    r->c = cluster_make(&options, &skip_reason);
    if (r->c == NULL)
        return false;
    for (i = 0; i < RIG_NODES; i++)
        if (!disk_under(&r->disks[i], r->c, i, dice_roll(&r->dice, UINT64_MAX)))
            return false;
    return rig_restart(r, (1u << RIG_NODES) - 1, 15000);
}

bool rig_stop(struct rig *r)
{
    unsigned i;
    bool right;

    if (r->c == NULL)
        return true;
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_broadcast(&r->change);
    pthread_mutex_unlock(&r->lock);
    if (r->wrong[0] != '\0') {
        fprintf(stderr, "# %s\n", r->wrong);
        r->c->keep = true;
    }
    right = disks_stop(r->disks, r->c);
    for (i = 0; i < RIG_WRITERS; i++) {
        struct writer *w = &r->writers[i];

        if (w->running)
            pthread_join(w->thread, NULL);
        caller_deinit(&w->caller);
        free(w->us);
    }
    right = cluster_free(r->c) && right;
    r->c = NULL;
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->change);
    return right;
}
