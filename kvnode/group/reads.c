#include "kvnode/group/reads.h"

#include <stdlib.h>
#include <string.h>

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>

#include "kvnode/loop/turn.h"
#include "kvnode/group/group.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

/* A follower whose question got no answer asks again; the link may have dropped it. */
#define ASK_AGAIN_MS 1000

struct waiter {
    reads_done *done;
    void *arg;
    uint64_t deadline_ms;
    uint64_t index;  /* once known: apply this first */
    uint64_t number; /* among those with the same index */
    STAILQ_ENTRY(waiter) link;
    bool leased;                  /* under a lease: the index may be taken back */
    RB_ENTRY(waiter) place;       /* in reads.applying */
    TAILQ_ENTRY(waiter) deadline; /* in reads.deadlines, while in applying */
};
STAILQ_HEAD(waiter_list, waiter);
RB_HEAD(waiter_tree, waiter);
TAILQ_HEAD(waiter_queue, waiter);

static int compare(struct waiter *a, struct waiter *b)
{
    if (a->index != b->index)
        return a->index < b->index ? -1 : 1;
    return (a->number > b->number) - (a->number < b->number);
}

RB_PROTOTYPE(waiter_tree, waiter, place, compare)
RB_GENERATE(waiter_tree, waiter, place, compare)

/* One question to the quorum, for all the reads of a turn or for a peer's. */
struct question {
    uint64_t token;
    uint64_t peer, peer_token; /* asked by a follower; peer 0: by us */
    uint64_t asked_ms;
    bool remote; /* the leader is a peer */
    struct waiter_list waiters;
    TAILQ_ENTRY(question) link;
};

struct reads {
    struct group *group; /* borrowed */
    uint64_t next_token;
    struct waiter_list gathering; /* not asked yet */
    TAILQ_HEAD(question_list, question) asked;
    struct waiter_tree applying; /* their index is known, and not applied yet or only since this turn */
    uint64_t until_ns; /* clock_boot_ns(): when reads have had their time of this turn; 0: not begun */
    struct waiter_queue deadlines;
    uint64_t next_number;
    bool hold; /* the leader was not ready: ask again at the next beat */
};

static peer_handler on_question, on_answer;

struct reads *reads_new(struct group *group)
{
    struct reads *r = calloc(1, sizeof *r);

    if (r == NULL)
        return NULL;
    r->group = group;
    r->next_token = clock_boot_ns(); /* answers to an earlier life match nothing */
    STAILQ_INIT(&r->gathering);
    RB_INIT(&r->applying);
    TAILQ_INIT(&r->deadlines);
    TAILQ_INIT(&r->asked);
    peer_handlers_enter(&group->handlers, PEER_READ, on_question, r);
    peer_handlers_enter(&group->handlers, PEER_READ_ANSWER, on_answer, r);
    return r;
}

static void list_free(struct waiter_list *list)
{
    struct waiter *w;

    while ((w = STAILQ_FIRST(list)) != NULL) {
        STAILQ_REMOVE_HEAD(list, link);
        free(w);
    }
}

static void question_free(struct reads *r, struct question *q)
{
    TAILQ_REMOVE(&r->asked, q, link);
    list_free(&q->waiters);
    free(q);
}

void reads_free(struct reads *r)
{
    struct waiter *w;

    if (r == NULL)
        return;
    list_free(&r->gathering);
    while ((w = TAILQ_FIRST(&r->deadlines)) != NULL) {
        TAILQ_REMOVE(&r->deadlines, w, deadline);
        free(w);
    }
    while (!TAILQ_EMPTY(&r->asked))
        question_free(r, TAILQ_FIRST(&r->asked));
    free(r);
}

static void finish(struct waiter *w, int code)
{
    reads_done *done = w->done;
    void *arg = w->arg;

    free(w);
    done(arg, code);
}

static void await_index(struct reads *r, struct waiter *w)
{
    w->number = r->next_number++;
    RB_INSERT(waiter_tree, &r->applying, w);
    TAILQ_INSERT_TAIL(&r->deadlines, w, deadline);
}

static void finish_applying(struct reads *r, struct waiter *w, int code)
{
    RB_REMOVE(waiter_tree, &r->applying, w);
    TAILQ_REMOVE(&r->deadlines, w, deadline);
    finish(w, code);
}

static struct waiter *waiter_new(reads_done *done, void *arg, uint64_t index)
{
    struct waiter *w = calloc(1, sizeof *w);

    if (w == NULL)
        return NULL;
    w->done = done;
    w->arg = arg;
    w->index = index;
    w->deadline_ms = clock_boot_ms() + GROUP_REQUEST_MS;
    return w;
}

