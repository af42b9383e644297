/* Who may come where: requests by number, the history of what was removed, and what
 * a version needs of its reader. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/store/place.h"

#define ALICE 1001
#define BOB 1002

static const struct caller alice = {.uid = ALICE, .gid = ALICE}, bob = {.uid = BOB, .gid = BOB};

static void become(struct place *p, uint32_t uid)
{
    p->w.uid = p->w.gid = uid;
    p->w.flags = uid == 0 ? COMMAND_TRUSTED : 0;
}

/* /shared, where everybody may make names. */
static uint64_t shared(struct place *p)
{
    struct command_body open = {.valid = SETATTR_MODE, .mode = 01777};

    become(p, 0);
    assert_int_equal(world_mkdir(&p->w, KV_ROOT_INO, "shared"), KV_OK);
    open.ino = p->w.result.attr.ino;
    assert_int_equal(world_setattr(&p->w, &open), KV_OK);
    return open.ino;
}

static uint64_t make_directory(struct place *p, uint64_t parent, const char *name, uint16_t mode)
{
    const struct command_body body = {
        .parent = parent, .name = (const uint8_t *)name, .name_len = strlen(name), .mode = mode};

    assert_int_equal(world_command(&p->w, COMMAND_MKDIR, &body), KV_OK);
    return p->w.result.attr.ino;
}

static void numbers_below_a_closed_directory_lead_nowhere(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t top = shared(p), closed, inner, file;
    struct attr attr;

    become(p, ALICE);
    closed = make_directory(p, top, "closed", 0700);
    inner = make_directory(p, closed, "inner", 0777);
    assert_int_equal(world_create(w, inner, "f"), KV_OK);
    file = w->result.attr.ino;
    assert_int_equal(world_chmod(w, file, 0666), KV_OK);

    assert_int_equal(store_reach(w->s, &alice, file), KV_OK);
    assert_int_equal(store_reach(w->s, &bob, file), KV_E_ACCES);
    assert_int_equal(store_reach(w->s, &bob, inner), KV_E_ACCES);
    assert_int_equal(store_reach(w->s, &bob, closed), KV_OK); /* its name is in an open directory */
    assert_int_equal(store_lookup(w->s, &bob, inner, "f", 1, &attr), KV_E_ACCES);

    become(p, BOB);
    assert_int_equal(world_create(w, inner, "planted"), KV_E_ACCES);
    assert_int_equal(world_create(w, inner, "f"), KV_E_ACCES);
    assert_int_equal(world_mkdir(w, inner, "planted"), KV_E_ACCES);
    assert_int_equal(world_symlink(w, inner, "planted", "x"), KV_E_ACCES);
    assert_int_equal(world_unlink(w, inner, "f"), KV_E_ACCES);
    assert_int_equal(world_unlink(w, inner, "missing"), KV_E_ACCES);
    assert_int_equal(world_rename(w, inner, "f", top, "mine"), KV_E_ACCES);
    assert_int_equal(world_create(w, top, "mine"), KV_OK);
    assert_int_equal(world_rename(w, top, "mine", inner, "planted"), KV_E_ACCES);
    assert_int_equal(world_setattr(w, &(struct command_body){.ino = file, .valid = SETATTR_MTIME_NOW}),
                     KV_E_ACCES);
    w->flags = COMMAND_OPENED;
    assert_int_equal(world_setattr(w, &(struct command_body){.ino = file, .valid = SETATTR_MTIME_NOW}),
                     KV_OK);

    become(p, ALICE);
    assert_int_equal(world_chmod(w, closed, 0711), KV_OK);
    become(p, BOB);
    assert_int_equal(store_reach(w->s, &bob, file), KV_OK);
    assert_int_equal(world_create(w, inner, "welcome"), KV_OK);
}

