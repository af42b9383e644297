/* Writes on their way: from a client of this node to the leader, into the log,
 * and back as a result when this node has applied them.
 *
 *   WAITING ──leader is here──► SUBMITTED ─┐
 *      │  ▲                                ├─ applied here ─► answered
 *      │  └── leadership changed ──────────┤
 *      └────leader is a peer──► FORWARDED ─┘
 *
 * The result is found by (session, number) when this node applies the command, so
 * it makes no difference who led when it was committed. After a change of
 * leadership everything unanswered is sent again: the session makes the second
 * execution answer like the first (exactly once).
 *
 * Clients without a session of their own (the command line) use the node's, which
 * is registered when first needed. Loop thread only. */
#ifndef KVFS_KVNODE_GROUP_WRITES_H
#define KVFS_KVNODE_GROUP_WRITES_H

#include "sync/wire/command.h"

struct group;
struct writes;

/* Called once a write: code 0 and the result, or why there is none
 * (KV_E_UNAVAILABLE: surely not executed; KV_E_NOSPC: neither, this node's disk is
 * full; KV_E_UNKNOWN; KV_E_ROFS; KV_E_BUSY). */
typedef void writes_done(void *arg, int code, const struct command_result *result);

struct writes *writes_new(struct group *group); /* NULL: out of memory */
/* The node stops: everything that waits is answered, as after its deadline. */
void writes_stop(struct writes *w);
void writes_free(struct writes *w); /* calls nobody */

/* Starts the write of a command whose author fields are set. Session 0: the
 * node's. 0: done is called once, perhaps from inside this call, at the latest
 * after GROUP_REQUEST_MS; else a refusal, and done is not called. */
int writes_start(struct writes *w, const struct command *cmd, writes_done *done, void *arg);

/* A command was applied here. */
void writes_applied(struct writes *w, const struct command *cmd, const struct command_result *result);
/* Leadership may have changed, or (new_link) the link to the leader is a new one:
 * what may have got lost is sent again. */
void writes_retry(struct writes *w, bool new_link);
/* A snapshot was installed: results may be in the store already. */
void writes_recheck(struct writes *w);
/* Every heartbeat: deadlines, the elapsed clock of the leader. */
void writes_beat(struct writes *w, uint64_t now_ms);
/* The leader's clock of time in which the cluster could be written to (command.h), which commands bring to
 * the store; on others the store's. */
uint64_t writes_elapsed_ms(const struct writes *w);
/* End of a turn: proposes what has gathered. When it wants another turn, ms from now; UINT64_MAX: whenever.
 */
uint64_t writes_turn_end(struct writes *w);

#endif
