/* Lock tables that a session has for itself: taken, wanted, given back, lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kvnode/state/lock_internal.h"
#include "kvnode/state/store_internal.h"
#include "sync/base/lock_ranges.h"
#include "tests/unit/store/lock_commands.h"
#include "tests/unit/store/place.h"

#define END LOCK_RANGE_END
#define FLOCK LOCK_OF_FLOCK
#define RANGE LOCK_OF_RANGE
#define EXCLUSIVE LOCK_FLAG_EXCLUSIVE
#define WAIT LOCK_FLAG_WAIT
#define TAKE LOCK_FLAG_TAKE
#define ASK LOCK_FLAG_ASK

static int take(struct world *w, uint64_t session, uint64_t ino, uint8_t kind, uint64_t owner, uint8_t flags,
                uint64_t ticket)
{
    struct command_body body = lock_of(ino, kind, owner, flags, 0, END, ticket);

    return lock_send(w, session, COMMAND_LOCK_TAKE, &body);
}

/* The events of the last command: "7 8!29" of waits that have ended, "<9" of a table that is wanted. */
static const char *told(const struct world *w)
{
    static char text[256];
    size_t at = 0;

    text[0] = '\0';
    for (int i = 0; i < w->n_events && i < WORLD_EVENTS; i++) {
        const struct world_event *e = &w->events[i];

        if (e->kind != EVENT_NOTHING || e->parent == 0)
            continue;
        at += (size_t)snprintf(text + at, sizeof text - at, "%s", at > 0 ? " " : "");
        if (e->new_parent == 0)
            at += (size_t)snprintf(text + at, sizeof text - at, "<%llu", (unsigned long long)e->ino);
        else
            at += (size_t)snprintf(text + at, sizeof text - at, "%llu", (unsigned long long)e->new_parent);
        if (e->new_parent != 0 && e->base_revision != 0)
            at += (size_t)snprintf(text + at, sizeof text - at, "!%d", (int)e->base_revision);
    }
    return text;
}

static const char *has(uint64_t session, const char *rest)
{
    static char text[256];

    snprintf(text, sizeof text, "[%llu]%s", (unsigned long long)session, rest);
    return text;
}

