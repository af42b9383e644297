/* Connecting, taking over what is unanswered, and dropping a connection. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/un.h>
#include <unistd.h>

#include "kvfs/link/core.h"
#include "kvfs/link/link_internal.h"
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
    bool client_open; /* the node said hello */
    bool lazy;        /* does without a session */
};

static void put_registration(struct buffer *b, const uint8_t nonce[static 16], bool trusted)
{
    struct command command = {.op = COMMAND_REGISTER, .node = ""};
    struct command_body body = {.nonce = nonce, .name = (const uint8_t *)"kvfs", .name_len = 4};

    if (trusted)
        command.flags |= COMMAND_TRUSTED;
    buffer_put_u8(b, 0);
    buffer_put_u32(b, 0);
    buffer_put_u32(b, 0);
    command_encode(b, &command);
    command_body_encode(b, COMMAND_REGISTER, &body);
}

static int register_session(struct attempt *a)
{
    struct buffer *b = client_queue(a->client, MESSAGE_WRITE, 1);
    struct command_result result;
    struct cursor c;
    int rc;

    put_registration(b, a->nonce, a->node.trusted);
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
    a->client_open = true;
    if (first)
        a->seen = a->complete = a->node.applied;
    if (a->session == 0 && !a->lazy) {
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

static void attempt_begin(struct core *core, struct attempt *a)
{
    struct link *l = &core->link;

    *a = (struct attempt){.session = l->session, .seen = l->seen, .complete = l->complete};
    if (l->session == 0 && l->nonce[0] == 0 && getrandom(l->nonce, sizeof l->nonce, 0) > 0)
        l->nonce[0] |= 1; /* repeated until it is answered: registering twice gives one session */
    memcpy(a->nonce, l->nonce, sizeof a->nonce);
    /* Reads of this node alone need no majority, and a session does. */
    a->lazy = core->options->read_local;
}

/* A request of a session that has ended. What was sent and not answered may have been
 * executed, and others may have written since: it is not repeated as it is. */
static void renumber(struct request *r)
{
    struct core *core = r->core;
    struct link *l = &core->link;
    struct cursor nothing = cursor_of(NULL, 0);
    bool executed = r->sends > 0 && !r->refused;

    if (r->on_new_session != NULL ? !r->on_new_session(r, executed) : executed) {
        log_warn("whether a request of the lost session was executed is not known: %s of inode %" PRIu64
                 "%s%s",
                 command_op_name(r->op), r->ino != 0 ? r->ino : r->parent, r->name != NULL ? ", name " : "",
                 r->name != NULL ? r->name : "");
        link_deliver(r, KV_E_UNKNOWN, &nothing);
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
static void each_request(struct core *core, void (*fn)(struct request *r))
{
    struct link *l = &core->link;
    uint64_t last = l->numbers;
    struct request *r = TAILQ_FIRST(&l->wire);

    while (r != NULL && r->number <= last) {
        l->visited_next = TAILQ_NEXT(r, place);
        fn(r);
        r = l->visited_next;
    }
    l->visited_next = NULL;
}

static void renumber_write(struct request *r)
{
    if (r->seq != 0)
        renumber(r);
}

static void resend(struct request *r)
{
    struct core *core = r->core;

    if (!r->sent && core->link.client != NULL && !core->link.broken)
        link_send_request(r);
}

/* l->session is a new one. */
static void begin_session(struct core *core)
{
    struct link *l = &core->link;

    memset(l->nonce, 0, sizeof l->nonce);
    l->next_seq = 1;
    l->keepalive_ms = clock_boot_ms() + KEEPALIVE_MS;
    each_request(core, renumber_write);
}

/* Nothing can be written now: those that wait for it are told so. */
static void refuse_write(struct request *r)
{
    struct cursor nothing = cursor_of(NULL, 0);

    if (r->seq != 0)
        link_deliver(r, KV_E_ROFS, &nothing);
}

static void on_registered(struct request *r, int code, struct cursor *body)
{
    struct core *core = r->core;
    struct link *l = &core->link;
    struct command_result result = {0};

    if (code == 0) {
        command_result_decode(body, &result);
        code = body->failed ? -EPROTO : result.code;
    }
    request_end(r);
    l->registering = false;
    if (code == 0) {
        l->session = result.session;
        begin_session(core);
        each_request(core, resend);
    } else if (code == KV_E_ROFS) {
        each_request(core, refuse_write);
    }
}

void link_register(struct core *core)
{
    struct link *l = &core->link;
    struct request *r;
    struct attempt a;

    if (l->registering || l->client == NULL || l->broken)
        return;
    r = request_begin(core, NULL, REQUEST_PLAIN);
    if (r == NULL)
        return;
    attempt_begin(core, &a);
    put_registration(&r->payload, a.nonce, l->node.trusted);
    l->registering = true;
    link_send(r, MESSAGE_WRITE, on_registered);
}

static void adopt(struct core *core, struct attempt *a)
{
    struct link *l = &core->link;
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
    if (new_session && l->session != 0)
        begin_session(core);
    if (gap) {
        log_warn("node %s no longer has the events after revision %" PRIu64 "; all caches are dropped",
                 l->node.name, a->complete);
        l->complete = a->events_from - 1;
        core->owner->on_gap(core);
    }
    core->owner->on_connected(core);
    each_request(core, resend);
}

/* Connecting for the first time */

/* What is waited for, if an attempt failed like that; false: for nothing, it will not mend itself. */
static bool describe(const struct attempt *a, const char *path, int rc, char *out, size_t size)
{
    const char *text = rc == -ETIMEDOUT ? "it does not answer" : rc < 0 ? strerror(-rc) : error_text(rc);

    if (rc == -EACCES || rc == -EPROTO || rc == KV_E_PROTOCOL || rc == KV_E_PERM || rc == KV_E_ACCES) {
        snprintf(out, size, "%s: %s: %s. Try: kvnode doctor", path, a->step,
                 rc == -EPROTO ? "it speaks another protocol" : text);
        return false;
    }
    if (a->client_open || rc == KV_E_ROFS)
        snprintf(out, size, "a majority (node %s: %s: %s)", a->node.name, a->step, text);
    else
        snprintf(out, size, "a node (%s: %s)", path, text);
    return true;
}

/* The socket of a node that was not there may have come to another place. */
static void look_for_socket(struct link *l, unsigned i, const char *node)
{
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    char *copy = client_socket_path(node, path, sizeof path) == 0 ? strdup(path) : NULL;

    if (copy != NULL) {
        free(l->paths[i]);
        l->paths[i] = copy;
    }
}

static int open_first(struct core *core, char *reason_out, size_t size)
{
    struct link *l = &core->link;
    int result = -1;

    for (l->current = 0; l->current < l->n_paths; l->current++) {
        struct attempt a;
        bool will;
        char reason[512];
        int rc;

        look_for_socket(l, l->current, core->options->nodes[l->current]);
        attempt_begin(core, &a);
        rc = attempt(&a, l->paths[l->current]);
        if (rc == 0) {
            pthread_mutex_lock(&core->lock);
            adopt(core, &a);
            pthread_mutex_unlock(&core->lock);
            return 0;
        }
        will = describe(&a, l->paths[l->current], rc, reason, sizeof reason);
        /* Said is what was come nearest to. */
        if (l->current == 0 || (will && (result < 0 || a.client_open)))
            snprintf(reason_out, size, "%s", reason);
        if (will)
            result = 1;
    }
    l->current = 0;
    return result;
}

static int resolve(struct core *core, const char *path, struct attr *attr_out)
{
    struct link *l = &core->link;
    struct buffer *b = client_queue(l->client, MESSAGE_RESOLVE, 3);
    struct cursor c;
    int rc;

    buffer_put_u8(b, core->options->read_local ? READ_LOCAL : READ_LINEARIZABLE);
    buffer_put_text(b, path);
    client_queue_end(l->client);
    rc = client_call(l->client, 3, core->options->timeout_ms, &c, NULL, 0);
    if (rc != 0)
        return rc;
    attr_decode(&c, attr_out);
    return c.failed ? -EPROTO : 0;
}

int link_open(struct core *core, const char *prefix, char *reason_out, size_t size)
{
    struct link *l = &core->link;
    struct attr attr;
    int rc = l->client != NULL ? 0 : open_first(core, reason_out, size);

    if (rc != 0 || prefix == NULL || prefix[strspn(prefix, "/")] == '\0')
        return rc;
    rc = resolve(core, prefix, &attr);
    if (rc == 0 && attr.type == INODE_DIRECTORY) {
        core->root_ino = attr.ino;
        return 0;
    }
    if (rc < 0 || rc == KV_E_UNAVAILABLE || rc == KV_E_ROFS || rc == KV_E_BUSY || rc == KV_E_NOTLEADER) {
        snprintf(reason_out, size, "a majority (node %s: %s)", l->node.name,
                 rc < 0 ? strerror(-rc) : error_text(rc));
        client_close(l->client);
        l->client = NULL;
        return 1;
    }
    snprintf(reason_out, size, "prefix=%s: %s", prefix, error_text(rc == 0 ? KV_E_NOTDIR : rc));
    return -1;
}

static void forget_sent(struct request *r)
{
    r->sent = false;
    if (r->once)
        request_end(r);
}

void link_drop(struct core *core)
{
    struct link *l = &core->link;

    if (l->client == NULL)
        return;
    client_close(l->client);
    l->client = NULL;
    if (l->session_lost)
        l->session = 0;
    l->current = l->rotate ? (l->current + 1) % l->n_paths : 0;
    each_request(core, forget_sent);
    core->owner->on_dropped(core);
}

/* One attempt at the current node; without the lock but for the ends. */
bool link_reconnect(struct core *core)
{
    struct link *l = &core->link;
    struct attempt a;
    int rc;

    pthread_mutex_lock(&core->lock);
    attempt_begin(core, &a);
    pthread_mutex_unlock(&core->lock);
    rc = attempt(&a, l->paths[l->current]);
    pthread_mutex_lock(&core->lock);
    if (rc == 0) {
        adopt(core, &a);
        /* Looking around for one that knows more comes back to the same one again and again. */
        if (l->logged != l->current + 1)
            log_info("connected to node %s", l->node.name);
        l->logged = l->current + 1;
    } else {
        log_debug("%s: %s: %s", l->paths[l->current], a.step, rc < 0 ? strerror(-rc) : error_text(rc));
        l->current = (l->current + 1) % l->n_paths;
    }
    pthread_mutex_unlock(&core->lock);
    return rc == 0;
}
