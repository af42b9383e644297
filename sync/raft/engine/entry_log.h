/* The log in memory: entries first .. first + n - 1, in one array whose head is
 * cut in amortised constant time an entry. Loop thread. */
#ifndef KVFS_SYNC_RAFT_ENGINE_ENTRY_LOG_H
#define KVFS_SYNC_RAFT_ENGINE_ENTRY_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/raft/engine/entry.h"

/* What an entry costs beside its payload, for budgets. */
#define ENTRY_LOG_OVERHEAD 64u

struct entry_log {
    struct entry **slots; /* owned; references in [head, head + n) */
    size_t head, n, cap;
    uint64_t first; /* index of slots[head], or of the next entry when n is 0 */
    uint64_t bytes; /* payload and overhead of all entries */
};

void entry_log_deinit(struct entry_log *l);
/* first + n - 1 */
uint64_t entry_log_last(const struct entry_log *l);
/* Borrowed; NULL: not there. */
struct entry *entry_log_at(const struct entry_log *l, uint64_t index);
/* The entries from index on, as an array; index <= last. Borrowed until the next change. */
struct entry *const *entry_log_from(const struct entry_log *l, uint64_t index);
/* Appends, taking over the caller's reference; false: out of memory (and the
 * reference is still the caller's). */
bool entry_log_push(struct entry_log *l, struct entry *e);
/* Deletes index and everything behind it. */
void entry_log_cut_tail(struct entry_log *l, uint64_t index);
/* Deletes everything before keep_from. */
void entry_log_cut_head(struct entry_log *l, uint64_t keep_from);
/* Empty, with `first` as the next index. */
void entry_log_reset(struct entry_log *l, uint64_t first);

#endif
