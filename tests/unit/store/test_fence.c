/* Fences: numbers that move with each grant, what they refuse, how long a session keeps its locks; and all of
 * it as before after a restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "kvnode/state/store_internal.h"
#include "sync/base/lock_ranges.h"
#include "sync/wire/feature.h"
#include "sync/wire/txn.h"
#include "tests/unit/store/place.h"

#define EXCLUSIVE LOCK_FLAG_EXCLUSIVE
#define WAIT LOCK_FLAG_WAIT
#define FENCE LOCK_FLAG_FENCE

static int in_session(struct world *w, uint64_t session, uint8_t op, const struct command_body *body)
{
    uint64_t own = w->session;
    int rv;

    w->session = session;
    rv = world_command(w, op, body);
    w->session = own;
    return rv;
}

static int take(struct world *w, uint64_t session, const char *key, uint8_t flags)
{
    const struct command_body body = {.ino = world_ino(w, key),
                                      .flags = flags,
                                      .owner = 1,
                                      .end = LOCK_RANGE_END,
                                      .ticket = (flags & WAIT) != 0 ? 7 : 0,
                                      .lease_ms = 10000};

    return in_session(w, session, COMMAND_LOCK, &body);
}

static int leave(struct world *w, uint64_t session, const char *key)
{
    const struct command_body body = {.ino = world_ino(w, key), .owner = 1, .end = LOCK_RANGE_END};

    return in_session(w, session, COMMAND_UNLOCK, &body);
}

static uint64_t join(struct world *w, const char *nonce)
{
    uint64_t session;

    assert_int_equal(world_register(w, nonce, &session), KV_OK);
    return session;
}

static uint64_t fence(const struct world *w, const char *key)
{
    const struct fence_row *f = fence_find(w->s, world_ino(w, key));

    return f != NULL ? f->revision : 0;
}

static int set_at(struct world *w, const char *key, const char *value, uint64_t number)
{
    const struct command_body body = {.path = (const uint8_t *)key,
                                      .path_len = strlen(key),
                                      .flags = SET_PARENTS | SET_FENCE,
                                      .fence = number,
                                      .mode = 0644,
                                      .value = (const uint8_t *)value,
                                      .value_len = strlen(value)};

    return world_command(w, COMMAND_SET, &body);
}

/* Sets `other` if the key's fence lets this number through. */
static int txn_at(struct world *w, const char *key, uint64_t number, const char *other)
{
    const struct txn_item items[] = {
        {.kind = TXN_IF_FENCE, .path = (const uint8_t *)key, .path_len = strlen(key), .fence = number},
        {.kind = TXN_SET, .path = (const uint8_t *)other, .path_len = strlen(other)}};
    struct command_body body = {0};
    struct buffer b = BUFFER_INIT;
    int rv;

    txn_encode(&b, &items[0]);
    txn_encode(&b, &items[1]);
    body.items = b.data;
    body.items_len = b.len;
    assert_int_equal(command_body_flags(COMMAND_TXN, &body), COMMAND_FENCE);
    rv = world_command(w, COMMAND_TXN, &body);
    buffer_deinit(&b);
    return rv;
}

static void it_moves_with_each_grant(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session, other = join(w, "the other session"), first, second;

    assert_int_equal(world_set(w, "k", ""), KV_OK);
    assert_int_equal(take(w, s, "k", EXCLUSIVE), KV_OK);
    assert_int_equal(fence(w, "k"), 0); /* nobody wants one */
    assert_int_equal(leave(w, s, "k"), KV_OK);
    assert_int_equal(take(w, s, "k", EXCLUSIVE | FENCE), KV_OK);
    first = w->index;
    assert_int_equal(w->result.created, 1);
    assert_int_equal(w->result.base_revision, first);
    assert_int_equal(fence(w, "k"), first);
    /* What is asked for again is what it has. */
    assert_int_equal(take(w, s, "k", EXCLUSIVE | FENCE), KV_OK);
    assert_int_equal(w->result.base_revision, first);
    assert_int_equal(take(w, other, "k", EXCLUSIVE | FENCE), KV_E_LOCKED);
    assert_int_equal(take(w, other, "k", EXCLUSIVE | FENCE | WAIT), KV_OK);
    assert_int_equal(w->result.created, 0);
    assert_int_equal(fence(w, "k"), first);
    assert_int_equal(leave(w, s, "k"), KV_OK);
    second = w->index;
    assert_int_equal(fence(w, "k"), second);
    assert_int_equal(take(w, other, "k", EXCLUSIVE | FENCE | WAIT), KV_OK); /* its answer was lost */
    assert_int_equal(w->result.created, 1);
    assert_int_equal(w->result.base_revision, second);
    place_restart(p);
    w = &p->w;
    assert_int_equal(fence(w, "k"), second);
    assert_int_equal(leave(w, other, "k"), KV_OK);
    assert_int_equal(take(w, s, "k", EXCLUSIVE), KV_OK); /* flock(1) on a mount */
    assert_int_equal(fence(w, "k"), w->index);
}

