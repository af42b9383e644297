/* The bytes of each body, as they have been since there were nodes that speak protocol 2: whoever changes one
 * of these speaks to no node or client of another version any more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "sync/base/error.h"
#include "sync/wire/body.h"

#define BYTES_OF(text)                                                                                       \
    {                                                                                                        \
        (const uint8_t *)(text), sizeof(text) - 1                                                            \
    }

#define ATTR_VALUES                                                                                          \
    {                                                                                                        \
        .ino = 0x0102030405060708, .type = INODE_FILE, .mode = 0640, .uid = 0x21222324, .gid = 0x31323334,   \
        .nlink = 2, .size = 0x4142434445464748, .mtime_ns = -2, .ctime_ns = 0x5152535455565758,              \
        .atime_ns = 0x6162636465666768, .btime_ns = 0x7172737475767778, .version = 3, .revision = 0x81,      \
        .content_revision = 0x91                                                                             \
    }
/* In protocol 1, and behind it what the others have. */
#define ATTR_1                                                                                               \
    "01020304050607080101a02122232431323334000000024142434445464748fffffffffffffffe51525354555657"           \
    "58000000000000000300000000000000810000000000000091"
#define ATTR ATTR_1 "61626364656667687172737475767778"

#define ROW_VALUES                                                                                           \
    {                                                                                                        \
        .version = 4, .revision = 0xa1, .wall_ns = 0xb1b2b3b4b5b6b7b8, .size = 0xc1, .mode = 0600,           \
        .uid = 0xd1, .gid = 0xe1, .type = INODE_FILE, .deleted = 1, .current = 0, .attributes_only = 1,      \
        .op = COMMAND_SET, .restored = 2, .author_uid = 0xf1, .author_node = "n1"                            \
    }
#define ROW                                                                                                  \
    "000000000000000400000000000000a1b1b2b3b4b5b6b7b800000000000000c10180000000d1000000e101010001"           \
    "0d0000000000000002000000f1000000026e31"

#define RESULT_VALUES                                                                                        \
    {                                                                                                        \
        .code = KV_E_EXIST, .created = 1, .revision = 0x11, .base_version = 0x22, .base_revision = 0x33,     \
        .session = 0x44, .removed = 0x55, .attr = ATTR_VALUES                                                \
    }
#define RESULT "00020100000000000000110000000000000022000000000000003300000000000000440000000000000055"

/* A KEEPALIVE. */
#define COMMAND_BYTES                                                                                        \
    "\x01\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x06\x00\x00\x00\x00\x00"   \
    "\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"   \
    "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

/* In a list as it stands in a body. */
static const struct attr attr = ATTR_VALUES;
static const struct version_row version_row = ROW_VALUES;
static struct buffer rows_of_case;

static void put_entries(union answer_body *body, uint16_t protocol)
{
    readdir_row_encode(&rows_of_case, &(struct readdir_row){0x4005, BYTES_OF("one"), attr}, protocol);
    if (protocol > 1)
        readdir_row_encode(&rows_of_case, &(struct readdir_row){0x4006, BYTES_OF("two"), attr}, protocol);
    body->readdir.rows = (struct rows){protocol, {rows_of_case.data, rows_of_case.len}};
}

static void put_versions(union answer_body *body, uint16_t protocol)
{
    version_row_encode(&rows_of_case, &version_row);
    version_row_encode(&rows_of_case, &version_row);
    body->history.rows = (struct rows){2, {rows_of_case.data, rows_of_case.len}};
}

static void put_names(union answer_body *body, uint16_t protocol)
{
    names_row_encode(&rows_of_case, &(struct names_row){BYTES_OF("a"), 7, 0});
    names_row_encode(&rows_of_case, &(struct names_row){BYTES_OF("b"), 8, 1});
    body->names.rows = (struct rows){2, {rows_of_case.data, rows_of_case.len}};
}

static void put_log(union answer_body *body, uint16_t protocol)
{
    log_row_encode(&rows_of_case, &(struct log_row){.row = version_row,
                                                    .key = (const uint8_t *)"a/key",
                                                    .key_len = 5,
                                                    .from = (const uint8_t *)"a/from",
                                                    .from_len = 6});
    body->log.rows = (struct rows){1, {rows_of_case.data, rows_of_case.len}};
}

