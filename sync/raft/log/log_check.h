/* log.db of a node that does not run, looked at as its next start would, without touching it.
 *
 * Any program that opens a SQLite database with a journal writes: it makes the journal's index, or copies
 * the journal into the file. So the file, its journal and its floor are copied into a temporary
 * folder, and the copy is read. No lock is held on anything that a start needs. */
#ifndef KVFS_SYNC_RAFT_LOG_LOG_CHECK_H
#define KVFS_SYNC_RAFT_LOG_LOG_CHECK_H

#include <stdbool.h>
#include <stdint.h>

/* Copies into a folder of $TMPDIR, else /tmp, and removes it. *exists_out: the log has something of that
 * group. 0, or with why (LOG_STORE_ERROR_LEN), which names the original, what log_store_open() and
 * log_store_load() give; -EAGAIN: it changed meanwhile, somebody has started; -ENOSPC: no room for a copy;
 * another -errno: it cannot be copied. Blocking. */
int log_check(const char *path, uint16_t group, bool *exists_out, char *why);

#endif
