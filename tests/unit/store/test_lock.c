/* Locks: who gets what, who waits and gets it in his turn, deadlocks, sessions that end, bounds; and all of
 * it as before after a restart. */
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
#define SHARED 0
#define EXCLUSIVE LOCK_FLAG_EXCLUSIVE
#define WAIT LOCK_FLAG_WAIT

static uint64_t tickets;

/* Gives KV_OK for what waits, too: then w->result.created is 0 and its ticket is `tickets`. */
static int take(struct world *w, uint64_t session, uint64_t ino, uint8_t kind, uint64_t owner, uint8_t flags,
                uint64_t start, uint64_t end)
{
    const struct command_body body =
        lock_of(ino, kind, owner, flags, start, end, (flags & WAIT) != 0 ? ++tickets : 0);

    return lock_send(w, session, COMMAND_LOCK, &body);
}

static int leave(struct world *w, uint64_t session, uint64_t ino, uint8_t kind, uint64_t owner,
                 uint64_t start, uint64_t end)
{
    const struct command_body body = {.ino = ino, .kind = kind, .owner = owner, .start = start, .end = end};

    return lock_send(w, session, COMMAND_UNLOCK, &body);
}

static int unwait(struct world *w, uint64_t session, uint64_t ino, uint64_t ticket)
{
    return lock_send(w, session, COMMAND_UNWAIT, &(struct command_body){.ino = ino, .ticket = ticket});
}

struct listing {
    char *text;
    uint64_t ino;
};

static bool only(void *arg, uint64_t ino)
{
    const struct listing *l = arg;

    return ino == l->ino;
}

static void add(void *arg, const struct lock_row *row)
{
    struct listing *l = arg;
    size_t at = strlen(l->text);
    char end[24] = "";

    if (row->kind == RANGE && row->end != END)
        snprintf(end, sizeof end, ":%llu-%llu", (unsigned long long)row->start, (unsigned long long)row->end);
    else if (row->kind == RANGE)
        snprintf(end, sizeof end, ":%llu-", (unsigned long long)row->start);
    snprintf(l->text + at, 1024 - at, "%s%s%llu%c%s", at > 0 ? " " : "", row->wait != 0 ? "?" : "",
             (unsigned long long)row->owner, row->exclusive ? 'x' : 's', end);
}

/* "1x:0-9 ?2s:0-" (static): owners, those who wait behind. */
static const char *locks(const struct world *w, uint64_t ino)
{
    static char text[1024];
    struct listing l = {text, ino};

    text[0] = '\0';
    store_locks(w->s, ino, &l, only, add);
    return text;
}

/* The tickets of the waits that ended with the last command, "7 8!29" (static). */
static const char *ended(const struct world *w)
{
    static char text[256];
    size_t at = 0;

    text[0] = '\0';
    for (int i = 0; i < w->n_events && i < WORLD_EVENTS; i++) {
        const struct world_event *e = &w->events[i];

        assert_int_equal(e->last, i == w->n_events - 1);
        if (e->kind != EVENT_NOTHING || e->parent == 0)
            continue;
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%llu", at > 0 ? " " : "",
                               (unsigned long long)e->new_parent);
        if (e->base_revision != 0)
            at += (size_t)snprintf(text + at, sizeof text - at, "!%d", (int)e->base_revision);
    }
    return text;
}

