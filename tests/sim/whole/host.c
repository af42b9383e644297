/* One machine with its node: what kvnode/node/node.c does at the start and at the end,
 * in the same order, around the node's own parts. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvnode/client/past.h"
#include "kvnode/client/serve.h"
#include "kvnode/group/events.h"
#include "kvnode/group/reads.h"
#include "kvnode/loop/stream.h"
#include "kvnode/group/scrub.h"
#include "kvnode/group/incoming.h"
#include "kvnode/group/outgoing.h"
#include "kvnode/group/verify.h"
#include "kvnode/group/writes.h"
#include "kvnode/peer/door.h"
#include "kvnode/web/web.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/wire/txn.h"
#include "tests/sim/whole/lockers.h"
#include "tests/sim/whole/whole.h"

struct events {
    struct host *host;
    struct buffer scratch;
};

/* ---- finding hosts, and their clocks ---- */

struct host *host_of_loop(const uv_loop_t *loop)
{
    return loop->data;
}

struct host *host_of_path(const char *path)
{
    for (int i = 1; i <= world.n; i++) {
        size_t len = strlen(world.hosts[i].dir);

        if (strncmp(path, world.hosts[i].dir, len) == 0 && (path[len] == '/' || path[len] == '\0'))
            return &world.hosts[i];
    }
    abort();
}

uint64_t host_boot_us(const struct host *h)
{
    return (uint64_t)(h->boot_offset_us + world.now + world.now / 1000000 * h->drift_ppm +
                      world.now % 1000000 * h->drift_ppm / 1000000);
}

int64_t host_when_ms(const struct host *h, uint64_t boot_ms)
{
    int64_t wait = (int64_t)(boot_ms * MS) - (int64_t)host_boot_us(h);

    return wait <= 0 ? world.now : world.now + wait - wait / 1000000 * h->drift_ppm + 1;
}

bool host_leads(const struct host *h)
{
    return h->up && consensus_is_leader(h->node.group->consensus);
}

bool host_takes_part(const struct host *h)
{
    return h->up && (options.plant == PLANT_DOOR_OPEN || door_standing(h->node.door) == STANDING_MEMBER);
}

bool host_serves(const struct host *h)
{
    return host_takes_part(h) && group_serves(h->node.group);
}

/* ---- parts of kvnode that have no part in this ---- */

struct events *events_new(void)
{
    struct events *e = calloc(1, sizeof *e);

    if (e == NULL)
        abort();
    e->host = world.current;
    return e;
}

void events_free(struct events *e)
{
    if (e != NULL)
        buffer_deinit(&e->scratch);
    free(e);
}

void events_add(struct events *e, const struct event *event)
{
    if (e->host->rebuilding)
        return;
    buffer_clear(&e->scratch);
    event_encode(&e->scratch, event, MESSAGE_PROTOCOL);
    truth_event(e->host, event->revision, e->scratch.data, e->scratch.len);
    lockers_event(e->host, event);
}

void events_reset(struct events *e, uint64_t revision)
{
}

/* Something that is there. */
struct scrub *scrub_new(const struct scrub_options *o)
{
    return (struct scrub *)world.current;
}

void scrub_free(struct scrub *s)
{
}

void scrub_beat(struct scrub *s, uint64_t now_ms)
{
}

struct verify *verify_new(struct group *g)
{
    return (struct verify *)g;
}

void verify_free(struct verify *v)
{
}

void scrub_pause(struct scrub *s)
{
}

void scrub_resume(struct scrub *s)
{
}

void past_flushed(struct past *p)
{
}

void past_reopen(struct past *p)
{
}

void serve_reset(struct serve *s)
{
}

void serve_held(struct serve *s, uint64_t ino, uint64_t bytes)
{
}

void serve_beat(struct serve *s, uint64_t now_ms)
{
}

void streams_flush(struct streams *all)
{
}

void web_beat(struct web *w, uint64_t now_ms)
{
}

void web_turn_begin(struct web *w)
{
}

void web_turn_end(struct web *w)
{
}

/* ---- what a dead process leaves in memory ---- */

struct store *__real_store_new(uint16_t group, struct journal *journal, const struct store_events *events);
struct store *__wrap_store_new(uint16_t group, struct journal *journal, const struct store_events *events);
void __real_store_free(struct store *s);
void __wrap_store_free(struct store *s);
struct journal *__real_journal_new(void);
struct journal *__wrap_journal_new(void);
void __real_journal_free(struct journal *j);
void __wrap_journal_free(struct journal *j);

static void exchange(void **slots, void *old, void *new)
{
    for (int i = 0; i < 4; i++)
        if (slots[i] == old) {
            slots[i] = new;
            return;
        }
}

