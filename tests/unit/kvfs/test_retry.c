/* Second walks: how long one is waited for; and what is protected in a sticky directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "kvfs/link/stat.h"
#include "kvfs/ops/fs.h"
#include "sync/base/error.h"
#include "tests/lib/look_again.h"

struct fixture {
    struct options options;
    struct fs fs;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    f->options.timeout_ms = 5000;
    assert_int_equal(fs_init(&f->fs, &f->options), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    notifier_stop(&f->fs.cache);
    fs_deinit(&f->fs);
    free(f);
    return 0;
}

static void a_walk_is_not_given_up_while_it_is_waited_for(void **state)
{
    struct fixture *f = *state;
    struct hub *hub = &f->fs.hub;
    uint64_t until = 0;

    retry_note(hub, 1, 7);
    retry_note(hub, 2, 7);
    retry_note(hub, 3, 7);
    retry_asks(hub, 1); /* and is not answered */
    retry_asks(hub, 2);
    retry_answered(hub, 2);
    while ((retry_is(hub, 2) || retry_is(hub, 3)) && look_again(&until, 4000))
        ;
    assert_false(retry_is(hub, 2));
    assert_false(retry_is(hub, 3));
    assert_true(retry_is(hub, 1));
    assert_true(retry_is_second(hub, 1, 7));
    retry_answered(hub, 1);
    assert_true(retry_is(hub, 1));
    until = 0;
    while (retry_is(hub, 1) && look_again(&until, 4000))
        ;
    assert_false(retry_is(hub, 1));
    retry_asks(hub, 1); /* it is over: nothing brings it back */
    assert_false(retry_is(hub, 1));
}

static void what_was_waited_for_in_vain_fails_at_once_when_it_is_asked_again(void **state)
{
    struct fixture *f = *state;
    struct hub *hub = &f->fs.hub;
    uint64_t until = 0;

    retry_waited(hub, 1, 7, "name", KV_E_UNAVAILABLE);
    assert_int_equal(retry_waited_code(hub, 2, 7, "name"), 0);
    assert_int_equal(retry_waited_code(hub, 1, 8, "name"), 0);
    assert_int_equal(retry_waited_code(hub, 1, 7, "other"), 0);
    assert_int_equal(retry_waited_code(hub, 1, 7, "name"), KV_E_UNAVAILABLE);
    assert_int_equal(retry_waited_code(hub, 1, 7, "name"), 0); /* another system call */
    retry_waited(hub, 1, 7, "name", KV_E_UNAVAILABLE);
    while (look_again(&until, 1000)) /* longer than the kernel takes */
        ;
    assert_int_equal(retry_waited_code(hub, 1, 7, "name"), 0);
}

static bool is_protected(mode_t directory_mode, uid_t directory_uid, uid_t file_uid, uid_t uid,
                         unsigned protection)
{
    struct stat directory = {.st_mode = S_IFDIR | directory_mode, .st_uid = directory_uid};
    struct stat file = {.st_mode = S_IFREG | 0666, .st_uid = file_uid};

    return stat_is_protected(&directory, &file, uid, protection);
}

static void what_others_made_in_a_sticky_directory_is_protected(void **state)
{
    assert_true(is_protected(01777, 0, 5, 6, 1));
    assert_true(is_protected(01777, 0, 5, 0, 1)); /* from root, too */
    assert_false(is_protected(01777, 0, 5, 6, 0));
    assert_false(is_protected(0777, 0, 5, 6, 2));
    assert_false(is_protected(01777, 0, 0, 6, 2)); /* the directory's owner made it */
    assert_false(is_protected(01777, 0, 6, 6, 2));
    assert_false(is_protected(01775, 0, 5, 6, 1));
    assert_true(is_protected(01775, 0, 5, 6, 2));
    assert_false(is_protected(01755, 0, 5, 6, 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_walk_is_not_given_up_while_it_is_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_waited_for_in_vain_fails_at_once_when_it_is_asked_again,
                                        setup, teardown),
        cmocka_unit_test(what_others_made_in_a_sticky_directory_is_protected),
    };

    return cmocka_run_group_tests_name("retry", tests, NULL, NULL);
}
