/* Transactions: what they compare, all or nothing, one revision; what a plan lets through goes through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kvnode/state/store_internal.h"
#include "sync/wire/txn.h"
#include "tests/unit/store/place.h"

static struct txn_item item(uint8_t kind, const char *path, const char *more)
{
    struct txn_item i = {.kind = kind};

    if (path != NULL) {
        i.path = (const uint8_t *)path;
        i.path_len = strlen(path);
    }
    if (kind == TXN_MOVE) {
        i.to = (const uint8_t *)more;
        i.to_len = strlen(more);
    } else if (more != NULL) {
        i.value = (const uint8_t *)more;
        i.value_len = strlen(more);
    }
    return i;
}

#define IF_VALUE(path, v) item(TXN_IF_VALUE, path, v)
#define IF_MISSING(path) item(TXN_IF_MISSING, path, NULL)
#define IF_EXISTS(path) item(TXN_IF_EXISTS, path, NULL)
#define SET(path, v) item(TXN_SET, path, v)
#define DEL(path) item(TXN_DEL, path, NULL)
#define MOVE(path, to) item(TXN_MOVE, path, to)
#define MKDIR(path) item(TXN_MKDIR, path, NULL)
#define ELSE item(TXN_ELSE, NULL, NULL)

static struct txn_item if_version(const char *path, uint64_t version)
{
    struct txn_item i = item(TXN_IF_VERSION, path, NULL);

    i.version = version;
    return i;
}

static int txn(struct world *w, const struct txn_item *items, size_t n)
{
    struct buffer b = BUFFER_INIT;
    struct command_body body = {0};
    int rv;

    for (size_t i = 0; i < n; i++)
        txn_encode(&b, &items[i]);
    body.items = b.data;
    body.items_len = b.len;
    rv = world_command(w, COMMAND_TXN, &body);
    buffer_deinit(&b);
    return rv;
}

#define TXN(w, ...)                                                                                          \
    txn(w, (const struct txn_item[]){__VA_ARGS__},                                                           \
        sizeof((const struct txn_item[]){__VA_ARGS__}) / sizeof(struct txn_item))

static void all_happens_at_one_revision(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;

    assert_int_equal(world_set(w, "old", "o"), KV_OK);
    assert_int_equal(world_set(w, "gone", "g"), KV_OK);
    assert_int_equal(world_set(w, "over", "x"), KV_OK);
    assert_int_equal(TXN(w, if_version("old", 1), IF_MISSING("new/a"), SET("new/a", "1"), SET("new/b", "2"),
                         MKDIR("empty"), MOVE("old", "over"), DEL("gone")),
                     KV_OK);
    assert_int_equal(w->result.created, 1);
    assert_int_equal(w->result.removed, 0);
    assert_string_equal(world_list(w, ""), "new empty over");
    assert_string_equal(world_get(w, "over"), "o");
    assert_string_equal(world_get(w, "new/b"), "2");
    for (const char *const *k = (const char *const[]){"over", "new/a", "new/b", "empty", "new", NULL};
         *k != NULL; k++)
        assert_int_equal(world_attr(w, *k).revision, w->result.revision);
    assert_string_equal(place_versions(p, "old"), "1x 1");
    assert_string_equal(place_versions(p, "gone"), "1x 1");
    assert_string_equal(place_versions(p, "over"), "2* 1");
    assert_int_equal(w->events[w->n_events - 1].last, 1);
    for (int i = 0; i < w->n_events - 1; i++)
        assert_int_equal(w->events[i].last, 0);
}

static void what_does_not_hold_stops_it_or_takes_the_other_branch(void **state)
{
    struct world *w = &((struct place *)*state)->w;

    assert_int_equal(world_set(w, "a", "1"), KV_OK);
    assert_int_equal(TXN(w, IF_EXISTS("a"), if_version("a", 2), SET("b", "x")), KV_E_VERSION);
    assert_int_equal(w->result.removed, 2);
    assert_int_equal(TXN(w, if_version("a", 0), SET("b", "x")), KV_E_VERSION);
    assert_int_equal(TXN(w, IF_MISSING("a"), SET("b", "x")), KV_E_VERSION);
    assert_int_equal(TXN(w, IF_EXISTS("a/b"), SET("b", "x")), KV_E_VERSION);
    assert_int_equal(TXN(w, IF_EXISTS("b"), SET("b", "x")), KV_E_VERSION);
    assert_int_equal(TXN(w, IF_VALUE("a", "2"), SET("b", "x")), KV_E_VERSION);
    assert_int_equal(TXN(w, IF_VALUE("a", "11"), SET("b", "x")), KV_E_VERSION);
    assert_int_equal(TXN(w, IF_VALUE("b", ""), SET("b", "x")), KV_E_VERSION);
    assert_string_equal(world_list(w, ""), "a");
    assert_int_equal(TXN(w, IF_VALUE("a", "1"), if_version("b", 0), SET("b", "x")), KV_OK);
    assert_int_equal(TXN(w, IF_EXISTS("b"), IF_MISSING("a"), DEL("a"), ELSE, SET("c", "y")), KV_OK);
    assert_int_equal(w->result.created, 0);
    assert_int_equal(w->result.removed, 2);
    assert_int_equal(TXN(w, IF_EXISTS("c"), DEL("c"), ELSE, SET("d", "y")), KV_OK);
    assert_int_equal(w->result.created, 1);
    assert_string_equal(world_list(w, ""), "a b");
    /* Nothing to do is fine, and does nothing; what is refused is told by its place. */
    assert_int_equal(TXN(w, IF_MISSING("a"), SET("x", ""), ELSE, SET("y", ""), DEL("missing")), KV_E_NOENT);
    assert_int_equal(w->result.removed, 5);
    assert_int_equal(TXN(w, SET("x", ""), MKDIR("a")), KV_E_EXIST);
    assert_int_equal(w->result.removed, 2);
    assert_string_equal(world_list(w, ""), "a b");
    assert_int_equal(TXN(w, IF_EXISTS("a")), KV_OK);
}

