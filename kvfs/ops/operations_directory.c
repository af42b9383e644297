/* Listings. Cookies: 1 "." 2 ".." 3 ".versions" (listed only if so wanted), then the entry's
 * number + FIRST. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvfs/file/file.h"
#include "kvfs/link/stat.h"
#include "kvfs/ops/operations.h"
#include "kvfs/reply/reply.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"

#define FIRST 3
#define ENTRIES_MAX 2048
#define PLAIN_SIZE 32 /* bytes of the shortest entry in the kernel's buffer */
#define PLUS_SIZE 160

/* A buffer of entries for the kernel. */
struct listing {
    struct call *call;
    char *data;
    size_t len, size;
    bool plus;
    uint64_t begun_ms;
    uint64_t *counted; /* plus: inodes whose references were counted */
    size_t n_counted;
};

static bool listing_init(struct listing *l, struct call *call)
{
    *l = (struct listing){
        .call = call, .size = call->readdir.size, .plus = call->readdir.plus, .begun_ms = clock_boot_ms()};
    l->data = malloc(call->readdir.size > 0 ? call->readdir.size : 1);
    if (l->data != NULL && l->plus)
        l->counted = calloc(call->readdir.size / PLUS_SIZE + 1, sizeof *l->counted);
    return l->data != NULL && (!l->plus || l->counted != NULL);
}

static void listing_reply(struct fs *fs, struct listing *l)
{
    size_t i;

    if (fuse_reply_buf(l->call->fuse, l->data, l->len) != 0) {
        for (i = 0; i < l->n_counted; i++)
            kernel_inode_forget(&fs->cache, l->counted[i], 1);
    } else if (l->n_counted > 0) {
        lease_given(&fs->cache, l->begun_ms);
    }
    call_end(l->call);
    free(l->data);
    free(l->counted);
}

static void listing_fail(struct fs *fs, struct listing *l, int err)
{
    call_error(l->call, err);
    free(l->data);
    free(l->counted);
}

/* False: it does not fit. */
static bool put_entry(struct listing *l, const char *name, const struct fuse_entry_param *e, uint64_t cookie)
{
    size_t left = l->size - l->len, n;

    if (l->plus)
        n = fuse_add_direntry_plus(l->call->fuse, l->data + l->len, left, name, e, (off_t)cookie);
    else
        n = fuse_add_direntry(l->call->fuse, l->data + l->len, left, name, &e->attr, (off_t)cookie);
    if (n > left)
        return false;
    l->len += n;
    return true;
}

/* An entry that is not looked up by being listed. */
static bool put_plain(struct listing *l, const char *name, uint64_t ino, uint8_t type, uint64_t cookie)
{
    struct fuse_entry_param e = {0};

    e.attr.st_ino = ino;
    e.attr.st_mode = stat_type(type);
    return put_entry(l, name, &e, cookie);
}

static bool put_dots(struct fs *fs, struct listing *l, uint64_t ino, uint64_t parent, uint64_t offset)
{
    if (offset < 1 && !put_plain(l, ".", ino, INODE_DIRECTORY, 1))
        return false;
    if (offset < 2 && !put_plain(l, "..", parent, INODE_DIRECTORY, 2))
        return false;
    return offset >= FIRST || fs->hub.options->versions != VERSIONS_VISIBLE || virtual_is(ino) ||
           put_plain(l, VIRTUAL_VERSIONS_NAME, VIRTUAL_BIT | ino, INODE_DIRECTORY, FIRST);
}

static size_t padded(size_t name_len)
{
    return (name_len + 7) & ~(size_t)7;
}

static bool put_real(struct fs *fs, struct listing *l, uint64_t directory, struct attr *attr,
                     const uint8_t *bytes, size_t len, uint64_t cookie)
{
    struct fuse_entry_param e;
    char name[KV_NAME_MAX + 1];

    memcpy(name, bytes, len);
    name[len] = '\0';
    /* Without attributes: this mount may list the directory, and not look up what is in it. */
    if (!l->plus || attr->nlink == 0)
        return put_plain(l, name, attr->ino, attr->type, cookie);
    /* Counted only if it fits, and it fits only if this is left. */
    if (l->size - l->len < PLUS_SIZE - 8 + padded(len))
        return false;
    if (reply_fill_entry(l->call, attr, directory, name, len, REPLY_CHECKED, &e) == NULL)
        return false;
    /* The kernel takes a listing's names into its tree when the process that lists goes on, with the epoch of
     * that moment and not, as those of a lookup, with that of its request: what was dropped in between would
     * come back. */
    if (fs->hub.options->read_strict)
        e.entry_timeout = 0;
    if (!put_entry(l, name, &e, cookie)) {
        kernel_inode_forget(&fs->cache, attr->ino, 1);
        return false;
    }
    l->counted[l->n_counted++] = attr->ino;
    return true;
}

