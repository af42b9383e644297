#include "kvnode/group/mounts.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "kvnode/loop/stream.h"
#include "kvnode/state/touch.h"
#include "sync/base/clock.h"
#include "sync/wire/message.h"

#define UNANSWERED_MAX 4096 /* INVALs; who has more has to forget all */
#define BEAT_MS 20          /* between two that only lengthen the time */
#define APPLIED_MS 50       /* between two that only tell what is applied */
#define LATE_MS 100         /* an INVAL is answered within this */
#define FRESH_MS 20         /* or there is no more time until it is */
#define SHUN_MS 1000        /* who was late is given no time for so long, then for twice as long */
#define SHUN_MAX_MS 30000
#define SHUN_FORGET_MS 60000

/* An INVAL that was sent. */
struct told {
    uint64_t number, index, sent_ms;
};

struct mount {
    struct stream *stream; /* borrowed */
    uint64_t request;
    uint64_t sent;           /* number of the last INVAL */
    uint64_t everything;     /* of the last that was of everything */
    uint64_t looked;         /* of what is under way up to there it had not heard when it came */
    struct told *unanswered; /* owned; a ring of UNANSWERED_MAX, or NULL: none yet */
    size_t head, n;
    bool lost;             /* there were too many: an INVAL of everything follows when he has answered */
    uint64_t lost_behind;  /* up to there it was told */
    uint64_t until_ms;     /* the last that he was told */
    uint64_t applied;      /* likewise */
    uint64_t beat_ms;      /* when */
    bool in_force, beaten; /* likewise; a BEAT was sent */
    uint64_t shunned_until_ms, shun_ms;
    TAILQ_ENTRY(mount) link;
};

struct mounts {
    TAILQ_HEAD(, mount) all;
    unsigned n;
    uint64_t looked; /* index of the last INVAL to all */
    uint64_t recalls;
    /* Those that left: until then nothing behind that index is forgotten. */
    uint64_t left_until_ms, left_bound;
};

struct mounts *mounts_new(void)
{
    struct mounts *m = calloc(1, sizeof *m);

    if (m != NULL)
        TAILQ_INIT(&m->all);
    return m;
}

void mounts_free(struct mounts *m)
{
    if (m == NULL)
        return;
    while (!TAILQ_EMPTY(&m->all))
        mounts_leave(m, TAILQ_FIRST(&m->all));
    free(m);
}

static struct told *told_at(const struct mount *one, size_t i)
{
    return &one->unanswered[(one->head + i) % UNANSWERED_MAX];
}

static void send_inval(struct mount *one, struct inval *inval, uint64_t now_ms)
{
    struct buffer *out = stream_output(one->stream);
    size_t frame;

    inval->number = ++one->sent;
    frame = frame_begin(out, MESSAGE_INVAL, 0, one->request);
    inval_encode(out, inval);
    frame_end(out, frame);
    *told_at(one, one->n++) = (struct told){one->sent, inval->index, now_ms};
}

struct mount *mounts_enter(struct mounts *m, struct stream *stream, uint64_t request, uint64_t looked)
{
    struct mount *one = calloc(1, sizeof *one);

    if (one == NULL)
        return NULL;
    one->unanswered = calloc(UNANSWERED_MAX, sizeof *one->unanswered);
    if (one->unanswered == NULL) {
        free(one);
        return NULL;
    }
    one->stream = stream;
    one->request = request;
    TAILQ_INSERT_TAIL(&m->all, one, link);
    m->n++;
    one->lost = true; /* what is under way it has not heard of */
    one->looked = looked;
    return one;
}

/* Up to where it has answered. */
static uint64_t bound_of(const struct mount *one)
{
    for (size_t i = 0; i < one->n; i++)
        if (told_at(one, i)->index != UINT64_MAX)
            return told_at(one, i)->index - 1;
    return one->lost ? one->lost_behind : UINT64_MAX;
}

void mounts_leave(struct mounts *m, struct mount *one)
{
    uint64_t now = clock_boot_ms();

    if (one == NULL)
        return;
    if (m->left_until_ms <= now)
        m->left_bound = m->looked;
    if (one->until_ms > now && bound_of(one) < m->left_bound)
        m->left_bound = bound_of(one);
    if (one->until_ms > now && one->until_ms > m->left_until_ms)
        m->left_until_ms = one->until_ms;
    TAILQ_REMOVE(&m->all, one, link);
    m->n--;
    free(one->unanswered);
    free(one);
}

void mounts_answered(struct mount *one, uint64_t number, uint64_t now_ms)
{
    bool late = one->n > 0 && now_ms - told_at(one, 0)->sent_ms > LATE_MS;

    while (one->n > 0 && told_at(one, 0)->number <= number) {
        one->head = (one->head + 1) % UNANSWERED_MAX;
        one->n--;
    }
    if (!late || now_ms < one->shunned_until_ms)
        return;
    if (one->shun_ms == 0 || now_ms - one->shunned_until_ms > SHUN_FORGET_MS)
        one->shun_ms = SHUN_MS;
    else if (one->shun_ms < SHUN_MAX_MS)
        one->shun_ms *= 2;
    one->shunned_until_ms = now_ms + one->shun_ms;
}

