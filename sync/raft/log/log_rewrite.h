/* After a failed write or fsync of log.db: what the kernel's page cache shows
 * may not be on the disk, and a second fsync would report success. So the
 * process ends, leaving a mark, and the next one copies all that it can read
 * into a new file, fsyncs that and puts it in the old one's place, before
 * anything is acknowledged from it.
 *
 *   log.db.failed "copy"     -> VACUUM INTO log.db.rewrite, fsync
 *   log.db.failed "replace"  -> drop log.db-wal, rename, fsync the directory
 *   no mark                  -> nothing to do
 *
 * Each step can be repeated after a crash. */
#ifndef KVFS_SYNC_RAFT_LOG_LOG_REWRITE_H
#define KVFS_SYNC_RAFT_LOG_LOG_REWRITE_H

/* Leaves the mark, as well as a failing disk allows. Any thread. */
void log_rewrite_mark(const char *path);
/* Before the database is opened. 0, or -errno with why (LOG_STORE_ERROR_LEN). */
int log_rewrite_if_marked(const char *path, char *why);

#endif
