/* `kvnode run`: builds the parts of a node in order, runs them, stops them. */
#ifndef KVFS_KVNODE_NODE_NODE_H
#define KVFS_KVNODE_NODE_NODE_H

struct config;

/* Runs until SIGTERM or SIGINT (then hands leadership over and stops). Returns
 * the process's exit status: 0 stopped, 1 could not start (with a message on
 * standard error). Ends the process itself when going on would risk data. Main
 * thread. */
int node_run(const struct config *config);

#endif
