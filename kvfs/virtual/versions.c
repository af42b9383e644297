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

static void lookup_key(struct call *call, struct virtual_node *parent);
static void lookup_version(struct call *call, struct virtual_node *parent);
static void list(struct call *call, struct virtual_node *v);
static void open_version(struct call *call, struct virtual_node *v);
static void read_version(struct call *call, struct virtual_node *v);
static void read_link(struct call *call, struct virtual_node *v);
static void read_xattrs(struct call *call, struct virtual_node *v);

static const struct virtual_ops root_ops = {.lookup = lookup_key, .opendir = list};
static const struct virtual_ops key_ops = {.lookup = lookup_version, .opendir = list};
static const struct virtual_ops version_ops = {
    .open = open_version, .read = read_version, .readlink = read_link, .xattrs = read_xattrs};

/* A row that is a version of its own: content or a deletion. */
static bool is_version(const struct version_row *row)
{
    return !row->attributes_only && row->version != 0 && row->type != INODE_DIRECTORY;
}

/* A deletion is an empty file, whatever it was that was deleted. */
static uint8_t shown_type(const struct version_row *row)
{
    return row->deleted ? INODE_FILE : row->type;
}

static void fail_version(struct call *call, int code)
{
    call_fail(call, code == KV_E_NOVERSION || code == KV_E_STALE ? KV_E_NOENT : code);
}

/* In the number of rows: with read=local, whatever this node has. */
static uint32_t rows(const struct call *call, uint32_t n)
{
    return call->hub->options->read_local ? n | PAST_LOCAL : n;
}

/* .versions: readable by those who may list the directory itself. */

static void on_directory(struct call *call, int code, const union answer_body *answer)
{
    struct virtual_table *virtuals = call->hub->virtuals;
    struct virtual_node *v;
    char key[64];

    if (code != 0) {
        call_fail(call, code);
        return;
    }
    snprintf(key, sizeof key, "versions/%" PRIu64, call->parent);
    v = virtual_get(virtuals, key);
    if (v == NULL) {
        call_error(call, ENOMEM);
        return;
    }
    v->ops = &root_ops;
    v->directory = call->parent;
    v->attr = answer->getattr;
    v->attr.mode &= 0555;
    v->attr.nlink = 2;
    v->attr.size = 0;
    virtual_reply_entry(call, v, false);
}

void versions_lookup_root(struct call *call)
{
    uplink_ask_inode(call, MESSAGE_GETATTR, call->parent, on_directory);
}

/* History: pages of rows, newest first, until a step is satisfied. */

static void send_history(struct call *call, uint64_t directory, const char *key, uint64_t before,
                         call_fn *on_answer)
{
    const union request_body request = {
        .history = {
            .directory = directory, .name = bytes_text(key), .before = before, .n = rows(call, ROWS_A_PAGE)}};

    call_progress(call);
    uplink_send(call, MESSAGE_HISTORY, &request, on_answer);
}

/* Listings come in pages, too: of keys by name, of versions as history. */

/* Where a page has ended. */
struct page_end {
    struct bytes name; /* of a key; borrowed from the answer */
    uint64_t revision; /* of a version */
};

static void ask_keys(struct call *call, const struct virtual_node *v, const struct page_end *end,
                     call_fn *on_answer)
{
    const union request_body request = {
        .names = {.directory = v->directory, .after = end->name, .n = rows(call, NAMES_A_PAGE)}};

    call_progress(call);
    uplink_send(call, MESSAGE_NAMES, &request, on_answer);
}

static void take_key(struct call *call, struct cursor *rows, struct page_end *end)
{
    struct names_row row;

    names_row_decode(rows, &row);
    end->name = row.name;
    if (row.version == 0)
        return; /* it has been a directory only, and these have no versions */
    buffer_put_u8(&call->opendir.names, INODE_DIRECTORY);
    buffer_put_bytes(&call->opendir.names, row.name.data, row.name.len);
    buffer_put_u8(&call->opendir.names, 0);
}

