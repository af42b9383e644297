#include "kvfs/ops/operations.h"

#include "sync/base/log.h"

#define MAX_WRITE (1024 * 1024)
#define MAX_BACKGROUND 64

static void on_init(void *userdata, struct fuse_conn_info *conn)
{
    static const unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_READDIRPLUS |
                                   FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_PARALLEL_DIROPS |
                                   FUSE_CAP_CACHE_SYMLINKS;
    struct fs *fs = userdata;

    /* Not wanted: splicing (slower here), the writeback cache (others could not
     * be told of what is only in it), ACLs, killing of set-uid bits by us. */
    conn->want = conn->capable & wanted;
    pthread_mutex_lock(&fs->hub.lock);
    /* What the kernel is told now counts for as long as the mount lives. Reads that need no majority are of
     * mounts that are to work without one. */
    fs->files.locks.in_cluster = fs->hub.uplink.node.level >= 2 && !fs->hub.options->read_local &&
                                 (conn->capable & FUSE_CAP_FLOCK_LOCKS) != 0 &&
                                 (conn->capable & FUSE_CAP_POSIX_LOCKS) != 0;
    fs->files.locks.is_known = true;
    if (fs->files.locks.in_cluster)
        conn->want |= FUSE_CAP_FLOCK_LOCKS | FUSE_CAP_POSIX_LOCKS;
    pthread_mutex_unlock(&fs->hub.lock);
    conn->max_write = MAX_WRITE;
    conn->max_readahead = MAX_WRITE;
    conn->max_background = MAX_BACKGROUND;
    conn->time_gran = 1;
    pthread_mutex_lock(&fs->hub.lock);
    fs->ready = true;
    pthread_cond_broadcast(&fs->ready_cond);
    pthread_mutex_unlock(&fs->hub.lock);
}

const struct fuse_lowlevel_ops operations = {
    .init = on_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .symlink = op_symlink,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .rename = op_rename,
    .link = op_link,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .statfs = op_statfs,
    .setxattr = op_setxattr,
    .removexattr = op_removexattr,
    .getxattr = op_getxattr,
    .listxattr = op_listxattr,
    .open = op_open,
    .create = op_create,
    .read = op_read,
    .write = op_write,
    .flush = op_flush,
    .fsync = op_fsync,
    .release = op_release,
    .fallocate = op_fallocate,
    .copy_file_range = op_copy_file_range,
    .flock = op_flock,
    .setlk = op_setlk,
    .getlk = op_getlk,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .releasedir = op_releasedir,
    .fsyncdir = op_fsyncdir,
};
