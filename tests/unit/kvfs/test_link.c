/* The link against a node made of a thread and a script: each test says what the
 * node does with each connection, and looks at what it was sent. */
#include <errno.h>
#include <fcntl.h>
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

#define WRITES_MAX 64
#define FILE_INO 77

/* What the node does with a write. */
enum act {
    ACT_DONE,
    ACT_HANG_UP,
    ACT_UNAVAILABLE,
    ACT_SESSION,
    ACT_SILENT,
    ACT_REFUSE,
    ACT_FULL,
    ACT_NO_ROOM, /* the cluster, not this node's disk */
    ACT_TOO_LARGE,
    ACT_OTHER_VERSION,
    ACT_BUSY,
    ACT_WAIT, /* answered when the test says so */
};

struct fake_node {
    char path[108];
    int listener;
    pthread_t thread;
    enum act acts[WRITES_MAX]; /* for the first, second, … write; then ACT_DONE */
    uint64_t last_session;
    /* What it saw. */
    struct command writes[WRITES_MAX];
    struct command_body bodies[WRITES_MAX]; /* of publications; what they borrow is gone */
    unsigned n_writes, n_registered;
    uint64_t waiting; /* id of the write that waits for its answer */
    int waiting_fd;
    /* An event that a new connection finds it has missed: of this write's publication. */
    int missed;    /* its place in writes, or -1 */
    uint64_t room; /* that it has to give */
    uint64_t size; /* of the file, in the answers to publications */
    unsigned n_reserves;
    /* Of the file, in order: O opened, W published, C closed, H it hung up. */
    char trace[64];
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

static void trace(struct fake_node *n, char what)
{
    size_t len = strlen(n->trace);

    assert_true(len + 1 < sizeof n->trace);
    n->trace[len] = what;
}

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
    command.uid = (uint32_t)frame->payload[1] << 24 | (uint32_t)frame->payload[2] << 16 |
                  (uint32_t)frame->payload[3] << 8 | frame->payload[4]; /* in whose name */
    n->writes[n->n_writes++] = command;
    if (command.op == COMMAND_PUBLISH && n->size > 0)
        result.attr = (struct attr){.ino = FILE_INO,
                                    .type = INODE_FILE,
                                    .size = n->size,
                                    .content_revision = result.revision,
                                    .revision = result.revision};
    if (command.op == COMMAND_PUBLISH && (command.flags & COMMAND_PARTS) == 0)
        assert_int_equal(
            command_body_decode(command.op, command.body, command.body_len, &n->bodies[n->n_writes - 1]), 0);
    if (command.op == COMMAND_PUBLISH)
        trace(n, 'W');
    switch (act) {
    case ACT_HANG_UP:
        trace(n, 'H');
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
    case ACT_NO_ROOM:
        result.code = KV_E_NOSPC;
        break;
    case ACT_TOO_LARGE:
        result.code = KV_E_FBIG;
        break;
    case ACT_OTHER_VERSION:
        result.code = KV_E_VERSION;
        break;
    case ACT_BUSY:
        send_answer(fd, frame->id, KV_E_BUSY, NULL);
        return true;
    case ACT_WAIT:
        n->waiting = frame->id;
        n->waiting_fd = fd;
        return true;
    case ACT_SILENT:
        return true;
    default:
        break;
    }
    send_result(fd, frame->id, &result);
    return true;
}

