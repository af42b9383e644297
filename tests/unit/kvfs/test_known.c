/* What is known here is answered without the node: until when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kvfs/ops/event.h"
#include "kvfs/ops/fs.h"
#include "kvfs/reply/reply.h"
#include "sync/base/clock.h"

#define DIRECTORY 5
#define INO 7

struct fixture {
    struct options options;
    struct fs fs;
    struct kernel_inode *directory, *inode;
    uint64_t index;
};

static void know(struct fixture *f)
{
    const struct attr attr = {.ino = INO, .type = INODE_FILE, .nlink = 1, .size = 3};
    struct cache *cache = &f->fs.cache;

    kernel_inode_set_place(cache, f->inode, &attr, DIRECTORY, "name", 4);
    known_tell_attr(cache, f->inode, &attr);
    known_tell_name(cache, DIRECTORY, "name", 4, INO);
    known_tell_name(cache, DIRECTORY, "none", 4, 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    f->options.timeout_ms = 5000;
    f->options.read_strict = true;
    assert_int_equal(fs_init(&f->fs, &f->options), 0);
    f->fs.hub.uplink.node.trusted = true;
    f->fs.cache.lease.until_ms = clock_boot_ms() + 60000;
    f->directory = kernel_inode_get(&f->fs.cache, DIRECTORY);
    f->inode = kernel_inode_get(&f->fs.cache, INO);
    assert_true(f->directory != NULL && f->inode != NULL);
    know(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fs_deinit(&f->fs);
    free(f);
    return 0;
}

static void inval(struct fixture *f, uint64_t ino, uint8_t what)
{
    struct inval i = {.number = f->index + 1, .index = ++f->index, .n = ino != 0, .all = ino == 0};

    i.of[0].ino = ino;
    i.of[0].what = what;
    lease_inval(&f->fs.cache, &i);
}

static bool knows_attr(struct fixture *f)
{
    return known_attr(&f->fs.cache, f->inode) != NULL;
}

static bool knows_name(struct fixture *f, const char *name)
{
    struct kernel_inode *inode;

    return known_name(&f->fs.cache, DIRECTORY, name, &inode);
}

static bool knows_nothing(struct fixture *f)
{
    return !knows_attr(f) && !knows_name(f, "name") && !knows_name(f, "none");
}

static void is_what_was_told(void **state)
{
    struct fixture *f = *state;
    struct kernel_inode *inode = NULL;

    assert_int_equal(known_attr(&f->fs.cache, f->inode)->size, 3);
    assert_true(known_name(&f->fs.cache, DIRECTORY, "name", &inode));
    assert_ptr_equal(inode, f->inode);
    assert_true(known_name(&f->fs.cache, DIRECTORY, "none", &inode));
    assert_null(inode);
    assert_false(knows_name(f, "other"));
    assert_false(known_name(&f->fs.cache, INO, "name", &inode));
    assert_false(known_name(&f->fs.cache, 99, "name", &inode)); /* not even the directory */
}

static void ends_with_an_inval_of_it_and_begins_when_that_is_applied(void **state)
{
    struct fixture *f = *state;

    inval(f, 99, INVAL_ATTR | INVAL_DATA | INVAL_NAMES);
    assert_true(knows_attr(f) && knows_name(f, "name") && knows_name(f, "none"));
    inval(f, DIRECTORY, INVAL_NAMES);
    assert_true(knows_attr(f) && !knows_name(f, "name") && !knows_name(f, "none"));
    know(f); /* an answer of before */
    assert_true(!knows_name(f, "name") && !knows_name(f, "none"));
    lease_applied(&f->fs.cache, f->index);
    assert_true(!knows_name(f, "name") && !knows_name(f, "none"));
    know(f);
    assert_true(knows_attr(f) && knows_name(f, "name") && knows_name(f, "none"));
    inval(f, INO, INVAL_ATTR);
    assert_true(!knows_attr(f) && !knows_name(f, "name") && knows_name(f, "none"));
    know(f);
    assert_false(knows_attr(f));
    lease_applied(&f->fs.cache, f->index);
    know(f);
    assert_true(knows_attr(f) && knows_name(f, "name"));
    inval(f, 0, 0);
    assert_true(knows_nothing(f));
}

