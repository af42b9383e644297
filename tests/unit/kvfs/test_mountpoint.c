/* What mountinfo says of a directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "kvfs/mount/mountpoint.h"

static bool is_kvfs(const char *mountinfo, const char *path)
{
    FILE *f = fmemopen((void *)(uintptr_t)mountinfo, strlen(mountinfo), "r");
    bool found;

    assert_non_null(f);
    found = mountpoint_is_kvfs(f, path);
    fclose(f);
    return found;
}

static const char table[] = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
                            "30 22 0:40 / /srv/kv rw,nosuid,nodev - fuse.kvfs n1 rw,user_id=0\n"
                            "31 22 0:41 / /srv/with\\040space\\134 rw shared:5 master:2 - fuse.kvfs n1 rw\n"
                            "32 22 0:42 / /srv/other rw - fuse.kvfsx n1 rw\n"
                            "33 22 0:43 / /srv/covered rw - fuse.kvfs n1 rw\n"
                            "34 33 0:44 / /srv/covered rw - tmpfs tmpfs rw\n"
                            "35 22 0:45 / /srv/covering rw - tmpfs tmpfs rw\n"
                            "36 35 0:46 / /srv/covering rw - fuse.kvfs n1 rw\n"
                            "37 22 0:47 / /srv/short\n"
                            "malformed\n";

static void the_mount_on_top_counts(void **state)
{
    assert_true(is_kvfs(table, "/srv/kv"));
    assert_false(is_kvfs(table, "/srv/k"));
    assert_false(is_kvfs(table, "/srv/kv2"));
    assert_false(is_kvfs(table, "/"));
    assert_false(is_kvfs(table, "/srv/other"));
    assert_false(is_kvfs(table, "/srv/covered"));
    assert_true(is_kvfs(table, "/srv/covering"));
}

static void escapes_are_read(void **state)
{
    assert_true(is_kvfs(table, "/srv/with space\\"));
    assert_false(is_kvfs(table, "/srv/with\\040space\\134"));
}

static void what_is_cut_short_is_skipped(void **state)
{
    assert_false(is_kvfs(table, "/srv/short"));
    assert_false(is_kvfs("30 22 - fuse.kvfs n1 rw\n", "rw"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mount_on_top_counts),
        cmocka_unit_test(escapes_are_read),
        cmocka_unit_test(what_is_cut_short_is_skipped),
    };

    return cmocka_run_group_tests_name("mountpoint", tests, NULL, NULL);
}