static void send_event(int fd, const struct command *done, uint64_t ino, uint64_t revision)
{
    struct event e = {
        .revision = revision,
        .session = done->session,
        .seq = done->seq,
        .kind = EVENT_CONTENT,
        .op = COMMAND_PUBLISH,
        .last = 1,
        .ino = ino,
        .attr = {.ino = ino, .type = INODE_FILE, .content_revision = revision, .revision = revision}};
    struct buffer b = BUFFER_INIT;
    size_t at = frame_begin(&b, MESSAGE_EVENT, 0, 2);

    event_encode(&b, &e, MESSAGE_PROTOCOL);
    frame_end(&b, at);
    assert_int_equal(send(fd, b.data, b.len, MSG_NOSIGNAL), b.len);
    buffer_deinit(&b);
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
        if (n->missed >= 0) {
            send_answer(fd, frame->id, 0, &body);
            send_event(fd, &n->writes[n->missed], FILE_INO, 120);
            n->missed = -1;
            buffer_deinit(&body);
            return true;
        }
        break;
    case MESSAGE_WRITE:
        return on_write(n, fd, frame);
    case MESSAGE_OPEN:
        trace(n, 'O');
        break;
    case MESSAGE_CLOSE:
        trace(n, 'C');
        break;
    case MESSAGE_RESERVE: {
        uint64_t held = cursor_u64(&c), least = cursor_u64(&c), wanted = cursor_u64(&c);

        n->n_reserves++;
        buffer_put_u64(&body, wanted <= n->room ? wanted : least <= n->room ? n->room : held);
        break;
    }
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

static int setup_nodes(void **state, unsigned n, bool read_local)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char error[256];

    fixture = f;
    f->node.missed = -1;
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
    f->options.read_local = read_local;
    f->options.timeout_ms = 1000;
    f->options.commit_ms = 1000;
    pthread_cond_init(&f->answered, NULL);
    assert_int_equal(fs_init(&f->fs, &f->options), 0);
    assert_int_equal(pthread_create(&f->node.thread, NULL, run_node, &f->node), 0);
    assert_int_equal(link_open(&f->fs, NULL, error, sizeof error), 0);
    assert_int_equal(link_start(&f->fs), 0);
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return setup_nodes(state, 1, false);
}

static int setup_local(void **state)
{
    return setup_nodes(state, 1, true);
}

