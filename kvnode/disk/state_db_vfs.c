/* SQLite's own VFS but for one thing. state.db-shm, the index of the WAL, is shared memory on the disk:
 * SQLite makes sure of one byte of each page of it, which is one block of several where blocks are smaller
 * than pages. To touch the others of a full disk ends the process (SIGBUS). Here each mapped region is made
 * to have all its blocks first, and what the disk has no room for is an error like any other.
 *
 * A file system that gives a written page new blocks (btrfs without nodatacow) can still run out later. */
#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/mman.h>

#include "kvnode/disk/state_db_internal.h"

#ifndef MADV_POPULATE_WRITE /* Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

static const sqlite3_io_methods *plain; /* of the first file; others of another kind are left alone */
static sqlite3_io_methods methods;
static sqlite3_vfs *below;
static sqlite3_vfs vfs;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of `plain` and `methods`, until they are set */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int map(sqlite3_file *file, int region, int size, int extend, void volatile **out)
{
    int code = plain->xShmMap(file, region, size, extend, out);

    /* EINVAL: an older kernel, or a region that is in the process's own memory. */
    if (code == SQLITE_OK && *out != NULL && extend && size > 0 &&
        madvise((void *)*out, (size_t)size, MADV_POPULATE_WRITE) != 0 && errno != EINVAL) {
        code = errno == ENOMEM ? SQLITE_IOERR_NOMEM : SQLITE_FULL;
        *out = NULL; /* SQLite would keep it, and not ask again */
    }
    return code;
}

static int open_file(sqlite3_vfs *v, const char *path, sqlite3_file *file, int flags, int *flags_out)
{
    int code = below->xOpen(below, path, file, flags, flags_out);

    (void)v;
    if (code != SQLITE_OK || (flags & SQLITE_OPEN_MAIN_DB) == 0 || file->pMethods->iVersion < 2)
        return code;
    pthread_mutex_lock(&lock);
    if (plain == NULL) {
        plain = file->pMethods;
        methods = *plain;
        methods.xShmMap = map;
    }
    pthread_mutex_unlock(&lock);
    if (file->pMethods == plain)
        file->pMethods = &methods;
    return code;
}

static void set_up(void)
{
    below = sqlite3_vfs_find(NULL);
    if (below == NULL)
        return;
    vfs = *below;
    vfs.zName = "kvfs";
    vfs.pNext = NULL;
    vfs.xOpen = open_file;
    if (sqlite3_vfs_register(&vfs, 0) != SQLITE_OK)
        below = NULL;
}

const char *state_db_vfs(void)
{
    pthread_once(&once, set_up);
    return below != NULL ? vfs.zName : NULL;
}