static void each_name_and_each_file_once(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;

    assert_int_equal(world_set(w, "a", "1"), KV_OK);
    assert_int_equal(world_link(w, world_ino(w, "a"), KV_ROOT_INO, "b"), KV_OK);
    assert_int_equal(world_set(w, "d/x", "1"), KV_OK);
    assert_int_equal(TXN(w, SET("a", "2"), SET("a", "3")), KV_E_INVAL);
    assert_int_equal(TXN(w, SET("a", "2"), SET("b", "3")), KV_E_INVAL);
    assert_int_equal(TXN(w, SET("a", "2"), DEL("b")), KV_E_INVAL);
    assert_int_equal(TXN(w, DEL("a"), SET("a", "2")), KV_E_INVAL);
    assert_int_equal(TXN(w, MOVE("d", "e"), MKDIR("d")), KV_E_INVAL);
    assert_int_equal(TXN(w, SET("d/x", "2"), MOVE("d", "e"), DEL("e/x")), KV_E_INVAL);
    assert_int_equal(TXN(w, SET("n", "1"), MOVE("n", "m")), KV_E_INVAL);
    assert_string_equal(world_list(w, ""), "a b d");
    /* What comes below what was moved or made is another name. */
    assert_int_equal(TXN(w, MOVE("d", "e"), SET("e/y", "2"), DEL("e/x"), MKDIR("f"), SET("f/g/h", "3")),
                     KV_OK);
    assert_string_equal(world_list(w, "e"), "y");
    assert_string_equal(world_get(w, "f/g/h"), "3");
}

static void permissions_are_those_of_each_line(void **state)
{
    struct world *w = &((struct place *)*state)->w;

    assert_int_equal(world_chmod(w, KV_ROOT_INO, 01777), KV_OK);
    assert_int_equal(world_set(w, "roots", "r"), KV_OK);
    assert_int_equal(world_set(w, "secret", "s"), KV_OK);
    assert_int_equal(world_chmod(w, world_ino(w, "secret"), 0600), KV_OK);
    w->uid = w->gid = 1000;
    w->flags = 0;
    assert_int_equal(TXN(w, SET("mine", "m"), SET("roots", "x")), KV_E_ACCES);
    assert_int_equal(TXN(w, SET("mine", "m"), DEL("roots")), KV_E_PERM);
    assert_int_equal(TXN(w, SET("mine", "m"), MOVE("roots", "x")), KV_E_PERM);
    assert_int_equal(TXN(w, IF_VALUE("secret", "s"), SET("mine", "m")), KV_E_ACCES);
    assert_int_equal(w->result.removed, 1);
    /* The place is of the line that is refused, not of one that does not hold. */
    assert_int_equal(TXN(w, IF_MISSING("roots"), IF_EXISTS("roots"), IF_VALUE("secret", "s")), KV_E_ACCES);
    assert_int_equal(w->result.removed, 3);
    assert_int_equal(TXN(w, IF_VALUE("roots", "r"), SET("mine", "m"), SET("dir/own", "x")), KV_OK);
    assert_int_equal(TXN(w, MOVE("mine", "dir/mine"), DEL("dir/own")), KV_OK);
    assert_string_equal(world_list(w, "dir"), "mine");
}

