#include "kvfs/cache/cache.h"

void cache_init(struct cache *cache, struct hub *hub, const struct cache_owner *owner)
{
    cache->hub = hub;
    hub->cache = cache;
    cache->owner = owner;
    notifier_init(cache);
}

void cache_deinit(struct cache *cache)
{
    kernel_inode_free_all(cache);
}
