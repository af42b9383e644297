#include "kvfs/ops/fs.h"

#include <string.h>

#include "kvfs/ops/event.h"

static void on_event(struct hub *hub, const struct event *e)
{
    event_handle(hub->fs, e);
    if (e->last)
        lease_applied(hub->cache, e->revision);
}

static void on_inval(struct hub *hub, const struct inval *inval)
{
    lease_inval(hub->cache, inval);
}

static void on_beat(struct hub *hub, const struct beat *beat)
{
    lease_beat(hub->cache, beat);
}

static void on_gap(struct hub *hub)
{
    notifier_drop_all(hub->cache);
    lock_ask_again(hub->files);
}

static void on_session_lost(struct hub *hub)
{
    lock_session_lost(hub->files);
}

static void on_session(struct hub *hub)
{
    lock_ask_again(hub->files);
}

static void on_connected(struct hub *hub)
{
    lease_begin(hub->cache);
    file_reopen_all(hub->files);
    open_directories_reopen(hub->directories);
    lock_connected(hub->files);
}

static void on_dropped(struct hub *hub)
{
    room_lost(hub->files);
    /* Nobody tells this mount of changes now: the kernel has to ask again. */
    notifier_drop_all(hub->cache);
}

static void on_tick(struct hub *hub, uint64_t now_ms)
{
    publish_tick(hub->files, now_ms);
    lock_tick(hub->files, now_ms);
    room_tick(hub->files, now_ms);
    retry_tick(hub, now_ms);
    removed_tick(hub->files, now_ms);
}

static const struct hub_owner hub_owner = {
    .on_event = on_event,
    .on_inval = on_inval,
    .on_beat = on_beat,
    .on_gap = on_gap,
    .on_session_lost = on_session_lost,
    .on_session = on_session,
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
    rc = hub_init(&fs->hub, options, &hub_owner);
    fs->hub.fs = fs;
    cache_init(&fs->cache, &fs->hub, &files_cache_owner);
    files_init(&fs->files, &fs->hub, &fs->cache);
    open_directories_init(&fs->directories, &fs->hub);
    virtual_init(&fs->virtuals, &fs->hub);
    return rc;
}

void fs_deinit(struct fs *fs)
{
    /* The session is over: nobody can be answered. */
    while (!TAILQ_EMPTY(&fs->hub.calls.all))
        call_end(TAILQ_FIRST(&fs->hub.calls.all));
    locks_deinit(&fs->files.locks);
    open_directories_deinit(&fs->directories);
    cache_deinit(&fs->cache);
    virtual_deinit(&fs->virtuals);
    hub_deinit(&fs->hub);
    pthread_cond_destroy(&fs->ready_cond);
}

struct fs *fs_enter(fuse_req_t req)
{
    struct fs *fs = fuse_req_userdata(req);

    pthread_mutex_lock(&fs->hub.lock);
    return fs;
}

void fs_leave(struct fs *fs)
{
    pthread_mutex_unlock(&fs->hub.lock);
}
