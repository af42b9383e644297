#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kvfs/file/stage.h"
#include "sync/wire/command.h"

#define MODEL_MAX 8192

struct fixture {
    struct stage_memory memory;
    struct stage stage;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->memory.limit = 1024 * 1024;
    f->memory.directory = "/tmp";
    stage_init(&f->stage, &f->memory);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    stage_deinit(&f->stage);
    assert_int_equal(f->memory.used, 0);
    free(f);
    return 0;
}

/* A whole file in a plain array: what every operation means. */
struct model {
    uint8_t data[MODEL_MAX * 2];
    uint64_t size;
};

static void model_truncate(struct model *m, uint64_t size)
{
    if (size > m->size)
        memset(m->data + m->size, 0, (size_t)(size - m->size));
    m->size = size;
}

static void model_write(struct model *m, uint64_t offset, const uint8_t *data, size_t len)
{
    if (len == 0)
        return;
    if (offset + len > m->size)
        model_truncate(m, offset + len);
    memcpy(m->data + offset, data, len);
}

/* What the node makes of the encoded edits. */
static void model_apply(struct model *m, const struct buffer *edits)
{
    struct cursor c = cursor_of(edits->data, edits->len);
    struct edit e;
    int rc;

    while ((rc = edit_next(&c, &e)) == 1) {
        if (e.kind == EDIT_TRUNCATE)
            model_truncate(m, e.number);
        else if (e.kind == EDIT_WRITE)
            model_write(m, e.number, e.data, e.len);
        else if (e.kind == EDIT_APPEND)
            model_write(m, m->size, e.data, e.len);
    }
    assert_int_equal(rc, 0);
}

static void check_view(const struct stage *s, const struct model *base, const struct model *want,
                       uint64_t offset, size_t len)
{
    static uint8_t window[MODEL_MAX * 2];
    uint64_t size = base->size;
    size_t i;

    memset(window, 0, len);
    if (stage_needs_base(s, offset, len) && offset < base->size)
        memcpy(window, base->data + offset, base->size - offset < len ? (size_t)(base->size - offset) : len);
    stage_apply(s, &size, offset, window, len);
    assert_int_equal(size, want->size);
    assert_int_equal(stage_size(s, base->size), want->size);
    for (i = 0; i < len && offset + i < want->size; i++)
        assert_int_equal(window[i], want->data[offset + i]);
}

/* Nothing is said twice: extents come in order, and those that meet are one. */
static void check_minimal(const struct stage *s)
{
    const struct stage_op *op, *before = NULL;
    struct buffer edits = BUFFER_INIT;
    size_t n = 0, i;

    TAILQ_FOREACH (op, &s->ops, link) {
        assert_true(before == NULL || before->append != op->append || op->cut);
        for (i = 0; i < op->n; i++) {
            assert_true(op->extents[i].len > 0);
            if (i > 0 && !op->append)
                assert_true(op->extents[i].offset > op->extents[i - 1].offset + op->extents[i - 1].len);
        }
        n += op->n;
        before = op;
    }
    assert_true(stage_edits(s) >= n);
    stage_encode(s, &edits);
    assert_true(stage_encoded_len(s) >= edits.len);
    buffer_deinit(&edits);
}

static unsigned below(unsigned *seed, unsigned n)
{
    return n == 0 ? 0 : (unsigned)rand_r(seed) % n;
}

static void random_operation(struct stage *s, struct model *want, unsigned *seed)
{
    static uint8_t data[600];
    size_t len = below(seed, below(seed, 4) == 0 ? 500 : 20), i;
    uint64_t offset = below(seed, 3000);

    for (i = 0; i < len; i++)
        data[i] = (uint8_t)(1 + below(seed, 255));
    if (want->size > MODEL_MAX - 600)
        offset = 0;
    switch (want->size > MODEL_MAX - 600 ? 9 : below(seed, 10)) {
    case 9:
        offset = below(seed, 8) == 0 ? 0 : below(seed, 3000);
        assert_int_equal(stage_truncate(s, offset), 0);
        model_truncate(want, offset);
        break;
    case 8:
    case 7:
    case 6:
        assert_int_equal(stage_append(s, data, len), 0);
        model_write(want, want->size, data, len);
        break;
    case 5:
        offset = want->size; /* a sequential writer */
        /* fall through */
    default:
        assert_int_equal(stage_write(s, offset, data, len), 0);
        model_write(want, offset, data, len);
    }
}

