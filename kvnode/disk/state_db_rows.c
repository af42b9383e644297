/* Rows: read from a statement's columns, and bound to its parameters. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/disk/state_db_internal.h"
#include "kvnode/state/xattrs.h"
#include "sync/wire/ttl.h"
#include "sync/base/digest.h"
#include "sync/base/lock_ranges.h"

bool id_list_fits(const struct id_list *l, uint64_t size, uint64_t xattr_size)
{
    return size <= INT64_MAX && xattr_size <= KV_XATTRS_MAX &&
           l->n == value_chunks(size) + (xattr_size > 0 ? 1 : 0);
}

bool id_list_reserve(struct id_list *l, size_t n)
{
    uint64_t *ids;

    if (n <= l->cap)
        return true;
    ids = realloc(l->ids, n * sizeof *ids);
    if (ids == NULL)
        return false;
    l->ids = ids;
    l->cap = n;
    return true;
}

void id_list_deinit(struct id_list *l)
{
    free(l->ids);
    *l = (struct id_list){0};
}

bool id_list_read(struct id_list *l, sqlite3_stmt *st, int column)
{
    struct cursor c;
    size_t n;

    l->n = 0;
    switch (sqlite3_column_type(st, column)) {
    case SQLITE_NULL:
        return true;
    case SQLITE_INTEGER:
        if (!id_list_reserve(l, 1))
            return false;
        l->ids[0] = (uint64_t)sqlite3_column_int64(st, column);
        l->n = 1;
        return true;
    case SQLITE_BLOB:
        c = cursor_of(sqlite3_column_blob(st, column), (size_t)sqlite3_column_bytes(st, column));
        n = c.len / 8;
        if (c.len % 8 != 0 || n < 2 || !id_list_reserve(l, n))
            return false;
        while (l->n < n)
            l->ids[l->n++] = cursor_u64(&c);
        return true;
    default:
        return false;
    }
}

int id_list_bind(const struct id_list *l, sqlite3_stmt *st, int parameter, struct buffer *scratch)
{
    if (l->n == 0)
        return sqlite3_bind_null(st, parameter);
    if (l->n == 1)
        return sqlite3_bind_int64(st, parameter, (int64_t)l->ids[0]);
    buffer_clear(scratch);
    for (size_t i = 0; i < l->n; i++)
        buffer_put_u64(scratch, l->ids[i]);
    if (scratch->failed)
        return SQLITE_NOMEM;
    return sqlite3_bind_blob64(st, parameter, scratch->data, scratch->len, SQLITE_TRANSIENT);
}

int state_db_bind_number(sqlite3_stmt *st, int bound, int parameter, uint64_t number)
{
    return bound != SQLITE_OK ? bound : sqlite3_bind_int64(st, parameter, (int64_t)number);
}

int state_db_bind_name(sqlite3_stmt *st, int bound, int parameter, const void *name, size_t len)
{
    if (bound != SQLITE_OK)
        return bound;
    return sqlite3_bind_text(st, parameter, len > 0 ? name : "", (int)len, SQLITE_STATIC);
}

int state_db_step(sqlite3_stmt *st, int bound)
{
    return bound == SQLITE_OK ? sqlite3_step(st) : bound;
}

/* One column after the other. */
struct columns {
    sqlite3_stmt *st;
    int at;
    int code; /* binding: the first failure. A parameter that is not bound would be written as NULL */
};

static void bound(struct columns *c, int code)
{
    if (c->code == SQLITE_OK)
        c->code = code;
}

static uint64_t get_number(struct columns *c)
{
    return (uint64_t)sqlite3_column_int64(c->st, c->at++);
}

static int64_t get_time(struct columns *c)
{
    return sqlite3_column_int64(c->st, c->at++);
}

static const uint8_t *get_name(struct columns *c, uint8_t *len_out, bool *good)
{
    const uint8_t *name = sqlite3_column_text(c->st, c->at);
    int len = sqlite3_column_bytes(c->st, c->at++);

    if (len > KV_NAME_MAX)
        *good = false;
    *len_out = (uint8_t)len;
    return name;
}

