/* The pass in steps against state_db_verify(), and against a writer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvnode/disk/state_db_scrub.h"
#include "tests/unit/store/place.h"

#define BIG (300 * 1024)

static int scrub(const char *path, unsigned *steps_out, char error[STATE_DB_ERROR_MAX])
{
    struct state_scrub_progress progress;
    struct state_scrub *s;
    int rv = state_scrub_open(path, &s, error);

    *steps_out = 0;
    if (rv < 0)
        return rv;
    do
        (*steps_out)++;
    while ((rv = state_scrub_step(s, &progress)) == 1);
    state_scrub_close(s);
    return rv;
}

static void set_big(struct place *p, const char *path, unsigned seed)
{
    static uint8_t bytes[BIG];

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)rand_r(&seed);
    assert_int_equal(world_set_bytes(&p->w, path, bytes, sizeof bytes, 0, 0), KV_OK);
}

/* Something in every table, values in several chunks, histories longer than a step. */
static void fill(struct place *p)
{
    char path[40], text[40];

    assert_int_equal(world_mkdir(&p->w, KV_ROOT_INO, "d"), KV_OK);
    for (unsigned i = 0; i < 40; i++) {
        snprintf(path, sizeof path, "/d/%u", i % 10);
        snprintf(text, sizeof text, "text %u", i);
        assert_int_equal(world_set(&p->w, path, text), KV_OK);
    }
    for (unsigned i = 0; i < 1200; i++) {
        snprintf(text, sizeof text, "version %u", i);
        assert_int_equal(world_set(&p->w, "/long", text), KV_OK);
    }
    for (unsigned i = 0; i < 3; i++)
        set_big(p, "/big", i);
    assert_int_equal(world_set(&p->w, "/gone", "dead"), KV_OK);
    assert_int_equal(world_del(&p->w, "/gone", false), KV_OK);
    assert_int_equal(world_setting(&p->w, "max_keys", "1000"), KV_OK);
    place_flush(p);
}

static void a_whole_file_is_clean(void **state)
{
    struct place *p = *state;
    struct state_scrub_progress progress = {0};
    struct state_scrub *s;
    unsigned steps = 0;
    int rv;

    assert_int_equal(scrub(p->path, &steps, p->error), 0);
    fill(p);
    assert_int_equal(state_scrub_open(p->path, &s, p->error), 0);
    while ((rv = state_scrub_step(s, &progress)) == 1)
        steps++;
    state_scrub_close(s);
    assert_int_equal(rv, 0);
    assert_true(progress.rows_done);
    assert_int_equal(progress.index, p->w.index);
    assert_int_equal(progress.digest, store_digest(p->w.s));
    assert_true(progress.read >= 3 * BIG);
    assert_true(steps > 5);
}

/* Every step meets another state: names and values come, change and go. */
static void a_file_that_is_being_written_is_clean(void **state)
{
    struct place *p = *state;
    unsigned seed = 3;

    fill(p);
    for (unsigned round = 0; round < 12; round++) {
        struct state_scrub_progress progress;
        struct state_scrub *s;
        int rv;

        assert_int_equal(state_scrub_open(p->path, &s, p->error), 0);
        while ((rv = state_scrub_step(s, &progress)) == 1) {
            char path[40], text[40];
            unsigned k = (unsigned)rand_r(&seed) % 12;

            snprintf(path, sizeof path, "/d/%u", k);
            snprintf(text, sizeof text, "round %u %u", round, seed);
            switch (rand_r(&seed) % 5) {
            case 0:
                world_del(&p->w, path, false);
                break;
            case 1:
                set_big(p, "/big", seed);
                break;
            case 2:
                if (world_ino(&p->w, path) != 0)
                    world_append(&p->w, world_ino(&p->w, path), text, strlen(text));
                break;
            default:
                world_set(&p->w, path, text);
                world_set(&p->w, "/long", text);
            }
            place_flush(p);
        }
        state_scrub_close(s);
        if (rv != 0)
            print_message("%s\n", p->error);
        assert_int_equal(rv, 0);
    }
}

static uint8_t *read_file(const char *path, size_t *len_out)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    uint8_t *bytes;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    bytes = malloc((size_t)st.st_size);
    assert_int_equal(read(fd, bytes, (size_t)st.st_size), st.st_size);
    close(fd);
    *len_out = (size_t)st.st_size;
    return bytes;
}

static void write_file(const char *path, const uint8_t *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    close(fd);
}

static void what_verify_refuses_the_scrub_refuses(void **state)
{
    struct place *p = *state;
    const char *rounds = getenv("KVFS_TEST_FLIPS");
    int n = rounds != NULL ? atoi(rounds) : 300, refused = 0;
    char path[128], error[STATE_DB_ERROR_MAX], other[STATE_DB_ERROR_MAX];
    unsigned seed = 99, steps;
    uint8_t *good, *bad;
    size_t len;

    fill(p);
    writeback_free(p->wb, true, 10000);
    p->wb = NULL;
    good = read_file(p->path, &len);
    bad = malloc(len);
    snprintf(path, sizeof path, "%s/damaged.db", p->dir);
    for (int i = 0; i < n; i++) {
        uint64_t index, digest;
        size_t at = (size_t)rand_r(&seed) % len;
        int verified, scrubbed;

        memcpy(bad, good, len);
        if (i % 10 == 9)
            memset(bad + at / 4096 * 4096, 0, 4096); /* a lost page */
        else
            bad[at] ^= (uint8_t)(1 << rand_r(&seed) % 8);
        write_file(path, bad, len);
        verified = state_db_verify(path, &index, &digest, error);
        scrubbed = scrub(path, &steps, other);
        if ((verified == 0) != (scrubbed == 0))
            print_message("byte %zu of page %zu: verify %d (%s), scrub %d (%s)\n", at % 4096, at / 4096,
                          verified, verified != 0 ? error : "", scrubbed, scrubbed != 0 ? other : "");
        assert_int_equal(verified == 0, scrubbed == 0);
        if (scrubbed != 0) {
            assert_non_null(strstr(other, "damaged.db"));
            assert_int_equal(scrubbed, -EUCLEAN);
        }
        refused += scrubbed != 0;
    }
    unlink(path);
    assert_true(refused > n / 2);
    free(good);
    free(bad);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, place_setup, place_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_whole_file_is_clean),
        TEST(a_file_that_is_being_written_is_clean),
        TEST(what_verify_refuses_the_scrub_refuses),
    };

    return cmocka_run_group_tests_name("scrub", tests, NULL, NULL);
}
