/* What the node has told of names and attributes and what is right until an INVAL says otherwise: while the
 * lease runs it is answered here, without a question to the node. So the kernel may ask again every 80 ms.
 *
 *   answer of the node, nothing pending touches it ──► known ──INVAL, event, lease over──► not known
 *
 * Attributes are kept in the kernel_inode; names in a table of fixed size, in which a newer one takes the
 * place of an older. Each has a number, and is known if that is higher than that of the last change of its
 * directory and than that at which all was forgotten. Only with read=strict, and of a node that trusts this
 * mount: one that does not looks at permissions each time. */
#ifndef KVFS_KVFS_CACHE_KNOWN_H
#define KVFS_KVFS_CACHE_KNOWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/wire/attr.h"

struct cache;
struct kernel_inode;

#define KNOWN_NAMES 65536

struct known_name {
    uint64_t hash, ino, number; /* ino 0: there is none */
};

struct known {
    struct known_name *names; /* owned; NULL: none yet */
    uint64_t seed;            /* nobody shall know which names have one place, or one hash */
    uint64_t numbers;         /* so far */
    uint64_t forgotten;       /* up to there nothing is known */
};

void known_init(struct known *known);
void known_deinit(struct known *known);

/* Whether what the node has just told may be kept: nothing that is pending touches it, and there is a lease.
 */
void known_tell_attr(struct cache *cache, struct kernel_inode *inode, const struct attr *attr);
/* ino 0: the name is missing. */
void known_tell_name(struct cache *cache, uint64_t parent, const void *name, size_t len, uint64_t ino);

/* Borrowed until anything changes; NULL: the node has to be asked. */
const struct attr *known_attr(struct cache *cache, const struct kernel_inode *inode);
/* Whether it is known what the name stands for: *inode_out, or NULL, if it is missing. */
bool known_name(struct cache *cache, uint64_t parent, const char *name, struct kernel_inode **inode_out);

void known_forget_attr(struct kernel_inode *inode);
void known_forget_names(struct cache *cache, struct kernel_inode *directory);
void known_forget_all(struct cache *cache);

#endif
