/* The try-out cluster: its folder, its nodes.
 *
 *   DIR/env           to be sourced by sh
 *   DIR/conf/n1.conf  made by `kvnode dev`, and rewritten by it when ports change
 *   DIR/n1/data       the node's data directory
 *   DIR/n1/log        its standard output and error
 *   DIR/n1/pid        "PID START-TIME"
 *   DIR/sock/n1.sock
 *
 * Sockets have short paths and forced commands plain characters. Where DIR has
 * neither, everything goes through a symbolic link to it in /tmp. */
#ifndef KVFS_KVNODE_ADMIN_DEV_H
#define KVFS_KVNODE_ADMIN_DEV_H

#include <limits.h>

#include "kvnode/admin/cluster.h"
#include "kvnode/admin/dev_process.h"

#define DEV_NODES_MAX 7
#define DEV_PATH_MAX 1024

struct dev_node {
    char name[8];
    unsigned id;
    uint16_t port;      /* of its sshd; 0: not chosen yet */
    uint16_t http_port; /* likewise */
    char config[DEV_PATH_MAX], data[DEV_PATH_MAX], log[DEV_PATH_MAX], pid_file[DEV_PATH_MAX];
    char socket[DEV_PATH_MAX];
    pid_t pid; /* 0: does not run */
};

struct dev {
    const struct admin *a;
    char dir[DEV_PATH_MAX];     /* as given, absolute */
    char base[DEV_PATH_MAX];    /* dir, or the link to it */
    char program[DEV_PATH_MAX]; /* kvnode, by a path that an authorized_keys line can hold */
    char cluster_id[20];
    struct dev_node nodes[DEV_NODES_MAX];
    size_t n_nodes;
    bool complete; /* an earlier dev_prepare() came to its end */
    unsigned timeout_ms;
};

/* All print what is wrong and return an exit status, unless said otherwise. */

/* Finds the folder, the nodes that exist and the processes that run. */
int dev_open(const struct admin *a, struct dev *d);
/* Makes what is missing for n nodes (keys, configurations, ports, env). A port
 * that somebody else has taken is replaced; *moved_out says that the
 * configurations changed, so that running nodes must be started anew. */
int dev_prepare(struct dev *d, size_t n, bool *moved_out);
/* Whether something else listens on a node's port. */
bool dev_port_is_free(uint16_t port);

/* A node's status, or NULL if it does not answer within timeout_ms. */
json_t *dev_ask(const struct dev *d, const struct dev_node *n, unsigned timeout_ms);
/* Starts a node that does not run. */
int dev_start(struct dev *d, struct dev_node *n);
/* Ends the nodes: SIGTERM, after some seconds SIGKILL. */
void dev_stop(struct dev *d, struct dev_node *const *nodes, size_t n);

/* The node that leads, asked of the nodes that run: of several claims (a paused
 * or cut-off leader) the highest term counts. NULL: none. */
struct dev_node *dev_leader(struct dev *d);
/* The same, and waits for an election if enough nodes run for one. */
struct dev_node *dev_wait_leader(struct dev *d);
/* Nodes that run and are not paused. */
size_t dev_count_running(const struct dev *d);
/* Waits until the nodes answer, and, if enough run, until they have a leader and
 * have applied what it had committed. What is missing is told after 2 s and when
 * time is up. */
int dev_wait_ready(struct dev *d, struct dev_node *const *nodes, size_t n);
/* Waits, some seconds at most, until every running node sees that all that run are back. */
void dev_wait_links(const struct dev *d);
/* Waits, some seconds at most, until a new cluster has the feature level that it begins at: a mount that is
 * made earlier keeps locks for itself as long as it lives. */
void dev_wait_level(const struct dev *d);

#endif
