/* POST /v1/txn: comparisons and what is done if they hold, and what else, as one command (txn.h):
 *
 *   {"if": [{"key": "a", "version": 3}, {"key": "b", "missing": true}, {"key": "c", "exists": true},
 *           {"key": "d", "value": "x"}],
 *    "then": [{"set": "a", "value": "y", "ttl": "60s"}, {"del": "b"}, {"move": "c", "to": "e"}, {"mkdir":
 * "f"}], "else": […]}
 *
 * value_base64 may stand for value. Without `else`, a comparison that does not hold is 409. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/web/web_internal.h"
#include "sync/base/error.h"
#include "sync/wire/ttl.h"
#include "sync/wire/txn.h"

/* JSON is parsed in one go, on the loop. */
#define TXN_BODY_MAX (32 * 1024)

/* r->state. */
struct txn_request {
    struct gate_key key; /* of an Idempotency-Key */
    unsigned n_if, n_then, n_else;
    bool otherwise;
};

/* Which entry is read, for messages. */
struct place {
    struct web_request *r;
    const char *list;
    size_t i;
};

__attribute__((format(printf, 2, 3))) static bool refuse(const struct place *p, const char *fmt, ...)
{
    char text[300];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    web_fail(p->r, 400, "\"%s\", entry %zu: %s; nothing was written", p->list, p->i + 1, text);
    return false;
}

