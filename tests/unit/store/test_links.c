/* Files with several names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/store/place.h"

/* d/a with the text, and its other names b and d/c, in this order. */
static uint64_t three_names(struct place *p, const char *text)
{
    uint64_t ino, d;

    assert_int_equal(world_set(&p->w, "d/a", text), KV_OK);
    ino = p->w.result.attr.ino;
    d = world_ino(&p->w, "d");
    assert_int_equal(world_link(&p->w, ino, KV_ROOT_INO, "b"), KV_OK);
    assert_int_equal(world_link(&p->w, ino, d, "c"), KV_OK);
    return ino;
}

static uint64_t keys(const struct place *p)
{
    struct store_usage u;

    store_usage(p->w.s, &u);
    return u.keys;
}

static uint64_t bytes(const struct place *p)
{
    struct store_usage u;

    store_usage(p->w.s, &u);
    return u.bytes;
}

static void all_names_show_the_same_inode(void **state)
{
    static const char *const paths[] = {"d/a", "b", "d/c"};
    struct place *p = *state;
    uint64_t ino = three_names(p, "one"), revision = p->w.index;

    assert_int_equal(p->w.result.created, 1);
    assert_int_equal(p->w.result.attr.ino, ino);
    assert_int_equal(p->w.events[0].kind, EVENT_CREATE);
    assert_int_equal(p->w.events[0].op, COMMAND_LINK);
    assert_int_equal(p->w.events[0].ino, ino);
    assert_int_equal(p->w.events[0].attr.nlink, 3);
    for (int i = 0; i < 2; i++) {
        for (unsigned k = 0; k < 3; k++) {
            struct attr attr = world_attr(&p->w, paths[k]);

            assert_int_equal(attr.ino, ino);
            assert_int_equal(attr.nlink, 3);
            assert_int_equal(attr.revision, revision);
            assert_int_equal(attr.ctime_ns, store_wall_ns(p->w.s));
            assert_true(attr.mtime_ns < attr.ctime_ns);
            assert_string_equal(world_get(&p->w, paths[k]), "one");
        }
        assert_string_equal(world_list(&p->w, "d"), "a c");
        place_restart(p);
    }
}

static void a_link_changes_the_times_of_its_directory(void **state)
{
    struct place *p = *state;
    struct attr before, after;
    uint64_t ino = three_names(p, "one");

    before = world_attr(&p->w, "d");
    assert_int_equal(world_link(&p->w, ino, before.ino, "e"), KV_OK);
    after = world_attr(&p->w, "d");
    assert_true(after.mtime_ns > before.mtime_ns && after.ctime_ns > before.ctime_ns);
    assert_int_equal(after.size, before.size + 1);
    assert_int_equal(after.nlink, before.nlink);
}

static void what_cannot_be_linked(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t ino = three_names(p, "one"), d = world_ino(w, "d"), digest;
    char name[16];

    assert_int_equal(world_link(w, ino, d, "a"), KV_E_EXIST);
    assert_int_equal(world_link(w, ino, KV_ROOT_INO, "d"), KV_E_EXIST);
    assert_int_equal(world_link(w, d, KV_ROOT_INO, "a"), KV_E_PERM);
    assert_int_equal(world_link(w, KV_ROOT_INO, d, "x"), KV_E_PERM);
    assert_int_equal(world_link(w, d, KV_ROOT_INO, "b"), KV_E_EXIST);
    assert_int_equal(world_link(w, 12345, d, "x"), KV_E_STALE);
    assert_int_equal(world_link(w, ino, 12345, "x"), KV_E_STALE);
    assert_int_equal(world_link(w, ino, ino, "x"), KV_E_NOTDIR);
    assert_int_equal(world_link(w, ino, d, ".versions"), KV_E_PERM);
    assert_int_equal(world_link(w, ino, d, ""), KV_E_INVAL);
    for (int i = 3; i < 1000; i++) {
        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(world_link(w, ino, d, name), KV_OK);
    }
    digest = world_attr(w, "b").revision;
    assert_int_equal(world_attr(w, "b").nlink, 1000);
    assert_int_equal(world_link(w, ino, d, "x"), KV_E_MLINK);
    assert_int_equal(world_attr(w, "b").revision, digest);
    place_restart(p);
    assert_int_equal(world_attr(w, "b").nlink, 1000);
    assert_int_equal(world_link(w, ino, d, "x"), KV_E_MLINK);
    assert_int_equal(world_unlink(w, d, "a"), KV_OK);
    assert_int_equal(world_link(w, ino, d, "x"), KV_OK);
    assert_int_equal(world_attr(w, "b").nlink, 1000);
    assert_int_equal(world_del(w, "d", true), KV_E_BUSY); /* by parts, as of any large directory */
}

