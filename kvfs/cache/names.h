/* Names that the kernel may hold and that are wrong.
 *
 *   event ──► names_wrong, names_appeared ──► wrong ──notifier──┬─► one epoch: all names are looked up again
 *                                                               └─► each one expires (submounts.h), where
 *                                                                   something is mounted inside
 *
 * That a name is missing is remembered here, too, for as long as the kernel may: nobody but its creation's
 * event says which name that was. */
#ifndef KVFS_KVFS_CACHE_NAMES_H
#define KVFS_KVFS_CACHE_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "sync/base/hash.h"

struct cache;
struct kernel_inode;

/* So many are told to be missing before an epoch, and so many wrong ones kept by name. */
#define NAMES_MISSING_MAX 50000
#define NAMES_WRONG_MAX 4096

struct name {
    UT_hash_handle hh; /* by parent and text: in names.missing */
    TAILQ_ENTRY(name) link;
    uint64_t parent;
    char text[];
};

TAILQ_HEAD(name_list, name);

struct names {
    struct name *missing;   /* uthash; owned: told to be missing since the last epoch */
    struct name_list wrong; /* owned; for the notifier */
    unsigned n_wrong;
    bool any_wrong; /* others, which nobody can tell */
};

void names_init(struct names *names);
void names_deinit(struct names *names);

/* A name in `parent`, which was there, may lead elsewhere now; len 0: nobody may tell which. */
void names_wrong(struct cache *cache, uint64_t parent, const void *name, size_t len);
/* A name in `parent` has appeared: whether the kernel may know that it is missing. */
void names_appeared(struct cache *cache, uint64_t parent, const void *name, size_t len);
/* All may be wrong. */
void names_all_wrong(struct cache *cache);
/* Whether the kernel has not yet been told of a wrong name. */
bool names_are_pending(const struct cache *cache);

/* The kernel is told that the name is missing: for how long it may believe it, in seconds. */
double names_told_missing(struct cache *cache, struct kernel_inode *parent, const char *name);
/* Takes all that were told to be missing; names_free_missing() frees them, without the lock. */
struct name *names_take_missing(struct names *names);
void names_free_missing(struct name *missing);
/* The same for the wrong ones. */
void names_take_wrong(struct names *names, struct name_list *out, bool *any_out);
void names_free_list(struct name_list *list);

#endif