struct store *__wrap_store_new(uint16_t group, struct journal *journal, const struct store_events *events)
{
    struct store *s = __real_store_new(group, journal, events);

    exchange(world.current->stores, NULL, s);
    return s;
}

void __wrap_store_free(struct store *s)
{
    if (s != NULL)
        exchange(world.current->stores, s, NULL);
    __real_store_free(s);
}

struct journal *__wrap_journal_new(void)
{
    struct journal *j = __real_journal_new();

    exchange(world.current->journals, NULL, j);
    return j;
}

void __wrap_journal_free(struct journal *j)
{
    if (j != NULL)
        exchange(world.current->journals, j, NULL);
    __real_journal_free(j);
}

/* ---- what a node applies, seen on its way to the store ---- */

int __real_store_apply(struct store *s, uint64_t index, const void *bytes, size_t len,
                       struct command_result *result_out);
bool __real_fence_permits(const struct store *s, uint64_t ino, uint64_t fence);
bool __wrap_fence_permits(const struct store *s, uint64_t ino, uint64_t fence);

bool __wrap_fence_permits(const struct store *s, uint64_t ino, uint64_t fence)
{
    return options.plant == PLANT_OLD_FENCE || __real_fence_permits(s, ino, fence);
}

struct session;
uint64_t __real_session_locks_until(const struct session *ss);
uint64_t __wrap_session_locks_until(const struct session *ss);

uint64_t __wrap_session_locks_until(const struct session *ss)
{
    return __real_session_locks_until(ss) - (options.plant == PLANT_SHORT_LOCK ? FENCE_LEASE_MS / 2 : 0);
}

int __wrap_store_apply(struct store *s, uint64_t index, const void *bytes, size_t len,
                       struct command_result *result_out);
void __real_store_skip(struct store *s, uint64_t index);
void __wrap_store_skip(struct store *s, uint64_t index);
void __real_writes_applied(struct writes *w, const struct command *cmd, const struct command_result *result);
void __wrap_writes_applied(struct writes *w, const struct command *cmd, const struct command_result *result);

/* Up to its third line. */
static size_t half_txn(const void *bytes, size_t len)
{
    struct command cmd;
    struct txn_item item;
    struct cursor c;

    if (command_decode(bytes, len, &cmd) != KV_OK || cmd.op != COMMAND_TXN ||
        (cmd.flags & COMMAND_PARTS) != 0)
        return len;
    c = cursor_of(cmd.body, cmd.body_len);
    for (int i = 0; i < 2; i++)
        txn_next(&c, &item);
    return len - c.len;
}

size_t __real_store_expired(struct store *s, uint64_t now_ms, size_t max, uint32_t round, struct buffer *list,
                            uint64_t *next_ms_out);
size_t __wrap_store_expired(struct store *s, uint64_t now_ms, size_t max, uint32_t round, struct buffer *list,
                            uint64_t *next_ms_out);

size_t __wrap_store_expired(struct store *s, uint64_t now_ms, size_t max, uint32_t round, struct buffer *list,
                            uint64_t *next_ms_out)
{
    if (options.plant != PLANT_NO_EXPIRY)
        return __real_store_expired(s, now_ms, max, round, list, next_ms_out);
    *next_ms_out = UINT64_MAX;
    return 0;
}

int __wrap_store_apply(struct store *s, uint64_t index, const void *bytes, size_t len,
                       struct command_result *result_out)
{
    struct host *h = world.current;
    size_t used = len;
    uint8_t *copy = NULL;
    int rv;

    if (h->rebuilding)
        return __real_store_apply(s, index, bytes, len, result_out);
    if (options.plant == PLANT_LOCAL_CLOCK || options.plant == PLANT_NO_SESSION) {
        copy = malloc(len);
        memcpy(copy, bytes, len);
        if (options.plant == PLANT_LOCAL_CLOCK)
            command_set_clocks(copy, clock_wall_ns(), store_elapsed_ms(s));
        else
            truth_forget_number(index, copy, len);
    }
    if (options.plant == PLANT_HALF_TXN)
        used = half_txn(bytes, len);
    rv = __real_store_apply(s, index, copy != NULL ? copy : bytes, used, result_out);
    free(copy);
    truth_applied(h, index, bytes, len);
    return rv;
}

void __wrap_store_skip(struct store *s, uint64_t index)
{
    __real_store_skip(s, index);
    if (!world.current->rebuilding)
        truth_applied(world.current, index, NULL, 0);
}

void __wrap_writes_applied(struct writes *w, const struct command *cmd, const struct command_result *result)
{
    struct host *h = world.current;
    uint64_t term = consensus_term(h->node.group->consensus);
    bool lose = options.plant == PLANT_LOST_RESULT && h->applied_term != term;

    h->applied_term = term;
    if (!lose)
        __real_writes_applied(w, cmd, result);
}

