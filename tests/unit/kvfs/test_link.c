/* The link against a node made of a thread and a script: each test says what the
 * node does with each connection, and looks at what it was sent. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
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

#include "kvfs/fs.h"
#include "kvfs/publish.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

#define WRITES_MAX 32

/* What the node does with a write. */
enum act { ACT_DONE, ACT_HANG_UP, ACT_UNAVAILABLE, ACT_SESSION, ACT_SILENT, ACT_REFUSE, ACT_FULL };

struct fake_node {
    char path[108];
    int listener;
    pthread_t thread;
    enum act acts[WRITES_MAX]; /* for the first, second, … write; then ACT_DONE */
    uint64_t last_session;
    /* What it saw. */
    struct command writes[WRITES_MAX];
    unsigned n_writes, n_registered;
    atomic_uint n_connections;
    uint64_t subscribed_after;
    atomic_bool stop;
};

struct fixture {
    struct fake_node node;
    struct options options;
    struct fs fs;
    pthread_cond_t answered;
    int code;
    unsigned n_answers;
};

static struct fixture *fixture;

static void send_answer(int fd, uint64_t id, int code, const struct buffer *body)
{
    struct buffer b = BUFFER_INIT;
    size_t at = frame_begin(&b, MESSAGE_ANSWER, 0, id);

    buffer_put_u16(&b, (uint16_t)code);
    if (code != 0)
        buffer_put_text(&b, "");
    else if (body != NULL)
        buffer_put_bytes(&b, body->data, body->len);
    frame_end(&b, at);
    assert_int_equal(send(fd, b.data, b.len, MSG_NOSIGNAL), b.len);
    buffer_deinit(&b);
}

static void send_result(int fd, uint64_t id, const struct command_result *result)
{
    struct buffer body = BUFFER_INIT;

    command_result_encode(&body, result, MESSAGE_PROTOCOL);
    send_answer(fd, id, 0, &body);
    buffer_deinit(&body);
}

/* False: the connection ends here. */
static bool on_write(struct fake_node *n, int fd, const struct frame *frame)
{
    struct command_result result = {.revision = 100 + n->n_writes};
    struct command command;
    enum act act;

    assert_int_equal(command_decode(frame->payload + 9, frame->len - 9, &command), 0);
    if (command.op == COMMAND_REGISTER) {
        n->n_registered++;
        result.session = ++n->last_session;
        send_result(fd, frame->id, &result);
        return true;
    }
    assert_true(n->n_writes < WRITES_MAX);
    act = n->acts[n->n_writes];
    n->writes[n->n_writes++] = command;
    switch (act) {
    case ACT_HANG_UP:
        return false;
    case ACT_UNAVAILABLE:
        send_answer(fd, frame->id, KV_E_UNAVAILABLE, NULL);
        return true;
    case ACT_FULL:
        send_answer(fd, frame->id, KV_E_NOSPC, NULL);
        return true;
    case ACT_SESSION:
        send_answer(fd, frame->id, KV_E_SESSION, NULL);
        return true;
    case ACT_REFUSE:
        result.code = KV_E_EXIST;
        break;
    case ACT_SILENT:
        return true;
    default:
        break;
    }
    send_result(fd, frame->id, &result);
    return true;
}

static bool on_frame(struct fake_node *n, int fd, const struct frame *frame)
{
    struct buffer body = BUFFER_INIT;
    struct cursor c = cursor_of(frame->payload, frame->len);

    switch (frame->type) {
    case MESSAGE_HELLO:
        buffer_put_text(&body, "fake");
        buffer_put_u64(&body, 1);
        buffer_put_u64(&body, 50); /* applied */
        buffer_put_u32(&body, COMMAND_PART_SIZE);
        buffer_put_u64(&body, 1 << 20);
        buffer_put_u8(&body, 1);
        buffer_put_u16(&body, MESSAGE_PROTOCOL);
        break;
    case MESSAGE_SUBSCRIBE:
        n->subscribed_after = cursor_u64(&c);
        buffer_put_u64(&body, n->subscribed_after + 1);
        break;
    case MESSAGE_WRITE:
        return on_write(n, fd, frame);
    default:
        break;
    }
    send_answer(fd, frame->id, 0, &body);
    buffer_deinit(&body);
    return true;
}

