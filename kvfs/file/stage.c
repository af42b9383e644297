/* Edits are joined as they come, so that a file written in small pieces is
 * published as few edits, and a page that is written a thousand times is
 * published once. What is done within one operation is in stage_op.c. */
#include "kvfs/file/stage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvfs/file/stage_op.h"
#include "sync/wire/command.h"

#define EDIT_HEAD_LEN 13 /* kind, offset, length */

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static struct stage_op *op_new(struct stage *s, bool append)
{
    struct stage_op *op = calloc(1, sizeof *op);

    if (op == NULL)
        return NULL;
    op->append = append;
    TAILQ_INSERT_TAIL(&s->ops, op, link);
    s->n_ops++;
    return op;
}

static void op_free(struct stage *s, struct stage_op *op)
{
    TAILQ_REMOVE(&s->ops, op, link);
    s->n_ops--;
    stage_op_deinit(op, s->memory);
    free(op);
}

static struct stage_op *last_op(const struct stage *s)
{
    return TAILQ_LAST(&s->ops, stage_ops);
}

void stage_init(struct stage *s, struct stage_memory *memory)
{
    memset(s, 0, sizeof *s);
    TAILQ_INIT(&s->ops);
    s->memory = memory;
}

void stage_clear(struct stage *s)
{
    while (!TAILQ_EMPTY(&s->ops))
        op_free(s, TAILQ_FIRST(&s->ops));
    s->has_mtime = s->has_atime = false;
    s->stamp_ns = 0;
}

void stage_deinit(struct stage *s)
{
    stage_clear(s);
}

bool stage_empty(const struct stage *s)
{
    return TAILQ_EMPTY(&s->ops) && !s->has_mtime && !s->has_atime;
}

bool stage_only_emptied(const struct stage *s)
{
    const struct stage_op *op = TAILQ_FIRST(&s->ops);

    return s->n_ops == 1 && !s->has_mtime && !s->has_atime && op->cut && op->length == 0 && op->n == 0;
}

bool stage_has_append(const struct stage *s)
{
    const struct stage_op *op;

    TAILQ_FOREACH (op, &s->ops, link) {
        if (op->append)
            return true;
    }
    return false;
}

int stage_write(struct stage *s, uint64_t offset, const void *data, size_t len)
{
    struct stage_op *op = last_op(s);
    bool fresh = false;
    int rc;

    if (len == 0)
        return 0;
    if (op == NULL || op->append) {
        op = op_new(s, false);
        fresh = true;
    }
    if (op == NULL)
        return -ENOMEM;
    rc = stage_op_write(op, s->memory, offset, data, len);
    if (rc != 0 && fresh)
        op_free(s, op);
    if (rc == 0)
        s->has_mtime = false; /* a write after utimens() counts as the last change */
    return rc;
}

int stage_append(struct stage *s, const void *data, size_t len)
{
    struct stage_op *op = last_op(s);
    bool fresh = false;
    int rc;

    if (len == 0)
        return 0;
    if (op != NULL && op->cut)
        return stage_write(s, max_u64(op->length, stage_op_end(op)), data, len);
    if (op == NULL || !op->append) {
        op = op_new(s, true);
        fresh = true;
    }
    if (op == NULL)
        return -ENOMEM;
    rc = stage_op_fill(op, s->memory, op->n, stage_op_end(op), data, len);
    if (rc != 0 && fresh)
        op_free(s, op);
    if (rc == 0)
        s->has_mtime = false;
    return rc;
}

int stage_truncate(struct stage *s, uint64_t size)
{
    struct stage_op *op = last_op(s);

    if (op == NULL || op->append) {
        op = op_new(s, false);
        if (op == NULL)
            return -ENOMEM;
    }
    stage_op_cut(op, s->memory, size);
    if (size == 0) {
        while (TAILQ_FIRST(&s->ops) != op)
            op_free(s, TAILQ_FIRST(&s->ops));
    }
    s->has_mtime = false;
    return 0;
}

void stage_set_mtime(struct stage *s, int64_t mtime_ns)
{
    s->mtime_ns = mtime_ns;
    s->has_mtime = true;
}

void stage_set_atime(struct stage *s, int64_t atime_ns)
{
    s->atime_ns = atime_ns;
    s->has_atime = true;
}

void stage_stamp(struct stage *s, int64_t ns)
{
    s->stamp_ns = ns;
}

static uint64_t op_size(const struct stage_op *op, uint64_t size)
{
    if (op->append)
        return size + stage_op_end(op);
    return max_u64(op->cut ? op->length : size, stage_op_end(op));
}

uint64_t stage_size(const struct stage *s, uint64_t base_size)
{
    const struct stage_op *op;

    TAILQ_FOREACH (op, &s->ops, link)
        base_size = op_size(op, base_size);
    return base_size;
}

bool stage_needs_base(const struct stage *s, uint64_t offset, size_t len)
{
    const struct stage_op *op;
    bool covered = false;

    TAILQ_FOREACH (op, &s->ops, link) {
        size_t at;

        if (op->cut && op->keep <= offset)
            return false;
        if (op->append)
            return true;
        at = stage_op_find(op, offset);
        if (at < op->n && op->extents[at].offset <= offset &&
            op->extents[at].offset + op->extents[at].len >= offset + len)
            covered = true;
    }
    return !covered;
}

/* Bytes [from, from + n) of the file lie over the window: copies what meets it. */
static void overlay(uint64_t offset, uint8_t *data, size_t len, uint64_t from, const uint8_t *bytes, size_t n)
{
    uint64_t start = max_u64(offset, from);
    uint64_t end = min_u64(offset + len, from + n);

    if (start < end)
        memcpy(data + (start - offset), bytes + (start - from), (size_t)(end - start));
}

