/* Read leases: what a node's owner does with them, its mount with a kernel's cache, and readers.
 *
 *   node ── one stream, delayed: INVAL, FILL, BEAT ──► mount (cache of keys, good until cache_until)
 *        ◄── what INVALs it has carried out ──────────
 *
 * The mount outlives its node's process: its cache serves until the time that it was told, on the machine's
 * clock. A write is taken for acknowledged as soon as any node has applied it, so a read has to find what was
 * applied anywhere, or read anywhere, before it began. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

#define KEYS 4
#define MAX_LETTERS 256
#define MAX_READERS 16

enum letter_kind { LETTER_INVAL, LETTER_INVAL_ALL, LETTER_RECONNECT, LETTER_FILL, LETTER_BEAT };

struct letter {
    enum letter_kind kind;
    unsigned key;
    uint64_t value; /* INVAL: index; FILL: what was read; BEAT: until */
    int64_t at;     /* of arrival */
};

struct reader {
    unsigned key;
    uint64_t wait; /* for this index to be applied */
    uint64_t at_least;
};

static struct holder {
    /* the node */
    uint64_t term, looked; /* entries up to looked have been looked at, in this term */
    bool told[KEYS];
    uint64_t last[KEYS]; /* as applied here */
    struct reader readers[MAX_READERS];
    unsigned n_readers;
    uint64_t said_until;
    /* on the way */
    struct letter letters[MAX_LETTERS];
    unsigned n_letters;
    /* the mount */
    bool has[KEYS];
    uint64_t value[KEYS];
    uint64_t cache_until;
    bool wants;
    int64_t slow_until;
} holders[MAX_NODES + 1];

static uint64_t shown[KEYS]; /* highest index of the key that was applied or read anywhere */
static uint8_t *key_of;      /* [index]: 1 + key, 0: no command */
static size_t n_keys, cap_keys;

void lease_reset(void)
{
    memset(holders, 0, sizeof holders);
    memset(shown, 0, sizeof shown);
    n_keys = 0;
}

static int key_of_entry(const struct entry *e)
{
    return e->type == ENTRY_COMMAND ? e->data[0] % KEYS : -1;
}

/* ---- reading ---- */

static void check_read(const struct node *n, unsigned key, uint64_t value, uint64_t at_least,
                       const char *where)
{
    if (value < at_least)
        violation("stale read on node %d from %s: key %u at %lu, %lu was shown before", n->id, where, key,
                  value, at_least);
    if (value > shown[key])
        shown[key] = value;
    counters.lease_reads++;
}

static bool letter_push(struct node *n, enum letter_kind kind, unsigned key, uint64_t value)
{
    struct holder *h = &holders[n->id];
    int64_t at = world.now + (world.now < h->slow_until || kind == LETTER_RECONNECT ? rnd_range(20, 400)
                                                                                    : rnd_range(0, 4));

    if (h->n_letters == MAX_LETTERS)
        return false;
    if (h->n_letters > 0 && at < h->letters[h->n_letters - 1].at)
        at = h->letters[h->n_letters - 1].at;
    h->letters[h->n_letters++] = (struct letter){kind, key, value, at};
    events_push(at, EVENT_LETTER, n->id, NULL);
    return true;
}

/* The newest entry that touches the key among those looked at and not applied; 0: none. */
static uint64_t pending(const struct node *n, unsigned key)
{
    const struct holder *h = &holders[n->id];

    for (uint64_t i = h->looked; i > n->state.applied; i--) {
        struct entry *e = engine_entry_at(n->engine, i);

        if (e != NULL && key_of_entry(e) == (int)key)
            return options.no_pending ? 0 : i;
    }
    return 0;
}

static bool lease_runs(const struct node *n)
{
    return engine_lease_until(n->engine) > node_clock(n);
}

static void serve(struct node *n, unsigned key, uint64_t at_least)
{
    struct holder *h = &holders[n->id];

    check_read(n, key, h->last[key], at_least, "memory");
    if (lease_runs(n) && pending(n, key) == 0 && letter_push(n, LETTER_FILL, key, h->last[key]))
        h->told[key] = true;
}

static void forget_if_over(struct node *n)
{
    struct holder *h = &holders[n->id];

    if (node_clock(n) >= h->cache_until)
        memset(h->has, 0, sizeof h->has);
}

void lease_look(struct node *n)
{
    struct holder *h = &holders[n->id];
    unsigned key = (unsigned)rnd_range(0, KEYS - 1);
    uint64_t wait;

    forget_if_over(n);
    if (h->has[key] && h->wants) {
        counters.lease_cached++;
        check_read(n, key, h->value[key], shown[key], "its mount's cache");
        return;
    }
    if (!n->up || n->paused_until > world.now || !lease_runs(n)) {
        counters.lease_without++;
        return;
    }
    wait = pending(n, key);
    if (wait == 0)
        serve(n, key, shown[key]);
    else if (h->n_readers < MAX_READERS)
        h->readers[h->n_readers++] = (struct reader){key, wait, shown[key]};
}

/* ---- the node ---- */

void lease_on_apply(struct node *n, uint64_t index, const struct entry *e)
{
    struct holder *h = &holders[n->id];
    int key = key_of_entry(e);
    unsigned kept = 0;

    if (!options.leases)
        return;
    if (index >= cap_keys) {
        cap_keys = (index + 1) * 2;
        key_of = realloc(key_of, cap_keys);
        if (key_of == NULL)
            abort();
    }
    while (n_keys <= index)
        key_of[n_keys++] = 0;
    key_of[index] = (uint8_t)(key + 1);
    if (key >= 0) {
        h->last[key] = index;
        if (index > shown[key])
            shown[key] = index;
    }
    for (unsigned i = 0; i < h->n_readers; i++) {
        struct reader r = h->readers[i];

        if (r.wait <= index)
            serve(n, r.key, r.at_least);
        else
            h->readers[kept++] = r;
    }
    h->n_readers = kept;
}

