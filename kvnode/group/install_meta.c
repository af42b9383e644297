#include "kvnode/group/install_meta.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "sync/base/digest.h"
#include "sync/base/disk.h"

#define META_NAME "install.meta"

int install_meta_write(const char *dir, const struct snapshot_meta *meta)
{
    char path[4200], temp[4300];
    struct buffer b = BUFFER_INIT;
    int fd, rv = -EIO;

    snprintf(path, sizeof path, "%s/" META_NAME, dir);
    snprintf(temp, sizeof temp, "%s.new", path);
    snapshot_meta_encode(meta, &b);
    buffer_put_u64(&b, digest64(0, b.data, b.len));
    fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd >= 0) {
        if (!b.failed && write(fd, b.data, b.len) == (ssize_t)b.len && fsync(fd) == 0)
            rv = 0;
        close(fd);
    }
    buffer_deinit(&b);
    if (rv == 0 && rename(temp, path) != 0)
        rv = -errno;
    return rv == 0 ? disk_sync_name(path) : rv;
}

int install_meta_recover(const char *group_dir, uint64_t applied, struct snapshot_meta *meta_out)
{
    char path[4200];
    static uint8_t bytes[16384]; /* a configuration has up to 9 KiB */
    struct cursor c;
    ssize_t n;
    int fd, rv;

    snprintf(path, sizeof path, "%s/" META_NAME, group_dir);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    n = read(fd, bytes, sizeof bytes);
    rv = n < 0 ? -errno : 0;
    close(fd);
    if (rv != 0) /* unreadable is not absent: the log might still be the old one */
        return rv;
    if (n < 8) /* cut off while it was written: state.db has not been replaced yet */
        return 0;
    c = cursor_of(bytes + n - 8, 8);
    if (digest64(0, bytes, (size_t)n - 8) != cursor_u64(&c))
        return 0;
    c = cursor_of(bytes, (size_t)n - 8);
    rv = snapshot_meta_decode(&c, meta_out);
    if (rv != 0)
        return rv < 0 ? rv : 0;
    if (applied == meta_out->index)
        return 1;
    snapshot_meta_deinit(meta_out);
    return 0;
}

void install_meta_remove(const char *group_dir)
{
    char path[4200];

    snprintf(path, sizeof path, "%s/" META_NAME, group_dir);
    unlink(path);
}
