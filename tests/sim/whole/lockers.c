/* Mounts that lock files, with --locks: each takes tables for itself, decides in them, and gives them back
 * when they are wanted or somebody would have to wait (kvfs/file/lock_delegated.c is the original). A file
 * has one lock, of flock(2); a mount has one owner a file, which has it alone or not.
 *
 * They are machines that never stand still, so what they believe to have they have, for as long as the
 * cluster may think so: the session ends ten seconds of elapsed time after the last command, and that time
 * does not run faster than the fastest clock. */
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"
#include "sync/base/lock_ranges.h"
#include "tests/sim/whole/lockers.h"

#define LOCKERS 4
#define FILES 4 /* each its own, mostly */
#define FIRST_INO (UINT64_C(1) << 40)
#define ALIVE_US (8 * SECOND)
#define SURE_US (9 * SECOND) /* the session has not ended, whatever the clocks' drift */
#define TIMEOUT_US (700 * MS)

struct file {
    uint64_t epoch;  /* of the table; 0: it is not ours */
    uint64_t wanted; /* the newest epoch that was */
    bool has;        /* the lock */
    bool doubt;      /* it may have it and not know: it unlocks */
    uint64_t ticket; /* waits in the cluster under it; 0: does not */
};

struct request;

struct locker {
    int id, host;
    uint64_t session, seq;
    uint8_t nonce[16];
    struct file files[FILES];
    int64_t
        apart; /* until then it locks its own file only, for which it asks nobody while it has the table */
    int64_t heard;  /* something of this session that was begun then was executed */
    uint64_t tries; /* answers to earlier ones are ignored */
    /* The command under way. op 0: none. */
    uint8_t op;
    int file;
    int64_t began;
    struct buffer body;
};

/* On its way to a node, or kept by it. */
struct request {
    struct locker *locker;
    struct host *host;
    uint64_t tries;
    bool kept;
    LIST_ENTRY(request) link;
};

struct told {
    struct locker *locker;
    uint64_t tries; /* an answer's */
    uint64_t session;
    int code;
    bool has_result, is_event;
    struct command_result result;
    uint64_t ino, ticket, number; /* an event's */
};

static struct locker lockers[LOCKERS];
static bool stopping;
static LIST_HEAD(, request) requests = LIST_HEAD_INITIALIZER(requests);
static uint64_t tickets, granted_here, granted, given_back;

static void play(struct host *none, void *arg, uint64_t number);
static void transmit(struct locker *l);

/* ---- what must hold ---- */

static bool is_sure(const struct locker *l)
{
    return l->session != 0 && world.now - l->heard < SURE_US;
}

/* here: it was decided in a table; else the cluster has said so, perhaps long ago. */
static void has_it(struct locker *l, int file, bool here)
{
    l->files[file].has = true;
    trace("locker %d has file %d", l->id, file);
    for (int i = 0; i < LOCKERS; i++) {
        const struct locker *x = &lockers[i];

        if (x != l && x->files[file].has && is_sure(x) && (here || is_sure(l)))
            violation("file %d is locked by locker %d, which was heard %.3f s ago, and by locker %d", file,
                      x->id, (double)(world.now - x->heard) / SECOND, l->id);
    }
}

/* ---- commands ---- */

static void request_free(void *arg)
{
    struct request *r = arg;

    LIST_REMOVE(r, link);
    free(r);
}

static void answered(struct host *none, void *arg, uint64_t number);

static void answer(struct request *r, int code, const struct command_result *result)
{
    struct told *t = calloc(1, sizeof *t);

    if (t == NULL)
        abort();
    t->locker = r->locker;
    t->tries = r->tries;
    t->code = code;
    t->has_result = result != NULL;
    if (result != NULL)
        t->result = *result;
    request_free(r);
    queue_at(world.now + rnd_range(10, 300), NULL, answered, t, 0, free);
}

static void on_written(void *arg, int code, const struct command_result *result)
{
    answer(arg, code, result);
}

static void at_node(struct host *h, void *arg, uint64_t number)
{
    struct request *r = arg;
    struct locker *l = r->locker;
    struct command cmd = {.op = l->op, .flags = COMMAND_TRUSTED, .node = "n1.0", .node_len = 4};
    int rv;

    r->kept = true;
    if (l->tries != r->tries) {
        request_free(r);
        return;
    }
    if (!host_serves(h)) {
        answer(r, KV_E_UNAVAILABLE, NULL);
        return;
    }
    cmd.body = l->body.data;
    cmd.body_len = l->body.len;
    cmd.session = l->op == COMMAND_REGISTER ? 0 : l->session;
    cmd.seq = cmd.acked_below = cmd.session != 0 ? l->seq : 0;
    rv = removal_start(h->node.group, &cmd, on_written, r);
    if (rv != 0)
        answer(r, rv, NULL);
}

/* Nobody hears of what is kept by a node that has ended: the time is up then. */
void lockers_host_crashed(struct host *h)
{
    struct request *r, *next;

    for (r = LIST_FIRST(&requests); r != NULL; r = next) {
        next = LIST_NEXT(r, link);
        if (r->host == h && r->kept)
            request_free(r);
    }
}

