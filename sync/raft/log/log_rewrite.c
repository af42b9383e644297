#include "sync/raft/log/log_rewrite.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sync/base/disk.h"
#include "sync/base/log.h"
#include "sync/raft/log/log_store.h"

#define STAGE_COPY "copy"
#define STAGE_REPLACE "replace"

static void name(char out[PATH_MAX], const char *path, const char *suffix)
{
    snprintf(out, PATH_MAX, "%s%s", path, suffix);
}

static int write_mark(const char *path, const char *stage)
{
    char mark[PATH_MAX];
    int fd, result = 0;

    name(mark, path, ".failed");
    fd = open(mark, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    if (write(fd, stage, strlen(stage)) < 0 || fsync(fd) != 0)
        result = -errno;
    close(fd);
    return result != 0 ? result : disk_sync_name(path);
}

void log_rewrite_mark(const char *path)
{
    int result = write_mark(path, STAGE_COPY);

    if (result != 0)
        log_error("%s.failed could not be written: %s", path, strerror(-result));
}

static int copy_database(const char *path, const char *copy)
{
    sqlite3 *sql = NULL;
    sqlite3_stmt *st = NULL;
    int fd, rc, result = 0;

    unlink(copy);
    rc = sqlite3_open_v2(path, &sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(sql, "PRAGMA locking_mode=EXCLUSIVE", NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(sql, "VACUUM INTO ?1", -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_text(st, 1, copy, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    sqlite3_finalize(st);
    /* Closing must not copy the journal into the file that is not trusted: it
     * would be deleted before the new file is in place. */
    sqlite3_db_config(sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close(sql);
    if (rc != SQLITE_DONE)
        return (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB ? -EBADMSG
               : (rc & 0xff) == SQLITE_FULL                                  ? -ENOSPC
               : (rc & 0xff) == SQLITE_BUSY                                  ? -EBUSY
                                                                             : -EIO;
    fd = open(copy, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fsync(fd) != 0)
        result = -errno;
    close(fd);
    return result;
}

static int replace(const char *path, const char *copy)
{
    char journal[PATH_MAX];

    /* A journal of the old file must not be replayed into the new one. */
    name(journal, path, "-wal");
    if (unlink(journal) != 0 && errno != ENOENT)
        return -errno;
    if (rename(copy, path) != 0 && errno != ENOENT) /* ENOENT: done before a crash */
        return -errno;
    return disk_sync_name(path);
}

int log_rewrite_if_marked(const char *path, char *why)
{
    char mark[PATH_MAX], copy[PATH_MAX], stage[16] = "";
    int fd, result = 0;

    name(mark, path, ".failed");
    name(copy, path, ".rewrite");
    fd = open(mark, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0 || read(fd, stage, sizeof stage - 1) < 0)
        result = -errno;
    if (fd >= 0)
        close(fd);
    if (result == 0 && strcmp(stage, STAGE_REPLACE) != 0) {
        log_warn("%s: a write had failed: copying it to a new file", path);
        result = copy_database(path, copy);
        if (result == 0)
            result = write_mark(path, STAGE_REPLACE);
    }
    if (result == 0)
        result = replace(path, copy);
    if (result == 0 && unlink(mark) != 0)
        result = -errno;
    if (result == 0)
        result = disk_sync_name(path);
    if (result != 0)
        snprintf(
            why, LOG_STORE_ERROR_LEN,
            "%.300s could not be copied after a failed write: %s. If the disk is broken: remove log.db* and "
            "groups/, start the node on a good one, and kvnode readmit NAME at another node",
            path, strerror(-result));
    return result;
}
