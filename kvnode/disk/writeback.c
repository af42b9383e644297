/* The writer thread and its queue. The loop thread seals the journal into
 * batches and appends them; the writer takes the head, commits it, and only then
 * lets go of it, so a batch that met a full disk is simply tried again. */
#include "kvnode/disk/writeback.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#include "kvnode/disk/state_db_internal.h"
#include "kvnode/state/journal.h"
#include "kvnode/state/store.h"
#include "kvnode/state/store_internal.h"
#include "sync/base/clock.h"
#include "sync/base/log.h"

/* At the end: how long a full disk is waited for, and how often it is looked at. */
#define STOP_FULL_MS 500
#define STOP_LOOK_MS 100
#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 5000
#define CHECKPOINT_PAGES 8000
#define BUSY_COMMANDS 2 /* times `commands` in one batch, while the writer is busy */
/* Parts of an upload that ends soon need not be written at all: a batch waits for
 * them so much longer, until they are times `bytes`. */
#define PARTS_WAIT_MS 5000
#define PARTS_BYTES 6
/* What a turn of the loop encodes of a batch that is due: a millisecond's worth. A load that notes
 * faster than that, for so many turns, is cut off. */
#define RIPEN_BYTES ((size_t)256 * 1024)
#define RIPEN_TURNS 1000

struct writeback {
    char *path;        /* owned */
    struct journal *j; /* borrowed */
    struct store *s;   /* borrowed */
    struct writeback_options options;
    pthread_t thread;
    sqlite3 *db; /* owned; the writer's */
    struct state_writer *writer;
    int journal_pages; /* the writer's: in the WAL, as of the last commit */

    /* Loop thread. */
    uint64_t due_ms;         /* when what is noted must be handed over; 0: nothing waits */
    uint64_t durable_due_ms; /* when what was handed over must become durable; 0: nothing waits */
    size_t volatile_bytes;   /* handed over since the last durable batch */
    unsigned ripening;       /* turns in which a batch that is due was encoded; 0: none is due */
    bool sync_wanted;        /* by writeback_sync(), of the batch that ripens */

    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t wake;  /* the writer: there is work; the loop: something was done */
    struct batch *head, **tail;
    size_t queued_bytes;
    uint64_t queued_index;
    uint64_t sync_index; /* the batch that reaches it is committed durably */
    uint64_t flushed, durable;
    enum writeback_state state;
    char error[STATE_DB_ERROR_MAX];
    bool stop;    /* end when the queue is empty */
    bool discard; /* end now */
};

static void wait_ms(struct writeback *wb, uint64_t ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&wb->wake, &wb->lock, &until);
}

static void notify(const struct writeback *wb)
{
    if (wb->options.notify != NULL)
        wb->options.notify(wb->options.arg);
}

/* SQLite reports a full disk as itself, but a full disk under the WAL's shared
 * memory as an I/O error. */
static bool is_disk_full(const struct writeback *wb, int code)
{
    struct statvfs fs;
    int error = sqlite3_system_errno(wb->db);

    if ((code & 0xff) == SQLITE_FULL)
        return true;
    if ((code & 0xff) != SQLITE_IOERR && (code & 0xff) != SQLITE_CANTOPEN)
        return false;
    /* Whatever the reason: what a failed fsync did not write no later one will. */
    if (code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC)
        return false;
    if (error == ENOSPC || error == EDQUOT)
        return true;
    return (code == SQLITE_IOERR_SHMSIZE || code == SQLITE_IOERR_SHMMAP) && statvfs(wb->path, &fs) == 0 &&
           fs.f_bavail == 0;
}

/* With the lock held. */
static void set_state(struct writeback *wb, enum writeback_state state, int code)
{
    if (state == wb->state)
        return;
    wb->state = state;
    if (state == WRITEBACK_OK) {
        wb->error[0] = '\0';
        log_info("%s: written again", wb->path);
    } else {
        snprintf(wb->error, sizeof wb->error, "%s: cannot be written: %s%s", wb->path, sqlite3_errmsg(wb->db),
                 state != WRITEBACK_FATAL          ? "; trying on"
                 : (code & 0xff) == SQLITE_CORRUPT ? "; " STATE_DB_MEND
                                                   : "");
        log_error("%s (code %d)", wb->error, code);
    }
}

static int on_commit_to_journal(void *arg, sqlite3 *db, const char *name, int pages)
{
    struct writeback *wb = arg;

    (void)db;
    (void)name;
    wb->journal_pages = pages;
    return SQLITE_OK;
}

/* After a commit: what is in the WAL goes into the database. Not left to SQLite,
 * whose automatic checkpoint swallows a failed fsync; the next one would succeed
 * without having written, and call durable what is not. */