/* Every name in it is one of these: "a b c". */
static bool knows(const struct place *p, json_t *o, const char *names)
{
    const char *name, *at;
    json_t *value;

    if (!json_is_object(o))
        return refuse(p, "is no object");
    json_object_foreach(o, name, value)
    {
        size_t len = strlen(name);

        for (at = strstr(names, name); at != NULL; at = strstr(at + 1, name))
            if (len > 0 && (at == names || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0'))
                break;
        if (at == NULL)
            return refuse(p, "knows no \"%.60s\", but: %s", name, names);
    }
    return true;
}

static bool take_key(const struct place *p, json_t *v, const uint8_t **out, size_t *len_out)
{
    char why[256];

    if (!json_is_string(v))
        return refuse(p, "a key is a string");
    if (strlen(json_string_value(v)) != json_string_length(v))
        return refuse(p, "a NUL byte stands in no key");
    if (key_check(json_string_value(v), false, why, sizeof why) != KV_OK)
        return refuse(p, "%s", why);
    if (!access_covers(p->r, json_string_value(v), json_string_length(v)))
        return false;
    *out = (const uint8_t *)json_string_value(v);
    *len_out = json_string_length(v);
    return true;
}

/* into: where bytes of base64 are put; the item borrows them. */
static bool take_value(const struct place *p, json_t *o, struct txn_item *item, struct buffer *into)
{
    json_t *v = json_object_get(o, "value"), *encoded = json_object_get(o, "value_base64");

    if ((v == NULL) == (encoded == NULL) || !json_is_string(v != NULL ? v : encoded))
        return refuse(p, "\"value\" or \"value_base64\" is a string, and one of them is needed");
    if (v != NULL) {
        item->value = (const uint8_t *)json_string_value(v);
        item->value_len = json_string_length(v);
        return true;
    }
    if (!web_base64_decode(json_string_value(encoded), json_string_length(encoded), into))
        return refuse(p, "value_base64 is no base64");
    item->value = into->data;
    item->value_len = into->len;
    return true;
}

static bool take_if(const struct place *p, json_t *o, struct txn_item *item, struct buffer *into)
{
    json_t *version = json_object_get(o, "version"), *missing = json_object_get(o, "missing"),
           *exists = json_object_get(o, "exists");

    if (!knows(p, o, "key version missing exists value value_base64") ||
        !take_key(p, json_object_get(o, "key"), &item->path, &item->path_len))
        return false;
    if (json_object_size(o) != 2)
        return refuse(p, "beside its key it has one of version, missing, exists and value");
    if (version != NULL) {
        item->kind = TXN_IF_VERSION;
        item->version = (uint64_t)json_integer_value(version);
        return (json_is_integer(version) && json_integer_value(version) >= 0) ||
               refuse(p, "a version is a number, 0 for a key that must not exist");
    }
    if (missing != NULL || exists != NULL) {
        item->kind = missing != NULL ? TXN_IF_MISSING : TXN_IF_EXISTS;
        return json_is_true(missing != NULL ? missing : exists) || refuse(p, "missing and exists are true");
    }
    item->kind = TXN_IF_VALUE;
    return take_value(p, o, item, into);
}

static bool take_set(const struct place *p, json_t *o, struct txn_item *item, struct buffer *into)
{
    const char *ttl = json_string_value(json_object_get(o, "ttl"));

    item->kind = TXN_SET;
    if (!knows(p, o, "set value value_base64 ttl") || !take_value(p, o, item, into))
        return false;
    return json_object_get(o, "ttl") == NULL || (ttl != NULL && ttl_parse(ttl, strlen(ttl), &item->ttl_ms)) ||
           refuse(p,
                  "a ttl is a time such as \"500ms\", \"90s\", \"10m\", \"36h\" or \"7d\", of ten years at "
                  "most");
}

static bool take_operation(const struct place *p, json_t *o, struct txn_item *item, struct buffer *into)
{
    json_t *set = json_object_get(o, "set"), *del = json_object_get(o, "del"),
           *move = json_object_get(o, "move"), *mkdir = json_object_get(o, "mkdir");
    json_t *key = set != NULL ? set : del != NULL ? del : move != NULL ? move : mkdir;

    if (key == NULL)
        return refuse(p, "it is one of set, del, move and mkdir");
    if (!take_key(p, key, &item->path, &item->path_len))
        return false;
    if (set != NULL)
        return take_set(p, o, item, into);
    item->kind = del != NULL ? TXN_DEL : move != NULL ? TXN_MOVE : TXN_MKDIR;
    if (!knows(p, o, del != NULL ? "del" : move != NULL ? "move to" : "mkdir"))
        return false;
    return move == NULL || take_key(p, json_object_get(o, "to"), &item->to, &item->to_len);
}

static bool take_list(struct web_request *r, json_t *o, const char *name, struct buffer *items,
                      unsigned *n_out)
{
    json_t *list = json_object_get(o, name), *entry;
    struct place p = {.r = r, .list = name};

    if (list != NULL && !json_is_array(list)) {
        web_fail(r, 400, "\"%s\" is a list; nothing was written", name);
        return false;
    }
    *n_out = (unsigned)json_array_size(list);
    json_array_foreach(list, p.i, entry)
    {
        struct buffer bytes = BUFFER_INIT;
        struct txn_item item = {0};
        bool good = strcmp(name, "if") == 0 ? take_if(&p, entry, &item, &bytes)
                                            : take_operation(&p, entry, &item, &bytes);

        if (good)
            txn_encode(items, &item);
        buffer_deinit(&bytes);
        if (!good)
            return false;
    }
    return true;
}

/* {"if": 2}: which entry the transaction says decided, from 1 on, as it counts. */
static void set_entry(json_t *o, const struct txn_request *t, uint64_t number)
{
    if (number == 0)
        return;
    if (number <= t->n_if)
        json_object_set_new(o, "if", json_integer((json_int_t)number));
    else if (number <= t->n_if + t->n_then)
        json_object_set_new(o, "then", json_integer((json_int_t)(number - t->n_if)));
    else if (number > t->n_if + t->n_then + 1)
        json_object_set_new(o, "else", json_integer((json_int_t)(number - t->n_if - t->n_then - 1)));
}

static void on_done(void *arg, int code, const struct command_result *result, const char *detail)
{
    struct web_request *r = arg;
    const struct txn_request *t = r->state;
    json_t *o;

    if (code == KV_OK) {
        o = json_pack("{s:b, s:s, s:o}", "done", 1, "branch", result->created != 0 ? "then" : "else",
                      "revision", web_json_token(result->revision));
        web_reply_json(r, 200, o);
        return;
    }
    if (result == NULL || result->removed == 0) {
        web_fail_code(r, code, detail, true);
        return;
    }
    o = json_pack("{s:s, s:b}", "error",
                  code == KV_E_VERSION ? "a comparison does not hold; nothing was written"
                  : code == KV_E_INVAL ? "it cannot be done, or an entry before it changes the same name or "
                                         "file; nothing was written"
                                       : error_text(code),
                  "done", 0);
    set_entry(o, t, result->removed);
    json_object_set_new(o, "reason", json_string(error_text(code)));
    json_object_set_new(o, "status",
                        json_integer(code == KV_E_VERSION ? 409 : (json_int_t)web_status_of(code)));
    web_reply_json(r, code == KV_E_VERSION ? 409 : web_status_of(code), o);
}

static bool take(struct web_request *r, json_t *o, struct buffer *items)
{
    struct txn_request *t = r->state;
    struct txn_item otherwise = {.kind = TXN_ELSE};
    const char *name;
    json_t *value;

    json_object_foreach(o, name, value)
    {
        if (strcmp(name, "if") != 0 && strcmp(name, "then") != 0 && strcmp(name, "else") != 0) {
            web_fail(r, 400,
                     "a transaction has \"if\", \"then\" and \"else\", not \"%.60s\"; nothing was written",
                     name);
            return false;
        }
    }
    t->otherwise = json_object_get(o, "else") != NULL;
    if (!take_list(r, o, "if", items, &t->n_if) || !take_list(r, o, "then", items, &t->n_then))
        return false;
    if (t->otherwise)
        txn_encode(items, &otherwise);
    if (!take_list(r, o, "else", items, &t->n_else))
        return false;
    if (t->n_if + t->n_then + t->n_else == 0) {
        web_fail(r, 400, "the transaction has nothing to do in it; nothing was written");
        return false;
    }
    if (t->n_if + t->n_then + t->n_else > TXN_ITEMS_MAX) {
        web_fail(r, 400, "a transaction has at most %d entries; nothing was written", TXN_ITEMS_MAX);
        return false;
    }
    return true;
}

void txn_head(struct web_request *r)
{
    struct txn_request *t = calloc(1, sizeof *t);

    r->state = t;
    if (t == NULL) {
        web_fail_code(r, KV_E_BUSY, "out of memory", true);
        return;
    }
    if (!kv_idempotency_key(r, &t->key))
        return;
    r->takes_body = true;
    r->body_max = TXN_BODY_MAX;
}

void txn_start(struct web_request *r)
{
    const struct txn_request *t = r->state;
    struct buffer items = BUFFER_INIT;
    struct command_body body = {0};
    struct gate *g = web_gate(r);
    json_error_t error;
    json_t *o;

    if (g == NULL)
        return;
    o = json_loadb((const char *)r->body.data, r->body.len, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(o)) {
        web_fail(r, 400, "the body is no JSON object: %.100s; nothing was written",
                 o == NULL ? error.text : "a list");
    } else if (take(r, o, &items)) {
        body.items = items.data;
        body.items_len = items.len;
        buffer_clear(&r->body);
        command_body_encode(&r->body, COMMAND_TXN, &body);
        if (items.failed || r->body.failed)
            web_fail_code(r, KV_E_BUSY, "out of memory", true);
        else
            gate_write(g, &r->write, COMMAND_TXN, 0, &r->body, &t->key, on_done, r);
    }
    json_decref(o);
    buffer_deinit(&items);
}
