/* Exactly once: sessions, kept results, commands in parts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/store/place.h"

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

/* Registers as that user until it is refused; how many it got. */
static unsigned register_all(struct world *w, uint32_t uid)
{
    unsigned n = 0;
    uint64_t id;
    int rv;

    w->uid = uid;
    w->flags = uid == 0 ? COMMAND_TRUSTED : 0;
    for (;;) {
        char nonce[32];

        snprintf(nonce, sizeof nonce, "%05u-%010u", uid, n);
        rv = world_register(w, nonce, &id);
        if (rv != KV_OK)
            break;
        n++;
    }
    assert_int_equal(rv, KV_E_BUSY);
    /* A repetition is no newcomer. */
    if (n > 0) {
        char nonce[32];

        snprintf(nonce, sizeof nonce, "%05u-%010u", uid, 0);
        assert_int_equal(world_register(w, nonce, &id), KV_OK);
    }
    w->uid = 0;
    w->flags = COMMAND_TRUSTED;
    return n;
}

static int register_node(struct world *w, unsigned n, uint64_t *id_out)
{
    char nonce[32];
    int rv;

    snprintf(nonce, sizeof nonce, "node--%010u", n);
    w->uid = COMMAND_UID_NODE;
    w->flags = COMMAND_TRUSTED;
    rv = world_register(w, nonce, id_out);
    w->uid = 0;
    return rv;
}

/* What it is told. */
static const char *refusal(const struct world *w, uint32_t uid)
{
    static char why[256];

    assert_true(store_register_refused(w->s, uid, (const uint8_t *)"one-more-session", why, sizeof why));
    return why;
}

static void one_user_gets_a_tenth_of_the_sessions_and_root_and_the_nodes_have_the_last(void **state)
{
    struct place *p = *state;
    struct store_usage usage;
    uint64_t id;

    for (uint32_t uid = 1001; uid < 1010; uid++)
        assert_int_equal(register_all(&p->w, uid), 1000);
    assert_string_equal(refusal(&p->w, 1003),
                        "user 1003 has as many sessions as one may have (1000 of the cluster's)");
    assert_int_equal(register_all(&p->w, 1010), 0);
    assert_string_equal(refusal(&p->w, 1010),
                        "the users have as many sessions as they may have together (9000; "
                        "most of them user 1001: 1000)");
    assert_int_equal(register_all(&p->w, 0), 899); /* and the world's own */
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(register_node(&p->w, i, &id), KV_OK);
    store_usage(p->w.s, &usage);
    assert_int_equal(usage.sessions, 10000);
    assert_int_equal(create(&p->w, p->w.session, 1, "f"), KV_OK);
    place_restart(p);
    assert_int_equal(world_register(&p->w, "one-more-session", &id), KV_E_BUSY);
    assert_string_equal(refusal(&p->w, 0),
                        "the cluster has as many sessions as it may have but for its nodes' own "
                        "(9900; root has 900 of them, users 9000)");
}

/* More than a hundred nodes there are not: what is longest silent is a former life's. */
static void a_node_has_a_session_whatever_root_and_other_nodes_take(void **state)
{
    struct place *p = *state;
    struct store_usage usage;
    uint64_t first, second, id;
    uint32_t owner;

    assert_int_equal(register_all(&p->w, 0), 9899);
    assert_int_equal(register_node(&p->w, 0, &first), KV_OK);
    assert_int_equal(register_node(&p->w, 1, &second), KV_OK);
    assert_int_equal(store_session_owner(p->w.s, first, &owner), KV_OK);
    assert_int_equal(owner, COMMAND_UID_NODE);
    for (unsigned i = 2; i < 100; i++)
        assert_int_equal(register_node(&p->w, i, &id), KV_OK);
    assert_int_equal(create(&p->w, first, 1, "f"), KV_OK);
    place_restart(p);
    assert_int_equal(register_node(&p->w, 100, &id), KV_OK);
    assert_int_equal(create(&p->w, id, 1, "g"), KV_OK);
    assert_int_equal(create(&p->w, second, 1, "h"), KV_E_SESSION);
    assert_int_equal(create(&p->w, first, 2, "h"), KV_OK);
    assert_int_equal(register_node(&p->w, 100, &second), KV_OK); /* a repetition */
    assert_int_equal(second, id);
    store_usage(p->w.s, &usage);
    assert_int_equal(usage.sessions, 10000);
    assert_int_equal(world_register(&p->w, "one-more-session", &id), KV_E_BUSY);
}

