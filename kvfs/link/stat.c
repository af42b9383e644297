#include "kvfs/link/stat.h"

#define SECOND_NS INT64_C(1000000000)
#define BLOCK_SIZE 65536 /* what programs should read and write at once: a chunk of the store */

mode_t stat_type(uint8_t type)
{
    switch (type) {
    case INODE_DIRECTORY:
        return S_IFDIR;
    case INODE_SYMLINK:
        return S_IFLNK;
    case INODE_FIFO:
        return S_IFIFO;
    case INODE_SOCKET:
        return S_IFSOCK;
    default:
        return S_IFREG;
    }
}

struct timespec stat_timespec(int64_t ns)
{
    struct timespec t = {.tv_sec = ns / SECOND_NS, .tv_nsec = ns % SECOND_NS};

    if (t.tv_nsec < 0) {
        t.tv_sec--;
        t.tv_nsec += SECOND_NS;
    }
    return t;
}

int64_t stat_time_ns(struct timespec t)
{
    static const int64_t last = INT64_MAX / SECOND_NS - 1;

    if (t.tv_sec > last || t.tv_sec < -last)
        return (t.tv_sec > 0 ? last : -last) * SECOND_NS;
    return t.tv_sec * SECOND_NS + t.tv_nsec;
}

bool stat_is_protected(const struct stat *directory, const struct stat *file, uint32_t uid,
                       unsigned protection)
{
    if (protection == 0 || (directory->st_mode & S_ISVTX) == 0 || file->st_uid == directory->st_uid ||
        file->st_uid == uid)
        return false;
    return (directory->st_mode & S_IWOTH) != 0 || ((directory->st_mode & S_IWGRP) != 0 && protection >= 2);
}

void stat_of(const struct options *o, const struct attr *attr, struct stat *st_out)
{
    *st_out = (struct stat){0};
    st_out->st_ino = attr->ino;
    st_out->st_mode = stat_type(attr->type) | ((mode_t)attr->mode & 07777 & ~o->umask);
    st_out->st_nlink = attr->nlink;
    st_out->st_uid = o->has_uid ? o->uid : attr->uid;
    st_out->st_gid = o->has_gid ? o->gid : attr->gid;
    /* A directory's size is the number of its entries; du(1) expects blocks. */
    st_out->st_size = (off_t)attr->size;
    st_out->st_blksize = BLOCK_SIZE;
    st_out->st_blocks = attr->type == INODE_FILE ? (blkcnt_t)((attr->size + 511) / 512) : 0;
    st_out->st_mtim = stat_timespec(attr->mtime_ns);
    st_out->st_ctim = stat_timespec(attr->ctime_ns);
    st_out->st_atim = stat_timespec(attr->atime_ns);
}
