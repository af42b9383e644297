#include "sync/raft/engine/entry_log.h"

#include <stdlib.h>
#include <string.h>

#define MIN_SLOTS 64

void entry_log_deinit(struct entry_log *l)
{
    entry_log_reset(l, 1);
    free(l->slots);
    memset(l, 0, sizeof *l);
}

uint64_t entry_log_last(const struct entry_log *l)
{
    return l->first + l->n - 1;
}

struct entry *entry_log_at(const struct entry_log *l, uint64_t index)
{
    return index >= l->first && index - l->first < l->n ? l->slots[l->head + (index - l->first)] : NULL;
}

struct entry *const *entry_log_from(const struct entry_log *l, uint64_t index)
{
    return &l->slots[l->head + (index - l->first)];
}

static bool make_room(struct entry_log *l)
{
    size_t cap = l->cap > 0 ? l->cap : MIN_SLOTS;
    struct entry **slots;

    if (l->head + l->n < l->cap)
        return true;
    /* A head at least as large as the rest pays for moving the rest. */
    if (l->head > 0 && l->head >= l->n) {
        memmove(l->slots, l->slots + l->head, l->n * sizeof(struct entry *));
        l->head = 0;
        return true;
    }
    while (cap <= l->head + l->n)
        cap *= 2;
    slots = realloc(l->slots, cap * sizeof(struct entry *));
    if (slots == NULL)
        return false;
    l->slots = slots;
    l->cap = cap;
    return true;
}

bool entry_log_push(struct entry_log *l, struct entry *e)
{
    if (!make_room(l))
        return false;
    l->slots[l->head + l->n++] = e;
    l->bytes += e->len + ENTRY_LOG_OVERHEAD;
    return true;
}

static void drop(struct entry_log *l, struct entry *e)
{
    l->bytes -= e->len + ENTRY_LOG_OVERHEAD;
    entry_put(e);
}

void entry_log_cut_tail(struct entry_log *l, uint64_t index)
{
    while (l->n > 0 && entry_log_last(l) >= index) {
        l->n--;
        drop(l, l->slots[l->head + l->n]);
    }
}

void entry_log_cut_head(struct entry_log *l, uint64_t keep_from)
{
    while (l->n > 0 && l->first < keep_from) {
        drop(l, l->slots[l->head]);
        l->head++;
        l->n--;
        l->first++;
    }
    if (l->n == 0)
        l->head = 0;
}

void entry_log_reset(struct entry_log *l, uint64_t first)
{
    entry_log_cut_tail(l, l->first);
    l->head = 0;
    l->first = first;
}
