/* The mount: everything that its threads share.
 *
 *   workers (1-2)   read the kernel's requests, start them        operations_*.c
 *   node thread     reads the node's frames, answers the kernel   link.c, event.c
 *   notifier        tells the kernel what to forget               notifier.c
 *   main            starts, waits for a signal, stops             main.c
 *
 * One lock guards all of it. It is never held while waiting for anything: not
 * for the node (requests are state machines, request.h), not in a notification
 * to the kernel (which may wait for answers to requests), not while looking at
 * a process in /proc. Writing an answer to the kernel does not wait and is done under it.
 *
 * Every function of the modules below is called with the lock held unless its
 * header says otherwise. */
#ifndef KVFS_KVFS_OPS_FS_H
#define KVFS_KVFS_OPS_FS_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "kvfs/cache/inode.h"
#include "kvfs/cache/notifier.h"
#include "kvfs/file/file.h"
#include "kvfs/file/reserve.h"
#include "kvfs/link/link.h"
#include "kvfs/link/options.h"
#include "kvfs/link/request.h"
#include "kvfs/link/retry.h"
#include "kvfs/link/stamp.h"
#include "kvfs/reply/open_directory.h"
#include "kvfs/virtual/virtual.h"

/* For ever, as far as the kernel is concerned: events end it. */
#define TIMEOUT_LONG 86400.0

struct fs {
    const struct options *options; /* borrowed */
    struct fuse_session *session;  /* borrowed from main; set before any thread runs */
    pthread_mutex_t lock;
    pthread_cond_t ready_cond; /* with ready */
    bool ready;                /* the kernel's INIT has come */
    bool stopping;

    uint64_t root_ino;    /* what FUSE_ROOT_ID stands for */
    double entry_timeout; /* 0 on kernels that cannot drop all names at once */
    struct inode_table inodes;
    struct request_list requests; /* all, oldest first */
    uint64_t deadline_logged_ms;
    unsigned deadlines_unlogged; /* since then */
    uint64_t serials;            /* requests so far */
    struct request *ticked_next; /* request_tick(): the one after that which is being looked at */
    struct stage_memory memory;
    struct file_keep kept;
    struct file_list files;                 /* those with something staged or being published */
    struct open_directory_list directories; /* open ones */
    unsigned n_lost;                        /* files with file.lost */
    struct file *uploading;                 /* the one whose publication is in parts; one at a time */
    uint32_t uploaded_uid;                  /* whose the last one is */
    struct reserve reserve;
    struct link link;
    struct notifier notifier;
    struct virtual_table virtuals;
    struct retry_table retries;
    struct stamp stamp;
};

int fs_init(struct fs *fs, const struct options *options);
/* After all threads have ended. */
void fs_deinit(struct fs *fs);

/* Enters from a FUSE operation: takes the lock. */
struct fs *fs_enter(fuse_req_t req);
void fs_leave(struct fs *fs);

/* FUSE's number of an inode and back. */
static inline uint64_t fs_ino(const struct fs *fs, fuse_ino_t node)
{
    return node == FUSE_ROOT_ID ? fs->root_ino : node;
}

static inline fuse_ino_t fs_node(const struct fs *fs, uint64_t ino)
{
    return ino == fs->root_ino ? FUSE_ROOT_ID : ino;
}

/* The cluster's time, for something that happens here and now. */
int64_t fs_now_ns(struct fs *fs);
struct timespec fs_timespec(int64_t ns);
/* A time in the unit of attributes; beyond their range the last second within it. */
int64_t fs_time_ns(struct timespec t);
/* Attributes as stat(2) shows them. */
void fs_stat(const struct fs *fs, const struct attr *attr, struct stat *st_out);

#endif
