/* POSIX mode bits. Only the class that applies to the caller counts: an owner
 * without the bit is refused even if others have it. */
#include "kvnode/store_internal.h"

#include <sys/stat.h>

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

int permission_check(const struct caller *who, const struct inode *in, unsigned mask)
{
    return store_permits(who, in->uid, in->gid, in->mode, mask);
}

int permission_remove(const struct caller *who, const struct inode *dir, const struct inode *victim)
{
    int rv = permission_check(who, dir, 3);

    if (rv != KV_OK || permission_root(who) || (dir->mode & S_ISVTX) == 0)
        return rv;
    return who->uid == victim->uid || who->uid == dir->uid ? KV_OK : KV_E_PERM;
}
