/* `kvnode verify`: do all nodes have the same state at one index, and is what
 * they store whole? The node that is asked asks the others over the links, again
 * at each poll of its client until it knows; no question waits anywhere.
 *
 *   client ── ADMIN verify, run R ──► node ── VERIFY R: index, rate ──► peers
 *          ◄─ what is known by now ──      ◄─ VERIFY_ANSWER R ────────
 *
 * The first question of a run makes a node begin a scrub (scrub.h). Nodes are at
 * different indexes at any time, so each remembers its last digests
 * (digest_ring.h); where one has forgotten, another index is taken. Loop thread only. */
#ifndef KVFS_KVNODE_GROUP_VERIFY_H
#define KVFS_KVNODE_GROUP_VERIFY_H

#include <jansson.h>
#include <stdint.h>

struct group;
struct verify;

struct verify *verify_new(struct group *group); /* NULL: out of memory */
void verify_free(struct verify *v);             /* NULL is ignored */
/* What a client's poll gets: {"index": N, "done": bool, "nodes": [{"name", "state", …}]}.
 * run: chosen by the client, not 0; rate: bytes a second, 0: as configured. KV_OK,
 * or KV_E_BUSY while another client's run is polled. */
int verify_poll(struct verify *v, uint64_t run, uint64_t rate, json_t **answer_out);

#endif
