/* What people and programs are shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"

static void shows_sizes(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {{0, "0 B"},        {5, "5 B"},        {1023, "1023 B"},
                 {1024, "1.0 KiB"}, {1536, "1.5 KiB"}, {64 << 20, "64.0 MiB"}};
    char out[32];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        format_size(cases[i].bytes, out, sizeof out);
        assert_string_equal(out, cases[i].text);
    }
}

static void shows_times(void **state)
{
    char out[40];
    const uint64_t when = UINT64_C(1795255291123456789);
    setenv("TZ", "UTC", 1);
    tzset();
    format_time_utc(when, out, sizeof out);
    assert_string_equal(out, "2026-11-21T10:01:31.123Z");
    format_time(when, out, sizeof out);
    assert_string_equal(out, "2026-11-21 10:01:31");
    setenv("TZ", "CET-1", 1);
    tzset();
    format_time(when, out, sizeof out);
    assert_string_equal(out, "2026-11-21 11:01:31");
}

static void shows_durations(void **state)
{
    char out[32];
    format_duration(412, out, sizeof out);
    assert_string_equal(out, "0.4 s");
    format_duration(35000, out, sizeof out);
    assert_string_equal(out, "35 s");
    format_duration(600000, out, sizeof out);
    assert_string_equal(out, "10 min");
}

static void shows_modes(void **state)
{
    char out[11];
    format_mode(INODE_FILE, 0644, out);
    assert_string_equal(out, "-rw-r--r--");
    format_mode(INODE_DIRECTORY, 01777, out);
    assert_string_equal(out, "drwxrwxrwt");
    format_mode(INODE_FILE, 04711, out);
    assert_string_equal(out, "-rws--x--x");
    format_mode(INODE_SYMLINK, 02600, out);
    assert_string_equal(out, "lrw---S---");
    format_mode(INODE_FIFO, 0600, out);
    assert_string_equal(out, "prw-------");
    format_mode(INODE_SOCKET, 0755, out);
    assert_string_equal(out, "srwxr-xr-x");
    format_mode(250, 0, out);
    assert_string_equal(out, "----------");
    assert_string_equal(format_type(INODE_SOCKET), "socket");
    assert_string_equal(format_type(0), "?");
    assert_string_equal(format_type(250), "?");
}

static void names_authors_by_account_or_number(void **state)
{
    char out[64];
    format_author(0, "n1", out, sizeof out);
    assert_string_equal(out, "root@n1");
    format_author(3999999999, "n1", out, sizeof out);
    assert_string_equal(out, "3999999999@n1");
}

static void set_bytes(const void *data, size_t len, const char *name, const char *text)
{
    json_t *object = json_object();
    json_set_bytes(object, "value", data, len);
    assert_string_equal(json_string_value(json_object_get(object, name)), text);
    assert_int_equal(json_object_size(object), 1);
    json_decref(object);
}

static void gives_base64_for_what_is_not_utf8(void **state)
{
    set_bytes("", 0, "value", "");
    set_bytes("blau\xc3\xbc", 6, "value", "blau\xc3\xbc");
    set_bytes("\xff", 1, "value_base64", "/w==");
    set_bytes("\xff\xfe", 2, "value_base64", "//4=");
    set_bytes("\xff\xfe\x00", 3, "value_base64", "//4A");
    set_bytes("\xc3", 1, "value_base64", "ww==");
}

static void sentence(const char *json, const char *expected)
{
    char out[400];
    json_t *status = json_loads(json, 0, NULL);
    assert_non_null(status);
    cluster_sentence(status, out, sizeof out);
    assert_string_equal(out, expected);
    json_decref(status);
}

#define MEMBER(name, state, usable)                                                                          \
    "{\"name\":\"" name "\",\"voter\":true,\"state\":\"" state "\",\"usable\":" usable "}"
#define HEALTHY(name) MEMBER(name, "healthy", "true")
#define MEMBERS(a, b, c) "\"voters\":3,\"members\":[" a "," b "," c "]}"

static void closes_a_status_with_what_may_fail(void **state)
{
    sentence("{\"quorum\":true,\"failures_tolerated\":1,\"usable\":3," MEMBERS(HEALTHY("n1"), HEALTHY("n2"),
                                                                               HEALTHY("n3")),
             "The cluster works. One node may fail.");
    sentence("{\"quorum\":true,\"failures_tolerated\":0,\"usable\":2," MEMBERS(
                 HEALTHY("n1"), MEMBER("n2", "disk full", "false"), HEALTHY("n3")),
             "The cluster works. No further node may fail.");
    sentence("{\"quorum\":true,\"failures_tolerated\":0,\"usable\":1,\"voters\":1,\"members\":[" HEALTHY(
                 "n1") "]}",
             "The cluster works. It has one node only, which may not fail.");
}

static void quoted(const char *name, size_t len, bool quote, const char *expected)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    format_name(out, name, len, quote);
    fclose(out);
    assert_string_equal(text, expected);
    free(text);
}

static void quotes_names_that_a_terminal_would_act_on(void **state)
{
    quoted("plain name", 10, true, "plain name");
    quoted("gr\303\274n", 5, true, "gr\303\274n");
    quoted("a\nb", 3, true, "$'a\\nb'");
    quoted("a\nb", 3, false, "a\nb");
    quoted("\033[31mred", 8, true, "$'\\033[31mred'");
    quoted("it's\t\\", 6, true, "$'it\\'s\\t\\\\'");
    quoted("\177", 1, true, "$'\\177'");
    quoted("\302\233"
           "31m",
           5, true, "$'\\302\\23331m'");                         /* C1: a CSI of one character */
    quoted("\300\212", 2, true, "$'\\300\\212'");                /* an overlong newline */
    quoted("\342\200\256txt", 6, true, "$'\\342\\200\\256txt'"); /* right to left */
    quoted("cut\303", 4, true, "$'cut\\303'");
    quoted("$'a'", 4, true, "$'$\\'a\\''");
}

