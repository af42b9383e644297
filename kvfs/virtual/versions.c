/* DIR/.versions/KEY/N
 *
 *   .versions   a directory: every key of DIR that has or had content
 *   KEY         a directory: its versions 1, 2, 3 … and deletions, N.deleted
 *   N           the content as it was, with the mode and owner that it had: a copy can be written
 *               to, N itself cannot (EROFS)
 *
 * and, to look up but not listed, -1 (one before the newest) and
 * @2026-01-31T12:00:00Z (what was current then). */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvfs/reply/open_directory.h"
#include "kvfs/reply/reply.h"
#include "kvfs/virtual/version_name.h"
#include "kvfs/virtual/virtual.h"
#include "sync/base/error.h"

#define ROWS_A_PAGE 256
#define NAMES_A_PAGE 1024

static void lookup_key(struct request *r, struct virtual_node *parent);
static void lookup_version(struct request *r, struct virtual_node *parent);
static void list(struct request *r, struct virtual_node *v);
static void open_version(struct request *r, struct virtual_node *v);
static void read_version(struct request *r, struct virtual_node *v);
static void read_link(struct request *r, struct virtual_node *v);

static const struct virtual_ops root_ops = {.lookup = lookup_key, .opendir = list};
static const struct virtual_ops key_ops = {.lookup = lookup_version, .opendir = list};
static const struct virtual_ops version_ops = {
    .open = open_version, .read = read_version, .readlink = read_link};

/* A row that is a version of its own: content or a deletion. */
static bool is_version(const struct version_row *row)
{
    return !row->attributes_only && row->version != 0 && row->type != INODE_DIRECTORY;
}

static void fail_version(struct request *r, int code)
{
    request_fail(r, code == KV_E_NOVERSION || code == KV_E_STALE ? KV_E_NOENT : code);
}

/* In the number of rows: with read=local, whatever this node has. */
static uint32_t rows(const struct request *r, uint32_t n)
{
    return r->core->options->read_local ? n | PAST_LOCAL : n;
}

/* .versions: readable by those who may list the directory itself. */

static void on_directory(struct request *r, int code, struct cursor *body)
{
    struct virtual_table *virtuals = r->core->virtuals;
    struct virtual_node *v;
    struct attr attr;
    char key[64];

    if (code != 0) {
        request_fail(r, code);
        return;
    }
    attr_decode(body, &attr);
    snprintf(key, sizeof key, "versions/%" PRIu64, r->parent);
    v = body->failed ? NULL : virtual_get(virtuals, key);
    if (v == NULL) {
        request_error(r, body->failed ? EIO : ENOMEM);
        return;
    }
    v->ops = &root_ops;
    v->directory = r->parent;
    v->attr = attr;
    v->attr.mode &= 0555;
    v->attr.nlink = 2;
    v->attr.size = 0;
    virtual_reply_entry(r, v, false);
}

void versions_lookup_root(struct request *r)
{
    link_ask_inode(r, MESSAGE_GETATTR, r->parent, on_directory);
}

/* History: pages of rows, newest first, until a step is satisfied. */

static void send_history(struct request *r, uint64_t directory, const char *key, uint64_t before,
                         request_fn *on_answer)
{
    buffer_clear(&r->payload);
    buffer_put_u64(&r->payload, directory);
    buffer_put_text(&r->payload, key);
    buffer_put_u64(&r->payload, before);
    buffer_put_u32(&r->payload, rows(r, ROWS_A_PAGE));
    request_progress(r);
    link_send(r, MESSAGE_HISTORY, on_answer);
}

/* Listings come in pages, too: of keys by name, of versions as history. */

/* Where a page has ended. */
struct page_end {
    const uint8_t *name; /* of a key; borrowed from the answer */
    size_t name_len;
    uint64_t revision; /* of a version */
};

static void ask_keys(struct request *r, const struct virtual_node *v, const struct page_end *end,
                     request_fn *on_answer)
{
    buffer_clear(&r->payload);
    buffer_put_u64(&r->payload, v->directory);
    buffer_put_string(&r->payload, end->name, end->name_len);
    buffer_put_u32(&r->payload, rows(r, NAMES_A_PAGE));
    request_progress(r);
    link_send(r, MESSAGE_NAMES, on_answer);
}

