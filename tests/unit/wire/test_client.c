/* The client's connection against a server that the test plays itself. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "sync/base/error.h"
#include "sync/wire/client.h"

enum play { PLAY_HELLO, PLAY_GARBAGE, PLAY_SILENT, PLAY_CLOSE, PLAY_SLOWLY };

struct fixture {
    char dir[64], path[96];
    int listen_fd;
    enum play play;
    pthread_t thread;
};

static void put_hello_answer(struct buffer *b)
{
    size_t at = frame_begin(b, MESSAGE_ANSWER, 0, 0);

    buffer_put_u16(b, KV_OK);
    body_encode_answer(b, MESSAGE_HELLO,
                       &(union answer_body){.hello = {.name = "n1",
                                                      .cluster_id = 42,
                                                      .applied = 7,
                                                      .part_size = COMMAND_PART_SIZE,
                                                      .value_limit = 64 << 20,
                                                      .trusted = 1,
                                                      .protocol = MESSAGE_PROTOCOL}},
                       MESSAGE_PROTOCOL);
    frame_end(b, at);
}

/* Answers one connection, then waits for its end. */
static void *serve(void *arg)
{
    struct fixture *f = arg;
    int fd = accept(f->listen_fd, NULL, NULL);
    struct buffer b = BUFFER_INIT;
    char sink[4096];
    size_t i;

    if (fd < 0)
        return NULL;
    if (recv(fd, sink, sizeof sink, 0) > 0 && f->play != PLAY_SILENT && f->play != PLAY_CLOSE) {
        put_hello_answer(&b);
        if (f->play == PLAY_GARBAGE)
            memset(b.data, 0xff, b.len);
        for (i = 0; i < b.len; i += f->play == PLAY_SLOWLY ? 1 : b.len)
            if (send(fd, b.data + i, f->play == PLAY_SLOWLY ? 1 : b.len, MSG_NOSIGNAL) < 0)
                break;
    }
    if (f->play != PLAY_CLOSE)
        while (recv(fd, sink, sizeof sink, 0) > 0)
            ;
    close(fd);
    buffer_deinit(&b);
    return NULL;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    snprintf(f->dir, sizeof f->dir, "/tmp/kvfs-client-XXXXXX");
    if (mkdtemp(f->dir) == NULL)
        return -1;
    snprintf(f->path, sizeof f->path, "%s/n1.sock", f->dir);
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", f->path);
    f->listen_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(f->listen_fd, (struct sockaddr *)&addr, sizeof addr) != 0 || listen(f->listen_fd, 1) != 0)
        return -1;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    close(f->listen_fd);
    unlink(f->path);
    rmdir(f->dir);
    free(f);
    return 0;
}

static int connect_to(struct fixture *f, enum play play, struct client **c, struct client_node *node)
{
    int rv;

    f->play = play;
    pthread_create(&f->thread, NULL, serve, f);
    rv = client_open(f->path, CLIENT_ADMIN, "test", 0, play == PLAY_SILENT ? 50 : 5000, c, node);
    if (rv != 0)
        pthread_join(f->thread, NULL);
    return rv;
}

static void learns_what_the_node_says(void **state)
{
    struct fixture *f = *state;
    struct client_node node;
    struct client *c;

    assert_int_equal(connect_to(f, PLAY_HELLO, &c, &node), 0);
    assert_string_equal(node.name, "n1");
    assert_int_equal(node.cluster_id, 42);
    assert_int_equal(node.applied, 7);
    assert_true(node.trusted);
    client_close(c);
    pthread_join(f->thread, NULL);
}

static void takes_an_answer_byte_by_byte(void **state)
{
    struct fixture *f = *state;
    struct client_node node;
    struct client *c;

    assert_int_equal(connect_to(f, PLAY_SLOWLY, &c, &node), 0);
    assert_string_equal(node.name, "n1");
    client_close(c);
    pthread_join(f->thread, NULL);
}

static void gives_up_on_garbage_silence_and_a_closed_connection(void **state)
{
    struct fixture *f = *state;
    struct client *c;

    assert_int_equal(connect_to(f, PLAY_GARBAGE, &c, NULL), -EPROTO);
    assert_int_equal(connect_to(f, PLAY_SILENT, &c, NULL), -ETIMEDOUT);
    assert_int_equal(connect_to(f, PLAY_CLOSE, &c, NULL), -ECONNRESET);
}

static void says_when_nobody_listens(void **state)
{
    struct client *c;

    assert_int_equal(client_open("/nonexistent/x.sock", CLIENT_ADMIN, "t", 0, 100, &c, NULL), -ENOENT);
    assert_null(c);
}

static void finds_sockets_by_name(void **state)
{
    char path[108];

    setenv("KVNODE_SOCKET_DIR", "/some/dir", 1);
    assert_int_equal(client_socket_path("n1", path, sizeof path), 0);
    assert_string_equal(path, "/some/dir/n1.sock");
    assert_int_equal(client_socket_path("./x.sock", path, sizeof path), 0);
    assert_string_equal(path, "./x.sock");
    assert_int_equal(client_socket_path("n1", path, 10), -ENAMETOOLONG);
    unsetenv("KVNODE_SOCKET_DIR");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(learns_what_the_node_says, setup, teardown),
        cmocka_unit_test_setup_teardown(takes_an_answer_byte_by_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(gives_up_on_garbage_silence_and_a_closed_connection, setup, teardown),
        cmocka_unit_test(says_when_nobody_listens),
        cmocka_unit_test(finds_sockets_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
