/* `del -r` of a large tree in steps, over a real store; the way into the log is the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "kvnode/group/group.h"
#include "kvnode/group/removal.h"
#include "tests/unit/store/world.h"

#define KEYS 1300
#define USER 1000
#define QUEUE 8

/* A write under way. */
struct started {
    struct buffer body;
    uint8_t op;
    writes_done *done;
    void *arg;
};

struct fixture {
    struct world w;
    struct group group;
    struct started queue[QUEUE];
    unsigned n_queued, n_writes; /* n_writes: that were executed */
    unsigned refuse_after;       /* so many are taken */
    bool kept;                   /* the request was executed meanwhile: its result is there */
    int refusal;
    bool answered;
    int code;
    struct command_result result;
};

static struct fixture *fixture;

/* In the place of kvnode/group/writes.c. */
int writes_start(struct writes *w, const struct command *cmd, writes_done *done, void *arg)
{
    struct fixture *f = fixture;
    struct started *x = &f->queue[f->n_queued];

    (void)w;
    if (f->n_writes + f->n_queued >= f->refuse_after)
        return f->refusal;
    if (f->kept && cmd->op == COMMAND_DEL) {
        const struct command_result result = {.code = KV_OK};

        done(arg, KV_OK, &result);
        return 0;
    }
    assert_true(f->n_queued < QUEUE);
    *x = (struct started){.op = cmd->op, .done = done, .arg = arg};
    buffer_put_bytes(&x->body, cmd->body, cmd->body_len);
    f->n_queued++;
    return 0;
}

static struct started take(struct fixture *f)
{
    struct started first = f->queue[0];

    assert_true(f->n_queued > 0);
    for (unsigned i = 1; i < f->n_queued; i++)
        f->queue[i - 1] = f->queue[i];
    f->n_queued--;
    return first;
}

static void execute(struct fixture *f)
{
    struct started x = take(f);

    f->w.seq++;
    f->w.acked_below = f->w.seq;
    world_raw(&f->w, x.op, f->w.session, f->w.seq, x.body.data, x.body.len);
    f->n_writes++;
    buffer_deinit(&x.body);
    x.done(x.arg, KV_OK, &f->w.result);
}

static void lose(struct fixture *f, int code)
{
    struct started x = take(f);

    buffer_deinit(&x.body);
    x.done(x.arg, code, NULL);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    char path[32];

    world_init(&f->w, false);
    f->group.store = f->w.s;
    f->refuse_after = UINT32_MAX;
    for (int i = 0; i < KEYS; i++) {
        snprintf(path, sizeof path, "tree/a/%04d", i);
        assert_int_equal(world_set(&f->w, path, "x"), KV_OK);
    }
    *state = fixture = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(f->n_queued, 0);
    world_deinit(&f->w);
    free(f);
    return 0;
}

static void on_done(void *arg, int code, const struct command_result *result)
{
    struct fixture *f = arg;

    assert_false(f->answered);
    f->answered = true;
    f->code = code;
    f->result = *result;
}

static void del(struct fixture *f)
{
    const struct command_body body = {.path = (const uint8_t *)"tree", .path_len = 4, .flags = 1};
    struct command cmd = {.op = COMMAND_DEL, .node = "n1", .node_len = 2};
    struct buffer b = BUFFER_INIT;

    command_body_encode(&b, COMMAND_DEL, &body);
    cmd.body = b.data;
    cmd.body_len = b.len;
    assert_int_equal(removal_start(&f->group, &cmd, on_done, f), 0);
    buffer_deinit(&b);
}

static void a_tree_goes_in_steps_and_then_itself(void **state)
{
    struct fixture *f = *state;

    del(f);
    while (!f->answered)
        execute(f);
    assert_int_equal(f->code, KV_OK);
    assert_int_equal(f->result.code, KV_OK);
    assert_int_equal(f->result.removed, KEYS + 2);
    assert_int_equal(world_ino(&f->w, "tree"), 0);
}