static void put_number(struct columns *c, uint64_t n)
{
    bound(c, sqlite3_bind_int64(c->st, c->at++, (int64_t)n));
}

static void put_time(struct columns *c, int64_t ns)
{
    bound(c, sqlite3_bind_int64(c->st, c->at++, ns));
}

/* Zero stands as NULL where it means "none". */
static void put_optional(struct columns *c, uint64_t n)
{
    if (n != 0)
        put_number(c, n);
    else
        bound(c, sqlite3_bind_null(c->st, c->at++));
}

static void put_name(struct columns *c, const uint8_t *name, uint8_t len)
{
    if (len == 0)
        bound(c, sqlite3_bind_null(c->st, c->at++));
    else
        bound(c, sqlite3_bind_text(c->st, c->at++, (const char *)name, len, SQLITE_TRANSIENT));
}

/* A file's has an end, a directory's has none, and nothing else has one. */
static bool ttl_fits(const struct inode_row *row)
{
    if (row->ttl_ms == 0)
        return row->expires_ms == 0;
    return row->ttl_ms <= KV_TTL_MAX_MS && row->expires_ms <= INT64_MAX &&
           (row->type == INODE_FILE ? row->expires_ms > 0
                                    : row->type == INODE_DIRECTORY && row->expires_ms == 0);
}

bool inode_row_read(sqlite3_stmt *st, struct inode_row *row_out)
{
    struct columns c = {.st = st};
    uint64_t type, xattr_size;

    row_out->ino = get_number(&c);
    type = get_number(&c);
    row_out->type = (uint8_t)type;
    row_out->mode = (uint16_t)get_number(&c);
    row_out->uid = (uint32_t)get_number(&c);
    row_out->gid = (uint32_t)get_number(&c);
    row_out->size = get_number(&c);
    row_out->mtime_ns = get_time(&c);
    row_out->ctime_ns = get_time(&c);
    row_out->atime_ns = get_time(&c);
    row_out->btime_ns = get_time(&c);
    row_out->version = get_number(&c);
    row_out->revision = get_number(&c);
    row_out->content_revision = get_number(&c);
    row_out->history = get_number(&c);
    row_out->fresh = get_number(&c) != 0;
    row_out->creation = get_number(&c);
    row_out->content_digest = get_number(&c);
    xattr_size = get_number(&c);
    row_out->xattr_size = (uint32_t)xattr_size;
    row_out->xattr_digest = get_number(&c);
    row_out->ttl_ms = get_number(&c);
    row_out->expires_ms = get_number(&c);
    return xattr_size <= KV_XATTRS_MAX && type >= INODE_FILE && type <= INODE_SOCKET && ttl_fits(row_out);
}

int inode_row_bind(sqlite3_stmt *st, const struct inode_row *row)
{
    struct columns c = {.st = st, .at = 1};

    put_number(&c, row->ino);
    put_number(&c, row->type);
    put_number(&c, row->mode);
    put_number(&c, row->uid);
    put_number(&c, row->gid);
    put_number(&c, row->size);
    put_time(&c, row->mtime_ns);
    put_time(&c, row->ctime_ns);
    put_time(&c, row->atime_ns);
    put_time(&c, row->btime_ns);
    put_number(&c, row->version);
    put_number(&c, row->revision);
    put_number(&c, row->content_revision);
    put_optional(&c, row->history);
    put_number(&c, row->fresh);
    put_optional(&c, row->creation);
    put_number(&c, row->content_digest);
    put_optional(&c, row->xattr_size);
    put_optional(&c, row->xattr_digest);
    put_optional(&c, row->ttl_ms);
    put_optional(&c, row->expires_ms);
    return c.code;
}

