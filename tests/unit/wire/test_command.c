#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "sync/base/error.h"
#include "sync/wire/feature.h"
#include "sync/wire/message.h"
#include "sync/wire/txn.h"
#include "sync/wire/xattr.h"

#define TEXT(s) (const uint8_t *)(s), strlen(s)

static void header_comes_back(void **state)
{
    static const uint8_t groups[8] = {0, 0, 0, 7, 0, 0, 0, 9};
    struct command out, cmd = {.op = COMMAND_MKDIR,
                               .flags = COMMAND_TRUSTED,
                               .session = 5,
                               .seq = 6,
                               .acked_below = 4,
                               .wall_ns = 1,
                               .elapsed_ms = 2,
                               .uid = 10,
                               .gid = 11,
                               .n_groups = 2,
                               .groups = groups,
                               .node = "n1",
                               .node_len = 2,
                               .body = (const uint8_t *)"xyz",
                               .body_len = 3};
    struct buffer b = BUFFER_INIT;
    uint8_t bytes[128];

    command_encode(&b, &cmd);
    assert_int_equal(command_size(&cmd), b.len);
    command_write(bytes, &cmd);
    assert_memory_equal(bytes, b.data, b.len);
    command_set_clocks(b.data, 1234, 5678);
    assert_int_equal(command_decode(b.data, b.len, &out), KV_OK);
    assert_int_equal(out.op, COMMAND_MKDIR);
    assert_int_equal(out.session, 5);
    assert_int_equal(out.seq, 6);
    assert_int_equal(out.acked_below, 4);
    assert_int_equal(out.wall_ns, 1234);
    assert_int_equal(out.elapsed_ms, 5678);
    assert_int_equal(out.uid, 10);
    assert_int_equal(command_group(&out, 1), 9);
    assert_memory_equal(out.node, "n1", 2);
    assert_int_equal(out.body_len, 3);
    buffer_deinit(&b);
}

static void a_label_travels_in_the_header(void **state)
{
    struct command out, cmd = {.op = COMMAND_TICK,
                               .flags = COMMAND_LABEL,
                               .node = "n1",
                               .node_len = 2,
                               .label = "pipeline-7",
                               .label_len = 10,
                               .body = (const uint8_t *)"xyz",
                               .body_len = 3};
    struct buffer b = BUFFER_INIT;
    uint8_t bytes[128];

    command_encode(&b, &cmd);
    assert_int_equal(command_size(&cmd), b.len);
    command_write(bytes, &cmd);
    assert_memory_equal(bytes, b.data, b.len);
    assert_int_equal(command_decode(b.data, b.len, &out), KV_OK);
    assert_int_equal(out.label_len, 10);
    assert_memory_equal(out.label, "pipeline-7", 10);
    assert_int_equal(out.body_len, 3);
    assert_memory_equal(out.body, "xyz", 3);
    for (size_t n = 0; n < b.len - 3; n++)
        assert_int_equal(command_decode(b.data, n, &out), KV_E_PROTOCOL);
    b.data[b.len - 4] = ' ';
    assert_int_equal(command_decode(b.data, b.len, &out), KV_E_PROTOCOL);
    buffer_deinit(&b);
}

