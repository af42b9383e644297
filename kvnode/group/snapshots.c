#include "kvnode/group/snapshots.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvnode/group/events.h"
#include "kvnode/group/group.h"
#include "kvnode/group/reads.h"
#include "kvnode/group/writes.h"
#include "kvnode/loop/turn.h"
#include "sync/base/clock.h"
#include "sync/base/digest.h"
#include "sync/base/disk.h"
#include "sync/base/error.h"
#include "sync/base/log.h"
#include "sync/raft/transfer/snapshot_message.h"
#include "sync/raft/transfer/snapshot_transfer.h"

/* The meta of an install under way: written before state.db is replaced, read at
 * start-up to reset a log that had no time to be. */
#define META_NAME "install.meta"
#define INCOMING_NAME "state.db.incoming"
#define OUTGOING_NAME "state.db.outgoing"
/* Stream on while less than this waits on the link, so that other frames pass. */
#define LINK_FILL (1024 * 1024)
/* A transfer without an acknowledgement for so long is given up. */
#define STALL_MS 30000
/* After a file could not be made. */
#define MAKE_AGAIN_MS 5000

struct sending {
    uint64_t peer;
    bool for_engine;                /* the engine waits to hear how it ended */
    struct snapshot_sender *sender; /* owned; NULL: waits for the file */
    uint64_t acked, progress_ms;
    TAILQ_ENTRY(sending) link;
};

enum file_state { FILE_NONE, FILE_MAKING, FILE_READY };
enum receive_state { RECEIVE_STREAM, RECEIVE_SYNCING, RECEIVE_INSTALLING };

struct snapshots {
    struct group *group; /* borrowed */
    uv_async_t wake;     /* work is left for another turn */

    /* The outgoing file. */
    TAILQ_HEAD(, sending) sendings;
    enum file_state file;
    char out_path[4200];
    struct snapshot_meta meta;
    uint64_t pinned; /* 0: nothing */
    uint64_t digest;
    bool digest_known;
    uv_work_t make;
    uint64_t made_index;
    uint64_t make_at; /* not before */
    int made;
    char made_error[STATE_DB_ERROR_MAX];

    /* The incoming file. */
    struct snapshot_receiver *receiver;
    struct state_owner owner; /* of the file that is put in force */
    char in_path[4200];
    uint64_t from;
    enum receive_state receiving;
    struct buffer held; /* the BEGIN of a transfer that came meanwhile: its sender waits for an answer */
    uint64_t held_from;
    bool install_wanted;
    bool behind_engine; /* the install heals state.db, and the log reaches beyond it: it is left alone */
    struct snapshot_meta install_meta;
    struct dropped dropped; /* the state of before, until the worker has freed it */
    uv_work_t work;
    int worked;
    char work_error[STATE_DB_ERROR_MAX];
    struct journal *new_journal;
    struct store *new_store;
    struct writeback *new_writeback;
};

static void on_wake(uv_async_t *wake)
{
    (void)wake; /* the end of this turn goes on streaming */
}

static peer_handler on_piece, on_ack, on_wanted;

struct snapshots *snapshots_new(struct group *group)
{
    struct snapshots *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->group = group;
    TAILQ_INIT(&s->sendings);
    snprintf(s->out_path, sizeof s->out_path, "%s/" OUTGOING_NAME, group->dir);
    snprintf(s->in_path, sizeof s->in_path, "%s/" INCOMING_NAME, group->dir);
    unlink(s->out_path);
    if (snapshot_receiver_new(s->in_path, &s->receiver) != 0) {
        free(s);
        return NULL;
    }
    uv_async_init(group->owner->loop, &s->wake, on_wake);
    s->make.data = s->work.data = s;
    peer_handlers_enter(&group->handlers, PEER_SNAPSHOT, on_piece, s);
    peer_handlers_enter(&group->handlers, PEER_SNAPSHOT_ACK, on_ack, s);
    peer_handlers_enter(&group->handlers, PEER_WANT_STATE, on_wanted, s);
    return s;
}

static void on_wake_closed(uv_handle_t *handle)
{
    struct snapshots *s = (struct snapshots *)((char *)handle - offsetof(struct snapshots, wake));

    free(s);
}

