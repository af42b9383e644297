/* The floor of the logs: the last durable entry of each group, in a file beside
 * log.db, so that a log that lost its tail is recognised. (One flipped bit in
 * the middle of a SQLite WAL silently drops every later transaction.)
 *
 * A slot of 32 bytes a group: index, checksum chain there, check, the log's life. Written
 * after each commit without fsync: after a power cut it may be older than the
 * log, never newer, because it is lowered durably before a truncation.
 *
 * One thread at a time. */
#ifndef KVFS_SYNC_RAFT_LOG_LOG_FLOOR_H
#define KVFS_SYNC_RAFT_LOG_LOG_FLOOR_H

#include <stdbool.h>
#include <stdint.h>

struct log_floor {
    int fd;
    uint64_t life; /* of the log whose floor it is; 0: not known yet */
};

/* Opens or creates the file. 0 or -errno. */
int log_floor_open(const char *path, struct log_floor *out);
void log_floor_close(struct log_floor *f);
/* index 0: none known (or the slot is torn). 0 or -errno. */
int log_floor_get(const struct log_floor *f, uint16_t group, uint64_t *index_out, uint64_t *sum_out);
/* durable: fsynced on return. 0 or -errno. */
int log_floor_set(const struct log_floor *f, uint16_t group, uint64_t index, uint64_t sum, bool durable);
/* Whether any group has a floor. */
bool log_floor_any(const struct log_floor *f);
/* Whether any group's is that of a log with another life than f->life. */
bool log_floor_is_foreign(const struct log_floor *f);

#endif
