/* A disk that can lose its power: a FUSE file system in memory (lib/image.h says
 * what a power cut forgets) that also fails, lies, fills up and is slow, as told.
 *
 *   disk_layer MOUNTPOINT SEED
 *
 * Orders come as lines on standard input, each answered by a line ("ok …" or
 * "error …"). At the end of input it unmounts and ends.
 *
 *   fsync-errors N [PART]  the next N fsyncs (-1: all) fail with EIO; what they were to
 *                          write is never written (as Linux does it)
 *   fsync-full N [PART]    the same with ENOSPC
 *   write-errors N [PART]  the next N writes and changes of length fail with EIO
 *   space BYTES            from now on this much more fits, then ENOSPC; -1: no limit
 *   delay MS [PART]        every fsync takes that much longer
 *   lie 0|1                fsync says yes and does nothing
 *   stop                   the power goes now: what programs still do leaves no trace
 *   drop | tear            forgets, and is as new; tear: a torn power cut. Programs
 *                          must have ended.
 *   settle                 all that was written is kept
 *   syncs                  number of fsyncs so far
 *
 * PART: only files whose name contains it. Attributes and names are not cached by
 * the kernel, and opening drops a file's pages, so nothing outlives a power cut. */
#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "tests/disk/lib/image.h"

#define SIZE_MAX_BYTES (UINT64_C(1) << 30)
#define STOPPED_MS 100 /* an fsync without power is not answered at once, only in the end */

struct fault {
    long left; /* -1: for ever */
    char part[64];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over all that follows */
static struct image *image;
static struct fault fsync_errors, fsync_full, write_errors, delay; /* delay.left: milliseconds */
static uint64_t space;
static bool lying, stopped;
static uint64_t syncs;

/* ---- faults, with the lock held ---- */

static bool concerns(const struct fault *f, const struct image_inode *in)
{
    return f->left != 0 && strstr(in->name, f->part) != NULL;
}

static bool fails(struct fault *f, const struct image_inode *in)
{
    if (!concerns(f, in))
        return false;
    if (f->left > 0)
        f->left--;
    return true;
}

static bool fits(uint64_t more)
{
    return space == UINT64_MAX || image_used(image) + more <= space;
}

static void sleep_ms(long ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&t, NULL);
}

/* ---- inodes and the kernel's numbers ---- */

static struct image_inode *inode_of(fuse_ino_t ino)
{
    return ino == FUSE_ROOT_ID ? image_root(image) : (struct image_inode *)(uintptr_t)ino;
}

static fuse_ino_t number_of(const struct image_inode *in)
{
    return in == image_root(image) ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)in;
}

static void fill(const struct image_inode *in, struct stat *st)
{
    *st = (struct stat){.st_ino = in->number,
                        .st_mode = in->mode,
                        .st_nlink = S_ISDIR(in->mode) ? 2 : 1,
                        .st_uid = in->uid,
                        .st_gid = in->gid,
                        .st_size = (off_t)(in->target != NULL ? strlen(in->target) : in->now.len),
                        .st_blksize = 4096,
                        .st_blocks = (blkcnt_t)((in->now.len + 511) / 512),
                        .st_mtim = in->mtime,
                        .st_atim = in->mtime,
                        .st_ctim = in->ctime};
}

/* The kernel gets a reference with every entry. */
static void reply_entry(fuse_req_t req, struct image_inode *in, struct fuse_file_info *fi)
{
    struct fuse_entry_param e = {.ino = number_of(in), .generation = 1};

    fill(in, &e.attr);
    image_ref(in, 1);
    if (fi != NULL)
        fuse_reply_create(req, &e, fi);
    else
        fuse_reply_entry(req, &e);
}

static void forget_one(fuse_ino_t ino, uint64_t n)
{
    if (ino != FUSE_ROOT_ID)
        image_unref(inode_of(ino), n);
}

static void on_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
    pthread_mutex_lock(&lock);
    forget_one(ino, n);
    pthread_mutex_unlock(&lock);
    fuse_reply_none(req);
}

static void on_forget_multi(fuse_req_t req, size_t n, struct fuse_forget_data *forgets)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < n; i++)
        forget_one(forgets[i].ino, forgets[i].nlookup);
    pthread_mutex_unlock(&lock);
    fuse_reply_none(req);
}

/* ---- names ---- */

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct image_inode *in;

    pthread_mutex_lock(&lock);
    in = image_find(inode_of(parent), name);
    if (in != NULL)
        reply_entry(req, in, NULL);
    else
        fuse_reply_err(req, ENOENT);
    pthread_mutex_unlock(&lock);
}

static struct image_naming naming(fuse_ino_t parent, const char *name, struct image_inode *in)
{
    struct image_naming n = {.dir = inode_of(parent), .inode = in};

