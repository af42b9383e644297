/* bench --op watch: how long after a set was answered a watcher at another node has its row. One set at a
 * time: the watcher is woken by an event, and asks its node for the log, as kvnode watch does. */
#include "kvnode/admin/bench.h"

#include <errno.h>
#include <glob.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "kvnode/admin/request.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"

#define FIRST_ID 1000

/* The first socket of another node of the cluster; else the writer's own. */
static int open_watcher(const struct request_link *writer, struct request_link *l_out)
{
    char dir[108], pattern[128];
    glob_t found;
    int rc = -ENOENT;
    if (client_socket_dir(dir, sizeof dir) != 0)
        return request_open_socket(writer->admin, writer->socket, l_out);
    snprintf(pattern, sizeof pattern, "%s/*.sock", dir);
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (size_t i = 0; rc != 0 && i < found.gl_pathc; i++) {
            rc = request_open_socket(writer->admin, found.gl_pathv[i], l_out);
            if (rc == 0 && (l_out->node.cluster_id != writer->node.cluster_id ||
                            strcmp(l_out->node.name, writer->node.name) == 0)) {
                request_close(l_out);
                rc = -ENOENT;
            }
        }
        globfree(&found);
    }
    return rc == 0 ? 0 : request_open_socket(writer->admin, writer->socket, l_out);
}

struct race {
    struct request_link *writer, watcher;
    uint8_t cursor[LOG_CURSOR_MAX];
    size_t cursor_len;
    uint64_t after, id;
    uint64_t answered_ns, seen_ns; /* of the set that is under way; 0: not yet */
};

static void queue_set(struct race *r, const char *key, uint64_t number)
{
    struct request_link *l = r->writer;
    const struct command cmd = {.op = COMMAND_SET,
                                .flags = l->node.trusted ? COMMAND_TRUSTED : 0,
                                .session = l->session,
                                .seq = ++l->seq,
                                .acked_below = l->seq,
                                .node = ""};
    const struct command_body body = {.path = (const uint8_t *)key,
                                      .path_len = strlen(key),
                                      .flags = SET_PARENTS,
                                      .mode = 0644,
                                      .value = (const uint8_t *)&number,
                                      .value_len = sizeof number};
    struct buffer *out = client_queue(l->client, MESSAGE_WRITE, ++l->last_id);
    body_encode_request(out, MESSAGE_WRITE, NULL);
    command_encode(out, &cmd);
    command_body_encode(out, COMMAND_SET, &body);
    client_queue_end(l->client);
}

static void queue_log(struct race *r)
{
    const union request_body body = {.log = {.after = r->after,
                                             .n = 500 | PAST_LOCAL,
                                             .has_cursor = true,
                                             .cursor = bytes_of(r->cursor, r->cursor_len)}};
    client_ask(r->watcher.client, MESSAGE_LOG, ++r->id, &body);
}

static int take_written(struct race *r)
{
    struct frame frame;
    int rc;
    while ((rc = client_next(r->writer->client, &frame)) == 1) {
        union answer_body answer;
        struct cursor body;
        rc = client_answer(&frame, &body, r->writer->detail, sizeof r->writer->detail);
        if (rc == 0 && !body_decode_answer(MESSAGE_WRITE, &body, &answer))
            return -EPROTO;
        if (rc != 0 || answer.write.code != 0)
            return rc != 0 ? rc : answer.write.code;
        r->answered_ns = clock_boot_ns();
    }
    return rc;
}

/* An event asks for the log, whose rows are what was waited for. */
static int take_watched(struct race *r)
{
    struct frame frame;
    int rc;
    while ((rc = client_next(r->watcher.client, &frame)) == 1) {
        union answer_body answer;
        struct cursor body;
        if (frame.type != MESSAGE_ANSWER) {
            queue_log(r);
            continue;
        }
        rc = client_answer(&frame, &body, r->watcher.detail, sizeof r->watcher.detail);
        if (rc != 0)
            return rc;
        if (!body_decode_answer(MESSAGE_LOG, &body, &answer) || answer.log.cursor.len > sizeof r->cursor)
            return -EPROTO;
        memcpy(r->cursor, answer.log.cursor.data, answer.log.cursor.len);
        r->cursor_len = answer.log.cursor.len;
        if (answer.log.rows.count > 0)
            r->seen_ns = clock_boot_ns();
    }
    return rc;
}

/* One set, until both have come. */
static int one(struct race *r, const char *key, uint64_t number)
{
    uint64_t deadline = clock_boot_ms() + r->writer->admin->timeout_ms;
    int rc = 0;
    r->answered_ns = r->seen_ns = 0;
    queue_set(r, key, number);
    while (rc == 0 && (r->answered_ns == 0 || r->seen_ns == 0)) {
        struct pollfd fds[] = {{.fd = client_fd(r->writer->client), .events = POLLIN},
                               {.fd = client_fd(r->watcher.client), .events = POLLIN}};
        if (client_flush(r->writer->client) < 0 || client_flush(r->watcher.client) < 0)
            return -EPIPE;
        if (clock_boot_ms() >= deadline)
            return -ETIMEDOUT;
        if (poll(fds, 2, 100) < 0 && errno != EINTR)
            return -errno;
        rc = take_written(r);
        if (rc == 0)
            rc = take_watched(r);
    }
    return rc;
}

int bench_watch(struct request_link *writer, const char *key, uint64_t seconds, struct samples *s_out,
                char *node_out, size_t size)
{
    struct race r = {.writer = writer, .id = FIRST_ID};
    union answer_body answer;
    int rc = open_watcher(writer, &r.watcher);
    if (rc != 0)
        return rc;
    snprintf(node_out, size, "%s", r.watcher.node.name);
    rc = request_ask(&r.watcher, MESSAGE_BARRIER, NULL, &answer);
    r.after = rc == 0 ? answer.barrier.revision : 0;
    const union request_body from = {.subscribe = {.after = r.after, .has_sparse = true, .sparse = 1}};
    if (rc == 0)
        rc = request_ask(&r.watcher, MESSAGE_SUBSCRIBE, &from, &answer);
    uint64_t begin = clock_boot_ns(), end = begin + seconds * 1000000000;
    for (uint64_t n = 1; rc == 0 && clock_boot_ns() < end; n++) {
        rc = one(&r, key, n);
        if (rc == 0)
            rc = samples_add(s_out, r.seen_ns > r.answered_ns ? r.seen_ns - r.answered_ns : 0);
    }
    s_out->elapsed_ns = clock_boot_ns() - begin;
    request_close(&r.watcher);
    return rc;
}
