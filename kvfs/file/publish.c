#include "kvfs/file/publish.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "kvfs/file/files.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

#define PART_WINDOW 8
#define PART_RETRY_MS 30
#define COMMAND_HEAD_MAX 256
/* After a refusal, doubling. */
#define BACKOFF_MS 250
#define BACKOFF_MAX_MS 16000
#define BACKOFF_RARELY_MS 300000 /* of many parts, which are refused when most have been sent */

#define FLAGS_AT 8 /* in a publication's body, behind the inode */
#define EXPECT_AT 9

static void on_published(struct call *call, int code, const union answer_body *answer);

static struct file *file_of(const struct call *call)
{
    return file_find(call->hub->files, call->ino);
}

/* Parts: all but the last piece of a long body, then the command with the last. */

static void send_parts(struct call *call, struct file *f)
{
    size_t size = call->hub->uplink.node.part_size;
    struct buffer piece = BUFFER_INIT;
    struct command_body part;

    while (f->part_next < f->n_parts && f->part_next < f->part_acked + PART_WINDOW) {
        buffer_clear(&piece);
        part = (struct command_body){
            .part = f->part_next, .value = f->body.data + f->part_next * size, .value_len = size};
        command_body_encode(&piece, COMMAND_PART, &part);
        if (piece.failed)
            break;
        uplink_transmit(call, f->part_next++, COMMAND_PART, 0, piece.data, piece.len);
    }
    if (f->part_next == f->n_parts) {
        size_t done = f->n_parts * size;

        buffer_clear(&piece);
        if (f->n_parts > 0)
            command_last_piece_encode(&piece, f->n_parts, f->inode->ino, f->body.data + done,
                                      f->body.len - done);
        else
            buffer_put_bytes(&piece, f->body.data, f->body.len);
        if (!piece.failed) {
            f->part_next++;
            uplink_transmit(call, UPLINK_LAST_PART, COMMAND_PUBLISH,
                            f->n_parts > 0 ? COMMAND_PARTS | COMMAND_OPENED : 0, piece.data, piece.len);
        }
    }
    if (piece.failed && call->sent) {
        call->sent = false; /* out of memory: from here once more */
        call->retry_ms = clock_boot_ms() + PART_RETRY_MS;
    }
    buffer_deinit(&piece);
}

static void transmit(struct call *call)
{
    struct file *f = file_of(call);
    struct command_number number = {.session = call->hub->uplink.session, .seq = call->seq};

    /* Under another number nothing is there yet. */
    if (f->n_numbers == 0 || f->numbers[0].session != number.session || f->numbers[0].seq != number.seq) {
        f->n_numbers = f->n_numbers < FILE_NUMBERS ? f->n_numbers + 1 : FILE_NUMBERS;
        memmove(f->numbers + 1, f->numbers, (f->n_numbers - 1) * sizeof f->numbers[0]);
        f->numbers[0] = number;
        f->part_acked = 0;
    }
    f->n_parts = (unsigned)((f->body.len - 1) / call->hub->uplink.node.part_size);
    f->part_next = f->part_acked;
    send_parts(call, f);
}

/* It gets on: so do all who wait for it, or behind it. */
static void progress(struct call *call, struct file *f)
{
    struct files *files = call->hub->files;
    struct file *behind;
    struct call *w;

    TAILQ_FOREACH (w, &f->waiters, place)
        call_progress(w);
    TAILQ_FOREACH (w, &f->next_waiters, place)
        call_progress(w);
    TAILQ_FOREACH (behind, &files->list, link) {
        if (behind->queued) {
            TAILQ_FOREACH (w, &behind->waiters, place)
                call_progress(w);
        }
    }
    call->sent_ms = clock_boot_ms();
    call->delays = 0;
}

static void on_part(struct call *call, unsigned part, int code)
{
    struct file *f = file_of(call);

    switch (code) {
    case 0:
        progress(call, f);
        if (part >= f->part_acked && part < f->n_parts)
            f->part_acked = part + 1; /* they are taken in order */
        if (call->sent)
            send_parts(call, f);
        break;
    case KV_E_PART:
        /* All over again; the answers to the pieces behind this one, or behind one that
         * was put off, say the same. */
        if (!call->sent)
            break;
        f->part_acked = 0;
        call->sent = false;
        call->last_code = code;
        call->retry_ms = clock_boot_ms() + PART_RETRY_MS;
        break;
    case KV_E_DUPLICATE:
        break; /* the command was executed; its answer is on the way */
    default: {
        unsigned sends = call->sends;

        if (uplink_retries(call, code)) {
            if (f->part_next > f->n_parts)
                call->sends = sends; /* the command itself is out */
            break;
        }
        uplink_cancel(call);
        on_published(call, code, NULL);
    }
    }
}

