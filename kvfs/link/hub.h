/* What every part of a mount needs: the lock, the options, the calls that are under way and
 * the link to the node.
 *
 *   struct fs ──┬─ hub            kvfs/link    this
 *               ├─ cache          kvfs/cache   inodes, the notifier
 *               ├─ files          kvfs/file    open files and edits
 *               ├─ directories    kvfs/reply   open directories
 *               └─ virtuals       kvfs/virtual .versions and .kvfs
 *
 * Each part is a struct that only its own folder and those above it can see into. A function
 * takes the part that it works on; a call knows its hub, and a function that has a call finds
 * its own part there (call->hub->files, say). Of a part above it a folder knows the name and
 * nothing else; what it wants of it is in a struct of functions that fs.c sets.
 *
 * One lock guards all of it. It is never held while waiting for anything: not for the node
 * (calls are state machines, call.h), not in a notification to the kernel (which may wait
 * for answers to others), not while looking at a process in /proc. Writing an answer to the
 * kernel does not wait and is done under it.
 *
 * Every function of kvfs is called with the lock held unless its header says otherwise. */
#ifndef KVFS_KVFS_LINK_HUB_H
#define KVFS_KVFS_LINK_HUB_H

#include <pthread.h>
#include <stdint.h>

#include "kvfs/link/call.h"
#include "kvfs/link/options.h"
#include "kvfs/link/retry.h"
#include "kvfs/link/stamp.h"
#include "kvfs/link/uplink.h"

/* What those above do about what comes. Node thread. */
struct hub_owner {
    void (*on_event)(struct hub *hub, const struct event *e);     /* in the order of the stream */
    void (*on_inval)(struct hub *hub, const struct inval *inval); /* likewise */
    void (*on_beat)(struct hub *hub, const struct beat *beat);
    void (*on_gap)(struct hub *hub); /* events were missed */
    /* Another session: before what is unanswered gets its numbers, and after that. */
    void (*on_session_lost)(struct hub *hub);
    void (*on_session)(struct hub *hub);
    void (*on_connected)(struct hub *hub);             /* another connection, where nothing is open yet */
    void (*on_dropped)(struct hub *hub);               /* the connection has gone, and what it held */
    void (*on_tick)(struct hub *hub, uint64_t now_ms); /* some time has passed */
    /* What a call in a list of waiters waits for. */
    void (*describe_wait)(const struct call *call, struct call_wait *wait);
};

struct hub {
    const struct hub_owner *owner;
    const struct options *options; /* borrowed */
    struct fuse_session *session;  /* borrowed from main; set before any thread runs */
    pthread_mutex_t lock;
    uint64_t root_ino; /* what FUSE_ROOT_ID stands for */
    struct call_table calls;
    struct call_marks marks;
    struct uplink uplink;
    struct retry_table retries;
    struct stamp stamp;
    /* The other parts. */
    struct cache *cache;
    struct files *files;
    struct open_directories *directories;
    struct virtual_table *virtuals;
    struct fs *fs;
};

/* 0 or a negative errno; hub_deinit() in every case. */
int hub_init(struct hub *hub, const struct options *options, const struct hub_owner *owner);
/* After all threads have ended. */
void hub_deinit(struct hub *hub);

/* FUSE's number of an inode and back. */
static inline uint64_t hub_ino(const struct hub *hub, fuse_ino_t node)
{
    return node == FUSE_ROOT_ID ? hub->root_ino : node;
}

static inline fuse_ino_t hub_node(const struct hub *hub, uint64_t ino)
{
    return ino == hub->root_ino ? FUSE_ROOT_ID : ino;
}

/* The cluster's time, for something that happens here and now. */
int64_t hub_now_ns(struct hub *hub);

#endif
