/* bench: sets and linearizable gets over one connection, N of them outstanding,
 * under one session, next to the floor of the disk that they end on. The keys
 * are made anew below kvnode-bench~/, which is the warm-up, and removed at the
 * end. */
#include "kvnode/admin/bench.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/verbs.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/lock_ranges.h"
#include "sync/wire/txn.h"

/* Names that end so keep no history (the setting no_history), unless somebody wants it. */
#define FOLDER "kvnode-bench~"
#define WINDOW_MAX 2048
#define WARM_NS 300000000

struct bench {
    struct admin *a;
    struct request_link l;
    uint64_t seconds, size, keys;
    unsigned windows[8];
    size_t n_windows;
    bool txn;       /* transactions are measured, in the place of sets and gets */
    bool hold;      /* a lock with a fence, and right behind it its release: two requests are one */
    uint64_t ino;   /* of the key that is held */
    bool watch;     /* or when a watcher sees a set */
    bool warm;      /* the keys are there */
    uint8_t *value; /* owned */
    double floor_per_s, floor_p50;
    size_t n_voters;
};

/* Requests in flight. Ids begin at first_id, so a slot is id % window. */
struct flight {
    uint64_t sent_ns[WINDOW_MAX];
    bool pending[WINDOW_MAX];
    uint64_t next, oldest; /* numbers: oldest is the first without an answer */
    uint64_t first_id, first_seq;
};

static void queue_set(struct bench *b, struct flight *f, uint64_t number)
{
    char path[64];
    int len = snprintf(path, sizeof path, FOLDER "/%08llu~", (unsigned long long)(number % b->keys));
    const struct command cmd = {.op = COMMAND_SET,
                                .flags = b->l.node.trusted ? COMMAND_TRUSTED : 0,
                                .session = b->l.session,
                                .seq = f->first_seq + number,
                                .acked_below = f->first_seq + f->oldest,
                                .node = ""};
    const struct command_body body = {.path = (const uint8_t *)path,
                                      .path_len = (size_t)len,
                                      .flags = SET_PARENTS,
                                      .mode = 0644,
                                      .value = b->value,
                                      .value_len = b->size};
    memcpy(b->value, &number, b->size < sizeof number ? b->size : sizeof number);
    struct buffer *out = client_queue(b->l.client, MESSAGE_WRITE, f->first_id + number);
    body_encode_request(out, MESSAGE_WRITE, NULL);
    command_encode(out, &cmd);
    command_body_encode(out, COMMAND_SET, &body);
    client_queue_end(b->l.client);
}

/* Sets two keys if a third is there. */
static void queue_txn(struct bench *b, struct flight *f, uint64_t number)
{
    static const uint8_t kinds[] = {TXN_IF_EXISTS, TXN_SET, TXN_SET};
    const struct command cmd = {.op = COMMAND_TXN,
                                .flags = b->l.node.trusted ? COMMAND_TRUSTED : 0,
                                .session = b->l.session,
                                .seq = f->first_seq + number,
                                .acked_below = f->first_seq + f->oldest,
                                .node = ""};
    struct buffer *out = client_queue(b->l.client, MESSAGE_WRITE, f->first_id + number);
    body_encode_request(out, MESSAGE_WRITE, NULL);
    command_encode(out, &cmd);
    memcpy(b->value, &number, b->size < sizeof number ? b->size : sizeof number);
    for (size_t i = 0; i < 3; i++) {
        char path[64];
        int len =
            snprintf(path, sizeof path, FOLDER "/%08llu~", (unsigned long long)((3 * number + i) % b->keys));
        txn_encode(out, &(struct txn_item){.kind = kinds[i],
                                           .path = (const uint8_t *)path,
                                           .path_len = (size_t)len,
                                           .value = b->value,
                                           .value_len = b->size});
    }
    client_queue_end(b->l.client);
}