bool entry_row_read(sqlite3_stmt *st, struct entry_row *row_out)
{
    struct columns c = {.st = st};
    bool good = true;

    row_out->directory = get_number(&c);
    row_out->name = get_name(&c, &row_out->name_len, &good);
    row_out->flags = (uint8_t)get_number(&c);
    row_out->number = get_number(&c);
    row_out->ino = get_number(&c);
    row_out->past = get_number(&c);
    row_out->past_uid = (uint32_t)get_number(&c);
    row_out->past_gid = (uint32_t)get_number(&c);
    row_out->past_mode = (uint16_t)get_number(&c);
    row_out->last_version = get_number(&c);
    row_out->history_digest = get_number(&c);
    row_out->aside_revision = get_number(&c);
    row_out->aside_ms = get_number(&c);
    row_out->aside_digest = get_number(&c);
    return good && row_out->name_len > 0 && (row_out->flags & ~ENTRY_FLAGS) == 0;
}

int entry_row_bind(sqlite3_stmt *st, const struct entry_row *row)
{
    struct columns c = {.st = st, .at = 1};

    put_number(&c, row->directory);
    put_name(&c, row->name, row->name_len);
    put_number(&c, row->flags);
    put_number(&c, row->number);
    put_optional(&c, row->ino);
    put_optional(&c, row->past);
    put_optional(&c, row->past_uid);
    put_optional(&c, row->past_gid);
    put_optional(&c, row->past_mode);
    put_number(&c, row->last_version);
    put_number(&c, row->history_digest);
    put_optional(&c, row->aside_revision);
    put_optional(&c, row->aside_ms);
    put_optional(&c, row->aside_digest);
    return c.code;
}

static const char *op_text(const struct history_row *row)
{
    return row->restored != 0 ? "restore" : command_op_name(row->row.op);
}

static uint8_t op_of(const char *text)
{
    uint8_t op = 1;

    if (text == NULL)
        return 0;
    if (strcmp(text, "restore") == 0)
        return COMMAND_SET;
    while (op < COMMAND_OP_COUNT && strcmp(command_op_name(op), text) != 0)
        op++;
    return op < COMMAND_OP_COUNT ? op : 0;
}

/* Covers what is this node's own, the ids, on top of the row's digest. */
static uint64_t version_checksum(const struct history_row *row, const struct id_list *ids)
{
    return digest64(history_row_digest(row), ids->n > 0 ? (const void *)ids->ids : "",
                    ids->n * sizeof *ids->ids);
}

/* False: it is none that a command can have. */
static bool get_label(struct columns *c, char label[COMMAND_LABEL_MAX + 1])
{
    const char *text = (const char *)sqlite3_column_text(c->st, c->at);
    size_t len = (size_t)sqlite3_column_bytes(c->st, c->at++);

    if (text == NULL)
        return true;
    if (!command_label_check(text, len))
        return false;
    memcpy(label, text, len);
    return true;
}

bool history_row_read(sqlite3_stmt *st, struct history_row *row_out, struct id_list *ids_out)
{
    struct columns c = {.st = st};
    struct version_row *v = &row_out->row;
    const char *node;
    size_t node_len;
    uint64_t xattr_size;
    bool good = true;

    *row_out = (struct history_row){0};
    row_out->directory = get_number(&c);
    row_out->name = get_name(&c, &row_out->name_len, &good);
    v->revision = get_number(&c);
    v->version = get_number(&c);
    v->op = op_of((const char *)sqlite3_column_text(st, c.at++));
    v->wall_ns = get_number(&c);
    v->type = (uint8_t)get_number(&c);
    v->deleted = (uint8_t)get_number(&c);
    v->attributes_only = (uint8_t)get_number(&c);
    v->size = get_number(&c);
    v->mode = (uint16_t)get_number(&c);
    v->uid = (uint32_t)get_number(&c);
    v->gid = (uint32_t)get_number(&c);
    row_out->mtime_ns = get_time(&c);
    row_out->ino = get_number(&c);
    row_out->child = get_number(&c);
    v->author_uid = (uint32_t)get_number(&c);
    node = (const char *)sqlite3_column_text(st, c.at);
    node_len = (size_t)sqlite3_column_bytes(st, c.at++);
    if (node_len > COMMAND_NODE_MAX)
        good = false;
    else if (node != NULL)
        memcpy(v->author_node, node, node_len);
    good = get_label(&c, v->label) && good;
    row_out->restored = get_number(&c);
    row_out->from_directory = get_number(&c);
    row_out->from_name = get_name(&c, &row_out->from_len, &good);
    row_out->to_directory = get_number(&c);
    row_out->to_name = get_name(&c, &row_out->to_len, &good);
    row_out->content_digest = get_number(&c);
    xattr_size = get_number(&c);
    good = good && xattr_size <= KV_XATTRS_MAX;
    row_out->xattr_size = (uint32_t)xattr_size;
    row_out->xattr_digest = get_number(&c);
    good = id_list_read(ids_out, st, c.at++) && good;
    return good && get_number(&c) == version_checksum(row_out, ids_out);
}