static void shows_and_publishes_what_a_plain_file_would_have(void **state)
{
    static struct model base, want, published;
    struct fixture *f = *state;
    unsigned round;

    for (round = 0; round < 3000; round++) {
        unsigned seed = round, n, i;
        struct buffer edits = BUFFER_INIT;

        stage_clear(&f->stage);
        memset(&base, 0, sizeof base);
        base.size = below(&seed, 2500);
        for (i = 0; i < base.size; i++)
            base.data[i] = (uint8_t)(1 + below(&seed, 255));
        want = base;
        for (n = below(&seed, 12); n > 0; n--) {
            random_operation(&f->stage, &want, &seed);
            check_view(&f->stage, &base, &want, below(&seed, 3500), below(&seed, 2000));
        }
        check_view(&f->stage, &base, &want, 0, MODEL_MAX);
        check_minimal(&f->stage);
        stage_encode(&f->stage, &edits);
        assert_false(edits.failed);
        published = base;
        model_apply(&published, &edits);
        assert_int_equal(published.size, want.size);
        assert_memory_equal(published.data, want.data, (size_t)want.size);
        buffer_deinit(&edits);
    }
}

static void joins_two_stages_in_order(void **state)
{
    static struct model base, want;
    struct fixture *f = *state;
    struct stage later;
    unsigned round;

    for (round = 0; round < 1000; round++) {
        unsigned seed = round + 77777, n, i;

        stage_clear(&f->stage);
        stage_init(&later, &f->memory);
        memset(&base, 0, sizeof base);
        base.size = below(&seed, 500);
        for (i = 0; i < base.size; i++)
            base.data[i] = (uint8_t)(1 + below(&seed, 255));
        want = base;
        for (n = below(&seed, 5); n > 0; n--)
            random_operation(&f->stage, &want, &seed);
        for (n = below(&seed, 5); n > 0; n--)
            random_operation(&later, &want, &seed);
        stage_join(&f->stage, &later);
        assert_true(stage_empty(&later));
        /* And on it goes, over the seam. */
        for (n = below(&seed, 5); n > 0; n--)
            random_operation(&f->stage, &want, &seed);
        check_view(&f->stage, &base, &want, 0, MODEL_MAX);
        check_minimal(&f->stage);
        stage_deinit(&later);
    }
}

static void an_append_lands_at_the_end_as_of_then(void **state)
{
    struct fixture *f = *state;
    static struct model base;
    struct buffer edits = BUFFER_INIT;

    stage_append(&f->stage, "tail", 4);
    assert_true(stage_has_append(&f->stage));
    stage_encode(&f->stage, &edits);
    memset(&base, 0, sizeof base);
    model_write(&base, 0, (const uint8_t *)"somebody was faster ", 20);
    model_apply(&base, &edits);
    assert_int_equal(base.size, 24);
    assert_memory_equal(base.data, "somebody was faster tail", 24);
    buffer_deinit(&edits);
}

static void an_append_to_an_emptied_file_has_a_fixed_place(void **state)
{
    struct fixture *f = *state;

    stage_truncate(&f->stage, 0);
    assert_true(stage_only_emptied(&f->stage));
    stage_append(&f->stage, "ab", 2);
    stage_append(&f->stage, "cd", 2);
    assert_false(stage_only_emptied(&f->stage));
    assert_false(stage_has_append(&f->stage));
    assert_int_equal(stage_size(&f->stage, 1000), 4);
    assert_false(stage_needs_base(&f->stage, 0, 4096));
}

static void a_file_written_in_pieces_is_one_extent(void **state)
{
    struct fixture *f = *state;
    char piece[100];
    unsigned i;

    memset(piece, 'x', sizeof piece);
    for (i = 0; i < 1000; i++)
        stage_write(&f->stage, i * sizeof piece, piece, sizeof piece);
    assert_int_equal(f->stage.n_ops, 1);
    assert_int_equal(TAILQ_FIRST(&f->stage.ops)->n, 1);
    /* Writing it all over again takes no more memory. */
    i = (unsigned)f->memory.used;
    stage_write(&f->stage, 50, piece, sizeof piece);
    assert_int_equal(f->memory.used, i);
}

