/* The journal. Hot rows stand in an array of pointers, each of which knows its
 * place there (x->dirty), so that noting twice costs nothing and a struct that
 * goes takes its pointer along. Deletions and rows of history are encoded at
 * once; what was noted as hot is encoded when the batch is about to be sealed, in
 * steps (journal_ripen()), and the rest by the seal. A row that changes once it is
 * encoded is noted again, and its second record stands behind the first: records are
 * in the order of what they tell, whenever they are made. A chunk that grows within a
 * batch keeps its slot: only its last length is written. */
#include "kvnode/state/journal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/state/journal_note.h"
#include "kvnode/state/journal_record.h"

/* Memory to account for a noted row. */
#define ROW_COST 200
/* What encoding is taken to cost, in bytes: a record so much besides its own, and the bytes of a part, which
 * are only copied, half. */
#define RECORD_COST 128
#define PART_SHARE 2
#define RELEASE_STEP ((size_t)2 * 1024 * 1024)
/* Of a session that has kept thousands, in one step. */
#define RESULTS_STEP 64

struct hot {
    void **items; /* owned array; NULL: gone meanwhile */
    size_t n, cap;
    size_t done; /* the first ones are encoded */
};

struct journal {
    struct hot inodes, entries, sessions, uploads;
    struct buffer records;
    struct buffer drops; /* records that must stand behind the hot rows */
    struct batch_chunk *chunks;
    size_t n_chunks, cap_chunks;
    size_t chunk_bytes, part_bytes;
    uint64_t commands;
    uint64_t sealed;         /* index of the last batch */
    const struct ttls *ttls; /* borrowed from the store */
    bool failed;
};

struct journal *journal_new(void)
{
    return calloc(1, sizeof(struct journal));
}

void journal_store(struct journal *j, const struct store *s)
{
    if (j != NULL)
        j->ttls = &s->ttls;
}

static void free_chunks(struct batch_chunk *chunks, size_t n)
{
    for (size_t i = 0; i < n; i++)
        chunk_unref(chunks[i].chunk);
    free(chunks);
}

void journal_free(struct journal *j)
{
    if (j == NULL)
        return;
    free(j->inodes.items);
    free(j->entries.items);
    free(j->sessions.items);
    free(j->uploads.items);
    buffer_deinit(&j->records);
    buffer_deinit(&j->drops);
    free_chunks(j->chunks, j->n_chunks);
    free(j);
}

static size_t left(const struct hot *hot)
{
    return hot->n - hot->done;
}

size_t journal_bytes(const struct journal *j)
{
    return j->records.len + j->drops.len + j->chunk_bytes + j->part_bytes +
           (left(&j->inodes) + left(&j->entries) + left(&j->sessions) + left(&j->uploads)) * ROW_COST;
}

size_t journal_part_bytes(const struct journal *j)
{
    return j->part_bytes;
}

uint64_t journal_commands(const struct journal *j)
{
    return j->commands;
}

bool journal_failed(const struct journal *j)
{
    return j != NULL && (j->failed || j->records.failed || j->drops.failed);
}

void journal_command(struct journal *j)
{
    if (j != NULL)
        j->commands++;
}

static void hot_add(struct journal *j, struct hot *hot, void *item, uint32_t *dirty)
{
    if (*dirty != 0)
        return;
    if (hot->n == hot->cap) {
        size_t cap = hot->cap > 0 ? 2 * hot->cap : 256;
        void **items = cap < UINT32_MAX ? realloc(hot->items, cap * sizeof *items) : NULL;

        if (items == NULL) {
            j->failed = true;
            return;
        }
        hot->items = items;
        hot->cap = cap;
    }
    hot->items[hot->n++] = item;
    *dirty = (uint32_t)hot->n;
}

static void hot_remove(struct hot *hot, uint32_t *dirty)
{
    if (*dirty != 0)
        hot->items[*dirty - 1] = NULL;
    *dirty = 0;
}

static void put_kind(struct journal *j, enum record_kind kind)
{
    buffer_put_u8(&j->records, (uint8_t)kind);
}

