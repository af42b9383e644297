/* The bridge with a socket of the test in sshd's place. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sync/base/buffer.h"
#include "sync/ssh/bridge.h"
#include "sync/ssh/process.h"
#include "tests/unit/ssh/fixture.h"

struct bridge {
    struct test_node node;
    char socket[108], program[PATH_MAX];
    int fd; /* the other end of standard input and output */
    int err;
    pid_t pid;
};

static void start(struct bridge *b, const char *peer, const char *path)
{
    int io[2], err[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, io), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    b->pid = fork();
    if (b->pid == 0) {
        dup2(io[1], 0);
        dup2(io[1], 1);
        dup2(err[1], 2);
        execl(b->program, b->program, "bridge", "--peer", peer, "--socket", path, (char *)NULL);
        _exit(99);
    }
    close(io[1]);
    close(err[1]);
    b->fd = io[0];
    b->err = err[0];
}

static int finish(struct bridge *b)
{
    int status = -1;

    assert_int_equal(process_wait(b->pid, WAIT_MS, &status), 0);
    assert_true(WIFEXITED(status));
    if (b->fd >= 0)
        close(b->fd);
    close(b->err);
    return WEXITSTATUS(status);
}

static int setup(void **state)
{
    struct bridge *b = calloc(1, sizeof *b);
    const char *given = getenv("SSH_TEST_BRIDGE");
    char dir[] = "/tmp/kvfs-bridge-XXXXXX";
    ssize_t n;

    if (given != NULL) {
        snprintf(b->program, sizeof b->program, "%s", given);
    } else {
        n = readlink("/proc/self/exe", b->program, sizeof b->program - 20);
        b->program[n] = '\0';
        strcpy(strrchr(b->program, '/'), "/ssh_test_bridge");
    }
    assert_non_null(mkdtemp(dir));
    snprintf(b->socket, sizeof b->socket, "%s/peer.sock", dir);
    node_start(&b->node, b->socket);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bridge *b = *state;

    node_stop(&b->node);
    unlink(b->socket);
    *strrchr(b->socket, '/') = '\0';
    rmdir(b->socket);
    free(b);
    return 0;
}

static void gives_both_ways_to_the_node_and_names_the_peer(void **state)
{
    struct bridge *b = *state;
    char reply[5];

    start(b, "n7", b->socket);
    write_all(b->fd, "hello", 5);
    read_exactly(b->fd, reply, 5);
    assert_memory_equal(reply, "hello", 5);
    node_expect_accepted(&b->node, 1);
    assert_string_equal(b->node.peer, "n7");
    close(b->fd);
    b->fd = -1;
    assert_int_equal(finish(b), BRIDGE_EXIT_OK);
    node_expect_ended(&b->node, 1);
}

static void passes_a_half_close_on_and_the_rest_back(void **state)
{
    struct bridge *b = *state;
    static char out[1000000];

    start(b, "n1", b->socket);
    /* More than all buffers: the reading back has to go on meanwhile. */
    for (size_t sent = 0, got = 0; got < sizeof out;) {
        struct pollfd p = {.fd = b->fd, .events = POLLIN};
        char in[65536];
        ssize_t n;

        p.events |= sent < sizeof out ? POLLOUT : 0;
        assert_true(poll(&p, 1, WAIT_MS) > 0);
        if (p.revents & POLLOUT && (n = send(b->fd, out + sent, sizeof out - sent, MSG_DONTWAIT)) > 0) {
            sent += (size_t)n;
            if (sent == sizeof out)
                shutdown(b->fd, SHUT_WR);
        }
        if (p.revents & POLLIN) {
            n = recv(b->fd, in, sizeof in, MSG_DONTWAIT);
            assert_true(n > 0);
            got += (size_t)n;
        }
    }
    assert_int_equal(read_to_end(b->fd), 0);
    assert_int_equal(finish(b), BRIDGE_EXIT_OK);
}

static void delivers_what_was_written_before_the_closing(void **state)
{
    struct bridge *b = *state;
    static char out[100000];

    start(b, "n1", b->socket);
    write_all(b->fd, out, sizeof out);
    close(b->fd);
    b->fd = -1;
    assert_int_equal(finish(b), BRIDGE_EXIT_OK);
    node_expect_ended(&b->node, 1);
}

static void ends_when_the_node_closes(void **state)
{
    struct bridge *b = *state;

    start(b, "n1", b->socket);
    node_expect_accepted(&b->node, 1);
    node_drop(&b->node);
    assert_int_equal(read_to_end(b->fd), 0);
    assert_int_equal(finish(b), BRIDGE_EXIT_OK);
}

static void tells_in_one_line_that_no_node_answers(void **state)
{
    struct bridge *b = *state;
    char text[512];
    ssize_t n;

    start(b, "n1", "/tmp/kvfs-no-such-directory/peer.sock");
    n = read(b->err, text, sizeof text - 1);
    assert_true(n > 0);
    text[n] = '\0';
    assert_non_null(strstr(text, "the node does not answer at /tmp/kvfs-no-such-directory/peer.sock"));
    assert_ptr_equal(strchr(text, '\n'), text + n - 1);
    assert_int_equal(finish(b), BRIDGE_EXIT_NO_NODE);
}

static void refuses_bad_names_and_paths(void **state)
{
    struct bridge *b = *state;

    start(b, "n 1", b->socket);
    assert_int_equal(finish(b), BRIDGE_EXIT_USAGE);
    start(b, "n1", "peer.sock");
    assert_int_equal(finish(b), BRIDGE_EXIT_USAGE);
}

static void refuses_standard_input_that_is_not_sshds(void **state)
{
    struct bridge *b = *state;
    const char *const argv[] = {b->program, "bridge", "--peer", "n1", "--socket", b->socket, NULL};
    struct buffer output = BUFFER_INIT;
    int status;

    assert_int_equal(process_run(argv, WAIT_MS, &output, &status), 0); /* /dev/null */
    assert_int_equal(WEXITSTATUS(status), BRIDGE_EXIT_USAGE);
    buffer_put_u8(&output, 0);
    assert_non_null(strstr((char *)output.data, "run by sshd, not by hand"));
    buffer_deinit(&output);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(gives_both_ways_to_the_node_and_names_the_peer), T(passes_a_half_close_on_and_the_rest_back),
        T(delivers_what_was_written_before_the_closing),   T(ends_when_the_node_closes),
        T(tells_in_one_line_that_no_node_answers),         T(refuses_bad_names_and_paths),
        T(refuses_standard_input_that_is_not_sshds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