void stage_apply(const struct stage *s, uint64_t *size, uint64_t offset, uint8_t *data, size_t len)
{
    const struct stage_op *op;

    TAILQ_FOREACH (op, &s->ops, link) {
        uint64_t shift = op->append ? *size : 0;
        size_t i = 0;

        if (op->cut && op->keep < offset + len) {
            uint64_t from = max_u64(op->keep, offset);

            memset(data + (from - offset), 0, (size_t)(offset + len - from));
        }
        if (!op->append)
            i = stage_op_find(op, offset);
        for (; i < op->n && op->extents[i].offset + shift < offset + len; i++)
            overlay(offset, data, len, op->extents[i].offset + shift, stage_extent_bytes(&op->extents[i]),
                    op->extents[i].len);
        *size = op_size(op, *size);
    }
}

static void encode_number(struct buffer *b, uint8_t kind, uint64_t number)
{
    struct edit e = {.kind = kind, .number = number};

    edit_encode(b, &e);
}

void stage_encode(const struct stage *s, struct buffer *b)
{
    const struct stage_op *op;
    size_t i;

    TAILQ_FOREACH (op, &s->ops, link) {
        if (op->cut && op->keep < op->length)
            encode_number(b, EDIT_TRUNCATE, op->keep);
        if (op->cut)
            encode_number(b, EDIT_TRUNCATE, op->length);
        for (i = 0; i < op->n; i++) {
            struct edit e = {.kind = op->append ? EDIT_APPEND : EDIT_WRITE,
                             .number = op->append ? 0 : op->extents[i].offset,
                             .data = stage_extent_bytes(&op->extents[i]),
                             .len = op->extents[i].len};

            edit_encode(b, &e);
        }
    }
    if (s->has_mtime)
        encode_number(b, EDIT_MTIME, (uint64_t)s->mtime_ns);
    if (s->has_atime)
        encode_number(b, EDIT_ATIME, (uint64_t)s->atime_ns);
    if (s->stamp_ns != 0)
        encode_number(b, EDIT_STAMP, (uint64_t)s->stamp_ns);
}

size_t stage_pieces(const struct stage *s)
{
    const struct stage_op *last = last_op(s);

    return s->n_ops + (last != NULL ? last->n : 0);
}

size_t stage_edits(const struct stage *s)
{
    const struct stage_op *op;
    size_t n = 0;

    TAILQ_FOREACH (op, &s->ops, link)
        n += op->n + (op->cut ? 2 : 0);
    return n;
}

size_t stage_encoded_len(const struct stage *s)
{
    const struct stage_op *op;
    size_t len = 3 * EDIT_HEAD_LEN, i; /* times */

    TAILQ_FOREACH (op, &s->ops, link) {
        len += (op->n + 2) * EDIT_HEAD_LEN;
        for (i = 0; i < op->n; i++)
            len += op->extents[i].len;
    }
    return len;
}

/* Puts the edits of an operation into the last one of `to`, which is of its kind.
 * False: out of memory; what was done then is done once more by the operation itself. */
static bool op_merge(struct stage *to, struct stage_op *last, struct stage_op *op)
{
    size_t i;

    if (op->cut) {
        stage_op_cut(last, to->memory, op->keep);
        stage_op_cut(last, to->memory, op->length);
    }
    for (i = 0; i < op->n; i++) {
        const struct extent *e = &op->extents[i];

        if (stage_op_write(last, to->memory, e->offset, stage_extent_bytes(e), e->len) != 0)
            return false;
    }
    return true;
}

/* The same for appended pieces, which move. */
static bool op_append(struct stage_op *last, struct stage_op *op)
{
    uint64_t end = stage_op_end(last);
    struct extent *extents = realloc(last->extents, (last->n + op->n) * sizeof *extents);
    size_t i;

    if (extents == NULL)
        return false;
    last->extents = extents;
    last->cap = last->n + op->n;
    for (i = 0; i < op->n; i++) {
        extents[last->n] = op->extents[i];
        extents[last->n++].offset += end;
    }
    op->n = 0;
    return true;
}

/* What comes before a truncation to nothing. */
static void drop_invisible(struct stage *s)
{
    struct stage_op *op;

    TAILQ_FOREACH_REVERSE(op, &s->ops, stage_ops, link)
    {
        if (op->cut && op->keep == 0)
            break;
    }
    while (op != NULL && TAILQ_FIRST(&s->ops) != op)
        op_free(s, TAILQ_FIRST(&s->ops));
}

void stage_join(struct stage *to, struct stage *from)
{
    struct stage_op *last = last_op(to), *op = TAILQ_FIRST(&from->ops);

    to->has_mtime = from->has_mtime || (to->has_mtime && op == NULL);
    if (from->has_mtime)
        to->mtime_ns = from->mtime_ns;
    if (from->has_atime)
        stage_set_atime(to, from->atime_ns);
    if (from->stamp_ns != 0)
        to->stamp_ns = from->stamp_ns;
    /* Only where the two lists meet; within each it is done already. */
    if (last != NULL && op != NULL && last->append == op->append &&
        (op->append ? op_append(last, op) : op_merge(to, last, op)))
        op_free(from, op);
    TAILQ_CONCAT(&to->ops, &from->ops, link);
    to->n_ops += from->n_ops;
    from->n_ops = 0;
    drop_invisible(to);
    from->has_mtime = from->has_atime = false;
    from->stamp_ns = 0;
}
