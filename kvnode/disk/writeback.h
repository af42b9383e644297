/* Write-behind: takes what store_apply() has changed to state.db, on a thread of
 * its own, in batches of one transaction each.
 *
 *   loop thread   store_apply() … ─► journal ─ seal ─► queue
 *   writer        queue ─► BEGIN, chunks, records, meta, COMMIT ─► notify()
 *
 * Flushed: committed; survives the death of the process. Durable: survives a
 * power cut too; only behind that index may log.db be truncated (design §3). A
 * commit with synchronous=FULL fsyncs the whole WAL, so it makes all earlier
 * ones durable.
 *
 * A full disk loses nothing: the batch is retried with growing pauses (100 ms
 * to 5 s) and the state says so; the node stops proposing when
 * writeback_pending_bytes() passes its cap. Any other failure of the disk is
 * fatal: reported once, nothing more is written, and the process should end. */
#ifndef KVFS_KVNODE_DISK_WRITEBACK_H
#define KVFS_KVNODE_DISK_WRITEBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvnode/disk/state_db.h"

struct journal;
struct store;
struct writeback;

#define WRITEBACK_PENDING_MAX (256UL << 20) /* enforced by the node */

struct writeback_options {
    /* A batch is handed over when one of these is reached; 0: 200 ms, 8,000, 16 MiB.
     * While the writer is busy, only at twice as many commands, or the bytes. */
    uint64_t interval_ms, commands;
    size_t bytes;
    /* A batch is made durable when one of these is reached; 0: 5 s, 64 MiB. */
    uint64_t durable_ms;
    size_t durable_bytes;
    void *arg;
    /* On the writer's thread, after each commit and each change of state; must
     * only wake the loop (uv_async_send). May be NULL. */
    void (*notify)(void *arg);
};

enum writeback_state {
    WRITEBACK_OK,
    WRITEBACK_FULL, /* no space left: retrying */
    WRITEBACK_BUSY, /* somebody else holds the file's write lock: retrying */
    WRITEBACK_FATAL
};

/* Opens or creates the file (whose state s and j have), starts the thread. j and
 * s are borrowed until writeback_free(). 0 or a negative errno with `error`. */
int writeback_start(const char *path, struct journal *j, struct store *s,
                    const struct writeback_options *options, struct writeback **wb_out,
                    char error[STATE_DB_ERROR_MAX]);

/* Loop thread: after applying, and again after the returned number of
 * milliseconds (UINT64_MAX: nothing is waiting; 0: a batch is being encoded, a little in each turn). now_ms:
 * clock_boot_ms(). -ENOMEM ends the process: returned through *error_out (else 0). */
uint64_t writeback_poll(struct writeback *wb, uint64_t now_ms, int *error_out);
/* Loop thread: hands over everything, now or, where that is much, within the next turns (writeback_poll()). A
 * read of history waits until writeback_flushed_index() reaches the store_applied() of this moment. 0 or
 * -ENOMEM. */
int writeback_flush(struct writeback *wb);
/* All of it now, however much, and durably: wait for writeback_durable_index(). */
int writeback_sync(struct writeback *wb);

/* Any thread. */
uint64_t writeback_flushed_index(const struct writeback *wb);
uint64_t writeback_durable_index(const struct writeback *wb);
enum writeback_state writeback_state(const struct writeback *wb);
/* The clause that goes with a state other than OK; copied into text. */
void writeback_error(const struct writeback *wb, char text[STATE_DB_ERROR_MAX]);
/* Loop thread: memory held by what is not committed yet. */
size_t writeback_pending_bytes(const struct writeback *wb);

/* Loop thread: with `flush`, hands over everything, makes it durable and waits
 * for at most timeout_ms (500 ms on a full disk); then ends the thread and closes the file. Without it
 * drops what is queued (a snapshot is about to replace the file). Returns true
 * if everything was written. NULL is ignored. */
bool writeback_free(struct writeback *wb, bool flush, uint64_t timeout_ms);

#endif
