/* Applying the same commands gives the same state and the same answers in every build of a
 * feature level: a fixed run of all operations, with numbers that were written down. If this
 * test fails, nodes of the last build and of this one would go different ways, in silence:
 * what has changed belongs to a new level (sync/wire/feature.h), with its own numbers here. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sync/base/digest.h"
#include "sync/wire/feature.h"
#include "sync/wire/ttl.h"
#include "sync/wire/txn.h"
#include "tests/unit/store/world.h"

/* As of level 1. */
#define GOLDEN_STATE UINT64_C(0xd297af255e879f30)
#define GOLDEN_ANSWERS UINT64_C(0x2a4ed2b1a46734e9)
#define GOLDEN_BOUNDS UINT64_C(0x21409a393ce8391)
/* As of level 2, with extended attributes, pipes and sockets among the commands of level 1. */
#define GOLDEN_XATTR_STATE UINT64_C(0x1b99930c039aa297)
#define GOLDEN_XATTR_ANSWERS UINT64_C(0x6280ef4ab3f8a76)

/* As of level 2. */
#define GOLDEN_LINKS_STATE UINT64_C(0xa11277157d0aafb2)
#define GOLDEN_LINKS_ANSWERS UINT64_C(0x6b61ebe5dfb2e30e)

/* As of level 2. */
#define GOLDEN_TXN_STATE UINT64_C(0x460ff65a8afadc47)
#define GOLDEN_TXN_ANSWERS UINT64_C(0x0a5568522cf7ddce)
#define GOLDEN_TTL_STATE UINT64_C(0xbad5cbc536461a86)
#define GOLDEN_TTL_ANSWERS UINT64_C(0x71ac030495e51db9)
/* As of level 3. */
#define GOLDEN_FENCE_STATE UINT64_C(0x135347d65ccf5f32)
#define GOLDEN_FENCE_ANSWERS UINT64_C(0xbb43a574f9f55abc)
/* As of level 3, with labels of authors among the commands of level 1. */
#define GOLDEN_LABEL_STATE UINT64_C(0xc89d3d5aae94ca63)
#define GOLDEN_LABEL_ANSWERS UINT64_C(0x2b1deb6179ed8ef8)

/* As of level 3. */
#define GOLDEN_TABLES_STATE UINT64_C(0x4d0c822d02f14c4b)
#define GOLDEN_TABLES_ANSWERS UINT64_C(0xab64a531c84475de)

struct run {
    struct world w;
    uint64_t dice, answers;
};

/* The generator of Knuth's MMIX: the same everywhere. */
static unsigned roll(struct run *r, unsigned n)
{
    r->dice = r->dice * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(r->dice >> 33) % n;
}

static void note(struct run *r, int code)
{
    const struct command_result *x = &r->w.result;
    uint64_t words[] = {r->answers,       (uint64_t)code,   x->created,       x->revision,  x->base_version,
                        x->base_revision, x->session,       x->removed,       x->attr.ino,  x->attr.size,
                        x->attr.version,  x->attr.revision, x->attr.mtime_ns, x->attr.nlink};

    r->answers = digest64(1, words, sizeof words);
}

static const char *const dirs[] = {"a", "b", "a/c", "deep/er"};
static const char *const names[] = {"x", "y", "z", ".z.swp", "no-history~"};

static const char *path(struct run *r)
{
    static char text[64];

    snprintf(text, sizeof text, "%s/%s", dirs[roll(r, 4)], names[roll(r, 5)]);
    return text;
}

static uint64_t directory(struct run *r)
{
    uint64_t ino = roll(r, 6) == 0 ? 0 : world_ino(&r->w, dirs[roll(r, 4)]);

    return ino != 0 ? ino : KV_ROOT_INO;
}

static int edit(struct run *r, uint64_t ino)
{
    static uint8_t data[70000];
    struct edit edits[3];
    size_t n = 1 + roll(r, 3);

    for (size_t i = 0; i < n; i++) {
        edits[i] = (struct edit){.kind = (uint8_t)(EDIT_TRUNCATE + roll(r, 6)), .number = roll(r, 100000)};
        if (edits[i].kind == EDIT_WRITE || edits[i].kind == EDIT_APPEND) {
            edits[i].len = 1 + roll(r, sizeof data);
            memset(data, (int)roll(r, 256), edits[i].len);
            edits[i].data = data;
        }
    }
    return world_publish(&r->w, ino, roll(r, 2) != 0, edits, n);
}

