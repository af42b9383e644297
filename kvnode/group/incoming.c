#include "kvnode/group/incoming.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/group/group.h"
#include "kvnode/group/install_meta.h"
#include "kvnode/loop/remove.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"
#include "sync/raft/transfer/snapshot_message.h"
#include "sync/raft/transfer/snapshot_transfer.h"

#define INCOMING_NAME "state.db.incoming"
/* How often it is said that a file was refused. */
#define REFUSED_TELL_MS 60000

enum incoming_state {
    INCOMING_STREAM,     /* nothing comes, or pieces do */
    INCOMING_SYNCING,    /* all is there; a worker makes it durable */
    INCOMING_TO_REPLACE, /* the end of this turn begins to install it, */
    INCOMING_TO_HEAL,    /* or this, which leaves the log alone */
    INCOMING_INSTALLING, /* a worker puts it in force; the group is REPLACING or HEALING */
};
#define INCOMING_STATES (INCOMING_INSTALLING + 1)

/* allowed[from][to]; the picture is in incoming.h. */
static const bool allowed[INCOMING_STATES][INCOMING_STATES] = {
    [INCOMING_STREAM] = {[INCOMING_SYNCING] = true, [INCOMING_TO_REPLACE] = true, [INCOMING_TO_HEAL] = true},
    [INCOMING_SYNCING] = {[INCOMING_STREAM] = true},
    [INCOMING_TO_REPLACE] = {[INCOMING_INSTALLING] = true},
    [INCOMING_TO_HEAL] = {[INCOMING_INSTALLING] = true, [INCOMING_STREAM] = true},
    [INCOMING_INSTALLING] = {[INCOMING_STREAM] = true},
};

struct incoming {
    struct group *group; /* borrowed */
    uv_async_t wake;     /* the end of a turn is needed */
    enum incoming_state state;

    struct snapshot_receiver *receiver; /* owned */
    char path[4200];
    uint64_t from;
    uint64_t seen;      /* bytes that were there at the last look */
    struct buffer held; /* the BEGIN of a transfer that came meanwhile: its sender waits for an answer */
    uint64_t held_from;
    uint32_t refused; /* format of the last file, 0: it was not refused */
    uint64_t refused_told_ms;

    struct state_owner owner; /* of the file that is put in force */
    struct snapshot_meta install_meta;
    struct dropped dropped; /* the state of before, until the worker has freed it */
    uv_work_t work;
    int worked;
    char work_error[STATE_DB_ERROR_MAX];
    struct journal *new_journal;
    struct store *new_store;
    struct writeback *new_writeback;
};

static void move(struct incoming *s, enum incoming_state to)
{
    assert(allowed[s->state][to]);
    s->state = to;
}

static void on_wake(uv_async_t *wake)
{
    (void)wake; /* the end of this turn begins the install */
}

static peer_handler on_piece;

struct incoming *incoming_new(struct group *group)
{
    struct incoming *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->group = group;
    snprintf(s->path, sizeof s->path, "%s/" INCOMING_NAME, group->dir);
    if (snapshot_receiver_new(s->path, &s->receiver) != 0) {
        free(s);
        return NULL;
    }
    uv_async_init(group->owner->loop, &s->wake, on_wake);
    s->work.data = s;
    peer_handlers_enter(&group->handlers, PEER_SNAPSHOT, on_piece, s);
    return s;
}

static void on_wake_closed(uv_handle_t *handle)
{
    struct incoming *s = (struct incoming *)((char *)handle - offsetof(struct incoming, wake));

    free(s);
}

void incoming_free(struct incoming *s)
{
    if (s == NULL)
        return;
    snapshot_receiver_free(s->receiver);
    buffer_deinit(&s->held);
    snapshot_meta_deinit(&s->install_meta);
    writeback_free(s->dropped.writeback, false, 0);
    writeback_free(s->new_writeback, false, 0);
    uv_close((uv_handle_t *)&s->wake, on_wake_closed);
}

static void note(struct incoming *s, enum incoming_state to, const struct snapshot_meta *meta)
{
    move(s, to);
    snapshot_meta_deinit(&s->install_meta);
    snapshot_meta_copy(meta, &s->install_meta);
    uv_async_send(&s->wake);
}

static void reply(struct incoming *s, uint64_t peer, const struct buffer *bytes)
{
    const struct peer_links *links = s->group->owner->links;
    struct buffer *out;

    if (bytes->len == 0)
        return;
    out = links->begin(links->arg, s->group->number, peer, PEER_SNAPSHOT_ACK, 0);
    if (out == NULL)
        return;
    buffer_put_bytes(out, bytes->data, bytes->len);
    links->end(links->arg, peer);
}

