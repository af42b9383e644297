/* A row's digest is XXH3 over its fields as little-endian 64-bit words, seeded
 * with the table's number; strings stand as their own digests. What has no extended attributes
 * and no time to live has the digest that it had before there were any; so has a session without a lock time
 * of its own. */
#include "kvnode/state/store_rows.h"

#include <endian.h>
#include <string.h>

#include "sync/base/digest.h"

enum row_table {
    TABLE_INODE = 1,
    TABLE_ENTRY = 2,
    TABLE_VERSION = 3,
    TABLE_SESSION = 4,
    TABLE_RESULT = 5,
    TABLE_PART = 6,
    TABLE_SETTING = 7,
    TABLE_META = 8,
    TABLE_LOCK = 12,
    TABLE_FENCE = 13,
};

static uint64_t words_digest(enum row_table table, uint64_t *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        words[i] = htole64(words[i]);
    return digest64(table, words, n * sizeof *words);
}

/* The last two are of the extended attributes, if there are any. */
#define XATTRS_DIGEST(table, words, xattr_size)                                                              \
    words_digest(table, words, sizeof words / sizeof words[0] - ((xattr_size) > 0 ? 0 : 2))
#define WORDS_DIGEST(table, words) words_digest(table, words, sizeof words / sizeof words[0])

static uint64_t bytes_digest(const void *data, size_t len)
{
    return len > 0 ? digest64(len, data, len) : 0;
}

uint64_t inode_row_digest(const struct inode_row *r)
{
    uint64_t words[] = {r->ino,
                        r->type,
                        r->mode,
                        r->uid,
                        r->gid,
                        r->size,
                        (uint64_t)r->mtime_ns,
                        (uint64_t)r->ctime_ns,
                        (uint64_t)r->atime_ns,
                        (uint64_t)r->btime_ns,
                        r->version,
                        r->revision,
                        r->content_revision,
                        r->history,
                        r->fresh,
                        r->creation,
                        r->content_digest,
                        r->xattr_size,
                        r->xattr_digest,
                        r->ttl_ms,
                        r->expires_ms};
    size_t n = sizeof words / sizeof words[0];

    return words_digest(TABLE_INODE, words, r->ttl_ms > 0 ? n : r->xattr_size > 0 ? n - 2 : n - 4);
}

uint64_t entry_row_digest(const struct entry_row *r)
{
    uint64_t words[] = {r->directory,
                        bytes_digest(r->name, r->name_len),
                        r->flags,
                        r->number,
                        r->ino,
                        r->past,
                        r->past_uid,
                        r->past_gid,
                        r->past_mode,
                        r->last_version,
                        r->history_digest,
                        r->aside_revision,
                        r->aside_ms,
                        r->aside_digest};

    return WORDS_DIGEST(TABLE_ENTRY, words);
}

uint64_t history_row_digest(const struct history_row *r)
{
    const struct version_row *v = &r->row;
    uint64_t words[] = {
        r->directory,
        bytes_digest(r->name, r->name_len),
        v->version,
        v->revision,
        v->wall_ns,
        v->size,
        v->mode,
        v->uid,
        v->gid,
        v->type,
        v->deleted,
        v->attributes_only,
        v->op,
        v->author_uid,
        bytes_digest(v->author_node, strlen(v->author_node)),
        r->ino,
        r->child,
        (uint64_t)r->mtime_ns,
        r->content_digest,
        r->restored,
        r->from_directory,
        bytes_digest(r->from_name, r->from_len),
        r->to_directory,
        bytes_digest(r->to_name, r->to_len),
        r->xattr_size,
        r->xattr_digest,
    };

    uint64_t digest = XATTRS_DIGEST(TABLE_VERSION, words, r->xattr_size);

    return v->label[0] != '\0' ? digest64(digest, v->label, strlen(v->label)) : digest;
}

uint64_t session_row_digest(const struct session_row *r)
{
    uint64_t words[] = {r->id,
                        bytes_digest(r->nonce, sizeof r->nonce),
                        bytes_digest(r->client, r->client_len),
                        r->owner,
                        r->seen_ms,
                        r->acked_below,
                        r->lease_ms};

    return words_digest(TABLE_SESSION, words, sizeof words / sizeof words[0] - (r->lease_ms > 0 ? 0 : 1));
}

