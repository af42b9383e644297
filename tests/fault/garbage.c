/* Everything but the protocol, on the clients' socket of a live cluster. After
 * each attack every node must still serve others, promptly, with one state. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "tests/fault/lib/caller.h"
#include "tests/fault/lib/raw.h"

#define NODES 3
#define MIB (1024 * 1024)

static struct cluster *cluster;
static struct dice dice;

static unsigned memory_mb(unsigned i)
{
    char path[64], line[256];
    unsigned kb = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/status", (int)cluster->nodes[i].pid);
    f = fopen(path, "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "VmRSS: %u", &kb) == 1)
            break;
    if (f != NULL)
        fclose(f);
    return kb / 1024;
}

/* Every node takes a write and a read within seconds, and all agree. */
static void assert_well(void)
{
    unsigned i;

    for (i = 0; i < NODES; i++) {
        struct command_result result;
        struct attr attr;
        struct caller w;
        char got[16];
        size_t len;

        assert_true(cluster_runs(cluster, i));
        caller_init(&w, cluster, i);
        w.pinned = true;
        assert_int_equal(caller_set(&w, "well", cluster->nodes[i].name, 2, 8000, &result), 0);
        assert_int_equal(caller_get(&w, "well", READ_LINEARIZABLE, 8000, &attr, got, sizeof got, &len), 0);
        assert_int_equal(len, 2);
        assert_memory_equal(got, cluster->nodes[i].name, 2);
        caller_deinit(&w);
    }
    assert_true(cluster_equal(cluster, 15000));
}

static int setup(void **state)
{
    const struct cluster_options options = {.n = NODES, .files = 256};
    struct rlimit files = {4096, 4096};
    const char *skip;

    (void)state;
    setrlimit(RLIMIT_NOFILE, &files);
    dice_init(&dice, "garbage");
    cluster = cluster_new(&options, &skip);
    return cluster != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return cluster_free(cluster) ? 0 : -1;
}

/* Sends the bytes on a new connection, behind a HELLO if wanted. */
static int send_new(unsigned i, bool hello, const void *data, size_t len)
{
    int fd = raw_open(cluster->nodes[i].socket);
    struct buffer b = BUFFER_INIT;

    assert_true(fd >= 0);
    if (hello)
        raw_hello(&b);
    buffer_put_bytes(&b, data, len);
    raw_send(fd, b.data, b.len, 5000);
    buffer_deinit(&b);
    return fd;
}

static void random_bytes_end_the_connection_only(void **state)
{
    unsigned n = 100 * rounds(1), i, k;

    (void)state;
    for (i = 0; i < n; i++) {
        uint8_t junk[2000];
        size_t len = 1 + dice_roll(&dice, sizeof junk);
        int fd;

        for (k = 0; k < len; k++)
            junk[k] = (uint8_t)dice_roll(&dice, 256);
        fd = send_new(i % NODES, i % 2 == 0, junk, len);
        if (i % 3 == 0)
            raw_drain(fd, 1);
        close(fd);
    }
    assert_well();
}

static void impossible_lengths_and_versions_are_closed_at_once(void **state)
{
    static const uint8_t heads[][5] = {
        {0, 0, 0, 0, 1},
        {0, 0, 0, 11, 1},
        {0x00, 0x11, 0x00, 0x0d, 1},
        {0xff, 0xff, 0xff, 0xff, 1},
        {0x80, 0x00, 0x00, 0, 1},
        {0, 0, 0, 12, 0},
        {0, 0, 0, 12, 2},
        {0, 0, 0, 12, 255},
    };
    unsigned i;

    (void)state;
    for (i = 0; i < 2 * sizeof heads / sizeof heads[0]; i++) {
        int fd = send_new(i % NODES, i % 2 == 1, heads[i / 2], sizeof heads[0]);

        assert_true(raw_closed(fd, 5000));
        close(fd);
    }
    assert_well();
}

static void hello_comes_first_and_once(void **state)
{
    struct buffer b = BUFFER_INIT;
    unsigned type;
    int fd;

    (void)state;
    for (type = 0; type < 256; type++) {
        if (type == MESSAGE_HELLO)
            continue;
        buffer_clear(&b);
        raw_frame(&b, (uint8_t)type, 1, "", 0);
        fd = send_new(type % NODES, false, b.data, b.len);
        assert_true(raw_closed(fd, 5000));
        close(fd);
    }
    buffer_clear(&b);
    raw_hello(&b);
    fd = send_new(0, true, b.data, b.len);
    assert_true(raw_closed(fd, 5000));
    close(fd);
    buffer_clear(&b);
    raw_hello(&b);
    b.data[FRAME_HEADER_LEN + 4] ^= 1; /* magic */
    fd = send_new(0, false, b.data, b.len);
    assert_true(raw_closed(fd, 5000));
    close(fd);
    buffer_clear(&b);
    raw_hello(&b);
    b.data[FRAME_HEADER_LEN + 8] = 77; /* kind */
    fd = send_new(0, false, b.data, b.len);
    assert_true(raw_closed(fd, 5000));
    close(fd);
    /* A client that has seen the future waits for it, and does not hold anybody up. */
    buffer_clear(&b);
    raw_hello(&b);
    memset(b.data + b.len - 8, 0xff, 8);
    fd = send_new(0, false, b.data, b.len);
    assert_false(raw_closed(fd, 100));
    close(fd);
    buffer_deinit(&b);
    assert_well();
}

