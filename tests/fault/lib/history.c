#include "tests/fault/lib/history.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sync/base/clock.h"

struct record {
    enum linear_kind kind;
    uint64_t value;
    int64_t call, answered;
    unsigned who;
    int code;
    _Atomic int outcome;
};

struct key {
    _Atomic int n;
    struct record ops[HISTORY_OPS];
};

/* Pages that nobody touches cost nothing. */
struct history {
    _Atomic uint64_t values;
    struct key keys[];
};

static size_t size_of(unsigned n_keys)
{
    return sizeof(struct history) + n_keys * sizeof(struct key);
}

struct history *history_new(unsigned n_keys)
{
    struct history *h = mmap(NULL, size_of(n_keys), PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (h == MAP_FAILED)
        return NULL;
    h->values = LINEAR_EMPTY;
    return h;
}

void history_free(struct history *h, unsigned n_keys)
{
    if (h != NULL)
        munmap(h, size_of(n_keys));
}

uint64_t history_value(struct history *h)
{
    return ++h->values;
}

uint64_t history_content(uint64_t value)
{
    return linear_fold(LINEAR_EMPTY, value);
}

int history_call(struct history *h, unsigned key, unsigned who, enum linear_kind kind, uint64_t value)
{
    struct key *k = &h->keys[key];
    int at = k->n < HISTORY_OPS ? k->n++ : HISTORY_OPS;

    if (at >= HISTORY_OPS)
        return -1;
    k->ops[at].who = who;
    k->ops[at].kind = kind;
    k->ops[at].value = value;
    k->ops[at].call = (int64_t)clock_boot_ns();
    return at;
}

void history_answer(struct history *h, unsigned key, int token, enum outcome outcome, int code,
                    uint64_t content)
{
    struct record *r = &h->keys[key].ops[token];

    r->answered = (int64_t)clock_boot_ns();
    if (r->kind == LINEAR_READ)
        r->value = content;
    r->code = code;
    r->outcome = (int)outcome;
}

static int n_ops(const struct key *k)
{
    return k->n < HISTORY_OPS ? k->n : HISTORY_OPS;
}

void history_sum(struct history *h, unsigned n_keys, struct history_sums *sums_out)
{
    *sums_out = (struct history_sums){0};
    for (unsigned i = 0; i < n_keys; i++) {
        const struct key *k = &h->keys[i];

        for (int j = 0; j < n_ops(k); j++) {
            sums_out->ops++;
            sums_out->acknowledged += k->ops[j].outcome == OUTCOME_OK;
            sums_out->refused += k->ops[j].outcome == OUTCOME_REFUSED;
            sums_out->unknown += k->ops[j].outcome == OUTCOME_UNKNOWN;
        }
    }
}

static const char *const kinds[] = {[LINEAR_SET] = "set",       [LINEAR_CAS] = "cas",
                                    [LINEAR_CREATE] = "create", [LINEAR_OVERWRITE] = "overwrite",
                                    [LINEAR_APPEND] = "append", [LINEAR_DELETE] = "delete",
                                    [LINEAR_RENAME] = "rename", [LINEAR_READ] = "read"};

static uint64_t content_of(enum linear_kind kind, uint64_t value)
{
    return kind == LINEAR_READ ? value : kind == LINEAR_DELETE ? LINEAR_ABSENT : history_content(value);
}

/* Everything that was under way within a moment of the operation, and what nobody knows of. */
static void print_around(const struct key *k, const struct linear_op *op)
{
    static const char *const outcomes[] = {[OUTCOME_UNKNOWN] = "unknown",
                                           [OUTCOME_OK] = "ok",
                                           [OUTCOME_REFUSED] = "refused",
                                           [OUTCOME_NONE] = "does not count"};
    int64_t from = op->call - 300000000, to = op->answered + 100000000;
    int i;

    for (i = 0; i < n_ops(k); i++) {
        const struct record *r = &k->ops[i];

        if (r->outcome != OUTCOME_UNKNOWN && (r->answered < from || r->call > to))
            continue;
        fprintf(stderr, "# %s client %2u %-9s %016" PRIx64 " %.6f … %.6f %s (%d)\n",
                r->kind == op->kind && r->call == op->call ? ">" : " ", r->who, kinds[r->kind],
                content_of(r->kind, r->value), (double)r->call / 1e9, (double)r->answered / 1e9,
                outcomes[r->outcome], r->code);
    }
}

bool history_check(struct history *h, unsigned key)
{
    const struct key *k = &h->keys[key];
    struct linear_op *ops = calloc((size_t)n_ops(k) + 1, sizeof *ops);
    enum linear_result result;
    size_t n = 0, stuck = 0;

    if (ops == NULL)
        return false;
    for (int i = 0; i < n_ops(k); i++) {
        const struct record *r = &k->ops[i];
        struct linear_op *op = &ops[n];

        /* A read without an answer tells nothing. */
        if (r->outcome == OUTCOME_NONE || (r->outcome == OUTCOME_UNKNOWN && r->kind == LINEAR_READ))
            continue;
        op->kind = r->kind;
        op->value = r->value;
        op->call = r->call;
        op->answered = r->answered;
        op->open = r->outcome == OUTCOME_UNKNOWN;
        op->refused = r->outcome == OUTCOME_REFUSED;
        op->hint = op->open ? INT64_MAX : op->call / 2 + op->answered / 2;
        n++;
    }
    /* An unknown write that somebody saw was executed before. */
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; ops[i].open && ops[i].kind != LINEAR_DELETE && j < n; j++)
            if (ops[j].kind == LINEAR_READ && ops[j].value == history_content(ops[i].value) &&
                ops[j].hint <= ops[i].hint)
                ops[i].hint = ops[j].hint - 1;
    }
    result = linear_check(ops, n, &stuck);
    if (result != LINEAR_YES) {
        fprintf(stderr, "# key %u: %s; of %zu operations, around the one that finds no place:\n", key,
                result == LINEAR_NO ? "not linearizable" : "too much to check", n);
        print_around(k, &ops[stuck]);
    }
    free(ops);
    return result == LINEAR_YES;
}

static uint64_t next(uint64_t *state)
{
    uint64_t z = *state;

    z ^= z << 13;
    z ^= z >> 7;
    z ^= z << 17;
    return *state = z;
}

static void fill(uint64_t value, size_t at, char *out, size_t len)
{
    uint64_t state = value * 0x9e3779b97f4a7c15u | 1;

    for (; at < len; at++)
        out[at] = (char)(' ' + next(&state) % 90);
}

void value_fill(uint64_t value, char *out, size_t len)
{
    char head[48];
    int n = snprintf(head, sizeof head, "%016" PRIx64 " %08zx\n", value, len);

    memcpy(out, head, (size_t)n);
    fill(value, (size_t)n, out, len);
}

bool value_is(const char *data, size_t len, uint64_t *value_out)
{
    char head[27] = "", *end, *want;
    bool same;

    if (len < VALUE_SMALL)
        return false;
    memcpy(head, data, 26);
    *value_out = strtoull(head, &end, 16);
    if (end != head + 16)
        return false;
    want = malloc(len);
    if (want == NULL)
        return false;
    value_fill(*value_out, want, len);
    same = memcmp(want, data, len) == 0;
    free(want);
    return same;
}
