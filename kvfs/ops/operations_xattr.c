/* Extended attributes: a few of kvfs's own, to read and not to list, so that
 * cp -a and rsync -X do not copy them. The kernel asks for security.* before
 * every write: that is answered without taking the lock. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "kvfs/ops/operations.h"
#include "kvfs/reply/reply.h"

#define XATTR_PREFIX "user.kv."

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
    if (strcmp(call->name, "version") == 0)
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

static void send_xattr(struct call *call)
{
    struct fs *fs = call->hub->fs;
    struct kernel_inode *inode = kernel_inode_find(&fs->cache, call->ino);

    if (strcmp(call->name, "version") == 0 || strcmp(call->name, "revision") == 0) {
        uplink_ask_inode(call, MESSAGE_GETATTR, call->ino, on_xattr_attr);
    } else if (strcmp(call->name, "author") == 0 && inode != NULL && inode->name != NULL) {
        const union request_body request = {
            .history = {.directory = inode->parent,
                        .name = bytes_text(inode->name),
                        .n = call->hub->options->read_local ? 1 | PAST_LOCAL : 1}};

        uplink_send(call, MESSAGE_HISTORY, &request, on_xattr_history);
    } else {
        call_error(call, ENODATA);
    }
}

void op_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
    struct fs *fs;
    struct call *call;

    if (strncmp(name, XATTR_PREFIX, strlen(XATTR_PREFIX)) != 0 || virtual_is(node)) {
        fuse_reply_err(req, ENODATA);
        return;
    }
    fs = fs_enter(req);
    call = call_begin(&fs->hub, req, CALL_GETXATTR);
    if (call != NULL && !call_name(call, name + strlen(XATTR_PREFIX))) {
        call_error(call, ENOMEM);
    } else if (call != NULL) {
        call->ino = hub_ino(&fs->hub, node);
        call->getxattr.size = size;
        send_xattr(call);
    }
    fs_leave(fs);
}

void op_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
    if (size == 0)
        fuse_reply_xattr(req, 0);
    else
        fuse_reply_buf(req, NULL, 0);
}
