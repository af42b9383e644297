/* PUT and DELETE of a key: one command each. A PUT's body is read right behind the head of the command, so
 * that a long value is not copied. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/group/group.h"
#include "kvnode/web/web_internal.h"
#include "sync/base/error.h"
#include "sync/wire/ttl.h"
#include "sync/wire/txn.h"

/* JSON is parsed in one go, on the loop. */
#define POST_MAX (32 * 1024)
/* A condition that no key ever meets. */
#define VERSION_IMPOSSIBLE UINT64_MAX

/* r->state, of a write. */
struct putting {
    struct etags match;
    struct command_body body;
    struct gate_key key; /* of an Idempotency-Key */
};

bool kv_idempotency_key(struct web_request *r, struct gate_key *out)
{
    const char *text = web_header(r, "Idempotency-Key");
    const char *tag = text != NULL ? strrchr(text, '-') : NULL;
    char head[48], *end;

    *out = (struct gate_key){0};
    if (text == NULL)
        return true;
    if (tag != NULL && (size_t)(tag - text) < sizeof head && strlen(tag + 1) == 16 &&
        strspn(tag + 1, "0123456789abcdef") == 16) {
        memcpy(head, text, (size_t)(tag - text));
        head[tag - text] = '\0';
        out->tag = strtoull(tag + 1, &end, 16);
        if (idempotency_parse(head, &out->session, &out->seq))
            return true;
    }
    *out = (struct gate_key){0};
    web_fail(r, 400, "an Idempotency-Key is what the answer 504 has said; nothing was written");
    return false;
}

void kv_ask_kept(struct web_request *r, const struct gate_key *key,
                 void (*done)(void *arg, int code, const struct command_result *result, const char *detail))
{
    const struct command_body body = {.path = (const uint8_t *)r->key,
                                      .path_len = r->key_len,
                                      .flags = SET_IF_VERSION | SET_MUST_EXIST,
                                      .version = VERSION_IMPOSSIBLE};
    struct buffer command = BUFFER_INIT;
    struct gate *g = web_gate(r);

    if (g == NULL)
        return;
    web_shed(r->web, &r->body);
    r->body = (struct buffer)BUFFER_INIT;
    r->body_at = 0;
    command_body_encode(&command, COMMAND_SET, &body);
    gate_write(g, &r->write, COMMAND_SET, 0, &command, key, done, r);
}

void kv_reply_written(struct web_request *r, const struct command_result *result)
{
    struct MHD_Response *response;
    char revision[40];
    json_t *o;

    snprintf(revision, sizeof revision, "0-%" PRIu64, result->revision);
    o = json_pack("{s:I, s:s, s:I, s:b}", "version", (json_int_t)result->attr.version, "revision", revision,
                  "size", (json_int_t)result->attr.size, "created", result->created != 0);
    web_json_set(o, "key", r->key, r->key_len);
    response = web_json(o);
    if (response != NULL)
        web_headers_of(response, &result->attr);
    web_reply(r, result->created != 0 ? 201 : 200, response);
}

static bool is_delete(const struct web_request *r)
{
    return strcmp(r->method, "DELETE") == 0;
}

static void on_written(void *arg, int code, const struct command_result *result, const char *detail)
{
    struct web_request *r = arg;
    const struct putting *p = r->state;
    char text[100];

    if (code == KV_OK) {
        kv_reply_written(r, result);
    } else if (code == KV_E_VERSION && (p->body.flags & SET_IF_VERSION) != 0 && p->body.version == 0) {
        web_fail_code(r, code, "the key exists", true);
    } else if (code == KV_E_VERSION && p->body.version == VERSION_IMPOSSIBLE) {
        web_fail_code(r, code, "If-Match does not name what it is", true);
    } else if (code == KV_E_VERSION && result != NULL) {
        snprintf(text, sizeof text, "it is version %" PRIu64 ", not %" PRIu64, result->base_version,
                 p->body.version);
        web_fail_code(r, code, text, true);
    } else if (code == KV_E_NOENT && p->match.kind != ETAG_NONE) {
        web_fail(r, 412, "no such key, and If-Match asks for one; nothing was written");
    } else {
        web_fail_code(r, code, detail, true);
    }
}

