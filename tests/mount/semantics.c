/* What system calls do on one mount, and when another sees it.
 *
 *   semantics A B
 *
 * Prints TAP. A and B are two mounts of one cluster, both empty at the start. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/lib/look_again.h"

static const char *mounts[2];
static int n_tests, n_failed, problems;

static const char *at(int mount, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static const char *at(int mount, const char *fmt, ...)
{
    static char paths[8][1024];
    static int next;
    char *path = paths[next++ % 8];
    int n = snprintf(path, sizeof paths[0], "%s/", mounts[mount]);
    va_list args;

    va_start(args, fmt);
    vsnprintf(path + n, sizeof paths[0] - (size_t)n, fmt, args);
    va_end(args);
    return path;
}

static void problem(int line, const char *what)
{
    printf("# line %d: %s (errno: %s)\n", line, what, strerror(errno));
    problems++;
}

#define CHECK(fact)                                                                                          \
    do {                                                                                                     \
        if (!(fact))                                                                                         \
            problem(__LINE__, #fact);                                                                        \
    } while (0)

#define CHECK_ERRNO(call, err)                                                                               \
    do {                                                                                                     \
        errno = 0;                                                                                           \
        if ((call) != -1 || errno != (err))                                                                  \
            problem(__LINE__, #call " gives " #err);                                                         \
    } while (0)

static char text_buffer[1 << 16];

static const char *get(const char *path)
{
    int fd = open(path, O_RDONLY);
    ssize_t n;

    if (fd < 0)
        return "(cannot be opened)";
    n = read(fd, text_buffer, sizeof text_buffer - 1);
    close(fd);
    text_buffer[n > 0 ? n : 0] = '\0';
    return text_buffer;
}

static bool shows(int mount, const char *name, const char *text)
{
    return strcmp(get(at(mount, "%s", name)), text) == 0;
}

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    CHECK(fd >= 0);
    CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    CHECK(close(fd) == 0);
}

static int n_entries(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;
    int n = 0;

    while (d != NULL && (e = readdir(d)) != NULL)
        n += e->d_name[0] != '.';
    if (d != NULL)
        closedir(d);
    return n;
}

static int n_versions(const char *name)
{
    return n_entries(at(0, ".versions/%s", name));
}

static void in_child(void (*fn)(int fd), int fd)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        fn(fd);
        _exit(0);
    }
    waitpid(child, &status, 0);
    CHECK(status == 0);
}

static void nothing(int fd)
{
    close(fd);
}

static void write_more(int fd)
{
    if (write(fd, "child", 5) != 5 || close(fd) != 0)
        _exit(1);
}

static void a_forked_child_publishes_nothing_half_written(void)
{
    int fd = open(at(0, "fork"), O_WRONLY | O_CREAT, 0644);

    CHECK(write(fd, "half", 4) == 4);
    in_child(nothing, fd);
    CHECK(shows(1, "fork", ""));
    CHECK(write(fd, "whole", 5) == 5);
    CHECK(close(fd) == 0);
    CHECK(shows(1, "fork", "halfwhole"));
    CHECK(n_versions("fork") == 1);
}

static void a_child_that_writes_publishes(void)
{
    int fd = open(at(0, "fork2"), O_WRONLY | O_CREAT, 0644);

    in_child(write_more, fd);
    CHECK(shows(1, "fork2", "child"));
    close(fd);
    CHECK(n_versions("fork2") == 1);
}

static void run_true(int fd)
{
    execl("/bin/true", "true", (char *)NULL);
    _exit(1);
}

/* The descriptor is closed in the middle of execve(2), when much of what /proc
 * tells about the process cannot be read. */
