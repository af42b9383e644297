/* state.db: the applied state in a SQLite file, for restarts, history and people.
 *
 *   inode    current files, directories and links    entry    names, living and dead, with their numbering
 *   version  history, one row a change of a name      chunk    pieces of values, shared by versions
 *   session, result, part, setting                    meta     applied index, digest, clocks, counters
 *
 * `chunks` columns: NULL (empty), the chunk's id (one), or 8 bytes an id, most
 * significant first (several; id 0 is a hole). All chunks but a value's last
 * count 65,536 bytes; a chunk's row may be longer than a version uses of it,
 * because appending extends the row. Times are nanoseconds since 1970.
 *
 *   SELECT version, datetime(wall/1e9, 'unixepoch'), op, size FROM version WHERE name = 'x' ORDER BY
 * revision;
 *
 * What checks what: each chunk has the XXH3 of its bytes, seeded with its id; each
 * version row a checksum; the digest in meta covers every row but `version` and
 * `chunk`, the values of current inodes through their content, and of each name's
 * history the sum of its rows' digests. Loading checks all but the sums of history,
 * which would take time in proportion to history: those are checked by
 * state_db_verify(), in the background, and each row again whenever it is read.
 *
 * Functions return 0 or a negative errno; `error` then says what and how to mend
 * it, in one clause that names the file. -ENOENT: no such file. -EUCLEAN: the
 * file is damaged or not ours. -EPROTO: it is whole, and of another version of
 * this program. Nothing here is written but where it says so. */
#ifndef KVFS_KVNODE_DISK_STATE_DB_H
#define KVFS_KVNODE_DISK_STATE_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;

#define STATE_DB_NAME "state.db"
#define STATE_DB_ERROR_MAX 512
#define STATE_DB_APPLICATION_ID 0x6b766673 /* "kvfs" */
/* The file's format. 5: no owner; 6: not by which program it was written, nor whether
 * history was dropped. An older one is brought up to this when it is opened for writing, as a node
 * does first (state_db.c: upgrades); a newer one, and one before OLDEST, is refused with -EPROTO. A state
 * file goes to other nodes, too: one of an older build refuses it, and waits until it is upgraded. */
#define STATE_DB_USER_VERSION 9
#define STATE_DB_OLDEST_VERSION 5

/* Completes or discards a half-done install in dir, and copies a file that is
 * marked as below to a new one. Call before anything else looks at dir/state.db.
 * Blocking. */
int state_db_recover(const char *dir, char error[STATE_DB_ERROR_MAX]);

/* A write or an fsync of the file failed: what the kernel holds in memory and what
 * is on the disk may differ, and no later fsync will tell. Leaves `PATH.failed`
 * beside it for the next start. Any thread, also while the file is in use. */
void state_db_mark_failed(const char *path);

/* Fills s, fresh from store_new(), from the file. -ENOENT leaves s as it is: an
 * empty state at index 0. After any other failure s must be freed. Blocking. */
int state_db_load(const char *path, struct store *s, char error[STATE_DB_ERROR_MAX]);

/* Copies the file as of some moment to out_path (which must not exist; VACUUM
 * INTO, then fsync), while it is being written. Its applied index is
 * *index_out. Blocking: run it on a worker thread. */
int state_db_snapshot(const char *path, const char *out_path, uint64_t *index_out,
                      char error[STATE_DB_ERROR_MAX]);

/* By the first bytes of a file: it is one of ours and of a newer format, which this program cannot read. */
bool state_db_is_newer(const void *head, size_t len, uint32_t *format_out);

/* The node whose file it is; life: of its log.db (log_store_life()). */
struct state_owner {
    uint64_t cluster, life;
    uint16_t node;
};

/* 0: the file is own's, nobody's yet, or not there. -EINVAL: another node's, or of another life. */
int state_db_check_owner(const char *path, const struct state_owner *own, char error[STATE_DB_ERROR_MAX]);
/* Makes the file own's, whose ever it was, and the file itself if it is missing. Nobody else may have
 * it open. Blocking. */
int state_db_claim(const char *path, const struct state_owner *own, char error[STATE_DB_ERROR_MAX]);

/* Puts the file `incoming` (same file system as dir) in the place of
 * dir/state.db: verifies it in full, makes it durable, then renames. Nobody may
 * have the old one open for writing (writeback_free() first). A crash at any
 * point leaves the old or the new state after state_db_recover(). Blocking. */
int state_db_install(const char *dir, const char *incoming, uint64_t *index_out,
                     char error[STATE_DB_ERROR_MAX]);

/* Recomputes the digest from every row, history and its content included, and
 * compares it with the recorded one. Blocking; any thread; sees one moment of a
 * file that is being written. */
int state_db_verify(const char *path, uint64_t *index_out, uint64_t *digest_out,
                    char error[STATE_DB_ERROR_MAX]);

#endif