/* The session ended before there was an answer. What may have been executed is asked
 * for once more only on the content that it was based on: who has written since is not
 * overwritten. If it was executed after all, its event comes before the answer. The
 * same goes for what nobody waits for any more: its writer was told that it failed. */
static bool on_new_session(struct call *call, bool executed)
{
    struct file *f = file_of(call);

    if (f->fenced)
        return false;
    if (!executed && (f->n_writable > 0 || !TAILQ_EMPTY(&f->waiters)))
        return true;
    if (f->base_revision == 0 || f->n_numbers == FILE_NUMBERS)
        return !executed;
    f->body.data[FLAGS_AT] |= PUBLISH_IF_REVISION;
    buffer_set_u64(&f->body, EXPECT_AT, f->base_revision);
    return true;
}

/* The publication */

static const char *failure_text(int code)
{
    if (code == KV_E_VERSION)
        return "its first answer was lost or it was refused, and the file has changed since";
    return code > 0 ? error_text(code) : strerror(-code);
}

/* Tried again it may turn out well. */
static bool may_pass(int code)
{
    switch (code) {
    case KV_E_NOSPC:
    case KV_E_FBIG: /* value_limit may be raised */
    case KV_E_ROFS:
    case KV_E_UNAVAILABLE:
    case KV_E_NOTLEADER:
    case KV_E_BUSY:
    case KV_E_IO:
    case -ENOMEM:
        return true;
    default:
        return false;
    }
}

/* Published or not: nobody can tell, or others have changed the file since. */
static bool is_unknown(int code)
{
    return code == KV_E_UNKNOWN || code == KV_E_VERSION || code == KV_E_DUPLICATE;
}

static void put_back(struct file *f)
{
    stage_join(&f->inflight, &f->stage);
    stage_join(&f->stage, &f->inflight);
    f->dirty_ms = clock_boot_ms();
}

static void put_off(struct file *f, bool rarely)
{
    uint64_t ms = rarely ? BACKOFF_RARELY_MS : BACKOFF_MS;
    unsigned i;

    for (i = 0; i < f->refusals && ms < BACKOFF_MAX_MS; i++)
        ms *= 2;
    f->refusals++;
    f->retry_ms = clock_boot_ms() + ms;
}

/* Drops all edits. */
static void lose(struct files *files, struct file *f, int code)
{
    bool told = f->told || !TAILQ_EMPTY(&f->waiters) || !TAILQ_EMPTY(&f->next_waiters);

    log_error("inode %" PRIu64 ": what was written is dropped: %s (based on revision %" PRIu64
              ", now %" PRIu64 "); %s",
              f->inode->ino, failure_text(code), f->base_revision, f->attr.content_revision,
              told ? "who closed it was told" : "who opens, syncs or closes it next is told");
    if (!told)
        file_lost(files, f, code);
    stage_clear(&f->inflight);
    stage_clear(&f->stage);
    f->retry_ms = 0;
    f->refusals = 0;
    f->told = false;
    notifier_inval(files->cache, f->inode, true);
}

/* What becomes of the edits of a publication that failed. */
static void on_failed(struct files *files, struct file *f, int code, bool in_parts)
{
    bool later = !stage_empty(&f->stage);

    if (f->life != FILE_LIVE) {
        put_back(f);
        /* A removed file keeps its edits for those who still have it open. */
        if (f->n_handles == 0)
            stage_clear(&f->stage);
        return;
    }
    /* Later edits were made on top of what is lost, and go with it. */
    if (is_unknown(code) || (!may_pass(code) && f->n_writable == 0 && !later)) {
        lose(files, f, code);
        return;
    }
    if (f->refusals == 0)
        log_warn("inode %" PRIu64 " was not published, and stays to be: %s", f->inode->ino,
                 failure_text(code));
    put_back(f);
    f->told = f->told || !TAILQ_EMPTY(&f->waiters);
    put_off(f, in_parts && code == KV_E_FBIG);
}

/* The next one in parts: another user's, if somebody else waits, so that who closes many
 * large files keeps nobody waiting for longer than one of them takes. */
static void next_upload(struct files *files)
{
    struct file *f, *next;
    bool others;

    for (others = true; files->uploading == NULL; others = false) {
        for (f = TAILQ_FIRST(&files->list); f != NULL && files->uploading == NULL; f = next) {
            next = TAILQ_NEXT(f, link);
            if (f->queued && (!others || f->uid != files->uploaded_uid))
                publish_start(files, f);
        }
        if (!others)
            break;
    }
}

static void move_waiters(struct call_list *to, struct call_list *from)
{
    struct call *w;

    TAILQ_FOREACH (w, from, place)
        w->waiting = to;
    TAILQ_CONCAT(to, from, place);
}

