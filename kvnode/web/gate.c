#include "kvnode/web/gate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvnode/client/serve.h"
#include "kvnode/group/group.h"
#include "kvnode/loop/stream.h"
#include "kvnode/loop/turn.h"
#include "kvnode/web/feed.h"
#include "kvnode/web/gate_internal.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

/* What one turn spends on one gate's answers, and on what feeds hand on. */
#define ANSWERS_NS 1000000

void gates_init(struct gates *all, struct serve *serve, const struct group *group)
{
    all->serve = serve;
    all->group = group;
    all->n = 0;
    LIST_INIT(&all->all);
}

static bool same(const struct web_who *a, const struct web_who *b)
{
    return a->uid == b->uid && a->gid == b->gid && a->n_groups == b->n_groups &&
           memcmp(a->groups, b->groups, a->n_groups * sizeof a->groups[0]) == 0 &&
           strcmp(a->label, b->label) == 0;
}

/* Nobody uses it, and its stream has ended. */
static void free_if_unused(struct gate *g)
{
    if (g->refs > 0 || g->stream != NULL || g->in_answers)
        return;
    LIST_REMOVE(g, link);
    g->all->n--;
    gate_session_put(g->session);
    free(g);
}

static void take_out(struct gate_call *call)
{
    if (call->lost)
        LIST_REMOVE(call, link);
    else
        HASH_DEL(call->gate->calls, call);
    call->gate = NULL;
}

static bool has_calls(const struct gate *g)
{
    return g->calls != NULL || !LIST_EMPTY(&g->lost);
}

static void answer(struct gate *g, const struct frame *frame)
{
    struct cursor c = cursor_of(frame->payload, frame->len);
    union answer_body body;
    struct gate_call *call;
    char detail[512] = "";
    uint16_t code = cursor_u16(&c);

    HASH_FIND(hh, g->calls, &frame->id, sizeof frame->id, call);
    if (call == NULL)
        return; /* it was given up */
    if (code == KV_OK && !body_decode_answer(call->type, &c, &body))
        code = KV_E_PROTOCOL;
    if (code != KV_OK) {
        size_t len;
        const uint8_t *text = cursor_string(&c, sizeof detail - 1, &len);

        if (text != NULL)
            memcpy(detail, text, len);
    }
    take_out(call);
    call->done(call->arg, code, code == KV_OK ? &body : NULL, detail);
}

/* At least one; what there is no time for comes again in the next turn. */
static size_t on_output(void *arg, const uint8_t *data, size_t len)
{
    uint64_t until_ns = clock_boot_ns() + ANSWERS_NS;
    struct gate *g = arg;
    size_t at = 0;

    g->in_answers = true;
    while (at < len && (at == 0 || !turn_time_is_up(until_ns))) {
        struct frame frame;
        long used = frame_parse(data + at, len - at, &frame);

        if (used <= 0)
            break;
        at += (size_t)used;
        if (frame.type == MESSAGE_ANSWER)
            answer(g, &frame);
        else if (frame.type == MESSAGE_EVENT && g->feed != NULL)
            feed_wake(g->feed);
    }
    g->in_answers = false;
    if (g->refs == 0 && !g->listed && g->stream != NULL)
        stream_close(g->stream);
    return at;
}

/* What was asked up to now; what comes of it is for the next turn. */
static void fail_calls(struct gate *g)
{
    uint64_t last = g->last_id;
    struct gate_call *call;

    while (has_calls(g)) {
        call = g->calls != NULL && g->calls->id <= last ? g->calls : LIST_FIRST(&g->lost); /* the oldest */
        if (call == NULL || call->id > last)
            break;
        take_out(call);
        call->done(call->arg, -ECONNRESET, NULL, "");
    }
}

/* From where the last turn has ended. */
static void hand_on(struct gates *all)
{
    uint64_t until_ns = clock_boot_ns() + ANSWERS_NS;
    struct gate *g;

    all->feeding = false;
    LIST_FOREACH (g, &all->all, link)
        if (g->feed != NULL && feed_turn(g->feed, until_ns))
            all->feeding = true;
}

bool gates_turn(struct gates *all)
{
    struct gate *g, *next;
    bool more = false;

    if (all->feeding)
        hand_on(all);
    if (!all->orphans)
        return all->feeding;
    all->orphans = false;
    LIST_FOREACH_SAFE(g, &all->all, link, next)
    {
        if (g->stream != NULL || !has_calls(g))
            continue;
        g->in_answers = true;
        fail_calls(g);
        g->in_answers = false;
        more |= has_calls(g);
        free_if_unused(g);
    }
    all->orphans |= more;
    return all->orphans || all->feeding;
}

/* He is not used, and who asks for one of his user gets a new one. */
static void retire(struct gate *g)
{
    g->listed = false;
    g->all->n_idle--;
    g->refs++;
    gate_session_end(g);
    gate_put(g);
}

static struct gate *longest_idle(const struct gates *all)
{
    struct gate *g, *oldest = NULL;

    LIST_FOREACH (g, &all->all, link)
        if (g->refs == 0 && g->listed && (oldest == NULL || g->idle_ms < oldest->idle_ms))
            oldest = g;
    return oldest;
}

void gates_beat(struct gates *all, uint64_t now_ms)
{
    struct gate *g;

    while (all->n_idle > 0 && (g = longest_idle(all)) != NULL && now_ms - g->idle_ms >= GATE_IDLE_MS)
        retire(g);
}