static void shared_goes_with_shared_and_exclusive_with_nothing(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session, other = lock_join(w, "the other session");

    assert_int_equal(take(w, s, 9, FLOCK, 1, SHARED, 0, END), KV_OK);
    assert_int_equal(w->result.created, 1);
    assert_int_equal(take(w, other, 9, FLOCK, 1, SHARED, 0, END), KV_OK); /* the same number, another one */
    assert_int_equal(take(w, s, 9, FLOCK, 2, EXCLUSIVE, 0, END), KV_E_LOCKED);
    assert_int_equal(take(w, s, 9, FLOCK, 1, EXCLUSIVE, 0, END), KV_E_LOCKED);
    assert_string_equal(locks(w, 9), "1s 1s"); /* it has kept what it had */
    assert_int_equal(leave(w, other, 9, FLOCK, 1, 0, END), KV_OK);
    assert_int_equal(take(w, s, 9, FLOCK, 1, EXCLUSIVE, 0, END), KV_OK);
    assert_int_equal(take(w, other, 9, FLOCK, 1, SHARED, 0, END), KV_E_LOCKED);
    /* The other table knows nothing of it, nor do other files. */
    assert_int_equal(take(w, other, 9, RANGE, 1, EXCLUSIVE, 0, END), KV_OK);
    assert_int_equal(take(w, other, 10, FLOCK, 1, EXCLUSIVE, 0, END), KV_OK);
    assert_int_equal(take(w, s, 9, FLOCK, 1, SHARED, 5, 7), KV_OK); /* a range is nothing to flock(2) */
    assert_string_equal(locks(w, 9), "1s 1x:0-");
    assert_int_equal(leave(w, s, 9, FLOCK, 1, 5, 7), KV_OK);
    assert_string_equal(locks(w, 9), "1x:0-");
    assert_int_equal(leave(w, s, 9, FLOCK, 1, 0, END), KV_OK); /* nothing to leave */
    assert_int_equal(leave(w, s, 77, RANGE, 1, 0, END), KV_OK);
    assert_true(world_digest_is_right(w));
}

static void ranges_are_split_joined_and_changed(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session, other = lock_join(w, "the other session");

    assert_int_equal(take(w, s, 9, RANGE, 1, SHARED, 0, 9), KV_OK);
    assert_int_equal(take(w, s, 9, RANGE, 1, SHARED, 10, 19), KV_OK);
    assert_string_equal(locks(w, 9), "1s:0-19");
    assert_int_equal(take(w, s, 9, RANGE, 1, EXCLUSIVE, 5, 14), KV_OK);
    assert_string_equal(locks(w, 9), "1s:0-4 1x:5-14 1s:15-19");
    assert_int_equal(take(w, other, 9, RANGE, 1, SHARED, 0, 4), KV_OK);
    assert_int_equal(take(w, other, 9, RANGE, 1, SHARED, 0, 5), KV_E_LOCKED);
    assert_int_equal(take(w, other, 9, RANGE, 1, EXCLUSIVE, 15, 15), KV_E_LOCKED);
    assert_int_equal(take(w, other, 9, RANGE, 1, EXCLUSIVE, 20, END), KV_OK);
    assert_int_equal(leave(w, s, 9, RANGE, 1, 8, 9), KV_OK);
    assert_string_equal(locks(w, 9), "1s:0-4 1x:5-7 1x:10-14 1s:15-19 1s:0-4 1x:20-");
    place_restart(p);
    assert_string_equal(locks(w, 9), "1s:0-4 1x:5-7 1x:10-14 1s:15-19 1s:0-4 1x:20-");
    assert_int_equal(take(w, other, 9, RANGE, 1, EXCLUSIVE, 8, 9), KV_OK);
    assert_int_equal(take(w, s, 9, RANGE, 1, SHARED, 5, 14), KV_E_LOCKED);
    assert_int_equal(leave(w, s, 9, RANGE, 1, 0, END), KV_OK);
    assert_string_equal(locks(w, 9), "1s:0-4 1x:8-9 1x:20-");
    assert_true(world_digest_is_right(w));
}

static void who_waits_gets_it_in_his_turn(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session, other = lock_join(w, "the other session"), first = tickets + 1;

    assert_int_equal(take(w, s, 9, FLOCK, 1, EXCLUSIVE, 0, END), KV_OK);
    for (uint64_t owner = 2; owner <= 6; owner++) {
        assert_int_equal(take(w, owner % 2 != 0 ? s : other, 9, FLOCK, owner,
                              (owner == 4 || owner == 5 ? SHARED : EXCLUSIVE) | WAIT, 0, END),
                         KV_OK);
        assert_int_equal(w->result.created, 0);
        assert_string_equal(ended(w), "");
    }
    assert_string_equal(locks(w, 9), "1x ?2x ?3x ?4s ?5s ?6x");
    place_restart(p); /* all of it is there again, in its order */
    assert_string_equal(locks(w, 9), "1x ?2x ?3x ?4s ?5s ?6x");
    for (uint64_t owner = 1; owner <= 2; owner++) {
        char expect[24];

        assert_int_equal(leave(w, owner % 2 != 0 ? s : other, 9, FLOCK, owner, 0, END), KV_OK);
        snprintf(expect, sizeof expect, "%llu", (unsigned long long)(first + owner - 1));
        assert_string_equal(ended(w), expect);
    }
    assert_string_equal(locks(w, 9), "3x ?4s ?5s ?6x");
    /* A downgrade is enough for those who share. */
    assert_int_equal(take(w, s, 9, FLOCK, 3, SHARED, 0, END), KV_OK);
    assert_string_equal(locks(w, 9), "3s 5s 4s ?6x");
    assert_int_equal(leave(w, s, 9, FLOCK, 3, 0, END), KV_OK);
    assert_int_equal(leave(w, s, 9, FLOCK, 5, 0, END), KV_OK);
    assert_string_equal(ended(w), "");
    assert_int_equal(leave(w, other, 9, FLOCK, 4, 0, END), KV_OK);
    assert_string_equal(locks(w, 9), "6x");
    assert_true(world_digest_is_right(w));
}