void publish_removed(struct files *files, struct kernel_inode *inode)
{
    struct file *f = inode->file;
    struct call_list waiters;
    uint64_t ino = inode->ino;

    if (f->publication == NULL) { /* else finish() comes */
        f->queued = false;
        TAILQ_INIT(&waiters);
        move_waiters(&waiters, &f->waiters);
        move_waiters(&waiters, &f->next_waiters);
        call_wake_all(&waiters, 0);
        inode = kernel_inode_find(files->cache, ino);
    }
    if (inode != NULL)
        file_put(files, inode);
}

static void finish(struct files *files, struct file *f, int code)
{
    struct call_list waiters;
    struct kernel_inode *inode = f->inode;
    uint64_t ino = inode->ino;
    bool in_parts = files->uploading == f;
    int later_code;

    f->publication = NULL;
    f->fenced = false;
    buffer_deinit(&f->body);
    f->body = (struct buffer)BUFFER_INIT;
    if (in_parts)
        files->uploading = NULL;
    if (code == 0) {
        stage_clear(&f->inflight);
        room_published(files, f);
        f->fresh = false;
        f->refusals = 0;
        f->retry_ms = 0;
    } else {
        on_failed(files, f, code, in_parts);
        room_account(files, f);
    }
    /* What was written to a file that was removed meanwhile has gone where it was to go: with the file. */
    if (f->life != FILE_LIVE && (code == KV_E_STALE || code == KV_E_NOENT))
        code = 0;
    later_code = f->life == FILE_LIVE ? code : 0;
    /* The answers below may end calls, and with them this file. */
    TAILQ_INIT(&waiters);
    move_waiters(&waiters, &f->waiters);
    move_waiters(&f->waiters, &f->next_waiters);
    if (!TAILQ_EMPTY(&f->waiters) || (f->n_writable == 0 && f->refusals == 0))
        publish_start(files, f);
    if (in_parts)
        next_upload(files);
    call_wake_all(&waiters, code);
    inode = kernel_inode_find(files->cache, ino);
    if (inode == NULL || inode->file == NULL)
        return;
    /* Nothing is left to publish for those: it was part of this, or went with it. */
    if (!file_is_dirty(inode->file) || inode->file->life != FILE_LIVE)
        call_wake_all(&inode->file->waiters, later_code);
    inode = kernel_inode_find(files->cache, ino);
    if (inode != NULL)
        file_put(files, inode);
}

static void on_published(struct call *call, int code, const union answer_body *answer)
{
    struct files *files = call->hub->files;
    struct file *f = file_of(call);

    if (code == 0 && call->result.attr.ino == call->ino)
        file_learn(f, &call->result.attr);
    call_end(call);
    finish(files, f, code);
}

/* What was refused and nobody has open for writing any more goes on top of nobody else's changes. */
static void encode(struct file *f)
{
    bool late = f->refusals > 0 && f->n_writable == 0 && f->base_revision != 0;
    struct command_body head = {
        .ino = f->inode->ino,
        .flags = (f->fresh ? PUBLISH_REPLACE_CREATION : 0) | (late ? PUBLISH_IF_REVISION : 0),
    };

    if (!late)
        f->base_revision = f->attr.ino != 0 ? f->attr.content_revision : 0;
    f->body = (struct buffer)BUFFER_INIT;
    head.version = late ? f->base_revision : 0;
    command_body_encode(&f->body, COMMAND_PUBLISH, &head);
    stage_encode(&f->inflight, &f->body);
}

void publish_start(struct files *files, struct file *f)
{
    struct call *call;
    bool in_parts;

    if (f->publication != NULL || stage_empty(&f->stage) || f->life != FILE_LIVE || f->fenced)
        return;
    in_parts = stage_encoded_len(&f->stage) + EXPECT_AT + 8 > files->hub->uplink.node.part_size;
    f->queued = in_parts && files->uploading != NULL;
    if (f->queued)
        return;
    call = call_begin(files->hub, NULL, CALL_PLAIN);
    stage_join(&f->inflight, &f->stage);
    if (call != NULL) {
        encode(f);
        if (f->body.failed || !buffer_reserve(&call->payload, COMMAND_HEAD_MAX)) {
            buffer_deinit(&f->body);
            call_end(call);
            call = NULL;
        }
    }
    if (call == NULL) {
        /* Out of memory. publish_tick() tries again for as long as somebody waits. */
        put_back(f);
        put_off(f, false);
        return;
    }
    call->ino = f->inode->ino;
    call->caller.uid = f->uid;
    call->caller.gid = f->gid;
    call->deadline_ms = UINT64_MAX; /* those who wait for it have theirs */
    call->on_new_session = on_new_session;
    call->transmit = transmit;
    call->on_part = on_part;
    f->publication = call;
    f->n_numbers = 0;
    f->dirty_ms = call->started_ms; /* of what is staged from now on */
    if (in_parts) {
        files->uploading = f;
        files->uploaded_uid = f->uid;
    }
    file_put(files, f->inode); /* on the list now */
    file_hold_open(files, f);
    uplink_write_parts(call, COMMAND_PUBLISH, on_published);
}

