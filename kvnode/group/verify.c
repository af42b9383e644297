#include "kvnode/group/verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/group/scrub.h"
#include "kvnode/group/group.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"

/* A client that has not polled for so long is gone. */
#define ABANDONED_MS 3000
#define NODES_MAX (CONFIG_PEERS_MAX + 1)

/* Where a node is, seen from the index that it was asked about. */
enum place {
    PLACE_THERE,     /* the digest is that of the index */
    PLACE_BEFORE,    /* not applied yet */
    PLACE_FORGOTTEN, /* beyond, and the digest is not remembered */
    PLACE_STATELESS, /* a state file is awaited */
};

struct answer {
    uint64_t id; /* of the node */
    bool known;
    uint8_t place;
    uint64_t index, digest;
    uint8_t state; /* enum scrub_state */
    uint64_t read, size;
    char error[STATE_DB_ERROR_MAX];
};

struct verify {
    struct group *group; /* borrowed */

    /* As the one that is asked by a client. */
    uint64_t run, rate, index, polled_ms;
    struct answer answers[NODES_MAX];
    size_t n;

    /* As any node: the last run of each node that asked. */
    struct {
        uint64_t peer, run;
    } served[NODES_MAX];
};

struct verify *verify_new(struct group *group)
{
    struct verify *v = calloc(1, sizeof *v);

    if (v != NULL)
        v->group = group;
    return v;
}

void verify_free(struct verify *v)
{
    free(v);
}

/* ---- answering ---- */

/* The first question of a run begins a scrub: one that is under way may be past
 * what was damaged since. */
static void serve_run(struct verify *v, uint64_t peer, uint64_t run, uint64_t rate)
{
    size_t i;

    for (i = 0; i < NODES_MAX - 1 && v->served[i].peer != peer && v->served[i].peer != 0; i++)
        ;
    if (v->served[i].peer == peer && v->served[i].run == run)
        return;
    v->served[i].peer = peer;
    v->served[i].run = run;
    scrub_begin(v->group->scrub, rate);
}

static void look(struct verify *v, uint64_t index, struct answer *a)
{
    struct group *g = v->group;
    struct scrub_view scrub;

    scrub_look(g->scrub, &scrub);
    a->index = index;
    a->digest = 0;
    if (g->stateless)
        a->place = PLACE_STATELESS;
    else if (store_applied(g->store) < index)
        a->place = PLACE_BEFORE;
    else
        a->place = digest_ring_find(&g->digests, index, &a->digest) ? PLACE_THERE : PLACE_FORGOTTEN;
    a->state = (uint8_t)scrub.state;
    a->read = scrub.read;
    a->size = scrub.size;
    snprintf(a->error, sizeof a->error, "%s", scrub.state == SCRUB_RUNNING ? "" : scrub.error);
    a->known = true;
}

void verify_peer_asks(struct verify *v, uint64_t peer, uint64_t run, uint64_t index, uint64_t rate)
{
    const struct peer_links *links = v->group->owner->links;
    struct answer a = {0};
    struct buffer *b;

    serve_run(v, peer, run, rate);
    look(v, index, &a);
    b = links->begin(links->arg, peer, PEER_VERIFY_ANSWER, run);
    if (b == NULL)
        return;
    buffer_put_u8(b, a.place);
    buffer_put_u64(b, a.index);
    buffer_put_u64(b, a.digest);
    buffer_put_u8(b, a.state);
    buffer_put_u64(b, a.read);
    buffer_put_u64(b, a.size);
    buffer_put_text(b, a.error);
    links->end(links->arg, peer);
}

/* ---- asking ---- */

static struct answer *answer_of(struct verify *v, uint64_t id)
{
    size_t i;

    for (i = 0; i < v->n; i++)
        if (v->answers[i].id == id)
            return &v->answers[i];
    return NULL;
}

/* A digest that is known stays known, also when the node itself has forgotten it. */
static void take(struct answer *mine, const struct answer *news)
{
    struct answer before = *mine;

    *mine = *news;
    if (before.known && before.place == PLACE_THERE && news->place == PLACE_FORGOTTEN) {
        mine->place = PLACE_THERE;
        mine->digest = before.digest;
    }
}

void verify_peer_answers(struct verify *v, uint64_t peer, uint64_t run, struct cursor *in)
{
    struct answer *mine = answer_of(v, peer), a = {.id = peer, .known = true};
    const uint8_t *text;
    size_t len;

    a.place = cursor_u8(in);
    a.index = cursor_u64(in);
    a.digest = cursor_u64(in);
    a.state = cursor_u8(in);
    a.read = cursor_u64(in);
    a.size = cursor_u64(in);
    text = cursor_string(in, STATE_DB_ERROR_MAX - 1, &len);
    if (!cursor_done(in) || mine == NULL || run != v->run || a.index != v->index ||
        a.place > PLACE_STATELESS || a.state > SCRUB_FAILED)
        return;
    memcpy(a.error, text, len);
    take(mine, &a);
}

static void add_member(void *arg, uint64_t id, const char *address, bool voter)
{
    struct verify *v = arg;

    (void)address;
    (void)voter;
    if (v->n < NODES_MAX)
        v->answers[v->n++] = (struct answer){.id = id};
}

