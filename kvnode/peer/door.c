#include "kvnode/peer/door.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "kvnode/config/data_dir.h"
#include "kvnode/group/group.h"
#include "sync/base/clock.h"
#include "sync/base/disk.h"
#include "sync/base/error.h"
#include "sync/base/log.h"
#include "sync/raft/engine/configuration.h"
#include "sync/raft/engine/incarnation.h"
#include "sync/wire/peer_frame.h"

#define NOTE_VERSION 3
#define NOTE_FOUNDER 1
#define NOTE_CONTRADICTED 2
/* What a peer has applied since may be told again after a crash: no fsync for its sake. */
#define NOTE_EVERY_MS 1000
#define OFFER_EVERY_MS 1000
#define LEAVE_EVERY_MS 2000

/* A peer as it is linked now. */
struct guest {
    uint64_t id;
    struct incarnation said;
    bool heard, shut;
    enum incarnation_fault fault;
    uint64_t offered_ms;
};

struct door {
    struct door_owner owner;
    bool readmitted; /* the owner was told */
    uint64_t id;
    struct incarnations table; /* own among them */
    bool founder;
    bool contradicted; /* what is committed here is not what a leader has */
    uint64_t gate;     /* no votes before the log is stored up to here; 0: they may be given */
    enum standing standing;
    char text[256];
    char way_back[64];
    struct guest guests[INCARNATIONS_MAX];
    unsigned n_guests;
    bool tell_all;  /* something that all have to know */
    bool unwritten; /* progress that the note lacks */
    uint64_t wrote_ms, left_ms;
    struct buffer note; /* as it was stored last */
};

static struct incarnation *own(const struct door *d)
{
    return incarnations_find((struct incarnations *)&d->table, d->id);
}

static const char *name_of(const struct door *d, uint64_t id)
{
    return config_member_name(d->owner.config, id);
}

/* ---- the note ---- */

static void note_encode(const struct door *d, struct buffer *b)
{
    buffer_put_u16(b, NOTE_VERSION);
    buffer_put_u64(b, d->owner.config->cluster_id);
    buffer_put_u16(b, (uint16_t)d->id);
    buffer_put_u8(b, (d->founder ? NOTE_FOUNDER : 0) | (d->contradicted ? NOTE_CONTRADICTED : 0));
    buffer_put_u64(b, d->gate);
    incarnations_encode(b, &d->table);
}

/* now: false if the disk is full. */
static bool put_note(struct door *d, bool now)
{
    struct buffer *b = &d->note;
    bool stored = false;

    buffer_clear(b);
    note_encode(d, b);
    if (!b->failed)
        stored = shared_log_put_note(d->owner.log, b->data, b->len, now);
    d->unwritten = !stored;
    return stored;
}

static int read_note(struct door *d, char *why)
{
    const struct config *config = d->owner.config;
    size_t len;
    const void *bytes = shared_log_note(d->owner.log, &len);
    struct cursor in = cursor_of(bytes, len);
    unsigned version, id, flags;
    uint64_t cluster;

    if (bytes == NULL)
        return 0;
    version = cursor_u16(&in);
    cluster = cursor_u64(&in);
    id = cursor_u16(&in);
    if (version != NOTE_VERSION) {
        snprintf(why, 512, "%.300s/log.db was written by another version of this program", config->data_dir);
        return -EPROTO;
    }
    if (!in.failed && cluster != config->cluster_id) {
        snprintf(why, 512,
                 "%.300s/log.db belongs to cluster %016" PRIx64 ", the configuration to %016" PRIx64
                 ": put that node's own data directory there, or correct [cluster] id",
                 config->data_dir, cluster, config->cluster_id);
        return -EINVAL;
    }
    if (!in.failed && id != config->id) {
        snprintf(
            why, 512,
            "%.300s/log.db belongs to node %u, the configuration to node %u: nodes cannot be copied; put "
            "this node's own data directory there, or make a new one with kvnode init",
            config->data_dir, id, (unsigned)config->id);
        return -EINVAL;
    }
    flags = cursor_u8(&in);
    d->founder = (flags & NOTE_FOUNDER) != 0;
    d->contradicted = (flags & NOTE_CONTRADICTED) != 0;
    d->gate = cursor_u64(&in);
    if (!incarnations_decode(&in, &d->table) || !cursor_done(&in)) {
        snprintf(why, 512, "%.300s/log.db is damaged (its note of the nodes)", config->data_dir);
        return -EBADMSG;
    }
    return 0;
}

