/* The file of tokens: what a line may be, what is said of one that is none, and which keys a token is for. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvnode/web/token.h"

#define A "aaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbb"

static char why[TOKEN_WHY_MAX];

static int parse(const char *text, struct tokens *out)
{
    return tokens_parse(text, strlen(text), out, why);
}

static void takes_lines(void **state)
{
    struct tokens t;

    (void)state;
    assert_int_equal(parse("# a comment\n\n alice " A "\r\n\tbob\t" B "~+/== prefix=app/x/ read-only\n", &t),
                     0);
    assert_int_equal(t.n, 2);
    assert_string_equal(t.all[0]->name, "alice");
    assert_string_equal(t.all[0]->prefix, "");
    assert_false(t.all[0]->read_only);
    assert_string_equal(t.all[1]->prefix, "app/x");
    assert_true(t.all[1]->read_only);
    assert_ptr_equal(tokens_find(&t, A), t.all[0]);
    assert_ptr_equal(tokens_find(&t, B "~+/=="), t.all[1]);
    assert_null(tokens_find(&t, B));
    assert_null(tokens_find(&t, A "a"));
    assert_null(tokens_find(&t, ""));
    tokens_free(&t);
    assert_int_equal(parse("", &t), 0);
    assert_int_equal(t.n, 0);
    assert_null(tokens_find(&t, A));
    tokens_free(&t);
}

static void names_bad_lines(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"alice\n", "line 1: alice needs a TOKEN"},
        {"\nalice short\n", "line 2: alice needs a TOKEN"},
        {"alice " A "=a\n", "line 1: alice needs a TOKEN"},
        {"alice ================\n", "line 1: alice needs a TOKEN"},
        {"a@b " A "\n", "line 1: a NAME has"},
        {"alice " A " write\n", "line 1: what follows NAME TOKEN"},
        {"alice " A " read-only read-only\n", "line 1: what follows NAME TOKEN"},
        {"alice " A " prefix=a prefix=b\n", "line 1: what follows NAME TOKEN"},
        {"alice " A " prefix=\n", "line 1: prefix= names a key"},
        {"alice " A " prefix=/\n", "line 1: prefix= names a key"},
        {"alice " A " prefix=a/../b\n", "line 1: prefix= names a key"},
        {"alice " A " prefix=a//b\n", "line 1: prefix= names a key"},
        {"alice " A " prefix=a read-only more\n", "line 1: there is more"},
        {"alice " A "\nalice " B "\n", "line 2: a second token for alice"},
        {"alice " A "\nbob " A "\n", "line 2: bob has the token of alice"},
        {"alice\nbob " B "\ncarol\n",
         "line 1: alice needs a TOKEN of 16 to 256 of A-Z a-z 0-9 - . _ ~ + /, as "
         "`openssl rand -hex 32` makes; line 3: carol"},
    };
    struct tokens t;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(parse(cases[i].text, &t), -EINVAL);
        if (strncmp(why, cases[i].why, strlen(cases[i].why)) != 0)
            fail_msg("%s: %s", cases[i].text, why);
        assert_null(strstr(why, A));
        assert_int_equal(t.n, 0);
        assert_null(t.all);
    }
    assert_int_equal(tokens_parse("alice\0" A "\n", sizeof "alice\0" A, &t, why), -EINVAL);
    assert_string_equal(why, "line 1: a NUL byte");
}

static void has_bounds(void **state)
{
    char text[(TOKENS_MAX + 1) * 64], secret[TOKEN_MAX + 2], line[TOKEN_MAX + 64];
    struct tokens t;
    size_t len = 0;

    (void)state;
    for (int i = 0; i < TOKENS_MAX; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "n%d " A "%d\n", i, i);
    assert_int_equal(parse(text, &t), 0);
    assert_int_equal(t.n, TOKENS_MAX);
    tokens_free(&t);
    snprintf(text + len, sizeof text - len, "more " B "\n");
    assert_int_equal(parse(text, &t), -EINVAL);
    assert_non_null(strstr(why, "more than"));

    memset(secret, 'x', sizeof secret);
    secret[TOKEN_MAX] = '\0';
    snprintf(line, sizeof line, "alice %s\n", secret);
    assert_int_equal(parse(line, &t), 0);
    assert_ptr_equal(tokens_find(&t, secret), t.all[0]);
    secret[TOKEN_MAX] = 'x';
    secret[TOKEN_MAX + 1] = '\0';
    assert_null(tokens_find(&t, secret));
    tokens_free(&t);
}

static void is_for_keys_below(void **state)
{
    static const struct {
        const char *key;
        bool covered;
    } cases[] = {{"app", true},  {"app/", true},   {"app/x", true},  {"/app/x", true},
                 {"/app", true}, {"", false},      {"apple", false}, {"ap", false},
                 {"/", false},   {"x/app", false}, {"App", false},   {"//app", false}};
    struct tokens t;

    (void)state;
    assert_int_equal(parse("alice " A " prefix=app\nbob " B "\n", &t), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(token_covers(t.all[0], cases[i].key, strlen(cases[i].key)), cases[i].covered);
        assert_true(token_covers(t.all[1], cases[i].key, strlen(cases[i].key)));
        assert_true(token_covers(NULL, cases[i].key, strlen(cases[i].key)));
    }
    tokens_free(&t);
}

static void keeps_those_that_stay(void **state)
{
    struct tokens t, young;
    struct token *alice, *bob;

    (void)state;
    assert_int_equal(parse("alice " A "\nbob " B "\n", &t), 0);
    alice = token_ref(t.all[0]);
    bob = token_ref(t.all[1]);
    assert_int_equal(parse("bob " B " read-only\nalice " A "\n", &young), 0);
    tokens_replace(&t, &young);
    assert_int_equal(t.n, 2);
    assert_ptr_equal(t.all[1], alice);
    assert_false(alice->revoked);
    assert_true(bob->revoked);
    assert_false(t.all[0]->revoked);
    token_put(bob);
    tokens_free(&t);
    assert_string_equal(alice->name, "alice");
    token_put(alice);
}

static void nobody_else_may_read_it(void **state)
{
    char path[] = "/tmp/kvfs-token-XXXXXX";
    int fd = mkstemp(path);
    struct tokens t;
    struct stat st;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "alice " A "\n", strlen("alice " A "\n")), (ssize_t)strlen("alice " A "\n"));
    assert_int_equal(tokens_read(path, &t, &st, why), 0);
    assert_int_equal(t.n, 1);
    tokens_free(&t);
    for (unsigned bit = 01; bit <= 040; bit <<= 1) {
        assert_int_equal(fchmod(fd, 0600 | bit), 0);
        assert_int_equal(tokens_read(path, &t, &st, why), -EACCES);
        assert_non_null(strstr(why, "chmod 600"));
    }
    assert_int_equal(fchmod(fd, 0600), 0);
    assert_int_equal(ftruncate(fd, TOKEN_FILE_MAX), 0);
    assert_int_equal(tokens_read(path, &t, &st, why), -EFBIG);
    close(fd);
    unlink(path);
    assert_int_equal(tokens_read(path, &t, &st, why), -ENOENT);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(tokens_read(path, &t, &st, why), -EACCES);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_lines),
        cmocka_unit_test(names_bad_lines),
        cmocka_unit_test(has_bounds),
        cmocka_unit_test(is_for_keys_below),
        cmocka_unit_test(keeps_those_that_stay),
        cmocka_unit_test(nobody_else_may_read_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
