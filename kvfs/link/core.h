/* What every part of a mount needs: the lock, the options, the requests that are under way and
 * the link to the node.
 *
 *   struct fs ──┬─ core           kvfs/link    this
 *               ├─ cache          kvfs/cache   inodes, the notifier
 *               ├─ files          kvfs/file    open files and edits
 *               ├─ directories    kvfs/reply   open directories
 *               └─ virtuals       kvfs/virtual .versions and .kvfs
 *
 * Each part is a struct that only its own folder and those above it can see into. What is called
 * takes the part it works on; a request knows its core (r->core), and a function that has the
 * request finds its own part there (r->core->files, say). Of a part above it a folder knows the
 * name and nothing else; what it wants of it is in a struct of functions that fs.c sets.
 *
 * One lock guards all of it. It is never held while waiting for anything: not for the node
 * (requests are state machines, request.h), not in a notification to the kernel (which may wait
 * for answers to requests), not while looking at a process in /proc. Writing an answer to the
 * kernel does not wait and is done under it.
 *
 * Every function of kvfs is called with the lock held unless its header says otherwise. */
#ifndef KVFS_KVFS_LINK_CORE_H
#define KVFS_KVFS_LINK_CORE_H

#include <pthread.h>
#include <stdint.h>

#include "kvfs/link/link.h"
#include "kvfs/link/options.h"
#include "kvfs/link/request.h"
#include "kvfs/link/retry.h"
#include "kvfs/link/stamp.h"

/* What those above do about what comes. Node thread. */
struct core_owner {
    void (*on_event)(struct core *core, const struct event *e); /* in the order of the stream */
    void (*on_gap)(struct core *core);                          /* events were missed */
    void (*on_connected)(struct core *core);             /* another connection, where nothing is open yet */
    void (*on_dropped)(struct core *core);               /* the connection has gone, and what it held */
    void (*on_tick)(struct core *core, uint64_t now_ms); /* some time has passed */
    /* What a request in a list of waiters waits for. */
    void (*describe_wait)(const struct request *r, struct request_wait *wait);
};

struct core {
    const struct core_owner *owner;
    const struct options *options; /* borrowed */
    struct fuse_session *session;  /* borrowed from main; set before any thread runs */
    pthread_mutex_t lock;
    uint64_t root_ino; /* what FUSE_ROOT_ID stands for */
    struct request_table requests;
    struct request_marks marks;
    struct link link;
    struct retry_table retries;
    struct stamp stamp;
    /* The other parts. */
    struct cache *cache;
    struct files *files;
    struct open_directories *directories;
    struct virtual_table *virtuals;
    struct fs *fs;
};

/* 0 or a negative errno; core_deinit() in every case. */
int core_init(struct core *core, const struct options *options, const struct core_owner *owner);
/* After all threads have ended. */
void core_deinit(struct core *core);

/* FUSE's number of an inode and back. */
static inline uint64_t core_ino(const struct core *core, fuse_ino_t node)
{
    return node == FUSE_ROOT_ID ? core->root_ino : node;
}

static inline fuse_ino_t core_node(const struct core *core, uint64_t ino)
{
    return ino == core->root_ino ? FUSE_ROOT_ID : ino;
}

/* The cluster's time, for something that happens here and now. */
int64_t core_now_ns(struct core *core);

#endif