/* A node that has loaded its state ends the same ones as a node that goes on. */
static void sessions_of_one_moment_end_in_the_order_of_their_ids(void **state)
{
    struct place *p = *state;
    uint64_t ids[20], moment;
    uint32_t owner;

    for (unsigned i = 0; i < 20; i++) {
        char nonce[32];

        snprintf(nonce, sizeof nonce, "moment%010u", i);
        assert_int_equal(world_register(&p->w, nonce, &ids[i]), KV_OK);
    }
    moment = p->w.elapsed_ms + 1;
    for (unsigned i = 20; i-- > 0;) {
        p->w.elapsed_ms = moment - 1; /* the next one's is the same */
        assert_int_equal(world_raw(&p->w, COMMAND_KEEPALIVE, ids[i], 0, "", 0), KV_OK);
    }
    p->w.elapsed_ms += 11 * 60000;
    assert_int_equal(world_tick(&p->w), KV_OK); /* ends the world's own and the first fifteen */
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(store_session_owner(p->w.s, ids[i], &owner), i < 15 ? KV_E_SESSION : KV_OK);
}

static void an_ended_session_makes_room_for_its_user(void **state)
{
    struct place *p = *state;
    uint64_t first, id;
    uint32_t owner;

    p->w.uid = 1001;
    p->w.flags = 0;
    assert_int_equal(world_register(&p->w, "0123456789abcdef", &first), KV_OK);
    assert_int_equal(register_all(&p->w, 1001), 999);
    place_restart(p);
    assert_int_equal(store_session_owner(p->w.s, first, &owner), KV_OK);
    assert_int_equal(owner, 1001);
    assert_int_equal(store_session_owner(p->w.s, p->w.session, &owner), KV_OK);
    assert_int_equal(owner, 0);
    assert_int_equal(world_raw(&p->w, COMMAND_END, first, 0, "", 0), KV_OK);
    assert_int_equal(store_session_owner(p->w.s, first, &owner), KV_E_SESSION);
    p->w.uid = 1001;
    p->w.flags = 0;
    assert_int_equal(world_register(&p->w, "fedcba9876543210", &id), KV_OK);
    assert_int_equal(world_register(&p->w, "ghijklmnopqrstuv", &id), KV_E_BUSY);
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

/* Parts that are complete before the next batch are not in it. */
static void a_finished_upload_is_written_once(void **state)
{
    struct place *p = *state;
    struct buffer b = big_body(600000);
    uint64_t s = p->w.session;
    size_t before = journal_bytes(p->w.j);

    assert_int_equal(part(&p->w, s, 1, 0, b.data, COMMAND_PART_SIZE), KV_OK);
    assert_int_equal(part(&p->w, s, 1, 1, b.data + COMMAND_PART_SIZE, COMMAND_PART_SIZE), KV_OK);
    assert_int_equal(journal_part_bytes(p->w.j), 2 * COMMAND_PART_SIZE);
    assert_true(journal_bytes(p->w.j) - before >= 2 * COMMAND_PART_SIZE);
    p->w.flags |= COMMAND_PARTS;
    assert_int_equal(last(&p->w, s, 1, 2, b.data + 2 * COMMAND_PART_SIZE, b.len - 2 * COMMAND_PART_SIZE),
                     KV_OK);
    p->w.flags &= (uint16_t)~COMMAND_PARTS;
    assert_int_equal(journal_part_bytes(p->w.j), 0);
    assert_true(journal_bytes(p->w.j) - before < 610000);
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

/* Parts of 256 KiB from `from` on until one is refused; their number. */
static uint32_t parts(struct world *w, uint64_t session, uint64_t seq, uint32_t from, uint32_t max,
                      int *rv_out)
{
    static uint8_t bytes[COMMAND_PART_SIZE];
    uint32_t n = from;

    *rv_out = KV_OK;
    while (n < max && (*rv_out = part(w, session, seq, n, bytes, sizeof bytes)) == KV_OK)
        n++;
    return n;
}

static void one_command_longer_than_a_value_is_too_big(void **state)
{
    struct place *p = *state;
    int rv;

    assert_int_equal(world_setting(&p->w, "value_limit", "1MiB"), KV_OK);
    assert_int_equal(parts(&p->w, p->w.session, 5, 0, 10, &rv), 4);
    assert_int_equal(rv, KV_E_FBIG);
}

static void uploads_that_are_too_much_together_go_one_after_the_other(void **state)
{
    struct place *p = *state;
    struct store_usage usage;
    const char *why;
    int rv;

    assert_int_equal(world_setting(&p->w, "value_limit", "1MiB"), KV_OK);
    assert_int_equal(parts(&p->w, p->w.session, 5, 0, 3, &rv), 3);
    assert_int_equal(parts(&p->w, p->w.session, 6, 0, 3, &rv), 3);
    assert_int_equal(parts(&p->w, p->w.session, 7, 0, 3, &rv), 2);
    assert_int_equal(rv, KV_E_BUSY); /* not FBIG: it is not the one that is too long */
    store_usage(p->w.s, &usage);
    assert_int_equal(usage.part_bytes, 6 * COMMAND_PART_SIZE); /* nothing of it is kept */
    assert_int_equal(part(&p->w, p->w.session, 7, 2, "x", 1), KV_E_PART);
    place_restart(p);
    assert_int_equal(parts(&p->w, p->w.session, 6, 0, 4, &rv), 4); /* the others go on */
    p->w.acked_below = 6;
    assert_int_equal(world_raw(&p->w, COMMAND_KEEPALIVE, p->w.session, 0, "", 0), KV_OK);
    assert_int_equal(store_part_check(p->w.s, p->w.session, 6, 0, 1, &why), KV_E_DUPLICATE);
    assert_int_equal(store_part_check(p->w.s, p->w.session, 6, 4, 1, &why), KV_OK);
    assert_int_equal(parts(&p->w, p->w.session, 7, 0, 3, &rv), 3); /* then it fits */
}

static void every_value_limit_has_room_for_two_values(void **state)
{
    static const char *const limits[] = {"1KiB", "2MiB"};
    static const uint32_t longest[] = {0, 8};
    struct place *p = *state;
    int rv;

    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        uint64_t id;

        assert_int_equal(world_setting(&p->w, "value_limit", limits[i]), KV_OK);
        assert_int_equal(world_register(&p->w, "0123456789abcdef", &id), KV_OK);
        for (uint64_t seq = 1; seq < 3; seq++) {
            assert_int_equal(parts(&p->w, id, seq, 0, longest[i], &rv), longest[i]);
            assert_int_equal(part(&p->w, id, seq, longest[i], "last", 4), KV_OK);
        }
        assert_int_equal(world_raw(&p->w, COMMAND_END, id, 0, "", 0), KV_OK);
    }
}

static void every_user_has_room_for_the_longest_value(void **state)
{
    struct place *p = *state;
    uint64_t id;
    int rv;

    assert_int_equal(world_setting(&p->w, "value_limit", "130MiB"), KV_OK);
    p->w.uid = 1001;
    p->w.flags = 0;
    assert_int_equal(world_register(&p->w, "0123456789abcdef", &id), KV_OK);
    assert_int_equal(parts(&p->w, id, 1, 0, 520, &rv), 520);
    assert_int_equal(part(&p->w, id, 1, 520, "last", 4), KV_OK);
    assert_int_equal(world_raw(&p->w, COMMAND_END, id, 0, "", 0), KV_OK);
}

static void one_user_gets_a_quarter_of_the_room_for_uploads(void **state)
{
    struct place *p = *state;
    struct store_usage usage;
    const char *why;
    uint64_t ids[5];
    int rv;

    for (uint32_t uid = 1001; uid < 1006; uid++) {
        char nonce[32];
        uint64_t before, seq = 1, id;

        p->w.uid = uid;
        p->w.flags = 0;
        snprintf(nonce, sizeof nonce, "upload-of-%06u", uid);
        assert_int_equal(world_register(&p->w, nonce, &id), KV_OK);
        store_usage(p->w.s, &usage);
        before = usage.part_bytes;
        while (parts(&p->w, id, seq, 0, 1, &rv) == 1)
            seq++;
        assert_int_equal(rv, KV_E_BUSY);
        store_usage(p->w.s, &usage);
        assert_true(usage.part_bytes - before <= 128 << 20);
        assert_int_equal(store_part_check(p->w.s, id, seq, 0, COMMAND_PART_SIZE, &why), KV_E_BUSY);
        assert_non_null(why);
        ids[uid - 1001] = id;
    }
    assert_true(usage.part_bytes <= 384 << 20);
    assert_true(usage.part_bytes > 300 << 20);
    p->w.uid = 0;
    p->w.flags = COMMAND_TRUSTED;
    assert_int_equal(parts(&p->w, p->w.session, 5, 0, 256, &rv), 256);
    assert_int_equal(world_raw(&p->w, COMMAND_END, p->w.session, 0, "", 0), KV_OK);
    for (int i = 0; i < 5; i++)
        assert_int_equal(world_raw(&p->w, COMMAND_END, ids[i], 0, "", 0), KV_OK);
    store_usage(p->w.s, &usage);
    assert_int_equal(usage.part_bytes, 0);
}

/* In as many sessions as he likes; the users have room for a value of any length then, and
 * the nodes' own sessions are not asked. */
static void root_gets_three_quarters_of_the_room_for_uploads(void **state)
{
    struct place *p = *state;
    struct store_usage usage;
    const char *why;
    uint64_t ids[8], seq;
    int rv;

    for (unsigned i = 0; i < 6; i++) {
        char nonce[32];

        snprintf(nonce, sizeof nonce, "upload-of-%06u", i);
        assert_int_equal(world_register(&p->w, nonce, &ids[i]), KV_OK);
        for (seq = 1; parts(&p->w, ids[i], seq, 0, 1, &rv) == 1; seq++)
            ;
        assert_int_equal(rv, KV_E_BUSY);
    }
    store_usage(p->w.s, &usage);
    assert_true(usage.part_bytes <= 384 << 20);
    assert_true(usage.part_bytes > 300 << 20);
    assert_int_equal(store_part_check(p->w.s, ids[5], 1, 0, COMMAND_PART_SIZE, &why), KV_E_BUSY);
    assert_string_equal(why, "unfinished writes of root take three quarters of the room for all");
    p->w.uid = 1001;
    p->w.flags = 0;
    assert_int_equal(world_register(&p->w, "0123456789abcdef", &ids[6]), KV_OK);
    assert_int_equal(parts(&p->w, ids[6], 1, 0, 256, &rv), 256);
    for (seq = 2; parts(&p->w, ids[6], seq, 0, 1, &rv) == 1; seq++) /* all that he may have */
        ;
    assert_int_equal(rv, KV_E_BUSY);
    assert_int_equal(register_node(&p->w, 0, &ids[7]), KV_OK);
    assert_int_equal(parts(&p->w, ids[7], 1, 0, 256, &rv), 256);
    assert_int_equal(create(&p->w, ids[7], 2, "f"), KV_OK);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(world_raw(&p->w, COMMAND_END, ids[i], 0, "", 0), KV_OK);
    assert_int_equal(parts(&p->w, p->w.session, 5, 0, 256, &rv), 256);
    assert_int_equal(world_raw(&p->w, COMMAND_END, p->w.session, 0, "", 0), KV_OK);
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
#define TEST(name) cmocka_unit_test_setup_teardown(name, place_setup, place_teardown_whole)
    const struct CMUnitTest tests[] = {
        TEST(a_repeated_command_is_answered_not_executed),
        TEST(an_unknown_session_executes_nothing),
        TEST(acknowledged_numbers_are_forgotten_and_refused),
        TEST(the_same_nonce_gives_the_same_session),
        TEST(silence_ends_a_session_in_elapsed_time),
        TEST(clocks_never_go_back),
        TEST(one_user_gets_a_tenth_of_the_sessions_and_root_and_the_nodes_have_the_last),
        TEST(a_node_has_a_session_whatever_root_and_other_nodes_take),
        TEST(sessions_of_one_moment_end_in_the_order_of_their_ids),
        TEST(an_ended_session_makes_room_for_its_user),
        TEST(a_big_command_takes_effect_with_its_last_part),
        TEST(a_finished_upload_is_written_once),
        TEST(a_late_repetition_of_part_zero_changes_nothing),
        TEST(parts_go_with_their_session_and_with_an_acknowledgement),
        TEST(one_command_longer_than_a_value_is_too_big),
        TEST(uploads_that_are_too_much_together_go_one_after_the_other),
        TEST(every_value_limit_has_room_for_two_values),
        TEST(every_user_has_room_for_the_longest_value),
        TEST(one_user_gets_a_quarter_of_the_room_for_uploads),
        TEST(root_gets_three_quarters_of_the_room_for_uploads),
        TEST(a_client_that_never_acknowledges_is_stopped),
        TEST(what_does_not_decode_is_a_result),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
