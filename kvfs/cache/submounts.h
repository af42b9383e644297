/* What is mounted inside: a tmpfs in a directory of this mount, say, or a file over one of its files.
 *
 * The kernel unmounts it without a word when it finds a name on the way there invalid (d_invalidate() in
 * fs/dcache.c): after an epoch every name is, and one that cannot be looked up, and one that leads elsewhere.
 * So a thread watches /proc/self/mountinfo, and as long as something is mounted inside
 *
 *   - there are no epochs, and names are told for no time: each is looked up whenever it is used. Those that
 * were told before expire one by one (FUSE_EXPIRE_ONLY), which unmounts nothing. That takes the lock of the
 *     directory, and may wait for a request in it: nobody waits for this thread;
 *   - a directory that is renamed elsewhere is looked up by its new name at once, by this thread: the kernel
 *     then moves what it has of it, with all that is mounted below (d_splice_alias()). Until then its old
 * name is found as it was, since the kernel looks up what it has by that name; who asks for it while the
 * kernel is at it gets ENOMEM. An open that may have come by it is not sent to walk again before that is
 * done;
 *   - a name that has to do with it and cannot be looked up for now is ENOMEM, which is no answer about
 *     the name.
 *
 * Not seen are mounts in other mount namespaces, and one that is made within the same microseconds as a
 * change elsewhere. Those can be lost. */
#ifndef KVFS_KVFS_CACHE_SUBMOUNTS_H
#define KVFS_KVFS_CACHE_SUBMOUNTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "kvfs/cache/names.h"
#include "kvfs/link/call.h"

struct cache;
struct kernel_inode;

/* Paths below the root of the file system: "/a/b". */
struct submount_paths {
    char **paths; /* owned; n of them */
    size_t n;
};

#define SUBMOUNT_PATHS_MAX 1024
#define SUBMOUNT_MOVES_MAX 1024

/* A directory that was renamed elsewhere. Calls are known by their serials.
 *
 *       its old name is found as it was     ENOMEM                        it is as the cluster has it
 *   event ─────────────────────────► found_at ─────────────────► done_at ─────────────────────────►
 *            an answer has its new name          this thread has looked it up */
struct submount_move {
    TAILQ_ENTRY(submount_move) link;
    uint64_t ino, revision;
    uint64_t found_at, done_at; /* the last call before that; 0: not yet */
    unsigned tries;             /* at the path that it had last */
    uint64_t tried;             /* hash of that; 0: none yet */
    struct name *old;           /* owned */
    struct call *asking;        /* for its path, which this mount does not know; NULL: not under way */
    char *path;                 /* owned; below the root of this mount; NULL: not asked for */
};

TAILQ_HEAD(submount_moves, submount_move);
TAILQ_HEAD(kernel_inode_list, kernel_inode);

struct submounts {
    pthread_t thread;
    bool running;
    pid_t tid;     /* of the thread */
    int wake_fd;   /* eventfd: it has something to do */
    int own_fd;    /* mountinfo, for the thread's poll */
    int look_fd;   /* the same for submounts_look(); with `reading` */
    char *device;  /* owned; "major:minor" of this mount; NULL: not known */
    bool inside;   /* something is */
    bool to_watch; /* what was looked at is to be looked at again */
    /* Who reads mountinfo. Taken before hub.lock: what is read last counts. */
    pthread_mutex_t reading;
    struct submount_paths paths; /* owned */
    /* For the thread. */
    struct name_list wrong;         /* owned: names that are to expire */
    struct kernel_inode_list names; /* inodes whose names are to expire */
    struct submount_moves moves;    /* also those that are done, for calls from before */
    unsigned n_moves;
    struct call_list waiting; /* opens that wait until moves are done */
};

void submounts_init(struct submounts *s);
void submounts_deinit(struct submounts *s);
/* Once it is mounted, and before the notifier. -1: no thread. Without the lock, as submounts_stop(). */
int submounts_start(struct cache *cache);
void submounts_stop(struct cache *cache);

/* What is mounted on the file system of that device, which must be seen in the table. The first
 * SUBMOUNT_PATHS_MAX; out of memory: fewer, but one at least if there is any. False if the table could not be
 * read. Pure. */
bool submounts_read(FILE *mountinfo, const char *device, struct submount_paths *out);
void submount_paths_free(struct submount_paths *paths);
/* Whether the name is one on the way to any of them. */
bool submount_paths_have(const struct submount_paths *paths, const char *name);

/* Looks again if the table of mounts has changed. Without the lock. */
void submounts_look(struct cache *cache);
bool submounts_are_inside(const struct cache *cache);
/* Names expire that the kernel was told before; all: whatever it was told. The list is emptied. */
void submounts_expire(struct cache *cache, struct name_list *wrong, bool all);
/* A directory that the kernel knows has been renamed elsewhere, by the command of that revision. */
void submounts_moved(struct cache *cache, struct kernel_inode *directory, uint64_t revision, uint64_t parent,
                     const void *name, size_t len);
/* What a name is to be found as, instead of what the cluster has, for the call that asks for it. */
enum submount_answer { SUBMOUNT_NONE, SUBMOUNT_BEFORE, SUBMOUNT_UNKNOWN };
/* found: the inode that the cluster has by that name, or 0. BEFORE: as *ino_out, which it was. */
enum submount_answer submounts_moving(struct cache *cache, const struct call *call, uint64_t found,
                                      uint64_t *ino_out);
/* The kernel is told of the inode by its present name. */
void submounts_found(struct cache *cache, uint64_t ino);
/* Whether there are any that are not done: then the call can wait for them, call_wait(call, list, …). */
struct call_list *submounts_to_wait_for(struct cache *cache);
/* Whether the lookup of this name decides about what is mounted inside. */
bool submounts_depend_on(const struct cache *cache, const char *name);
/* The inode is about to be freed. */
void submounts_forget(struct cache *cache, struct kernel_inode *inode);

#endif
