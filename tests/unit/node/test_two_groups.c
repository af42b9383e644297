/* Two groups of one node, each a cluster of this node alone, over one log.db and one loop: what is written in
 * one is found there, and not in the other, also by the next start, and by one that has only log.db. */
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "kvnode/group/group.h"
#include "kvnode/group/writes.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/raft/engine/configuration.h"
#include "sync/wire/command.h"
#include "sync/wire/feature.h"

#define N 2
#define WRITES 100 /* in each group */
#define WAIT_MS 30000

struct fixture;

/* One after the other: the next one when the last one is answered. */
struct writer {
    struct fixture *fixture;
    struct group *group;
    unsigned started, answered;
    uint64_t revision; /* of the last */
};

struct fixture {
    char dir[64];
    struct config config;
    uv_loop_t loop;
    struct turn turn;
    struct clock_watch clock;
    struct shared_log *log;
    struct peer_links links;
    struct group_owner owner;
    struct group *groups[N];
    struct writer writers[N];
    uint64_t loaded[N];         /* the revision of state.db at the start */
    uint16_t order[N * WRITES]; /* whose writes were answered, in turn */
    unsigned n_order;
    uv_prepare_t turn_end;
    uv_timer_t beat, later;
};

/* ---- a node that has no peers ---- */

static struct buffer *no_link(void *arg, uint16_t group, uint64_t peer, enum peer_frame type, uint64_t id)
{
    return NULL;
}

static bool not_up(void *arg, uint64_t peer)
{
    return false;
}

static unsigned none_up(void *arg)
{
    return 0;
}

static size_t nothing_waits(void *arg, uint64_t peer)
{
    return 0;
}

static size_t nothing_waits_at_all(void *arg)
{
    return 0;
}

static void nobody(void *arg, void *to, void (*emit)(void *to, const struct peer_glance *peer))
{
}

static uint64_t newest_level(void *arg)
{
    return FEATURE_LEVEL;
}

static uint64_t no_election(void *arg)
{
    return UINT64_MAX;
}

static void ignore(void *arg)
{
}

static void ignore_held(void *arg, uint64_t ino, uint64_t bytes)
{
}

static void never(void *arg)
{
    fail();
}

static void never_read(void *arg, uint64_t token, uint64_t index, int code)
{
    fail();
}

static void never_shorter(void *arg, uint64_t peer, uint64_t index, uint64_t match)
{
    fail();
}

/* ---- the loop ---- */

static void on_later(uv_timer_t *timer)
{
    (void)timer;
}

static void on_turn_end(uv_prepare_t *prepare)
{
    struct fixture *f = prepare->data;
    uint64_t later = UINT64_MAX;

    for (int i = 0; i < N; i++) {
        uint64_t wait = group_turn_end(f->groups[i]);

        later = wait < later ? wait : later;
    }
    if (later != UINT64_MAX)
        uv_timer_start(&f->later, on_later, later, 0);
    for (int i = 0; i < N; i++)
        group_turn_over(f->groups[i]);
    turn_end(&f->turn);
}

static void on_beat(uv_timer_t *timer)
{
    struct fixture *f = timer->data;
    uint64_t self = f->config.id;

    clock_watch_beat(&f->clock, self, &self, 1, clock_boot_ms());
    for (int i = 0; i < N; i++)
        group_beat(f->groups[i], clock_boot_ms());
}

static void run_until(struct fixture *f, bool (*done)(const struct fixture *f))
{
    uint64_t until = clock_boot_ms() + WAIT_MS;

    while (!done(f)) {
        assert_true(clock_boot_ms() < until);
        uv_run(&f->loop, UV_RUN_ONCE);
    }
}

static bool both_lead(const struct fixture *f)
{
    return consensus_leader_ready(f->groups[0]->consensus) && consensus_leader_ready(f->groups[1]->consensus);
}

static bool all_is_answered(const struct fixture *f)
{
    return f->writers[0].answered == WRITES && f->writers[1].answered == WRITES;
}

