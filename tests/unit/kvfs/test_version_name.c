#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kvfs/virtual/version_name.h"

static void numbers_and_deletions(void **state)
{
    struct version_name v;

    assert_true(version_name_parse("17", &v));
    assert_int_equal(v.kind, VERSION_NUMBER);
    assert_int_equal(v.number, 17);
    assert_true(version_name_parse("3.deleted", &v));
    assert_int_equal(v.kind, VERSION_DELETED);
    assert_int_equal(v.number, 3);
    assert_true(version_name_parse("-2", &v));
    assert_int_equal(v.kind, VERSION_BACK);
    assert_int_equal(v.number, 2);
}

static void times(void **state)
{
    struct version_name v;

    assert_true(version_name_parse("@1970-01-02T00:00:01Z", &v));
    assert_int_equal(v.kind, VERSION_TIME);
    assert_int_equal(v.wall_ns, UINT64_C(86401) * 1000000000);
    assert_true(version_name_parse("@1970-01-02T00:00:01", &v));
    assert_int_equal(v.wall_ns, UINT64_C(86401) * 1000000000);
    assert_true(version_name_parse("@1970-01-02T00:01", &v));
    assert_int_equal(v.wall_ns, UINT64_C(86460) * 1000000000);
    assert_true(version_name_parse("@1970-01-02", &v));
    assert_int_equal(v.wall_ns, UINT64_C(86400) * 1000000000);
    assert_true(version_name_parse("@1970-01-02T00:00:01.25Z", &v));
    assert_int_equal(v.wall_ns, UINT64_C(86401250000000));
    assert_true(version_name_parse("@1769860800", &v));
    assert_int_equal(v.wall_ns, UINT64_C(1769860800) * 1000000000);
}

static void refuses_everything_else(void **state)
{
    static const char *const names[] = {"",
                                        "0",
                                        "01",
                                        "1x",
                                        "1.",
                                        "1.delete",
                                        "1.deleted2",
                                        "-",
                                        "-0",
                                        "--1",
                                        "@",
                                        "@12:00",
                                        "@2026-02-30",
                                        "@2026-13-01",
                                        "@2026-01-01T25:00",
                                        "@2026-01-01T10",
                                        "@2026-01-01T10:00:00ZZ",
                                        "99999999999999999999999",
                                        "color",
                                        "."};
    struct version_name v;
    size_t i;

    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (version_name_parse(names[i], &v))
            fail_msg("accepted: %s", names[i]);
    }
}

static void what_is_formatted_can_be_parsed(void **state)
{
    char name[VERSION_NAME_MAX];
    struct version_name v;

    version_name_format(UINT64_MAX / 10 - 1, true, name);
    assert_true(version_name_parse(name, &v));
    assert_int_equal(v.number, UINT64_MAX / 10 - 1);
    version_name_format(7, false, name);
    assert_string_equal(name, "7");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_and_deletions),
        cmocka_unit_test(times),
        cmocka_unit_test(refuses_everything_else),
        cmocka_unit_test(what_is_formatted_can_be_parsed),
    };

    return cmocka_run_group_tests_name("version_name", tests, NULL, NULL);
}