static void a_table_is_taken_wanted_and_given_back(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session, other = lock_join(w, "the other session"),
             third = lock_join(w, "the third session");
    uint64_t epoch;
    char expect[64];
    const struct lock_put in[] = {{RANGE, 1, 4, 0, 9, 44}, {FLOCK, 0, 5, 0, END, 55}};

    assert_int_equal(take(w, s, 9, RANGE, 1, TAKE | EXCLUSIVE, 1), KV_OK);
    epoch = w->index;
    assert_int_equal(w->result.created, 1);
    assert_true(w->result.base_revision == epoch);
    assert_string_equal(lock_list(w, 9), has(s, ""));
    /* What it locks there it does not ask here. */
    assert_int_equal(take(w, s, 9, RANGE, 2, EXCLUSIVE, 2), KV_E_INVAL);
    assert_int_equal(lock_put_back(w, s, 9, epoch + 1, NULL, 0), KV_E_STALE);
    assert_int_equal(lock_put_back(w, other, 9, epoch, NULL, 0), KV_E_STALE);
    assert_int_equal(lock_put_back(w, s, 10, epoch, NULL, 0), KV_E_STALE);
    /* All of others wait, one that only tries as well. */
    assert_int_equal(take(w, other, 9, RANGE, 1, EXCLUSIVE, 11), KV_OK);
    assert_int_equal(w->result.created, 0);
    assert_string_equal(told(w), "<9");
    assert_int_equal(w->events[0].parent, s);
    assert_true(w->events[0].base_revision == epoch);
    assert_int_equal(take(w, other, 9, RANGE, 2, EXCLUSIVE | WAIT | TAKE, 12), KV_OK);
    assert_string_equal(told(w), "<9"); /* once more: it may have been missed */
    assert_int_equal(take(w, third, 9, RANGE, 3, ASK, 13), KV_OK);
    assert_int_equal(take(w, third, 9, FLOCK, 3, 0, 14), KV_OK);
    assert_int_equal(take(w, third, 9, FLOCK, 4, EXCLUSIVE, 15), KV_OK);
    assert_string_equal(lock_list(w, 9), has(s, " ?3stry ?4xtry ?1xtry ?2x ?3sask"));
    place_restart(p);
    assert_string_equal(lock_list(w, 9), has(s, " ?3stry ?4xtry ?1xtry ?2x ?3sask"));
    assert_true(world_digest_is_right(w));
    /* Asked once more, under the same ticket. */
    assert_int_equal(take(w, other, 9, RANGE, 1, EXCLUSIVE, 11), KV_OK);
    assert_int_equal(w->result.created, 0);
    assert_int_equal(lock_put_back(w, s, 9, epoch, in, 2), KV_OK);
    snprintf(expect, sizeof expect, "14 15!%d 11!%d 13", KV_E_LOCKED, KV_E_LOCKED);
    assert_string_equal(told(w), expect);
    assert_string_equal(lock_list(w, 9), "5s 3s 4x ?2x");
    assert_int_equal(lock_put_back(w, s, 9, epoch, NULL, 0), KV_E_STALE);
    /* As ever from here on. */
    assert_int_equal(lock_send(w, s, COMMAND_UNLOCK,
                               &(struct command_body){.ino = 9, .kind = RANGE, .owner = 4, .end = END}),
                     KV_OK);
    assert_string_equal(told(w), "12");
    assert_int_equal(take(w, s, 9, RANGE, 9, TAKE, 16), KV_E_LOCKED);
    place_restart(p);
    assert_string_equal(lock_list(w, 9), "5s 3s 2x");
    assert_true(world_digest_is_right(w));
}

static void an_earlier_version_asks_once_more(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session, other = lock_join(w, "the other session"), epoch, seq;
    struct command_body body = lock_of(9, FLOCK, 1, EXCLUSIVE, 0, END, 0);

    assert_int_equal(take(w, s, 9, FLOCK, 1, TAKE | EXCLUSIVE, 1), KV_OK);
    epoch = w->index;
    seq = ++w->seq;
    assert_int_equal(lock_send_as(w, other, seq, COMMAND_LOCK, &body), KV_E_BUSY);
    assert_string_equal(told(w), "<9");
    assert_string_equal(lock_list(w, 9), has(s, ""));
    assert_int_equal(lock_put_back(w, s, 9, epoch, NULL, 0), KV_OK);
    assert_string_equal(lock_list(w, 9), "");
    assert_int_equal(lock_send_as(w, other, seq, COMMAND_LOCK, &body), KV_OK); /* it was not executed */
    assert_int_equal(w->result.created, 1);
    assert_string_equal(lock_list(w, 9), "1x");
    /* One that waits has a ticket. */
    assert_int_equal(take(w, s, 10, FLOCK, 1, TAKE | EXCLUSIVE, 2), KV_OK);
    epoch = w->index;
    body = lock_of(10, FLOCK, 1, EXCLUSIVE | WAIT, 0, END, 21);
    assert_int_equal(lock_send(w, other, COMMAND_LOCK, &body), KV_OK);
    assert_int_equal(w->result.created, 0);
    assert_int_equal(lock_put_back(w, s, 10, epoch, NULL, 0), KV_OK);
    assert_string_equal(told(w), "21");
    assert_true(world_digest_is_right(w));
}

