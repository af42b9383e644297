/* The queue in front of log.db and the thread that empties it.
 *
 *   loop thread                        committer
 *   log_store_append() ... -> queue -> everything queued, one transaction
 *   log_store_save_term()  -> term  -> first, in the same transaction
 *   log_store_poll()  <- done <------- notify()
 *
 * Operations move from `queue` to `done` in order, after the commit that holds
 * them. A transaction that finds the disk full is rolled back and its
 * operations stay where they are. */
#include "sync/raft/log/log_store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "sync/base/buffer.h"
#include "sync/base/error.h"
#include "sync/base/log.h"
#include "sync/raft/log/log_db.h"
#include "sync/raft/log/log_rewrite.h"

#define BATCH_BYTES (8u * 1024u * 1024u) /* payload in one transaction */
#define BATCH_OPERATIONS 1024u
#define SWEEP_ROWS_BUSY 256u /* dead rows deleted along with a batch */
#define SWEEP_ROWS_IDLE 2000u
#define RESERVE_BYTES (1024 * 1024)
#define RESERVE_STEP (64 * 1024) /* what one term may need, many times over */
#define RETRY_MIN_MS 50
#define RETRY_MAX_MS 2000

enum operation_type { OPERATION_APPEND, OPERATION_TRIM, OPERATION_RESET, OPERATION_NOTE };

struct operation {
    struct operation *next;
    enum operation_type type;
    uint16_t group;
    uint64_t index; /* APPEND: where; TRIM: keep_from */
    uint64_t bytes; /* of payload */
    struct snapshot_meta meta;
    struct buffer note;
    size_t n;
    struct entry *entries[]; /* owned references */
};

struct operation_list {
    struct operation *first, **end;
    size_t n;
};

struct log_store {
    char *path, *reserve_path;
    struct log_db *db; /* the committer's, once it runs */
    void (*notify)(void *arg);
    void *notify_arg;
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t work, progress; /* for the committer / for waiters on the loop thread */
    /* All of the following under lock. */
    struct operation_list queue, done;
    uint64_t queued_bytes, commits;
    struct histogram syncs;
    uint64_t n_queued, n_committed; /* operations ever */
    bool term_wanted;               /* save_term() waits */
    uint16_t term_group;
    uint64_t term, vote;
    int term_result;
    enum log_store_state state;
    bool busy; /* the committer uses the connection */
    bool stopping;

    size_t reserve; /* the committer's: bytes of the reserve that are left */
    bool back_off;  /* the committer's: the last try found the disk full */
    unsigned retry_ms;
};

/* ---- operations ---- */

static void list_init(struct operation_list *l)
{
    l->first = NULL;
    l->end = &l->first;
    l->n = 0;
}

static void list_push(struct operation_list *l, struct operation *o)
{
    o->next = NULL;
    *l->end = o;
    l->end = &o->next;
    l->n++;
}

static struct operation *list_pop(struct operation_list *l)
{
    struct operation *o = l->first;

    if (o == NULL)
        return NULL;
    l->first = o->next;
    if (l->first == NULL)
        l->end = &l->first;
    l->n--;
    return o;
}

static void operation_free(struct operation *o)
{
    for (size_t i = 0; i < o->n; i++)
        entry_put(o->entries[i]);
    snapshot_meta_deinit(&o->meta);
    buffer_deinit(&o->note);
    free(o);
}

static struct operation *operation_new(enum operation_type type, uint16_t group, uint64_t index, size_t n)
{
    struct operation *o = calloc(1, sizeof *o + n * sizeof(struct entry *));

    if (o == NULL)
        return NULL;
    o->type = type;
    o->group = group;
    o->index = index;
    return o;
}

static int enqueue(struct log_store *s, struct operation *o)
{
    pthread_mutex_lock(&s->lock);
    if (s->state == LOG_STORE_FAILED) {
        pthread_mutex_unlock(&s->lock);
        operation_free(o);
        return -EIO;
    }
    list_push(&s->queue, o);
    s->n_queued++;
    s->queued_bytes += o->bytes;
    pthread_mutex_unlock(&s->lock);
    pthread_cond_signal(&s->work); /* outside: it would wake up into the lock */
    return 0;
}

