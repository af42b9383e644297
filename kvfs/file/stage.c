/* Edits are joined as they come, so that a file written in small pieces is
 * published as few edits, and a page that is written a thousand times is
 * published once. Extents never grow beyond EXTENT_MAX: long files are a row of
 * extents, and growing one copies at most that much. */
#include "kvfs/file/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sync/wire/command.h"

#define EXTENT_MAX ((size_t)1024 * 1024)
#define EXTENT_MIN ((size_t)64)
#define EXTENT_SPILL ((size_t)64 * 1024)
#define EDIT_HEAD_LEN 13 /* kind, offset, length */

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Memory of an extent */

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

static uint8_t *extent_bytes(const struct extent *e)
{
    return e->room + e->head;
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
        memmove(e->room + head, extent_bytes(e), e->len);
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
        memcpy(room + head, extent_bytes(e), e->len);
    if (e->room != NULL)
        extent_release(memory, e);
    memory->used += cap;
    e->room = room;
    e->head = head;
    e->cap = cap;
    e->mapped = mapped;
    return 0;
}

/* Operations of the list */

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
    size_t i;

    TAILQ_REMOVE(&s->ops, op, link);
    s->n_ops--;
    for (i = 0; i < op->n; i++)
        extent_release(s->memory, &op->extents[i]);
    free(op->extents);
    free(op);
}

static struct stage_op *last_op(const struct stage *s)
{
    return TAILQ_LAST(&s->ops, stage_ops);
}

static uint64_t op_end(const struct stage_op *op)
{
    const struct extent *last;

    if (op->n == 0)
        return 0;
    last = &op->extents[op->n - 1];
    return last->offset + last->len;
}

/* Index of the first extent that ends behind offset. */
static size_t op_find(const struct stage_op *op, uint64_t offset)
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

static void op_remove(struct stage *s, struct stage_op *op, size_t at)
{
    extent_release(s->memory, &op->extents[at]);
    memmove(&op->extents[at], &op->extents[at + 1], (op->n - at - 1) * sizeof op->extents[0]);
    op->n--;
}

/* Makes one of extent `at` and the one before it if they meet: the shorter one moves. */
static void op_join(struct stage *s, struct stage_op *op, size_t at)
{
    struct extent *a, *b;

    if (at == 0 || at >= op->n)
        return;
    a = &op->extents[at - 1];
    b = &op->extents[at];
    if (a->offset + a->len != b->offset || a->len + b->len > EXTENT_MAX)
        return;
    if (a->len >= b->len) {
        if (extent_reserve(s->memory, a, 0, b->len) != 0)
            return;
        memcpy(extent_bytes(a) + a->len, extent_bytes(b), b->len);
        a->len += b->len;
        op_remove(s, op, at);
    } else {
        if (extent_reserve(s->memory, b, a->len, 0) != 0)
            return;
        b->head -= a->len;
        b->len += a->len;
        b->offset = a->offset;
        memcpy(extent_bytes(b), extent_bytes(a), a->len);
        op_remove(s, op, at - 1);
    }
}

/* Puts bytes into the gap before extent `at`, which they do not reach into. They go to
 * the extent that they meet, in front or behind, and close the gap if they fill it. */
static int op_fill(struct stage *s, struct stage_op *op, size_t at, uint64_t offset, const uint8_t *data,
                   size_t len)
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
            rc = extent_reserve(s->memory, after, len, 0);
            if (rc != 0)
                return rc;
            after->head -= len;
            after->len += len;
            after->offset = offset;
            memcpy(extent_bytes(after), data, len);
            break;
        } else {
            rc = op_insert(op, at);
            if (rc != 0)
                return rc;
            e = &op->extents[at++];
            e->offset = offset;
        }
        n = EXTENT_MAX - e->len < len ? EXTENT_MAX - e->len : len;
        rc = extent_reserve(s->memory, e, 0, n);
        if (rc != 0) {
            if (e->len == 0) {
                memmove(e, e + 1, (size_t)(op->extents + op->n - (e + 1)) * sizeof *e);
                op->n--;
            }
            return rc;
        }
        memcpy(extent_bytes(e) + e->len, data, n);
        e->len += n;
        offset += n;
        data += n;
        len -= n;
    }
    op_join(s, op, at);
    return 0;
}

/* Bytes over what is there: inside extents in place, between them as new ones. */
static int op_write(struct stage *s, struct stage_op *op, uint64_t offset, const uint8_t *data, size_t len)
{
    while (len > 0) {
        size_t at = op_find(op, offset);
        struct extent *e = at < op->n ? &op->extents[at] : NULL;
        size_t n = len;
        int rc;

        if (e != NULL && e->offset <= offset) {
            size_t inside = (size_t)(offset - e->offset);

            if (n > e->len - inside)
                n = e->len - inside;
            memcpy(extent_bytes(e) + inside, data, n);
        } else {
            if (e != NULL && e->offset - offset < n)
                n = (size_t)(e->offset - offset);
            rc = op_fill(s, op, at, offset, data, n);
            if (rc != 0)
                return rc;
        }
        offset += n;
        data += n;
        len -= n;
    }
    return 0;
}

static void op_cut(struct stage *s, struct stage_op *op, uint64_t size)
{
    while (op->n > 0 && op->extents[op->n - 1].offset >= size)
        op_remove(s, op, op->n - 1);
    if (op->n > 0 && op_end(op) > size) {
        struct extent *last = &op->extents[op->n - 1];

        last->len = (size_t)(size - last->offset);
    }
    op->keep = op->cut ? min_u64(op->keep, size) : size;
    op->length = size;
    op->cut = true;
}

/* The interface */

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
    rc = op_write(s, op, offset, data, len);
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
        return stage_write(s, max_u64(op->length, op_end(op)), data, len);
    if (op == NULL || !op->append) {
        op = op_new(s, true);
        fresh = true;
    }
    if (op == NULL)
        return -ENOMEM;
    rc = op_fill(s, op, op->n, op_end(op), data, len);
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
    op_cut(s, op, size);
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
        return size + op_end(op);
    return max_u64(op->cut ? op->length : size, op_end(op));
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
        at = op_find(op, offset);
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
            i = op_find(op, offset);
        for (; i < op->n && op->extents[i].offset + shift < offset + len; i++)
            overlay(offset, data, len, op->extents[i].offset + shift, extent_bytes(&op->extents[i]),
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
                             .data = extent_bytes(&op->extents[i]),
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
        op_cut(to, last, op->keep);
        op_cut(to, last, op->length);
    }
    for (i = 0; i < op->n; i++) {
        const struct extent *e = &op->extents[i];

        if (op_write(to, last, e->offset, extent_bytes(e), e->len) != 0)
            return false;
    }
    return true;
}

/* The same for appended pieces, which move. */
static bool op_append(struct stage_op *last, struct stage_op *op)
{
    uint64_t end = op_end(last);
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
