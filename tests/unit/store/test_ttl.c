/* Times to live: what has one, since when it counts, what goes and what stays, before and after a restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kvnode/state/store_internal.h"
#include "sync/wire/feature.h"
#include "sync/wire/ttl.h"
#include "tests/unit/store/place.h"

#define MINUTE UINT64_C(60000)

static const char *ttl(const struct world *w, const char *path)
{
    return world_xattr(w, world_ino(w, path), XATTR_TTL);
}

static const char *expires(const struct world *w, const char *path)
{
    return world_xattr(w, world_ino(w, path), XATTR_EXPIRES);
}

static int give(struct world *w, const char *path, const char *time)
{
    return world_setxattr(w, world_ino(w, path), XATTR_TTL, time, 0);
}

/* So much time passes, and the leader looks. How many names went. In steps, or the session would end. */
static uint64_t pass(struct world *w, uint64_t ms)
{
    uint64_t n = 0;

    for (; ms > 5 * MINUTE; ms -= 5 * MINUTE) {
        w->elapsed_ms += 5 * MINUTE;
        n += world_expire(w);
    }
    w->elapsed_ms += ms;
    return n + world_expire(w);
}

static void a_time_is_read_and_written(void **state)
{
    static const struct {
        const char *text;
        uint64_t ms;
        const char *shortest;
    } good[] = {{"1ms", 1, "1ms"},
                {"250ms", 250, "250ms"},
                {"1000ms", 1000, "1s"},
                {"90", 90000, "90s"},
                {"90s", 90000, "90s"},
                {"600s", 600000, "10m"},
                {"10m", 600000, "10m"},
                {"10min", 600000, "10m"},
                {"36h", 129600000, "36h"},
                {"48h", 172800000, "2d"},
                {"007d", 604800000, "7d"},
                {"61s", 61000, "61s"},
                {"3650d", KV_TTL_MAX_MS, "3650d"}};
    static const char *const bad[] = {"",
                                      "0",
                                      "0s",
                                      "-1",
                                      "-5m",
                                      "+5",
                                      "5x",
                                      "5 m",
                                      " 5m",
                                      "5m ",
                                      "m",
                                      "1.5h",
                                      "3651d",
                                      "315360000001ms",
                                      "99999999999999999999s",
                                      "1e3"};
    char text[TTL_TEXT_MAX];
    uint64_t ms;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(ttl_parse(good[i].text, strlen(good[i].text), &ms));
        assert_int_equal(ms, good[i].ms);
        assert_int_equal(ttl_format(ms, text), strlen(good[i].shortest));
        assert_string_equal(text, good[i].shortest);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(ttl_parse(bad[i], strlen(bad[i]), &ms));
    assert_false(ttl_parse("5m", 0, &ms));
    assert_false(ttl_parse("5m\0", 3, &ms));
}

static void a_value_goes_when_its_time_is_over(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;

    assert_int_equal(world_set_ttl(w, "d/key", "v", 10 * MINUTE), KV_OK);
    assert_int_equal(world_set(w, "d/stays", "v"), KV_OK);
    assert_string_equal(ttl(w, "d/key"), "10m");
    assert_string_equal(expires(w, "d/key"), "2023-11-14T22:23:20Z");
    assert_string_equal(ttl(w, "d/stays"), "(none)");
    assert_string_equal(expires(w, "d/stays"), "(none)");
    assert_string_equal(world_xattrs(w, world_ino(w, "d/key")), "");
    assert_int_equal(pass(w, 10 * MINUTE - 100), 0);
    assert_string_equal(world_get(w, "d/key"), "v");
    assert_int_equal(pass(w, 200), 1);
    assert_string_equal(world_get(w, "d/key"), "(missing)");
    assert_string_equal(world_get(w, "d/stays"), "v");
    assert_int_equal(w->events[w->n_events - 1].kind, EVENT_REMOVE);
    assert_int_equal(w->events[w->n_events - 1].op, COMMAND_EXPIRE);
    assert_string_equal(command_op_name(COMMAND_EXPIRE), "expire");
    assert_string_equal(place_versions(p, "d/key"), "1x 1");
    assert_string_equal(place_version(p, "d/key", 1), "v");
    assert_int_equal(pass(w, 100 * MINUTE), 0);
}

