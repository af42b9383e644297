/* Random operations on one file, against a plain copy in memory.
 *
 *   exercise A B SEED STEPS
 *
 * Writes, appends, truncations, maps, syncs and reopenings through A; after each
 * close the file is opened through B and must be the same. Now and then B changes
 * it, while A has it closed. Prints TAP. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_MAX_FILE (300 * 1024)

static unsigned char model[SIZE_MAX_FILE], window[SIZE_MAX_FILE];
static size_t model_size;
static unsigned seed;
static char paths[2][512], history[64][96];
static int step;

static unsigned below(unsigned n)
{
    return n == 0 ? 0 : (unsigned)rand_r(&seed) % n;
}

static void die(const char *what, size_t where)
{
    int i;

    printf("not ok 1 - random operations\n# step %d: %s at %zu of %zu: %s\n", step, what, where, model_size,
           strerror(errno));
    for (i = step > 40 ? step - 40 : 0; i <= step; i++)
        printf("# %s\n", history[i % 64]);
    printf("1..1\n");
    exit(1);
}

static void note(const char *what, size_t a, size_t b)
{
    snprintf(history[step % 64], sizeof history[0], "%d %s %zu %zu (size %zu)", step, what, a, b, model_size);
}

static void model_resize(size_t size)
{
    if (size > model_size)
        memset(model + model_size, 0, size - model_size);
    model_size = size;
}

static void fill(unsigned char *data, size_t len)
{
    unsigned char c = (unsigned char)('a' + below(26));
    size_t i;

    for (i = 0; i < len; i++)
        data[i] = (unsigned char)(c + i % 7);
}

static size_t some_offset(void)
{
    return below(4) == 0
               ? below((unsigned)SIZE_MAX_FILE - 70000)
               : below((unsigned)(model_size < SIZE_MAX_FILE - 70000 ? model_size : SIZE_MAX_FILE - 70000) +
                       1);
}

static size_t some_length(void)
{
    return 1 + below(below(3) == 0 ? 65000 : 2000);
}

static void check(int fd, const char *what)
{
    struct stat st;
    ssize_t n;
    size_t i;

    if (fstat(fd, &st) != 0 || (size_t)st.st_size != model_size)
        die("size", (size_t)st.st_size);
    n = pread(fd, window, sizeof window, 0);
    if (n != (ssize_t)model_size)
        die(what, (size_t)n);
    for (i = 0; i < model_size; i++) {
        if (window[i] != model[i])
            die(what, i);
    }
}

static void write_some(int fd, bool append)
{
    size_t at = append ? model_size : some_offset(), len = some_length();

    if (append && model_size + len > SIZE_MAX_FILE)
        return;
    note(append ? "append" : "write", at, len);
    fill(window, len);
    if (at > model_size)
        model_resize(at);
    if (at + len > model_size)
        model_resize(at + len);
    memcpy(model + at, window, len);
    if (pwrite(fd, window, len, (off_t)at) != (ssize_t)len)
        die("write", at);
}

static void map_some(int fd)
{
    size_t at, len;
    unsigned char *map;

    if (model_size == 0)
        return;
    at = below((unsigned)model_size);
    len = 1 + below((unsigned)(model_size - at));
    note("map", at, len);
    map = mmap(NULL, model_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        die("mmap", 0);
    if (memcmp(map, model, model_size) != 0)
        die("map differs", 0);
    fill(map + at, len);
    memcpy(model + at, map + at, len);
    if (below(2) == 0 && msync(map, model_size, MS_SYNC) != 0)
        die("msync", 0);
    munmap(map, model_size);
}

static int reopen(int fd, bool append)
{
    int other;

    note("reopen", 0, 0);
    if (fd >= 0 && (fsync(fd) != 0 || close(fd) != 0))
        die("close", 0);
    other = open(paths[1], O_RDWR);
    if (other < 0)
        die("open there", 0);
    check(other, "content there");
    if (below(4) == 0) {
        size_t at = some_offset(), len = some_length();

        note("write there", at, len);
        fill(window, len);
        if (at + len > model_size)
            model_resize(at + len);
        memcpy(model + at, window, len);
        if (pwrite(other, window, len, (off_t)at) != (ssize_t)len)
            die("write there", at);
    }
    if (close(other) != 0)
        die("close there", 0);
    if (below(6) == 0) {
        note("reopen O_TRUNC", 0, 0);
        fd = open(paths[0], O_RDWR | O_TRUNC);
        model_size = 0;
    } else {
        fd = open(paths[0], append ? O_RDWR | O_APPEND : O_RDWR);
    }
    if (fd < 0)
        die("open", 0);
    check(fd, "content after reopening");
    return fd;
}

int main(int argc, char **argv)
{
    bool append = false;
    int fd, steps;

    if (argc != 5)
        return 2;
    snprintf(paths[0], sizeof paths[0], "%s/exercise", argv[1]);
    snprintf(paths[1], sizeof paths[1], "%s/exercise", argv[2]);
    seed = (unsigned)atoi(argv[3]);
    steps = atoi(argv[4]);
    fd = open(paths[0], O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (fd < 0)
        die("open", 0);
    for (step = 0; step < steps; step++) {
        unsigned what = below(20);

        if (what < 8) {
            write_some(fd, append);
        } else if (what < 10) {
            size_t size = below(3) == 0 ? 0 : some_offset();

            note("truncate", size, 0);
            model_resize(size);
            if (ftruncate(fd, (off_t)size) != 0)
                die("ftruncate", size);
        } else if (what < 12) {
            map_some(fd);
        } else if (what < 14) {
            note("fsync", 0, 0);
            if (fsync(fd) != 0)
                die("fsync", 0);
        } else if (what < 16) {
            append = below(3) == 0;
            fd = reopen(fd, append);
        } else {
            if (below(4) == 0)
                posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
            check(fd, "content");
        }
    }
    reopen(fd, false);
    printf("ok 1 - random operations\n1..1\n");
    return 0;
}
