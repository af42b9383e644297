/* What a mount has changed of one file and not published yet: a list of edits,
 * never a copy of the file. Pure: no locks, no I/O but for the spill file.
 *
 *   view = base value (as of now, from the node) + edits in the order of effect
 *
 * The list is kept short: writes that overlap or meet join, on either side, a
 * truncation cuts what it makes invisible, and once the end of the file no longer
 * depends on the base an append becomes a write at a known offset. What is left is a
 * list of
 *
 *   MAP     [cut: truncate to keep, then to length] then extents at fixed offsets
 *   APPEND  bytes that land at the end, wherever that is when they are applied
 *
 * Truncating to keep < length first makes the bytes between them zero. */
#ifndef KVFS_KVFS_FILE_STAGE_H
#define KVFS_KVFS_FILE_STAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvfs/file/stage_op.h"
#include "sync/base/buffer.h"

TAILQ_HEAD(stage_ops, stage_op);

struct stage {
    struct stage_ops ops;
    size_t n_ops;
    int64_t mtime_ns, atime_ns; /* with has_*: times that were set explicitly */
    bool has_mtime, has_atime;
    int64_t stamp_ns;            /* when the newest edit was made; 0: not known */
    struct stage_memory *memory; /* borrowed */
};

void stage_init(struct stage *s, struct stage_memory *memory);
void stage_deinit(struct stage *s);
/* Drops all edits. */
void stage_clear(struct stage *s);

bool stage_empty(const struct stage *s);
/* Nothing but one truncation to 0: what open(O_TRUNC) leaves. */
bool stage_only_emptied(const struct stage *s);
/* Some edit's place depends on the base's length. */
bool stage_has_append(const struct stage *s);

/* 0 or -ENOMEM; after an error a first part of the data may have been taken. */
int stage_write(struct stage *s, uint64_t offset, const void *data, size_t len);
int stage_append(struct stage *s, const void *data, size_t len);
int stage_truncate(struct stage *s, uint64_t size);
/* A write or a truncation after it counts as the last change. */
void stage_set_mtime(struct stage *s, int64_t mtime_ns);
void stage_set_atime(struct stage *s, int64_t atime_ns);
/* When the newest edit was made. */
void stage_stamp(struct stage *s, int64_t ns);

/* Length of the file when the base is base_size bytes long. */
uint64_t stage_size(const struct stage *s, uint64_t base_size);
/* Whether bytes of the base are needed to show [offset, offset + len). */
bool stage_needs_base(const struct stage *s, uint64_t offset, size_t len);
/* Applies the edits to a window of the file. In: data holds the len bytes from
 * offset of a file *size bytes long, zeros beyond its end. Out: the same of the
 * edited file. */
void stage_apply(const struct stage *s, uint64_t *size, uint64_t offset, uint8_t *data, size_t len);

/* Number of edits that the list would be published as. */
size_t stage_edits(const struct stage *s);
/* About as many, at once: how scattered the edits are. */
size_t stage_pieces(const struct stage *s);
/* Puts the edits in wire form (command.h) after b; how long that is. */
void stage_encode(const struct stage *s, struct buffer *b);
size_t stage_encoded_len(const struct stage *s);
/* Moves all edits of `from` to the end of `to`; times set in `from` win. */
void stage_join(struct stage *to, struct stage *from);

#endif