static void ask_versions(struct call *call, const struct virtual_node *v, const struct page_end *end,
                         call_fn *on_answer)
{
    send_history(call, v->directory, v->name, end->revision, on_answer);
}

static void take_version(struct call *call, struct cursor *rows, struct page_end *end)
{
    char name[VERSION_NAME_MAX];
    struct version_row row;

    version_row_decode(rows, &row);
    end->revision = row.revision;
    /* Rows of one version (its attributes were changed) stand together. */
    if (!is_version(&row) || (call->opendir.last.any && row.version == call->opendir.last.number &&
                              row.deleted == call->opendir.last.deleted))
        return;
    call->opendir.last.number = row.version;
    call->opendir.last.deleted = row.deleted;
    call->opendir.last.any = true;
    version_name_format(row.version, row.deleted, name);
    buffer_put_u8(&call->opendir.names, shown_type(&row));
    buffer_put_bytes(&call->opendir.names, name, strlen(name) + 1);
}

/* newest_first: the kernel gets it the other way round. */
static const struct listing {
    void (*ask)(struct call *call, const struct virtual_node *v, const struct page_end *end,
                call_fn *on_answer);
    void (*take)(struct call *call, struct cursor *rows, struct page_end *end); /* one row */
    bool newest_first;
} keys = {ask_keys, take_key, false}, versions = {ask_versions, take_version, true};

static const struct listing *listing_of(const struct virtual_node *v)
{
    return v->ops == &root_ops ? &keys : &versions;
}

static void on_page(struct call *call, int code, const union answer_body *answer)
{
    const struct virtual_node *v = virtual_find(call->hub->virtuals, call->ino);
    struct page_end end = {0};
    const struct page_answer *page;
    struct cursor rows;
    uint32_t i;

    if (code != 0 || v == NULL) {
        fail_version(call, code != 0 ? code : KV_E_STALE);
        return;
    }
    page = v->ops == &root_ops ? &answer->names : &answer->history;
    rows = rows_cursor(&page->rows);
    for (i = 0; i < page->rows.count; i++)
        listing_of(v)->take(call, &rows, &end);
    if (page->more != 0 && page->rows.count > 0)
        listing_of(v)->ask(call, v, &end, on_page);
    else
        open_directory_reply_list(call, &call->opendir.names, listing_of(v)->newest_first);
}

static void list(struct call *call, struct virtual_node *v)
{
    const struct page_end start = {0};

    call->ino = v->id;
    listing_of(v)->ask(call, v, &start, on_page);
}

/* KEY: call->name in the directory call->ino. Its versions may be read by those who may
 * read the key itself as it is now, or was at last: what was written before a
 * chmod 600 is as private as what was written after it. */

static void reply_key(struct call *call, uint64_t wall_ns, const struct version_row *newest)
{
    struct virtual_table *virtuals = call->hub->virtuals;
    uint16_t readable = newest->mode & 0444;
    struct virtual_node *parent = virtual_find(virtuals, call->ino);
    struct virtual_node *v;
    char key[64 + KV_NAME_MAX];

    if (parent == NULL) {
        call_error(call, ESTALE);
        return;
    }
    snprintf(key, sizeof key, "key/%" PRIu64 "/%s", parent->directory, call->name);
    v = virtual_get(virtuals, key);
    if (v != NULL && v->name == NULL)
        v->name = strdup(call->name);
    if (v == NULL || v->name == NULL) {
        call_error(call, ENOMEM);
        return;
    }
    v->ops = &key_ops;
    v->directory = parent->directory;
    v->attr = parent->attr;
    v->attr.mode = (uint16_t)(readable | readable >> 2);
    v->attr.uid = newest->uid;
    v->attr.gid = newest->gid;
    v->attr.mtime_ns = v->attr.ctime_ns = v->attr.atime_ns = (int64_t)wall_ns;
    virtual_reply_entry(call, v, false);
}

