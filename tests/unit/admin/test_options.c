/* The command line: options before and after the verb, arguments, times. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kvnode/admin/admin.h"
#include "sync/base/error.h"

#define ARGS_MAX 12

static char *words[ARGS_MAX];

/* Parses the words of a line. They live until the next call. */
static int parse(const char *line, struct admin *a)
{
    static char text[512];
    int n = 0;
    snprintf(text, sizeof text, "kvnode %s", line);
    for (char *save, *w = strtok_r(text, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
        words[n++] = w;
    words[n] = NULL;
    *a = (struct admin){0};
    return admin_parse(a, n, words);
}

static void takes_options_before_and_after_the_verb(void **state)
{
    struct admin a;
    assert_int_equal(parse("--json -n n2 get app/color", &a), EXIT_OK);
    assert_string_equal(a.verb->name, "get");
    assert_string_equal(a.opt[OPT_NODE], "n2");
    assert_non_null(a.opt[OPT_JSON]);
    assert_int_equal(a.n_args, 1);
    assert_string_equal(a.args[0], "app/color");
    assert_int_equal(parse("get app/color --json -n n2", &a), EXIT_OK);
    assert_string_equal(a.opt[OPT_NODE], "n2");
    assert_non_null(a.opt[OPT_JSON]);
    assert_int_equal(a.n_args, 1);
    assert_string_equal(a.args[0], "app/color");
}

static void version_is_a_value_for_get_and_a_question_elsewhere(void **state)
{
    struct admin a;
    assert_int_equal(parse("get k --version 3", &a), EXIT_OK);
    assert_string_equal(a.opt[OPT_AT_VERSION], "3");
    assert_null(a.opt[OPT_VERSION]);
    assert_int_equal(parse("set k v --version", &a), EXIT_OK);
    assert_non_null(a.opt[OPT_VERSION]);
    assert_int_equal(parse("--version", &a), EXIT_OK);
    assert_non_null(a.opt[OPT_VERSION]);
    assert_null(a.verb);
}

static void takes_a_dash_as_a_value(void **state)
{
    struct admin a;
    assert_int_equal(parse("set k -", &a), EXIT_OK);
    assert_int_equal(a.n_args, 2);
    assert_int_equal(parse("set k -- -5", &a), EXIT_OK);
    assert_string_equal(a.args[1], "-5");
}

static void refuses_what_it_does_not_know(void **state)
{
    static const char *const lines[] = {
        "",
        "gett k",
        "get",
        "get a b",
        "get k --bogus",
        "get k -x",
        "get k -n",
        "--bogus get k",
        "get k -r",
        "del",
        "--json run",
        "get k --timeout",
        "get k --js=1",
        "ls --color=blue",
        "get k --timeout 0",
        "get k --timeout 8d",
        "get k --timeout -1",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct admin a;
        if (parse(lines[i], &a) != EXIT_USAGE)
            fail_msg("\"kvnode %s\" should be a usage error", lines[i]);
    }
}

static void repeats_settings(void **state)
{
    struct admin a;
    assert_int_equal(parse("config -o raft.election_ms=500 -o node.log_level=debug", &a), EXIT_OK);
    assert_int_equal(a.n_settings, 2);
    assert_string_equal(a.settings[1], "node.log_level=debug");
}

static void reads_times(void **state)
{
    unsigned ms;
    assert_true(admin_parse_time("10", &ms) && ms == 10000);
    assert_true(admin_parse_time("1.5s", &ms) && ms == 1500);
    assert_true(admin_parse_time("250ms", &ms) && ms == 250);
    assert_true(admin_parse_time("2m", &ms) && ms == 120000);
    assert_true(admin_parse_time("1h", &ms) && ms == 3600000);
    static const char *const bad[] = {"",    "s",   "0",    "-1s",  "1x",   "1 s",
                                      "nan", "inf", "1e99", "200h", "0.1ms"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(admin_parse_time(bad[i], &ms));
}

static void reads_numbers(void **state)
{
    uint64_t n;
    assert_true(admin_parse_number("0", 0, 5, &n) && n == 0);
    assert_true(admin_parse_number("18446744073709551615", 1, UINT64_MAX, &n) && n == UINT64_MAX);
    static const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "0x1", "6", "18446744073709551616"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(admin_parse_number(bad[i], 0, 5, &n));
}

static void every_code_has_its_exit_status(void **state)
{
    assert_int_equal(admin_exit_of(KV_OK, true), EXIT_OK);
    assert_int_equal(admin_exit_of(KV_E_NOENT, true), EXIT_NO_KEY);
    assert_int_equal(admin_exit_of(KV_E_NOVERSION, false), EXIT_NO_KEY);
    assert_int_equal(admin_exit_of(KV_E_UNAVAILABLE, true), EXIT_UNAVAILABLE);
    assert_int_equal(admin_exit_of(KV_E_ROFS, true), EXIT_UNAVAILABLE);
    assert_int_equal(admin_exit_of(KV_E_VERSION, true), EXIT_VERSION);
    assert_int_equal(admin_exit_of(KV_E_FBIG, true), EXIT_REFUSED);
    assert_int_equal(admin_exit_of(KV_E_UNKNOWN, true), EXIT_UNKNOWN);
    assert_int_equal(admin_exit_of(-ETIMEDOUT, true), EXIT_UNKNOWN);
    assert_int_equal(admin_exit_of(-ETIMEDOUT, false), EXIT_UNAVAILABLE);
    assert_int_equal(admin_exit_of(-ENOMEM, true), EXIT_FAILED);
    for (int code = 1; code < KV_E_COUNT; code++) {
        int exit = admin_exit_of(code, true);
        assert_true(exit >= EXIT_FAILED && exit <= EXIT_UNKNOWN && exit != EXIT_USAGE);
    }
}

static void the_table_is_whole(void **state)
{
    for (int o = 0; o < OPT_COUNT; o++) {
        assert_non_null(admin_options[o].name);
        assert_non_null(admin_options[o].help);
    }
    for (size_t i = 0; i < admin_n_verbs; i++) {
        assert_non_null(admin_verbs[i].run);
        assert_ptr_equal(admin_verb(admin_verbs[i].name), &admin_verbs[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_options_before_and_after_the_verb),
        cmocka_unit_test(version_is_a_value_for_get_and_a_question_elsewhere),
        cmocka_unit_test(takes_a_dash_as_a_value),
        cmocka_unit_test(refuses_what_it_does_not_know),
        cmocka_unit_test(repeats_settings),
        cmocka_unit_test(reads_times),
        cmocka_unit_test(reads_numbers),
        cmocka_unit_test(every_code_has_its_exit_status),
        cmocka_unit_test(the_table_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
