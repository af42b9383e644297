#include "kvfs/mountpoint.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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

char *mountpoint_prepare(const char *path)
{
    char *result = absolute(path), *real;
    struct stat st;
    int rc;

    if (result == NULL) {
        fprintf(stderr, "kvfs: %s: %s\n", path, strerror(errno));
        return NULL;
    }
    rc = stat(result, &st);
    if (rc != 0 && errno == ENOTCONN && mountpoint_detach(result) == 0) {
        fprintf(stderr, "kvfs: %s: a dead mount was there and was taken away\n", path);
        rc = stat(result, &st);
    }
    if (rc != 0) {
        fprintf(stderr, "kvfs: %s: %s\n", path, strerror(errno));
        goto fail;
    }
    if (!S_ISDIR(st.st_mode)) {
        fprintf(stderr, "kvfs: %s: not a directory\n", path);
        goto fail;
    }
    real = realpath(result, NULL);
    free(result);
    return real;

fail:
    free(result);
    return NULL;
}