static void a_wait_is_taken_back_or_the_lock_came_first(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session, a, b;

    assert_int_equal(take(w, s, 9, RANGE, 1, EXCLUSIVE, 0, 9), KV_OK);
    assert_int_equal(take(w, s, 9, RANGE, 2, EXCLUSIVE | WAIT, 5, 14), KV_OK);
    a = tickets;
    assert_int_equal(take(w, s, 9, RANGE, 3, EXCLUSIVE | WAIT, 5, 5), KV_OK);
    b = tickets;
    assert_int_equal(unwait(w, s, 9, a), KV_OK);
    assert_int_equal(unwait(w, s, 9, a), KV_E_NOENT);
    assert_int_equal(unwait(w, s, 9, 12345), KV_E_NOENT);
    assert_int_equal(leave(w, s, 9, RANGE, 1, 0, END), KV_OK);
    assert_int_equal(unwait(w, s, 9, b), KV_E_NOENT);
    assert_string_equal(locks(w, 9), "3x:5-5");
    /* The same ticket asks once more: it goes on waiting where it was, or has it. */
    assert_int_equal(take(w, s, 9, RANGE, 4, EXCLUSIVE | WAIT, 0, END), KV_OK);
    assert_int_equal(take(w, s, 9, RANGE, 5, EXCLUSIVE | WAIT, 0, END), KV_OK);
    tickets -= 2;
    assert_int_equal(take(w, s, 9, RANGE, 4, EXCLUSIVE | WAIT, 0, END), KV_OK);
    assert_int_equal(w->result.created, 0);
    tickets++;
    assert_string_equal(locks(w, 9), "3x:5-5 ?4x:0- ?5x:0-");
    assert_int_equal(leave(w, s, 9, RANGE, 3, 0, END), KV_OK);
    tickets -= 2;
    assert_int_equal(take(w, s, 9, RANGE, 4, EXCLUSIVE | WAIT, 0, END), KV_OK);
    assert_int_equal(w->result.created, 1);
    tickets++;
    assert_string_equal(locks(w, 9), "4x:0- ?5x:0-");
    assert_true(world_digest_is_right(w));
}

static void who_waits_for_an_upgrade_of_flock_gives_up_what_he_had(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session;

    /* Both would wait for each other otherwise, and nobody would tell them. */
    assert_int_equal(take(w, s, 9, FLOCK, 1, SHARED, 0, END), KV_OK);
    assert_int_equal(take(w, s, 9, FLOCK, 2, SHARED, 0, END), KV_OK);
    assert_int_equal(take(w, s, 9, FLOCK, 1, EXCLUSIVE | WAIT, 0, END), KV_OK);
    assert_string_equal(locks(w, 9), "2s ?1x");
    assert_int_equal(take(w, s, 9, FLOCK, 2, EXCLUSIVE | WAIT, 0, END), KV_OK);
    assert_int_equal(w->result.created, 1); /* nobody is in the way of it now */
    assert_string_equal(locks(w, 9), "2x ?1x");
    assert_int_equal(leave(w, s, 9, FLOCK, 2, 0, END), KV_OK);
    assert_string_equal(locks(w, 9), "1x");
}

