#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/admin/format.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"

/* An answer that is JSON. */
static int ask_json(struct request_link *l, enum message_type type, const union request_body *body,
                    json_t **object_out)
{
    union answer_body answer;
    int rc = request_ask(l, type, body, &answer);
    *object_out = NULL;
    if (rc != 0)
        return rc;
    const struct bytes *text = &answer.admin.json;
    *object_out = text->len > 0 ? json_loadb((const char *)text->data, text->len, 0, NULL) : json_object();
    return *object_out != NULL ? 0 : -EPROTO;
}

int cluster_status(struct request_link *l, json_t **status_out)
{
    return ask_json(l, MESSAGE_STATUS, NULL, status_out);
}

int cluster_settings(struct request_link *l, json_t **settings_out)
{
    return ask_json(l, MESSAGE_SETTINGS, NULL, settings_out);
}

int cluster_admin(struct request_link *l, json_t *command, json_t **answer_out)
{
    json_t *object;
    char *text = json_dumps(command, JSON_COMPACT);
    json_decref(command);
    if (text == NULL)
        return -ENOMEM;
    int rc = ask_json(l, MESSAGE_ADMIN, &(union request_body){.admin.json = bytes_text(text)}, &object);
    free(text);
    if (answer_out != NULL)
        *answer_out = object;
    else
        json_decref(object);
    return rc;
}

/* "n2 is unreachable, n3's disk is full": the voters that can take no write. */
static void name_useless(const json_t *status, char *out, size_t size)
{
    static const struct {
        const char *state, *clause;
    } clauses[] = {
        {"unreachable", " is unreachable"},
        {"silent", " is silent"},
        {"gone back", "'s files are too old"},
        {"waiting", " waits to be let in"},
        {"no state", " has no state yet"},
        {"disk full", "'s disk is full"},
        {"damaged", "'s state.db is damaged"},
        {"stopping", " is stopping"},
        {"stuck", " does not catch up"},
        {"behind", " is catching up"},
        {"two clusters", " is told to be in two clusters"},
    };
    const json_t *m;
    size_t i, used = 0;
    out[0] = '\0';
    json_array_foreach(json_object_get(status, "members"), i, m)
    {
        const char *clause = " is no help";
        if (!json_is_true(json_object_get(m, "voter")) || json_is_true(json_object_get(m, "usable")))
            continue;
        for (size_t k = 0; k < sizeof clauses / sizeof clauses[0]; k++)
            if (strcmp(cluster_text(m, "state"), clauses[k].state) == 0)
                clause = clauses[k].clause;
        int n = snprintf(out + used, size - used, "%s%s%s", used > 0 ? ", " : "", cluster_text(m, "name"),
                         clause);
        if (n < 0 || (size_t)n >= size - used) { /* whole clauses only */
            out[used] = '\0';
            return;
        }
        used += (size_t)n;
    }
}

/* A refusal by the state machine, which has no detail: which limit it was. */
static int fail_full(struct request_link *l, const char *subject, const json_t *status)
{
    json_int_t keys = cluster_number(status, "keys"), max_keys = cluster_number(status, "max_keys");
    json_int_t bytes = cluster_number(status, "bytes"), max_bytes = cluster_number(status, "max_bytes");
    char limit[32], used[32];
    if (keys >= max_keys)
        return admin_fail(
            l->admin, EXIT_REFUSED, subject,
            "the cluster is at its limit of %lld keys (max_keys); nothing was written. Delete, or raise "
            "it with: kvnode config --cluster max_keys=N",
            (long long)max_keys);
    bool full = bytes > max_bytes - max_bytes / 10;
    format_size((uint64_t)max_bytes, limit, sizeof limit);
    format_size((uint64_t)bytes, used, sizeof used);
    return admin_fail(l->admin, EXIT_REFUSED, subject,
                      "live data %s the cluster's limit of %s (max_bytes; %s are used); nothing was written. "
                      "Delete, or raise it with: kvnode config --cluster max_bytes=SIZE",
                      full ? "is at" : "would pass", limit, used);
}