static void symbolic_links_have_names_too(void **state)
{
    struct place *p = *state;
    uint64_t ino;

    assert_int_equal(world_symlink(&p->w, KV_ROOT_INO, "l", "target"), KV_OK);
    ino = p->w.result.attr.ino;
    assert_int_equal(world_link(&p->w, ino, KV_ROOT_INO, "m"), KV_OK);
    assert_int_equal(world_unlink(&p->w, KV_ROOT_INO, "l"), KV_OK);
    assert_string_equal(world_get(&p->w, "m"), "target");
    assert_int_equal(world_attr(&p->w, "m").nlink, 1);
    assert_string_equal(place_versions(p, "m"), "1*");
}

static void the_file_goes_with_its_last_name(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t ino = three_names(p, "one"), d = world_ino(w, "d");
    struct attr attr;

    assert_int_equal(world_unlink(w, d, "a"), KV_OK);
    assert_int_equal(w->result.removed, 0);
    assert_int_equal(w->events[0].kind, EVENT_REMOVE);
    assert_int_equal(w->events[0].attr.nlink, 2);
    assert_int_equal(w->events[0].attr.ctime_ns, store_wall_ns(w->s));
    assert_int_equal(world_attr(w, "b").ctime_ns, store_wall_ns(w->s));
    assert_string_equal(world_get(w, "b"), "one");
    place_restart(p);
    assert_int_equal(store_pin(w->s, ino), KV_OK);
    assert_int_equal(world_unlink(w, KV_ROOT_INO, "b"), KV_OK);
    assert_int_equal(w->result.removed, 0);
    assert_int_equal(bytes(p), 3);
    assert_int_equal(world_del(w, "d/c", false), KV_OK);
    assert_int_equal(w->events[0].attr.nlink, 0);
    assert_int_equal(bytes(p), 0);
    assert_int_equal(store_getattr(w->s, ino, &attr), KV_OK); /* pinned */
    assert_int_equal(attr.nlink, 0);
    assert_int_equal(world_link(w, ino, d, "again"), KV_E_STALE);
    store_unpin(w->s, ino);
    assert_int_equal(world_link(w, ino, d, "again"), KV_E_STALE);
}

static void unlink_tells_what_has_gone(void **state)
{
    struct place *p = *state;
    uint64_t ino = three_names(p, "one"), d = world_ino(&p->w, "d");

    assert_int_equal(world_unlink(&p->w, d, "a"), KV_OK);
    assert_int_equal(world_unlink(&p->w, d, "c"), KV_OK);
    assert_int_equal(p->w.result.removed, 0);
    assert_int_equal(world_unlink(&p->w, KV_ROOT_INO, "b"), KV_OK);
    assert_int_equal(p->w.result.removed, ino);
}

static void renaming_over_one_name_leaves_the_others(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t ino = three_names(p, "one"), fresh;

    assert_int_equal(world_set(w, "new", "two"), KV_OK);
    fresh = w->result.attr.ino;
    assert_int_equal(world_rename(w, KV_ROOT_INO, "new", KV_ROOT_INO, "b"), KV_OK);
    assert_int_equal(w->result.removed, 0);
    assert_int_equal(w->events[0].kind, EVENT_REMOVE);
    assert_int_equal(w->events[0].ino, ino);
    assert_int_equal(w->events[0].attr.nlink, 2);
    assert_int_equal(world_ino(w, "b"), fresh);
    assert_int_equal(world_attr(w, "d/a").nlink, 2);
    assert_string_equal(world_get(w, "d/c"), "one");
    assert_string_equal(place_versions(p, "b"), "2* 1");
    assert_string_equal(place_versions(p, "d/a"), "1*");
}