static void a_deadlock_is_told_to_who_would_close_the_circle(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session, other = lock_join(w, "the other session");

    /* 1 has 9, 2 has 10, 3 has 11; 1 waits for 10 and 2 for 11. */
    assert_int_equal(take(w, s, 9, RANGE, 1, EXCLUSIVE, 0, 0), KV_OK);
    assert_int_equal(take(w, other, 10, RANGE, 2, SHARED, 0, 0), KV_OK);
    assert_int_equal(take(w, s, 10, RANGE, 4, SHARED, 0, 0), KV_OK);
    assert_int_equal(take(w, s, 11, RANGE, 3, EXCLUSIVE, 0, 0), KV_OK);
    assert_int_equal(take(w, s, 10, RANGE, 1, EXCLUSIVE | WAIT, 0, 0), KV_OK);
    assert_int_equal(take(w, other, 11, RANGE, 2, SHARED | WAIT, 0, 0), KV_OK);
    assert_int_equal(take(w, s, 9, RANGE, 3, SHARED, 0, 0), KV_E_LOCKED); /* does not wait */
    assert_int_equal(take(w, s, 9, RANGE, 3, SHARED | WAIT, 0, 0), KV_E_DEADLK);
    assert_int_equal(take(w, s, 9, RANGE, 3, SHARED | WAIT, 1, 1), KV_OK); /* beside it */
    assert_int_equal(take(w, s, 9, RANGE, 4, SHARED | WAIT, 0, 0), KV_E_DEADLK);
    assert_int_equal(take(w, s, 9, RANGE, 5, SHARED | WAIT, 0, 0), KV_OK); /* for whom nobody waits */
    /* An upgrade of two. */
    assert_int_equal(take(w, s, 12, RANGE, 1, SHARED, 0, 9), KV_OK);
    assert_int_equal(take(w, other, 12, RANGE, 6, SHARED, 0, 9), KV_OK);
    assert_int_equal(take(w, other, 12, RANGE, 6, EXCLUSIVE | WAIT, 0, 9), KV_OK);
    assert_int_equal(take(w, s, 12, RANGE, 1, EXCLUSIVE | WAIT, 0, 9), KV_E_DEADLK);
    assert_true(world_digest_is_right(w));
    /* Of flock(2) nobody is told. */
    assert_int_equal(take(w, s, 13, FLOCK, 1, EXCLUSIVE, 0, END), KV_OK);
    assert_int_equal(take(w, s, 14, FLOCK, 2, EXCLUSIVE, 0, END), KV_OK);
    assert_int_equal(take(w, s, 14, FLOCK, 1, EXCLUSIVE | WAIT, 0, END), KV_OK);
    assert_int_equal(take(w, s, 13, FLOCK, 2, EXCLUSIVE | WAIT, 0, END), KV_OK);
}

/* 1 has two threads: one waits for 10, the other gets 9 after its turn. Then 2, who is next there and has
 * 10, would wait for himself. */
static void a_deadlock_that_a_grant_closes_ends_the_wait(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session, of_one, of_two;
    char expect[64];

    assert_int_equal(take(w, s, 10, RANGE, 2, EXCLUSIVE, 0, END), KV_OK);
    assert_int_equal(take(w, s, 9, RANGE, 3, EXCLUSIVE, 0, END), KV_OK);
    assert_int_equal(take(w, s, 9, RANGE, 1, EXCLUSIVE | WAIT, 0, END), KV_OK);
    of_one = tickets;
    assert_int_equal(take(w, s, 9, RANGE, 2, EXCLUSIVE | WAIT, 0, END), KV_OK);
    of_two = tickets;
    assert_int_equal(take(w, s, 10, RANGE, 1, EXCLUSIVE | WAIT, 0, END), KV_OK);
    assert_int_equal(leave(w, s, 9, RANGE, 3, 0, END), KV_OK);
    snprintf(expect, sizeof expect, "%llu %llu!%d", (unsigned long long)of_one, (unsigned long long)of_two,
             KV_E_DEADLK);
    assert_string_equal(ended(w), expect);
    assert_string_equal(locks(w, 9), "1x:0-");
    assert_true(world_digest_is_right(w));
}

/* Owner 3 has two threads: one waits for 9, the other gets 10 at once, past owner 2, who waits for it and
 * has 9. */