static int step(struct run *r)
{
    static const char *const settings[][2] = {{"max_dead_names", "40"}, {"max_keys", "12"},
                                              {"max_bytes", "90000"},   {"value_limit", "100KiB"},
                                              {"max_keys", "default"},  {"value_limit", "default"},
                                              {"max_bytes", "1GiB"},    {"no_such", "1"},
                                              {"feature_level", "1"},   {"feature_level", "default"}};
    struct world *w = &r->w;
    const char *p = path(r);
    uint64_t ino = world_ino(w, p);
    struct command_body attributes = {.ino = ino,
                                      .valid = (uint8_t)roll(r, 128),
                                      .mode = 0640,
                                      .uid = 7,
                                      .gid = 8,
                                      .mtime_ns = 5,
                                      .atime_ns = -6};
    unsigned i = roll(r, 10);

    w->uid = roll(r, 4) == 0 ? 1000 : 0;
    w->flags = w->uid == 0 ? COMMAND_TRUSTED : 0;
    w->wall_ns += roll(r, 3) * UINT64_C(1000000);
    w->elapsed_ms += roll(r, 3) * UINT64_C(200);
    switch (roll(r, 16)) {
    case 0:
        return world_mkdir(w, directory(r), names[roll(r, 3)]);
    case 1:
        return world_create(w, directory(r), names[roll(r, 5)]);
    case 2:
        return world_symlink(w, directory(r), names[roll(r, 5)], p);
    case 3:
        return world_unlink(w, directory(r), names[roll(r, 5)]);
    case 4:
        return world_rmdir(w, directory(r), names[roll(r, 3)]);
    case 5:
        return world_rename(w, directory(r), names[roll(r, 5)], directory(r), names[roll(r, 5)]);
    case 6:
        return world_exchange(w, directory(r), names[roll(r, 5)], directory(r), names[roll(r, 5)]);
    case 7:
        return world_setattr(w, &attributes);
    case 8:
    case 9:
        return edit(r, ino);
    case 10:
        return world_del(w, roll(r, 8) == 0 ? dirs[roll(r, 4)] : p, roll(r, 2) != 0);
    case 11:
        return world_setting(w, settings[i][0], settings[i][1]);
    case 12:
        return world_set_bytes(w, p, p, strlen(p), SET_PARENTS | SET_IF_VERSION, roll(r, 4));
    case 13:
        return world_tick(w);
    default:
        return world_set(w, p, names[roll(r, 5)]);
    }
}

static void the_same_commands_give_the_same_state(void **state)
{
    struct run r = {.dice = 1};

    (void)state;
    world_init(&r.w, false);
    for (int i = 0; i < 20000; i++)
        note(&r, step(&r));
    print_message("# state %" PRIx64 ", answers %" PRIx64 "\n", store_digest(r.w.s), r.answers);
    assert_int_equal(FEATURE_LEVEL, 3);
    assert_true(world_digest_is_right(&r.w));
    assert_true(store_digest(r.w.s) == GOLDEN_STATE);
    assert_true(r.answers == GOLDEN_ANSWERS);
    world_deinit(&r.w);
}

static int xattr_step(struct run *r)
{
    static const char *const attributes[] = {"user.a", "user.bb", "user.c.d", "user.", "user.kv.x"};
    static uint8_t value[40000];
    struct world *w = &r->w;
    const char *name = attributes[roll(r, 5)];
    uint64_t ino = roll(r, 4) == 0 ? directory(r) : world_ino(w, path(r));

    switch (roll(r, 5)) {
    case 0:
        return world_removexattr(w, ino, name);
    case 1:
        return world_mknod(w, directory(r), names[roll(r, 5)], roll(r, 2) != 0 ? INODE_FIFO : INODE_SOCKET);
    default:
        memset(value, (int)roll(r, 256), sizeof value);
        return world_setxattr_bytes(w, ino, name, value, roll(r, roll(r, 10) == 0 ? sizeof value : 30),
                                    (uint8_t)roll(r, 3));
    }
}

