/* Lack of memory: every allocation in turn fails, until a run needs no more.
 * Nothing may crash or leak; an engine may die, saying so, or lose a message. */
#include "tests/unit/raft/rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"
#include "sync/raft/engine/entry_log.h"

static int countdown = -1; /* allocations until one fails; -1: none does */

static bool fails(void)
{
    return countdown >= 0 && countdown-- == 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails() ? NULL : __real_realloc(p, size);
}

/* Runs `scenario` with the first, the second, ... allocation failing. */
static void with_every_failure(int (*scenario)(int fail_at))
{
    int n = 0;

    while (scenario(n) != 0)
        assert_true(++n < 10000);
    assert_true(n > 0); /* at least one allocation was hit */
}

static bool was_hit(void)
{
    bool hit = countdown == -1;

    countdown = -1;
    return hit;
}

static int lead_a_while(int fail_at)
{
    struct rig r;
    int result;
    bool hit;

    rig_init(&r, NULL);
    rig_start(&r, 3, 1, NULL);
    rig_elect(&r);
    rig_accept(&r, 2, 2);
    countdown = fail_at;
    result = engine_read_index(r.engine, r.now, 1);
    if (result == 0)
        result = engine_flush(r.engine, r.now);
    for (int i = 0; i < 20 && result == 0; i++) {
        struct entry *e = __real_malloc(sizeof *e + 8);

        memset(e, 0, sizeof *e + 8);
        e->refs = 1;
        e->type = ENTRY_COMMAND;
        e->len = 8;
        result = engine_submit(r.engine, r.now, &e, 1, NULL);
        entry_put(e);
    }
    if (result == 0)
        result = engine_tick(r.engine, r.now = engine_timeout(r.engine));
    hit = was_hit();
    assert_true(result == 0 || (result == -ENOMEM && engine_failure(r.engine) != NULL));
    assert_true(hit || result == 0);
    rig_deinit(&r);
    return hit;
}

static int follow_a_while(int fail_at)
{
    static const uint64_t terms[] = {2, 2, 2, 0};
    struct configuration c = rig_voters(4);
    struct engine_message *m, *decoded = NULL;
    struct buffer b = BUFFER_INIT;
    struct rig r;
    int result;
    bool hit;

    rig_init(&r, NULL);
    rig_start(&r, 3, 1, NULL);
    m = rig_append_message(&r, 2, 2, 1, 1, 1, terms);
    entry_put(m->entries[1]);
    m->entries[1] = configuration_encode(&c);
    m->entries[1]->term = 2;
    message_encode(m, &b);
    message_free(m);
    countdown = fail_at;
    result = message_decode(b.data, b.len, &decoded);
    if (result == 0)
        result = engine_receive(r.engine, r.now, decoded);
    hit = was_hit();
    assert_true(result == 0 || result == -ENOMEM);
    assert_true(hit || result == 0);
    buffer_deinit(&b);
    rig_deinit(&r);
    return hit;
}

static int begin_an_engine(int fail_at)
{
    const struct engine_ops ops = {.ctx = NULL};
    struct configuration c = rig_voters(3);
    struct entry *change = configuration_encode(&c);
    struct engine_stored stored = {
        .term = 1, .start_index = 1, .entries = &change, .n_entries = 1, .applied_index = 1};
    struct engine_config config;
    struct engine *e = NULL;
    int result;
    bool hit;

    engine_config_defaults(&config);
    config.id = 1;
    change->term = 1;
    countdown = fail_at;
    result = engine_new(&config, &ops, &e);
    if (result == 0)
        result = engine_start(e, 1000, &stored);
    hit = was_hit();
    assert_int_equal(result, hit ? -ENOMEM : 0);
    engine_free(e);
    entry_put(change);
    return hit;
}

static void an_engine_reports_lack_of_memory_when_it_begins(void **state)
{
    with_every_failure(begin_an_engine);
}

static void a_leader_dies_or_loses_a_message(void **state)
{
    with_every_failure(lead_a_while);
}

static void a_follower_dies_or_loses_a_message(void **state)
{
    with_every_failure(follow_a_while);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_engine_reports_lack_of_memory_when_it_begins),
        cmocka_unit_test(a_leader_dies_or_loses_a_message),
        cmocka_unit_test(a_follower_dies_or_loses_a_message),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