static void a_deadlock_that_a_lock_had_at_once_closes_ends_the_wait(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session, of_two;
    char expect[64];

    assert_int_equal(take(w, s, 10, RANGE, 1, SHARED, 0, END), KV_OK);
    assert_int_equal(take(w, s, 9, RANGE, 2, EXCLUSIVE, 0, END), KV_OK);
    assert_int_equal(take(w, s, 10, RANGE, 2, EXCLUSIVE | WAIT, 0, END), KV_OK);
    of_two = tickets;
    assert_int_equal(take(w, s, 9, RANGE, 3, EXCLUSIVE | WAIT, 0, END), KV_OK);
    assert_int_equal(take(w, s, 10, RANGE, 3, SHARED, 0, END), KV_OK);
    snprintf(expect, sizeof expect, "%llu!%d", (unsigned long long)of_two, KV_E_DEADLK);
    assert_string_equal(ended(w), expect);
    assert_true(world_digest_is_right(w));
}

/* What is granted is not refused for want of room: who waits counts as what may come of it. */
static void waits_count_as_the_ranges_that_come_of_them(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    unsigned refused = 0;
    char nonce[17];

    for (uint64_t i = 0; i < LOCKS_FILE_MAX; i++)
        assert_int_equal(take(w, w->session, 9, RANGE, 1, EXCLUSIVE, 2 * i, 2 * i), KV_OK);
    for (uint64_t round = 0; round < 8; round++) {
        uint64_t other;

        snprintf(nonce, sizeof nonce, "nonce %010u", (unsigned)round);
        other = lock_join(w, nonce);
        for (uint64_t i = 0; i < LOCK_WAITS_FILE_MAX; i++)
            refused += take(w, other, 9, RANGE, 10 + i, SHARED | WAIT, 2 * round, 2 * round) == KV_E_NOLCK;
        assert_int_equal(leave(w, w->session, 9, RANGE, 1, 2 * round, 2 * round), KV_OK);
    }
    assert_in_range(refused, LOCK_WAITS_FILE_MAX, 8 * LOCK_WAITS_FILE_MAX);
    assert_in_range(locked_file_find(w->s->locks, 9)->n_ranges, LOCKS_FILE_MAX, 2 * LOCKS_FILE_MAX);
    assert_true(world_digest_is_right(w));
}

static void a_session_that_ends_leaves_nothing(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session, other = lock_join(w, "the other session"),
             third = lock_join(w, "the third session");
    uint64_t waits;

    assert_int_equal(take(w, other, 9, FLOCK, 1, EXCLUSIVE, 0, END), KV_OK);
    assert_int_equal(take(w, other, 10, RANGE, 1, EXCLUSIVE, 0, 9), KV_OK);
    assert_int_equal(take(w, other, 10, RANGE, 2, EXCLUSIVE, 20, 29), KV_OK);
    assert_int_equal(take(w, third, 9, FLOCK, 1, EXCLUSIVE | WAIT, 0, END), KV_OK);
    assert_int_equal(take(w, s, 9, FLOCK, 2, EXCLUSIVE | WAIT, 0, END), KV_OK);
    waits = tickets;
    assert_int_equal(take(w, s, 10, RANGE, 3, SHARED | WAIT, 0, END), KV_OK);
    assert_int_equal(world_raw(w, COMMAND_END, third, 0, NULL, 0), KV_OK); /* it waits no longer */
    assert_string_equal(locks(w, 9), "1x ?2x");
    assert_int_equal(world_raw(w, COMMAND_END, other, 0, NULL, 0), KV_OK);
    assert_string_equal(locks(w, 9), "2x");
    assert_string_equal(locks(w, 10), "3s:0-");
    assert_int_equal(w->events[0].new_parent, waits);
    assert_int_equal(w->events[0].parent, s);
    assert_int_equal(w->events[1].new_parent, waits + 1);
    assert_true(world_digest_is_right(w));
    place_restart(p);
    assert_string_equal(locks(w, 9), "2x");
}

