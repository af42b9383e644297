/* The new content of a value, from a list of edits or from a whole new value,
 * made in steps: as much at a time as the caller has time for.
 *
 *   SCAN ──► RUN ──► FINISH ──► DONE
 *   sizes    chunks  shares with the base, digest
 *
 * The work is bounded by the bytes of the edits and by the chunks of the result
 * that they touch, whatever their order: what a later truncation cuts off is never
 * made, so that each chunk is copied at most once and hashed once. The base, the
 * edits and the limits stay as they are until it is done or dropped. Nothing but
 * ids of chunks is taken from the store. Loop thread. */
#ifndef KVFS_KVNODE_STATE_REWRITE_H
#define KVFS_KVNODE_STATE_REWRITE_H

#include "kvnode/state/value.h"
#include "sync/wire/command.h"

/* What a list of edits says beside the content. */
struct edits_sum {
    bool touched; /* content was written, changed or not */
    bool has_mtime, has_atime, has_stamp;
    int64_t mtime_ns, atime_ns, stamp_ns;
};

struct rewrite_limits {
    uint64_t value; /* bytes of a value */
    uint64_t room;  /* by how many bytes it may grow */
};

enum rewrite_phase { REWRITE_SCAN, REWRITE_RUN, REWRITE_FINISH, REWRITE_DONE };

/* A truncation behind which none goes lower. */
struct rewrite_cut {
    size_t left; /* bytes of the list behind it */
    uint64_t size;
};

struct rewrite {
    enum rewrite_phase phase;
    int code;        /* REWRITE_DONE: KV_OK, or what refuses it (then there is no draft) */
    bool apart;      /* set by the caller behind begin: not made in one go (struct draft) */
    bool same;       /* REWRITE_DONE: the content is what it was */
    uint64_t digest; /* REWRITE_DONE: of the content */
    struct edits_sum sum;
    struct draft draft;

    struct value base; /* borrowed */
    uint64_t base_digest;
    struct rewrite_limits limits;
    uint64_t *next_id; /* borrowed */
    const uint8_t *edits;
    size_t edits_len;
    struct cursor c;
    struct edit e; /* RUN: what is left of the edit under way */
    uint64_t size, largest;
    struct rewrite_cut *cuts; /* owned; in order, sizes grow */
    size_t n_cuts, cap_cuts, next_cut;
    size_t chunk; /* FINISH: the next one */
};

/* Both borrow what they are given. next_id: where ids of chunks come from. */
void rewrite_begin_edits(struct rewrite *r, const struct value *base, uint64_t base_digest,
                         const uint8_t *edits, size_t len, const struct rewrite_limits *limits,
                         uint64_t *next_id);
void rewrite_begin_value(struct rewrite *r, const struct value *base, uint64_t base_digest,
                         const uint8_t *value, size_t len, const struct rewrite_limits *limits,
                         uint64_t *next_id);
/* Goes on for about `budget` bytes of work (SIZE_MAX: to the end); r->phase says
 * whether it is done. 0 or -ENOMEM. */
int rewrite_work(struct rewrite *r, size_t budget);
/* Frees what it holds; the draft too, unless the caller has taken it (consumed). */
void rewrite_deinit(struct rewrite *r);

#endif
