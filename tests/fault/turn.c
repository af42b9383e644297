/* A turn of a node's loop that takes too long fails the test that it happens in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvnode/loop/turn.h"
#include "tests/fault/lib/cluster.h"
#include "tests/fault/lib/raw.h"

#define CLIENTS 24
#define READS 8

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define WATCHED false
#else
#define WATCHED true
#endif

/* Writes 32 MiB to a cluster of one node that has this limit. Whether cluster_free() is content with it. */
static bool passes_with(const char *limit_ms, bool logged)
{
    struct cluster_options options = {.n = 1};
    const char *none;
    struct cluster *c;
    char order[400], out[512], dir[sizeof c->dir];
    const char *const set[] = {"sh", "-c", order, NULL}, *const remove[] = {"rm", "-rf", dir, NULL};
    bool passes;

    setenv(TURN_LIMIT_VARIABLE, limit_ms, 1);
    c = cluster_new(&options, &none);
    unsetenv(TURN_LIMIT_VARIABLE);
    assert_non_null(c);
    snprintf(dir, sizeof dir, "%s", c->dir);
    snprintf(order, sizeof order, "head -c 33554432 /dev/urandom | " FAULT_KVNODE " -n %s set big -",
             c->nodes[0].socket);
    assert_int_equal(run_program(set, 30000, out, sizeof out), 0);
    if (logged)
        assert_true(cluster_logs(c, 0, " error: " TURN_FINDING, 10000));
    passes = cluster_free(c);
    if (!passes)
        run_program(remove, 10000, out, sizeof out);
    return passes;
}

static void a_turn_over_the_limit_fails_the_test(void **state)
{
    if (!WATCHED)
        return; /* a sanitizer takes longer than any limit */
    assert_false(passes_with("1", true));
}

static void without_one_it_passes(void **state)
{
    assert_true(passes_with("10000", false));
}

/* Of many clients, each as many as may be promised to one, that wait for the same word of the quorum. */
static void many_large_reads_at_once_hold_nobody_up(void **state)
{
    struct cluster_options options = {.n = 1};
    struct buffer hello = BUFFER_INIT, get = BUFFER_INIT, b = BUFFER_INIT;
    char order[400], out[512];
    const char *const set[] = {"sh", "-c", order, NULL};
    const char *none;
    struct cluster *c = cluster_new(&options, &none);
    int fds[CLIENTS];

    assert_non_null(c);
    snprintf(order, sizeof order, "head -c 1000000 /dev/urandom | " FAULT_KVNODE " -n %s set big -",
             c->nodes[0].socket);
    assert_int_equal(run_program(set, 30000, out, sizeof out), 0);
    raw_hello(&hello);
    body_encode_request(&get, MESSAGE_GET,
                        &(union request_body){
                            .get = {.at = READ_LINEARIZABLE, .path = bytes_text("big"), .length = 1000000}});
    for (unsigned i = 0; i < READS; i++)
        raw_frame(&b, MESSAGE_GET, 10 + i, get.data, get.len);
    for (unsigned i = 0; i < CLIENTS; i++) {
        fds[i] = raw_open(c->nodes[0].socket);
        assert_true(fds[i] >= 0);
        assert_int_equal(raw_send(fds[i], hello.data, hello.len, 10000), hello.len);
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        assert_int_equal(raw_send(fds[i], b.data, b.len, 10000), b.len);
    for (unsigned i = 0; i < CLIENTS; i++) {
        assert_true(raw_takes(fds[i], READS * 1000000, 30000));
        close(fds[i]);
    }
    buffer_deinit(&hello);
    buffer_deinit(&get);
    buffer_deinit(&b);
    assert_true(cluster_free(c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_turn_over_the_limit_fails_the_test),
        cmocka_unit_test(without_one_it_passes),
        cmocka_unit_test(many_large_reads_at_once_hold_nobody_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
