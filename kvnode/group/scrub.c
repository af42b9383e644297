/* The thread sleeps until a pass is wanted, then alternates between a step and a
 * rest that is as long as the rate demands, and at least as long as the step
 * took. What it shares with the loop is under `lock`; the loop never waits for a
 * pass, and in scrub_pause() for one step at most.
 *
 * A pass should see the disk and not the memory that holds a copy of it, so the
 * kernel is asked to forget the file's clean pages first. The descriptor for that
 * stays open until the file is another one: closing it would give up all locks
 * that SQLite holds on the same file in this process (fcntl(2)). */
#include "kvnode/group/scrub.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kvnode/disk/state_db_internal.h"
#include "kvnode/disk/state_db_scrub.h"
#include "kvnode/group/digest_ring.h"
#include "sync/base/clock.h"
#include "sync/base/log.h"

/* ioprio_set(2) */
#define IOPRIO_WHO_PROCESS 1
#define IOPRIO_IDLE (3 << 13)
#define NICE 19
/* The first pass: after this part of the interval, once to four times by the node's
 * id, so that not all nodes do it at once. */
#define FIRST_PART 24
#define FIRST_SPREAD 4

struct scrub {
    struct scrub_options options;
    pthread_t thread;
    int fd; /* the thread's; see above */

    /* Loop thread. */
    uint64_t due_ms; /* 0: never */
    unsigned ends_told;
    bool compared; /* this pass's digest with memory's */
    bool differs;  /* they are not the same */

    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t wake;
    bool stop, paused, at_file;
    unsigned wanted, begun, ended; /* passes, counted */
    bool under_way;
    uint64_t rate; /* bytes a second */
    struct state_scrub_progress progress;
    uint64_t size;
    struct scrub_view last; /* without state, read and size */
};

static uint64_t monotonic_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ---- the thread ---- */

/* With the lock held. */
static bool given_up(const struct scrub *s)
{
    return s->stop || s->paused || s->wanted != s->begun;
}

static void rest_until(struct scrub *s, uint64_t ns)
{
    struct timespec until = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};

    while (!given_up(s) && pthread_cond_timedwait(&s->wake, &s->lock, &until) == 0)
        ;
}

static void forget_pages(struct scrub *s)
{
    struct stat now, old;

    if (s->fd >= 0 && (stat(s->options.path, &now) != 0 || fstat(s->fd, &old) != 0 ||
                       now.st_ino != old.st_ino || now.st_dev != old.st_dev)) {
        close(s->fd);
        s->fd = -1;
    }
    if (s->fd < 0)
        s->fd = open(s->options.path, O_RDONLY | O_CLOEXEC);
    if (s->fd >= 0)
        posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* With the lock held, which it gives up while it works. The result of the steps. */
static int pass(struct scrub *s, char error[STATE_DB_ERROR_MAX])
{
    struct state_scrub *file = NULL;
    struct state_scrub_progress p = {0};
    struct stat st = {0};
    uint64_t due = monotonic_ns();
    int rv;

    pthread_mutex_unlock(&s->lock);
    forget_pages(s);
    rv = state_scrub_open(s->options.path, &file, error);
    if (rv == 0)
        rv = stat(s->options.path, &st) == 0 ? 1 : -errno;
    pthread_mutex_lock(&s->lock);
    s->size = (uint64_t)st.st_size;
    while (rv == 1 && !given_up(s)) {
        uint64_t before = p.read, begin = monotonic_ns(), end, least;

        pthread_mutex_unlock(&s->lock);
        rv = state_scrub_step(file, &p);
        end = monotonic_ns();
        pthread_mutex_lock(&s->lock);
        if (!given_up(s))
            s->progress = p;
        due = (due > begin ? due : begin) + (p.read - before) * 1000000000 / s->rate;
        least = end + (end - begin);
        if (rv == 1)
            rest_until(s, due > least ? due : least);
    }
    pthread_mutex_unlock(&s->lock);
    state_scrub_close(file);
    pthread_mutex_lock(&s->lock);
    return rv;
}

static void *scrub_main(void *arg)
{
    struct scrub *s = arg;

    /* Both for this thread only; where that is refused, the rate still holds. */
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE);
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        char error[STATE_DB_ERROR_MAX] = "";
        uint64_t begin_ms = clock_boot_ms();
        int rv;

        if (s->paused || s->wanted == s->begun) {
            pthread_cond_wait(&s->wake, &s->lock);
            continue;
        }
        s->begun = s->wanted;
        s->at_file = true;
        s->progress = (struct state_scrub_progress){0};
        rv = pass(s, error);
        s->at_file = false;
        pthread_cond_broadcast(&s->wake);
        if (rv == 1 || given_up(s))
            continue;
        s->under_way = false;
        s->ended++;
        s->last.last = rv == 0 ? SCRUB_CLEAN : rv == -EUCLEAN ? SCRUB_DAMAGED : SCRUB_FAILED;
        s->last.damaged = rv == -EUCLEAN;
        s->last.ended_wall_ns = clock_wall_ns();
        s->last.ended_boot_ms = clock_boot_ms();
        s->last.took_ms = s->last.ended_boot_ms - begin_ms;
        s->last.last_read = s->progress.read;
        memcpy(s->last.error, error, sizeof error);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- the loop ---- */

struct scrub *scrub_new(const struct scrub_options *options)
{
    struct scrub *s = calloc(1, sizeof *s);
    pthread_condattr_t attr;

    if (s == NULL)
        return NULL;
    s->options = *options;
    s->fd = -1;
    s->rate = options->bytes_per_s;
    if (options->interval_ms > 0)
        s->due_ms = clock_boot_ms() + options->interval_ms / FIRST_PART * (1 + options->node % FIRST_SPREAD);
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wake, &attr);
    pthread_condattr_destroy(&attr);
    if (pthread_create(&s->thread, NULL, scrub_main, s) != 0) {
        pthread_mutex_destroy(&s->lock);
        pthread_cond_destroy(&s->wake);
        free(s);
        return NULL;
    }
    return s;
}

