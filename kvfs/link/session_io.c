#include "kvfs/link/session_io.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kvfs/link/call_kind.h" /* for libfuse */

#define BODY_MAX 256 /* of an answer to INIT: 64 bytes so far */

_Static_assert(offsetof(struct fuse_init_out, flags) == 12 && sizeof(struct fuse_out_header) == 16,
               "the kernel's layout");

void session_io_request(struct session_init *init, const void *message, size_t len)
{
    struct fuse_in_header in;
    uint32_t words[4]; /* major, minor, max_readahead, flags */

    if (len < sizeof in + sizeof words)
        return;
    memcpy(&in, message, sizeof in);
    if (in.opcode != FUSE_INIT || in.unique == 0)
        return;
    memcpy(words, (const char *)message + sizeof in, sizeof words);
    init->unique = words[0] == FUSE_KERNEL_VERSION && (words[3] & FUSE_PARALLEL_DIROPS) != 0 ? in.unique : 0;
}

bool session_io_answer(struct session_init *init, const struct iovec *parts, int n, void *body_out,
                       size_t size)
{
    struct fuse_out_header out;
    uint32_t flags;

    if (init->unique == 0 || n < 1 || parts[0].iov_len != sizeof out)
        return false;
    memcpy(&out, parts[0].iov_base, sizeof out);
    if (out.unique != init->unique)
        return false;
    init->unique = 0;
    if (out.error != 0 || n != 2 || parts[1].iov_len > size ||
        parts[1].iov_len < offsetof(struct fuse_init_out, flags) + sizeof flags)
        return false;
    memcpy(body_out, parts[1].iov_base, parts[1].iov_len);
    memcpy(&flags, (char *)body_out + offsetof(struct fuse_init_out, flags), sizeof flags);
    flags |= FUSE_PARALLEL_DIROPS;
    memcpy((char *)body_out + offsetof(struct fuse_init_out, flags), &flags, sizeof flags);
    return true;
}

/* libfuse hands its own userdata to these. INIT is read and answered by one thread, before the kernel sends
 * anything else: nobody else looks at this while it may change. */
static struct session_init noted;
static atomic_bool answered;

static ssize_t read_request(int fd, void *to, size_t len, void *userdata)
{
    ssize_t n = read(fd, to, len);

    (void)userdata;
    if (n > 0 && !atomic_load_explicit(&answered, memory_order_relaxed))
        session_io_request(&noted, to, (size_t)n);
    return n;
}

static ssize_t write_answer(int fd, struct iovec *parts, int n, void *userdata)
{
    char body[BODY_MAX];
    struct iovec changed[2];

    (void)userdata;
    if (atomic_load_explicit(&answered, memory_order_relaxed) || noted.unique == 0)
        return writev(fd, parts, n);
    if (!session_io_answer(&noted, parts, n, body, sizeof body))
        return writev(fd, parts, n);
    atomic_store_explicit(&answered, true, memory_order_relaxed);
    changed[0] = parts[0];
    changed[1] = (struct iovec){.iov_base = body, .iov_len = parts[1].iov_len};
    return writev(fd, changed, 2);
}

int session_io_start(struct fuse_session *session)
{
    static const struct fuse_custom_io io = {.read = read_request, .writev = write_answer};

    return fuse_session_custom_io(session, &io, fuse_session_fd(session));
}