static bool all_is_applied(const struct fixture *f)
{
    return both_lead(f) && store_applied(f->groups[0]->store) >= f->writers[0].revision &&
           store_applied(f->groups[1]->store) >= f->writers[1].revision;
}

/* ---- starting and stopping, in the order of kvnode/node/node.c ---- */

static void open_group(struct fixture *f, uint16_t number)
{
    struct configuration alone = {0};
    char dir[96], why[512] = "";
    struct group *g;
    bool has_log;

    snprintf(dir, sizeof dir, "%s/%u", f->dir, number);
    mkdir(dir, 0700);
    assert_int_equal(group_new(number, dir, &f->owner, &g), 0);
    f->groups[number] = f->writers[number].group = g;
    if (group_open(g, &has_log, why) != 0 || group_recover(g, why) != 0)
        fail_msg("%s", why);
    f->loaded[number] = store_applied(g->store);
    assert_int_equal(has_log, f->writers[number].answered > 0);
    assert_int_equal(configuration_add(&alone, f->config.id, f->config.name, SERVER_VOTER), 0);
    if (!has_log)
        assert_int_equal(consensus_found(g->consensus, &alone, 1, 0), 0);
}

static void start(struct fixture *f)
{
    char path[96], why[512] = "";

    assert_int_equal(uv_loop_init(&f->loop), 0);
    turn_init(&f->turn);
    uv_prepare_init(&f->loop, &f->turn_end);
    uv_timer_init(&f->loop, &f->beat);
    uv_timer_init(&f->loop, &f->later);
    f->turn_end.data = f->beat.data = f;
    snprintf(path, sizeof path, "%s/log.db", f->dir);
    if (shared_log_open(path, &f->loop, &f->turn, &f->log, why) != 0)
        fail_msg("%s", why);
    f->owner.log = f->log;
    for (uint16_t i = 0; i < N; i++)
        open_group(f, i);
    for (uint16_t i = 0; i < N; i++)
        if (group_start(f->groups[i], true, why) != 0)
            fail_msg("%s", why);
    uv_prepare_start(&f->turn_end, on_turn_end);
    uv_timer_start(&f->beat, on_beat, f->config.heartbeat_ms, f->config.heartbeat_ms);
}

