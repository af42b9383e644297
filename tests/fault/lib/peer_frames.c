#include "tests/fault/lib/peer_frames.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "sync/raft/engine/message.h"
#include "sync/ssh/handover.h"
#include "sync/wire/command.h"
#include "sync/wire/frame.h"
#include "tests/lib/look_again.h"

int peer_open(const char *socket_path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    uint64_t until = 0;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%s", socket_path);
    while (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
        if (errno == EAGAIN && look_again(&until, 5000)) /* the backlog is full */
            continue;
        close(fd);
        fd = -1;
    }
    return fd;
}

int peer_stream(const char *socket_path, const char *name)
{
    int bridge = peer_open(socket_path), pair[2];

    if (bridge < 0)
        return -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
        close(bridge);
        return -1;
    }
    if (handover_send(bridge, name, pair[1], pair[1]) != 0) {
        close(pair[0]);
        pair[0] = -1;
    }
    close(pair[1]);
    close(bridge);
    return pair[0];
}

void peer_hello(struct buffer *b, uint64_t cluster, uint16_t id, const char *name,
                const struct incarnation *life)
{
    const struct incarnation made_now = {.id = id > 0 ? id : 1, .boot = 1, .nonce = 1};
    size_t at = frame_begin(b, PEER_FIRST, 0, 0);

    buffer_put_text(b, "kvfs-peer-3");
    buffer_put_u64(b, cluster);
    buffer_put_u16(b, id);
    buffer_put_text(b, name);
    buffer_put_u16(b, 1);
    incarnation_encode(b, life != NULL ? life : &made_now);
    frame_end(b, at);
}

static bool find_life(const struct frame *f, uint16_t id, struct incarnation *life_out)
{
    struct cursor in = cursor_of(f->payload, f->len);
    struct incarnations said;
    const struct incarnation *found;
    size_t len;

    cursor_string(&in, 64, &len);
    cursor_u64(&in);
    cursor_u16(&in);
    cursor_string(&in, 255, &len);
    if (f->type != PEER_FIRST || !incarnations_decode(&in, &said))
        return false;
    found = incarnations_find(&said, id);
    if (found != NULL)
        *life_out = *found;
    return found != NULL;
}

/* One connection. True: there is nothing more to try, found or not. */
static bool ask_for_life(const char *socket_path, const char *name, const struct buffer *hello, uint16_t id,
                         struct incarnation *life_out, bool *found_out, uint64_t until)
{
    struct buffer answer = BUFFER_INIT;
    int fd = peer_stream(socket_path, name);
    struct frame frame;
    long size = fd < 0 ? -1 : 0;
    bool closed = false;

    if (fd >= 0 && send(fd, hello->data, hello->len, MSG_NOSIGNAL) != (ssize_t)hello->len)
        closed = true;
    while (size == 0 && !closed && clock_boot_ms() < until && buffer_reserve(&answer, 4096)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n = poll(&p, 1, 100) > 0 ? recv(fd, answer.data + answer.len, 4096, 0) : -1;

        closed = n == 0 || (n < 0 && errno == ECONNRESET);
        answer.len += n > 0 ? (size_t)n : 0;
        size = frame_parse(answer.data, answer.len, &frame);
    }
    *found_out = size > 0 && find_life(&frame, id, life_out);
    if (fd >= 0)
        close(fd);
    buffer_deinit(&answer);
    return !closed || size != 0;
}

bool peer_life(const char *socket_path, uint64_t cluster, uint16_t id, const char *name,
               struct incarnation *life_out)
{
    uint64_t until = clock_boot_ms() + 5000;
    struct buffer hello = BUFFER_INIT;
    bool found = false;

    peer_hello(&hello, cluster, id, name, NULL);
    /* Closed without an answer: the node itself has just dialled, and took the place. */
    while (!ask_for_life(socket_path, name, &hello, id, life_out, &found, until) && clock_boot_ms() < until)
        ;
    buffer_deinit(&hello);
    return found;
}

static void put_raft(struct buffer *b, uint64_t from, uint64_t to, unsigned n)
{
    static const enum raft_message_kind types[] = {
        RAFT_MESSAGE_APPEND,      RAFT_MESSAGE_APPEND_RESULT, RAFT_MESSAGE_VOTE, RAFT_MESSAGE_VOTE_RESULT,
        RAFT_MESSAGE_TIMEOUT_NOW, RAFT_MESSAGE_PING,          RAFT_MESSAGE_PONG, RAFT_MESSAGE_ECHO};
    struct engine_message *m = message_new(types[n % 8], from, to);

    if (m == NULL)
        return;
    m->term = 1;
    if (m->type == RAFT_MESSAGE_APPEND) {
        m->append.prev_index = n;
        m->append.prev_term = 1;
        m->entries = calloc(2, sizeof *m->entries);
        m->entries[0] = entry_new(ENTRY_COMMAND, "not a command at all", 20);
        m->entries[1] = entry_new(ENTRY_BARRIER, "", 0);
        m->entries[0]->term = m->entries[1]->term = 1;
        m->n_entries = 2;
    }
    message_encode(m, b);
    message_free(m);
}

static void put_command(struct buffer *b, unsigned n)
{
    static const uint8_t groups[8] = {0, 0, 0, 1, 0, 0, 0, 2};
    const struct command cmd = {.op = COMMAND_SET,
                                .session = 1,
                                .seq = n,
                                .acked_below = 1,
                                .n_groups = 2,
                                .groups = groups,
                                .node = "n1",
                                .node_len = 2};
    const struct command_body body = {
        .path = (const uint8_t *)"peer", .path_len = 4, .value = (const uint8_t *)"v", .value_len = 1};

    command_encode(b, &cmd);
    command_body_encode(b, COMMAND_SET, &body);
}

void peer_frame(struct buffer *b, uint8_t type, uint64_t from, uint64_t to, unsigned n)
{
    size_t at = frame_begin(b, type, 0, n);

    switch (type) {
    case 101:
        put_raft(b, from, to, n);
        break;
    case 102:
        put_command(b, n);
        break;
    case 103:
        buffer_put_u64(b, 1);
        buffer_put_u64(b, n);
        buffer_put_u64(b, 0);
        break;
    case 105:
        buffer_put_u16(b, 0);
        buffer_put_u64(b, 0);
        break;
    case 106:
        buffer_put_u8(b, 0);
        buffer_put_u64(b, 1);
        buffer_put_u64(b, n);
        buffer_put_u64(b, n);
        buffer_put_u64(b, 7);
        buffer_put_u8(b, 0);
        break;
    case 107:
    case 108: /* numbers as they may stand in the heads of a transfer's messages */
        buffer_put_u8(b, 1);
        buffer_put_u8(b, (uint8_t)(1 + n % 4));
        buffer_put_u64(b, n);
        buffer_put_u64(b, 1);
        buffer_put_u64(b, n);
        buffer_put_u64(b, 1000);
        buffer_put_u64(b, 0);
        break;
    default: /* 104, 109: empty */
        break;
    }
    frame_end(b, at);
}

bool peer_counts(const void *frame, size_t len)
{
    struct engine_message *m;
    struct frame f;
    bool counts;

    if (frame_parse(frame, len, &f) <= 0 || f.type != 101 || message_decode(f.payload, f.len, &m) != 0)
        return false;
    counts = m->term > 1 || (m->type == RAFT_MESSAGE_PONG && m->ping.peer_term > 1);
    message_free(m);
    return counts;
}
