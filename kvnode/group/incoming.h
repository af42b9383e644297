/* A state file from another node, up to where it is in force. Loop thread only.
 *
 *               all is there              the engine takes it
 *   ┌────────┐ ────────────► ┌─────────┐        ┌────────────┐
 *   │ STREAM │               │ SYNCING │   ┌──► │ TO_REPLACE │ ───────────┐
 *   └────────┘ ◄──────────── └─────────┘   │    └────────────┘            ▼
 *     ▲  ▲  │   durable, or not to be had  │                       ┌────────────┐
 *     │  │  └──────────────────────────────┤                       │ INSTALLING │
 *     │  │                                 │    ┌─────────┐        └────────────┘
 *     │  │     state.db is to be healed    └──► │ TO_HEAL │ ───────────┘   │
 *     │  └───────────────────────────────────── └─────────┘                │
 *     │         the log was trimmed meanwhile                              │
 *     └────────────────────────────────────────────────────────────────────┘
 *                                     in force
 *
 * The TO_ states end with the turn: what the engine calls is only noted. INSTALLING: the state goes out
 * of force (condition.h), the file is verified, renamed and loaded by a worker, and the log reset, unless
 * it reaches beyond the file. A crash on the way: install_meta.h. */
#ifndef KVFS_KVNODE_GROUP_INCOMING_H
#define KVFS_KVNODE_GROUP_INCOMING_H

#include <stdbool.h>
#include <stdint.h>

struct group;
struct incoming;
struct snapshot_meta;

struct incoming *incoming_new(struct group *group); /* NULL: out of memory */
/* A worker thread is at it: not the moment to free anything. */
bool incoming_busy(const struct incoming *s);
void incoming_free(struct incoming *s); /* NULL is ignored */
/* The engine takes the file that was received: put it in force. */
void incoming_install(struct incoming *s, const struct snapshot_meta *meta);
/* More of a file has come since the last call. One that stands still was given up by its sender. */
bool incoming_moves(struct incoming *s);
/* All of a file is there, and not yet in force. */
bool incoming_is_there(const struct incoming *s);
/* The last file was refused, because it has a newer format than this program knows: it has to be upgraded.
 * The sender does not come again before the link is a new one, or a while has passed (outgoing.c). */
bool incoming_refused(const struct incoming *s, uint32_t *format_out);
/* End of a turn. */
void incoming_turn_end(struct incoming *s);

#endif