#define MANY 1000000

static void check_many(const struct stage *s)
{
    static uint8_t window[MANY];
    uint64_t size = 0;
    size_t i;

    stage_apply(s, &size, 0, window, sizeof window);
    assert_int_equal(size, MANY);
    for (i = 0; i < MANY; i++) {
        if (window[i] != (uint8_t)(i % 251))
            fail_msg("byte %zu is wrong", i);
    }
}

static void a_million_bytes_written_backwards_are_one_extent(void **state)
{
    struct fixture *f = *state;
    size_t i;

    for (i = MANY; i-- > 0;) {
        uint8_t byte = (uint8_t)(i % 251);

        assert_int_equal(stage_write(&f->stage, i, &byte, 1), 0);
    }
    assert_int_equal(stage_edits(&f->stage), 1);
    assert_true(f->memory.used <= 4 * MANY);
    check_many(&f->stage);
}

static void a_file_that_grows_on_both_sides_is_one_extent(void **state)
{
    struct fixture *f = *state;
    size_t i;

    for (i = 0; i < MANY / 2; i++) {
        size_t up = MANY / 2 + i, down = MANY / 2 - 1 - i;
        uint8_t bytes[2] = {(uint8_t)(up % 251), (uint8_t)(down % 251)};

        assert_int_equal(stage_write(&f->stage, up, &bytes[0], 1), 0);
        assert_int_equal(stage_write(&f->stage, down, &bytes[1], 1), 0);
    }
    assert_int_equal(stage_edits(&f->stage), 1);
    check_many(&f->stage);
}

static void gaps_that_are_filled_join_what_is_around_them(void **state)
{
    struct fixture *f = *state;
    uint8_t piece[1000];
    size_t at, half, i;

    for (half = 0; half < 2; half++) {
        for (at = half * sizeof piece; at < MANY; at += 2 * sizeof piece) {
            for (i = 0; i < sizeof piece; i++)
                piece[i] = (uint8_t)((at + i) % 251);
            assert_int_equal(stage_write(&f->stage, at, piece, sizeof piece), 0);
        }
        assert_int_equal(stage_edits(&f->stage), half == 0 ? MANY / 2 / sizeof piece : 1);
    }
    check_many(&f->stage);
}

/* What is put back after a failed publication does not grow by it. */
static void a_list_that_is_joined_again_and_again_stays_short(void **state)
{
    struct fixture *f = *state;
    struct stage later;
    unsigned i;

    stage_init(&later, &f->memory);
    for (i = 0; i < 100; i++) {
        assert_int_equal(stage_write(&f->stage, i * 10, "0123456789", 10), 0);
        stage_join(&later, &f->stage);
        stage_join(&f->stage, &later);
        assert_int_equal(stage_edits(&f->stage), 1);
    }
    assert_int_equal(stage_write(&later, 500, "x", 1), 0);
    stage_join(&f->stage, &later);
    assert_int_equal(stage_edits(&f->stage), 1);
    assert_int_equal(stage_truncate(&later, 0), 0);
    stage_join(&f->stage, &later);
    assert_true(stage_only_emptied(&f->stage));
    stage_deinit(&later);
}

static void an_explicit_time_ends_with_the_next_write(void **state)
{
    struct fixture *f = *state;

    stage_write(&f->stage, 0, "a", 1);
    stage_set_mtime(&f->stage, 12345);
    assert_true(f->stage.has_mtime);
    stage_write(&f->stage, 1, "b", 1);
    assert_false(f->stage.has_mtime);
}

/* The times of the edits in wire form; 0: none. */
static void times_of(const struct stage *s, int64_t out[EDIT_STAMP + 1])
{
    struct buffer b = BUFFER_INIT;
    struct cursor c;
    struct edit e;

    memset(out, 0, (EDIT_STAMP + 1) * sizeof *out);
    stage_encode(s, &b);
    c = cursor_of(b.data, b.len);
    while (edit_next(&c, &e) == 1)
        out[e.kind] = (int64_t)e.number;
    buffer_deinit(&b);
}

