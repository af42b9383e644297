/* A request of the kernel, or one of kvfs's own, on its way.
 *
 *   request_begin ──► link_send / link_write ──► on_answer ──► … ──► reply and request_end
 *                 └─► publish_wait ───────────► on_answer ──┘
 *
 * It is at one place at a time: with the link (a message is out or waits for a
 * connection), in a list of waiters, or in the hands of the function that is
 * working on it. Its on_answer is called exactly once per step, also when its
 * deadline passes or its process is killed. */
#ifndef KVFS_KVFS_LINK_REQUEST_H
#define KVFS_KVFS_LINK_REQUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "kvfs/link/request_kind.h"
#include "sync/wire/message.h"

struct core;
struct request;

TAILQ_HEAD(request_list, request);

/* code: 0, an enum kv_error, or -EINTR / -ENOMEM. body: what follows the code,
 * empty if the answer did not come from the node. */
typedef void request_fn(struct request *r, int code, struct cursor *body);

/* Counters of what the kernel was told; a request keeps those of when it began. */
struct request_marks {
    uint64_t moves;   /* of known inodes, by others (kvfs/cache/inode.h) */
    uint64_t notices; /* sent to the kernel about inodes (kvfs/cache/notifier.h) */
};

struct request {
    struct core *core; /* borrowed */
    TAILQ_ENTRY(request) all;
    TAILQ_ENTRY(request) place;   /* in link.wire or in `waiting` */
    struct request_list *waiting; /* the list of waiters that it is in */
    uint64_t room;                /* bytes that it waits for (kvfs/file/reserve.h) */
    fuse_req_t fuse;              /* NULL: kvfs's own, or FUSE_STATX */
    uint64_t statx;               /* FUSE_STATX: its number, see statx.h; else 0 */
    uint64_t serial;              /* of this request among all */
    struct fuse_ctx caller;
    pid_t process;                    /* of the caller's thread, if it was asked for; 0: not known */
    uint64_t started_ms, deadline_ms; /* UINT64_MAX: none */
    request_fn *on_answer;

    /* For the link. */
    struct request *same_bucket; /* in link.by_number */
    uint64_t number;             /* of the message, 0: not with the link */
    uint8_t type;                /* enum message_type */
    uint8_t op;                  /* WRITE: enum command_op */
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
    void (*transmit)(struct request *r); /* sends by itself (parts); or NULL */
    void (*on_part)(struct request *r, unsigned part, int code);
    /* Its session ended before it was answered. executed: it may have been, and is to be
     * made one that does no harm then; NULL or false: it cannot be repeated. */
    bool (*on_new_session)(struct request *r, bool executed);
    struct command_result result; /* WRITE: the command's result */

    /* What it is about, where that can be said; for the log, too. */
    uint64_t ino, parent;
    char *name;                 /* owned; in parent */
    struct request_marks began; /* core->marks then */

    enum request_kind kind;
    union { /* of that kind: request_kind.h */
        struct request_lookup lookup;
        struct request_key key;
        struct request_version version;
        struct request_rename rename;
        struct request_setattr setattr;
        struct request_getxattr getxattr;
        struct request_open open;
        struct request_read read;
        struct request_write write;
        struct request_allocate allocate;
        struct request_opendir opendir;
        struct request_readdir readdir;
        struct request_pull pull;
    };
};

/* All of a mount's. */
struct request_table {
    struct request_list all;     /* oldest first */
    uint64_t serials;            /* so far */
    struct request *ticked_next; /* request_tick(): the one after that which is being looked at */
    uint64_t deadline_logged_ms;
    unsigned deadlines_unlogged; /* since then */
};

/* What a request waits for, for the log and for those who are patient with it. */
struct request_wait {
    const struct request *on; /* that request's answer; it may be its own */
    const char *what;         /* NULL: that */
    unsigned part, n_parts;   /* how far that is, if it is long */
};

/* A new request; what its kind keeps is all zeros. fuse may be NULL. NULL: out of memory; the
 * kernel got ENOMEM. */
struct request *request_begin(struct core *core, fuse_req_t fuse, enum request_kind kind);
/* Takes it out of everything and frees it. */
void request_end(struct request *r);
/* Sets its name; false: out of memory. */
bool request_name(struct request *r, const char *name);

/* Replies and ends. */
void request_error(struct request *r, int err);
/* The one translation of a code into an errno for the kernel. */
void request_fail(struct request *r, int code);
/* The same for what was asked of an inode: one that the node does not know is gone. */
void request_fail_inode(struct request *r, int code);
int request_errno(int code);

/* Puts it into a list of waiters; on_answer is called by request_wake(), by
 * request_wake_all() or at its deadline. */
void request_wait(struct request *r, struct request_list *list, request_fn *on_answer);
void request_wake(struct request *r, int code);
void request_wake_all(struct request_list *list, int code);
/* The deadline counts from the last progress. */
void request_progress(struct request *r);

/* A request whose thread has a signal pending. */
struct suspect {
    uint64_t serial;
    pid_t thread;
};

/* Ends what is over its deadline. Gives up to max requests that were interrupted: what
 * /proc says of their threads is looked up without the lock. Node thread. */
unsigned request_tick(struct core *core, uint64_t now_ms, struct suspect *suspects_out, unsigned max);
/* Its thread is being killed: lets it go, if it is still there. */
void request_interrupt(struct core *core, uint64_t serial);

#endif