static void put_locks(union answer_body *body, uint16_t protocol)
{
    lock_row_encode(&rows_of_case, &(struct lock_row){.ino = 0x0102030405060708,
                                                      .kind = LOCK_OF_RANGE,
                                                      .session = 0x11,
                                                      .owner = 0x1112131415161718,
                                                      .start = 5,
                                                      .end = INT64_MAX,
                                                      .exclusive = 1,
                                                      .wait = 0x21,
                                                      .ticket = 0x31,
                                                      .pid = 0x41424344,
                                                      .node = (const uint8_t *)"n1",
                                                      .node_len = 2});
    body->locks.rows = (struct rows){1, {rows_of_case.data, rows_of_case.len}};
}

static const struct request_case {
    uint8_t type;
    union request_body body;
    const char *hex;
    size_t whole_from, whole_to; /* these first bytes of it are whole, too; 0: there are none */
} requests[] = {
    {MESSAGE_HELLO,
     {.hello = {.magic = BYTES_OF("kvfs"),
                .kind = CLIENT_MOUNT,
                .name = BYTES_OF("mount"),
                .after = 0x1234,
                .has_protocol = true,
                .protocol = 2}},
     "000000046b76667302000000056d6f756e7400000000000012340002",
     26,
     26},
    {MESSAGE_HELLO,
     {.hello = {.magic = BYTES_OF("kvfs"), .kind = CLIENT_MOUNT, .name = BYTES_OF("raw")}},
     "000000046b76667302000000037261770000000000000000"},
    {MESSAGE_WRITE,
     {.write = {.has_owner = 1, .uid = 1000, .gid = 1001, .command = BYTES_OF(COMMAND_BYTES)}},
     "01000003e8000003e90102000000000000000000050000000000000006000000000000000400000000000000"
     "00000000000000000000000000000000000000000000000000",
     9,
     SIZE_MAX},
    {MESSAGE_BARRIER, {.at = 0}, ""},
    {MESSAGE_LOOKUP,
     {.lookup = {.at = 1, .parent = 0x1001, .name = BYTES_OF("name")}},
     "010000000000001001000000046e616d65"},
    {MESSAGE_GETATTR, {.getattr = {.at = 1, .ino = 0x1002}}, "010000000000001002"},
    {MESSAGE_READLINK, {.readlink = {.at = 1, .ino = 0x1003}}, "010000000000001003"},
    {MESSAGE_READ,
     {.read = {.ino = 0x1004, .offset = 0x2004, .length = 0x3004}},
     "000000000000001004000000000000200400003004"},
    {MESSAGE_READDIR,
     {.readdir = {.at = 1, .ino = 0x1005, .cookie = 0x2005, .n = 0x3005}},
     "010000000000001005000000000000200500003005"},
    {MESSAGE_OPEN,
     {.open = {.at = 1, .ino = 0x1006, .access = 3, .has_uid = true, .uid = 1000}},
     "01000000000000100603000003e8",
     10,
     10},
    {MESSAGE_OPEN, {.open = {.at = 1, .ino = 0x1006, .access = 3}}, "01000000000000100603"},
    {MESSAGE_CLOSE, {.close = {.ino = 0x1007}}, "0000000000001007"},
    {MESSAGE_LEASED, {.at = 0}, ""},
    {MESSAGE_INVALIDATED, {.invalidated = {.number = 0x1008}}, "0000000000001008"},
    {MESSAGE_STATFS, {.at = 0}, ""},
    {MESSAGE_RESOLVE, {.resolve = {.at = 1, .path = BYTES_OF("some/path")}}, "0100000009736f6d652f70617468"},
    {MESSAGE_GET,
     {.get = {.at = 1,
              .path = BYTES_OF("some/path"),
              .offset = 0x1009,
              .length = 0x2009,
              .content_revision = 0x3009}},
     "0100000009736f6d652f706174680000000000001009000020090000000000003009"},
    {MESSAGE_HISTORY,
     {.history = {.directory = 0x100a, .name = BYTES_OF("name"), .before = 0x200a, .n = 10 | PAST_LOCAL}},
     "000000000000100a000000046e616d65000000000000200a8000000a"},
    {MESSAGE_VERSION,
     {.version = {.directory = 0x100b,
                  .name = BYTES_OF("name"),
                  .version = 0x200b,
                  .offset = 0x300b,
                  .length = 0x400b}},
     "000000000000100b000000046e616d65000000000000200b000000000000300b0000400b"},
    {MESSAGE_NAMES,
     {.names = {.directory = 0x100c, .after = BYTES_OF("after"), .n = 12}},
     "000000000000100c0000000561667465720000000c"},
    {MESSAGE_LOG,
     {.log = {.after = 0x100d, .n = 13, .has_cursor = true, .cursor = BYTES_OF("cursor")}},
     "000000000000100d0000000d00000006637572736f72",
     12,
     12},
    {MESSAGE_LOG, {.log = {.after = 0x100d, .n = 13}}, "000000000000100d0000000d"},
    {MESSAGE_SUBSCRIBE, {.subscribe = {.after = 0x100e}}, "000000000000100e"},
    {MESSAGE_SUBSCRIBE,
     {.subscribe = {.after = 0x100e, .has_sparse = true, .sparse = 1}},
     "000000000000100e01",
     8,
     8},
    {MESSAGE_STATUS, {.at = 0}, ""},
    {MESSAGE_SETTINGS, {.at = 0}, ""},
    {MESSAGE_ADMIN,
     {.admin = {BYTES_OF("{\"command\":\"members\"}")}},
     "000000157b22636f6d6d616e64223a226d656d62657273227d"},
    {MESSAGE_RESERVE,
     {.reserve = {.held = 1, .least = 2, .wanted = 3}},
     "000000000000000100000000000000020000000000000003"},
    {MESSAGE_GETXATTR,
     {.getxattr = {.at = 1, .ino = 0x1010, .name = BYTES_OF("user.x")}},
     "01000000000000101000000006757365722e78"},
    {MESSAGE_LISTXATTR, {.listxattr = {.at = 1, .ino = 0x1011}}, "010000000000001011"},
    {MESSAGE_VERSION_XATTRS,
     {.version_xattrs = {.directory = 0x1012, .name = BYTES_OF("name"), .version = 0x2012}},
     "0000000000001012000000046e616d650000000000002012"},
    {MESSAGE_HELD,
     {.held = {.at = 1, .ino = 0x1010, .session = 0x2010}},
     "0100000000000010100000000000002010"},
    {MESSAGE_LOCKS, {.locks = {.at = READ_LINEARIZABLE, .ino = 0x100f, .all = 1}}, "01000000000000100f01"},
};

