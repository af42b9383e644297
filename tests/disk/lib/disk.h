/* A node's data folder on a disk that can lose its power: a disk_layer (layer.c)
 * under it, and the orders to it. */
#ifndef KVFS_TESTS_DISK_DISK_H
#define KVFS_TESTS_DISK_DISK_H

#include "tests/fault/lib/cluster.h"

struct disk {
    pid_t pid; /* 0: not there */
    int to, from;
    char path[160];
    unsigned connection;
    struct guard *guard; /* borrowed */
};

/* Why there can be none here, or NULL. */
const char *disk_unavailable(void);
/* Where that is so: skips the test, or fails it where everything must be possible ($CI). */
void disk_needed(void);
/* Mounts an empty disk on the folder. */
bool disk_start(struct disk *d, struct guard *g, const char *path, uint64_t seed);
/* The same under the data of node i, which does not run; its files are on it, and
 * are kept. */
bool disk_under(struct disk *d, struct cluster *c, unsigned i, uint64_t seed);
/* Gives an order (layer.c); the answer's numbers. False: it failed, with the reason on stderr. */
bool disk_order(struct disk *d, const char *order, uint64_t numbers_out[2]);
/* The power of the nodes of the mask goes, at once: what was not synced is
 * forgotten (torn: some of it, layer.c), their processes have ended. Numbers of
 * changes that were forgotten and that torn cuts kept. False: the reason is on stderr. */
bool disks_cut(struct disk *disks, struct cluster *c, unsigned mask, bool torn, uint64_t numbers_out[2]);
/* Unmounts. Nobody may have a file open. */
void disk_stop(struct disk *d);
/* Ends the nodes that run and unmounts all their disks; those are memory, so with
 * c->keep, or when a node was dead, what is on them is copied beside the logs first.
 * False: a node was dead. */
bool disks_stop(struct disk *disks, struct cluster *c);

#endif
