#include "kvfs/publish.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "kvfs/fs.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

#define PART_WINDOW 8
#define PART_RETRY_MS 30

static void on_published(struct fs *fs, struct request *r, int code, struct cursor *body);

static struct file *file_of(struct fs *fs, const struct request *r)
{
    struct inode *inode = inode_find(fs, r->ino);

    return inode != NULL ? inode->file : NULL;
}

/* Parts: all but the last piece of a long body, then the command with the last. */

static void send_parts(struct fs *fs, struct request *r, struct file *f)
{
    size_t size = fs->link.node.part_size;
    struct buffer piece = BUFFER_INIT;

    while (f->part_next < f->n_parts && f->part_next < f->part_acked + PART_WINDOW) {
        buffer_clear(&piece);
        buffer_put_u32(&piece, f->part_next);
        buffer_put_string(&piece, f->body.data + f->part_next * size, size);
        if (piece.failed)
            break;
        link_transmit(fs, r, f->part_next++, COMMAND_PART, 0, piece.data, piece.len);
    }
    if (f->part_next == f->n_parts) {
        size_t done = f->n_parts * size;

        f->part_next++;
        buffer_clear(&piece);
        if (f->n_parts > 0)
            buffer_put_u32(&piece, f->n_parts);
        buffer_put_bytes(&piece, f->body.data + done, f->body.len - done);
        if (!piece.failed)
            link_transmit(fs, r, LINK_LAST_PART, COMMAND_PUBLISH, f->n_parts > 0 ? COMMAND_PARTS : 0,
                          piece.data, piece.len);
    }
    buffer_deinit(&piece);
}

static void transmit(struct fs *fs, struct request *r)
{
    struct file *f = file_of(fs, r);

    f->n_parts = (unsigned)((f->body.len - 1) / fs->link.node.part_size);
    f->part_next = f->part_acked = 0;
    send_parts(fs, r, f);
}

static void on_part(struct fs *fs, struct request *r, unsigned part, int code)
{
    struct file *f = file_of(fs, r);
    struct request *w;

    switch (code) {
    case 0:
        TAILQ_FOREACH (w, &f->waiters, place)
            request_progress(fs, w);
        request_progress(fs, r);
        r->sent_ms = clock_boot_ms();
        f->part_acked++;
        if (r->sent)
            send_parts(fs, r, f);
        break;
    case KV_E_PART:
        /* All over again; the answers to the pieces behind this one say the same. */
        r->sent = false;
        r->last_code = code;
        r->retry_ms = clock_boot_ms() + PART_RETRY_MS;
        break;
    case KV_E_DUPLICATE:
        break; /* the command was executed; its answer is on the way */
    default: {
        struct cursor nothing = cursor_of(NULL, 0);

        if (link_retries(fs, r, code))
            break;
        link_cancel(fs, r);
        on_published(fs, r, code, &nothing);
    }
    }
}

/* The publication */

static const char *failure_text(int code)
{
    return code > 0 ? error_text(code) : strerror(-code);
}

static void put_back(struct file *f)
{
    stage_join(&f->inflight, &f->stage);
    stage_join(&f->stage, &f->inflight);
    f->dirty_ms = clock_boot_ms();
}

/* Nobody is left who could try again. */
static void lose(struct fs *fs, struct file *f, int code)
{
    if (TAILQ_EMPTY(&f->waiters))
        log_error("inode %" PRIu64 ": what was written could not be published and is lost: %s", f->inode->ino,
                  failure_text(code));
    stage_clear(&f->stage);
    notifier_inval(fs, f->inode, true);
}

/* A removed file keeps its edits for those who still have it open. */
static void lose_removed(struct file *f)
{
    if (f->n_handles == 0)
        stage_clear(&f->stage);
}

static void finish(struct fs *fs, struct file *f, int code)
{
    struct request_list waiters;
    struct inode *inode = f->inode;
    uint64_t ino = inode->ino;

    f->publication = NULL;
    buffer_deinit(&f->body);
    f->body = (struct buffer)BUFFER_INIT;
    if (code == 0) {
        stage_clear(&f->inflight);
        f->fresh = false;
    } else {
        put_back(f);
        if (f->life != FILE_LIVE)
            lose_removed(f);
        else if (f->n_handles == 0)
            lose(fs, f, code);
        else
            log_warn("inode %" PRIu64 " was not published: %s", ino, failure_text(code));
    }
    /* The answers below may end requests, and with them this file. */
    TAILQ_INIT(&waiters);
    while (!TAILQ_EMPTY(&f->waiters)) {
        struct request *w = TAILQ_FIRST(&f->waiters);

        TAILQ_REMOVE(&f->waiters, w, place);
        w->waiting = &waiters;
        TAILQ_INSERT_TAIL(&waiters, w, place);
    }
    TAILQ_CONCAT(&f->waiters, &f->next_waiters, place);
    {
        struct request *w;

        TAILQ_FOREACH (w, &f->waiters, place)
            w->waiting = &f->waiters;
    }
    if (!TAILQ_EMPTY(&f->waiters) || (f->n_handles == 0 && !stage_empty(&f->stage)))
        publish_start(fs, f);
    request_wake_all(fs, &waiters, code);
    inode = inode_find(fs, ino);
    if (inode == NULL || inode->file == NULL)
        return;
    /* Nothing was left to publish for those. */
    if (inode->file->publication == NULL)
        request_wake_all(fs, &inode->file->waiters, 0);
    inode = inode_find(fs, ino);
    if (inode != NULL)
        file_put(fs, inode);
}