static void serve_applied(struct reads *r);

void reads_start(struct reads *r, reads_done *done, void *arg)
{
    struct waiter *w;

    if (group_in_minority(r->group)) {
        done(arg, KV_E_UNAVAILABLE);
        return;
    }
    w = waiter_new(done, arg, 0);
    if (w == NULL) {
        done(arg, KV_E_BUSY);
        return;
    }
    STAILQ_INSERT_TAIL(&r->gathering, w, link);
}

void reads_start_behind(struct reads *r, uint64_t index, reads_done *done, void *arg)
{
    struct waiter *w = waiter_new(done, arg, index);

    if (w == NULL) {
        done(arg, KV_E_BUSY);
        return;
    }
    w->leased = true;
    await_index(r, w);
    if (index <= store_applied(r->group->store))
        serve_applied(r);
}

void reads_after(struct reads *r, uint64_t revision, reads_done *done, void *arg)
{
    struct waiter *w;

    if (store_applied(r->group->store) >= revision) {
        done(arg, KV_OK);
        return;
    }
    w = waiter_new(done, arg, revision);
    if (w == NULL)
        done(arg, KV_E_BUSY);
    else
        await_index(r, w);
}

static struct question *question_new(struct reads *r)
{
    struct question *q = calloc(1, sizeof *q);

    if (q == NULL)
        return NULL;
    q->token = r->next_token++;
    q->asked_ms = clock_boot_ms();
    STAILQ_INIT(&q->waiters);
    TAILQ_INSERT_TAIL(&r->asked, q, link);
    return q;
}

static struct question *question_find(struct reads *r, uint64_t token)
{
    struct question *q;

    TAILQ_FOREACH (q, &r->asked, link) {
        if (q->token == token)
            return q;
    }
    return NULL;
}

/* Puts the waiters back to be asked for again. */
static void regather(struct reads *r, struct question *q)
{
    STAILQ_CONCAT(&q->waiters, &r->gathering);
    STAILQ_CONCAT(&r->gathering, &q->waiters);
    question_free(r, q);
}

void reads_turn_end(struct reads *r)
{
    struct group *g = r->group;
    const struct peer_links *links = g->owner->links;
    struct question *q;
    uint64_t leader;

    if (STAILQ_EMPTY(&r->gathering) || r->hold)
        return;
    leader = consensus_leader(g->consensus);
    if (!consensus_is_leader(g->consensus) && (leader == 0 || !links->up(links->arg, leader)))
        return;
    q = question_new(r);
    if (q == NULL)
        return;
    STAILQ_CONCAT(&q->waiters, &r->gathering);
    if (consensus_is_leader(g->consensus)) {
        uint64_t token = q->token;
        int rv;

        rv = consensus_read_index(g->consensus, token);
        if (rv != 0) {
            regather(r, q);
            r->hold = true;
        }
    } else {
        q->remote = true;
        if (links->begin(links->arg, r->group->number, leader, PEER_READ, q->token) == NULL)
            regather(r, q);
        else
            links->end(links->arg, leader);
    }
}

static void answer_peer(struct reads *r, uint64_t peer, uint64_t token, int code, uint64_t index)
{
    const struct peer_links *links = r->group->owner->links;
    struct buffer *b = links->begin(links->arg, r->group->number, peer, PEER_READ_ANSWER, token);

    if (b == NULL)
        return;
    peer_read_answer_encode(b, &(struct peer_read_answer){.code = (uint16_t)code, .index = index});
    links->end(links->arg, peer);
}

/* Those whose index is applied, as many as this turn has time for; a read that is served
 * later sees a later state. A call may add others. */
static void serve_applied(struct reads *r)
{
    struct waiter *w;

    while ((w = RB_MIN(waiter_tree, &r->applying)) != NULL && w->index <= store_applied(r->group->store)) {
        if (r->until_ns == 0) {
            r->until_ns = clock_boot_ns() + TURN_READS_NS;
        } else if (turn_time_is_up(r->until_ns)) {
            group_turn_again(r->group);
            break;
        }
        finish_applying(r, w, KV_OK);
    }
}

bool reads_wait_for_time(const struct reads *r)
{
    struct waiter *w = RB_MIN(waiter_tree, (struct waiter_tree *)&r->applying);

    return w != NULL && w->index <= store_applied(r->group->store);
}

static void index_known(struct reads *r, struct question *q, uint64_t index)
{
    struct waiter_list ready = STAILQ_HEAD_INITIALIZER(ready);
    struct waiter *w;

    STAILQ_CONCAT(&ready, &q->waiters);
    question_free(r, q);
    while ((w = STAILQ_FIRST(&ready)) != NULL) {
        STAILQ_REMOVE_HEAD(&ready, link);
        w->index = index;
        await_index(r, w);
    }
    serve_applied(r);
}

