/* Whose command goes out next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kvnode/group/fair_queue.h"
#include "kvnode/group/large_room.h"
#include "sync/wire/command.h"

static struct fair_item *add(struct fair_queue *q, uint8_t op, uint16_t flags, uint64_t session, uint64_t seq,
                             size_t body_len)
{
    uint8_t *body = calloc(1, body_len + 1);
    struct command cmd = {.op = op,
                          .flags = flags,
                          .session = session,
                          .seq = seq,
                          .node = "",
                          .body = body,
                          .body_len = body_len};
    struct buffer b = BUFFER_INIT;
    struct fair_item *item;
    struct entry *e;

    command_encode(&b, &cmd);
    e = entry_new(ENTRY_COMMAND, b.data, b.len);
    assert_non_null(e);
    item = fair_queue_add(q, &cmd, e);
    assert_non_null(item);
    entry_put(e);
    buffer_deinit(&b);
    free(body);
    return item;
}

static struct fair_item *small(struct fair_queue *q, uint64_t session, uint64_t seq)
{
    return add(q, COMMAND_SET, 0, session, seq, 1000);
}

static struct fair_item *part(struct fair_queue *q, uint64_t session, uint64_t seq)
{
    return add(q, COMMAND_PART, 0, session, seq, COMMAND_PART_SIZE);
}

/* "7.1 9.1 …": the session and number of what comes out of a class. */
static const char *out(struct fair_queue *q, bool large)
{
    static char text[4096];
    struct fair_item *item;
    struct command cmd;
    size_t at = 0;

    text[0] = '\0';
    while ((item = fair_queue_take(q, large)) != NULL) {
        assert_int_equal(command_decode(item->entry->data, item->entry->len, &cmd), 0);
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%llu.%llu", at > 0 ? " " : "",
                               (unsigned long long)cmd.session, (unsigned long long)cmd.seq);
        fair_item_free(item);
    }
    return text;
}

static void what_belongs_to_an_upload_or_is_long_is_large(void **state)
{
    struct fair_queue q;

    (void)state;
    fair_queue_init(&q);
    add(&q, COMMAND_PART, 0, 1, 1, 10);
    add(&q, COMMAND_PUBLISH, COMMAND_PARTS, 1, 2, 10);
    add(&q, COMMAND_SET, 0, 1, 3, FAIR_SMALL_MAX);
    add(&q, COMMAND_SET, 0, 1, 4, FAIR_SMALL_MAX / 2);
    add(&q, COMMAND_REGISTER, 0, 0, 5, 30);
    assert_int_equal(q.large.n, 3);
    assert_string_equal(out(&q, true), "1.1 1.2 1.3"); /* in their order: the last joins the parts */
    assert_string_equal(out(&q, false), "1.4 0.5");
    fair_queue_deinit(&q);
}

static void sessions_take_turns_by_bytes(void **state)
{
    struct fair_queue q;
    const char *text;

    (void)state;
    fair_queue_init(&q);
    for (uint64_t i = 1; i <= 4; i++)
        part(&q, 7, i);
    for (uint64_t i = 1; i <= 2; i++)
        part(&q, 9, i);
    assert_string_equal(out(&q, true), "7.1 9.1 7.2 9.2 7.3 7.4");
    /* A thousand commands of one are no more before another's first than a turn is. */
    for (uint64_t i = 1; i <= 300; i++)
        small(&q, 7, i);
    small(&q, 9, 1);
    text = out(&q, false);
    assert_non_null(strstr(text, "9.1"));
    assert_true(strstr(text, "9.1") < strstr(text, "7.20 "));
    fair_queue_deinit(&q);
}