int cluster_fail_long(const struct admin *a, const char *subject, uint64_t limit)
{
    char text[32];
    format_size(limit, text, sizeof text);
    return admin_fail(
        a, EXIT_REFUSED, subject,
        "the value is larger than the cluster's limit of %s (value_limit); nothing was written. "
        "Raise it with: kvnode config --cluster value_limit=SIZE",
        text);
}

/* Where the cluster cannot write and the node gave no detail: which members it misses. */
static void find_detail(struct request_link *l, int code)
{
    json_t *status = NULL;
    if ((code != KV_E_UNAVAILABLE && code != KV_E_ROFS && code != -ETIMEDOUT) || l->detail[0] != '\0' ||
        l->client == NULL)
        return;
    l->deadline_ms = clock_boot_ms() + 500;
    if (cluster_status(l, &status) == 0)
        name_useless(status, l->detail, sizeof l->detail);
    json_decref(status);
}

int cluster_fail_partly(struct request_link *l, const char *subject, int code, uint64_t removed)
{
    find_detail(l, code);
    return admin_fail_partly(l->admin, subject, code, l->detail, removed);
}

int cluster_fail(struct request_link *l, const char *subject, int code, bool written)
{
    json_t *status = NULL;
    if (code == KV_E_UNAVAILABLE && l->way_back[0] != '\0')
        return admin_fail(l->admin, EXIT_UNAVAILABLE, subject, "%s%s. The way back: %s", l->detail,
                          written ? "; nothing was written" : "", l->way_back);
    if (code == KV_E_FBIG && l->client != NULL) {
        l->deadline_ms = clock_boot_ms() + 500;
        uint64_t limit = cluster_status(l, &status) == 0 ? (uint64_t)cluster_number(status, "value_limit")
                                                         : l->node.value_limit;
        json_decref(status);
        return cluster_fail_long(l->admin, subject, limit);
    }
    if (code == KV_E_NOSPC && l->detail[0] == '\0' && l->client != NULL) {
        l->deadline_ms = clock_boot_ms() + 500;
        if (cluster_status(l, &status) == 0) {
            int exit = fail_full(l, subject, status);
            json_decref(status);
            return exit;
        }
    }
    find_detail(l, code);
    return admin_fail_code(l->admin, subject, code, l->detail, written);
}

const char *cluster_text(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL ? text : "";
}

json_int_t cluster_number(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

void cluster_tolerance(const json_t *status, char *out, size_t size)
{
    json_int_t n = cluster_number(status, "failures_tolerated");
    static const char *const words[] = {"No further node", "One node", "Two nodes", "Three nodes"};
    if (json_array_size(json_object_get(status, "members")) == 1)
        snprintf(out, size, "It has one node only, which may not fail.");
    else if (n >= 0 && n <= 3)
        snprintf(out, size, "%s may fail.", words[n]);
    else
        snprintf(out, size, "%lld nodes may fail.", (long long)n);
}

void cluster_sentence(const json_t *status, char *out, size_t size)
{
    json_int_t voters = cluster_number(status, "voters"), usable = cluster_number(status, "usable"),
               needed = voters / 2 + 1;
    const char *elsewhere = cluster_text(status, "leader_elsewhere");
    char text[200], since[32];
    if (json_is_true(json_object_get(status, "quorum"))) {
        cluster_tolerance(status, text, sizeof text);
        snprintf(out, size, "The cluster works. %s", text);
    } else if (elsewhere[0] != '\0') {
        snprintf(
            out, size,
            "This node accepts no writes: it does not hear the leader %s, which others follow. Ask another.",
            elsewhere);
    } else if (usable < needed) {
        name_useless(status, text, sizeof text);
        snprintf(
            out, size,
            "The cluster does not accept writes: %lld of %lld voters can take them, %lld are needed%s%s%s.",
            (long long)usable, (long long)voters, (long long)needed, text[0] != '\0' ? " (" : "", text,
            text[0] != '\0' ? ")" : "");
    } else if (cluster_text(status, "leader")[0] == '\0') {
        format_duration((uint64_t)cluster_number(status, "leaderless_ms"), since, sizeof since);
        snprintf(out, size, "The cluster does not accept writes: there has been no leader for %s.", since);
    } else {
        snprintf(out, size,
                 "The cluster does not accept writes: no node that could lead reaches %lld of %lld voters.",
                 (long long)needed, (long long)voters);
    }
}