static void a_label_can_be_seen(void **state)
{
    static const char *const good[] = {"a", "deploy-7", "Jörg", "\xe6\x97\xa5", "\xf0\x9f\x9a\x80", "a/b(c)"};
    static const char *const bad[] = {"",
                                      "a b",
                                      "a@b",
                                      "a\n",
                                      "\x7f",
                                      "\xc2\xa0",     /* a space that does not break */
                                      "\xe2\x80\xae", /* turns the direction of writing */
                                      "\xe2\x80\x8b", /* of no width */
                                      "\xc3",
                                      "\xc0\xaf",
                                      "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80"};
    char longest[COMMAND_LABEL_MAX + 2];

    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(command_label_check(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(command_label_check(bad[i], strlen(bad[i])));
    memset(longest, 'x', sizeof longest);
    assert_true(command_label_check(longest, COMMAND_LABEL_MAX));
    assert_false(command_label_check(longest, COMMAND_LABEL_MAX + 1));
    assert_false(command_label_check("a\0b", 3));
}

static void header_is_refused_at_every_truncation(void **state)
{
    struct command out, cmd = {.op = COMMAND_TICK, .node = "n1", .node_len = 2};
    struct buffer b = BUFFER_INIT;
    size_t n;

    command_encode(&b, &cmd);
    for (n = 0; n < b.len; n++)
        assert_int_equal(command_decode(b.data, n, &out), KV_E_PROTOCOL);
    assert_int_equal(command_decode(b.data, b.len, &out), KV_OK);
    buffer_deinit(&b);
}

static void unknown_operations_and_flags_are_refused(void **state)
{
    struct command out, cmd = {.op = COMMAND_TICK, .node = "n1", .node_len = 2};
    struct buffer b = BUFFER_INIT;

    command_encode(&b, &cmd);
    b.data[1] = COMMAND_OP_COUNT;
    assert_int_equal(command_decode(b.data, b.len, &out), KV_E_NOTSUP);
    b.data[1] = COMMAND_TICK;
    b.data[2] = 0x80;
    assert_int_equal(command_decode(b.data, b.len, &out), KV_E_NOTSUP);
    b.data[2] = 0;
    b.data[0] = COMMAND_FORMAT + 1;
    assert_int_equal(command_decode(b.data, b.len, &out), KV_E_PROTOCOL);
    buffer_deinit(&b);
}

static int round_trip(uint8_t op, const struct command_body *in, struct command_body *out, struct buffer *b)
{
    buffer_clear(b);
    command_body_encode(b, op, in);
    assert_false(b->failed);
    return command_body_decode(op, b->data, b->len, out);
}

static void bodies_come_back(void **state)
{
    struct buffer b = BUFFER_INIT;
    struct command_body out, in = {.parent = 3,
                                   .name = (const uint8_t *)"old",
                                   .name_len = 3,
                                   .new_parent = 4,
                                   .new_name = (const uint8_t *)"new",
                                   .new_name_len = 3,
                                   .flags = 1};

    assert_int_equal(round_trip(COMMAND_RENAME, &in, &out, &b), KV_OK);
    assert_int_equal(out.new_parent, 4);
    assert_memory_equal(out.new_name, "new", 3);
    assert_int_equal(out.flags, 1);
    in.flags = MOVE_EXCHANGE;
    assert_int_equal(round_trip(COMMAND_RENAME, &in, &out, &b), KV_OK);
    assert_int_equal(out.flags, MOVE_EXCHANGE);
    in.flags = MOVE_EXCHANGE | MOVE_NOREPLACE;
    assert_int_equal(round_trip(COMMAND_RENAME, &in, &out, &b), KV_E_PROTOCOL);
    in = (struct command_body){.ino = 9, .valid = SETATTR_MODE | SETATTR_MTIME, .mode = 0640, .mtime_ns = 5};
    assert_int_equal(round_trip(COMMAND_SETATTR, &in, &out, &b), KV_OK);
    assert_int_equal(out.mode, 0640);
    assert_int_equal(out.mtime_ns, 5);
    in = (struct command_body){.ino = 9, .valid = SETATTR_ATIME, .mtime_ns = -5, .atime_ns = INT64_MIN};
    assert_int_equal(round_trip(COMMAND_SETATTR, &in, &out, &b), KV_OK);
    assert_int_equal(out.mtime_ns, -5);
    assert_true(out.atime_ns == INT64_MIN);
    for (unsigned type = 0; type < 256; type++) {
        in = (struct command_body){
            .parent = 3, .name = (const uint8_t *)"pipe", .name_len = 4, .mode = 0600, .type = (uint8_t)type};
        assert_int_equal(round_trip(COMMAND_MKNOD, &in, &out, &b),
                         type == INODE_FIFO || type == INODE_SOCKET ? KV_OK : KV_E_PROTOCOL);
        assert_int_equal(out.type, type);
        assert_int_equal(out.mode, 0600);
    }
    in.type = INODE_FIFO;
    in.name = (const uint8_t *)"a/b";
    in.name_len = 3;
    assert_int_equal(round_trip(COMMAND_MKNOD, &in, &out, &b), KV_E_INVAL);
    in = (struct command_body){.ino = 9, .parent = 3, .name = (const uint8_t *)"other", .name_len = 5};
    assert_int_equal(round_trip(COMMAND_LINK, &in, &out, &b), KV_OK);
    assert_int_equal(out.ino, 9);
    assert_int_equal(out.parent, 3);
    assert_memory_equal(out.name, "other", 5);
    in.name_len = 0;
    assert_int_equal(round_trip(COMMAND_LINK, &in, &out, &b), KV_E_INVAL);
    in = (struct command_body){.path = (const uint8_t *)"a/b",
                               .path_len = 3,
                               .flags = SET_PARENTS | SET_IF_VERSION,
                               .version = 7,
                               .mode = 0644,
                               .value = (const uint8_t *)"v",
                               .value_len = 1};
    assert_int_equal(round_trip(COMMAND_SET, &in, &out, &b), KV_OK);
    assert_int_equal(out.version, 7);
    assert_int_equal(out.value_len, 1);
    in = (struct command_body){.ino = 9,
                               .kind = LOCK_OF_RANGE,
                               .flags = LOCK_FLAG_EXCLUSIVE | LOCK_FLAG_WAIT,
                               .owner = UINT64_MAX,
                               .start = 5,
                               .end = INT64_MAX,
                               .ticket = 77,
                               .pid = 6};
    assert_int_equal(round_trip(COMMAND_LOCK, &in, &out, &b), KV_OK);
    assert_memory_equal(&in, &out, sizeof in);
    in.flags = LOCK_TAKE_FLAGS;
    assert_int_equal(round_trip(COMMAND_LOCK, &in, &out, &b), KV_E_PROTOCOL);
    assert_int_equal(round_trip(COMMAND_LOCK_TAKE, &in, &out, &b), KV_OK);
    assert_memory_equal(&in, &out, sizeof in);
    in.flags = LOCK_TAKE_FLAGS + 1;
    assert_int_equal(round_trip(COMMAND_LOCK_TAKE, &in, &out, &b), KV_E_PROTOCOL);
    in.flags = LOCK_FLAGS;
    in.kind = LOCK_KINDS;
    assert_int_equal(round_trip(COMMAND_LOCK, &in, &out, &b), KV_E_PROTOCOL);
    in.kind = LOCK_OF_FLOCK;
    in.flags = LOCK_FLAGS + 1;
    assert_int_equal(round_trip(COMMAND_LOCK, &in, &out, &b), KV_E_PROTOCOL);
    in.flags = LOCK_FLAGS;
    assert_int_equal(command_body_flags(COMMAND_LOCK, &in), COMMAND_FENCE);
    in.lease_ms = LOCK_LEASE_MIN_MS - 1;
    assert_int_equal(round_trip(COMMAND_LOCK, &in, &out, &b), KV_E_INVAL);
    in.lease_ms = LOCK_LEASE_MAX_MS + 1;
    assert_int_equal(round_trip(COMMAND_LOCK, &in, &out, &b), KV_E_INVAL);
    in.lease_ms = LOCK_LEASE_MAX_MS;
    assert_int_equal(round_trip(COMMAND_LOCK, &in, &out, &b), KV_OK);
    assert_memory_equal(&in, &out, sizeof in);
    in.kind = LOCK_OF_RANGE;
    assert_int_equal(round_trip(COMMAND_LOCK, &in, &out, &b), KV_E_INVAL);
    in.kind = LOCK_OF_FLOCK;
    in.flags = 0;
    in.end = 4;
    assert_int_equal(round_trip(COMMAND_LOCK, &in, &out, &b), KV_E_INVAL);
    assert_int_equal(round_trip(COMMAND_UNLOCK, &in, &out, &b), KV_E_INVAL);
    in.end = 5;
    assert_int_equal(round_trip(COMMAND_UNLOCK, &in, &out, &b), KV_OK);
    assert_int_equal(out.end, 5);
    assert_true(out.owner == UINT64_MAX);
    assert_int_equal(round_trip(COMMAND_UNWAIT, &in, &out, &b), KV_OK);
    assert_int_equal(out.ticket, 77);
    buffer_deinit(&b);
}

static void a_table_that_is_put_comes_back_and_is_judged(void **state)
{
    static const struct lock_put bad[] = {{LOCK_KINDS, 0, 1, 0, 9, 1},
                                          {LOCK_OF_RANGE, 2, 1, 0, 9, 1},
                                          {LOCK_OF_RANGE, 1, 1, 9, 8, 1},
                                          {LOCK_OF_RANGE, 1, 1, 0, UINT64_MAX, 1},
                                          {LOCK_OF_FLOCK, 1, 1, 0, 9, 1}};
    const struct lock_put one = {LOCK_OF_RANGE, 1, UINT64_MAX, 5, INT64_MAX, 77};
    struct buffer b = BUFFER_INIT, puts = BUFFER_INIT;
    struct command_body in = {.ino = 9, .version = 12}, out;
    struct command cmd = {.op = COMMAND_LOCK_PUT};
    struct lock_put got;

    (void)state;
    assert_int_equal(feature_level_of(&cmd), 3);
    assert_int_equal(round_trip(COMMAND_LOCK_PUT, &in, &out, &b), KV_OK);
    assert_int_equal(out.n_put, 0);
    assert_int_equal(out.version, 12);
    for (in.n_put = 0; in.n_put < LOCK_PUT_MAX; in.n_put++)
        lock_put_encode(&puts, &one);
    in.put = puts.data;
    assert_int_equal(round_trip(COMMAND_LOCK_PUT, &in, &out, &b), KV_OK);
    assert_int_equal(out.n_put, LOCK_PUT_MAX);
    command_put(&out, LOCK_PUT_MAX - 1, &got);
    assert_int_equal(got.kind, one.kind);
    assert_int_equal(got.exclusive, 1);
    assert_true(got.owner == one.owner && got.start == 5 && got.end == INT64_MAX && got.pid == 77);
    lock_put_encode(&puts, &one);
    in.put = puts.data;
    in.n_put++;
    assert_int_equal(round_trip(COMMAND_LOCK_PUT, &in, &out, &b), KV_E_PROTOCOL);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        buffer_clear(&puts);
        lock_put_encode(&puts, &bad[i]);
        in.put = puts.data;
        in.n_put = 1;
        assert_int_equal(round_trip(COMMAND_LOCK_PUT, &in, &out, &b), KV_E_PROTOCOL);
    }
    buffer_deinit(&b);
    buffer_deinit(&puts);
}

static void attributes_come_back_and_are_judged(void **state)
{
    static const struct {
        const char *name;
        int code;
    } names[] = {
        {"user.x", KV_OK},         {"user.kv", KV_OK},
        {"user.kvx", KV_OK},       {"user.kv.version", KV_E_PERM},
        {"user.kv.", KV_E_PERM},   {"user.", KV_E_INVAL},
        {"", KV_E_INVAL},          {"user", KV_E_INVAL},
        {"User.x", KV_E_INVAL},    {"security.x", KV_E_INVAL},
        {"trusted.x", KV_E_INVAL}, {"system.posix_acl_access", KV_E_INVAL},
        {"user./a b", KV_OK},
    };
    static uint8_t value[KV_XATTR_VALUE_MAX + 1];
    char longest[300];
    struct buffer b = BUFFER_INIT;
    struct command_body out, in = {.ino = 9, .flags = XATTR_ADD, .value = value, .value_len = 3};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        in.name = (const uint8_t *)names[i].name;
        in.name_len = strlen(names[i].name);
        assert_int_equal(round_trip(COMMAND_SETXATTR, &in, &out, &b), names[i].code);
        assert_int_equal(round_trip(COMMAND_REMOVEXATTR, &in, &out, &b), names[i].code);
    }
    in.name = (const uint8_t *)"user.a\0b";
    in.name_len = 8;
    assert_int_equal(round_trip(COMMAND_SETXATTR, &in, &out, &b), KV_E_INVAL);
    memset(longest, 'n', sizeof longest);
    memcpy(longest, "user.", 5);
    in.name = (const uint8_t *)longest;
    in.name_len = 255;
    assert_int_equal(round_trip(COMMAND_SETXATTR, &in, &out, &b), KV_OK);
    assert_int_equal(out.ino, 9);
    assert_int_equal(out.flags, XATTR_ADD);
    assert_int_equal(out.name_len, 255);
    assert_int_equal(out.value_len, 3);
    in.name_len = 256;
    assert_int_equal(round_trip(COMMAND_SETXATTR, &in, &out, &b), KV_E_NAMETOOLONG);
    assert_int_equal(round_trip(COMMAND_REMOVEXATTR, &in, &out, &b), KV_E_NAMETOOLONG);
    in.name_len = 6;
    in.value_len = KV_XATTR_VALUE_MAX;
    assert_int_equal(round_trip(COMMAND_SETXATTR, &in, &out, &b), KV_OK);
    in.value_len++;
    assert_int_equal(round_trip(COMMAND_SETXATTR, &in, &out, &b), KV_E_FBIG);
    in.value_len = 0;
    in.flags = 4;
    assert_int_equal(round_trip(COMMAND_SETXATTR, &in, &out, &b), KV_E_PROTOCOL);
    buffer_deinit(&b);
}

