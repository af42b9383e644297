/* Exactly once: sessions, kept results, commands in parts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/store/place.h"

static int setup(void **state)
{
    struct place *p = malloc(sizeof *p);

    place_init(p);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;

    assert_true(world_digest_is_right(&p->w));
    assert_true(place_verifies(p));
    place_deinit(p);
    free(p);
    return 0;
}

/* An exclusive creation of `name` in the root, encoded. */
static struct buffer create_body(const char *name)
{
    struct buffer b = BUFFER_INIT;
    struct command_body body = {.parent = KV_ROOT_INO,
                                .name = (const uint8_t *)name,
                                .name_len = strlen(name),
                                .mode = 0644,
                                .flags = 1};

    command_body_encode(&b, COMMAND_CREATE, &body);
    return b;
}

static int create(struct world *w, uint64_t session, uint64_t seq, const char *name)
{
    struct buffer b = create_body(name);
    int rv = world_raw(w, COMMAND_CREATE, session, seq, b.data, b.len);

    buffer_deinit(&b);
    return rv;
}

/* The command itself, with its number of parts and last piece. */
static int last(struct world *w, uint64_t session, uint64_t seq, uint32_t n_parts, const void *bytes,
                size_t len)
{
    struct buffer b = BUFFER_INIT;
    int rv;

    buffer_put_u32(&b, n_parts);
    buffer_put_bytes(&b, bytes, len);
    rv = world_raw(w, COMMAND_SET, session, seq, b.data, b.len);
    buffer_deinit(&b);
    return rv;
}

static int part(struct world *w, uint64_t session, uint64_t seq, uint32_t number, const void *data,
                size_t len)
{
    struct buffer b = BUFFER_INIT;
    struct command_body body = {.part = number, .value = data, .value_len = len};
    int rv;

    command_body_encode(&b, COMMAND_PART, &body);
    rv = world_raw(w, COMMAND_PART, session, seq, b.data, b.len);
    buffer_deinit(&b);
    return rv;
}

static void a_repeated_command_is_answered_not_executed(void **state)
{
    struct place *p = *state;
    struct command_result first, again;
    uint64_t id;

    assert_int_equal(world_register(&p->w, "0123456789abcdef", &id), KV_OK);
    assert_int_equal(create(&p->w, id, 1, "f"), KV_OK);
    first = p->w.result;
    assert_int_equal(create(&p->w, id, 1, "f"), KV_OK);
    assert_int_equal(p->w.result.revision, first.revision);
    assert_int_equal(p->w.result.attr.ino, first.attr.ino);
    assert_int_equal(p->w.result.created, 1);
    assert_int_equal(p->w.events[0].kind, EVENT_NOTHING);
    place_restart(p);
    assert_int_equal(create(&p->w, id, 1, "f"), KV_OK);
    assert_int_equal(p->w.result.revision, first.revision);
    assert_int_equal(store_session_result(p->w.s, id, 1, &again), 1);
    assert_int_equal(store_session_result(p->w.s, id, 2, &again), 0);
    assert_int_equal(create(&p->w, id, 2, "f"), KV_E_EXIST);
    assert_int_equal(create(&p->w, id, 2, "g"), KV_E_EXIST); /* the answer that number 2 got */
}

static void an_unknown_session_executes_nothing(void **state)
{
    struct place *p = *state;
    struct command_result result;

    assert_int_equal(create(&p->w, 999, 1, "f"), KV_E_SESSION);
    assert_int_equal(create(&p->w, 0, 1, "f"), KV_E_PROTOCOL);
    assert_int_equal(create(&p->w, p->w.session, 0, "f"), KV_E_PROTOCOL);
    assert_int_equal(world_ino(&p->w, "f"), 0);
    assert_int_equal(store_session_result(p->w.s, 999, 1, &result), KV_E_SESSION);
}

