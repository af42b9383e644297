#include "kvnode/group/outgoing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <unistd.h>

#include "kvnode/group/group.h"
#include "kvnode/loop/remove.h"
#include "kvnode/loop/turn.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"
#include "sync/raft/transfer/snapshot_transfer.h"

#define OUTGOING_NAME "state.db.outgoing"
/* Stream on while less than this waits on the link, so that other frames pass. */
#define LINK_FILL (1024 * 1024)
/* A transfer without an acknowledgement for so long is given up. */
#define STALL_MS 30000
/* After a file could not be made. */
#define MAKE_AGAIN_MS 5000
/* After the peer could not take this version's files, unless its link is a new one. */
#define REFUSED_AGAIN_MS 600000

struct sending {
    uint64_t peer;
    bool for_engine;                /* the engine waits to hear how it ended */
    struct snapshot_sender *sender; /* owned; NULL: waits for the file */
    uint64_t acked, progress_ms;
    uint64_t not_before_ms; /* the peer's program is too old for the file */
    TAILQ_ENTRY(sending) link;
};

enum file_state { FILE_NONE, FILE_MAKING, FILE_READY };

struct outgoing {
    struct group *group; /* borrowed */
    uv_async_t wake;     /* work is left for another turn */
    TAILQ_HEAD(, sending) sendings;

    /* The file. */
    enum file_state file;
    char path[4200];
    struct snapshot_meta meta;
    uint64_t pinned; /* 0: nothing */
    uint64_t digest;
    bool digest_known;
    uv_work_t make;
    uint64_t made_index;
    uint64_t make_at; /* not before */
    int made;
    char made_error[STATE_DB_ERROR_MAX];
};

static void on_wake(uv_async_t *wake)
{
    (void)wake; /* the end of this turn goes on streaming */
}

static peer_handler on_ack, on_wanted;

struct outgoing *outgoing_new(struct group *group)
{
    struct outgoing *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->group = group;
    TAILQ_INIT(&s->sendings);
    snprintf(s->path, sizeof s->path, "%s/" OUTGOING_NAME, group->dir);
    unlink(s->path);
    uv_async_init(group->owner->loop, &s->wake, on_wake);
    s->make.data = s;
    peer_handlers_enter(&group->handlers, PEER_SNAPSHOT_ACK, on_ack, s);
    peer_handlers_enter(&group->handlers, PEER_WANT_STATE, on_wanted, s);
    return s;
}

static void on_wake_closed(uv_handle_t *handle)
{
    struct outgoing *s = (struct outgoing *)((char *)handle - offsetof(struct outgoing, wake));

    free(s);
}

void outgoing_free(struct outgoing *s)
{
    if (s == NULL)
        return;
    while (!TAILQ_EMPTY(&s->sendings)) {
        struct sending *x = TAILQ_FIRST(&s->sendings);

        TAILQ_REMOVE(&s->sendings, x, link);
        snapshot_sender_free(x->sender);
        free(x);
    }
    unlink(s->path);
    snapshot_meta_deinit(&s->meta);
    uv_close((uv_handle_t *)&s->wake, on_wake_closed);
}

static bool is_due(const struct sending *x)
{
    return x->not_before_ms == 0 || clock_boot_ms() >= x->not_before_ms;
}

static bool is_file_wanted(const struct outgoing *s)
{
    const struct sending *x;

    TAILQ_FOREACH (x, &s->sendings, link)
        if (is_due(x))
            return true;
    return false;
}

static void file_drop(struct outgoing *s)
{
    if (s->pinned != 0)
        consensus_unpin_log(s->group->consensus, s->pinned);
    s->pinned = 0;
    s->digest_known = false;
    snapshot_meta_deinit(&s->meta);
    remove_file_later(s->group->owner->loop, s->path);
    s->file = FILE_NONE;
}

static void sending_end(struct outgoing *s, struct sending *x, bool sent)
{
    if (x->sender != NULL && snapshot_sender_digest(x->sender, &s->digest))
        s->digest_known = true;
    if (x->for_engine && sent)
        consensus_snapshot_sent(s->group->consensus, x->peer);
    else if (x->for_engine)
        consensus_snapshot_failed(s->group->consensus, x->peer);
    log_info("state for %s: %s", config_member_name(s->group->owner->config, x->peer),
             sent ? "delivered" : "given up");
    TAILQ_REMOVE(&s->sendings, x, link);
    snapshot_sender_free(x->sender);
    free(x);
    if (!is_file_wanted(s) && s->file == FILE_READY)
        file_drop(s);
}