/* What is not an inode's is never taken for it. */
static void blocks_of_attributes_are_judged(void **state)
{
    static const struct xattr good[] = {
        {{(const uint8_t *)"user.a", 6}, {(const uint8_t *)"1", 1}},
        {{(const uint8_t *)"user.ab", 7}, {NULL, 0}},
        {{(const uint8_t *)"user.b", 6}, {(const uint8_t *)"22", 2}},
    };
    struct buffer b = BUFFER_INIT;
    const struct bytes wanted = bytes_text("user.ab"), other = bytes_text("user.c");
    struct xattr x;
    uint32_t n;

    assert_true(xattrs_check(NULL, 0, &n));
    for (size_t i = 0; i < 3; i++)
        xattr_encode(&b, &good[i]);
    assert_true(xattrs_check(b.data, b.len, &n));
    assert_int_equal(n, 3);
    assert_true(xattr_find(b.data, b.len, &wanted, &x));
    assert_int_equal(x.value.len, 0);
    assert_false(xattr_find(b.data, b.len, &other, &x));
    for (size_t len = 1; len < b.len; len++)
        assert_int_equal(xattrs_check(b.data, len, &n),
                         len == 4 + 6 + 4 + 1 || len == 4 + 6 + 4 + 1 + 4 + 7 + 4);
    xattr_encode(&b, &good[2]); /* twice */
    assert_false(xattrs_check(b.data, b.len, &n));
    buffer_clear(&b);
    xattr_encode(&b, &good[2]);
    xattr_encode(&b, &good[0]); /* out of order */
    assert_false(xattrs_check(b.data, b.len, &n));
    buffer_clear(&b);
    xattr_encode(&b, &(struct xattr){{(const uint8_t *)"user.kv.x", 9}, {NULL, 0}});
    assert_false(xattrs_check(b.data, b.len, &n));
    buffer_deinit(&b);
}