static void the_same_attributes_pipes_and_sockets_give_the_same_state(void **state)
{
    struct run r = {.dice = 2};

    (void)state;
    world_init(&r.w, false);
    for (int i = 0; i < 20000; i++)
        note(&r, i % 3 == 0 ? xattr_step(&r) : step(&r));
    print_message("# with attributes: state %" PRIx64 ", answers %" PRIx64 "\n", store_digest(r.w.s),
                  r.answers);
    assert_true(world_digest_is_right(&r.w));
    assert_true(store_digest(r.w.s) == GOLDEN_XATTR_STATE);
    assert_true(r.answers == GOLDEN_XATTR_ANSWERS);
    world_deinit(&r.w);
}

/* Who writes under a name leaves rows of history with it. */
static void the_same_labels_give_the_same_state(void **state)
{
    static const char *const labels[] = {NULL, NULL, "deploy", "J\xc3\xb6rg", "x"};
    struct run r = {.dice = 4};

    (void)state;
    world_init(&r.w, false);
    for (int i = 0; i < 20000; i++) {
        r.w.label = labels[roll(&r, 5)];
        note(&r, step(&r));
    }
    print_message("# with labels: state %" PRIx64 ", answers %" PRIx64 "\n", store_digest(r.w.s), r.answers);
    assert_true(world_digest_is_right(&r.w));
    assert_true(store_digest(r.w.s) == GOLDEN_LABEL_STATE);
    assert_true(r.answers == GOLDEN_LABEL_ANSWERS);
    world_deinit(&r.w);
}

/* The same, of files with several names. */
static void the_same_links_give_the_same_state(void **state)
{
    struct run r = {.dice = 2};

    (void)state;
    world_init(&r.w, false);
    for (int i = 0; i < 20000; i++) {
        if (roll(&r, 3) != 0) {
            note(&r, step(&r));
            continue;
        }
        r.w.uid = roll(&r, 4) == 0 ? 1000 : 0;
        r.w.flags = r.w.uid == 0 ? COMMAND_TRUSTED : 0;
        note(&r, world_link(&r.w, world_ino(&r.w, path(&r)), directory(&r), names[roll(&r, 5)]));
    }
    print_message("# state %" PRIx64 ", answers %" PRIx64 "\n", store_digest(r.w.s), r.answers);
    assert_true(world_digest_is_right(&r.w));
    assert_true(store_digest(r.w.s) == GOLDEN_LINKS_STATE);
    assert_true(r.answers == GOLDEN_LINKS_ANSWERS);
    world_deinit(&r.w);
}

/* The same, of what has a time to live. */
static void the_same_is_expired(void **state)
{
    static const char *const times[] = {"1ms", "700ms", "2s", "1m", "", "0", "3650d", "3651d"};
    struct run r = {.dice = 3};
    struct world *w = &r.w;
    uint64_t gone = 0, ino;

    (void)state;
    world_init(w, false);
    for (int i = 0; i < 20000; i++) {
        unsigned what = roll(&r, 16);

        if (what > 3) {
            note(&r, step(&r));
            continue;
        }
        w->uid = roll(&r, 4) == 0 ? 1000 : 0;
        w->flags = w->uid == 0 ? COMMAND_TRUSTED : 0;
        ino = roll(&r, 4) == 0 ? directory(&r) : world_ino(w, path(&r));
        if (what == 0)
            note(&r, world_setxattr(w, ino, XATTR_TTL, times[roll(&r, 8)], (uint8_t)roll(&r, 3)));
        else if (what == 1)
            note(&r, world_set_ttl(w, path(&r), names[roll(&r, 5)], roll(&r, 3000)));
        else if (what == 2)
            note(&r, (int)world_expire(w));
        else
            note(&r, world_removexattr(w, ino, XATTR_TTL));
        gone += what == 2 ? w->result.removed : 0;
    }
    print_message("# %" PRIu64 " expired: state %" PRIx64 ", answers %" PRIx64 "\n", gone, store_digest(w->s),
                  r.answers);
    assert_in_range(gone, 100, 20000);
    assert_true(world_digest_is_right(w));
    assert_true(store_digest(w->s) == GOLDEN_TTL_STATE);
    assert_true(r.answers == GOLDEN_TTL_ANSWERS);
    world_deinit(w);
}

