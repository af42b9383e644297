/* State files for peers that are too far behind for the log: made by VACUUM INTO
 * on a worker thread, streamed over the link in pieces, one file for all
 * laggards; and the receiving side up to its installation. Loop thread only.
 *
 *   leader: ask ─► file at index J ─► stream ─► done
 *   laggard: stream ─► fsync, verify, load (worker) ─► engine ─► rename, reset log ─► in force */
#ifndef KVFS_KVNODE_GROUP_SNAPSHOTS_H
#define KVFS_KVNODE_GROUP_SNAPSHOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct group;
struct snapshot_meta;
struct snapshots;

struct snapshots *snapshots_new(struct group *group); /* NULL: out of memory */
/* A worker thread is at it: not the moment to free anything. */
bool snapshots_busy(const struct snapshots *s);
void snapshots_free(struct snapshots *s);
/* The engine wants the peer to have a state file. */
void snapshots_send(struct snapshots *s, uint64_t peer);
/* What there is of a file from another node; received: its bytes so far. */
enum snapshots_incoming { SNAPSHOTS_NONE, SNAPSHOTS_COMING, SNAPSHOTS_INSTALLING };
enum snapshots_incoming snapshots_incoming(const struct snapshots *s, uint64_t *received_out);
/* The engine takes the file that was received: put it in force. */
void snapshots_install(struct snapshots *s, const struct snapshot_meta *meta);
/* Before anything is opened at start-up: what an interrupted install left in the
 * group's folder. 1: *meta_out has to be given to consensus_finish_install() (and
 * snapshots_installed() called after it); 0: nothing; -errno: there may be something
 * that cannot be read. */
int snapshots_recover(const char *group_dir, uint64_t applied, struct snapshot_meta *meta_out);
void snapshots_installed(const char *group_dir);
/* The link is there, perhaps again: what was being sent goes on. Without one it is given up after a while. */
void snapshots_linked(struct snapshots *s, uint64_t peer);
/* End of a turn: goes on streaming. */
void snapshots_turn_end(struct snapshots *s);

#endif