static void again(struct host *none, void *arg, uint64_t number)
{
    struct locker *l = arg;

    if (l->op != 0 && l->tries == number)
        transmit(l);
}

/* Another node's events begin anew: what may have been missed is taken as said. */
static void change_host(struct locker *l)
{
    l->host = (int)rnd_range(1, world.n);
    for (int i = 0; i < FILES; i++)
        l->files[i].wanted = UINT64_MAX;
}

static void on_timeout(struct host *none, void *arg, uint64_t number)
{
    struct locker *l = arg;

    if (l->op == 0 || l->tries != number)
        return;
    change_host(l);
    l->tries++;
    transmit(l);
}

static void transmit(struct locker *l)
{
    struct host *h = &world.hosts[l->host];
    struct request *r;

    queue_at(world.now + TIMEOUT_US, NULL, on_timeout, l, l->tries, NULL);
    if (!h->up)
        return;
    r = calloc(1, sizeof *r);
    if (r == NULL)
        abort();
    r->locker = l;
    r->host = h;
    r->tries = l->tries;
    LIST_INSERT_HEAD(&requests, r, link);
    queue_at(world.now + rnd_range(10, 300), h, at_node, r, 0, request_free);
}

static void begin(struct locker *l, uint8_t op, int file, const struct command_body *body)
{
    l->op = op;
    l->file = file;
    l->began = world.now;
    l->tries++;
    l->seq++;
    buffer_clear(&l->body);
    command_body_encode(&l->body, op, body);
    transmit(l);
}

static void put(struct locker *l, int file)
{
    struct file *f = &l->files[file];
    struct buffer b = BUFFER_INIT;
    struct command_body body = {.ino = FIRST_INO + (uint64_t)file, .version = f->epoch};

    if (f->has && options.plant != PLANT_EMPTY_PUT) {
        lock_put_encode(&b, &(struct lock_put){LOCK_OF_FLOCK, 1, 1, 0, LOCK_RANGE_END, (uint32_t)l->id});
        body.n_put = 1;
    }
    body.put = b.data;
    begin(l, COMMAND_LOCK_PUT, file, &body);
    buffer_deinit(&b);
}

/* ---- what it is told ---- */

static void lose_session(struct locker *l)
{
    trace("locker %d: its session has ended", l->id);
    l->session = l->seq = 0;
    memset(l->files, 0, sizeof l->files);
}

static void on_result(struct locker *l, const struct command_result *result)
{
    struct file *f = &l->files[l->file];
    uint8_t op = l->op;

    if (op != COMMAND_REGISTER && result->code == KV_E_SESSION) {
        lose_session(l);
        return;
    }
    l->heard = l->began;
    if (op == COMMAND_REGISTER && result->code == KV_OK) {
        l->session = result->session;
        l->seq = 0;
    } else if (op == COMMAND_LOCK_TAKE && result->code == KV_OK && result->created != 0) {
        f->epoch = result->base_revision;
        f->ticket = 0;
        granted++;
        has_it(l, l->file, false);
    } else if (op == COMMAND_LOCK_TAKE && result->code == KV_E_INVAL) {
        violation("locker %d has the table of file %d and does not know it", l->id, l->file);
    } else if (op == COMMAND_LOCK_TAKE && result->code != KV_OK) {
        f->ticket = 0;
    } else if (op == COMMAND_UNWAIT) {
        f->doubt = result->code == KV_E_NOENT && f->ticket != 0; /* its event was missed */
        f->ticket = 0;
    } else if (op == COMMAND_LOCK_PUT) {
        if (result->code != KV_OK)
            violation("locker %d gives file %d back, of epoch %lu: %s", l->id, l->file, f->epoch,
                      error_text(result->code));
        f->epoch = 0;
        given_back++;
    }
}

static void answered(struct host *none, void *arg, uint64_t number)
{
    struct told *t = arg;
    struct locker *l = t->locker;

    if (l->op == 0 || t->tries != l->tries) {
        free(t);
        return;
    }
    if (t->code == KV_E_SESSION) {
        lose_session(l);
        l->op = 0;
    } else if (t->code == KV_OK && t->has_result && t->result.code != KV_E_BUSY) {
        on_result(l, &t->result);
        l->op = 0;
    } else {
        l->tries++;
        queue_at(world.now + rnd_range(0, 200 * MS), NULL, again, l, l->tries, NULL);
    }
    if (l->op == 0)
        queue_at(world.now + rnd_range(0, 20 * MS), NULL, play, l, 0, NULL);
    free(t);
}

static void on_event(struct host *none, void *arg, uint64_t number)
{
    struct told *t = arg;
    struct locker *l = t->locker;
    struct file *f = &l->files[t->ino - FIRST_INO];

    if (l->session == t->session && t->ticket == 0) {
        if (f->wanted < t->number)
            f->wanted = t->number;
    } else if (l->session == t->session && f->ticket == t->ticket) {
        f->ticket = 0;
        if (t->number == KV_OK)
            has_it(l, (int)(t->ino - FIRST_INO), false);
    }
    free(t);
}