static void take_key(struct request *r, struct cursor *body, struct page_end *end)
{
    uint64_t version;

    end->name = cursor_string(body, KV_NAME_MAX, &end->name_len);
    version = cursor_u64(body);
    cursor_u8(body);
    if (body->failed || version == 0)
        return; /* it has been a directory only, and these have no versions */
    buffer_put_u8(&r->opendir.names, INODE_DIRECTORY);
    buffer_put_bytes(&r->opendir.names, end->name, end->name_len);
    buffer_put_u8(&r->opendir.names, 0);
}

static void ask_versions(struct request *r, const struct virtual_node *v, const struct page_end *end,
                         request_fn *on_answer)
{
    send_history(r, v->directory, v->name, end->revision, on_answer);
}

static void take_version(struct request *r, struct cursor *body, struct page_end *end)
{
    char name[VERSION_NAME_MAX];
    struct version_row row;

    version_row_decode(body, &row);
    end->revision = row.revision;
    /* Rows of one version (its attributes were changed) stand together. */
    if (body->failed || !is_version(&row) ||
        (r->opendir.last.any && row.version == r->opendir.last.number &&
         row.deleted == r->opendir.last.deleted))
        return;
    r->opendir.last.number = row.version;
    r->opendir.last.deleted = row.deleted;
    r->opendir.last.any = true;
    version_name_format(row.version, row.deleted, name);
    buffer_put_u8(&r->opendir.names, row.type == INODE_SYMLINK ? INODE_SYMLINK : INODE_FILE);
    buffer_put_bytes(&r->opendir.names, name, strlen(name) + 1);
}

/* newest_first: the kernel gets it the other way round. */
static const struct listing {
    void (*ask)(struct request *r, const struct virtual_node *v, const struct page_end *end,
                request_fn *on_answer);
    void (*take)(struct request *r, struct cursor *body, struct page_end *end); /* one row */
    bool newest_first;
} keys = {ask_keys, take_key, false}, versions = {ask_versions, take_version, true};

static const struct listing *listing_of(const struct virtual_node *v)
{
    return v->ops == &root_ops ? &keys : &versions;
}

static void on_page(struct request *r, int code, struct cursor *body)
{
    const struct virtual_node *v = virtual_find(r->core->virtuals, r->ino);
    struct page_end end = {0};
    uint32_t count, i;
    bool more;

    if (code != 0 || v == NULL) {
        fail_version(r, code != 0 ? code : KV_E_STALE);
        return;
    }
    more = cursor_u8(body) != 0;
    count = cursor_u32(body);
    for (i = 0; i < count && !body->failed; i++)
        listing_of(v)->take(r, body, &end);
    if (body->failed)
        request_error(r, EIO);
    else if (more && count > 0)
        listing_of(v)->ask(r, v, &end, on_page);
    else
        open_directory_reply_list(r, &r->opendir.names, listing_of(v)->newest_first);
}

static void list(struct request *r, struct virtual_node *v)
{
    const struct page_end start = {.name = (const uint8_t *)""};

    r->ino = v->id;
    listing_of(v)->ask(r, v, &start, on_page);
}

/* KEY: r->name in the directory r->ino. Its versions may be read by those who may
 * read the key itself as it is now, or was at last: what was written before a
 * chmod 600 is as private as what was written after it. */

static void reply_key(struct request *r, uint64_t wall_ns, const struct version_row *newest)
{
    struct virtual_table *virtuals = r->core->virtuals;
    uint16_t readable = newest->mode & 0444;
    struct virtual_node *parent = virtual_find(virtuals, r->ino);
    struct virtual_node *v;
    char key[64 + KV_NAME_MAX];

    if (parent == NULL) {
        request_error(r, ESTALE);
        return;
    }
    snprintf(key, sizeof key, "key/%" PRIu64 "/%s", parent->directory, r->name);
    v = virtual_get(virtuals, key);
    if (v != NULL && v->name == NULL)
        v->name = strdup(r->name);
    if (v == NULL || v->name == NULL) {
        request_error(r, ENOMEM);
        return;
    }
    v->ops = &key_ops;
    v->directory = parent->directory;
    v->attr = parent->attr;
    v->attr.mode = (uint16_t)(readable | readable >> 2);
    v->attr.uid = newest->uid;
    v->attr.gid = newest->gid;
    v->attr.mtime_ns = v->attr.ctime_ns = v->attr.atime_ns = (int64_t)wall_ns;
    virtual_reply_entry(r, v, false);
}

