/* Snapshots of state.db: taking and installing; and renewing a file that is not
 * trusted any more.
 *
 * An install is decided by one rename, of the verified and synced file to
 * state.db.install. From then on it is completed, by this call or by the next
 * start: the old file's WAL must be gone before the new one takes the name, or
 * SQLite could play the old WAL into it.
 *
 *   incoming ─verify, fsync─ rename ─► state.db.install ─ fsync dir ─
 *     unlink state.db-wal, state.db-shm ─ rename ─► state.db ─ fsync dir */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvnode/disk/state_db_internal.h"
#include "sync/base/disk.h"
#include "sync/base/log.h"

#define FAILED ".failed"

static int fail_errno(const char *path, const char *what, char error[STATE_DB_ERROR_MAX])
{
    int rv = -errno;

    snprintf(error, STATE_DB_ERROR_MAX, "%.300s: %s: %s", path, what, strerror(-rv));
    return rv;
}

static int sync_path(const char *path, int flags, char error[STATE_DB_ERROR_MAX])
{
    int rv = 0, fd = open(path, flags | O_CLOEXEC);

    if (fd < 0)
        return fail_errno(path, "cannot open", error);
    if (fsync(fd) < 0)
        rv = fail_errno(path, "cannot sync", error);
    close(fd);
    return rv;
}

static int path_in(char out[PATH_MAX], const char *dir, const char *suffix, char error[STATE_DB_ERROR_MAX])
{
    if (snprintf(out, PATH_MAX, "%s/" STATE_DB_NAME "%s", dir, suffix) < PATH_MAX)
        return 0;
    errno = ENAMETOOLONG;
    return fail_errno(dir, "cannot use", error);
}

static int remove_if_there(const char *path, char error[STATE_DB_ERROR_MAX])
{
    if (unlink(path) < 0 && errno != ENOENT)
        return fail_errno(path, "cannot remove", error);
    return 0;
}

static int complete_install(const char *dir, char error[STATE_DB_ERROR_MAX])
{
    static const char *const stale[] = {"-wal", "-shm", "-journal"};
    char from[PATH_MAX], to[PATH_MAX];
    int rv = 0;

    for (size_t i = 0; rv == 0 && i < sizeof stale / sizeof stale[0]; i++) {
        rv = path_in(to, dir, stale[i], error);
        if (rv == 0)
            rv = remove_if_there(to, error);
    }
    if (rv == 0)
        rv = sync_path(dir, O_RDONLY | O_DIRECTORY, error);
    if (rv == 0)
        rv = path_in(from, dir, ".install", error);
    if (rv == 0)
        rv = path_in(to, dir, "", error);
    if (rv == 0 && rename(from, to) < 0)
        rv = fail_errno(to, "cannot be replaced", error);
    return rv == 0 ? sync_path(dir, O_RDONLY | O_DIRECTORY, error) : rv;
}

/* The file as one piece: without a WAL of its own, checked by SQLite and by us. */
static int check_incoming(const char *incoming, uint64_t *index_out, char error[STATE_DB_ERROR_MAX])
{
    uint64_t digest;
    char side[PATH_MAX];
    sqlite3 *db;
    sqlite3_stmt *st = NULL;
    int code, rv;

    for (int i = 0; i < 2; i++) {
        if (snprintf(side, sizeof side, "%s%s", incoming, i == 0 ? "-wal" : "-shm") >= PATH_MAX)
            return path_in(side, incoming, "", error);
        rv = remove_if_there(side, error);
        if (rv < 0)
            return rv;
    }
    rv = state_db_open(incoming, STATE_DB_READ, &db, error);
    if (rv < 0)
        return rv;
    code = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &st, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(st);
    if (code != SQLITE_ROW)
        rv = state_db_fail(db, code, incoming, "cannot check", error);
    else if (strcmp((const char *)sqlite3_column_text(st, 0), "ok") != 0)
        rv = state_db_damaged(incoming, error, "%.200s", (const char *)sqlite3_column_text(st, 0));
    sqlite3_finalize(st);
    sqlite3_close(db);
    return rv == 0 ? state_db_verify(incoming, index_out, &digest, error) : rv;
}

int state_db_install(const char *dir, const char *incoming, uint64_t *index_out,
                     char error[STATE_DB_ERROR_MAX])
{
    char install[PATH_MAX];
    int rv = path_in(install, dir, ".install", error);

    if (rv == 0)
        rv = check_incoming(incoming, index_out, error);
    if (rv == 0)
        rv = sync_path(incoming, O_RDONLY, error);
    if (rv == 0 && rename(incoming, install) < 0)
        rv = fail_errno(incoming, "cannot be moved", error);
    if (rv == 0)
        rv = sync_path(dir, O_RDONLY | O_DIRECTORY, error);
    return rv == 0 ? complete_install(dir, error) : rv;
}