static void on_deleted(void *arg, int code, const struct command_result *result, const char *detail)
{
    struct web_request *r = arg;
    const struct putting *p = r->state;
    char revision[40];

    if (code == KV_E_VERSION || (code == KV_E_NOENT && p->match.kind != ETAG_NONE)) {
        web_fail_code(r, KV_E_VERSION, "If-Match does not name what it is", true);
        return;
    }
    if (code != KV_OK) {
        web_fail_code(r, code, detail, true);
        return;
    }
    snprintf(revision, sizeof revision, "0-%" PRIu64, result->revision);
    /* A transaction tells which of its lines decided. */
    web_reply_json(r, 200,
                   json_pack("{s:I, s:s}", "removed",
                             p->match.kind == ETAG_LIST ? (json_int_t)1 : (json_int_t)result->removed,
                             "revision", revision));
}

static void send_write(struct web_request *r)
{
    struct putting *p = r->state;
    struct gate *g = web_gate(r);
    bool delete = is_delete(r);

    if (g != NULL)
        gate_write(g, &r->write, delete ? COMMAND_DEL : COMMAND_SET,
                   (p->body.flags & SET_TTL) != 0 && !delete ? COMMAND_TTL : 0, &r->body, &p->key,
                   delete ? on_deleted : on_written, r);
}

/* A DELETE knows no version: one of a transaction does. */
static void send_delete(struct web_request *r, uint64_t version)
{
    const struct putting *p = r->state;
    struct txn_item item = {
        .kind = TXN_IF_VERSION, .path = p->body.path, .path_len = p->body.path_len, .version = version};
    struct buffer items = BUFFER_INIT;
    struct command_body body = {0};
    struct gate *g = web_gate(r);

    txn_encode(&items, &item);
    item.kind = TXN_DEL;
    txn_encode(&items, &item);
    body.items = items.data;
    body.items_len = items.len;
    buffer_clear(&r->body);
    command_body_encode(&r->body, COMMAND_TXN, &body);
    if (items.failed || r->body.failed)
        web_fail_code(r, KV_E_BUSY, "out of memory", true);
    else if (g != NULL)
        gate_write(g, &r->write, COMMAND_TXN, 0, &r->body, &p->key, on_deleted, r);
    buffer_deinit(&items);
}

static void on_resolved(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;
    struct putting *p = r->state;
    struct buffer head = BUFFER_INIT;

    /* The first try may have been what changed it: its result is asked for. If there is none, nothing is
     * written. */
    if (p->key.session != 0 && web_status_of(code) < 500 &&
        (code != KV_OK || !etags_have(&p->match, answer->resolve.attr.content_revision) ||
         answer->resolve.attr.version == 0)) {
        p->body.flags |= SET_IF_VERSION;
        p->body.version = VERSION_IMPOSSIBLE;
        kv_ask_kept(r, &p->key, is_delete(r) ? on_deleted : on_written);
        return;
    }
    if (code == KV_E_NOENT) {
        web_fail(r, 412, "no such key, and If-Match asks for one; nothing was written");
        return;
    }
    if (code != KV_OK) {
        web_fail_code(r, code, detail, true);
        return;
    }
    if (!etags_have(&p->match, answer->resolve.attr.content_revision)) {
        web_fail(r, 412, "the key is at \"0-%" PRIu64 "\", which If-Match does not name; nothing was written",
                 answer->resolve.attr.content_revision);
        return;
    }
    if (answer->resolve.attr.version == 0) {
        web_fail(r, 501, "the key keeps no versions, by which If-Match compares; nothing was written");
        return;
    }
    if (is_delete(r)) {
        send_delete(r, answer->resolve.attr.version);
        return;
    }
    /* If it is written in between it is another version. The numbers of the head have their places. */
    p->body.flags |= SET_IF_VERSION;
    p->body.version = answer->resolve.attr.version;
    command_body_encode(&head, COMMAND_SET, &p->body);
    if (head.failed || head.len != r->body_at) {
        buffer_deinit(&head);
        web_fail_code(r, KV_E_BUSY, "out of memory", true);
        return;
    }
    memcpy(r->body.data, head.data, head.len);
    buffer_deinit(&head);
    send_write(r);
}