static void who_is_silent_loses_his_locks_long_before_his_session(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session, silent = lock_join(w, "the silent session"),
             none = lock_join(w, "one without locks");
    struct command_result result;

    assert_int_equal(take(w, silent, 9, FLOCK, 1, EXCLUSIVE, 0, END), KV_OK);
    assert_int_equal(take(w, s, 9, FLOCK, 2, EXCLUSIVE | WAIT, 0, END), KV_OK);
    for (int i = 0; i < 4; i++) { /* a word from it is enough */
        w->elapsed_ms += LOCK_LEASE_MS - 1000;
        assert_int_equal(world_raw(w, COMMAND_KEEPALIVE, s, 0, NULL, 0), KV_OK);
        assert_int_equal(world_raw(w, COMMAND_KEEPALIVE, silent, 0, NULL, 0), KV_OK);
        place_restart(p);
        assert_string_equal(locks(w, 9), "1x ?2x");
    }
    w->elapsed_ms += LOCK_LEASE_MS / 2;
    assert_int_equal(world_raw(w, COMMAND_KEEPALIVE, s, 0, NULL, 0), KV_OK);
    w->elapsed_ms += LOCK_LEASE_MS / 2 + 10;
    assert_int_equal(world_tick(w), KV_OK);
    assert_string_equal(locks(w, 9), "2x");
    assert_int_equal(store_session_result(w->s, silent, 1, &result), KV_E_SESSION);
    assert_int_equal(store_session_result(w->s, none, 1, &result), 0);
    assert_int_equal(take(w, silent, 9, FLOCK, 1, EXCLUSIVE | WAIT, 0, END), KV_E_SESSION);
    assert_true(world_digest_is_right(w));
}

static void bounds_hold(void **state)
{
    struct world w;
    uint64_t session[40], n = 0, of_users = 0;
    char nonce[17];

    (void)state;
    world_init(&w, false);
    /* One file. */
    for (uint64_t i = 0; i < LOCKS_FILE_MAX; i++)
        assert_int_equal(take(&w, w.session, 9, RANGE, 1 + i % 3, SHARED, 4 * i, 4 * i + 2), KV_OK);
    assert_int_equal(take(&w, w.session, 9, RANGE, 1, SHARED, 4 * LOCKS_FILE_MAX, END), KV_E_NOLCK);
    assert_int_equal(leave(&w, w.session, 9, RANGE, 1, 1, 1), KV_E_NOLCK); /* one would be two */
    assert_int_equal(leave(&w, w.session, 9, RANGE, 1, 2, 2), KV_OK);
    assert_int_equal(leave(&w, w.session, 9, RANGE, 1, 0, 2), KV_OK);
    assert_int_equal(take(&w, w.session, 9, RANGE, 1, SHARED, 4 * LOCKS_FILE_MAX, END), KV_OK);
    for (uint64_t i = 0; i < LOCK_WAITS_FILE_MAX; i++)
        assert_int_equal(take(&w, w.session, 9, RANGE, 10 + i, EXCLUSIVE | WAIT, 0, END), KV_OK);
    assert_int_equal(take(&w, w.session, 9, RANGE, 9, EXCLUSIVE | WAIT, 0, END), KV_E_NOLCK);
    /* One session. */
    for (uint64_t i = 0; i < LOCKS_SESSION_MAX - LOCKS_FILE_MAX - LOCK_WAITS_FILE_MAX; i++)
        assert_int_equal(take(&w, w.session, 1000 + i, FLOCK, 1, EXCLUSIVE, 0, END), KV_OK);
    assert_int_equal(take(&w, w.session, 100, FLOCK, 1, EXCLUSIVE, 0, END), KV_E_NOLCK);
    assert_int_equal(leave(&w, w.session, 1000, FLOCK, 1, 0, END), KV_OK);
    assert_int_equal(take(&w, w.session, 100, FLOCK, 1, EXCLUSIVE, 0, END), KV_OK);
    assert_true(world_digest_is_right(&w));
    /* All of users, and all. */
    for (int i = 0; i < 40; i++) {
        int rv = KV_OK;

        snprintf(nonce, sizeof nonce, "nonce %010d", i);
        w.flags = i < 30 ? 0 : COMMAND_TRUSTED;
        w.uid = i < 30 ? 1000 : 0;
        session[i] = lock_join(&w, nonce);
        for (uint64_t k = 0; k < LOCKS_SESSION_MAX && rv == KV_OK; k++) {
            w.elapsed_ms = 1000; /* time stands still: nobody is silent for too long */
            w.session = session[i];
            rv = take(&w, session[i], 10000 + n, FLOCK, 1, EXCLUSIVE, 0, END);
            n += rv == KV_OK;
        }
        if (i == 29)
            of_users = n;
        if (i == 29 || i == 39)
            assert_int_equal(rv, KV_E_NOLCK);
    }
    assert_int_equal(of_users, LOCKS_USERS_MAX);
    assert_int_equal(n + LOCKS_SESSION_MAX, LOCKS_MAX);
    /* One that ends takes its own along. */
    assert_int_equal(world_raw(&w, COMMAND_END, session[0], 0, NULL, 0), KV_OK);
    assert_int_equal(take(&w, session[1], 10000, FLOCK, 1, EXCLUSIVE, 0, END), KV_E_NOLCK); /* has enough */
    assert_int_equal(take(&w, session[29], 10000, FLOCK, 1, EXCLUSIVE, 0, END), KV_OK);
    assert_true(world_digest_is_right(&w));
    world_deinit(&w);
}

