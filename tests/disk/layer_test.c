/* The disk that the other tests here stand on keeps and forgets what it says. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "sync/base/clock.h"
#include "tests/disk/lib/disk.h"

static struct guard *guard;
static struct disk disk;
static char folder[64];

static int setup(void **state)
{
    (void)state;
    if (disk_unavailable() != NULL)
        return 0;
    snprintf(folder, sizeof folder, "/tmp/kvfs-disk-XXXXXX");
    guard = guard_start(60);
    return guard != NULL && mkdtemp(folder) != NULL && disk_start(&disk, guard, folder, 42) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    if (guard == NULL)
        return 0;
    disk_stop(&disk);
    rmdir(folder);
    guard_end(guard);
    guard = NULL;
    return 0;
}

static int at(const char *name, int flags)
{
    char path[128];
    int fd;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    fd = open(path, flags | O_CLOEXEC, 0600);
    return fd;
}

static void sync_folder(const char *name)
{
    int fd = at(name, O_RDONLY | O_DIRECTORY);

    assert_true(fd >= 0);
    assert_int_equal(fsync(fd), 0);
    close(fd);
}

/* Opens, writes at an offset, perhaps syncs; what fsync said. */
static int put(const char *name, off_t offset, const char *text, bool sync)
{
    int fd = at(name, O_RDWR | O_CREAT), rv = 0;

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, text, strlen(text), offset), strlen(text));
    if (sync)
        rv = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    return rv;
}

static const char *get(const char *name)
{
    static char text[4096];
    int fd = at(name, O_RDONLY);
    ssize_t n;

    if (fd < 0)
        return "(missing)";
    n = read(fd, text, sizeof text - 1);
    close(fd);
    assert_true(n >= 0);
    text[n] = '\0';
    return text;
}

static void cut(void)
{
    assert_true(disk_order(&disk, "drop", NULL));
}

static void what_was_not_synced_is_forgotten(void **state)
{
    int fd;
    (void)state;

    disk_needed();
    assert_int_equal(put("a", 0, "one", true), 0);
    sync_folder(".");
    put("a", 3, " two", false);
    put("b", 0, "never synced", false);
    assert_string_equal(get("a"), "one two");
    cut();
    assert_string_equal(get("a"), "one");
    assert_string_equal(get("b"), "(missing)");
    put("a", 0, "three", true);
    fd = at("a", O_RDWR);
    assert_int_equal(ftruncate(fd, 1), 0);
    close(fd);
    assert_string_equal(get("a"), "t");
    cut();
    assert_string_equal(get("a"), "three");
    close(at("a", O_WRONLY | O_TRUNC));
    assert_string_equal(get("a"), "");
    cut();
    assert_string_equal(get("a"), "three");
}

static void names_are_kept_by_an_fsync_of_their_folder(void **state)
{
    char from[128], to[128], sub[128];

    (void)state;
    disk_needed();
    snprintf(from, sizeof from, "%s/from", folder);
    snprintf(sub, sizeof sub, "%s/sub", folder);
    snprintf(to, sizeof to, "%s/sub/to", folder);
    assert_int_equal(mkdir(sub, 0700), 0);
    sync_folder(".");
    assert_int_equal(put("from", 0, "content", true), 0);
    cut(); /* the file was synced, its name not */
    assert_string_equal(get("from"), "(missing)");
    put("from", 0, "content", true);
    sync_folder(".");
    assert_int_equal(rename(from, to), 0);
    assert_string_equal(get("sub/to"), "content");
    cut(); /* both names or none */
    assert_string_equal(get("from"), "content");
    assert_string_equal(get("sub/to"), "(missing)");
    assert_int_equal(rename(from, to), 0);
    sync_folder("sub");
    cut();
    assert_string_equal(get("from"), "(missing)");
    assert_string_equal(get("sub/to"), "content");
    assert_int_equal(unlink(to), 0);
    cut();
    assert_string_equal(get("sub/to"), "content");
    assert_int_equal(unlink(to), 0);
    sync_folder("sub");
    cut();
    assert_string_equal(get("sub/to"), "(missing)");
}

/* The kernel throws away what it could not write; fsync says so once. */
static void after_a_failed_fsync_the_next_one_succeeds_without_writing(void **state)
{
    (void)state;
    disk_needed();
    put("a", 0, "old ", true);
    sync_folder(".");
    assert_true(disk_order(&disk, "fsync-errors 1 a", NULL));
    assert_int_equal(put("a", 0, "new ", true), EIO);
    assert_int_equal(put("a", 4, "tail", true), 0);
    assert_string_equal(get("a"), "new tail");
    cut();
    assert_string_equal(get("a"), "old tail");
}