/* The answer comes when the connection is being torn down. */
static void clients_that_hang_up_before_the_answer_do_no_harm(void **state)
{
    unsigned n = 500 * rounds(1), i;

    (void)state;
    for (i = 0; i < n; i++) {
        struct timespec t = {.tv_nsec = (long)dice_roll(&dice, 1000000)};
        struct buffer b = BUFFER_INIT;
        int fd;

        raw_command(&b, COMMAND_SET, 0, i + 1);
        raw_request(&b, MESSAGE_GETATTR, 0, i + 1);
        fd = send_new(i % NODES, true, b.data, b.len);
        nanosleep(&t, NULL);
        close(fd);
        buffer_deinit(&b);
    }
    assert_well();
}

static void every_truncated_request_is_refused(void **state)
{
    struct buffer b = BUFFER_INIT;
    unsigned type, op;

    (void)state;
    for (type = MESSAGE_HELLO + 1; type < MESSAGE_REQUEST_COUNT; type++) {
        size_t cut;

        buffer_clear(&b);
        assert_true(raw_request(&b, (uint8_t)type, 0, 1));
        /* A shorter payload in a whole frame; then half a frame and the end. */
        for (cut = 0; cut < b.len - FRAME_HEADER_LEN; cut += 1 + cut / 8) {
            struct buffer s = BUFFER_INIT;
            int fd;

            raw_frame(&s, (uint8_t)type, 9, b.data + FRAME_HEADER_LEN, cut);
            fd = send_new((unsigned)cut % NODES, true, s.data, s.len);
            raw_drain(fd, 1);
            close(fd);
            buffer_deinit(&s);
            close(send_new((unsigned)cut % NODES, true, b.data, FRAME_HEADER_LEN + cut));
        }
    }
    for (op = 0; op < COMMAND_OP_COUNT + 2; op++) {
        buffer_clear(&b);
        raw_command(&b, (uint8_t)op, 1, 1);
        for (size_t cut = 0; cut < b.len - FRAME_HEADER_LEN; cut += 7) {
            struct buffer s = BUFFER_INIT;

            raw_frame(&s, MESSAGE_WRITE, 9, b.data + FRAME_HEADER_LEN, cut);
            close(send_new((unsigned)cut % NODES, true, s.data, s.len));
            buffer_deinit(&s);
        }
    }
    buffer_deinit(&b);
    assert_well();
}

/* Some of these are requests, and are executed: alike everywhere. */
static void flipped_bits_do_no_harm(void **state)
{
    unsigned n = 1500 * rounds(1), i;
    struct caller owner;

    (void)state;
    caller_init(&owner, cluster, 0);
    assert_int_equal(caller_register(&owner, 8000), 0);
    for (i = 0; i < n; i++) {
        struct buffer b = BUFFER_INIT;
        unsigned flips = 1 + (unsigned)dice_roll(&dice, 4), k;
        int fd;

        if (i % 3 == 0) {
            do
                buffer_clear(&b);
            while (!raw_request(&b, (uint8_t)(MESSAGE_HELLO + dice_roll(&dice, MESSAGE_REQUEST_COUNT)),
                                owner.session, i + 1));
        } else {
            uint8_t op;

            do /* ends would end the session under test; DEL flips to a key of the other checks */
                op = (uint8_t)(1 + dice_roll(&dice, COMMAND_OP_COUNT - 1));
            while (op == COMMAND_END || op == COMMAND_DEL || op == COMMAND_SETTING);
            raw_command(&b, op, owner.session, i + 1);
        }
        for (k = 0; k < flips; k++) {
            size_t at = FRAME_HEADER_LEN + dice_roll(&dice, b.len - FRAME_HEADER_LEN + (i % 5 == 0));

            if (i % 5 == 0)
                at = dice_roll(&dice, b.len); /* in the frame's head as well */
            b.data[at < b.len ? at : 0] ^= (uint8_t)(1u << dice_roll(&dice, 8));
        }
        fd = send_new(i % NODES, true, b.data, b.len);
        if (i % 7 == 0)
            raw_drain(fd, 1);
        close(fd);
        buffer_deinit(&b);
    }
    caller_deinit(&owner);
    assert_well();
}

