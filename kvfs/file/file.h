/* A file that is open, or has changes that are not published yet.
 *
 *   LIVE ──last name removed──► PULLING ──value fetched──► ORPHAN
 *                                  └──node lost first──► LOST
 *
 * One stage for all handles of this mount: the page cache is per inode, and
 * GETATTR carries no handle. What programs here see is
 *
 *   value on the node + inflight + stage       (LIVE, PULLING)
 *   base + inflight + stage, never published   (ORPHAN) */
#ifndef KVFS_KVFS_FILE_FILE_H
#define KVFS_KVFS_FILE_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "kvfs/file/stage.h"
#include "kvfs/link/call.h"

#define FILE_WRITERS 8
#define FILE_NUMBERS 4
/* Files that wait for somebody to be told of a loss; of others only the log tells. */
#define FILES_LOST_MAX 256

struct files;

struct handle {
    TAILQ_ENTRY(handle) link;
    struct kernel_inode *inode; /* borrowed: a handle keeps it alive */
    int flags;
    uint32_t uid; /* who opened it */
    pid_t opener; /* process; 0: unknown */
    bool pinned;  /* opened on the present connection */
    bool lazy;    /* not opened on the node yet: before anything changes it will be (file_pin()) */
    bool fenced;  /* its process has lost a lock: what it writes fails */
};

TAILQ_HEAD(handle_list, handle);
TAILQ_HEAD(file_list, file);

/* Which command of which session. */
struct command_number {
    uint64_t session, seq;
};

enum file_life { FILE_LIVE, FILE_PULLING, FILE_ORPHAN, FILE_LOST };

struct file {
    TAILQ_ENTRY(file) link; /* in files->list while `listed` */
    bool listed;
    struct kernel_inode *inode; /* owns this */
    struct handle_list handles;
    unsigned n_handles, n_writable;
    enum file_life life;
    struct attr attr; /* newest known, of the published file */

    bool held_open; /* on the node, for writing, for what is not published: without a handle */

    struct stage base;     /* ORPHAN: the value that the file had */
    struct stage inflight; /* edits of the publication under way */
    struct stage stage;    /* edits after it */
    uint64_t reserved;     /* room that the edits take (room.h) */
    uint64_t dirty_ms;     /* when the oldest edit of `stage` came */
    int64_t touched_ns;    /* when the newest edit was made: its mtime */
    bool fresh; /* created here and never published: the first publication replaces the empty creation */
    uint32_t uid, gid; /* who wrote last */
    struct {
        pid_t thread, process;
    } writers[FILE_WRITERS]; /* who wrote, the last ones */
    unsigned n_writers;

    /* publish.c */
    struct call *publication;
    struct buffer body;
    unsigned n_parts, part_next, part_acked;
    struct command_number numbers[FILE_NUMBERS]; /* that it had; the newest first */
    unsigned n_numbers;
    uint64_t base_revision; /* content that it was based on; 0: not known */
    uint64_t retry_ms;      /* nothing is published before, unless somebody waits for it */
    unsigned refusals;      /* in a row */
    bool queued;            /* long, and waits for another one's parts */
    bool fenced;            /* by a process that has lost a lock: what is staged is to be dropped */
    bool told;              /* somebody was told that what is staged is not published */
    int lost;               /* code with which edits were dropped and nobody was told yet */
    /* Removed, without a handle, and the kernel still knows it: files->kept. */
    TAILQ_ENTRY(file) kept_link;
    bool kept, pulling; /* pulling: its value has been asked for */
    uint64_t kept_ms;
    struct call_list waiters;      /* for the publication under way */
    struct call_list next_waiters; /* for the one after it */
    struct call_list invalidated;  /* opens that wait until the kernel has dropped its cache */
};

/* The file of an inode, if it has one; else NULL. */
struct file *file_find(struct files *files, uint64_t ino);
/* The inode's file, made if need be. NULL: out of memory. */
struct file *file_get(struct files *files, struct kernel_inode *inode);
/* Frees it, and the inode, if nothing needs it any more. */
void file_put(struct files *files, struct kernel_inode *inode);
void file_free(struct files *files, struct kernel_inode *inode);

/* A handle that is already open (pinned) on the node. uid, process: who opens it; process
 * 0: not known, or only to read. NULL: out of memory. */
struct handle *file_open(struct files *files, struct kernel_inode *inode, int flags, uint32_t uid,
                         pid_t process);
/* Whether a handle with these flags can write. */
bool file_flags_write(int flags);
/* It appends and nothing else: then its writes go past the kernel's pages. Through them the kernel would hand
 * on in two what crosses a page that it has not read, and what is published between tears the record. */
bool file_appends_only(int flags);
/* What a handle with these flags is opened for on the node: OPEN_READ | OPEN_WRITE. */
uint8_t file_flags_access(int flags);
/* RELEASE: publishes what nobody else will, then closes on the node. */
void file_close(struct files *files, struct handle *h);
/* Before a publication: nodes take it of those only who have the file open for writing. */
void file_hold_open(struct files *files, struct file *f);
/* Opens on the node what was opened here alone: the file may be removed soon, and its value shall outlive its
 * name. All of them; that of files that the node has told. */
void file_pin(struct files *files, struct kernel_inode *inode);
void file_pin_all(struct files *files);
/* After a new connection: opens everything there. */
void file_reopen_all(struct files *files);

/* Newer knowledge of the published file; ignored if it is older. */
void file_learn(struct file *f, const struct attr *attr);
/* Whether something of it is not published. f may be NULL. */
bool file_is_dirty(const struct file *f);
/* Shows the edits in the attributes of the published file. f may be NULL. */
void file_view(const struct file *f, struct attr *attr);
/* Length that this mount sees. */
uint64_t file_size(const struct file *f);
/* Whether the node has to be asked for bytes in this range. f may be NULL. */
bool file_needs_node(const struct file *f, uint64_t offset, size_t len);
/* Lays the edits over a window: data has `len` bytes from offset, zeros beyond
 * the published end. Returns how many of them lie within the file. */
size_t file_overlay(const struct file *f, uint64_t base_size, uint64_t offset, uint8_t *data, size_t len);

/* Edits were dropped and nobody was told: the next one to open, sync or close it is. */
void file_lost(struct files *files, struct file *f, int code);
/* The errno of that, once; 0: nothing was lost. f may be NULL. */
int file_take_lost(struct files *files, struct file *f);

/* Whether file_touched() needs the thread's process, process_of(). Finding that out
 * may wait: it is done without the lock. */
bool file_asks_for_process(const struct file *f, pid_t thread);
/* An edit was staged by this thread of this process. who may be NULL. */
void file_touched(struct files *files, struct file *f, const struct fuse_ctx *who, pid_t process);
/* Whether the process has opened the handle or written to the file. */
bool file_is_of(const struct file *f, const struct handle *h, pid_t process);
/* Whether its last name has gone and what it was is still known. */
bool file_is_removed(const struct kernel_inode *inode);

#endif
