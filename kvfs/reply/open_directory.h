/* Open directories. A real one is open on the node too, which lists it to its end then,
 * whatever becomes of its permissions; each part of a listing is asked for by the number
 * of the last entry (which is the same on every node). A virtual one is listed whole when
 * it is opened. */
#ifndef KVFS_KVFS_REPLY_OPEN_DIRECTORY_H
#define KVFS_KVFS_REPLY_OPEN_DIRECTORY_H

#include "kvfs/link/call.h"
#include "sync/base/buffer.h"

struct open_directory {
    TAILQ_ENTRY(open_directory) link; /* real: in directories->list */
    uint64_t ino;                     /* real */
    uint32_t uid;                     /* who opened it */
    bool pinned;                      /* open on the node, on the present connection */
    bool virtual;
    struct buffer names; /* virtual: n × NUL-terminated name preceded by its type, enum inode_type */
    size_t *offsets;     /* owned; n of them */
    size_t n;
};

TAILQ_HEAD(open_directory_list, open_directory);

/* The part of a mount that this folder keeps (see hub.h). */
struct open_directories {
    struct hub *hub; /* borrowed */
    struct open_directory_list list;
};

void open_directories_init(struct open_directories *directories, struct hub *hub);

/* After a new connection: opens all real ones there. */
void open_directories_reopen(struct open_directories *directories);
void open_directories_deinit(struct open_directories *directories);

/* Answers OPENDIR of call->ino; pinned: it is open on the node. */
void open_directory_reply(struct call *call, bool pinned);
/* The same with a listing of names (taken over), last first if `reverse`. */
void open_directory_reply_list(struct call *call, struct buffer *names, bool reverse);
/* d may be NULL. */
void open_directory_close(struct open_directories *directories, struct open_directory *d);

#endif