static void on_key_history(struct call *call, int code, const union answer_body *answer)
{
    struct virtual_table *virtuals = call->hub->virtuals;
    struct virtual_node *parent = virtual_find(virtuals, call->ino);
    const struct page_answer *page;
    struct version_row row = {0};
    struct cursor rows;
    uint32_t i;

    if (code != 0 || parent == NULL) {
        fail_version(call, code != 0 ? code : KV_E_STALE);
        return;
    }
    page = &answer->history;
    rows = rows_cursor(&page->rows);
    for (i = 0; i < page->rows.count; i++) {
        version_row_decode(&rows, &row);
        if (row.type == INODE_DIRECTORY)
            continue;
        if (is_version(&row) && call->key.newest_ns == 0)
            call->key.newest_ns = row.wall_ns;
        if (!row.deleted) {
            reply_key(call, call->key.newest_ns != 0 ? call->key.newest_ns : row.wall_ns, &row);
            return;
        }
    }
    if (page->more != 0 && page->rows.count > 0)
        send_history(call, parent->directory, call->name, row.revision, on_key_history);
    else if (call->key.newest_ns != 0)
        reply_key(call, call->key.newest_ns, &row); /* nothing but deletions is left */
    else
        call_error(call, ENOENT);
}

static void lookup_key(struct call *call, struct virtual_node *parent)
{
    call->kind = CALL_KEY;
    call->key = (struct call_key){0};
    call->ino = parent->id;
    send_history(call, parent->directory, call->name, 0, on_key_history);
}

/* N */

/* What the row shows, as far as `needs` lets somebody read it: the kernel checks these. */
static uint16_t version_mode(const struct version_row *row, uint16_t needs)
{
    uint16_t readable = needs & 0444;

    return row->mode & (uint16_t)(0222 | readable | readable >> 2);
}

/* needs: the node's word on who may read it; of a deletion, which is empty, the row's own. */
static void reply_version(struct call *call, const struct version_row *row, uint16_t needs)
{
    struct virtual_table *virtuals = call->hub->virtuals;
    struct virtual_node *parent = virtual_find(virtuals, call->ino);
    struct virtual_node *v;
    char key[96 + KV_NAME_MAX];

    if (parent == NULL) {
        call_error(call, ESTALE);
        return;
    }
    snprintf(key, sizeof key, "%s/%" PRIu64 "/%" PRIu64 "/%s", row->deleted ? "deletion" : "version",
             parent->directory, row->version, parent->name);
    v = virtual_get(virtuals, key);
    if (v != NULL && v->name == NULL)
        v->name = strdup(parent->name);
    if (v == NULL || v->name == NULL) {
        call_error(call, ENOMEM);
        return;
    }
    v->ops = &version_ops;
    v->directory = parent->directory;
    v->number = row->version;
    v->deleted = row->deleted;
    v->attr = (struct attr){.type = shown_type(row),
                            .mode = version_mode(row, needs),
                            .uid = row->uid,
                            .gid = row->gid,
                            .nlink = 1,
                            .size = row->deleted ? 0 : row->size,
                            .mtime_ns = (int64_t)row->wall_ns,
                            .ctime_ns = (int64_t)row->wall_ns,
                            .atime_ns = (int64_t)row->wall_ns,
                            .btime_ns = (int64_t)row->wall_ns};
    virtual_reply_entry(call, v, false); /* who may read it changes with the key */
}

/* One row, newest first, against the name that is looked for. 1: this one; 0: go on; -1: there is none. */
static int match(struct call *call, const struct version_name *want, const struct version_row *row)
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
            call->version.passed += call->version.passed == 0;
        else if (call->version.passed++ == want->number)
            return 1;
        return 0;
    }
}

/* v: its key, or one of its versions. */
static void ask_version(struct call *call, const struct virtual_node *v, uint64_t number, uint64_t offset,
                        size_t len, call_fn *on_answer)
{
    const union request_body request = {.version = {.directory = v->directory,
                                                    .name = bytes_text(v->name),
                                                    .version = number,
                                                    .offset = offset,
                                                    .length = (uint32_t)len}};

    uplink_send(call, MESSAGE_VERSION, &request, on_answer);
}

