/* The floor is measured in the same run, on the same disk, in the way in which a
 * log could at best be written: into blocks that exist (a fallocate alone would
 * leave unwritten extents, whose conversion costs a journal commit each). */
#include "kvnode/admin/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sync/base/clock.h"

#define RECORD 128
#define FILE_SIZE (16 * 1024 * 1024)

int samples_add(struct samples *s, uint64_t ns)
{
    if (s->n == s->cap) {
        size_t cap = s->cap != 0 ? s->cap * 2 : 65536;
        uint32_t *grown = realloc(s->us10, cap * sizeof *grown);
        if (grown == NULL)
            return -ENOMEM;
        s->us10 = grown;
        s->cap = cap;
    }
    s->us10[s->n++] = ns / 100 > UINT32_MAX ? UINT32_MAX : (uint32_t)(ns / 100);
    return 0;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

void samples_sort(struct samples *s)
{
    if (s->n > 1)
        qsort(s->us10, s->n, sizeof *s->us10, compare);
}

double samples_quantile(const struct samples *s, double q)
{
    if (s->n == 0)
        return 0;
    size_t i = (size_t)(q * (double)s->n);
    return (double)s->us10[i < s->n ? i : s->n - 1] / 10;
}

double samples_per_second(const struct samples *s)
{
    return s->elapsed_ns == 0 ? 0 : (double)s->n * 1e9 / (double)s->elapsed_ns;
}

void samples_deinit(struct samples *s)
{
    free(s->us10);
    *s = (struct samples){0};
}

static int fill_file(int fd)
{
    static const char zeros[65536];
    for (off_t at = 0; at < FILE_SIZE; at += (off_t)sizeof zeros)
        if (pwrite(fd, zeros, sizeof zeros, at) != (ssize_t)sizeof zeros)
            return errno != 0 ? -errno : -EIO;
    return fsync(fd) == 0 ? 0 : -errno;
}

int bench_floor(const char *dir, unsigned seconds_ms, struct samples *s_out)
{
    char path[PATH_MAX], record[RECORD];
    *s_out = (struct samples){0};
    if ((size_t)snprintf(path, sizeof path, "%s/bench-XXXXXX", dir) >= sizeof path)
        return -ENAMETOOLONG;
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    unlink(path);
    memset(record, 'x', sizeof record);
    int rc = fill_file(fd);
    const uint64_t warm_ns = 100000000;
    uint64_t begin = clock_boot_ns() + warm_ns, end = begin + (uint64_t)seconds_ms * 1000000;
    for (off_t at = 0; rc == 0; at = (at + RECORD) % FILE_SIZE) {
        uint64_t before = clock_boot_ns();
        if (before >= end)
            break;
        if (pwrite(fd, record, sizeof record, at) != (ssize_t)sizeof record || fdatasync(fd) != 0)
            rc = errno != 0 ? -errno : -EIO;
        else if (before >= begin)
            rc = samples_add(s_out, clock_boot_ns() - before);
    }
    s_out->elapsed_ns = end - begin;
    close(fd);
    return rc;
}