/* ---- the committer ---- */

static int run_operation(struct log_store *s, const struct operation *o)
{
    switch (o->type) {
    case OPERATION_APPEND:
        return log_db_append(s->db, o->group, o->index, o->entries, o->n);
    case OPERATION_TRIM:
        return log_db_trim(s->db, o->group, &o->meta, o->index);
    case OPERATION_RESET:
        return log_db_reset(s->db, o->group, &o->meta);
    case OPERATION_NOTE:
        return log_db_put_note(s->db, o->note.data, o->note.len);
    }
    return -EIO;
}

struct batch {
    bool with_term;
    uint16_t group;
    uint64_t term, vote;
    struct operation *first; /* stays in the queue until committed */
    size_t n;
    unsigned sweep;
};

static int run_batch(struct log_store *s, const struct batch *b, uint64_t *took_us_out)
{
    struct operation *o = NULL;
    uint64_t since;
    int result = log_db_begin(s->db);

    if (result == 0 && b->with_term)
        result = log_db_save_term(s->db, b->group, b->term, b->vote);
    for (size_t i = 0; i < b->n && result == 0; i++) {
        o = i == 0 ? b->first : o->next; /* not beyond the batch: that link is the loop thread's */
        result = run_operation(s, o);
    }
    if (result == 0 && b->sweep > 0)
        result = log_db_sweep(s->db, b->sweep);
    since = clock_boot_ns();
    if (result == 0)
        result = log_db_commit(s->db);
    *took_us_out = (clock_boot_ns() - since) / 1000;
    if (result != 0)
        log_db_rollback(s->db);
    return result;
}

/* Under lock: what the next transaction holds. While the disk is full, a term
 * goes alone, so that the reserve is not eaten by entries. */
static struct batch pick_batch(const struct log_store *s)
{
    struct batch b = {.first = s->queue.first};
    uint64_t bytes = 0;

    if (s->term_wanted) {
        b.with_term = true;
        b.group = s->term_group;
        b.term = s->term;
        b.vote = s->vote;
        if (s->state == LOG_STORE_FULL)
            return b;
    }
    for (struct operation *o = s->queue.first; o != NULL && b.n < BATCH_OPERATIONS; o = o->next) {
        bytes += o->bytes;
        if (b.n > 0 && bytes > BATCH_BYTES)
            break;
        b.n++;
    }
    b.sweep = log_db_needs_sweep(s->db) ? (b.n > 0 ? SWEEP_ROWS_BUSY : SWEEP_ROWS_IDLE) : 0;
    return b;
}

/* Under lock, after the commit. */
static bool finish_batch(struct log_store *s, const struct batch *b, struct operation_list *spent)
{
    bool news = false;

    for (size_t i = 0; i < b->n; i++) {
        struct operation *o = list_pop(&s->queue);

        s->queued_bytes -= o->bytes;
        if (o->type == OPERATION_TRIM || o->type == OPERATION_NOTE) {
            list_push(spent, o);
        } else {
            list_push(&s->done, o);
            news = true;
        }
    }
    s->n_committed += b->n;
    s->commits++;
    if (b->with_term) {
        s->term_wanted = false;
        s->term_result = 0;
    }
    pthread_cond_broadcast(&s->progress);
    return news;
}

