#include "tests/sim/whole/linear.h"

#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 20000000

struct state {
    uint64_t content[LINEAR_NAMES];
};

/* Visited: a set of operations done, and the state that they made. */
struct search {
    struct linear_op *ops;
    size_t n;
    bool *done;
    uint64_t *code; /* a random number an operation; the sum of those done is the set's */
    uint64_t *seen;
    size_t n_seen, cap_seen;
    uint64_t steps;
    size_t furthest, stuck;
};

uint64_t linear_fold(uint64_t content, uint64_t value)
{
    uint64_t h = content ^ (value + 0x9e3779b97f4a7c15u + (content << 6) + (content >> 2));

    h *= 0xff51afd7ed558ccdu;
    h ^= h >> 33;
    return h > LINEAR_EMPTY ? h : h + 2;
}

static bool apply(const struct linear_op *op, struct state *s)
{
    uint64_t *a = &s->content[op->a];
    bool may;

    switch (op->kind) {
    case LINEAR_READ:
        return *a == op->value;
    case LINEAR_EXISTS:
        return (*a != LINEAR_ABSENT) == (op->value != 0);
    case LINEAR_SET:
        may = true;
        break;
    case LINEAR_CAS:
        may = *a == op->expect;
        break;
    case LINEAR_CREATE:
        may = *a == LINEAR_ABSENT;
        break;
    case LINEAR_MOVE:
        may = *a != LINEAR_ABSENT || (!op->refused && s->content[op->b] != LINEAR_ABSENT);
        break;
    default:
        may = *a != LINEAR_ABSENT;
        break;
    }
    if (op->refused)
        return !may;
    if (!may) /* an open one that does nothing needs no place */
        return false;
    switch (op->kind) {
    case LINEAR_SET:
    case LINEAR_CAS:
    case LINEAR_OVERWRITE:
        *a = linear_fold(LINEAR_EMPTY, op->value);
        break;
    case LINEAR_CREATE:
        *a = LINEAR_EMPTY;
        break;
    case LINEAR_APPEND:
        *a = linear_fold(*a, op->value);
        break;
    case LINEAR_RENAME:
    case LINEAR_MOVE:
        if (op->a != op->b && *a != LINEAR_ABSENT) {
            s->content[op->b] = *a;
            *a = LINEAR_ABSENT;
        }
        break;
    default:
        *a = LINEAR_ABSENT;
        break;
    }
    return true;
}

static int by_hint(const void *x, const void *y)
{
    const struct linear_op *a = x, *b = y;

    if (a->hint != b->hint)
        return a->hint < b->hint ? -1 : 1;
    return a->call < b->call ? -1 : a->call > b->call;
}

static bool remember(struct search *x, uint64_t key)
{
    size_t at;

    if (2 * x->n_seen >= x->cap_seen) {
        uint64_t *old = x->seen;
        size_t old_cap = x->cap_seen;

        x->cap_seen = old_cap > 0 ? 2 * old_cap : 1024;
        x->seen = calloc(x->cap_seen, sizeof *x->seen);
        if (x->seen == NULL)
            abort();
        x->n_seen = 0;
        for (size_t i = 0; i < old_cap; i++)
            if (old[i] != 0)
                remember(x, old[i]);
        free(old);
    }
    key = key != 0 ? key : 1;
    for (at = key & (x->cap_seen - 1); x->seen[at] != 0; at = (at + 1) & (x->cap_seen - 1))
        if (x->seen[at] == key)
            return false;
    x->seen[at] = key;
    x->n_seen++;
    return true;
}

static uint64_t key_of(uint64_t set, const struct state *s)
{
    uint64_t k = set;

    for (int i = 0; i < LINEAR_NAMES; i++)
        k = linear_fold(k, s->content[i] + (uint64_t)i);
    return k;
}

/* The earliest answer that has to have an operation done before it. */
static int64_t horizon(const struct search *x, size_t *left_out, size_t *first_out)
{
    int64_t t = INT64_MAX;

    *left_out = 0;
    for (size_t i = 0; i < x->n; i++) {
        if (x->done[i] || x->ops[i].open)
            continue;
        ++*left_out;
        if (x->ops[i].answered < t) {
            t = x->ops[i].answered;
            *first_out = i;
        }
    }
    return t;
}

struct level {
    struct state state; /* before the operation chosen here */
    uint64_t set;
    size_t next; /* the operation to be tried next */
    size_t chosen;
    int64_t horizon;
};

static enum linear_result search(struct search *x)
{
    struct level *levels = calloc(x->n + 2, sizeof *levels);
    enum linear_result result = LINEAR_NO;
    size_t depth = 0, left, first = 0;

    if (levels == NULL)
        abort();
    levels[0].horizon = horizon(x, &left, &first);
    for (;;) {
        struct level *l = &levels[depth];

        if (l->horizon == INT64_MAX) {
            result = LINEAR_YES;
            break;
        }
        if (++x->steps > STEPS_MAX) {
            result = LINEAR_GAVE_UP;
            break;
        }
        if (l->next == x->n) { /* nothing fits here: one step back */
            if (depth == 0)
                break;
            depth--;
            x->done[levels[depth].chosen] = false;
            continue;
        }
        l->chosen = l->next++;
        if (!x->done[l->chosen] && x->ops[l->chosen].call <= l->horizon) {
            struct level *below = &levels[depth + 1];

            below->state = l->state;
            below->set = l->set + x->code[l->chosen];
            below->next = 0;
            if (!apply(&x->ops[l->chosen], &below->state) || !remember(x, key_of(below->set, &below->state)))
                continue;
            x->done[l->chosen] = true;
            below->horizon = horizon(x, &left, &first);
            depth++;
            if (x->n - left > x->furthest) {
                x->furthest = x->n - left;
                x->stuck = first;
            }
        }
    }
    free(levels);
    return result;
}

size_t linear_misfit(const struct linear_op *ops, size_t n)
{
    struct state s = {{0}};

    for (size_t i = 0; i < n; i++) {
        if (!apply(&ops[i], &s) && !ops[i].open)
            return i;
        for (size_t k = i + 1; k < n; k++)
            if (!ops[k].open && ops[k].answered < ops[i].call)
                return i;
    }
    return n;
}

enum linear_result linear_check(struct linear_op *ops, size_t n, size_t *stuck_out)
{
    struct search x = {.ops = ops, .n = n};
    enum linear_result result;
    uint64_t random = 0x6b766673;

    qsort(ops, n, sizeof *ops, by_hint);
    x.done = calloc(n + 1, sizeof *x.done);
    x.code = calloc(n + 1, sizeof *x.code);
    if (x.done == NULL || x.code == NULL)
        abort();
    for (size_t i = 0; i < n; i++)
        x.code[i] = random = linear_fold(random, i);
    result = search(&x);
    *stuck_out = x.stuck;
    free(x.done);
    free(x.code);
    free(x.seen);
    return result;
}
