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
/* Unmounts. Nobody may have a file open. */
void disk_stop(struct disk *d);

#endif
