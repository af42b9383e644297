/* One operation of a stage (stage.h): extents of bytes, and the memory that they take. Pure: no
 * locks, no I/O but for the spill file. */
#ifndef KVFS_KVFS_FILE_STAGE_OP_H
#define KVFS_KVFS_FILE_STAGE_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

/* Memory of all stages of a mount. Beyond `limit` bytes new extents are mapped
 * from unlinked files below `directory`, so that the kernel can page them out. */
struct stage_memory {
    size_t used, limit;
    const char *directory; /* borrowed */
};

struct extent {
    uint64_t offset;
    uint8_t *room; /* owned; cap bytes, of which len from `head` on are used */
    size_t head, len, cap;
    bool mapped;
};

struct stage_op {
    TAILQ_ENTRY(stage_op) link;
    bool append;            /* APPEND: the extents are pieces in order, their offsets count from 0 */
    bool cut;               /* MAP only */
    uint64_t keep, length;  /* with cut */
    struct extent *extents; /* owned; by offset, disjoint */
    size_t n, cap;
};

static inline uint8_t *stage_extent_bytes(const struct extent *e)
{
    return e->room + e->head;
}

/* Frees what it has. */
void stage_op_deinit(struct stage_op *op, struct stage_memory *memory);
/* Where the last extent ends; 0: there is none. */
uint64_t stage_op_end(const struct stage_op *op);
/* Index of the first extent that ends behind offset. */
size_t stage_op_find(const struct stage_op *op, uint64_t offset);
/* Puts bytes into the gap before extent `at`, which they do not reach into. They go to
 * the extent that they meet, in front or behind, and close the gap if they fill it.
 * 0 or -ENOMEM, here and below; a first part may have been taken then. */
int stage_op_fill(struct stage_op *op, struct stage_memory *memory, size_t at, uint64_t offset,
                  const uint8_t *data, size_t len);
/* Bytes over what is there: inside extents in place, between them as new ones. */
int stage_op_write(struct stage_op *op, struct stage_memory *memory, uint64_t offset, const uint8_t *data,
                   size_t len);
/* Truncates. */
void stage_op_cut(struct stage_op *op, struct stage_memory *memory, uint64_t size);

#endif
