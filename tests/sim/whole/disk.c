/* log.db as a disk with a queue. What is queued reaches the disk in order; a crash
 * leaves any prefix of it, the last operation perhaps in part. Terms and votes are
 * written at once, as log_store.h promises. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"
#include "tests/sim/whole/whole.h"

struct log_store {
    struct host *host;
    void (*notify)(void *arg);
    void *arg;
    struct log_store_event *events; /* completions not yet handed out */
    size_t n_events, cap_events;
    enum log_store_state state;
    uint64_t commits;
};

static void kick(struct log_store *s);

/* ---- the platter ---- */

uint64_t disk_last(const struct disk *d)
{
    return d->start_index + d->n - 1;
}

static struct entry *entry_at(const struct disk *d, uint64_t index)
{
    return index >= d->start_index && index - d->start_index < d->n ? d->entries[index - d->start_index]
                                                                    : NULL;
}

bool disk_has(const struct host *h, uint64_t index, uint64_t term)
{
    const struct entry *e = entry_at(&h->disk, index);

    if (e != NULL && e->term == term)
        return true;
    return index <= h->disk.snapshot.index || (!h->state.damaged && index <= h->state.durable);
}

static void cut_tail(struct disk *d, uint64_t index)
{
    while (d->n > 0 && disk_last(d) >= index)
        entry_put(d->entries[--d->n]);
}

static void cut_head(struct disk *d, uint64_t keep_from)
{
    size_t k = keep_from > d->start_index ? (size_t)(keep_from - d->start_index) : 0;

    if (k > d->n)
        k = d->n;
    for (size_t i = 0; i < k; i++)
        entry_put(d->entries[i]);
    d->n -= k;
    memmove(d->entries, d->entries + k, d->n * sizeof(struct entry *));
    d->start_index += k;
}

static void add(struct disk *d, struct entry *e)
{
    if (d->n == d->cap) {
        d->cap = d->cap > 0 ? d->cap * 2 : 64;
        d->entries = realloc(d->entries, d->cap * sizeof(struct entry *));
        if (d->entries == NULL)
            abort();
    }
    d->entries[d->n++] = entry_ref(e);
}

static void set_note(struct disk *d, const void *data, size_t len)
{
    buffer_clear(&d->note);
    buffer_put_bytes(&d->note, data, len);
}

/* part: how many entries of an append arrive; of others 0 or all. */
static void carry_out(struct host *h, const struct disk_operation *o, size_t part)
{
    struct disk *d = &h->disk;

    if (part == 0 && o->type != DISK_APPEND)
        return;
    d->exists |= o->type != DISK_NOTE;
    switch (o->type) {
    case DISK_APPEND:
        cut_tail(d, o->index);
        if (disk_last(d) + 1 != o->index)
            violation("n%d: log.db ends at %lu, a write comes at %lu", h->id, disk_last(d), o->index);
        for (size_t i = 0; i < part; i++)
            add(d, o->entries[i]);
        break;
    case DISK_TRIM:
        snapshot_meta_deinit(&d->snapshot);
        snapshot_meta_copy(&o->meta, &d->snapshot);
        cut_head(d, o->index);
        break;
    case DISK_RESET:
        cut_tail(d, 0);
        d->start_index = o->meta.index + 1;
        snapshot_meta_deinit(&d->snapshot);
        snapshot_meta_copy(&o->meta, &d->snapshot);
        break;
    case DISK_NOTE:
        set_note(d, o->note.data, o->note.len);
        break;
    }
}

static size_t whole_of(const struct disk_operation *o)
{
    return o->type == DISK_APPEND ? o->n : 1;
}

static void operation_deinit(struct disk_operation *o)
{
    for (size_t i = 0; i < o->n; i++)
        entry_put(o->entries[i]);
    free(o->entries);
    snapshot_meta_deinit(&o->meta);
    buffer_deinit(&o->note);
}

static struct disk_operation *enqueue(struct disk *d, enum disk_operation_type type)
{
    struct disk_operation *o;

    if (d->n_queue == d->cap_queue) {
        d->cap_queue = d->cap_queue > 0 ? d->cap_queue * 2 : 16;
        d->queue = realloc(d->queue, d->cap_queue * sizeof *d->queue);
        if (d->queue == NULL)
            abort();
    }
    o = &d->queue[d->n_queue++];
    memset(o, 0, sizeof *o);
    o->type = type;
    return o;
}