static void on_sync(uv_work_t *work) /* a worker */
{
    struct incoming *s = work->data;

    s->worked = snapshot_receiver_sync(s->receiver);
}

static int receive(struct incoming *s, uint64_t peer, const void *data, size_t len);

/* The last transfer is over: the one that came meanwhile begins. */
static void take_held(struct incoming *s)
{
    struct buffer held = s->held;

    if (s->state != INCOMING_STREAM || held.len == 0)
        return;
    s->held = (struct buffer)BUFFER_INIT;
    receive(s, s->held_from, held.data, held.len);
    buffer_deinit(&held);
}

/* What the log has begins at the latest right behind the state: else the state
 * could not be brought up to date, now or after a crash. */
static bool log_follows(const struct incoming *s, const struct snapshot_meta *meta)
{
    return consensus_first(s->group->consensus) <= meta->index + 1;
}

static void on_synced(uv_work_t *work, int status)
{
    struct incoming *s = work->data;
    struct buffer answer = BUFFER_INIT;
    const struct snapshot_meta *meta;
    uint64_t term;

    move(s, INCOMING_STREAM);
    if (status != 0 || s->worked != 0) {
        log_error("%s: %s; it will be sent again", s->path, strerror(status != 0 ? EIO : -s->worked));
        snapshot_receiver_drop(s->receiver);
        take_held(s);
        return;
    }
    meta = snapshot_receiver_meta(s->receiver, &term);
    /* A state beyond the log's end must not come without a log that follows it: the
     * engine installs it then as for any laggard. */
    if (condition_asks(s->group->condition) && !log_follows(s, meta)) {
        remove_file_later(s->group->owner->loop, s->path); /* a newer one is asked for */
    } else if (condition_asks(s->group->condition) && consensus_applied(s->group->consensus) >= meta->index) {
        note(s, INCOMING_TO_HEAL, meta);
    } else if (!consensus_snapshot_received(s->group->consensus, s->from, term, meta)) {
        remove_file_later(s->group->owner->loop, s->path); /* not needed after all */
    }
    snapshot_receiver_finish(s->receiver, &answer);
    reply(s, s->from, &answer);
    buffer_deinit(&answer);
    take_held(s);
}

/* Only the beginning of a transfer comes unasked; all else is of one that was given up. */
static void hold(struct incoming *s, uint64_t peer, const void *data, size_t len)
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

/* The first piece shows the format. A node that took such a file could not load it; it goes on as it is,
 * and asks again when it has been upgraded. */
static bool refuse_newer(struct incoming *s, uint64_t peer, const void *data, size_t len)
{
    struct snapshot_message m, no = {.type = SNAPSHOT_REFUSED, .reason = KV_E_NOTSUP};
    struct buffer answer = BUFFER_INIT;
    uint64_t now = clock_boot_ms();

    if (snapshot_message_decode(data, len, &m) != 0)
        return false;
    snapshot_meta_deinit(&m.meta);
    if (m.type != SNAPSHOT_CHUNK || m.offset != 0)
        return false;
    if (!state_db_is_newer(m.data, m.len, &s->refused)) {
        s->refused = 0;
        return false;
    }
    if (s->refused_told_ms == 0 || now - s->refused_told_ms > REFUSED_TELL_MS) {
        log_warn(
            "the state that %s sends has format %u, this program knows up to %d: it is refused, and this "
            "node waits until it is upgraded",
            config_member_name(s->group->owner->config, peer), s->refused, STATE_DB_USER_VERSION);
        s->refused_told_ms = now;
    }
    snapshot_receiver_drop(s->receiver);
    no.id = m.id;
    snapshot_message_encode(&no, &answer);
    reply(s, peer, &answer);
    buffer_deinit(&answer);
    return true;
}