static const struct answer_case {
    uint8_t type;
    uint16_t protocol;
    union answer_body body;
    const char *hex;
    void (*put_rows)(union answer_body *body, uint16_t protocol);
    size_t whole[3]; /* so many bytes less are whole, too: those of an older node */
} answers[] = {
    {MESSAGE_HELLO,
     2,
     {.hello = {.name = "n1",
                .cluster_id = 0x1122334455667788,
                .applied = 0x99,
                .part_size = 262144,
                .value_limit = 64 << 20,
                .trusted = 1,
                .protocol = 2,
                .level = 0x0203}},
     "000000026e31112233445566778800000000000000990004000000000000040000000100020203",
     NULL,
     {2}},
    {MESSAGE_WRITE, 2, {.write = RESULT_VALUES}, RESULT ATTR},
    {MESSAGE_WRITE, 1, {.write = RESULT_VALUES}, RESULT ATTR_1},
    {MESSAGE_BARRIER, 2, {.barrier = {0x77}}, "0000000000000077"},
    {MESSAGE_LOOKUP, 2, {.lookup = ATTR_VALUES}, ATTR},
    {MESSAGE_LOOKUP, 1, {.lookup = ATTR_VALUES}, ATTR_1},
    {MESSAGE_GETATTR, 2, {.getattr = ATTR_VALUES}, ATTR},
    {MESSAGE_READLINK, 2, {.readlink = {BYTES_OF("tar/get")}}, "000000077461722f676574"},
    {MESSAGE_READ, 2, {.read = {.attr = ATTR_VALUES, .data = BYTES_OF("data")}}, ATTR "0000000464617461"},
    {MESSAGE_READ, 1, {.read = {.attr = ATTR_VALUES, .data = BYTES_OF("data")}}, ATTR_1 "0000000464617461"},
    {MESSAGE_READDIR,
     2,
     {.readdir = {.eof = 1}},
     "01000000020000000000004005000000036f6e65" ATTR "00000000000040060000000374776f" ATTR,
     put_entries},
    {MESSAGE_READDIR,
     1,
     {.readdir = {.eof = 1}},
     "01000000010000000000004005000000036f6e65" ATTR_1,
     put_entries},
    {MESSAGE_OPEN, 2, {.open = ATTR_VALUES}, ATTR},
    {MESSAGE_CLOSE, 2, {.barrier = {0}}, ""},
    {MESSAGE_LEASED, 2, {.barrier = {0}}, ""},
    {MESSAGE_INVALIDATED, 2, {.barrier = {0}}, ""},
    {MESSAGE_STATFS,
     2,
     {.statfs = {.keys = 1, .bytes = 2, .max_keys = 3, .max_bytes = 4}},
     "0000000000000001000000000000000200000000000000030000000000000004"},
    {MESSAGE_RESOLVE,
     2,
     {.resolve = {.attr = ATTR_VALUES, .parent = 0x2008, .name = BYTES_OF("path")}},
     ATTR "00000000000020080000000470617468"},
    {MESSAGE_GET, 2, {.get = {.attr = ATTR_VALUES, .data = BYTES_OF("data")}}, ATTR "0000000464617461"},
    {MESSAGE_HISTORY,
     2,
     {.history = {.more = 1, .has_labels = true, .labels = BYTES_OF("a\0\0")}},
     "0100000002" ROW ROW "00000003610000",
     put_versions,
     {7}},
    {MESSAGE_VERSION,
     2,
     {.version = {.row = ROW_VALUES, .data = BYTES_OF("data"), .mode = 0400, .uid = 0x500b, .gid = 0x600b}},
     ROW "000000046461746101000000500b0000600b"},
    {MESSAGE_NAMES,
     2,
     {.names = {.more = 1}},
     "010000000200000001610000000000000007000000000162000000000000000801",
     put_names},
    {MESSAGE_LOG,
     2,
     {.log = {.cursor = BYTES_OF("cursor"),
              .gap_after = 0x200d,
              .gap_until = 0x300d,
              .has_labels = true,
              .labels = BYTES_OF("me\0")}},
     "0000000001" ROW
     "00000005612f6b657900000006612f66726f6d00000006637572736f72000000000000200d00000000000030"
     "0d000000036d6500",
     put_log,
     {7, 15, 23}},
    {MESSAGE_SUBSCRIBE, 2, {.subscribe = {0x200e}}, "000000000000200e"},
    {MESSAGE_STATUS, 2, {.status = {BYTES_OF("{\"a\":1}")}}, "000000077b2261223a317d"},
    {MESSAGE_SETTINGS, 2, {.settings = {BYTES_OF("{\"a\":1}")}}, "000000077b2261223a317d"},
    {MESSAGE_ADMIN, 2, {.admin = {BYTES_OF("{\"a\":1}")}}, "000000077b2261223a317d"},
    {MESSAGE_RESERVE, 2, {.reserve = {4}}, "0000000000000004"},
    {MESSAGE_GETXATTR, 2, {.getxattr = {BYTES_OF("value")}}, "0000000576616c7565"},
    {MESSAGE_LISTXATTR, 2, {.listxattr = {BYTES_OF("a\0b\0")}}, "0000000461006200"},
    {MESSAGE_VERSION_XATTRS, 2, {.version_xattrs = {BYTES_OF("\0\0")}}, "000000020000"},
    {MESSAGE_HELD,
     2,
     {.held = {.fence = 0x1001,
               .since_ns = 0x2002,
               .exclusive = 1,
               .client = BYTES_OF("me"),
               .path = BYTES_OF("a/b")}},
     "000000000000100100000000000020020100000002"
     "6d65"
     "00000003612f62"},
    {MESSAGE_LOCKS,
     2,
     {.locks = {.more = 1}},
     "0100000001"
     "010203040506070801000000000000001111121314151617180000000000000005"
     "7fffffffffffffff0100000000000000210000000000000031"
     "41424344000000026e31",
     put_locks},
};