void disk_crash(struct host *h)
{
    struct disk *d = &h->disk;
    size_t reached = (size_t)rnd_range(0, (int64_t)d->n_queue);

    if (options.plant == PLANT_EARLY_ACK)
        reached = 0;
    for (size_t i = 0; i < d->n_queue; i++) {
        struct disk_operation *o = &d->queue[i];

        if (i < reached)
            carry_out(h, o, whole_of(o));
        else if (i == reached && rnd_chance(0.5) && options.plant != PLANT_EARLY_ACK)
            carry_out(h, o, (size_t)rnd_range(0, (int64_t)whole_of(o)));
        operation_deinit(o);
    }
    d->n_queue = 0;
    d->busy = false;
    if (options.plant == PLANT_LOST_VOTE && d->old_term > 1) {
        d->term = d->old_term;
        d->vote = d->old_vote;
    }
    d->failed = d->fsync_fails = false; /* the next start works on a copy */
}

void disk_deinit(struct disk *d)
{
    for (size_t i = 0; i < d->n_queue; i++)
        operation_deinit(&d->queue[i]);
    free(d->queue);
    cut_tail(d, 0);
    free(d->entries);
    snapshot_meta_deinit(&d->snapshot);
    buffer_deinit(&d->note);
    *d = (struct disk){.start_index = 1};
}

static void copy(const struct disk *from, struct disk *to)
{
    *to = (struct disk){.exists = from->exists,
                        .term = from->term,
                        .vote = from->vote,
                        .old_term = from->old_term,
                        .old_vote = from->old_vote,
                        .start_index = from->start_index};
    for (size_t i = 0; i < from->n; i++)
        add(to, from->entries[i]);
    snapshot_meta_copy(&from->snapshot, &to->snapshot);
    set_note(to, from->note.data, from->note.len);
}

void disk_copy(const struct host *h, struct disk *copy_out)
{
    disk_deinit(copy_out);
    copy(&h->disk, copy_out);
}

void disk_put_back(struct host *h, const struct disk *from)
{
    disk_deinit(&h->disk);
    copy(from, &h->disk);
}

void disk_wipe(struct host *h)
{
    disk_deinit(&h->disk);
}

/* ---- the committer ---- */

static void complete(struct log_store *s, enum log_store_event_type type)
{
    if (s->n_events == s->cap_events) {
        s->cap_events = s->cap_events > 0 ? s->cap_events * 2 : 16;
        s->events = realloc(s->events, s->cap_events * sizeof *s->events);
        if (s->events == NULL)
            abort();
    }
    s->events[s->n_events++] = (struct log_store_event){type, NODE_GROUP};
}

static void report(struct log_store *s, const struct disk_operation *o)
{
    if (o->type == DISK_APPEND && options.plant != PLANT_EARLY_ACK)
        complete(s, LOG_STORE_APPENDED);
    else if (o->type == DISK_RESET)
        complete(s, LOG_STORE_RESET);
}

static void fail(struct log_store *s)
{
    trace("n%d: fsync of log.db fails", s->host->id);
    s->state = LOG_STORE_FAILED;
    s->host->disk.failed = true;
    s->notify(s->arg);
}

/* The first n operations are durable. */
static void finish(struct log_store *s, size_t n)
{
    struct disk *d = &s->host->disk;

    for (size_t i = 0; i < n; i++) {
        carry_out(s->host, &d->queue[i], whole_of(&d->queue[i]));
        report(s, &d->queue[i]);
        operation_deinit(&d->queue[i]);
    }
    d->n_queue -= n;
    memmove(d->queue, d->queue + n, d->n_queue * sizeof *d->queue);
    s->commits++;
    s->notify(s->arg);
}

/* One transaction: some of what is queued. */
static void commit(struct host *h, void *arg, uint64_t number)
{
    struct log_store *s = arg;
    struct disk *d = &h->disk;
    size_t n = rnd_chance(0.6) || d->n_queue == 0 ? d->n_queue : (size_t)rnd_range(1, (int64_t)d->n_queue);

    d->busy = false;
    if (s->state == LOG_STORE_FAILED || n == 0)
        return;
    if (d->fsync_fails) {
        fail(s);
        return;
    }
    if (world.now < d->full_until) {
        if (s->state != LOG_STORE_FULL) {
            s->state = LOG_STORE_FULL;
            s->notify(s->arg);
        }
        d->busy = true;
        queue_at(d->full_until + rnd_range(0, 500 * MS), h, commit, s, 0, NULL);
        return;
    }
    s->state = LOG_STORE_OK;
    finish(s, n);
    kick(s);
}

static void kick(struct log_store *s)
{
    struct disk *d = &s->host->disk;
    int64_t time;

    if (d->n_queue == 0 || d->busy)
        return;
    d->busy = true;
    time = rnd_range(100, world.calm ? 2 * MS : 6 * MS);
    if (!world.calm && rnd_chance(0.01))
        time += rnd_range(20 * MS, 300 * MS);
    if (!world.calm && world.now < d->slow_until)
        time += rnd_range(20 * MS, 800 * MS);
    queue_at(world.now + time, s->host, commit, s, 0, NULL);
}

/* ---- log_store.h ---- */

