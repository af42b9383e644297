/* One pass over state.db in small steps, while it is being written: what
 * state_db_verify() checks, but neither in one go nor in one transaction, so
 * that the WAL is not held up for longer than a single value or a single key's
 * history takes.
 *
 *   rows      all tables but version and chunk: their digest against the recorded one (one transaction)
 *   values    each current value: its chunks against their checksums and its digest
 *   chunks    the others, which only history uses, against their checksums
 *   history   each name's rows against their checksums and their sum; their chunks are there
 *
 * Memory: 8 bytes a chunk in use by a current value. One thread at a time. */
#ifndef KVFS_KVNODE_DISK_STATE_DB_SCRUB_H
#define KVFS_KVNODE_DISK_STATE_DB_SCRUB_H

#include <stdbool.h>
#include <stdint.h>

#include "kvnode/disk/state_db.h"

struct state_scrub;

struct state_scrub_progress {
    uint64_t read;          /* bytes looked at so far, roughly */
    uint64_t index, digest; /* the recorded ones, checked when `rows_done` */
    bool rows_done;
};

/* 0, or as state_db_open(). */
int state_scrub_open(const char *path, struct state_scrub **out, char error[STATE_DB_ERROR_MAX]);
/* 1: there is more; 0: all was looked at, and is good; -EUCLEAN: damaged, `error`
 * says what; another -errno: it could not be read. Nothing but
 * state_scrub_close() after the last two. */
int state_scrub_step(struct state_scrub *s, struct state_scrub_progress *progress_out);
void state_scrub_close(struct state_scrub *s); /* NULL is ignored */

#endif