static void limits_count_what_the_lines_before_did(void **state)
{
    struct world *w = &((struct place *)*state)->w;

    assert_int_equal(world_set(w, "a", "12345678"), KV_OK);
    assert_int_equal(world_setting(w, "max_keys", "2"), KV_OK);
    assert_int_equal(TXN(w, SET("b", ""), SET("c", "")), KV_E_NOSPC);
    assert_int_equal(w->result.removed, 2);
    assert_int_equal(TXN(w, SET("x/b", "")), KV_E_NOSPC);
    assert_int_equal(TXN(w, DEL("a"), SET("b", ""), SET("c", "")), KV_OK);
    assert_int_equal(world_setting(w, "max_keys", "100"), KV_OK);
    assert_int_equal(world_setting(w, "max_bytes", "10"), KV_OK);
    assert_int_equal(TXN(w, SET("b", "123456"), SET("c", "123456")), KV_E_NOSPC);
    assert_int_equal(TXN(w, SET("b", "123456"), SET("c", "1234")), KV_OK);
    assert_int_equal(TXN(w, SET("d", "1")), KV_E_NOSPC);
    assert_int_equal(TXN(w, SET("b", ""), SET("d", "123456")), KV_OK);
    assert_int_equal(world_setting(w, "value_limit", "5"), KV_OK);
    assert_int_equal(TXN(w, DEL("b"), SET("c", "123456")), KV_E_FBIG);
    assert_string_equal(world_list(w, ""), "b c d");
}

static void malformed_ones_do_nothing(void **state)
{
    struct world *w = &((struct place *)*state)->w;
    static struct txn_item many[TXN_ITEMS_MAX + 1];
    static char names[TXN_ITEMS_MAX + 1][8], deep[4000];
    struct command_body body = {.items = (const uint8_t *)"\5", .items_len = 1};

    assert_int_equal(world_command(w, COMMAND_TXN, &body), KV_E_PROTOCOL);
    body.items_len = 0;
    assert_int_equal(world_command(w, COMMAND_TXN, &body), KV_E_PROTOCOL);
    body.items = (const uint8_t *)"\12";
    body.items_len = 1;
    assert_int_equal(world_command(w, COMMAND_TXN, &body), KV_E_PROTOCOL);
    assert_int_equal(TXN(w, SET("a", ""), IF_MISSING("b")), KV_E_PROTOCOL);
    assert_int_equal(TXN(w, IF_MISSING("b"), ELSE, SET("c", ""), ELSE), KV_E_PROTOCOL);
    assert_int_equal(TXN(w, SET("a", ""), SET("b/../c", "")), KV_E_INVAL);
    assert_int_equal(TXN(w, SET("a", ""), MOVE("a", ".kvfs")), KV_E_PERM);
    for (int i = 0; i <= TXN_ITEMS_MAX; i++) {
        snprintf(names[i], sizeof names[i], "n%d", i);
        many[i] = SET(names[i], "v");
    }
    assert_int_equal(txn(w, many, TXN_ITEMS_MAX + 1), KV_E_FBIG);
    memset(deep, 'd', sizeof deep - 1);
    for (size_t i = 1; i < sizeof deep - 1; i += 2)
        deep[i] = '/';
    assert_int_equal(TXN(w, SET(deep, "v")), KV_E_FBIG); /* so many directories */
    assert_string_equal(world_list(w, ""), "");
    assert_int_equal(txn(w, many, TXN_ITEMS_MAX), KV_OK);
    assert_int_equal(w->s->keys, TXN_ITEMS_MAX);
}

static uint64_t dice;

static unsigned roll(unsigned n)
{
    dice = dice * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(dice >> 33) % n;
}

static const char *random_path(void)
{
    static const char *const names[] = {"a", "b", "c", "d~", "e", "f", "g"};
    static char paths[64][64];
    static unsigned next;
    char *path = paths[next++ % 64];

    path[0] = '\0';
    for (unsigned depth = 1 + roll(2); depth > 0; depth--)
        snprintf(path + strlen(path), 64 - strlen(path), "%s%s", path[0] != '\0' ? "/" : "", names[roll(7)]);
    return path;
}

static struct txn_item random_item(void)
{
    switch (roll(6)) {
    case 0:
        return DEL(random_path());
    case 1:
    case 2:
        return MOVE(random_path(), random_path());
    case 3:
        return MKDIR(random_path());
    default:
        return SET(random_path(), roll(2) ? "value" : "another");
    }
}