/* What is in a directory that may not be searched is not told by the error either. */
static void names_are_not_told_by_errors(void **state)
{
    struct place *p = *state;
    uint64_t top = shared(p), closed;

    become(p, ALICE);
    closed = make_directory(p, top, "closed", 0700);
    assert_int_equal(world_create(&p->w, closed, "there"), KV_OK);
    become(p, BOB);
    assert_int_equal(world_create(&p->w, closed, "there"), KV_E_ACCES);
    assert_int_equal(world_mkdir(&p->w, closed, "there"), KV_E_ACCES);
    assert_int_equal(world_unlink(&p->w, closed, "there"), KV_E_ACCES);
    assert_int_equal(world_unlink(&p->w, closed, "missing"), KV_E_ACCES);
    assert_int_equal(world_rmdir(&p->w, closed, "missing"), KV_E_ACCES);
}

/* One's own closed directory is no obstacle to a number: one could open it. */
static void ones_own_closed_directory_is_passed_by_number(void **state)
{
    struct place *p = *state;
    uint64_t top = shared(p), dir, below;

    become(p, ALICE);
    dir = make_directory(p, top, "dir", 0700);
    below = make_directory(p, dir, "below", 0700);
    assert_int_equal(world_chmod(&p->w, dir, 0), KV_OK);
    assert_int_equal(world_create(&p->w, below, "f"), KV_OK);
    assert_int_equal(world_set(&p->w, "shared/dir/below/f", "by path"), KV_E_ACCES);
}

static void a_walk_up_has_an_end(void **state)
{
    struct place *p = *state;
    uint64_t dir = shared(p);

    for (int i = 0; i < 4100; i++)
        dir = make_directory(p, dir, "d", 0777);
    assert_int_equal(store_reach(p->w.s, &bob, dir), KV_E_NAMETOOLONG);
    assert_int_equal(store_reach(p->w.s, NULL, dir), KV_OK);
}

static uint64_t history_of(struct place *p, const char *path)
{
    uint64_t id = 0;

    assert_int_equal(store_history_id(p->w.s, world_ino(&p->w, path), &id), KV_OK);
    return id;
}

/* The directory is made by its owner with one mode, removed, and made again. */
static bool goes_on(struct place *p, uint64_t top, uint32_t owner, uint16_t mode, uint32_t maker,
                    uint16_t made_mode, bool restart)
{
    uint64_t id;
    bool same;

    become(p, owner);
    make_directory(p, top, "d", mode);
    id = history_of(p, "shared/d");
    assert_int_equal(world_create(&p->w, world_ino(&p->w, "shared/d"), "key"), KV_OK);
    assert_int_equal(world_del(&p->w, "shared/d", true), KV_OK);
    if (restart)
        place_restart(p);
    become(p, maker);
    make_directory(p, top, "d", made_mode);
    same = history_of(p, "shared/d") == id;
    become(p, 0);
    assert_int_equal(world_del(&p->w, "shared/d", true), KV_OK);
    return same;
}

static void the_history_of_a_closed_directory_is_not_inherited(void **state)
{
    struct place *p = *state;
    uint64_t top = shared(p);

    for (int restart = 0; restart < 2; restart++) {
        assert_true(goes_on(p, top, ALICE, 0700, ALICE, 0700, restart));
        assert_true(goes_on(p, top, ALICE, 0700, ALICE, 0755, restart)); /* as by chmod */
        assert_false(goes_on(p, top, ALICE, 0700, BOB, 0755, restart));
        assert_false(goes_on(p, top, ALICE, 0700, BOB, 0700, restart));
        assert_true(goes_on(p, top, ALICE, 0755, BOB, 0755, restart));
        assert_true(goes_on(p, top, ALICE, 0755, BOB, 0700, restart));
        assert_false(goes_on(p, top, ALICE, 0744, BOB, 0755, restart));
        assert_false(goes_on(p, top, ALICE, 0711, BOB, 0755, restart));
        assert_true(goes_on(p, top, ALICE, 0700, 0, 0700, restart));
        assert_false(goes_on(p, top, ALICE, 0700, 0, 0755, restart));
        assert_false(goes_on(p, top, ALICE, 0750, 0, 0750, restart)); /* another group */
    }
}