    snprintf(n.name, sizeof n.name, "%s", name);
    return n;
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, const char *target,
                 struct fuse_file_info *fi)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);

    pthread_mutex_lock(&lock);
    if (strlen(name) > IMAGE_NAME_MAX) {
        fuse_reply_err(req, ENAMETOOLONG);
    } else if (image_find(inode_of(parent), name) != NULL) {
        fuse_reply_err(req, EEXIST);
    } else {
        struct image_inode *in = image_inode_new(image, mode, ctx->uid, ctx->gid);
        struct image_naming n = naming(parent, name, in);

        in->target = target != NULL ? strdup(target) : NULL;
        image_name(image, &n, 1);
        reply_entry(req, in, fi);
        image_unref(in, 1);
    }
    pthread_mutex_unlock(&lock);
}

static void on_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev)
{
    (void)dev;
    make(req, parent, name, mode, NULL, NULL);
}

static void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    make(req, parent, name, S_IFDIR | mode, NULL, NULL);
}

static void on_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    make(req, parent, name, S_IFLNK | 0777, target, NULL);
}

static void on_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi)
{
    make(req, parent, name, mode, NULL, fi);
}

static void take_away(fuse_req_t req, fuse_ino_t parent, const char *name, bool directory)
{
    struct image_inode *in;

    pthread_mutex_lock(&lock);
    in = image_find(inode_of(parent), name);
    if (in == NULL) {
        fuse_reply_err(req, ENOENT);
    } else if (directory && in->now_entries.n > 0) {
        fuse_reply_err(req, ENOTEMPTY);
    } else {
        struct image_naming n = naming(parent, name, NULL);

        image_name(image, &n, 1);
        fuse_reply_err(req, 0);
    }
    pthread_mutex_unlock(&lock);
}

static void on_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    take_away(req, parent, name, false);
}

static void on_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    take_away(req, parent, name, true);
}

static void on_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                      const char *new_name, unsigned flags)
{
    struct image_inode *in, *there;

    pthread_mutex_lock(&lock);
    in = image_find(inode_of(parent), name);
    there = image_find(inode_of(new_parent), new_name);
    if (in == NULL) {
        fuse_reply_err(req, ENOENT);
    } else if ((flags & ~(unsigned)RENAME_NOREPLACE) != 0) {
        fuse_reply_err(req, EINVAL);
    } else if (there != NULL && (flags & RENAME_NOREPLACE) != 0) {
        fuse_reply_err(req, EEXIST);
    } else if (there != NULL && there->now_entries.n > 0) {
        fuse_reply_err(req, ENOTEMPTY);
    } else if (in != there) {
        struct image_naming n[2] = {naming(parent, name, NULL), naming(new_parent, new_name, in)};

        image_name(image, n, 2);
        fuse_reply_err(req, 0);
    } else {
        fuse_reply_err(req, 0);
    }
    pthread_mutex_unlock(&lock);
}

static void on_readlink(fuse_req_t req, fuse_ino_t ino)
{
    pthread_mutex_lock(&lock);
    fuse_reply_readlink(req, inode_of(ino)->target != NULL ? inode_of(ino)->target : "");
    pthread_mutex_unlock(&lock);
}

static void on_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at, struct fuse_file_info *fi)
{
    char *buffer = malloc(size);
    size_t used = 0;
    (void)fi;

    pthread_mutex_lock(&lock);
    for (size_t i = (size_t)at; buffer != NULL && i < inode_of(ino)->now_entries.n + 2; i++) {
        const struct image_entry *e = i < 2 ? NULL : &inode_of(ino)->now_entries.list[i - 2];
        struct stat st;
        size_t need;

        fill(e != NULL ? e->inode : inode_of(ino), &st);
        need = fuse_add_direntry(req, buffer + used, size - used,
                                 e != NULL ? e->name
                                 : i == 0  ? "."
                                           : "..",
                                 &st, (off_t)i + 1);
        if (need > size - used)
            break;
        used += need;
    }
    pthread_mutex_unlock(&lock);
    if (buffer != NULL)
        fuse_reply_buf(req, buffer, used);
    else
        fuse_reply_err(req, ENOMEM);
    free(buffer);
}

/* ---- attributes and content ---- */

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat st;
    (void)fi;

    pthread_mutex_lock(&lock);
    fill(inode_of(ino), &st);
    pthread_mutex_unlock(&lock);
    fuse_reply_attr(req, &st, 0);
}