/* Sees to it that the first len bytes of c are stored; its id. */
static uint64_t queue_chunk(struct journal *j, struct chunk *c, uint32_t len)
{
    if (c == NULL)
        return 0;
    if (c->queued >= len)
        return c->id;
    if (c->slot == 0) {
        if (j->n_chunks == j->cap_chunks) {
            size_t cap = j->cap_chunks > 0 ? 2 * j->cap_chunks : 256;
            struct batch_chunk *chunks = realloc(j->chunks, cap * sizeof *chunks);

            if (chunks == NULL) {
                j->failed = true;
                return c->id;
            }
            j->chunks = chunks;
            j->cap_chunks = cap;
        }
        j->chunks[j->n_chunks++] = (struct batch_chunk){0};
        c->slot = (uint32_t)j->n_chunks;
    }
    if (j->chunks[c->slot - 1].chunk != c) {
        chunk_unref(j->chunks[c->slot - 1].chunk);
        j->chunks[c->slot - 1].chunk = chunk_ref(c);
    }
    j->chunks[c->slot - 1].len = len;
    j->chunk_bytes += len - c->queued;
    c->queued = len;
    return c->id;
}

/* Behind the value's chunks stands that of the extended attributes, if there are any. */
static void put_value(struct journal *j, const struct value *v, const struct xattrs *x, bool history)
{
    size_t n = v != NULL ? value_chunks(v->size) : 0;

    buffer_put_u32(&j->records, (uint32_t)n + (x != NULL ? 1 : 0));
    for (size_t i = 0; i < n; i++) {
        struct chunk *c = value_list(v)[i];

        if (c != NULL && history)
            c->history = true;
        buffer_put_u64(&j->records, queue_chunk(j, c, value_chunk_len(v->size, i)));
    }
    if (x == NULL)
        return;
    x->chunk->history = x->chunk->history || history;
    buffer_put_u64(&j->records, queue_chunk(j, x->chunk, x->chunk->used));
}

void journal_inode(struct journal *j, struct inode *in)
{
    if (j != NULL)
        hot_add(j, &j->inodes, in, &in->dirty);
}

void journal_inode_gone(struct journal *j, struct inode *in)
{
    if (j == NULL)
        return;
    hot_remove(&j->inodes, &in->dirty);
    put_kind(j, RECORD_INODE_GONE);
    buffer_put_u64(&j->records, in->ino);
}

void journal_entry(struct journal *j, struct dentry *d)
{
    if (j != NULL)
        hot_add(j, &j->entries, d, &d->dirty);
}

void journal_entry_gone(struct journal *j, struct dentry *d)
{
    if (j == NULL)
        return;
    hot_remove(&j->entries, &d->dirty);
    put_kind(j, RECORD_ENTRY_GONE);
    buffer_put_u64(&j->records, d->dir->history_id);
    buffer_put_string(&j->records, d->name, d->name_len);
}

void journal_session(struct journal *j, struct session *ss)
{
    if (j != NULL)
        hot_add(j, &j->sessions, ss, &ss->dirty);
}

void journal_session_gone(struct journal *j, struct session *ss)
{
    if (j == NULL)
        return;
    hot_remove(&j->sessions, &ss->dirty);
    put_kind(j, RECORD_SESSION_GONE);
    buffer_put_u64(&j->records, ss->id);
}

void journal_history(struct journal *j, const struct history_row *row, const struct value *value,
                     const struct xattrs *xattrs, bool again)
{
    if (j == NULL)
        return;
    put_kind(j, RECORD_HISTORY);
    history_row_encode(&j->records, row);
    if (again)
        buffer_put_u32(&j->records, RECORD_VALUE_AGAIN);
    else
        put_value(j, value, xattrs, true);
}

void journal_history_gone(struct journal *j, uint64_t directory, const uint8_t *name, uint8_t name_len,
                          uint64_t revision)
{
    if (j == NULL)
        return;
    put_kind(j, RECORD_HISTORY_GONE);
    buffer_put_u64(&j->records, directory);
    buffer_put_string(&j->records, name, name_len);
    buffer_put_u64(&j->records, revision);
}

void journal_history_drop(struct journal *j, uint64_t directory, const uint8_t *name, uint8_t name_len,
                          uint64_t revision)
{
    if (j == NULL)
        return;
    buffer_put_u8(&j->drops, RECORD_HISTORY_DROP);
    buffer_put_u64(&j->drops, directory);
    buffer_put_string(&j->drops, name, name_len);
    buffer_put_u64(&j->drops, revision);
}

static size_t part_start(const struct upload *up, uint32_t part)
{
    uint32_t end;

    if (part == 0)
        return 0;
    memcpy(&end, up->ends.data + (part - 1) * sizeof end, sizeof end);
    return end;
}

void journal_upload(struct journal *j, struct upload *up, size_t len)
{
    if (j == NULL)
        return;
    hot_add(j, &j->uploads, up, &up->dirty);
    j->part_bytes += len;
}