/* Nothing looks at it behind that. */
static void it_may_be_answered_at_once_in_the_end(void **state)
{
    struct fixture *f = *state;

    f->kept = true;
    del(f);
    while (!f->answered)
        execute(f);
    assert_int_equal(f->code, KV_OK);
    assert_int_equal(f->result.code, KV_OK);
}

/* What it says, and whether that is true of the tree. */
static void assert_partly(const struct fixture *f, int code, uint64_t removed)
{
    assert_true(f->answered);
    assert_int_equal(f->code, KV_OK);
    assert_int_equal(f->result.code, code);
    assert_int_equal(f->result.removed, removed);
    assert_int_equal(store_below(f->w.s, (const uint8_t *)"tree", 4, 2 * KEYS), KEYS + 1 - removed);
}

static void a_refusal_on_the_way_tells_how_many_are_gone(void **state)
{
    static const int codes[] = {KV_E_BUSY, KV_E_ROFS, KV_E_NOSPC, KV_E_UNAVAILABLE};

    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        void *each;
        struct fixture *f;

        setup(&each);
        f = each;
        f->refuse_after = 2;
        f->refusal = codes[i];
        del(f);
        while (f->n_queued > 0)
            execute(f);
        assert_partly(f, codes[i], 1024);
        f->answered = false;
        f->refuse_after = UINT32_MAX;
        del(f); /* goes on with the rest */
        while (!f->answered)
            execute(f);
        assert_int_equal(f->code, KV_OK);
        assert_int_equal(f->result.code, KV_OK);
        assert_int_equal(world_ino(&f->w, "tree"), 0);
        teardown(&each);
    }
}

static void a_step_that_gets_no_answer_tells_how_many_are_gone_at_least(void **state)
{
    struct fixture *f = *state;

    del(f);
    execute(f);
    lose(f, KV_E_UNKNOWN);
    while (f->n_queued > 0)
        lose(f, KV_E_UNAVAILABLE);
    assert_partly(f, KV_E_UNKNOWN, 512);
}

static void a_step_without_permission_tells_how_many_are_gone(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(world_set(&f->w, "tree/z/kept", "x"), KV_OK);
    assert_int_equal(world_chmod(&f->w, KV_ROOT_INO, 0777), KV_OK);
    assert_int_equal(world_chmod(&f->w, world_ino(&f->w, "tree"), 0777), KV_OK);
    assert_int_equal(world_chmod(&f->w, world_ino(&f->w, "tree/a"), 0777), KV_OK);
    f->w.uid = f->w.gid = USER;
    f->w.flags = 0;
    del(f);
    while (!f->answered)
        execute(f);
    assert_int_equal(f->code, KV_OK);
    assert_int_equal(f->result.code, KV_E_ACCES);
    assert_int_equal(f->result.removed, 1024);
    assert_string_equal(world_get(&f->w, "tree/z/kept"), "x");
}

static void a_refusal_of_the_first_step_is_one_of_the_whole(void **state)
{
    struct fixture *f = *state;

    f->refuse_after = 0;
    f->refusal = KV_E_BUSY;
    del(f);
    assert_true(f->answered);
    assert_int_equal(f->code, KV_E_BUSY);
    assert_int_equal(f->result.removed, 0);
}

/* None is known to have happened, but one may have. */
static void a_step_of_unknown_outcome_outweighs_refusals(void **state)
{
    struct fixture *f = *state;

    del(f);
    lose(f, KV_E_UNKNOWN);
    while (f->n_queued > 0)
        lose(f, KV_E_UNAVAILABLE);
    assert_int_equal(f->code, KV_E_UNKNOWN);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_tree_goes_in_steps_and_then_itself),
        TEST(it_may_be_answered_at_once_in_the_end),
        cmocka_unit_test(a_refusal_on_the_way_tells_how_many_are_gone),
        TEST(a_step_that_gets_no_answer_tells_how_many_are_gone_at_least),
        TEST(a_step_without_permission_tells_how_many_are_gone),
        TEST(a_refusal_of_the_first_step_is_one_of_the_whole),
        TEST(a_step_of_unknown_outcome_outweighs_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
