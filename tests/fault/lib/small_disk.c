/* The image is of the largest size, with holes: it costs what is written to it. A
 * file that only occupies blocks leaves as much room as is wanted, so that room is
 * made as people do it. mount(8) sets up the loop device such that the kernel takes
 * it down with the mount, also when the guard or nobody else is left to do it. */
#include "tests/fault/lib/small_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "tests/fault/lib/cluster.h"

#define MB (INT64_C(1) << 20)
#define EXT4_MAGIC 0xef53

static void say_once(const char *kind, const char *why)
{
    static bool said;

    if (!said)
        printf("# small disks are %s%s%s\n", kind,
               why[0] != '\0' ? ", as there can be no ext4 on a loop device: " : "", why);
    said = true;
}

static void beside(const char *folder, char *out, size_t size)
{
    snprintf(out, size, "%s.img", folder);
}

/* The last line of what a program said. */
static bool run(const char *const argv[], char *why, size_t size)
{
    int status = run_program(argv, 20000, why, size);

    if (status != 0 && why[0] == '\0')
        snprintf(why, size, "%s: status %d", argv[0], status);
    why[strcspn(why, "\n")] = '\0';
    return status == 0;
}

/* So that the rest has mb free. */
static bool occupy(const char *folder, unsigned mb)
{
    struct statfs st;
    char path[200];
    int fd, rv = -1;

    snprintf(path, sizeof path, "%s/occupied", folder);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    if (fstatfs(fd, &st) == 0) {
        int64_t more = (int64_t)st.f_bavail * st.f_bsize - mb * MB;

        rv = more > 0 ? posix_fallocate(fd, 0, more) : 0;
    }
    close(fd);
    return rv == 0;
}

static bool mount_image(const char *folder, char *why, size_t size)
{
    char image[200];
    const char *const format[] = {"mkfs.ext4", "-q", "-F", "-m", "0", image, NULL};
    const char *const attach[] = {"mount", "-t", "ext4", "-o", "loop", image, folder, NULL};
    int fd;
    bool made;

    beside(folder, image, sizeof image);
    fd = open(image, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, SMALL_DISK_MAX_MB * MB) != 0) {
        snprintf(why, size, "%s: %s", image, strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    close(fd);
    made = run(format, why, size) && run(attach, why, size);
    if (!made)
        unlink(image);
    return made;
}

bool small_disk_mount(const char *folder, unsigned mb)
{
    char how[64], why[512] = "";

    if (mount_image(folder, why, sizeof why)) {
        say_once("ext4 on loop devices", "");
        if (mb >= SMALL_DISK_MAX_MB || occupy(folder, mb))
            return true;
        fprintf(stderr, "# %s cannot be filled\n", folder);
        small_disk_unmount(folder);
        return false;
    }
    say_once("tmpfs", why);
    snprintf(how, sizeof how, "size=%um,mode=0700", mb);
    if (mount("tmpfs", folder, "tmpfs", 0, how) == 0)
        return true;
    fprintf(stderr, "# tmpfs on %s: %s\n", folder, strerror(errno));
    return false;
}

bool small_disk_grow(const char *folder, unsigned mb)
{
    char path[200], how[64];
    struct statfs st;

    if (statfs(folder, &st) != 0)
        return false;
    if (st.f_type == EXT4_MAGIC) {
        int64_t kept = (int64_t)st.f_blocks * st.f_bsize - mb * MB;

        snprintf(path, sizeof path, "%s/occupied", folder);
        return truncate(path, kept > 0 ? kept : 0) == 0;
    }
    snprintf(how, sizeof how, "size=%um", mb);
    return mount("tmpfs", folder, "tmpfs", MS_REMOUNT, how) == 0;
}

void small_disk_unmount(const char *folder)
{
    char image[200];

    umount2(folder, MNT_DETACH);
    beside(folder, image, sizeof image);
    unlink(image);
}
