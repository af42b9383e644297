/* Linearizable reads (ReadIndex, Raft thesis §6.4): finds an index that is at
 * least as new as everything acknowledged before the question, waits until it is
 * applied here, and calls back. All reads of one turn share one question. Where this node
 * holds a read lease (leases.h) nobody is asked.
 * Loop thread only. */
#ifndef KVFS_KVNODE_GROUP_READS_H
#define KVFS_KVNODE_GROUP_READS_H

#include <stdbool.h>
#include <stdint.h>

struct group;
struct reads;

/* code 0: read from memory now. KV_E_UNAVAILABLE: no leader within GROUP_REQUEST_MS. */
typedef void reads_done(void *arg, int code);

struct reads *reads_new(struct group *group);
/* The node stops: everything that waits is answered with KV_E_UNAVAILABLE. */
void reads_stop(struct reads *r);
void reads_free(struct reads *r); /* calls nobody */
/* done is called once, perhaps from inside this call. */
void reads_start(struct reads *r, reads_done *done, void *arg);
/* The same under a lease (leases_current()): once this entry is applied, which is accepted here. If it is
 * taken back, or the leader changes, it is asked for. */
void reads_start_behind(struct reads *r, uint64_t index, reads_done *done, void *arg);
/* Calls back once this revision is applied here. */
void reads_after(struct reads *r, uint64_t revision, reads_done *done, void *arg);
/* From consensus: the answer to a question asked as the leader. */
void reads_answered(struct reads *r, uint64_t token, uint64_t index, int code);
/* The state has got on. */
void reads_applied(struct reads *r);
void reads_retry(struct reads *r);
void reads_beat(struct reads *r, uint64_t now_ms);
void reads_turn_end(struct reads *r);
/* Behind all else that serves reads in a turn: serves what has had no time, if there is some left. */
void reads_turn_over(struct reads *r);
bool reads_wait_for_time(const struct reads *r); /* some could be served, and had no time */

#endif