static void a_session_that_ends_leaves_its_tables(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session, other = lock_join(w, "the other session"), epoch;
    char expect[64];

    assert_int_equal(take(w, other, 9, FLOCK, 1, TAKE | EXCLUSIVE, 1), KV_OK);
    epoch = w->index;
    assert_int_equal(take(w, other, 10, FLOCK, 1, TAKE | EXCLUSIVE, 2), KV_OK);
    assert_int_equal(take(w, s, 9, FLOCK, 1, EXCLUSIVE, 3), KV_OK);
    assert_int_equal(take(w, s, 9, FLOCK, 2, 0, 4), KV_OK);
    w->elapsed_ms += LOCK_LEASE_MS / 2;
    assert_int_equal(world_raw(w, COMMAND_KEEPALIVE, s, 0, NULL, 0), KV_OK);
    assert_string_equal(lock_list(w, 9), has(other, " ?1xtry ?2stry"));
    w->elapsed_ms += LOCK_LEASE_MS / 2 + 10;
    assert_int_equal(world_tick(w), KV_OK);
    snprintf(expect, sizeof expect, "3 4!%d", KV_E_LOCKED);
    assert_string_equal(told(w), expect);
    assert_string_equal(lock_list(w, 9), "1x");
    assert_string_equal(lock_list(w, 10), "");
    assert_int_equal(lock_put_back(w, other, 9, epoch, NULL, 0), KV_E_SESSION);
    assert_true(world_digest_is_right(w));
    place_restart(p);
    assert_string_equal(lock_list(w, 9), "1x");
    /* One that waits for it leaves, too, or wants no longer. */
    assert_int_equal(take(w, s, 11, FLOCK, 1, TAKE, 5), KV_OK);
    other = lock_join(w, "one more session");
    assert_int_equal(take(w, other, 11, FLOCK, 1, EXCLUSIVE | WAIT, 6), KV_OK);
    assert_int_equal(take(w, other, 11, FLOCK, 2, EXCLUSIVE, 7), KV_OK);
    assert_int_equal(lock_send(w, other, COMMAND_UNWAIT, &(struct command_body){.ino = 11, .ticket = 7}),
                     KV_OK);
    assert_string_equal(lock_list(w, 11), has(s, " ?1x"));
    assert_int_equal(world_raw(w, COMMAND_END, other, 0, NULL, 0), KV_OK);
    assert_string_equal(lock_list(w, 11), has(s, ""));
    assert_true(world_digest_is_right(w));
}

/* Each grant moves a fence, so a file that has one is nobody's own. */
static void a_file_with_a_fence_is_not_taken(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session, other = lock_join(w, "the other session"), ino, epoch, made;
    struct command_body body;

    assert_int_equal(world_set(w, "x", "1"), KV_OK);
    ino = world_ino(w, "x");
    assert_int_equal(take(w, s, ino, FLOCK, 1, TAKE | EXCLUSIVE, 1), KV_OK);
    epoch = w->index;
    w->flags |= COMMAND_FENCE;
    body = lock_of(ino, FLOCK, 1, EXCLUSIVE | WAIT | LOCK_FLAG_FENCE, 0, END, 2);
    body.lease_ms = 10000;
    assert_int_equal(lock_send(w, other, COMMAND_LOCK, &body), KV_OK);
    w->flags &= (uint16_t)~COMMAND_FENCE;
    assert_int_equal(w->result.created, 0);
    made = w->result.base_revision;
    assert_true(made == w->index);
    assert_int_equal(lock_put_back(w, s, ino, epoch, NULL, 0), KV_OK);
    assert_string_equal(told(w), "2");
    assert_false(fence_permits(w->s, ino, made));
    assert_true(fence_permits(w->s, ino, w->index));
    assert_int_equal(lock_send(w, other, COMMAND_UNLOCK, &body), KV_OK);
    assert_int_equal(take(w, s, ino, FLOCK, 1, TAKE | EXCLUSIVE, 3), KV_OK);
    assert_int_equal(w->result.created, 1);
    assert_true(w->result.base_revision == 0);
    assert_true(fence_permits(w->s, ino, w->index) && !fence_permits(w->s, ino, w->index - 1));
    assert_int_equal(take(w, other, ino, FLOCK, 1, ASK, 4), KV_OK); /* and that moves none */
    assert_true(fence_permits(w->s, ino, w->index - 1));
    assert_true(world_digest_is_right(w));
}

