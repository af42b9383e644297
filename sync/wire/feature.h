/* The feature level: what applying a command depends on, agreed by all nodes.
 *
 * It is a replicated setting of the cluster (settings.h), 1 to begin with. A build knows all
 * levels up to FEATURE_LEVEL. What a level adds - operations and flags of the header; nobody looks
 * at bodies before the log, so what a body means never changes - is refused until the cluster is at
 * that level; another result, or constant, applying uses from that level on:
 *
 *   - by the node that takes it and by the leader, before the log (KV_E_NOTSUP);
 *   - and a node that finds it in the log, or in a state that it loads, and does not know it,
 *     ends with a message before it applies anything: it would go another way than the others.
 *
 * The level rises by `kvnode config --cluster feature_level=N`, if every member has just said
 * (health.h) that it knows N; it never falls. A cluster in which nothing was written yet rises
 * by itself. What each level added:
 *
 *   1  what is not named below. Constants that belong to it, since results follow from them:
 *      those of kvnode/state/store_internal.h (sessions, results, EXPIRE_MAX, FORGET_MAX, ASIDE_MS)
 *      and store_upload.c, the settings' defaults and bounds,
 *      STORE_DEPTH_MAX, STORE_DEL_MAX, REWRITE_* of kvnode/state/rewrite.c, COMMAND_PART_SIZE, the
 *      limits of names and paths (attr.h), CLOCK_BACK_*. tests/unit/store/test_golden.c fails
 *      if one of them, or anything else that applying does, changes without a new level.
 *   2  locks of files (COMMAND_LOCK and its like; LOCK*_ and DEADLOCK_* of store_internal.h), hard links
 *      (COMMAND_LINK, INODE_NAMES_MAX), FIFOs and sockets, attributes of the user's (with the limits of
 *      xattr.h), times to live (ttl.h; COMMAND_EXPIRE, COMMAND_TTL, EXPIRE_NAMES_MAX),
 *      transactions (txn.h; COMMAND_TXN, TXN_NAMES_MAX, TXN_CHUNKS_MAX).
 *   3  fences (COMMAND_FENCE), and with them the time after which a session's locks are taken
 *      (LOCK_LEASE_*); labels of authors (COMMAND_LABEL, command_label_check()); the lock of SQLite's
 *      write-ahead log index is one mount's at a time (kvnode/state/lock.c); lock tables that a
 *      session has for itself (COMMAND_LOCK_TAKE, COMMAND_LOCK_PUT, LOCK_PUT_MAX).
 *
 * Built with -DKVFS_NEXT_LEVEL (tests only) a program knows one level more, with an operation. */
#ifndef KVFS_SYNC_WIRE_FEATURE_H
#define KVFS_SYNC_WIRE_FEATURE_H

#include "sync/wire/command.h"

#ifdef KVFS_NEXT_LEVEL
#define FEATURE_LEVEL 4
#else
#define FEATURE_LEVEL 3
#endif

/* The level that a cluster must be at for this command. */
unsigned feature_level_of(const struct command *cmd);

#endif
