/* The mount: everything that its threads share.
 *
 *   workers (1-2)   read the kernel's requests, start them        operations_*.c
 *   node thread     reads the node's frames, answers the kernel   uplink.c, event.c
 *   notifier        tells the kernel what to forget               notifier.c
 *   main            starts, waits for a signal, stops             main.c
 *
 * hub.h says how the parts know each other, and what the lock guards. */
#ifndef KVFS_KVFS_OPS_FS_H
#define KVFS_KVFS_OPS_FS_H

#include <pthread.h>
#include <stdbool.h>

#include "kvfs/cache/cache.h"
#include "kvfs/file/files.h"
#include "kvfs/link/hub.h"
#include "kvfs/reply/open_directory.h"
#include "kvfs/virtual/virtual.h"

struct fs {
    struct hub hub;
    struct cache cache;
    struct files files;
    struct open_directories directories;
    struct virtual_table virtuals;
    pthread_cond_t ready_cond; /* with ready */
    bool ready;                /* the kernel's INIT has come */
};

int fs_init(struct fs *fs, const struct options *options);
/* After all threads have ended. */
void fs_deinit(struct fs *fs);

/* Enters from a FUSE operation: takes the lock. */
struct fs *fs_enter(fuse_req_t req);
void fs_leave(struct fs *fs);

#endif