/* ---- this node ---- */

static void go_back(struct door *d, enum incarnation_fault fault, const char *who)
{
    struct incarnation *self = own(d);
    bool empty = self->index == 0;

    if (d->standing == STANDING_GONE_BACK)
        return;
    d->standing = STANDING_GONE_BACK;
    consensus_freeze(d->owner.group->consensus);
    if (empty) {
        snprintf(d->text, sizeof d->text,
                 "this node's log is empty, but %s knows id %" PRIu64
                 ": its data were lost, and it must not vote as if it had promised nothing",
                 who, d->id);
    } else {
        snprintf(d->text, sizeof d->text,
                 "this node's data have gone back, says %s: %s; it neither votes nor serves", who,
                 incarnation_fault_text(fault));
        self->gone = true;
        put_note(d, true);
    }
    log_error("%s. The way back: %s", d->text, d->way_back);
}

/* What is here goes at the next start, which is now: see door_discard(). */
static void begin_anew(struct door *d)
{
    uint64_t since = clock_boot_ns();
    char path[4200];
    int fd;

    snprintf(path, sizeof path, "%s/" DATA_DIR_READMITTED, d->owner.config->data_dir);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fsync(fd) != 0 || disk_sync_name(path) != 0) {
        log_error("%s: %s: this node was readmitted, and cannot note it", path, strerror(errno));
    } else {
        d->readmitted = true;
        d->owner.on_readmitted(d->owner.arg);
    }
    if (fd >= 0)
        close(fd);
    turn_waited(d->owner.turn, since);
}

static void judge_self(struct door *d, const struct incarnation *said, uint64_t by)
{
    struct incarnation *self = own(d);
    enum incarnation_fault fault;

    /* Let in anew, and there is nothing here that would have to go first. */
    if (said->era > self->era && self->index == 0 && !self->gone) {
        self->era = said->era;
        if (d->standing == STANDING_GONE_BACK) {
            d->standing = STANDING_WAITING;
            d->text[0] = '\0';
        }
        put_note(d, true);
    }
    fault = incarnation_check(said, self);
    if (fault != INCARNATION_FINE)
        go_back(d, fault, name_of(d, by));
    if (said->era > self->era && said->boot == 0 && !d->readmitted)
        begin_anew(d);
}

/* Beside a log that is there; without one it is set aside. */
static int check_state(const struct group *g, char *why)
{
    struct state_owner owner = group_state_owner(g);
    char text[STATE_DB_ERROR_MAX];
    int rv = state_db_check_owner(g->state_path, &owner, text);

    if (rv != 0)
        snprintf(why, 512, "%.380s%s", text,
                 rv == -EINVAL ? ": put this node's own there, or take it away: it is fetched anew" : "");
    return rv;
}

int door_open(const struct door_owner *owner, bool has_log, struct door **out, char *why)
{
    struct door *d = calloc(1, sizeof *d);
    struct buffer b = BUFFER_INIT;
    struct incarnation *self;
    int rv;

    *out = d;
    if (d == NULL)
        return -ENOMEM;
    d->owner = *owner;
    d->id = owner->config->id;
    snprintf(d->way_back, sizeof d->way_back, "kvnode readmit %s, at another node", owner->config->name);
    rv = read_note(d, why);
    if (rv == 0 && has_log)
        rv = check_state(owner->group, why);
    if (rv != 0)
        return rv;
    self = incarnations_get(&d->table, d->id);
    if (self == NULL)
        return -ENOMEM;
    self->boot++;
    memmove(self->past + 1, self->past, sizeof self->past - sizeof self->past[0]);
    self->past[0] = self->nonce;
    if (getrandom(&self->nonce, sizeof self->nonce, 0) != (ssize_t)sizeof self->nonce)
        return -EIO;
    consensus_stored_end(owner->group->consensus, &self->born_index, &self->born_term);
    if (has_log && self->index == 0)
        self->index = 1; /* the founding is committed */
    if (self->born_term > self->term)
        self->term = self->born_term;
    /* Checked against its own note, too: a log that was put back without it. */
    d->standing = has_log ? STANDING_MEMBER : STANDING_WAITING;
    if (self->gone || (has_log && self->born_index < self->index) || (!has_log && self->index != 0)) {
        self->gone = true;
        d->standing = STANDING_GONE_BACK;
        snprintf(d->text, sizeof d->text,
                 d->contradicted
                     ? "what is committed here is not what the other nodes have: this node neither "
                       "votes nor serves"
                     : "this node's data have gone back: it neither votes nor serves");
    }
    consensus_set_voting(owner->group->consensus, d->gate == 0);
    note_encode(d, &b);
    rv = b.failed ? -ENOMEM : shared_log_save_note(owner->log, b.data, b.len);
    buffer_deinit(&b);
    if (rv != 0)
        snprintf(why, 512, "%.300s/log.db: this start could not be noted: %s", owner->config->data_dir,
                 rv > 0 ? "the disk is full: make room and start again" : strerror(-rv));
    return rv > 0 ? -ENOSPC : rv;
}