static void a_program_started_meanwhile_publishes_nothing(void)
{
    int fd = open(at(0, "exec"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    CHECK(write(fd, "half", 4) == 4);
    in_child(run_true, fd);
    CHECK(shows(1, "exec", ""));
    CHECK(write(fd, "whole", 5) == 5);
    CHECK(close(fd) == 0);
    CHECK(shows(1, "exec", "halfwhole"));
    CHECK(n_versions("exec") == 1);
    /* Emptied only: whether others hold it is looked up as well. */
    fd = open(at(0, "exec"), O_WRONLY | O_TRUNC | O_CLOEXEC);
    in_child(run_true, fd);
    CHECK(shows(1, "exec", "halfwhole"));
    CHECK(close(fd) == 0);
    CHECK(shows(1, "exec", ""));
    CHECK(n_versions("exec") == 2);
}

static void write_and_run(int fd)
{
    if (write(fd, "before", 6) != 6)
        _exit(1);
    run_true(fd);
}

static void a_process_that_writes_and_becomes_another_publishes(void)
{
    int fd = open(at(0, "exec2"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    in_child(write_and_run, fd);
    CHECK(shows(1, "exec2", "before"));
    close(fd);
    CHECK(n_versions("exec2") == 1);
}

static void *open_and_write(void *arg)
{
    int *fd = arg;

    *fd = open(at(0, "thread"), O_WRONLY | O_CREAT, 0644);
    CHECK(write(*fd, "threads", 7) == 7);
    return NULL;
}

static void what_an_ended_thread_wrote_is_its_process_s(void)
{
    pthread_t t;
    int fd = -1;

    pthread_create(&t, NULL, open_and_write, &fd);
    pthread_join(t, NULL);
    CHECK(close(fd) == 0);
    CHECK(shows(1, "thread", "threads"));
}

static void others_see_it_when_it_is_closed_or_synced(void)
{
    int fd = open(at(0, "when"), O_RDWR | O_CREAT, 0644);
    char got[8] = "";

    CHECK(write(fd, "one", 3) == 3);
    CHECK(shows(0, "when", "one"));
    CHECK(shows(1, "when", ""));
    CHECK(fsync(fd) == 0);
    CHECK(shows(1, "when", "one"));
    CHECK(pwrite(fd, "X", 1, 1) == 1);
    CHECK(pread(fd, got, 8, 0) == 3 && memcmp(got, "oXe", 3) == 0);
    CHECK(shows(0, "when", "oXe"));
    CHECK(shows(1, "when", "one"));
    CHECK(close(fd) == 0);
    CHECK(shows(1, "when", "oXe"));
}

static void what_stays_open_is_published_after_the_commit_time(void)
{
    int fd = open(at(0, "logger"), O_WRONLY | O_CREAT | O_APPEND, 0644);
    uint64_t until = 0;

    CHECK(write(fd, "line\n", 5) == 5);
    while (!shows(1, "logger", "line\n") && look_again(&until, 8000))
        ;
    CHECK(shows(1, "logger", "line\n"));
    close(fd);
}

static void maps_are_published(void)
{
    int fd = open(at(0, "map"), O_RDWR | O_CREAT, 0644);
    uint64_t until = 0;
    char *map;

    CHECK(ftruncate(fd, 8192) == 0);
    map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    close(fd);
    memcpy(map, "mapped", 6);
    memcpy(map + 5000, "far", 3);
    CHECK(msync(map, 8192, MS_SYNC) == 0);
    CHECK(memcmp(get(at(0, "map")), "mapped", 6) == 0);
    memcpy(map, "MAPPED", 6);
    munmap(map, 8192); /* written behind, with the last release */
    while (memcmp(get(at(1, "map")), "MAPPED", 6) != 0 && look_again(&until, 8000))
        ;
    CHECK(memcmp(get(at(1, "map")), "MAPPED", 6) == 0);
    CHECK(memcmp(text_buffer + 5000, "far", 3) == 0);
}

/* Mount 0 has been told of everything until now: of a name that comes after it, too. */
static void wait_for_events(const char *name)
{
    uint64_t until = 0;
    struct stat st;

    CHECK_ERRNO(stat(at(0, "%s", name), &st), ENOENT); /* which it remembers */
    put(at(1, "%s", name), "");
    while (stat(at(0, "%s", name), &st) != 0 && look_again(&until, 10000))
        ;
    CHECK(stat(at(0, "%s", name), &st) == 0);
}

static void an_unlinked_file_lives_while_it_is_open(void)
{
    int fd = open(at(0, "unlinked"), O_RDWR | O_CREAT, 0644), other;
    struct stat st;
    char got[32] = "", path[64];

    CHECK(write(fd, "before ", 7) == 7);
    fsync(fd);
    CHECK(unlink(at(0, "unlinked")) == 0);
    CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 7);
    CHECK(write(fd, "after", 5) == 5);
    wait_for_events("after-unlinked");
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    CHECK(pread(fd, got, sizeof got, 0) == 12 && memcmp(got, "before after", 12) == 0);
    CHECK(fstat(fd, &st) == 0 && st.st_size == 12);
    CHECK(ftruncate(fd, 3) == 0);
    CHECK(pread(fd, got, sizeof got, 0) == 3);
    CHECK(fchmod(fd, 0600) == 0);
    CHECK(fsync(fd) == 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    other = open(path, O_RDONLY);
    CHECK(other >= 0 && read(other, got, sizeof got) == 3);
    close(other);
    CHECK(close(fd) == 0);
    CHECK_ERRNO(open(at(0, "unlinked"), O_RDONLY), ENOENT);
}

static void what_is_written_to_a_file_removed_elsewhere_goes_with_it(void)
{
    char got[8];
    int fd = open(at(0, "removed"), O_RDWR | O_CREAT, 0644);
    uint64_t until = 0;
    struct stat st;

    CHECK(write(fd, "x", 1) == 1);
    fsync(fd);
    CHECK(unlink(at(1, "removed")) == 0);
    while (fstat(fd, &st) == 0 && st.st_nlink != 0 && look_again(&until, 10000))
        ;
    CHECK(st.st_nlink == 0);
    CHECK(write(fd, "y", 1) == 1);
    CHECK(pread(fd, got, sizeof got, 0) == 2 && memcmp(got, "xy", 2) == 0);
    CHECK(close(fd) == 0); /* as on a local disk: it has gone with the file */
    CHECK_ERRNO(open(at(0, "removed"), O_RDONLY), ENOENT);
}

/* Its writes go past the kernel's pages; what fcntl makes of a handle afterwards does not change that. */
static void what_only_appends_is_seen_by_who_has_read(void)
{
    int w, r = open(at(0, "log"), O_RDWR | O_CREAT, 0644);
    struct timespec begun, ended;
    char got[16];

    CHECK(write(r, "abc", 3) == 3 && fsync(r) == 0);
    CHECK(pread(r, got, sizeof got, 0) == 3);
    w = open(at(0, "log"), O_WRONLY | O_APPEND);
    for (int i = 0; i < 50; i++) {
        CHECK(write(w, "de", 2) == 2);
        CHECK(pread(r, got, 2, 3 + 2 * i) == 2 && memcmp(got, "de", 2) == 0);
    }
    CHECK(fcntl(w, F_SETFL, 0) == 0 && pwrite(w, "X", 1, 0) == 1);
    CHECK(pread(r, got, 4, 0) == 4 && memcmp(got, "Xbcd", 4) == 0);
    CHECK(close(w) == 0);
    /* As make(1) does with what its shell has opened. */
    w = open(at(0, "log"), O_WRONLY | O_TRUNC);
    CHECK(fcntl(w, F_SETFL, O_APPEND) == 0);
    clock_gettime(CLOCK_MONOTONIC, &begun);
    for (int i = 0; i < 3; i++) {
        CHECK(write(w, "fg", 2) == 2);
        CHECK(pread(r, got, 2, 2 * i) == 2 && memcmp(got, "fg", 2) == 0);
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    CHECK(ended.tv_sec - begun.tv_sec < 4); /* a call that hangs ends after 5 s */
    CHECK(close(w) == 0 && close(r) == 0);
}

static void sizes_and_holes(void)
{
    int fd = open(at(0, "size"), O_RDWR | O_CREAT, 0644);
    char got[64];
    struct stat st;

    CHECK(pwrite(fd, "end", 3, 20) == 3);
    CHECK(pread(fd, got, sizeof got, 0) == 23);
    CHECK(got[0] == 0 && got[19] == 0 && memcmp(got + 20, "end", 3) == 0);
    CHECK(ftruncate(fd, 21) == 0);
    CHECK(ftruncate(fd, 30) == 0);
    CHECK(pread(fd, got, sizeof got, 0) == 30 && got[20] == 'e' && got[21] == 0 && got[29] == 0);
    CHECK(fallocate(fd, 0, 0, 40) == 0);
    CHECK(fstat(fd, &st) == 0 && st.st_size == 40 && st.st_blocks > 0);
    CHECK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 4096) == 0);
    CHECK_ERRNO(fallocate(fd, 0, 0, (off_t)1 << 40), EFBIG);
    CHECK_ERRNO(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)1 << 40), EFBIG);
    CHECK(close(fd) == 0);
    fd = open(at(1, "size"), O_RDONLY);
    CHECK(fstat(fd, &st) == 0 && st.st_size == 40);
    close(fd);
    CHECK(truncate(at(0, "size"), 5) == 0);
    fd = open(at(1, "size"), O_RDONLY);
    CHECK(fstat(fd, &st) == 0 && st.st_size == 5);
    close(fd);
    CHECK_ERRNO(truncate(at(0, "size"), (off_t)1 << 40), EFBIG);
    fd = open(at(0, "size"), O_RDWR);
    CHECK_ERRNO(pwrite(fd, "x", 1, (off_t)1 << 40), EFBIG);
    CHECK_ERRNO(ftruncate(fd, (off_t)1 << 40), EFBIG);
    close(fd);
    CHECK(stat(at(0, "size"), &st) == 0 && st.st_size == 5);
}

/* That a file on both mounts has these bytes and no others. */
static bool is_like(const char *name, const char *bytes, size_t len)
{
    for (int m = 0; m < 2; m++) {
        int fd = open(at(m, "%s", name), O_RDONLY);
        char *got = malloc(len + 1);
        bool same = fd >= 0 && got != NULL && pread(fd, got, len + 1, 0) == (ssize_t)len &&
                    memcmp(got, bytes, len) == 0;

        free(got);
        close(fd);
        if (!same)
            return false;
    }
    return true;
}

static void ranges_are_zeroed(void)
{
    static char big[3 * 1024 * 1024 + 100];
    char bytes[64], got[64];
    struct stat st;
    int fd = open(at(0, "zeroed"), O_RDWR | O_CREAT, 0644);
    char *map;

    memset(bytes, 'x', sizeof bytes);
    CHECK(pwrite(fd, bytes, 40, 0) == 40);
    CHECK(pread(fd, got, 40, 0) == 40); /* it is in the kernel's pages, too */
    map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED && map[5] == 'x');
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4, 4) == 0);
    memset(bytes + 4, 0, 4);
    CHECK(map[3] == 'x' && map[4] == 0 && map[7] == 0 && map[8] == 'x');
    CHECK(pread(fd, got, 64, 0) == 40 && memcmp(got, bytes, 40) == 0);
    /* Beyond the end there is nothing to be zeroed. */
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 36, 1000) == 0);
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 1000) == 0);
    CHECK(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 38, 100) == 0);
    memset(bytes + 36, 0, 4);
    CHECK(fstat(fd, &st) == 0 && st.st_size == 40);
    CHECK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 20, 2) == 0);
    memset(bytes + 20, 0, 2);
    CHECK(fstat(fd, &st) == 0 && st.st_size == 40);
    CHECK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 30, 20) == 0);
    memset(bytes + 30, 0, 20);
    CHECK(fstat(fd, &st) == 0 && st.st_size == 50);
    CHECK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 55, 5) == 0);
    memset(bytes + 50, 0, 10);
    CHECK(pread(fd, got, 64, 0) == 60 && memcmp(got, bytes, 60) == 0);
    munmap(map, 4096);
    CHECK(close(fd) == 0 && is_like("zeroed", bytes, 60));

    /* What is published already, over more than is staged at once. */
    memset(big, 'y', sizeof big);
    fd = open(at(0, "zeroed"), O_RDWR | O_TRUNC);
    CHECK(write(fd, big, sizeof big) == (ssize_t)sizeof big && fsync(fd) == 0);
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 7, sizeof big - 14) == 0);
    memset(big + 7, 0, sizeof big - 14);
    CHECK(pread(fd, got, 14, 0) == 14 && memcmp(got, big, 14) == 0);
    CHECK(close(fd) == 0 && is_like("zeroed", big, sizeof big));

    fd = open(at(0, "zeroed"), O_RDWR);
    CHECK_ERRNO(fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, (off_t)1 << 40), EFBIG);
    CHECK_ERRNO(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), EOPNOTSUPP);
    CHECK_ERRNO(fallocate(fd, FALLOC_FL_INSERT_RANGE, 0, 4096), EOPNOTSUPP);
    CHECK(close(fd) == 0 && is_like("zeroed", big, sizeof big));
}

