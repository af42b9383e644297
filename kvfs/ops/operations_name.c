/* Names. What exists is asked of the node's memory (READ_LOCAL): the events
 * that would make an answer wrong come behind it on the same connection. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "kvfs/file/publish.h"
#include "kvfs/ops/operations.h"
#include "kvfs/reply/reply.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"

/* Whether a name may be looked up; replies if not. */
static bool check_length(fuse_req_t req, const char *name)
{
    if (strlen(name) <= KV_NAME_MAX)
        return true;
    fuse_reply_err(req, ENAMETOOLONG);
    return false;
}

/* Whether a name may be made or removed there; replies if not. */
static bool check_change(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    if (virtual_is(parent)) {
        fuse_reply_err(req, EROFS);
        return false;
    }
    if (virtual_is_reserved(name)) {
        fuse_reply_err(req, EPERM);
        return false;
    }
    return check_length(req, name);
}

/* LOOKUP. A name that is missing on the node may have been made elsewhere a
 * moment ago: that it is missing is confirmed by the cluster.
 *
 * A thread that is walking a path again (retry.h) gets a file that stays
 * openable: it is opened (held) on the node before the kernel hears of it. Else a
 * file that is replaced all the time could never be opened. r->lookup.rounds counts how
 * often it was gone again. */

#define ROUNDS_MAX 100
#define TOLD_MS 20 /* the notifier has done its work by then */

static void send_lookup(struct request *r, enum read_at consistency, request_fn *on_answer)
{
    buffer_clear(&r->payload);
    buffer_put_u8(&r->payload, (uint8_t)consistency);
    buffer_put_u64(&r->payload, r->parent);
    buffer_put_text(&r->payload, r->name);
    link_send(r, MESSAGE_LOOKUP, on_answer);
}

static void on_lookup(struct request *r, int code, struct cursor *body);

/* In a directory that was removed there is nothing. But the kernel may have come there by
 * a name that leads elsewhere by now, of which it has not been told yet; then it walks again. */
static int code_in_parent(const struct request *r, int code)
{
    struct fs *fs = r->core->fs;
    const struct inode *parent = inode_find(&fs->cache, r->parent);

    if (code != KV_E_STALE || !file_is_removed(parent))
        return code;
    if (retry_is(r->core, r->caller.pid) ||
        (!fs->cache.notifier.epoch_wanted && clock_boot_ms() - parent->file->kept_ms >= TOLD_MS))
        return KV_E_NOENT;
    return code;
}

static void on_held(struct request *r, int code, struct cursor *body)
{
    struct attr attr;

    if ((code == KV_E_STALE || code == KV_E_NOENT) && ++r->lookup.rounds < ROUNDS_MAX) {
        send_lookup(r, READ_LOCAL, on_lookup);
        return;
    }
    if (code == 0)
        attr_decode(body, &attr);
    if (code != 0 || body->failed) {
        request_fail(r, code != 0 ? code : KV_E_PROTOCOL);
        return;
    }
    retry_hold(r->core, r->caller.pid, attr.ino);
    reply_entry(r, &attr, REPLY_CHECKED);
}

static void on_lookup(struct request *r, int code, struct cursor *body)
{
    struct attr attr;

    if (code == KV_E_NOENT && !r->lookup.confirmed && !r->core->options->read_local) {
        r->lookup.confirmed = true;
        send_lookup(r, READ_LINEARIZABLE, on_lookup);
        return;
    }
    if (code == KV_E_NOENT) {
        reply_missing(r);
        return;
    }
    if (code == 0)
        attr_decode(body, &attr);
    if (code != 0 || body->failed) {
        request_fail(r, code != 0 ? code_in_parent(r, code) : KV_E_PROTOCOL);
        return;
    }
    if (attr.type != INODE_FILE || !retry_is(r->core, r->caller.pid)) {
        reply_entry(r, &attr, REPLY_CHECKED);
        return;
    }
    link_open_inode(r, attr.ino, OPEN_READ, true, on_held);
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs *fs;
    struct request *r;

    if (!check_length(req, name))
        return;
    fs = fs_enter(req);
    r = request_begin(&fs->core, req, REQUEST_LOOKUP);
    if (r != NULL && !request_name(r, name)) {
        request_error(r, ENOMEM);
        r = NULL;
    }
    if (r != NULL) {
        r->parent = core_ino(&fs->core, parent);
        if (virtual_is(parent) || virtual_is_reserved(name)) {
            virtual_lookup(r, parent);
        } else {
            r->lookup.confirmed = retry_is(&fs->core, r->caller.pid);
            send_lookup(r,
                        r->lookup.confirmed && !fs->core.options->read_local ? READ_LINEARIZABLE : READ_LOCAL,
                        on_lookup);
        }
    }
    fs_leave(fs);
}

static void forget(struct fs *fs, fuse_ino_t node, uint64_t n)
{
    if (virtual_is(node))
        virtual_forget(&fs->virtuals, node, n);
    else
        inode_forget(&fs->cache, core_ino(&fs->core, node), n);
}

void op_forget(fuse_req_t req, fuse_ino_t node, uint64_t nlookup)
{
    struct fs *fs = fs_enter(req);

    forget(fs, node, nlookup);
    fs_leave(fs);
    fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    struct fs *fs = fs_enter(req);
    size_t i;

    for (i = 0; i < count; i++)
        forget(fs, forgets[i].ino, forgets[i].nlookup);
    fs_leave(fs);
    fuse_reply_none(req);
}