static void serve(struct fake_node *n, int fd)
{
    struct buffer in = BUFFER_INIT;
    bool open = true;

    while (open && !n->stop) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        struct frame frame;
        ssize_t got;
        long used;

        if (poll(&p, 1, 20) <= 0)
            continue;
        assert_true(buffer_reserve(&in, 65536));
        got = recv(fd, in.data + in.len, 65536, 0);
        if (got <= 0)
            break;
        in.len += (size_t)got;
        while (open && (used = frame_parse(in.data, in.len, &frame)) > 0) {
            pthread_mutex_lock(&fixture->fs.lock);
            open = on_frame(n, fd, &frame);
            pthread_mutex_unlock(&fixture->fs.lock);
            buffer_consume(&in, (size_t)used);
        }
    }
    buffer_deinit(&in);
    close(fd);
}

static void *run_node(void *arg)
{
    struct fake_node *n = arg;

    while (!n->stop) {
        struct pollfd p = {.fd = n->listener, .events = POLLIN};

        if (poll(&p, 1, 20) > 0) {
            int fd = accept(n->listener, NULL, NULL);

            n->n_connections++;
            serve(n, fd);
        }
    }
    return NULL;
}

static int setup_nodes(void **state, unsigned n)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char error[256];

    fixture = f;
    log_open("test", LOG_LEVEL_ERROR);
    snprintf(f->node.path, sizeof f->node.path, "/tmp/kvfs-link-%d.sock", (int)getpid());
    memcpy(addr.sun_path, f->node.path, sizeof addr.sun_path);
    unlink(f->node.path);
    f->node.listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(f->node.listener, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(f->node.listener, 8), 0);
    for (unsigned i = 0; i < n; i++)
        f->options.nodes[i] = f->node.path;
    f->options.n_nodes = n;
    f->options.timeout_ms = 1000;
    f->options.commit_ms = 1000;
    pthread_cond_init(&f->answered, NULL);
    assert_int_equal(fs_init(&f->fs, &f->options), 0);
    assert_int_equal(pthread_create(&f->node.thread, NULL, run_node, &f->node), 0);
    assert_int_equal(link_open(&f->fs, error, sizeof error), 0);
    assert_int_equal(link_start(&f->fs), 0);
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return setup_nodes(state, 1);
}

/* One that is met under two names. */
static int setup_two(void **state)
{
    return setup_nodes(state, 2);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    link_stop(&f->fs);
    f->node.stop = true;
    pthread_join(f->node.thread, NULL);
    notifier_stop(&f->fs);
    fs_deinit(&f->fs);
    close(f->node.listener);
    unlink(f->node.path);
    pthread_cond_destroy(&f->answered);
    free(f);
    return 0;
}

static void on_answer(struct fs *fs, struct request *r, int code, struct cursor *body)
{
    fixture->code = code;
    fixture->n_answers++;
    request_end(fs, r);
    pthread_cond_broadcast(&fixture->answered);
}

static void set_timeout(struct fixture *f, unsigned ms)
{
    pthread_mutex_lock(&f->fs.lock);
    f->options.timeout_ms = ms;
    pthread_mutex_unlock(&f->fs.lock);
}

static void start_write(struct fixture *f)
{
    struct command_body body = {.parent = 1, .name = (const uint8_t *)"x", .name_len = 1};
    struct request *r;

    pthread_mutex_lock(&f->fs.lock);
    r = request_begin(&f->fs, NULL);
    assert_non_null(r);
    link_write(&f->fs, r, COMMAND_UNLINK, &body, on_answer);
    pthread_mutex_unlock(&f->fs.lock);
}

/* Waits for n answers in all; the last one's code. */
static int wait_answers(struct fixture *f, unsigned n)
{
    int code;

    pthread_mutex_lock(&f->fs.lock);
    while (f->n_answers < n)
        pthread_cond_wait(&f->answered, &f->fs.lock);
    code = f->code;
    pthread_mutex_unlock(&f->fs.lock);
    return code;
}

static void a_write_is_numbered_and_acknowledged(void **state)
{
    struct fixture *f = *state;

    start_write(f);
    assert_int_equal(wait_answers(f, 1), 0);
    start_write(f);
    assert_int_equal(wait_answers(f, 2), 0);
    assert_int_equal(f->node.writes[0].session, 1);
    assert_int_equal(f->node.writes[0].seq, 1);
    assert_int_equal(f->node.writes[1].seq, 2);
    assert_int_equal(f->node.writes[1].acked_below, 2);
    assert_int_equal(f->node.subscribed_after, 50);
}

static void a_lost_connection_repeats_it_under_its_number(void **state)
{
    struct fixture *f = *state;

    f->node.acts[0] = ACT_HANG_UP;
    start_write(f);
    assert_int_equal(wait_answers(f, 1), 0);
    assert_int_equal(f->node.n_connections, 2);
    assert_int_equal(f->node.n_registered, 1);
    assert_int_equal(f->node.n_writes, 2);
    assert_int_equal(f->node.writes[1].session, f->node.writes[0].session);
    assert_int_equal(f->node.writes[1].seq, f->node.writes[0].seq);
}