static void it_moves_once_for_all_who_share(void **state)
{
    struct world *w = &((struct place *)*state)->w;
    uint64_t s = w->session, other = join(w, "the other session"), at;

    assert_int_equal(world_set(w, "k", ""), KV_OK);
    assert_int_equal(take(w, s, "k", FENCE), KV_OK);
    at = w->result.base_revision;
    assert_int_equal(at, w->index);
    assert_int_equal(take(w, other, "k", FENCE), KV_OK);
    assert_int_equal(w->result.base_revision, at);
    assert_int_equal(set_at(w, "k", "by one of both", at), KV_OK);
    assert_int_equal(leave(w, other, "k"), KV_OK);
    assert_int_equal(leave(w, s, "k"), KV_OK);
    assert_int_equal(take(w, s, "k", EXCLUSIVE | FENCE), KV_OK);
    assert_int_equal(set_at(w, "k", "late", at), KV_E_FENCE);
    at = w->result.base_revision;
    assert_int_equal(set_at(w, "k", "in time", at), KV_OK);
    assert_int_equal(leave(w, s, "k"), KV_OK);
    assert_int_equal(take(w, other, "k", FENCE), KV_OK);
    assert_true(w->result.base_revision > at);
    assert_int_equal(set_at(w, "k", "late", at), KV_E_FENCE);
}

static void who_is_late_writes_nothing(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t s = w->session, other = join(w, "the other session"), first, second;

    assert_int_equal(set_at(w, "k", "v", 1), KV_E_FENCE); /* no such key */
    assert_int_equal(world_set(w, "k", "begin"), KV_OK);
    assert_int_equal(set_at(w, "k", "v", UINT64_MAX), KV_E_FENCE); /* it has none */
    assert_int_equal(take(w, s, "k", EXCLUSIVE | FENCE), KV_OK);
    first = w->result.base_revision;
    assert_int_equal(set_at(w, "k", "of another lock", first + 1), KV_E_FENCE);
    assert_int_equal(set_at(w, "k", "one", first), KV_OK);
    assert_int_equal(txn_at(w, "k", first, "a/one"), KV_OK);
    assert_int_equal(leave(w, s, "k"), KV_OK);
    assert_int_equal(set_at(w, "k", "still one", first), KV_OK); /* nobody had it since */
    assert_int_equal(take(w, other, "k", EXCLUSIVE | FENCE), KV_OK);
    second = w->result.base_revision;
    assert_int_equal(set_at(w, "k", "late", first), KV_E_FENCE);
    assert_int_equal(w->result.base_revision, second);
    assert_int_equal(txn_at(w, "k", first, "a/late"), KV_E_VERSION);
    assert_int_equal(w->result.removed, 1);
    assert_string_equal(world_get(w, "k"), "still one");
    assert_string_equal(world_list(w, "a"), "one");
    assert_int_equal(txn_at(w, "k", second, "a/two"), KV_OK);
    /* Another file under that name is another lock. */
    assert_int_equal(world_del(w, "k", false), KV_OK);
    assert_null(w->s->fences);
    assert_int_equal(world_set(w, "k", "anew"), KV_OK);
    assert_int_equal(set_at(w, "k", "late", second), KV_E_FENCE);
    assert_int_equal(txn_at(w, "k", second, "a/late"), KV_E_VERSION);
    assert_int_equal(txn_at(w, "nowhere", second, "a/late"), KV_E_VERSION);
    place_restart(p);
    assert_string_equal(world_get(&p->w, "k"), "anew");
}