uint64_t result_row_digest(uint64_t session, uint64_t seq, const struct command_result *result)
{
    const struct attr *a = &result->attr;
    uint64_t words[] = {session,
                        seq,
                        result->code,
                        result->created,
                        result->revision,
                        result->base_version,
                        result->base_revision,
                        result->session,
                        result->removed,
                        a->ino,
                        a->type,
                        a->mode,
                        a->uid,
                        a->gid,
                        a->nlink,
                        a->size,
                        (uint64_t)a->mtime_ns,
                        (uint64_t)a->ctime_ns,
                        (uint64_t)a->atime_ns,
                        (uint64_t)a->btime_ns,
                        a->version,
                        a->revision,
                        a->content_revision};

    return WORDS_DIGEST(TABLE_RESULT, words);
}

uint64_t part_row_digest(uint64_t session, uint64_t seq, uint32_t number, const void *bytes, size_t len)
{
    uint64_t words[] = {session, seq, number, len, bytes_digest(bytes, len)};

    return WORDS_DIGEST(TABLE_PART, words);
}

uint64_t setting_row_digest(const char *name, const char *value)
{
    uint64_t words[] = {bytes_digest(name, strlen(name)), bytes_digest(value, strlen(value))};

    return WORDS_DIGEST(TABLE_SETTING, words);
}

uint64_t lock_row_digest(const struct lock_row *r)
{
    uint64_t words[] = {r->ino,
                        r->kind,
                        r->session,
                        r->owner,
                        r->start,
                        r->end,
                        r->exclusive,
                        r->wait,
                        r->ticket,
                        r->pid,
                        bytes_digest(r->node, r->node_len)};

    return WORDS_DIGEST(TABLE_LOCK, words);
}

uint64_t fence_row_digest(const struct fence_row *r)
{
    uint64_t words[] = {r->ino, r->revision, r->wall_ns, r->exclusive};

    return WORDS_DIGEST(TABLE_FENCE, words);
}

uint64_t meta_row_digest(const struct meta_row *r)
{
    uint64_t words[] = {r->wall_ns, r->elapsed_ms, r->next_ino, r->next_number};

    return WORDS_DIGEST(TABLE_META, words);
}

void inode_row_encode(struct buffer *b, const struct inode_row *r)
{
    buffer_put_u64(b, r->ino);
    buffer_put_u8(b, r->type);
    buffer_put_u16(b, r->mode);
    buffer_put_u32(b, r->uid);
    buffer_put_u32(b, r->gid);
    buffer_put_u64(b, r->size);
    buffer_put_u64(b, (uint64_t)r->mtime_ns);
    buffer_put_u64(b, (uint64_t)r->ctime_ns);
    buffer_put_u64(b, (uint64_t)r->atime_ns);
    buffer_put_u64(b, (uint64_t)r->btime_ns);
    buffer_put_u64(b, r->version);
    buffer_put_u64(b, r->revision);
    buffer_put_u64(b, r->content_revision);
    buffer_put_u64(b, r->history);
    buffer_put_u8(b, r->fresh);
    buffer_put_u64(b, r->creation);
    buffer_put_u64(b, r->content_digest);
    buffer_put_u32(b, r->xattr_size);
    buffer_put_u64(b, r->xattr_digest);
    buffer_put_u64(b, r->ttl_ms);
    buffer_put_u64(b, r->expires_ms);
}

void inode_row_decode(struct cursor *c, struct inode_row *r_out)
{
    r_out->ino = cursor_u64(c);
    r_out->type = cursor_u8(c);
    r_out->mode = cursor_u16(c);
    r_out->uid = cursor_u32(c);
    r_out->gid = cursor_u32(c);
    r_out->size = cursor_u64(c);
    r_out->mtime_ns = (int64_t)cursor_u64(c);
    r_out->ctime_ns = (int64_t)cursor_u64(c);
    r_out->atime_ns = (int64_t)cursor_u64(c);
    r_out->btime_ns = (int64_t)cursor_u64(c);
    r_out->version = cursor_u64(c);
    r_out->revision = cursor_u64(c);
    r_out->content_revision = cursor_u64(c);
    r_out->history = cursor_u64(c);
    r_out->fresh = cursor_u8(c);
    r_out->creation = cursor_u64(c);
    r_out->content_digest = cursor_u64(c);
    r_out->xattr_size = cursor_u32(c);
    r_out->xattr_digest = cursor_u64(c);
    r_out->ttl_ms = cursor_u64(c);
    r_out->expires_ms = cursor_u64(c);
}

static const uint8_t *decode_name(struct cursor *c, uint8_t *len_out)
{
    size_t len;
    const uint8_t *name = cursor_string(c, UINT8_MAX, &len);

    *len_out = (uint8_t)len;
    return name;
}

