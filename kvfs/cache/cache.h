/* What the kernel may have cached: the part of a mount that this folder keeps (see hub.h). */
#ifndef KVFS_KVFS_CACHE_CACHE_H
#define KVFS_KVFS_CACHE_CACHE_H

#include "kvfs/cache/kernel_inode.h"
#include "kvfs/cache/known.h"
#include "kvfs/cache/lease.h"
#include "kvfs/cache/names.h"
#include "kvfs/cache/notifier.h"
#include "kvfs/cache/submounts.h"
#include "kvfs/link/hub.h"

/* For ever, as far as the kernel is concerned: events end it, where there are no leases (lease.h). */
#define TIMEOUT_LONG 86400.0

/* What is not known here of files; called only for inodes that have one. */
struct cache_owner {
    /* The kernel has forgotten the inode: frees its file, and then it, if nothing else needs them. */
    void (*put_file)(struct cache *cache, struct kernel_inode *inode);
    void (*free_file)(struct cache *cache, struct kernel_inode *inode);
    /* It may be removed, or changed, soon, as an INVAL tells that is not answered yet. */
    void (*on_touched)(struct cache *cache, struct kernel_inode *inode);
    /* The same of all inodes. */
    void (*on_all_touched)(struct cache *cache);
    /* Whether it is open. */
    bool (*is_open)(const struct kernel_inode *inode);
    /* The kernel has dropped what it had of it. */
    void (*on_dropped)(struct cache *cache, struct kernel_inode *inode);
};

struct cache {
    struct hub *hub; /* borrowed */
    const struct cache_owner *owner;
    double entry_timeout; /* 0 on kernels that cannot drop all names at once, and with something mounted
                             inside */
    struct kernel_inode_table inodes;
    struct names names;
    struct submounts submounts;
    struct notifier notifier;
    struct lease lease;
    struct known known;
};

/* In memory that is all zeros. */
void cache_init(struct cache *cache, struct hub *hub, const struct cache_owner *owner);
/* Frees the inodes, and their files with them. */
void cache_deinit(struct cache *cache);

#endif
