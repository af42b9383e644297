#include "kvfs/link/statx.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "kvfs/link/hub.h"
#include "kvfs/link/stat.h"

/* As in linux/fuse.h since 7.39; the build may have an older one. */
#define OPCODE_STATX 52

struct sx_time {
    int64_t sec;
    uint32_t nsec;
    int32_t spare;
};

struct sx_stat {
    uint32_t mask, blksize;
    uint64_t attributes;
    uint32_t nlink, uid, gid;
    uint16_t mode, spare;
    uint64_t ino, size, blocks, attributes_mask;
    struct sx_time atime, btime, ctime, mtime;
    uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
    uint64_t spares[14];
};

struct sx_out {
    uint64_t attr_valid;
    uint32_t attr_valid_nsec, flags;
    uint64_t spares[2];
    struct sx_stat stat;
};

_Static_assert(sizeof(struct sx_stat) == 256 && sizeof(struct sx_out) == 288, "the kernel's layout");

bool statx_take(struct hub *hub, const void *message, size_t len, statx_start_fn *start)
{
    struct fuse_in_header in;
    struct call *call;

    if (len < sizeof in)
        return false;
    memcpy(&in, message, sizeof in);
    if (in.opcode != OPCODE_STATX)
        return false;
    pthread_mutex_lock(&hub->lock);
    call = call_begin(hub, NULL, CALL_PLAIN);
    if (call == NULL) {
        statx_reply_error(&(struct call){.hub = hub, .statx = in.unique}, ENOMEM);
    } else {
        call->statx = in.unique;
        call->caller = (struct fuse_ctx){.uid = in.uid, .gid = in.gid, .pid = (pid_t)in.pid};
        start(call, in.nodeid);
    }
    pthread_mutex_unlock(&hub->lock);
    return true;
}

/* What the kernel does not take it has stopped waiting for. */
static void send_out(struct hub *hub, uint64_t unique, int err, void *body, size_t len)
{
    struct fuse_out_header out = {.len = (uint32_t)(sizeof out + len), .error = -err, .unique = unique};
    struct iovec parts[] = {{&out, sizeof out}, {body, len}};

    while (writev(fuse_session_fd(hub->session), parts, len > 0 ? 2 : 1) < 0 && errno == EINTR)
        ;
}

static struct sx_time time_of(struct timespec t)
{
    return (struct sx_time){.sec = t.tv_sec, .nsec = (uint32_t)t.tv_nsec};
}

void statx_reply(const struct call *call, const struct attr *attr, double timeout)
{
    struct hub *hub = call->hub;
    struct sx_out out = {.attr_valid = (uint64_t)timeout};
    struct stat st;

    out.attr_valid_nsec = (uint32_t)((timeout - (double)out.attr_valid) * 1e9);
    stat_of(call->hub->options, attr, &st);
    out.stat = (struct sx_stat){
        .mask = STATX_BASIC_STATS | STATX_BTIME,
        .blksize = (uint32_t)st.st_blksize,
        .nlink = (uint32_t)st.st_nlink,
        .uid = st.st_uid,
        .gid = st.st_gid,
        .mode = (uint16_t)st.st_mode,
        .ino = st.st_ino,
        .size = (uint64_t)st.st_size,
        .blocks = (uint64_t)st.st_blocks,
        .atime = time_of(st.st_atim),
        .btime = time_of(stat_timespec(attr->btime_ns)),
        .ctime = time_of(st.st_ctim),
        .mtime = time_of(st.st_mtim),
    };
    send_out(hub, call->statx, 0, &out, sizeof out);
}

void statx_reply_error(const struct call *call, int err)
{
    struct hub *hub = call->hub;

    send_out(hub, call->statx, err, NULL, 0);
}