static int random_txn(struct run *r)
{
    static const uint8_t kinds[] = {TXN_SET, TXN_SET, TXN_DEL, TXN_MOVE, TXN_MKDIR};
    char paths[12][64];
    struct buffer b = BUFFER_INIT;
    struct command_body body = {0};
    unsigned compared = roll(r, 3), n = compared + 1 + roll(r, 4), otherwise = roll(r, 2) ? n : 0;
    int rv;

    for (unsigned i = 0; i < n + (otherwise > 0 ? 2 : 0); i++) {
        struct txn_item item = {.kind = kinds[roll(r, 5)], .version = roll(r, 4)};

        if (i < compared)
            item.kind = (uint8_t)(TXN_IF_VERSION + roll(r, 4));
        else if (i == otherwise && i > 0)
            item.kind = TXN_ELSE;
        if (item.kind == TXN_SET)
            item.ttl_ms = roll(r, 3) == 0 ? roll(r, 2000) : 0;
        snprintf(paths[i], sizeof paths[i], "%s", path(r));
        item.path = (const uint8_t *)paths[i];
        item.path_len = strlen(paths[i]);
        item.to = (const uint8_t *)names[roll(r, 5)];
        item.to_len = strlen((const char *)item.to);
        item.value = (const uint8_t *)names[roll(r, 5)];
        item.value_len = strlen((const char *)item.value);
        txn_encode(&b, &item);
    }
    body.items = b.data;
    body.items_len = b.len;
    rv = world_command(&r->w, COMMAND_TXN, &body);
    buffer_deinit(&b);
    return rv;
}

/* The same, of transactions. */
static void the_same_transactions_give_the_same_state(void **state)
{
    struct run r = {.dice = 4};
    unsigned done = 0;
    int rv;

    (void)state;
    world_init(&r.w, false);
    for (int i = 0; i < 20000; i++) {
        if (roll(&r, 3) != 0) {
            note(&r, step(&r));
            continue;
        }
        r.w.uid = roll(&r, 4) == 0 ? 1000 : 0;
        r.w.flags = r.w.uid == 0 ? COMMAND_TRUSTED : 0;
        rv = random_txn(&r);
        note(&r, rv);
        done += rv == KV_OK;
    }
    print_message("# %u transactions: state %" PRIx64 ", answers %" PRIx64 "\n", done, store_digest(r.w.s),
                  r.answers);
    assert_in_range(done, 500, 20000);
    assert_true(world_digest_is_right(&r.w));
    assert_true(store_digest(r.w.s) == GOLDEN_TXN_STATE);
    assert_true(r.answers == GOLDEN_TXN_ANSWERS);
    world_deinit(&r.w);
}

/* A lock, its end, a write or a transaction under a fence. */
static int fenced(struct run *r)
{
    struct world *w = &r->w;
    const char *p = names[roll(r, 3)];
    /* One after the other: in one expression, or one initializer, their order is the compiler's. */
    unsigned behind = roll(r, 200), part = 1 + roll(r, 20), flags = roll(r, LOCK_FLAGS + 1),
             owner = 1 + roll(r, 2);
    unsigned ticket = roll(r, 5), lease_ms = 500 + roll(r, 20000);
    uint64_t number = w->index - behind / part;
    struct command_body body = {.ino = world_ino(w, p),
                                .flags = (uint8_t)flags,
                                .owner = owner,
                                .end = INT64_MAX,
                                .ticket = ticket,
                                .lease_ms = lease_ms};
    struct txn_item items[] = {{.kind = TXN_IF_FENCE, .fence = number}, {.kind = TXN_SET}};
    struct buffer b = BUFFER_INIT;
    unsigned what = roll(r, 8);
    int rv;

    if (what < 4)
        return world_command(w, COMMAND_LOCK, &body);
    if (what < 6)
        return world_command(w, COMMAND_UNLOCK, &body);
    if (what == 6) {
        body = (struct command_body){.path = (const uint8_t *)p,
                                     .path_len = strlen(p),
                                     .flags = SET_PARENTS | SET_FENCE,
                                     .fence = number,
                                     .value = (const uint8_t *)"v",
                                     .value_len = roll(r, 2)};
        return world_command(w, COMMAND_SET, &body);
    }
    items[0].path = (const uint8_t *)p;
    items[0].path_len = strlen(p);
    items[1].path = (const uint8_t *)"other";
    items[1].path_len = 5;
    txn_encode(&b, &items[0]);
    txn_encode(&b, &items[1]);
    body.items = b.data;
    body.items_len = b.len;
    rv = world_command(w, COMMAND_TXN, &body);
    buffer_deinit(&b);
    return rv;
}