/* To the engine it is still being sent, so that it does not ask again. */
static void sending_wait(struct outgoing *s, struct sending *x)
{
    log_warn("%s cannot take a state of this version (kvnode " KVFS_VERSION "): it has to be upgraded",
             config_member_name(s->group->owner->config, x->peer));
    snapshot_sender_free(x->sender);
    x->sender = NULL;
    x->not_before_ms = clock_boot_ms() + REFUSED_AGAIN_MS;
    if (!is_file_wanted(s) && s->file == FILE_READY)
        file_drop(s);
}

static void begin_stream(struct outgoing *s, struct sending *x)
{
    uint64_t id = 0;
    int fd = open(s->path, O_RDONLY | O_CLOEXEC);

    while (id == 0)
        if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id)
            id = clock_boot_ns();
    x->progress_ms = clock_boot_ms();
    if (fd < 0 || snapshot_sender_new(fd, id, consensus_term(s->group->consensus), &s->meta,
                                      s->digest_known ? &s->digest : NULL, &x->sender) != 0)
        x->sender = NULL;
    else
        log_info("state for %s: %llu bytes as of revision %llu",
                 config_member_name(s->group->owner->config, x->peer),
                 (unsigned long long)snapshot_sender_size(x->sender), (unsigned long long)s->meta.index);
}

static void on_make(uv_work_t *work) /* a worker */
{
    struct outgoing *s = work->data;
    uint64_t index, digest;

    s->made = state_db_snapshot(s->group->state_path, s->path, &s->made_index, s->made_error);
    /* Loading did not look at old versions; what is bad in them must not spread. */
    if (s->made == 0)
        s->made = state_db_verify(s->path, &index, &digest, s->made_error);
}

static void on_made(uv_work_t *work, int status)
{
    struct outgoing *s = work->data;
    struct consensus *c = s->group->consensus;
    struct sending *x, *next;
    bool ok = status == 0 && s->made == 0;

    if (!ok) {
        log_error("no state file for a peer: %s", status == 0 ? s->made_error : uv_strerror(status));
        s->make_at = clock_boot_ms() + MAKE_AGAIN_MS;
    }
    if (status == 0 && s->made == -EUCLEAN) {
        log_error("%s is damaged: another node shall lead and give its state. Stop this one, delete the file "
                  "and start again: it is fetched from another node",
                  s->group->state_path);
        consensus_transfer(c, 0);
    }
    if (ok && consensus_snapshot_meta(c, s->made_index, &s->meta) == KV_OK) {
        /* From here on the log behind the file itself is what has to stay. */
        uint64_t before = s->pinned;

        s->pinned = 0;
        if (consensus_pin_log(c, s->meta.index) == KV_OK)
            s->pinned = s->meta.index;
        if (before != 0)
            consensus_unpin_log(c, before);
        ok = s->pinned != 0;
    } else {
        ok = false;
    }
    if (!ok) {
        file_drop(s);
        for (x = TAILQ_FIRST(&s->sendings); x != NULL; x = next) {
            next = TAILQ_NEXT(x, link);
            sending_end(s, x, false);
        }
        return;
    }
    s->file = FILE_READY;
    for (x = TAILQ_FIRST(&s->sendings); x != NULL; x = next) {
        next = TAILQ_NEXT(x, link);
        if (!is_due(x))
            continue;
        begin_stream(s, x);
        if (x->sender == NULL)
            sending_end(s, x, false);
    }
    if (!is_file_wanted(s) && s->file == FILE_READY)
        file_drop(s);
}

/* At the end of the turn, outside of the engine's call. */
static void make_file(struct outgoing *s)
{
    uint64_t index = writeback_durable_index(s->group->writeback);

    if (consensus_pin_log(s->group->consensus, index) == KV_OK)
        s->pinned = index;
    remove_file_later(s->group->owner->loop, s->path);
    s->file = FILE_MAKING;
    if (uv_queue_work(s->group->owner->loop, &s->make, on_make, on_made) != 0)
        on_made(&s->make, UV_ENOMEM);
}

static void want(struct outgoing *s, uint64_t peer, bool for_engine)
{
    struct sending *x;

    TAILQ_FOREACH (x, &s->sendings, link) {
        if (x->peer == peer) {
            x->for_engine |= for_engine;
            return;
        }
    }
    x = calloc(1, sizeof *x);
    if (x == NULL)
        group_die("out of memory");
    x->peer = peer;
    x->for_engine = for_engine;
    x->progress_ms = clock_boot_ms();
    TAILQ_INSERT_TAIL(&s->sendings, x, link);
    uv_async_send(&s->wake);
}

