/* GET /v1/events: changes of keys as server-sent events (HTML, "server-sent events"). A client that does not
 * read has at most EVENTS_BUFFER waiting, and goes on from the log once it reads again.
 *
 * GET /v1/log: the same rows, a page of them. GET /v1/locks: who holds and who waits. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvnode/config/config.h"
#include "kvnode/peer/self.h"
#include "kvnode/group/group.h"
#include "kvnode/web/feed.h"
#include "kvnode/web/web_internal.h"
#include "sync/base/error.h"
#include "sync/base/lock_ranges.h"
#include "sync/wire/token.h"

#define EVENTS_BUFFER (32 * 1024)
#define EVENTS_PAGE (256 * 1024) /* what a page may make of that; it has less but for the oddest of keys */
#define EVENTS_BLOCK 4096
#define LOCKS_NAMED_MAX 64 /* of an answer: a path is a walk up to the root */

/* One stream; the response's, which may outlive the request, or the other way round. */
struct stream_out {
    struct web_request *request; /* NULL: it has gone */
    struct follower follower;
    struct buffer out;
    size_t at;    /* of it that has been sent */
    char *prefix; /* owned */
    uint64_t cluster;
    struct token *token; /* a reference, or NULL: of one that may have all */
    bool ended, reading;
    unsigned refs;
    LIST_ENTRY(stream_out) link; /* in web->events */
};

static void put_stream(struct stream_out *s)
{
    if (--s->refs > 0)
        return;
    buffer_deinit(&s->out);
    token_put(s->token);
    free(s->prefix);
    free(s);
}

static size_t waiting(const struct stream_out *s)
{
    return s->out.len - s->at;
}

static void wake(struct stream_out *s)
{
    if (s->request != NULL && s->reading)
        web_resume(s->request);
}

static void put_text(struct stream_out *s, const char *text)
{
    buffer_put_bytes(&s->out, text, strlen(text));
}

/* A name that the token is not for is not told: who moves a key out of there has deleted it. NULL: both are.
 */
static json_t *row_json(const struct log_row *row, const struct token *token)
{
    bool to = token_covers(token, row->key, row->key_len),
         from = row->from_len > 0 && token_covers(token, row->from, row->from_len);
    json_t *o = to || from ? web_json_row(&row->row) : NULL;

    if (o == NULL)
        return NULL;
    if (!to) {
        json_object_set_new(o, "operation", json_string("del"));
        json_object_set_new(o, "deleted", json_true());
        web_json_set(o, "key", row->from, row->from_len);
        return o;
    }
    web_json_set(o, "key", row->key, row->key_len);
    if (from)
        web_json_set(o, "from", row->from, row->from_len);
    return o;
}

static bool begins(const char *prefix, const uint8_t *key, size_t len)
{
    size_t n = strlen(prefix);

    return len >= n && memcmp(key, prefix, n) == 0;
}

static bool on_ready(void *arg, bool amid)
{
    const struct stream_out *s = arg;

    return waiting(s) < (amid ? EVENTS_PAGE : EVENTS_BUFFER);
}

static void make_event(struct buffer *out, const struct log_row *row, bool last, const struct stream_out *s)
{
    json_t *o = row_json(row, s->token);
    char *text = json_dumps(o, JSON_COMPACT); /* one line: control characters are escaped */
    char head[32 + PLACE_TOKEN_SIZE] = "event: change\n", token[PLACE_TOKEN_SIZE];

    json_decref(o);
    if (text == NULL)
        return;
    /* Whoever comes back with an id has had all up to it. */
    if (last) {
        place_token_format(s->cluster, row->row.revision, token);
        snprintf(head, sizeof head, "event: change\nid: %s\n", token);
    }
    buffer_put_bytes(out, head, strlen(head));
    buffer_put_bytes(out, "data: ", strlen("data: "));
    buffer_put_bytes(out, text, strlen(text));
    buffer_put_bytes(out, "\n\n", 2);
    free(text);
}

