#include "kvfs/file/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "kvfs/file/files.h"
#include "kvfs/file/publish.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

struct file *file_find(struct files *files, uint64_t ino)
{
    struct kernel_inode *inode = kernel_inode_find(files->cache, ino);

    return inode != NULL ? inode->file : NULL;
}

struct file *file_get(struct files *files, struct kernel_inode *inode)
{
    struct file *f = inode->file;

    if (f != NULL)
        return f;
    f = calloc(1, sizeof *f);
    if (f == NULL)
        return NULL;
    TAILQ_INIT(&f->handles);
    TAILQ_INIT(&f->waiters);
    TAILQ_INIT(&f->next_waiters);
    TAILQ_INIT(&f->invalidated);
    stage_init(&f->base, &files->memory);
    stage_init(&f->inflight, &files->memory);
    stage_init(&f->stage, &files->memory);
    f->inode = inode;
    inode->file = f;
    return f;
}

static void list_or_unlist(struct files *files, struct file *f)
{
    bool wanted = f->publication != NULL || !stage_empty(&f->stage);

    if (wanted && !f->listed)
        TAILQ_INSERT_TAIL(&files->list, f, link);
    else if (!wanted && f->listed)
        TAILQ_REMOVE(&files->list, f, link);
    f->listed = wanted;
    if (!wanted && f->held_open) {
        f->held_open = false;
        uplink_close_inode(files->hub, f->inode->ino);
    }
}

void file_free(struct files *files, struct kernel_inode *inode)
{
    struct file *f = inode->file;

    removed_let_go(files, f);
    if (f->listed)
        TAILQ_REMOVE(&files->list, f, link);
    file_take_lost(files, f);
    files->room.used -= f->reserved;
    while (!TAILQ_EMPTY(&f->handles)) {
        struct handle *h = TAILQ_FIRST(&f->handles);

        TAILQ_REMOVE(&f->handles, h, link);
        free(h);
    }
    stage_deinit(&f->base);
    stage_deinit(&f->inflight);
    stage_deinit(&f->stage);
    buffer_deinit(&f->body);
    free(f);
    inode->file = NULL;
}

bool file_is_removed(const struct kernel_inode *inode)
{
    return inode != NULL && inode->file != NULL && inode->file->life != FILE_LIVE &&
           inode->file->life != FILE_LOST;
}

void file_put(struct files *files, struct kernel_inode *inode)
{
    struct file *f = inode->file;

    if (f != NULL) {
        list_or_unlist(files, f);
        if (f->n_handles > 0 || f->listed || !TAILQ_EMPTY(&f->waiters) || !TAILQ_EMPTY(&f->next_waiters) ||
            !TAILQ_EMPTY(&f->invalidated) || f->lost != 0)
            return;
        if (inode->nlookup > 0 && file_is_removed(inode) && removed_keep(files, f))
            return;
        file_free(files, inode);
    }
    kernel_inode_put(files->cache, inode);
}

bool file_appends_only(int flags)
{
    return (flags & (O_ACCMODE | O_APPEND)) == (O_WRONLY | O_APPEND);
}

bool file_flags_write(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY;
}

uint8_t file_flags_access(int flags)
{
    uint8_t access = (flags & O_ACCMODE) != O_WRONLY ? OPEN_READ : 0;

    return access | (file_flags_write(flags) || (flags & O_TRUNC) != 0 ? OPEN_WRITE : 0);
}

static bool is_open_for_writing(const struct handle *h)
{
    return h->pinned && (file_flags_access(h->flags) & OPEN_WRITE) != 0;
}

struct handle *file_open(struct files *files, struct kernel_inode *inode, int flags, uint32_t uid,
                         pid_t process)
{
    struct handle *h = calloc(1, sizeof *h);
    struct file *f = h != NULL ? file_get(files, inode) : NULL;

    if (f == NULL) {
        free(h);
        return NULL;
    }
    h->inode = inode;
    h->flags = flags;
    h->uid = uid;
    h->opener = process;
    h->pinned = true;
    TAILQ_INSERT_TAIL(&f->handles, h, link);
    f->n_handles++;
    f->n_writable += file_flags_write(flags);
    return h;
}