/* Every other one is the release of the one before. */
static void queue_hold(struct bench *b, struct flight *f, uint64_t number)
{
    bool release = number % 2 != 0;
    const struct command_body body = {.ino = b->ino,
                                      .flags = release ? 0 : LOCK_FLAG_EXCLUSIVE | LOCK_FLAG_FENCE,
                                      .owner = 1,
                                      .end = LOCK_RANGE_END,
                                      .lease_ms = 60000};
    enum command_op op = release ? COMMAND_UNLOCK : COMMAND_LOCK;
    const struct command cmd = {.op = (uint8_t)op,
                                .flags = (uint16_t)((b->l.node.trusted ? COMMAND_TRUSTED : 0) |
                                                    command_body_flags((uint8_t)op, &body)),
                                .session = b->l.session,
                                .seq = f->first_seq + number,
                                .acked_below = f->first_seq + f->oldest,
                                .node = ""};
    struct buffer *out = client_queue(b->l.client, MESSAGE_WRITE, f->first_id + number);
    body_encode_request(out, MESSAGE_WRITE, NULL);
    command_encode(out, &cmd);
    command_body_encode(out, (uint8_t)op, &body);
    client_queue_end(b->l.client);
}

static int open_held(struct bench *b)
{
    union answer_body answer;
    struct attr attr;
    int rc = request_resolve(&b->l, FOLDER "/00000000~", false, &attr);
    const union request_body body = {.open = {.ino = attr.ino, .access = OPEN_READ}};
    b->ino = attr.ino;
    return rc == 0 ? request_ask(&b->l, MESSAGE_OPEN, &body, &answer) : rc;
}

/* What was written goes all the same; a second signal ends it at once. */
static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
    interrupted = number;
}

static void queue_get(struct bench *b, struct flight *f, uint64_t number)
{
    char path[64];
    int len = snprintf(path, sizeof path, FOLDER "/%08llu~", (unsigned long long)(number * 7919 % b->keys));
    const union request_body body = {
        .get = {.at = READ_LINEARIZABLE, .path = bytes_of(path, (size_t)len), .length = READ_LENGTH_MAX}};
    client_ask(b->l.client, MESSAGE_GET, f->first_id + number, &body);
}

static int take_answer(struct bench *b, const struct frame *frame, bool write)
{
    union answer_body answer;
    struct cursor body;
    int rc = client_answer(frame, &body, b->l.detail, sizeof b->l.detail);
    if (rc != 0 || !write)
        return rc;
    return body_decode_answer(MESSAGE_WRITE, &body, &answer) ? answer.write.code : -EPROTO;
}

/* Runs until limit requests have been answered (0: no limit) or end_ns has
 * come, then waits for the rest. Samples only what was sent from begin_ns on. */
static int fly(struct bench *b, bool write, unsigned window, uint64_t limit, uint64_t begin_ns,
               uint64_t end_ns, struct samples *s)
{
    struct flight *f = calloc(1, sizeof *f);
    int rc = f == NULL ? -ENOMEM : 0;
    if (rc == 0) {
        f->first_id = b->l.last_id + 1;
        f->first_seq = b->l.seq + 1;
    }
    while (rc == 0) {
        uint64_t now = clock_boot_ns();
        bool stop = interrupted != 0 || (limit != 0 ? f->next >= limit : now >= end_ns);
        for (; !stop && f->next - f->oldest < window; stop = limit != 0 && f->next >= limit) {
            if (write && b->hold && b->warm)
                queue_hold(b, f, f->next);
            else if (write && b->txn && b->warm)
                queue_txn(b, f, f->next);
            else if (write)
                queue_set(b, f, f->next);
            else
                queue_get(b, f, f->next);
            f->sent_ns[f->next % window] = clock_boot_ns();
            f->pending[f->next++ % window] = true;
        }
        if (stop && f->oldest == f->next)
            break;
        struct frame frame;
        rc = client_wait(b->l.client, b->a->timeout_ms, &frame);
        while (rc == 1) {
            uint64_t number = frame.id - f->first_id;
            if (frame.type == MESSAGE_ANSWER && number >= f->oldest && number < f->next) {
                rc = take_answer(b, &frame, write);
                now = clock_boot_ns();
                f->pending[number % window] = false;
                uint64_t sent = f->sent_ns[(b->hold ? number & ~UINT64_C(1) : number) % window];
                if (rc == 0 && s != NULL && sent >= begin_ns && (!b->hold || number % 2 != 0))
                    rc = samples_add(s, now - sent);
                while (f->oldest < f->next && !f->pending[f->oldest % window])
                    f->oldest++;
                if (rc != 0)
                    break;
            }
            rc = client_next(b->l.client, &frame);
        }
    }
    if (f != NULL) {
        b->l.last_id = f->first_id + f->next;
        if (write)
            b->l.seq = f->first_seq + f->next - 1;
    }
    free(f);
    return rc == 0 && interrupted != 0 ? -EINTR : rc;
}