/* All of a file is data. */
static void data_and_holes_are_sought(void)
{
    int fd = open(at(0, "sought"), O_RDWR | O_CREAT, 0644), other;

    CHECK_ERRNO(lseek(fd, 0, SEEK_DATA), ENXIO);
    CHECK_ERRNO(lseek(fd, 0, SEEK_HOLE), ENXIO);
    CHECK(ftruncate(fd, 100000) == 0);
    CHECK(lseek(fd, 0, SEEK_DATA) == 0);
    CHECK(lseek(fd, 99999, SEEK_DATA) == 99999);
    CHECK(lseek(fd, 0, SEEK_HOLE) == 100000);
    CHECK(lseek(fd, 99999, SEEK_HOLE) == 100000);
    CHECK(lseek(fd, 0, SEEK_CUR) == 100000);
    CHECK_ERRNO(lseek(fd, 100000, SEEK_DATA), ENXIO);
    CHECK_ERRNO(lseek(fd, 100000, SEEK_HOLE), ENXIO);
    CHECK_ERRNO(lseek(fd, -1, SEEK_DATA), ENXIO);
    CHECK(close(fd) == 0);
    fd = open(at(1, "sought"), O_RDONLY);
    CHECK(lseek(fd, 0, SEEK_HOLE) == 100000);
    other = open(at(0, "sought"), O_WRONLY);
    CHECK(ftruncate(other, 10) == 0 && close(other) == 0);
    other = open(at(1, "sought"), O_RDONLY);
    CHECK(lseek(other, 0, SEEK_HOLE) == 10);
    close(other);
    close(fd);
}