static void says_why_nothing_can_be_written(void **state)
{
    sentence("{\"quorum\":false,\"leader\":\"n1\",\"usable\":1," MEMBERS(
                 HEALTHY("n1"), MEMBER("n2", "unreachable", "false"), MEMBER("n3", "disk full", "false")),
             "The cluster does not accept writes: 1 of 3 voters can take them, 2 are needed (n2 is "
             "unreachable, n3's disk is full).");
    sentence("{\"quorum\":false,\"usable\":3,\"leader\":null,\"leaderless_ms\":3200," MEMBERS(
                 HEALTHY("n1"), HEALTHY("n2"), HEALTHY("n3")),
             "The cluster does not accept writes: there has been no leader for 3.2 s.");
    sentence("{\"quorum\":false,\"usable\":2,\"leader\":null,\"leader_elsewhere\":\"n1\"," MEMBERS(
                 MEMBER("n1", "unreachable", "false"), HEALTHY("n2"), HEALTHY("n3")),
             "This node accepts no writes: it does not hear the leader n1, which others follow. Ask "
             "another.");
    sentence("{\"quorum\":false,\"usable\":3,\"leader\":\"n1\"," MEMBERS(HEALTHY("n1"), HEALTHY("n2"),
                                                                         HEALTHY("n3")),
             "The cluster does not accept writes: no node that could lead reaches 2 of 3 voters.");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_sizes),
        cmocka_unit_test(shows_times),
        cmocka_unit_test(shows_durations),
        cmocka_unit_test(shows_modes),
        cmocka_unit_test(quotes_names_that_a_terminal_would_act_on),
        cmocka_unit_test(names_authors_by_account_or_number),
        cmocka_unit_test(gives_base64_for_what_is_not_utf8),
        cmocka_unit_test(closes_a_status_with_what_may_fail),
        cmocka_unit_test(says_why_nothing_can_be_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