void reads_answered(struct reads *r, uint64_t token, uint64_t index, int code)
{
    struct question *q = question_find(r, token);

    if (q == NULL)
        return;
    if (q->peer != 0) {
        answer_peer(r, q->peer, q->peer_token, code, index);
        question_free(r, q);
    } else if (code != KV_OK) {
        regather(r, q);
    } else {
        index_known(r, q, index);
    }
}

/* A follower asks. */
static int on_question(void *arg, uint64_t peer, const struct frame *frame)
{
    struct reads *r = arg;
    struct group *g = r->group;
    uint64_t token = frame->id;
    struct question *q;
    int rv;

    if (!consensus_is_leader(g->consensus)) {
        answer_peer(r, peer, token, KV_E_NOTLEADER, 0);
        return 0;
    }
    q = question_new(r);
    if (q == NULL) {
        answer_peer(r, peer, token, KV_E_BUSY, 0);
        return 0;
    }
    q->peer = peer;
    q->peer_token = token;
    rv = consensus_read_index(g->consensus, q->token);
    if (rv != 0) {
        answer_peer(r, peer, token, rv, 0);
        question_free(r, q);
    }
    return 0;
}

/* The leader answers. */
static int on_answer(void *arg, uint64_t peer, const struct frame *frame)
{
    struct cursor in = cursor_of(frame->payload, frame->len);
    struct reads *r = arg;
    struct question *q = question_find(r, frame->id);
    struct peer_read_answer answer;

    (void)peer;
    if (!peer_read_answer_decode(&in, &answer) || q == NULL || !q->remote)
        return 0;
    if (answer.code == KV_OK) {
        index_known(r, q, answer.index);
    } else {
        regather(r, q);
        r->hold = true;
    }
    return 0;
}

void reads_applied(struct reads *r)
{
    serve_applied(r);
}

void reads_turn_over(struct reads *r)
{
    serve_applied(r);
    r->until_ns = 0;
}

void reads_retry(struct reads *r)
{
    struct question *q, *next;
    struct waiter *w, *after;

    r->hold = false;
    for (w = TAILQ_FIRST(&r->deadlines); w != NULL; w = after) {
        after = TAILQ_NEXT(w, deadline);
        if (!w->leased || w->index <= store_applied(r->group->store))
            continue;
        RB_REMOVE(waiter_tree, &r->applying, w);
        TAILQ_REMOVE(&r->deadlines, w, deadline);
        w->leased = false;
        STAILQ_INSERT_TAIL(&r->gathering, w, link);
    }
    for (q = TAILQ_FIRST(&r->asked); q != NULL; q = next) {
        next = TAILQ_NEXT(q, link);
        if (q->remote)
            regather(r, q);
    }
}

static void expire(struct waiter_list *list, uint64_t now_ms)
{
    struct waiter *w;

    /* Deadlines are in the order of arrival, or near it. */
    while ((w = STAILQ_FIRST(list)) != NULL && w->deadline_ms <= now_ms) {
        STAILQ_REMOVE_HEAD(list, link);
        finish(w, KV_E_UNAVAILABLE);
    }
}

/* Those that wait for an index; in the order of deadlines, or near it. */
static void expire_applying(struct reads *r, uint64_t now_ms)
{
    struct waiter *w;

    while ((w = TAILQ_FIRST(&r->deadlines)) != NULL && w->deadline_ms <= now_ms)
        finish_applying(r, w, KV_E_UNAVAILABLE);
}

void reads_beat(struct reads *r, uint64_t now_ms)
{
    struct question *q, *next;

    r->hold = false;
    expire(&r->gathering, now_ms);
    /* With a full disk nothing is applied here: another node can tell. */
    expire_applying(r, group_disk_full(r->group) ? UINT64_MAX : now_ms);
    for (q = TAILQ_FIRST(&r->asked); q != NULL; q = next) {
        next = TAILQ_NEXT(q, link);
        if (q->peer != 0 && now_ms - q->asked_ms > GROUP_REQUEST_MS)
            question_free(r, q);
        else if (q->remote && now_ms - q->asked_ms > ASK_AGAIN_MS)
            regather(r, q);
        else
            expire(&q->waiters, now_ms);
    }
}

void reads_stop(struct reads *r)
{
    while (!TAILQ_EMPTY(&r->asked))
        regather(r, TAILQ_FIRST(&r->asked));
    expire(&r->gathering, UINT64_MAX);
    expire_applying(r, UINT64_MAX);
}