static void stop(struct fixture *f)
{
    for (int i = 0; i < N; i++)
        group_end_requests(f->groups[i]);
    uv_prepare_stop(&f->turn_end);
    turn_deinit(&f->turn);
    for (int i = 0; i < N; i++)
        assert_true(group_stop(f->groups[i]));
    shared_log_close(f->log);
    uv_close((uv_handle_t *)&f->turn_end, NULL);
    uv_close((uv_handle_t *)&f->beat, NULL);
    uv_close((uv_handle_t *)&f->later, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    for (int i = 0; i < N; i++)
        group_free(f->groups[i]);
    assert_int_equal(uv_loop_close(&f->loop), 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    snprintf(f->dir, sizeof f->dir, "/tmp/kvfs-groups-XXXXXX");
    if (f == NULL || mkdtemp(f->dir) == NULL)
        return -1;
    f->config = (struct config){.name = "n1",
                                .id = 1,
                                .data_dir = f->dir,
                                .cluster_id = 7,
                                .election_ms = 100,
                                .heartbeat_ms = 20,
                                .flush_ms = 50,
                                .flush_commands = 16,
                                .log_keep_entries = 100000,
                                .log_keep_bytes = UINT64_C(1) << 30,
                                .scrub_bytes_per_s = 1 << 20};
    f->links = (struct peer_links){.begin = no_link,
                                   .up = not_up,
                                   .up_count = none_up,
                                   .can_send = not_up,
                                   .pending = nothing_waits,
                                   .pending_most = nothing_waits_at_all,
                                   .each = nobody,
                                   .level = newest_level,
                                   .election_ms = no_election};
    f->owner = (struct group_owner){.config = &f->config,
                                    .loop = &f->loop,
                                    .turn = &f->turn,
                                    .clock = &f->clock,
                                    .links = &f->links,
                                    .on_held = ignore_held,
                                    .on_state_dropped = never,
                                    .on_state_replaced = never,
                                    .on_written_behind = ignore,
                                    .on_read = never_read,
                                    .on_log_shorter = never_shorter,
                                    .on_contradiction = never};
    for (int i = 0; i < N; i++)
        f->writers[i].fixture = f;
    start(f);
    *state = f;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    stop(f);
    nftw(f->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

/* ---- writing and reading ---- */

static void set(struct writer *w);

static void on_written(void *arg, int code, const struct command_result *result)
{
    struct writer *w = arg;
    struct fixture *f = w->fixture;

    assert_int_equal(code, KV_OK);
    assert_int_equal(result->code, KV_OK);
    f->order[f->n_order++] = w->group->number;
    w->answered++;
    w->revision = store_applied(w->group->store);
    if (w->started < WRITES)
        set(w);
}

/* The same names in both groups, but for one, and other values. */
static void set(struct writer *w)
{
    char path[32], value[32];
    struct command_body body = {.path = (const uint8_t *)path, .mode = 0644, .value = (const uint8_t *)value};
    struct command cmd = {.op = COMMAND_SET, .flags = COMMAND_TRUSTED, .node = "n1", .node_len = 2};
    struct buffer b = BUFFER_INIT;

    snprintf(path, sizeof path, w->started == 0 ? "only-%u" : "both-%u",
             w->started == 0 ? w->group->number : w->started);
    snprintf(value, sizeof value, "%u of group %u", w->started, w->group->number);
    body.path_len = strlen(path);
    body.value_len = strlen(value);
    command_body_encode(&b, cmd.op, &body);
    cmd.body = b.data;
    cmd.body_len = b.len;
    w->started++;
    assert_int_equal(writes_start(w->group->writes, &cmd, on_written, w), 0);
    buffer_deinit(&b);
}

static void write_in_both(struct fixture *f)
{
    run_until(f, both_lead);
    for (int i = 0; i < N; i++)
        set(&f->writers[i]);
    run_until(f, all_is_answered);
}

/* "": there is no such name. */
static const char *get(const struct group *g, const char *path)
{
    static char text[64];
    struct buffer b = BUFFER_INIT;
    struct attr attr = {0};
    const uint8_t *name;
    uint64_t parent;
    size_t len;

    text[0] = '\0';
    if (store_resolve(g->store, NULL, path, strlen(path), &attr, &parent, &name, &len) == KV_OK &&
        attr.ino != 0 && store_read(g->store, attr.ino, 0, sizeof text - 1, &b) == KV_OK)
        snprintf(text, sizeof text, "%.*s", (int)b.len, (const char *)b.data);
    buffer_deinit(&b);
    return text;
}

static void assert_each_has_its_own(const struct fixture *f)
{
    for (unsigned i = 0; i < N; i++) {
        char path[32], value[32];

        for (unsigned k = 1; k < WRITES; k++) {
            snprintf(path, sizeof path, "both-%u", k);
            snprintf(value, sizeof value, "%u of group %u", k, i);
            assert_string_equal(get(f->groups[i], path), value);
        }
        snprintf(path, sizeof path, "only-%u", i);
        snprintf(value, sizeof value, "0 of group %u", i);
        assert_string_equal(get(f->groups[i], path), value);
        assert_string_equal(get(f->groups[N - 1 - i], path), "");
    }
}

static void each_group_has_what_was_written_in_it(void **state)
{
    struct fixture *f = *state;
    unsigned turns = 0;

    write_in_both(f);
    assert_each_has_its_own(f);
    /* Each has one write under way, so log.db completes one of the one and one of the other. */
    for (unsigned i = 1; i < f->n_order; i++)
        turns += f->order[i] != f->order[i - 1];
    assert_true(turns > WRITES);
}

static void the_next_start_finds_both(void **state)
{
    struct fixture *f = *state;

    write_in_both(f);
    stop(f);
    start(f);
    /* state.db was written to the end: nothing of it has to be applied again. */
    for (int i = 0; i < N; i++)
        assert_true(f->loaded[i] >= f->writers[i].revision);
    run_until(f, all_is_applied);
    assert_each_has_its_own(f);
}

static void log_db_alone_has_the_logs_of_both(void **state)
{
    struct fixture *f = *state;
    char path[96];

    write_in_both(f);
    stop(f);
    for (int i = 0; i < N; i++) {
        snprintf(path, sizeof path, "%s/%d/state.db", f->dir, i);
        assert_int_equal(unlink(path), 0);
    }
    start(f);
    for (int i = 0; i < N; i++)
        assert_int_equal(f->loaded[i], 0);
    run_until(f, all_is_applied);
    assert_each_has_its_own(f);
}

/* ---- shared_log.h, by itself ---- */

struct member {
    char told[64]; /* 'a' or 'r' for each completion, '!' for the turn in which it does something */
};

static void on_completed(void *arg, enum log_store_event_type type)
{
    struct member *m = arg;

    strcat(m->told, type == LOG_STORE_APPENDED ? "a" : "r");
}

static void on_woken(void *arg)
{
    struct member *m = arg;

    strcat(m->told, "!");
}

static void append(struct shared_log *l, uint16_t group, uint64_t index)
{
    struct entry *e = entry_new(ENTRY_COMMAND, "x", 1);

    e->term = 1;
    assert_int_equal(log_store_append(shared_log_store(l), group, index, &e, 1), 0);
    entry_put(e);
}

static void completions_go_to_the_group_that_they_name(void **state)
{
    struct snapshot_meta meta = {.index = 9, .term = 1, .conf_index = 1};
    struct configuration alone = {0};
    struct member members[N] = {0};
    char dir[] = "/tmp/kvfs-groups-XXXXXX", path[64], why[512];
    struct turn turn = {0};
    struct shared_log *l;
    uv_loop_t loop;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/log.db", dir);
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(shared_log_open(path, &loop, &turn, &l, why), 0);
    for (uint16_t i = 0; i < N; i++)
        assert_int_equal(shared_log_join(l, &(struct shared_log_member){.group = i,
                                                                        .arg = &members[i],
                                                                        .on_completed = on_completed,
                                                                        .on_woken = on_woken}),
                         0);
    append(l, 1, 1);
    append(l, 0, 1);
    append(l, 1, 2);
    assert_int_equal(configuration_add(&alone, 1, "n1", SERVER_VOTER), 0);
    meta.conf = configuration_encode(&alone);
    assert_int_equal(log_store_reset(shared_log_store(l), 1, &meta), 0);
    snapshot_meta_deinit(&meta);
    append(l, 0, 2);
    append(l, 0, 3);
    assert_int_equal(shared_log_sync(l), 0);
    shared_log_tell(l);
    assert_string_equal(members[0].told, "aaa");
    assert_string_equal(members[1].told, "aar");
    uv_run(&loop, UV_RUN_ONCE);
    assert_string_equal(members[0].told, "aaa!");
    assert_string_equal(members[1].told, "aar!");
    shared_log_leave(l, 0);
    append(l, 0, 4);
    append(l, 1, 10);
    assert_int_equal(shared_log_sync(l), 0);
    shared_log_tell(l);
    assert_string_equal(members[0].told, "aaa!");
    assert_string_equal(members[1].told, "aar!a");
    shared_log_close(l);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_group_has_what_was_written_in_it, setup, teardown),
        cmocka_unit_test_setup_teardown(the_next_start_finds_both, setup, teardown),
        cmocka_unit_test_setup_teardown(log_db_alone_has_the_logs_of_both, setup, teardown),
        cmocka_unit_test(completions_go_to_the_group_that_they_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
