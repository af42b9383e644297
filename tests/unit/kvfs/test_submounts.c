/* What mountinfo says of what is mounted inside a mount; names that the kernel knows to be missing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kvfs/ops/fs.h"

static const char table[] = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
                            "51 31 0:51 / /srv/kv/early rw - tmpfs tmpfs rw\n"
                            "31 22 0:41 / /srv/kv rw shared:5 - fuse.kvfs n1 rw\n"
                            "32 22 0:42 / /srv/kv2 rw - fuse.kvfs n1 rw\n"
                            "33 31 0:43 / /srv/kv/a/with\\040space rw shared:6 - tmpfs tmpfs rw\n"
                            "34 33 0:44 / /srv/kv/a/with\\040space/deeper rw - tmpfs tmpfs rw\n"
                            "35 22 0:41 /sub/dir /mnt/bound rw - fuse.kvfs n1 rw\n"
                            "36 35 254:0 /etc/file /mnt/bound/file rw - ext4 /dev/vda rw\n"
                            "37 32 0:45 / /srv/kv2/other rw - tmpfs tmpfs rw\n"
                            "38 31 0:46 / /srv/kv rw - tmpfs tmpfs rw\n"
                            "39 31 0:47 / /srv/kv/short\n"
                            "malformed\n";

static struct submount_paths read_table(const char *text, const char *device)
{
    FILE *f = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
    struct submount_paths paths;

    assert_non_null(f);
    assert_true(submounts_read(f, device, &paths));
    fclose(f);
    return paths;
}

static void what_is_mounted_inside_is_found_by_its_path_there(void **state)
{
    struct submount_paths paths = read_table(table, "0:41");

    assert_int_equal(paths.n, 3);
    assert_string_equal(paths.paths[0], "/early");
    assert_string_equal(paths.paths[1], "/a/with space");
    assert_string_equal(paths.paths[2], "/sub/dir/file");
    submount_paths_free(&paths);
    assert_int_equal(paths.n, 0);
}

static void another_mount_has_its_own(void **state)
{
    struct submount_paths paths = read_table(table, "0:42");

    assert_int_equal(paths.n, 1);
    assert_string_equal(paths.paths[0], "/other");
    submount_paths_free(&paths);
    paths = read_table(table, "0:4");
    assert_int_equal(paths.n, 0);
    submount_paths_free(&paths);
}

static void names_on_the_way_are_told_from_others(void **state)
{
    struct submount_paths paths = read_table(table, "0:41");

    assert_true(submount_paths_have(&paths, "a"));
    assert_true(submount_paths_have(&paths, "with space"));
    assert_true(submount_paths_have(&paths, "dir"));
    assert_true(submount_paths_have(&paths, "file"));
    assert_false(submount_paths_have(&paths, "with"));
    assert_false(submount_paths_have(&paths, "space"));
    assert_false(submount_paths_have(&paths, "fil"));
    assert_false(submount_paths_have(&paths, "ly"));
    submount_paths_free(&paths);
}

static void their_number_has_a_bound(void **state)
{
    size_t size = 128 * 1024, len;
    char *text = malloc(size);
    struct submount_paths paths;

    assert_non_null(text);
    len = (size_t)snprintf(text, size, "31 22 0:41 / /m rw - fuse.kvfs n1 rw\n");
    for (int i = 0; i < 2 * SUBMOUNT_PATHS_MAX; i++)
        len += (size_t)snprintf(text + len, size - len, "%d 31 0:%d / /m/%d rw - tmpfs t rw\n", 100 + i,
                                100 + i, i);
    assert_true(len < size);
    paths = read_table(text, "0:41");
    assert_int_equal(paths.n, SUBMOUNT_PATHS_MAX);
    submount_paths_free(&paths);
    free(text);
}

/* Names that are missing */

struct fixture {
    struct options options;
    struct fs fs;
    struct kernel_inode *directory;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    assert_int_equal(fs_init(&f->fs, &f->options), 0);
    f->fs.cache.entry_timeout = TIMEOUT_LONG;
    f->directory = kernel_inode_get(&f->fs.cache, 7);
    assert_non_null(f->directory);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    notifier_stop(&f->fs.cache);
    fs_deinit(&f->fs);
    free(f);
    return 0;
}

static void appears(struct fixture *f, uint64_t parent, const char *name)
{
    names_appeared(&f->fs.cache, parent, name, strlen(name));
}

static void only_a_name_that_was_told_to_be_missing_is_wrong_when_it_appears(void **state)
{
    struct fixture *f = *state;
    struct cache *cache = &f->fs.cache;

    appears(f, 7, "a");
    assert_false(names_are_pending(cache));
    assert_true(names_told_missing(cache, f->directory, "a") > 0);
    assert_true(names_told_missing(cache, f->directory, "a") > 0);
    appears(f, 7, "b");
    appears(f, 7, "");
    assert_true(names_are_pending(cache)); /* nobody may tell which: it may be that one */
    names_all_wrong(cache);
}

static void it_is_wrong_once(void **state)
{
    struct fixture *f = *state;
    struct cache *cache = &f->fs.cache;
    struct name_list wrong;
    bool any;

    names_told_missing(cache, f->directory, "a");
    appears(f, 8, "a");
    appears(f, 7, "aa");
    assert_false(names_are_pending(cache));
    appears(f, 7, "a");
    assert_true(names_are_pending(cache));
    names_take_wrong(&cache->names, &wrong, &any);
    assert_false(any);
    assert_string_equal(TAILQ_FIRST(&wrong)->text, "a");
    assert_int_equal(TAILQ_FIRST(&wrong)->parent, 7);
    names_free_list(&wrong);
    appears(f, 7, "a");
    assert_false(names_are_pending(cache));
}

static void so_many_are_remembered_and_then_all_are_dropped(void **state)
{
    struct fixture *f = *state;
    struct cache *cache = &f->fs.cache;
    char name[32];

    for (int i = 0; i < NAMES_MISSING_MAX; i++) {
        snprintf(name, sizeof name, "%d", i);
        assert_true(names_told_missing(cache, f->directory, name) > 0);
    }
    assert_false(names_are_pending(cache));
    assert_true(names_told_missing(cache, f->directory, "one more") <= 0);
    assert_true(names_are_pending(cache));
    names_free_missing(names_take_missing(&cache->names));
    assert_true(names_told_missing(cache, f->directory, "one more") > 0);
}

static void so_many_wrong_ones_are_kept_and_then_all_are(void **state)
{
    struct fixture *f = *state;
    struct cache *cache = &f->fs.cache;
    struct name_list wrong;
    bool any;

    for (int i = 0; i <= NAMES_WRONG_MAX; i++)
        names_wrong(cache, 7, "a", 1);
    names_take_wrong(&cache->names, &wrong, &any);
    assert_true(any);
    assert_null(TAILQ_FIRST(&wrong));
    names_free_list(&wrong);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_mounted_inside_is_found_by_its_path_there),
        cmocka_unit_test(another_mount_has_its_own),
        cmocka_unit_test(names_on_the_way_are_told_from_others),
        cmocka_unit_test(their_number_has_a_bound),
        cmocka_unit_test_setup_teardown(only_a_name_that_was_told_to_be_missing_is_wrong_when_it_appears,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(it_is_wrong_once, setup, teardown),
        cmocka_unit_test_setup_teardown(so_many_are_remembered_and_then_all_are_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(so_many_wrong_ones_are_kept_and_then_all_are, setup, teardown),
    };

    return cmocka_run_group_tests_name("submounts", tests, NULL, NULL);
}