static void on_row(void *arg, const struct log_row *row, bool last, struct buffer *text)
{
    struct stream_out *s = arg;

    if (!begins(s->prefix, row->key, row->key_len) && !begins(s->prefix, row->from, row->from_len))
        return;
    if (s->ended)
        return; /* its token may be another one than the others' */
    if (!token_covers(s->token, row->key, row->key_len) &&
        (row->from_len == 0 || !token_covers(s->token, row->from, row->from_len)))
        return;
    if (text->len == 0) /* all who follow the gate's feed have the same token */
        make_event(text, row, last, s);
    if (text->len == 0 || text->failed)
        s->ended = true;
    else
        buffer_put_bytes(&s->out, text->data, text->len);
}

static void on_gap(void *arg, uint64_t after, uint64_t until)
{
    struct stream_out *s = arg;
    char text[160];

    snprintf(text, sizeof text,
             "event: reset\ndata: {\"after\":\"0-%" PRIu64 "\",\"until\":\"0-%" PRIu64 "\"}\n\n", after,
             until);
    put_text(s, text);
}

static void on_flush(void *arg)
{
    struct stream_out *s = arg;

    s->ended |= s->out.failed;
    if (waiting(s) > 0 || s->ended)
        wake(s);
}

static void on_end(void *arg)
{
    struct stream_out *s = arg;

    s->ended = true;
    wake(s);
}

static ssize_t on_read(void *arg, uint64_t pos, char *out, size_t max)
{
    struct stream_out *s = arg;
    size_t n = waiting(s);

    (void)pos;
    s->reading = false;
    if (s->request == NULL || s->request->dead)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (n > 0) {
        n = n < max ? n : max;
        memcpy(out, s->out.data + s->at, n);
        s->at += n;
        if (s->at == s->out.len) {
            s->at = 0;
            if (s->out.cap > EVENTS_BLOCK)
                buffer_deinit(&s->out); /* 1,000 who are idle hold nothing */
            buffer_clear(&s->out);
        } else if (s->at >= EVENTS_BLOCK && s->at >= s->out.len / 2) {
            buffer_consume(&s->out, s->at); /* there may always be something waiting */
            s->at = 0;
        }
        return (ssize_t)n;
    }
    if (s->ended)
        return MHD_CONTENT_READER_END_OF_STREAM;
    feed_more(&s->follower);
    s->reading = true;
    web_suspend(s->request);
    return 0;
}

static void on_sent(void *arg)
{
    put_stream(arg);
}

void events_cancel(struct web_request *r)
{
    struct stream_out *s = r->state;

    if (s == NULL)
        return;
    r->state = NULL;
    s->request = NULL;
    feed_leave(&s->follower);
    LIST_REMOVE(s, link);
    put_stream(s);
}

/* From where: Last-Event-ID, which a browser sends when it comes back, ?since, or now. False: replied. */
static bool since(struct web_request *r, struct follower *f)
{
    uint64_t cluster = r->web->owner.self->config->cluster_id, named;
    const char *id = web_header(r, "Last-Event-ID");

    if (id == NULL || id[0] == '\0')
        id = url_has(r->url, PARAM_SINCE) ? r->url->value[PARAM_SINCE] : NULL;
    f->from_now = id == NULL;
    if (id == NULL)
        return true;
    if (place_token_parse(id, strlen(id), &named, &f->after) && (named == 0 || named == cluster))
        return true;
    if (named != 0)
        web_fail(r, 400, "this token is of another cluster, %016" PRIx64 "; this one is %016" PRIx64, named,
                 cluster);
    else
        web_fail(r, 400,
                 "`since` and Last-Event-ID are tokens that were given here, or revisions, such as "
                 "0-18231");
    return false;
}