/* set makes missing directories as mkdir does. */
static void nor_by_making_it_along_with_a_key(void **state)
{
    struct place *p = *state;
    uint64_t top = shared(p), id;

    become(p, ALICE);
    make_directory(p, top, "d", 0700);
    id = history_of(p, "shared/d");
    assert_int_equal(world_create(&p->w, world_ino(&p->w, "shared/d"), "key"), KV_OK);
    assert_int_equal(world_del(&p->w, "shared/d", true), KV_OK);
    become(p, BOB);
    assert_int_equal(world_set(&p->w, "shared/d/key", "v"), KV_OK);
    assert_int_not_equal(history_of(p, "shared/d"), id);
    assert_int_equal(store_history_shown(p->w.s, &alice, id, &(unsigned){0}), 0);
}

/* Whether every permission that the version needs is granted. */
static bool may_read(struct place *p, const struct caller *who, const char *name, uint64_t version)
{
    struct history_guards g;
    uint64_t id = history_of(p, "shared");

    assert_int_equal(history_guards(place_history(p), id, name, strlen(name), version, &g), KV_OK);
    for (uint32_t i = 0; i < g.n; i++)
        if (store_permits(who, g.list[i].uid, g.list[i].gid, g.list[i].mode, 4) != KV_OK)
            return false;
    return true;
}

static void set(struct place *p, uint32_t uid, const char *path, const char *value)
{
    become(p, uid);
    assert_int_equal(world_set(&p->w, path, value), KV_OK);
}

static void what_was_closed_stays_closed(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t top = shared(p);
    static const char *const names[] = {"kept", "removed", "renamed", "replaced"};

    for (int i = 0; i < 4; i++) {
        char path[32];

        snprintf(path, sizeof path, "shared/%s", names[i]);
        set(p, ALICE, path, "one");
        set(p, ALICE, path, "two");
        assert_true(may_read(p, &bob, names[i], 1));
        assert_int_equal(world_chmod(w, world_ino(w, path), 0600), KV_OK);
        assert_false(may_read(p, &bob, names[i], 1));
        assert_true(may_read(p, &alice, names[i], 1));
    }
    assert_int_equal(world_unlink(w, top, "removed"), KV_OK);
    assert_int_equal(world_rename(w, top, "renamed", top, "elsewhere"), KV_OK);
    set(p, ALICE, "shared/new", "three");
    assert_int_equal(world_rename(w, top, "new", top, "replaced"), KV_OK);
    for (int i = 0; i < 4; i++) {
        for (uint64_t version = 1; version < 3; version++) {
            assert_false(may_read(p, &bob, names[i], version));
            assert_true(may_read(p, &alice, names[i], version));
        }
    }
    assert_true(may_read(p, &bob, "replaced", 3));
    /* Nor does the next one who takes the name open them. */
    set(p, BOB, "shared/removed", "his");
    set(p, BOB, "shared/renamed", "his");
    for (int i = 1; i < 3; i++) {
        assert_false(may_read(p, &bob, names[i], 1));
        assert_false(may_read(p, &bob, names[i], 2));
        assert_true(may_read(p, &bob, names[i], 3));
        assert_true(may_read(p, &alice, names[i], 1));
    }
    /* Open, closed and open again within the life of a file: as it is now. */
    assert_int_equal(world_chmod(w, world_ino(w, "shared/renamed"), 0600), KV_OK);
    become(p, ALICE);
    assert_int_equal(world_chmod(w, world_ino(w, "shared/kept"), 0644), KV_OK);
    assert_true(may_read(p, &bob, "kept", 1));
    assert_false(may_read(p, &alice, "renamed", 3));
}

static void many_lives_are_summed_up_on_the_safe_side(void **state)
{
    struct place *p = *state;
    uint64_t top = shared(p);
    struct history_guards g;

    set(p, 0, "shared/f", "first");
    for (uint32_t i = 0; i < 40; i++) {
        become(p, 0);
        assert_int_equal(world_unlink(&p->w, top, "f"), KV_OK);
        set(p, 2000 + i, "shared/f", "next");
        assert_int_equal(world_chmod(&p->w, world_ino(&p->w, "shared/f"), i == 2 ? 0600 : 0644), KV_OK);
    }
    assert_int_equal(history_guards(place_history(p), history_of(p, "shared"), "f", 1, 1, &g), KV_OK);
    assert_int_equal(g.n, HISTORY_GUARDS_MAX);
    assert_false(may_read(p, &bob, "f", 1));
    assert_true(may_read(p, &bob, "f", 40));
}