static void a_lying_disk_keeps_nothing(void **state)
{
    (void)state;
    disk_needed();
    put("a", 0, "old", true);
    sync_folder(".");
    assert_true(disk_order(&disk, "lie 1", NULL));
    assert_int_equal(put("a", 0, "new", true), 0);
    cut();
    assert_string_equal(get("a"), "old");
}

static void without_power_nothing_is_kept_any_more(void **state)
{
    (void)state;
    disk_needed();
    put("a", 0, "old", true);
    sync_folder(".");
    assert_true(disk_order(&disk, "stop", NULL));
    assert_int_equal(put("a", 0, "new", true), EIO);
    cut();
    assert_string_equal(get("a"), "old");
    assert_int_equal(put("a", 0, "new", true), 0);
    cut();
    assert_string_equal(get("a"), "new");
}

static void it_fills_up_fails_to_write_and_is_slow(void **state)
{
    char block[4096], path[128];
    uint64_t begin;
    int fd;

    (void)state;
    disk_needed();
    memset(block, 'x', sizeof block);
    fd = at("a", O_RDWR | O_CREAT);
    assert_int_equal(put("in the way", 0, "xx", true), 0);
    assert_true(disk_order(&disk, "space 4096", NULL));
    assert_int_equal(write(fd, block, sizeof block), sizeof block);
    assert_int_equal(write(fd, block, 1), -1);
    assert_int_equal(errno, ENOSPC);
    snprintf(path, sizeof path, "%s/in the way", folder);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(write(fd, block, 1), 1);
    assert_int_equal(write(fd, block, 2), -1);
    assert_true(disk_order(&disk, "space -1", NULL));
    assert_true(disk_order(&disk, "write-errors 1 other", NULL));
    assert_int_equal(write(fd, block, 1), 1);
    assert_true(disk_order(&disk, "write-errors 1", NULL));
    assert_int_equal(write(fd, block, 1), -1);
    assert_int_equal(errno, EIO);
    assert_int_equal(write(fd, block, 1), 1);
    assert_true(disk_order(&disk, "delay 60", NULL));
    begin = clock_boot_ms();
    assert_int_equal(fsync(fd), 0);
    assert_true(clock_boot_ms() - begin >= 60);
    close(fd);
}

/* Each sector is the old or the new one; over many cuts all kinds are seen. */
static void a_torn_cut_mixes_whole_sectors(void **state)
{
    unsigned all_old = 0, all_new = 0, mixed = 0, i, k;
    char old[4096], new[4096], got[4097];

    (void)state;
    disk_needed();
    memset(old, 'o', sizeof old);
    memset(new, 'n', sizeof new);
    for (i = 0; i < 64; i++) {
        unsigned n = 0;
        int fd = at("a", O_RDWR | O_CREAT);

        assert_int_equal(pwrite(fd, old, sizeof old, 0), sizeof old);
        assert_int_equal(fsync(fd), 0);
        sync_folder(".");
        assert_int_equal(pwrite(fd, new, sizeof new, 0), sizeof new);
        close(fd);
        assert_true(disk_order(&disk, "tear", NULL));
        fd = at("a", O_RDONLY);
        assert_int_equal(read(fd, got, sizeof got), sizeof new);
        close(fd);
        for (k = 0; k < sizeof new; k += 512) {
            assert_memory_equal(got + k, got[k] == 'n' ? new : old, 512);
            n += got[k] == 'n';
        }
        *(n == 0 ? &all_old : n == 8 ? &all_new : &mixed) += 1;
    }
    assert_true(all_old > 0 && all_new > 0 && mixed > 0);
}

static void programs_share_memory_through_it(void **state)
{
    char *one, *two;
    int a, b;

    (void)state;
    disk_needed();
    a = at("shm", O_RDWR | O_CREAT);
    assert_int_equal(ftruncate(a, 4096), 0);
    b = at("shm", O_RDWR);
    one = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, a, 0);
    two = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, b, 0);
    assert_true(one != MAP_FAILED && two != MAP_FAILED);
    one[7] = 'x';
    assert_int_equal(two[7], 'x');
    munmap(one, 4096);
    munmap(two, 4096);
    close(a);
    close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_not_synced_is_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(names_are_kept_by_an_fsync_of_their_folder, setup, teardown),
        cmocka_unit_test_setup_teardown(after_a_failed_fsync_the_next_one_succeeds_without_writing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_lying_disk_keeps_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(without_power_nothing_is_kept_any_more, setup, teardown),
        cmocka_unit_test_setup_teardown(it_fills_up_fails_to_write_and_is_slow, setup, teardown),
        cmocka_unit_test_setup_teardown(a_torn_cut_mixes_whole_sectors, setup, teardown),
        cmocka_unit_test_setup_teardown(programs_share_memory_through_it, setup, teardown),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
