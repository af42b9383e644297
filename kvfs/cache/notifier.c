#include "kvfs/cache/notifier.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "kvfs/cache/cache.h"
#include "sync/base/clock.h"
#include "sync/base/log.h"

#define NOTIFY_INC_EPOCH 8 /* not in the headers of libfuse 3.14 */
#define TRIES_MAX 12       /* 1 ms, 2 ms, ... 2 s: 4 s in all */

/* struct fuse_out_header of linux/fuse.h. */
struct notification {
    uint32_t len;
    int32_t error;
    uint64_t unique;
};

void notifier_init(struct cache *cache)
{
    pthread_condattr_t attr;

    TAILQ_INIT(&cache->notifier.list);
    TAILQ_INIT(&cache->notifier.settling);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&cache->notifier.cond, &attr);
    pthread_condattr_destroy(&attr);
}

static int inc_epoch(struct cache *cache)
{
    struct notification n = {.len = sizeof n, .error = NOTIFY_INC_EPOCH};

    return write(fuse_session_fd(cache->hub->session), &n, sizeof n) < 0 ? -errno : 0;
}

static void enqueue(struct cache *cache, struct kernel_inode *inode, unsigned delay_ms)
{
    inode->inval_at_ms = delay_ms == 0 ? 0 : clock_boot_ms() + delay_ms;
    if (inode->inval_queued)
        return;
    inode->inval_queued = true;
    inode->inval_number = ++cache->notifier.notices;
    TAILQ_INSERT_TAIL(&cache->notifier.list, inode, inval_link);
    pthread_cond_signal(&cache->notifier.cond);
}

void notifier_inval(struct cache *cache, struct kernel_inode *inode, bool data)
{
    known_forget_attr(inode);
    /* What the kernel does not have it need not drop. */
    if (!inode->told_attr && !(data && inode->told_data) && !notifier_is_pending(inode))
        return;
    inode->inval_attr = true;
    inode->inval_data |= data;
    inode->inval_round++;
    inode->inval_tries = 0;
    enqueue(cache, inode, 0);
}

void notifier_inval_given(struct cache *cache, struct kernel_inode *inode)
{
    notifier_inval(cache, inode, true);
    cache->notifier.ticket = cache->notifier.notices;
}

void notifier_wake(struct cache *cache)
{
    pthread_cond_signal(&cache->notifier.cond);
}

/* What the kernel does not have yet, and is asked for again and again, is not waited for: nobody has seen it.
 */
static bool has_settled(const struct notifier *n, const struct call *call)
{
    const struct kernel_inode *inode;

    if ((n->busy != 0 && n->busy <= call->lock.notices) || n->names_done < call->lock.names)
        return false;
    TAILQ_FOREACH (inode, &n->list, inval_link) {
        if (inode->inval_number > call->lock.notices)
            return true;
        if (inode->inval_at_ms == 0)
            return false;
    }
    return true;
}

void notifier_settle(struct cache *cache, struct call *call, call_fn *on_answer)
{
    struct notifier *n = &cache->notifier;

    call->lock.notices = n->notices;
    call->lock.names = n->names_done + n->names_busy + names_are_pending(cache);
    if (!n->running || has_settled(n, call))
        on_answer(call, 0, NULL);
    else
        call_wait(call, &n->settling, on_answer);
}

/* In the order in which they came. */
static void wake_settled(struct notifier *n)
{
    struct call *call;

    while ((call = TAILQ_FIRST(&n->settling)) != NULL && has_settled(n, call))
        call_wake(call, 0);
}

void notifier_drop_all(struct cache *cache)
{
    struct kernel_inode *inode, *next;

    known_forget_all(cache);
    HASH_ITER(hh, cache->inodes.by_ino, inode, next)
    notifier_inval(cache, inode, true);
    names_all_wrong(cache);
}

void notifier_forget(struct cache *cache, struct kernel_inode *inode)
{
    if (inode->inval_queued)
        TAILQ_REMOVE(&cache->notifier.list, inode, inval_link);
    inode->inval_queued = false;
}

bool notifier_is_pending(const struct kernel_inode *inode)
{
    return inode->inval_attr || inode->inval_data;
}

/* One inode of the list. Drops the lock while the kernel is at work. */
static void notify_inode(struct cache *cache, struct kernel_inode *inode)
{
    uint64_t ino = inode->ino;
    fuse_ino_t node = hub_node(cache->hub, ino);
    uint32_t round = inode->inval_round;
    bool data = inode->inval_data;
    int rc;

    TAILQ_REMOVE(&cache->notifier.list, inode, inval_link);
    inode->inval_queued = false;
    inode->told_attr = false;
    if (data)
        inode->told_data = false;
    inode->last_notice = ++cache->hub->marks.notices;
    cache->notifier.busy = inode->inval_number;
    pthread_mutex_unlock(&cache->hub->lock);
    rc = fuse_lowlevel_notify_inval_inode(cache->hub->session, node, data ? 0 : -1, 0);
    pthread_mutex_lock(&cache->hub->lock);
    cache->notifier.busy = 0;

    inode = kernel_inode_find(cache, ino);
    if (inode == NULL || inode->inval_round != round)
        return; /* forgotten, or queued again by a later change */
    if (rc == -ENOENT && inode->nlookup > 0 && inode->inval_tries < TRIES_MAX) {
        /* By its name it is asked for anew at once. */
        if (inode->inval_tries == 0)
            names_all_wrong(cache);
        enqueue(cache, inode, 1u << inode->inval_tries++);
        return;
    }
    inode->inval_attr = inode->inval_data = false;
    if (inode->file != NULL)
        cache->owner->on_dropped(cache, inode);
}

