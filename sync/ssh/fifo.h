/* A byte queue between two descriptors: bytes go in at the tail and out at the
 * head, contiguous in memory, so both ends can be given to read and write.
 *
 * buffer.h's buffer_consume moves all that is left at each call; here bytes move
 * only when the tail runs out of room, so a busy stream costs no copying. Not
 * thread-safe. */
#ifndef KVFS_SYNC_SSH_FIFO_H
#define KVFS_SYNC_SSH_FIFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fifo {
    uint8_t *data; /* owned */
    size_t head, tail, cap;
};

void fifo_deinit(struct fifo *f);

static inline size_t fifo_used(const struct fifo *f)
{
    return f->tail - f->head;
}

static inline const uint8_t *fifo_head(const struct fifo *f)
{
    return f->data + f->head;
}

/* Room for n more bytes at the pointer returned; NULL: out of memory. Grows by
 * doubling: bounds are the caller's. */
uint8_t *fifo_reserve(struct fifo *f, size_t n);
/* n of the reserved bytes were filled. */
void fifo_added(struct fifo *f, size_t n);
/* n bytes (<= used) were taken from the head. */
void fifo_consume(struct fifo *f, size_t n);

#endif