static int checkpoint(struct writeback *wb)
{
    int code;

    if (wb->journal_pages < CHECKPOINT_PAGES)
        return SQLITE_OK;
    code = sqlite3_wal_checkpoint_v2(wb->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    wb->journal_pages = 0;
    /* What stays in the WAL because a reader needs it, or the disk is full, is safe there. */
    return (code & 0xff) == SQLITE_BUSY || (code & 0xff) == SQLITE_LOCKED || is_disk_full(wb, code)
               ? SQLITE_OK
               : code;
}

/* With the lock held; gives it up meanwhile. Commits the head of the queue. */
static void commit_head(struct writeback *wb, uint64_t *retry_ms)
{
    struct batch *b = wb->head;
    bool durable = b->index >= wb->sync_index && wb->sync_index > wb->durable;
    int code;

    pthread_mutex_unlock(&wb->lock);
    code = state_writer_apply(wb->writer, b, durable);
    if (code == SQLITE_OK)
        code = checkpoint(wb);
    pthread_mutex_lock(&wb->lock);
    if (code == SQLITE_OK) {
        wb->head = b->next;
        if (wb->head == NULL)
            wb->tail = &wb->head;
        wb->queued_bytes -= b->bytes;
        wb->flushed = b->index;
        if (durable)
            wb->durable = b->index;
        set_state(wb, WRITEBACK_OK, code);
        *retry_ms = RETRY_MIN_MS;
        pthread_cond_broadcast(&wb->wake);
        pthread_mutex_unlock(&wb->lock);
        batch_free(b);
        notify(wb);
        pthread_mutex_lock(&wb->lock);
        return;
    }
    if (is_disk_full(wb, code))
        set_state(wb, WRITEBACK_FULL, code);
    else if ((code & 0xff) == SQLITE_BUSY || (code & 0xff) == SQLITE_LOCKED)
        set_state(wb, WRITEBACK_BUSY, code);
    else {
        state_db_mark_failed(wb->path);
        set_state(wb, WRITEBACK_FATAL, code);
    }
    pthread_cond_broadcast(&wb->wake);
    pthread_mutex_unlock(&wb->lock);
    notify(wb);
    pthread_mutex_lock(&wb->lock);
    if (wb->state != WRITEBACK_FATAL && !wb->discard) {
        wait_ms(wb, *retry_ms);
        *retry_ms = *retry_ms * 2 < RETRY_MAX_MS ? *retry_ms * 2 : RETRY_MAX_MS;
    }
}

static void *writer_main(void *arg)
{
    struct writeback *wb = arg;
    uint64_t retry_ms = RETRY_MIN_MS;

    pthread_mutex_lock(&wb->lock);
    while (!wb->discard && wb->state != WRITEBACK_FATAL) {
        if (wb->head != NULL)
            commit_head(wb, &retry_ms);
        else if (wb->stop)
            break;
        else
            pthread_cond_wait(&wb->wake, &wb->lock);
    }
    pthread_mutex_unlock(&wb->lock);
    return NULL;
}

static int open_db(struct writeback *wb, char error[STATE_DB_ERROR_MAX])
{
    static const struct batch nothing;
    struct meta_record meta;
    int code, rv = state_db_open(wb->path, STATE_DB_CREATE, &wb->db, error);

    if (rv < 0)
        return rv;
    code = sqlite3_exec(wb->db,
                        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0;"
                        " PRAGMA cache_size=-32768; PRAGMA secure_delete=FAST;",
                        NULL, NULL, NULL);
    sqlite3_wal_hook(wb->db, on_commit_to_journal, wb);
    if (code == SQLITE_OK)
        wb->writer = state_writer_new(wb->db, wb->s->group);
    if (wb->writer == NULL)
        return state_db_fail(wb->db, code, wb->path, "cannot prepare to write", error);
    rv = state_db_read_meta(wb->db, wb->path, &meta, error);
    if (rv < 0 && rv != -ENOENT)
        return rv;
    wb->flushed = wb->queued_index = rv == 0 ? meta.applied : 0;
    /* What a crashed process left may still be in the page cache only. */
    code = state_writer_apply(wb->writer, &nothing, true);
    if (code == SQLITE_OK) {
        wb->durable = wb->flushed;
    } else if (!is_disk_full(wb, code)) {
        rv = state_db_fail(wb->db, code, wb->path, "cannot be made durable", error);
        state_db_mark_failed(wb->path);
        return rv;
    }
    return 0;
}

int writeback_start(const char *path, struct journal *j, struct store *s,
                    const struct writeback_options *options, struct writeback **wb_out,
                    char error[STATE_DB_ERROR_MAX])
{
    struct writeback *wb = calloc(1, sizeof *wb);
    pthread_condattr_t attr;
    int rv = -ENOMEM;

    *wb_out = NULL;
    snprintf(error, STATE_DB_ERROR_MAX, "%s: out of memory", path);
    if (wb == NULL)
        return rv;
    wb->path = strdup(path);
    wb->j = j;
    wb->s = s;
    wb->tail = &wb->head;
    if (options != NULL)
        wb->options = *options;
    if (wb->options.interval_ms == 0)
        wb->options.interval_ms = 200;
    if (wb->options.commands == 0)
        wb->options.commands = 8000;
    if (wb->options.bytes == 0)
        wb->options.bytes = 16 << 20;
    if (wb->options.durable_ms == 0)
        wb->options.durable_ms = 5000;
    if (wb->options.durable_bytes == 0)
        wb->options.durable_bytes = 64 << 20;
    if (wb->path != NULL)
        rv = open_db(wb, error);
    if (rv < 0)
        goto fail;
    pthread_mutex_init(&wb->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&wb->wake, &attr);
    pthread_condattr_destroy(&attr);
    rv = -pthread_create(&wb->thread, NULL, writer_main, wb);
    if (rv < 0) {
        snprintf(error, STATE_DB_ERROR_MAX, "cannot start the writer's thread: %s", strerror(-rv));
        pthread_mutex_destroy(&wb->lock);
        pthread_cond_destroy(&wb->wake);
        goto fail;
    }
    *wb_out = wb;
    return 0;

fail:
    state_writer_free(wb->writer);
    sqlite3_close(wb->db);
    free(wb->path);
    free(wb);
    return rv;
}

/* Seals and queues what is noted; `sync`: everything up to now becomes durable. */
static int hand_over(struct writeback *wb, bool sync)
{
    struct batch *b;
    int rv = journal_seal(wb->j, wb->s, &b);

    if (rv < 0)
        return rv;
    wb->due_ms = 0;
    wb->ripening = 0;
    wb->sync_wanted = false;
    pthread_mutex_lock(&wb->lock);
    if (b == NULL && sync && wb->durable < wb->queued_index) {
        /* All is handed over, but perhaps committed already: an empty batch syncs it. */
        b = calloc(1, sizeof *b);
        if (b == NULL) {
            pthread_mutex_unlock(&wb->lock);
            return -ENOMEM;
        }
        b->index = wb->queued_index;
    }
    if (b != NULL) {
        *wb->tail = b;
        wb->tail = &b->next;
        wb->queued_bytes += b->bytes;
        wb->queued_index = b->index;
        wb->volatile_bytes += b->bytes;
    }
    if (sync) {
        wb->sync_index = wb->queued_index;
        wb->volatile_bytes = 0;
        wb->durable_due_ms = 0;
    }
    pthread_cond_broadcast(&wb->wake);
    pthread_mutex_unlock(&wb->lock);
    return 0;
}

/* The same, a little in each turn. True: it is handed over, or an error. */
static bool hand_over_slowly(struct writeback *wb, bool sync, int *error_out)
{
    wb->sync_wanted |= sync;
    if (wb->ripening++ < RIPEN_TURNS && !journal_ripen(wb->j, RIPEN_BYTES))
        return false;
    *error_out = hand_over(wb, wb->sync_wanted);
    return true;
}

static bool is_busy(struct writeback *wb)
{
    bool busy;

    pthread_mutex_lock(&wb->lock);
    busy = wb->head != NULL;
    pthread_mutex_unlock(&wb->lock);
    return busy;
}

/* While the writer has something in hand, more is gathered: a row that changes
 * again is written once, and a larger transaction writes fewer pages a command. */
static bool is_due(struct writeback *wb, uint64_t now_ms)
{
    const struct writeback_options *o = &wb->options;
    size_t parts = journal_part_bytes(wb->j);

    if (journal_bytes(wb->j) - parts >= o->bytes || parts >= PARTS_BYTES * o->bytes ||
        journal_commands(wb->j) >= BUSY_COMMANDS * o->commands)
        return true;
    if (parts > 0)
        return now_ms >= wb->due_ms + PARTS_WAIT_MS && !is_busy(wb);
    return (now_ms >= wb->due_ms || journal_commands(wb->j) >= o->commands) && !is_busy(wb);
}

/* Parts that are about to end are not written for the sake of durability alone. */
static bool is_sync_due(const struct writeback *wb, uint64_t now_ms)
{
    size_t limit = wb->options.durable_bytes;
    uint64_t due = wb->durable_due_ms;

    if (journal_part_bytes(wb->j) > 0 && wb->due_ms != 0 && now_ms < wb->due_ms + PARTS_WAIT_MS) {
        limit *= 2;
        due += due != 0 ? PARTS_WAIT_MS : 0;
    }
    return (due != 0 && now_ms >= due) || wb->volatile_bytes >= limit;
}

uint64_t writeback_poll(struct writeback *wb, uint64_t now_ms, int *error_out)
{
    const struct writeback_options *o = &wb->options;
    bool waiting = journal_commands(wb->j) > 0 || journal_bytes(wb->j) > 0, sync;
    uint64_t next;

    *error_out = 0;
    if (waiting && wb->due_ms == 0)
        wb->due_ms = now_ms + o->interval_ms;
    sync = is_sync_due(wb, now_ms);
    if (sync || wb->ripening > 0 || (waiting && is_due(wb, now_ms))) {
        /* What it was to be when it began to ripen counts, not whether that would be due now. */
        sync |= wb->sync_wanted;
        if (!hand_over_slowly(wb, sync, error_out))
            return 0;
        if (!sync && wb->durable_due_ms == 0)
            wb->durable_due_ms = now_ms + o->durable_ms;
        waiting = false;
    }
    next = UINT64_MAX;
    if (waiting && wb->due_ms > now_ms) /* else the writer is busy: it will notify */
        next = wb->due_ms - now_ms;
    else if (waiting && wb->due_ms + PARTS_WAIT_MS > now_ms)
        next = wb->due_ms + PARTS_WAIT_MS - now_ms;
    if (wb->durable_due_ms != 0 && wb->durable_due_ms > now_ms && wb->durable_due_ms - now_ms < next)
        next = wb->durable_due_ms - now_ms;
    return next;
}

int writeback_flush(struct writeback *wb)
{
    int rv = 0;

    if (wb->durable_due_ms == 0)
        wb->durable_due_ms = clock_boot_ms() + wb->options.durable_ms;
    hand_over_slowly(wb, false, &rv);
    return rv;
}

int writeback_sync(struct writeback *wb)
{
    return hand_over(wb, true);
}

static uint64_t locked(const struct writeback *wb, const uint64_t *number)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&wb->lock;
    uint64_t value;

    pthread_mutex_lock(lock);
    value = *number;
    pthread_mutex_unlock(lock);
    return value;
}