static void an_outcome_is_final_and_a_refusal_to_try_is_not(void **state)
{
    struct fixture *f = *state;

    f->node.acts[0] = ACT_UNAVAILABLE;
    f->node.acts[1] = ACT_UNAVAILABLE;
    f->node.acts[2] = ACT_REFUSE;
    start_write(f);
    assert_int_equal(wait_answers(f, 1), KV_E_EXIST);
    assert_int_equal(f->node.n_writes, 3);
    assert_int_equal(f->node.writes[2].seq, 1);
}

static void nobody_leading_ends_with_the_deadline(void **state)
{
    struct fixture *f = *state;
    unsigned i;

    set_timeout(f, 300);
    for (i = 0; i < WRITES_MAX; i++)
        f->node.acts[i] = ACT_UNAVAILABLE;
    start_write(f);
    assert_int_equal(wait_answers(f, 1), KV_E_UNAVAILABLE);
}

static void silence_after_a_write_is_an_unknown_outcome(void **state)
{
    struct fixture *f = *state;

    set_timeout(f, 300);
    f->node.acts[0] = ACT_SILENT;
    start_write(f);
    assert_int_equal(wait_answers(f, 1), KV_E_UNKNOWN);
    /* What was given up is not waited for: the cluster may refuse it from now on. */
    start_write(f);
    assert_int_equal(wait_answers(f, 2), 0);
    assert_int_equal(f->node.writes[1].acked_below, 2);
}

static void a_lost_session_is_replaced_and_the_refused_write_repeated(void **state)
{
    struct fixture *f = *state;

    f->node.acts[0] = ACT_SESSION;
    start_write(f);
    assert_int_equal(wait_answers(f, 1), 0);
    assert_int_equal(f->node.n_registered, 2);
    assert_int_equal(f->node.writes[1].session, 2);
    assert_int_equal(f->node.writes[1].seq, 1);
}

static void what_a_lost_session_may_have_done_is_not_repeated(void **state)
{
    struct fixture *f = *state;

    f->node.acts[0] = ACT_SILENT;  /* sent, and who knows */
    f->node.acts[1] = ACT_SESSION; /* the one that brings it to light */
    start_write(f);
    start_write(f);
    wait_answers(f, 2);
    /* The first came back as unknown, the second was done in the new session. */
    assert_int_equal(f->node.n_writes, 3);
    assert_int_equal(f->node.writes[2].session, 2);
    assert_int_equal(f->node.writes[2].seq, 1);
}

static void a_full_disk_everywhere_is_an_answer(void **state)
{
    struct fixture *f = *state;

    f->node.acts[0] = f->node.acts[1] = ACT_FULL;
    start_write(f);
    assert_int_equal(wait_answers(f, 1), KV_E_NOSPC);
    assert_int_equal(f->node.n_writes, 2);
}

static void a_full_disk_sends_the_write_to_the_next_node(void **state)
{
    struct fixture *f = *state;

    f->node.acts[0] = ACT_FULL;
    start_write(f);
    assert_int_equal(wait_answers(f, 1), 0);
    assert_int_equal(f->node.n_connections, 2);
    assert_int_equal(f->node.writes[1].seq, f->node.writes[0].seq);
}

/* The first time it was sent it may have been done. */
static void a_full_disk_tells_nothing_of_a_write_whose_answer_was_lost(void **state)
{
    struct fixture *f = *state;

    f->node.acts[0] = ACT_HANG_UP;
    f->node.acts[1] = f->node.acts[2] = ACT_FULL;
    start_write(f);
    assert_int_equal(wait_answers(f, 1), 0);
    assert_int_equal(f->node.n_writes, 4);
    assert_int_equal(f->node.writes[3].seq, f->node.writes[0].seq);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_write_is_numbered_and_acknowledged, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_connection_repeats_it_under_its_number, setup, teardown),
        cmocka_unit_test_setup_teardown(an_outcome_is_final_and_a_refusal_to_try_is_not, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_leading_ends_with_the_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(silence_after_a_write_is_an_unknown_outcome, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_session_is_replaced_and_the_refused_write_repeated, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_a_lost_session_may_have_done_is_not_repeated, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_everywhere_is_an_answer, setup_two, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_sends_the_write_to_the_next_node, setup_two, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_tells_nothing_of_a_write_whose_answer_was_lost, setup,
                                        teardown),
    };

    return cmocka_run_group_tests_name("link", tests, NULL, NULL);
}
