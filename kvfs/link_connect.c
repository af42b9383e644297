/* Connecting, taking over what is unanswered, and dropping a connection. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "kvfs/file.h"
#include "kvfs/fs.h"
#include "kvfs/link_internal.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

#define CONNECT_MS 1500

#define SESSION_AT (9 + 4) /* in a WRITE's payload, see put_head() */
#define SEQ_AT (9 + 12)

/* Connecting. Without the lock: blocks for CONNECT_MS at most at each step. */

struct attempt {
    struct client *client;
    struct client_node node;
    uint64_t session, seen, complete;
    uint8_t nonce[16];
    uint64_t events_from;
    const char *step;
};

static int register_session(struct attempt *a)
{
    struct command command = {.op = COMMAND_REGISTER, .node = ""};
    struct command_body body = {.nonce = a->nonce, .name = (const uint8_t *)"kvfs", .name_len = 4};
    struct buffer *b = client_queue(a->client, MESSAGE_WRITE, 1);
    struct command_result result;
    struct cursor c;
    int rc;

    if (a->node.trusted)
        command.flags |= COMMAND_TRUSTED;
    buffer_put_u8(b, 0);
    buffer_put_u32(b, 0);
    buffer_put_u32(b, 0);
    command_encode(b, &command);
    command_body_encode(b, COMMAND_REGISTER, &body);
    client_queue_end(a->client);
    rc = client_call(a->client, 1, CONNECT_MS, &c, NULL, 0);
    if (rc != 0)
        return rc;
    command_result_decode(&c, &result);
    if (c.failed)
        return -EPROTO;
    if (result.code == 0)
        a->session = result.session;
    return result.code;
}

static int subscribe(struct attempt *a)
{
    struct buffer *b = client_queue(a->client, MESSAGE_SUBSCRIBE, 2);
    struct cursor c;
    int rc;

    buffer_put_u64(b, a->complete);
    client_queue_end(a->client);
    rc = client_call(a->client, 2, CONNECT_MS, &c, NULL, 0);
    if (rc != 0)
        return rc;
    a->events_from = cursor_u64(&c);
    return c.failed ? -EPROTO : 0;
}

static int attempt(struct attempt *a, const char *path)
{
    bool first = a->seen == 0;
    int rc;

    a->step = "hello";
    rc = client_open(path, CLIENT_MOUNT, "kvfs", a->seen, CONNECT_MS, &a->client, &a->node);
    if (rc != 0)
        return rc;
    if (first)
        a->seen = a->complete = a->node.applied;
    if (a->session == 0) {
        a->step = "registering a session";
        rc = register_session(a);
    }
    if (rc == 0) {
        a->step = "subscribing";
        rc = subscribe(a);
    }
    if (rc != 0) {
        client_close(a->client);
        a->client = NULL;
    }
    return rc;
}

static void attempt_begin(struct fs *fs, struct attempt *a)
{
    struct link *l = &fs->link;

    *a = (struct attempt){.session = l->session, .seen = l->seen, .complete = l->complete};
    if (l->session == 0 && l->nonce[0] == 0 && getrandom(l->nonce, sizeof l->nonce, 0) > 0)
        l->nonce[0] |= 1; /* repeated until it is answered: registering twice gives one session */
    memcpy(a->nonce, l->nonce, sizeof a->nonce);
}

/* A request of a session that has ended. What was sent and not answered may have been
 * executed, and others may have written since: it is not repeated as it is. */
static void renumber(struct fs *fs, struct request *r)
{
    struct link *l = &fs->link;
    struct cursor nothing = cursor_of(NULL, 0);

    if (r->sends > 0 && !r->refused && (r->on_new_session == NULL || !r->on_new_session(fs, r))) {
        log_warn("whether a request of the lost session was executed is not known: %s of inode %" PRIu64
                 "%s%s",
                 command_op_name(r->op), r->ino != 0 ? r->ino : r->parent, r->name != NULL ? ", name " : "",
                 r->name != NULL ? r->name : "");
        link_deliver(fs, r, KV_E_UNKNOWN, &nothing);
        return;
    }
    r->seq = l->next_seq++;
    r->sends = 0;
    r->refused = false;
    buffer_set_u64(&r->payload, SESSION_AT, l->session);
    buffer_set_u64(&r->payload, SEQ_AT, r->seq);
    buffer_set_u64(&r->payload, SEQ_AT + 8, 0);
}

/* Calls fn for every request that is with the link now, in order. fn may end it and
 * others; those that come later are not visited. */
