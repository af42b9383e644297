/* A turn of a node's loop that takes too long fails the test that it happens in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kvnode/turn.h"
#include "tests/fault/lib/cluster.h"

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
        skip(); /* a sanitizer takes longer than any limit */
    assert_false(passes_with("1", true));
}

static void without_one_it_passes(void **state)
{
    assert_true(passes_with("10000", false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_turn_over_the_limit_fails_the_test),
        cmocka_unit_test(without_one_it_passes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