static void take_state(struct node *n, enum letter_kind kind)
{
    struct holder *h = &holders[n->id];

    for (unsigned k = 0; k < KEYS; k++) {
        uint64_t i = n->state.applied;

        while (i > 0 && (i >= n_keys || key_of[i] != k + 1))
            i--;
        h->last[k] = i;
    }
    h->n_readers = 0;
    h->term = 0;
    for (unsigned k = 0; k < KEYS; k++)
        h->told[k] = false;
    if (!letter_push(n, kind, 0, n->state.applied))
        violation("too many letters");
}

/* A state file is in force: all may be different. */
void lease_on_state(struct node *n)
{
    if (options.leases)
        take_state(n, LETTER_INVAL_ALL);
}

/* A new process: nothing of the old one is on its way any more. It does not know its mount before that
 * has found it, and that may be late. */
void lease_on_start(struct node *n)
{
    struct holder *h = &holders[n->id];

    if (!options.leases)
        return;
    h->n_letters = 0;
    h->said_until = 0;
    h->wants = true;
    take_state(n, LETTER_RECONNECT);
    if (engine_want_lease(n->engine, node_clock(n), true) != 0)
        violation("node %d cannot want a lease", n->id);
}

static void look_at_entries(struct node *n)
{
    struct holder *h = &holders[n->id];
    uint64_t accepted = engine_accepted_index(n->engine);

    if (engine_term(n->engine) != h->term || h->looked < n->state.applied) {
        h->term = engine_term(n->engine);
        h->looked = n->state.applied;
    }
    while (h->looked < accepted) {
        struct entry *e = engine_entry_at(n->engine, h->looked + 1);
        int key = e != NULL ? key_of_entry(e) : -1;

        if (key >= 0 && h->told[key] && !options.no_invalidation) {
            if (!letter_push(n, LETTER_INVAL, (unsigned)key, h->looked + 1))
                return;
            h->told[key] = false;
        }
        h->looked++;
    }
}

static uint64_t invalidated(const struct node *n)
{
    const struct holder *h = &holders[n->id];

    for (unsigned i = 0; i < h->n_letters; i++)
        if (h->letters[i].kind == LETTER_INVAL || h->letters[i].kind == LETTER_INVAL_ALL)
            return h->letters[i].value == 0           ? 0
                   : h->letters[i].value <= h->looked ? h->letters[i].value - 1
                                                      : n->state.applied; /* of a former leader's entry */
    return h->looked;
}

static void say_invalidated(struct node *n)
{
    uint64_t index = invalidated(n);
    int result = engine_invalidated(n->engine, node_clock(n), index);

    if (result != 0)
        violation("node %d: invalidated gives %d", n->id, result);
    truth_check(n);
}

/* Before the end of a turn. */
void lease_turn(struct node *n)
{
    struct holder *h = &holders[n->id];
    uint64_t until;

    if (!options.leases)
        return;
    look_at_entries(n);
    say_invalidated(n);
    until = engine_lease_until(n->engine);
    if (until > h->said_until && letter_push(n, LETTER_BEAT, 0, until))
        h->said_until = until;
}

/* ---- the mount ---- */

void lease_on_letter(struct node *n)
{
    struct holder *h = &holders[n->id];
    bool told = false;

    while (h->n_letters > 0 && h->letters[0].at <= world.now) {
        struct letter l = h->letters[0];

        memmove(&h->letters[0], &h->letters[1], --h->n_letters * sizeof l);
        forget_if_over(n);
        switch (l.kind) {
        case LETTER_INVAL:
            h->has[l.key] = false;
            told = true;
            break;
        case LETTER_RECONNECT:
            memset(h->has, 0, sizeof h->has);
            break;
        case LETTER_INVAL_ALL:
            memset(h->has, 0, sizeof h->has);
            told = true;
            break;
        case LETTER_FILL:
            h->has[l.key] = true;
            h->value[l.key] = l.value;
            break;
        case LETTER_BEAT:
            if (l.value > h->cache_until)
                h->cache_until = l.value;
            break;
        }
    }
    if (told && n->up && n->paused_until <= world.now)
        node_check(n, 0, "acknowledgement");
}

/* A mount becomes slow; or idle: it forgets all, then its lease goes back. */
void lease_disturb(struct node *n)
{
    struct holder *h = &holders[n->id];
    int result;

    if (rnd_chance(0.7)) {
        h->slow_until = world.now + rnd_range(100, 3000);
        return;
    }
    if (!n->up || n->paused_until > world.now)
        return;
    if (h->wants) { /* all that is on its way arrives first, and the cache is dropped */
        unsigned kept = 0;

        for (unsigned i = 0; i < h->n_letters; i++)
            if (h->letters[i].kind == LETTER_INVAL || h->letters[i].kind == LETTER_INVAL_ALL)
                h->letters[kept++] = h->letters[i];
        h->n_letters = kept;
        memset(h->has, 0, sizeof h->has);
        memset(h->told, 0, sizeof h->told);
        h->cache_until = h->said_until = 0;
    }
    h->wants = !h->wants;
    result = engine_want_lease(n->engine, node_clock(n), h->wants);
    node_check(n, result, "want");
}