/* One that is met under two names. */
static int setup_two(void **state)
{
    return setup_nodes(state, 2, false);
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

static void with_read_local_the_session_begins_with_the_first_write(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(f->node.n_connections, 1);
    assert_int_equal(f->node.n_registered, 0);
    start_write(f);
    start_write(f);
    assert_int_equal(wait_answers(f, 2), 0);
    assert_int_equal(f->node.n_registered, 1);
    assert_int_equal(f->node.n_writes, 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(f->node.writes[i].session, 1);
        assert_int_equal(f->node.writes[i].seq, 1 + i);
    }
    assert_int_equal(f->node.n_connections, 1);
}

/* The session is lost with the connection on which it is found out. */
static void with_read_local_another_session_begins_with_the_next_write(void **state)
{
    struct fixture *f = *state;

    start_write(f);
    assert_int_equal(wait_answers(f, 1), 0);
    f->node.acts[1] = ACT_SESSION;
    start_write(f);
    assert_int_equal(wait_answers(f, 2), 0);
    assert_int_equal(f->node.n_registered, 2);
    assert_int_equal(f->node.n_writes, 3);
    assert_int_equal(f->node.writes[2].session, 2);
    assert_int_equal(f->node.writes[2].seq, 1);
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

/* Publications */

static struct file *the_file(struct fixture *f, uint64_t ino)
{
    struct inode *inode = inode_get(&f->fs, ino);
    struct file *file;

    assert_non_null(inode);
    inode->nlookup = 1;
    file = file_get(&f->fs, inode);
    assert_non_null(file);
    file->attr = (struct attr){.ino = ino, .type = INODE_FILE, .content_revision = 40, .revision = 40};
    return file;
}

static void stage_text(struct fixture *f, struct file *file, const char *text)
{
    assert_int_equal(stage_append(&file->stage, text, strlen(text)), 0);
    file_touched(&f->fs, file, NULL, 0);
}

static void wait_for_file(struct fixture *f, uint64_t ino)
{
    struct request *r = request_begin(&f->fs, NULL);

    assert_non_null(r);
    r->ino = ino;
    publish_wait(&f->fs, inode_find(&f->fs, ino), r, on_answer);
}

/* Writes to the file and waits, as close(2) would. */
static void start_publication(struct fixture *f, const char *text)
{
    pthread_mutex_lock(&f->fs.lock);
    stage_text(f, the_file(f, FILE_INO), text);
    wait_for_file(f, FILE_INO);
    pthread_mutex_unlock(&f->fs.lock);
}

/* Waits until the node has seen n writes. */
static void wait_writes(struct fixture *f, unsigned n)
{
    unsigned i, seen = 0;

    for (i = 0; i < 1000 && seen < n; i++) {
        pthread_mutex_lock(&f->fs.lock);
        seen = f->node.n_writes;
        pthread_mutex_unlock(&f->fs.lock);
        if (seen < n)
            usleep(10000);
    }
    assert_true(seen >= n);
}

static int open_error(struct fixture *f)
{
    struct inode *inode;
    int err;

    pthread_mutex_lock(&f->fs.lock);
    inode = inode_find(&f->fs, FILE_INO);
    err = file_take_lost(&f->fs, inode->file);
    file_put(&f->fs, inode);
    pthread_mutex_unlock(&f->fs.lock);
    return err;
}

static bool is_dirty(struct fixture *f)
{
    bool dirty;

    pthread_mutex_lock(&f->fs.lock);
    dirty = file_is_dirty(inode_find(&f->fs, FILE_INO)->file);
    pthread_mutex_unlock(&f->fs.lock);
    return dirty;
}

/* The first answer is lost, and the session with it. */
static void lose_first_publication(struct fixture *f)
{
    f->node.acts[0] = ACT_SILENT;
    f->node.acts[1] = ACT_SESSION;
    start_publication(f, "ours");
    wait_writes(f, 1);
    start_write(f);
}

static const struct command_body *last_body(const struct fixture *f)
{
    return &f->node.bodies[f->node.n_writes - 1];
}

static void after_a_lost_session_a_publication_is_repeated_on_its_base_only(void **state)
{
    struct fixture *f = *state;

    lose_first_publication(f);
    wait_answers(f, 2);
    assert_int_equal(f->node.n_registered, 2);
    assert_int_equal(f->node.bodies[0].flags, 0);
    assert_int_equal(f->node.writes[2].session, 2);
    assert_int_equal(f->node.writes[2].op, COMMAND_PUBLISH);
    assert_int_equal(f->node.bodies[2].flags, PUBLISH_IF_REVISION);
    assert_int_equal(f->node.bodies[2].version, 40);
    assert_false(is_dirty(f));
}

static void and_fails_if_the_file_has_changed_since(void **state)
{
    struct fixture *f = *state;

    f->node.acts[2] = ACT_OTHER_VERSION;
    lose_first_publication(f);
    f->code = -1;
    pthread_mutex_lock(&f->fs.lock);
    while (f->n_answers < 2) {
        if (f->code > 0)
            assert_int_equal(request_errno(f->code), EIO);
        pthread_cond_wait(&f->answered, &f->fs.lock);
    }
    pthread_mutex_unlock(&f->fs.lock);
    /* It is not tried again in another way, and who closed the file has been told. */
    assert_false(is_dirty(f));
    assert_int_equal(f->node.n_writes, 4);
    assert_int_equal(open_error(f), 0);
}

static void unless_its_own_event_says_that_it_was_done(void **state)
{
    struct fixture *f = *state;

    f->node.missed = 0;
    f->node.acts[2] = ACT_SILENT;
    lose_first_publication(f);
    wait_answers(f, 2);
    assert_int_equal(f->code, 0);
    assert_false(is_dirty(f));
    assert_int_equal(f->node.bodies[2].flags, PUBLISH_IF_REVISION);
}

static void nobody_who_waits_is_told_success_of_what_was_lost(void **state)
{
    struct fixture *f = *state;

    /* The first publication fails for good; what is written meanwhile is tried on its own,
     * and fails with it: it has the first in it. */
    f->node.acts[0] = ACT_WAIT;
    f->node.acts[1] = ACT_TOO_LARGE;
    start_publication(f, "first");
    wait_writes(f, 1);
    start_publication(f, "later");
    pthread_mutex_lock(&f->fs.lock);
    {
        struct command_result result = {.code = KV_E_FBIG, .revision = 100};

        send_result(f->node.waiting_fd, f->node.waiting, &result);
    }
    pthread_mutex_unlock(&f->fs.lock);
    assert_int_equal(wait_answers(f, 1), KV_E_FBIG);
    assert_int_equal(wait_answers(f, 2), KV_E_FBIG);
    assert_int_equal(f->node.n_writes, 2);
    assert_false(is_dirty(f));
}

static void what_fails_for_now_stays_and_is_tried_again(void **state)
{
    struct fixture *f = *state;
    unsigned i;

    f->node.acts[0] = f->node.acts[1] = ACT_NO_ROOM;
    start_publication(f, "patience");
    assert_int_equal(wait_answers(f, 1), KV_E_NOSPC);
    assert_true(is_dirty(f));
    wait_writes(f, 3);
    for (i = 0; i < 500 && is_dirty(f); i++)
        usleep(10000);
    assert_false(is_dirty(f));
    /* Who closed it was told that it failed: it does not replace what others wrote since. */
    assert_int_equal(last_body(f)->flags, PUBLISH_IF_REVISION);
    assert_int_equal(last_body(f)->version, 40);
}

static void a_loss_that_nobody_was_told_of_is_told_to_the_next_one(void **state)
{
    struct fixture *f = *state;
    unsigned i;

    f->node.acts[0] = ACT_TOO_LARGE;
    pthread_mutex_lock(&f->fs.lock);
    stage_text(f, the_file(f, FILE_INO), "nobody waits");
    publish_start(&f->fs, inode_find(&f->fs, FILE_INO)->file);
    pthread_mutex_unlock(&f->fs.lock);
    for (i = 0; i < 500 && is_dirty(f); i++)
        usleep(10000);
    assert_int_equal(open_error(f), EFBIG);
    assert_int_equal(open_error(f), 0);
    assert_int_equal(f->fs.n_lost, 0);
}

static void start_large(struct fixture *f, uint64_t ino, unsigned n_blocks)
{
    static char block[COMMAND_PART_SIZE];
    struct file *file;
    unsigned i;

    pthread_mutex_lock(&f->fs.lock);
    file = the_file(f, ino);
    for (i = 0; i < n_blocks; i++)
        assert_int_equal(stage_append(&file->stage, block, sizeof block), 0);
    file_touched(&f->fs, file, NULL, 0);
    wait_for_file(f, ino);
    pthread_mutex_unlock(&f->fs.lock);
}

/* The node keeps what is unfinished in memory, within bounds. */
static void large_files_are_published_one_after_the_other(void **state)
{
    struct fixture *f = *state;
    unsigned i, changes = 0;

    /* More parts each than are under way at once. */
    start_large(f, FILE_INO, 12);
    start_large(f, FILE_INO + 1, 12);
    start_large(f, FILE_INO + 2, 12);
    wait_answers(f, 3);
    assert_int_equal(f->code, 0);
    assert_int_equal(f->node.n_writes, 3 * 13);
    for (i = 1; i < f->node.n_writes; i++)
        changes += f->node.writes[i].seq != f->node.writes[i - 1].seq;
    assert_int_equal(changes, 2);
}

static void users_take_turns_with_large_files(void **state)
{
    struct fixture *f = *state;
    uint64_t order[4];
    unsigned i, n = 0;

    pthread_mutex_lock(&f->fs.lock);
    for (i = 0; i < 4; i++)
        the_file(f, FILE_INO + i)->uid = i == 3 ? 2 : 1;
    pthread_mutex_unlock(&f->fs.lock);
    f->node.acts[12] = ACT_WAIT; /* the end of the first one, until all have come */
    for (i = 0; i < 4; i++)
        start_large(f, FILE_INO + i, 12);
    wait_writes(f, 13);
    pthread_mutex_lock(&f->fs.lock);
    send_result(f->node.waiting_fd, f->node.waiting, &(struct command_result){.revision = 100});
    pthread_mutex_unlock(&f->fs.lock);
    wait_answers(f, 4);
    for (i = 0; i < f->node.n_writes; i++)
        if (f->node.writes[i].op == COMMAND_PUBLISH)
            order[n++] = f->node.writes[i].uid;
    assert_int_equal(n, 4);
    assert_int_equal(order[0], 1);
    assert_int_equal(order[1], 2);
    assert_int_equal(order[2], 1);
}

/* What has been taken is not sent again. */
static void a_part_that_is_too_much_now_is_sent_later(void **state)
{
    struct fixture *f = *state;

    f->node.acts[1] = ACT_BUSY; /* the second part; those behind it are out already */
    f->node.acts[2] = f->node.acts[3] = ACT_SILENT;
    start_large(f, FILE_INO, 3);
    assert_int_equal(wait_answers(f, 1), 0);
    assert_int_equal(f->node.n_writes, 4 + 3);
    assert_int_equal(f->node.writes[6].seq, f->node.writes[0].seq);
    assert_int_equal(f->node.writes[6].op, COMMAND_PUBLISH);
}

/* Nodes take a publication of those only who have the file open. */

static void open_and_write(struct fixture *f, bool close)
{
    struct file *file;
    struct handle *h;

    pthread_mutex_lock(&f->fs.lock);
    file = the_file(f, FILE_INO);
    h = close ? file_open(&f->fs, file->inode, O_WRONLY, 0, 1) : NULL;
    stage_text(f, file, "text");
    if (close)
        file_close(&f->fs, h);
    else
        publish_start(&f->fs, file);
    pthread_mutex_unlock(&f->fs.lock);
}

static void wait_closed(struct fixture *f, const char *want)
{
    unsigned i;
    bool closed = false;

    for (i = 0; i < 500 && !closed; i++) {
        pthread_mutex_lock(&f->fs.lock);
        closed = strchr(f->node.trace, 'C') != NULL;
        pthread_mutex_unlock(&f->fs.lock);
        if (!closed)
            usleep(10000);
    }
    assert_string_equal(f->node.trace, want);
    assert_false(is_dirty(f));
}

static void it_is_closed_when_its_last_edit_is_published(void **state)
{
    open_and_write(*state, true);
    wait_closed(*state, "WC");
}

static void and_opened_again_on_the_next_node_before_that(void **state)
{
    struct fixture *f = *state;

    f->node.acts[0] = ACT_HANG_UP;
    open_and_write(f, true);
    wait_closed(f, "WHOWC");
}

static void what_is_changed_without_a_handle_is_opened_for_it(void **state)
{
    open_and_write(*state, false);
    wait_closed(*state, "OWC");
}

/* Room */

/* A write(2) of so many bytes at the end of the file. */
static void on_room(struct fs *fs, struct request *r, int code, struct cursor *body)
{
    struct file *file = inode_find(fs, FILE_INO)->file;

    if (code == 0 && !reserve_fits(fs, file, file_size(file) + r->size, &r->room)) {
        reserve_wait(fs, r, on_room);
        return;
    }
    if (code == 0) {
        static char bytes[1 << 20];

        assert_int_equal(stage_append(&file->stage, bytes, r->size), 0);
        file_touched(fs, file, NULL, 0);
    }
    on_answer(fs, r, code, body);
}

static void start_growing(struct fixture *f, size_t size)
{
    struct cursor nothing = cursor_of(NULL, 0);
    struct request *r;

    pthread_mutex_lock(&f->fs.lock);
    the_file(f, FILE_INO);
    r = request_begin(&f->fs, NULL);
    assert_non_null(r);
    r->size = size;
    on_room(&f->fs, r, 0, &nothing);
    pthread_mutex_unlock(&f->fs.lock);
}

static void set_room(struct fixture *f, uint64_t room)
{
    pthread_mutex_lock(&f->fs.lock);
    f->node.room = room;
    pthread_mutex_unlock(&f->fs.lock);
}

static void a_write_that_has_no_room_fails_and_others_go_on(void **state)
{
    struct fixture *f = *state;

    f->options.commit_ms = 100000;
    set_room(f, 1000);
    start_growing(f, 900);
    assert_int_equal(wait_answers(f, 1), 0);
    start_growing(f, 101);
    assert_int_equal(wait_answers(f, 2), KV_E_NOSPC);
    start_growing(f, 100);
    assert_int_equal(wait_answers(f, 3), 0);
    assert_int_equal(f->fs.reserve.used, 1000);
}

static void writes_far_from_the_limit_do_not_wait(void **state)
{
    struct fixture *f = *state;
    unsigned i;

    set_room(f, 1 << 30);
    start_growing(f, 1);
    assert_int_equal(wait_answers(f, 1), 0);
    for (i = 0; i < 50; i++) {
        start_growing(f, 10000);
        assert_int_equal(f->n_answers, i + 2);
    }
    assert_int_equal(f->node.n_reserves, 1);
}

/* What was published is used up; what is not used is given back. */
static void room_goes_with_what_is_published(void **state)
{
    struct fixture *f = *state;
    uint64_t used = 1, told = 1;
    unsigned i;

    set_room(f, 1 << 30);
    start_growing(f, 100000);
    assert_int_equal(wait_answers(f, 1), 0);
    assert_int_equal(f->fs.reserve.used, 100000);
    pthread_mutex_lock(&f->fs.lock);
    f->node.size = 100000;
    wait_for_file(f, FILE_INO);
    pthread_mutex_unlock(&f->fs.lock);
    assert_int_equal(wait_answers(f, 2), 0);
    for (i = 0; i < 1000 && (used > 0 || told > 0); i++) {
        pthread_mutex_lock(&f->fs.lock);
        used = f->fs.reserve.used;
        told = f->fs.reserve.told;
        assert_true(f->fs.reserve.granted <= told || told == 0);
        pthread_mutex_unlock(&f->fs.lock);
        usleep(10000);
    }
    assert_int_equal(used, 0);
    assert_int_equal(told, 0);
}

static void a_new_connection_holds_nothing_yet(void **state)
{
    struct fixture *f = *state;

    f->options.commit_ms = 100000;
    set_room(f, 1 << 20);
    start_growing(f, 1000);
    assert_int_equal(wait_answers(f, 1), 0);
    f->node.acts[0] = ACT_HANG_UP;
    start_write(f);
    assert_int_equal(wait_answers(f, 2), 0);
    set_room(f, 1500);
    start_growing(f, 501);
    assert_int_equal(wait_answers(f, 3), KV_E_NOSPC);
    start_growing(f, 500);
    assert_int_equal(wait_answers(f, 4), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_write_is_numbered_and_acknowledged, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_connection_repeats_it_under_its_number, setup, teardown),
        cmocka_unit_test_setup_teardown(with_read_local_the_session_begins_with_the_first_write, setup_local,
                                        teardown),
        cmocka_unit_test_setup_teardown(with_read_local_another_session_begins_with_the_next_write,
                                        setup_local, teardown),
        cmocka_unit_test_setup_teardown(an_outcome_is_final_and_a_refusal_to_try_is_not, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_leading_ends_with_the_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(silence_after_a_write_is_an_unknown_outcome, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_session_is_replaced_and_the_refused_write_repeated, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_a_lost_session_may_have_done_is_not_repeated, setup, teardown),
        TEST(after_a_lost_session_a_publication_is_repeated_on_its_base_only),
        TEST(and_fails_if_the_file_has_changed_since),
        TEST(unless_its_own_event_says_that_it_was_done),
        TEST(nobody_who_waits_is_told_success_of_what_was_lost),
        TEST(what_fails_for_now_stays_and_is_tried_again),
        TEST(a_loss_that_nobody_was_told_of_is_told_to_the_next_one),
        TEST(large_files_are_published_one_after_the_other),
        TEST(users_take_turns_with_large_files),
        TEST(a_part_that_is_too_much_now_is_sent_later),
        TEST(it_is_closed_when_its_last_edit_is_published),
        TEST(and_opened_again_on_the_next_node_before_that),
        TEST(what_is_changed_without_a_handle_is_opened_for_it),
        TEST(a_write_that_has_no_room_fails_and_others_go_on),
        TEST(writes_far_from_the_limit_do_not_wait),
        TEST(room_goes_with_what_is_published),
        TEST(a_new_connection_holds_nothing_yet),
        cmocka_unit_test_setup_teardown(a_full_disk_everywhere_is_an_answer, setup_two, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_sends_the_write_to_the_next_node, setup_two, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_tells_nothing_of_a_write_whose_answer_was_lost, setup,
                                        teardown),
    };

    return cmocka_run_group_tests_name("link", tests, NULL, NULL);
}
