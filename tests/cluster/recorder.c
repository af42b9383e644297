/* A client that remembers what it was told, and checks it against history.
 *
 * Each writer thread has a session and keys of its own. It alternates between
 * setting a key to a value that exists once in the world and appending a token
 * that exists once to another key. A request without an answer is sent again,
 * under the same number, to the next node, until one answers; only then comes
 * the next. After some of the answers the key is read back, from another node,
 * linearizably.
 *
 *   recorder [-w WRITERS] [-s SECONDS] SOCKET...
 *
 * runs for SECONDS (or until SIGTERM), then verifies, waiting for the cluster as
 * long as a minute:
 *   - each acknowledged set is in the key's history, under the version that was
 *     told, once; each refused one is not; an unknown one at most once;
 *   - each acknowledged token is in the log key, once (a command that was
 *     applied twice would show there), in the order of sending;
 *   - no read was older than the last acknowledged write.
 * Exit 0: all holds. Prints figures, among them the longest time without any
 * acknowledgement. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/wire/client.h"

#define CALL_MS 1000
#define VERIFY_MS 60000
#define WRITERS_MAX 16
#define KEYS 4 /* a writer */
#define OPS_MAX 200000

enum outcome { UNKNOWN, ACKED, REFUSED };

struct op {
    uint8_t outcome;
    uint8_t key; /* KEYS: the log key */
    uint64_t version;
};

struct writer {
    unsigned number;
    pthread_t thread;
    struct client *client; /* owned; NULL: not connected */
    unsigned node;         /* index of the socket in use */
    uint64_t id, session, seq;
    uint64_t log_ino;
    struct op *ops; /* owned */
    size_t n_ops;
    uint64_t last_version[KEYS];
    uint64_t retries, sessions_lost, reads;
};

static const char **sockets;
static unsigned n_sockets;
static atomic_bool stopping;
static atomic_uint_fast64_t last_ack_ms, longest_gap_ms, violations;
static uint64_t run_id;