static void what_is_taken_back_is_gone(void **state)
{
    struct fair_queue q;
    struct fair_item *first, *second, *other;

    (void)state;
    fair_queue_init(&q);
    first = small(&q, 7, 1);
    second = small(&q, 7, 2);
    other = part(&q, 7, 3);
    small(&q, 8, 1);
    fair_queue_drop(&q, first);
    fair_queue_drop(&q, other);
    assert_int_equal(q.large.n, 0);
    assert_int_equal(q.large.bytes, 0);
    fair_queue_drop(&q, second); /* the session's last: the other one has its turn */
    assert_string_equal(out(&q, false), "8.1");
    assert_int_equal(q.small.n, 0);
    assert_int_equal(q.small.bytes, 0);
    small(&q, 7, 4);
    part(&q, 7, 5);
    fair_queue_deinit(&q); /* with what is left */
}

static void the_room_for_large_ones_follows_the_time_that_they_take(void **state)
{
    struct large_room *r = malloc(sizeof *r);
    uint64_t now = 1000000, index = 1;

    (void)state;
    large_room_init(r);
    /* Alone: as much as there may be. */
    large_room_large(r, 7);
    for (int i = 0; i < 20; i++, now += 60) {
        large_room_small(r, 7, now); /* its own */
        assert_true(large_room_has(r, 0, now));
        large_room_proposed(r, index, 1 << 20, now);
        large_room_applied(r, index++, now + 60);
    }
    assert_int_equal(r->room, LARGE_ROOM_MAX);
    /* With small ones of another session: one at a time, and two thirds of the time are theirs. */
    for (int i = 0; i < 5; i++) {
        large_room_small(r, 8, now);
        assert_true(large_room_has(r, 0, now));
        assert_false(large_room_has(r, 1, now));
        large_room_proposed(r, index, 1 << 18, now);
        assert_false(large_room_has(r, 0, now));
        now += 60;
        large_room_applied(r, index++, now);
        assert_int_equal(large_room_pause(r, now), 120);
        now += 119;
        large_room_small(r, 8, now);
        assert_false(large_room_has(r, 0, now));
        assert_int_equal(large_room_pause(r, now), 1);
        now++;
    }
    assert_int_equal(r->room, LARGE_ROOM_MIN);
    /* However long one took, the next one's turn comes. */
    large_room_proposed(r, index, 1 << 18, now);
    now += 100000;
    large_room_small(r, 8, now);
    large_room_applied(r, index++, now);
    assert_true(large_room_pause(r, now) <= 1000);
    /* And when they have gone, no pause is kept. */
    now += 200;
    assert_int_equal(large_room_pause(r, now), 0);
    large_room_proposed(r, index, 1 << 18, now);
    assert_true(large_room_has(r, 0, now) == (LARGE_ROOM_MIN > 1 << 18));
    large_room_applied(r, index++, now + 60);
    assert_true(r->room > LARGE_ROOM_MIN);
    assert_int_equal(r->bytes, 0);
    free(r);
}

static void a_full_link_slows_the_large_ones_down_and_does_not_stop_them(void **state)
{
    struct large_room *r = malloc(sizeof *r);

    (void)state;
    large_room_init(r);
    assert_false(large_room_link_is_full(r, 1 << 20, 5000));
    assert_true(large_room_link_is_full(r, 8 << 20, 5000));
    assert_true(large_room_link_is_full(r, 8 << 20, 5900));
    assert_false(large_room_link_is_full(r, 8 << 20, 6001)); /* one, then a pause */
    assert_true(large_room_link_is_full(r, 8 << 20, 6001));
    assert_true(large_room_link_is_full(r, 8 << 20, 6100));
    assert_false(large_room_link_is_full(r, 8 << 20, 6101));
    assert_false(large_room_link_is_full(r, 0, 6150));
    assert_true(large_room_link_is_full(r, 8 << 20, 6200));
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_belongs_to_an_upload_or_is_long_is_large),
        cmocka_unit_test(sessions_take_turns_by_bytes),
        cmocka_unit_test(what_is_taken_back_is_gone),
        cmocka_unit_test(the_room_for_large_ones_follows_the_time_that_they_take),
        cmocka_unit_test(a_full_link_slows_the_large_ones_down_and_does_not_stop_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