static void a_new_value_has_none_of_the_old_ones(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;

    assert_int_equal(world_set_ttl(w, "key", "v", MINUTE), KV_OK);
    assert_int_equal(world_set(w, "key", "new"), KV_OK);
    assert_string_equal(ttl(w, "key"), "(none)");
    /* The same value, too: whoever writes it says what holds. */
    assert_int_equal(world_set_ttl(w, "key", "new", MINUTE), KV_OK);
    assert_string_equal(ttl(w, "key"), "1m");
    assert_int_equal(world_version(w, "key"), 2);
    assert_int_equal(world_set(w, "key", "new"), KV_OK);
    assert_string_equal(ttl(w, "key"), "(none)");
    assert_int_equal(world_version(w, "key"), 2);
    assert_int_equal(world_set_ttl(w, "key", "new", MINUTE), KV_OK);
    assert_int_equal(world_append(w, world_ino(w, "key"), "er", 2), KV_OK);
    assert_string_equal(ttl(w, "key"), "(none)");
    assert_int_equal(pass(w, 100 * MINUTE), 0);
    assert_string_equal(world_get(w, "key"), "newer");
}

static void writing_it_again_begins_anew(void **state)
{
    struct world *w = &((struct place *)*state)->w;

    assert_int_equal(world_set_ttl(w, "key", "v", MINUTE), KV_OK);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(pass(w, MINUTE - 1000), 0);
        assert_int_equal(world_set_ttl(w, "key", "v", MINUTE), KV_OK);
        assert_int_equal(world_version(w, "key"), 1);
    }
    assert_int_equal(pass(w, MINUTE - 1000), 0);
    assert_int_equal(pass(w, 2000), 1);
}

static void a_directory_gives_it_to_what_is_written_in_it(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t dir;

    assert_int_equal(world_set(w, "d/before", "v"), KV_OK);
    assert_int_equal(give(w, "d", "10m"), KV_OK);
    dir = world_ino(w, "d");
    assert_string_equal(ttl(w, "d"), "10m");
    assert_string_equal(expires(w, "d"), "(none)");
    assert_string_equal(ttl(w, "d/before"), "(none)");
    assert_int_equal(world_set(w, "d/set", "v"), KV_OK);
    assert_int_equal(world_set_ttl(w, "d/own", "v", MINUTE), KV_OK);
    assert_int_equal(world_set(w, "d/sub/below", "v"), KV_OK);
    assert_int_equal(world_create(w, dir, "file"), KV_OK);
    assert_string_equal(ttl(w, "d/file"), "10m");
    assert_int_equal(world_append(w, world_ino(w, "d/file"), "x", 1), KV_OK);
    assert_int_equal(world_symlink(w, dir, "link", "file"), KV_OK);
    assert_string_equal(ttl(w, "d/set"), "10m");
    assert_string_equal(ttl(w, "d/own"), "1m");
    assert_string_equal(ttl(w, "d/file"), "10m");
    assert_string_equal(ttl(w, "d/sub"), "(none)");
    assert_string_equal(ttl(w, "d/sub/below"), "(none)");
    assert_string_equal(ttl(w, "d/link"), "(none)");
    /* What comes from elsewhere is not written here. */
    assert_int_equal(world_set(w, "elsewhere", "v"), KV_OK);
    assert_int_equal(world_rename(w, KV_ROOT_INO, "elsewhere", dir, "moved"), KV_OK);
    assert_string_equal(ttl(w, "d/moved"), "(none)");
    assert_int_equal(pass(w, 2 * MINUTE), 1);
    assert_int_equal(world_append(w, world_ino(w, "d/file"), "y", 1), KV_OK); /* counts from here */
    assert_int_equal(world_set(w, "d/set", "v"), KV_OK);                      /* the same value */
    assert_int_equal(pass(w, 9 * MINUTE), 0);
    assert_int_equal(world_removexattr(w, dir, XATTR_TTL), KV_OK);
    assert_int_equal(world_removexattr(w, dir, XATTR_TTL), KV_E_NOATTR);
    assert_int_equal(world_set(w, "d/set", "v"), KV_OK);
    assert_int_equal(pass(w, 2 * MINUTE), 1);
    assert_string_equal(world_list(w, "d"), "before set sub link moved");
}

static void touching_renews_and_setting_a_date_does_not(void **state)
{
    struct world *w = &((struct place *)*state)->w;
    struct command_body touch = {.valid = SETATTR_MTIME_NOW | SETATTR_ATIME_NOW},
                        date = {.valid = SETATTR_MTIME, .mtime_ns = 7},
                        both = {.valid = SETATTR_MTIME | SETATTR_MTIME_NOW, .mtime_ns = 8};

    assert_int_equal(world_set_ttl(w, "touched", "v", MINUTE), KV_OK);
    assert_int_equal(world_set_ttl(w, "dated", "v", MINUTE), KV_OK);
    assert_int_equal(world_set_ttl(w, "both", "v", MINUTE), KV_OK);
    assert_int_equal(pass(w, MINUTE / 2), 0);
    touch.ino = world_ino(w, "touched");
    date.ino = world_ino(w, "dated");
    both.ino = world_ino(w, "both");
    assert_int_equal(world_setattr(w, &touch), KV_OK);
    assert_int_equal(world_setattr(w, &date), KV_OK);
    assert_int_equal(world_setattr(w, &both), KV_OK);
    assert_int_equal(pass(w, MINUTE / 2), 2);
    assert_string_equal(world_list(w, ""), "touched");
    assert_int_equal(pass(w, MINUTE / 2), 1);
}

