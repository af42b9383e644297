#include "kvfs/cache/kernel_inode.h"

#include <stdlib.h>
#include <string.h>

#include "kvfs/cache/cache.h"
#include "sync/base/clock.h"

/* A walk may have begun before a move and reach kvfs after the kernel has
 * learned of it through somebody else's walk; within this time it is repeated. */
#define MOVE_SETTLES_MS 50
#define DEPTH_MAX 4096

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
    HASH_ADD(hh, cache->inodes.by_ino, ino, sizeof inode->ino, inode);
    if (!HASH_ADDED(hh, inode)) {
        free(inode);
        return NULL;
    }
    return inode;
}

static void kernel_inode_free(struct cache *cache, struct kernel_inode *inode)
{
    notifier_forget(cache, inode);
    submounts_forget(cache, inode);
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

void kernel_inode_set_place(struct kernel_inode *inode, uint64_t parent, const void *name, size_t name_len)
{
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

bool kernel_inode_path_is_stale(struct cache *cache, const struct kernel_inode *inode, uint64_t moves)
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

void kernel_inode_accept_path(struct cache *cache, struct kernel_inode *inode)
{
    int depth;

    for (depth = 0; inode != NULL && depth < DEPTH_MAX; depth++) {
        inode->told_place = cache->hub->marks.moves;
        if (inode->ino == cache->hub->root_ino || inode->parent == 0)
            return;
        inode = kernel_inode_find(cache, inode->parent);
    }
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
