#include "kvfs/link/hub.h"

#include <string.h>

#include "sync/base/clock.h"

int hub_init(struct hub *hub, const struct options *options, const struct hub_owner *owner)
{
    memset(hub, 0, sizeof *hub);
    hub->owner = owner;
    hub->options = options;
    hub->root_ino = KV_ROOT_INO;
    TAILQ_INIT(&hub->calls.all);
    pthread_mutex_init(&hub->lock, NULL);
    return uplink_init(hub);
}

void hub_deinit(struct hub *hub)
{
    retry_deinit(hub);
    uplink_deinit(hub);
    pthread_mutex_destroy(&hub->lock);
}

int64_t hub_now_ns(struct hub *hub)
{
    return stamp_next(&hub->stamp, clock_boot_ns(), clock_wall_ns());
}
