/* Files of a stopped node that are damaged, missing or old. At its next start it
 * says which file is bad and what to do, or heals; it never serves a wrong value,
 * and nothing that it had acknowledged is lost. */
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sync/base/error.h"
#include "tests/fault/lib/caller.h"
#include "tests/fault/lib/raw.h"

#define NODES 3
#define VICTIM 2
#define KEYS 40
#define VERSIONS 3
#define STATE "groups/0/state.db"

static struct cluster *cluster;
static struct dice dice;
static struct caller writer;
static unsigned generation; /* of the values */
static size_t log_at;       /* how much of the victim's log has been looked at */

static size_t value_of(unsigned key, unsigned version, char *out, size_t size)
{
    size_t len = (size_t)snprintf(out, size, "key %u version %u ", key, version), i;
    size_t want = key % 4 == 0 ? 70000 : 50 + key;

    for (i = len; i < want && i < size; i++)
        out[i] = (char)('a' + (i * 7 + key + version) % 26);
    return i;
}

/* Every key gets one more version. */
static void write_all(void)
{
    static char value[80000];
    unsigned k;

    generation++;
    for (k = 0; k < KEYS; k++) {
        struct command_result result;
        char key[32];
        size_t len = value_of(k, generation, value, sizeof value);

        snprintf(key, sizeof key, "damage/%u", k);
        assert_int_equal(caller_set(&writer, key, value, len, 15000, &result), 0);
        assert_int_equal(result.attr.version, generation);
    }
}

static void copy(const char *from, const char *to)
{
    char out[512];
    const char *const wipe[] = {"rm", "-rf", to, NULL};
    const char *const cp[] = {"cp", "-a", from, to, NULL};

    assert_int_equal(run_program(wipe, 10000, out, sizeof out), 0);
    assert_int_equal(run_program(cp, 10000, out, sizeof out), 0);
}

static void stop_and_save(int sig)
{
    char saved[200];

    cluster_signal(cluster, VICTIM, sig);
    snprintf(saved, sizeof saved, "%s/saved", cluster->dir);
    copy(cluster->nodes[VICTIM].data, saved);
    log_at = cluster_log_size(cluster, VICTIM);
}

static void restore(void)
{
    char saved[200];

    snprintf(saved, sizeof saved, "%s/saved", cluster->dir);
    copy(saved, cluster->nodes[VICTIM].data);
}

static void path_of(const char *file, char *out, size_t size)
{
    snprintf(out, size, "%s/%s", cluster->nodes[VICTIM].data, file);
}

static off_t size_of(const char *file)
{
    struct stat st;
    char path[300];

    path_of(file, path, sizeof path);
    return stat(path, &st) == 0 ? st.st_size : 0;
}

/* Reads everything from the victim's own memory and history. */
static void assert_right(void)
{
    static char value[80000];
    struct caller r;
    unsigned k, v;
    struct buffer b = BUFFER_INIT;

    caller_init(&r, cluster, VICTIM);
    r.pinned = true;
    for (k = 0; k < KEYS; k++) {
        struct buffer got = BUFFER_INIT;
        struct attr attr;
        uint64_t parent;
        union request_body request;
        union answer_body answer;
        char key[32];
        size_t len;

        snprintf(key, sizeof key, "damage/%u", k);
        assert_int_equal(caller_get_all(&r, key, 15000, &attr, &got), 0);
        len = value_of(k, generation, value, sizeof value);
        assert_int_equal(attr.version, generation);
        assert_int_equal(got.len, len);
        assert_memory_equal(got.data, value, len);
        buffer_deinit(&got);
        request.resolve = (struct path_request){.at = READ_LOCAL, .path = bytes_text(key)};
        assert_int_equal(caller_ask(&r, MESSAGE_RESOLVE, &request, 5000, &answer), 0);
        parent = answer.resolve.parent;
        for (v = 1; v <= generation; v += 1 + generation / 4) {
            size_t want = value_of(k, v, value, sizeof value);
            int rv;

            request.version = (struct version_request){.directory = parent,
                                                       .name = bytes_text(key + strlen("damage/")),
                                                       .version = v,
                                                       .length = READ_LENGTH_MAX};
            rv = caller_ask(&r, MESSAGE_VERSION, &request, 15000, &answer);
            if (rv == KV_E_IO)
                continue; /* known to be unreadable; not wrong */
            assert_int_equal(rv, 0);
            assert_int_equal(answer.version.data.len, want);
            assert_memory_equal(answer.version.data.data, value, want);
        }
    }
    buffer_deinit(&b);
    caller_deinit(&r);
}

struct start {
    bool ended, shut_out, serves;
};

