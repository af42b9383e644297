#include "sync/ssh/fifo.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define FIFO_SMALLEST 4096

void fifo_deinit(struct fifo *f)
{
    free(f->data);
    *f = (struct fifo){0};
}

uint8_t *fifo_reserve(struct fifo *f, size_t n)
{
    size_t used = fifo_used(f), cap = f->cap > 0 ? f->cap : FIFO_SMALLEST;
    uint8_t *data;

    if (n <= f->cap - f->tail)
        return f->data + f->tail;
    if (n > SIZE_MAX / 4 - used)
        return NULL;
    /* Moving pays when at least as much is free at the front as has to move. */
    if (n <= f->cap - used && f->head >= used) {
        memcpy(f->data, f->data + f->head, used);
        f->head = 0;
        f->tail = used;
        return f->data + f->tail;
    }
    while (cap < used + n)
        cap *= 2;
    if (cap == f->cap) {
        memmove(f->data, f->data + f->head, used);
    } else {
        data = malloc(cap);
        if (data == NULL)
            return NULL;
        if (used > 0)
            memcpy(data, f->data + f->head, used);
        free(f->data);
        f->data = data;
        f->cap = cap;
    }
    f->head = 0;
    f->tail = used;
    return f->data + f->tail;
}

void fifo_added(struct fifo *f, size_t n)
{
    assert(n <= f->cap - f->tail);
    f->tail += n;
}

void fifo_consume(struct fifo *f, size_t n)
{
    assert(n <= fifo_used(f));
    f->head += n;
    if (f->head == f->tail)
        f->head = f->tail = 0;
}
