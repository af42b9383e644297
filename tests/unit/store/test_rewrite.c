/* What a command costs: lists of edits in any order cost what they say and what
 * they leave, and long commands can be prepared in steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "kvnode/state/rewrite.h"
#include "tests/unit/store/world.h"

#define MIB ((size_t)1024 * 1024)

static uint64_t cpu_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void put(struct buffer *b, uint8_t kind, uint64_t number, const void *data, size_t len)
{
    edit_encode(b, &(struct edit){.kind = kind, .number = number, .data = data, .len = len});
}

static const struct rewrite_limits no_limits = {64 * MIB, UINT64_MAX};

static struct value value_of(const void *data, size_t len, uint64_t *next_id)
{
    struct value none = {0}, v = {0};
    struct rewrite r;

    rewrite_begin_value(&r, &none, 0, data, len, &no_limits, next_id);
    assert_int_equal(rewrite_work(&r, SIZE_MAX), 0);
    assert_int_equal(r.code, KV_OK);
    draft_commit(&r.draft, &v, &none);
    assert_int_equal(r.digest, value_digest(&v));
    rewrite_deinit(&r);
    return v;
}

/* The edits carried out on plain bytes. */
static size_t naive(uint8_t *bytes, size_t size, const struct buffer *edits)
{
    struct cursor c = cursor_of(edits->data, edits->len);
    struct edit e;

    while (edit_next(&c, &e) == 1) {
        size_t at = e.kind == EDIT_APPEND ? size : (size_t)e.number, end = at + e.len;

        if (e.kind == EDIT_TRUNCATE) {
            if (at > size)
                memset(bytes + size, 0, at - size);
            size = at;
        } else if ((e.kind == EDIT_WRITE || e.kind == EDIT_APPEND) && e.len > 0) {
            if (at > size)
                memset(bytes + size, 0, at - size);
            memcpy(bytes + at, e.data, e.len);
            if (end > size)
                size = end;
        }
    }
    return size;
}

static void random_edits(struct buffer *b, unsigned *seed, size_t max)
{
    static uint8_t noise[200000];
    int n = 1 + rand_r(seed) % 12;

    for (size_t i = 0; i < sizeof noise; i += 97)
        noise[i] = (uint8_t)rand_r(seed);
    buffer_clear(b);
    while (n-- > 0) {
        size_t at = (size_t)rand_r(seed) % max, len = (size_t)rand_r(seed) % 300;

        if (rand_r(seed) % 4 == 0)
            len = (size_t)rand_r(seed) % sizeof noise;
        switch (rand_r(seed) % 6) {
        case 0:
            put(b, EDIT_TRUNCATE, rand_r(seed) % 3 == 0 ? 0 : at, NULL, 0);
            break;
        case 1:
            put(b, EDIT_APPEND, 0, noise + 5, len);
            break;
        case 2:
            put(b, EDIT_MTIME, 7, NULL, 0);
            break;
        default:
            put(b, EDIT_WRITE, at, noise + rand_r(seed) % 100, len < 200 ? len : len - 100);
            break;
        }
    }
}

static void edits_give_what_they_say_in_steps_of_any_size(void **state)
{
    const size_t max = 600000;
    uint8_t *bytes = calloc(1, 4 * MIB), *text = malloc(4 * MIB);
    struct buffer edits = BUFFER_INIT, out = BUFFER_INIT;
    unsigned seed = 1;
    uint64_t next_id = 1;
    struct value v = {0};
    size_t size = 0;
    uint64_t digest = 0;

    for (int round = 0; round < 400; round++) {
        struct rewrite r;
        struct value old;

        if (size > max + 200000) {
            value_deinit(&v);
            size = (size_t)rand_r(&seed) % max;
            for (size_t i = 0; i < size; i++)
                text[i] = (uint8_t)(i * 7 + (size_t)round);
            memcpy(bytes, text, size);
            v = value_of(text, size, &next_id);
            digest = value_digest(&v);
        }
        random_edits(&edits, &seed, max);
        rewrite_begin_edits(&r, &v, digest, edits.data, edits.len, &no_limits, &next_id);
        r.apart = round % 2 == 0;
        while (r.phase != REWRITE_DONE)
            assert_int_equal(rewrite_work(&r, 1 + (size_t)rand_r(&seed) % 100000), 0);
        assert_int_equal(r.code, KV_OK);
        memcpy(text, bytes, size);
        buffer_clear(&out);
        value_read(&v, 0, size, &out);
        assert_memory_equal(out.data != NULL ? out.data : text, bytes, size); /* the base is as it was */
        {
            size_t now = naive(bytes, size, &edits);

            assert_int_equal(r.draft.size, now);
            assert_int_equal(r.same, now == size && memcmp(bytes, text, size) == 0);
            size = now;
        }
        digest = r.digest;
        draft_commit(&r.draft, &v, &old);
        value_deinit(&old);
        rewrite_deinit(&r);
        buffer_clear(&out);
        value_read(&v, 0, size, &out);
        assert_int_equal(out.len, size);
        assert_memory_equal(out.data != NULL ? out.data : bytes, bytes, size);
        assert_int_equal(digest, value_digest(&v));
    }
    value_deinit(&v);
    buffer_deinit(&edits);
    buffer_deinit(&out);
    free(bytes);
    free(text);
    (void)state;
}

static void publish(struct world *w, const struct buffer *edits, int code)
{
    struct command_body body = {.ino = world_ino(w, "e"), .edits = edits->data, .edits_len = edits->len};

    assert_int_equal(world_command(w, COMMAND_PUBLISH, &body), code);
}

