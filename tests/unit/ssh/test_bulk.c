/* Much data: through rekeyings, and against sides that do not read. */
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "sync/base/clock.h"
#include "tests/unit/ssh/fixture.h"

/* libssh2 1.10 loses the previous host key, 51 bytes, at each rekeying. That is
 * why these tests stand alone: elsewhere its leaks would be ours. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libssh2.so";
}

static int setup(void **state)
{
    *state = fixture_new(NULL);
    return 0;
}

static int setup_rekeying(void **state)
{
    *state = fixture_new("RekeyLimit 8M\nLogLevel DEBUG");
    return 0;
}

static int teardown(void **state)
{
    fixture_free(*state);
    return 0;
}

static void echo(int fd)
{
    char reply[5];

    write_all(fd, "hello", 5);
    read_exactly(fd, reply, 5);
    assert_memory_equal(reply, "hello", 5);
}

/* Key exchanges that sshd logged. */
static unsigned count_rekeyings(const struct fixture *f)
{
    char path[PATH_MAX], line[1024];
    unsigned n = 0;
    FILE *log;

    snprintf(path, sizeof path, "%s/sshd.log", f->dir);
    log = fopen(path, "r");
    assert_non_null(log);
    while (fgets(line, sizeof line, log) != NULL)
        n += strstr(line, "SSH2_MSG_NEWKEYS received") != NULL;
    fclose(log);
    return n;
}

/* Bytes that depend on their place, so that a lost or doubled block shows. */
static void fill(uint8_t *data, size_t len, uint64_t at)
{
    for (size_t i = 0; i < len; i++) {
        uint64_t x = (at + i) * 0x9e3779b97f4a7c15u;

        data[i] = (uint8_t)(x >> 56);
    }
}

static void keeps_every_byte_both_ways_through_many_rekeyings(void **state)
{
    struct fixture *f = *state;
    struct ssh_link *link = fixture_link(f);
    const uint64_t total = (uint64_t)64 * 1024 * 1024;
    static uint8_t out[100001], in[65536], expected[65536];
    size_t out_at = sizeof out;
    uint64_t sent = 0, got = 0;
    int fd = fixture_expect_connected(f);

    while (got < total) {
        struct pollfd p = {.fd = fd, .events = (short)(POLLIN | (sent < total ? POLLOUT : 0))};
        ssize_t n;

        assert_true(poll(&p, 1, WAIT_MS) > 0);
        if (p.revents & POLLOUT) {
            if (out_at == sizeof out) {
                fill(out, sizeof out, sent);
                out_at = 0;
            }
            n = send(fd, out + out_at, sizeof out - out_at, MSG_DONTWAIT | MSG_NOSIGNAL);
            out_at += n > 0 ? (size_t)n : 0;
            sent += n > 0 ? (uint64_t)n : 0;
        }
        if (p.revents & POLLIN) {
            n = recv(fd, in, sizeof in, MSG_DONTWAIT);
            assert_true(n > 0);
            fill(expected, (size_t)n, got);
            assert_memory_equal(in, expected, n);
            got += (uint64_t)n;
        }
    }
    assert_true(count_rekeyings(f) >= 8);
    close(fd);
    ssh_link_stop(link);
}

/* The peer's node sends without end; the caller reads nothing. What is on the way
 * is bounded, and nothing is lost. */
static void a_caller_that_does_not_read_stops_the_peer(void **state)
{
    struct fixture *f = *state;
    struct ssh_link *link = fixture_link(f);
    int fd = fixture_expect_connected(f), still = 0;
    uint64_t before = 0, bytes = 0;
    static char data[65536];

    node_set_mode(&f->node, NODE_SOURCE);
    write_all(fd, "x", 1);
    for (uint64_t deadline = clock_boot_ms() + WAIT_MS; still < 20; before = bytes) {
        assert_true(clock_boot_ms() < deadline);
        poll(NULL, 0, 20);
        bytes = node_written(&f->node);
        still = bytes > 0 && bytes == before ? still + 1 : 0;
    }
    assert_true(bytes < (uint64_t)16 * 1024 * 1024);
    for (uint64_t got = 0; got < 2 * bytes; got += sizeof data) {
        read_exactly(fd, data, sizeof data);
        for (size_t i = got == 0 ? 1 : 0; i < sizeof data; i += 509)
            assert_int_equal(data[i], 'x');
    }
    close(fd);
    ssh_link_stop(link);
}

/* The other way: the dialler writes, the peer's node does not read. */
static void a_node_that_does_not_read_stops_the_caller(void **state)
{
    struct fixture *f = *state;
    struct ssh_link *link = fixture_link(f);
    int fd = fixture_expect_connected(f);
    static char data[65536];
    size_t sent = 0;

    /* It echoes, and stops reading when nobody takes the echo. */
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        ssize_t n;

        if (poll(&p, 1, 1000) == 0)
            break;
        n = send(fd, data, sizeof data, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        assert_true(sent < (size_t)32 * 1024 * 1024);
    }
    for (size_t got = 0; got < sent;) {
        size_t n = sent - got < sizeof data ? sent - got : sizeof data;

        read_exactly(fd, data, n);
        got += n;
    }
    echo(fd);
    close(fd);
    ssh_link_stop(link);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keeps_every_byte_both_ways_through_many_rekeyings, setup_rekeying,
                                        teardown),
        T(a_caller_that_does_not_read_stops_the_peer),
        T(a_node_that_does_not_read_stops_the_caller),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