static void acknowledged_numbers_are_forgotten_and_refused(void **state)
{
    struct place *p = *state;
    struct command_result result;

    assert_int_equal(create(&p->w, p->w.session, 1, "a"), KV_OK);
    assert_int_equal(create(&p->w, p->w.session, 2, "b"), KV_OK);
    p->w.acked_below = 2;
    assert_int_equal(create(&p->w, p->w.session, 4, "d"), KV_OK); /* numbers may come out of order */
    assert_int_equal(create(&p->w, p->w.session, 3, "c"), KV_OK);
    assert_int_equal(create(&p->w, p->w.session, 1, "a"), KV_E_DUPLICATE);
    assert_int_equal(store_session_result(p->w.s, p->w.session, 1, &result), KV_E_DUPLICATE);
    assert_int_equal(store_session_result(p->w.s, p->w.session, 3, &result), 1);
    assert_int_equal(store_session_result(p->w.s, p->w.session, 4, &result), 1);
    place_restart(p);
    assert_int_equal(store_session_result(p->w.s, p->w.session, 2, &result), 1);
    assert_int_equal(store_session_result(p->w.s, p->w.session, 4, &result), 1);
}

static void the_same_nonce_gives_the_same_session(void **state)
{
    struct place *p = *state;
    uint64_t a, b, c;

    assert_int_equal(world_register(&p->w, "0123456789abcdef", &a), KV_OK);
    assert_int_equal(world_register(&p->w, "fedcba9876543210", &b), KV_OK);
    place_restart(p);
    assert_int_equal(world_register(&p->w, "0123456789abcdef", &c), KV_OK);
    assert_int_equal(a, c);
    assert_int_not_equal(a, b);
    assert_int_equal(world_raw(&p->w, COMMAND_END, a, 0, "", 0), KV_OK);
    assert_int_equal(create(&p->w, a, 1, "f"), KV_E_SESSION);
    assert_int_equal(world_register(&p->w, "0123456789abcdef", &c), KV_OK);
    assert_int_not_equal(a, c);
}

static void silence_ends_a_session_in_elapsed_time(void **state)
{
    struct place *p = *state;
    uint64_t quiet, kept;

    assert_int_equal(world_register(&p->w, "0123456789abcdef", &quiet), KV_OK);
    assert_int_equal(world_register(&p->w, "fedcba9876543210", &kept), KV_OK);
    p->w.wall_ns += 1000000000ULL * 86400; /* the wall clock expires nothing */
    assert_int_equal(create(&p->w, quiet, 1, "a"), KV_OK);
    p->w.elapsed_ms += 9 * 60000;
    assert_int_equal(world_raw(&p->w, COMMAND_KEEPALIVE, kept, 0, "", 0), KV_OK);
    assert_int_equal(create(&p->w, p->w.session, 100, "b"), KV_OK);
    p->w.elapsed_ms += 2 * 60000;
    assert_int_equal(world_tick(&p->w), KV_OK);
    assert_int_equal(create(&p->w, quiet, 2, "c"), KV_E_SESSION);
    assert_int_equal(create(&p->w, kept, 2, "d"), KV_OK);
}

static void clocks_never_go_back(void **state)
{
    struct place *p = *state;
    uint64_t wall = store_wall_ns(p->w.s), elapsed = store_elapsed_ms(p->w.s);

    p->w.wall_ns -= 1000000000ULL * 3600;
    p->w.elapsed_ms = 0;
    assert_int_equal(world_tick(&p->w), KV_OK);
    assert_int_equal(store_wall_ns(p->w.s), wall + 1); /* a command is later than the one before it */
    assert_int_equal(store_elapsed_ms(p->w.s), elapsed);
}