/* The plan says beforehand what the operations would: refused, nothing has happened; else everything has. */
static void a_plan_is_what_happens(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    unsigned done = 0, refused = 0;

    dice = 7;
    assert_int_equal(world_chmod(w, KV_ROOT_INO, 01777), KV_OK);
    for (int i = 0; i < 30000; i++) {
        struct txn_item items[8];
        size_t n = 1 + roll(roll(4) == 0 ? 8 : 3);
        uint64_t keys = w->s->keys, bytes = w->s->bytes, ino = w->s->next_ino, number = w->s->next_number;
        int rv;

        w->uid = w->gid = roll(3) == 0 ? 1000 : 0;
        w->flags = w->uid == 0 ? COMMAND_TRUSTED : 0;
        if (roll(10) == 0) {
            world_link(w, world_ino(w, random_path()), KV_ROOT_INO, roll(2) ? "a" : "c");
            continue;
        }
        if (roll(10) == 0) {
            world_chmod(w, world_ino(w, random_path()), roll(2) ? 01777 : (uint16_t)roll(512));
            continue;
        }
        if (roll(20) == 0)
            world_setting(w, roll(2) ? "max_keys" : "max_bytes", roll(4) == 0 ? "25" : "default");
        keys = w->s->keys;
        for (size_t k = 0; k < n; k++)
            items[k] = random_item();
        rv = txn(w, items, n);
        done += rv == KV_OK;
        refused += rv != KV_OK;
        if (rv != KV_OK) {
            assert_in_range(w->result.removed, 1, n);
            assert_int_equal(w->s->keys, keys);
            assert_int_equal(w->s->bytes, bytes);
            assert_int_equal(w->s->next_ino, ino);
            assert_int_equal(w->s->next_number, number);
            assert_int_equal(w->n_events, 1);
            assert_int_equal(w->events[0].kind, EVENT_NOTHING);
        }
        if (i % 100 == 0)
            assert_true(world_digest_is_right(w));
        if (i % 5000 == 4999)
            place_flush(p);
    }
    print_message("# %u done, %u refused\n", done, refused);
    assert_in_range(done, 1000, 30000);
    assert_in_range(refused, 2000, 30000);
}

/* Long ones are made beforehand, in steps; what comes of it is the same. */
static void long_ones_are_prepared_in_steps(void **state)
{
    struct place *p = *state;
    size_t size = (size_t)6 << 20;
    uint8_t *big = malloc(size);
    struct world twin;
    struct buffer body = BUFFER_INIT, command = BUFFER_INIT;
    unsigned steps = 0;
    int rv;

    assert_non_null(big);
    world_init(&twin, false);
    for (size_t i = 0; i < size; i++)
        big[i] = (uint8_t)(i * 31 >> 5);
    for (int k = 0; k < 2; k++) {
        struct world *w = k == 0 ? &p->w : &twin;

        assert_int_equal(world_set_bytes(w, "d/one", big, size / 2, SET_PARENTS, 0), KV_OK);
        assert_int_equal(world_set_bytes(w, "two", big, size / 2, 0, 0), KV_OK);
    }
    for (unsigned i = 0; i < 5; i++) {
        struct txn_item set = SET(i == 0 ? "d/one" : i == 1 ? "new/three" : i == 2 ? "e/four" : "two", NULL);

        big[i * 1000]++;
        set.value = big;
        set.value_len = i == 4 ? 0 : size;
        if (i == 2)
            txn_encode(&body, (const struct txn_item[]){MOVE("d", "e")});
        if (i != 0)
            txn_encode(&body, &set);
        if (i == 3)
            txn_encode(&body, (const struct txn_item[]){ELSE});
    }
    const struct command cmd = {.op = COMMAND_TXN,
                                .flags = COMMAND_TRUSTED,
                                .session = p->w.session,
                                .seq = p->w.seq + 1,
                                .wall_ns = p->w.wall_ns + 5,
                                .node = "n1",
                                .node_len = 2,
                                .body = body.data,
                                .body_len = body.len};
    command_encode(&command, &cmd);
    do {
        rv = store_prepare(p->w.s, command.data, command.len, 256 * 1024);
        steps++;
    } while (rv == 1);
    assert_int_equal(rv, 0);
    assert_in_range(steps, 60, 400);
    assert_int_equal(world_apply(&p->w, command.data, command.len), KV_OK);
    assert_int_equal(world_apply(&twin, command.data, command.len), KV_OK);
    assert_true(store_digest(p->w.s) == store_digest(twin.s));
    assert_true(world_digest_is_right(&p->w));
    assert_int_equal(world_attr(&p->w, "e/four").size, size);
    assert_int_equal(world_attr(&p->w, "two").size, size);
    buffer_deinit(&body);
    buffer_deinit(&command);
    world_deinit(&twin);
    free(big);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, place_setup, place_teardown_whole)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_happens_at_one_revision),
        TEST(what_does_not_hold_stops_it_or_takes_the_other_branch),
        TEST(each_name_and_each_file_once),
        TEST(permissions_are_those_of_each_line),
        TEST(limits_count_what_the_lines_before_did),
        TEST(malformed_ones_do_nothing),
        TEST(a_plan_is_what_happens),
        TEST(long_ones_are_prepared_in_steps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