static void on_key_history(struct request *r, int code, struct cursor *body)
{
    struct virtual_table *virtuals = r->core->virtuals;
    struct virtual_node *parent = virtual_find(virtuals, r->ino);
    struct version_row row = {0};
    uint32_t count, i;
    bool more;

    if (code != 0 || parent == NULL) {
        fail_version(r, code != 0 ? code : KV_E_STALE);
        return;
    }
    more = cursor_u8(body) != 0;
    count = cursor_u32(body);
    for (i = 0; i < count && !body->failed; i++) {
        version_row_decode(body, &row);
        if (body->failed || row.type == INODE_DIRECTORY)
            continue;
        if (is_version(&row) && r->key.newest_ns == 0)
            r->key.newest_ns = row.wall_ns;
        if (!row.deleted) {
            reply_key(r, r->key.newest_ns != 0 ? r->key.newest_ns : row.wall_ns, &row);
            return;
        }
    }
    if (body->failed)
        request_error(r, EIO);
    else if (more && count > 0)
        send_history(r, parent->directory, r->name, row.revision, on_key_history);
    else if (r->key.newest_ns != 0)
        reply_key(r, r->key.newest_ns, &row); /* nothing but deletions is left */
    else
        request_error(r, ENOENT);
}

static void lookup_key(struct request *r, struct virtual_node *parent)
{
    r->kind = REQUEST_KEY;
    r->key = (struct request_key){0};
    r->ino = parent->id;
    send_history(r, parent->directory, r->name, 0, on_key_history);
}

/* N */

/* What the row shows, as far as `needs` lets somebody read it: the kernel checks these. */
static uint16_t version_mode(const struct version_row *row, uint16_t needs)
{
    uint16_t readable = needs & 0444;

    return row->mode & (uint16_t)(0222 | readable | readable >> 2);
}

/* needs: the node's word on who may read it; of a deletion, which is empty, the row's own. */
static void reply_version(struct request *r, const struct version_row *row, uint16_t needs)
{
    struct virtual_table *virtuals = r->core->virtuals;
    struct virtual_node *parent = virtual_find(virtuals, r->ino);
    struct virtual_node *v;
    char key[96 + KV_NAME_MAX];

    if (parent == NULL) {
        request_error(r, ESTALE);
        return;
    }
    snprintf(key, sizeof key, "%s/%" PRIu64 "/%" PRIu64 "/%s", row->deleted ? "deletion" : "version",
             parent->directory, row->version, parent->name);
    v = virtual_get(virtuals, key);
    if (v != NULL && v->name == NULL)
        v->name = strdup(parent->name);
    if (v == NULL || v->name == NULL) {
        request_error(r, ENOMEM);
        return;
    }
    v->ops = &version_ops;
    v->directory = parent->directory;
    v->number = row->version;
    v->deleted = row->deleted;
    v->attr = (struct attr){.type = row->type == INODE_SYMLINK && !row->deleted ? INODE_SYMLINK : INODE_FILE,
                            .mode = version_mode(row, needs),
                            .uid = row->uid,
                            .gid = row->gid,
                            .nlink = 1,
                            .size = row->deleted ? 0 : row->size,
                            .mtime_ns = (int64_t)row->wall_ns,
                            .ctime_ns = (int64_t)row->wall_ns,
                            .atime_ns = (int64_t)row->wall_ns,
                            .btime_ns = (int64_t)row->wall_ns};
    virtual_reply_entry(r, v, false); /* who may read it changes with the key */
}

/* One row, newest first, against the name that is looked for. 1: this one; 0: go on; -1: there is none. */
static int match(struct request *r, const struct version_name *want, const struct version_row *row)
{
    if (!is_version(row) && !(want->kind == VERSION_TIME && row->attributes_only))
        return 0;
    switch (want->kind) {
    case VERSION_DELETED:
        return row->deleted && row->version == want->number;
    case VERSION_TIME:
        if (row->wall_ns > want->wall_ns)
            return 0;
        return row->deleted ? -1 : 1;
    default:
        /* The newest row is what is now, a deletion too; deletions behind it do not count. */
        if (row->deleted)
            r->version.passed += r->version.passed == 0;
        else if (r->version.passed++ == want->number)
            return 1;
        return 0;
    }
}

