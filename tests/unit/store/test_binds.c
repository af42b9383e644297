/* SQLite fails to bind a parameter, each in turn: what is read then is an error, not another
 * row, no end of a list and no damage. */
#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "kvnode/disk/state_db_scrub.h"
#include "sync/base/error.h"
#include "sync/base/log.h"
#include "tests/unit/store/place.h"

static unsigned countdown; /* the n-th call fails; 0: none */

static bool fails_now(void)
{
    return countdown > 0 && --countdown == 0;
}

/* Before SQLite's own, which the program finds behind them. */

int sqlite3_bind_int64(sqlite3_stmt *st, int parameter, sqlite3_int64 number)
{
    static int (*real)(sqlite3_stmt *, int, sqlite3_int64);

    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "sqlite3_bind_int64");
    return fails_now() ? SQLITE_NOMEM : real(st, parameter, number);
}

int sqlite3_bind_text(sqlite3_stmt *st, int parameter, const char *text, int len, void (*done)(void *))
{
    static int (*real)(sqlite3_stmt *, int, const char *, int, void (*)(void *));

    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "sqlite3_bind_text");
    return fails_now() ? SQLITE_NOMEM : real(st, parameter, text, len, done);
}

static int setup(void **state)
{
    static uint8_t big[200000];
    struct place *p = malloc(sizeof *p);

    log_open("test", LOG_LEVEL_ERROR);
    place_init(p);
    assert_int_equal(world_mkdir(&p->w, KV_ROOT_INO, "d"), KV_OK);
    for (unsigned i = 0; i < 4; i++) {
        memset(big, (int)i + 1, sizeof big);
        assert_int_equal(world_set_bytes(&p->w, "/f", big, sizeof big, 0, 0), KV_OK);
        assert_int_equal(world_set(&p->w, "/d/g", i % 2 == 0 ? "even" : "odd"), KV_OK);
    }
    place_flush(p);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;

    countdown = 0;
    place_deinit(p);
    free(p);
    return 0;
}

static bool any_row(void *arg, const struct version_row *row)
{
    (void)arg;
    (void)row;
    return true;
}

static bool any_entry(void *arg, const struct history_entry *entry)
{
    (void)arg;
    (void)entry;
    return true;
}

static bool any_name(void *arg, const uint8_t *name, size_t len)
{
    (void)arg;
    (void)name;
    (void)len;
    return true;
}

static int list(struct history_reader *r)
{
    bool more;

    return history_list(r, KV_ROOT_INO, "f", 1, 0, 100, NULL, any_row, &more);
}

static int read_version(struct history_reader *r)
{
    struct buffer b = BUFFER_INIT;
    struct version_row row;
    int rv = history_read(r, KV_ROOT_INO, "f", 1, 2, 0, 200000, &row, &b);

    buffer_deinit(&b);
    return rv;
}

static int guards(struct history_reader *r)
{
    struct history_guards g;

    return history_guards(r, KV_ROOT_INO, "f", 1, 1, &g);
}

static int at_time(struct history_reader *r)
{
    struct version_row row;

    return history_at(r, KV_ROOT_INO, "f", 1, UINT64_MAX, &row);
}

static int whole_log(struct history_reader *r)
{
    uint64_t dropped;

    return history_log(r, 0, NULL, NULL, any_entry, &dropped);
}

static int names(struct history_reader *r)
{
    return history_names(r, KV_ROOT_INO, NULL, 0, NULL, any_name);
}

static void history_is_read_or_not(void **state)
{
    static int (*const reads[])(struct history_reader *) = {list,    read_version, guards,
                                                            at_time, whole_log,    names};
    struct history_reader *r = place_history(*state);

    for (size_t i = 0; i < sizeof reads / sizeof reads[0]; i++) {
        unsigned n = 0;
        int rv;

        do {
            countdown = ++n;
            rv = reads[i](r);
            if (countdown == 0)
                assert_int_equal(rv, -ENOMEM);
        } while (countdown == 0);
        countdown = 0;
        assert_int_equal(rv, KV_OK);
        assert_true(n > 1);
        assert_int_equal(reads[i](r), KV_OK);
    }
}

static void a_pass_over_the_file_finds_no_damage(void **state)
{
    struct place *p = *state;
    unsigned n = 0;
    bool failed;

    do {
        struct state_scrub_progress progress;
        struct state_scrub *s;
        int rv;

        assert_int_equal(state_scrub_open(p->path, &s, p->error), 0);
        countdown = ++n;
        while ((rv = state_scrub_step(s, &progress)) == 1)
            ;
        failed = countdown == 0;
        countdown = 0;
        assert_int_equal(rv, failed ? -ENOMEM : 0);
        state_scrub_close(s);
    } while (failed);
    assert_true(n > 10);
}

static void a_file_is_loaded_or_not(void **state)
{
    struct place *p = *state;
    unsigned n = 0;
    bool failed;

    do {
        uint64_t index, digest;
        int rv;

        countdown = ++n;
        rv = state_db_verify(p->path, &index, &digest, p->error);
        failed = countdown == 0;
        countdown = 0;
        assert_int_equal(rv, failed ? -ENOMEM : 0);
    } while (failed);
    assert_true(n > 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(history_is_read_or_not, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pass_over_the_file_finds_no_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_is_loaded_or_not, setup, teardown),
    };

    return cmocka_run_group_tests_name("binds", tests, NULL, NULL);
}
