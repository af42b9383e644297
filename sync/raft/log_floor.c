#include "sync/raft/log_floor.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "sync/base/digest.h"

#define SLOT_WORDS 4
#define SLOT_BYTES (SLOT_WORDS * sizeof(uint64_t))

int log_floor_open(const char *path, struct log_floor *out)
{
    out->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return out->fd < 0 ? -errno : 0;
}

void log_floor_close(struct log_floor *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

static uint64_t check(uint16_t group, uint64_t index, uint64_t sum)
{
    uint64_t words[3] = {group, index, sum};

    return digest64(1, words, sizeof words);
}

int log_floor_get(const struct log_floor *f, uint16_t group, uint64_t *index_out, uint64_t *sum_out)
{
    uint64_t slot[SLOT_WORDS];
    ssize_t n = pread(f->fd, slot, sizeof slot, (off_t)(group * SLOT_BYTES));

    *index_out = *sum_out = 0;
    if (n < 0)
        return -errno;
    if (n == (ssize_t)sizeof slot && slot[0] != 0 && slot[2] == check(group, slot[0], slot[1])) {
        *index_out = slot[0];
        *sum_out = slot[1];
    }
    return 0;
}

int log_floor_set(const struct log_floor *f, uint16_t group, uint64_t index, uint64_t sum, bool durable)
{
    uint64_t slot[SLOT_WORDS] = {index, sum, check(group, index, sum), 0};
    ssize_t n = pwrite(f->fd, slot, sizeof slot, (off_t)(group * SLOT_BYTES));

    if (n != (ssize_t)sizeof slot)
        return n < 0 ? -errno : -EIO;
    if (durable && fdatasync(f->fd) != 0)
        return -errno;
    return 0;
}

bool log_floor_any(const struct log_floor *f)
{
    off_t size = lseek(f->fd, 0, SEEK_END);
    uint64_t index, sum;

    for (off_t at = 0; at < size && at / (off_t)SLOT_BYTES <= UINT16_MAX; at += (off_t)SLOT_BYTES)
        if (log_floor_get(f, (uint16_t)(at / (off_t)SLOT_BYTES), &index, &sum) == 0 && index != 0)
            return true;
    return false;
}
