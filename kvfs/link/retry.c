#include "kvfs/link/retry.h"

#include "kvfs/link/core.h"
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

static void let_go(struct core *core, size_t at)
{
    if (core->retries.slots[at].held != 0 && core->retries.slots[at].connection == core->link.connections)
        link_close_inode(core, core->retries.slots[at].held);
    core->retries.slots[at].held = 0;
}

void retry_note(struct core *core, pid_t pid, uint64_t refused)
{
    size_t at = slot_of(pid);

    let_go(core, at);
    core->retries.slots[at].pid = known(pid);
    core->retries.slots[at].refused = refused;
    core->retries.slots[at].until_ms = clock_boot_ms() + WALK_MS;
}

bool retry_is(struct core *core, pid_t pid)
{
    size_t at = slot_of(pid);

    return core->retries.slots[at].pid == known(pid) && clock_boot_ms() < core->retries.slots[at].until_ms;
}

bool retry_holds(struct core *core, pid_t pid, uint64_t ino)
{
    size_t at = slot_of(pid);

    return retry_is(core, pid) && core->retries.slots[at].held == ino &&
           core->retries.slots[at].connection == core->link.connections;
}

bool retry_is_second(struct core *core, pid_t pid, uint64_t ino)
{
    return retry_holds(core, pid, ino) ||
           (retry_is(core, pid) && core->retries.slots[slot_of(pid)].refused == ino);
}

void retry_hold(struct core *core, pid_t pid, uint64_t ino)
{
    size_t at = slot_of(pid);

    if (core->retries.slots[at].pid != known(pid)) {
        link_close_inode(core, ino);
        return;
    }
    let_go(core, at);
    core->retries.slots[at].held = ino;
    core->retries.slots[at].connection = core->link.connections;
}

void retry_end(struct core *core, pid_t pid)
{
    size_t at = slot_of(pid);

    if (core->retries.slots[at].pid != known(pid))
        return;
    let_go(core, at);
    core->retries.slots[at].pid = 0;
}

void retry_tick(struct core *core, uint64_t now_ms)
{
    size_t at;

    for (at = 0; at < RETRY_SLOTS; at++) {
        if (core->retries.slots[at].pid != 0 && now_ms >= core->retries.slots[at].until_ms) {
            let_go(core, at);
            core->retries.slots[at].pid = 0;
        }
    }
}
