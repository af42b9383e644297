/* Times of inodes: what sets which, who may, and that later changes are later. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/store/world.h"

#define SECOND INT64_C(1000000000)
#define NOON (INT64_C(1800000000) * SECOND)

static int setup(void **state)
{
    static struct world w;

    world_init(&w, true);
    w.wall_ns = NOON;
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    assert_true(world_digest_is_right(w));
    world_deinit(w);
    return 0;
}

static struct attr attr(struct world *w)
{
    return world_attr(w, "f");
}

/* Writes "x…" and says when. 0: does not say. */
static int write_at(struct world *w, const char *text, int64_t stamp)
{
    struct edit e[] = {{.kind = EDIT_WRITE, .data = (const uint8_t *)text, .len = strlen(text)},
                       {.kind = EDIT_STAMP, .number = (uint64_t)stamp}};

    return world_publish(w, attr(w).ino, false, e, stamp != 0 ? 2 : 1);
}

static void a_new_file_has_one_time(void **state)
{
    struct world *w = *state;
    struct attr a;

    world_create(w, KV_ROOT_INO, "f");
    a = attr(w);
    assert_int_equal(a.btime_ns, (int64_t)w->wall_ns);
    assert_int_equal(a.atime_ns, a.btime_ns);
    assert_int_equal(a.mtime_ns, a.btime_ns);
    assert_int_equal(a.ctime_ns, a.btime_ns);
    world_write(w, a.ino, 0, "x", 1);
    assert_int_equal(attr(w).btime_ns, a.btime_ns);
    assert_int_equal(attr(w).atime_ns, a.atime_ns);
    assert_true(attr(w).mtime_ns > a.mtime_ns);
}

static void both_times_are_stored_as_they_are_set(void **state)
{
    static const int64_t times[] = {0, -1, -315619200 * SECOND + 5, INT64_MIN, INT64_MAX, SECOND << 32};
    struct world *w = *state;
    uint64_t version, ino;

    world_create(w, KV_ROOT_INO, "f");
    ino = attr(w).ino;
    version = attr(w).version;
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        struct attr before = attr(w);
        struct command_body body = {.ino = ino, .valid = SETATTR_ATIME, .atime_ns = times[i]};

        assert_int_equal(world_setattr(w, &body), KV_OK);
        assert_int_equal(attr(w).atime_ns, times[i]);
        assert_int_equal(attr(w).mtime_ns, before.mtime_ns);
        assert_int_equal(attr(w).ctime_ns, (int64_t)w->wall_ns);
        body = (struct command_body){.ino = ino, .valid = SETATTR_MTIME, .mtime_ns = times[i]};
        assert_int_equal(world_setattr(w, &body), KV_OK);
        assert_int_equal(attr(w).mtime_ns, times[i]);
        assert_int_equal(attr(w).atime_ns, times[i]);
    }
    assert_int_equal(attr(w).version, version);
    world_setattr(w, &(struct command_body){.ino = ino, .valid = SETATTR_ATIME_NOW | SETATTR_MTIME_NOW});
    assert_int_equal(attr(w).atime_ns, (int64_t)w->wall_ns);
    assert_int_equal(attr(w).mtime_ns, (int64_t)w->wall_ns);
    assert_int_equal(attr(w).btime_ns, NOON + SECOND / 1000);
}

static void only_the_owner_sets_a_time_and_writers_may_touch(void **state)
{
    struct world *w = *state;
    struct command_body explicit_time = {.valid = SETATTR_ATIME, .atime_ns = 7},
                        touch = {.valid = SETATTR_ATIME_NOW | SETATTR_MTIME_NOW};
    struct edit e[] = {{.kind = EDIT_WRITE, .data = (const uint8_t *)"x", .len = 1},
                       {.kind = EDIT_MTIME, .number = 5},
                       {.kind = EDIT_ATIME, .number = 6}};

    world_create(w, KV_ROOT_INO, "f");
    explicit_time.ino = touch.ino = attr(w).ino;
    world_chmod(w, touch.ino, 0666);
    w->uid = 1000;
    w->flags = 0;
    assert_int_equal(world_setattr(w, &explicit_time), KV_E_PERM);
    assert_int_equal(world_setattr(w, &touch), KV_OK);
    /* Through a publication, too: the data stays, the times are those of the change. */
    assert_int_equal(world_publish(w, touch.ino, false, e, 3), KV_OK);
    assert_int_equal(attr(w).mtime_ns, (int64_t)w->wall_ns);
    assert_int_equal(attr(w).atime_ns, (int64_t)w->wall_ns);
    w->uid = 0;
    world_chmod(w, touch.ino, 0644);
    w->uid = 1000;
    assert_int_equal(world_setattr(w, &touch), KV_E_ACCES);
    w->uid = 0;
    w->flags = COMMAND_TRUSTED;
    assert_int_equal(world_publish(w, touch.ino, false, e + 1, 2), KV_OK);
    assert_int_equal(attr(w).mtime_ns, 5);
    assert_int_equal(attr(w).atime_ns, 6);
}

