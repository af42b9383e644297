/* Lives of nodes: what contradicts what, and that nobody is accused wrongly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "sync/raft/engine/incarnation.h"

static struct incarnation life(uint64_t boot, uint64_t nonce, uint64_t born, uint64_t index)
{
    return (struct incarnation){
        .id = 2, .boot = boot, .nonce = nonce, .born_index = born, .born_term = 3, .index = index, .term = 3};
}

static void knows_an_older_copy_by_its_start(void **state)
{
    struct incarnation known = life(5, 50, 100, 180), said = life(4, 40, 80, 100);

    assert_int_equal(incarnation_check(&known, &said), INCARNATION_OLD_BOOT);
    said = life(5, 51, 100, 100);
    assert_int_equal(incarnation_check(&known, &said), INCARNATION_TWIN);
    said = life(6, 60, 179, 179);
    assert_int_equal(incarnation_check(&known, &said), INCARNATION_LOG_SHORT);
    said = life(6, 60, 180, 180);
    assert_int_equal(incarnation_check(&known, &said), INCARNATION_FINE);
    said.born_term = 2;
    assert_int_equal(incarnation_check(&known, &said), INCARNATION_TERM_LOW);
    /* Told late by a third node: no contradiction. */
    said = life(5, 50, 100, 120);
    assert_int_equal(incarnation_check(&known, &said), INCARNATION_FINE);
}

static void knows_a_copy_that_was_started_more_than_once(void **state)
{
    struct incarnation known = life(5, 50, 100, 100), said = life(7, 70, 100, 100);
    struct incarnations t = {.n = 0};

    said.past[0] = 61;
    said.past[1] = 50;
    assert_int_equal(incarnation_check(&known, &said), INCARNATION_FINE);
    said.past[1] = 51;
    assert_int_equal(incarnation_check(&known, &said), INCARNATION_TWIN);
    incarnations_merge(&t, &known);
    incarnations_merge(&t, &said);
    assert_true(t.all[0].gone);
    assert_int_equal(t.all[0].past[1], 51);
    /* Longer ago than it remembers: nothing is said. */
    said.boot = 5 + INCARNATION_PAST + 1;
    assert_int_equal(incarnation_check(&known, &said), INCARNATION_FINE);
}

static void knows_a_wiped_node(void **state)
{
    struct incarnation known = life(1, 50, 1, 1), said = life(7, 60, 0, 0);

    said.born_term = 0;
    assert_int_equal(incarnation_check(&known, &said), INCARNATION_LOG_SHORT);
    said.boot = 1;
    assert_int_equal(incarnation_check(&known, &said), INCARNATION_TWIN);
    /* It was let in, and died before it had anything. */
    known.index = known.term = 0;
    said = life(2, 60, 0, 0);
    said.born_term = 0;
    assert_int_equal(incarnation_check(&known, &said), INCARNATION_FINE);
}

static void an_era_ends_what_was_before(void **state)
{
    struct incarnations t = {.n = 0};
    struct incarnation gone = life(5, 50, 100, 180), anew = {.id = 2, .era = 1}, old = life(6, 60, 180, 200);
    struct incarnation first = {.id = 2, .era = 1, .boot = 1, .nonce = 9};

    gone.gone = true;
    assert_int_equal(incarnations_merge(&t, &gone), INCARNATION_NEWS);
    assert_int_equal(incarnation_check(&t.all[0], &old), INCARNATION_KNOWN_GONE);
    assert_int_equal(incarnations_merge(&t, &anew), INCARNATION_NEWS);
    assert_int_equal(incarnation_check(&t.all[0], &old), INCARNATION_OLD_ERA);
    assert_int_equal(incarnation_check(&t.all[0], &first), INCARNATION_FINE);
    assert_int_equal(incarnations_merge(&t, &old), INCARNATION_OLD_NEWS);
    assert_false(t.all[0].gone);
}

static void two_tables_that_contradict_each_other_find_it(void **state)
{
    struct incarnations t = {.n = 0};
    struct incarnation a = life(5, 50, 100, 180), b = life(6, 60, 150, 170);

    assert_int_equal(incarnations_merge(&t, &a), INCARNATION_NEWS);
    assert_int_equal(incarnations_merge(&t, &b), INCARNATION_NEWS);
    assert_true(t.all[0].gone);
    /* In the other order, too. */
    t.n = 0;
    incarnations_merge(&t, &b);
    incarnations_merge(&t, &a);
    assert_true(t.all[0].gone);
    assert_int_equal(t.all[0].index, 180);
    assert_int_equal(incarnations_merge(&t, &a), INCARNATION_OLD_NEWS);
}

static void refuses_bytes_that_are_no_table(void **state)
{
    struct incarnations t = {.n = 0}, back;
    struct incarnation a = life(5, 50, 100, 180);
    struct buffer b = BUFFER_INIT, again = BUFFER_INIT;
    struct cursor in;

    incarnations_merge(&t, &a);
    incarnations_encode(&b, &t);
    assert_int_equal(b.len, 2 + INCARNATION_BYTES);
    in = cursor_of(b.data, b.len);
    assert_true(incarnations_decode(&in, &back) && cursor_done(&in));
    incarnations_encode(&again, &back);
    assert_int_equal(again.len, b.len);
    assert_memory_equal(again.data, b.data, b.len);
    buffer_deinit(&again);
    for (size_t len = 0; len < b.len; len++) {
        in = cursor_of(b.data, len);
        assert_false(incarnations_decode(&in, &back));
    }
    b.data[b.len - 1] = 2;
    in = cursor_of(b.data, b.len);
    assert_false(incarnations_decode(&in, &back));
    b.data[b.len - 1] = 1;
    b.data[1] = INCARNATIONS_MAX + 1;
    in = cursor_of(b.data, b.len);
    assert_false(incarnations_decode(&in, &back));
    buffer_deinit(&b);
}