static void a_newcomer_is_refused_when_there_are_too_many(void **state)
{
    struct place *p = *state;
    struct store_usage usage;
    uint64_t id;

    for (int i = 1; i < 10000; i++) {
        char nonce[32];

        snprintf(nonce, sizeof nonce, "nonce-%010d", i);
        assert_int_equal(world_register(&p->w, nonce, &id), KV_OK);
    }
    assert_int_equal(world_register(&p->w, "one-more-session", &id), KV_E_BUSY);
    store_usage(p->w.s, &usage);
    assert_int_equal(usage.sessions, 10000);
    assert_int_equal(create(&p->w, p->w.session, 1, "f"), KV_OK);
    place_restart(p);
}

/* A `set` of a large value in parts; gives its body. */
static struct buffer big_body(size_t len)
{
    struct buffer b = BUFFER_INIT;
    uint8_t *value = malloc(len);
    struct command_body body = {
        .path = (const uint8_t *)"big", .path_len = 3, .mode = 0644, .value = value, .value_len = len};

    for (size_t i = 0; i < len; i++)
        value[i] = (uint8_t)(i * 31 >> 8);
    command_body_encode(&b, COMMAND_SET, &body);
    free(value);
    return b;
}

static void a_big_command_takes_effect_with_its_last_part(void **state)
{
    struct place *p = *state;
    struct buffer b = big_body(600000);
    struct buffer got = BUFFER_INIT;
    struct store_usage usage;
    uint64_t s = p->w.session;

    assert_int_equal(part(&p->w, s, 1, 0, b.data, COMMAND_PART_SIZE), KV_OK);
    assert_int_equal(part(&p->w, s, 1, 2, b.data, 10), KV_E_PART);
    place_restart(p);
    store_usage(p->w.s, &usage);
    assert_int_equal(usage.part_bytes, COMMAND_PART_SIZE);
    assert_int_equal(part(&p->w, s, 1, 1, b.data + COMMAND_PART_SIZE, COMMAND_PART_SIZE), KV_OK);
    assert_int_equal(part(&p->w, s, 1, 1, b.data, 10), KV_OK); /* a duplicate changes nothing */
    p->w.flags |= COMMAND_PARTS;
    assert_int_equal(last(&p->w, s, 1, 3, b.data + 2 * COMMAND_PART_SIZE, b.len - 2 * COMMAND_PART_SIZE),
                     KV_E_PART); /* sent ahead of a part that got lost */
    assert_int_equal(last(&p->w, s, 1, 2, b.data + 2 * COMMAND_PART_SIZE, b.len - 2 * COMMAND_PART_SIZE),
                     KV_OK);
    assert_int_equal(last(&p->w, s, 2, 0, "", 0), KV_E_PART);
    p->w.flags &= (uint16_t)~COMMAND_PARTS;
    assert_int_equal(p->w.result.code, KV_E_PART);
    store_usage(p->w.s, &usage);
    assert_int_equal(usage.part_bytes, 0);
    assert_int_equal(world_attr(&p->w, "big").size, 600000);
    assert_int_equal(store_read(p->w.s, world_ino(&p->w, "big"), 599999, 10, &got), KV_OK);
    assert_int_equal(got.len, 1);
    assert_int_equal(got.data[0], (uint8_t)(599999 * 31 >> 8));
    assert_int_equal(part(&p->w, s, 1, 0, "x", 1), KV_OK); /* late: executed already */
    store_usage(p->w.s, &usage);
    assert_int_equal(usage.part_bytes, 0);
    buffer_deinit(&got);
    buffer_deinit(&b);
}

static void a_late_repetition_of_part_zero_changes_nothing(void **state)
{
    struct place *p = *state;
    struct buffer b = big_body(600000);
    uint64_t s = p->w.session;

    assert_int_equal(part(&p->w, s, 1, 0, b.data, COMMAND_PART_SIZE), KV_OK);
    assert_int_equal(part(&p->w, s, 1, 1, b.data + COMMAND_PART_SIZE, COMMAND_PART_SIZE), KV_OK);
    assert_int_equal(part(&p->w, s, 1, 0, b.data, COMMAND_PART_SIZE), KV_OK);
    p->w.flags |= COMMAND_PARTS;
    assert_int_equal(last(&p->w, s, 1, 2, b.data + 2 * COMMAND_PART_SIZE, b.len - 2 * COMMAND_PART_SIZE),
                     KV_OK);
    p->w.flags &= (uint16_t)~COMMAND_PARTS;
    assert_int_equal(world_attr(&p->w, "big").size, 600000);
    buffer_deinit(&b);
}

