#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kvnode/web/url.h"

static struct url url;

static void decodes_a_path_once(void **state)
{
    const char *key;
    size_t len;
    bool directory;

    assert_int_equal(url_parse("/kv/a%20b/c%2Bd+e%2541", &url), 0);
    assert_int_equal(url_key(&url, &key, &len, &directory), 0);
    assert_string_equal(key, "a b/c+d+e%41");
    assert_int_equal(len, strlen(key));
    assert_false(directory);
    assert_int_equal(url_parse("/kv/%E2%98%83/%ff/", &url), 0);
    assert_int_equal(url_key(&url, &key, &len, &directory), 0);
    assert_string_equal(key, "\xe2\x98\x83/\xff/");
    assert_true(directory);
    assert_int_equal(url_parse("/kv/", &url), 0);
    assert_int_equal(url_key(&url, &key, &len, &directory), 0);
    assert_int_equal(len, 0);
    assert_true(directory);
}

static void refuses_what_is_no_key(void **state)
{
    static const char *const bad[] = {"/kv/a/../b", "/kv/%2e%2e/b",        "/kv//a",   "/kv/a//b", "/kv/.",
                                      "/kv/%2fa",   "/kv/a/.versions/b/1", "/kv/.kvfs"};
    const char *key;
    size_t len, i;
    bool directory;

    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(url_parse(bad[i], &url), 0);
        assert_int_equal(url_key(&url, &key, &len, &directory), 400);
        assert_true(strlen(url.why) > 10);
    }
}

static void refuses_bytes_that_no_address_has(void **state)
{
    static const char *const bad[] = {"/kv/a%00b", "/kv/a%0", "/kv/a%", "/kv/a%zz",
                                      "/kv/a%2",   "kv/a",    "",       "/kv/a#b"};
    size_t i;

    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(url_parse(bad[i], &url), 400);
        assert_true(strlen(url.why) > 10);
    }
}

static void reads_parameters(void **state)
{
    assert_int_equal(url_parse("/kv/a/?limit=10&after=x%26y=z&recursive", &url), 0);
    assert_int_equal(url.given, 1u << PARAM_LIMIT | 1u << PARAM_AFTER | 1u << PARAM_RECURSIVE);
    assert_string_equal(url.value[PARAM_LIMIT], "10");
    assert_string_equal(url.value[PARAM_AFTER], "x&y=z");
    assert_string_equal(url.value[PARAM_RECURSIVE], "");
    assert_null(url.value[PARAM_VERSION]);
    assert_int_equal(url_parse("/kv/a?", &url), 0);
    assert_int_equal(url.given, 0);
}

static void refuses_parameters_that_nobody_knows(void **state)
{
    assert_int_equal(url_parse("/kv/a?colour=red", &url), 400);
    assert_non_null(strstr(url.why, "`colour`"));
    assert_non_null(strstr(url.why, "version, history"));
    assert_int_equal(url_parse("/kv/a?local&local", &url), 400);
    assert_non_null(strstr(url.why, "twice"));
    assert_int_equal(url_parse("/kv/a?x%00y=1", &url), 400);
    assert_int_equal(url_parse("/kv/a?aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=1", &url),
                     400);
}

static void refuses_what_is_too_long(void **state)
{
    static char raw[4 * URL_MAX];

    memset(raw, 'a', sizeof raw - 1);
    memcpy(raw, "/kv/", 4);
    assert_int_equal(url_parse(raw, &url), 414);
    memcpy(raw, "/kv/a?after=", 12);
    assert_int_equal(url_parse(raw, &url), 414);
}

/* Values that use up all the room, one that is empty behind them, and more. */
static void has_no_room_behind_the_last_value(void **state)
{
    size_t room = sizeof((struct url *)NULL)->values, first;

    (void)state;
    for (first = room - 3; first <= room; first++) {
        struct url *u = malloc(sizeof *u);
        char *raw = malloc(room + 3000);
        size_t n = (size_t)sprintf(raw, "/livez?prefix=");

        assert_non_null(u);
        memset(raw + n, 'a', first);
        n += first;
        n += (size_t)sprintf(raw + n, "&since=&after=");
        memset(raw + n, 'b', 2000);
        raw[n + 2000] = '\0';
        assert_int_equal(url_parse(raw, u), 414);
        assert_true(u->used <= room);
        free(raw);
        free(u);
    }
}

