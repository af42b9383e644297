/* Mounts are never stacked: what is mounted is looked up in mountinfo, because the
 * kernel may answer for a dead mount from its caches, and a live one may be slow. */
#include "kvfs/mount/mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kvfs/link/mountinfo.h"

/* realpath(3) without touching the last directory: behind it may be a dead mount. */
static char *absolute(const char *path)
{
    char *copy = strdup(path), *parent = NULL, *slash, *result = NULL;
    const char *name;
    size_t len;

    if (copy == NULL)
        return NULL;
    len = strlen(copy);
    while (len > 1 && copy[len - 1] == '/')
        copy[--len] = '\0';
    slash = strrchr(copy, '/');
    name = slash != NULL ? slash + 1 : copy;
    if (strcmp(copy, "/") == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        result = realpath(copy, NULL);
    } else {
        if (slash != NULL)
            *slash = '\0';
        parent = realpath(slash == NULL ? "." : copy[0] == '\0' ? "/" : copy, NULL);
        if (parent != NULL && asprintf(&result, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, name) < 0)
            result = NULL;
    }
    free(parent);
    free(copy);
    return result;
}

int mountpoint_detach(const char *path)
{
    int status;
    pid_t pid;

    if (geteuid() == 0)
        return umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
    pid = fork();
    if (pid == 0) {
        execlp("fusermount3", "fusermount3", "-u", "-q", "-z", "--", path, (char *)NULL);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return -1;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

bool mountpoint_is_kvfs(FILE *mountinfo, const char *path)
{
    bool found = false;
    size_t size = 0;
    char *line = NULL;
    struct mount_line mount;

    while (getline(&line, &size, mountinfo) >= 0) {
        if (mountinfo_parse(line, &mount) && strcmp(mount.point, path) == 0)
            found = strcmp(mount.type, "fuse.kvfs") == 0;
    }
    free(line);
    return found;
}

#define ANSWER_MS 6000

/* statfs(2) is not answered from a cache; of a process that is stopped it is not
 * answered at all, so a child asks. */
static bool is_dead(const char *path)
{
    struct timespec pause = {.tv_nsec = 5000000};
    int status, waited;
    pid_t pid = fork();

    if (pid == 0) {
        struct statfs st;

        _exit(statfs(path, &st) != 0 && (errno == ENOTCONN || errno == ECONNABORTED) ? 1 : 0);
    }
    if (pid < 0)
        return false;
    for (waited = 0; waited < ANSWER_MS; waited += 5) {
        pid_t done = waitpid(pid, &status, WNOHANG);

        if (done == pid)
            return WIFEXITED(status) && WEXITSTATUS(status) == 1;
        if (done < 0)
            return false;
        nanosleep(&pause, NULL);
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, WNOHANG);
    return false;
}

enum mountpoint_state mountpoint_state(const char *path)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    bool mounted = f != NULL && mountpoint_is_kvfs(f, path);

    if (f != NULL)
        fclose(f);
    if (!mounted)
        return MOUNTPOINT_FREE;
    return is_dead(path) ? MOUNTPOINT_DEAD : MOUNTPOINT_MOUNTED;
}

int mountpoint_lock(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0 && flock(fd, LOCK_EX) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

char *mountpoint_prepare(const char *path, bool mounted)
{
    char *result = absolute(path), *real;
    enum mountpoint_state state;
    struct stat st;

    if (result == NULL) {
        fprintf(stderr, "kvfs: %s: %s\n", path, strerror(errno));
        return NULL;
    }
    while ((state = mountpoint_state(result)) == MOUNTPOINT_DEAD) {
        if (mountpoint_detach(result) != 0) {
            fprintf(stderr, "kvfs: %s: a dead mount is there and cannot be taken away: %s\n", path,
                    strerror(errno));
            goto fail;
        }
        fprintf(stderr, "kvfs: %s: a dead mount was there and was taken away\n", path);
    }
    if ((state == MOUNTPOINT_MOUNTED) != mounted) {
        fprintf(stderr, "kvfs: %s: %s\n", path, mounted ? "not mounted" : "mounted already");
        goto fail;
    }
    if (stat(result, &st) != 0) {
        fprintf(stderr, "kvfs: %s: %s\n", path, strerror(errno));
        goto fail;
    }
    if (!S_ISDIR(st.st_mode)) {
        fprintf(stderr, "kvfs: %s: not a directory\n", path);
        goto fail;
    }
    real = realpath(result, NULL);
    /* By a symbolic link. */
    if (real != NULL && strcmp(real, result) != 0) {
        char *again = mountpoint_prepare(real, mounted);

        free(real);
        real = again;
    }
    free(result);
    return real;

fail:
    free(result);
    return NULL;
}
