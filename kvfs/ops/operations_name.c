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
 * file that is replaced all the time could never be opened. call->lookup.rounds counts how
 * often it was gone again. */

#define ROUNDS_MAX 100
#define TOLD_MS 20 /* the notifier has done its work by then */

static void send_lookup(struct call *call, enum read_at consistency, call_fn *on_answer)
{
    const union request_body request = {
        .lookup = {.at = (uint8_t)consistency, .parent = call->parent, .name = bytes_text(call->name)}};

    uplink_send(call, MESSAGE_LOOKUP, &request, on_answer);
}

static void on_lookup(struct call *call, int code, const union answer_body *answer);

/* In a directory that was removed there is nothing. But the kernel may have come there by
 * a name that leads elsewhere by now, of which it has not been told yet; then it walks again. */
static int code_in_parent(const struct call *call, int code)
{
    struct fs *fs = call->hub->fs;
    const struct kernel_inode *parent = kernel_inode_find(&fs->cache, call->parent);

    if (code != KV_E_STALE || !file_is_removed(parent))
        return code;
    if (retry_is(call->hub, call->caller.pid) ||
        (!names_are_pending(&fs->cache) && clock_boot_ms() - parent->file->kept_ms >= TOLD_MS))
        return KV_E_NOENT;
    return code;
}

/* Any answer but ENOMEM and EINTR is one about the name, and would unmount what is mounted below it. */
static void fail_lookup(struct call *call, int code)
{
    switch (code) {
    case KV_E_NOENT:
    case KV_E_STALE:
    case KV_E_NOTDIR:
    case KV_E_ACCES:
    case KV_E_PERM:
        call_fail(call, code_in_parent(call, code));
        break;
    default:
        if (code > 0 && clock_boot_ms() - call->started_ms >= call->hub->options->timeout_ms / 2)
            retry_waited(call->hub, call->caller.pid, call->parent, call->name, code);
        if (code > 0 && submounts_depend_on(call->hub->cache, call->name))
            call_error(call, ENOMEM);
        else
            call_fail(call, code);
    }
}

static void on_before(struct call *call, int code, const union answer_body *answer)
{
    struct attr attr;

    if (code != 0) {
        fail_lookup(call, code);
        return;
    }
    attr = answer->getattr;
    reply_entry_once(call, &attr);
}

/* A directory was renamed elsewhere, and something may be mounted below it: until the kernel has followed,
 * its old name is as it was. Whether that is so; then the call is answered. */
static bool answer_as_before(struct call *call, uint64_t found)
{
    uint64_t ino;
    enum submount_answer answer = submounts_moving(call->hub->cache, call, found, &ino);

    if (answer == SUBMOUNT_NONE || ino == found)
        return false;
    if (answer == SUBMOUNT_UNKNOWN)
        call_error(call, ENOMEM);
    else
        uplink_ask_inode(call, MESSAGE_GETATTR, ino, on_before);
    return true;
}

static void on_held(struct call *call, int code, const union answer_body *answer)
{
    struct attr attr;

    if ((code == KV_E_STALE || code == KV_E_NOENT) && ++call->lookup.rounds < ROUNDS_MAX) {
        send_lookup(call, uplink_read_at(call->hub), on_lookup);
        return;
    }
    if (code != 0) {
        fail_lookup(call, code);
        return;
    }
    attr = answer->open;
    retry_answered(call->hub, call->caller.pid);
    retry_hold(call->hub, call->caller.pid, attr.ino);
    reply_entry_once(call, &attr); /* the name was LOOKUP's answer, and this is OPEN's */
}

static void on_lookup(struct call *call, int code, const union answer_body *answer)
{
    struct attr attr;

    if (code == KV_E_NOENT && !call->lookup.confirmed && !call->hub->options->read_local) {
        call->lookup.confirmed = true;
        send_lookup(call, READ_LINEARIZABLE, on_lookup);
        return;
    }
    if ((code == 0 || code == KV_E_NOENT) && answer_as_before(call, code == 0 ? answer->lookup.ino : 0))
        return;
    if (code == KV_E_NOENT) {
        retry_answered(call->hub, call->caller.pid);
        reply_missing(call);
        return;
    }
    if (code != 0) {
        fail_lookup(call, code);
        return;
    }
    attr = answer->lookup;
    if (attr.type != INODE_FILE || !retry_is(call->hub, call->caller.pid)) {
        retry_answered(call->hub, call->caller.pid);
        reply_entry(call, &attr, REPLY_CHECKED);
        return;
    }
    uplink_open_inode(call, attr.ino, OPEN_READ, true, on_held);
}