static void ends_with_the_lease(void **state)
{
    struct fixture *f = *state;
    struct lease *l = &f->fs.cache.lease;
    uint64_t later = clock_boot_ms() + 60000;

    l->until_ms = clock_boot_ms();
    assert_true(knows_nothing(f));
    know(f);
    assert_true(knows_nothing(f));
    /* There is another one: of what changed in between nobody has told. */
    lease_beat(&f->fs.cache, &(struct beat){.until_ms = later, .in_force = 1});
    assert_true(knows_nothing(f));
    know(f);
    assert_true(knows_attr(f) && knows_name(f, "name") && knows_name(f, "none"));
    lease_beat(&f->fs.cache, &(struct beat){.until_ms = later + 1, .in_force = 1}); /* the same goes on */
    assert_true(knows_attr(f) && knows_name(f, "name") && knows_name(f, "none"));
    lease_begin(&f->fs.cache);
    assert_true(knows_nothing(f));
}

static void ends_with_a_notification_and_with_the_inode(void **state)
{
    struct fixture *f = *state;

    notifier_inval(&f->fs.cache, f->inode, false);
    assert_false(knows_attr(f));
    know(f);
    notifier_drop_all(&f->fs.cache);
    assert_true(knows_nothing(f));
    know(f);
    assert_true(knows_name(f, "none"));
    f->directory->nlookup = 1;
    kernel_inode_forget(&f->fs.cache, DIRECTORY, 1);
    f->directory = kernel_inode_get(&f->fs.cache, DIRECTORY);
    assert_false(knows_name(f, "none"));
}

static void event(struct fixture *f, enum event_kind kind, uint64_t parent, uint64_t new_parent, bool own)
{
    const struct event e = {.revision = ++f->index,
                            .kind = (uint8_t)kind,
                            .ino = 99,
                            .parent = parent,
                            .new_parent = new_parent,
                            .name = (const uint8_t *)"none",
                            .name_len = 4,
                            .new_name = (const uint8_t *)"none",
                            .new_name_len = new_parent != 0 ? 4 : 0,
                            .session = own ? f->fs.hub.uplink.session : 0};

    event_handle(&f->fs, &e);
}

/* What was asked for while there was no lease may be told late, and then no INVAL comes. */
static void ends_with_an_event_of_it_own_or_not(void **state)
{
    static const struct {
        enum event_kind kind;
        uint64_t parent, new_parent;
    } changes[] = {{EVENT_CREATE, DIRECTORY, 0},
                   {EVENT_REMOVE, DIRECTORY, 0},
                   {EVENT_RENAME, DIRECTORY, 98},
                   {EVENT_RENAME, 98, DIRECTORY}};
    struct fixture *f = *state;

    f->fs.hub.uplink.session = 4;
    for (int own = 0; own < 2; own++) {
        for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
            event(f, changes[i].kind, 98, changes[i].new_parent != 0 ? 97 : 0, own == 1);
            assert_true(knows_attr(f) && knows_name(f, "name") && knows_name(f, "none"));
            event(f, changes[i].kind, changes[i].parent, changes[i].new_parent, own == 1);
            assert_true(knows_attr(f) && !knows_name(f, "name") && !knows_name(f, "none"));
            know(f);
        }
        event_handle(&f->fs, &(struct event){.kind = EVENT_ATTR, .ino = INO, .session = own == 1 ? 4 : 0});
        assert_false(knows_attr(f));
        know(f);
    }
}