void outgoing_send(struct outgoing *s, uint64_t peer)
{
    want(s, peer, true);
}

/* The peer asks for a file by itself, because its own is damaged. */
static int on_wanted(void *arg, uint64_t peer, const struct frame *frame)
{
    struct outgoing *s = arg;

    (void)frame;
    if (consensus_is_leader(s->group->consensus))
        want(s, peer, false);
    return 0;
}

/* At least one step. */
static bool stream_on(struct outgoing *s, struct sending *x, uint64_t until_ns)
{
    struct group *g = s->group;
    const struct peer_links *links = g->owner->links;
    struct buffer piece = BUFFER_INIT;
    bool again = false, first = true;

    while (links->up(links->arg, x->peer) && links->pending(links->arg, x->peer) < LINK_FILL) {
        struct buffer *out;
        int rv;

        if (!first && turn_time_is_up(until_ns)) {
            again = true;
            break;
        }
        first = false;
        buffer_clear(&piece);
        rv = snapshot_sender_step(x->sender, &piece);
        if (rv == SNAPSHOT_MESSAGE) {
            out = links->begin(links->arg, g->number, x->peer, PEER_SNAPSHOT, 0);
            if (out == NULL)
                break;
            buffer_put_bytes(out, piece.data, piece.len);
            links->end(links->arg, x->peer);
        } else if (rv == SNAPSHOT_WAIT) {
            break;
        } else if (rv == -EREMOTEIO && snapshot_sender_refusal(x->sender) == KV_E_NOTSUP) {
            sending_wait(s, x);
            break;
        } else if (rv != SNAPSHOT_AGAIN) {
            if (rv < 0)
                log_error("state for %s: %s", config_member_name(g->owner->config, x->peer), strerror(-rv));
            sending_end(s, x, rv == SNAPSHOT_DONE);
            break;
        }
    }
    buffer_deinit(&piece);
    return again;
}

void outgoing_turn_end(struct outgoing *s)
{
    uint64_t now = clock_boot_ms(), until_ns = clock_boot_ns() + TURN_STATE_NS;
    struct sending *x, *next;
    bool again = false;

    if (TAILQ_EMPTY(&s->sendings))
        return;
    if (s->file == FILE_NONE && s->group->writeback != NULL && now >= s->make_at && is_file_wanted(s))
        make_file(s);
    for (x = TAILQ_FIRST(&s->sendings); x != NULL; x = next) {
        next = TAILQ_NEXT(x, link);
        if (x->sender == NULL) {
            if (!is_due(x) && !consensus_is_leader(s->group->consensus)) {
                sending_end(s, x, false);
                continue;
            }
            /* A laggard that came while the file was being streamed to another. */
            if (s->file != FILE_READY || !is_due(x))
                continue;
            begin_stream(s, x);
            if (x->sender == NULL) {
                sending_end(s, x, false);
                continue;
            }
        }
        if (snapshot_sender_acked(x->sender) != x->acked) {
            x->acked = snapshot_sender_acked(x->sender);
            x->progress_ms = now;
        }
        if (!consensus_is_leader(s->group->consensus) || now - x->progress_ms > STALL_MS)
            sending_end(s, x, false);
        else
            again |= stream_on(s, x, until_ns);
    }
    if (again)
        uv_async_send(&s->wake);
}

static int on_ack(void *arg, uint64_t peer, const struct frame *frame)
{
    struct outgoing *s = arg;
    struct sending *x;

    TAILQ_FOREACH (x, &s->sendings, link) {
        if (x->peer == peer && x->sender != NULL)
            return snapshot_sender_receive(x->sender, frame->payload, frame->len);
    }
    return 0; /* of a transfer that was given up */
}

void outgoing_linked(struct outgoing *s, uint64_t peer)
{
    struct sending *x;

    TAILQ_FOREACH (x, &s->sendings, link) {
        if (x->peer == peer)
            x->not_before_ms = 0; /* it may have been upgraded */
        if (x->peer == peer && x->sender != NULL)
            snapshot_sender_restart(x->sender);
    }
}

bool outgoing_busy(const struct outgoing *s)
{
    return s->file == FILE_MAKING;
}