static const size_t n_requests = sizeof requests / sizeof *requests,
                    n_answers = sizeof answers / sizeof *answers;

static void put_hex(struct buffer *b, const char *hex)
{
    unsigned byte;

    buffer_clear(b);
    for (; *hex != '\0'; hex += 2) {
        assert_int_equal(sscanf(hex, "%2x", &byte), 1);
        buffer_put_u8(b, (uint8_t)byte);
    }
}

static void assert_bytes(const struct buffer *b, const char *hex, uint8_t type)
{
    struct buffer golden = BUFFER_INIT;

    put_hex(&golden, hex);
    if (b->len != golden.len || (b->len > 0 && memcmp(b->data, golden.data, b->len) != 0))
        print_error("# of %s\n", body_of(type)->name);
    assert_int_equal(b->len, golden.len);
    if (b->len > 0)
        assert_memory_equal(b->data, golden.data, b->len);
    buffer_deinit(&golden);
}

static void each_type_is_here(void **state)
{
    bool asked[UINT8_MAX] = {false}, answered[UINT8_MAX] = {false};
    uint8_t type;
    size_t i;

    for (i = 0; i < n_requests; i++)
        asked[requests[i].type] = true;
    for (i = 0; i < n_answers; i++)
        answered[answers[i].type] = true;
    for (type = 1; type < MESSAGE_REQUEST_COUNT; type++) {
        assert_true(asked[type]);
        assert_true(answered[type]);
    }
}