static void a_publication_bears_the_time_of_the_write(void **state)
{
    struct world *w = *state;
    int64_t wrote;

    world_create(w, KV_ROOT_INO, "f");
    wrote = (int64_t)w->wall_ns + 12345;
    w->wall_ns += 3 * SECOND;
    assert_int_equal(write_at(w, "one", wrote), KV_OK);
    assert_int_equal(attr(w).mtime_ns, wrote);
    assert_int_equal(attr(w).ctime_ns, wrote);
    /* Without it, the time of the publication; that is what a client gets that does not say. */
    assert_int_equal(write_at(w, "two", 0), KV_OK);
    assert_int_equal(attr(w).mtime_ns, (int64_t)w->wall_ns);
    /* A rename in between keeps its ctime. */
    wrote = (int64_t)w->wall_ns + 1;
    world_rename(w, KV_ROOT_INO, "f", KV_ROOT_INO, "g");
    world_rename(w, KV_ROOT_INO, "g", KV_ROOT_INO, "f");
    assert_int_equal(write_at(w, "three", wrote), KV_OK);
    assert_int_equal(attr(w).mtime_ns, wrote);
    assert_int_equal(attr(w).ctime_ns, (int64_t)w->wall_ns - SECOND / 1000);
}

static void a_mount_cannot_lie_about_the_time(void **state)
{
    struct world *w = *state;
    int64_t before;

    world_create(w, KV_ROOT_INO, "f");
    w->wall_ns += 1000 * SECOND;
    assert_int_equal(write_at(w, "future", INT64_MAX), KV_OK);
    assert_int_equal(attr(w).mtime_ns, (int64_t)w->wall_ns);
    w->wall_ns += 1000 * SECOND;
    assert_int_equal(write_at(w, "past", INT64_MIN), KV_OK);
    assert_int_equal(attr(w).ctime_ns, (int64_t)w->wall_ns - 60 * SECOND);
    /* Written before what another mount has published since: later than that all the same. */
    assert_int_equal(write_at(w, "other", 0), KV_OK);
    before = attr(w).mtime_ns;
    assert_int_equal(write_at(w, "late", before - SECOND), KV_OK);
    assert_int_equal(attr(w).mtime_ns, before + 1);
    assert_true(attr(w).ctime_ns >= attr(w).mtime_ns);
}

static void what_is_changed_later_is_later_under_a_clock_that_stands(void **state)
{
    struct world *w = *state;
    int64_t last = 0;
    int i;

    world_create(w, KV_ROOT_INO, "f");
    for (i = 0; i < 10; i++) {
        w->wall_ns = NOON - (uint64_t)i * SECOND;
        assert_int_equal(write_at(w, i % 2 ? "a" : "b", 0), KV_OK);
        assert_true(attr(w).mtime_ns > last);
        last = attr(w).mtime_ns;
    }
    assert_true(last < NOON + SECOND / 1000 + 100);
    w->wall_ns = UINT64_MAX - SECOND; /* no clock says that */
    write_at(w, "c", 0);
    assert_int_equal(attr(w).mtime_ns, last + 1);
}

static int set_back(struct world *w, uint64_t stamp, uint64_t asked)
{
    w->wall_ns = stamp - 1000000; /* which the command adds */
    return world_command(w, COMMAND_CLOCK, &(struct command_body){.wall_ns = asked});
}

static void the_stored_time_is_set_back_to_the_leader_s_clocks_only(void **state)
{
    struct world *w = *state;
    uint64_t day = 86400 * (uint64_t)SECOND, noon = (uint64_t)NOON;

    w->wall_ns = noon + day;
    world_create(w, KV_ROOT_INO, "f");
    /* The leader does not know of a majority whose clocks agree. */
    assert_int_equal(set_back(w, 0, noon), KV_E_REFUSED);
    /* Its clocks are others than those that were asked for. */
    assert_int_equal(set_back(w, noon, noon - day), KV_E_REFUSED);
    assert_int_equal(set_back(w, noon, noon + 2 * (uint64_t)CLOCK_BACK_SLACK_NS), KV_E_REFUSED);
    /* What mends itself in minutes is not worth it. */
    assert_int_equal(set_back(w, noon + day - CLOCK_BACK_MIN_NS / 2, noon + day), KV_E_REFUSED);
    assert_true(store_wall_ns(w->s) > noon + day);
    w->uid = 1000;
    w->flags &= (uint16_t)~COMMAND_TRUSTED;
    assert_int_not_equal(set_back(w, noon, noon), KV_OK);
    assert_true(store_wall_ns(w->s) > noon + day);
    w->uid = 0;
    w->flags |= COMMAND_TRUSTED;
    assert_int_equal(set_back(w, noon + 5, noon), KV_OK);
    assert_int_equal(store_wall_ns(w->s), noon + 5);
    assert_int_equal(set_back(w, noon + 5, noon), KV_E_REFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_new_file_has_one_time, setup, teardown),
        cmocka_unit_test_setup_teardown(both_times_are_stored_as_they_are_set, setup, teardown),
        cmocka_unit_test_setup_teardown(only_the_owner_sets_a_time_and_writers_may_touch, setup, teardown),
        cmocka_unit_test_setup_teardown(a_publication_bears_the_time_of_the_write, setup, teardown),
        cmocka_unit_test_setup_teardown(a_mount_cannot_lie_about_the_time, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_changed_later_is_later_under_a_clock_that_stands, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_stored_time_is_set_back_to_the_leader_s_clocks_only, setup,
                                        teardown),
    };

    return cmocka_run_group_tests_name("store_times", tests, NULL, NULL);
}
