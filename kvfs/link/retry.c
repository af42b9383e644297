#include "kvfs/link/retry.h"

#include <stdlib.h>
#include <string.h>

#include "kvfs/link/hub.h"
#include "sync/base/clock.h"
#include "sync/base/hash.h"

#define WALK_MS 1000
#define VAIN_MS 500 /* the kernel asks anew at once */

struct retry {
    UT_hash_handle hh; /* by pid */
    pid_t pid;
    uint64_t until_ms;
    uint64_t refused;    /* the inode whose open was answered ESTALE, or 0 */
    uint64_t held;       /* inode opened on the node, or 0 */
    uint64_t connection; /* on which it was */
    bool missed;
};

/* Callers in a pid namespace that this one does not see have the number 0; they share one
 * record. What that may cost is an open that sees a name as it was a moment before. */
static struct retry *find(struct hub *hub, pid_t pid)
{
    struct retry *r;

    HASH_FIND(hh, hub->retries.by_thread, &pid, sizeof pid, r);
    return r;
}

static struct retry *find_walking(struct hub *hub, pid_t pid)
{
    struct retry *r = find(hub, pid);

    return r != NULL && !r->missed && clock_boot_ms() < r->until_ms ? r : NULL;
}

static void let_go(struct hub *hub, struct retry *r)
{
    if (r->held != 0 && r->connection == hub->uplink.connections)
        uplink_close_inode(hub, r->held);
    r->held = 0;
}

static void drop(struct hub *hub, struct retry *r)
{
    let_go(hub, r);
    HASH_DEL(hub->retries.by_thread, r);
    hub->retries.n--;
    free(r);
}

void retry_note(struct hub *hub, pid_t pid, uint64_t refused)
{
    struct retry *r = find(hub, pid);

    if (r == NULL) {
        r = hub->retries.n < RETRY_MAX ? calloc(1, sizeof *r) : NULL;
        if (r == NULL)
            return;
        r->pid = pid;
        HASH_ADD(hh, hub->retries.by_thread, pid, sizeof r->pid, r);
        if (!HASH_ADDED(hh, r)) {
            free(r);
            return;
        }
        hub->retries.n++;
    }
    let_go(hub, r);
    r->missed = false;
    r->refused = refused;
    r->until_ms = clock_boot_ms() + WALK_MS;
}

bool retry_is(struct hub *hub, pid_t pid)
{
    return find_walking(hub, pid) != NULL;
}

static void live_for(struct hub *hub, pid_t pid, uint64_t ms)
{
    struct retry *r = find(hub, pid);
    uint64_t now = clock_boot_ms();

    if (r != NULL && now < r->until_ms)
        r->until_ms = now + ms;
}

void retry_asks(struct hub *hub, pid_t pid)
{
    live_for(hub, pid, hub->options->timeout_ms + WALK_MS);
}

void retry_answered(struct hub *hub, pid_t pid)
{
    live_for(hub, pid, WALK_MS);
}

static bool holds(const struct hub *hub, const struct retry *r, uint64_t ino)
{
    return r->held == ino && r->connection == hub->uplink.connections;
}

bool retry_holds(struct hub *hub, pid_t pid, uint64_t ino)
{
    const struct retry *r = find_walking(hub, pid);

    return r != NULL && holds(hub, r, ino);
}

bool retry_is_second(struct hub *hub, pid_t pid, uint64_t ino)
{
    const struct retry *r = find_walking(hub, pid);

    return r != NULL && (holds(hub, r, ino) || r->refused == ino);
}

void retry_hold(struct hub *hub, pid_t pid, uint64_t ino)
{
    struct retry *r = find(hub, pid);

    if (r == NULL) {
        uplink_close_inode(hub, ino);
        return;
    }
    let_go(hub, r);
    r->held = ino;
    r->connection = hub->uplink.connections;
}

void retry_end(struct hub *hub, pid_t pid)
{
    struct retry *r = find(hub, pid);

    if (r != NULL)
        drop(hub, r);
}

void retry_miss(struct hub *hub, pid_t pid)
{
    struct retry *r = find(hub, pid);

    if (r == NULL)
        return;
    let_go(hub, r);
    r->missed = true;
}

bool retry_missed(struct hub *hub, pid_t pid)
{
    const struct retry *r = find(hub, pid);

    return r != NULL && r->missed && clock_boot_ms() < r->until_ms;
}

static struct retry_vain *vain_place(struct hub *hub, pid_t pid, uint64_t parent, const char *name,
                                     uint64_t *hash_out)
{
    *hash_out = XXH3_64bits_withSeed(name, strlen(name), parent ^ (uint64_t)pid << 40);
    return &hub->retries.vain[*hash_out % RETRY_VAIN_MAX];
}

void retry_waited(struct hub *hub, pid_t pid, uint64_t parent, const char *name, int code)
{
    uint64_t hash;
    struct retry_vain *v = vain_place(hub, pid, parent, name, &hash);

    *v = (struct retry_vain){.hash = hash, .until_ms = clock_boot_ms() + VAIN_MS, .code = code};
}

int retry_waited_code(struct hub *hub, pid_t pid, uint64_t parent, const char *name)
{
    uint64_t hash;
    struct retry_vain *v = vain_place(hub, pid, parent, name, &hash);
    int code = v->hash == hash && clock_boot_ms() < v->until_ms ? v->code : 0;

    if (code != 0)
        v->code = 0;
    return code;
}

void retry_tick(struct hub *hub, uint64_t now_ms)
{
    struct retry *r, *next;

    HASH_ITER(hh, hub->retries.by_thread, r, next)
    {
        if (now_ms >= r->until_ms)
            drop(hub, r);
    }
}

void retry_deinit(struct hub *hub)
{
    struct retry *r, *next;

    HASH_ITER(hh, hub->retries.by_thread, r, next)
    {
        HASH_DEL(hub->retries.by_thread, r);
        free(r);
    }
}