static void the_same_fences_give_the_same_state(void **state)
{
    struct run r = {.dice = 5};
    uint64_t sessions[4];
    char nonce[17];
    unsigned granted = 0, refused = 0;
    int rv;

    (void)state;
    world_init(&r.w, false);
    for (unsigned i = 0; i < 20000; i++) {
        struct world *w = &r.w;

        if (i % 500 == 0) { /* those of before end by their silence */
            w->elapsed_ms += roll(&r, 12000);
            for (unsigned k = 0; k < 4; k++) {
                snprintf(nonce, sizeof nonce, "n%06u%09u", k, i);
                note(&r, world_register(w, nonce, &sessions[k]));
            }
        }
        w->session = sessions[roll(&r, 4)];
        w->elapsed_ms += roll(&r, 200);
        if (roll(&r, 10) == 0) {
            rv = roll(&r, 2) != 0 ? world_set(w, names[roll(&r, 3)], "")
                                  : world_del(w, names[roll(&r, 3)], false);
        } else {
            rv = fenced(&r);
            granted += rv == KV_OK && w->result.created != 0 && w->result.base_revision == w->index;
            refused += rv == KV_E_FENCE;
        }
        note(&r, rv);
    }
    print_message("# %u grants, %u late: state %" PRIx64 ", answers %" PRIx64 "\n", granted, refused,
                  store_digest(r.w.s), r.answers);
    assert_in_range(granted, 200, 20000);
    assert_in_range(refused, 200, 20000);
    assert_true(world_digest_is_right(&r.w));
    assert_true(store_digest(r.w.s) == GOLDEN_FENCE_STATE);
    assert_true(r.answers == GOLDEN_FENCE_ANSWERS);
    world_deinit(&r.w);
}

#define SESSIONS 3
#define FILES 4

struct table {
    uint64_t epoch, session; /* who got it last */
};

/* A command about locks of one of them. */
static int lock_step(struct run *r, const uint64_t *sessions, struct table *tables, uint64_t *tickets)
{
    static const uint8_t ops[] = {COMMAND_LOCK_PUT, COMMAND_LOCK_TAKE, COMMAND_LOCK_TAKE, COMMAND_UNLOCK,
                                  COMMAND_UNLOCK,   COMMAND_UNWAIT,    COMMAND_LOCK_PUT,  COMMAND_KEEPALIVE};
    static const uint8_t flags[] = {LOCK_FLAG_TAKE,
                                    LOCK_FLAG_TAKE | LOCK_FLAG_EXCLUSIVE,
                                    LOCK_FLAG_TAKE | LOCK_FLAG_WAIT,
                                    LOCK_FLAG_WAIT | LOCK_FLAG_EXCLUSIVE,
                                    LOCK_FLAG_EXCLUSIVE,
                                    LOCK_FLAG_ASK};
    struct world *w = &r->w;
    uint8_t op = ops[roll(r, 8)];
    unsigned file = roll(r, FILES);
    struct buffer b = BUFFER_INIT;
    struct command_body body = {.ino = 9 + file,
                                .kind = (uint8_t)roll(r, 2),
                                .flags = (uint8_t)(op == COMMAND_LOCK ? roll(r, 4) : flags[roll(r, 6)]),
                                .owner = roll(r, 2),
                                .start = roll(r, 8),
                                .pid = roll(r, 9),
                                .ticket = op == COMMAND_UNWAIT ? *tickets - roll(r, 4) : ++*tickets,
                                .version = tables[file].epoch};
    int rv;

    body.end = body.start + roll(r, 8);
    for (body.n_put = roll(r, 3); body.n_put > 0 && b.len < body.n_put * LOCK_PUT_SIZE;)
        lock_put_encode(&b, &(struct lock_put){LOCK_OF_RANGE, 1, roll(r, 2), 2 * b.len, 2 * b.len + 9, 7});
    body.put = b.data;
    if (op == COMMAND_UNLOCK) {
        body.start = 0;
        body.end = INT64_MAX;
    }
    w->session = op == COMMAND_LOCK_PUT && tables[file].session != 0 ? tables[file].session
                                                                     : sessions[roll(r, SESSIONS)];
    w->elapsed_ms += roll(r, 3) * UINT64_C(100);
    rv = world_command(w, op, &body);
    if (op == COMMAND_LOCK_TAKE && rv == KV_OK && w->result.base_revision != 0)
        tables[file] = (struct table){w->result.base_revision, w->session};
    for (int i = 0; i < w->n_events && i < WORLD_EVENTS; i++) {
        const uint64_t words[] = {r->answers, w->events[i].ino, w->events[i].parent, w->events[i].new_parent,
                                  w->events[i].base_revision};

        r->answers = digest64(1, words, sizeof words);
    }
    buffer_deinit(&b);
    return rv;
}