static void absurd_fields_are_answered(void **state)
{
    static const uint64_t numbers[] = {0, 1, UINT32_MAX, INT64_MAX, UINT64_MAX};
    struct caller w;
    unsigned i, k;

    (void)state;
    caller_init(&w, cluster, 1);
    assert_int_equal(caller_register(&w, 8000), 0);
    for (i = 0; i < 5; i++) {
        for (k = 0; k < 5; k++) {
            struct command_result r;
            struct command_body body = {.ino = numbers[i],
                                        .parent = numbers[i],
                                        .new_parent = numbers[k],
                                        .name = (const uint8_t *)"x",
                                        .name_len = 1,
                                        .new_name = (const uint8_t *)"y",
                                        .new_name_len = 1,
                                        .path = (const uint8_t *)"absurd",
                                        .path_len = 6,
                                        .mtime_ns = numbers[k],
                                        .valid = SETATTR_MTIME,
                                        .version = numbers[k],
                                        .from_version = numbers[i],
                                        .flags = 0};
            struct buffer edits = BUFFER_INIT;
            union request_body ask;
            uint8_t op;

            for (op = COMMAND_CREATE; op <= COMMAND_SET; op++) {
                edits.len = 0;
                edit_encode(&edits, &(struct edit){.kind = EDIT_TRUNCATE, .number = numbers[k]});
                edit_encode(&edits, &(struct edit){.kind = EDIT_WRITE,
                                                   .number = numbers[i],
                                                   .data = (const uint8_t *)"z",
                                                   .len = 1});
                edit_encode(&edits, &(struct edit){.kind = EDIT_MTIME, .number = numbers[k]});
                body.edits = edits.data;
                body.edits_len = edits.len;
                assert_in_range(caller_write(&w, (enum command_op)op, &body, 8000, &r), 0, KV_E_COUNT - 1);
            }
            ask.read = (struct read_request){READ_LINEARIZABLE, numbers[i], numbers[k], (uint32_t)numbers[k]};
            assert_in_range(caller_ask(&w, MESSAGE_READ, &ask, 8000, NULL), 0, KV_E_COUNT - 1);
            ask.readdir =
                (struct readdir_request){READ_LINEARIZABLE, numbers[i], numbers[k], (uint32_t)numbers[k]};
            assert_in_range(caller_ask(&w, MESSAGE_READDIR, &ask, 8000, NULL), 0, KV_E_COUNT - 1);
            ask.history = (struct history_request){numbers[i], bytes_text("well"), numbers[k], UINT32_MAX};
            assert_in_range(caller_ask(&w, MESSAGE_HISTORY, &ask, 8000, NULL), 0, KV_E_COUNT - 1);
            ask.version =
                (struct version_request){KV_ROOT_INO, bytes_text("well"), numbers[i], numbers[k], UINT32_MAX};
            assert_in_range(caller_ask(&w, MESSAGE_VERSION, &ask, 8000, NULL), 0, KV_E_COUNT - 1);
            ask.log = (struct log_request){.after = numbers[i], .n = UINT32_MAX};
            assert_in_range(caller_ask(&w, MESSAGE_LOG, &ask, 8000, NULL), 0, KV_E_COUNT - 1);
            buffer_deinit(&edits);
        }
    }
    caller_deinit(&w);
    assert_well();
}

static void ten_thousand_pipelined_requests_are_all_answered(void **state)
{
    struct caller w;
    unsigned n = 10000, answered = 0, i;
    uint64_t deadline = clock_boot_ms() + 60000;

    (void)state;
    caller_init(&w, cluster, 2);
    assert_int_equal(caller_register(&w, 8000), 0);
    for (i = 0; i < n; i++) {
        if (i % 2 == 0) {
            const struct command cmd = {
                .op = COMMAND_SET, .session = w.session, .seq = i / 2 + 1, .acked_below = 1, .node = ""};
            const struct command_body body = {.path = (const uint8_t *)"pipe",
                                              .path_len = 4,
                                              .value = (const uint8_t *)&i,
                                              .value_len = sizeof i,
                                              .mode = 0644};

            struct buffer *b = client_queue(w.client, MESSAGE_WRITE, 1000 + i);

            body_encode_request(b, MESSAGE_WRITE, NULL);
            command_encode(b, &cmd);
            command_body_encode(b, COMMAND_SET, &body);
            client_queue_end(w.client);
        } else {
            client_ask(w.client, MESSAGE_GETATTR, 1000 + i,
                       &(union request_body){.getattr = {READ_LINEARIZABLE, KV_ROOT_INO}});
        }
    }
    while (answered < n && clock_boot_ms() < deadline) {
        struct frame frame;

        if (client_wait(w.client, 20000, &frame) != 1)
            break;
        answered += frame.type == MESSAGE_ANSWER;
    }
    assert_int_equal(answered, n);
    caller_deinit(&w);
    assert_well();
}