static void it_is_told_who_is_in_the_way(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session, other = lock_join(w, "the other session");
    struct lock_row row;

    assert_int_equal(store_lock_test(w->s, s, 1, 9, RANGE, true, 0, END, &row), KV_E_NOENT);
    assert_int_equal(take(w, other, 9, RANGE, 7, SHARED, 10, 19), KV_OK);
    assert_int_equal(store_lock_test(w->s, s, 1, 9, RANGE, false, 0, END, &row), KV_E_NOENT);
    assert_int_equal(store_lock_test(w->s, s, 1, 9, FLOCK, true, 0, END, &row), KV_E_NOENT);
    assert_int_equal(store_lock_test(w->s, other, 7, 9, RANGE, true, 0, END, &row), KV_E_NOENT);
    assert_int_equal(store_lock_test(w->s, s, 7, 9, RANGE, true, 15, END, &row), KV_OK);
    assert_int_equal(row.session, other);
    assert_int_equal(row.owner, 7);
    assert_int_equal(row.start, 10);
    assert_int_equal(row.end, 19);
    assert_int_equal(row.exclusive, 0);
    assert_int_equal(row.pid, 107);
    assert_int_equal(row.node_len, 2);
    assert_int_equal(take(w, s, 9, RANGE, 7, SHARED | WAIT, 0, 0), KV_OK);
    assert_int_equal(take(w, s, 9, RANGE, 7, SHARED, 5, 4), KV_E_INVAL);
    assert_int_equal(take(w, s, 9, RANGE, 7, SHARED, 5, END + 1), KV_E_INVAL);
    tickets = UINT64_MAX; /* the next is 0 */
    assert_int_equal(take(w, s, 9, RANGE, 7, SHARED | WAIT, 0, 0), KV_E_INVAL);
}

/* Random commands of three sessions, with restarts: never two that are in each other's way, nobody who waits
 * for nothing, and all as in the file. */
static void whatever_is_asked_the_state_is_sound(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    const uint64_t sessions[] = {w->session, lock_join(w, "the other session"),
                                 lock_join(w, "the third session")};
    unsigned seed = 3;

    for (int i = 0; i < 6000; i++) {
        uint64_t s = sessions[rand_r(&seed) % 3], ino = 9 + (uint64_t)rand_r(&seed) % 2;
        uint64_t owner = 1 + (uint64_t)rand_r(&seed) % 3, start = (uint64_t)rand_r(&seed) % 16;
        uint64_t end = rand_r(&seed) % 8 == 0 ? END : start + (uint64_t)rand_r(&seed) % 8;
        uint8_t kind = (uint8_t)(rand_r(&seed) % 2), flags = (uint8_t)(rand_r(&seed) % 4);

        switch (rand_r(&seed) % 8) {
        case 0:
        case 1:
        case 2:
            leave(w, s, ino, kind, owner, start, end);
            break;
        case 3:
            unwait(w, s, ino, tickets - (uint64_t)rand_r(&seed) % 8);
            break;
        default:
            take(w, s, ino, kind, owner, flags, start, end);
            break;
        }
        assert_true(world_digest_is_right(w));
        if (i % 500 == 0)
            place_restart(p);
    }
    for (int k = 0; k < 3; k++)
        for (uint64_t ino = 9; ino < 11; ino++)
            for (uint64_t owner = 1; owner <= 3; owner++)
                for (uint8_t kind = 0; kind < 2; kind++)
                    leave(w, sessions[k], ino, kind, owner, 0, END);
    /* What waited had its turn or waits for one that had. */
    for (int round = 0; round < 600 && (*locks(w, 9) != '\0' || *locks(w, 10) != '\0'); round++)
        for (int k = 0; k < 3; k++)
            for (uint64_t owner = 1; owner <= 3; owner++) {
                leave(w, sessions[k], 9 + (uint64_t)round % 2, FLOCK, owner, 0, END);
                leave(w, sessions[k], 9 + (uint64_t)round % 2, RANGE, owner, 0, END);
            }
    assert_string_equal(locks(w, 9), "");
    assert_string_equal(locks(w, 10), "");
}