/* With the lock held: 0 or an errno. */
static int resize(struct image_inode *in, uint64_t len)
{
    if (len > SIZE_MAX_BYTES)
        return EFBIG;
    if (fails(&write_errors, in))
        return EIO;
    if (len > in->now.len && !fits(len - in->now.len))
        return ENOSPC;
    image_resize(in, len);
    return 0;
}

static void on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                       struct fuse_file_info *fi)
{
    struct image_inode *in;
    struct stat st;
    int error = 0;
    (void)fi;

    pthread_mutex_lock(&lock);
    in = inode_of(ino);
    if ((to_set & FUSE_SET_ATTR_SIZE) != 0)
        error = resize(in, (uint64_t)attr->st_size);
    if (error == 0) {
        if ((to_set & FUSE_SET_ATTR_MODE) != 0)
            in->mode = attr->st_mode;
        if ((to_set & FUSE_SET_ATTR_UID) != 0)
            in->uid = attr->st_uid;
        if ((to_set & FUSE_SET_ATTR_GID) != 0)
            in->gid = attr->st_gid;
        if ((to_set & FUSE_SET_ATTR_MTIME) != 0)
            in->mtime = attr->st_mtim;
        if ((to_set & FUSE_SET_ATTR_MTIME_NOW) != 0)
            clock_gettime(CLOCK_REALTIME, &in->mtime);
        clock_gettime(CLOCK_REALTIME, &in->ctime);
    }
    fill(in, &st);
    pthread_mutex_unlock(&lock);
    if (error == 0)
        fuse_reply_attr(req, &st, 0);
    else
        fuse_reply_err(req, error);
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    int error = 0;

    pthread_mutex_lock(&lock);
    if ((fi->flags & O_TRUNC) != 0 && inode_of(ino)->now.len > 0)
        error = resize(inode_of(ino), 0);
    pthread_mutex_unlock(&lock);
    if (error == 0)
        fuse_reply_open(req, fi); /* not keep_cache: the pages may be of another life */
    else
        fuse_reply_err(req, error);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at, struct fuse_file_info *fi)
{
    const struct image_inode *in;
    size_t n;
    (void)fi;

    pthread_mutex_lock(&lock);
    in = inode_of(ino);
    n = (uint64_t)at >= in->now.len ? 0 : in->now.len - (size_t)at;
    fuse_reply_buf(req, n > 0 ? (const char *)in->now.data + at : NULL, n < size ? n : size);
    pthread_mutex_unlock(&lock);
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t at,
                     struct fuse_file_info *fi)
{
    struct image_inode *in;
    uint64_t end = (uint64_t)at + size;
    int error = 0;
    (void)fi;

    pthread_mutex_lock(&lock);
    in = inode_of(ino);
    if (end > SIZE_MAX_BYTES)
        error = EFBIG;
    else if (fails(&write_errors, in))
        error = EIO;
    else if (end > in->now.len && !fits(end - in->now.len))
        error = ENOSPC;
    else
        image_write(in, (uint64_t)at, data, size);
    pthread_mutex_unlock(&lock);
    if (error == 0)
        fuse_reply_write(req, size);
    else
        fuse_reply_err(req, error);
}

static void on_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t at, off_t len,
                         struct fuse_file_info *fi)
{
    struct image_inode *in;
    int error = 0;
    (void)fi;

    if ((mode & ~FALLOC_FL_KEEP_SIZE) != 0) {
        fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    pthread_mutex_lock(&lock);
    in = inode_of(ino);
    if (mode == 0 && (uint64_t)(at + len) > in->now.len)
        error = resize(in, (uint64_t)(at + len));
    pthread_mutex_unlock(&lock);
    fuse_reply_err(req, error);
}

static void on_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct statvfs st = {.f_bsize = 4096,
                         .f_frsize = 4096,
                         .f_namemax = IMAGE_NAME_MAX,
                         .f_files = 100000,
                         .f_ffree = 100000,
                         .f_favail = 100000};
    (void)ino;

    pthread_mutex_lock(&lock);
    st.f_blocks = SIZE_MAX_BYTES / 4096;
    st.f_bfree = image_used(image) < space ? (space - image_used(image)) / 4096 : 0;
    if (st.f_bfree > st.f_blocks)
        st.f_bfree = st.f_blocks;
    st.f_bavail = st.f_bfree;
    pthread_mutex_unlock(&lock);
    fuse_reply_statfs(req, &st);
}

