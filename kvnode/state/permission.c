/* POSIX mode bits. Only the class that applies to the caller counts: an owner
 * without the bit is refused even if others have it.
 *
 * An inode number is not a secret, so whoever asks by number must be let through by
 * the directories above just as he would be on a path (permission_reach). A walk
 * along a path is held up by a closed directory of one's own; a number is not, for
 * one could open it: so whoever works below such a directory goes on, as he would on
 * a local disk. */
#include "kvnode/state/store_internal.h"

#include <sys/stat.h>

/* Of a file with many names those count that can be looked at in so many steps. */
#define REACH_STEPS_MAX 16384

bool permission_root(const struct caller *who)
{
    return who == NULL || who->trusted || who->uid == 0;
}

bool permission_in_group(const struct caller *who, uint32_t gid)
{
    if (who->gid == gid)
        return true;
    for (uint32_t i = 0; i < who->n_groups; i++)
        if (who->groups[i] == gid)
            return true;
    return false;
}

int store_permits(const struct caller *who, uint32_t uid, uint32_t gid, uint16_t mode, unsigned mask)
{
    unsigned bits = mode;

    if (permission_root(who))
        return KV_OK;
    if (who->uid == uid)
        bits >>= 6;
    else if (permission_in_group(who, gid))
        bits >>= 3;
    return (mask & ~bits & 7) == 0 ? KV_OK : KV_E_ACCES;
}

void access_meet(struct access *a, const struct access *b)
{
    unsigned owner = b->mode >> 6, group = b->mode >> 3, others = b->mode;
    unsigned stranger = others; /* for whom is neither a's owner nor in a's group */
    unsigned member = a->gid == b->gid ? group : group & others;
    unsigned self = a->uid == b->uid ? owner : group & others;

    if (a->gid != b->gid)
        stranger &= group;
    if (a->uid != b->uid) {
        stranger &= owner;
        member &= owner;
    }
    a->mode &= (uint16_t)(07000 | (self & 7) << 6 | (member & 7) << 3 | (stranger & 7));
}

int permission_check(const struct caller *who, const struct inode *in, unsigned mask)
{
    return store_permits(who, in->uid, in->gid, in->mode, mask);
}

/* By this name. */
static int reach(const struct caller *who, const struct dentry *d, unsigned *steps)
{
    unsigned depth = 0;

    for (; d != NULL; d = d->dir->inode->names) {
        const struct inode *dir = d->dir->inode;

        ++*steps;
        if (depth++ == STORE_DEPTH_MAX)
            return KV_E_NAMETOOLONG;
        if (dir == NULL || (dir->uid != who->uid && permission_check(who, dir, 1) != KV_OK))
            return KV_E_ACCES;
    }
    return KV_OK;
}

int permission_reach(const struct caller *who, const struct inode *in, unsigned *steps)
{
    const struct directory *looked_at = NULL;
    const struct dentry *d;
    unsigned ignored = 0, most;
    int rv = KV_OK;

    steps = steps != NULL ? steps : &ignored;
    most = *steps + REACH_STEPS_MAX;
    if (permission_root(who))
        return KV_OK;
    DENTRY_EACH (d, in) {
        if (d->dir == looked_at)
            continue;
        if (looked_at != NULL && *steps >= most)
            break;
        looked_at = d->dir;
        rv = reach(who, d, steps);
        if (rv == KV_OK)
            break;
    }
    return rv;
}

int permission_remove(const struct caller *who, const struct inode *dir, const struct inode *victim)
{
    int rv = permission_check(who, dir, 3);

    if (rv != KV_OK || permission_root(who) || (dir->mode & S_ISVTX) == 0)
        return rv;
    return who->uid == victim->uid || who->uid == dir->uid ? KV_OK : KV_E_PERM;
}