void door_free(struct door *d)
{
    if (d != NULL)
        buffer_deinit(&d->note);
    free(d);
}

void door_founded(struct door *d)
{
    struct incarnation *self = own(d);

    d->founder = true;
    d->standing = STANDING_MEMBER;
    self->index = self->born_index = 1;
    self->term = self->born_term = 1;
    put_note(d, true);
}

enum standing door_standing(const struct door *d)
{
    return d->standing;
}

const char *door_text(const struct door *d)
{
    if (d->standing == STANDING_WAITING)
        return "this node waits until a member of the cluster lets it in";
    return d->text;
}

const char *door_way_back(const struct door *d)
{
    return d->standing == STANDING_GONE_BACK ? d->way_back : "";
}

/* ---- the others ---- */

static struct guest *find_guest(const struct door *d, uint64_t id)
{
    for (unsigned i = 0; i < d->n_guests; i++)
        if (d->guests[i].id == id)
            return (struct guest *)&d->guests[i];
    return NULL;
}

static struct guest *guest(struct door *d, uint64_t id)
{
    struct guest *g = find_guest(d, id);

    if (g != NULL || d->n_guests == INCARNATIONS_MAX)
        return g;
    d->guests[d->n_guests] = (struct guest){.id = id};
    return &d->guests[d->n_guests++];
}

static bool is_gone(const struct door *d, uint64_t id)
{
    const struct incarnation *known = incarnations_find((struct incarnations *)&d->table, id);

    return known != NULL && known->gone;
}

bool door_shut(const struct door *d, uint64_t peer, const char **why_out)
{
    const struct guest *g = find_guest(d, peer);
    bool shut = (g != NULL && g->shut) || is_gone(d, peer);

    if (shut && why_out != NULL) {
        enum incarnation_fault fault =
            g != NULL && g->fault != INCARNATION_FINE ? g->fault : INCARNATION_KNOWN_GONE;

        *why_out = g != NULL && g->heard && g->said.index == 0 ? "its data were lost: its log is empty"
                                                               : incarnation_fault_text(fault);
    }
    return shut;
}

static void take_news(struct door *d, enum incarnation_news news)
{
    if (news == INCARNATION_NEWS) {
        put_note(d, true);
        d->tell_all = true;
    } else if (news == INCARNATION_PROGRESS) {
        d->unwritten = true;
    }
}

static void condemn(struct door *d, uint64_t id)
{
    struct incarnation *known = incarnations_find(&d->table, id);

    if (known == NULL || known->gone)
        return;
    known->gone = true;
    take_news(d, INCARNATION_NEWS);
}

/* What a peer says of its own life. Messages of one peer come in order, also from one link
 * to the next, so that within one life it cannot come to have less. */
