/* An operation grows at either end and joins with what it meets. Extents never grow beyond
 * EXTENT_MAX: long files are a row of extents, and growing one copies at most that much. */
#include "kvfs/file/stage_op.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXTENT_MAX ((size_t)1024 * 1024)
#define EXTENT_MIN ((size_t)64)
#define EXTENT_SPILL ((size_t)64 * 1024)

static uint8_t *map_file(const char *directory, size_t size)
{
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    void *data;

    if (fd < 0)
        return NULL;
    if (ftruncate(fd, (off_t)size) != 0) {
        close(fd);
        return NULL;
    }
    data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return data == MAP_FAILED ? NULL : data;
}

static void extent_release(struct stage_memory *memory, struct extent *e)
{
    memory->used -= e->cap;
    if (e->mapped)
        munmap(e->room, e->cap);
    else
        free(e->room);
    e->room = NULL;
}

/* Where the bytes go in `cap` bytes of room. An extent that has grown to the front may
 * do so again, and gets half of what is free there. */
static size_t extent_head(const struct extent *e, size_t cap, size_t front, size_t back)
{
    return front == 0 && e->head == 0 ? 0 : front + (cap - front - e->len - back) / 2;
}

/* Gives the extent room for `front` bytes more before it and `back` behind. All of it
 * fits in EXTENT_MAX. */
static int extent_reserve(struct stage_memory *memory, struct extent *e, size_t front, size_t back)
{
    size_t need = front + e->len + back, cap = e->cap * 2 > need ? e->cap * 2 : need, head;
    uint8_t *room = NULL;
    bool mapped = false;

    if (front <= e->head && e->head + e->len + back <= e->cap)
        return 0;
    if (need <= e->cap) {
        head = extent_head(e, e->cap, front, back);
        memmove(e->room + head, stage_extent_bytes(e), e->len);
        e->head = head;
        return 0;
    }
    if (cap < EXTENT_MIN)
        cap = EXTENT_MIN;
    if (cap > EXTENT_MAX)
        cap = EXTENT_MAX;
    /* Small ones stay: a mapping each would be more than there can be. */
    if (cap >= EXTENT_SPILL && memory->used + cap > memory->limit && memory->directory != NULL) {
        room = map_file(memory->directory, EXTENT_MAX);
        if (room != NULL) {
            mapped = true;
            cap = EXTENT_MAX;
        }
    }
    if (room == NULL)
        room = malloc(cap);
    if (room == NULL)
        return -ENOMEM;
    head = extent_head(e, cap, front, back);
    if (e->len > 0)
        memcpy(room + head, stage_extent_bytes(e), e->len);
    if (e->room != NULL)
        extent_release(memory, e);
    memory->used += cap;
    e->room = room;
    e->head = head;
    e->cap = cap;
    e->mapped = mapped;
    return 0;
}

void stage_op_deinit(struct stage_op *op, struct stage_memory *memory)
{
    size_t i;

    for (i = 0; i < op->n; i++)
        extent_release(memory, &op->extents[i]);
    free(op->extents);
}

uint64_t stage_op_end(const struct stage_op *op)
{
    const struct extent *last;

    if (op->n == 0)
        return 0;
    last = &op->extents[op->n - 1];
    return last->offset + last->len;
}