static void on_readdir(struct call *call, int code, const union answer_body *answer)
{
    struct fs *fs = call->hub->fs;
    struct kernel_inode *inode = kernel_inode_find(&fs->cache, call->ino);
    struct listing l;
    struct cursor rows;
    uint32_t i;

    if ((code == 0 || code == KV_E_NOENT || code == KV_E_STALE) && file_is_removed(inode)) {
        reply_data(call, NULL, 0); /* nothing is in a directory that was removed */
        return;
    }
    if (code != 0) {
        call_fail_inode(call, code);
        return;
    }
    if (!listing_init(&l, call)) {
        listing_fail(fs, &l, ENOMEM);
        return;
    }
    rows = rows_cursor(&answer->readdir.rows); /* eof: an empty answer says it as well */
    if (put_dots(fs, &l, call->ino, inode != NULL && inode->parent != 0 ? inode->parent : call->ino,
                 call->readdir.offset)) {
        for (i = 0; i < answer->readdir.rows.count; i++) {
            struct readdir_row row;

            readdir_row_decode(&rows, &row);
            if (!put_real(fs, &l, call->ino, &row.attr, row.name.data, row.name.len, row.cookie + FIRST))
                break;
        }
    }
    listing_reply(fs, &l);
}

static void list_virtual(struct call *call, const struct open_directory *d)
{
    struct fs *fs = call->hub->fs;
    struct listing l;
    uint64_t at;

    if (!listing_init(&l, call)) {
        listing_fail(fs, &l, ENOMEM);
        return;
    }
    if (put_dots(fs, &l, call->ino, call->ino, call->readdir.offset)) {
        for (at = call->readdir.offset < FIRST ? 0 : call->readdir.offset - FIRST; at < d->n; at++) {
            const char *entry = (const char *)d->names.data + d->offsets[at];

            if (!put_plain(&l, entry + 1, VIRTUAL_BIT | (at + 1), (uint8_t)entry[0], at + 1 + FIRST))
                break;
        }
    }
    listing_reply(fs, &l);
}

static void list(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, const struct fuse_file_info *fi,
                 bool plus)
{
    const struct open_directory *d = (const struct open_directory *)(uintptr_t)fi->fh;
    struct fs *fs = fs_enter(req);
    struct call *call = call_begin(&fs->hub, req, CALL_READDIR);
    size_t entries = size / (plus ? PLUS_SIZE : PLAIN_SIZE) + 1;

    if (call != NULL) {
        call->ino = virtual_is(node) ? node : hub_ino(&fs->hub, node);
        call->readdir.offset = (uint64_t)offset;
        call->readdir.size = size;
        call->readdir.plus = plus;
        if (d->virtual) {
            list_virtual(call, d);
        } else {
            const union request_body request = {
                .readdir = {.at = uplink_read_at(&fs->hub),
                            .ino = call->ino,
                            .cookie = call->readdir.offset < FIRST ? 0 : call->readdir.offset - FIRST,
                            .n = (uint32_t)(entries < ENTRIES_MAX ? entries : ENTRIES_MAX)}};

            uplink_send(call, MESSAGE_READDIR, &request, on_readdir);
        }
    }
    fs_leave(fs);
}

void op_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi)
{
    list(req, node, size, offset, fi, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi)
{
    list(req, node, size, offset, fi, true);
}

/* One that was removed can be opened all the same (somebody's working directory): it is
 * empty. */
static void on_opendir(struct call *call, int code, const union answer_body *answer)
{
    bool opened = code == 0, removed = code == KV_E_NOENT || code == KV_E_STALE;

    if (opened || removed)
        open_directory_reply(call, opened);
    else
        call_fail(call, code);
}

/* It is the barrier, as for files. */
void op_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct fs *fs = fs_enter(req);
    struct call *call = call_begin(&fs->hub, req, CALL_OPENDIR);

    if (call != NULL) {
        call->ino = hub_ino(&fs->hub, node);
        call->opendir.fi = *fi;
        if (virtual_is(node))
            virtual_opendir(call, node);
        else
            uplink_open_inode(call, call->ino, OPEN_READ, false, on_opendir);
    }
    fs_leave(fs);
}

void op_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct fs *fs = fs_enter(req);

    open_directory_close(&fs->directories, (struct open_directory *)(uintptr_t)fi->fh);
    fs_leave(fs);
    fuse_reply_err(req, 0);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t node, int data_only, struct fuse_file_info *fi)
{
    fuse_reply_err(req, 0); /* names are durable when the call that changed them returns */
}