void snapshots_free(struct snapshots *s)
{
    if (s == NULL)
        return;
    while (!TAILQ_EMPTY(&s->sendings)) {
        struct sending *x = TAILQ_FIRST(&s->sendings);

        TAILQ_REMOVE(&s->sendings, x, link);
        snapshot_sender_free(x->sender);
        free(x);
    }
    unlink(s->out_path);
    snapshot_receiver_free(s->receiver);
    buffer_deinit(&s->held);
    snapshot_meta_deinit(&s->meta);
    snapshot_meta_deinit(&s->install_meta);
    writeback_free(s->dropped.writeback, false, 0);
    writeback_free(s->new_writeback, false, 0);
    uv_close((uv_handle_t *)&s->wake, on_wake_closed);
}

/* A file that is not needed any more: what it takes on the disk is given back by a worker, as that
 * takes ten milliseconds for some hundred MiB. */
struct last_close {
    uv_work_t work;
    int fd;
};

static void on_last_close(uv_work_t *work) /* a worker */
{
    struct last_close *x = work->data;

    close(x->fd);
}

static void on_last_closed(uv_work_t *work, int status)
{
    free(work->data);
}

static void remove_file(struct snapshots *s, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct last_close *x = fd >= 0 ? malloc(sizeof *x) : NULL;

    unlink(path);
    if (x != NULL) {
        *x = (struct last_close){.work.data = x, .fd = fd};
        if (uv_queue_work(s->group->owner->loop, &x->work, on_last_close, on_last_closed) == 0)
            return;
    }
    free(x);
    if (fd >= 0)
        close(fd);
}

/* ---- sending ---- */

static void file_drop(struct snapshots *s)
{
    if (s->pinned != 0)
        consensus_unpin_log(s->group->consensus, s->pinned);
    s->pinned = 0;
    s->digest_known = false;
    snapshot_meta_deinit(&s->meta);
    remove_file(s, s->out_path);
    s->file = FILE_NONE;
}

static void sending_end(struct snapshots *s, struct sending *x, bool sent)
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
    if (TAILQ_EMPTY(&s->sendings) && s->file == FILE_READY)
        file_drop(s);
}

static void begin_stream(struct snapshots *s, struct sending *x)
{
    uint64_t id = 0;
    int fd = open(s->out_path, O_RDONLY | O_CLOEXEC);

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
    struct snapshots *s = work->data;
    uint64_t index, digest;

    s->made = state_db_snapshot(s->group->state_path, s->out_path, &s->made_index, s->made_error);
    /* Loading did not look at old versions; what is bad in them must not spread. */
    if (s->made == 0)
        s->made = state_db_verify(s->out_path, &index, &digest, s->made_error);
}

static void on_made(uv_work_t *work, int status)
{
    struct snapshots *s = work->data;
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
        begin_stream(s, x);
        if (x->sender == NULL)
            sending_end(s, x, false);
    }
    if (TAILQ_EMPTY(&s->sendings) && s->file == FILE_READY)
        file_drop(s);
}

/* At the end of the turn, outside of the engine's call. */
static void make_file(struct snapshots *s)
{
    uint64_t index = writeback_durable_index(s->group->writeback);

    if (consensus_pin_log(s->group->consensus, index) == KV_OK)
        s->pinned = index;
    remove_file(s, s->out_path);
    s->file = FILE_MAKING;
    if (uv_queue_work(s->group->owner->loop, &s->make, on_make, on_made) != 0)
        on_made(&s->make, UV_ENOMEM);
}

static void want(struct snapshots *s, uint64_t peer, bool for_engine)
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

void snapshots_send(struct snapshots *s, uint64_t peer)
{
    want(s, peer, true);
}

/* The peer asks for a file by itself, because its own is damaged. */
static int on_wanted(void *arg, uint64_t peer, const struct frame *frame)
{
    struct snapshots *s = arg;

    (void)frame;
    if (consensus_is_leader(s->group->consensus))
        want(s, peer, false);
    return 0;
}

