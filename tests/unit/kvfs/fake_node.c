#include "tests/unit/kvfs/fake_node.h"

#include <errno.h>
#include <poll.h>
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

#include "kvfs/file/publish.h"
#include "sync/base/error.h"
#include "sync/base/log.h"
#include "sync/wire/body.h"
#include "tests/lib/look_again.h"

struct fixture *fake_fixture;

static void trace(struct fake_node *n, char what)
{
    size_t len = strlen(n->trace);

    assert_true(len + 1 < sizeof n->trace);
    n->trace[len] = what;
}

/* A mount that has left before it was answered, as with a lost session, has asked for more than one thing. */
static void send_frame(int fd, struct buffer *b)
{
    ssize_t n = send(fd, b->data, b->len, MSG_NOSIGNAL);

    assert_true(n == (ssize_t)b->len || (n < 0 && (errno == EPIPE || errno == ECONNRESET)));
    buffer_deinit(b);
}

/* body: of code 0; NULL: empty. */
static void send_answer(int fd, const struct frame *question, int code, const union answer_body *body)
{
    struct buffer b = BUFFER_INIT;
    size_t at = frame_begin(&b, MESSAGE_ANSWER, 0, question->id);

    buffer_put_u16(&b, (uint16_t)code);
    if (code != 0)
        buffer_put_text(&b, "");
    else if (body != NULL)
        body_encode_answer(&b, question->type, body, MESSAGE_PROTOCOL);
    frame_end(&b, at);
    send_frame(fd, &b);
}

void fake_send_result(int fd, uint64_t id, const struct command_result *result)
{
    send_answer(fd, &(struct frame){.type = MESSAGE_WRITE, .id = id}, 0,
                &(union answer_body){.write = *result});
}

/* False: the connection ends here. */
static bool on_write(struct fake_node *n, int fd, const struct frame *frame)
{
    struct command_result result = {.revision = 100 + n->n_writes};
    struct command command;
    union request_body in;
    enum act act;

    assert_int_equal(body_decode_request(MESSAGE_WRITE, frame->payload, frame->len, &in), 0);
    assert_int_equal(command_decode(in.write.command.data, in.write.command.len, &command), 0);
    if (command.op == COMMAND_REGISTER) {
        n->n_registered++;
        result.session = ++n->last_session;
        fake_send_result(fd, frame->id, &result);
        return true;
    }
    assert_true(n->n_writes < WRITES_MAX);
    act = n->acts[n->n_writes];
    command.uid = in.write.uid; /* in whose name */
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
        send_answer(fd, frame, KV_E_UNAVAILABLE, NULL);
        return true;
    case ACT_FULL:
        send_answer(fd, frame, KV_E_NOSPC, NULL);
        return true;
    case ACT_SESSION:
        send_answer(fd, frame, KV_E_SESSION, NULL);
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
    case ACT_FORBIDDEN:
        result.code = KV_E_ACCES;
        break;
    case ACT_OTHER_VERSION:
        result.code = KV_E_VERSION;
        break;
    case ACT_BUSY:
        send_answer(fd, frame, KV_E_BUSY, NULL);
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
    fake_send_result(fd, frame->id, &result);
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
    send_frame(fd, &b);
}

static bool on_frame(struct fake_node *n, int fd, const struct frame *frame)
{
    union request_body in;
    union answer_body out;

    memset(&out, 0, sizeof out);
    assert_int_equal(body_decode_request(frame->type, frame->payload, frame->len, &in), 0);
    switch (frame->type) {
    case MESSAGE_HELLO:
        out.hello = (struct hello_answer){.name = "fake",
                                          .cluster_id = 1,
                                          .applied = 50,
                                          .part_size = COMMAND_PART_SIZE,
                                          .value_limit = 1 << 20,
                                          .trusted = 1,
                                          .protocol = MESSAGE_PROTOCOL};
        break;
    case MESSAGE_SUBSCRIBE:
        n->subscribed_after = in.subscribe.after;
        out.subscribe.revision = n->subscribed_after + 1;
        send_answer(fd, frame, 0, &out);
        if (n->missed >= 0) {
            send_event(fd, &n->writes[n->missed], FILE_INO, 120);
            n->missed = -1;
        }
        return true;
    case MESSAGE_WRITE:
        return on_write(n, fd, frame);
    case MESSAGE_SETTINGS:
        out.admin.json = bytes_text(n->settings != NULL ? n->settings : "");
        break;
    case MESSAGE_LEASED: /* as one of an earlier version */
        send_answer(fd, frame, KV_E_NOTSUP, NULL);
        return true;
    case MESSAGE_OPEN:
        trace(n, 'O');
        break;
    case MESSAGE_CLOSE:
        trace(n, 'C');
        break;
    case MESSAGE_RESERVE:
        n->n_reserves++;
        out.reserve.granted = in.reserve.wanted <= n->room  ? in.reserve.wanted
                              : in.reserve.least <= n->room ? n->room
                                                            : in.reserve.held;
        break;
    default:
        break;
    }
    send_answer(fd, frame, 0, &out);
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
            pthread_mutex_lock(&fake_fixture->fs.hub.lock);
            open = on_frame(n, fd, &frame);
            pthread_mutex_unlock(&fake_fixture->fs.hub.lock);
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

    fake_fixture = f;
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
    assert_int_equal(uplink_open(&f->fs.hub, NULL, error, sizeof error), 0);
    assert_int_equal(uplink_start(&f->fs.hub), 0);
    *state = f;
    return 0;
}

