/* Where a group's state is: in force, or on its way from another node.
 *
 *                         the scrub finds state.db damaged
 *             ┌─────────┐ ──────────────────────────────► ┌─────────┐
 *  start ───► │ SERVING │                                 │ MENDING │
 *             └─────────┘ ◄────────────────────────────── └─────────┘
 *              ▲   ▲  │         the scrub finds it whole    │   │
 *              │   │  │                                     │   │ a file is there, and
 *              │   │  │     the engine takes a file         │   │ the log reaches beyond it
 *              │   │  └─────────────┬───────────────────────┘   │
 *              │   │                ▼                           ▼
 *              │   │ in force ┌───────────┐                ┌─────────┐ in force
 *              │   └───────── │ REPLACING │           ┌──► │ HEALING │ ─────────┐
 *              │              └───────────┘           │    └─────────┘          │
 *              │                    ▲                 │          │ in force, but older than
 *              │                    │                 │          │ the log's beginning
 *              │              ┌─────────┐ ────────────┘          │               │
 *  start ──────┼────────────► │ AWAITED │ ◄──────────────────────┘               │
 *              │              └─────────┘                                        │
 *              └─────────────────────────────────────────────────────────────────┘
 *
 * A file that comes does not change it until all of it is there (incoming.h). */
#ifndef KVFS_KVNODE_GROUP_CONDITION_H
#define KVFS_KVNODE_GROUP_CONDITION_H

#include <stdbool.h>

enum condition {
    CONDITION_SERVING,
    CONDITION_MENDING,   /* state.db is damaged, memory is not: serves, and asks for a file (heal_file()) */
    CONDITION_AWAITED,   /* there is none, and the log does not reach back to the beginning: heal_state() */
    CONDITION_REPLACING, /* a file is put in force, in the place of state and log */
    CONDITION_HEALING,   /* a file is put in force, in the place of the state alone */
};
#define CONDITIONS (CONDITION_HEALING + 1)

/* False: the picture has no such arrow, and nothing is changed. To stay is none either. */
bool condition_move(enum condition *c, enum condition to);
/* The state is in force: what is committed is applied, and clients are served. Else `store` is empty. */
bool condition_serves(enum condition c);
/* A file is asked for in the place of a damaged state.db. */
bool condition_asks(enum condition c);

#endif
