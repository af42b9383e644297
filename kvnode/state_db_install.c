/* Snapshots of state.db: taking and installing.
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

#include "kvnode/state_db_internal.h"

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

int state_db_recover(const char *dir, char error[STATE_DB_ERROR_MAX])
{
    char path[PATH_MAX];
    int rv = path_in(path, dir, ".install", error);

    if (rv < 0)
        return rv;
    if (access(path, F_OK) == 0)
        return complete_install(dir, error);
    return errno == ENOENT ? 0 : fail_errno(path, "cannot look", error);
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

int state_db_snapshot(const char *path, const char *out_path, uint64_t *index_out,
                      char error[STATE_DB_ERROR_MAX])
{
    struct meta_record meta;
    sqlite3 *db, *copy = NULL;
    sqlite3_stmt *st = NULL;
    int code, rv;

    if (access(out_path, F_OK) == 0) {
        errno = EEXIST;
        return fail_errno(out_path, "cannot be made", error);
    }
    rv = state_db_open(path, STATE_DB_READ, &db, error);
    if (rv < 0)
        return rv;
    code = sqlite3_prepare_v2(db, "VACUUM INTO ?", -1, &st, NULL);
    if (code == SQLITE_OK) {
        sqlite3_bind_text(st, 1, out_path, -1, SQLITE_STATIC);
        code = sqlite3_step(st);
    }
    if (code != SQLITE_DONE)
        rv = state_db_fail(db, code, path, "cannot be copied", error);
    sqlite3_finalize(st);
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
