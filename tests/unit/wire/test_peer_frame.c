#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sync/wire/peer_frame.h"

static const struct peer_status status = {.role = PEER_LEADER,
                                          .term = 1,
                                          .applied = 2,
                                          .digest_index = 3,
                                          .digest = 4,
                                          .flags = PEER_FLAG_STATELESS,
                                          .health = {.commit = 5, .version = "1"}};
static const struct peer_refused refused = {6, 7, 8};
static const struct peer_read_answer read_answer = {9, 10};
static const struct peer_verify verify = {11, 12};
static const struct peer_verify_answer verify_answer = {.place = PEER_PLACE_STATELESS,
                                                        .index = 13,
                                                        .digest = 14,
                                                        .scrub = 3,
                                                        .read = 15,
                                                        .size = 16,
                                                        .error = "damaged",
                                                        .error_len = 7};
static const struct peer_admission admission = {17, 18, 19, 20, "conf", 4};

static void put(struct buffer *b, enum peer_frame type)
{
    switch (type) {
    case PEER_STATUS:
        peer_status_encode(b, &status);
        break;
    case PEER_REFUSED:
        peer_refused_encode(b, &refused);
        break;
    case PEER_READ_ANSWER:
        peer_read_answer_encode(b, &read_answer);
        break;
    case PEER_VERIFY:
        peer_verify_encode(b, &verify);
        break;
    case PEER_VERIFY_ANSWER:
        peer_verify_answer_encode(b, &verify_answer);
        break;
    case PEER_ADMISSION:
        peer_admission_encode(b, &admission);
        break;
    default:
        peer_id_encode(b, 21);
        break;
    }
}

/* What is taken is compared with what was put. */
static bool take(enum peer_frame type, struct cursor *in)
{
    struct peer_status s;
    struct peer_refused r;
    struct peer_read_answer a;
    struct peer_verify v;
    struct peer_verify_answer va;
    struct peer_admission ad;
    uint64_t id;

    switch (type) {
    case PEER_STATUS:
        return peer_status_decode(in, &s) && s.role == status.role && s.term == status.term &&
               s.applied == status.applied && s.digest_index == status.digest_index &&
               s.digest == status.digest && s.flags == status.flags &&
               memcmp(&s.health, &status.health, sizeof s.health) == 0;
    case PEER_REFUSED:
        return peer_refused_decode(in, &r) && r.session == 6 && r.seq == 7 && r.part == 8;
    case PEER_READ_ANSWER:
        return peer_read_answer_decode(in, &a) && a.code == 9 && a.index == 10;
    case PEER_VERIFY:
        return peer_verify_decode(in, &v) && v.index == 11 && v.rate == 12;
    case PEER_VERIFY_ANSWER:
        return peer_verify_answer_decode(in, &va) && va.place == verify_answer.place && va.index == 13 &&
               va.digest == 14 && va.scrub == 3 && va.read == 15 && va.size == 16 && va.error_len == 7 &&
               memcmp(va.error, "damaged", 7) == 0;
    case PEER_ADMISSION:
        return peer_admission_decode(in, &ad) && ad.era == 17 && ad.term == 18 && ad.vote == 19 &&
               ad.gate == 20 && ad.len == 4 && memcmp(ad.configuration, "conf", 4) == 0;
    default:
        return peer_id_decode(in, &id) && id == 21;
    }
}

static const enum peer_frame types[] = {PEER_STATUS,        PEER_REFUSED,   PEER_READ_ANSWER, PEER_VERIFY,
                                        PEER_VERIFY_ANSWER, PEER_ADMISSION, PEER_TRANSFER};
#define N_TYPES (sizeof types / sizeof types[0])

static void comes_back_as_it_was_sent(void **state)
{
    for (size_t i = 0; i < N_TYPES; i++) {
        struct buffer b = BUFFER_INIT;
        struct cursor in;

        put(&b, types[i]);
        in = cursor_of(b.data, b.len);
        assert_true(take(types[i], &in));
        buffer_deinit(&b);
    }
}

/* A status that ends before its health is an old node's, which tells nothing of it. */
static void refuses_every_cut_and_what_follows(void **state)
{
    const size_t old_status = 1 + 4 * 8 + 1;

    for (size_t i = 0; i < N_TYPES; i++) {
        struct buffer b = BUFFER_INIT;
        struct peer_status s;
        struct cursor in;

        put(&b, types[i]);
        for (size_t len = 0; len < b.len; len++) {
            in = cursor_of(b.data, len);
            if (types[i] == PEER_STATUS)
                assert_int_equal(peer_status_decode(&in, &s), len == old_status);
            else
                assert_false(take(types[i], &in));
        }
        buffer_put_u8(&b, 0);
        in = cursor_of(b.data, b.len);
        assert_false(take(types[i], &in));
        buffer_deinit(&b);
    }
}

static void refuses_a_place_that_there_is_not_and_an_error_without_end(void **state)
{
    struct peer_verify_answer a = verify_answer, got;
    char error[PEER_ERROR_MAX + 1] = "";
    struct buffer b = BUFFER_INIT;
    struct cursor in;

    a.place = PEER_PLACE_STATELESS + 1;
    peer_verify_answer_encode(&b, &a);
    in = cursor_of(b.data, b.len);
    assert_false(peer_verify_answer_decode(&in, &got));
    buffer_clear(&b);
    a.place = PEER_PLACE_THERE;
    a.error = error;
    a.error_len = PEER_ERROR_MAX;
    peer_verify_answer_encode(&b, &a);
    in = cursor_of(b.data, b.len);
    assert_true(peer_verify_answer_decode(&in, &got));
    buffer_clear(&b);
    a.error_len = PEER_ERROR_MAX + 1;
    peer_verify_answer_encode(&b, &a);
    in = cursor_of(b.data, b.len);
    assert_false(peer_verify_answer_decode(&in, &got));
    buffer_deinit(&b);
}

static void an_admission_has_a_term(void **state)
{
    struct peer_admission a = admission, got;
    struct buffer b = BUFFER_INIT;
    struct cursor in;

    a.term = 0;
    peer_admission_encode(&b, &a);
    in = cursor_of(b.data, b.len);
    assert_false(peer_admission_decode(&in, &got));
    buffer_deinit(&b);
}

static void a_hello_leaves_the_lives_and_tells_another_protocol(void **state)
{
    struct buffer b = BUFFER_INIT;
    struct peer_hello h;
    struct cursor in;

    peer_hello_encode(&b, 22, 23, "n1");
    buffer_put_text(&b, "lives");
    in = cursor_of(b.data, b.len);
    assert_true(peer_hello_decode(&in, &h));
    assert_true(h.same_protocol && h.cluster == 22 && h.id == 23);
    assert_int_equal(h.name_len, 2);
    assert_memory_equal(h.name, "n1", 2);
    assert_int_equal(in.len, 4 + 5);
    b.data[4 + strlen(PEER_MAGIC) - 1]++;
    in = cursor_of(b.data, b.len);
    assert_true(peer_hello_decode(&in, &h));
    assert_false(h.same_protocol);
    in = cursor_of(b.data, 4 + strlen(PEER_MAGIC) - 1);
    assert_false(peer_hello_decode(&in, &h));
    buffer_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back_as_it_was_sent),
        cmocka_unit_test(refuses_every_cut_and_what_follows),
        cmocka_unit_test(refuses_a_place_that_there_is_not_and_an_error_without_end),
        cmocka_unit_test(an_admission_has_a_term),
        cmocka_unit_test(a_hello_leaves_the_lives_and_tells_another_protocol),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