int log_store_open(const char *path, void (*notify)(void *arg), void *arg, struct log_store **out, char *why)
{
    struct log_store *s = calloc(1, sizeof *s);

    if (s == NULL)
        abort();
    s->host = host_of_path(path);
    s->notify = notify;
    s->arg = arg;
    *out = s;
    return 0;
}

void log_store_close(struct log_store *s)
{
    if (s == NULL)
        return;
    free(s->events);
    free(s);
}

int log_store_load(struct log_store *s, uint16_t group, struct log_store_log *out, char *why)
{
    const struct disk *d = &s->host->disk;

    memset(out, 0, sizeof *out);
    out->exists = d->exists;
    out->term = d->term;
    out->vote = d->vote;
    out->start_index = d->start_index;
    snapshot_meta_copy(&d->snapshot, &out->snapshot);
    out->entries = calloc(d->n + 1, sizeof(struct entry *));
    if (out->entries == NULL)
        abort();
    for (; out->n_entries < d->n; out->n_entries++)
        out->entries[out->n_entries] = entry_ref(d->entries[out->n_entries]);
    return 0;
}

void log_store_log_deinit(struct log_store_log *l)
{
    for (size_t i = 0; i < l->n_entries; i++)
        entry_put(l->entries[i]);
    free(l->entries);
    snapshot_meta_deinit(&l->snapshot);
    memset(l, 0, sizeof *l);
}

int log_store_save_term(struct log_store *s, uint16_t group, uint64_t term, uint64_t vote)
{
    struct disk *d = &s->host->disk;

    if (d->fsync_fails)
        fail(s);
    if (s->state == LOG_STORE_FAILED)
        return -EIO;
    if (term < d->term || (term == d->term && d->vote != 0 && vote != d->vote))
        violation("n%d: term %lu and vote %lu are followed by %lu and %lu", s->host->id, d->term, d->vote,
                  term, vote);
    d->exists = true;
    d->old_term = d->term;
    d->old_vote = d->vote;
    d->term = term;
    d->vote = vote;
    return 0;
}

int log_store_append(struct log_store *s, uint16_t group, uint64_t index, struct entry *const *entries,
                     size_t n)
{
    struct disk_operation *o = enqueue(&s->host->disk, DISK_APPEND);

    o->index = index;
    o->entries = malloc((n + 1) * sizeof(struct entry *));
    if (o->entries == NULL)
        abort();
    for (; o->n < n; o->n++)
        o->entries[o->n] = entry_ref(entries[o->n]);
    if (options.plant == PLANT_EARLY_ACK) {
        complete(s, LOG_STORE_APPENDED);
        s->notify(s->arg);
    }
    kick(s);
    return 0;
}

int log_store_trim(struct log_store *s, uint16_t group, const struct snapshot_meta *meta, uint64_t keep_from)
{
    struct disk_operation *o = enqueue(&s->host->disk, DISK_TRIM);

    o->index = keep_from;
    snapshot_meta_copy(meta, &o->meta);
    kick(s);
    return 0;
}

int log_store_reset(struct log_store *s, uint16_t group, const struct snapshot_meta *meta)
{
    snapshot_meta_copy(meta, &enqueue(&s->host->disk, DISK_RESET)->meta);
    kick(s);
    return 0;
}

int log_store_put_note(struct log_store *s, const void *data, size_t len)
{
    buffer_put_bytes(&enqueue(&s->host->disk, DISK_NOTE)->note, data, len);
    kick(s);
    return 0;
}

int log_store_save_note(struct log_store *s, const void *data, size_t len)
{
    if (s->host->disk.fsync_fails)
        fail(s);
    if (s->state == LOG_STORE_FAILED)
        return -EIO;
    set_note(&s->host->disk, data, len);
    return 0;
}

uint64_t log_store_life(const struct log_store *s)
{
    return 1;
}

const void *log_store_note(const struct log_store *s, size_t *len_out)
{
    *len_out = s->host->disk.note.len;
    return *len_out > 0 ? s->host->disk.note.data : NULL;
}

int log_store_sync(struct log_store *s)
{
    struct disk *d = &s->host->disk;

    if (d->fsync_fails)
        fail(s);
    if (s->state == LOG_STORE_FAILED)
        return -EIO;
    finish(s, d->n_queue);
    return 0;
}

size_t log_store_poll(struct log_store *s, struct log_store_event *events, size_t max)
{
    size_t n = s->n_events < max ? s->n_events : max;

    if (n == 0)
        return 0;
    memcpy(events, s->events, n * sizeof *events);
    s->n_events -= n;
    memmove(s->events, s->events + n, s->n_events * sizeof *events);
    return n;
}

enum log_store_state log_store_state(const struct log_store *s)
{
    return s->state;
}

uint64_t log_store_queued_bytes(const struct log_store *s)
{
    return 0;
}

uint64_t log_store_commits(const struct log_store *s)
{
    return s->commits;
}