/* All that was asked is answered: nobody knows how it went. */
static void on_closed(void *arg)
{
    struct gate *g = arg;

    g->stream = NULL;
    if (g->refs == 0 && g->listed)
        g->all->n_idle--;
    g->listed = false; /* the next one who asks has a new one */
    g->in_answers = true;
    fail_calls(g);
    if (g->feed != NULL)
        feed_end(g->feed);
    g->in_answers = false;
    free_if_unused(g);
}

/* What follows is refused likewise, if this was. */
static void on_hello(void *arg, int code, const union answer_body *answer_body, const char *detail)
{
    (void)arg;
    (void)code;
    (void)answer_body;
    (void)detail;
}

struct gate *gate_get(struct gates *all, const struct web_who *who, const char **why_out)
{
    struct serve_local local = {.uid = who->uid,
                                .gid = who->gid,
                                .groups = who->groups,
                                .n_groups = who->n_groups,
                                .take = on_output,
                                .closed = on_closed};
    union request_body hello = {.hello = {.magic = bytes_text(MESSAGE_MAGIC),
                                          .kind = CLIENT_ADMIN,
                                          .name = bytes_text("http"),
                                          .has_protocol = true,
                                          .protocol = MESSAGE_PROTOCOL}};
    struct gate *g;

    *why_out = NULL;
    LIST_FOREACH (g, &all->all, link) {
        if (g->listed && same(&g->who, who)) {
            if (g->refs++ == 0)
                all->n_idle--;
            return g;
        }
    }
    g = calloc(1, sizeof *g);
    if (g == NULL)
        return NULL;
    LIST_INIT(&g->lost);
    g->all = all;
    g->who = *who;
    g->refs = 1;
    g->trusted = who->uid == 0 || who->uid == geteuid();
    local.arg = g;
    if (serve_attach(all->serve, &local, &g->stream, why_out) != 0) {
        free(g);
        return NULL;
    }
    LIST_INSERT_HEAD(&all->all, g, link);
    g->listed = true;
    all->n++;
    gate_ask(g, &g->hello, MESSAGE_HELLO, &hello, on_hello, g);
    return g;
}

struct gate *gate_ref(struct gate *g)
{
    g->refs++;
    return g;
}

void gate_put(struct gate *g)
{
    if (g == NULL || --g->refs > 0)
        return;
    if (g->stream == NULL) {
        free_if_unused(g);
    } else if (!g->listed) {
        if (!g->in_answers)
            stream_close(g->stream); /* on_closed() frees it */
    } else {
        g->idle_ms = clock_boot_ms();
        if (++g->all->n_idle > GATES_IDLE_MAX)
            retire(longest_idle(g->all));
    }
}

void gates_deinit(struct gates *all)
{
    if (all->n > 0)
        log_warn("http: %u gates are left", all->n);
}

bool gate_ended(const struct gate *g)
{
    return !g->listed;
}

/* Without memory for it the connection ends, which answers all that is under way. */
static void add_call(struct gate *g, struct gate_call *call)
{
    call->lost = false;
    call->hh.tbl = NULL;
    HASH_ADD(hh, g->calls, id, sizeof call->id, call);
    if (HASH_ADDED(hh, call))
        return;
    call->lost = true;
    LIST_INSERT_HEAD(&g->lost, call, link);
    if (g->refs > 0)
        g->listed = false; /* the next one who asks has a new one */
    if (g->stream != NULL)
        stream_close(g->stream);
    else
        g->all->orphans = true;
}

static void enter(struct gate *g, struct gate_call *call, uint8_t type, gate_done *done, void *arg)
{
    call->gate = g;
    call->id = ++g->last_id;
    call->type = type;
    call->done = done;
    call->arg = arg;
    add_call(g, call);
}

/* A stream that ends answers by on_closed(); one that has ended, by gates_turn(). */
static void feed(struct gate *g, struct buffer *b)
{
    g->all->asked = true;
    if (g->stream != NULL && !b->failed)
        stream_feed(g->stream, b->data, b->len);
    else if (g->stream != NULL)
        stream_close(g->stream); /* out of memory */
    else
        g->all->orphans = true;
    buffer_deinit(b);
}

void gate_ask(struct gate *g, struct gate_call *call, uint8_t type, const union request_body *body,
              gate_done *done, void *arg)
{
    struct buffer b = BUFFER_INIT;
    size_t at;

    enter(g, call, type, done, arg);
    at = frame_begin(&b, type, g->all->group->number, call->id);
    body_encode_request(&b, type, body);
    frame_end(&b, at);
    feed(g, &b);
}

void gate_ask_write(struct gate *g, struct gate_call *call, const struct command *cmd, gate_done *done,
                    void *arg)
{
    struct buffer b = BUFFER_INIT;
    size_t at;

    enter(g, call, MESSAGE_WRITE, done, arg);
    at = frame_begin(&b, MESSAGE_WRITE, g->all->group->number, call->id);
    body_encode_request(&b, MESSAGE_WRITE, NULL);
    command_encode(&b, cmd);
    frame_end(&b, at);
    feed(g, &b);
}

void gate_cancel(struct gate_call *call)
{
    if (call->gate != NULL)
        take_out(call);
}

void gate_call_move(struct gate_call *from, struct gate_call *to, gate_done *done, void *arg)
{
    struct gate *g = from->gate;

    take_out(from);
    *to = (struct gate_call){.gate = g, .id = from->id, .type = from->type, .done = done, .arg = arg};
    add_call(g, to);
}
