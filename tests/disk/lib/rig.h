/* Three nodes whose data lies on disks that can lose their power, and clients
 * that write to them and know what they were promised. */
#ifndef KVFS_TESTS_DISK_RIG_H
#define KVFS_TESTS_DISK_RIG_H

#include <pthread.h>

#include "tests/disk/lib/disk.h"
#include "tests/fault/lib/caller.h"
#include "tests/fault/lib/raw.h"

#define RIG_NODES 3
#define RIG_WRITERS 3
#define RIG_WRONG 512

struct rig;

/* A thread that sets its key to 1, 2, 3 …, each a version of its own, and
 * appends some of the numbers to a file that all share. What is not answered is
 * sent again under the same number until it is. */
struct writer {
    struct rig *rig; /* borrowed */
    unsigned number;
    pthread_t thread;
    struct caller caller;
    bool running;
    /* Under the rig's lock. */
    bool held;
    uint64_t done;     /* acknowledged */
    uint64_t appended; /* acknowledged, to the shared file */
    uint64_t worst_ms; /* of the writes since rig_measure() */
    uint64_t *us;      /* owned; how long each took, since then */
    size_t n_us, cap_us;
};

struct rig {
    struct cluster *c;
    struct disk disks[RIG_NODES];
    struct dice dice;
    struct writer writers[RIG_WRITERS];
    unsigned first, pinned; /* writers begin at this node, and stay there */
    uint64_t shared_ino;
    pthread_mutex_t lock;
    pthread_cond_t change;
    bool hold, stop;
    char wrong[RIG_WRONG]; /* the first broken promise */
};

/* Makes disks and nodes and starts them, not the writers. Skips the test where
 * that is not possible; false: it failed. */
bool rig_start(struct rig *r, const char *what);
/* Stops everything that runs. False: something was wrong with the nodes. */
bool rig_stop(struct rig *r);

/* Writers start with their first node given; pinned: and stay with it. */
bool rig_write(struct rig *r, unsigned first, bool pinned);
/* Waits until each writer has had n more acknowledgements. False: not in that time, or
 * something is wrong already. */
bool rig_progress(struct rig *r, uint64_t n, unsigned timeout_ms);
/* Lets each writer finish what it has under way, and wait; false: one does not. */
bool rig_hold(struct rig *r, unsigned timeout_ms);
void rig_go_on(struct rig *r);
/* While they are held: every promise was kept, nothing was done twice, all nodes
 * that run have the same state. False: wrong says what is not so. */
bool rig_is_right(struct rig *r);
/* Holds the writers, and fails the test if something is not right; then they go on. */
void rig_assert_right(struct rig *r);
/* Forgets the times so far; returns the median in microseconds of what is forgotten. */
uint64_t rig_measure(struct rig *r, uint64_t *worst_us_out, size_t *n_out);

/* The nodes of the mask lose their power, at once. */
void rig_cut(struct rig *r, unsigned mask, bool torn, uint64_t numbers_out[2]);
/* Starts the nodes of the mask and waits until they serve. */
bool rig_restart(struct rig *r, unsigned mask, unsigned timeout_ms);

#endif