static void print_samples(const struct bench *b, const char *op, unsigned outstanding, struct samples *s)
{
    samples_sort(s);
    double per_s = samples_per_second(s), p50 = samples_quantile(s, 0.5), p99 = samples_quantile(s, 0.99);
    double max = samples_quantile(s, 1);
    if (b->a->opt[OPT_JSON] != NULL) {
        json_line(json_pack("{s:s, s:i, s:f, s:f, s:f, s:f}", "op", op, "outstanding", (int)outstanding,
                            "ops_per_s", per_s, "p50_us", p50, "p99_us", p99, "max_us", max));
    } else {
        printf("%-6s %11u %10.0f %10.1f %10.1f %10.1f", op, outstanding, per_s, p50, p99, max);
        if (b->floor_per_s > 0 && strcmp(op, "floor") != 0)
            printf(" %8.2f x %8.2f x", per_s / b->floor_per_s, p50 / b->floor_p50);
        putchar('\n');
    }
    fflush(stdout);
}

static int measure(struct bench *b, bool write, unsigned window)
{
    struct samples s = {0};
    uint64_t begin = clock_boot_ns() + WARM_NS, end = begin + b->seconds * 1000000000;
    int rc = fly(b, write, b->hold ? 2 * window : window, 0, begin, end, &s);
    s.elapsed_ns = clock_boot_ns() - begin;
    if (rc == 0)
        print_samples(b, !write ? "get" : b->hold ? "hold" : b->txn ? "txn" : "set", window, &s);
    samples_deinit(&s);
    return rc;
}

static int measure_floor(struct bench *b)
{
    struct samples s = {0};
    json_t *status;
    const json_t *m;
    size_t i;
    int rc = cluster_status(&b->l, &status);
    if (rc != 0)
        return rc;
    json_array_foreach(json_object_get(status, "members"), i, m)
    {
        b->n_voters += json_is_true(json_object_get(m, "voter"));
    }
    int failed = bench_floor(cluster_text(status, "data_dir"), (unsigned)b->seconds * 1000, &s);
    if (failed != 0) {
        admin_say(b->a, "kvnode: bench: no floor: %s: %s", cluster_text(status, "data_dir"),
                  strerror(-failed));
    } else {
        print_samples(b, "floor", 1, &s);
        b->floor_per_s = samples_per_second(&s);
        b->floor_p50 = samples_quantile(&s, 0.5);
    }
    samples_deinit(&s);
    json_decref(status);
    return 0;
}

static int read_windows(struct admin *a, struct bench *b)
{
    const char *list = a->opt[OPT_OUTSTANDING] != NULL ? a->opt[OPT_OUTSTANDING] : "1,64";
    while (b->n_windows < 8) {
        char *end;
        unsigned long n = strtoul(list, &end, 10);
        if (end == list || n < 1 || n > WINDOW_MAX / 2 || (*end != ',' && *end != '\0'))
            break;
        b->windows[b->n_windows++] = (unsigned)n;
        if (*end == '\0')
            return EXIT_OK;
        list = end + 1;
    }
    return admin_usage(a, "--outstanding %s: use up to 8 numbers from 1 to %d, such as 1,64",
                       a->opt[OPT_OUTSTANDING], WINDOW_MAX / 2);
}

