#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

uint64_t disk_last(const struct disk *d)
{
    return d->start_index + d->n - 1;
}

struct entry *disk_entry(const struct disk *d, uint64_t index)
{
    return index >= d->start_index && index - d->start_index < d->n ? d->entries[index - d->start_index]
                                                                    : NULL;
}

bool disk_has(const struct disk *d, uint64_t index, uint64_t term)
{
    struct entry *e = disk_entry(d, index);

    if (e != NULL)
        return e->term == term;
    return index < d->start_index || (d->half_installed && index <= d->labels.index);
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

static void push(struct disk *d, struct entry *e)
{
    if (d->n == d->cap) {
        d->cap = d->cap > 0 ? d->cap * 2 : 64;
        d->entries = realloc(d->entries, d->cap * sizeof(struct entry *));
        if (d->entries == NULL)
            abort();
    }
    d->entries[d->n++] = entry_ref(e);
}

static void write_append(struct node *n, const struct disk_operation *o, size_t upto)
{
    struct disk *d = &n->disk;

    cut_tail(d, o->index);
    if (disk_last(d) + 1 != o->index)
        violation("the disk of node %d ends at %lu, a write comes at %lu", n->id, disk_last(d), o->index);
    for (size_t i = 0; i < upto; i++)
        push(d, o->entries[i]);
}

void disk_complete_install(struct disk *d)
{
    cut_tail(d, 0);
    d->start_index = d->labels.index + 1;
    snapshot_meta_deinit(&d->snapshot);
    d->snapshot = d->labels; /* consumed */
    memset(&d->labels, 0, sizeof d->labels);
    d->half_installed = false;
}

/* upto: entries of an append that get written; phases of an install (1: the
 * state file is renamed, 2: the log is reset too). */
static void carry_out(struct node *n, struct disk_operation *o, size_t upto)
{
    struct disk *d = &n->disk;

    switch (o->type) {
    case DISK_APPEND:
        write_append(n, o, upto);
        break;
    case DISK_TRIM:
        if (upto == 0)
            break;
        if (o->meta.index > d->state.applied)
            violation("node %d trims its log at %lu, its state is durable up to %lu", n->id, o->meta.index,
                      d->state.applied);
        snapshot_meta_deinit(&d->snapshot);
        snapshot_meta_copy(&o->meta, &d->snapshot);
        cut_head(d, o->index);
        break;
    case DISK_INSTALL:
        if (upto == 0)
            break;
        if (o->file.applied > d->state.applied)
            d->state = o->file;
        snapshot_meta_deinit(&d->labels);
        snapshot_meta_copy(&o->meta, &d->labels);
        d->half_installed = true;
        if (upto > 1)
            disk_complete_install(d);
        break;
    }
}

static size_t all_of(const struct disk_operation *o)
{
    return o->type == DISK_APPEND ? o->n : 2;
}

static void operation_free(struct disk_operation *o)
{
    for (size_t i = 0; i < o->n; i++)
        entry_put(o->entries[i]);
    free(o->entries);
    snapshot_meta_deinit(&o->meta);
}

struct disk_operation *disk_queue(struct node *n, enum disk_operation_type type)
{
    struct disk_operation *o;

    if (n->n_queue == n->cap_queue) {
        n->cap_queue = n->cap_queue > 0 ? n->cap_queue * 2 : 16;
        n->queue = realloc(n->queue, n->cap_queue * sizeof *n->queue);
        if (n->queue == NULL)
            abort();
    }
    o = &n->queue[n->n_queue++];
    memset(o, 0, sizeof *o);
    o->type = type;
    return o;
}

void disk_kick(struct node *n)
{
    int64_t latency;

    if (n->n_queue == 0 || n->disk_busy)
        return;
    n->disk_busy = true;
    if (world.healed)
        latency = rnd_range(0, 2);
    else
        latency = rnd_chance(0.02) ? rnd_range(20, 300) : rnd_range(0, 6);
    if (!world.healed && world.now < n->slow_until)
        latency += rnd_range(50, 1500);
    events_push(world.now + latency, EVENT_DISK, n->id, NULL);
}

void disk_flush(struct node *n)
{
    for (size_t i = 0; i < n->n_queue; i++)
        if (!n->queue[i].done) {
            n->queue[i].done = true;
            carry_out(n, &n->queue[i], all_of(&n->queue[i]));
        }
}

void disk_format(struct node *n, struct entry *first)
{
    n->disk.start_index = 1;
    if (first == NULL)
        return;
    n->disk.term = 1;
    push(&n->disk, first);
}

void disk_finish(struct node *n)
{
    size_t finished = rnd_chance(0.4) ? (size_t)rnd_range(1, (int64_t)n->n_queue) : 1;

    n->disk_busy = false;
    for (size_t i = 0; i < finished && n->up; i++) {
        struct disk_operation o = n->queue[0];

        memmove(n->queue, n->queue + 1, --n->n_queue * sizeof *n->queue);
        if (!o.done)
            carry_out(n, &o, all_of(&o));
        if (o.type == DISK_APPEND) {
            node_check(n, engine_entries_saved(n->engine, node_clock(n)), "entries_saved");
        } else if (o.type == DISK_INSTALL) {
            if (o.file.applied > n->state.applied)
                n->state = o.file;
            else
                violation("node %d installs a snapshot at %lu over a state at %lu", n->id, o.file.applied,
                          n->state.applied);
            truth_on_state_file(n, &n->state);
            lease_on_state(n);
            node_check(n, engine_snapshot_installed(n->engine, node_clock(n)), "snapshot_installed");
        }
        operation_free(&o);
    }
    disk_kick(n);
}

void disk_crash(struct node *n)
{
    size_t reached = n->n_queue > 0 ? (size_t)rnd_range(0, (int64_t)n->n_queue) : 0;

    for (size_t i = 0; i < n->n_queue; i++) {
        struct disk_operation *o = &n->queue[i];

        if (!o->done && i < reached)
            carry_out(n, o, all_of(o));
        else if (!o->done && i == reached && rnd_chance(0.5))
            carry_out(n, o, (size_t)rnd_range(0, (int64_t)all_of(o)));
        operation_free(o);
    }
    n->n_queue = 0;
    n->disk_busy = false;
}

void disk_free(struct node *n)
{
    for (size_t i = 0; i < n->n_queue; i++)
        operation_free(&n->queue[i]);
    free(n->queue);
    cut_tail(&n->disk, 0);
    free(n->disk.entries);
    snapshot_meta_deinit(&n->disk.snapshot);
    snapshot_meta_deinit(&n->disk.labels);
}