static int receive(struct incoming *s, uint64_t peer, const void *data, size_t len)
{
    struct buffer answer = BUFFER_INIT;
    int rv;

    if (s->state != INCOMING_STREAM) {
        hold(s, peer, data, len);
        return 0;
    }
    if (refuse_newer(s, peer, data, len))
        return 0;
    s->from = peer;
    rv = snapshot_receiver_receive(s->receiver, data, len, &answer);
    reply(s, peer, &answer);
    buffer_deinit(&answer);
    if (rv != 0 && rv != KV_E_PROTOCOL)
        log_error("%s: %s", s->path, rv < 0 ? strerror(-rv) : error_text(rv));
    if (snapshot_receiver_state(s->receiver) == SNAPSHOT_RECEIVER_VERIFIED) {
        move(s, INCOMING_SYNCING);
        if (uv_queue_work(s->group->owner->loop, &s->work, on_sync, on_synced) != 0) {
            move(s, INCOMING_STREAM);
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
void incoming_install(struct incoming *s, const struct snapshot_meta *meta)
{
    note(s, INCOMING_TO_REPLACE, meta);
}

static void on_install(uv_work_t *work) /* a worker */
{
    struct incoming *s = work->data;
    uint64_t index;

    dropped_free(&s->dropped);
    s->worked = state_db_claim(s->path, &s->owner, s->work_error);
    if (s->worked == 0)
        s->worked = state_db_install(s->group->dir, s->path, &index, s->work_error);
    if (s->worked == 0)
        s->worked = state_db_load(s->group->state_path, s->new_store, s->work_error);
    if (s->worked == 0)
        s->worked = group_start_writeback(s->group, &s->owner, s->new_journal, s->new_store,
                                          &s->new_writeback, s->work_error);
}

static void on_installed(uv_work_t *work, int status)
{
    struct incoming *s = work->data;
    struct group *g = s->group;
    uint64_t since = clock_boot_ns();
    bool healed;

    if (status != 0 || s->worked != 0) {
        log_error("installing a state file: %s", s->work_error);
        group_die(
            s->worked == -EPROTO
                ? "the state that a peer sent is of a newer version of kvnode: start this node with that one"
                : "the state that a peer sent cannot be put in force; the next start asks for it again");
    }
    log_info("state as of revision %llu installed", (unsigned long long)store_applied(s->new_store));
    healed = g->condition == CONDITION_HEALING;
    group_store_replace(g, s->new_journal, s->new_store, s->new_writeback);
    s->new_writeback = NULL;
    s->new_journal = NULL;
    s->new_store = NULL;
    move(s, INCOMING_STREAM);
    s->group->heal.pause_ms = 0;
    if (healed)
        group_healed(g);
    else
        consensus_reset_log(g->consensus, &s->install_meta);
    snapshot_meta_deinit(&s->install_meta);
    take_held(s);
    turn_part(g->owner->turn, since, "an installed state", "", 0);
}

static void install_begin(struct incoming *s)
{
    struct group *g = s->group;
    uint64_t since = clock_boot_ns();
    bool heals = s->state == INCOMING_TO_HEAL;

    /* The log may have been trimmed since the file came; from here on it is not. */
    if (heals && (!log_follows(s, &s->install_meta) || !condition_asks(g->condition))) {
        remove_file_later(g->owner->loop, s->path);
        move(s, INCOMING_STREAM);
        snapshot_meta_deinit(&s->install_meta);
        take_held(s);
        return;
    }
    move(s, INCOMING_INSTALLING);
    /* A healed state leaves the log alone, so nothing has to be completed later. */
    if ((!heals && install_meta_write(g->dir, &s->install_meta) != 0) ||
        group_store_new(g, &s->new_journal, &s->new_store) != 0)
        group_die("a state file cannot be installed: no space or memory");
    turn_waited(g->owner->turn, since); /* the meta is durable */
    s->owner = group_state_owner(g);
    group_store_drop(g, heals ? CONDITION_HEALING : CONDITION_REPLACING, &s->dropped);
    if (uv_queue_work(g->owner->loop, &s->work, on_install, on_installed) != 0)
        group_die("a state file cannot be installed: no thread");
}

bool incoming_moves(struct incoming *s)
{
    uint64_t size, received = snapshot_receiver_received(s->receiver, &size);

    if (s->state != INCOMING_STREAM || snapshot_receiver_state(s->receiver) == SNAPSHOT_RECEIVER_IDLE ||
        received == s->seen)
        return false;
    s->seen = received;
    return true;
}

bool incoming_is_there(const struct incoming *s)
{
    return s->state != INCOMING_STREAM;
}

bool incoming_refused(const struct incoming *s, uint32_t *format_out)
{
    *format_out = s->refused;
    return s->refused != 0;
}

bool incoming_busy(const struct incoming *s)
{
    return s->state == INCOMING_SYNCING || s->state == INCOMING_INSTALLING;
}

void incoming_turn_end(struct incoming *s)
{
    if (s->state == INCOMING_TO_REPLACE || s->state == INCOMING_TO_HEAL)
        install_begin(s);
}
