/* A log entry: immutable once submitted, shared by reference.
 *
 * The in-memory log, messages on their way out, writes on their way to the disk
 * and the state machine hold the same entry; nobody copies the payload. The
 * reference count is atomic, so any thread may take and put references; the
 * contents may be read on any thread once the entry was submitted, loaded or
 * decoded. Before that the creator, alone, fills `data`; engine_submit() sets
 * `term`. */
#ifndef KVFS_SYNC_RAFT_ENGINE_ENTRY_H
#define KVFS_SYNC_RAFT_ENGINE_ENTRY_H

#include <stddef.h>
#include <stdint.h>

/* The longest payload. Bigger commands travel as several entries. */
#define ENTRY_MAX_LEN (1024u * 1024u)

/* The numbers are on disk and on the wire. */
enum entry_type {
    ENTRY_COMMAND = 1, /* for the state machine */
    ENTRY_BARRIER = 2, /* a new leader's first entry; no effect on the state machine */
    ENTRY_CHANGE = 3,  /* a cluster configuration (configuration.h) */
};

struct entry {
    _Atomic uint32_t refs;
    uint8_t type; /* enum entry_type */
    uint32_t len; /* bytes in data */
    uint64_t term;
    uint8_t data[];
};

/* One reference, the caller's. Term 0. NULL: out of memory, or len > ENTRY_MAX_LEN. */
struct entry *entry_new(enum entry_type type, const void *data, size_t len);
/* The same with the payload left for the caller to fill. */
struct entry *entry_new_reserve(enum entry_type type, size_t len);
struct entry *entry_ref(struct entry *e);
void entry_put(struct entry *e); /* NULL is ignored */

#endif