static void take_guest(struct door *d, uint64_t peer, const struct incarnation *said, bool hello)
{
    struct guest *g = guest(d, peer);
    const struct incarnation *known = incarnations_find(&d->table, peer);
    enum incarnation_fault fault = known != NULL ? incarnation_check(known, said) : INCARNATION_FINE;
    bool was_shut;

    if (g == NULL)
        return;
    was_shut = door_shut(d, peer, NULL);
    if (fault == INCARNATION_FINE && hello && g->heard && g->said.era == said->era &&
        g->said.boot == said->boot && g->said.nonce == said->nonce && said->index != 0 &&
        (said->index < g->said.index || said->term < g->said.term))
        fault = said->index < g->said.index ? INCARNATION_LOG_SHORT : INCARNATION_TERM_LOW;
    g->said = *said;
    g->heard = true;
    g->shut = fault != INCARNATION_FINE;
    if (fault != INCARNATION_KNOWN_GONE || g->fault == INCARNATION_FINE)
        g->fault = fault;
    if (said->index != 0) {
        /* An empty log may be a mistake, and the files still be there: that is not held against them.
         * Nor is an earlier life: what is said may have been under way since before the later one
         * began, of which another peer was quicker to tell. If that life does go on, it finds itself
         * in what this node tells it. */
        if (fault == INCARNATION_FINE || said->gone)
            take_news(d, incarnations_merge(&d->table, said));
        else if (fault != INCARNATION_OLD_ERA && fault != INCARNATION_OLD_BOOT)
            condemn(d, peer);
    }
    if (!was_shut && door_shut(d, peer, NULL)) {
        const char *why;

        door_shut(d, peer, &why);
        log_error("%s has gone back: %s; it neither votes nor counts. The way back: kvnode readmit %s",
                  name_of(d, peer), why, name_of(d, peer));
    }
}

/* What a peer says of a third one. */
static void take_hearsay(struct door *d, uint64_t peer, const struct incarnation *said)
{
    bool was_gone = is_gone(d, said->id);

    take_news(d, incarnations_merge(&d->table, said));
    if (!was_gone && is_gone(d, said->id))
        log_error(
            "%s has gone back, as %s knows; it neither votes nor counts. The way back: kvnode readmit %s",
            name_of(d, said->id), name_of(d, peer), name_of(d, said->id));
}

void door_put_hello(struct door *d, struct buffer *b)
{
    incarnations_encode(b, &d->table);
}

static bool take_lives(struct door *d, uint64_t peer, bool hello, struct cursor *in)
{
    struct incarnations said;

    if (!incarnations_decode(in, &said) || !cursor_done(in))
        return false;
    if (hello && incarnations_find(&said, peer) == NULL)
        return false;
    for (unsigned i = 0; i < said.n; i++) {
        const struct incarnation *one = &said.all[i];

        if (one->id == d->id)
            judge_self(d, one, peer);
        else if (one->id == peer)
            take_guest(d, peer, one, hello);
        else if (!door_shut(d, peer, NULL))
            take_hearsay(d, peer, one);
    }
    return true;
}

bool door_take_hello(struct door *d, uint64_t peer, struct cursor *in)
{
    return take_lives(d, peer, true, in);
}

static int on_lives(void *arg, uint64_t peer, const struct frame *frame)
{
    struct cursor in = cursor_of(frame->payload, frame->len);

    return take_lives(arg, peer, false, &in) ? 0 : KV_E_PROTOCOL;
}

void door_contradicted(struct door *d)
{
    struct incarnation *self = own(d);

    if (self != NULL) {
        self->gone = true;
        d->contradicted = true;
        put_note(d, true);
    }
    log_error(
        "this process ends. Started again, this node neither votes nor serves. What only it has is in %s: "
        "keep a copy, if a majority of the others lost it. The way back, to what the others have: "
        "kvnode readmit %s, at another node",
        d->owner.config->data_dir, d->owner.config->name);
}

void door_log_shorter(struct door *d, uint64_t peer, uint64_t index, uint64_t match)
{
    struct guest *g = guest(d, peer);

    if (g == NULL || door_shut(d, peer, NULL))
        return;
    log_error("%s refuses entry %" PRIu64 ", though it has acknowledged all up to %" PRIu64
              ": its log has gone back; it neither votes nor counts. The way back: kvnode readmit %s",
              name_of(d, peer), index, match, name_of(d, peer));
    g->shut = true;
    g->fault = INCARNATION_LOG_SHORT;
    condemn(d, peer);
}

/* ---- letting in ---- */

/* A founder whose log holds nothing else has nothing to lose yet; a leader in office has all
 * that was ever acknowledged. */
static bool may_let_in(const struct door *d, bool *leads_out)
{
    const struct door_owner *o = &d->owner;

    *leads_out = consensus_leader_ready(o->group->consensus);
    return d->standing == STANDING_MEMBER &&
           (*leads_out || (d->founder && consensus_started(o->group->consensus) &&
                           consensus_last(o->group->consensus) == 1));
}