static void renaming_to_another_name_of_the_same_does_nothing(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t ino = three_names(p, "one"), d = world_ino(w, "d"), revision = world_attr(w, "b").revision;
    const struct command_body noreplace = {.parent = KV_ROOT_INO,
                                           .name = (const uint8_t *)"b",
                                           .name_len = 1,
                                           .new_parent = d,
                                           .new_name = (const uint8_t *)"a",
                                           .new_name_len = 1,
                                           .flags = MOVE_NOREPLACE};

    assert_int_equal(world_rename(w, KV_ROOT_INO, "b", d, "a"), KV_OK);
    assert_int_equal(w->result.attr.ino, ino);
    assert_int_equal(w->events[0].kind, EVENT_NOTHING);
    assert_int_equal(world_exchange(w, KV_ROOT_INO, "b", d, "a"), KV_OK);
    assert_int_equal(w->events[0].kind, EVENT_NOTHING);
    assert_int_equal(world_command(w, COMMAND_RENAME, &noreplace), KV_E_EXIST);
    assert_int_equal(world_attr(w, "b").nlink, 3);
    assert_int_equal(world_attr(w, "b").revision, revision);
    assert_string_equal(place_versions(p, "b"), "1*");
}

static void one_name_moves(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t ino = three_names(p, "one"), d = world_ino(w, "d");

    assert_int_equal(world_rename(w, d, "a", KV_ROOT_INO, "z"), KV_OK);
    assert_int_equal(w->result.attr.nlink, 3);
    assert_string_equal(world_list(w, ""), "d b z");
    assert_string_equal(world_list(w, "d"), "c");
    assert_string_equal(place_versions(p, "d/a"), "1x 1");
    assert_string_equal(place_versions(p, "z"), "1*");
    place_restart(p);
    assert_int_equal(world_ino(w, "z"), ino);
    assert_int_equal(world_append(w, ino, "!", 1), KV_OK);
    assert_string_equal(place_versions(p, "d/a"), "1x 1");
    assert_string_equal(place_versions(p, "z"), "2* 1");
    assert_string_equal(place_versions(p, "d/c"), "2* 1");
}

static void names_are_exchanged_with_another_file(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t ino = three_names(p, "one"), d = world_ino(w, "d"), other;

    assert_int_equal(world_set(w, "e", "two"), KV_OK);
    other = w->result.attr.ino;
    assert_int_equal(world_exchange(w, d, "a", KV_ROOT_INO, "e"), KV_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(world_ino(w, "e"), ino);
        assert_int_equal(world_ino(w, "d/a"), other);
        assert_int_equal(world_attr(w, "e").nlink, 3);
        assert_int_equal(world_attr(w, "d/a").nlink, 1);
        place_restart(p);
    }
    assert_string_equal(place_versions(p, "d/a"), "2* 1");
    assert_string_equal(place_versions(p, "e"), "2* 1");
    assert_string_equal(place_versions(p, "b"), "1*");
}

/* Numbers are the name's own; content is under all. */
static void a_write_is_a_version_under_each_name(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t ino;

    assert_int_equal(world_set(w, "d/a", "one"), KV_OK);
    ino = w->result.attr.ino;
    assert_int_equal(world_set(w, "d/a", "two"), KV_OK);
    assert_int_equal(world_link(w, ino, KV_ROOT_INO, "b"), KV_OK);
    assert_int_equal(w->result.attr.version, 1);
    assert_int_equal(world_link(w, ino, KV_ROOT_INO, "b~"), KV_OK); /* keeps none */
    assert_int_equal(w->result.attr.version, 0);
    assert_int_equal(world_set(w, "b", "three"), KV_OK);
    assert_int_equal(w->result.base_version, 1);
    assert_int_equal(w->result.attr.version, 2);
    place_restart(p);
    assert_int_equal(world_append(w, ino, " and", 4), KV_OK);
    assert_int_equal(w->result.attr.version, 4);
    assert_int_equal(world_chmod(w, ino, 0600), KV_OK);
    assert_string_equal(place_versions(p, "d/a"), "4a 4* 3 2 1");
    assert_string_equal(place_versions(p, "b"), "3a 3* 2 1");
    assert_string_equal(place_versions(p, "b~"), "(1)");
    assert_string_equal(place_version(p, "d/a", 3), "three");
    assert_string_equal(place_version(p, "d/a", 4), "three and");
    assert_string_equal(place_version(p, "b", 1), "two");
    assert_string_equal(place_version(p, "b", 2), "three");
    assert_int_equal(world_version(w, "d/a"), 4);
    assert_int_equal(world_version(w, "b"), 3);
    assert_int_equal(world_version(w, "b~"), 0);
    /* The first name goes: the inode goes by the next one's number. */
    assert_int_equal(world_del(w, "d/a", false), KV_OK);
    assert_string_equal(place_versions(p, "d/a"), "4x 4a 4 3 2 1");
    assert_string_equal(place_versions(p, "b"), "3a 3* 2 1");
    assert_int_equal(world_append(w, ino, "!", 1), KV_OK);
    assert_int_equal(w->result.attr.version, 4);
    assert_string_equal(place_version(p, "b", 4), "three and!");
    place_restart(p);
    assert_int_equal(world_version(w, "b"), 4);
}