static ssize_t copy_range(int from, off_t at_from, int to, off_t at_to, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = copy_file_range(from, &at_from, to, &at_to, len - done, 0);

        if (n < 0)
            return n;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

static void ranges_are_copied(void)
{
    static char big[2 * 1024 * 1024 + 12345];
    int from = open(at(0, "copied"), O_RDWR | O_CREAT, 0644),
        to = open(at(0, "copy"), O_RDWR | O_CREAT, 0644);
    char got[64];
    struct stat st;

    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (char)(i * 7 + i / 1000);
    CHECK(write(from, big, sizeof big) == (ssize_t)sizeof big);
    /* Of what is staged only, over pages that are known. */
    CHECK(write(to, "0123456789", 10) == 10 && pread(to, got, 10, 0) == 10);
    CHECK(copy_range(from, 100, to, 5, 3) == 3);
    CHECK(pread(to, got, 64, 0) == 10 && memcmp(got, "01234", 5) == 0 && memcmp(got + 5, big + 100, 3) == 0 &&
          memcmp(got + 8, "89", 2) == 0);
    /* All of it, partly published and partly not, and no more than there is. */
    CHECK(fsync(from) == 0 && pwrite(from, "edited", 6, 1000000) == 6);
    memcpy(big + 1000000, "edited", 6);
    CHECK(copy_range(from, 0, to, 0, sizeof big + 1000) == (ssize_t)sizeof big);
    CHECK(fstat(to, &st) == 0 && st.st_size == (off_t)sizeof big);
    CHECK(copy_range(from, sizeof big, to, 0, 10) == 0);
    CHECK(close(to) == 0 && close(from) == 0);
    CHECK(is_like("copy", big, sizeof big));

    /* Within one file; and the source on this mount is as it was written on another. */
    to = open(at(1, "copy"), O_RDWR);
    CHECK(copy_range(to, 0, to, 1000000, 500000) == 500000);
    memcpy(big + 1000000, big, 500000);
    CHECK(close(to) == 0 && is_like("copy", big, sizeof big));

    /* A file that was removed; a version, which the kernel copies by itself; too far. */
    from = open(at(0, "copy"), O_RDONLY);
    CHECK(unlink(at(0, "copy")) == 0);
    to = open(at(0, "copied"), O_RDWR | O_TRUNC);
    CHECK(copy_range(from, 0, to, 0, sizeof big) == (ssize_t)sizeof big);
    CHECK(fsync(to) == 0 && is_like("copied", big, sizeof big));
    close(from);
    from = open(at(0, ".versions/copied/1"), O_RDONLY);
    CHECK(from >= 0 && copy_range(from, 0, to, 0, 10) == 10);
    close(from);
    from = open(at(0, "sought"), O_RDONLY);
    CHECK_ERRNO(copy_range(from, 0, to, (off_t)1 << 40, 10), EFBIG);
    close(from);
    CHECK(close(to) == 0);
}

static void appends_go_to_the_end(void)
{
    int fd = open(at(0, "append"), O_RDWR | O_CREAT | O_APPEND, 0644), other;
    char got[64] = "";

    CHECK(write(fd, "a", 1) == 1);
    CHECK(pwrite(fd, "b", 1, 0) == 1); /* Linux appends */
    other = open(at(1, "append"), O_WRONLY | O_APPEND);
    CHECK(write(other, "other", 5) == 5);
    CHECK(close(other) == 0);
    CHECK(write(fd, "c", 1) == 1);
    CHECK(close(fd) == 0);
    snprintf(got, sizeof got, "%s", get(at(1, "append")));
    CHECK(strcmp(got, "otherabc") == 0);
    CHECK(shows(0, "append", "otherabc"));
}

static void explicit_times_win(void)
{
    const struct timespec times[2] = {{.tv_sec = 5}, {.tv_sec = 1000000000, .tv_nsec = 123456789}};
    int fd = open(at(0, "times"), O_WRONLY | O_CREAT, 0644);
    struct stat st;

    CHECK(write(fd, "x", 1) == 1);
    CHECK(futimens(fd, times) == 0);
    CHECK(fstat(fd, &st) == 0 && st.st_mtim.tv_sec == 1000000000);
    CHECK(close(fd) == 0);
    fd = open(at(1, "times"), O_RDONLY); /* stat() alone may be a moment behind */
    CHECK(fstat(fd, &st) == 0 && st.st_mtim.tv_sec == 1000000000 && st.st_mtim.tv_nsec == 123456789);
    close(fd);
    CHECK(n_versions("times") == 1);
    CHECK(utimensat(AT_FDCWD, at(0, "times"), NULL, 0) == 0);
    CHECK(stat(at(0, "times"), &st) == 0 && st.st_mtim.tv_sec > 1000000000);
    CHECK(n_versions("times") == 1);
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool later(struct timespec a, struct timespec b)
{
    return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

/* On both mounts; by a descriptor, as stat() alone may be a moment behind. */
static void check_times(const char *name, const struct timespec want[2])
{
    struct stat st;
    int m, fd;

    for (m = 0; m < 2; m++) {
        fd = open(at(m, "%s", name), O_RDONLY);
        CHECK(fstat(fd, &st) == 0 && same_time(st.st_atim, want[0]) && same_time(st.st_mtim, want[1]));
        close(fd);
    }
}

static void both_times_are_kept_as_they_were_set(void)
{
    static const struct timespec pairs[][2] = {
        {{1000000000, 0}, {1500000000, 0}},
        {{-315619200, 1}, {-1, 999999999}},
        {{INT64_C(1) << 31, 5}, {INT64_C(1) << 32, 7}},
        {{0, 0}, {123456789, 123456789}},
    };
    static const struct timespec only_mtime[2] = {{0, UTIME_OMIT}, {42, 43}};
    struct timespec want[2];
    struct stat before, st;
    unsigned i;
    int fd;

    put(at(0, "both"), "x");
    for (i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        CHECK(utimensat(AT_FDCWD, at(0, "both"), pairs[i], 0) == 0);
        check_times("both", pairs[i]);
        /* and with data that is not published yet */
        fd = open(at(0, "both"), O_WRONLY);
        CHECK(pwrite(fd, "y", 1, (off_t)i) == 1 && futimens(fd, pairs[i]) == 0);
        CHECK(fstat(fd, &st) == 0 && same_time(st.st_atim, pairs[i][0]) &&
              same_time(st.st_mtim, pairs[i][1]));
        CHECK(close(fd) == 0);
        check_times("both", pairs[i]);
    }
    want[0] = pairs[i - 1][0];
    want[1] = only_mtime[1];
    CHECK(utimensat(AT_FDCWD, at(0, "both"), only_mtime, 0) == 0);
    check_times("both", want);
    CHECK(strcmp(get(at(0, "both")), "yyyy") == 0); /* reading is not a change */
    check_times("both", want);
    CHECK(stat(at(0, "both"), &before) == 0);
    CHECK(utimensat(AT_FDCWD, at(0, "both"), NULL, 0) == 0);
    CHECK(stat(at(0, "both"), &st) == 0 && same_time(st.st_atim, st.st_mtim));
    CHECK(later(st.st_mtim, before.st_ctim));
}

static bool birth(const char *path, struct timespec *out)
{
    struct statx stx;

    if (statx(AT_FDCWD, path, 0, STATX_BASIC_STATS | STATX_BTIME, &stx) != 0 ||
        (stx.stx_mask & STATX_BTIME) == 0)
        return false;
    *out = (struct timespec){.tv_sec = stx.stx_btime.tv_sec, .tv_nsec = stx.stx_btime.tv_nsec};
    return true;
}

static void a_file_has_a_time_of_birth(void)
{
    struct timespec born, again, other;
    struct statx stx;
    struct utsname u;
    int major = 0, minor = 0;
    struct stat st;

    CHECK(uname(&u) == 0 && sscanf(u.release, "%d.%d", &major, &minor) == 2);
    if (major < 6 || (major == 6 && minor < 6))
        return; /* such a kernel does not ask */
    CHECK(mkdir(at(0, "birth"), 0755) == 0 && stat(at(0, "birth"), &st) == 0);
    put(at(0, "birth/f"), "one");
    CHECK(birth(at(0, "birth/f"), &born) && later(born, st.st_mtim));
    put(at(1, "birth/f"), "two");
    CHECK(rename(at(0, "birth/f"), at(0, "birth/g")) == 0);
    CHECK(shows(1, "birth/g", "two"));
    CHECK(birth(at(0, "birth/g"), &again) && same_time(again, born));
    CHECK(birth(at(1, "birth/g"), &other) && same_time(other, born));
    /* and the rest is as by stat(2) */
    CHECK(statx(AT_FDCWD, at(1, "birth/g"), AT_STATX_FORCE_SYNC, STATX_BASIC_STATS | STATX_BTIME, &stx) == 0);
    CHECK(stat(at(1, "birth/g"), &st) == 0);
    CHECK(stx.stx_ino == st.st_ino && stx.stx_size == 3 && stx.stx_mode == st.st_mode &&
          stx.stx_uid == st.st_uid && stx.stx_nlink == 1 && stx.stx_mtime.tv_sec == st.st_mtim.tv_sec &&
          stx.stx_mtime.tv_nsec == (unsigned)st.st_mtim.tv_nsec &&
          stx.stx_blksize == (unsigned)st.st_blksize);
    CHECK(birth(at(0, "."), &again) && birth(at(0, ".versions"), &again));
    CHECK(birth(at(0, "birth/.versions/g/1"), &again) && birth(at(0, ".kvfs"), &again));
    CHECK_ERRNO(statx(AT_FDCWD, at(0, "birth/f"), 0, STATX_BTIME, &stx), ENOENT);
    CHECK(birth(at(0, "birth/g"), &again)); /* nothing has turned it off */
}

static void what_is_written_later_is_later_and_closing_is_no_change(void)
{
    struct timespec last = {0};
    struct stat open_st, st;
    int i, fd;

    for (i = 0; i < 40; i++) {
        /* Made by the leader's clock and written by this mount's. */
        CHECK(mkdir(at(0, "later%d", i), 0755) == 0 && stat(at(0, "later%d", i), &st) == 0);
        CHECK(later(st.st_mtim, last));
        last = st.st_mtim;
        fd = open(at(0, "later%d/f", i), O_WRONLY | O_CREAT, 0644);
        CHECK(write(fd, "x", 1) == 1 && fstat(fd, &open_st) == 0);
        if (i % 2 != 0)
            CHECK(fsync(fd) == 0);
        CHECK(close(fd) == 0 && stat(at(0, "later%d/f", i), &st) == 0);
        CHECK(same_time(st.st_mtim, open_st.st_mtim) && same_time(st.st_ctim, open_st.st_ctim));
        CHECK(later(st.st_mtim, last));
        last = st.st_mtim;
        fd = open(at(1, "later%d/f", i), O_RDONLY);
        CHECK(fstat(fd, &st) == 0 && same_time(st.st_mtim, open_st.st_mtim));
        close(fd);
        /* What another mount writes, having seen that, is later. */
        put(at(1, "later%d/g", i), "x");
        CHECK(stat(at(1, "later%d/g", i), &st) == 0 && later(st.st_mtim, last));
        last = st.st_mtim;
    }
}

static void modes_and_owners(void)
{
    struct stat st;
    int fd;

    umask(027);
    fd = open(at(0, "mode"), O_WRONLY | O_CREAT, 0666);
    umask(022);
    CHECK(fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0640);
    CHECK(write(fd, "x", 1) == 1);
    CHECK(fchmod(fd, 0444) == 0);
    CHECK(shows(1, "mode", "x")); /* published before the mode was changed */
    CHECK(write(fd, "y", 1) == 1);
    CHECK(close(fd) == 0); /* and what is open may be written on */
    CHECK(shows(1, "mode", "xy"));
    CHECK(stat(at(1, "mode"), &st) == 0 && (st.st_mode & 07777) == 0444);
    if (geteuid() == 0) {
        CHECK(chown(at(0, "mode"), 1234, 5678) == 0);
        CHECK(stat(at(0, "mode"), &st) == 0 && st.st_uid == 1234 && st.st_gid == 5678);
        CHECK(chmod(at(0, "mode"), 04755) == 0);
        CHECK(stat(at(0, "mode"), &st) == 0 && (st.st_mode & 07777) == 04755);
    }
}

static int exchange(const char *a, const char *b)
{
    return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
}

static bool is_directory(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* What the kernel remembers of a name follows within milliseconds; five seconds are the bound. */
static bool becomes_directory(const char *path)
{
    uint64_t until = 0;

    while (!is_directory(path) && look_again(&until, 5000))
        ;
    return is_directory(path);
}

static void two_names_are_exchanged(void)
{
    char got[8];
    int fd;

    CHECK(mkdir(at(0, "xch"), 0755) == 0 && mkdir(at(0, "xch/sub"), 0755) == 0);
    put(at(0, "xch/a"), "a");
    put(at(0, "xch/sub/b"), "b");
    put(at(0, "xch/sub/c"), "c");
    /* Both mounts know them under their old names. */
    CHECK(shows(1, "xch/a", "a") && shows(1, "xch/sub/b", "b") && shows(0, "xch/sub/b", "b"));
    CHECK(exchange(at(0, "xch/a"), at(0, "xch/sub/b")) == 0);
    CHECK(shows(0, "xch/a", "b") && shows(0, "xch/sub/b", "a"));
    CHECK(shows(1, "xch/a", "b") && shows(1, "xch/sub/b", "a"));
    CHECK(n_entries(at(0, "xch/.versions/a")) == 2 && n_entries(at(1, "xch/sub/.versions/b")) == 2);

    /* A file with a directory, on the other mount. */
    CHECK(exchange(at(1, "xch/a"), at(1, "xch/sub")) == 0);
    CHECK(becomes_directory(at(0, "xch/a")));
    CHECK(shows(0, "xch/a/c", "c") && shows(1, "xch/a/c", "c") && shows(0, "xch/sub", "b"));

    /* What is not published yet goes where its file goes. */
    fd = open(at(0, "xch/a/c"), O_RDWR);
    CHECK(pwrite(fd, "C", 1, 0) == 1);
    CHECK(exchange(at(0, "xch/sub"), at(0, "xch/a/c")) == 0);
    CHECK(shows(0, "xch/sub", "C") && shows(1, "xch/sub", "C") && shows(1, "xch/a/c", "b"));
    CHECK(pwrite(fd, "D", 1, 0) == 1 && pread(fd, got, 8, 0) == 1 && got[0] == 'D');
    CHECK(close(fd) == 0);
    CHECK(shows(1, "xch/sub", "D") && shows(1, "xch/a/c", "b"));

    CHECK_ERRNO(exchange(at(0, "xch/sub"), at(0, "xch/none")), ENOENT);
    CHECK_ERRNO(exchange(at(0, "xch"), at(0, "xch/a/c")), EINVAL);
    CHECK_ERRNO(exchange(at(0, "xch/a/c"), at(0, "xch")), EINVAL);
    CHECK_ERRNO(
        renameat2(AT_FDCWD, at(0, "xch/a"), AT_FDCWD, at(0, "xch/sub"), RENAME_EXCHANGE | RENAME_NOREPLACE),
        EINVAL);
}

static void renames(void)
{
    struct stat st;
    int fd;

    put(at(0, "ren-a"), "a");
    put(at(0, "ren-b"), "b");
    CHECK_ERRNO(renameat2(AT_FDCWD, at(0, "ren-a"), AT_FDCWD, at(0, "ren-b"), RENAME_NOREPLACE), EEXIST);
    CHECK(renameat2(AT_FDCWD, at(0, "ren-a"), AT_FDCWD, at(0, "ren-c"), RENAME_NOREPLACE) == 0);
    CHECK(rename(at(0, "ren-c"), at(0, "ren-b")) == 0);
    CHECK(shows(0, "ren-b", "a") && shows(1, "ren-b", "a"));
    CHECK(stat(at(0, "ren-c"), &st) == -1);
    /* What is staged goes with the name. */
    fd = open(at(0, "ren-d"), O_WRONLY | O_CREAT, 0644);
    CHECK(write(fd, "staged", 6) == 6);
    CHECK(rename(at(0, "ren-d"), at(0, "ren-b")) == 0);
    CHECK(shows(1, "ren-b", "staged"));
    CHECK(write(fd, "+", 1) == 1);
    CHECK(close(fd) == 0);
    CHECK(shows(1, "ren-b", "staged+"));
    CHECK(mkdir(at(0, "ren-dir"), 0755) == 0 && mkdir(at(0, "ren-dir2"), 0755) == 0);
    put(at(0, "ren-dir2/x"), "x");
    CHECK_ERRNO(rename(at(0, "ren-dir"), at(0, "ren-dir2")), ENOTEMPTY);
    CHECK_ERRNO(rename(at(0, "ren-b"), at(0, "ren-dir")), EISDIR);
    CHECK_ERRNO(rename(at(0, "ren-dir"), at(0, "ren-b")), ENOTDIR);
    CHECK_ERRNO(rename(at(0, "ren-dir2"), at(0, "ren-dir2/sub")), EINVAL);
    CHECK(rename(at(0, "ren-dir2"), at(0, "ren-dir")) == 0);
    CHECK_ERRNO(rmdir(at(0, "ren-dir")), ENOTEMPTY);
    CHECK_ERRNO(unlink(at(0, "ren-dir")), EISDIR);
    CHECK_ERRNO(rmdir(at(0, "ren-b")), ENOTDIR);
}

static void refusals(void)
{
    char name[300];
    int fd;

    memset(name, 'n', 256);
    name[256] = '\0';
    CHECK_ERRNO(open(at(0, "%s", name), O_WRONLY | O_CREAT, 0644), ENAMETOOLONG);
    CHECK_ERRNO(mkdir(at(0, "%s", name), 0755), ENAMETOOLONG);
    name[255] = '\0';
    fd = open(at(0, "%s", name), O_WRONLY | O_CREAT, 0644);
    CHECK(fd >= 0);
    close(fd);
    CHECK(unlink(at(0, "%s", name)) == 0);
    CHECK_ERRNO(mknod(at(0, "device"), S_IFCHR | 0644, 0), EPERM);
    CHECK(mknod(at(0, "regular"), S_IFREG | 0644, 0) == 0);
    CHECK_ERRNO(mknod(at(0, "regular"), S_IFREG | 0644, 0), EEXIST);
    CHECK_ERRNO(link(at(0, "regular"), at(0, "regular")), EEXIST);
    CHECK_ERRNO(open(at(0, "."), O_TMPFILE | O_WRONLY, 0644), EOPNOTSUPP);
    CHECK_ERRNO(open(at(0, "regular"), O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
    CHECK_ERRNO(open(at(0, "regular/x"), O_RDONLY), ENOTDIR);
    CHECK_ERRNO(open(at(0, "missing/x"), O_WRONLY | O_CREAT, 0644), ENOENT);
    CHECK_ERRNO(mkdir(at(0, "regular"), 0755), EEXIST);
    CHECK(symlink("loop2", at(0, "loop1")) == 0 && symlink("loop1", at(0, "loop2")) == 0);
    CHECK_ERRNO(open(at(0, "loop1"), O_RDONLY), ELOOP);
    CHECK_ERRNO((int)getxattr(at(0, "regular"), "user.other", name, 10), ENODATA);
    CHECK_ERRNO((int)getxattr(at(0, "regular"), "security.selinux", name, 10), EOPNOTSUPP);
    CHECK(listxattr(at(0, "regular"), NULL, 0) == 0);
}

static void attributes_of_its_own(void)
{
    char value[64] = "";
    ssize_t n;

    put(at(0, "xattr"), "1");
    put(at(0, "xattr"), "2");
    n = getxattr(at(0, "xattr"), "user.kv.version", value, sizeof value);
    CHECK(n == 1 && value[0] == '2');
    CHECK(getxattr(at(0, "xattr"), "user.kv.version", NULL, 0) == 1);
    n = getxattr(at(0, "xattr"), "user.kv.revision", value, sizeof value);
    CHECK(n > 2 && memcmp(value, "0-", 2) == 0);
    n = getxattr(at(0, "xattr"), "user.kv.author", value, sizeof value);
    CHECK(n > 2 && memchr(value, '@', (size_t)n) != NULL);
}

static void a_big_directory_is_listed_whole(void)
{
    static bool seen[3000];
    struct dirent *e;
    long middle = -1;
    int i, n = 0;
    DIR *d;

    CHECK(mkdir(at(0, "many"), 0755) == 0);
    for (i = 0; i < 3000; i++) {
        int fd = open(at(0, "many/file-%d", i), O_WRONLY | O_CREAT, 0644);

        if (fd < 0)
            CHECK(fd >= 0);
        close(fd);
    }
    d = opendir(at(1, "many"));
    while ((e = readdir(d)) != NULL) {
        if (sscanf(e->d_name, "file-%d", &i) == 1 && i >= 0 && i < 3000 && !seen[i]) {
            seen[i] = true;
            n++;
        } else {
            CHECK(e->d_name[0] == '.'); /* else listed twice */
        }
        if (n == 1500)
            middle = telldir(d);
        /* Removing while listing must neither skip nor repeat others. */
        if (n % 3 == 0 && e->d_name[0] == 'f')
            unlink(at(0, "many/%s", e->d_name));
    }
    CHECK(n == 3000);
    seekdir(d, middle);
    for (n = 0; (e = readdir(d)) != NULL;)
        n++;
    CHECK(n > 900 && n < 1600);
    closedir(d);
}

static void *create_exclusively(void *arg)
{
    uintptr_t wins = 0;
    int i;

    for (i = 0; i < 100; i++) {
        char path[1024];
        int fd;

        snprintf(path, sizeof path, "%s/race-%d", mounts[*(int *)arg], i);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
        if (fd >= 0) {
            wins++;
            close(fd);
        }
    }
    return (void *)wins;
}

static void threads_race_for_names(void)
{
    pthread_t threads[4];
    int on[4] = {0, 0, 1, 1}, i;
    uintptr_t total = 0;

    for (i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, create_exclusively, &on[i]);
    for (i = 0; i < 4; i++) {
        void *wins;

        pthread_join(threads[i], &wins);
        total += (uintptr_t)wins;
    }
    CHECK(total == 100);
}

static void locks_hold_on_one_mount(void)
{
    int a, b;

    put(at(0, "lock"), "x");
    a = open(at(0, "lock"), O_RDWR);
    b = open(at(0, "lock"), O_RDWR);
    CHECK(flock(a, LOCK_EX) == 0);
    CHECK_ERRNO(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    CHECK(flock(a, LOCK_UN) == 0);
    CHECK(flock(b, LOCK_EX | LOCK_NB) == 0);
    close(a);
    close(b);
}

static void a_large_value_goes_through(void)
{
    size_t len = 48 * 1024 * 1024, i;
    unsigned char *data = malloc(len), *back = malloc(len);
    int fd = open(at(0, "large"), O_RDWR | O_CREAT, 0644);
    unsigned seed = 42;

    for (i = 0; i < len; i += 4)
        *(unsigned *)(void *)(data + i) = (seed = seed * 1664525 + 1013904223);
    for (i = 0; i < len; i += 1000000)
        CHECK(pwrite(fd, data + i, len - i < 1000000 ? len - i : 1000000, (off_t)i) > 0);
    CHECK(close(fd) == 0);
    fd = open(at(1, "large"), O_RDONLY);
    for (i = 0; i < len;) {
        ssize_t n = read(fd, back + i, len - i);

        if (n <= 0)
            break;
        i += (size_t)n;
    }
    CHECK(i == len && memcmp(data, back, len) == 0);
    close(fd);
    CHECK(n_versions("large") == 1);
    free(data);
    free(back);
}

static void space(void)
{
    struct statvfs st;

    CHECK(statvfs(at(0, "."), &st) == 0);
    CHECK(st.f_blocks > 0 && st.f_bavail > 0 && st.f_files > 0 && st.f_namemax == 255);
}

#define RUN(test)                                                                                            \
    do {                                                                                                     \
        problems = 0;                                                                                        \
        test();                                                                                              \
        n_tests++;                                                                                           \
        n_failed += problems > 0;                                                                            \
        printf("%s %d - " #test "\n", problems > 0 ? "not ok" : "ok", n_tests);                              \
        fflush(stdout);                                                                                      \
    } while (0)

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    mounts[0] = argv[1];
    mounts[1] = argv[2];
    RUN(a_forked_child_publishes_nothing_half_written);
    RUN(a_child_that_writes_publishes);
    RUN(a_program_started_meanwhile_publishes_nothing);
    RUN(a_process_that_writes_and_becomes_another_publishes);
    RUN(what_an_ended_thread_wrote_is_its_process_s);
    RUN(others_see_it_when_it_is_closed_or_synced);
    RUN(what_stays_open_is_published_after_the_commit_time);
    RUN(maps_are_published);
    RUN(an_unlinked_file_lives_while_it_is_open);
    RUN(what_is_written_to_a_file_removed_elsewhere_goes_with_it);
    RUN(what_only_appends_is_seen_by_who_has_read);
    RUN(sizes_and_holes);
    RUN(ranges_are_zeroed);
    RUN(data_and_holes_are_sought);
    RUN(ranges_are_copied);
    RUN(appends_go_to_the_end);
    RUN(explicit_times_win);
    RUN(both_times_are_kept_as_they_were_set);
    RUN(a_file_has_a_time_of_birth);
    RUN(what_is_written_later_is_later_and_closing_is_no_change);
    RUN(modes_and_owners);
    RUN(renames);
    RUN(two_names_are_exchanged);
    RUN(refusals);
    RUN(attributes_of_its_own);
    RUN(a_big_directory_is_listed_whole);
    RUN(threads_race_for_names);
    RUN(locks_hold_on_one_mount);
    RUN(a_large_value_goes_through);
    RUN(space);
    printf("1..%d\n", n_tests);
    return n_failed > 0;
}
