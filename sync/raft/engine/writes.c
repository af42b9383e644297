#include <stdlib.h>
#include <string.h>

#include "sync/raft/engine/internal.h"

void write_queue_deinit(struct write_queue *q)
{
    free(q->slots);
    memset(q, 0, sizeof *q);
}

bool write_queue_push(struct write_queue *q, uint64_t from, uint64_t upto)
{
    if (q->head > 0 && q->head + q->n == q->cap) {
        memmove(q->slots, q->slots + q->head, q->n * sizeof *q->slots);
        q->head = 0;
    }
    if (q->n == q->cap) {
        size_t cap = q->cap > 0 ? q->cap * 2 : 16;
        struct pending_write *slots = realloc(q->slots, cap * sizeof *slots);

        if (slots == NULL)
            return false;
        q->slots = slots;
        q->cap = cap;
    }
    q->slots[q->head + q->n++] = (struct pending_write){from, upto};
    return true;
}

struct pending_write write_queue_pop(struct write_queue *q)
{
    struct pending_write w = q->slots[q->head++];

    if (--q->n == 0)
        q->head = 0;
    return w;
}

void write_queue_clip(struct write_queue *q, uint64_t index)
{
    for (size_t i = 0; i < q->n; i++) {
        struct pending_write *w = &q->slots[q->head + i];

        if (w->upto >= index)
            w->upto = index - 1;
    }
}
