#include "sync/raft/log/log_floor.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "sync/base/digest.h"

#define SLOT_WORDS 4
#define SLOT_BYTES (SLOT_WORDS * sizeof(uint64_t))

int log_floor_open(const char *path, struct log_floor *out)
{
    out->life = 0;
    out->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return out->fd < 0 ? -errno : 0;
}

void log_floor_close(struct log_floor *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

static uint64_t check(uint16_t group, const uint64_t slot[SLOT_WORDS])
{
    uint64_t words[4] = {group, slot[0], slot[1], slot[3]};

    return digest64(1, words, sizeof words);
}

/* 1: there is one. 0: none, or it is torn. */
static int read_slot(const struct log_floor *f, uint16_t group, uint64_t slot[SLOT_WORDS])
{
    ssize_t n = pread(f->fd, slot, SLOT_BYTES, (off_t)(group * SLOT_BYTES));

    if (n < 0)
        return -errno;
    return n == (ssize_t)SLOT_BYTES && slot[0] != 0 && slot[2] == check(group, slot);
}

int log_floor_get(const struct log_floor *f, uint16_t group, uint64_t *index_out, uint64_t *sum_out)
{
    uint64_t slot[SLOT_WORDS];
    int rv = read_slot(f, group, slot);

    *index_out = rv > 0 ? slot[0] : 0;
    *sum_out = rv > 0 ? slot[1] : 0;
    return rv < 0 ? rv : 0;
}

int log_floor_set(const struct log_floor *f, uint16_t group, uint64_t index, uint64_t sum, bool durable)
{
    uint64_t slot[SLOT_WORDS] = {index, sum, 0, f->life};
    ssize_t n;

    slot[2] = check(group, slot);
    n = pwrite(f->fd, slot, sizeof slot, (off_t)(group * SLOT_BYTES));
    if (n != (ssize_t)sizeof slot)
        return n < 0 ? -errno : -EIO;
    if (durable && fdatasync(f->fd) != 0)
        return -errno;
    return 0;
}

/* foreign: only such as are of another life. */
static bool any(const struct log_floor *f, bool foreign)
{
    off_t size = lseek(f->fd, 0, SEEK_END);
    uint64_t slot[SLOT_WORDS];

    for (off_t at = 0; at < size && at / (off_t)SLOT_BYTES <= UINT16_MAX; at += (off_t)SLOT_BYTES)
        if (read_slot(f, (uint16_t)(at / (off_t)SLOT_BYTES), slot) > 0 && (!foreign || slot[3] != f->life))
            return true;
    return false;
}

bool log_floor_any(const struct log_floor *f)
{
    return any(f, false);
}

bool log_floor_is_foreign(const struct log_floor *f)
{
    return any(f, true);
}