static bool has_decided(void *arg)
{
    struct start *s = arg;
    struct view v;

    s->ended = cluster_ended(cluster, VICTIM, 0);
    s->shut_out =
        !s->ended && strstr(cluster_log_since(cluster, VICTIM, log_at), "The way back: kvnode readmit");
    s->serves = !s->ended && cluster_view(cluster, VICTIM, 300, &v) && v.ready;
    return s->ended || s->shut_out || s->serves;
}

enum outcome { REFUSED, SHUT_OUT, SERVES };

/* Starts the victim with its damage. Refused: it has said why, naming the file. Shut out: the
 * others know better, and it has said so. */
static enum outcome start(const char *file)
{
    struct start s = {0};
    const char *text;

    assert_true(cluster_start(cluster, VICTIM));
    assert_true(await(20000, has_decided, &s));
    text = cluster_log_since(cluster, VICTIM, log_at);
    if (s.ended) {
        assert_true(WIFEXITED(cluster->nodes[VICTIM].status));
        assert_int_not_equal(WEXITSTATUS(cluster->nodes[VICTIM].status), 0);
        if (strstr(text, file) == NULL || strstr(text, "cannot start") == NULL)
            printf("# %s damaged, it says: %s\n", file, text);
        assert_non_null(strstr(text, file));
        assert_non_null(strstr(text, "cannot start"));
    }
    return s.ended ? REFUSED : s.shut_out ? SHUT_OUT : SERVES;
}

/* After a start that went well. */
static void assert_whole(void)
{
    assert_true(cluster_runs(cluster, VICTIM));
    assert_true(cluster_equal(cluster, 30000));
    assert_right();
    write_all();
    assert_true(cluster_equal(cluster, 15000));
    assert_right();
}

static int setup(void **state)
{
    const struct cluster_options options = {.n = NODES};
    const char *skip_reason;
    unsigned i;

    (void)state;
    dice_init(&dice, "damage");
    cluster = cluster_new(&options, &skip_reason);
    if (cluster == NULL)
        return -1;
    caller_init(&writer, cluster, 0);
    if (caller_register(&writer, 10000) != 0)
        return -1;
    for (i = 0; i < VERSIONS; i++)
        write_all();
    return cluster_equal(cluster, 15000) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    caller_deinit(&writer);
    return cluster_free(cluster) ? 0 : -1;
}

