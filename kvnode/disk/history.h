/* Reads of history, from state.db, through a read-only connection of its own.
 *
 * For worker threads: a reader is used by one thread at a time and sees what the
 * writer has committed, so the node first waits for writeback_flushed_index().
 * Names are given as (history id of the directory, name): store_history_id(),
 * and back through store_history_path().
 *
 * Functions return 0, KV_E_NOENT (no history of that name), KV_E_NOVERSION,
 * KV_E_IO (damaged or unreadable: logged) or a negative errno. A row or a chunk
 * that fails its checksum is never shown. */
#ifndef KVFS_KVNODE_DISK_HISTORY_H
#define KVFS_KVNODE_DISK_HISTORY_H

#include <stdbool.h>

#include "kvnode/disk/state_db.h"
#include "kvnode/state/store.h"
#include "sync/wire/message.h"

struct history_reader;

/* NULL: out of memory, or the file cannot be opened (logged). */
struct history_reader *history_open(const char *path);
void history_close(struct history_reader *r); /* NULL is ignored */

struct history_place {
    uint64_t directory;  /* history id; 0: none */
    const uint8_t *name; /* borrowed, as long as the callback runs */
    size_t name_len;
};

/* Rows of a name, newest first, with a revision below `before` (0: from the
 * newest), until emit returns false or n are shown; *more_out: there are older ones. */
int history_list(struct history_reader *r, uint64_t directory, const void *name, size_t name_len,
                 uint64_t before, uint32_t n, void *arg,
                 bool (*emit)(void *arg, const struct version_row *row), bool *more_out);

/* Content of version number `version`: appends at most len bytes from offset. */
int history_read(struct history_reader *r, uint64_t directory, const void *name, size_t name_len,
                 uint64_t version, uint64_t offset, uint32_t len, struct version_row *row_out,
                 struct buffer *out);

/* The extended attributes (sync/wire/xattr.h) that version number `version` had at last, appended: what it
 * was given later counts. */
int history_xattrs(struct history_reader *r, uint64_t directory, const void *name, size_t name_len,
                   uint64_t version, struct buffer *out);

/* Whose permission is needed to read a version: list[0] is what the version had at last,
 * be it on its tombstone; the others are what each file that has borne the name since had
 * at last, the newest among them. So what somebody closed stays closed behind him, whoever
 * takes the name next. Beyond the limit the last one stands for the rest, and grants no
 * more than any of them. */
#define HISTORY_GUARDS_MAX 16
struct history_guards {
    uint32_t n; /* at least 1 */
    struct access list[HISTORY_GUARDS_MAX];
};
int history_guards(struct history_reader *r, uint64_t directory, const void *name, size_t name_len,
                   uint64_t version, struct history_guards *guards_out);

/* The row that was the newest at wall_ns: what `@TIME` means. It may be a tombstone. */
int history_at(struct history_reader *r, uint64_t directory, const void *name, size_t name_len,
               uint64_t wall_ns, struct version_row *row_out);

/* A row of the operation log. `from`: where a renamed file came from; `to`: set
 * on the tombstone that a rename leaves: where it went. */
struct history_entry {
    struct version_row row;
    struct history_place key, from, to;
};

/* Rows of the operation log, oldest first: by (revision, directory, name), of which no two
 * are equal. From behind `at` in that revision on (at NULL: behind all of its rows), until
 * emit returns false. *dropped_out: the newest revision of which a row is not kept any more,
 * since its name's history was dropped; behind that one the log is whole. 0: all of it is. */
int history_log(struct history_reader *r, uint64_t revision, const struct history_place *at, void *arg,
                bool (*emit)(void *arg, const struct history_entry *entry), uint64_t *dropped_out);

/* Names with history in a directory, those of the dead too, in byte order behind `after`,
 * until emit returns false. They carry no checksum: what they stand for is the store's to say. */
int history_names(struct history_reader *r, uint64_t directory, const void *after, size_t after_len,
                  void *arg, bool (*emit)(void *arg, const uint8_t *name, size_t name_len));

#endif
