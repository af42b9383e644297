/* Locks that programs of this mount have in the cluster, or wait for (COMMAND_LOCK).
 *
 *            ┌────────────────────── interrupted ─────────────────────┐
 *   ASKED ──►│ QUEUED ──event──► GRANTED ──caches dropped──► answered │
 *     │      └────┬───────────────────────────────────────────────────┘
 *     └─ at once ─┼──────────────────► GRANTED       UNWAITING ──► answered: EINTR
 *                 └── UNWAIT, whose answer says which was first ──►┘
 *
 * No thread waits for any of it. A wait has no deadline: it ends with the lock, a signal or the process. What
 * a program was not told it does not have: when the answer comes too late, the lock is given back.
 *
 * A lock is left only when what its process has staged, in any file, is published; so who has it next finds
 * that. And it is told to have been taken only when the kernel has forgotten all that is older than the lock.
 *
 * When the session has ended (nothing was heard of this mount for ten seconds), others may have had the
 * locks: the descriptors of the processes that had them are fenced. What they have staged is dropped, and
 * what they write, sync or close through them fails with EIO. */
#ifndef KVFS_KVFS_FILE_LOCK_H
#define KVFS_KVFS_FILE_LOCK_H

#include "kvfs/file/file.h"
#include "sync/base/lock_ranges.h"

struct held_lock;
struct lock_request;
struct delegation;

TAILQ_HEAD(held_lock_list, held_lock);
TAILQ_HEAD(lock_request_list, lock_request);

struct locks {
    bool is_known;        /* the kernel was told: */
    bool in_cluster;      /* it asks us; else it keeps them itself, as before feature level 2 */
    bool told;            /* the log: that a mount anew would have them in the cluster */
    uint64_t wal_told_ms; /* the log: that SQLite's write-ahead log is in use elsewhere */
    struct held_lock_list held;
    struct lock_request_list requests;
    uint64_t serials, n_requests;
    bool is_starting;               /* lock_start_behind() */
    struct delegation *delegations; /* tables that this mount has, or that others were seen to use; by ino */
};

/* What a program asks for. */
struct lock_wish {
    uint64_t ino;
    uint8_t kind;           /* LOCK_OF_* */
    enum lock_mode mode;    /* LOCK_NONE: unlock */
    bool wait, interrupted; /* interrupted: by a signal that came before the request was begun */
    uint64_t owner, start, end;
    pid_t process; /* 0: not known */
    struct handle *handle;
    struct fuse_ctx caller;
};

void locks_init(struct locks *locks);
void locks_deinit(struct locks *locks);

/* The number of a request that is about to come, for lock_interrupt(). */
uint64_t lock_serial(struct files *files);
/* Answers req sooner or later; with LOCK_NONE when it is unlocked, or EIO when what its process has
 * staged could not be published: then it is locked still. */
void lock_start(struct files *files, fuse_req_t req, uint64_t serial, const struct lock_wish *wish);
/* Its thread has a signal. A serial that is no more is ignored. */
void lock_interrupt(struct files *files, uint64_t serial);
/* A descriptor is closed: what its owner has locked by ranges ends, and req is answered with err (0, or that
 * of the publication). Whatever could not be published, it is unlocked. */
void lock_flush(struct files *files, fuse_req_t req, const struct lock_wish *wish, int err);
/* The handle is released: before file_close(). */
void lock_released(struct files *files, struct handle *h);
/* F_GETLK. */
void lock_test(struct files *files, fuse_req_t req, const struct lock_wish *wish);

/* Whether anything of the inode is locked by this mount; with an owner: by ranges of his. */
bool lock_any(const struct files *files, uint64_t ino);
bool lock_is_held(const struct files *files, uint64_t ino, uint64_t owner);

/* What programs here have locked in a table that this mount has for itself. */
void lock_each_here(const struct files *files, uint64_t ino,
                    void (*each)(void *arg, const struct lock_row *row), void *arg);

/* An event of the end of a wait: its session's ticket. */
void lock_ended(struct files *files, uint64_t ticket, int code);
/* An event of a table that this mount has, and others want. */
void lock_wanted(struct files *files, uint64_t ino, uint64_t epoch);
/* Events were missed: those who wait ask again, and what others may want is given back. */
void lock_ask_again(struct files *files);
/* Another session has begun; before what is unanswered is sent in it. */
void lock_session_lost(struct files *files);
/* The cluster's level, as the node has said it. */
void lock_connected(struct files *files);
void lock_tick(struct files *files, uint64_t now_ms);

#endif