static void flip(const char *file, off_t from, unsigned n)
{
    off_t size = size_of(file);
    char path[300];
    int fd;

    path_of(file, path, sizeof path);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    while (n-- > 0) {
        off_t at = from + (off_t)dice_roll(&dice, (uint64_t)(size - from));
        uint8_t byte;

        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= (uint8_t)(1u << dice_roll(&dice, 8));
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    close(fd);
}

/* Rounds of: stop, flip some bits, start. */
static void flips(const char *file, const char *named, int sig, unsigned n, unsigned *refused_out,
                  unsigned *served_out)
{
    unsigned i;

    *refused_out = *served_out = 0;
    for (i = 0; i < n; i++) {
        unsigned bits = 1u << dice_roll(&dice, 6);

        write_all(); /* so that there is something in the write-ahead log */
        assert_true(cluster_equal(cluster, 15000));
        stop_and_save(sig);
        if (size_of(file) == 0) {
            assert_true(cluster_start(cluster, VICTIM));
            assert_true(cluster_serves(cluster, VICTIM, 20000));
            continue;
        }
        flip(file, 0, bits);
        if (start(named) != SERVES) {
            (*refused_out)++;
            cluster_signal(cluster, VICTIM, SIGKILL);
            restore();
            assert_true(cluster_start(cluster, VICTIM));
            assert_true(cluster_serves(cluster, VICTIM, 20000));
        } else {
            (*served_out)++;
        }
        assert_whole();
    }
    printf("# bits flipped in %s after %s: refused %u times, served (healed or not used) %u times\n", file,
           sig == SIGTERM ? "a stop" : "a kill", *refused_out, *served_out);
}

static void a_damaged_state_heals(void **state)
{
    unsigned refused, served;

    (void)state;
    flips(STATE, STATE, SIGTERM, rounds(4), &refused, &served);
    assert_int_equal(refused, 0);
    flips(STATE, STATE, SIGKILL, rounds(2), &refused, &served);
    assert_int_equal(refused, 0);
    flips(STATE "-wal", STATE, SIGKILL, rounds(3), &refused, &served);
    assert_int_equal(refused, 0);
}

static void a_damaged_log_is_refused(void **state)
{
    unsigned refused, served;

    (void)state;
    flips("log.db", "log.db", SIGTERM, rounds(4), &refused, &served);
    flips("log.db", "log.db", SIGKILL, rounds(2), &refused, &served);
    flips("log.db-wal", "log.db", SIGKILL, rounds(3), &refused, &served);
}

static void remove_file(const char *file)
{
    char path[300];

    path_of(file, path, sizeof path);
    unlink(path);
}

static void cut(const char *file, off_t size)
{
    char path[300];

    path_of(file, path, sizeof path);
    assert_int_equal(truncate(path, size), 0);
}

static void assert_refused(const char *named)
{
    assert_int_equal(start(named), REFUSED);
    restore();
    assert_true(cluster_start(cluster, VICTIM));
    assert_true(cluster_serves(cluster, VICTIM, 20000));
    assert_whole();
}

/* Nothing that it could be known by is left: it runs, and takes no part. */
static void assert_shut_out(void)
{
    struct view v;

    assert_int_equal(start(""), SHUT_OUT);
    assert_true(cluster_logs(cluster, VICTIM, "its data were lost", 0));
    assert_true(cluster_view(cluster, VICTIM, 2000, &v));
    assert_false(v.ready);
    assert_string_equal(v.states[VICTIM], "gone back");
    cluster_signal(cluster, VICTIM, SIGTERM);
    restore();
    assert_true(cluster_start(cluster, VICTIM));
    assert_true(cluster_serves(cluster, VICTIM, 20000));
    assert_whole();
}

static void a_missing_state_heals(void **state)
{
    (void)state;
    stop_and_save(SIGTERM);
    remove_file(STATE);
    assert_int_equal(start(STATE), SERVES);
    assert_whole();
    stop_and_save(SIGTERM);
    cut(STATE, size_of(STATE) / 2);
    assert_int_equal(start(STATE), SERVES);
    assert_whole();
    stop_and_save(SIGTERM);
    cut(STATE, 0);
    assert_int_equal(start(STATE), SERVES);
    assert_whole();
    stop_and_save(SIGKILL);
    remove_file(STATE "-wal");
    assert_int_equal(start(STATE), SERVES);
    assert_whole();
}

/* Coming back with less than was acknowledged would lose writes. */
static void a_missing_or_shortened_log_is_refused(void **state)
{
    (void)state;
    stop_and_save(SIGTERM);
    remove_file("log.db");
    assert_refused("log.db");
    stop_and_save(SIGTERM);
    remove_file("log.db");
    remove_file("log.db-floor");
    assert_shut_out();
    stop_and_save(SIGTERM);
    cut("log.db", 0);
    assert_refused("log.db");
    stop_and_save(SIGTERM);
    cut("log.db", 4096 * 3);
    assert_refused("log.db");
    write_all();
    stop_and_save(SIGKILL);
    remove_file("log.db-wal");
    assert_refused("log.db");
}

static void an_older_log_is_refused(void **state)
{
    char older[300], path[300];
    (void)state;

    stop_and_save(SIGTERM);
    path_of("log.db", path, sizeof path);
    snprintf(older, sizeof older, "%s/older", cluster->dir);
    copy(path, older);
    assert_true(cluster_start(cluster, VICTIM));
    assert_true(cluster_serves(cluster, VICTIM, 20000));
    write_all();
    assert_true(cluster_equal(cluster, 15000));
    stop_and_save(SIGTERM);
    copy(older, path);
    assert_refused("log.db");
}

static void a_wiped_folder_is_refused(void **state)
{
    char out[512], hidden[300];
    const char *const data = cluster->nodes[VICTIM].data;

    (void)state;
    stop_and_save(SIGTERM);
    snprintf(hidden, sizeof hidden, "%s/ssh", data);
    {
        const char *const find[] = {"find", data,    "-mindepth",          "1",       "-not", "-path", hidden,
                                    "-not", "-path", strcat(hidden, "/*"), "-delete", NULL};

        (void)run_program(find, 5000, out, sizeof out);
    }
    assert_int_equal(size_of("log.db"), 0);
    assert_shut_out();
    stop_and_save(SIGTERM);
    {
        const char *const rm[] = {"rm", "-rf", data, NULL};

        assert_int_equal(run_program(rm, 5000, out, sizeof out), 0);
    }
    assert_refused(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_damaged_state_heals),    cmocka_unit_test(a_missing_state_heals),
        cmocka_unit_test(a_damaged_log_is_refused), cmocka_unit_test(a_missing_or_shortened_log_is_refused),
        cmocka_unit_test(an_older_log_is_refused),  cmocka_unit_test(a_wiped_folder_is_refused),
    };

    cmocka_set_test_filter(getenv("KVFS_FAULT_ONLY"));
    return cmocka_run_group_tests(tests, setup, teardown);
}
