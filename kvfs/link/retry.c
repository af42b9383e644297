#include "kvfs/link/retry.h"

#include "kvfs/ops/fs.h"
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

static void let_go(struct fs *fs, size_t at)
{
    if (fs->retries.slots[at].held != 0 && fs->retries.slots[at].connection == fs->link.connections)
        link_close_inode(fs, fs->retries.slots[at].held);
    fs->retries.slots[at].held = 0;
}

void retry_note(struct fs *fs, pid_t pid, uint64_t refused)
{
    size_t at = slot_of(pid);

    let_go(fs, at);
    fs->retries.slots[at].pid = known(pid);
    fs->retries.slots[at].refused = refused;
    fs->retries.slots[at].until_ms = clock_boot_ms() + WALK_MS;
}

bool retry_is(struct fs *fs, pid_t pid)
{
    size_t at = slot_of(pid);

    return fs->retries.slots[at].pid == known(pid) && clock_boot_ms() < fs->retries.slots[at].until_ms;
}

bool retry_holds(struct fs *fs, pid_t pid, uint64_t ino)
{
    size_t at = slot_of(pid);

    return retry_is(fs, pid) && fs->retries.slots[at].held == ino &&
           fs->retries.slots[at].connection == fs->link.connections;
}

bool retry_is_second(struct fs *fs, pid_t pid, uint64_t ino)
{
    return retry_holds(fs, pid, ino) || (retry_is(fs, pid) && fs->retries.slots[slot_of(pid)].refused == ino);
}

void retry_hold(struct fs *fs, pid_t pid, uint64_t ino)
{
    size_t at = slot_of(pid);

    if (fs->retries.slots[at].pid != known(pid)) {
        link_close_inode(fs, ino);
        return;
    }
    let_go(fs, at);
    fs->retries.slots[at].held = ino;
    fs->retries.slots[at].connection = fs->link.connections;
}

void retry_end(struct fs *fs, pid_t pid)
{
    size_t at = slot_of(pid);

    if (fs->retries.slots[at].pid != known(pid))
        return;
    let_go(fs, at);
    fs->retries.slots[at].pid = 0;
}

void retry_tick(struct fs *fs, uint64_t now_ms)
{
    size_t at;

    for (at = 0; at < RETRY_SLOTS; at++) {
        if (fs->retries.slots[at].pid != 0 && now_ms >= fs->retries.slots[at].until_ms) {
            let_go(fs, at);
            fs->retries.slots[at].pid = 0;
        }
    }
}