void mounts_inval(struct mounts *m, uint64_t index, uint64_t session, const struct touches *touches,
                  uint64_t now_ms)
{
    struct inval inval = {.index = index, .session = session, .all = touches->all, .n = (uint8_t)touches->n};
    struct mount *one;

    _Static_assert(TOUCH_MAX <= INVAL_MAX, "an INVAL holds all that a command touches");
    _Static_assert((int)TOUCH_ATTR == INVAL_ATTR && (int)TOUCH_DATA == INVAL_DATA &&
                       (int)TOUCH_NAMES == INVAL_NAMES,
                   "the same bits");
    m->looked = index;
    for (unsigned i = 0; i < touches->n; i++) {
        inval.of[i].ino = touches->of[i].ino;
        inval.of[i].what = touches->of[i].what;
    }
    TAILQ_FOREACH (one, &m->all, link) {
        if (one->n == UNANSWERED_MAX && !one->lost) {
            one->lost = true;
            one->lost_behind = index - 1;
        }
        if (!one->lost)
            send_inval(one, &inval, now_ms);
        m->recalls++;
    }
}

unsigned mounts_n(const struct mounts *m)
{
    return m->n;
}

uint64_t mounts_recalls(const struct mounts *m)
{
    return m->recalls;
}

uint64_t mounts_bound(const struct mounts *m, uint64_t now_ms)
{
    uint64_t bound = m->left_until_ms > now_ms ? m->left_bound : UINT64_MAX;
    const struct mount *one;

    TAILQ_FOREACH (one, &m->all, link) {
        if (one->until_ms > now_ms && bound_of(one) < bound)
            bound = bound_of(one);
    }
    return bound;
}

uint64_t mounts_until(const struct mounts *m)
{
    uint64_t until = m->left_until_ms;
    const struct mount *one;

    TAILQ_FOREACH (one, &m->all, link)
        until = one->until_ms > until ? one->until_ms : until;
    return until;
}

void mounts_again(struct mounts *m, uint64_t applied)
{
    struct mount *one;

    m->looked = applied;
    if (m->left_bound > applied)
        m->left_bound = applied;

    /* What was told of under the old term is told of again, or is gone; it has to be answered all the same
     * before there is more time. */
    TAILQ_FOREACH (one, &m->all, link)
        for (size_t i = 0; i < one->n; i++)
            told_at(one, i)->index = UINT64_MAX;
}

static bool may_have_time(const struct mount *one, uint64_t now_ms)
{
    const struct told *oldest = one->n > 0 ? told_at(one, 0) : NULL;

    return !one->lost && now_ms >= one->shunned_until_ms &&
           (oldest == NULL || (oldest->number > one->everything && now_ms - oldest->sent_ms <= FRESH_MS));
}

static void beat(struct mount *one, const struct beat *b, uint64_t now_ms)
{
    bool more = b->until_ms > one->until_ms && (now_ms - one->beat_ms >= BEAT_MS || one->until_ms <= now_ms);
    bool on = one->n == 0 && b->applied > one->applied && now_ms - one->beat_ms >= APPLIED_MS;
    struct buffer *out;
    size_t frame;

    if (one->beaten && (bool)b->in_force == one->in_force && !more && !on)
        return;
    out = stream_output(one->stream);
    frame = frame_begin(out, MESSAGE_BEAT, 0, one->request);
    beat_encode(out, b);
    frame_end(out, frame);
    one->beaten = true;
    one->beat_ms = now_ms;
    one->in_force = b->in_force;
    one->applied = b->applied;
    if (b->until_ms > one->until_ms)
        one->until_ms = b->until_ms;
}

void mounts_beat(struct mounts *m, bool in_force, uint64_t until_ms, uint64_t applied, uint64_t now_ms)
{
    struct mount *one;

    TAILQ_FOREACH (one, &m->all, link) {
        struct beat b = {.until_ms = until_ms, .applied = applied, .in_force = in_force};

        if (one->lost && one->n == 0) {
            struct inval everything = {.index = one->looked > m->looked ? one->looked : m->looked, .all = 1};

            one->lost = false;
            send_inval(one, &everything, now_ms);
            one->everything = one->sent;
            told_at(one, 0)->index = one->lost_behind + 1; /* what it was told of last */
        }
        if (!may_have_time(one, now_ms))
            b.until_ms = one->until_ms;
        beat(one, &b, now_ms);
    }
}

unsigned mounts_count(const struct mounts *m)
{
    return m->n;
}