static void on_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    struct image_inode *in;
    int error = 0;
    long ms;
    (void)datasync;
    (void)fi;

    pthread_mutex_lock(&lock);
    in = inode_of(ino);
    ms = concerns(&delay, in) ? delay.left : 0;
    if (ms > 0) {
        pthread_mutex_unlock(&lock);
        sleep_ms(ms);
        pthread_mutex_lock(&lock);
    }
    syncs++;
    if (stopped) {
        pthread_mutex_unlock(&lock);
        sleep_ms(STOPPED_MS);
        fuse_reply_err(req, EIO);
        return;
    }
    if (fails(&fsync_errors, in))
        error = EIO;
    else if (fails(&fsync_full, in))
        error = ENOSPC;
    if (error != 0)
        image_sync_fails(in);
    else if (!lying)
        image_sync(in);
    pthread_mutex_unlock(&lock);
    fuse_reply_err(req, error);
}

static const struct fuse_lowlevel_ops operations = {
    .lookup = on_lookup,
    .forget = on_forget,
    .forget_multi = on_forget_multi,
    .getattr = on_getattr,
    .setattr = on_setattr,
    .readlink = on_readlink,
    .mknod = on_mknod,
    .mkdir = on_mkdir,
    .unlink = on_unlink,
    .rmdir = on_rmdir,
    .symlink = on_symlink,
    .rename = on_rename,
    .open = on_open,
    .read = on_read,
    .write = on_write,
    .fsync = on_fsync,
    .readdir = on_readdir,
    .fsyncdir = on_fsync,
    .statfs = on_statfs,
    .create = on_create,
    .fallocate = on_fallocate,
};

/* ---- orders ---- */

static void set_fault(struct fault *f, long n, const char *part)
{
    f->left = n;
    snprintf(f->part, sizeof f->part, "%s", part);
}

/* With the lock held; writes the answer. */
static void obey(const char *line, char *answer, size_t size)
{
    char word[32] = "", part[64] = "";
    uint64_t forgotten = 0, kept = 0;
    long n = 0;

    (void)sscanf(line, "%31s %ld %63s", word, &n, part);
    snprintf(answer, size, "ok");
    if (strcmp(word, "fsync-errors") == 0) {
        set_fault(&fsync_errors, n, part);
    } else if (strcmp(word, "fsync-full") == 0) {
        set_fault(&fsync_full, n, part);
    } else if (strcmp(word, "write-errors") == 0) {
        set_fault(&write_errors, n, part);
    } else if (strcmp(word, "delay") == 0) {
        set_fault(&delay, n, part);
    } else if (strcmp(word, "space") == 0) {
        space = n < 0 ? UINT64_MAX : image_used(image) + (uint64_t)n;
    } else if (strcmp(word, "lie") == 0) {
        lying = n != 0;
    } else if (strcmp(word, "stop") == 0) {
        stopped = true;
    } else if (strcmp(word, "drop") == 0 || strcmp(word, "tear") == 0) {
        image_cut(image, word[0] == 't', &forgotten, &kept);
        stopped = false;
        snprintf(answer, size, "ok %llu %llu", (unsigned long long)forgotten, (unsigned long long)kept);
    } else if (strcmp(word, "settle") == 0) {
        image_sync_all(image);
    } else if (strcmp(word, "syncs") == 0) {
        snprintf(answer, size, "ok %llu", (unsigned long long)syncs);
    } else {
        snprintf(answer, size, "error: no such order: %.32s", word);
    }
}

/* A thread that listens; at the end of input the process ends, and with it, as
 * the kernel closes its descriptor, every request under way. */
static void *listen_to_orders(void *mountpoint)
{
    char line[256], answer[128];

    while (fgets(line, sizeof line, stdin) != NULL) {
        pthread_mutex_lock(&lock);
        obey(line, answer, sizeof answer);
        pthread_mutex_unlock(&lock);
        printf("%s\n", answer);
        fflush(stdout);
    }
    umount2(mountpoint, MNT_DETACH);
    _exit(0);
}

int main(int argc, char **argv)
{
    char *options[] = {argv[0], (char *)"-o", (char *)"fsname=disk_layer,default_permissions,allow_other"};
    struct fuse_args args = FUSE_ARGS_INIT(3, options);
    struct fuse_loop_config *config;
    struct fuse_session *session;
    pthread_t thread;

    if (argc != 3)
        return 2;
    signal(SIGPIPE, SIG_IGN);
    space = UINT64_MAX;
    image = image_new(strtoull(argv[2], NULL, 10));
    image_root(image)->uid = getuid();
    image_root(image)->gid = getgid();
    session = fuse_session_new(&args, &operations, sizeof operations, NULL);
    if (session == NULL || fuse_session_mount(session, argv[1]) != 0)
        return 1;
    if (pthread_create(&thread, NULL, listen_to_orders, argv[1]) != 0) {
        fuse_session_unmount(session);
        return 1;
    }
    config = fuse_loop_cfg_create();
    fuse_loop_cfg_set_max_threads(config, 16);
    fuse_session_loop_mt(session, config);
    _exit(0); /* the mount was taken away */
}