/* On a full disk what is left of it from the last time. */
static void make_reserve(struct log_store *s)
{
    struct stat st;
    int fd;

    if (s->reserve == RESERVE_BYTES)
        return;
    fd = open(s->reserve_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    if (posix_fallocate(fd, 0, RESERVE_BYTES) == 0)
        s->reserve = RESERVE_BYTES;
    else if (fstat(fd, &st) == 0) /* some of it may be there: only what is allocated counts */
        s->reserve = (size_t)(st.st_blocks * 512 < st.st_size ? st.st_blocks * 512 : st.st_size);
    close(fd);
}

/* Frees a piece of the reserve; false: there is none. Little at a time: what a term does not
 * use of it, others take, and the next term needs another. */
static bool give_up_some(struct log_store *s)
{
    if (s->reserve == 0)
        return false;
    s->reserve -= s->reserve > RESERVE_STEP ? RESERVE_STEP : s->reserve;
    if (truncate(s->reserve_path, (off_t)s->reserve) != 0)
        unlink(s->reserve_path);
    return true;
}

static bool room_again(const struct log_store *s, uint64_t queued_bytes)
{
    uint64_t wanted = (queued_bytes < BATCH_BYTES ? queued_bytes : BATCH_BYTES) + 2 * RESERVE_BYTES;
    struct statvfs v;

    return statvfs(s->path, &v) != 0 || (uint64_t)v.f_bavail * v.f_frsize >= wanted;
}

/* Under lock. */
static void set_state(struct log_store *s, enum log_store_state state)
{
    __atomic_store_n(&s->state, state, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&s->progress);
}

static void wait_ms(struct log_store *s, unsigned ms)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += ms / 1000;
    at.tv_nsec += (long)(ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&s->work, &s->lock, &at);
}

/* Under lock. What a failed transaction leads to; true: the committer goes on. */
static bool on_failure(struct log_store *s, const struct batch *b, int result)
{
    if (result == -ENOSPC) {
        if (s->state == LOG_STORE_OK)
            log_error("%s: the disk is full: nothing is acknowledged until there is room", s->path);
        /* Given up for a term only: what entries would free, state.db takes. */
        if (b->with_term && b->n == 0 && !give_up_some(s)) {
            s->term_wanted = false; /* even alone, even with the reserve given up */
            s->term_result = KV_E_NOSPC;
        }
        s->back_off = true;
        set_state(s, LOG_STORE_FULL);
        return true;
    }
    log_error("%s: %s: this node must stop", s->path, strerror(-result));
    log_rewrite_mark(s->path);
    s->term_wanted = false;
    s->term_result = -EIO;
    set_state(s, LOG_STORE_FAILED);
    return false;
}

/* Under lock: waits until there is something to do; false: stop. */
static bool wait_for_work(struct log_store *s)
{
    for (;;) {
        if (s->term_wanted)
            return true;
        if (s->stopping && (s->queue.n == 0 || s->state != LOG_STORE_OK))
            return false;
        if (s->state == LOG_STORE_FULL) {
            if (!s->back_off && room_again(s, s->queued_bytes))
                return true;
            s->back_off = false;
            wait_ms(s, s->retry_ms);
            s->retry_ms = s->retry_ms * 2 < RETRY_MAX_MS ? s->retry_ms * 2 : RETRY_MAX_MS;
            continue;
        }
        if (s->queue.n > 0 || (!s->stopping && log_db_needs_sweep(s->db)))
            return true;
        pthread_cond_wait(&s->work, &s->lock);
    }
}

static void free_list(struct operation_list *l)
{
    struct operation *o;

    while ((o = list_pop(l)) != NULL)
        operation_free(o);
}