static void names_are_judged(void **state)
{
    char longest[257];

    memset(longest, 'n', sizeof longest);
    assert_int_equal(name_check(longest, 255), KV_OK);
    assert_int_equal(name_check(longest, 256), KV_E_NAMETOOLONG);
    assert_int_equal(name_check("", 0), KV_E_INVAL);
    assert_int_equal(name_check(".", 1), KV_E_INVAL);
    assert_int_equal(name_check("..", 2), KV_E_INVAL);
    assert_int_equal(name_check("a/b", 3), KV_E_INVAL);
    assert_int_equal(name_check("a\0b", 3), KV_E_INVAL);
    assert_int_equal(name_check(".versions", 9), KV_E_PERM);
    assert_int_equal(name_check(".kvfs", 5), KV_E_PERM);
    assert_int_equal(name_check("...", 3), KV_OK);
    assert_int_equal(name_check("\xff\n", 2), KV_OK);
}

static void paths_are_judged_by_their_components(void **state)
{
    static const struct {
        const char *path;
        int code;
    } cases[] = {
        {"a", KV_OK},           {"/a", KV_OK},
        {"a/b/c", KV_OK},       {"", KV_E_INVAL},
        {"/", KV_E_INVAL},      {"a//b", KV_E_INVAL},
        {"a/", KV_E_INVAL},     {"a/../b", KV_E_INVAL},
        {"//a", KV_E_INVAL},    {"a/.versions/b", KV_E_PERM},
        {".kvfs/x", KV_E_PERM},
    };
    struct buffer b = BUFFER_INIT;
    struct command_body out;
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct command_body in = {.path = (const uint8_t *)cases[i].path, .path_len = strlen(cases[i].path)};

        assert_int_equal(round_trip(COMMAND_DEL, &in, &out, &b), cases[i].code);
    }
    buffer_deinit(&b);
}