static void requests_have_the_bytes_that_they_always_had(void **state)
{
    struct buffer b = BUFFER_INIT, copy = BUFFER_INIT;
    union request_body body;
    size_t i;

    for (i = 0; i < n_requests; i++) {
        buffer_clear(&b);
        body_encode_request(&b, requests[i].type, &requests[i].body);
        assert_bytes(&b, requests[i].hex, requests[i].type);
        memset(&body, 0xee, sizeof body);
        assert_int_equal(body_decode_request(requests[i].type, b.data, b.len, &body), KV_OK);
        buffer_clear(&copy);
        body_encode_request(&copy, requests[i].type, &body);
        assert_bytes(&copy, requests[i].hex, requests[i].type);
    }
    buffer_deinit(&b);
    buffer_deinit(&copy);
}

static void answers_have_the_bytes_that_they_always_had(void **state)
{
    struct buffer b = BUFFER_INIT, copy = BUFFER_INIT;
    union answer_body body;
    struct cursor c;
    size_t i;

    for (i = 0; i < n_answers; i++) {
        body = answers[i].body;
        buffer_clear(&b);
        buffer_clear(&rows_of_case);
        if (answers[i].put_rows != NULL)
            answers[i].put_rows(&body, answers[i].protocol);
        body_encode_answer(&b, answers[i].type, &body, answers[i].protocol);
        assert_bytes(&b, answers[i].hex, answers[i].type);
        if (answers[i].protocol != MESSAGE_PROTOCOL)
            continue;
        memset(&body, 0xee, sizeof body);
        c = cursor_of(b.data, b.len);
        assert_true(body_decode_answer(answers[i].type, &c, &body));
        assert_true(cursor_done(&c));
        buffer_clear(&copy);
        body_encode_answer(&copy, answers[i].type, &body, MESSAGE_PROTOCOL);
        assert_bytes(&copy, answers[i].hex, answers[i].type);
    }
    buffer_deinit(&b);
    buffer_deinit(&copy);
    buffer_deinit(&rows_of_case);
}

