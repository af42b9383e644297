#include "kvfs/cache/cache.h"

void cache_init(struct cache *cache, struct core *core, const struct cache_owner *owner)
{
    cache->core = core;
    core->cache = cache;
    cache->owner = owner;
    notifier_init(cache);
}

void cache_deinit(struct cache *cache)
{
    inode_free_all(cache);
}