/* Of locks, and of tables that one session has. */
static void the_same_tables_give_the_same_state(void **state)
{
    struct run r = {.dice = 5};
    uint64_t sessions[SESSIONS], tickets = 0;
    struct table tables[FILES] = {0};
    unsigned given_back = 0;
    char nonce[17];

    (void)state;
    world_init(&r.w, false);
    for (int i = 0; i < 20000; i++) {
        if (i % 1000 == 0) /* some of them have ended */
            for (int k = 0; k < SESSIONS; k++) {
                snprintf(nonce, sizeof nonce, "nonce %03d %06d", k, i);
                assert_int_equal(world_register(&r.w, nonce, &sessions[k]), KV_OK);
            }
        if (i % 16 == 0) /* all leave a file, and some take it */
            for (int k = 0; k < SESSIONS * 8; k++) {
                const struct command_body body = {.ino = 9 + (unsigned)i / 16 % FILES,
                                                  .kind = (uint8_t)(k / 4 % 2),
                                                  .owner = (uint64_t)k % 2,
                                                  .end = INT64_MAX};

                r.w.session = sessions[k / 8];
                note(&r, world_command(&r.w, COMMAND_UNLOCK, &body));
            }
        note(&r, lock_step(&r, sessions, tables, &tickets));
        given_back += r.w.bytes.data[COMMAND_OP_AT] == COMMAND_LOCK_PUT && r.w.result.code == KV_OK;
    }
    print_message("# %u tables given back: state %" PRIx64 ", answers %" PRIx64 "\n", given_back,
                  store_digest(r.w.s), r.answers);
    assert_in_range(given_back, 50, 20000);
    assert_true(world_digest_is_right(&r.w));
    assert_true(store_digest(r.w.s) == GOLDEN_TABLES_STATE);
    assert_true(r.answers == GOLDEN_TABLES_ANSWERS);
    world_deinit(&r.w);
}

/* Where the bounds are that are no settings: sessions of one owner and of all, parts, answers
 * that are kept, the depth of directories that move, names below what is deleted at once. */
static void the_same_bounds_hold(void **state)
{
    struct run r = {.dice = 1};
    struct world *w;
    uint64_t own, id, ino = KV_ROOT_INO;
    char nonce[17], name[32];
    uint8_t part[64] = {0};
    struct buffer bytes = BUFFER_INIT;
    const struct command_body again = {.name = (const uint8_t *)"max_keys",
                                       .name_len = 8,
                                       .value = (const uint8_t *)"default",
                                       .value_len = 7};

    (void)state;
    world_init(&r.w, false);
    w = &r.w;
    own = w->session;
    for (unsigned i = 0; i < 12000; i++) {
        snprintf(nonce, sizeof nonce, "nonce %010u", i);
        w->uid = i < 1200 ? 1000 : i;
        w->flags = i > 11000 ? COMMAND_TRUSTED : 0;
        note(&r, world_register(w, nonce, &id));
    }
    w->uid = 0;
    w->flags = COMMAND_TRUSTED;
    w->session = own;
    command_body_encode(&bytes, COMMAND_SETTING, &again);
    for (unsigned i = 0; i < 5000; i++) /* whose answers nobody acknowledges */
        note(&r, world_raw(w, COMMAND_SETTING, own, ++w->seq, bytes.data, bytes.len));
    w->acked_below = w->seq;
    for (unsigned i = 0; i < 300; i++) {
        const struct command_body body = {.part = i / 150, .value = part, .value_len = sizeof part};

        buffer_clear(&bytes);
        command_body_encode(&bytes, COMMAND_PART, &body);
        note(&r, world_raw(w, COMMAND_PART, own, w->seq + 1 + i % 150, bytes.data, bytes.len));
    }
    w->seq += 200;
    for (unsigned i = 0; i < 4200; i++) {
        snprintf(name, sizeof name, "d%u", i % 10);
        if (world_mkdir(w, ino, name) != KV_OK)
            break;
        ino = w->result.attr.ino;
        w->acked_below = w->seq;
    }
    note(&r, world_mkdir(w, KV_ROOT_INO, "top"));
    note(&r, world_rename(w, KV_ROOT_INO, "d0", w->result.attr.ino, "moved"));
    for (unsigned i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "wide/%u", i);
        note(&r, world_set(w, name, ""));
        w->acked_below = w->seq;
    }
    note(&r, world_del(w, "wide", true));
    print_message("# bounds %" PRIx64 "\n", r.answers);
    assert_true(r.answers == GOLDEN_BOUNDS);
    buffer_deinit(&bytes);
    world_deinit(w);
}