static void parts_go_with_their_session_and_with_an_acknowledgement(void **state)
{
    struct place *p = *state;
    struct store_usage usage;
    uint64_t id;

    assert_int_equal(world_register(&p->w, "0123456789abcdef", &id), KV_OK);
    assert_int_equal(part(&p->w, id, 1, 0, "abc", 3), KV_OK);
    assert_int_equal(part(&p->w, p->w.session, 1, 0, "defg", 4), KV_OK);
    assert_int_equal(part(&p->w, p->w.session, 2, 0, "hi", 2), KV_OK);
    assert_int_equal(world_raw(&p->w, COMMAND_END, id, 0, "", 0), KV_OK);
    store_usage(p->w.s, &usage);
    assert_int_equal(usage.part_bytes, 6);
    p->w.acked_below = 2;
    assert_int_equal(world_raw(&p->w, COMMAND_KEEPALIVE, p->w.session, 0, "", 0), KV_OK);
    store_usage(p->w.s, &usage);
    assert_int_equal(usage.part_bytes, 2);
    place_restart(p);
    store_usage(p->w.s, &usage);
    assert_int_equal(usage.part_bytes, 2);
}

static void parts_are_charged_to_their_session(void **state)
{
    struct place *p = *state;
    static uint8_t bytes[COMMAND_PART_SIZE];
    int rv = KV_OK;
    uint32_t n = 0;

    assert_int_equal(world_setting(&p->w, "value_limit", "1MiB"), KV_OK);
    while (rv == KV_OK && n < 10) {
        rv = part(&p->w, p->w.session, 5, n, bytes, sizeof bytes);
        n++;
    }
    assert_int_equal(rv, KV_E_FBIG);
    assert_int_equal(n, 5);
}

static void a_client_that_never_acknowledges_is_stopped(void **state)
{
    struct place *p = *state;
    uint64_t id, seq = 1;
    int rv = KV_OK;

    assert_int_equal(world_register(&p->w, "0123456789abcdef", &id), KV_OK);
    while (rv != KV_E_BUSY && seq < 10000)
        rv = create(&p->w, id, seq++, "f");
    assert_int_equal(rv, KV_E_BUSY);
}

static void what_does_not_decode_is_a_result(void **state)
{
    struct place *p = *state;

    assert_int_equal(world_apply(&p->w, "garbage", 7), KV_E_PROTOCOL);
    assert_int_equal(p->w.n_events, 1);
    assert_int_equal(p->w.events[0].kind, EVENT_NOTHING);
    assert_true(p->w.events[0].last);
    assert_int_equal(store_applied(p->w.s), p->w.index);
    assert_int_equal(world_raw(&p->w, COMMAND_MKDIR, p->w.session, 1, "x", 1), KV_E_PROTOCOL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_repeated_command_is_answered_not_executed),
        TEST(an_unknown_session_executes_nothing),
        TEST(acknowledged_numbers_are_forgotten_and_refused),
        TEST(the_same_nonce_gives_the_same_session),
        TEST(silence_ends_a_session_in_elapsed_time),
        TEST(clocks_never_go_back),
        TEST(a_newcomer_is_refused_when_there_are_too_many),
        TEST(a_big_command_takes_effect_with_its_last_part),
        TEST(a_late_repetition_of_part_zero_changes_nothing),
        TEST(parts_go_with_their_session_and_with_an_acknowledgement),
        TEST(parts_are_charged_to_their_session),
        TEST(a_client_that_never_acknowledges_is_stopped),
        TEST(what_does_not_decode_is_a_result),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