static void a_wall_clock_takes_nothing(void **state)
{
    struct world *w = &((struct place *)*state)->w;

    assert_int_equal(world_set_ttl(w, "key", "v", MINUTE), KV_OK);
    w->wall_ns += UINT64_C(86400000000000);
    assert_int_equal(pass(w, MINUTE / 2), 0);
    assert_string_equal(world_get(w, "key"), "v");
}

static void what_changed_since_it_was_proposed_stays(void **state)
{
    struct world *w = &((struct place *)*state)->w;
    struct buffer list = BUFFER_INIT;
    struct command_body body = {0};
    uint64_t next;

    assert_int_equal(world_set_ttl(w, "renewed", "v", MINUTE), KV_OK);
    assert_int_equal(world_set_ttl(w, "changed", "v", MINUTE), KV_OK);
    assert_int_equal(world_set_ttl(w, "over", "v", MINUTE), KV_OK);
    assert_int_equal(store_expired(w->s, w->elapsed_ms + 2 * MINUTE, 1000, 1000000, &list, &next), 3);
    body.expired = list.data;
    body.n_expired = 3;
    /* Too early: by the clock of the command. */
    assert_int_equal(world_command(w, COMMAND_EXPIRE, &body), KV_OK);
    assert_int_equal(w->result.removed, 0);
    w->elapsed_ms += 2 * MINUTE;
    assert_int_equal(world_set_ttl(w, "renewed", "v", MINUTE), KV_OK);
    assert_int_equal(world_chmod(w, world_ino(w, "changed"), 0600), KV_OK);
    assert_int_equal(world_command(w, COMMAND_EXPIRE, &body), KV_OK);
    assert_int_equal(w->result.removed, 1);
    assert_string_equal(world_list(w, ""), "renewed changed");
    assert_int_equal(world_expire(w), 1);
    assert_string_equal(world_list(w, ""), "renewed");
    /* What was never there, and what has none. */
    assert_int_equal(world_command(w, COMMAND_EXPIRE, &body), KV_OK);
    assert_int_equal(w->result.removed, 0);
    buffer_deinit(&list);
}

/* What one command removes is freed in one turn. */
static void few_large_files_go_at_once(void **state)
{
    struct world *w = &((struct place *)*state)->w;
    const uint64_t size = (uint64_t)1000 * KV_CHUNK_SIZE;
    char name[8];

    for (int i = 0; i < 7; i++) {
        snprintf(name, sizeof name, "k%d", i);
        assert_int_equal(world_set(w, name, ""), KV_OK);
        assert_int_equal(world_truncate(w, world_ino(w, name), size), KV_OK);
        assert_int_equal(give(w, name, "1m"), KV_OK);
    }
    assert_int_equal(pass(w, MINUTE + 100), 5);
    assert_int_equal(world_expire(w), 2);
    assert_string_equal(world_list(w, ""), "");
}

static void all_names_of_a_file_go(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;

    assert_int_equal(world_set_ttl(w, "a/one", "v", MINUTE), KV_OK);
    assert_int_equal(world_link(w, world_ino(w, "a/one"), KV_ROOT_INO, "two"), KV_OK);
    assert_int_equal(pass(w, MINUTE), 2);
    assert_string_equal(world_list(w, "a"), "");
    assert_string_equal(place_versions(p, "two"), "1x 1");
}

static void thousands_go_in_short_commands(void **state)
{
    struct world *w = &((struct place *)*state)->w;
    uint64_t n = 0;
    char name[32];

    for (int i = 0; i < 3500; i++) {
        snprintf(name, sizeof name, "d/%d", i);
        assert_int_equal(world_set_ttl(w, name, "v", MINUTE + (uint64_t)(i * 7919 % 3500)), KV_OK);
    }
    assert_int_equal(w->s->ttls.n, 3500);
    assert_int_equal(pass(w, MINUTE - 3500), 0);
    for (uint64_t before = 0; n < 3500; n += before) {
        before = pass(w, 1000);
        assert_in_range(before, 1, EXPIRE_NAMES_MAX);
        assert_true(world_digest_is_right(w));
    }
    assert_int_equal(w->s->ttls.n, 0);
    assert_string_equal(world_list(w, "d"), "");
    /* Who has none takes no room for it. */
    assert_in_range(sizeof(struct ttl) * 3 / 2, 1, 39);
}