static void each_request(struct fs *fs, void (*fn)(struct fs *fs, struct request *r))
{
    struct link *l = &fs->link;
    uint64_t last = l->numbers;
    struct request *r = TAILQ_FIRST(&l->wire);

    while (r != NULL && r->number <= last) {
        l->visited_next = TAILQ_NEXT(r, place);
        fn(fs, r);
        r = l->visited_next;
    }
    l->visited_next = NULL;
}

static void renumber_write(struct fs *fs, struct request *r)
{
    if (r->seq != 0)
        renumber(fs, r);
}

static void resend(struct fs *fs, struct request *r)
{
    if (!r->sent && fs->link.client != NULL && !fs->link.broken)
        link_send_request(fs, r);
}

static void adopt(struct fs *fs, struct attempt *a)
{
    struct link *l = &fs->link;
    bool gap = a->events_from > a->complete + 1;
    bool new_session = a->session != l->session;

    l->client = a->client;
    l->connections++;
    l->node = a->node;
    l->subscription = 2;
    l->broken = l->rotate = l->want_write = l->session_lost = false;
    l->session = a->session;
    l->keepalive_ms = clock_boot_ms() + KEEPALIVE_MS;
    if (l->seen == 0)
        l->seen = l->complete = a->complete;
    if (new_session) {
        memset(l->nonce, 0, sizeof l->nonce);
        l->next_seq = 1;
        each_request(fs, renumber_write);
    }
    if (gap) {
        log_warn("node %s no longer has the events after revision %" PRIu64 "; all caches are dropped",
                 l->node.name, a->complete);
        l->complete = a->events_from - 1;
        notifier_drop_all(fs);
    }
    file_reopen_all(fs);
    each_request(fs, resend);
}

int link_open(struct fs *fs, char *error_out, size_t size)
{
    struct link *l = &fs->link;
    uint64_t deadline = clock_boot_ms() + fs->options->timeout_ms;
    struct attempt a;
    int rc = -ENOENT;

    for (;;) {
        for (l->current = 0; l->current < l->n_paths; l->current++) {
            attempt_begin(fs, &a);
            rc = attempt(&a, l->paths[l->current]);
            if (rc == 0) {
                pthread_mutex_lock(&fs->lock);
                adopt(fs, &a);
                pthread_mutex_unlock(&fs->lock);
                return 0;
            }
            snprintf(error_out, size, "%s: %s: %s", l->paths[l->current], a.step,
                     rc < 0 ? strerror(-rc) : error_text(rc));
        }
        /* No socket, or nobody behind it, will not mend itself while we wait. */
        if (rc == -ENOENT || rc == -ECONNREFUSED || rc == -EACCES || clock_boot_ms() >= deadline)
            return -1;
        usleep(100000);
    }
}

int link_resolve(struct fs *fs, const char *path, struct attr *attr_out)
{
    struct link *l = &fs->link;
    struct buffer *b = client_queue(l->client, MESSAGE_RESOLVE, 3);
    struct cursor c;
    int rc;

    buffer_put_u8(b, READ_LINEARIZABLE);
    buffer_put_text(b, path);
    client_queue_end(l->client);
    rc = client_call(l->client, 3, fs->options->timeout_ms, &c, NULL, 0);
    if (rc != 0)
        return rc;
    attr_decode(&c, attr_out);
    return c.failed ? -EPROTO : 0;
}

static void forget_sent(struct fs *fs, struct request *r)
{
    r->sent = false;
    if (r->once)
        request_end(fs, r);
}

void link_drop(struct fs *fs)
{
    struct link *l = &fs->link;

    if (l->client == NULL)
        return;
    client_close(l->client);
    l->client = NULL;
    if (l->session_lost)
        l->session = 0;
    l->current = l->rotate ? (l->current + 1) % l->n_paths : 0;
    each_request(fs, forget_sent);
    /* Nobody tells this mount of changes now: the kernel has to ask again. */
    notifier_drop_all(fs);
}

/* One attempt at the current node; without the lock but for the ends. */
bool link_reconnect(struct fs *fs)
{
    struct link *l = &fs->link;
    struct attempt a;
    int rc;

    pthread_mutex_lock(&fs->lock);
    attempt_begin(fs, &a);
    pthread_mutex_unlock(&fs->lock);
    rc = attempt(&a, l->paths[l->current]);
    pthread_mutex_lock(&fs->lock);
    if (rc == 0) {
        adopt(fs, &a);
        log_info("connected to node %s", l->node.name);
    } else {
        log_debug("%s: %s: %s", l->paths[l->current], a.step, rc < 0 ? strerror(-rc) : error_text(rc));
        l->current = (l->current + 1) % l->n_paths;
    }
    pthread_mutex_unlock(&fs->lock);
    return rc == 0;
}
