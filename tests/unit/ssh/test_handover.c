/* What a bridge hands over, and everything else that may come on the peer socket. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "sync/ssh/handover.h"

static int setup(void **state)
{
    int *pair = malloc(2 * sizeof *pair);

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    *state = pair;
    return 0;
}

static int teardown(void **state)
{
    int *pair = *state;

    close(pair[0]);
    close(pair[1]);
    free(pair);
    return 0;
}

static unsigned open_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;

    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

/* A message as a stranger would make it. */
static void send_raw(int fd, const void *data, size_t len, size_t n_fds)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(32 * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

    assert_true(n_fds <= 32);
    memset(&control, 0, sizeof control);
    if (n_fds > 0) {
        struct cmsghdr *c = &control.header;

        m.msg_control = control.bytes;
        m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int)); /* of descriptor 0, again and again */
    }
    assert_int_equal(sendmsg(fd, &m, MSG_NOSIGNAL), (ssize_t)len);
}

static void carries_a_name_and_two_descriptors(void **state)
{
    int *pair = *state, there[2], back[2], in = -1, out = -1;
    char name[SSH_PEER_NAME_MAX + 1], text[2];

    assert_int_equal(pipe2(there, O_CLOEXEC), 0);
    assert_int_equal(pipe2(back, O_CLOEXEC), 0);
    assert_int_equal(handover_send(pair[0], "rack-3.n_2", there[0], back[1]), 0);
    close(there[0]);
    close(back[1]);
    assert_int_equal(handover_receive(pair[1], name, &in, &out), 0);
    assert_string_equal(name, "rack-3.n_2");
    assert_int_equal(fcntl(in, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(out, F_GETFD), FD_CLOEXEC);
    assert_int_equal(write(there[1], "a", 1), 1);
    assert_int_equal(read(in, text, 2), 1);
    assert_int_equal(text[0], 'a');
    assert_int_equal(write(out, "b", 1), 1);
    assert_int_equal(read(back[0], text, 2), 1);
    assert_int_equal(text[0], 'b');
    /* There is no other copy: the ends are seen. */
    close(there[1]);
    assert_int_equal(read(in, text, 2), 0);
    close(out);
    assert_int_equal(read(back[0], text, 2), 0);
    close(in);
    close(back[0]);
}

static void tells_nothing_yet_from_gone(void **state)
{
    int *pair = *state, in, out;
    char name[SSH_PEER_NAME_MAX + 1];

    assert_int_equal(handover_receive(pair[1], name, &in, &out), -EAGAIN);
    shutdown(pair[0], SHUT_RDWR);
    assert_int_equal(handover_receive(pair[1], name, &in, &out), -ECONNRESET);
}

static void refuses_what_is_not_a_handover_and_keeps_nothing_open(void **state)
{
    static const struct {
        const char *bytes;
        size_t len, n_fds;
    } bad[] = {
        {"KVBR\2\0\0\0\2n1", 11, 0},        {"KVBR\2\0\0\0\2n1", 11, 1},  {"KVBR\2\0\0\0\2n1", 11, 3},
        {"KVBR\2\0\0\0\2n1", 11, 8},        {"KVBR\2\0\0\0\2n1", 11, 9},  {"KVBR\2\0\0\0\2n1", 11, 32},
        {"KVBR\2\0\0\0\2n1x", 12, 2},       {"KVBR\2\0\0\0\2n", 10, 2},   {"KVBR\1\0\0\0\2n1", 11, 2},
        {"KVBR\3\0\0\0\2n1", 11, 2},        {"KVBX\2\0\0\0\2n1", 11, 2},  {"KVBR\2\0\0\0\0", 9, 2},
        {"KVBR\2\377\377\377\377n", 10, 2}, {"KVBR\2\0\0\0\2a\0", 11, 2}, {"KVBR\2\0\0\0\2..", 11, 2},
        {"KVBR\2\0\0\0\2-a", 11, 2},        {"KVBR\2\0\0\0\2a/", 11, 2},  {"K", 1, 2},
        {"SSH-2.0-OpenSSH", 15, 2},
    };
    int *pair = *state, in = -1, out = -1;
    char name[SSH_PEER_NAME_MAX + 1], longest[200];
    unsigned before = open_descriptors();

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        send_raw(pair[0], bad[i].bytes, bad[i].len, bad[i].n_fds);
        assert_int_equal(handover_receive(pair[1], name, &in, &out), -EPROTO);
    }
    /* Right at its beginning, and longer than any handover. */
    memset(longest, 'a', sizeof longest);
    memcpy(longest, "KVBR\2\0\0\0\40", 9);
    send_raw(pair[0], longest, sizeof longest, 2);
    assert_int_equal(handover_receive(pair[1], name, &in, &out), -EPROTO);
    assert_int_equal(open_descriptors(), before);
    send_raw(pair[0], longest, HANDOVER_MAX, 2); /* the longest name */
    assert_int_equal(handover_receive(pair[1], name, &in, &out), 0);
    assert_int_equal(strlen(name), SSH_PEER_NAME_MAX);
    close(in);
    close(out);
}

/* Random bytes, and random changes of a good message, in memory of the exact size,
 * so that the sanitizers see every step beyond it. */
static void survives_random_messages(void **state)
{
    static const char good[] = "KVBR\2\0\0\0\32abcdefghijklmnopqrstuvwxyz";
    const size_t size = sizeof good - 1;
    unsigned seed = 1, n_good = 0;

    (void)state;
    for (int round = 0; round < 200000; round++) {
        size_t len = round % 4 == 1 ? size : (size_t)(rand_r(&seed) % (HANDOVER_MAX + 8));
        uint8_t *data = malloc(len > 0 ? len : 1);
        char name[SSH_PEER_NAME_MAX + 1] = "";
        int rv;

        for (size_t i = 0; i < len; i++)
            data[i] = round % 2 == 0 || i >= size ? (uint8_t)rand_r(&seed) : (uint8_t)good[i];
        for (int flips = rand_r(&seed) % 3; round % 2 == 1 && len > 0 && flips > 0; flips--)
            data[(size_t)rand_r(&seed) % len] = (uint8_t)rand_r(&seed);
        rv = handover_parse(data, len, name);
        assert_true(rv == -EPROTO || rv == 0);
        if (rv == 0) {
            assert_int_equal(strlen(name), len - 9);
            n_good++;
        }
        free(data);
    }
    assert_true(n_good > 1000);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(carries_a_name_and_two_descriptors),
        T(tells_nothing_yet_from_gone),
        T(refuses_what_is_not_a_handover_and_keeps_nothing_open),
        cmocka_unit_test(survives_random_messages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