void journal_upload_gone(struct journal *j, struct upload *up)
{
    if (j == NULL)
        return;
    if (up->dirty != 0)
        j->part_bytes -= part_start(up, up->n_parts) - part_start(up, up->queued_parts);
    hot_remove(&j->uploads, &up->dirty);
    if (up->queued_parts == 0)
        return;
    put_kind(j, RECORD_PARTS_GONE);
    buffer_put_u64(&j->records, up->session);
    buffer_put_u64(&j->records, up->seq);
}

void journal_setting(struct journal *j, const char *name, const char *value)
{
    if (j == NULL)
        return;
    put_kind(j, value != NULL ? RECORD_SETTING : RECORD_SETTING_GONE);
    buffer_put_text(&j->records, name);
    if (value != NULL)
        buffer_put_text(&j->records, value);
}

void journal_lock(struct journal *j, const struct lock_row *row)
{
    if (j == NULL)
        return;
    put_kind(j, RECORD_LOCK);
    lock_row_encode(&j->records, row);
}

void journal_lock_gone(struct journal *j, const struct lock_row *row)
{
    if (j == NULL)
        return;
    put_kind(j, RECORD_LOCK_GONE);
    buffer_put_u64(&j->records, row->ino);
    buffer_put_u8(&j->records, row->kind);
    buffer_put_u64(&j->records, row->session);
    buffer_put_u64(&j->records, row->owner);
    buffer_put_u64(&j->records, row->start);
    buffer_put_u64(&j->records, row->wait);
}

void journal_fence(struct journal *j, const struct fence_row *row)
{
    if (j == NULL)
        return;
    put_kind(j, RECORD_FENCE);
    buffer_put_u64(&j->records, row->ino);
    buffer_put_u64(&j->records, row->revision);
    buffer_put_u64(&j->records, row->wall_ns);
    buffer_put_u8(&j->records, row->exclusive);
}

void journal_fence_gone(struct journal *j, uint64_t ino)
{
    if (j == NULL)
        return;
    put_kind(j, RECORD_FENCE_GONE);
    buffer_put_u64(&j->records, ino);
}

void journal_chunk_gone(struct journal *j, struct chunk *c)
{
    if (j == NULL || c == NULL || c->history || c->queued == 0)
        return;
    if (c->slot != 0) {
        chunk_unref(j->chunks[c->slot - 1].chunk);
        j->chunks[c->slot - 1].chunk = NULL;
        c->slot = 0;
    }
    put_kind(j, RECORD_CHUNK_GONE);
    buffer_put_u64(&j->records, c->id);
}

void journal_chunks_gone(struct journal *j, const struct value *old, const struct value *now)
{
    if (j == NULL)
        return;
    for (size_t i = 0; i < value_chunks(old->size); i++) {
        struct chunk *c = value_list(old)[i];
        const struct chunk *kept = i < value_chunks(now->size) ? value_list(now)[i] : NULL;

        if (c != NULL && (kept == NULL || kept->id != c->id))
            journal_chunk_gone(j, c);
    }
}

/* Each encodes one row, or a step of it; whether that was all. */
static bool encode_inode(struct journal *j, void *item)
{
    struct inode *in = item;
    struct inode_row row;
    struct value v = inode_value(in);

    in->dirty = 0;
    inode_row(j->ttls, in, &row);
    put_kind(j, RECORD_INODE);
    inode_row_encode(&j->records, &row);
    put_value(j, &v, in->xattrs, false);
    return true;
}

static bool encode_entry(struct journal *j, void *item)
{
    struct dentry *d = item;
    struct entry_row row;

    d->dirty = 0;
    dentry_row(d, &row);
    put_kind(j, RECORD_ENTRY);
    entry_row_encode(&j->records, &row);
    return true;
}

static void put_result(struct journal *j, uint64_t session, const struct kept_result *k)
{
    size_t at;

    put_kind(j, RECORD_RESULT);
    buffer_put_u64(&j->records, session);
    buffer_put_u64(&j->records, k->seq);
    at = j->records.len;
    buffer_put_u32(&j->records, 0);
    command_result_encode(&j->records, &k->result, MESSAGE_PROTOCOL);
    buffer_set_u32(&j->records, at, (uint32_t)(j->records.len - at - 4));
}