/* 600 connections that say nothing or half of something: others are served, and
 * their places are free again soon. */
static void silent_connections_do_not_keep_others_out(void **state)
{
    int fds[600];
    struct buffer b = BUFFER_INIT;
    struct command_result result;
    struct caller w;
    unsigned i;

    (void)state;
    raw_hello(&b);
    for (i = 0; i < 600; i++) {
        fds[i] = raw_open(cluster->nodes[0].socket);
        assert_true(fds[i] >= 0);
        if (i % 2 == 0)
            raw_send(fds[i], b.data, dice_roll(&dice, b.len - 1), 100);
    }
    caller_init(&w, cluster, 0);
    w.pinned = true;
    assert_int_equal(caller_set(&w, "silent", "x", 1, 15000, &result), 0);
    caller_deinit(&w);
    for (i = 0; i < 600; i++) {
        assert_true(raw_closed(fds[i], 15000));
        close(fds[i]);
    }
    buffer_deinit(&b);
    assert_well();
}

/* A client that asks for big values, subscribes to all changes, and never reads. */
static void who_never_reads_costs_little_memory(void **state)
{
    unsigned before, worst = 0, i, k;
    char *big = calloc(1, 8 * MIB);
    struct command_result result;
    struct buffer b = BUFFER_INIT;
    struct caller w;
    int fds[4];

    (void)state;
    for (i = 0; i < 8 * MIB; i++)
        big[i] = (char)dice_roll(&dice, 256);
    caller_init(&w, cluster, 0);
    assert_int_equal(caller_register(&w, 8000), 0);
    assert_int_equal(caller_set(&w, "big", big, 8 * MIB, 30000, &result), 0);
    assert_int_equal(caller_set(&w, "big", big, 8 * MIB - 1, 30000, &result), 0);
    before = memory_mb(0);
    for (k = 0; k < 4; k++) {
        buffer_clear(&b);
        raw_hello(&b);
        raw_request(&b, MESSAGE_SUBSCRIBE, 0, 1);
        for (i = 0; i < 4000; i++) {
            uint8_t type = k == 0 ? MESSAGE_VERSION : MESSAGE_READ;
            uint64_t offset = (i % 7) * (uint64_t)MIB;
            size_t at = frame_begin(&b, type, 0, i);
            union request_body body;

            if (k == 0)
                body.version = (struct version_request){KV_ROOT_INO, bytes_text("big"), 1, offset, MIB};
            else
                body.read = (struct read_request){k == 1 ? READ_LOCAL : READ_LINEARIZABLE, result.attr.ino,
                                                  offset, MIB};
            body_encode_request(&b, type, &body);
            frame_end(&b, at);
        }
        fds[k] = raw_open(cluster->nodes[0].socket);
        assert_true(fds[k] >= 0);
        raw_send(fds[k], b.data, b.len, 1000);
    }
    for (i = 0; i < 100; i++) {
        unsigned now;

        assert_int_equal(caller_set(&w, "tick", &i, sizeof i, 8000, &result), 0);
        now = memory_mb(0);
        worst = now > worst ? now : worst;
        pause_ms(10);
    }
    printf("# who never reads: memory %u MiB before, %u MiB at most\n", before, worst);
    assert_in_range(worst, 0, before + 4 * 64);
    for (k = 0; k < 4; k++)
        close(fds[k]);
    caller_deinit(&w);
    buffer_deinit(&b);
    free(big);
    assert_well();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_bytes_end_the_connection_only),
        cmocka_unit_test(impossible_lengths_and_versions_are_closed_at_once),
        cmocka_unit_test(hello_comes_first_and_once),
        cmocka_unit_test(clients_that_hang_up_before_the_answer_do_no_harm),
        cmocka_unit_test(every_truncated_request_is_refused),
        cmocka_unit_test(flipped_bits_do_no_harm),
        cmocka_unit_test(absurd_fields_are_answered),
        cmocka_unit_test(ten_thousand_pipelined_requests_are_all_answered),
        cmocka_unit_test(silent_connections_do_not_keep_others_out),
        cmocka_unit_test(who_never_reads_costs_little_memory),
    };

    cmocka_set_test_filter(getenv("KVFS_FAULT_ONLY"));
    return cmocka_run_group_tests(tests, setup, teardown);
}