int history_row_bind(sqlite3_stmt *st, const struct history_row *row, const struct id_list *ids)
{
    const struct version_row *v = &row->row;
    struct columns c = {.st = st, .at = 1};
    struct buffer scratch = BUFFER_INIT;

    put_number(&c, row->directory);
    put_name(&c, row->name, row->name_len);
    put_number(&c, v->revision);
    put_number(&c, v->version);
    bound(&c, sqlite3_bind_text(st, c.at++, op_text(row), -1, SQLITE_STATIC));
    put_number(&c, v->wall_ns);
    put_number(&c, v->type);
    put_number(&c, v->deleted);
    put_number(&c, v->attributes_only);
    put_number(&c, v->size);
    put_number(&c, v->mode);
    put_number(&c, v->uid);
    put_number(&c, v->gid);
    put_time(&c, row->mtime_ns);
    put_number(&c, row->ino);
    put_optional(&c, row->child);
    put_number(&c, v->author_uid);
    bound(&c, sqlite3_bind_text(st, c.at++, v->author_node, -1, SQLITE_TRANSIENT));
    bound(&c, v->label[0] != '\0' ? sqlite3_bind_text(st, c.at, v->label, -1, SQLITE_TRANSIENT)
                                  : sqlite3_bind_null(st, c.at));
    c.at++;
    put_optional(&c, row->restored);
    put_optional(&c, row->from_directory);
    put_name(&c, row->from_name, row->from_len);
    put_optional(&c, row->to_directory);
    put_name(&c, row->to_name, row->to_len);
    put_number(&c, row->content_digest);
    put_optional(&c, row->xattr_size);
    put_optional(&c, row->xattr_digest);
    bound(&c, id_list_bind(ids, st, c.at++, &scratch));
    put_number(&c, version_checksum(row, ids));
    buffer_deinit(&scratch);
    return c.code;
}

bool session_row_read(sqlite3_stmt *st, struct session_row *row_out)
{
    struct columns c = {.st = st};
    const void *nonce;
    bool good = true;

    row_out->id = get_number(&c);
    nonce = sqlite3_column_blob(st, c.at);
    good = nonce != NULL && sqlite3_column_bytes(st, c.at) == sizeof row_out->nonce;
    if (good)
        memcpy(row_out->nonce, nonce, sizeof row_out->nonce);
    c.at++;
    row_out->client = get_name(&c, &row_out->client_len, &good);
    row_out->owner = (uint32_t)get_number(&c);
    row_out->seen_ms = get_number(&c);
    row_out->acked_below = get_number(&c);
    row_out->lease_ms = (uint32_t)get_number(&c);
    return good && row_out->lease_ms <= LOCK_LEASE_MAX_MS;
}

int session_row_bind(sqlite3_stmt *st, const struct session_row *row)
{
    struct columns c = {.st = st, .at = 1};

    put_number(&c, row->id);
    bound(&c, sqlite3_bind_blob(st, c.at++, row->nonce, sizeof row->nonce, SQLITE_TRANSIENT));
    put_name(&c, row->client, row->client_len);
    put_number(&c, row->owner);
    put_number(&c, row->seen_ms);
    put_number(&c, row->acked_below);
    put_optional(&c, row->lease_ms);
    return c.code;
}

