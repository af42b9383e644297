/* `del -r` of a tree of any size. One command for it would hold every node's loop for
 * seconds, so the node that takes it has the names below removed in steps of
 * STORE_DEL_MAX (COMMAND_PRUNE, replicated, in the node's session, with the caller's
 * permissions), others' commands in between, and then executes the client's own
 * command under its own number for the small rest. If something refuses a step or
 * the node ends on the way, a part of the names is gone, as with rm -r; the same command
 * goes on with the rest. A number that was executed is not executed again: its steps are
 * refused like itself.
 * Loop thread only. */
#ifndef KVFS_KVNODE_GROUP_REMOVAL_H
#define KVFS_KVNODE_GROUP_REMOVAL_H

#include "kvnode/group/writes.h"

/* Like writes_start(), for every command; `removed` of the result counts all steps. What
 * was done partly has a result, too: its code says why not all of it, and `removed` is
 * how many names are gone. Each step has GROUP_REQUEST_MS. */
int removal_start(struct group *group, const struct command *cmd, writes_done *done, void *arg);

#endif
