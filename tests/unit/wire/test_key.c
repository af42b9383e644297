/* Keys as people write them: which rule is broken is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sync/base/error.h"
#include "sync/wire/attr.h"

static char why[400];

static int check(const char *key, bool directory)
{
    why[0] = '\0';
    return key_check(key, directory, why, sizeof why);
}

static void takes_what_may_be_a_key(void **state)
{
    static const char *const keys[] = {"a", "/a", "a/b c/d", "..a", "a...", ".versionsx", "a\nb"};

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        assert_int_equal(check(keys[i], false), KV_OK);
    assert_int_equal(check("", true), KV_OK);
    assert_int_equal(check("/", true), KV_OK);
    assert_int_equal(check("a/", true), KV_OK);
}

static void says_which_rule_is_broken(void **state)
{
    static const struct {
        const char *key, *why;
        int code;
    } cases[] = {
        {"", "the key is empty", KV_E_INVAL},
        {"/", "/ is the root directory, not a key", KV_E_INVAL},
        {"a/../b", "a key has no `..` part", KV_E_INVAL},
        {"./a", "a key has no `.` part", KV_E_INVAL},
        {"a//b", "a key has no empty part (two slashes in a row)", KV_E_INVAL},
        {"//a", "a key has no empty part (two slashes in a row)", KV_E_INVAL},
        {"x/", "a key does not end in a slash", KV_E_INVAL},
        {"a/.versions/b", "the name .versions is reserved", KV_E_PERM},
        {".kvfs", "the name .kvfs is reserved", KV_E_PERM},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(check(cases[i].key, false), cases[i].code);
        assert_string_equal(why, cases[i].why);
    }
}

static void says_how_long_is_too_long(void **state)
{
    static char key[5000];

    memset(key, 'n', 256);
    assert_int_equal(check(key, false), KV_E_NAMETOOLONG);
    assert_string_equal(why, "a name is 256 bytes; the limit is 255");
    key[255] = '\0';
    assert_int_equal(check(key, false), KV_OK);
    for (size_t i = 0; i < 4412; i++)
        key[i] = i % 2 == 0 ? 'a' : '/';
    assert_int_equal(check(key, true), KV_E_NAMETOOLONG);
    assert_string_equal(why, "path is 4412 bytes; the limit is 4095");
    key[4095] = '\0';
    assert_int_equal(check(key, false), KV_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_what_may_be_a_key),
        cmocka_unit_test(says_which_rule_is_broken),
        cmocka_unit_test(says_how_long_is_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