/* Making */

static void on_made(struct request *r, int code, struct cursor *body)
{
    if (code != 0)
        request_fail(r, code_in_parent(r, code));
    else
        reply_entry(r, &r->result.attr, REPLY_UNCHECKED);
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, enum command_op op,
                 struct command_body *body)
{
    struct fs *fs;
    struct request *r;

    if (!check_change(req, parent, name))
        return;
    fs = fs_enter(req);
    r = request_begin(&fs->core, req, REQUEST_PLAIN);
    if (r != NULL && !request_name(r, name)) {
        request_error(r, ENOMEM);
    } else if (r != NULL) {
        r->parent = core_ino(&fs->core, parent);
        body->parent = r->parent;
        body->name = (const uint8_t *)name;
        body->name_len = strlen(name);
        link_write(r, op, body, on_made);
    }
    fs_leave(fs);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
    struct command_body body = {.mode = (uint16_t)(mode & 07777), .flags = 1};

    if (!S_ISREG(mode)) {
        fuse_reply_err(req, EPERM);
        return;
    }
    make(req, parent, name, COMMAND_CREATE, &body);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct command_body body = {.mode = (uint16_t)(mode & 07777)};

    make(req, parent, name, COMMAND_MKDIR, &body);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    struct command_body body = {.target = (const uint8_t *)target, .target_len = strlen(target)};

    make(req, parent, name, COMMAND_SYMLINK, &body);
}

/* Removing */

static void on_changed(struct request *r, int code, struct cursor *body)
{
    request_fail(r, code);
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, enum command_op op)
{
    struct command_body body = {.name = (const uint8_t *)name, .name_len = strlen(name)};
    struct fs *fs;
    struct request *r;

    if (!check_change(req, parent, name))
        return;
    fs = fs_enter(req);
    r = request_begin(&fs->core, req, REQUEST_PLAIN);
    if (r != NULL) {
        body.parent = core_ino(&fs->core, parent);
        link_write(r, op, &body, on_changed);
    }
    fs_leave(fs);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    remove_name(req, parent, name, COMMAND_UNLINK);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    remove_name(req, parent, name, COMMAND_RMDIR);
}

/* Renaming: what is staged of the file is published first, so that the new name
 * never shows old content; of both files if they are exchanged. */

static void send_rename(struct request *r)
{
    struct command_body body = {.parent = r->parent,
                                .name = (const uint8_t *)r->name,
                                .name_len = strlen(r->name),
                                .new_parent = r->rename.new_parent,
                                .new_name = (const uint8_t *)r->rename.new_name,
                                .new_name_len = strlen(r->rename.new_name)};

    if ((r->rename.flags & RENAME_NOREPLACE) != 0)
        body.flags |= MOVE_NOREPLACE;
    if ((r->rename.flags & RENAME_EXCHANGE) != 0)
        body.flags |= MOVE_EXCHANGE;
    request_progress(r);
    link_write(r, COMMAND_RENAME, &body, on_changed);
}

static void on_rename_file(struct request *r, int code, struct cursor *body);

static void rename_next(struct request *r)
{
    struct fs *fs = r->core->fs;
    unsigned n = (r->rename.flags & RENAME_EXCHANGE) != 0 ? 2 : 1;

    if (TAILQ_EMPTY(&fs->files.list) || r->rename.looked == n) {
        send_rename(r);
        return;
    }
    buffer_clear(&r->payload);
    buffer_put_u8(&r->payload, READ_LOCAL);
    buffer_put_u64(&r->payload, r->rename.looked == 0 ? r->parent : r->rename.new_parent);
    buffer_put_text(&r->payload, r->rename.looked == 0 ? r->name : r->rename.new_name);
    r->rename.looked++;
    link_send(r, MESSAGE_LOOKUP, on_rename_file);
}

static void rename_published(struct request *r, int code, struct cursor *ignored)
{
    if (code != 0)
        request_fail(r, code);
    else
        rename_next(r);
}

static void on_rename_file(struct request *r, int code, struct cursor *body)
{
    struct fs *fs = r->core->fs;
    struct attr attr;

    if (code != 0) {
        request_fail(r, code);
        return;
    }
    attr_decode(body, &attr);
    publish_wait(inode_find(&fs->cache, attr.ino), r, rename_published);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
               const char *new_name, unsigned flags)
{
    struct fs *fs;
    struct request *r;

    if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    if (!check_change(req, parent, name) || !check_change(req, new_parent, new_name))
        return;
    fs = fs_enter(req);
    r = request_begin(&fs->core, req, REQUEST_RENAME);
    if (r != NULL)
        r->rename.new_name = strdup(new_name);
    if (r != NULL && (!request_name(r, name) || r->rename.new_name == NULL)) {
        request_error(r, ENOMEM);
    } else if (r != NULL) {
        r->parent = core_ino(&fs->core, parent);
        r->rename.new_parent = core_ino(&fs->core, new_parent);
        r->rename.flags = flags;
        rename_next(r);
    }
    fs_leave(fs);
}

void op_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t new_parent, const char *new_name)
{
    fuse_reply_err(req, virtual_is(node) || virtual_is(new_parent) ? EROFS : EPERM);
}