/* ---- many lives ---- */

#define NODES 5

static uint64_t seed;

static unsigned rnd(unsigned below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % below;
}

/* Node 1's own disk, and what the others know of it, durably and not yet. */
struct world {
    struct incarnation self, copy;
    bool running;
    uint64_t log; /* end of its durable log */
    uint64_t copy_log;
    struct incarnations tables[NODES], durable[NODES];
};

static void start(struct world *w)
{
    w->self.boot++;
    w->self.nonce = seed | 1;
    w->self.born_index = w->log;
    w->self.born_term = w->self.term;
    w->running = true;
}

static void talk(struct world *w, unsigned to)
{
    if (w->running && incarnations_merge(&w->tables[to], &w->self) == INCARNATION_NEWS)
        w->durable[to] = w->tables[to];
}

static void gossip(struct world *w, unsigned from, unsigned to)
{
    if (w->tables[from].n > 0 &&
        incarnations_merge(&w->tables[to], &w->tables[from].all[0]) == INCARNATION_NEWS)
        w->durable[to] = w->tables[to];
}

static void step(struct world *w)
{
    unsigned a = rnd(NODES), b = rnd(NODES);

    switch (rnd(8)) {
    case 0: /* a crash: what was not acknowledged may be lost */
        w->running = false;
        break;
    case 1:
        if (!w->running)
            start(w);
        break;
    case 2:
    case 3:
        if (w->running) {
            w->log += rnd(10);
            w->self.index = w->log - (w->log > 3 ? rnd(3) : 0) > w->self.index
                                ? w->log - (w->log > 3 ? rnd(3) : 0)
                                : w->self.index;
            if (w->self.index > w->log)
                w->self.index = w->log;
            w->self.term += rnd(8) == 0;
        }
        break;
    case 4:
    case 5:
        talk(w, a);
        break;
    case 6:
        gossip(w, a, b);
        break;
    case 7: /* another node restarts: what it only heard of progress is gone */
        w->tables[a] = w->durable[a];
        break;
    }
}

static bool accused(const struct world *w, unsigned n)
{
    return w->tables[n].n > 0 && w->tables[n].all[0].gone;
}

static void nobody_who_keeps_his_files_is_accused(void **state)
{
    for (unsigned run = 0; run < 2000; run++) {
        struct world w = {.self = {.id = 1, .term = 1, .index = 1}, .log = 1};

        seed = run * 77 + 5;
        for (unsigned i = 0; i < 300; i++) {
            step(&w);
            for (unsigned n = 0; n < NODES; n++)
                if (accused(&w, n))
                    fail_msg("run %u, step %u: accused wrongly", run, i);
        }
    }
}

/* Its files as of a time when it was down: whoever heard of a later start finds it. */
static void who_comes_with_a_copy_is_found_by_all_who_know_better(void **state)
{
    unsigned found = 0;

    for (unsigned run = 0; run < 2000; run++) {
        struct world w = {.self = {.id = 1, .term = 1, .index = 1}, .log = 1};
        uint64_t copied_boot;

        seed = run * 131 + 7;
        for (unsigned i = 0; i < 50; i++)
            step(&w);
        w.running = false;
        w.copy = w.self;
        w.copy_log = w.log;
        copied_boot = w.self.boot;
        start(&w);
        for (unsigned i = 0; i < 50; i++)
            step(&w);
        w.running = false;
        w.self = w.copy;
        w.log = w.copy_log;
        start(&w);
        for (unsigned n = 0; n < NODES; n++) {
            bool knows = w.tables[n].n > 0 && w.tables[n].all[0].boot > copied_boot;
            enum incarnation_fault fault =
                w.tables[n].n > 0 ? incarnation_check(&w.tables[n].all[0], &w.self) : INCARNATION_FINE;

            if (knows && fault == INCARNATION_FINE)
                fail_msg("run %u: node %u knows of a later start, and lets it in", run, n);
            found += knows;
            /* One who does not know lets it in; when it meets one who does, both know. */
            if (!knows)
                talk(&w, n);
        }
        for (unsigned a = 0; a < NODES; a++)
            for (unsigned b = 0; b < NODES; b++)
                if (w.tables[a].n > 0 && w.tables[a].all[0].boot == w.self.boot &&
                    w.tables[a].all[0].nonce == w.self.nonce && w.tables[b].n > 0 &&
                    w.tables[b].all[0].nonce != w.self.nonce && w.tables[b].all[0].boot > copied_boot) {
                    gossip(&w, b, a);
                    /* At once, or with the next word of the node itself. */
                    if (!accused(&w, a) &&
                        incarnation_check(&w.tables[a].all[0], &w.self) == INCARNATION_FINE)
                        fail_msg("run %u: two lives meet, and nothing is found", run);
                }
    }
    assert_true(found > 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_an_older_copy_by_its_start),
        cmocka_unit_test(knows_a_copy_that_was_started_more_than_once),
        cmocka_unit_test(knows_a_wiped_node),
        cmocka_unit_test(an_era_ends_what_was_before),
        cmocka_unit_test(two_tables_that_contradict_each_other_find_it),
        cmocka_unit_test(refuses_bytes_that_are_no_table),
        cmocka_unit_test(nobody_who_keeps_his_files_is_accused),
        cmocka_unit_test(who_comes_with_a_copy_is_found_by_all_who_know_better),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