/* {"value": …}: a string's bytes, value_base64's, or anything else as JSON text. */
static bool take_json(struct web_request *r)
{
    struct buffer value = BUFFER_INIT;
    json_error_t error;
    json_t *o = json_loadb((const char *)r->body.data + r->body_at, r->body.len - r->body_at, JSON_DECODE_ANY,
                           &error);
    json_t *v = json_object_get(o, "value"), *encoded = json_object_get(o, "value_base64");
    char *text = NULL;
    bool good = false;

    if (o == NULL)
        web_fail(r, 400, "the body is no JSON: %.100s; nothing was written", error.text);
    else if (!json_is_object(o) || json_object_size(o) != 1 || (v == NULL && encoded == NULL))
        web_fail(r, 400,
                 "the body is to be {\"value\": …} or {\"value_base64\": \"…\"}; nothing was written");
    else if (encoded != NULL &&
             (!json_is_string(encoded) ||
              !web_base64_decode(json_string_value(encoded), json_string_length(encoded), &value)))
        web_fail(r, 400, "value_base64 is no base64; nothing was written");
    else if (v != NULL && json_is_string(v))
        buffer_put_bytes(&value, json_string_value(v), json_string_length(v));
    else if (v != NULL && (text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY)) != NULL)
        buffer_put_bytes(&value, text, strlen(text));
    if (r->response == NULL) {
        r->body.len = r->body_at;
        buffer_put_bytes(&r->body, value.data, value.len);
        good = !value.failed && !r->body.failed;
        if (!good)
            web_fail_code(r, KV_E_BUSY, "out of memory", true);
    }
    free(text);
    json_decref(o);
    buffer_deinit(&value);
    return good;
}

void kv_write(struct web_request *r)
{
    const struct putting *p = r->state;
    union request_body ask = {0};

    if (strcmp(r->method, "POST") == 0 && !take_json(r))
        return;

    if (p->match.kind != ETAG_LIST) {
        send_write(r);
        return;
    }
    ask.resolve = (struct path_request){.at = READ_LINEARIZABLE, .path = bytes_of(r->key, r->key_len)};
    web_ask(r, MESSAGE_RESOLVE, &ask, on_resolved);
}

/* The conditions, as flags of the command. False: it has been replied. */
static bool conditions(struct web_request *r, struct putting *p)
{
    struct etags none;

    etags_parse(web_header(r, "If-Match"), &p->match);
    etags_parse(web_header(r, "If-None-Match"), &none);
    if (p->match.kind == ETAG_MALFORMED || none.kind == ETAG_MALFORMED || none.kind == ETAG_LIST) {
        web_fail(r, 400, "%s; nothing was written",
                 none.kind == ETAG_LIST ? "If-None-Match of a write can only be *"
                                        : "an entity tag is what ETag has said, with its quotes");
        return false;
    }
    if (p->match.kind != ETAG_NONE && none.kind != ETAG_NONE) {
        web_fail(r, 400, "If-Match and If-None-Match together ask for the impossible; nothing was written");
        return false;
    }
    if (is_delete(r) && none.kind != ETAG_NONE) {
        web_fail(r, 400,
                 "If-None-Match asks for a key that is missing, and DELETE for one that is there; "
                 "nothing was written");
        return false;
    }
    if (is_delete(r) && p->match.kind == ETAG_LIST && (r->directory || url_has(r->url, PARAM_RECURSIVE))) {
        web_fail(r, 400, "If-Match names the value of a key, and directories have none; nothing was written");
        return false;
    }
    if (none.kind == ETAG_ANY) {
        p->body.flags |= SET_IF_VERSION;
        p->match.kind = ETAG_NONE;
        p->body.version = 0;
    }
    if (p->match.kind == ETAG_ANY && !is_delete(r)) /* a DELETE asks for that anyway */
        p->body.flags |= SET_MUST_EXIST;
    return true;
}

