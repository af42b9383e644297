/* Extended attributes. Those of user.* are the cluster's; user.kv.* are not listed, so that cp -a and rsync
 * -X do not copy them, and made up here, to read, but for the two of a time to live (sync/wire/ttl.h). Other
 * namespaces are refused as by a file system that has none, which is what programs that copy go by: ACLs
 * (system.posix_acl_*) would grant what no node knows of, and security.* and trusted.* are one machine's. The
 * kernel asks for security.* before every write: that is answered without taking the lock. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#include <linux/limits.h>

#include "kvfs/file/file.h"
#include "kvfs/ops/operations.h"
#include "kvfs/reply/reply.h"
#include "sync/base/error.h"
#include "sync/wire/ttl.h"
#include "sync/wire/xattr.h"

static bool is_user(const char *name)
{
    return strncmp(name, XATTR_USER, strlen(XATTR_USER)) == 0;
}

static bool is_virtual(const char *name)
{
    return strncmp(name, XATTR_VIRTUAL, strlen(XATTR_VIRTUAL)) == 0;
}

/* Those of user.kv.* that the cluster has, which the others are not. */
static bool is_of_node(const char *name)
{
    return !is_virtual(name) || xattr_is_ttl(name, strlen(name)) || xattr_is_expires(name, strlen(name));
}

/* The call's name without the prefix. */
static const char *virtual_name(const struct call *call)
{
    return call->name + strlen(XATTR_VIRTUAL);
}

static void on_xattr_attr(struct call *call, int code, const union answer_body *answer)
{
    const struct attr *attr;
    char value[64];
    int n;

    if (code != 0) {
        call_fail_inode(call, code);
        return;
    }
    attr = &answer->getattr;
    if (strcmp(virtual_name(call), "version") == 0)
        n = snprintf(value, sizeof value, "%" PRIu64, attr->version);
    else
        n = snprintf(value, sizeof value, "%" PRIu64 "-%" PRIu64, attr->ino >> 48, attr->revision);
    reply_xattr(call, value, (size_t)n);
}

static void on_xattr_history(struct call *call, int code, const union answer_body *answer)
{
    struct version_row row;
    struct cursor rows;
    char value[128];
    int n;

    if (code != 0) {
        call_fail_inode(call, code);
        return;
    }
    if (answer->history.rows.count == 0) {
        call_error(call, ENODATA);
        return;
    }
    rows = rows_cursor(&answer->history.rows);
    version_row_decode(&rows, &row);
    n = snprintf(value, sizeof value, "%" PRIu32 "@%s", row.author_uid, row.author_node);
    reply_xattr(call, value, (size_t)n);
}

static void add_lock(void *text, const struct lock_row *row)
{
    struct buffer *b = text;
    char line[LOCK_TEXT_MAX];

    lock_row_text(row, line);
    if (b->len + strlen(line) + 1 > XATTR_SIZE_MAX)
        return;
    buffer_put_bytes(b, line, strlen(line));
    buffer_put_u8(b, '\n');
}

/* Who has locked it and who waits, a line each, as many as an attribute has room for. */
static void on_xattr_locks(struct call *call, int code, const union answer_body *answer)
{
    struct buffer text = BUFFER_INIT;
    struct lock_row row;
    struct cursor rows;

    if (code != 0) {
        call_fail_inode(call, code);
        return;
    }
    rows = rows_cursor(&answer->locks.rows);
    for (uint32_t i = 0; i < answer->locks.rows.count; i++) {
        lock_row_decode(&rows, &row);
        add_lock(&text, &row);
        if (row.kind == LOCK_DELEGATED && row.session == call->hub->uplink.session)
            lock_each_here(call->hub->files, call->ino, add_lock, &text);
    }
    if (text.failed)
        call_error(call, ENOMEM);
    else if (text.len == 0)
        call_error(call, ENODATA);
    else
        reply_xattr(call, text.data, text.len);
    buffer_deinit(&text);
}

static void send_virtual(struct call *call)
{
    struct fs *fs = call->hub->fs;
    struct kernel_inode *inode = kernel_inode_find(&fs->cache, call->ino);
    const char *name = virtual_name(call);

    if (strcmp(name, "version") == 0 || strcmp(name, "revision") == 0) {
        uplink_ask_inode(call, MESSAGE_GETATTR, call->ino, on_xattr_attr);
    } else if (strcmp(name, "lock") == 0) {
        uplink_send(call, MESSAGE_LOCKS,
                    &(union request_body){.locks = {.at = uplink_read_at(call->hub), .ino = call->ino}},
                    on_xattr_locks);
    } else if (strcmp(name, "author") == 0 && inode != NULL && inode->name != NULL) {
        const union request_body request = {
            .history = {.directory = inode->parent,
                        .name = bytes_text(inode->name),
                        .n = call->hub->options->read_local ? 1 | PAST_LOCAL : 1}};

        uplink_send(call, MESSAGE_HISTORY, &request, on_xattr_history);
    } else {
        call_error(call, ENODATA);
    }
}