static void an_event_has_the_bytes_that_it_always_had(void **state)
{
    const struct event event = {.revision = 1,
                                .wall_ns = 2,
                                .session = 3,
                                .seq = 4,
                                .kind = EVENT_RENAME,
                                .op = COMMAND_RENAME,
                                .last = 1,
                                .ino = 5,
                                .parent = 6,
                                .new_parent = 7,
                                .base_revision = 8,
                                .name = (const uint8_t *)"a",
                                .name_len = 1,
                                .new_name = (const uint8_t *)"bc",
                                .new_name_len = 2,
                                .attr = attr};
    struct buffer b = BUFFER_INIT, golden = BUFFER_INIT;
    uint16_t protocol;

    for (protocol = 1; protocol <= MESSAGE_PROTOCOL; protocol++) {
        put_hex(
            &golden,
            protocol == 1
                ? "0000000000000001000000000000000200000000000000030000000000000004030a01000000000000000500"
                  "00000000000006000000000000000700000000000000080000000161000000026263" ATTR_1
                : "0000000000000001000000000000000200000000000000030000000000000004030a01000000000000000500"
                  "00000000000006000000000000000700000000000000080000000161000000026263" ATTR);
        buffer_clear(&b);
        event_encode(&b, &event, protocol);
        assert_int_equal(b.len, golden.len);
        assert_memory_equal(b.data, golden.data, b.len);
    }
    buffer_deinit(&b);
    buffer_deinit(&golden);
}

/* Every row of a list can be read after the list was. */
static void rows_are_read_one_by_one(void **state)
{
    struct buffer b = BUFFER_INIT;
    union answer_body body;
    struct readdir_row entry;
    struct names_row name;
    struct log_row row;
    struct cursor c;
    size_t i;

    for (i = 0; i < n_answers; i++) {
        if (answers[i].put_rows == NULL || answers[i].protocol != MESSAGE_PROTOCOL)
            continue;
        put_hex(&b, answers[i].hex);
        c = cursor_of(b.data, b.len);
        assert_true(body_decode_answer(answers[i].type, &c, &body));
        if (answers[i].type == MESSAGE_READDIR) {
            assert_int_equal(body.readdir.rows.count, 2);
            c = rows_cursor(&body.readdir.rows);
            readdir_row_decode(&c, &entry);
            assert_int_equal(entry.cookie, 0x4005);
            readdir_row_decode(&c, &entry);
            assert_int_equal(entry.cookie, 0x4006);
            assert_memory_equal(entry.name.data, "two", 3);
            assert_int_equal(entry.attr.btime_ns, attr.btime_ns);
        } else if (answers[i].type == MESSAGE_NAMES) {
            c = rows_cursor(&body.names.rows);
            names_row_decode(&c, &name);
            names_row_decode(&c, &name);
            assert_int_equal(name.version, 8);
            assert_int_equal(name.deleted, 1);
        } else if (answers[i].type == MESSAGE_LOG) {
            c = rows_cursor(&body.log.rows);
            log_row_decode(&c, &row);
            assert_string_equal(row.row.author_node, "n1");
            assert_memory_equal(row.from, "a/from", row.from_len);
        }
        if (answers[i].type != MESSAGE_HISTORY)
            assert_true(cursor_done(&c));
    }
    buffer_deinit(&b);
}

/* Bytes right before a page that nobody may read. */
struct fence {
    uint8_t *pages;
    size_t size;
};