static void times_travel_with_the_edits_that_they_belong_to(void **state)
{
    struct fixture *f = *state;
    struct stage inflight;
    int64_t times[EDIT_STAMP + 1];

    stage_init(&inflight, &f->memory);
    stage_set_atime(&f->stage, -7);
    assert_false(stage_empty(&f->stage));
    stage_write(&f->stage, 0, "a", 1);
    stage_stamp(&f->stage, 100);
    stage_join(&inflight, &f->stage);
    assert_true(stage_empty(&f->stage));
    times_of(&inflight, times);
    assert_int_equal(times[EDIT_ATIME], -7);
    assert_int_equal(times[EDIT_STAMP], 100);
    times_of(&f->stage, times);
    assert_int_equal(times[EDIT_STAMP], 0);
    stage_write(&f->stage, 0, "b", 1);
    stage_stamp(&f->stage, 200);
    stage_set_mtime(&f->stage, 5);
    stage_join(&inflight, &f->stage);
    times_of(&inflight, times);
    assert_int_equal(times[EDIT_MTIME], 5);
    assert_int_equal(times[EDIT_ATIME], -7);
    assert_int_equal(times[EDIT_STAMP], 200);
    stage_deinit(&inflight);
}

static void spills_beyond_the_limit(void **state)
{
    struct fixture *f = *state;
    static char block[65536];
    static uint8_t window[65536];
    struct extent *last;
    uint64_t size = 0;
    unsigned i;

    for (i = 0; i < 64; i++) {
        memset(block, (int)i + 1, sizeof block);
        assert_int_equal(stage_write(&f->stage, i * sizeof block, block, sizeof block), 0);
    }
    last = &TAILQ_FIRST(&f->stage.ops)->extents[TAILQ_FIRST(&f->stage.ops)->n - 1];
    assert_true(last->mapped);
    for (i = 0; i < 64; i++) {
        size = 0;
        memset(window, 0, sizeof window);
        stage_apply(&f->stage, &size, i * sizeof block, window, sizeof window);
        assert_int_equal(window[0], i + 1);
        assert_int_equal(window[sizeof window - 1], i + 1);
    }
    assert_int_equal(size, 64 * sizeof block);
}

/* A mapping for each of so many would be more than a process may have. */
static void scattered_bytes_beyond_the_limit_are_not_mapped(void **state)
{
    struct fixture *f = *state;
    const struct stage_op *op;
    static uint8_t block[1 << 20];
    uint64_t i;

    assert_int_equal(
        stage_write(&f->stage, 0, block, f->memory.limit < sizeof block ? f->memory.limit : sizeof block), 0);
    for (i = 0; i < 100000; i++)
        assert_int_equal(stage_write(&f->stage, (2 << 20) + 2 * i, "x", 1), 0);
    assert_true(stage_pieces(&f->stage) > 100000);
    op = TAILQ_FIRST(&f->stage.ops);
    for (i = 1; i < op->n; i++)
        assert_true(!op->extents[i].mapped || op->extents[i].len > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(shows_and_publishes_what_a_plain_file_would_have, setup, teardown),
        cmocka_unit_test_setup_teardown(joins_two_stages_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(an_append_lands_at_the_end_as_of_then, setup, teardown),
        cmocka_unit_test_setup_teardown(an_append_to_an_emptied_file_has_a_fixed_place, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_written_in_pieces_is_one_extent, setup, teardown),
        cmocka_unit_test_setup_teardown(a_million_bytes_written_backwards_are_one_extent, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_grows_on_both_sides_is_one_extent, setup, teardown),
        cmocka_unit_test_setup_teardown(gaps_that_are_filled_join_what_is_around_them, setup, teardown),
        cmocka_unit_test_setup_teardown(a_list_that_is_joined_again_and_again_stays_short, setup, teardown),
        cmocka_unit_test_setup_teardown(an_explicit_time_ends_with_the_next_write, setup, teardown),
        cmocka_unit_test_setup_teardown(times_travel_with_the_edits_that_they_belong_to, setup, teardown),
        cmocka_unit_test_setup_teardown(spills_beyond_the_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(scattered_bytes_beyond_the_limit_are_not_mapped, setup, teardown),
    };

    return cmocka_run_group_tests_name("stage", tests, NULL, NULL);
}