void publish_wait(struct kernel_inode *inode, struct call *call, call_fn *on_answer)
{
    struct files *files = call->hub->files;
    struct file *f = inode != NULL ? inode->file : NULL;

    if (f == NULL || !file_is_dirty(f)) {
        on_answer(call, 0, NULL);
        return;
    }
    if (f->life != FILE_LIVE && f->publication == NULL) {
        on_answer(call, 0, NULL);
        return;
    }
    if (f->publication != NULL && !stage_empty(&f->stage)) {
        call_wait(call, &f->next_waiters, on_answer);
        return;
    }
    call_wait(call, &f->waiters, on_answer);
    publish_start(files, f);
}

void publish_released(struct files *files, struct file *f)
{
    if (f->retry_ms <= clock_boot_ms())
        publish_start(files, f);
    if (f->n_handles > 0)
        return;
    if (f->life != FILE_LIVE && f->publication == NULL)
        stage_clear(&f->stage);
    file_put(files, f->inode);
}

void publish_told(struct kernel_inode *inode)
{
    if (inode != NULL && inode->file != NULL)
        inode->file->told = true;
}

bool publish_is_own(const struct file *f, const struct event *e)
{
    unsigned i;

    for (i = 0; f->publication != NULL && i < f->n_numbers; i++) {
        if (f->numbers[i].session == e->session && f->numbers[i].seq == e->seq)
            return true;
    }
    return false;
}

void publish_landed(struct files *files, struct file *f, const struct event *e)
{
    if (!publish_is_own(f, e))
        return;
    if (e->attr.ino == f->inode->ino)
        file_learn(f, &e->attr);
    call_end(f->publication);
    finish(files, f, 0);
}

/* Nobody has it open for writing, those who waited have given up, and it was not accepted by any
 * node: it is taken back, and is no overwriting of what comes meanwhile. */
static bool is_overdue(const struct files *files, const struct file *f, uint64_t now_ms)
{
    const struct call *call = f->publication;

    return call != NULL && f->n_writable == 0 && call->sends == 0 && !call->sent &&
           TAILQ_EMPTY(&f->waiters) && now_ms - call->started_ms > files->hub->options->timeout_ms;
}

void publish_fence(struct file *f)
{
    f->fenced = true; /* on_new_session(), or the next tick */
}

/* No publication is under way. f may be gone afterwards. */
static void drop_fenced(struct files *files, struct file *f)
{
    struct kernel_inode *inode = f->inode;
    struct call_list waiters;
    uint64_t ino = inode->ino;

    f->fenced = f->queued = false;
    lose(files, f, KV_E_SESSION);
    room_account(files, f);
    TAILQ_INIT(&waiters);
    move_waiters(&waiters, &f->waiters);
    move_waiters(&waiters, &f->next_waiters);
    call_wake_all(&waiters, KV_E_SESSION);
    inode = kernel_inode_find(files->cache, ino);
    if (inode != NULL)
        file_put(files, inode);
}

static bool is_due(const struct files *files, const struct file *f, uint64_t now_ms)
{
    if (f->publication != NULL || f->retry_ms > now_ms)
        return false;
    return f->refusals > 0 || !TAILQ_EMPTY(&f->waiters) ||
           now_ms - f->dirty_ms >= files->hub->options->commit_ms;
}

void publish_tick(struct files *files, uint64_t now_ms)
{
    struct file *f = TAILQ_FIRST(&files->list);

    while (f != NULL) {
        struct file *next = TAILQ_NEXT(f, link);

        if (f->fenced && f->publication == NULL) {
            drop_fenced(files, f);
            return; /* as below */
        }
        if (is_due(files, f, now_ms)) {
            publish_start(files, f);
        } else if (is_overdue(files, f, now_ms)) {
            int code = f->publication->last_code != 0 ? f->publication->last_code : KV_E_UNAVAILABLE;

            call_end(f->publication);
            finish(files, f, may_pass(code) ? code : KV_E_UNAVAILABLE);
            return; /* anything may be gone; the others at the next tick */
        }
        f = next;
    }
}

bool publish_all(struct files *files)
{
    struct file *f = TAILQ_FIRST(&files->list);
    bool left = false;

    while (f != NULL) {
        struct file *next = TAILQ_NEXT(f, link);

        publish_start(files, f);
        left = left || (f->life == FILE_LIVE && file_is_dirty(f));
        f = next;
    }
    return left;
}