void entry_row_encode(struct buffer *b, const struct entry_row *r)
{
    buffer_put_u64(b, r->directory);
    buffer_put_string(b, r->name, r->name_len);
    buffer_put_u8(b, r->flags);
    buffer_put_u64(b, r->number);
    buffer_put_u64(b, r->ino);
    buffer_put_u64(b, r->past);
    buffer_put_u32(b, r->past_uid);
    buffer_put_u32(b, r->past_gid);
    buffer_put_u16(b, r->past_mode);
    buffer_put_u64(b, r->last_version);
    buffer_put_u64(b, r->history_digest);
    buffer_put_u64(b, r->aside_revision);
    buffer_put_u64(b, r->aside_ms);
    buffer_put_u64(b, r->aside_digest);
}

void entry_row_decode(struct cursor *c, struct entry_row *r_out)
{
    r_out->directory = cursor_u64(c);
    r_out->name = decode_name(c, &r_out->name_len);
    r_out->flags = cursor_u8(c);
    r_out->number = cursor_u64(c);
    r_out->ino = cursor_u64(c);
    r_out->past = cursor_u64(c);
    r_out->past_uid = cursor_u32(c);
    r_out->past_gid = cursor_u32(c);
    r_out->past_mode = cursor_u16(c);
    r_out->last_version = cursor_u64(c);
    r_out->history_digest = cursor_u64(c);
    r_out->aside_revision = cursor_u64(c);
    r_out->aside_ms = cursor_u64(c);
    r_out->aside_digest = cursor_u64(c);
}

void history_row_encode(struct buffer *b, const struct history_row *r)
{
    buffer_put_u64(b, r->directory);
    buffer_put_string(b, r->name, r->name_len);
    version_row_encode(b, &r->row);
    buffer_put_string(b, r->row.label, strlen(r->row.label));
    buffer_put_u64(b, r->ino);
    buffer_put_u64(b, r->child);
    buffer_put_u64(b, (uint64_t)r->mtime_ns);
    buffer_put_u64(b, r->content_digest);
    buffer_put_u32(b, r->xattr_size);
    buffer_put_u64(b, r->xattr_digest);
    buffer_put_u64(b, r->restored);
    buffer_put_u64(b, r->from_directory);
    buffer_put_string(b, r->from_name, r->from_len);
    buffer_put_u64(b, r->to_directory);
    buffer_put_string(b, r->to_name, r->to_len);
}

void history_row_decode(struct cursor *c, struct history_row *r_out)
{
    const uint8_t *label;
    size_t label_len;

    r_out->directory = cursor_u64(c);
    r_out->name = decode_name(c, &r_out->name_len);
    version_row_decode(c, &r_out->row);
    label = cursor_string(c, COMMAND_LABEL_MAX, &label_len);
    if (label != NULL)
        memcpy(r_out->row.label, label, label_len);
    r_out->ino = cursor_u64(c);
    r_out->child = cursor_u64(c);
    r_out->mtime_ns = (int64_t)cursor_u64(c);
    r_out->content_digest = cursor_u64(c);
    r_out->xattr_size = cursor_u32(c);
    r_out->xattr_digest = cursor_u64(c);
    r_out->restored = cursor_u64(c);
    r_out->from_directory = cursor_u64(c);
    r_out->from_name = decode_name(c, &r_out->from_len);
    r_out->to_directory = cursor_u64(c);
    r_out->to_name = decode_name(c, &r_out->to_len);
}

void session_row_encode(struct buffer *b, const struct session_row *r)
{
    buffer_put_u64(b, r->id);
    buffer_put_bytes(b, r->nonce, sizeof r->nonce);
    buffer_put_string(b, r->client, r->client_len);
    buffer_put_u32(b, r->owner);
    buffer_put_u64(b, r->seen_ms);
    buffer_put_u64(b, r->acked_below);
    buffer_put_u32(b, r->lease_ms);
}

void session_row_decode(struct cursor *c, struct session_row *r_out)
{
    const uint8_t *nonce;

    r_out->id = cursor_u64(c);
    nonce = cursor_bytes(c, sizeof r_out->nonce);
    if (nonce != NULL)
        memcpy(r_out->nonce, nonce, sizeof r_out->nonce);
    r_out->client = decode_name(c, &r_out->client_len);
    r_out->owner = cursor_u32(c);
    r_out->seen_ms = cursor_u64(c);
    r_out->acked_below = cursor_u64(c);
    r_out->lease_ms = cursor_u32(c);
}