static void begin_run(struct verify *v, uint64_t run, uint64_t rate)
{
    v->run = run;
    v->rate = rate;
    v->index = store_applied(v->group->store);
    v->n = 0;
    consensus_members(v->group->consensus, v, add_member);
}

static bool is_self(const struct verify *v, const struct answer *a)
{
    return a->id == v->group->owner->config->id;
}

static bool is_final(const struct answer *a)
{
    return a->known && (a->place == PLACE_THERE || a->place == PLACE_STATELESS) && a->state != SCRUB_RUNNING;
}

static void ask(struct verify *v, struct answer *a)
{
    const struct peer_links *links = v->group->owner->links;
    struct buffer *b;

    if (is_self(v, a)) {
        struct answer news = {.id = a->id};

        serve_run(v, a->id, v->run, v->rate);
        look(v, v->index, &news);
        take(a, &news);
        return;
    }
    b = links->begin(links->arg, a->id, PEER_VERIFY, v->run);
    if (b == NULL)
        return;
    buffer_put_u64(b, v->index);
    buffer_put_u64(b, v->rate);
    links->end(links->arg, a->id);
}

/* The digest that more than half of those who answered have. False: there is none. */
static bool find_common(const struct verify *v, uint64_t *digest_out)
{
    size_t i, k, answered = 0;

    for (i = 0; i < v->n; i++)
        answered += v->answers[i].known && v->answers[i].place == PLACE_THERE;
    for (i = 0; i < v->n; i++) {
        size_t same = 0;

        if (!v->answers[i].known || v->answers[i].place != PLACE_THERE)
            continue;
        for (k = 0; k < v->n; k++)
            same += v->answers[k].known && v->answers[k].place == PLACE_THERE &&
                    v->answers[k].digest == v->answers[i].digest;
        if (2 * same > answered) {
            *digest_out = v->answers[i].digest;
            return true;
        }
    }
    return false;
}

/* What is worse comes first. */
static const char *verdict(const struct verify *v, const struct answer *a, bool up, bool common,
                           uint64_t digest)
{
    if (!up)
        return "unreachable";
    if (!a->known)
        return "checking";
    if (a->place == PLACE_THERE && (!common || a->digest != digest))
        return "differs";
    if (a->state == SCRUB_DAMAGED)
        return "damaged";
    if (a->place == PLACE_STATELESS)
        return "healing";
    if (a->state == SCRUB_RUNNING)
        return "checking";
    if (a->place != PLACE_THERE)
        return "behind";
    return a->state == SCRUB_CLEAN ? "ok" : "unchecked";
}

static json_t *show(const struct verify *v, const struct answer *a, bool up, bool common, uint64_t digest)
{
    json_t *o = json_object();
    char hex[17];

    json_object_set_new(o, "node", json_string(config_member_name(v->group->owner->config, a->id)));
    json_object_set_new(o, "state", json_string(verdict(v, a, up, common, digest)));
    json_object_set_new(o, "final", json_boolean(!up || is_final(a)));
    json_object_set_new(o, "index", json_integer((json_int_t)v->index));
    snprintf(hex, sizeof hex, "%016" PRIx64, a->digest);
    json_object_set_new(o, "digest",
                        up && a->known && a->place == PLACE_THERE ? json_string(hex) : json_null());
    json_object_set_new(o, "read_bytes", json_integer(up && a->known ? (json_int_t)a->read : 0));
    json_object_set_new(o, "size_bytes", json_integer(up && a->known ? (json_int_t)a->size : 0));
    json_object_set_new(o, "error",
                        up && a->known && a->error[0] != '\0' ? json_string(a->error) : json_null());
    return o;
}

int verify_poll(struct verify *v, uint64_t run, uint64_t rate, json_t **answer_out)
{
    uint64_t now = clock_boot_ms(), digest = 0;
    bool forgotten = false, done = true, common;
    const struct peer_links *links = v->group->owner->links;
    json_t *o, *nodes;
    size_t i;

    if (run != v->run) {
        if (v->run != 0 && now - v->polled_ms < ABANDONED_MS)
            return KV_E_BUSY;
        begin_run(v, run, rate);
    }
    v->polled_ms = now;
    for (i = 0; i < v->n; i++)
        forgotten |= v->answers[i].known && v->answers[i].place == PLACE_FORGOTTEN;
    if (forgotten) {
        v->index = store_applied(v->group->store);
        for (i = 0; i < v->n; i++)
            v->answers[i].known = false;
    }
    for (i = 0; i < v->n; i++)
        if (!is_final(&v->answers[i]))
            ask(v, &v->answers[i]);
    o = json_object();
    nodes = json_array();
    common = find_common(v, &digest);
    for (i = 0; i < v->n; i++) {
        const struct answer *a = &v->answers[i];
        bool up = is_self(v, a) || links->up(links->arg, a->id) || is_final(a);

        done &= !up || is_final(a);
        json_array_append_new(nodes, show(v, a, up, common, digest));
    }
    json_object_set_new(o, "index", json_integer((json_int_t)v->index));
    json_object_set_new(o, "done", json_boolean(done));
    json_object_set_new(o, "nodes", nodes);
    if (done)
        v->polled_ms = 0; /* another one may come */
    *answer_out = o;
    return KV_OK;
}