void scrub_free(struct scrub *s)
{
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    if (s->fd >= 0)
        close(s->fd);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->wake);
    free(s);
}

void scrub_begin(struct scrub *s, uint64_t bytes_per_s)
{
    pthread_mutex_lock(&s->lock);
    s->rate = bytes_per_s != 0 ? bytes_per_s : s->options.bytes_per_s;
    s->wanted++;
    s->under_way = true;
    s->progress = (struct state_scrub_progress){0};
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->lock);
    s->compared = s->differs = false;
}

void scrub_pause(struct scrub *s)
{
    pthread_mutex_lock(&s->lock);
    s->paused = true;
    pthread_cond_broadcast(&s->wake);
    while (s->at_file)
        pthread_cond_wait(&s->wake, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

void scrub_resume(struct scrub *s)
{
    pthread_mutex_lock(&s->lock);
    s->paused = false;
    s->last.damaged = false;
    s->progress = (struct state_scrub_progress){0};
    if (s->under_way)
        s->wanted++;
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->lock);
    s->compared = s->differs = false;
}

/* A file may be whole, and yet be of another state than memory is. As soon as its
 * digest is known: memory forgets what its own was. */
static void compare(struct scrub *s, const struct state_scrub_progress *p)
{
    uint64_t digest;

    s->compared = true;
    s->differs = digest_ring_find(s->options.digests, p->index, &digest) && digest != p->digest;
}

static void tell_end(struct scrub *s, const struct scrub_view *v)
{
    switch (v->last) {
    case SCRUB_DAMAGED:
        log_error("%s", v->error);
        s->options.on_found(s->options.arg, true);
        break;
    case SCRUB_FAILED:
        log_warn("scrub: %s", v->error);
        break;
    default:
        log_info("scrub: state.db is whole: %llu bytes in %llu ms", (unsigned long long)v->last_read,
                 (unsigned long long)v->took_ms);
        s->options.on_found(s->options.arg, false);
    }
}

/* Nobody has to do by hand what the node does by itself. */
static void say_mend(char error[STATE_DB_ERROR_MAX])
{
    char *mend = strstr(error, "; " STATE_DB_MEND);
    size_t left;

    if (mend == NULL)
        return;
    left = STATE_DB_ERROR_MAX - (size_t)(mend - error);
    snprintf(mend, left, "; the node fetches it anew from the leader and serves from memory until then");
}

static void collect(struct scrub *s)
{
    struct state_scrub_progress progress;
    struct scrub_view v;
    bool ended;

    pthread_mutex_lock(&s->lock);
    progress = s->progress;
    ended = s->ended != s->ends_told;
    s->ends_told = s->ended;
    pthread_mutex_unlock(&s->lock);
    if (progress.rows_done && !s->compared)
        compare(s, &progress);
    if (!ended)
        return;
    pthread_mutex_lock(&s->lock);
    if (s->differs && s->last.last == SCRUB_CLEAN) {
        s->last.last = SCRUB_DAMAGED;
        s->last.damaged = true;
        state_db_damaged(s->options.path, s->last.error, "it is not the state that memory had at index %llu",
                         (unsigned long long)progress.index);
    }
    if (s->last.last == SCRUB_DAMAGED && s->options.mends)
        say_mend(s->last.error);
    v = s->last;
    pthread_mutex_unlock(&s->lock);
    tell_end(s, &v);
}

void scrub_beat(struct scrub *s, uint64_t now_ms)
{
    bool under_way;

    collect(s);
    if (s->due_ms == 0 || now_ms < s->due_ms)
        return;
    s->due_ms = now_ms + s->options.interval_ms;
    pthread_mutex_lock(&s->lock);
    under_way = s->under_way;
    pthread_mutex_unlock(&s->lock);
    if (!under_way)
        scrub_begin(s, 0);
}

void scrub_look(struct scrub *s, struct scrub_view *out)
{
    collect(s);
    pthread_mutex_lock(&s->lock);
    *out = s->last;
    out->state = s->under_way ? SCRUB_RUNNING : s->last.last;
    out->read = s->under_way ? s->progress.read : s->last.last_read;
    out->size = s->size;
    pthread_mutex_unlock(&s->lock);
}