static void let_in(struct door *d, struct guest *g, bool leads)
{
    const struct door_owner *o = &d->owner;
    struct incarnation *known = incarnations_find(&d->table, g->id);
    struct incarnation life = g->said;
    struct entry *first;
    struct buffer *b;

    if (known != NULL && (known->index != 0 || known->gone))
        return;
    if (consensus_match(o->group->consensus, g->id) != 0)
        return; /* it still counts for what it had: see leave_office() */
    first = consensus_first_entry(o->group->consensus, g->id);
    if (first == NULL)
        return;
    if (known == NULL)
        known = incarnations_get(&d->table, g->id);
    if (known != NULL) {
        life.era = known->era;
        *known = life;
        d->tell_all = true;
        /* From here on it counts as a node that may have promised something. */
        b = put_note(d, true) ? o->links->begin(o->links->arg, PEER_NO_GROUP, g->id, PEER_ADMISSION, 0)
                              : NULL;
        if (b != NULL) {
            peer_admission_encode(
                b, &(struct peer_admission){.era = life.era,
                                            .term = leads ? consensus_term(o->group->consensus) : 1,
                                            .vote = leads ? d->id : 0,
                                            .gate = leads ? consensus_last(o->group->consensus) : 0,
                                            .configuration = first->data,
                                            .len = first->len});
            o->links->end(o->links->arg, g->id);
            log_info("%s is let in", name_of(d, g->id));
        }
    }
    entry_put(first);
}

void door_leads(struct door *d, uint64_t token)
{
    struct guest *g = find_guest(d, token & ~GROUP_OWNER_TOKEN);
    bool leads;

    if (g != NULL && g->heard && !g->shut && g->said.index == 0 && may_let_in(d, &leads) && leads)
        let_in(d, g, true);
}

/* A member lets this node in. */
static int on_admission(void *arg, uint64_t peer, const struct frame *frame)
{
    static struct configuration conf;
    struct cursor in = cursor_of(frame->payload, frame->len);
    struct door *d = arg;
    const struct door_owner *o = &d->owner;
    struct incarnation *self = own(d);
    struct peer_admission a;
    char why[512] = "";

    if (!peer_admission_decode(&in, &a) || configuration_decode(a.configuration, a.len, &conf) != 0)
        return KV_E_PROTOCOL;
    if (d->standing != STANDING_WAITING)
        return 0; /* repeated */
    self->era = a.era;
    d->gate = a.gate;
    /* Whatever it may have voted before its files were lost: in the leader's term it is
     * for the leader, in earlier ones it cannot vote any more. */
    if (!put_note(d, true) || consensus_found(o->group->consensus, &conf, a.term, a.vote) != 0) {
        log_error("let in by %s, but the disk is full: make room", name_of(d, peer));
        return 0;
    }
    self->index = 1;
    self->born_index = self->index;
    self->term = self->born_term = a.term;
    consensus_set_voting(o->group->consensus, a.gate == 0);
    put_note(d, true);
    d->standing = STANDING_MEMBER;
    if (consensus_start(o->group->consensus, 0, why) != 0)
        group_die(why);
    log_info("let in by %s: a member of a cluster of %u nodes", name_of(d, peer), conf.n);
    return 0;
}

int door_readmit(struct door *d, uint64_t id)
{
    struct incarnation *known = incarnations_find(&d->table, id);
    const struct guest *g = find_guest(d, id);
    struct entry *first;
    bool leads;

    if (d->standing != STANDING_MEMBER)
        return KV_E_UNAVAILABLE;
    first = consensus_first_entry(d->owner.group->consensus, id);
    if (first == NULL || id == d->id) {
        entry_put(first);
        return id == d->id ? KV_E_EXIST : KV_E_NOENT;
    }
    entry_put(first);
    if (known == NULL || (!known->gone && (g == NULL || !g->shut)))
        return KV_E_EXIST;
    if (!may_let_in(d, &leads) || !leads) {
        uint64_t leader = consensus_leader(d->owner.group->consensus);
        struct buffer *b =
            leader != 0 && leader != d->id
                ? d->owner.links->begin(d->owner.links->arg, PEER_NO_GROUP, leader, PEER_READMIT, 0)
                : NULL;

        if (b == NULL)
            return KV_E_UNAVAILABLE;
        peer_id_encode(b, id);
        d->owner.links->end(d->owner.links->arg, leader);
        return KV_OK;
    }
    *known = (struct incarnation){.id = id, .era = known->era + 1};
    d->tell_all = true;
    log_warn("%s may begin anew, with an empty log", name_of(d, id));
    return put_note(d, true) ? KV_OK : KV_E_NOSPC;
}