static void a_walk_checks_the_edits(void **state)
{
    struct buffer edits = BUFFER_INIT, b = BUFFER_INIT;
    struct command_body out, in = {.ino = 3};
    struct cursor c;
    struct edit e;

    edit_encode(&edits, &(struct edit){.kind = EDIT_TRUNCATE, .number = 5});
    edit_encode(&edits, &(struct edit){EDIT_WRITE, 10, TEXT("data")});
    edit_encode(&edits, &(struct edit){EDIT_APPEND, 0, TEXT("more")});
    edit_encode(&edits, &(struct edit){.kind = EDIT_MTIME, .number = 99});
    edit_encode(&edits, &(struct edit){.kind = EDIT_ATIME, .number = 100});
    edit_encode(&edits, &(struct edit){.kind = EDIT_STAMP, .number = 101});
    in.edits = edits.data;
    in.edits_len = edits.len;
    assert_int_equal(round_trip(COMMAND_PUBLISH, &in, &out, &b), KV_OK);
    c = cursor_of(out.edits, out.edits_len);
    assert_int_equal(edit_next(&c, &e), 1);
    assert_int_equal(e.number, 5);
    assert_int_equal(edit_next(&c, &e), 1);
    assert_int_equal(e.len, 4);
    assert_int_equal(edit_next(&c, &e), 1);
    assert_int_equal(edit_next(&c, &e), 1);
    assert_int_equal(e.number, 99);
    assert_int_equal(edit_next(&c, &e), 1);
    assert_int_equal(e.number, 100);
    assert_int_equal(edit_next(&c, &e), 1);
    assert_int_equal(e.kind, EDIT_STAMP);
    assert_int_equal(edit_next(&c, &e), 0);
    c = cursor_of(out.edits, out.edits_len - 1);
    for (int i = 0; i < 5; i++)
        assert_int_equal(edit_next(&c, &e), 1);
    assert_int_equal(edit_next(&c, &e), -EPROTO);
    c = cursor_of("\x09", 1);
    assert_int_equal(edit_next(&c, &e), -EPROTO);
    buffer_deinit(&edits);
    buffer_deinit(&b);
}