uint64_t writeback_flushed_index(const struct writeback *wb)
{
    return locked(wb, &wb->flushed);
}

uint64_t writeback_durable_index(const struct writeback *wb)
{
    return locked(wb, &wb->durable);
}

enum writeback_state writeback_state(const struct writeback *wb)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&wb->lock;
    enum writeback_state state;

    pthread_mutex_lock(lock);
    state = wb->state;
    pthread_mutex_unlock(lock);
    return state;
}

void writeback_error(const struct writeback *wb, char text[STATE_DB_ERROR_MAX])
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&wb->lock;

    pthread_mutex_lock(lock);
    memcpy(text, wb->error, STATE_DB_ERROR_MAX);
    pthread_mutex_unlock(lock);
}

size_t writeback_pending_bytes(const struct writeback *wb)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&wb->lock;
    size_t bytes;

    pthread_mutex_lock(lock);
    bytes = wb->queued_bytes;
    pthread_mutex_unlock(lock);
    return bytes + journal_bytes(wb->j);
}

bool writeback_free(struct writeback *wb, bool flush, uint64_t timeout_ms)
{
    uint64_t until = clock_boot_ms() + timeout_ms, now;
    bool written;

    if (wb == NULL)
        return true;
    if (flush && hand_over(wb, true) < 0)
        flush = false;
    pthread_mutex_lock(&wb->lock);
    wb->stop = true;
    wb->discard = !flush;
    pthread_cond_broadcast(&wb->wake);
    while (flush && wb->head != NULL && wb->state != WRITEBACK_FATAL && (now = clock_boot_ms()) < until) {
        if (wb->state == WRITEBACK_FULL && now + STOP_FULL_MS < until)
            until = now + STOP_FULL_MS;
        wait_ms(wb, until - now < STOP_LOOK_MS ? until - now : STOP_LOOK_MS);
    }
    wb->discard = true;
    pthread_cond_broadcast(&wb->wake);
    written = wb->head == NULL && wb->state != WRITEBACK_FATAL && flush;
    pthread_mutex_unlock(&wb->lock);
    pthread_join(wb->thread, NULL);
    while (wb->head != NULL) {
        struct batch *b = wb->head;

        wb->head = b->next;
        batch_free(b);
    }
    state_writer_free(wb->writer);
    sqlite3_close(wb->db);
    pthread_mutex_destroy(&wb->lock);
    pthread_cond_destroy(&wb->wake);
    free(wb->path);
    free(wb);
    return written;
}