static int setup(void **state)
{
    static struct fence f;

    f.size = (size_t)sysconf(_SC_PAGESIZE);
    f.pages = mmap(NULL, 2 * f.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (f.pages == MAP_FAILED || mprotect(f.pages + f.size, f.size, PROT_NONE) != 0)
        return -1;
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fence *f = *state;

    return munmap(f->pages, 2 * f->size);
}

static const uint8_t *at_fence(const struct fence *f, const struct buffer *b, size_t len)
{
    uint8_t *to = f->pages + f->size - len;

    if (len > 0)
        memcpy(to, b->data, len);
    return to;
}

static void a_request_that_is_cut_off_is_malformed_and_so_is_one_with_more(void **state)
{
    struct buffer b = BUFFER_INIT;
    union request_body body;
    size_t i, len;

    for (i = 0; i < n_requests; i++) {
        const struct request_case *r = &requests[i];

        put_hex(&b, r->hex);
        for (len = 0; len < b.len; len++)
            assert_int_equal(body_decode_request(r->type, at_fence(*state, &b, len), len, &body),
                             r->whole_from > 0 && len >= r->whole_from && len <= r->whole_to ? KV_OK
                                                                                             : KV_E_PROTOCOL);
        buffer_put_u8(&b, 0);
        assert_int_equal(body_decode_request(r->type, at_fence(*state, &b, b.len), b.len, &body),
                         r->type == MESSAGE_WRITE || strcmp(r->hex, "000000000000100e") == 0 ? KV_OK
                                                                                             : KV_E_PROTOCOL);
    }
    assert_int_equal(body_decode_request(MESSAGE_REQUEST_COUNT, "", 0, &body), KV_E_NOTSUP);
    assert_int_equal(body_decode_request(0, "", 0, &body), KV_E_NOTSUP);
    buffer_deinit(&b);
}

static bool is_whole(const struct answer_case *a, size_t less)
{
    return less == a->whole[0] || less == a->whole[1] || less == a->whole[2];
}

static void an_answer_that_is_cut_off_is_malformed(void **state)
{
    struct buffer b = BUFFER_INIT;
    union answer_body body;
    struct cursor c;
    size_t i, len;

    for (i = 0; i < n_answers; i++) {
        const struct answer_case *a = &answers[i];

        if (a->protocol != MESSAGE_PROTOCOL)
            continue;
        put_hex(&b, a->hex);
        for (len = 0; len < b.len; len++) {
            c = cursor_of(at_fence(*state, &b, len), len);
            assert_int_equal(body_decode_answer(a->type, &c, &body), is_whole(a, b.len - len));
        }
        buffer_put_u8(&b, 7); /* of a newer node */
        c = cursor_of(b.data, b.len);
        assert_true(body_decode_answer(a->type, &c, &body));
        assert_int_equal(cursor_u8(&c), 7);
    }
    buffer_deinit(&b);
}

static void what_may_be_left_out_is_told_from_what_is_zero(void **state)
{
    static const uint8_t open[] = {0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0};
    union request_body body;

    assert_int_equal(body_decode_request(MESSAGE_OPEN, open, sizeof open, &body), KV_OK);
    assert_true(body.open.has_uid);
    assert_int_equal(body.open.uid, 0);
    assert_int_equal(body_decode_request(MESSAGE_OPEN, open, sizeof open - 4, &body), KV_OK);
    assert_false(body.open.has_uid);
}

static void a_count_larger_than_the_rows_is_malformed(void **state)
{
    static const uint8_t answer[] = {0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 'a', 0, 0, 0, 0, 0, 0, 0, 1, 0};
    struct cursor c = cursor_of(answer, sizeof answer);
    union answer_body body;

    assert_false(body_decode_answer(MESSAGE_NAMES, &c, &body));
}

static void a_value_may_be_put_behind_its_body(void **state)
{
    struct buffer b = BUFFER_INIT, whole = BUFFER_INIT;
    const union answer_body full = {.read = {ATTR_VALUES, BYTES_OF("data")}},
                            head = {.read.attr = ATTR_VALUES};
    size_t at;

    body_encode_answer(&whole, MESSAGE_READ, &full, MESSAGE_PROTOCOL);
    body_encode_answer(&b, MESSAGE_READ, &head, MESSAGE_PROTOCOL);
    at = b.len;
    buffer_put_bytes(&b, "data", 4);
    body_string_end(&b, at);
    assert_int_equal(b.len, whole.len);
    assert_memory_equal(b.data, whole.data, b.len);
    buffer_deinit(&b);
    buffer_deinit(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_is_here),
        cmocka_unit_test(requests_have_the_bytes_that_they_always_had),
        cmocka_unit_test(answers_have_the_bytes_that_they_always_had),
        cmocka_unit_test(an_event_has_the_bytes_that_it_always_had),
        cmocka_unit_test(rows_are_read_one_by_one),
        cmocka_unit_test_setup_teardown(a_request_that_is_cut_off_is_malformed_and_so_is_one_with_more, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_answer_that_is_cut_off_is_malformed, setup, teardown),
        cmocka_unit_test(what_may_be_left_out_is_told_from_what_is_zero),
        cmocka_unit_test(a_count_larger_than_the_rows_is_malformed),
        cmocka_unit_test(a_value_may_be_put_behind_its_body),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