/* Until which silence a session keeps what it has locked. */
static void locks_last_as_long_as_was_asked_for(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t usual = join(w, "the usual time.."), one = join(w, "one second......"),
             hour = join(w, "an hour.........");
    struct command_body body = {.flags = EXCLUSIVE | FENCE, .owner = 1, .end = LOCK_RANGE_END};

    assert_int_equal(world_setting(w, "session_timeout", "20s"), KV_OK);
    assert_int_equal(world_set(w, "usual", ""), KV_OK);
    assert_int_equal(world_set(w, "one", ""), KV_OK);
    assert_int_equal(world_set(w, "hour", ""), KV_OK);
    body.ino = world_ino(w, "hour");
    body.lease_ms = LOCK_LEASE_MAX_MS;
    assert_int_equal(in_session(w, hour, COMMAND_LOCK, &body), KV_OK);
    assert_int_equal(take(w, usual, "usual", EXCLUSIVE), KV_OK);
    body.ino = world_ino(w, "one");
    body.lease_ms = LOCK_LEASE_MIN_MS;
    assert_int_equal(in_session(w, one, COMMAND_LOCK, &body), KV_OK);
    w->elapsed_ms += 998;
    assert_int_equal(world_tick(w), KV_OK);
    assert_int_equal(take(w, w->session, "one", EXCLUSIVE), KV_E_LOCKED);
    w->elapsed_ms += 1;
    assert_int_equal(take(w, w->session, "one", EXCLUSIVE), KV_OK);
    place_restart(p);
    w = &p->w;
    w->elapsed_ms += 8500;
    assert_int_equal(take(w, w->session, "usual", EXCLUSIVE), KV_E_LOCKED);
    w->elapsed_ms += 600;
    assert_int_equal(take(w, w->session, "usual", EXCLUSIVE), KV_OK);
    for (int i = 0; i < 100; i++) { /* longer than sessions live */
        w->elapsed_ms += 9000;
        assert_int_equal(take(w, w->session, "hour", EXCLUSIVE), KV_E_LOCKED);
    }
    w->elapsed_ms += LOCK_LEASE_MAX_MS - 900000 - 10000;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(world_tick(w), KV_OK);
        w->elapsed_ms += 5000;
    }
    usual = join(w, "one that is late");
    assert_int_equal(take(w, usual, "hour", EXCLUSIVE), KV_OK);
    /* A time that is changed counts from then on. */
    body.ino = world_ino(w, "one");
    body.lease_ms = 5000;
    assert_int_equal(in_session(w, usual, COMMAND_LOCK, &body), KV_OK);
    assert_int_equal(session_locks_until(session_find(w->s, usual)), w->elapsed_ms + 5000);
}

static void it_is_of_level_3(void **state)
{
    struct world *w = &((struct place *)*state)->w;
    struct command_body body = {.flags = EXCLUSIVE | FENCE, .owner = 1, .end = LOCK_RANGE_END};
    struct txn_item item = {.kind = TXN_IF_FENCE, .path = (const uint8_t *)"k", .path_len = 1};
    struct command cmd = {.op = COMMAND_LOCK, .flags = COMMAND_FENCE};
    struct buffer b = BUFFER_INIT;

    assert_int_equal(feature_level_of(&cmd), 3);
    assert_int_equal(world_set(w, "k", ""), KV_OK);
    body.ino = world_ino(w, "k");
    body.lease_ms = 2000;
    command_body_encode(&b, COMMAND_LOCK, &body);
    assert_int_equal(world_raw(w, COMMAND_LOCK, w->session, ++w->seq, b.data, b.len), KV_E_PROTOCOL);
    buffer_clear(&b);
    txn_encode(&b, &item);
    assert_int_equal(world_raw(w, COMMAND_TXN, w->session, ++w->seq, b.data, b.len), KV_E_PROTOCOL);
    /* The flag alone is none, either. */
    buffer_clear(&b);
    command_body_encode(&b, COMMAND_SET, &(struct command_body){.path = (const uint8_t *)"k", .path_len = 1});
    w->flags |= COMMAND_FENCE;
    assert_int_equal(world_raw(w, COMMAND_SET, w->session, ++w->seq, b.data, b.len), KV_E_PROTOCOL);
    w->flags &= (uint16_t)~COMMAND_FENCE;
    body.ino = 12345;
    assert_int_equal(world_command(w, COMMAND_LOCK, &body), KV_E_STALE);
    assert_null(w->s->fences);
    buffer_deinit(&b);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, place_setup, place_teardown_whole)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_moves_with_each_grant),   TEST(it_moves_once_for_all_who_share),
        TEST(who_is_late_writes_nothing), TEST(locks_last_as_long_as_was_asked_for),
        TEST(it_is_of_level_3),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