/* Who asked looks at the outcome. */
static int on_readmit(void *arg, uint64_t peer, const struct frame *frame)
{
    struct cursor in = cursor_of(frame->payload, frame->len);
    struct door *d = arg;
    uint64_t id;

    (void)peer;
    if (peer_id_decode(&in, &id) && consensus_is_leader(d->owner.group->consensus))
        door_readmit(d, id);
    return 0;
}

void door_hear_peers(struct door *d, struct peer_handlers *handlers)
{
    peer_handlers_enter(handlers, PEER_LIVES, on_lives, d);
    peer_handlers_enter(handlers, PEER_ADMISSION, on_admission, d);
    peer_handlers_enter(handlers, PEER_READMIT, on_readmit, d);
}

/* ---- beats ---- */

/* What a node acknowledged in this term before it went back still counts here, and its log would
 * not be looked at again. A leader of another term begins with nothing. */
static void leave_office(struct door *d, uint64_t now_ms)
{
    struct consensus *c = d->owner.group->consensus;
    uint64_t to = 0, most = 0;
    bool wanted = false;

    if (now_ms - d->left_ms < LEAVE_EVERY_MS)
        return;
    for (unsigned i = 0; i < d->n_guests; i++) {
        const struct guest *g = &d->guests[i];
        uint64_t match = consensus_match(c, g->id);

        if (door_shut(d, g->id, NULL) || g->said.index == 0) {
            wanted |= match != 0;
        } else if (d->owner.links->up(d->owner.links->arg, g->id) && match > most) {
            to = g->id;
            most = match;
        }
    }
    if (!wanted || to == 0)
        return;
    d->left_ms = now_ms;
    log_warn("hands over to %s: a node that this one counted on has gone back", name_of(d, to));
    consensus_transfer(c, to);
}

static void note_own_progress(struct door *d)
{
    struct consensus *c = d->owner.group->consensus;
    struct incarnation *self = own(d);
    uint64_t applied = consensus_applied(c), stored = consensus_stored(c);

    if (d->standing != STANDING_MEMBER || !consensus_started(c))
        return;
    if (applied > stored)
        applied = stored;
    if (applied > self->index || consensus_term(c) > self->term)
        d->unwritten = true;
    if (applied > self->index)
        self->index = applied;
    if (consensus_term(c) > self->term)
        self->term = consensus_term(c);
    if (d->gate != 0 && stored >= d->gate) {
        log_info("this node has all that was committed when it was let in: it votes from now on");
        d->gate = 0;
        consensus_set_voting(c, true);
        put_note(d, true);
    }
}

static void tell(struct door *d, uint64_t peer, bool all)
{
    struct buffer *b = d->owner.links->begin(d->owner.links->arg, PEER_NO_GROUP, peer, PEER_LIVES, 0);

    if (b == NULL)
        return;
    if (all) {
        incarnations_encode(b, &d->table);
    } else {
        buffer_put_u16(b, 1);
        incarnation_encode(b, own(d));
    }
    d->owner.links->end(d->owner.links->arg, peer);
}

void door_beat(struct door *d, uint64_t now_ms)
{
    bool leads, may = may_let_in(d, &leads), all = d->tell_all;

    note_own_progress(d);
    if (leads)
        leave_office(d, now_ms);
    d->tell_all = false;
    for (unsigned i = 0; i < d->n_guests; i++) {
        struct guest *g = &d->guests[i];

        if (!d->owner.links->up(d->owner.links->arg, g->id))
            continue;
        tell(d, g->id, all);
        if (may && g->heard && !g->shut && g->said.index == 0 && now_ms - g->offered_ms >= OFFER_EVERY_MS) {
            g->offered_ms = now_ms;
            /* A leader may have been followed by another and not have heard of it: it asks a majority. */
            if (leads)
                consensus_read_index(d->owner.group->consensus, GROUP_OWNER_TOKEN | g->id);
            else
                let_in(d, g, false);
        }
    }
    if (d->unwritten && now_ms - d->wrote_ms >= NOTE_EVERY_MS) {
        d->wrote_ms = now_ms;
        put_note(d, false);
    }
}
