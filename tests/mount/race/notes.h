/* What players did to the registers of a round and what they were told, in memory that processes share;
 * judged by the simulation's linearizability checker when the round is over.
 *
 * A register is up to three names in one tree (linear.h). What is observed of it is told apart by how, so
 * that a violation says which way of looking is wrong: the writes, together with those reads alone, have to
 * be linearizable, too. */
#ifndef KVFS_TESTS_MOUNT_RACE_NOTES_H
#define KVFS_TESTS_MOUNT_RACE_NOTES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/fault/lib/history.h"

#define NOTES_MAX 3000 /* of a register in a round; the checker's effort grows with the square */

enum how {
    HOW_WRITE,
    HOW_OPEN,       /* opened by name, and read */
    HOW_STAT,       /* by name */
    HOW_LIST,       /* the directory's listing */
    HOW_DESCRIPTOR, /* read by one that is open all the time */
    HOW_FSTAT,      /* likewise */
    HOW_MAP,        /* read in a mapping that is there all the time */
    HOWS
};

/* Which reads are looked at. */
enum answers { ANSWERS_ALL, ANSWERS_THERE, ANSWERS_MISSING };

struct note {
    enum linear_kind kind;
    enum how how;
    unsigned who, mount;
    int a, b, code;
    uint64_t value;
    int64_t call, answered;
    _Atomic int outcome; /* enum outcome */
};

struct notes {
    _Atomic int n;
    struct note of[NOTES_MAX];
};

/* CLOCK_MONOTONIC, ns. */
int64_t notes_now(void);
void notes_clear(struct notes *notes);
/* Before the call. Any process. value: of a write. NULL: the register is full, and the call must not be
 * made. */
struct note *notes_call(struct notes *notes, enum linear_kind kind, enum how how, int a, int b,
                        uint64_t value);
/* Behind the call. value: of a read, as linear.h has it. */
void notes_answer(struct note *note, enum outcome outcome, int code, uint64_t value);
/* When nobody plays any more. how: HOWS for all reads. slack_ns: not 0: reads by descriptors and mappings
 * only must not be older than that. print: what does not fit goes to stderr, under that name; NULL: nothing.
 */
enum linear_result notes_check(const struct notes *notes, enum how how, enum answers answers,
                               int64_t slack_ns, const char *print);
const char *how_name(enum how how);

#endif