static void a_set_expects_the_number_of_its_name(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;

    assert_int_equal(world_set(w, "a", "one"), KV_OK);
    assert_int_equal(world_set(w, "a", "two"), KV_OK);
    assert_int_equal(world_link(w, world_ino(w, "a"), KV_ROOT_INO, "b"), KV_OK);
    assert_int_equal(world_set_bytes(w, "b", "x", 1, SET_IF_VERSION, 2), KV_E_VERSION);
    assert_int_equal(world_set_bytes(w, "b", "x", 1, SET_IF_VERSION, 1), KV_OK);
    assert_int_equal(world_set_bytes(w, "a", "y", 1, SET_IF_VERSION, 3), KV_OK);
    assert_int_equal(w->result.attr.version, 4);
}

/* Restoring writes to the file; what was deleted comes back as a file of its own. */
static void versions_are_restored(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t ino = three_names(p, "one");
    struct command_body restore = {.path = (const uint8_t *)"d/c",
                                   .path_len = 3,
                                   .flags = SET_RESTORE,
                                   .from_version = 1,
                                   .mode = 0644,
                                   .value = (const uint8_t *)"one",
                                   .value_len = 3};

    assert_int_equal(world_set(w, "b", "two"), KV_OK);
    assert_int_equal(world_command(w, COMMAND_SET, &restore), KV_OK);
    assert_string_equal(world_get(w, "d/a"), "one");
    assert_string_equal(place_versions(p, "d/a"), "3* 2 1");
    assert_int_equal(world_del(w, "d/c", false), KV_OK);
    assert_int_equal(world_command(w, COMMAND_SET, &restore), KV_OK);
    assert_true(w->result.attr.ino != ino);
    assert_int_equal(w->result.attr.nlink, 1);
    assert_int_equal(world_attr(w, "d/a").nlink, 2);
    assert_string_equal(place_versions(p, "d/c"), "4* 3x 3 2 1");
    assert_string_equal(place_versions(p, "b"), "3* 2 1");
}

static bool log_one(void *arg, const struct history_entry *e)
{
    char *text = arg;
    size_t at = strlen(text);

    snprintf(text + at, 1024 - at, "%s%s:%.*s", at > 0 ? " " : "", command_op_name(e->row.op),
             (int)e->key.name_len, (const char *)e->key.name);
    if (e->from.directory != 0)
        snprintf(text + strlen(text), 64, "<%.*s", (int)e->from.name_len, (const char *)e->from.name);
    return true;
}

static void the_operation_log_tells_of_each_name(void **state)
{
    struct place *p = *state;
    char text[1024] = "";
    uint64_t dropped;

    three_names(p, "one");
    assert_int_equal(world_set(&p->w, "b", "two"), KV_OK);
    assert_int_equal(history_log(place_history(p), 0, NULL, text, log_one, &dropped), KV_OK);
    assert_string_equal(text, "set:d set:a link:b<a link:c<a set:b set:a set:c");
}

static void a_link_ends_a_creation(void **state)
{
    struct place *p = *state;
    struct edit e = {.kind = EDIT_WRITE, .data = (const uint8_t *)"one", .len = 3};
    uint64_t ino;

    assert_int_equal(world_create(&p->w, KV_ROOT_INO, "f"), KV_OK);
    ino = p->w.result.attr.ino;
    assert_int_equal(world_link(&p->w, ino, KV_ROOT_INO, "g"), KV_OK);
    place_restart(p);
    assert_int_equal(world_publish(&p->w, ino, true, &e, 1), KV_OK);
    assert_string_equal(place_versions(p, "f"), "2* 1");
    assert_string_equal(place_versions(p, "g"), "2* 1");
    assert_string_equal(place_version(p, "f", 1), "");
}