void file_close(struct files *files, struct handle *h)
{
    struct kernel_inode *inode = h->inode;
    struct file *f = inode->file;

    TAILQ_REMOVE(&f->handles, h, link);
    f->n_handles--;
    f->n_writable -= file_flags_write(h->flags);
    /* What is staged is still to be published, and the node asks for an open file: this
     * opening stays until then. */
    if (is_open_for_writing(h) && file_is_dirty(f) && !f->held_open)
        f->held_open = true;
    else if (h->pinned)
        uplink_close_inode(files->hub, inode->ino);
    files->n_lazy -= h->lazy;
    free(h);
    if (f->n_writable == 0)
        publish_released(files, f);
    else
        file_put(files, inode);
}

static void open_on_node(struct files *files, struct kernel_inode *inode, uint8_t access, uint32_t uid,
                         call_fn *on_answer)
{
    struct call *call = call_begin(files->hub, NULL, CALL_PLAIN);

    if (call == NULL)
        return;
    call->ino = inode->ino;
    call->once = true;
    call->deadline_ms = UINT64_MAX;
    call->caller.uid = uid;
    uplink_open_inode(call, inode->ino, access, true, on_answer);
}

static void on_held(struct call *call, int code, const union answer_body *answer)
{
    call_end(call); /* the publication tells */
}

void file_hold_open(struct files *files, struct file *f)
{
    const struct handle *h;

    TAILQ_FOREACH (h, &f->handles, link) {
        if (is_open_for_writing(h))
            return;
    }
    if (f->held_open || files->hub->uplink.client == NULL)
        return; /* without a connection: file_reopen_all() */
    f->held_open = true;
    open_on_node(files, f->inode, OPEN_WRITE, f->uid, on_held);
}

/* If it is gone already, its event comes, or has come: the node keeps such files for a while. */
static void on_pinned(struct call *call, int code, const union answer_body *answer)
{
    call_end(call);
}

static void on_reopened(struct call *call, int code, const union answer_body *answer)
{
    struct files *files = call->hub->files;
    struct file *f = file_find(files, call->ino);

    call_end(call);
    if (f == NULL || (code != KV_E_STALE && code != KV_E_NOENT))
        return;
    if (f->life == FILE_LIVE || f->life == FILE_PULLING) {
        log_warn("inode %llu was removed while this mount changed nodes; its open handles are stale",
                 (unsigned long long)f->inode->ino);
        f->life = FILE_LOST;
        publish_removed(files, f->inode);
    }
}

void file_pin(struct files *files, struct kernel_inode *inode)
{
    struct file *f = inode->file;
    struct handle *h;

    if (files->n_lazy == 0 || f->life == FILE_ORPHAN || f->life == FILE_LOST)
        return;
    TAILQ_FOREACH (h, &f->handles, link) {
        if (!h->lazy)
            continue;
        h->lazy = false;
        files->n_lazy--;
        if (files->hub->uplink.client == NULL) /* file_reopen_all() does it */
            continue;
        h->pinned = true;
        open_on_node(files, inode, file_flags_access(h->flags), h->uid, on_pinned);
    }
}

void file_pin_all(struct files *files)
{
    struct kernel_inode *inode, *next;

    if (files->n_lazy == 0)
        return;
    HASH_ITER(hh, files->cache->inodes.by_ino, inode, next)
    {
        if (inode->file != NULL)
            file_pin(files, inode);
    }
}

void file_reopen_all(struct files *files)
{
    struct kernel_inode *inode, *next;

    HASH_ITER(hh, files->cache->inodes.by_ino, inode, next)
    {
        struct handle *h;
        struct file *f;

        if (inode->file == NULL || inode->file->life == FILE_ORPHAN || inode->file->life == FILE_LOST)
            continue;
        f = inode->file;
        TAILQ_FOREACH (h, &f->handles, link) {
            open_on_node(files, inode, file_flags_access(h->flags), h->uid, on_reopened);
            h->pinned = true;
            files->n_lazy -= h->lazy;
            h->lazy = false;
        }
        if (f->held_open || f->publication != NULL) {
            f->held_open = true;
            open_on_node(files, inode, OPEN_WRITE, f->uid, on_held);
        }
    }
}

