#include "kvnode/group/verify.h"

#include <assert.h>
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
static_assert(PEER_ERROR_MAX == STATE_DB_ERROR_MAX - 1, "what a scrub found fits a frame");
#define NODES_MAX (CONFIG_PEERS_MAX + 1)

struct answer {
    uint64_t id; /* of the node */
    bool known;
    uint8_t place; /* enum peer_place */
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

static peer_handler on_question, on_answer;

struct verify *verify_new(struct group *group)
{
    struct verify *v = calloc(1, sizeof *v);

    if (v == NULL)
        return NULL;
    v->group = group;
    peer_handlers_enter(&group->handlers, PEER_VERIFY, on_question, v);
    peer_handlers_enter(&group->handlers, PEER_VERIFY_ANSWER, on_answer, v);
    return v;
}

void verify_free(struct verify *v)
{
    free(v);
}

/* ---- answering ---- */

/* The first question of a run begins a scrub: one that is under way may be past
 * what was damaged since. Another node may go on with a run, when its client has lost the first one: what
 * the scrub has found by then stays what the run has found, also if it has been mended meanwhile. */
static void serve_run(struct verify *v, uint64_t peer, uint64_t run, uint64_t rate)
{
    bool begun = false;
    size_t i, at;

    for (at = 0; at < NODES_MAX - 1 && v->served[at].peer != peer && v->served[at].peer != 0; at++)
        ;
    for (i = 0; i < NODES_MAX; i++)
        begun |= v->served[i].peer != 0 && v->served[i].run == run;
    v->served[at].peer = peer;
    v->served[at].run = run;
    if (!begun)
        scrub_begin(v->group->scrub, rate);
}

static void look(struct verify *v, uint64_t index, struct answer *a)
{
    struct group *g = v->group;
    struct scrub_view scrub;

    scrub_look(g->scrub, &scrub);
    a->index = index;
    a->digest = 0;
    if (!group_serves(g))
        a->place = PEER_PLACE_STATELESS;
    else if (store_applied(g->store) < index)
        a->place = PEER_PLACE_BEFORE;
    else
        a->place = digest_ring_find(&g->digests, index, &a->digest) ? PEER_PLACE_THERE : PEER_PLACE_FORGOTTEN;
    a->state = (uint8_t)scrub.state;
    a->read = scrub.read;
    a->size = scrub.size;
    snprintf(a->error, sizeof a->error, "%s", scrub.state == SCRUB_RUNNING ? "" : scrub.error);
    a->known = true;
}

static int on_question(void *arg, uint64_t peer, const struct frame *frame)
{
    struct cursor in = cursor_of(frame->payload, frame->len);
    struct verify *v = arg;
    const struct peer_links *links = v->group->owner->links;
    struct answer a = {0};
    struct peer_verify asked;
    struct buffer *b;

    if (!peer_verify_decode(&in, &asked))
        return 0;
    serve_run(v, peer, frame->id, asked.rate);
    look(v, asked.index, &a);
    b = links->begin(links->arg, v->group->number, peer, PEER_VERIFY_ANSWER, frame->id);
    if (b == NULL)
        return 0;
    peer_verify_answer_encode(b, &(struct peer_verify_answer){.place = a.place,
                                                              .index = a.index,
                                                              .digest = a.digest,
                                                              .scrub = a.state,
                                                              .read = a.read,
                                                              .size = a.size,
                                                              .error = a.error,
                                                              .error_len = strlen(a.error)});
    links->end(links->arg, peer);
    return 0;
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
    if (before.known && before.place == PEER_PLACE_THERE && news->place == PEER_PLACE_FORGOTTEN) {
        mine->place = PEER_PLACE_THERE;
        mine->digest = before.digest;
    }
}

static int on_answer(void *arg, uint64_t peer, const struct frame *frame)
{
    struct cursor in = cursor_of(frame->payload, frame->len);
    struct verify *v = arg;
    struct answer *mine = answer_of(v, peer), a = {.id = peer, .known = true};
    struct peer_verify_answer said;

    if (!peer_verify_answer_decode(&in, &said) || mine == NULL || frame->id != v->run ||
        said.index != v->index || said.scrub > SCRUB_FAILED)
        return 0;
    a.place = said.place;
    a.index = said.index;
    a.digest = said.digest;
    a.state = said.scrub;
    a.read = said.read;
    a.size = said.size;
    memcpy(a.error, said.error, said.error_len);
    take(mine, &a);
    return 0;
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
    return a->known && (a->place == PEER_PLACE_THERE || a->place == PEER_PLACE_STATELESS) &&
           a->state != SCRUB_RUNNING;
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
    b = links->begin(links->arg, v->group->number, a->id, PEER_VERIFY, v->run);
    if (b == NULL)
        return;
    peer_verify_encode(b, &(struct peer_verify){.index = v->index, .rate = v->rate});
    links->end(links->arg, a->id);
}

/* The digest that more than half of those who answered have. False: there is none. */
static bool find_common(const struct verify *v, uint64_t *digest_out)
{
    size_t i, k, answered = 0;

    for (i = 0; i < v->n; i++)
        answered += v->answers[i].known && v->answers[i].place == PEER_PLACE_THERE;
    for (i = 0; i < v->n; i++) {
        size_t same = 0;

        if (!v->answers[i].known || v->answers[i].place != PEER_PLACE_THERE)
            continue;
        for (k = 0; k < v->n; k++)
            same += v->answers[k].known && v->answers[k].place == PEER_PLACE_THERE &&
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
    if (a->place == PEER_PLACE_THERE && (!common || a->digest != digest))
        return "differs";
    if (a->state == SCRUB_DAMAGED)
        return "damaged";
    if (a->place == PEER_PLACE_STATELESS)
        return "healing";
    if (a->state == SCRUB_RUNNING)
        return "checking";
    if (a->place != PEER_PLACE_THERE)
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
                        up && a->known && a->place == PEER_PLACE_THERE ? json_string(hex) : json_null());
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
        forgotten |= v->answers[i].known && v->answers[i].place == PEER_PLACE_FORGOTTEN;
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