/* ssh-keygen -R: link(f, f.old), rename(temporary, f). */
static void a_backup_by_link_keeps_the_old_content(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;

    assert_int_equal(world_set(w, "f", "one"), KV_OK);
    for (int i = 0; i < 3; i++) {
        char text[16];

        world_unlink(w, KV_ROOT_INO, "f.old");
        assert_int_equal(world_link(w, world_ino(w, "f"), KV_ROOT_INO, "f.old"), KV_OK);
        snprintf(text, sizeof text, "edit %d", i);
        assert_int_equal(world_set(w, "tmpAb3Xy9", text), KV_OK);
        assert_int_equal(world_rename(w, KV_ROOT_INO, "tmpAb3Xy9", KV_ROOT_INO, "f"), KV_OK);
        place_restart(p);
    }
    assert_string_equal(world_get(w, "f"), "edit 2");
    assert_string_equal(world_get(w, "f.old"), "edit 1");
    assert_int_equal(world_attr(w, "f").nlink, 1);
    assert_int_equal(world_attr(w, "f.old").nlink, 1);
    assert_string_equal(place_versions(p, "f"), "4* 3 2 1");
    assert_string_equal(place_version(p, "f", 2), "edit 0");
    assert_string_equal(place_version(p, "f.old", 2), "edit 0");
}

static void names_are_counted_and_content_is_counted_once(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t ino = three_names(p, "0123456789"), d = world_ino(w, "d");

    assert_int_equal(keys(p), 4);
    assert_int_equal(bytes(p), 10);
    assert_int_equal(world_append(w, ino, "xx", 2), KV_OK);
    assert_int_equal(bytes(p), 12);
    assert_int_equal(world_rename(w, d, "a", d, "e"), KV_OK);
    place_restart(p);
    assert_int_equal(keys(p), 4);
    assert_int_equal(bytes(p), 12);
    assert_int_equal(world_setting(w, "max_bytes", "12"), KV_OK);
    assert_int_equal(world_link(w, ino, d, "f"), KV_OK); /* takes no bytes */
    assert_int_equal(world_setting(w, "max_keys", "5"), KV_OK);
    assert_int_equal(world_link(w, ino, d, "g"), KV_E_NOSPC);
    assert_int_equal(world_unlink(w, d, "f"), KV_OK);
    assert_int_equal(world_link(w, ino, d, "g"), KV_OK);
    assert_int_equal(bytes(p), 12);
}

static void a_tree_is_deleted_and_names_elsewhere_stay(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t ino = three_names(p, "one");

    assert_int_equal(world_link(w, ino, world_ino(w, "d"), "x"), KV_OK);
    assert_int_equal(world_set(w, "d/sub/k", "k"), KV_OK);
    assert_int_equal(world_link(w, world_ino(w, "d/sub/k"), world_ino(w, "d"), "k2"), KV_OK);
    assert_int_equal(world_del(w, "d", true), KV_OK);
    assert_int_equal(w->result.removed, 7); /* d, a, c, x, sub, k, k2 */
    assert_string_equal(world_list(w, ""), "b");
    assert_int_equal(world_attr(w, "b").nlink, 1);
    assert_string_equal(world_get(w, "b"), "one");
    assert_int_equal(bytes(p), 3);
    assert_int_equal(world_del(w, "b", false), KV_OK);
    assert_int_equal(bytes(p), 0);
    assert_int_equal(keys(p), 0);
}

static void he_needs_what_a_new_name_needs(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t ino = three_names(p, "one"), d = world_ino(w, "d"), mine;
    const struct caller bob = {.uid = 1000, .gid = 1000};

    assert_int_equal(world_mkdir(w, KV_ROOT_INO, "mine"), KV_OK);
    mine = w->result.attr.ino;
    assert_int_equal(world_chmod(w, mine, 0777), KV_OK);
    assert_int_equal(world_chmod(w, ino, 0600), KV_OK);
    w->flags = 0;
    w->uid = w->gid = 1000;
    assert_int_equal(world_link(w, ino, d, "x"), KV_E_ACCES); /* the directory is not his */
    assert_int_equal(world_link(w, ino, mine, "x"), KV_OK);   /* the rest is the kernel's sysctl */
    assert_int_equal(store_access(w->s, &bob, ino, 4), KV_E_ACCES);
    w->uid = 0;
    assert_int_equal(world_chmod(w, KV_ROOT_INO, 0755), KV_OK);
    assert_int_equal(world_chmod(w, d, 0700), KV_OK);
    /* He comes to it by any name that lets him through, and by none if none does. */
    assert_int_equal(store_reach(w->s, &bob, ino), KV_OK);
    assert_int_equal(world_unlink(w, mine, "x"), KV_OK);
    assert_int_equal(store_reach(w->s, &bob, ino), KV_OK); /* b */
    assert_int_equal(world_unlink(w, KV_ROOT_INO, "b"), KV_OK);
    assert_int_equal(store_reach(w->s, &bob, ino), KV_E_ACCES);
    w->uid = 1000;
    assert_int_equal(world_link(w, ino, mine, "x"), KV_E_ACCES);
}

