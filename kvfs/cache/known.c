#include "kvfs/cache/known.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "kvfs/cache/cache.h"
#include "sync/base/clock.h"
#include "sync/base/hash.h"

void known_init(struct known *known)
{
    if (getrandom(&known->seed, sizeof known->seed, 0) != (ssize_t)sizeof known->seed)
        known->seed = clock_boot_ns();
}

void known_deinit(struct known *known)
{
    free(known->names);
    known->names = NULL;
}

static bool is_in_use(const struct cache *cache)
{
    return cache->hub->options->read_strict && cache->hub->uplink.node.trusted;
}

void known_tell_attr(struct cache *cache, struct kernel_inode *inode, const struct attr *attr)
{
    if (!is_in_use(cache) || !lease_may_keep_attr(cache, inode->ino))
        return;
    inode->known = *attr;
    inode->known_number = ++cache->known.numbers;
}

static struct known_name *place_of(struct cache *cache, uint64_t parent, const void *name, size_t len,
                                   uint64_t *hash_out)
{
    struct known *k = &cache->known;

    if (k->names == NULL)
        k->names = calloc(KNOWN_NAMES, sizeof *k->names);
    *hash_out = XXH3_64bits_withSeed(name, len, k->seed ^ parent * 0x9e3779b97f4a7c15);
    return k->names != NULL ? &k->names[*hash_out % KNOWN_NAMES] : NULL;
}

void known_tell_name(struct cache *cache, uint64_t parent, const void *name, size_t len, uint64_t ino)
{
    struct known_name *place;
    uint64_t hash;

    if (!is_in_use(cache) || !lease_may_keep_names(cache, parent))
        return;
    place = place_of(cache, parent, name, len, &hash);
    if (place != NULL)
        *place = (struct known_name){.hash = hash, .ino = ino, .number = ++cache->known.numbers};
}

const struct attr *known_attr(struct cache *cache, const struct kernel_inode *inode)
{
    if (inode == NULL || inode->known_number <= cache->known.forgotten || !is_in_use(cache) ||
        !lease_runs(cache))
        return NULL;
    cache->lease.held = true;
    return &inode->known;
}

bool known_name(struct cache *cache, uint64_t parent, const char *name, struct kernel_inode **inode_out)
{
    const struct kernel_inode *directory = kernel_inode_find(cache, parent);
    const struct known_name *place;
    struct kernel_inode *inode;
    uint64_t hash;

    if (directory == NULL || !is_in_use(cache) || !lease_runs(cache))
        return false;
    place = place_of(cache, parent, name, strlen(name), &hash);
    if (place == NULL || place->hash != hash || place->number <= directory->names_changed ||
        place->number <= cache->known.forgotten)
        return false;
    *inode_out = NULL;
    if (place->ino == 0)
        return true;
    inode = kernel_inode_find(cache, place->ino);
    /* A file with several names is known by the last that was told. */
    if (inode == NULL || inode->parent != parent || inode->name == NULL || strcmp(inode->name, name) != 0 ||
        known_attr(cache, inode) == NULL)
        return false;
    *inode_out = inode;
    return true;
}

void known_forget_attr(struct kernel_inode *inode)
{
    inode->known_number = 0;
}

void known_forget_names(struct cache *cache, struct kernel_inode *directory)
{
    directory->names_changed = ++cache->known.numbers;
}

void known_forget_all(struct cache *cache)
{
    cache->known.forgotten = ++cache->known.numbers;
}
