/* A call: a request of the kernel's, or one of kvfs's own, on its way.
 *
 *   call_begin ─┬─► uplink_send / uplink_write ──► on_answer ──► … ──► reply and call_end
 *               └─► publish_wait ────────────────► on_answer ──┘
 *
 * It is at one place at a time: with the link (a message is out or waits for a
 * connection), in a list of waiters, or in the hands of the function that is
 * working on it. Its on_answer is called exactly once per step, also when its
 * deadline passes or its process is killed. */
#ifndef KVFS_KVFS_LINK_CALL_H
#define KVFS_KVFS_LINK_CALL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "kvfs/link/call_kind.h"
#include "sync/wire/body.h"

struct hub;
struct call;

TAILQ_HEAD(call_list, call);

/* code: 0, an enum kv_error (KV_E_PROTOCOL: the answer was malformed, too), or -EINTR / -ENOMEM.
 * answer: with code 0 that of the message which was sent, borrowed; else, and where none was sent, it
 * means nothing. */
typedef void call_fn(struct call *call, int code, const union answer_body *answer);

/* Counters of what the kernel was told; a call keeps those of when it began. */
struct call_marks {
    uint64_t moves;   /* of known inodes, by others (kvfs/cache/kernel_inode.h) */
    uint64_t notices; /* sent to the kernel about inodes (kvfs/cache/notifier.h) */
};

struct call {
    struct hub *hub; /* borrowed */
    TAILQ_ENTRY(call) all;
    TAILQ_ENTRY(call) place;   /* in uplink.wire or in `waiting` */
    struct call_list *waiting; /* the list of waiters that it is in */
    uint64_t room;             /* bytes that it waits for (kvfs/file/room.h) */
    fuse_req_t fuse;           /* NULL: kvfs's own, or FUSE_STATX */
    uint64_t statx;            /* FUSE_STATX: its number, see statx.h; else 0 */
    uint64_t serial;           /* of this call among all */
    struct fuse_ctx caller;
    pid_t process;                    /* of the caller's thread, if it was asked for; 0: not known */
    uint64_t started_ms, deadline_ms; /* UINT64_MAX: none */
    call_fn *on_answer;

    /* For the link. */
    struct call *same_bucket; /* in uplink.by_number */
    uint64_t number;          /* of the message, 0: not with the link */
    uint8_t type;             /* enum message_type */
    uint8_t op;               /* WRITE: enum command_op */
    struct buffer payload;
    uint64_t seq;                        /* WRITE */
    unsigned sends;                      /* times it was sent in its session */
    bool sent;                           /* on the present connection */
    unsigned delays;                     /* times in a row that it was put off because there is too much */
    bool refused;                        /* its session was unknown to the node */
    bool once;                           /* concerns the present connection only: ends with it */
    uint64_t sent_ms;                    /* or when its last part was answered */
    uint64_t retry_ms;                   /* not sent again before this time; 0: at once */
    int last_code;                       /* why it is being retried */
    void (*transmit)(struct call *call); /* sends by itself (parts); or NULL */
    void (*on_part)(struct call *call, unsigned part, int code);
    /* Its session ended before it was answered. executed: it may have been, and is to be
     * made one that does no harm then; NULL or false: it cannot be repeated. */
    bool (*on_new_session)(struct call *call, bool executed);
    struct command_result result; /* WRITE: the command's result */

    /* What it is about, where that can be said; for the log, too. */
    uint64_t ino, parent;
    char *name;              /* owned; in parent */
    struct call_marks began; /* hub->marks then */

    enum call_kind kind;
    union { /* of that kind: call_kind.h */
        struct call_lookup lookup;
        struct call_key key;
        struct call_version version;
        struct call_rename rename;
        struct call_setattr setattr;
        struct call_getxattr getxattr;
        struct call_open open;
        struct call_read read;
        struct call_write write;
        struct call_allocate allocate;
        struct call_copy copy;
        struct call_opendir opendir;
        struct call_readdir readdir;
        struct call_pull pull;
        struct call_lock lock;
    };
};

/* All of a mount's. */
struct call_table {
    struct call_list all;     /* oldest first */
    uint64_t serials;         /* so far */
    struct call *ticked_next; /* call_tick(): the one after that which is being looked at */
    uint64_t deadline_logged_ms;
    unsigned deadlines_unlogged; /* since then */
};

/* What a call waits for, for the log and for those who are patient with it. */
struct call_wait {
    const struct call *on;  /* that call's answer; it may be its own */
    const char *what;       /* NULL: that */
    unsigned part, n_parts; /* how far that is, if it is long */
};

/* A new call; what its kind keeps is all zeros. fuse may be NULL. NULL: out of memory; the
 * kernel got ENOMEM. */
struct call *call_begin(struct hub *hub, fuse_req_t fuse, enum call_kind kind);
/* Takes it out of everything and frees it. */
void call_end(struct call *call);
/* Sets its name; false: out of memory. */
bool call_name(struct call *call, const char *name);

/* Replies and ends. */
void call_error(struct call *call, int err);
/* The one translation of a code into an errno for the kernel. */
void call_fail(struct call *call, int code);
/* The same for what was asked of an inode: one that the node does not know is gone. */
void call_fail_inode(struct call *call, int code);
int call_errno(int code);

/* Puts it into a list of waiters; on_answer is called by call_wake(), by
 * call_wake_all() or at its deadline. */
void call_wait(struct call *call, struct call_list *list, call_fn *on_answer);
void call_wake(struct call *call, int code);
void call_wake_all(struct call_list *list, int code);
/* The deadline counts from the last progress. */
void call_progress(struct call *call);

/* A call whose thread has a signal pending. */
struct suspect {
    uint64_t serial;
    pid_t thread;
};

/* Ends what is over its deadline. Gives up to max calls that were interrupted: what
 * /proc says of their threads is looked up without the lock. Node thread. */
unsigned call_tick(struct hub *hub, uint64_t now_ms, struct suspect *suspects_out, unsigned max);
/* Its thread is being killed: lets it go, if it is still there. */
void call_interrupt(struct hub *hub, uint64_t serial);

#endif
