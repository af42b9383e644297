#include "sync/raft/log/log_check.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "sync/raft/log/log_db.h"

#define N_PARTS 3

/* -shm is the journal's index, which belongs to whoever runs. */
static const char *const parts[N_PARTS] = {"", "-wal", "-floor"};

struct look {
    bool there;
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime;
};

static int part_path(char out[PATH_MAX], const char *path, size_t part)
{
    int n = snprintf(out, PATH_MAX, "%s%s", path, parts[part]);

    return n > 0 && n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int look_at(const char *path, struct look out[N_PARTS])
{
    char name[PATH_MAX];
    struct stat st;
    int result = 0;

    memset(out, 0, N_PARTS * sizeof *out);
    for (size_t i = 0; i < N_PARTS && result == 0; i++) {
        result = part_path(name, path, i);
        if (result == 0 && stat(name, &st) != 0)
            result = errno == ENOENT ? 0 : -errno;
        else if (result == 0)
            out[i] = (struct look){true, st.st_dev, st.st_ino, st.st_size, st.st_mtim};
    }
    return result;
}

static bool same(const struct look *a, const struct look *b)
{
    return a->there == b->there && a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec;
}

static int copy_bytes(int from, int to)
{
    static char block[1 << 16];
    ssize_t n;

    while ((n = read(from, block, sizeof block)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        for (ssize_t at = 0; at < n;) {
            ssize_t done = write(to, block + at, (size_t)(n - at));

            if (done < 0 && errno != EINTR)
                return -errno;
            at += done > 0 ? done : 0;
        }
    }
    return 0;
}

static int copy_file(const char *from_path, const char *to_path)
{
    int from = open(from_path, O_RDONLY | O_CLOEXEC), to = -1, result = 0;

    if (from >= 0)
        to = open(to_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    result = from < 0 || to < 0 ? -errno : copy_bytes(from, to);
    if (from >= 0)
        close(from);
    if (to >= 0 && close(to) != 0 && result == 0)
        result = -errno;
    return result;
}

static int copy_parts(const char *path, const char *copy, const struct look *seen)
{
    char from[PATH_MAX], to[PATH_MAX];
    int result = 0;

    for (size_t i = 0; i < N_PARTS && result == 0; i++) {
        result = part_path(from, path, i);
        if (result == 0)
            result = part_path(to, copy, i);
        if (result == 0 && seen[i].there)
            result = copy_file(from, to);
    }
    return result;
}

/* Reading takes room, too: SQLite copies the journal into the file. */
static bool has_room(const char *dir, const struct look *seen)
{
    struct statvfs fs;
    uint64_t needed = 1 << 20;

    for (size_t i = 0; i < N_PARTS; i++)
        needed += 2 * (uint64_t)seen[i].size;
    return statvfs(dir, &fs) != 0 || (uint64_t)fs.f_bavail * fs.f_frsize > needed;
}

static void remove_copy(const char *dir, const char *copy)
{
    static const char *const made[] = {"", "-wal", "-shm", "-floor", "-journal"};
    char name[PATH_MAX];

    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++)
        if ((size_t)snprintf(name, sizeof name, "%s%s", copy, made[i]) < sizeof name)
            unlink(name);
    rmdir(dir);
}

/* What was said of the copy is true of the original. */
static void name_original(char *why, const char *copy, const char *path)
{
    char text[LOG_STORE_ERROR_LEN];
    const char *at = strstr(why, copy);

    if (at == NULL)
        return;
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - why), why, path, at + strlen(copy));
    memcpy(why, text, sizeof text);
}

static int read_copy(const char *copy, uint16_t group, bool *exists_out, char *why)
{
    struct log_store_log log;
    struct log_db *db;
    int result = log_db_open(copy, &db, why);

    if (result != 0)
        return result;
    result = log_db_load(db, group, &log, why);
    if (result == 0) {
        *exists_out = log.exists;
        log_store_log_deinit(&log);
    }
    log_db_close(db);
    return result;
}

int log_check(const char *path, uint16_t group, bool *exists_out, char *why)
{
    const char *tmp = getenv("TMPDIR");
    char dir[PATH_MAX - 16], copy[PATH_MAX];
    struct look before[N_PARTS], after[N_PARTS];
    bool copied = false;
    int result;

    *exists_out = false;
    snprintf(dir, sizeof dir, "%s/kvnode-log-XXXXXX", tmp != NULL && tmp[0] == '/' ? tmp : "/tmp");
    if (mkdtemp(dir) == NULL) {
        result = -errno;
        snprintf(why, LOG_STORE_ERROR_LEN, "%.300s: %s", dir, strerror(-result));
        return result;
    }
    snprintf(copy, sizeof copy, "%s/log.db", dir);
    result = look_at(path, before);
    if (result == 0 && !has_room(dir, before))
        result = -ENOSPC;
    if (result == 0)
        result = copy_parts(path, copy, before);
    if (result == 0)
        result = look_at(path, after);
    for (size_t i = 0; result == 0 && i < N_PARTS; i++)
        if (!same(&before[i], &after[i]))
            result = -EAGAIN;
    if (result == 0) {
        copied = true;
        result = read_copy(copy, group, exists_out, why);
    }
    if (copied && result != 0)
        name_original(why, copy, path);
    else if (result != 0)
        snprintf(why, LOG_STORE_ERROR_LEN, "%.300s cannot be copied to %.100s: %s", path, dir,
                 result == -EAGAIN ? "it changes" : strerror(-result));
    remove_copy(dir, copy);
    return result;
}