static void fences_travel(void **state)
{
    const struct txn_item items[] = {
        {.kind = TXN_IF_FENCE, .path = (const uint8_t *)"k", .path_len = 1, .fence = 0x0102030405},
        {.kind = TXN_SET, .path = (const uint8_t *)"o", .path_len = 1}};
    struct command_body out, in = {.path = (const uint8_t *)"k",
                                   .path_len = 1,
                                   .flags = SET_FENCE | SET_TTL,
                                   .ttl_ms = 7,
                                   .fence = 0x0102030405,
                                   .value = (const uint8_t *)"v",
                                   .value_len = 1};
    struct buffer b = BUFFER_INIT, list = BUFFER_INIT;
    struct txn_item item;
    struct cursor c;

    assert_int_equal(command_body_flags(COMMAND_SET, &in), COMMAND_FENCE | COMMAND_TTL);
    assert_int_equal(round_trip(COMMAND_SET, &in, &out, &b), KV_OK);
    assert_int_equal(out.fence, in.fence);
    assert_int_equal(out.value_len, 1);
    txn_encode(&list, &items[0]);
    txn_encode(&list, &items[1]);
    assert_int_equal(txn_check(list.data, list.len), KV_OK);
    assert_int_equal(txn_check_plain(list.data, list.len), KV_E_PROTOCOL);
    c = cursor_of(list.data, list.len);
    assert_int_equal(txn_next(&c, &item), 1);
    assert_int_equal(item.fence, 0x0102030405);
    in = (struct command_body){.items = list.data, .items_len = list.len};
    assert_int_equal(command_body_flags(COMMAND_TXN, &in), COMMAND_FENCE);
    assert_int_equal(round_trip(COMMAND_TXN, &in, &out, &b), KV_OK);
    buffer_clear(&list);
    txn_encode(&list, &items[1]);
    txn_encode(&list, &items[0]); /* a comparison behind an operation */
    assert_int_equal(txn_check(list.data, list.len), KV_E_PROTOCOL);
    buffer_deinit(&list);
    buffer_deinit(&b);
}

static void a_body_with_bytes_left_over_is_refused(void **state)
{
    struct buffer b = BUFFER_INIT;
    struct command_body out, in = {.parent = 1, .name = (const uint8_t *)"x", .name_len = 1};

    command_body_encode(&b, COMMAND_UNLINK, &in);
    buffer_put_u8(&b, 0);
    assert_int_equal(command_body_decode(COMMAND_UNLINK, b.data, b.len, &out), KV_E_PROTOCOL);
    assert_int_equal(command_body_decode(COMMAND_TICK, "x", 1, &out), KV_E_PROTOCOL);
    buffer_deinit(&b);
}

