#include "kvfs/ops/fs.h"

#include <stdlib.h>
#include <string.h>

#include "kvfs/file/publish.h"
#include "kvfs/ops/event.h"
#include "sync/base/clock.h"
#include "sync/base/log.h"

#define SECOND_NS INT64_C(1000000000)
#define STAGE_LIMIT ((size_t)64 * 1024 * 1024)
#define BLOCK_SIZE 65536 /* what programs should read and write at once: a chunk of the store */

static void on_connected(struct fs *fs)
{
    file_reopen_all(fs);
    open_directory_reopen_all(fs);
}

static void on_dropped(struct fs *fs)
{
    reserve_lost(fs);
    /* Nobody tells this mount of changes now: the kernel has to ask again. */
    notifier_drop_all(fs);
}

static void on_tick(struct fs *fs, uint64_t now_ms)
{
    publish_tick(fs, now_ms);
    reserve_tick(fs, now_ms);
    retry_tick(fs, now_ms);
    file_keep_tick(fs, now_ms);
}

static const struct link_owner link_owner = {
    .on_event = event_handle,
    .on_gap = notifier_drop_all,
    .on_connected = on_connected,
    .on_dropped = on_dropped,
    .on_tick = on_tick,
};

int fs_init(struct fs *fs, const struct options *options)
{
    const char *directory = getenv("TMPDIR");
    pthread_condattr_t attr;

    memset(fs, 0, sizeof *fs);
    fs->options = options;
    fs->root_ino = KV_ROOT_INO;
    fs->memory.limit = STAGE_LIMIT;
    fs->memory.directory = directory != NULL && directory[0] == '/' ? directory : "/var/tmp";
    TAILQ_INIT(&fs->requests);
    TAILQ_INIT(&fs->files);
    TAILQ_INIT(&fs->directories);
    TAILQ_INIT(&fs->kept.list);
    pthread_mutex_init(&fs->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&fs->ready_cond, &attr);
    pthread_condattr_destroy(&attr);
    fs->inodes.owner = &file_inode_owner;
    notifier_init(fs);
    reserve_init(&fs->reserve);
    fs->link.owner = &link_owner;
    return link_init(fs);
}

void fs_deinit(struct fs *fs)
{
    while (!TAILQ_EMPTY(&fs->requests)) {
        struct request *r = TAILQ_FIRST(&fs->requests);

        /* The session is over: nobody can be answered. */
        free(r->extra);
        request_end(fs, r);
    }
    open_directory_free_all(fs);
    inode_free_all(fs);
    virtual_free_all(fs);
    link_deinit(fs);
    pthread_cond_destroy(&fs->ready_cond);
    pthread_mutex_destroy(&fs->lock);
}

struct fs *fs_enter(fuse_req_t req)
{
    struct fs *fs = fuse_req_userdata(req);

    pthread_mutex_lock(&fs->lock);
    return fs;
}

void fs_leave(struct fs *fs)
{
    pthread_mutex_unlock(&fs->lock);
}

static mode_t type_bits(uint8_t type)
{
    switch (type) {
    case INODE_DIRECTORY:
        return S_IFDIR;
    case INODE_SYMLINK:
        return S_IFLNK;
    default:
        return S_IFREG;
    }
}

struct timespec fs_timespec(int64_t ns)
{
    struct timespec t = {.tv_sec = ns / SECOND_NS, .tv_nsec = ns % SECOND_NS};

    if (t.tv_nsec < 0) {
        t.tv_sec--;
        t.tv_nsec += SECOND_NS;
    }
    return t;
}

int64_t fs_now_ns(struct fs *fs)
{
    return stamp_next(&fs->stamp, clock_boot_ns(), clock_wall_ns());
}

int64_t fs_time_ns(struct timespec t)
{
    static const int64_t last = INT64_MAX / SECOND_NS - 1;

    if (t.tv_sec > last || t.tv_sec < -last)
        return (t.tv_sec > 0 ? last : -last) * SECOND_NS;
    return t.tv_sec * SECOND_NS + t.tv_nsec;
}

void fs_stat(const struct fs *fs, const struct attr *attr, struct stat *st_out)
{
    const struct options *o = fs->options;

    *st_out = (struct stat){0};
    st_out->st_ino = attr->ino;
    st_out->st_mode = type_bits(attr->type) | ((mode_t)attr->mode & 07777 & ~o->umask);
    st_out->st_nlink = attr->nlink;
    st_out->st_uid = o->has_uid ? o->uid : attr->uid;
    st_out->st_gid = o->has_gid ? o->gid : attr->gid;
    /* A directory's size is the number of its entries; du(1) expects blocks. */
    st_out->st_size = (off_t)attr->size;
    st_out->st_blksize = BLOCK_SIZE;
    st_out->st_blocks = attr->type == INODE_FILE ? (blkcnt_t)((attr->size + 511) / 512) : 0;
    st_out->st_mtim = fs_timespec(attr->mtime_ns);
    st_out->st_ctim = fs_timespec(attr->ctime_ns);
    st_out->st_atim = fs_timespec(attr->atime_ns);
}