/* SQLite's index of a write-ahead log is one mount's at a time, whoever has its table. */
static void an_index_of_a_log_is_one_mounts(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session, other = lock_join(w, "the other session"), ino, epoch;
    const struct lock_put in = {RANGE, 0, 1, 128, 128, 7};
    struct command_body body;
    char expect[64];

    assert_int_equal(world_setting(w, "feature_level", "3"), KV_OK);
    assert_int_equal(world_set(w, "db-shm", "1"), KV_OK);
    ino = world_ino(w, "db-shm");
    assert_int_equal(take(w, s, ino, RANGE, 1, TAKE, 1), KV_OK);
    epoch = w->index;
    for (uint64_t ticket = 2; ticket <= 4; ticket++) {
        body = lock_of(ino, RANGE, ticket, ticket == 3 ? WAIT : 0, ticket < 4 ? 128 : 120,
                       ticket < 4 ? 128 : 120, ticket);
        assert_int_equal(lock_send(w, other, COMMAND_LOCK_TAKE, &body), KV_OK);
    }
    assert_int_equal(lock_put_back(w, s, ino, epoch, &in, 1), KV_OK);
    snprintf(expect, sizeof expect, "2!%d 3!%d 4", KV_E_LOCKED, KV_E_LOCKED);
    assert_string_equal(told(w), expect);
    assert_true(world_digest_is_right(w));
}

/* Nor has it somebody who waited for more than it, when the rest becomes free. */
static void an_index_is_not_got_by_waiting(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session, other = lock_join(w, "the other session"), ino;
    struct command_body body;
    char expect[64];

    assert_int_equal(world_setting(w, "feature_level", "3"), KV_OK);
    assert_int_equal(world_set(w, "db-shm", "1"), KV_OK);
    ino = world_ino(w, "db-shm");
    body = lock_of(ino, RANGE, 1, EXCLUSIVE, 120, 120, 0);
    assert_int_equal(lock_send(w, s, COMMAND_LOCK, &body), KV_OK);
    body = lock_of(ino, RANGE, 2, WAIT, 100, 130, 5);
    assert_int_equal(lock_send(w, other, COMMAND_LOCK, &body), KV_OK);
    body = lock_of(ino, RANGE, 1, 0, 128, 128, 0);
    assert_int_equal(lock_send(w, s, COMMAND_LOCK, &body), KV_OK);
    body = lock_of(ino, RANGE, 1, 0, 120, 120, 0);
    assert_int_equal(lock_send(w, s, COMMAND_UNLOCK, &body), KV_OK);
    snprintf(expect, sizeof expect, "5!%d", KV_E_LOCKED);
    assert_string_equal(told(w), expect);
    assert_string_equal(lock_list(w, ino), "1s");
    assert_true(world_digest_is_right(w));
}

/* A waits for the table of B, and B, in what it gives back, has what A waits for and waits for A. */
static void a_deadlock_is_found_when_the_table_is_back(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session, other = lock_join(w, "the other session"), epoch;
    char expect[64];
    const struct lock_put in = {RANGE, 1, 7, 0, END, 1};

    assert_int_equal(take(w, s, 9, RANGE, 7, TAKE | EXCLUSIVE, 1), KV_OK);
    epoch = w->index;
    assert_int_equal(take(w, other, 10, RANGE, 8, EXCLUSIVE, 2), KV_OK);
    assert_int_equal(take(w, s, 10, RANGE, 7, EXCLUSIVE | WAIT, 3), KV_OK);
    assert_int_equal(w->result.created, 0);
    assert_int_equal(take(w, other, 9, RANGE, 8, EXCLUSIVE | WAIT, 4), KV_OK);
    assert_string_equal(told(w), "<9");
    assert_int_equal(lock_put_back(w, s, 9, epoch, &in, 1), KV_OK);
    snprintf(expect, sizeof expect, "4!%d", KV_E_DEADLK);
    assert_string_equal(told(w), expect);
    assert_string_equal(lock_list(w, 9), "7x");
    assert_true(world_digest_is_right(w));
}