static int setup(void **state)
{
    struct world *w = malloc(sizeof *w);

    world_init(w, true);
    assert_int_equal(world_set(w, "e", "x"), KV_OK);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    assert_true(world_digest_is_right(w));
    world_deinit(w);
    free(w);
    return 0;
}

/* A list of 2 MiB that makes each chunk of a large value a hundred times over. */
static void what_is_cut_off_later_costs_nothing(void **state)
{
    struct world *w = *state;
    struct buffer edits = BUFFER_INIT;
    uint64_t began;

    while (edits.len < 2 * MIB) {
        for (uint64_t k = 1023; k > 0; k--)
            put(&edits, EDIT_WRITE, k * KV_CHUNK_SIZE, "\1", 1);
        put(&edits, EDIT_TRUNCATE, 0, NULL, 0);
    }
    put(&edits, EDIT_APPEND, 0, "end", 3);
    began = cpu_ms();
    publish(w, &edits, KV_OK);
    assert_in_range(cpu_ms() - began, 0, 300);
    assert_string_equal(world_get(w, "e"), "end");
    buffer_deinit(&edits);
}

static void growing_a_chunk_by_overlapping_bytes_does_not_copy_it_each_time(void **state)
{
    struct world *w = *state;
    struct buffer edits = BUFFER_INIT;
    uint64_t began;

    for (uint64_t at = 0; at < 120000; at++)
        put(&edits, EDIT_WRITE, at, "ab", 2);
    began = cpu_ms();
    publish(w, &edits, KV_OK);
    assert_in_range(cpu_ms() - began, 0, 500);
    assert_int_equal(world_attr(w, "e").size, 120001);
    buffer_deinit(&edits);
}

static void malformed_edits_change_nothing(void **state)
{
    struct world *w = *state;
    struct buffer edits = BUFFER_INIT;

    put(&edits, EDIT_WRITE, 0, "other", 5);
    edits.len--;
    publish(w, &edits, KV_E_PROTOCOL);
    buffer_clear(&edits);
    put(&edits, EDIT_TRUNCATE, 0, NULL, 0);
    buffer_put_u8(&edits, 9);
    publish(w, &edits, KV_E_PROTOCOL);
    assert_string_equal(world_get(w, "e"), "x");
    buffer_deinit(&edits);
}

/* Applies each command to a second store, prepared in steps between which what a
 * node does meanwhile happens. */
static void apply_prepared(void *arg, uint64_t index, const void *bytes, size_t len)
{
    struct world *twin = arg;
    struct batch *b;
    int steps = 0, rv;

    while ((rv = store_prepare(twin->s, bytes, len, 100000)) == 1) {
        assert_int_equal(journal_seal(twin->j, twin->s, &b), 0);
        batch_free(b);
        steps++;
    }
    assert_int_equal(rv, 0);
    twin->seq = steps > 0 ? twin->seq + 1 : twin->seq;
    assert_int_equal(store_apply(twin->s, index, bytes, len, &twin->result), 0);
}

static void a_prepared_command_gives_what_it_gives_at_once(void **state)
{
    struct world *w = *state, *twin = malloc(sizeof *twin);
    uint8_t *big = malloc(3 * MIB);
    struct buffer edits = BUFFER_INIT;
    struct journal *j = journal_new();
    unsigned seed = 5;

    /* Both begin with nothing. */
    world_deinit(w);
    world_init(twin, false);
    world_adopt(twin, store_new(0, j, NULL), j);
    twin->seq = 0;
    w->tap = NULL;
    world_init(w, true);
    world_adopt(w, store_new(0, NULL, NULL), NULL);
    w->tap = apply_prepared;
    w->tap_arg = twin;
    w->index = 0;
    w->acked_below = w->seq = 0;
    assert_int_equal(world_register(w, "0123456789abcdef", &w->session), KV_OK);
    for (size_t i = 0; i < 3 * MIB; i++)
        big[i] = (uint8_t)(i >> 3);
    assert_int_equal(world_set_bytes(w, "e", big, 2 * MIB + 12345, SET_PARENTS, 0), KV_OK);
    for (int i = 0; i < 60; i++) {
        struct command_body body = {.ino = world_ino(w, "e")};

        random_edits(&edits, &seed, 3 * MIB);
        if (i % 10 == 9) {
            assert_int_equal(world_set_bytes(w, "e", big, 3 * MIB - (size_t)i * 1000, 0, 0), KV_OK);
            continue;
        }
        body.edits = edits.data;
        body.edits_len = edits.len;
        assert_int_equal(world_command(w, COMMAND_PUBLISH, &body), KV_OK);
        assert_int_equal(store_digest(w->s), store_digest(twin->s));
        assert_true(memcmp(&w->result.attr, &twin->result.attr, sizeof w->result.attr) == 0);
    }
    /* Refused all the same. */
    assert_int_equal(world_set_bytes(w, "e", big, 3 * MIB, SET_IF_VERSION, 1), KV_E_VERSION);
    assert_int_equal(world_setting(w, "max_bytes", "4194304"), KV_OK);
    assert_int_equal(world_set_bytes(w, "f", big, 3 * MIB, SET_PARENTS, 0), KV_E_NOSPC);
    assert_int_equal(store_digest(w->s), store_digest(twin->s));
    assert_true(world_digest_is_right(twin));
    assert_true(twin->seq > 20); /* most of them were prepared */
    buffer_deinit(&edits);
    world_deinit(twin);
    free(twin);
    free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edits_give_what_they_say_in_steps_of_any_size),
        cmocka_unit_test_setup_teardown(what_is_cut_off_later_costs_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(growing_a_chunk_by_overlapping_bytes_does_not_copy_it_each_time,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(malformed_edits_change_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_prepared_command_gives_what_it_gives_at_once, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
