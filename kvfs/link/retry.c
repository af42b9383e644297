#include "kvfs/link/retry.h"

#include "kvfs/link/hub.h"
#include "sync/base/clock.h"

#define WALK_MS 1000

/* Callers in a pid namespace that this one does not see have the number 0; they share one
 * slot. What that may cost is an open that sees a name as it was a moment before. */
static pid_t known(pid_t pid)
{
    return pid == 0 ? -1 : pid;
}

static size_t slot_of(pid_t pid)
{
    return (size_t)known(pid) % RETRY_SLOTS;
}

static void let_go(struct hub *hub, size_t at)
{
    if (hub->retries.slots[at].held != 0 && hub->retries.slots[at].connection == hub->uplink.connections)
        uplink_close_inode(hub, hub->retries.slots[at].held);
    hub->retries.slots[at].held = 0;
}

void retry_note(struct hub *hub, pid_t pid, uint64_t refused)
{
    size_t at = slot_of(pid);

    let_go(hub, at);
    hub->retries.slots[at].pid = known(pid);
    hub->retries.slots[at].refused = refused;
    hub->retries.slots[at].until_ms = clock_boot_ms() + WALK_MS;
}

bool retry_is(struct hub *hub, pid_t pid)
{
    size_t at = slot_of(pid);

    return hub->retries.slots[at].pid == known(pid) && clock_boot_ms() < hub->retries.slots[at].until_ms;
}

bool retry_holds(struct hub *hub, pid_t pid, uint64_t ino)
{
    size_t at = slot_of(pid);

    return retry_is(hub, pid) && hub->retries.slots[at].held == ino &&
           hub->retries.slots[at].connection == hub->uplink.connections;
}

bool retry_is_second(struct hub *hub, pid_t pid, uint64_t ino)
{
    return retry_holds(hub, pid, ino) ||
           (retry_is(hub, pid) && hub->retries.slots[slot_of(pid)].refused == ino);
}

void retry_hold(struct hub *hub, pid_t pid, uint64_t ino)
{
    size_t at = slot_of(pid);

    if (hub->retries.slots[at].pid != known(pid)) {
        uplink_close_inode(hub, ino);
        return;
    }
    let_go(hub, at);
    hub->retries.slots[at].held = ino;
    hub->retries.slots[at].connection = hub->uplink.connections;
}

void retry_end(struct hub *hub, pid_t pid)
{
    size_t at = slot_of(pid);

    if (hub->retries.slots[at].pid != known(pid))
        return;
    let_go(hub, at);
    hub->retries.slots[at].pid = 0;
}

void retry_tick(struct hub *hub, uint64_t now_ms)
{
    size_t at;

    for (at = 0; at < RETRY_SLOTS; at++) {
        if (hub->retries.slots[at].pid != 0 && now_ms >= hub->retries.slots[at].until_ms) {
            let_go(hub, at);
            hub->retries.slots[at].pid = 0;
        }
    }
}