/* A file that was removed has none any more, and a node of a version that knows of none has none. */
static bool has_none(const struct call *call, int code)
{
    return code == KV_E_NOTSUP ||
           (code == KV_E_STALE && file_is_removed(kernel_inode_find(call->hub->cache, call->ino)));
}

static void on_xattr(struct call *call, int code, const union answer_body *answer)
{
    if (has_none(call, code))
        call_error(call, ENODATA);
    else if (code != 0)
        call_fail_inode(call, code);
    else
        reply_xattr(call, answer->getxattr.value.data, answer->getxattr.value.len);
}

static void on_names(struct call *call, int code, const union answer_body *answer)
{
    if (has_none(call, code))
        reply_xattr(call, NULL, 0);
    else if (code != 0)
        call_fail_inode(call, code);
    else
        reply_xattr(call, answer->listxattr.names.data, answer->listxattr.names.len);
}

void op_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
    struct fs *fs;
    struct call *call;

    if (!is_user(name)) {
        fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    if (virtual_is(node) && is_virtual(name)) {
        fuse_reply_err(req, ENODATA);
        return;
    }
    fs = fs_enter(req);
    call = call_begin(&fs->hub, req, CALL_GETXATTR);
    if (call != NULL && !call_name(call, name)) {
        call_error(call, ENOMEM);
    } else if (call != NULL) {
        const union request_body request = {.getxattr = {.at = uplink_read_at(&fs->hub),
                                                         .ino = hub_ino(&fs->hub, node),
                                                         .name = bytes_text(name)}};

        call->ino = request.getxattr.ino;
        call->getxattr.size = size;
        if (virtual_is(node))
            virtual_xattrs(call, node);
        else if (!is_of_node(name))
            send_virtual(call);
        else
            uplink_send(call, MESSAGE_GETXATTR, &request, on_xattr);
    }
    fs_leave(fs);
}

void op_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
    struct fs *fs = fs_enter(req);
    struct call *call = call_begin(&fs->hub, req, CALL_GETXATTR);

    if (call != NULL) {
        call->ino = hub_ino(&fs->hub, node);
        call->getxattr.size = size;
        if (virtual_is(node))
            virtual_xattrs(call, node);
        else
            uplink_ask_inode(call, MESSAGE_LISTXATTR, call->ino, on_names);
    }
    fs_leave(fs);
}

static void on_changed(struct call *call, int code, const union answer_body *answer)
{
    if (code == KV_E_STALE && has_none(call, code))
        call_error(call, EOPNOTSUPP);
    else
        call_fail_inode(call, code);
}

static void change(fuse_req_t req, fuse_ino_t node, enum command_op op, struct command_body *body)
{
    const char *name = (const char *)body->name;
    struct fs *fs;
    struct call *call;

    if (!is_user(name) || name[strlen(XATTR_USER)] == '\0') {
        fuse_reply_err(req, is_user(name) ? EINVAL : EOPNOTSUPP);
        return;
    }
    if (virtual_is(node) || (is_virtual(name) && !xattr_is_ttl(name, strlen(name)))) {
        fuse_reply_err(req, virtual_is(node) ? EROFS : EPERM);
        return;
    }
    fs = fs_enter(req);
    call = call_begin(&fs->hub, req, CALL_PLAIN);
    if (call != NULL) {
        call->ino = hub_ino(&fs->hub, node);
        body->ino = call->ino;
        body->name_len = strlen(name);
        uplink_write(call, op, body, on_changed);
    }
    fs_leave(fs);
}

void op_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags)
{
    struct command_body body = {
        .name = (const uint8_t *)name, .value = (const uint8_t *)value, .value_len = size};

    if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) != 0) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    if (size > KV_XATTR_VALUE_MAX) {
        fuse_reply_err(req, E2BIG);
        return;
    }
    if ((flags & XATTR_CREATE) != 0)
        body.flags |= XATTR_ADD;
    if ((flags & XATTR_REPLACE) != 0)
        body.flags |= XATTR_CHANGE;
    change(req, node, COMMAND_SETXATTR, &body);
}

void op_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
    struct command_body body = {.name = (const uint8_t *)name};

    change(req, node, COMMAND_REMOVEXATTR, &body);
}