static void it_is_there_after_a_restart(void **state)
{
    struct place *p = *state;
    uint64_t digest;

    assert_int_equal(world_set_ttl(&p->w, "d/soon", "v", MINUTE), KV_OK);
    assert_int_equal(world_set_ttl(&p->w, "d/later", "v", 10 * MINUTE), KV_OK);
    assert_int_equal(give(&p->w, "d", "3d"), KV_OK);
    assert_int_equal(give(&p->w, "", "4d"), KV_OK);
    digest = store_digest(p->w.s);
    place_restart(p);
    assert_true(store_digest(p->w.s) == digest);
    assert_true(place_verifies(p));
    assert_string_equal(ttl(&p->w, "d/soon"), "1m");
    assert_string_equal(ttl(&p->w, "d"), "3d");
    assert_string_equal(ttl(&p->w, ""), "4d");
    assert_int_equal(pass(&p->w, 2 * MINUTE), 1);
    assert_string_equal(world_list(&p->w, "d"), "later");
    place_restart(p);
    assert_int_equal(pass(&p->w, 10 * MINUTE), 1);
    assert_int_equal(give(&p->w, "", "5d"), KV_OK);
    assert_int_equal(world_removexattr(&p->w, KV_ROOT_INO, XATTR_TTL), KV_OK);
    place_restart(p);
    assert_string_equal(ttl(&p->w, ""), "(none)");
}

static void it_is_checked_who_asks_and_for_what(void **state)
{
    struct world *w = &((struct place *)*state)->w;
    struct command_body set = {
        .path = (const uint8_t *)"key", .path_len = 3, .flags = SET_TTL, .ttl_ms = MINUTE};
    struct command cmd = {.op = COMMAND_SET, .flags = COMMAND_TTL};
    struct buffer body = BUFFER_INIT;

    assert_int_equal(world_set(w, "key", "v"), KV_OK);
    assert_int_equal(give(w, "key", "0"), KV_E_INVAL);
    assert_int_equal(give(w, "key", "11y"), KV_E_INVAL);
    assert_int_equal(give(w, "key", "3651d"), KV_E_INVAL);
    assert_int_equal(world_setxattr(w, world_ino(w, "key"), XATTR_EXPIRES, "1", 0), KV_E_PERM);
    assert_int_equal(world_setxattr(w, world_ino(w, "key"), XATTR_TTL, "1h", XATTR_CHANGE), KV_E_NOATTR);
    assert_int_equal(world_setxattr(w, world_ino(w, "key"), XATTR_TTL, "1h", XATTR_ADD), KV_OK);
    assert_int_equal(world_setxattr(w, world_ino(w, "key"), XATTR_TTL, "1h", XATTR_ADD), KV_E_EXIST);
    assert_int_equal(world_symlink(w, KV_ROOT_INO, "link", "key"), KV_OK);
    assert_int_equal(give(w, "link", "1h"), KV_E_PERM);
    w->uid = w->gid = 1000;
    w->flags = 0;
    assert_int_equal(give(w, "key", "1s"), KV_E_ACCES);
    w->uid = w->gid = 0;
    w->flags = COMMAND_TRUSTED;
    assert_string_equal(ttl(w, "key"), "1h");
    for (int i = 0; i < 2; i++) {
        set.ttl_ms = i == 0 ? 0 : KV_TTL_MAX_MS + 1;
        assert_int_equal(world_command(w, COMMAND_SET, &set), KV_E_INVAL);
    }
    /* The flag of the header, by which nodes of level 1 know that it is none of theirs. */
    set.ttl_ms = MINUTE;
    command_body_encode(&body, COMMAND_SET, &set);
    assert_int_equal(world_raw(w, COMMAND_SET, w->session, ++w->seq, body.data, body.len), KV_E_PROTOCOL);
    assert_int_equal(feature_level_of(&cmd), 2);
    cmd.flags = 0;
    assert_int_equal(feature_level_of(&cmd), 1);
    cmd.op = COMMAND_EXPIRE;
    assert_int_equal(feature_level_of(&cmd), 2);
    buffer_deinit(&body);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, place_setup, place_teardown_whole)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_time_is_read_and_written),
        TEST(a_value_goes_when_its_time_is_over),
        TEST(a_new_value_has_none_of_the_old_ones),
        TEST(writing_it_again_begins_anew),
        TEST(a_directory_gives_it_to_what_is_written_in_it),
        TEST(touching_renews_and_setting_a_date_does_not),
        TEST(a_wall_clock_takes_nothing),
        TEST(what_changed_since_it_was_proposed_stays),
        TEST(few_large_files_go_at_once),
        TEST(all_names_of_a_file_go),
        TEST(thousands_go_in_short_commands),
        TEST(it_is_there_after_a_restart),
        TEST(it_is_checked_who_asks_and_for_what),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