int fake_setup(void **state)
{
    return setup_nodes(state, 1, false);
}

int fake_setup_local(void **state)
{
    return setup_nodes(state, 1, true);
}

/* One that is met under two names. */
int fake_setup_two(void **state)
{
    return setup_nodes(state, 2, false);
}

int fake_teardown(void **state)
{
    struct fixture *f = *state;

    uplink_stop(&f->fs.hub);
    f->node.stop = true;
    pthread_join(f->node.thread, NULL);
    notifier_stop(&f->fs.cache);
    fs_deinit(&f->fs);
    close(f->node.listener);
    unlink(f->node.path);
    pthread_cond_destroy(&f->answered);
    free(f);
    return 0;
}

void fake_on_answer(struct call *call, int code, const union answer_body *answer)
{
    fake_fixture->code = code;
    fake_fixture->n_answers++;
    call_end(call);
    pthread_cond_broadcast(&fake_fixture->answered);
}

void fake_set_timeout(struct fixture *f, unsigned ms)
{
    pthread_mutex_lock(&f->fs.hub.lock);
    f->options.timeout_ms = ms;
    pthread_mutex_unlock(&f->fs.hub.lock);
}

void fake_start_write(struct fixture *f)
{
    struct command_body body = {.parent = 1, .name = (const uint8_t *)"x", .name_len = 1};
    struct call *call;

    pthread_mutex_lock(&f->fs.hub.lock);
    call = call_begin(&f->fs.hub, NULL, CALL_PLAIN);
    assert_non_null(call);
    uplink_write(call, COMMAND_UNLINK, &body, fake_on_answer);
    pthread_mutex_unlock(&f->fs.hub.lock);
}

/* Waits for n answers in all; the last one's code. */
int fake_wait_answers(struct fixture *f, unsigned n)
{
    int code;

    pthread_mutex_lock(&f->fs.hub.lock);
    while (f->n_answers < n)
        pthread_cond_wait(&f->answered, &f->fs.hub.lock);
    code = f->code;
    pthread_mutex_unlock(&f->fs.hub.lock);
    return code;
}

struct file *fake_file(struct fixture *f, uint64_t ino)
{
    struct kernel_inode *inode = kernel_inode_get(&f->fs.cache, ino);
    struct file *file;

    assert_non_null(inode);
    inode->nlookup = 1;
    file = file_get(&f->fs.files, inode);
    assert_non_null(file);
    file->attr = (struct attr){.ino = ino, .type = INODE_FILE, .content_revision = 40, .revision = 40};
    return file;
}

void fake_stage_text(struct fixture *f, struct file *file, const char *text)
{
    assert_int_equal(stage_append(&file->stage, text, strlen(text)), 0);
    file_touched(&f->fs.files, file, NULL, 0);
}

void fake_wait_for_file(struct fixture *f, uint64_t ino)
{
    struct call *call = call_begin(&f->fs.hub, NULL, CALL_PLAIN);

    assert_non_null(call);
    call->ino = ino;
    publish_wait(kernel_inode_find(&f->fs.cache, ino), call, fake_on_answer);
}

/* Writes to the file and waits, as close(2) would. */
void fake_start_publication(struct fixture *f, const char *text)
{
    pthread_mutex_lock(&f->fs.hub.lock);
    fake_stage_text(f, fake_file(f, FILE_INO), text);
    fake_wait_for_file(f, FILE_INO);
    pthread_mutex_unlock(&f->fs.hub.lock);
}

static unsigned n_writes(struct fixture *f)
{
    unsigned n;

    pthread_mutex_lock(&f->fs.hub.lock);
    n = f->node.n_writes;
    pthread_mutex_unlock(&f->fs.hub.lock);
    return n;
}

/* Waits until the node has seen n writes. */
void fake_wait_writes(struct fixture *f, unsigned n)
{
    uint64_t until = 0;

    while (n_writes(f) < n && look_again(&until, 10000))
        ;
    assert_true(n_writes(f) >= n);
}

bool fake_is_dirty(struct fixture *f)
{
    bool dirty;

    pthread_mutex_lock(&f->fs.hub.lock);
    dirty = file_is_dirty(kernel_inode_find(&f->fs.cache, FILE_INO)->file);
    pthread_mutex_unlock(&f->fs.hub.lock);
    return dirty;
}

/* Waits until all is published or given up. */
void fake_wait_clean(struct fixture *f)
{
    uint64_t until = 0;

    while (fake_is_dirty(f) && look_again(&until, 10000))
        ;
    assert_false(fake_is_dirty(f));
}