/* VACUUM INTO. STATE_DB_RECOVER: from a file that nobody else has open, its WAL
 * included, which is left as it is. */
static int copy_file(const char *path, enum state_db_mode mode, const char *out_path, uint64_t *index_out,
                     char error[STATE_DB_ERROR_MAX])
{
    struct meta_record meta;
    sqlite3 *db, *copy = NULL;
    sqlite3_stmt *st = NULL;
    int code, rv = state_db_open(path, mode, &db, error);

    if (rv < 0)
        return rv;
    code = sqlite3_prepare_v2(db, "VACUUM INTO ?", -1, &st, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_bind_text(st, 1, out_path, -1, SQLITE_STATIC);
    if (code == SQLITE_OK)
        code = sqlite3_step(st);
    if (code != SQLITE_DONE)
        rv = state_db_fail(db, code, path, "cannot be copied", error);
    sqlite3_finalize(st);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close(db);
    if (rv == 0)
        rv = state_db_open(out_path, STATE_DB_READ, &copy, error);
    if (rv == 0) {
        rv = state_db_read_meta(copy, out_path, &meta, error);
        sqlite3_close(copy);
    }
    if (rv == 0)
        rv = sync_path(out_path, O_RDONLY, error);
    if (rv == 0)
        *index_out = meta.applied;
    else
        unlink(out_path);
    return rv;
}

int state_db_snapshot(const char *path, const char *out_path, uint64_t *index_out,
                      char error[STATE_DB_ERROR_MAX])
{
    if (access(out_path, F_OK) == 0) {
        errno = EEXIST;
        return fail_errno(out_path, "cannot be made", error);
    }
    return copy_file(path, STATE_DB_READ, out_path, index_out, error);
}

void state_db_mark_failed(const char *path)
{
    char mark[PATH_MAX];
    int fd, rv;

    if (snprintf(mark, sizeof mark, "%s" FAILED, path) >= PATH_MAX)
        return;
    fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        log_error("%s could not be made: %s", mark, strerror(errno));
        return;
    }
    close(fd);
    rv = disk_sync_name(mark);
    if (rv < 0)
        log_error("%s could not be synced: %s", mark, strerror(-rv));
}

/* What reads right is copied to a new file, which is synced before anything is
 * claimed of it. What does not is left for state_db_load() to find; without a row
 * that says what it is (the first commit failed), it is put aside. */
static int renew(const char *dir, char error[STATE_DB_ERROR_MAX])
{
    static const char *const files[] = {"-wal", "-shm", ""};
    char path[PATH_MAX], copy[PATH_MAX], mark[PATH_MAX], aside[PATH_MAX];
    uint64_t index;
    int rv = path_in(path, dir, "", error);

    if (rv == 0)
        rv = path_in(copy, dir, ".rewrite", error);
    if (rv == 0)
        rv = path_in(mark, dir, FAILED, error);
    if (rv < 0 || access(mark, F_OK) != 0)
        return rv;
    log_warn("%s: a write had failed: copying it to a new file", path);
    rv = remove_if_there(copy, error);
    if (rv == 0)
        rv = copy_file(path, STATE_DB_RECOVER, copy, &index, error);
    if (rv == 0)
        rv = state_db_install(dir, copy, &index, error);
    unlink(copy);
    for (size_t i = 0; rv == -ENOENT && i < sizeof files / sizeof files[0]; i++) {
        if (path_in(path, dir, files[i], error) < 0 ||
            snprintf(aside, sizeof aside, "%s/" STATE_DB_NAME ".damaged%s", dir, files[i]) >= PATH_MAX)
            return -ENAMETOOLONG;
        if (rename(path, aside) < 0 && errno != ENOENT)
            return fail_errno(path, "cannot be moved", error);
    }
    if (rv != 0 && rv != -ENOENT && rv != -EUCLEAN)
        return rv;
    rv = remove_if_there(mark, error);
    return rv == 0 ? sync_path(dir, O_RDONLY | O_DIRECTORY, error) : rv;
}

int state_db_recover(const char *dir, char error[STATE_DB_ERROR_MAX])
{
    char path[PATH_MAX];
    int rv = path_in(path, dir, ".install", error);

    if (rv < 0)
        return rv;
    if (access(path, F_OK) == 0)
        rv = complete_install(dir, error);
    else if (errno != ENOENT)
        rv = fail_errno(path, "cannot look", error);
    return rv == 0 ? renew(dir, error) : rv;
}