/* What a later level brings: nothing is applied, the process must end. */
static void what_is_not_known_is_not_applied(void **state)
{
    struct command cmd = {.op = COMMAND_OP_COUNT, .node = "n1", .node_len = 2};
    struct command_result result;
    struct buffer b = BUFFER_INIT;
    struct world w;
    uint64_t applied;

    (void)state;
    world_init(&w, false);
    assert_int_equal(world_setting(&w, "feature_level", "1"), KV_OK);
    assert_int_equal(world_setting(&w, "feature_level", "default"), KV_E_INVAL);
    assert_int_equal(world_setting(&w, "feature_level", "x"), KV_E_INVAL);
    assert_int_equal(world_setting(&w, "feature_level", "0"), KV_E_INVAL);
    applied = store_applied(w.s);
    command_encode(&b, &cmd);
    assert_int_equal(store_apply(w.s, applied + 1, b.data, b.len, &result), -EOPNOTSUPP);
    assert_int_equal(store_applied(w.s), applied);
    world_deinit(&w);

    /* A level that the leader did not vouch for: refused, on every node. */
    world_init(&w, false);
    w.wall_ns = (uint64_t)-1000000; /* 0 with the next */
    assert_int_equal(world_setting(&w, "feature_level", "2"), KV_E_REFUSED);
    assert_int_equal(store_level(w.s), 1);
    world_deinit(&w);
    buffer_deinit(&b);
}

static void a_level_that_is_not_known_ends_it(void **state)
{
    struct command_body body = {.name = (const uint8_t *)"feature_level",
                                .name_len = 13,
                                .value = (const uint8_t *)"4",
                                .value_len = 1};
    struct command_result result;
    struct buffer b = BUFFER_INIT;
    struct world w;
    uint64_t applied;

    (void)state;
    world_init(&w, false);
    applied = store_applied(w.s);
    command_encode(&b, &(struct command){.op = COMMAND_SETTING,
                                         .flags = COMMAND_TRUSTED,
                                         .session = w.session,
                                         .seq = w.seq + 1,
                                         .wall_ns = 7});
    command_body_encode(&b, COMMAND_SETTING, &body);
    assert_int_equal(store_apply(w.s, applied + 1, b.data, b.len, &result), -EOPNOTSUPP);
    assert_int_equal(store_applied(w.s), applied);
    world_deinit(&w);
    buffer_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_commands_give_the_same_state),
        cmocka_unit_test(the_same_attributes_pipes_and_sockets_give_the_same_state),
        cmocka_unit_test(the_same_labels_give_the_same_state),
        cmocka_unit_test(the_same_links_give_the_same_state),
        cmocka_unit_test(the_same_is_expired),
        cmocka_unit_test(the_same_transactions_give_the_same_state),
        cmocka_unit_test(the_same_fences_give_the_same_state),
        cmocka_unit_test(the_same_tables_give_the_same_state),
        cmocka_unit_test(the_same_bounds_hold),
        cmocka_unit_test(what_is_not_known_is_not_applied),
        cmocka_unit_test(a_level_that_is_not_known_ends_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