bool fence_row_read(sqlite3_stmt *st, struct fence_row *row_out)
{
    struct columns c = {.st = st};
    uint64_t exclusive;

    row_out->ino = get_number(&c);
    row_out->revision = get_number(&c);
    row_out->wall_ns = get_number(&c);
    exclusive = get_number(&c);
    row_out->exclusive = exclusive != 0;
    return exclusive <= 1;
}

int fence_row_bind(sqlite3_stmt *st, const struct fence_row *row)
{
    struct columns c = {.st = st, .at = 1};

    put_number(&c, row->ino);
    put_number(&c, row->revision);
    put_number(&c, row->wall_ns);
    put_number(&c, row->exclusive);
    return c.code;
}

bool lock_row_read(sqlite3_stmt *st, struct lock_row *row_out)
{
    struct columns c = {.st = st};
    bool good = true;
    uint8_t node_len;

    row_out->ino = get_number(&c);
    row_out->kind = (uint8_t)get_number(&c);
    row_out->session = get_number(&c);
    row_out->owner = get_number(&c);
    row_out->start = get_number(&c);
    row_out->end = get_number(&c);
    row_out->exclusive = (uint8_t)get_number(&c);
    row_out->wait = get_number(&c);
    row_out->ticket = get_number(&c);
    row_out->pid = (uint32_t)get_number(&c);
    row_out->node = get_name(&c, &node_len, &good);
    row_out->node_len = node_len;
    return good && node_len <= COMMAND_NODE_MAX && row_out->kind <= LOCK_DELEGATED &&
           row_out->exclusive <= LOCK_ROW_MODES && row_out->start <= row_out->end &&
           row_out->end <= LOCK_RANGE_END;
}

int lock_row_bind(sqlite3_stmt *st, const struct lock_row *row)
{
    struct columns c = {.st = st, .at = 1};

    put_number(&c, row->ino);
    put_number(&c, row->kind);
    put_number(&c, row->session);
    put_number(&c, row->owner);
    put_number(&c, row->start);
    put_number(&c, row->end);
    put_number(&c, row->exclusive);
    put_number(&c, row->wait);
    put_number(&c, row->ticket);
    put_number(&c, row->pid);
    put_name(&c, row->node, (uint8_t)row->node_len);
    return c.code;
}

int state_db_read_meta(sqlite3 *db, const char *path, struct meta_record *meta_out,
                       char error[STATE_DB_ERROR_MAX])
{
    struct columns c = {0};
    int code = sqlite3_prepare_v2(
        db, "SELECT shard, applied, digest, wall, elapsed, next_ino, next_number FROM meta", -1, &c.st, NULL);

    if (code == SQLITE_OK)
        code = sqlite3_step(c.st);
    if (code == SQLITE_DONE) {
        sqlite3_finalize(c.st);
        return -ENOENT; /* a crash came before the first batch */
    }
    if (code != SQLITE_ROW) {
        sqlite3_finalize(c.st);
        return state_db_fail(db, code, path, "cannot read", error);
    }
    meta_out->group = get_number(&c);
    meta_out->applied = get_number(&c);
    meta_out->digest = get_number(&c);
    meta_out->row.wall_ns = get_number(&c);
    meta_out->row.elapsed_ms = get_number(&c);
    meta_out->row.next_ino = get_number(&c);
    meta_out->row.next_number = get_number(&c);
    sqlite3_finalize(c.st);
    return 0;
}

uint64_t dropped_checksum(uint64_t revision)
{
    return digest64(9, &revision, sizeof revision);
}

bool dropped_row_read(sqlite3_stmt *st, uint64_t *revision_out)
{
    *revision_out = (uint64_t)sqlite3_column_int64(st, 0);
    return (uint64_t)sqlite3_column_int64(st, 1) == dropped_checksum(*revision_out);
}