/* Of an inode that was not known before, too. */
static void is_not_kept_in_a_directory_whose_names_may_change(void **state)
{
    struct fixture *f = *state;
    struct cache *cache = &f->fs.cache;
    const struct call call = {.hub = &f->fs.hub};
    struct attr attr = {.ino = 8, .type = INODE_FILE, .nlink = 1};
    struct fuse_entry_param e;

    inval(f, DIRECTORY, INVAL_NAMES);
    assert_non_null(reply_fill_entry(&call, &attr, DIRECTORY, "new", 3, REPLY_CHECKED, &e));
    assert_true(e.attr_timeout == 0 && e.entry_timeout == 0);
    assert_null(known_attr(cache, kernel_inode_find(cache, 8)));
    lease_applied(cache, f->index);
    assert_non_null(reply_fill_entry(&call, &attr, DIRECTORY, "new", 3, REPLY_CHECKED, &e));
    assert_true(e.attr_timeout > 0);
    assert_non_null(known_attr(cache, kernel_inode_find(cache, 8)));
    assert_true(knows_name(f, "new"));
}

static void is_not_kept_where_the_node_looks_at_permissions(void **state)
{
    struct fixture *f = *state;

    f->fs.hub.uplink.node.trusted = false;
    assert_true(knows_nothing(f));
    know(f);
    f->fs.hub.uplink.node.trusted = true;
    f->options.read_strict = false;
    assert_true(knows_nothing(f));
}

static void a_name_has_moved(void **state)
{
    struct fixture *f = *state;
    const struct attr attr = {.ino = INO, .type = INODE_FILE, .nlink = 1};

    kernel_inode_set_place(&f->fs.cache, f->inode, &attr, DIRECTORY, "moved", 5);
    assert_false(knows_name(f, "name"));
}

/* The kernel counts its time from when the process that has asked goes on: what it was told last is dropped
 * when the lease ends. */
static void what_the_kernel_was_told_last_is_dropped_when_the_lease_ends(void **state)
{
    struct fixture *f = *state;
    struct cache *cache = &f->fs.cache;
    struct kernel_inode *before = kernel_inode_get(cache, 9), *never = kernel_inode_get(cache, 10);
    unsigned wait_ms = 60000;

    assert_true(before != NULL && never != NULL);
    cache->entry_timeout = TIMEOUT_LONG;
    before->told_attr = never->told_attr = f->inode->told_attr = true;
    lease_told(cache, before, 1);
    before->told_until_ms = clock_boot_ms() - 5000; /* by a lease that was renewed since */
    lease_told(cache, never, 0);
    lease_told(cache, f->inode, lease_attr_s(cache, INO));
    assert_true(lease_names_s(cache, DIRECTORY) > 0);
    lease_wait(cache, &wait_ms);
    assert_true(wait_ms > 0 && !notifier_is_pending(f->inode) && !names_are_pending(cache));

    cache->lease.until_ms = clock_boot_ms();
    lease_wait(cache, &wait_ms);
    assert_int_equal(wait_ms, 0);
    assert_true(notifier_is_pending(f->inode) && names_are_pending(cache));
    assert_false(notifier_is_pending(before) || notifier_is_pending(never));

    cache->lease.until_ms = clock_boot_ms() + 60000;
    lease_told(cache, f->inode, lease_attr_s(cache, INO));
    kernel_inode_put(cache, f->inode); /* frees it: it is not in the list any more */
    f->inode = NULL;
    cache->lease.until_ms = clock_boot_ms();
    wait_ms = 60000;
    lease_wait(cache, &wait_ms);
    assert_int_equal(wait_ms, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(is_what_was_told, setup, teardown),
        cmocka_unit_test_setup_teardown(ends_with_an_inval_of_it_and_begins_when_that_is_applied, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(ends_with_the_lease, setup, teardown),
        cmocka_unit_test_setup_teardown(ends_with_a_notification_and_with_the_inode, setup, teardown),
        cmocka_unit_test_setup_teardown(ends_with_an_event_of_it_own_or_not, setup, teardown),
        cmocka_unit_test_setup_teardown(is_not_kept_in_a_directory_whose_names_may_change, setup, teardown),
        cmocka_unit_test_setup_teardown(is_not_kept_where_the_node_looks_at_permissions, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_has_moved, setup, teardown),
        cmocka_unit_test_setup_teardown(what_the_kernel_was_told_last_is_dropped_when_the_lease_ends, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
