#include "kvfs/cache/lease.h"

#include <string.h>

#include "kvfs/cache/cache.h"
#include "sync/base/clock.h"
#include "sync/base/hash.h"

/* Between the moment at which this process looks at the clock and that at which the kernel counts from, and
 * what the kernel's own clock rounds up. */
#define MARGIN_MS 20
/* The kernel counts from when the process that has asked goes on, and that may wait for a processor. So what
 * should have run out less than this ago may be there still. */
#define LAG_MS 500

static bool is_strict(const struct cache *cache)
{
    return cache->hub->options->read_strict;
}

void lease_init(struct cache *cache)
{
    TAILQ_INIT(&cache->lease.told);
}

void lease_begin(struct cache *cache)
{
    struct lease *l = &cache->lease;

    l->until_ms = 0;
    l->number = l->answered = 0;
    l->n = 0;
    l->all_until = 0;
    known_forget_all(cache);
}

/* ---- what is pending ---- */

void lease_applied(struct cache *cache, uint64_t index)
{
    struct lease *l = &cache->lease;
    unsigned n = 0;

    if (index > l->applied)
        l->applied = index;
    while (n < l->n && l->pending[n].index <= l->applied)
        n++;
    if (n > 0) {
        memmove(l->pending, l->pending + n, (l->n - n) * sizeof *l->pending);
        l->n -= n;
    }
}

static void pend(struct lease *l, const struct inval *inval)
{
    if (inval->all || l->n == LEASE_PENDING_MAX)
        l->all_until = inval->index > l->all_until ? inval->index : l->all_until;
    else
        l->pending[l->n++] = *inval;
}

static bool is_pending(const struct lease *l, uint64_t ino, uint8_t what)
{
    if (l->all_until > l->applied)
        return true;
    for (unsigned i = 0; i < l->n; i++)
        for (unsigned k = 0; k < l->pending[i].n; k++)
            if (l->pending[i].of[k].ino == ino && (l->pending[i].of[k].what & what) != 0)
                return true;
    return false;
}

bool lease_data_is_pending(const struct cache *cache, uint64_t ino)
{
    return is_strict(cache) && is_pending(&cache->lease, ino, INVAL_DATA);
}

/* ---- what comes ---- */

/* Names are dropped all at once. One that comes needs it only where the kernel knows that it is missing; one
 * that goes, or gets another inode, comes with the inode that it had. */
static bool drops_names(struct cache *cache, const struct inval *inval)
{
    bool names = false, known = false;

    for (unsigned i = 0; i < inval->n; i++) {
        struct kernel_inode *inode = kernel_inode_find(cache, inval->of[i].ino);

        if ((inval->of[i].what & INVAL_NAMES) == 0) {
            known = known || (inode != NULL && inode->nlookup > 0);
            continue;
        }
        names = true;
        known = known || (inode != NULL && inode->negatives);
        if (inode != NULL)
            inode->negatives = false;
    }
    return names && known;
}

void lease_inval(struct cache *cache, const struct inval *inval)
{
    const struct uplink *u = &cache->hub->uplink;
    bool own = inval->session != 0 && inval->session == u->session;
    struct inval kept = *inval;

    /* What this mount publishes the kernel has already (event.c). */
    for (unsigned i = 0; own && i < kept.n; i++)
        kept.of[i].what &= (uint8_t)~INVAL_DATA;
    pend(&cache->lease, &kept);
    lease_applied(cache, 0);
    if (inval->all) {
        cache->owner->on_all_touched(cache);
        notifier_drop_all(cache);
    } else if (drops_names(cache, &kept) && cache->entry_timeout > 0) {
        names_all_wrong(cache);
    }
    for (unsigned i = 0; i < kept.n; i++) {
        struct kernel_inode *inode = kernel_inode_find(cache, kept.of[i].ino);

        if (inode == NULL)
            continue;
        if ((kept.of[i].what & INVAL_NAMES) != 0)
            known_forget_names(cache, inode);
        if (inode->file != NULL)
            cache->owner->on_touched(cache, inode);
        known_forget_attr(inode);
        if ((kept.of[i].what & (INVAL_ATTR | INVAL_DATA)) != 0)
            notifier_inval(cache, inode, (kept.of[i].what & INVAL_DATA) != 0);
    }
    cache->lease.number = inval->number;
    notifier_wake(cache);
}

void lease_beat(struct cache *cache, const struct beat *beat)
{
    struct lease *l = &cache->lease;

    lease_applied(cache, beat->applied);
    if (clock_boot_ms() >= l->until_ms) /* of what changed since it did nobody has told */
        known_forget_all(cache);
    if (beat->until_ms > l->until_ms)
        l->until_ms = beat->until_ms;
}

/* ---- what is kept ---- */