/* Of all modes of three bits a class, owners and groups: nobody gains by the meet. */
static void a_meet_grants_no_more_than_either(void **state)
{
    static const uint32_t ids[] = {0, ALICE, BOB};
    const uint32_t both[] = {ALICE, BOB};
    unsigned lost = 0;

    (void)state;
    for (unsigned round = 0; round < 9 * 512; round++) {
        const struct access a = {ids[round % 3], ids[round / 3 % 3], (uint16_t)(round / 9)};

        /* Only the bits for reading are asked for below. */
        for (unsigned other = 0; other < 9 * 8; other++) {
            const unsigned m = other / 9;
            const struct access b = {ids[other % 3], ids[other / 3 % 3],
                                     (uint16_t)((m & 1) << 2 | (m & 2) << 4 | (m & 4) << 6)};
            struct access meet = a;

            access_meet(&meet, &b);
            for (unsigned who = 0; who < 8; who++) {
                const struct caller caller = {.uid = who % 4 == 0 ? 7 : ids[who % 4 - 1] + (who % 4 == 1),
                                              .gid = who < 4 ? 7 : ALICE,
                                              .n_groups = who == 3 ? 2 : 0,
                                              .groups = both};
                bool granted = store_permits(&caller, meet.uid, meet.gid, meet.mode, 4) == KV_OK;
                bool by_both = store_permits(&caller, a.uid, a.gid, a.mode, 4) == KV_OK &&
                               store_permits(&caller, b.uid, b.gid, b.mode, 4) == KV_OK;

                assert_true(by_both || !granted);
                if (a.uid == b.uid && a.gid == b.gid)
                    assert_int_equal(granted, by_both);
                lost += by_both && !granted;
            }
        }
    }
    assert_true(lost > 0); /* the callers did differ */
}

static void the_log_shows_what_could_be_listed(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t top = shared(p), closed, inner, id, inner_id, top_id;
    unsigned steps = 0;

    become(p, ALICE);
    closed = make_directory(p, top, "closed", 0700);
    inner = make_directory(p, closed, "inner", 0777);
    assert_int_equal(world_create(w, inner, "f"), KV_OK);
    id = history_of(p, "shared/closed");
    inner_id = history_of(p, "shared/closed/inner");
    top_id = history_of(p, "shared");
    assert_true(store_history_shown(w->s, &bob, top_id, &steps));
    assert_false(store_history_shown(w->s, &bob, id, &steps));
    assert_false(store_history_shown(w->s, &bob, inner_id, &steps));
    assert_true(store_history_shown(w->s, &alice, inner_id, &steps));
    assert_true(steps > 4);
    assert_int_equal(world_chmod(w, closed, 0711), KV_OK);
    assert_false(store_history_shown(w->s, &bob, id, &steps)); /* not to be listed */
    assert_true(store_history_shown(w->s, &bob, inner_id, &steps));
    assert_int_equal(world_chmod(w, closed, 0700), KV_OK);
    assert_int_equal(world_del(w, "shared/closed", true), KV_OK);
    place_restart(p);
    assert_false(store_history_shown(w->s, &bob, id, &steps));
    assert_false(store_history_shown(w->s, &bob, inner_id, &steps));
    assert_true(store_history_shown(w->s, &alice, inner_id, &steps));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, place_setup, place_teardown_whole)
    const struct CMUnitTest tests[] = {
        TEST(numbers_below_a_closed_directory_lead_nowhere),
        TEST(names_are_not_told_by_errors),
        TEST(ones_own_closed_directory_is_passed_by_number),
        TEST(a_walk_up_has_an_end),
        TEST(the_history_of_a_closed_directory_is_not_inherited),
        TEST(nor_by_making_it_along_with_a_key),
        TEST(what_was_closed_stays_closed),
        TEST(many_lives_are_summed_up_on_the_safe_side),
        cmocka_unit_test(a_meet_grants_no_more_than_either),
        TEST(the_log_shows_what_could_be_listed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
