/* Room in the cluster for what is staged, so that write(2) itself fails when there is
 * none. The node promises it in steps (RESERVE); a write waits only if it needs more
 * than what has been promised, which is asked for ahead of it.
 *
 *   used      what the staged files are longer than the published ones
 *   granted   what may be used; a publication makes both smaller by what it adds
 *
 * What is not used any more is given back after a moment. While no node is there,
 * nothing is promised, and a write that needs more waits like any other call. */
#ifndef KVFS_KVFS_FILE_ROOM_H
#define KVFS_KVFS_FILE_ROOM_H

#include <stdbool.h>
#include <stdint.h>

#include "kvfs/link/call.h"

struct file;
struct files;

struct room {
    uint64_t used, granted;
    uint64_t told;     /* what the node counts for this mount */
    uint64_t consumed; /* published since the node was asked */
    uint64_t ahead;    /* how much more than needed is asked for */
    uint64_t asked_ms, grown_ms, full_ms;
    struct call *asking;      /* with the link; NULL: none */
    uint64_t asking_for;      /* the waiter whose need it covers, by its serial; 0: none */
    struct call_list waiting; /* calls with call->room */
    bool unlimited;           /* the node does not count */
};

void room_init(struct room *v);
/* Whether the file may be so long. If not, *room_out is what is missing. */
bool room_fits(const struct files *files, const struct file *f, uint64_t size, uint64_t *room_out);
/* Waits for call->room more bytes; then on_answer(0) tries again, or a code. */
void room_wait(struct call *call, call_fn *on_answer);
/* Something will be written soon. */
void room_ahead(struct files *files);
/* The file's edits, or what they are based on, have changed. */
void room_account(struct files *files, struct file *f);
/* They were published. */
void room_published(struct files *files, struct file *f);
/* The connection has gone, and what it held. */
void room_lost(struct files *files);
void room_tick(struct files *files, uint64_t now_ms);

#endif
