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

static void on_xattr_attr(struct request *r, int code, struct cursor *body)
{
    struct attr attr;
    char value[64];
    int n;

    if (code != 0) {
        request_fail_inode(r, code);
        return;
    }
    attr_decode(body, &attr);
    if (strcmp(r->name, "version") == 0)
        n = snprintf(value, sizeof value, "%" PRIu64, attr.version);
    else
        n = snprintf(value, sizeof value, "%" PRIu64 "-%" PRIu64, attr.ino >> 48, attr.revision);
    reply_xattr(r, value, (size_t)n);
}

static void on_xattr_history(struct request *r, int code, struct cursor *body)
{
    struct version_row row;
    char value[128];
    int n;

    if (code != 0) {
        request_fail_inode(r, code);
        return;
    }
    cursor_u8(body);
    if (cursor_u32(body) == 0) {
        request_error(r, ENODATA);
        return;
    }
    version_row_decode(body, &row);
    n = snprintf(value, sizeof value, "%" PRIu32 "@%s", row.author_uid, row.author_node);
    reply_xattr(r, value, (size_t)n);
}

static void send_xattr(struct request *r)
{
    struct fs *fs = r->core->fs;
    struct inode *inode = inode_find(&fs->cache, r->ino);

    if (strcmp(r->name, "version") == 0 || strcmp(r->name, "revision") == 0) {
        link_ask_inode(r, MESSAGE_GETATTR, r->ino, on_xattr_attr);
    } else if (strcmp(r->name, "author") == 0 && inode != NULL && inode->name != NULL) {
        buffer_put_u64(&r->payload, inode->parent);
        buffer_put_text(&r->payload, inode->name);
        buffer_put_u64(&r->payload, 0);
        buffer_put_u32(&r->payload, r->core->options->read_local ? 1 | PAST_LOCAL : 1);
        link_send(r, MESSAGE_HISTORY, on_xattr_history);
    } else {
        request_error(r, ENODATA);
    }
}

void op_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
    struct fs *fs;
    struct request *r;

    if (strncmp(name, XATTR_PREFIX, strlen(XATTR_PREFIX)) != 0 || virtual_is(node)) {
        fuse_reply_err(req, ENODATA);
        return;
    }
    fs = fs_enter(req);
    r = request_begin(&fs->core, req, REQUEST_GETXATTR);
    if (r != NULL && !request_name(r, name + strlen(XATTR_PREFIX))) {
        request_error(r, ENOMEM);
    } else if (r != NULL) {
        r->ino = core_ino(&fs->core, node);
        r->getxattr.size = size;
        send_xattr(r);
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
