#include "kvfs/cache/kernel_inode.h"

#include <stdlib.h>
#include <string.h>

#include "kvfs/cache/cache.h"
#include "sync/base/clock.h"

/* A walk may have begun before a move and reach kvfs after the kernel has
 * learned of it through somebody else's walk; within this time it is repeated. */
#define MOVE_SETTLES_MS 50
#define DEPTH_MAX 4096
/* Other directories that are remembered of a file with several names: as many as it may have. */
#define OTHERS_MAX 1000

struct kernel_inode *kernel_inode_find(struct cache *cache, uint64_t ino)
{
    struct kernel_inode *inode;

    HASH_FIND(hh, cache->inodes.by_ino, &ino, sizeof ino, inode);
    return inode;
}

struct kernel_inode *kernel_inode_get(struct cache *cache, uint64_t ino)
{
    struct kernel_inode *inode = kernel_inode_find(cache, ino);

    if (inode != NULL)
        return inode;
    inode = calloc(1, sizeof *inode);
    if (inode == NULL)
        return NULL;
    inode->ino = ino;
    inode->names_changed = cache->known.numbers; /* of what was before nobody has told */
    HASH_ADD(hh, cache->inodes.by_ino, ino, sizeof inode->ino, inode);
    if (!HASH_ADDED(hh, inode)) {
        free(inode);
        return NULL;
    }
    return inode;
}

static void forget_others(struct kernel_inode *inode)
{
    struct kernel_parent *p;

    while ((p = SLIST_FIRST(&inode->others)) != NULL) {
        SLIST_REMOVE_HEAD(&inode->others, link);
        free(p);
    }
}

static void kernel_inode_free(struct cache *cache, struct kernel_inode *inode)
{
    notifier_forget(cache, inode);
    lease_forget(cache, inode);
    submounts_forget(cache, inode);
    forget_others(inode);
    HASH_DELETE(hh, cache->inodes.by_ino, inode);
    free(inode->name);
    free(inode);
}

void kernel_inode_put(struct cache *cache, struct kernel_inode *inode)
{
    if (inode->nlookup == 0 && inode->file == NULL && inode->ino != cache->hub->root_ino)
        kernel_inode_free(cache, inode);
}

void kernel_inode_forget(struct cache *cache, uint64_t ino, uint64_t n)
{
    struct kernel_inode *inode = kernel_inode_find(cache, ino);

    if (inode == NULL)
        return;
    inode->nlookup -= n < inode->nlookup ? n : inode->nlookup;
    if (inode->nlookup == 0 && inode->file != NULL)
        cache->owner->put_file(cache, inode);
    else
        kernel_inode_put(cache, inode);
}

/* The kernel knows no name below a directory that it does not know. */
static void remember_other(struct cache *cache, struct kernel_inode *inode, uint64_t parent)
{
    struct kernel_parent **at = &inode->others.slh_first, *p;
    unsigned n = 0;

    while ((p = *at) != NULL) {
        if (p->ino == parent)
            return;
        if (n == OTHERS_MAX - 1 || kernel_inode_find(cache, p->ino) == NULL) {
            *at = p->link.sle_next;
            free(p);
        } else {
            at = &p->link.sle_next;
            n++;
        }
    }
    p = calloc(1, sizeof *p);
    if (p == NULL)
        return;
    p->ino = parent;
    SLIST_INSERT_HEAD(&inode->others, p, link);
}

void kernel_inode_set_place(struct cache *cache, struct kernel_inode *inode, const struct attr *attr,
                            uint64_t parent, const void *name, size_t name_len)
{
    bool several =
        attr->type != 0 ? attr->type != INODE_DIRECTORY && attr->nlink > 1 : !SLIST_EMPTY(&inode->others);

    if (!several)
        forget_others(inode);
    else if (inode->parent != 0 && inode->parent != parent)
        remember_other(cache, inode, inode->parent);
    inode->parent = name_len > 0 ? parent : 0;
    if (name_len == 0) {
        free(inode->name);
        inode->name = NULL;
        return;
    }
    if (inode->name != NULL && strlen(inode->name) == name_len && memcmp(inode->name, name, name_len) == 0)
        return;
    free(inode->name);
    inode->name = strndup(name, name_len);
}

void kernel_inode_told_name(struct cache *cache, struct kernel_inode *inode)
{
    inode->told_place = cache->hub->marks.moves;
}

void kernel_inode_moved(struct cache *cache, struct kernel_inode *inode)
{
    inode->moved = ++cache->hub->marks.moves;
    inode->moved_ms = clock_boot_ms();
}

/* From there up to the root. */
static bool is_moved(struct cache *cache, const struct kernel_inode *inode, uint64_t moves)
{
    uint64_t now = 0;
    int depth;

    for (depth = 0; inode != NULL && depth < DEPTH_MAX; depth++) {
        if (inode->moved != 0) {
            if (inode->moved > moves || inode->moved > inode->told_place)
                return true;
            now = now != 0 ? now : clock_boot_ms();
            if (now - inode->moved_ms < MOVE_SETTLES_MS)
                return true;
        }
        if (inode->ino == cache->hub->root_ino || inode->parent == 0)
            return false;
        inode = kernel_inode_find(cache, inode->parent);
    }
    return false;
}

bool kernel_inode_path_is_stale(struct cache *cache, const struct kernel_inode *inode, uint64_t moves)
{
    const struct kernel_parent *p;

    if (is_moved(cache, inode, moves))
        return true;
    SLIST_FOREACH (p, &inode->others, link)
        if (is_moved(cache, kernel_inode_find(cache, p->ino), moves))
            return true;
    return false;
}

static void accept_from(struct cache *cache, struct kernel_inode *inode)
{
    int depth;

    for (depth = 0; inode != NULL && depth < DEPTH_MAX; depth++) {
        inode->told_place = cache->hub->marks.moves;
        if (inode->ino == cache->hub->root_ino || inode->parent == 0)
            return;
        inode = kernel_inode_find(cache, inode->parent);
    }
}

void kernel_inode_accept_path(struct cache *cache, struct kernel_inode *inode)
{
    const struct kernel_parent *p;

    accept_from(cache, inode);
    SLIST_FOREACH (p, &inode->others, link)
        accept_from(cache, kernel_inode_find(cache, p->ino));
}

void kernel_inode_told_attr(struct kernel_inode *inode, uint64_t content_revision, uint64_t asked)
{
    if (inode->told_revision == content_revision && inode->told_notice > asked)
        return;
    inode->told_revision = content_revision;
    inode->told_notice = asked;
}

bool kernel_inode_size_is_known(const struct kernel_inode *inode, uint64_t content_revision)
{
    return inode->told_revision == content_revision && inode->last_notice <= inode->told_notice &&
           !notifier_is_pending(inode);
}

void kernel_inode_free_all(struct cache *cache)
{
    struct kernel_inode *inode, *next;

    HASH_ITER(hh, cache->inodes.by_ino, inode, next)
    {
        if (inode->file != NULL)
            cache->owner->free_file(cache, inode);
        kernel_inode_free(cache, inode);
    }
}