static void what_is_given_back_is_judged(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    struct lock_put in[LOCK_PUT_MAX + 1];
    uint64_t s = w->session, epoch;

    assert_int_equal(take(w, s, 9, RANGE, 1, TAKE, 1), KV_OK);
    epoch = w->index;
    for (unsigned i = 0; i <= LOCK_PUT_MAX; i++)
        in[i] = (struct lock_put){RANGE, 1, 1, 2 * i, 2 * i, 7};
    assert_int_equal(lock_put_back(w, s, 9, epoch, in, LOCK_PUT_MAX + 1), KV_E_PROTOCOL);
    in[1] = (struct lock_put){RANGE, 0, 2, 0, 0, 7};
    assert_int_equal(lock_put_back(w, s, 9, epoch, in, 2), KV_E_INVAL); /* in each other's way */
    in[1] = (struct lock_put){RANGE, 0, 1, 0, 5, 7};
    assert_int_equal(lock_put_back(w, s, 9, epoch, in, 2), KV_E_INVAL); /* of one owner twice */
    in[1] = (struct lock_put){FLOCK, 0, 1, 0, 5, 7};
    assert_int_equal(lock_put_back(w, s, 9, epoch, in, 2), KV_E_PROTOCOL); /* flock(2) is of the whole file */
    in[1] = (struct lock_put){RANGE, 0, 1, 5, 4, 7};
    assert_int_equal(lock_put_back(w, s, 9, epoch, in, 2), KV_E_PROTOCOL);
    assert_string_equal(lock_list(w, 9), has(s, ""));
    /* Tables, in which there may be nothing, take no room from locks. */
    for (uint64_t i = 0; i < LOCK_TABLES_SESSION_MAX - 1; i++)
        assert_int_equal(take(w, s, 1000 + i, FLOCK, 1, TAKE, 10 + i), KV_OK);
    assert_true(w->result.base_revision != 0);
    for (uint64_t i = LOCK_TABLES_SESSION_MAX; i < LOCKS_SESSION_MAX; i++) {
        assert_int_equal(take(w, s, 1000 + i, FLOCK, 1, TAKE, 10 + i), KV_OK);
        assert_true(w->result.created == 1 && w->result.base_revision == 0);
    }
    assert_int_equal(take(w, s, 100, FLOCK, 1, TAKE, 2), KV_E_NOLCK);
    /* What is given back was granted, so there is room for it. */
    in[1] = (struct lock_put){RANGE, 1, 1, 2, 2, 7};
    assert_int_equal(lock_put_back(w, s, 9, epoch, in, 2), KV_OK);
    assert_string_equal(lock_list(w, 9), "1x 1x");
    assert_int_equal(
        lock_send(w, s, COMMAND_UNLOCK,
                  &(struct command_body){.ino = 9, .kind = RANGE, .owner = 1, .start = 2, .end = 2}),
        KV_OK);
    assert_true(world_digest_is_right(w));
    place_restart(p);
    assert_string_equal(lock_list(w, 9), "1x");
    assert_string_equal(lock_list(w, 1000), has(s, ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define OF_PLACE(test) cmocka_unit_test_setup_teardown(test, place_setup, place_teardown_whole)
        OF_PLACE(a_table_is_taken_wanted_and_given_back),
        OF_PLACE(an_earlier_version_asks_once_more),
        OF_PLACE(a_session_that_ends_leaves_its_tables),
        OF_PLACE(a_file_with_a_fence_is_not_taken),
        OF_PLACE(an_index_of_a_log_is_one_mounts),
        OF_PLACE(an_index_is_not_got_by_waiting),
        OF_PLACE(a_deadlock_is_found_when_the_table_is_back),
        OF_PLACE(what_is_given_back_is_judged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