void file_learn(struct file *f, const struct attr *attr)
{
    if (attr->revision >= f->attr.revision && f->life == FILE_LIVE)
        f->attr = *attr;
}

bool file_is_dirty(const struct file *f)
{
    return f != NULL && (f->publication != NULL || !stage_empty(&f->stage));
}

void file_view(const struct file *f, struct attr *attr)
{
    if (f == NULL)
        return;
    if (f->life != FILE_LIVE)
        attr->nlink = 0;
    attr->size = stage_size(&f->stage, stage_size(&f->inflight, stage_size(&f->base, attr->size)));
    if (!stage_empty(&f->stage) || !stage_empty(&f->inflight)) {
        attr->mtime_ns = f->touched_ns;
        if (attr->ctime_ns < f->touched_ns)
            attr->ctime_ns = f->touched_ns;
    }
    if (f->inflight.has_atime)
        attr->atime_ns = f->inflight.atime_ns;
    if (f->stage.has_atime)
        attr->atime_ns = f->stage.atime_ns;
    if (f->stage.has_mtime)
        attr->mtime_ns = f->stage.mtime_ns;
    else if (f->inflight.has_mtime && stage_empty(&f->stage))
        attr->mtime_ns = f->inflight.mtime_ns;
}

uint64_t file_size(const struct file *f)
{
    struct attr attr = f->attr;

    file_view(f, &attr);
    return attr.size;
}

bool file_needs_node(const struct file *f, uint64_t offset, size_t len)
{
    if (f == NULL)
        return true;
    if (f->life == FILE_ORPHAN || f->life == FILE_LOST)
        return false;
    return stage_needs_base(&f->stage, offset, len) && stage_needs_base(&f->inflight, offset, len);
}

size_t file_overlay(const struct file *f, uint64_t base_size, uint64_t offset, uint8_t *data, size_t len)
{
    uint64_t size = base_size;

    if (f != NULL) {
        stage_apply(&f->base, &size, offset, data, len);
        stage_apply(&f->inflight, &size, offset, data, len);
        stage_apply(&f->stage, &size, offset, data, len);
    }
    if (size <= offset)
        return 0;
    return size - offset < len ? (size_t)(size - offset) : len;
}

void file_lost(struct files *files, struct file *f, int code)
{
    if (f->lost == 0 && files->n_lost == FILES_LOST_MAX)
        return;
    files->n_lost += f->lost == 0;
    f->lost = code;
}

int file_take_lost(struct files *files, struct file *f)
{
    int code = f != NULL ? f->lost : 0;

    if (code == 0)
        return 0;
    f->lost = 0;
    files->n_lost--;
    return code == KV_E_FBIG || code == KV_E_NOSPC ? call_errno(code) : EIO;
}

static bool is_writer(const struct file *f, pid_t thread)
{
    unsigned i;

    for (i = 0; i < f->n_writers && i < FILE_WRITERS; i++) {
        if (f->writers[i].thread == thread)
            return true;
    }
    return false;
}

bool file_asks_for_process(const struct file *f, pid_t thread)
{
    return f != NULL && thread != 0 && !is_writer(f, thread);
}

void file_touched(struct files *files, struct file *f, const struct fuse_ctx *who, pid_t process)
{
    unsigned i;

    if (!f->listed)
        f->dirty_ms = clock_boot_ms();
    f->touched_ns = hub_now_ns(files->hub);
    stage_stamp(&f->stage, f->touched_ns);
    f->told = false;
    list_or_unlist(files, f);
    room_account(files, f);
    if (who == NULL)
        return;
    f->uid = who->uid;
    f->gid = who->gid;
    if (who->pid == 0 || is_writer(f, who->pid))
        return;
    i = f->n_writers++ % FILE_WRITERS;
    f->writers[i].thread = who->pid;
    f->writers[i].process = process;
}

bool file_is_of(const struct file *f, const struct handle *h, pid_t process)
{
    unsigned i;

    /* Of callers that are not seen from here (a mount shared into another pid namespace)
     * nothing is known: each of their closes publishes, like one of the writer's. */
    if (process == 0 || h->opener == process)
        return true;
    for (i = 0; i < f->n_writers && i < FILE_WRITERS; i++) {
        if (f->writers[i].process == process)
            return true;
    }
    return false;
}