/* The first inode whose time has come; else ms until the first will. */
static struct kernel_inode *next_inode(struct cache *cache, unsigned *wait_ms_out)
{
    uint64_t now = 0;
    struct kernel_inode *inode;

    *wait_ms_out = 60000;
    TAILQ_FOREACH (inode, &cache->notifier.list, inval_link) {
        if (inode->inval_at_ms == 0)
            return inode;
        now = now != 0 ? now : clock_boot_ms();
        if (inode->inval_at_ms <= now)
            return inode;
        if (inode->inval_at_ms - now < *wait_ms_out)
            *wait_ms_out = (unsigned)(inode->inval_at_ms - now);
    }
    return NULL;
}

static void wait_for_work(struct cache *cache, unsigned ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&cache->notifier.cond, &cache->hub->lock, &until);
}

/* The kernel drops wrong names, by an epoch if it may be. Drops the lock meanwhile. */
static void notify_names(struct cache *cache)
{
    struct name *missing = NULL;
    struct name_list wrong;
    bool any;

    names_take_wrong(&cache->names, &wrong, &any);
    if (cache->notifier.epoch_works) {
        pthread_mutex_unlock(&cache->hub->lock);
        submounts_look(cache);
        pthread_mutex_lock(&cache->hub->lock);
        if (submounts_are_inside(cache)) {
            submounts_expire(cache, &wrong, any);
            return;
        }
        /* What is told from here on the kernel may remember beyond the epoch. */
        missing = names_take_missing(&cache->names);
    }
    pthread_mutex_unlock(&cache->hub->lock);
    if (cache->notifier.epoch_works)
        inc_epoch(cache);
    names_free_list(&wrong);
    names_free_missing(missing);
    pthread_mutex_lock(&cache->hub->lock);
}

static void *run(void *arg)
{
    struct cache *cache = arg;
    struct notifier *n = &cache->notifier;

    uint64_t number = 0, connection = 0; /* to be answered when what has been queued by then is done */

    pthread_mutex_lock(&cache->hub->lock);
    while (n->running) {
        struct kernel_inode *inode;
        unsigned wait_ms;

        wake_settled(n);
        if (number == 0 && (number = lease_unanswered(cache)) != 0) {
            connection = cache->hub->uplink.connections;
            n->ticket = n->notices;
        }
        if (names_are_pending(cache)) {
            n->names_busy = true;
            notify_names(cache);
            n->names_busy = false;
            n->names_done++;
            continue;
        }
        inode = next_inode(cache, &wait_ms);
        lease_wait(cache, &wait_ms);
        if (number != 0 && (inode == NULL || inode->inval_number > n->ticket)) {
            if (connection == cache->hub->uplink.connections) {
                cache->lease.answered = number;
                uplink_invalidated(cache->hub, number);
            }
            number = 0;
            continue;
        }
        if (inode != NULL)
            notify_inode(cache, inode);
        else if (wait_ms > 0)
            wait_for_work(cache, wait_ms);
    }
    pthread_mutex_unlock(&cache->hub->lock);
    return NULL;
}

int notifier_start(struct cache *cache)
{
    struct notifier *n = &cache->notifier;
    int rc = inc_epoch(cache);

    pthread_mutex_lock(&cache->hub->lock);
    n->epoch_works = rc == 0;
    if (n->epoch_works && !submounts_are_inside(cache))
        cache->entry_timeout = TIMEOUT_LONG;
    n->running = true;
    pthread_mutex_unlock(&cache->hub->lock);
    if (rc != 0)
        log_debug("this kernel cannot drop all names at once (%s): every name is looked up every time",
                  strerror(-rc));
    if (pthread_create(&n->thread, NULL, run, cache) != 0) {
        n->running = false;
        return -1;
    }
    return 0;
}

void notifier_stop(struct cache *cache)
{
    struct notifier *n = &cache->notifier;
    bool running;

    pthread_mutex_lock(&cache->hub->lock);
    running = n->running;
    n->running = false;
    pthread_cond_signal(&n->cond);
    pthread_mutex_unlock(&cache->hub->lock);
    if (running)
        pthread_join(n->thread, NULL);
    pthread_cond_destroy(&n->cond);
}
