/* Linearizability of a history of operations on one object: a few names, each
 * with a content or none (Herlihy and Wing 1990; the search is Wing and Gong's
 * with Lowe's memory of visited states).
 *
 * Contents are numbers that no two operations write: appending folds the new
 * value into the old content, so a content tells everything that made it. */
#ifndef KVFS_TESTS_SIM_WHOLE_LINEAR_H
#define KVFS_TESTS_SIM_WHOLE_LINEAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINEAR_NAMES 3
#define LINEAR_ABSENT 0
#define LINEAR_EMPTY 1

enum linear_kind {
    LINEAR_SET,       /* name a holds value, and nothing else */
    LINEAR_CAS,       /* the same if a's content is expect, else refused */
    LINEAR_CREATE,    /* a is made empty if it is absent, else refused */
    LINEAR_OVERWRITE, /* a exists and holds value afterwards, else refused */
    LINEAR_APPEND,    /* value is added to a, which exists, else refused */
    LINEAR_DELETE,    /* a exists and is removed, else refused */
    LINEAR_RENAME,    /* a's content moves to b over what is there; refused if a is absent */
    LINEAR_MOVE,      /* as a rename; but if a is absent and b is there it may also do nothing, and succeed */
    LINEAR_READ,      /* a's content is `value` */
    LINEAR_EXISTS,    /* whether a has a content is `value`, 0 or 1 */
};

struct linear_op {
    enum linear_kind kind;
    int a, b;
    uint64_t value, expect;
    int64_t call, answered;
    bool open;    /* nobody knows whether it was executed; answered does not count */
    bool refused; /* the answer said so */
    int64_t hint; /* where to look first; any number is right */
};

/* The content that adding value to content makes. */
uint64_t linear_fold(uint64_t content, uint64_t value);

enum linear_result { LINEAR_YES, LINEAR_NO, LINEAR_GAVE_UP };
/* Is there an order? Sorts ops. *stuck_out: on NO an operation that found no place
 * in the order that got furthest. */
enum linear_result linear_check(struct linear_op *ops, size_t n, size_t *stuck_out);
/* For people: the first that does not fit when all are done in the order of their
 * hints (as sorted by linear_check()), by its answer or because it was called after
 * one behind it was answered; n: none. */
size_t linear_misfit(const struct linear_op *ops, size_t n);

#endif