static bool encode_session(struct journal *j, void *item)
{
    struct session *ss = item;
    struct session_row row;
    unsigned n = 0;

    session_row(ss, &row);
    put_kind(j, RECORD_SESSION);
    session_row_encode(&j->records, &row);
    if (ss->trimmed_below < ss->acked_below) {
        put_kind(j, RECORD_RESULTS_GONE);
        buffer_put_u64(&j->records, ss->id);
        buffer_put_u64(&j->records, ss->acked_below);
        ss->trimmed_below = ss->acked_below;
    }
    for (size_t i = 0; i < ss->n; i++) {
        struct kept_result *k = &ss->results[ss->first + i];

        if (k->queued)
            continue;
        if (n++ == RESULTS_STEP)
            return false;
        k->queued = true;
        put_result(j, ss->id, k);
    }
    ss->dirty = 0;
    return true;
}

static bool encode_part(struct journal *j, void *item)
{
    struct upload *up = item;

    if (up->queued_parts < up->n_parts) {
        size_t from = part_start(up, up->queued_parts), to = part_start(up, up->queued_parts + 1);

        put_kind(j, RECORD_PART);
        buffer_put_u64(&j->records, up->session);
        buffer_put_u64(&j->records, up->seq);
        buffer_put_u32(&j->records, up->queued_parts);
        /* All may be empty: then there are no bytes to point into. */
        buffer_put_string(&j->records, to > from ? up->bytes.data + from : NULL, to - from);
        j->part_bytes -= to - from;
        up->queued_parts++;
    }
    if (up->queued_parts < up->n_parts)
        return false;
    up->dirty = 0;
    return true;
}

/* What is not encoded in full stays noted, at its old place. */
static bool encode(struct journal *j, struct hot *hot, bool (*encode_one)(struct journal *j, void *item),
                   size_t share, size_t *budget)
{
    while (hot->done < hot->n) {
        void *item = hot->items[hot->done];
        size_t before = j->records.len, cost;

        if (*budget == 0)
            return false;
        if (item == NULL || encode_one(j, item))
            hot->items[hot->done++] = NULL;
        cost = RECORD_COST + (j->records.len - before) / share;
        *budget = cost < *budget ? *budget - cost : 0;
    }
    return true;
}

bool journal_ripen(struct journal *j, size_t budget)
{
    return journal_failed(j) || (encode(j, &j->inodes, encode_inode, 1, &budget) &&
                                 encode(j, &j->entries, encode_entry, 1, &budget) &&
                                 encode(j, &j->sessions, encode_session, 1, &budget) &&
                                 encode(j, &j->uploads, encode_part, PART_SHARE, &budget));
}

int journal_seal(struct journal *j, struct store *s, struct batch **batch_out)
{
    struct batch *b;
    struct meta_row meta;

    *batch_out = NULL;
    if (journal_failed(j))
        return -ENOMEM;
    if (s->applied == j->sealed && journal_bytes(j) == 0)
        return 0;
    b = calloc(1, sizeof *b);
    if (b == NULL)
        return -ENOMEM;
    journal_ripen(j, SIZE_MAX);
    j->inodes.n = j->entries.n = j->sessions.n = j->uploads.n = 0;
    j->inodes.done = j->entries.done = j->sessions.done = j->uploads.done = 0;
    buffer_put_bytes(&j->records, j->drops.data, j->drops.len);
    store_meta(s, &meta);
    put_kind(j, RECORD_META);
    buffer_put_u64(&j->records, meta.wall_ns);
    buffer_put_u64(&j->records, meta.elapsed_ms);
    buffer_put_u64(&j->records, meta.next_ino);
    buffer_put_u64(&j->records, meta.next_number);
    if (journal_failed(j)) {
        free(b);
        return -ENOMEM;
    }
    for (size_t i = 0; i < j->n_chunks; i++)
        if (j->chunks[i].chunk != NULL)
            j->chunks[i].chunk->slot = 0;
    b->index = s->applied;
    b->digest = store_digest(s);
    b->records = j->records;
    b->chunks = j->chunks;
    b->n_chunks = j->n_chunks;
    b->bytes = j->records.len + j->chunk_bytes;
    j->records = (struct buffer)BUFFER_INIT;
    buffer_clear(&j->drops);
    j->chunks = NULL;
    j->n_chunks = j->cap_chunks = 0;
    j->chunk_bytes = 0;
    j->commands = 0;
    j->sealed = s->applied;
    *batch_out = b;
    return 0;
}

void batch_free(struct batch *b)
{
    if (b == NULL)
        return;
    /* In steps: the loop cannot map anything while pages are taken away. */
    while (buffer_shed(&b->records, RELEASE_STEP))
        ;
    free_chunks(b->chunks, b->n_chunks);
    free(b);
}
