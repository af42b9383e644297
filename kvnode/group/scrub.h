/* The scrub: goes through state.db (state_db_scrub.h) from time to time and on
 * request, on a thread of its own that has the lowest priority for processor and
 * disk and keeps to [storage] scrub_bytes_per_s. Values in memory were checked
 * when they were loaded; what lies on the disk, old versions above all, is looked
 * at by nobody else until it is needed.
 *
 * Damage is logged, shown by status here and at the peers, and mended
 * (heal_file()). Loop thread only. */
#ifndef KVFS_KVNODE_GROUP_SCRUB_H
#define KVFS_KVNODE_GROUP_SCRUB_H

#include <stdbool.h>
#include <stdint.h>

#include "kvnode/disk/state_db.h"

struct digest_ring;
struct scrub;

enum scrub_state {
    SCRUB_NONE, /* no pass has ended yet */
    SCRUB_RUNNING,
    SCRUB_CLEAN,
    SCRUB_DAMAGED,
    SCRUB_FAILED, /* the file could not be looked at */
};

struct scrub_view {
    enum scrub_state state; /* of the pass under way, else of the last one */
    bool damaged;           /* the last pass that ended found damage that is not mended yet */
    uint64_t read, size;    /* bytes, of the same pass; read may pass size */
    /* Of the last pass that ended. */
    enum scrub_state last;
    uint64_t ended_wall_ns, ended_boot_ms; /* 0: none has */
    uint64_t took_ms, last_read;
    char error[STATE_DB_ERROR_MAX]; /* DAMAGED, FAILED */
};

struct scrub_options {
    const char *path;                  /* of state.db; borrowed, as digests */
    uint64_t interval_ms;              /* 0: only on request */
    uint64_t bytes_per_s;              /* unless a request says another rate */
    uint64_t node;                     /* its id: not all nodes do it at once */
    const struct digest_ring *digests; /* of memory */
    bool mends;                        /* there are nodes from which a good file may come */
    void *arg;
    void (*on_found)(void *arg, bool damaged); /* a pass has ended, and the file could be looked at */
};

/* Begins nothing yet. The options are copied. NULL: out of memory, or no thread. */
struct scrub *scrub_new(const struct scrub_options *options);
void scrub_free(struct scrub *s); /* NULL is ignored */
/* A pass from the beginning, also if one is under way. 0: the configured rate. */
void scrub_begin(struct scrub *s, uint64_t bytes_per_s);
/* Each heartbeat: is one due, has one ended? */
void scrub_beat(struct scrub *s, uint64_t now_ms);
/* state.db is about to be replaced: returns when the thread has let go of it. */
void scrub_pause(struct scrub *s);
/* It was replaced by a file that was verified: what was found in the old one is gone,
 * and a pass that was under way begins again. */
void scrub_resume(struct scrub *s);
void scrub_look(struct scrub *s, struct scrub_view *out);

#endif
