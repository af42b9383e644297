/* What nodes say of themselves, and waiting for it. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "sync/base/clock.h"
#include "sync/wire/client.h"
#include "tests/fault/lib/cluster.h"

static uint64_t number(const json_t *o, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(o, name));
}

static void text(const json_t *o, const char *name, char *out, size_t size)
{
    const char *s = json_string_value(json_object_get(o, name));

    snprintf(out, size, "%s", s != NULL ? s : "");
}

static void fill_members(const json_t *list, struct view *v)
{
    size_t i;

    for (i = 0; i < json_array_size(list); i++) {
        const json_t *m = json_array_get(list, i);
        uint64_t id = number(m, "id");

        if (id == 0 || id > CLUSTER_MAX)
            continue;
        text(m, "state", v->states[id - 1], sizeof v->states[0]);
        v->disk_total[id - 1] = number(m, "disk_total");
    }
}

static void fill(const json_t *o, struct view *v)
{
    const json_t *list = json_object_get(o, "warnings");
    char role[16];
    size_t i, used = 0;

    memset(v, 0, sizeof *v);
    text(o, "role", role, sizeof role);
    v->leader = strcmp(role, "leader") == 0;
    v->ready = json_is_true(json_object_get(o, "ready"));
    v->quorum = json_is_true(json_object_get(o, "quorum"));
    text(o, "leader", v->leader_name, sizeof v->leader_name);
    text(o, "digest", v->digest, sizeof v->digest);
    v->term = number(o, "term");
    v->applied = number(o, "applied");
    v->commit = number(o, "commit");
    v->log_first = number(o, "log_first");
    v->last = number(o, "last_index");
    v->durable = number(o, "durable");
    v->memory = number(o, "memory_bytes");
    v->clients = (unsigned)number(o, "clients");
    v->tolerated = (unsigned)number(o, "failures_tolerated");
    fill_members(json_object_get(o, "members"), v);
    for (i = 0; i < json_array_size(list) && used < sizeof v->warnings - 1; i++) {
        int n = snprintf(v->warnings + used, sizeof v->warnings - used, "%s%s", i > 0 ? "; " : "",
                         json_string_value(json_array_get(list, i)));

        used += n > 0 ? (size_t)n : 0;
    }
}

bool cluster_view(const struct cluster *c, unsigned i, unsigned timeout_ms, struct view *view_out)
{
    struct client *client;
    union answer_body answer;
    struct cursor body;
    json_t *o = NULL;

    if (c->nodes[i].pid == 0 ||
        client_open(c->nodes[i].socket, CLIENT_ADMIN, "fault", 0, timeout_ms, &client, NULL) != 0)
        return false;
    client_ask(client, MESSAGE_STATUS, 1, NULL);
    if (client_call(client, 1, timeout_ms, &body, NULL, 0) == 0 &&
        body_decode_answer(MESSAGE_STATUS, &body, &answer))
        o = json_loadb((const char *)answer.status.json.data, answer.status.json.len, 0, NULL);
    client_close(client);
    if (o == NULL)
        return false;
    fill(o, view_out);
    json_decref(o);
    return true;
}

struct search {
    struct cluster *c;
    unsigned i;
};

static bool find_leader(void *arg)
{
    struct search *s = arg;
    uint64_t term = 0;
    unsigned i;

    s->i = CLUSTER_MAX;
    for (i = 0; i < s->c->n; i++) {
        struct view v;

        if (cluster_view(s->c, i, 300, &v) && v.leader && v.ready && v.term > term) {
            term = v.term;
            s->i = i;
        }
    }
    return s->i != CLUSTER_MAX;
}

unsigned cluster_leader(struct cluster *c, unsigned timeout_ms)
{
    struct search s = {c, CLUSTER_MAX};

    await(timeout_ms, find_leader, &s);
    return s.i;
}

static bool are_equal(void *arg)
{
    struct search *s = arg;
    struct view first, v;
    bool any = false;
    unsigned i;

    for (i = 0; i < s->c->n; i++) {
        if (s->c->nodes[i].pid == 0)
            continue;
        if (!cluster_view(s->c, i, 500, &v))
            return false;
        if (any && (v.applied != first.applied || strcmp(v.digest, first.digest) != 0))
            return false;
        if (!any)
            first = v;
        any = true;
    }
    return any;
}

bool cluster_equal(struct cluster *c, unsigned timeout_ms)
{
    struct search s = {c, 0};
    unsigned i;

    if (await(timeout_ms, are_equal, &s))
        return true;
    for (i = 0; i < c->n; i++) {
        struct view v;

        if (c->nodes[i].pid != 0 && cluster_view(c, i, 1000, &v))
            fprintf(stderr, "# %s: applied %llu, digest %s, commit %llu, term %llu, leader %s; %s\n",
                    c->nodes[i].name, (unsigned long long)v.applied, v.digest, (unsigned long long)v.commit,
                    (unsigned long long)v.term, v.leader_name, v.warnings);
        else
            fprintf(stderr, "# %s: no answer\n", c->nodes[i].name);
    }
    return false;
}

static bool answers(void *arg)
{
    struct search *s = arg;
    struct view v;

    return cluster_view(s->c, s->i, 500, &v) && v.ready;
}

bool cluster_serves(struct cluster *c, unsigned i, unsigned timeout_ms)
{
    struct search s = {c, i};

    return await(timeout_ms, answers, &s);
}
