/* What clients did to keys and what they were told, kept in memory that processes
 * share, to be judged in the end by the simulation's linearizability checker.
 *
 * Every write has a value of its own: a number, from which its bytes follow, so
 * that a read tells which write it saw, and whether it saw all of it. */
#ifndef KVFS_TESTS_FAULT_HISTORY_H
#define KVFS_TESTS_FAULT_HISTORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim/whole/linear.h"

#define HISTORY_OPS 4000 /* a key; the checker's effort grows with the square */
#define VALUE_SMALL 64
#define VALUE_MAX 140000

enum outcome {
    OUTCOME_UNKNOWN, /* also of a call that never came back */
    OUTCOME_OK,
    OUTCOME_REFUSED, /* by the state of the key: it was missing, or there */
    OUTCOME_NONE,    /* certainly without effect, or tells nothing */
};

struct history;

/* Shared with processes that are forked afterwards. NULL: out of memory. */
struct history *history_new(unsigned n_keys);
void history_free(struct history *h, unsigned n_keys);
/* A number that no other write has; above LINEAR_EMPTY. */
uint64_t history_value(struct history *h);

/* Any thread. Before the call and behind it; the token is -1 when the key's list
 * is full, then the call must not be made. who: for people. */
int history_call(struct history *h, unsigned key, unsigned who, enum linear_kind kind, uint64_t value);
/* A read's content: LINEAR_ABSENT, LINEAR_EMPTY, or history_content(). code: for people. */
void history_answer(struct history *h, unsigned key, int token, enum outcome outcome, int code,
                    uint64_t content);
/* The content of a key that a write with this value has set. */
uint64_t history_content(uint64_t value);

/* One key, when nobody writes any more. False: it is not linearizable; what does
 * not fit is printed. */
bool history_check(struct history *h, unsigned key);
struct history_sums {
    uint64_t ops, acknowledged, refused, unknown;
};
/* Of all keys. */
void history_sum(struct history *h, unsigned n_keys, struct history_sums *sums_out);

/* The bytes of a value, len of them, at least VALUE_SMALL. */
void value_fill(uint64_t value, char *out, size_t len);
/* Whether they are a whole value. */
bool value_is(const char *data, size_t len, uint64_t *value_out);

#endif