__attribute__((format(printf, 1, 2))) static void violation(const char *fmt, ...)
{
    va_list ap;
    atomic_fetch_add(&violations, 1);
    fputs("recorder: VIOLATION: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

static void note_ack(void)
{
    uint64_t now = clock_boot_ms(), before = atomic_exchange(&last_ack_ms, now);
    uint64_t gap = before != 0 && now > before ? now - before : 0, longest = atomic_load(&longest_gap_ms);
    while (gap > longest && !atomic_compare_exchange_weak(&longest_gap_ms, &longest, gap))
        ;
}

static void pause_ms(unsigned ms)
{
    const struct timespec t = {.tv_nsec = (long)ms * 1000000};
    nanosleep(&t, NULL);
}

static void disconnect(struct writer *w)
{
    client_close(w->client);
    w->client = NULL;
}

/* To the next node that answers. False after deadline. */
static bool connect_any(struct writer *w, uint64_t deadline_ms)
{
    while (w->client == NULL) {
        w->node = (w->node + 1) % n_sockets;
        if (client_open(sockets[w->node], CLIENT_ADMIN, "recorder", 0, CALL_MS, &w->client, NULL) == 0)
            return true;
        if (clock_boot_ms() >= deadline_ms)
            return false;
        pause_ms(20);
    }
    return true;
}

/* Sends a request, and again elsewhere, until some node answers with anything
 * but "not now". The body's answer borrows from the client. */
static int ask(struct writer *w, enum message_type type, const union request_body *body, uint64_t deadline_ms,
               union answer_body *answer_out)
{
    for (;;) {
        if (!connect_any(w, deadline_ms))
            return -ETIMEDOUT;
        struct cursor in;
        client_ask(w->client, type, ++w->id, body);
        int rc = client_call(w->client, w->id, CALL_MS, &in, NULL, 0);
        if (rc == 0 && !body_decode_answer((uint8_t)type, &in, answer_out))
            rc = -EPROTO;
        if (rc >= 0 && rc != KV_E_UNAVAILABLE && rc != KV_E_NOTLEADER && rc != KV_E_BUSY && rc != KV_E_ROFS &&
            rc != KV_E_UNKNOWN)
            return rc;
        if (clock_boot_ms() >= deadline_ms)
            return rc;
        w->retries++;
        disconnect(w);
        pause_ms(5);
    }
}

static uint64_t no_deadline(void)
{
    return clock_boot_ms() + (uint64_t)VERIFY_MS * 10;
}

static int write_once(struct writer *w, enum command_op op, const struct command_body *body,
                      struct command_result *result_out)
{
    struct buffer b = BUFFER_INIT;
    union answer_body answer;
    const struct command cmd = {
        .op = (uint8_t)op, .session = w->session, .seq = w->seq, .acked_below = w->seq, .node = ""};
    command_encode(&b, &cmd);
    command_body_encode(&b, (uint8_t)op, body);
    *result_out = (struct command_result){0};
    const union request_body request = {.write.command = bytes_of(b.data, b.len)};
    int rc = b.failed ? -ENOMEM : ask(w, MESSAGE_WRITE, &request, no_deadline(), &answer);
    buffer_deinit(&b);
    if (rc != 0)
        return rc;
    *result_out = answer.write;
    return result_out->code;
}

static int open_session(struct writer *w)
{
    uint8_t nonce[16];
    struct command_result result;
    const struct command_body body = {.nonce = nonce, .name = (const uint8_t *)"recorder", .name_len = 8};
    if (getrandom(nonce, sizeof nonce, 0) != (ssize_t)sizeof nonce)
        return -EIO;
    w->session = w->seq = 0;
    int rc = write_once(w, COMMAND_REGISTER, &body, &result);
    w->session = result.session;
    return rc;
}

static size_t key_path(const struct writer *w, unsigned key, char out[static 64])
{
    const char *kind = key < KEYS ? "key" : "log";
    return (size_t)snprintf(out, 64, "rec-%016" PRIx64 "/%s-%u-%u", run_id, kind, w->number, key);
}

static size_t token(const struct writer *w, size_t op, char out[static 48])
{
    return (size_t)snprintf(out, 48, "%u.%zu\n", w->number, op);
}

static int set_key(struct writer *w, unsigned key, const char *value, size_t len,
                   struct command_result *result_out)
{
    char path[64];
    const struct command_body body = {.path = (const uint8_t *)path,
                                      .path_len = key_path(w, key, path),
                                      .flags = SET_PARENTS,
                                      .mode = 0644,
                                      .value = (const uint8_t *)value,
                                      .value_len = len};
    w->seq++;
    return write_once(w, COMMAND_SET, &body, result_out);
}

static int append_token(struct writer *w, const char *text, size_t len, struct command_result *result_out)
{
    struct buffer edits = BUFFER_INIT;
    const struct edit e = {.kind = EDIT_APPEND, .data = (const uint8_t *)text, .len = len};
    edit_encode(&edits, &e);
    const struct command_body body = {.ino = w->log_ino, .edits = edits.data, .edits_len = edits.len};
    w->seq++;
    int rc = write_once(w, COMMAND_PUBLISH, &body, result_out);
    buffer_deinit(&edits);
    return rc;
}

/* The current value of a key, appended to out. */
static int get_key(struct writer *w, unsigned key, uint64_t deadline_ms, struct buffer *out,
                   struct attr *attr_out)
{
    char path[64];
    size_t path_len = key_path(w, key, path), len;
    uint64_t offset = 0;
    do {
        const union request_body request = {.get = {.at = READ_LINEARIZABLE,
                                                    .path = bytes_of(path, path_len),
                                                    .offset = offset,
                                                    .length = READ_LENGTH_MAX}};
        union answer_body answer;
        int rc = ask(w, MESSAGE_GET, &request, deadline_ms, &answer);
        if (rc != 0)
            return rc;
        *attr_out = answer.get.attr;
        len = answer.get.data.len;
        buffer_put_bytes(out, answer.get.data.data, len);
        offset += len;
    } while (len > 0 && offset < attr_out->size);
    return 0;
}

static void read_back(struct writer *w, unsigned key)
{
    struct buffer value = BUFFER_INIT;
    struct attr attr = {0};
    disconnect(w); /* another node */
    int rc = get_key(w, key, no_deadline(), &value, &attr);
    if (rc != 0)
        violation("writer %u: reading key %u after its acknowledgement: %s", w->number, key,
                  rc > 0 ? error_text(rc) : strerror(-rc));
    else if (attr.version < w->last_version[key])
        violation("writer %u: key %u read as version %" PRIu64 " after version %" PRIu64 " was acknowledged",
                  w->number, key, attr.version, w->last_version[key]);
    w->reads++;
    buffer_deinit(&value);
}

static void *write_on(void *arg)
{
    struct writer *w = arg;
    struct command_result result;
    w->node = w->number;
    if (open_session(w) != 0 || set_key(w, KEYS, "", 0, &result) != 0) {
        violation("writer %u: cannot begin", w->number);
        return NULL;
    }
    w->log_ino = result.attr.ino;
    while (!atomic_load(&stopping) && w->n_ops < OPS_MAX) {
        struct op *op = &w->ops[w->n_ops];
        char text[48];
        size_t len = token(w, w->n_ops, text);
        bool append = w->n_ops % 2 == 1;
        op->key = append ? KEYS : (uint8_t)(w->n_ops / 2 % KEYS);
        w->n_ops++;
        int rc = append ? append_token(w, text, len, &result) : set_key(w, op->key, text, len, &result);
        if (rc == KV_E_SESSION || rc < 0) {
            /* The one outcome that stays open: the session ran out meanwhile. */
            w->sessions_lost++;
            if (open_session(w) != 0)
                break;
            continue;
        }
        if (rc != 0) {
            op->outcome = REFUSED;
            continue;
        }
        op->outcome = ACKED;
        op->version = result.attr.version;
        note_ack();
        if (!append) {
            if (op->version <= w->last_version[op->key])
                violation("writer %u: key %u went from version %" PRIu64 " to %" PRIu64, w->number, op->key,
                          w->last_version[op->key], op->version);
            w->last_version[op->key] = op->version;
            if (w->n_ops % 16 == 1)
                read_back(w, op->key);
        }
    }
    return NULL;
}

/* Number of an own token at text, or -1; *len_out: its length. */
static long parse_token(const struct writer *w, const uint8_t *text, size_t left, size_t *len_out)
{
    char line[64], *end;
    const uint8_t *newline = memchr(text, '\n', left);
    size_t len = newline != NULL ? (size_t)(newline - text) : left;
    *len_out = newline != NULL ? len + 1 : left;
    if (len >= sizeof line || newline == NULL)
        return -1;
    memcpy(line, text, len);
    line[len] = '\0';
    unsigned long number = strtoul(line, &end, 10);
    if (*end != '.' || number != w->number)
        return -1;
    long op = strtol(end + 1, &end, 10);
    return *end == '\0' && op >= 0 && (size_t)op < w->n_ops ? op : -1;
}

static void verify_log(struct writer *w, uint64_t deadline_ms)
{
    struct buffer value = BUFFER_INIT;
    struct attr attr;
    uint8_t *seen = calloc(w->n_ops + 1, 1);
    long last = -1;
    int rc = seen == NULL ? -ENOMEM : get_key(w, KEYS, deadline_ms, &value, &attr);
    if (rc != 0)
        violation("writer %u: the log key cannot be read: %s", w->number,
                  rc > 0 ? error_text(rc) : strerror(-rc));
    for (size_t at = 0, len; rc == 0 && at < value.len; at += len) {
        long op = parse_token(w, value.data + at, value.len - at, &len);
        if (op < 0 || w->ops[op].key != KEYS) {
            violation("writer %u: foreign bytes in the log key at %zu", w->number, at);
            break;
        }
        if (seen[op]++)
            violation("writer %u: token %ld was applied twice", w->number, op);
        if (op < last)
            violation("writer %u: token %ld after token %ld", w->number, op, last);
        if (w->ops[op].outcome == REFUSED)
            violation("writer %u: token %ld was refused, and is there", w->number, op);
        last = op;
    }
    for (size_t i = 0; rc == 0 && i < w->n_ops; i++)
        if (w->ops[i].key == KEYS && w->ops[i].outcome == ACKED && !seen[i])
            violation("writer %u: token %zu was acknowledged, and is lost", w->number, i);
    free(seen);
    buffer_deinit(&value);
}

/* The value of one version, as an operation's number, or -1. */
static long read_version(struct writer *w, uint64_t directory, const char *name, uint64_t version,
                         uint64_t deadline_ms)
{
    const union request_body request = {
        .version = {.directory = directory, .name = bytes_text(name), .version = version, .length = 1024}};
    union answer_body answer;
    size_t len;
    int rc = ask(w, MESSAGE_VERSION, &request, deadline_ms, &answer);
    if (rc != 0)
        return -1;
    return parse_token(w, answer.version.data.data, answer.version.data.len, &len);
}

static int find_directory(struct writer *w, uint64_t deadline_ms, uint64_t *directory_out)
{
    char path[64];
    union answer_body answer;
    snprintf(path, sizeof path, "rec-%016" PRIx64, run_id);
    const union request_body request = {.resolve = {.at = READ_LINEARIZABLE, .path = bytes_text(path)}};
    int rc = ask(w, MESSAGE_RESOLVE, &request, deadline_ms, &answer);
    if (rc == 0)
        *directory_out = answer.resolve.attr.ino;
    return rc;
}

/* Walks a key's versions from 1 to its current one. */
static void verify_key(struct writer *w, unsigned key, uint64_t directory, uint64_t deadline_ms)
{
    char path[64];
    struct buffer value = BUFFER_INIT;
    struct attr attr = {0};
    uint64_t *seen = calloc(w->n_ops + 1, sizeof *seen);
    key_path(w, key, path);
    const char *name = strrchr(path, '/') + 1;
    int rc = get_key(w, key, deadline_ms, &value, &attr);
    buffer_deinit(&value);
    if (seen == NULL || (rc != 0 && w->last_version[key] != 0)) {
        violation("writer %u: key %u cannot be read: %s", w->number, key,
                  rc > 0 ? error_text(rc) : strerror(-rc));
        free(seen);
        return;
    }
    for (uint64_t v = 1; rc == 0 && v <= attr.version; v++) {
        long op = read_version(w, directory, name, v, deadline_ms);
        if (op < 0 || w->ops[op].key != key)
            violation("writer %u: key %u version %" PRIu64 " cannot be read or is foreign", w->number, key,
                      v);
        else if (seen[op] != 0)
            violation("writer %u: value %ld of key %u is version %" PRIu64 " and %" PRIu64, w->number, op,
                      key, seen[op], v);
        else if (w->ops[op].outcome == REFUSED)
            violation("writer %u: value %ld of key %u was refused, and is version %" PRIu64, w->number, op,
                      key, v);
        else if (w->ops[op].outcome == ACKED && w->ops[op].version != v)
            violation("writer %u: value %ld of key %u was told as version %" PRIu64 ", and is %" PRIu64,
                      w->number, op, key, w->ops[op].version, v);
        if (op >= 0)
            seen[op] = v;
    }
    for (size_t i = 0; i < w->n_ops; i++)
        if (w->ops[i].key == key && w->ops[i].outcome == ACKED && seen[i] == 0)
            violation("writer %u: value %zu of key %u (version %" PRIu64 ") was acknowledged, and is lost",
                      w->number, i, key, w->ops[i].version);
    free(seen);
}

static void *verify(void *arg)
{
    struct writer *w = arg;
    uint64_t deadline_ms = clock_boot_ms() + VERIFY_MS, directory;
    if (find_directory(w, deadline_ms, &directory) != 0) {
        violation("writer %u: the keys' directory cannot be read", w->number);
        return NULL;
    }
    verify_log(w, deadline_ms);
    for (unsigned key = 0; key < KEYS; key++)
        verify_key(w, key, directory, deadline_ms);
    return NULL;
}

static void stop(int number)
{
    atomic_store(&stopping, true);
}

static void run_threads(struct writer *writers, unsigned n, void *(*body)(void *))
{
    for (unsigned i = 0; i < n; i++)
        if (pthread_create(&writers[i].thread, NULL, body, &writers[i]) != 0)
            abort();
}

static void join_threads(struct writer *writers, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        pthread_join(writers[i].thread, NULL);
}

static void report(const struct writer *writers, unsigned n)
{
    uint64_t counts[3] = {0}, retries = 0, lost = 0, reads = 0;
    for (unsigned i = 0; i < n; i++) {
        for (size_t j = 0; j < writers[i].n_ops; j++)
            counts[writers[i].ops[j].outcome]++;
        retries += writers[i].retries;
        lost += writers[i].sessions_lost;
        reads += writers[i].reads;
    }
    printf("recorder: %" PRIu64 " acknowledged, %" PRIu64 " refused, %" PRIu64 " unknown; %" PRIu64
           " read back; %" PRIu64 " sent again, %" PRIu64 " sessions lost; longest time without an "
           "acknowledgement %" PRIu64 " ms\n",
           counts[ACKED], counts[REFUSED], counts[UNKNOWN], reads, retries, lost,
           (uint64_t)atomic_load(&longest_gap_ms));
    if (counts[ACKED] == 0)
        violation("nothing was acknowledged at all");
}

int main(int argc, char **argv)
{
    static struct writer writers[WRITERS_MAX];
    unsigned n = 4, seconds = 0;
    int c;
    while ((c = getopt(argc, argv, "w:s:")) != -1) {
        if (c == 'w')
            n = (unsigned)atoi(optarg);
        else if (c == 's')
            seconds = (unsigned)atoi(optarg);
        else
            return 2;
    }
    if (optind == argc || n < 1 || n > WRITERS_MAX) {
        fprintf(stderr, "usage: recorder [-w WRITERS] [-s SECONDS] SOCKET...\n");
        return 2;
    }
    sockets = (const char **)argv + optind;
    n_sockets = (unsigned)(argc - optind);
    if (getrandom(&run_id, sizeof run_id, 0) != (ssize_t)sizeof run_id)
        return 2;
    const struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    for (unsigned i = 0; i < n; i++) {
        writers[i].number = i;
        writers[i].ops = calloc(OPS_MAX, sizeof *writers[i].ops);
        if (writers[i].ops == NULL)
            return 2;
    }
    if (seconds > 0)
        alarm(seconds);
    run_threads(writers, n, write_on);
    join_threads(writers, n);
    report(writers, n);
    fflush(stdout);
    run_threads(writers, n, verify);
    join_threads(writers, n);
    for (unsigned i = 0; i < n; i++) {
        disconnect(&writers[i]);
        free(writers[i].ops);
    }
    printf("recorder: %" PRIu64 " violations\n", (uint64_t)atomic_load(&violations));
    return atomic_load(&violations) == 0 ? 0 : 1;
}