size_t stage_op_find(const struct stage_op *op, uint64_t offset)
{
    size_t low = 0, high = op->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (op->extents[middle].offset + op->extents[middle].len > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Opens a gap for one extent at index at. */
static int op_insert(struct stage_op *op, size_t at)
{
    if (op->n == op->cap) {
        size_t cap = op->cap == 0 ? 4 : op->cap * 2;
        struct extent *extents = realloc(op->extents, cap * sizeof *extents);

        if (extents == NULL)
            return -ENOMEM;
        op->extents = extents;
        op->cap = cap;
    }
    memmove(&op->extents[at + 1], &op->extents[at], (op->n - at) * sizeof op->extents[0]);
    memset(&op->extents[at], 0, sizeof op->extents[at]);
    op->n++;
    return 0;
}

static void op_remove(struct stage_op *op, struct stage_memory *memory, size_t at)
{
    extent_release(memory, &op->extents[at]);
    memmove(&op->extents[at], &op->extents[at + 1], (op->n - at - 1) * sizeof op->extents[0]);
    op->n--;
}

/* Makes one of extent `at` and the one before it if they meet: the shorter one moves. */
static void op_join(struct stage_op *op, struct stage_memory *memory, size_t at)
{
    struct extent *a, *b;

    if (at == 0 || at >= op->n)
        return;
    a = &op->extents[at - 1];
    b = &op->extents[at];
    if (a->offset + a->len != b->offset || a->len + b->len > EXTENT_MAX)
        return;
    if (a->len >= b->len) {
        if (extent_reserve(memory, a, 0, b->len) != 0)
            return;
        memcpy(stage_extent_bytes(a) + a->len, stage_extent_bytes(b), b->len);
        a->len += b->len;
        op_remove(op, memory, at);
    } else {
        if (extent_reserve(memory, b, a->len, 0) != 0)
            return;
        b->head -= a->len;
        b->len += a->len;
        b->offset = a->offset;
        memcpy(stage_extent_bytes(b), stage_extent_bytes(a), a->len);
        op_remove(op, memory, at - 1);
    }
}

int stage_op_fill(struct stage_op *op, struct stage_memory *memory, size_t at, uint64_t offset,
                  const uint8_t *data, size_t len)
{
    while (len > 0) {
        struct extent *before = at > 0 ? &op->extents[at - 1] : NULL;
        struct extent *after = at < op->n ? &op->extents[at] : NULL;
        struct extent *e;
        size_t n;
        int rc;

        if (before != NULL && before->offset + before->len == offset && before->len < EXTENT_MAX) {
            e = before;
        } else if (after != NULL && after->offset == offset + len && after->len + len <= EXTENT_MAX) {
            rc = extent_reserve(memory, after, len, 0);
            if (rc != 0)
                return rc;
            after->head -= len;
            after->len += len;
            after->offset = offset;
            memcpy(stage_extent_bytes(after), data, len);
            break;
        } else {
            rc = op_insert(op, at);
            if (rc != 0)
                return rc;
            e = &op->extents[at++];
            e->offset = offset;
        }
        n = EXTENT_MAX - e->len < len ? EXTENT_MAX - e->len : len;
        rc = extent_reserve(memory, e, 0, n);
        if (rc != 0) {
            if (e->len == 0) {
                memmove(e, e + 1, (size_t)(op->extents + op->n - (e + 1)) * sizeof *e);
                op->n--;
            }
            return rc;
        }
        memcpy(stage_extent_bytes(e) + e->len, data, n);
        e->len += n;
        offset += n;
        data += n;
        len -= n;
    }
    op_join(op, memory, at);
    return 0;
}

int stage_op_write(struct stage_op *op, struct stage_memory *memory, uint64_t offset, const uint8_t *data,
                   size_t len)
{
    while (len > 0) {
        size_t at = stage_op_find(op, offset);
        struct extent *e = at < op->n ? &op->extents[at] : NULL;
        size_t n = len;
        int rc;

        if (e != NULL && e->offset <= offset) {
            size_t inside = (size_t)(offset - e->offset);

            if (n > e->len - inside)
                n = e->len - inside;
            memcpy(stage_extent_bytes(e) + inside, data, n);
        } else {
            if (e != NULL && e->offset - offset < n)
                n = (size_t)(e->offset - offset);
            rc = stage_op_fill(op, memory, at, offset, data, n);
            if (rc != 0)
                return rc;
        }
        offset += n;
        data += n;
        len -= n;
    }
    return 0;
}

void stage_op_cut(struct stage_op *op, struct stage_memory *memory, uint64_t size)
{
    while (op->n > 0 && op->extents[op->n - 1].offset >= size)
        op_remove(op, memory, op->n - 1);
    if (op->n > 0 && stage_op_end(op) > size) {
        struct extent *last = &op->extents[op->n - 1];

        last->len = (size_t)(size - last->offset);
    }
    op->keep = op->cut ? op->keep < size ? op->keep : size : size;
    op->length = size;
    op->cut = true;
}