/* At least one step. */
static bool stream_on(struct snapshots *s, struct sending *x, uint64_t until_ns)
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
            out = links->begin(links->arg, x->peer, PEER_SNAPSHOT, 0);
            if (out == NULL)
                break;
            buffer_put_bytes(out, piece.data, piece.len);
            links->end(links->arg, x->peer);
        } else if (rv == SNAPSHOT_WAIT) {
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

static void install_begin(struct snapshots *s);

void snapshots_turn_end(struct snapshots *s)
{
    uint64_t now = clock_boot_ms(), until_ns = clock_boot_ns() + TURN_STATE_NS;
    struct sending *x, *next;
    bool again = false;

    if (s->install_wanted && s->receiving == RECEIVE_STREAM)
        install_begin(s);
    if (TAILQ_EMPTY(&s->sendings))
        return;
    if (s->file == FILE_NONE && s->group->writeback != NULL && now >= s->make_at)
        make_file(s);
    for (x = TAILQ_FIRST(&s->sendings); x != NULL; x = next) {
        next = TAILQ_NEXT(x, link);
        if (x->sender == NULL) {
            /* A laggard that came while the file was being streamed to another. */
            if (s->file != FILE_READY)
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
    struct snapshots *s = arg;
    struct sending *x;

    TAILQ_FOREACH (x, &s->sendings, link) {
        if (x->peer == peer && x->sender != NULL)
            return snapshot_sender_receive(x->sender, frame->payload, frame->len);
    }
    return 0; /* of a transfer that was given up */
}

void snapshots_linked(struct snapshots *s, uint64_t peer)
{
    struct sending *x;

    TAILQ_FOREACH (x, &s->sendings, link) {
        if (x->peer == peer && x->sender != NULL)
            snapshot_sender_restart(x->sender);
    }
}

bool snapshots_busy(const struct snapshots *s)
{
    return s->file == FILE_MAKING || s->receiving != RECEIVE_STREAM;
}

/* ---- receiving ---- */

static void reply(struct snapshots *s, uint64_t peer, const struct buffer *bytes)
{
    const struct peer_links *links = s->group->owner->links;
    struct buffer *out;

    if (bytes->len == 0)
        return;
    out = links->begin(links->arg, peer, PEER_SNAPSHOT_ACK, 0);
    if (out == NULL)
        return;
    buffer_put_bytes(out, bytes->data, bytes->len);
    links->end(links->arg, peer);
}

static void on_sync(uv_work_t *work) /* a worker */
{
    struct snapshots *s = work->data;

    s->worked = snapshot_receiver_sync(s->receiver);
}

static int receive(struct snapshots *s, uint64_t peer, const void *data, size_t len);

/* The last transfer is over: the one that came meanwhile begins. */
static void take_held(struct snapshots *s)
{
    struct buffer held = s->held;

    if (s->receiving != RECEIVE_STREAM || s->install_wanted || held.len == 0)
        return;
    s->held = (struct buffer)BUFFER_INIT;
    receive(s, s->held_from, held.data, held.len);
    buffer_deinit(&held);
}

/* What the log has begins at the latest right behind the state: else the state
 * could not be brought up to date, now or after a crash. */
static bool log_follows(const struct snapshots *s, const struct snapshot_meta *meta)
{
    return consensus_first(s->group->consensus) <= meta->index + 1;
}

static void on_synced(uv_work_t *work, int status)
{
    struct snapshots *s = work->data;
    struct buffer answer = BUFFER_INIT;
    const struct snapshot_meta *meta;
    uint64_t term;

    s->receiving = RECEIVE_STREAM;
    if (status != 0 || s->worked != 0) {
        log_error("%s: %s; it will be sent again", s->in_path, strerror(status != 0 ? EIO : -s->worked));
        snapshot_receiver_drop(s->receiver);
        take_held(s);
        return;
    }
    meta = snapshot_receiver_meta(s->receiver, &term);
    /* A state beyond the log's end must not come without a log that follows it: the
     * engine installs it then as for any laggard. */
    if ((s->group->healing || s->group->mending) && !log_follows(s, meta)) {
        remove_file(s, s->in_path); /* a newer one is asked for */
    } else if ((s->group->healing || s->group->mending) &&
               consensus_applied(s->group->consensus) >= meta->index) {
        snapshots_install(s, meta);
        s->behind_engine = true;
    } else if (!consensus_snapshot_received(s->group->consensus, s->from, term, meta)) {
        remove_file(s, s->in_path); /* not needed after all */
    }
    snapshot_receiver_finish(s->receiver, &answer);
    reply(s, s->from, &answer);
    buffer_deinit(&answer);
    take_held(s);
}

/* Only the beginning of a transfer comes unasked; all else is of one that was given up. */
static void hold(struct snapshots *s, uint64_t peer, const void *data, size_t len)
{
    struct snapshot_message m;

    if (snapshot_message_decode(data, len, &m) != 0)
        return;
    if (m.type == SNAPSHOT_BEGIN) {
        buffer_clear(&s->held);
        buffer_put_bytes(&s->held, data, len);
        s->held_from = peer;
    }
    snapshot_meta_deinit(&m.meta);
}

static int receive(struct snapshots *s, uint64_t peer, const void *data, size_t len)
{
    struct buffer answer = BUFFER_INIT;
    int rv;

    if (s->receiving != RECEIVE_STREAM || s->install_wanted) {
        hold(s, peer, data, len);
        return 0;
    }
    s->from = peer;
    rv = snapshot_receiver_receive(s->receiver, data, len, &answer);
    reply(s, peer, &answer);
    buffer_deinit(&answer);
    if (rv != 0 && rv != KV_E_PROTOCOL)
        log_error("%s: %s", s->in_path, rv < 0 ? strerror(-rv) : error_text(rv));
    if (snapshot_receiver_state(s->receiver) == SNAPSHOT_RECEIVER_VERIFIED) {
        s->receiving = RECEIVE_SYNCING;
        if (uv_queue_work(s->group->owner->loop, &s->work, on_sync, on_synced) != 0) {
            s->receiving = RECEIVE_STREAM;
            snapshot_receiver_drop(s->receiver);
        }
    }
    return rv == KV_E_PROTOCOL ? rv : 0;
}

static int on_piece(void *arg, uint64_t peer, const struct frame *frame)
{
    return receive(arg, peer, frame->payload, frame->len);
}

/* ---- installing ---- */

/* Called from inside the engine: only noted here. */
void snapshots_install(struct snapshots *s, const struct snapshot_meta *meta)
{
    snapshot_meta_deinit(&s->install_meta);
    snapshot_meta_copy(meta, &s->install_meta);
    s->install_wanted = true;
    s->behind_engine = false;
    uv_async_send(&s->wake);
}

static int write_meta(const char *dir, const struct snapshot_meta *meta)
{
    char path[4200], temp[4300];
    struct buffer b = BUFFER_INIT;
    int fd, rv = -EIO;

    snprintf(path, sizeof path, "%s/" META_NAME, dir);
    snprintf(temp, sizeof temp, "%s.new", path);
    snapshot_meta_encode(meta, &b);
    buffer_put_u64(&b, digest64(0, b.data, b.len));
    fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd >= 0) {
        if (!b.failed && write(fd, b.data, b.len) == (ssize_t)b.len && fsync(fd) == 0)
            rv = 0;
        close(fd);
    }
    buffer_deinit(&b);
    if (rv == 0 && rename(temp, path) != 0)
        rv = -errno;
    return rv == 0 ? disk_sync_name(path) : rv;
}

static void on_install(uv_work_t *work) /* a worker */
{
    struct snapshots *s = work->data;
    uint64_t index;

    dropped_free(&s->dropped);
    s->worked = state_db_claim(s->in_path, &s->owner, s->work_error);
    if (s->worked == 0)
        s->worked = state_db_install(s->group->dir, s->in_path, &index, s->work_error);
    if (s->worked == 0)
        s->worked = state_db_load(s->group->state_path, s->new_store, s->work_error);
    if (s->worked == 0)
        s->worked = group_start_writeback(s->group, &s->owner, s->new_journal, s->new_store,
                                          &s->new_writeback, s->work_error);
}

static void on_installed(uv_work_t *work, int status)
{
    struct snapshots *s = work->data;
    struct group *g = s->group;
    uint64_t since = clock_boot_ns();

    if (status != 0 || s->worked != 0) {
        log_error("installing a state file: %s", s->work_error);
        group_die(
            s->worked == -EPROTO
                ? "the state that a peer sent is of a newer version of kvnode: start this node with that one"
                : "the state that a peer sent cannot be put in force; the next start asks for it again");
    }
    log_info("state as of revision %llu installed", (unsigned long long)store_applied(s->new_store));
    group_store_replace(g, s->new_journal, s->new_store, s->new_writeback);
    s->new_writeback = NULL;
    s->new_journal = NULL;
    s->new_store = NULL;
    s->receiving = RECEIVE_STREAM;
    s->install_wanted = false;
    s->group->heal.pause_ms = 0;
    if (s->behind_engine) {
        group_healed(g);
    } else {
        g->healing = g->stateless = false;
        consensus_reset_log(g->consensus, &s->install_meta);
    }
    snapshot_meta_deinit(&s->install_meta);
    take_held(s);
    turn_part(g->owner->turn, since, "an installed state", "", 0);
}

static void install_begin(struct snapshots *s)
{
    struct group *g = s->group;
    uint64_t since = clock_boot_ns();

    /* The log may have been trimmed since the file came; from here on it is not. */
    if (s->behind_engine && !log_follows(s, &s->install_meta)) {
        remove_file(s, s->in_path);
        s->install_wanted = false;
        snapshot_meta_deinit(&s->install_meta);
        take_held(s);
        return;
    }
    s->receiving = RECEIVE_INSTALLING;
    /* A healed state leaves the log alone, so nothing has to be completed later. */
    if ((!s->behind_engine && write_meta(g->dir, &s->install_meta) != 0) ||
        group_store_new(g, &s->new_journal, &s->new_store) != 0)
        group_die("a state file cannot be installed: no space or memory");
    turn_waited(g->owner->turn, since); /* the meta is durable */
    if (s->behind_engine)
        g->healing = true; /* mending: from here on it is the same */
    s->owner = group_state_owner(g);
    group_store_drop(g, &s->dropped);
    if (uv_queue_work(g->owner->loop, &s->work, on_install, on_installed) != 0)
        group_die("a state file cannot be installed: no thread");
}

enum snapshots_incoming snapshots_incoming(const struct snapshots *s, uint64_t *received_out)
{
    uint64_t size;

    *received_out = snapshot_receiver_received(s->receiver, &size);
    if (s->install_wanted || s->receiving != RECEIVE_STREAM)
        return SNAPSHOTS_INSTALLING;
    return snapshot_receiver_state(s->receiver) == SNAPSHOT_RECEIVER_IDLE ? SNAPSHOTS_NONE : SNAPSHOTS_COMING;
}

int snapshots_recover(const char *group_dir, uint64_t applied, struct snapshot_meta *meta_out)
{
    char path[4200];
    static uint8_t bytes[16384]; /* a configuration has up to 9 KiB */
    struct cursor c;
    ssize_t n;
    int fd, rv;

    snprintf(path, sizeof path, "%s/" META_NAME, group_dir);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    n = read(fd, bytes, sizeof bytes);
    rv = n < 0 ? -errno : 0;
    close(fd);
    if (rv != 0) /* unreadable is not absent: the log might still be the old one */
        return rv;
    if (n < 8) /* cut off while it was written: state.db has not been replaced yet */
        return 0;
    c = cursor_of(bytes + n - 8, 8);
    if (digest64(0, bytes, (size_t)n - 8) != cursor_u64(&c))
        return 0;
    c = cursor_of(bytes, (size_t)n - 8);
    rv = snapshot_meta_decode(&c, meta_out);
    if (rv != 0)
        return rv < 0 ? rv : 0;
    if (applied == meta_out->index)
        return 1;
    snapshot_meta_deinit(meta_out);
    return 0;
}

void snapshots_installed(const char *group_dir)
{
    char path[4200];

    snprintf(path, sizeof path, "%s/" META_NAME, group_dir);
    unlink(path);
}