static void *committer(void *arg)
{
    struct log_store *s = arg;
    bool going = true;

    pthread_mutex_lock(&s->lock);
    while (going && wait_for_work(s)) {
        enum log_store_state was = s->state;
        struct operation_list spent;
        struct batch b = pick_batch(s);
        bool news = false;
        uint64_t took_us;
        int result;

        list_init(&spent);
        s->busy = true;
        pthread_mutex_unlock(&s->lock);
        result = run_batch(s, &b, &took_us);
        pthread_mutex_lock(&s->lock);
        if (result == 0) {
            histogram_add(&s->syncs, took_us, 1);
            news = finish_batch(s, &b, &spent);
            if (was == LOG_STORE_FULL && (b.n > 0 || s->queue.n == 0) && room_again(s, s->queued_bytes)) {
                set_state(s, LOG_STORE_OK);
                s->retry_ms = RETRY_MIN_MS;
                log_info("%s: there is room again", s->path);
            }
        } else {
            going = on_failure(s, &b, result);
        }
        news = news || was != s->state;
        pthread_mutex_unlock(&s->lock);
        if (news)
            s->notify(s->notify_arg);
        free_list(&spent);
        if (result == 0)
            result = log_db_checkpoint(s->db);
        if (result == 0 && s->state == LOG_STORE_OK)
            make_reserve(s);
        pthread_mutex_lock(&s->lock);
        s->busy = false;
        pthread_cond_broadcast(&s->progress);
        if (going && result != 0 && result != -ENOSPC) {
            struct batch none = {0};

            going = on_failure(s, &none, result);
            pthread_mutex_unlock(&s->lock);
            s->notify(s->notify_arg);
            pthread_mutex_lock(&s->lock);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- life cycle ---- */

static void destroy(struct log_store *s)
{
    log_db_close(s->db);
    free_list(&s->queue);
    free_list(&s->done);
    free(s->path);
    free(s->reserve_path);
    free(s);
}

int log_store_open(const char *path, void (*notify)(void *arg), void *arg, struct log_store **out, char *why)
{
    struct log_store *s = calloc(1, sizeof *s);
    pthread_condattr_t attributes;
    int result;

    *out = NULL;
    why[0] = 0;
    if (s == NULL || (s->path = strdup(path)) == NULL || asprintf(&s->reserve_path, "%s-reserve", path) < 0) {
        snprintf(why, LOG_STORE_ERROR_LEN, "%.300s: out of memory", path);
        if (s != NULL)
            free(s->path);
        free(s);
        return -ENOMEM;
    }
    s->notify = notify;
    s->notify_arg = arg;
    s->retry_ms = RETRY_MIN_MS;
    list_init(&s->queue);
    list_init(&s->done);
    result = log_rewrite_if_marked(path, why);
    if (result == 0)
        result = log_db_open(path, &s->db, why);
    if (result != 0) {
        destroy(s);
        return result;
    }
    make_reserve(s);
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&s->work, &attributes);
    pthread_cond_init(&s->progress, &attributes);
    pthread_condattr_destroy(&attributes);
    result = pthread_create(&s->thread, NULL, committer, s);
    if (result != 0) {
        snprintf(why, LOG_STORE_ERROR_LEN, "%.300s: no thread: %s", path, strerror(result));
        destroy(s);
        return -result;
    }
    *out = s;
    return 0;
}

void log_store_close(struct log_store *s)
{
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->work);
    pthread_cond_destroy(&s->progress);
    destroy(s);
}

/* ---- the loop thread's side ---- */

int log_store_load(struct log_store *s, uint16_t group, struct log_store_log *out, char *why)
{
    int result;

    pthread_mutex_lock(&s->lock);
    while (s->busy) /* with another group's work */
        pthread_cond_wait(&s->progress, &s->lock);
    result = log_db_load(s->db, group, out, why);
    pthread_cond_signal(&s->work); /* dead rows may have been found */
    pthread_mutex_unlock(&s->lock);
    return result;
}

int log_store_save_term(struct log_store *s, uint16_t group, uint64_t term, uint64_t vote)
{
    int result;

    pthread_mutex_lock(&s->lock);
    if (s->state == LOG_STORE_FAILED) {
        pthread_mutex_unlock(&s->lock);
        return -EIO;
    }
    s->term_wanted = true;
    s->term_group = group;
    s->term = term;
    s->vote = vote;
    pthread_cond_signal(&s->work);
    while (s->term_wanted)
        pthread_cond_wait(&s->progress, &s->lock);
    result = s->term_result;
    pthread_mutex_unlock(&s->lock);
    return result;
}

int log_store_append(struct log_store *s, uint16_t group, uint64_t index, struct entry *const *entries,
                     size_t n)
{
    struct operation *o = operation_new(OPERATION_APPEND, group, index, n);

    if (o == NULL)
        return -ENOMEM;
    for (o->n = 0; o->n < n; o->n++) {
        o->entries[o->n] = entry_ref(entries[o->n]);
        o->bytes += entries[o->n]->len;
    }
    return enqueue(s, o);
}

int log_store_trim(struct log_store *s, uint16_t group, const struct snapshot_meta *meta, uint64_t keep_from)
{
    struct operation *o = operation_new(OPERATION_TRIM, group, keep_from, 0);

    if (o == NULL)
        return -ENOMEM;
    snapshot_meta_copy(meta, &o->meta);
    return enqueue(s, o);
}

int log_store_reset(struct log_store *s, uint16_t group, const struct snapshot_meta *meta)
{
    struct operation *o = operation_new(OPERATION_RESET, group, meta->index + 1, 0);

    if (o == NULL)
        return -ENOMEM;
    snapshot_meta_copy(meta, &o->meta);
    return enqueue(s, o);
}

int log_store_put_note(struct log_store *s, const void *data, size_t len)
{
    struct operation *o = operation_new(OPERATION_NOTE, 0, 0, 0);

    if (o == NULL)
        return -ENOMEM;
    buffer_put_bytes(&o->note, data, len);
    if (o->note.failed) {
        operation_free(o);
        return -ENOMEM;
    }
    return enqueue(s, o);
}

static int save_note(struct log_store *s, const void *data, size_t len)
{
    int result = log_db_begin(s->db);

    if (result == 0)
        result = log_db_put_note(s->db, data, len);
    if (result == 0)
        result = log_db_commit(s->db);
    if (result != 0)
        log_db_rollback(s->db);
    return result;
}

int log_store_save_note(struct log_store *s, const void *data, size_t len)
{
    int result;

    pthread_mutex_lock(&s->lock);
    while (s->busy)
        pthread_cond_wait(&s->progress, &s->lock);
    result = save_note(s, data, len);
    while (result == -ENOSPC && give_up_some(s))
        result = save_note(s, data, len);
    if (result != 0 && result != -ENOSPC) {
        log_error("%s: %s: this node must stop", s->path, strerror(-result));
        log_rewrite_mark(s->path);
        set_state(s, LOG_STORE_FAILED);
        result = -EIO;
    }
    pthread_mutex_unlock(&s->lock);
    return result == -ENOSPC ? KV_E_NOSPC : result;
}

uint64_t log_store_life(const struct log_store *s)
{
    return log_db_life(s->db);
}

const void *log_store_note(const struct log_store *s, size_t *len_out)
{
    return log_db_note(s->db, len_out);
}

int log_store_sync(struct log_store *s)
{
    uint64_t upto;
    int result;

    pthread_mutex_lock(&s->lock);
    upto = s->n_queued;
    while (s->n_committed < upto && s->state == LOG_STORE_OK)
        pthread_cond_wait(&s->progress, &s->lock);
    if (s->n_committed >= upto)
        result = 0;
    else
        result = s->state == LOG_STORE_FULL ? KV_E_NOSPC : -EIO;
    pthread_mutex_unlock(&s->lock);
    return result;
}

size_t log_store_poll(struct log_store *s, struct log_store_event *events, size_t max)
{
    struct operation_list taken;
    struct operation *o;
    size_t n = 0;

    list_init(&taken);
    pthread_mutex_lock(&s->lock);
    while (n < max && (o = list_pop(&s->done)) != NULL) {
        events[n].type = o->type == OPERATION_RESET ? LOG_STORE_RESET : LOG_STORE_APPENDED;
        events[n].group = o->group;
        n++;
        list_push(&taken, o);
    }
    pthread_mutex_unlock(&s->lock);
    free_list(&taken);
    return n;
}

enum log_store_state log_store_state(const struct log_store *s)
{
    return __atomic_load_n(&s->state, __ATOMIC_ACQUIRE);
}

uint64_t log_store_queued_bytes(const struct log_store *s)
{
    struct log_store *m = (struct log_store *)s;
    uint64_t bytes;

    pthread_mutex_lock(&m->lock);
    bytes = m->queued_bytes;
    pthread_mutex_unlock(&m->lock);
    return bytes;
}

uint64_t log_store_commits(const struct log_store *s)
{
    struct log_store *m = (struct log_store *)s;
    uint64_t commits;

    pthread_mutex_lock(&m->lock);
    commits = m->commits;
    pthread_mutex_unlock(&m->lock);
    return commits;
}

void log_store_syncs(const struct log_store *s, struct histogram *out)
{
    struct log_store *m = (struct log_store *)s;

    pthread_mutex_lock(&m->lock);
    *out = m->syncs;
    pthread_mutex_unlock(&m->lock);
}
