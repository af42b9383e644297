#include "tests/fault/lib/raw.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "tests/lib/look_again.h"

int raw_open(const char *socket_path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    uint64_t until = 0;

    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", socket_path);
    while (fd >= 0) {
        if (connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0)
            return fd;
        if (errno != EAGAIN || !look_again(&until, 15000)) /* EAGAIN: the backlog is full */
            break;
    }
    fprintf(stderr, "%s: no connection: %s\n", socket_path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

size_t raw_send(int fd, const void *data, size_t len, unsigned timeout_ms)
{
    uint64_t deadline = clock_boot_ms() + timeout_ms;
    size_t done = 0;

    while (done < len) {
        ssize_t n = send(fd, (const char *)data + done, len - done, MSG_NOSIGNAL);
        uint64_t now = clock_boot_ms();
        struct pollfd p = {.fd = fd, .events = POLLOUT};

        if (n > 0) {
            done += (size_t)n;
            continue;
        }
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            break;
        if (now >= deadline)
            break;
        poll(&p, 1, (int)(deadline - now));
    }
    return done;
}

bool raw_closed(int fd, unsigned timeout_ms)
{
    uint64_t deadline = clock_boot_ms() + timeout_ms;

    for (;;) {
        char sink[65536];
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n = recv(fd, sink, sizeof sink, 0);
        uint64_t now = clock_boot_ms();

        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return true;
        if (n > 0)
            continue;
        if (now >= deadline)
            return false;
        poll(&p, 1, (int)(deadline - now));
    }
}

size_t raw_drain(int fd, unsigned quiet_ms)
{
    size_t all = 0;

    for (;;) {
        char sink[65536];
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n;

        if (poll(&p, 1, (int)quiet_ms) <= 0)
            return all;
        n = recv(fd, sink, sizeof sink, 0);
        if (n <= 0)
            return all;
        all += (size_t)n;
    }
}

bool raw_takes(int fd, size_t len, unsigned timeout_ms)
{
    uint64_t deadline = clock_boot_ms() + timeout_ms, now;

    while (len > 0 && (now = clock_boot_ms()) < deadline) {
        static char sink[65536];
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n;

        if (poll(&p, 1, (int)(deadline - now)) <= 0)
            continue;
        n = recv(fd, sink, len < sizeof sink ? len : sizeof sink, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            break;
        len -= n > 0 ? (size_t)n : 0;
    }
    return len == 0;
}

void raw_frame(struct buffer *b, uint8_t type, uint64_t id, const void *payload, size_t len)
{
    size_t at = frame_begin(b, type, 0, id);

    buffer_put_bytes(b, payload, len);
    frame_end(b, at);
}

void raw_hello(struct buffer *b)
{
    size_t at = frame_begin(b, MESSAGE_HELLO, 0, 1);

    body_encode_request(
        b, MESSAGE_HELLO,
        &(union request_body){
            .hello = {.magic = bytes_text(MESSAGE_MAGIC), .kind = CLIENT_MOUNT, .name = bytes_text("raw")}});
    frame_end(b, at);
}

void raw_command(struct buffer *b, uint8_t op, uint64_t session, uint64_t seq)
{
    static const uint8_t nonce[16] = "raw raw raw raw", data[300] = "raw data";
    struct command cmd = {
        .op = op, .session = session, .seq = seq, .acked_below = seq > 8 ? seq - 8 : 1, .node = ""};
    struct command_body body = {.parent = KV_ROOT_INO,
                                .new_parent = KV_ROOT_INO,
                                .name = (const uint8_t *)"raw-a",
                                .name_len = 5,
                                .new_name = (const uint8_t *)"raw-b",
                                .new_name_len = 5,
                                .target = (const uint8_t *)"raw-b",
                                .target_len = 5,
                                .path = (const uint8_t *)"raw-d/x",
                                .path_len = 7,
                                .value = data,
                                .value_len = sizeof data,
                                .nonce = nonce,
                                .ino = 2,
                                .valid = SETATTR_MTIME,
                                .mtime_ns = seq};
    struct buffer edits = BUFFER_INIT;
    size_t at = frame_begin(b, MESSAGE_WRITE, 0, seq + 100);

    if (op != COMMAND_SETATTR)
        body.mode = 0644;
    if (op == COMMAND_SET)
        body.flags = SET_PARENTS;
    if (op == COMMAND_REGISTER)
        body.name = (const uint8_t *)"raw-c";
    if (op == COMMAND_SETTING) { /* changes nothing: there is no such setting */
        body.name = (const uint8_t *)"raw.setting";
        body.name_len = 11;
    }
    edit_encode(&edits, &(struct edit){.kind = EDIT_WRITE, .number = seq, .data = data, .len = 100});
    edit_encode(&edits, &(struct edit){.kind = EDIT_APPEND, .data = data, .len = 10});
    edit_encode(&edits, &(struct edit){.kind = EDIT_TRUNCATE, .number = 200});
    body.edits = edits.data;
    body.edits_len = edits.len;
    body_encode_request(b, MESSAGE_WRITE, NULL);
    command_encode(b, &cmd);
    command_body_encode(b, op, &body);
    frame_end(b, at);
    buffer_deinit(&edits);
}

/* Harmless, and well-formed. */
static const union request_body good[MESSAGE_REQUEST_COUNT] = {
    [MESSAGE_LOOKUP] = {.lookup = {.at = READ_LOCAL,
                                   .parent = KV_ROOT_INO,
                                   .name = {(const uint8_t *)"raw-d", 5}}},
    [MESSAGE_GETATTR] = {.getattr = {.at = READ_LINEARIZABLE, .ino = 2}},
    [MESSAGE_READLINK] = {.readlink = {.at = READ_LINEARIZABLE, .ino = 2}},
    [MESSAGE_READ] = {.read = {.at = READ_LOCAL, .ino = 2, .offset = 1, .length = 1000}},
    [MESSAGE_READDIR] = {.readdir = {.at = READ_LOCAL, .ino = KV_ROOT_INO, .n = 100}},
    [MESSAGE_OPEN] = {.open = {.at = READ_LOCAL, .ino = 2, .access = OPEN_READ | OPEN_WRITE}},
    [MESSAGE_CLOSE] = {.close = {.ino = 2}},
    [MESSAGE_RESOLVE] = {.resolve = {.at = READ_LOCAL, .path = {(const uint8_t *)"raw-d/x", 7}}},
    [MESSAGE_GET] = {.get = {.at = READ_LOCAL, .path = {(const uint8_t *)"raw-d/x", 7}, .length = 1000}},
    [MESSAGE_HISTORY] = {.history = {.directory = KV_ROOT_INO,
                                     .name = {(const uint8_t *)"raw-d", 5},
                                     .n = 10}},
    [MESSAGE_VERSION] = {.version = {.directory = KV_ROOT_INO,
                                     .name = {(const uint8_t *)"raw-a", 5},
                                     .version = 1,
                                     .length = 1000}},
    [MESSAGE_GETXATTR] = {.getxattr = {.at = READ_LINEARIZABLE,
                                       .ino = 2,
                                       .name = {(const uint8_t *)"user.x", 6}}},
    [MESSAGE_LISTXATTR] = {.listxattr = {.at = READ_LINEARIZABLE, .ino = 2}},
    [MESSAGE_VERSION_XATTRS] = {.version_xattrs = {.directory = KV_ROOT_INO, .version = 1}},
    [MESSAGE_NAMES] = {.names = {.directory = KV_ROOT_INO, .n = 10}},
    [MESSAGE_LOG] = {.log = {.n = 10}},
    [MESSAGE_LOCKS] = {.locks = {.ino = KV_ROOT_INO, .all = 1}},
    [MESSAGE_HELD] = {.held = {.ino = KV_ROOT_INO}},
    [MESSAGE_RESERVE] = {.reserve = {.least = 1, .wanted = 65536}},
    [MESSAGE_ADMIN] = {.admin = {{(const uint8_t *)"{\"command\":\"nothing\"}", 21}}},
};

bool raw_request(struct buffer *b, uint8_t type, uint64_t session, uint64_t seq)
{
    size_t at;

    if (type == MESSAGE_HELLO) {
        raw_hello(b);
        return true;
    }
    if (type == MESSAGE_WRITE) {
        raw_command(b, COMMAND_SET, session, seq);
        return true;
    }
    at = frame_begin(b, type, 0, seq + 100);
    if (body_of(type) != NULL)
        body_encode_request(b, type, &good[type]);
    frame_end(b, at);
    return body_of(type) != NULL;
}

void dice_init(struct dice *d, const char *what)
{
    const char *text = getenv("KVFS_FAULT_SEED");

    if (text != NULL)
        d->state = strtoull(text, NULL, 0);
    else if (getrandom(&d->state, sizeof d->state, 0) != (ssize_t)sizeof d->state)
        d->state = clock_boot_ns();
    printf("# %s: KVFS_FAULT_SEED=%llu\n", what, (unsigned long long)d->state);
}

/* splitmix64 */
uint64_t dice_roll(struct dice *d, uint64_t n)
{
    uint64_t z = d->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return n > 0 ? (z ^ (z >> 31)) % n : 0;
}
