/* Journal: what store_apply() changed and state.db does not have yet.
 *
 * The store notes changes while it applies commands; writeback.h seals what has
 * been noted into a batch from time to time and hands it to its thread. Rows
 * that change often (an inode, an entry, a session) are noted once a batch and
 * written as of the sealing (or shortly before, and again if they changed since); rows of history are noted
 * one by one. A batch holds references to chunks (value.h), never copies of values.
 *
 * Loop thread only, but for batches: a sealed batch belongs to whoever holds it. */
#ifndef KVFS_KVNODE_STATE_JOURNAL_H
#define KVFS_KVNODE_STATE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/base/buffer.h"

struct journal;
struct store;
struct chunk;

/* Make it first, then store_new(…, journal, …), state_db_load(), writeback_start().
 * It must outlive the store. NULL: out of memory. */
struct journal *journal_new(void);
void journal_free(struct journal *j); /* NULL is ignored */

/* Bytes and commands noted since the last seal. */
size_t journal_bytes(const struct journal *j);
/* Of these: parts of commands that are not complete. */
size_t journal_part_bytes(const struct journal *j);
uint64_t journal_commands(const struct journal *j);

/* A chunk to be stored: the first len bytes of chunk, under its id. */
struct batch_chunk {
    struct chunk *chunk; /* a reference, owned */
    uint32_t len;
};

/* Everything that leads from the applied index of the batch before to this one. */
struct batch {
    uint64_t index, digest;     /* state as of here */
    struct buffer records;      /* journal_record.h: what to write, in order */
    struct batch_chunk *chunks; /* owned; written before the records */
    size_t n_chunks;
    size_t bytes; /* memory held, values included */
    struct batch *next;
};

/* Encodes some of what is noted, about so many bytes, so that the seal has less to do. True: there is nothing
 * left. What changes again is encoded again: for a batch that is about to be sealed. */
bool journal_ripen(struct journal *j, size_t budget);
/* Takes everything noted up to store_applied(s). Returns 0 with *batch_out NULL
 * if nothing was noted and no index was applied since, -ENOMEM: nothing was
 * taken, or the state is damaged (then the process must end). */
int journal_seal(struct journal *j, struct store *s, struct batch **batch_out);
void batch_free(struct batch *b); /* NULL is ignored; any thread */

#endif