/* The chunks are the inode's: they stay as long as a name or a row needs them. */
static void content_outlives_the_history_of_one_name(void **state)
{
    static char big[200000];
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t ino;

    memset(big, 'x', sizeof big);
    assert_int_equal(world_set_bytes(w, "a", big, sizeof big, 0, 0), KV_OK);
    ino = w->result.attr.ino;
    assert_int_equal(world_link(w, ino, KV_ROOT_INO, "b"), KV_OK);
    assert_int_equal(world_link(w, ino, KV_ROOT_INO, "c~"), KV_OK);
    assert_int_equal(world_setting(w, "max_dead_names", "1"), KV_OK);
    assert_int_equal(world_unlink(w, KV_ROOT_INO, "a"), KV_OK);
    assert_int_equal(world_append(w, ino, "y", 1), KV_OK);
    assert_int_equal(world_set(w, "other", ""), KV_OK);
    assert_int_equal(world_del(w, "other", false), KV_OK); /* a's history goes */
    assert_string_equal(place_versions(p, "a"), "(1)");
    assert_true(place_verifies(p));
    assert_int_equal(place_version(p, "b", 1)[0], 'x');
    assert_int_equal(world_unlink(w, KV_ROOT_INO, "b"), KV_OK);
    assert_int_equal(world_set(w, "other", ""), KV_OK);
    assert_int_equal(world_del(w, "other", false), KV_OK);
    assert_int_equal(world_set(w, "third", ""), KV_OK);
    assert_int_equal(world_del(w, "third", false), KV_OK);
    place_restart(p);
    assert_int_equal(world_attr(w, "c~").nlink, 1);
    assert_int_equal(world_attr(w, "c~").size, sizeof big + 1);
    assert_true(place_verifies(p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_names_show_the_same_inode, place_setup, place_teardown_whole),
        cmocka_unit_test_setup_teardown(a_link_changes_the_times_of_its_directory, place_setup,
                                        place_teardown_whole),
        cmocka_unit_test_setup_teardown(what_cannot_be_linked, place_setup, place_teardown_whole),
        cmocka_unit_test_setup_teardown(symbolic_links_have_names_too, place_setup, place_teardown_whole),
        cmocka_unit_test_setup_teardown(the_file_goes_with_its_last_name, place_setup, place_teardown_whole),
        cmocka_unit_test_setup_teardown(unlink_tells_what_has_gone, place_setup, place_teardown_whole),
        cmocka_unit_test_setup_teardown(renaming_over_one_name_leaves_the_others, place_setup,
                                        place_teardown_whole),
        cmocka_unit_test_setup_teardown(renaming_to_another_name_of_the_same_does_nothing, place_setup,
                                        place_teardown_whole),
        cmocka_unit_test_setup_teardown(one_name_moves, place_setup, place_teardown_whole),
        cmocka_unit_test_setup_teardown(names_are_exchanged_with_another_file, place_setup,
                                        place_teardown_whole),
        cmocka_unit_test_setup_teardown(a_write_is_a_version_under_each_name, place_setup,
                                        place_teardown_whole),
        cmocka_unit_test_setup_teardown(a_set_expects_the_number_of_its_name, place_setup,
                                        place_teardown_whole),
        cmocka_unit_test_setup_teardown(versions_are_restored, place_setup, place_teardown_whole),
        cmocka_unit_test_setup_teardown(the_operation_log_tells_of_each_name, place_setup,
                                        place_teardown_whole),
        cmocka_unit_test_setup_teardown(a_link_ends_a_creation, place_setup, place_teardown_whole),
        cmocka_unit_test_setup_teardown(a_backup_by_link_keeps_the_old_content, place_setup,
                                        place_teardown_whole),
        cmocka_unit_test_setup_teardown(names_are_counted_and_content_is_counted_once, place_setup,
                                        place_teardown_whole),
        cmocka_unit_test_setup_teardown(a_tree_is_deleted_and_names_elsewhere_stay, place_setup,
                                        place_teardown_whole),
        cmocka_unit_test_setup_teardown(he_needs_what_a_new_name_needs, place_setup, place_teardown_whole),
        cmocka_unit_test_setup_teardown(content_outlives_the_history_of_one_name, place_setup,
                                        place_teardown_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
