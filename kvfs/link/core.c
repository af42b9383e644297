#include "kvfs/link/core.h"

#include <string.h>

#include "sync/base/clock.h"

int core_init(struct core *core, const struct options *options, const struct core_owner *owner)
{
    memset(core, 0, sizeof *core);
    core->owner = owner;
    core->options = options;
    core->root_ino = KV_ROOT_INO;
    TAILQ_INIT(&core->requests.all);
    pthread_mutex_init(&core->lock, NULL);
    return link_init(core);
}

void core_deinit(struct core *core)
{
    link_deinit(core);
    pthread_mutex_destroy(&core->lock);
}

int64_t core_now_ns(struct core *core)
{
    return stamp_next(&core->stamp, clock_boot_ns(), clock_wall_ns());
}