/* Whether it is known here what the name stands for; the call is answered then. */
static bool answer_known(struct call *call)
{
    struct kernel_inode *inode;
    struct attr attr;

    if (!known_name(call->hub->cache, call->parent, call->name, &inode))
        return false;
    if (answer_as_before(call, inode != NULL ? inode->ino : 0))
        return true;
    if (inode == NULL) {
        reply_missing(call);
        return true;
    }
    attr = inode->known; /* even if the lease has run out since */
    reply_entry(call, &attr, REPLY_CHECKED);
    return true;
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs *fs;
    struct call *call;
    int code;

    if (!check_length(req, name))
        return;
    fs = fs_enter(req);
    call = call_begin(&fs->hub, req, CALL_LOOKUP);
    if (call != NULL && !call_name(call, name)) {
        call_error(call, ENOMEM);
        call = NULL;
    }
    if (call != NULL) {
        call->parent = hub_ino(&fs->hub, parent);
        code = retry_waited_code(&fs->hub, call->caller.pid, call->parent, name);
        if (virtual_is(parent) || virtual_is_reserved(name)) {
            virtual_lookup(call, parent);
        } else if (code != 0) {
            fail_lookup(call, code);
        } else if (retry_is(&fs->hub, call->caller.pid) || !answer_known(call)) {
            call->lookup.confirmed =
                retry_is(&fs->hub, call->caller.pid) || uplink_read_at(&fs->hub) == READ_LINEARIZABLE;
            retry_asks(&fs->hub, call->caller.pid);
            send_lookup(call,
                        call->lookup.confirmed && !fs->hub.options->read_local ? READ_LINEARIZABLE
                                                                               : uplink_read_at(&fs->hub),
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
        kernel_inode_forget(&fs->cache, hub_ino(&fs->hub, node), n);
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

static void on_made(struct call *call, int code, const union answer_body *answer)
{
    if (code != 0)
        call_fail(call, code_in_parent(call, code));
    else
        reply_entry(call, &call->result.attr, REPLY_UNCHECKED);
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, enum command_op op,
                 struct command_body *body)
{
    struct fs *fs;
    struct call *call;

    if (!check_change(req, parent, name))
        return;
    fs = fs_enter(req);
    call = call_begin(&fs->hub, req, CALL_PLAIN);
    if (call != NULL && !call_name(call, name)) {
        call_error(call, ENOMEM);
    } else if (call != NULL) {
        call->parent = hub_ino(&fs->hub, parent);
        body->parent = call->parent;
        body->name = (const uint8_t *)name;
        body->name_len = strlen(name);
        uplink_write(call, op, body, on_made);
    }
    fs_leave(fs);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
    struct command_body body = {.mode = (uint16_t)(mode & 07777)};

    switch (mode & S_IFMT) {
    case S_IFREG:
        body.flags = 1;
        make(req, parent, name, COMMAND_CREATE, &body);
        break;
    case S_IFIFO:
    case S_IFSOCK: /* bind(2). Whoever opens it is connected by the kernel of his machine */
        body.type = S_ISFIFO(mode) ? INODE_FIFO : INODE_SOCKET;
        make(req, parent, name, COMMAND_MKNOD, &body);
        break;
    default: /* devices: their numbers mean one machine, and would open its hardware on all */
        fuse_reply_err(req, EPERM);
        break;
    }
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

static void on_changed(struct call *call, int code, const union answer_body *answer)
{
    call_fail(call, code);
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, enum command_op op)
{
    struct command_body body = {.name = (const uint8_t *)name, .name_len = strlen(name)};
    struct fs *fs;
    struct call *call;

    if (!check_change(req, parent, name))
        return;
    fs = fs_enter(req);
    call = call_begin(&fs->hub, req, CALL_PLAIN);
    if (call != NULL) {
        body.parent = hub_ino(&fs->hub, parent);
        uplink_write(call, op, &body, on_changed);
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

static void send_rename(struct call *call)
{
    struct command_body body = {.parent = call->parent,
                                .name = (const uint8_t *)call->name,
                                .name_len = strlen(call->name),
                                .new_parent = call->rename.new_parent,
                                .new_name = (const uint8_t *)call->rename.new_name,
                                .new_name_len = strlen(call->rename.new_name)};

    if ((call->rename.flags & RENAME_NOREPLACE) != 0)
        body.flags |= MOVE_NOREPLACE;
    if ((call->rename.flags & RENAME_EXCHANGE) != 0)
        body.flags |= MOVE_EXCHANGE;
    call_progress(call);
    uplink_write(call, COMMAND_RENAME, &body, on_changed);
}

static void on_rename_file(struct call *call, int code, const union answer_body *answer);

static void rename_next(struct call *call)
{
    struct fs *fs = call->hub->fs;
    unsigned n = (call->rename.flags & RENAME_EXCHANGE) != 0 ? 2 : 1;
    bool old = call->rename.looked == 0;
    const union request_body request = {
        .lookup = {.at = uplink_read_at(&fs->hub),
                   .parent = old ? call->parent : call->rename.new_parent,
                   .name = bytes_text(old ? call->name : call->rename.new_name)}};

    if (TAILQ_EMPTY(&fs->files.list) || call->rename.looked == n) {
        send_rename(call);
        return;
    }
    call->rename.looked++;
    uplink_send(call, MESSAGE_LOOKUP, &request, on_rename_file);
}

static void rename_published(struct call *call, int code, const union answer_body *ignored)
{
    if (code != 0)
        call_fail(call, code);
    else
        rename_next(call);
}

static void on_rename_file(struct call *call, int code, const union answer_body *answer)
{
    struct fs *fs = call->hub->fs;

    if (code != 0)
        call_fail(call, code);
    else
        publish_wait(kernel_inode_find(&fs->cache, answer->lookup.ino), call, rename_published);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
               const char *new_name, unsigned flags)
{
    struct fs *fs;
    struct call *call;

    if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    if (!check_change(req, parent, name) || !check_change(req, new_parent, new_name))
        return;
    fs = fs_enter(req);
    call = call_begin(&fs->hub, req, CALL_RENAME);
    if (call != NULL)
        call->rename.new_name = strdup(new_name);
    if (call != NULL && (!call_name(call, name) || call->rename.new_name == NULL)) {
        call_error(call, ENOMEM);
    } else if (call != NULL) {
        call->parent = hub_ino(&fs->hub, parent);
        call->rename.new_parent = hub_ino(&fs->hub, new_parent);
        call->rename.flags = flags;
        rename_next(call);
    }
    fs_leave(fs);
}

/* Linking. What is staged is published first, as for a rename. */

static void on_linked(struct call *call, int code, const union answer_body *answer)
{
    if (code ==
        KV_E_NOTSUP) /* the cluster is not at that level yet: as link(2) says of file systems without */
        code = KV_E_PERM;
    if (code == KV_E_STALE && retry_is(call->hub, call->caller.pid)) /* what was to be linked is gone again */
        code = KV_E_NOENT;
    if (code != 0)
        call_fail(call, code);
    else
        reply_entry(call, &call->result.attr, REPLY_UNCHECKED);
}

static void link_published(struct call *call, int code, const union answer_body *ignored)
{
    const struct command_body body = {.ino = call->ino,
                                      .parent = call->parent,
                                      .name = (const uint8_t *)call->name,
                                      .name_len = strlen(call->name)};

    if (code != 0) {
        call_fail(call, code);
        return;
    }
    call_progress(call);
    uplink_write(call, COMMAND_LINK, &body, on_linked);
}

void op_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t new_parent, const char *new_name)
{
    struct fs *fs;
    struct call *call;

    if (virtual_is(node)) {
        fuse_reply_err(req, EROFS);
        return;
    }
    if (!check_change(req, new_parent, new_name))
        return;
    fs = fs_enter(req);
    call = call_begin(&fs->hub, req, CALL_PLAIN);
    if (call != NULL && !call_name(call, new_name)) {
        call_error(call, ENOMEM);
    } else if (call != NULL) {
        call->ino = hub_ino(&fs->hub, node);
        call->parent = hub_ino(&fs->hub, new_parent);
        publish_wait(kernel_inode_find(&fs->cache, call->ino), call, link_published);
    }
    fs_leave(fs);
}