/* In the order of the log, behind or before answers, as it is on a connection that may have ended. */
void lockers_event(struct host *h, const struct event *e)
{
    if (e->kind != EVENT_NOTHING || e->parent == 0 || e->ino < FIRST_INO || e->ino >= FIRST_INO + FILES)
        return;
    for (int i = 0; i < LOCKERS; i++) {
        struct locker *l = &lockers[i];
        struct told *t;

        if (l->session != e->parent || l->host != h->id)
            continue;
        t = calloc(1, sizeof *t);
        if (t == NULL)
            abort();
        *t = (struct told){.locker = l,
                           .session = e->parent,
                           .ino = e->ino,
                           .ticket = e->new_parent,
                           .number = e->base_revision};
        on_event(NULL, t, 0);
    }
}

/* ---- what it does ---- */

static void take(struct locker *l, int file)
{
    struct file *f = &l->files[file];
    bool waits = rnd_chance(0.5);
    const struct command_body body = {.ino = FIRST_INO + (uint64_t)file,
                                      .flags = (uint8_t)(LOCK_FLAG_EXCLUSIVE |
                                                         (rnd_chance(0.7) ? LOCK_FLAG_TAKE : 0) |
                                                         (waits ? LOCK_FLAG_WAIT : 0)),
                                      .owner = 1,
                                      .end = LOCK_RANGE_END,
                                      .ticket = ++tickets,
                                      .pid = (uint32_t)l->id};

    if (f->epoch == 0) {
        f->ticket = tickets;
        f->wanted = 0; /* of what it has from now on */
        begin(l, COMMAND_LOCK_TAKE, file, &body);
    } else if (world.now - l->heard >= ALIVE_US && options.plant != PLANT_OLD_SESSION) {
        begin(l, COMMAND_KEEPALIVE, file, &(struct command_body){0});
    } else {
        granted_here++;
        has_it(l, file, true);
    }
}

static void unlock(struct locker *l, int file)
{
    struct file *f = &l->files[file];
    const struct command_body body = {
        .ino = FIRST_INO + (uint64_t)file, .owner = 1, .end = LOCK_RANGE_END, .ticket = f->ticket};

    f->has = f->doubt = false; /* from here on it does not rely on it */
    if (f->epoch == 0)
        begin(l, COMMAND_UNLOCK, file, &body);
}

static void join(struct locker *l)
{
    for (size_t i = 0; i < sizeof l->nonce; i++)
        l->nonce[i] = (uint8_t)rnd();
    begin(l, COMMAND_REGISTER, 0,
          &(struct command_body){.nonce = l->nonce, .name = (const uint8_t *)"locker", .name_len = 6});
}

static void play(struct host *none, void *arg, uint64_t number)
{
    struct locker *l = arg;
    bool own = world.now < l->apart || rnd_chance(0.9);
    int file = own ? l->id - 1 : (int)rnd_range(0, FILES - 1);
    struct file *f = &l->files[file];

    if (world.now >= l->apart && rnd_chance(0.03))
        l->apart = world.now + 16 * SECOND;
    if (l->op != 0 || stopping)
        return; /* its answer goes on */
    for (int i = 0; i < FILES && l->op == 0; i++)
        if (l->files[i].epoch != 0 && l->files[i].wanted >= l->files[i].epoch)
            put(l, i);
    if (l->op != 0)
        return;
    if (l->session == 0)
        join(l);
    else if (f->ticket != 0 && rnd_chance(0.1))
        begin(l, COMMAND_UNWAIT, file,
              &(struct command_body){.ino = FIRST_INO + (uint64_t)file, .ticket = f->ticket});
    else if (f->has || f->doubt)
        unlock(l, file);
    else if (f->ticket == 0)
        take(l, file);
    else if (world.now - l->heard > 3 * SECOND)
        begin(l, COMMAND_KEEPALIVE, file, &(struct command_body){0});
    if (l->op == 0)
        queue_at(world.now + rnd_range(1, rnd_chance(0.1) ? 4 * SECOND : 100 * MS), NULL, play, l, 0, NULL);
}

void lockers_start(void)
{
    stopping = false;
    if (!options.locks)
        return;
    for (int i = 0; i < LOCKERS; i++) {
        lockers[i].id = i + 1;
        lockers[i].host = (int)rnd_range(1, world.n);
        queue_at(world.now + rnd_range(0, SECOND), NULL, play, &lockers[i], 0, NULL);
    }
}

void lockers_stop(void)
{
    stopping = true;
}

void lockers_free(void)
{
    while (!LIST_EMPTY(&requests))
        request_free(LIST_FIRST(&requests));
    for (int i = 0; i < LOCKERS; i++)
        buffer_deinit(&lockers[i].body);
    memset(lockers, 0, sizeof lockers);
}

void lockers_count(uint64_t *granted_out, uint64_t *here_out, uint64_t *given_back_out)
{
    *granted_out = granted;
    *here_out = granted_here;
    *given_back_out = given_back;
}