void kv_write_head(struct web_request *r)
{
    bool delete = is_delete(r);
    struct putting *p = calloc(1, sizeof *p);
    struct store_usage usage;

    r->state = p;
    if (p == NULL) {
        web_fail_code(r, KV_E_BUSY, "out of memory", true);
        return;
    }
    if (!kv_idempotency_key(r, &p->key))
        return;
    if (r->directory && !delete) {
        web_fail(r, 400, "a key does not end in a slash; nothing was written");
        return;
    }
    p->body.path = (const uint8_t *)r->key;
    p->body.path_len = r->key_len - (r->directory && r->key_len > 0);
    p->body.mode = 0644;
    p->body.flags = delete ? url_has(r->url, PARAM_RECURSIVE) : SET_PARENTS;
    if (!delete &&url_has(r->url, PARAM_RECURSIVE)) {
        web_fail(r, 400, "the parameter `recursive` does not belong to a %s; nothing was written", r->method);
        return;
    }
    if (url_has(r->url, PARAM_TTL)) {
        const char *ttl = r->url->value[PARAM_TTL];

        if (delete || !ttl_parse(ttl, strlen(ttl), &p->body.ttl_ms)) {
            web_fail(r, 400, "%s; nothing was written",
                     delete ? "what is deleted has no ttl"
                            : "the parameter `ttl` is a time such as 500ms, 90s, 10m, 36h or 7d, of ten "
                              "years at most");
            return;
        }
        p->body.flags |= SET_TTL;
    }
    if (!conditions(r, p))
        return;
    command_body_encode(&r->body, delete ? COMMAND_DEL : COMMAND_SET, &p->body);
    if (r->body.failed) {
        web_fail_code(r, KV_E_BUSY, "out of memory", true);
        return;
    }
    r->body_at = r->body.len;
    if (!delete) {
        store_usage(r->web->owner.group->store, &usage);
        r->takes_body = true;
        r->body_max = strcmp(r->method, "POST") == 0 ? POST_MAX : usage.value_limit;
    }
}

void kv_head(struct web_request *r)
{
    if (url_key(r->url, &r->key, &r->key_len, &r->directory) != 0) {
        r->key = NULL;
        web_fail(r, 400, "%s", r->url->why);
        return;
    }
    if (!access_covers(r, r->key, r->key_len))
        return;
    if (strcmp(r->method, "PATCH") == 0) {
        kv_append_head(r);
    } else if (strcmp(r->method, "GET") != 0 && strcmp(r->method, "HEAD") != 0) {
        unsigned alien = r->url->given & ~(1u << PARAM_TTL | 1u << PARAM_RECURSIVE);

        if (alien == 0)
            kv_write_head(r);
        else
            web_fail(r, 400, "the parameter `%s` does not belong to a %s; nothing was written",
                     url_param_name((unsigned)__builtin_ctz(alien)), r->method);
    } else if (url_has(r->url, PARAM_TTL)) {
        web_fail(r, 400, "the parameter `ttl` belongs to PUT and POST");
    }
}

void kv_start(struct web_request *r)
{
    bool get = strcmp(r->method, "GET") == 0;

    if (get && r->directory)
        kv_list(r);
    else if (get || strcmp(r->method, "HEAD") == 0)
        kv_get(r);
    else if (strcmp(r->method, "PATCH") == 0)
        kv_append(r);
    else
        kv_write(r);
}
