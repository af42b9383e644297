/* Connecting, taking over what is unanswered, and dropping a connection. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/un.h>
#include <unistd.h>

#include "kvfs/link/hub.h"
#include "kvfs/link/keepalive.h"
#include "kvfs/link/uplink_internal.h"
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

/* bytes: for those of the command, which the caller frees. */
static union request_body registration(struct buffer *bytes, const uint8_t nonce[static 16], bool trusted)
{
    struct command command = {.op = COMMAND_REGISTER, .node = ""};
    struct command_body body = {.nonce = nonce, .name = (const uint8_t *)"kvfs", .name_len = 4};

    if (trusted)
        command.flags |= COMMAND_TRUSTED;
    command_encode(bytes, &command);
    command_body_encode(bytes, COMMAND_REGISTER, &body);
    return (union request_body){.write.command = bytes_of(bytes->data, bytes->len)};
}

/* Waits for the answer. 0, KV_E_*, -errno. */
static int ask(struct client *client, enum message_type type, const union request_body *request,
               unsigned timeout_ms, union answer_body *answer_out)
{
    struct cursor c;
    int rc;

    client_ask(client, type, type, request);
    rc = client_call(client, type, timeout_ms, &c, NULL, 0);
    if (rc == 0 && !body_decode_answer((uint8_t)type, &c, answer_out))
        rc = -EPROTO;
    return rc;
}

static int register_session(struct attempt *a)
{
    struct buffer bytes = BUFFER_INIT;
    const union request_body request = registration(&bytes, a->nonce, a->node.trusted);
    union answer_body answer;
    int rc = bytes.failed ? -ENOMEM : ask(a->client, MESSAGE_WRITE, &request, CONNECT_MS, &answer);

    buffer_deinit(&bytes);
    if (rc != 0)
        return rc;
    if (answer.write.code == 0)
        a->session = answer.write.session;
    return answer.write.code;
}