static void put_version(struct request *r, uint64_t directory, const char *key, uint64_t number,
                        uint64_t offset, size_t len)
{
    buffer_put_u64(&r->payload, directory);
    buffer_put_text(&r->payload, key);
    buffer_put_u64(&r->payload, number);
    buffer_put_u64(&r->payload, offset);
    buffer_put_u32(&r->payload, (uint32_t)len);
}

static void on_numbered(struct request *r, int code, struct cursor *body)
{
    struct version_row row;
    uint16_t needs;
    size_t len;

    if (code != 0) {
        fail_version(r, code);
        return;
    }
    version_row_decode(body, &row);
    cursor_string(body, READ_LENGTH_MAX, &len);
    needs = cursor_u16(body);
    row.uid = cursor_u32(body);
    row.gid = cursor_u32(body);
    if (body->failed)
        request_error(r, EIO);
    else
        reply_version(r, &row, needs);
}

static void send_version(struct request *r, const struct virtual_node *parent, uint64_t number)
{
    buffer_clear(&r->payload);
    request_progress(r);
    put_version(r, parent->directory, parent->name, number, 0, 0);
    link_send(r, MESSAGE_VERSION, on_numbered);
}

static void on_search(struct request *r, int code, struct cursor *body)
{
    struct virtual_table *virtuals = r->core->virtuals;
    struct virtual_node *parent = virtual_find(virtuals, r->ino);
    struct version_row row = {0};
    struct version_name want;
    uint32_t count, i;
    bool more;
    int found = 0;

    if (code != 0 || parent == NULL || !version_name_parse(r->name, &want)) {
        fail_version(r, code != 0 ? code : KV_E_STALE);
        return;
    }
    more = cursor_u8(body) != 0;
    count = cursor_u32(body);
    for (i = 0; i < count && !body->failed && found == 0; i++) {
        version_row_decode(body, &row);
        found = body->failed ? 0 : match(r, &want, &row);
    }
    if (body->failed)
        request_error(r, EIO);
    else if (found > 0 && row.deleted)
        reply_version(r, &row, row.mode);
    else if (found > 0)
        send_version(r, parent, row.version);
    else if (found == 0 && more && count > 0)
        send_history(r, parent->directory, parent->name, row.revision, on_search);
    else
        request_error(r, ENOENT);
}

static void lookup_version(struct request *r, struct virtual_node *parent)
{
    struct version_name want;

    r->kind = REQUEST_VERSION;
    r->version = (struct request_version){0};
    r->ino = parent->id;
    if (!version_name_parse(r->name, &want)) {
        request_error(r, ENOENT);
    } else if (want.kind == VERSION_NUMBER) {
        send_version(r, parent, want.number);
    } else {
        send_history(r, parent->directory, parent->name, 0, on_search);
    }
}

static void open_version(struct request *r, struct virtual_node *v)
{
    r->open.fi.fh = 0;
    r->open.fi.keep_cache = 1;
    r->open.fi.noflush = 1;
    fuse_reply_open(r->fuse, &r->open.fi);
    request_end(r);
}

static void on_content(struct request *r, int code, struct cursor *body)
{
    struct version_row row;
    const uint8_t *data;
    size_t len = 0;

    if (code != 0) {
        /* Dropped by retention since it was opened. */
        request_fail(r, code == KV_E_NOVERSION || code == KV_E_NOENT ? KV_E_STALE : code);
        return;
    }
    version_row_decode(body, &row);
    data = cursor_string(body, READ_LENGTH_MAX, &len);
    if (data == NULL)
        request_error(r, EIO);
    else
        reply_data(r, data, len < r->read.size ? len : r->read.size);
}

static void read_version(struct request *r, struct virtual_node *v)
{
    if (v->deleted) {
        reply_data(r, NULL, 0);
        return;
    }
    put_version(r, v->directory, v->name, v->number, r->read.offset, r->read.size);
    link_send(r, MESSAGE_VERSION, on_content);
}

static void on_link(struct request *r, int code, struct cursor *body)
{
    struct version_row row;
    const uint8_t *target;
    size_t len = 0;

    if (code != 0) {
        fail_version(r, code);
        return;
    }
    version_row_decode(body, &row);
    target = cursor_string(body, KV_PATH_MAX, &len);
    if (target == NULL)
        request_error(r, EIO);
    else
        reply_link(r, target, len);
}

static void read_link(struct request *r, struct virtual_node *v)
{
    put_version(r, v->directory, v->name, v->number, 0, KV_PATH_MAX);
    link_send(r, MESSAGE_VERSION, on_link);
}