static int read_options(struct admin *a, struct bench *b)
{
    const struct {
        enum opt opt;
        uint64_t min, max, *out;
    } numbers[] = {{OPT_SECONDS, 1, 3600, &b->seconds},
                   {OPT_SIZE, 1, 200000, &b->size},
                   {OPT_KEYS, 1, 500000, &b->keys}};
    b->seconds = 3;
    b->size = 100;
    b->keys = 1000;
    for (size_t i = 0; i < 3; i++) {
        const char *text = a->opt[numbers[i].opt];
        if (text != NULL && !admin_parse_number(text, numbers[i].min, numbers[i].max, numbers[i].out))
            return admin_usage(a, "--%s %s: use a number from %llu to %llu",
                               admin_options[numbers[i].opt].name, text, (unsigned long long)numbers[i].min,
                               (unsigned long long)numbers[i].max);
    }
    const char *op = a->opt[OPT_OP] != NULL ? a->opt[OPT_OP] : "";
    b->txn = strcmp(op, "txn") == 0;
    b->hold = strcmp(op, "hold") == 0;
    b->watch = strcmp(op, "watch") == 0;
    if (a->opt[OPT_OP] != NULL && !b->txn && !b->hold && !b->watch)
        return admin_usage(a, "--op %s: txn, hold or watch; sets and gets are measured without it", op);
    if (b->txn && b->keys < 3)
        return admin_usage(a, "--op txn takes three keys at least");
    return read_windows(a, b);
}

/* The key keeps its history: what has none is not seen. */
static int measure_watch(struct bench *b)
{
    char node[COMMAND_NODE_MAX + 1] = "";
    struct samples s = {0};
    int rc = bench_watch(&b->l, FOLDER "/watch", b->seconds, &s, node, sizeof node);
    if (rc == 0)
        print_samples(b, "watch", 1, &s);
    if (rc == 0 && b->a->opt[OPT_JSON] == NULL)
        printf("Times from the answer to a set at %s to its row at %s.\n", b->l.node.name, node);
    samples_deinit(&s);
    return rc;
}

static int run(struct bench *b)
{
    int rc = request_register(&b->l, "kvnode bench");
    if (rc == 0 && b->a->opt[OPT_JSON] == NULL) {
        printf("%llu keys of %llu bytes, %llu s each, through %s\n", (unsigned long long)b->keys,
               (unsigned long long)b->size, (unsigned long long)b->seconds, b->l.node.name);
        printf("%-6s %11s %10s %10s %10s %10s %10s %10s\n", "OP", "OUTSTANDING", "OPS/S", "P50 us", "P99 us",
               "MAX us", "OPS/FLOOR", "P50/FLOOR");
    }
    if (rc == 0)
        rc = measure_floor(b);
    if (rc == 0 && b->watch)
        return measure_watch(b);
    if (rc == 0)
        rc = fly(b, true, 64, b->keys, 0, 0, NULL);
    b->warm = rc == 0;
    if (rc == 0 && b->hold)
        rc = open_held(b);
    for (int write = 1; write >= (b->txn || b->hold ? 1 : 0); write--)
        for (size_t i = 0; rc == 0 && i < b->n_windows; i++)
            rc = measure(b, write != 0, b->windows[i]);
    if (rc == 0 && b->a->opt[OPT_JSON] == NULL)
        printf("A set is answered when %zu of %zu voters have it on disk (fsync) and this node has applied "
               "it; a get "
               "is linearizable.\n",
               b->n_voters / 2 + 1, b->n_voters);
    return rc;
}

int verb_bench(struct admin *a)
{
    struct bench b = {.a = a};
    int exit = read_options(a, &b);
    if (exit != EXIT_OK)
        return exit;
    b.value = malloc(b.size);
    if (b.value == NULL)
        return admin_fail(a, EXIT_FAILED, NULL, "out of memory");
    memset(b.value, 'v', b.size);
    exit = request_open(a, &b.l);
    if (exit == EXIT_OK) {
        const struct sigaction on_signal = {.sa_handler = interrupt, .sa_flags = SA_RESETHAND};
        sigaction(SIGINT, &on_signal, NULL);
        sigaction(SIGTERM, &on_signal, NULL);
        sigaction(SIGHUP, &on_signal, NULL);
        int rc = run(&b);
        if (interrupted != 0)
            exit = 128 + interrupted;
        else if (rc != 0)
            exit = admin_fail_code(a, NULL, rc, b.l.detail, false);
        const struct command_body remove = {
            .path = (const uint8_t *)FOLDER, .path_len = strlen(FOLDER), .flags = 1};
        struct command_result result;
        request_restart_clock(&b.l);
        if (b.l.session != 0)
            (void)request_write(&b.l, COMMAND_DEL, &remove, &result);
        request_end_session(&b.l);
        request_close(&b.l);
    }
    free(b.value);
    return exit;
}
