#include "kvfs/ops/fs.h"

#include <string.h>

#include "kvfs/ops/event.h"

static void on_event(struct core *core, const struct event *e)
{
    event_handle(core->fs, e);
}

static void on_gap(struct core *core)
{
    notifier_drop_all(core->cache);
}

static void on_connected(struct core *core)
{
    file_reopen_all(core->files);
    open_directories_reopen(core->directories);
}

static void on_dropped(struct core *core)
{
    reserve_lost(core->files);
    /* Nobody tells this mount of changes now: the kernel has to ask again. */
    notifier_drop_all(core->cache);
}

static void on_tick(struct core *core, uint64_t now_ms)
{
    publish_tick(core->files, now_ms);
    reserve_tick(core->files, now_ms);
    retry_tick(core, now_ms);
    file_keep_tick(core->files, now_ms);
}

static const struct core_owner core_owner = {
    .on_event = on_event,
    .on_gap = on_gap,
    .on_connected = on_connected,
    .on_dropped = on_dropped,
    .on_tick = on_tick,
    .describe_wait = files_describe_wait,
};

int fs_init(struct fs *fs, const struct options *options)
{
    pthread_condattr_t attr;
    int rc;

    memset(fs, 0, sizeof *fs);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&fs->ready_cond, &attr);
    pthread_condattr_destroy(&attr);
    rc = core_init(&fs->core, options, &core_owner);
    fs->core.fs = fs;
    cache_init(&fs->cache, &fs->core, &files_cache_owner);
    files_init(&fs->files, &fs->core, &fs->cache);
    open_directories_init(&fs->directories, &fs->core);
    virtual_init(&fs->virtuals, &fs->core);
    return rc;
}

void fs_deinit(struct fs *fs)
{
    /* The session is over: nobody can be answered. */
    while (!TAILQ_EMPTY(&fs->core.requests.all))
        request_end(TAILQ_FIRST(&fs->core.requests.all));
    open_directories_deinit(&fs->directories);
    cache_deinit(&fs->cache);
    virtual_deinit(&fs->virtuals);
    core_deinit(&fs->core);
    pthread_cond_destroy(&fs->ready_cond);
}

struct fs *fs_enter(fuse_req_t req)
{
    struct fs *fs = fuse_req_userdata(req);

    pthread_mutex_lock(&fs->core.lock);
    return fs;
}

void fs_leave(struct fs *fs)
{
    pthread_mutex_unlock(&fs->core.lock);
}
