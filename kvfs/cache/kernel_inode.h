/* The inodes that the kernel knows or that have something open or staged.
 *
 * No content is cached here: the kernel does that. What is kept is what kvfs must know to tell the
 * kernel when its cache is wrong, and attributes, for as long as they are known to be right (known.h). */
#ifndef KVFS_KVFS_CACHE_KERNEL_INODE_H
#define KVFS_KVFS_CACHE_KERNEL_INODE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "sync/base/hash.h"
#include "sync/wire/attr.h"

struct cache;
struct file;
struct attr;

/* Another directory in which the kernel was told a name of a file with several. */
struct kernel_parent {
    SLIST_ENTRY(kernel_parent) link;
    uint64_t ino;
};

struct kernel_inode {
    UT_hash_handle hh;
    uint64_t ino;
    uint64_t nlookup; /* the kernel's references */
    uint64_t parent;  /* 0: unknown */
    char *name;       /* owned; in parent; NULL: unknown */
    /* Of several names parent and name are those told last; where the others may be: */
    SLIST_HEAD(, kernel_parent) others; /* owned */
    struct file *file;                  /* owned; NULL unless something is open, staged or being published */

    /* Where the name leads. `moves` (hub.marks) counts moves of known inodes by others. */
    uint64_t moved, told_place; /* value of moves at the last move, at the last answer with its name */
    uint64_t moved_ms;

    /* What the kernel may have cached, for the notifier. */
    TAILQ_ENTRY(kernel_inode) inval_link;
    uint64_t inval_at_ms; /* not before */
    unsigned inval_tries;
    uint64_t inval_number; /* in the list: notifier.notices then */
    uint32_t inval_round;  /* grows with every change that the kernel has to hear of */
    bool inval_queued;
    bool inval_attr, inval_data; /* not done yet */
    TAILQ_ENTRY(kernel_inode) expire_link;
    bool expire_queued; /* in submounts.names: its name is to expire */
    TAILQ_ENTRY(kernel_inode) told_link;
    uint64_t told_until_ms; /* in lease.told; 0: it is not */
    /* The content revision whose size the kernel was told last, the count of
     * notifications when it asked for it, and that of the last one about this inode. */
    uint64_t told_revision, told_notice, last_notice;
    bool told_attr, told_data; /* attributes, or pages, were given since they were last dropped */
    bool negatives;            /* directory: told that a name in it is missing */

    struct attr known;      /* as the node told it */
    uint64_t known_number;  /* known.h; 0: it is not known */
    uint64_t names_changed; /* directory: likewise, the last change of its names */
};

struct kernel_inode_table {
    struct kernel_inode *by_ino; /* uthash */
};

struct kernel_inode *kernel_inode_find(struct cache *cache, uint64_t ino);
/* Finds or makes it. NULL: out of memory. */
struct kernel_inode *kernel_inode_get(struct cache *cache, uint64_t ino);
/* Frees it if neither the kernel nor a file needs it. */
void kernel_inode_put(struct cache *cache, struct kernel_inode *inode);
void kernel_inode_forget(struct cache *cache, uint64_t ino, uint64_t n);

/* Where it is now, with these attributes (type 0: they are not told); without a name: nobody may tell. */
void kernel_inode_set_place(struct cache *cache, struct kernel_inode *inode, const struct attr *attr,
                            uint64_t parent, const void *name, size_t name_len);
/* An answer gives the kernel its present name. */
void kernel_inode_told_name(struct cache *cache, struct kernel_inode *inode);
/* Somebody else renamed or removed it. */
void kernel_inode_moved(struct cache *cache, struct kernel_inode *inode);
/* Whether a walk that ended when that was `moves` may have come
 * here by a path that has changed: the inode or a directory above it was moved
 * since, or the kernel has not asked for its name since. By which of several names it came nobody
 * says: then all count. */
bool kernel_inode_path_is_stale(struct cache *cache, const struct kernel_inode *inode, uint64_t moves);
/* Takes the path as it is now for known. */
void kernel_inode_accept_path(struct cache *cache, struct kernel_inode *inode);

/* The kernel is told attributes that it asked for when `asked` notifications had been sent. */
void kernel_inode_told_attr(struct kernel_inode *inode, uint64_t content_revision, uint64_t asked);
/* Whether the kernel's idea of the length is that of this revision. It drops
 * attributes that a notification has overtaken, and goes on with the old length. */
bool kernel_inode_size_is_known(const struct kernel_inode *inode, uint64_t content_revision);

void kernel_inode_free_all(struct cache *cache);

#endif