static void on_published(struct fs *fs, struct request *r, int code, struct cursor *body)
{
    struct file *f = file_of(fs, r);

    if (code == 0 && r->result.attr.ino == r->ino)
        file_learn(f, &r->result.attr);
    request_end(fs, r);
    finish(fs, f, code);
}

void publish_start(struct fs *fs, struct file *f)
{
    struct request *r;

    if (f->publication != NULL || stage_empty(&f->stage) || f->life != FILE_LIVE)
        return;
    r = request_begin(fs, NULL);
    if (r == NULL)
        return;
    stage_join(&f->inflight, &f->stage);
    f->body = (struct buffer)BUFFER_INIT;
    buffer_put_u64(&f->body, f->inode->ino);
    buffer_put_u8(&f->body, f->fresh);
    buffer_put_u64(&f->body, 0); /* no expectation about the version */
    stage_encode(&f->inflight, &f->body);
    r->ino = f->inode->ino;
    r->caller.uid = f->uid;
    r->caller.gid = f->gid;
    /* As long as a handle is open it is tried; see publish_released(). */
    r->deadline_ms = f->n_handles > 0 ? UINT64_MAX : r->deadline_ms;
    r->idempotent = !stage_has_append(&f->inflight);
    r->transmit = transmit;
    r->on_part = on_part;
    f->publication = r;
    f->dirty_ms = r->started_ms; /* of what is staged from now on */
    file_put(fs, f->inode);      /* on the list now */
    if (f->body.failed) {
        request_end(fs, r);
        finish(fs, f, -ENOMEM);
        return;
    }
    link_write_parts(fs, r, COMMAND_PUBLISH, on_published);
}

void publish_wait(struct fs *fs, struct inode *inode, struct request *r, request_fn *on_answer)
{
    struct file *f = inode != NULL ? inode->file : NULL;
    struct cursor nothing = cursor_of(NULL, 0);

    if (f == NULL || !file_is_dirty(f)) {
        on_answer(fs, r, 0, &nothing);
        return;
    }
    if (f->life != FILE_LIVE && f->publication == NULL) {
        on_answer(fs, r, f->removed_elsewhere ? KV_E_STALE : 0, &nothing);
        return;
    }
    if (f->publication != NULL && !stage_empty(&f->stage)) {
        request_wait(r, &f->next_waiters, on_answer);
        return;
    }
    request_wait(r, &f->waiters, on_answer);
    publish_start(fs, f);
}

void publish_released(struct fs *fs, struct file *f)
{
    publish_start(fs, f);
    if (f->n_handles > 0)
        return;
    if (f->publication != NULL)
        f->publication->deadline_ms = clock_boot_ms() + fs->options->timeout_ms;
    if (f->life != FILE_LIVE && f->publication == NULL)
        stage_clear(&f->stage);
    file_put(fs, f->inode);
}

void publish_landed(struct fs *fs, struct file *f, const struct event *e)
{
    struct request *r = f->publication;

    if (r == NULL || r->seq != e->seq)
        return;
    if (e->attr.ino == f->inode->ino)
        file_learn(f, &e->attr);
    request_end(fs, r);
    finish(fs, f, 0);
}

void publish_tick(struct fs *fs, uint64_t now_ms)
{
    struct file *f = TAILQ_FIRST(&fs->files);

    while (f != NULL) {
        struct file *next = TAILQ_NEXT(f, link);

        if (f->publication == NULL && now_ms - f->dirty_ms >= fs->options->commit_ms)
            publish_start(fs, f);
        f = next;
    }
}

bool publish_all(struct fs *fs)
{
    struct file *f = TAILQ_FIRST(&fs->files);
    bool left = false;

    while (f != NULL) {
        struct file *next = TAILQ_NEXT(f, link);

        publish_start(fs, f);
        left = left || f->publication != NULL;
        f = next;
    }
    return left;
}