static int subscribe(struct attempt *a)
{
    const union request_body request = {.subscribe.after = a->complete};
    union answer_body answer;
    int rc = ask(a->client, MESSAGE_SUBSCRIBE, &request, CONNECT_MS, &answer);

    if (rc == 0)
        a->events_from = answer.subscribe.revision;
    return rc;
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

static void attempt_begin(struct hub *hub, struct attempt *a)
{
    struct uplink *u = &hub->uplink;

    *a = (struct attempt){.session = u->session, .seen = u->seen, .complete = u->complete};
    if (u->session == 0 && u->nonce[0] == 0 && getrandom(u->nonce, sizeof u->nonce, 0) > 0)
        u->nonce[0] |= 1; /* repeated until it is answered: registering twice gives one session */
    memcpy(a->nonce, u->nonce, sizeof a->nonce);
    /* Reads of this node alone need no majority, and a session does. */
    a->lazy = hub->options->read_local;
}

/* A call of a session that has ended. What was sent and not answered may have been
 * executed, and others may have written since: it is not repeated as it is. */
static void renumber(struct call *call)
{
    struct hub *hub = call->hub;
    struct uplink *u = &hub->uplink;
    bool executed = call->sends > 0 && !call->refused;

    if (call->on_new_session != NULL ? !call->on_new_session(call, executed) : executed) {
        log_warn("whether a request of the lost session was executed is not known: %s of inode %" PRIu64
                 "%s%s",
                 command_op_name(call->op), call->ino != 0 ? call->ino : call->parent,
                 call->name != NULL ? ", name " : "", call->name != NULL ? call->name : "");
        uplink_deliver(call, KV_E_UNKNOWN, NULL);
        return;
    }
    call->seq = u->next_seq++;
    call->sends = 0;
    call->refused = false;
    buffer_set_u64(&call->payload, SESSION_AT, u->session);
    buffer_set_u64(&call->payload, SEQ_AT, call->seq);
    buffer_set_u64(&call->payload, SEQ_AT + 8, 0);
}

/* Calls fn for every call that is with the link now, in order. fn may end it and
 * others; those that come later are not visited. */
static void each_call(struct hub *hub, void (*fn)(struct call *call))
{
    struct uplink *u = &hub->uplink;
    uint64_t last = u->numbers;
    struct call *call = TAILQ_FIRST(&u->wire);

    while (call != NULL && call->number <= last) {
        u->visited_next = TAILQ_NEXT(call, place);
        fn(call);
        call = u->visited_next;
    }
    u->visited_next = NULL;
}

static void renumber_write(struct call *call)
{
    if (call->seq != 0)
        renumber(call);
}

static void resend(struct call *call)
{
    struct hub *hub = call->hub;

    if (!call->sent && hub->uplink.client != NULL && !hub->uplink.broken)
        uplink_send_call(call);
}

/* u->session is a new one. */
static void begin_session(struct hub *hub)
{
    struct uplink *u = &hub->uplink;

    memset(u->nonce, 0, sizeof u->nonce);
    u->next_seq = 1;
    u->heard_ms = 0;
    u->keepalive_ms = clock_boot_ms() + uplink_keepalive_ms(u);
    hub->owner->on_session_lost(hub);
    each_call(hub, renumber_write);
    hub->owner->on_session(hub);
}

/* Nothing can be written now: those that wait for it are told so. */
static void refuse_write(struct call *call)
{
    if (call->seq != 0)
        uplink_deliver(call, KV_E_ROFS, NULL);
}

static void on_registered(struct call *call, int code, const union answer_body *answer)
{
    struct hub *hub = call->hub;
    struct uplink *u = &hub->uplink;

    if (code == 0)
        code = answer->write.code;
    call_end(call);
    u->registering = false;
    if (code == 0) {
        u->session = answer->write.session;
        begin_session(hub);
        each_call(hub, resend);
    } else if (code == KV_E_ROFS) {
        each_call(hub, refuse_write);
    }
}

void uplink_register(struct hub *hub)
{
    struct uplink *u = &hub->uplink;
    struct buffer bytes = BUFFER_INIT;
    union request_body request;
    struct call *call;
    struct attempt a;

    if (u->registering || u->client == NULL || u->broken)
        return;
    attempt_begin(hub, &a);
    request = registration(&bytes, a.nonce, u->node.trusted);
    call = bytes.failed ? NULL : call_begin(hub, NULL, CALL_PLAIN);
    if (call != NULL) {
        u->registering = true;
        uplink_send(call, MESSAGE_WRITE, &request, on_registered);
    }
    buffer_deinit(&bytes);
}

/* An earlier version does not know it, and tells no time: then nothing is kept, and a majority is asked. */
static void on_leased(struct call *call, int code, const union answer_body *answer)
{
    call_end(call);
}

static void lease(struct hub *hub)
{
    struct call *call;

    if (!hub->options->read_strict)
        return;
    call = call_begin(hub, NULL, CALL_PLAIN);
    if (call == NULL)
        return;
    call->once = true;
    call->deadline_ms = UINT64_MAX;
    uplink_send(call, MESSAGE_LEASED, NULL, on_leased);
}

static void adopt(struct hub *hub, struct attempt *a)
{
    struct uplink *u = &hub->uplink;
    bool gap = a->events_from > a->complete + 1;
    bool new_session = a->session != u->session;

    u->client = a->client;
    u->connections++;
    u->node = a->node;
    u->broken = u->rotate = u->want_write = u->session_lost = false;
    u->session = a->session;
    u->keepalive_ms = clock_boot_ms() + uplink_keepalive_ms(u);
    if (hub->options->author != NULL && u->node.level < COMMAND_LABEL_LEVEL && u->connections == 1)
        log_warn("author=%s is left out: the cluster is at feature level %u, names belong to level %d",
                 hub->options->author, u->node.level, COMMAND_LABEL_LEVEL);
    if (u->seen == 0)
        u->seen = u->complete = a->complete;
    if (new_session && u->session != 0)
        begin_session(hub);
    if (gap) {
        log_warn("node %s no longer has the events after revision %" PRIu64 "; all caches are dropped",
                 u->node.name, a->complete);
        u->complete = a->events_from - 1;
        hub->owner->on_gap(hub);
    }
    hub->owner->on_connected(hub);
    lease(hub);
    each_call(hub, resend);
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
static void look_for_socket(struct uplink *u, unsigned i, const char *node)
{
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    char *copy = client_socket_path(node, path, sizeof path) == 0 ? strdup(path) : NULL;

    if (copy != NULL) {
        free(u->paths[i]);
        u->paths[i] = copy;
    }
}

static int open_first(struct hub *hub, char *reason_out, size_t size)
{
    struct uplink *u = &hub->uplink;
    int result = -1;

    for (u->current = 0; u->current < u->n_paths; u->current++) {
        struct attempt a;
        bool will;
        char reason[512];
        int rc;

        look_for_socket(u, u->current, hub->options->nodes[u->current]);
        attempt_begin(hub, &a);
        rc = attempt(&a, u->paths[u->current]);
        if (rc == 0) {
            pthread_mutex_lock(&hub->lock);
            adopt(hub, &a);
            pthread_mutex_unlock(&hub->lock);
            return 0;
        }
        will = describe(&a, u->paths[u->current], rc, reason, sizeof reason);
        /* Said is what was come nearest to. */
        if (u->current == 0 || (will && (result < 0 || a.client_open)))
            snprintf(reason_out, size, "%s", reason);
        if (will)
            result = 1;
    }
    u->current = 0;
    return result;
}

static int resolve(struct hub *hub, const char *path, struct attr *attr_out)
{
    struct uplink *u = &hub->uplink;
    const union request_body request = {
        .resolve = {.at = hub->options->read_local ? READ_LOCAL : READ_LINEARIZABLE,
                    .path = bytes_text(path)}};
    union answer_body answer;
    int rc = ask(u->client, MESSAGE_RESOLVE, &request, hub->options->timeout_ms, &answer);

    if (rc == 0)
        *attr_out = answer.resolve.attr;
    return rc;
}

int uplink_open(struct hub *hub, const char *prefix, char *reason_out, size_t size)
{
    struct uplink *u = &hub->uplink;
    struct attr attr;
    int rc = u->client != NULL ? 0 : open_first(hub, reason_out, size);

    if (rc != 0 || prefix == NULL || prefix[strspn(prefix, "/")] == '\0')
        return rc;
    rc = resolve(hub, prefix, &attr);
    if (rc == 0 && attr.type == INODE_DIRECTORY) {
        hub->root_ino = attr.ino;
        return 0;
    }
    if (rc < 0 || rc == KV_E_UNAVAILABLE || rc == KV_E_ROFS || rc == KV_E_BUSY || rc == KV_E_NOTLEADER) {
        snprintf(reason_out, size, "a majority (node %s: %s)", u->node.name,
                 rc < 0 ? strerror(-rc) : error_text(rc));
        client_close(u->client);
        u->client = NULL;
        return 1;
    }
    snprintf(reason_out, size, "prefix=%s: %s", prefix, error_text(rc == 0 ? KV_E_NOTDIR : rc));
    return -1;
}

static void forget_sent(struct call *call)
{
    call->sent = false;
    if (call->once)
        call_end(call);
}

void uplink_drop(struct hub *hub)
{
    struct uplink *u = &hub->uplink;

    if (u->client == NULL)
        return;
    client_close(u->client);
    u->client = NULL;
    if (u->session_lost)
        u->session = 0;
    u->current = u->rotate ? (u->current + 1) % u->n_paths : 0;
    each_call(hub, forget_sent);
    hub->owner->on_dropped(hub);
}

/* One attempt at the current node; without the lock but for the ends. */
bool uplink_reconnect(struct hub *hub)
{
    struct uplink *u = &hub->uplink;
    struct attempt a;
    int rc;

    pthread_mutex_lock(&hub->lock);
    attempt_begin(hub, &a);
    pthread_mutex_unlock(&hub->lock);
    rc = attempt(&a, u->paths[u->current]);
    pthread_mutex_lock(&hub->lock);
    if (rc == 0) {
        adopt(hub, &a);
        /* Looking around for one that knows more comes back to the same one again and again. */
        if (u->logged != u->current + 1)
            log_info("connected to node %s", u->node.name);
        u->logged = u->current + 1;
    } else {
        log_debug("%s: %s: %s", u->paths[u->current], a.step, rc < 0 ? strerror(-rc) : error_text(rc));
        u->current = (u->current + 1) % u->n_paths;
    }
    pthread_mutex_unlock(&hub->lock);
    return rc == 0;
}