static double left_s(struct cache *cache)
{
    uint64_t now = clock_boot_ms();

    if (cache->lease.until_ms <= now + MARGIN_MS)
        return 0;
    cache->lease.held = true;
    return (double)(cache->lease.until_ms - now - MARGIN_MS) / 1000;
}

double lease_attr_s(struct cache *cache, uint64_t ino)
{
    const struct kernel_inode *inode;

    if (!is_strict(cache))
        return TIMEOUT_LONG;
    inode = kernel_inode_find(cache, ino);
    if (is_pending(&cache->lease, ino, INVAL_ATTR | INVAL_DATA | INVAL_NAMES) ||
        (inode != NULL && inode->parent != 0 && is_pending(&cache->lease, inode->parent, INVAL_NAMES)))
        return 0;
    return left_s(cache);
}

void lease_told(struct cache *cache, struct kernel_inode *inode, double attr_s)
{
    if (attr_s <= 0 || !is_strict(cache))
        return;
    lease_forget(cache, inode);
    inode->told_until_ms = cache->lease.until_ms;
    TAILQ_INSERT_TAIL(&cache->lease.told, inode, told_link);
}

void lease_forget(struct cache *cache, struct kernel_inode *inode)
{
    if (inode->told_until_ms != 0)
        TAILQ_REMOVE(&cache->lease.told, inode, told_link);
    inode->told_until_ms = 0;
}

double lease_names_s(struct cache *cache, uint64_t directory)
{
    double s;

    if (cache->entry_timeout == 0 || !is_strict(cache))
        return cache->entry_timeout;
    s = is_pending(&cache->lease, directory, INVAL_NAMES) ? 0 : left_s(cache);
    if (s > 0)
        cache->lease.names_until_ms = cache->lease.until_ms;
    return s;
}

double lease_miss_s(struct cache *cache, struct kernel_inode *directory, const char *name)
{
    uint64_t hash, *place;
    double s, most;

    if (!is_strict(cache))
        return names_told_missing(cache, directory, name);
    s = lease_names_s(cache, directory->ino);
    hash = XXH3_64bits_withSeed(name, strlen(name), directory->ino);
    place = &cache->lease.misses[hash % LEASE_MISSES];
    if (*place != hash || s <= 0) {
        *place = hash;
        return 0;
    }
    most = names_told_missing(cache, directory, name);
    return s < most ? s : most;
}

void lease_given(struct cache *cache, uint64_t asked_ms)
{
    if (is_strict(cache) && clock_boot_ms() - asked_ms >= MARGIN_MS)
        notifier_drop_all(cache);
}

bool lease_runs(const struct cache *cache)
{
    return clock_boot_ms() + MARGIN_MS < cache->lease.until_ms;
}

bool lease_may_keep_attr(struct cache *cache, uint64_t ino)
{
    return is_strict(cache) && lease_runs(cache) && lease_attr_s(cache, ino) > 0;
}

bool lease_may_keep_names(struct cache *cache, uint64_t directory)
{
    return is_strict(cache) && lease_runs(cache) && !is_pending(&cache->lease, directory, INVAL_NAMES);
}

/* Names and attributes the kernel forgets by itself then, but perhaps late. Of what is not open the pages
 * stay: an open asks, and is answered behind the events that tell of a change. */
static void time_is_over(struct cache *cache)
{
    struct lease *l = &cache->lease;
    uint64_t now = clock_boot_ms();
    struct kernel_inode *inode, *next;

    l->held = false;
    cache->owner->on_all_touched(cache);
    if (l->names_until_ms != 0 && l->names_until_ms + LAG_MS > now)
        names_all_wrong(cache);
    l->names_until_ms = 0;
    while ((inode = TAILQ_LAST(&l->told, told_list)) != NULL && inode->told_until_ms + LAG_MS > now) {
        notifier_inval(cache, inode, false);
        lease_forget(cache, inode);
    }
    HASH_ITER(hh, cache->inodes.by_ino, inode, next)
    {
        if (inode->told_data && inode->file != NULL && cache->owner->is_open(inode))
            notifier_inval(cache, inode, true);
    }
}

void lease_wait(struct cache *cache, unsigned *wait_ms_out)
{
    struct lease *l = &cache->lease;
    uint64_t now;

    if (!l->held || !is_strict(cache))
        return;
    now = clock_boot_ms();
    if (now + MARGIN_MS >= l->until_ms) {
        time_is_over(cache);
        *wait_ms_out = 0;
    } else if (l->until_ms - MARGIN_MS - now < *wait_ms_out) {
        *wait_ms_out = (unsigned)(l->until_ms - MARGIN_MS - now);
    }
}

bool lease_keeps_data(struct cache *cache)
{
    return !cache->hub->options->read_strict || left_s(cache) > 0;
}

uint64_t lease_unanswered(const struct cache *cache)
{
    return cache->lease.number > cache->lease.answered ? cache->lease.number : 0;
}