/* Its users share memory, SQLite's, and look at byte 128 who they are. */
static void the_index_of_a_write_ahead_log_is_one_mounts(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t a = lock_join(w, "a write-ahead 1."), b = lock_join(w, "a write-ahead 2."), index, other;

    assert_int_equal(world_create(w, KV_ROOT_INO, "db-shm"), KV_OK);
    index = w->result.attr.ino;
    assert_int_equal(world_create(w, KV_ROOT_INO, "-shm"), KV_OK);
    other = w->result.attr.ino;
    for (int level = 1; level <= 3; level++) {
        char text[8];

        snprintf(text, sizeof text, "%d", level);
        assert_int_equal(world_setting(w, "feature_level", text), KV_OK);
        assert_int_equal(take(w, a, index, RANGE, 1, SHARED, 128, 128), KV_OK);
        assert_int_equal(take(w, a, index, RANGE, 2, SHARED, 100, END), KV_OK);
        assert_int_equal(take(w, b, index, RANGE, 1, SHARED, 128, 128), level < 3 ? KV_OK : KV_E_LOCKED);
        assert_int_equal(take(w, b, index, RANGE, 1, SHARED, 120, 130), level < 3 ? KV_OK : KV_E_LOCKED);
        assert_int_equal(take(w, b, index, RANGE, 1, SHARED, 129, 130), KV_OK);
        assert_int_equal(take(w, b, index, FLOCK, 1, SHARED, 0, END), KV_OK);
        /* Nor is it waited for. */
        assert_int_equal(take(w, b, index, RANGE, 3, WAIT, 128, 128), level < 3 ? KV_OK : KV_E_LOCKED);
        assert_int_equal(take(w, a, other, RANGE, 1, SHARED, 128, 128), KV_OK);
        assert_int_equal(take(w, b, other, RANGE, 1, SHARED, 128, 128), KV_OK);
        place_restart(p);
        for (uint64_t owner = 1; owner <= 3; owner++) {
            leave(w, a, index, RANGE, owner, 0, END);
            assert_int_equal(take(w, b, index, RANGE, 4, SHARED, 128, 128),
                             level == 3 && owner < 2 ? KV_E_LOCKED : KV_OK);
        }
        for (uint64_t owner = 1; owner <= 4; owner++)
            leave(w, b, index, RANGE, owner, 0, END);
        leave(w, b, index, FLOCK, 1, 0, END);
        assert_string_equal(locks(w, index), "");
    }
    world_rename(w, KV_ROOT_INO, "db-shm", KV_ROOT_INO, "db");
    assert_int_equal(take(w, a, index, RANGE, 1, SHARED, 128, 128), KV_OK);
    assert_int_equal(take(w, b, index, RANGE, 1, SHARED, 128, 128), KV_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define OF_PLACE(test) cmocka_unit_test_setup_teardown(test, place_setup, place_teardown_whole)
        OF_PLACE(shared_goes_with_shared_and_exclusive_with_nothing),
        OF_PLACE(ranges_are_split_joined_and_changed),
        OF_PLACE(who_waits_gets_it_in_his_turn),
        OF_PLACE(a_wait_is_taken_back_or_the_lock_came_first),
        OF_PLACE(who_waits_for_an_upgrade_of_flock_gives_up_what_he_had),
        OF_PLACE(a_deadlock_is_told_to_who_would_close_the_circle),
        OF_PLACE(a_deadlock_that_a_grant_closes_ends_the_wait),
        OF_PLACE(a_deadlock_that_a_lock_had_at_once_closes_ends_the_wait),
        OF_PLACE(waits_count_as_the_ranges_that_come_of_them),
        OF_PLACE(a_session_that_ends_leaves_nothing),
        OF_PLACE(who_is_silent_loses_his_locks_long_before_his_session),
        OF_PLACE(it_is_told_who_is_in_the_way),
        OF_PLACE(whatever_is_asked_the_state_is_sound),
        OF_PLACE(the_index_of_a_write_ahead_log_is_one_mounts),
        cmocka_unit_test(bounds_hold),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