static void on_numbered(struct call *call, int code, const union answer_body *answer)
{
    struct version_row row;

    if (code != 0) {
        fail_version(call, code);
        return;
    }
    row = answer->version.row;
    row.uid = answer->version.uid;
    row.gid = answer->version.gid;
    reply_version(call, &row, answer->version.mode);
}

static void send_version(struct call *call, const struct virtual_node *parent, uint64_t number)
{
    call_progress(call);
    ask_version(call, parent, number, 0, 0, on_numbered);
}

static void on_search(struct call *call, int code, const union answer_body *answer)
{
    struct virtual_table *virtuals = call->hub->virtuals;
    struct virtual_node *parent = virtual_find(virtuals, call->ino);
    struct version_row row = {0};
    struct version_name want;
    const struct page_answer *page;
    struct cursor rows;
    uint32_t i;
    int found = 0;

    if (code != 0 || parent == NULL || !version_name_parse(call->name, &want)) {
        fail_version(call, code != 0 ? code : KV_E_STALE);
        return;
    }
    page = &answer->history;
    rows = rows_cursor(&page->rows);
    for (i = 0; i < page->rows.count && found == 0; i++) {
        version_row_decode(&rows, &row);
        found = match(call, &want, &row);
    }
    if (found > 0 && row.deleted)
        reply_version(call, &row, row.mode);
    else if (found > 0)
        send_version(call, parent, row.version);
    else if (found == 0 && page->more != 0 && page->rows.count > 0)
        send_history(call, parent->directory, parent->name, row.revision, on_search);
    else
        call_error(call, ENOENT);
}

static void lookup_version(struct call *call, struct virtual_node *parent)
{
    struct version_name want;

    call->kind = CALL_VERSION;
    call->version = (struct call_version){0};
    call->ino = parent->id;
    if (!version_name_parse(call->name, &want)) {
        call_error(call, ENOENT);
    } else if (want.kind == VERSION_NUMBER) {
        send_version(call, parent, want.number);
    } else {
        send_history(call, parent->directory, parent->name, 0, on_search);
    }
}

static void open_version(struct call *call, struct virtual_node *v)
{
    call->open.fi.fh = 0;
    call->open.fi.keep_cache = 1;
    call->open.fi.noflush = 1;
    fuse_reply_open(call->fuse, &call->open.fi);
    call_end(call);
}

static void on_content(struct call *call, int code, const union answer_body *answer)
{
    const struct bytes *data;

    if (code != 0) {
        /* Dropped by retention since it was opened. */
        call_fail(call, code == KV_E_NOVERSION || code == KV_E_NOENT ? KV_E_STALE : code);
        return;
    }
    data = &answer->version.data;
    reply_data(call, data->data, data->len < call->read.size ? data->len : call->read.size);
}

static void read_version(struct call *call, struct virtual_node *v)
{
    if (v->deleted) {
        reply_data(call, NULL, 0);
        return;
    }
    ask_version(call, v, v->number, call->read.offset, call->read.size, on_content);
}

static void on_link(struct call *call, int code, const union answer_body *answer)
{
    if (code != 0)
        fail_version(call, code);
    else if (answer->version.data.len > KV_PATH_MAX)
        call_error(call, EIO);
    else
        reply_link(call, answer->version.data.data, answer->version.data.len);
}

static void read_link(struct call *call, struct virtual_node *v)
{
    ask_version(call, v, v->number, 0, KV_PATH_MAX, on_link);
}

static void on_xattrs(struct call *call, int code, const union answer_body *answer)
{
    if (code == KV_E_NOTSUP) /* an older node */
        reply_xattrs(call, &(struct bytes){0});
    else if (code != 0)
        fail_version(call, code);
    else
        reply_xattrs(call, &answer->version_xattrs.xattrs);
}

static void read_xattrs(struct call *call, struct virtual_node *v)
{
    const union request_body request = {
        .version_xattrs = {.directory = v->directory, .name = bytes_text(v->name), .version = v->number}};

    if (v->deleted)
        reply_xattrs(call, &(struct bytes){0});
    else
        uplink_send(call, MESSAGE_VERSION_XATTRS, &request, on_xattrs);
}