static void begin(struct web_request *r)
{
    struct stream_out *s = r->state;
    struct MHD_Response *response = NULL;

    put_text(s, ":\n\n"); /* so that headers leave at once */
    if (feed_follow(r->gate, &s->follower))
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, EVENTS_BLOCK, on_read, s, on_sent);
    if (response == NULL) {
        web_fail_code(r, KV_E_BUSY, "out of memory", false);
        return;
    }
    s->refs++;
    MHD_add_response_header(response, "Content-Type", "text/event-stream");
    MHD_add_response_header(response, "Cache-Control", "no-store");
    web_reply(r, 200, response);
    /* What an idle one would hold for nothing. */
    free(r->url);
    r->url = NULL;
    free(r->conn->raw);
    r->conn->raw = NULL;
}

/* This node has all by now that was told to anybody, so a place beyond it is one of another state. */
static void on_barrier(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;
    struct stream_out *s = r->state;

    if (code != KV_OK) {
        web_fail_code(r, code, detail, false);
        return;
    }
    if (s->follower.after > answer->barrier.revision) {
        on_gap(s, answer->barrier.revision, s->follower.after);
        s->follower.after = answer->barrier.revision;
    }
    begin(r);
}

void events_start(struct web_request *r)
{
    struct stream_out *s = calloc(1, sizeof *s);

    if (s != NULL)
        s->prefix = strdup(url_has(r->url, PARAM_PREFIX) ? r->url->value[PARAM_PREFIX] : "");
    if (s == NULL || s->prefix == NULL) {
        free(s);
        web_fail_code(r, KV_E_BUSY, "out of memory", false);
        return;
    }
    s->request = r;
    s->refs = 1;
    s->token = r->token != NULL ? token_ref(r->token) : NULL;
    s->cluster = r->web->owner.self->config->cluster_id;
    r->state = s;
    LIST_INSERT_HEAD(&r->web->events, s, link);
    s->follower.ready = on_ready;
    s->follower.row = on_row;
    s->follower.gap = on_gap;
    s->follower.flush = on_flush;
    s->follower.end = on_end;
    s->follower.arg = s;
    if (since(r, &s->follower))
        web_ask(r, MESSAGE_BARRIER, NULL, on_barrier);
}

void events_beat(struct web *w, uint64_t now_ms)
{
    struct stream_out *s;

    if (now_ms < w->heartbeat_ms)
        return;
    w->heartbeat_ms = now_ms + EVENTS_HEARTBEAT_MS;
    LIST_FOREACH (s, &w->events, link) {
        if (s->reading && waiting(s) == 0) {
            put_text(s, ":\n\n");
            wake(s);
        }
    }
}

void events_revoke(struct web *w)
{
    struct stream_out *s;

    LIST_FOREACH (s, &w->events, link) {
        if (s->token != NULL && s->token->revoked) {
            s->ended = true;
            wake(s);
        }
    }
}

/* ---- pages of the log ---- */

static void on_log(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;
    struct log_row row;
    struct cursor c, labels;
    json_t *o, *list;
    uint32_t i;

    if (code != KV_OK) {
        web_fail_code(r, code, detail, false);
        return;
    }
    list = json_array();
    c = rows_cursor(&answer->log.rows);
    labels = cursor_of(answer->log.labels.data, answer->log.labels.len);
    for (i = 0; i < answer->log.rows.count; i++) {
        log_row_decode(&c, &row);
        labels_next(&labels, &row.row);
        o = row_json(&row, r->token);
        if (o != NULL)
            json_array_append_new(list, o);
    }
    o = json_object();
    json_object_set_new(o, "operations", list);
    json_object_set_new(o, "more", json_boolean(answer->log.more));
    if (answer->log.gap_until > 0)
        json_object_set_new(o, "gap",
                            json_pack("{s:o, s:o}", "after", web_json_token(answer->log.gap_after), "until",
                                      web_json_token(answer->log.gap_until)));
    web_json_set_base64(o, "next", answer->log.cursor.data, answer->log.cursor.len);
    web_reply_json(r, 200, o);
}