/* ---- callbacks of consensus, seen on their way to the node ---- */

uint64_t __real_clock_watch_set_back_ns(struct clock_watch *w, uint64_t stored_ns);
uint64_t __wrap_clock_watch_set_back_ns(struct clock_watch *w, uint64_t stored_ns);

uint64_t __wrap_clock_watch_set_back_ns(struct clock_watch *w, uint64_t stored_ns)
{
    return options.plant == PLANT_ANY_CLOCK ? clock_wall_ns() : __real_clock_watch_set_back_ns(w, stored_ns);
}

static void on_leadership(void *arg)
{
    struct group *g = arg;
    struct host *h = world.current;

    if (consensus_is_leader(g->consensus))
        truth_leads(h, consensus_term(g->consensus));
    if (options.plant != PLANT_LOST_RETRY)
        h->callbacks.on_leadership(g);
}

int __real_consensus_open(const struct consensus_config *config, uv_loop_t *loop,
                          const struct consensus_callbacks *callbacks, struct consensus **out,
                          bool *exists_out, char *why);
int __wrap_consensus_open(const struct consensus_config *config, uv_loop_t *loop,
                          const struct consensus_callbacks *callbacks, struct consensus **out,
                          bool *exists_out, char *why);

int __wrap_consensus_open(const struct consensus_config *config, uv_loop_t *loop,
                          const struct consensus_callbacks *callbacks, struct consensus **out,
                          bool *exists_out, char *why)
{
    struct host *h = world.current;
    struct consensus_callbacks watched = *callbacks;

    h->callbacks = *callbacks;
    watched.on_leadership = on_leadership;
    return __real_consensus_open(config, loop, &watched, out, exists_out, why);
}

/* ---- life ---- */

static void found_cluster(struct host *h)
{
    static struct configuration founders;
    char name[16];

    memset(&founders, 0, sizeof founders);
    for (int i = 1; i <= world.n; i++) {
        snprintf(name, sizeof name, "n%d", i);
        configuration_add(&founders, (uint64_t)i, name, SERVER_VOTER);
    }
    if (consensus_found(h->node.group->consensus, &founders, 1, 0) != 0)
        violation("n%d cannot be founded", h->id);
    door_founded(h->node.door);
    h->founding = false;
}

static void open_files(struct host *h)
{
    struct node *n = &h->node;
    char path[256], why[512];
    struct door_owner owner;
    bool exists;

    snprintf(path, sizeof path, "%s/log.db", h->dir);
    if (shared_log_open(path, &n->loop, &n->turn, &n->log, why) != 0)
        abort();
    n->owner.log = n->log;
    if (group_open(n->group, &exists, why) != 0)
        violation("n%d cannot open its files: %s", h->id, why);
    owner = node_owns_door(n);
    if (door_open(&owner, exists, &n->door, why) != 0) {
        if (h->disk.failed)
            group_die(why);
        violation("n%d: %s", h->id, why);
    }
    if (group_recover(n->group, why) != 0)
        violation("n%d: what an install left cannot be completed", h->id);
    /* With the door open, as it was without one: whoever has no log founds. */
    if (!exists && (h->founding || options.plant == PLANT_DOOR_OPEN))
        found_cluster(h);
}

static void start(struct host *h, void *arg, uint64_t number)
{
    bool damaged = h->state.damaged || h->state.lost;
    struct node *n = &h->node;
    char why[512] = "";
    uint64_t behind;

    uv_timer_init(&n->loop, &n->later);
    node_owns_group(n);
    if (group_new(NODE_GROUP, h->dir, &n->owner, &n->group) != 0)
        abort();
    open_files(h);
    network_start(h);
    behind = consensus_log_begins_behind(n->group->consensus);
    if (group_start(n->group, host_takes_part(h), why) != 0)
        violation("n%d cannot start: %s", h->id, why);
    if (!group_serves(n->group) && !damaged)
        violation("n%d: log.db begins behind %lu, state.db ends at %lu", h->id, behind,
                  store_applied(n->group->store));
    counters.heals += !group_serves(n->group);
    trace("n%d starts: state %lu, log %lu..%lu%s", h->id, store_applied(n->group->store), h->disk.start_index,
          disk_last(&h->disk), group_serves(n->group) ? "" : ", healing");
}

/* The loop does not sleep while there is more to apply; it may take its time. */
static void on_behind(struct host *h, void *arg, uint64_t number)
{
    h->behind = false;
}

int uv_idle_start(uv_idle_t *handle, uv_idle_cb cb)
{
    struct host *h = world.current;

    (void)handle;
    (void)cb;
    if (!h->behind)
        queue_at(world.now + (world.calm ? 0 : rnd_range(0, 5 * MS)), h, on_behind, NULL, 0, NULL);
    h->behind = true;
    return 0;
}

