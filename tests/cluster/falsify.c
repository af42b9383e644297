/* Bad state.db files, for tests.
 *
 *   falsify flip FILE TEXT       flips a bit in the last place where the raw file holds TEXT
 *   falsify settle FILE          everything that is in the WAL goes into the file itself
 *   falsify value FILE OLD NEW   makes another state of it that is whole in itself: the value OLD of a key
 *                                without history becomes NEW, with all checksums and digests. No node may
 *                                have the file open. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvnode/disk/state_db_internal.h"
#include "kvnode/state/value.h"
#include "sync/base/digest.h"

static int fail(const char *what)
{
    fprintf(stderr, "falsify: %s\n", what);
    return 1;
}

static int flip(const char *path, const char *text)
{
    size_t len = strlen(text);
    struct stat st;
    char *bytes;
    int fd = open(path, O_RDWR);

    if (fd < 0 || fstat(fd, &st) != 0)
        return fail("cannot open the file");
    bytes = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED)
        return fail("cannot map the file");
    for (size_t at = (size_t)st.st_size - len; at > 0; at--) {
        if (memcmp(bytes + at, text, len) != 0)
            continue;
        bytes[at] ^= 1;
        printf("%zu\n", at);
        return msync(bytes, (size_t)st.st_size, MS_SYNC) == 0 ? 0 : fail("cannot write");
    }
    return fail("the file does not hold this");
}

static int execute(sqlite3 *db, const char *sql, int64_t a, int64_t b)
{
    sqlite3_stmt *st;
    int code = sqlite3_prepare_v2(db, sql, -1, &st, NULL);

    if (code != SQLITE_OK)
        return fail(sqlite3_errmsg(db));
    sqlite3_bind_int64(st, 1, a);
    sqlite3_bind_int64(st, 2, b);
    code = sqlite3_step(st);
    sqlite3_finalize(st);
    if (code != SQLITE_DONE)
        return fail(sqlite3_errmsg(db));
    return sqlite3_changes(db) == 1 ? 0 : fail("not one row");
}

static int change_value(sqlite3 *db, const char *old, const char *new)
{
    uint32_t len = (uint32_t)strlen(new);
    uint64_t content = chunk_term(0, (const uint8_t *)new, len);
    sqlite3_stmt *st;
    int64_t id;
    int code = sqlite3_prepare_v2(db,
                                  "UPDATE chunk SET data = CAST(?1 AS BLOB) WHERE data = CAST(?2 AS BLOB)"
                                  " RETURNING id",
                                  -1, &st, NULL);

    if (code != SQLITE_OK)
        return fail(sqlite3_errmsg(db));
    sqlite3_bind_text(st, 1, new, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 2, old, -1, SQLITE_STATIC);
    code = sqlite3_step(st);
    id = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    if (code != SQLITE_ROW)
        return fail("no such value");
    if (execute(db, "UPDATE chunk SET checksum = ? WHERE id = ?", (int64_t)digest64((uint64_t)id, new, len),
                id) != 0)
        return 1;
    return execute(db, "UPDATE inode SET content = ? WHERE chunks = ?", (int64_t)content, id);
}

static int value(const char *path, const char *old, const char *new)
{
    char error[STATE_DB_ERROR_MAX];
    uint64_t index, digest;
    sqlite3 *db;

    if (strlen(old) != strlen(new))
        return fail("the values must be of one length");
    if (state_db_open(path, STATE_DB_RECOVER, &db, error) != 0)
        return fail(error);
    if (change_value(db, old, new) != 0)
        return 1;
    sqlite3_close(db);
    if (state_db_verify(path, &index, &digest, error) == 0)
        return fail("nothing has changed");
    if (state_db_open(path, STATE_DB_RECOVER, &db, error) != 0 ||
        execute(db, "UPDATE meta SET digest = ? WHERE id = ?", (int64_t)digest, 1) != 0)
        return 1;
    sqlite3_close(db);
    return state_db_verify(path, &index, &digest, error) == 0 ? 0 : fail(error);
}

static int settle(const char *path)
{
    char error[STATE_DB_ERROR_MAX];
    sqlite3 *db;
    int code;

    if (state_db_open(path, STATE_DB_RECOVER, &db, error) != 0)
        return fail(error);
    code = sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    return sqlite3_close(db) == SQLITE_OK && code == SQLITE_OK ? 0 : fail("no checkpoint");
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "flip") == 0)
        return flip(argv[2], argv[3]);
    if (argc == 5 && strcmp(argv[1], "value") == 0)
        return value(argv[2], argv[3], argv[4]);
    if (argc == 3 && strcmp(argv[1], "settle") == 0)
        return settle(argv[2]);
    return fail("flip FILE TEXT | settle FILE | value FILE OLD NEW");
}