static void results_come_back(void **state)
{
    struct command_result out, in = {.code = KV_E_VERSION,
                                     .created = 1,
                                     .revision = 2,
                                     .base_version = 3,
                                     .base_revision = 4,
                                     .session = 5,
                                     .removed = 6,
                                     .attr = {.ino = 7,
                                              .mode = 0600,
                                              .size = 8,
                                              .mtime_ns = -10,
                                              .content_revision = 9,
                                              .atime_ns = 11,
                                              .btime_ns = 12}};
    struct buffer b = BUFFER_INIT;
    struct cursor c;
    size_t len;

    command_result_encode(&b, &in, MESSAGE_PROTOCOL);
    c = cursor_of(b.data, b.len);
    command_result_decode(&c, &out);
    assert_true(cursor_done(&c));
    assert_int_equal(out.code, KV_E_VERSION);
    assert_int_equal(out.removed, 6);
    assert_int_equal(out.attr.content_revision, 9);
    assert_int_equal(out.attr.mtime_ns, -10);
    assert_int_equal(out.attr.atime_ns, 11);
    assert_int_equal(out.attr.btime_ns, 12);
    len = b.len;
    buffer_clear(&b);
    command_result_encode(&b, &in, 1); /* for clients that know nothing of those */
    assert_int_equal(b.len, len - ATTR_TIMES_LEN);
    buffer_deinit(&b);
}

static void times_to_live_travel(void **state)
{
    struct command_body out, in = {.path = (const uint8_t *)"k",
                                   .path_len = 1,
                                   .flags = SET_TTL,
                                   .ttl_ms = 0x0102030405,
                                   .value = (const uint8_t *)"v",
                                   .value_len = 1};
    uint64_t ino, revision;
    struct buffer b = BUFFER_INIT;

    (void)state;
    assert_int_equal(command_body_flags(COMMAND_SET, &in), COMMAND_TTL);
    assert_int_equal(command_body_flags(COMMAND_DEL, &in), 0);
    command_body_encode(&b, COMMAND_SET, &in);
    assert_int_equal(b.len, 5 + 1 + 8 + 8 + 2 + 8 + 1);
    assert_memory_equal(b.data + 24, "\0\0\0\1\2\3\4\5v", 9);
    assert_int_equal(command_body_decode(COMMAND_SET, b.data, b.len, &out), KV_OK);
    assert_int_equal(out.ttl_ms, in.ttl_ms);
    assert_int_equal(out.value_len, 1);
    assert_int_equal(command_body_decode(COMMAND_SET, b.data, b.len - 2, &out), KV_E_PROTOCOL);
    buffer_clear(&b);
    for (unsigned i = 0; i < 2 * COMMAND_EXPIRE_MAX; i++)
        buffer_put_u64(&b, i);
    assert_int_equal(command_body_decode(COMMAND_EXPIRE, b.data, b.len, &out), KV_OK);
    assert_int_equal(out.n_expired, COMMAND_EXPIRE_MAX);
    command_expired(&out, 7, &ino, &revision);
    assert_int_equal(ino, 14);
    assert_int_equal(revision, 15);
    assert_int_equal(command_body_decode(COMMAND_EXPIRE, b.data, b.len - 1, &out), KV_E_PROTOCOL);
    assert_int_equal(command_body_decode(COMMAND_EXPIRE, b.data, 0, &out), KV_OK);
    buffer_put_u64(&b, 1);
    buffer_put_u64(&b, 1);
    assert_int_equal(command_body_decode(COMMAND_EXPIRE, b.data, b.len, &out), KV_E_PROTOCOL);
    buffer_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_comes_back),
        cmocka_unit_test(header_is_refused_at_every_truncation),
        cmocka_unit_test(a_label_travels_in_the_header),
        cmocka_unit_test(a_label_can_be_seen),
        cmocka_unit_test(unknown_operations_and_flags_are_refused),
        cmocka_unit_test(bodies_come_back),
        cmocka_unit_test(a_table_that_is_put_comes_back_and_is_judged),
        cmocka_unit_test(attributes_come_back_and_are_judged),
        cmocka_unit_test(blocks_of_attributes_are_judged),
        cmocka_unit_test(names_are_judged),
        cmocka_unit_test(paths_are_judged_by_their_components),
        cmocka_unit_test(a_walk_checks_the_edits),
        cmocka_unit_test(fences_travel),
        cmocka_unit_test(a_body_with_bytes_left_over_is_refused),
        cmocka_unit_test(results_come_back),
        cmocka_unit_test(times_to_live_travel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