static void knows_its_hosts(void **state)
{
    static const char *const ours[] = {"localhost",  "LOCALHOST:7080", "127.0.0.1:7080",  "127.9.9.9",
                                       "[::1]:7080", "kv.example",     "KV.example:7080", "other:99"};
    static const char *const others[] = {"evil.example",
                                         "127.0.0.1.evil.example",
                                         "localhost:80",
                                         "localhost:",
                                         "localhost:70800000",
                                         "",
                                         "[::1",
                                         "128.0.0.1",
                                         "other",
                                         "other:98",
                                         "localhost:7080x",
                                         "[::2]:7080",
                                         "kv.example.evil",
                                         "localhost.evil"};
    size_t i;

    for (i = 0; i < sizeof ours / sizeof ours[0]; i++)
        assert_true(host_is_ours(ours[i], 7080, "kv.example,other:99"));
    for (i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_false(host_is_ours(others[i], 7080, "kv.example,other:99"));
    assert_false(host_is_ours(NULL, 7080, ""));
}

static void knows_its_own_pages(void **state)
{
    assert_true(origin_is_host("http://localhost:7080", "localhost:7080"));
    assert_true(origin_is_host("https://kv.example", "KV.example"));
    assert_false(origin_is_host("http://localhost:8080", "localhost:7080"));
    assert_false(origin_is_host("null", "localhost:7080"));
    assert_false(origin_is_host("http://localhost:7080.evil", "localhost:7080"));
    assert_false(origin_is_host("http://localhost:7080", NULL));
}

static void reads_entity_tags(void **state)
{
    struct etags e;

    etags_parse(NULL, &e);
    assert_int_equal(e.kind, ETAG_NONE);
    assert_false(etags_have(&e, 5));
    etags_parse(" * ", &e);
    assert_int_equal(e.kind, ETAG_ANY);
    etags_parse("\"0-5\", W/\"0-18446744073709551615\" ,\"other\"", &e);
    assert_int_equal(e.kind, ETAG_LIST);
    assert_int_equal(e.n, 3);
    assert_true(etags_have(&e, 5));
    assert_true(etags_have(&e, UINT64_MAX));
    assert_false(etags_have(&e, 0));
    assert_false(etags_have(&e, 6));
    etags_parse("0-5", &e);
    assert_int_equal(e.kind, ETAG_MALFORMED);
    etags_parse("\"0-5\" \"0-6\"", &e);
    assert_int_equal(e.kind, ETAG_MALFORMED);
    etags_parse("\"0-18446744073709551616\"", &e);
    assert_false(etags_have(&e, 0));
    etags_parse("", &e);
    assert_int_equal(e.kind, ETAG_MALFORMED);
}

static void reads_idempotency_keys(void **state)
{
    uint64_t session, seq;

    assert_true(idempotency_parse("12-3", &session, &seq));
    assert_int_equal(session, 12);
    assert_int_equal(seq, 3);
    assert_false(idempotency_parse("12", &session, &seq));
    assert_false(idempotency_parse("12-", &session, &seq));
    assert_false(idempotency_parse("-3", &session, &seq));
    assert_false(idempotency_parse("0-3", &session, &seq));
    assert_false(idempotency_parse("12-3x", &session, &seq));
    assert_false(idempotency_parse("99999999999999999999-3", &session, &seq));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_a_path_once),
        cmocka_unit_test(refuses_what_is_no_key),
        cmocka_unit_test(refuses_bytes_that_no_address_has),
        cmocka_unit_test(reads_parameters),
        cmocka_unit_test(refuses_parameters_that_nobody_knows),
        cmocka_unit_test(refuses_what_is_too_long),
        cmocka_unit_test(has_no_room_behind_the_last_value),
        cmocka_unit_test(knows_its_hosts),
        cmocka_unit_test(knows_its_own_pages),
        cmocka_unit_test(reads_entity_tags),
        cmocka_unit_test(reads_idempotency_keys),
    };

    return cmocka_run_group_tests_name("url", tests, NULL, NULL);
}