int uv_idle_stop(uv_idle_t *handle)
{
    (void)handle;
    return 0;
}

static void on_beat(struct host *h, void *arg, uint64_t number)
{
    int64_t beat = (int64_t)h->config.heartbeat_ms * MS;

    queue_at(world.now + beat + (world.calm ? 0 : rnd_range(0, beat / 10)), h, on_beat, NULL, 0, NULL);
    node_beat(&h->node);
}

static void on_turn(struct host *h, void *arg, uint64_t number)
{
    h->turn_pending = false;
}

static void on_restart(struct host *none, void *arg, uint64_t number)
{
    struct host *h = arg;

    if (!h->up)
        host_start(h);
}

void host_run(struct host *h, happening *what, void *arg, uint64_t number)
{
    world.current = h;
    world.mortal = true;
    if (setjmp(world.death) != 0) {
        world.mortal = false;
        if (!h->disk.failed)
            violation("n%d ends without a reason", h->id);
        counters.deaths++;
        host_crash(h, false);
        queue_at(world.now + rnd_range(0, 2 * SECOND), NULL, on_restart, h, 0, NULL);
        return;
    }
    what(h, arg, number);
    /* A turn of the loop may hold more than one event. */
    if (!h->turn_pending && rnd_chance(0.8)) {
        node_turn_end(&h->node);
    } else if (!h->turn_pending) {
        h->turn_pending = true;
        queue_at(world.now + rnd_range(0, 2 * MS), h, on_turn, NULL, 0, NULL);
    }
    world.mortal = false;
}

/* What a readmission left to be done, by the door's own code as far as that is about files. */
static void discard(struct host *h)
{
    char mark[160], why[512] = "";
    bool readmitted;

    snprintf(mark, sizeof mark, "%s/readmitted", h->dir);
    readmitted = access(mark, F_OK) == 0;
    if (door_discard(&h->config, why) != 0)
        violation("n%d: %s", h->id, why);
    if (readmitted)
        host_wipe(h);
}

static void begin_anew(struct host *none, void *arg, uint64_t epoch)
{
    struct host *h = arg;

    if (!h->up || h->epoch != epoch)
        return;
    host_crash(h, false);
    host_start(h);
}

/* The node ends its loop only to begin anew. */
void uv_stop(uv_loop_t *loop)
{
    struct host *h = host_of_loop(loop);

    queue_at(world.now, NULL, begin_anew, h, h->epoch, NULL);
}

/* With the door open, nobody is stopped. */
void __real_consensus_freeze(struct consensus *c);
void __wrap_consensus_freeze(struct consensus *c);

void __wrap_consensus_freeze(struct consensus *c)
{
    if (options.plant != PLANT_DOOR_OPEN)
        __real_consensus_freeze(c);
}

void host_wipe(struct host *h)
{
    static const char *const files[] = {"install.meta", "install.meta.new", "state.db.incoming",
                                        "state.db.outgoing"};
    char path[160];

    disk_wipe(h);
    h->state = (struct state_file){0};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", h->dir, files[i]);
        unlink(path);
    }
}

void host_start(struct host *h)
{
    struct node *n = &h->node;

    world.current = h;
    discard(h);
    memset(n, 0, sizeof *n);
    n->config = &h->config;
    n->loop.data = h;
    h->up = true;
    h->epoch++;
    h->lives++;
    h->turn_pending = h->behind = false;
    h->applied_term = 0;
    counters.starts++;
    host_run(h, start, NULL, 0);
    if (h->up)
        queue_at(world.now + rnd_range(0, 100 * MS), h, on_beat, NULL, 0, NULL);
}

void host_crash(struct host *h, bool power_cut)
{
    struct node *n = &h->node;

    if (!h->up)
        return;
    trace("n%d %s with %zu writes of its log under way", h->id, power_cut ? "loses power" : "is killed",
          h->disk.n_queue);
    world.current = h;
    counters.crashes++;
    h->up = false;
    h->epoch++;
    disk_crash(h);
    state_crash(h, power_cut);
    clients_host_crashed(h);
    lockers_host_crashed(h);
    network_crash(h, power_cut);
    consensus_close(n->group->consensus);
    shared_log_close(n->log);
    writeback_free(n->group->writeback, false, 0);
    outgoing_free(n->group->outgoing);
    incoming_free(n->group->incoming);
    door_free(n->door);
    for (int i = 0; i < 4; i++) {
        store_free(h->stores[i]);
        journal_free(h->journals[i]);
    }
    n->group->store = NULL;
    n->group->journal = NULL;
    group_free(n->group);
    memset(n, 0, sizeof *n);
}

/* No client caches here. */
struct buffer *stream_output(struct stream *s)
{
    (void)s;
    abort();
}
