/* A node keeps what was removed for a while, with a bound. What is open here is fetched at once; of
 * what is only known to the kernel, what it has not forgotten after a moment. */
#include "kvfs/file/removed.h"

#include <inttypes.h>
#include <string.h>

#include "kvfs/file/files.h"
#include "kvfs/file/publish.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

/* As much as a node keeps of what was removed, see store_read_removed(). */
#define KEPT_MAX 10000
#define KEPT_BYTES_MAX ((uint64_t)64 << 20)
#define KEPT_PULL_MS 200

void removed_let_go(struct files *files, struct file *f)
{
    if (!f->kept)
        return;
    TAILQ_REMOVE(&files->kept.list, f, kept_link);
    files->kept.n--;
    files->kept.bytes -= f->attr.size;
    f->kept = false;
}

bool removed_keep(struct files *files, struct file *f)
{
    struct file *old, *next;

    if (f->attr.size > KEPT_BYTES_MAX)
        return false;
    if (f->kept)
        return true;
    f->kept = true;
    f->kept_ms = clock_boot_ms();
    TAILQ_INSERT_TAIL(&files->kept.list, f, kept_link);
    files->kept.n++;
    files->kept.bytes += f->attr.size;
    for (old = TAILQ_FIRST(&files->kept.list); old != f; old = next) {
        struct kernel_inode *inode = old->inode;

        next = TAILQ_NEXT(old, kept_link);
        if (files->kept.n <= KEPT_MAX && files->kept.bytes <= KEPT_BYTES_MAX)
            break;
        removed_let_go(files, old);
        if (old->n_handles == 0) {
            old->life = FILE_LOST;
            file_put(files, inode);
        }
    }
    return true;
}

/* The value is fetched, so that it outlives the node. */

static void pull_next(struct call *call);

static void pulled(struct file *f, struct call *call)
{
    int rc = stage_truncate(&f->base, 0);

    if (rc == 0)
        rc = stage_write(&f->base, 0, call->pull.data.data, call->pull.data.len);
    if (rc != 0 || call->pull.data.failed) {
        log_error("out of memory: the content of a removed file that is still open is lost");
        f->life = FILE_LOST;
        return;
    }
    f->life = FILE_ORPHAN;
}

static void on_pulled(struct call *call, int code, const union answer_body *answer)
{
    struct file *f = file_find(call->hub->files, call->ino);
    uint64_t size;
    size_t len;

    if (f == NULL || f->life != FILE_PULLING) {
        call_end(call);
        return;
    }
    if (code != 0) {
        log_error("the content of a removed file that is still open is lost: %s",
                  code > 0 ? error_text(code) : strerror(-code));
        f->life = FILE_LOST;
        call_end(call);
        return;
    }
    size = answer->read.attr.size;
    len = answer->read.data.len;
    buffer_put_bytes(&call->pull.data, answer->read.data.data, len);
    if (call->pull.data.len > size || (len == 0 && call->pull.data.len < size)) {
        log_error("inode %" PRIu64 ": the node's answer to a read is short: the content of a removed file "
                  "that is still open is lost",
                  call->ino);
        f->life = FILE_LOST;
        call_end(call);
    } else if (call->pull.data.len < size && !call->pull.data.failed) {
        pull_next(call);
    } else {
        pulled(f, call);
        call_end(call);
    }
}

static void pull_next(struct call *call)
{
    const union request_body request = {
        .read = {
            .at = READ_LOCAL, .ino = call->ino, .offset = call->pull.data.len, .length = READ_LENGTH_MAX}};

    call_progress(call);
    uplink_send(call, MESSAGE_READ, &request, on_pulled);
}

static void pull(struct files *files, struct file *f)
{
    struct call *call = call_begin(files->hub, NULL, CALL_PULL);

    if (call == NULL) {
        f->life = FILE_LOST;
        return;
    }
    f->pulling = true;
    call->ino = f->inode->ino;
    pull_next(call);
}

void removed_file(struct files *files, struct file *f, const struct attr *attr)
{
    if (f->life != FILE_LIVE)
        return;
    if (attr->ino == f->inode->ino)
        f->attr = *attr;
    f->attr.nlink = 0;
    f->life = FILE_PULLING;
    room_account(files, f);
    file_take_lost(files, f); /* there is no content any more that could be wrong */
    if (f->attr.size == 0 || f->attr.type != INODE_FILE)
        f->life = FILE_ORPHAN;
    /* Only its publication was left to do, and has nowhere to go. The kernel forgets the
     * inode in a moment, unless somebody holds it. */
    if (f->n_handles == 0)
        stage_clear(&f->stage);
    else if (f->life == FILE_PULLING)
        pull(files, f);
    publish_removed(files, f->inode);
}

void removed_inode(struct files *files, struct kernel_inode *inode, const struct attr *attr)
{
    if (inode->nlookup > 0)
        file_get(files, inode); /* without memory for it, it is gone for good */
    if (inode->file != NULL)
        removed_file(files, inode->file, attr);
}

void removed_tick(struct files *files, uint64_t now_ms)
{
    struct file *f;

    TAILQ_FOREACH (f, &files->kept.list, kept_link) {
        if (now_ms - f->kept_ms < KEPT_PULL_MS)
            break;
        if (f->life == FILE_PULLING && !f->pulling)
            pull(files, f);
    }
}