void info_log(struct web_request *r)
{
    union request_body ask = {0};
    struct buffer cursor = BUFFER_INIT;
    uint64_t limit, after = 0;
    const char *text;

    if (!url_number(r->url, PARAM_LIMIT, 100, 1, WEB_ROWS_MAX, &limit)) {
        web_fail(r, 400, "%s", r->url->why);
        return;
    }
    text = url_has(r->url, PARAM_SINCE) ? r->url->value[PARAM_SINCE] : NULL;
    if (text != NULL && !token_parse(text, strlen(text), &after)) {
        web_fail(r, 400, "`since` is a revision, such as 0-18231");
        return;
    }
    text = url_has(r->url, PARAM_AFTER) ? r->url->value[PARAM_AFTER] : "";
    if (!web_base64_decode(text, strlen(text), &cursor) || cursor.len > LOG_CURSOR_MAX) {
        web_fail(r, 400, "`after` is the `next` of an answer, percent-encoded");
    } else {
        ask.log = (struct log_request){.after = after,
                                       .n = (uint32_t)limit,
                                       .has_cursor = true,
                                       .cursor = bytes_of(cursor.data, cursor.len)};
        web_ask(r, MESSAGE_LOG, &ask, on_log);
    }
    buffer_deinit(&cursor);
}

/* What the file is called and who has it, besides its row; he may see the row. False: the token is not for
 * it, as far as is known. */
static bool name_lock(const struct web_request *r, json_t *o, const struct lock_row *row, bool named)
{
    struct buffer path = BUFFER_INIT;
    struct held_answer held;
    struct caller caller;
    struct web_who who;
    bool covered;

    if (!named)
        return token_covers(r->token, "", 0);
    access_who(r, &who);
    caller = (struct caller){.uid = who.uid, .gid = who.gid, .n_groups = who.n_groups, .groups = who.groups};
    store_held(r->web->owner.group->store, who.uid == 0 || who.uid == geteuid() ? NULL : &caller, row->ino,
               row->session, &held, &path);
    if (held.path.len > 0)
        web_json_set(o, "key", held.path.data, held.path.len);
    if (held.client.len > 0)
        web_json_set(o, "client", held.client.data, held.client.len);
    covered = token_covers(r->token, held.path.data, held.path.len);
    buffer_deinit(&path);
    return covered;
}

static void on_locks(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;
    struct lock_row row;
    struct cursor c;
    json_t *list, *o;
    uint32_t i;

    if (code != KV_OK) {
        web_fail_code(r, code, detail, false);
        return;
    }
    list = json_array();
    c = rows_cursor(&answer->locks.rows);
    for (i = 0; i < answer->locks.rows.count && i < WEB_ROWS_MAX; i++) {
        lock_row_decode(&c, &row);
        o = json_pack("{s:I, s:s, s:b, s:b, s:I, s:I, s:I}", "ino", (json_int_t)row.ino, "kind",
                      lock_kind_name(row.kind), "exclusive", (row.exclusive & LOCK_ROW_EXCLUSIVE) != 0,
                      "waits", row.wait != 0, "start", (json_int_t)row.start, "session",
                      (json_int_t)row.session, "pid", (json_int_t)row.pid);
        json_object_set_new(o, "end",
                            row.end < LOCK_RANGE_END ? json_integer((json_int_t)row.end) : json_null());
        web_json_set(o, "node", row.node, row.node_len);
        if (name_lock(r, o, &row, i < LOCKS_NAMED_MAX))
            json_array_append_new(list, o);
        else
            json_decref(o);
    }
    web_reply_json(r, 200,
                   json_pack("{s:o, s:b}", "locks", list, "more",
                             answer->locks.more != 0 || answer->locks.rows.count > WEB_ROWS_MAX));
}

void info_locks(struct web_request *r)
{
    union request_body ask = {.locks = {.at = READ_LINEARIZABLE, .all = 1}};

    web_ask(r, MESSAGE_LOCKS, &ask, on_locks);
}
