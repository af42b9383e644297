#include "kvfs/cache/cache.h"

void cache_init(struct cache *cache, struct hub *hub, const struct cache_owner *owner)
{
    cache->hub = hub;
    hub->cache = cache;
    cache->owner = owner;
    names_init(&cache->names);
    submounts_init(&cache->submounts);
    known_init(&cache->known);
    lease_init(cache);
    notifier_init(cache);
}

void cache_deinit(struct cache *cache)
{
    kernel_inode_free_all(cache);
    submounts_deinit(&cache->submounts);
    names_deinit(&cache->names);
    known_deinit(&cache->known);
}
