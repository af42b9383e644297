/* Extended attributes on two mounts: what is set on one is found on the other, with the errors that Linux
 * gives, as a version, and through the programs that copy.
 *
 *   attributes A B
 *
 * Prints TAP. A and B are two mounts of one cluster, both empty at the start. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/lib/look_again.h"

#define SOON_MS 5000

static const char *mounts[2];
static int n_tests, n_failed, problems;

static const char *at(int mount, const char *name)
{
    static char paths[8][1024];
    static int next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof paths[0], "%s/%s", mounts[mount], name);
    return path;
}

static void problem(int line, const char *what)
{
    printf("# line %d: %s (errno: %s)\n", line, what, strerror(errno));
    problems++;
}

#define CHECK(fact)                                                                                          \
    do {                                                                                                     \
        if (!(fact))                                                                                         \
            problem(__LINE__, #fact);                                                                        \
    } while (0)

#define CHECK_ERRNO(call, err)                                                                               \
    do {                                                                                                     \
        errno = 0;                                                                                           \
        if ((long)(call) != -1 || errno != (err))                                                            \
            problem(__LINE__, #call " gives " #err);                                                         \
    } while (0)

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    CHECK(fd >= 0);
    CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    CHECK(close(fd) == 0);
}

/* What was set elsewhere is there when the file is opened. */
static bool has(int mount, const char *name, const char *attribute, const char *value)
{
    char got[256];
    int fd = open(at(mount, name), O_RDONLY);
    ssize_t n = fgetxattr(fd, attribute, got, sizeof got);

    close(fd);
    return n == (ssize_t)strlen(value) && memcmp(got, value, (size_t)n) == 0;
}

/* Names as listed, "a b " (static). */
static const char *list(int mount, const char *name)
{
    static char names[4096];
    int fd = open(at(mount, name), O_RDONLY);
    ssize_t n = flistxattr(fd, names, sizeof names - 1);

    close(fd);
    for (ssize_t i = 0; i < n; i++)
        names[i] = names[i] != '\0' ? names[i] : ' ';
    names[n > 0 ? n : 0] = '\0';
    return n < 0 ? "(error)" : names;
}

static bool shell(const char *command)
{
    char line[4096];

    snprintf(line, sizeof line, "A='%s' B='%s'; %s", mounts[0], mounts[1], command);
    return system(line) == 0;
}

static int n_versions(const char *name)
{
    char command[256];
    FILE *f;
    int n = -1;

    snprintf(command, sizeof command, "ls '%s/.versions/%s' | wc -l", mounts[0], name);
    f = popen(command, "r");
    if (f == NULL || fscanf(f, "%d", &n) != 1)
        n = -1;
    if (f != NULL)
        pclose(f);
    return n;
}

static bool ctime_grows(struct stat *before)
{
    struct stat now;
    bool later =
        stat(at(0, "f"), &now) == 0 &&
        (now.st_ctim.tv_sec > before->st_ctim.tv_sec ||
         (now.st_ctim.tv_sec == before->st_ctim.tv_sec && now.st_ctim.tv_nsec > before->st_ctim.tv_nsec));

    later = later && now.st_mtim.tv_sec == before->st_mtim.tv_sec &&
            now.st_mtim.tv_nsec == before->st_mtim.tv_nsec;
    *before = now;
    return later;
}

static void what_is_set_on_one_is_found_on_the_other(void)
{
    struct stat st;
    char value[64];

    put(at(0, "f"), "content");
    CHECK(stat(at(0, "f"), &st) == 0);
    CHECK(setxattr(at(0, "f"), "user.b", "second", 6, 0) == 0);
    CHECK(ctime_grows(&st));
    CHECK(has(0, "f", "user.b", "second"));
    CHECK(has(1, "f", "user.b", "second"));
    CHECK(setxattr(at(1, "f"), "user.a", "first", 5, XATTR_CREATE) == 0);
    CHECK(setxattr(at(1, "f"), "user.empty", "", 0, 0) == 0);
    CHECK(strcmp(list(0, "f"), "user.a user.b user.empty ") == 0);
    CHECK(strcmp(list(1, "f"), "user.a user.b user.empty ") == 0);
    CHECK(has(0, "f", "user.empty", ""));
    CHECK_ERRNO(setxattr(at(0, "f"), "user.a", "x", 1, XATTR_CREATE), EEXIST);
    CHECK_ERRNO(setxattr(at(0, "f"), "user.c", "x", 1, XATTR_REPLACE), ENODATA);
    CHECK(setxattr(at(0, "f"), "user.a", "replaced", 8, XATTR_REPLACE) == 0);
    CHECK(has(1, "f", "user.a", "replaced"));
    CHECK(removexattr(at(1, "f"), "user.b") == 0);
    CHECK(strcmp(list(0, "f"), "user.a user.empty ") == 0);
    CHECK_ERRNO(removexattr(at(0, "f"), "user.b"), ENODATA);
    CHECK_ERRNO(getxattr(at(0, "f"), "user.b", value, sizeof value), ENODATA);
    CHECK(getxattr(at(0, "f"), "user.a", NULL, 0) == 8);
    CHECK_ERRNO(getxattr(at(0, "f"), "user.a", value, 7), ERANGE);
    CHECK(listxattr(at(0, "f"), NULL, 0) == 18);
    CHECK_ERRNO(listxattr(at(0, "f"), value, 17), ERANGE);
    CHECK(n_versions("f") == 1);
    /* Of directories, the root's too. */
    CHECK(mkdir(at(0, "d"), 0755) == 0);
    CHECK(setxattr(at(0, "d"), "user.of", "d", 1, 0) == 0);
    CHECK(setxattr(at(0, "."), "user.of", "root", 4, 0) == 0);
    CHECK(has(1, "d", "user.of", "d"));
    CHECK(has(1, ".", "user.of", "root"));
    CHECK(removexattr(at(1, "."), "user.of") == 0);
    CHECK(strcmp(list(0, "."), "") == 0);
    CHECK(rename(at(1, "f"), at(1, "d/g")) == 0);
    CHECK(has(0, "d/g", "user.a", "replaced"));
}

static void errors_are_those_of_linux(void)
{
    static char big[65537];
    char long_name[300] = "user.";

    put(at(0, "e"), "x");
    memset(big, 'b', sizeof big);
    CHECK_ERRNO(setxattr(at(0, "e"), "user.big", big, 65537, 0), E2BIG);
    CHECK(setxattr(at(0, "e"), "user.big", big, 65536, 0) == 0); /* the longest that Linux knows */
    CHECK_ERRNO(setxattr(at(0, "e"), "user.more", big, 1000, 0), ENOSPC);
    memset(big, 0, sizeof big);
    CHECK(getxattr(at(1, "e"), "user.big", big, sizeof big) == 65536 && big[65535] == 'b');
    CHECK(removexattr(at(0, "e"), "user.big") == 0);
    memset(long_name + 5, 'n', 251);
    CHECK_ERRNO(setxattr(at(0, "e"), long_name, "x", 1, 0), ERANGE);
    long_name[255] = '\0';
    CHECK(setxattr(at(0, "e"), long_name, "x", 1, 0) == 0);
    CHECK(removexattr(at(0, "e"), long_name) == 0);
    CHECK_ERRNO(setxattr(at(0, "e"), "user.x", "x", 1, 4), EINVAL);
    CHECK_ERRNO(setxattr(at(0, "missing"), "user.x", "x", 1, 0), ENOENT);
    /* Other namespaces: as where there are none. */
    CHECK_ERRNO(setxattr(at(0, "e"), "trusted.x", "x", 1, 0), EOPNOTSUPP);
    CHECK_ERRNO(setxattr(at(0, "e"), "security.x", "x", 1, 0), EOPNOTSUPP);
    CHECK_ERRNO(setxattr(at(0, "e"), "nonsense.x", "x", 1, 0), EOPNOTSUPP);
    CHECK_ERRNO(getxattr(at(0, "e"), "trusted.x", big, 10), EOPNOTSUPP);
    CHECK_ERRNO(getxattr(at(0, "e"), "security.x", big, 10), EOPNOTSUPP);
    CHECK_ERRNO(removexattr(at(0, "e"), "trusted.x"), EOPNOTSUPP);
    CHECK_ERRNO(setxattr(at(0, "e"), "system.posix_acl_access", "\2\0\0\0", 4, 0), EOPNOTSUPP);
    CHECK_ERRNO(getxattr(at(0, "e"), "system.posix_acl_access", big, 100), EOPNOTSUPP);
    CHECK_ERRNO(getxattr(at(0, "."), "system.posix_acl_default", big, 100), EOPNOTSUPP);
    /* Those that are made up. */
    CHECK_ERRNO(setxattr(at(0, "e"), "user.kv.version", "9", 1, 0), EPERM);
    CHECK_ERRNO(setxattr(at(0, "e"), "user.kv.mine", "9", 1, 0), EPERM);
    CHECK_ERRNO(removexattr(at(0, "e"), "user.kv.version"), EPERM);
    CHECK(has(0, "e", "user.kv.version", "1"));
    CHECK(strcmp(list(0, "e"), "") == 0);
    /* What is neither file nor directory. */
    CHECK(symlink("e", at(0, "link")) == 0);
    CHECK_ERRNO(lsetxattr(at(0, "link"), "user.x", "x", 1, 0), EPERM);
    CHECK(mkfifo(at(0, "pipe"), 0600) == 0);
    CHECK_ERRNO(setxattr(at(0, "pipe"), "user.x", "x", 1, 0), EPERM);
    CHECK(llistxattr(at(0, "link"), NULL, 0) == 0);
    CHECK_ERRNO(setxattr(at(0, ".versions/e/1"), "user.x", "x", 1, 0), EROFS);
    CHECK_ERRNO(setxattr(at(0, ".kvfs/status"), "user.x", "x", 1, 0), EROFS);
    CHECK(listxattr(at(0, ".kvfs/status"), NULL, 0) == 0);
}

static void they_are_part_of_the_version(void)
{
    int fd;

    /* Set through the handle that has made the file, before its close. */
    fd = open(at(0, "v"), O_WRONLY | O_CREAT, 0644);
    CHECK(fd >= 0 && write(fd, "one", 3) == 3);
    CHECK(fsetxattr(fd, "user.n", "1", 1, 0) == 0);
    CHECK(fsetxattr(fd, "user.n", "one", 3, 0) == 0);
    CHECK(close(fd) == 0);
    CHECK(n_versions("v") == 1);
    CHECK(has(0, ".versions/v/1", "user.n", "one"));
    put(at(1, "v"), "two");
    CHECK(has(1, "v", "user.n", "one"));
    CHECK(setxattr(at(1, "v"), "user.n", "two", 3, 0) == 0);
    CHECK(setxattr(at(1, "v"), "user.m", "new", 3, 0) == 0);
    put(at(0, "v"), "three");
    CHECK(removexattr(at(0, "v"), "user.n") == 0);
    for (int mount = 0; mount < 2; mount++) {
        CHECK(has(mount, ".versions/v/1", "user.n", "one"));
        CHECK(strcmp(list(mount, ".versions/v/1"), "user.n ") == 0);
        CHECK(has(mount, ".versions/v/2", "user.n", "two"));
        CHECK(strcmp(list(mount, ".versions/v/2"), "user.m user.n ") == 0);
        CHECK(strcmp(list(mount, ".versions/v/3"), "user.m ") == 0);
    }
    CHECK(shell("cp -a \"$A/.versions/v/1\" \"$A/copy\""));
    CHECK(has(1, "copy", "user.n", "one"));
    CHECK(shell("\"$KVNODE\" restore v 1 >\"$WORK/restore\" 2>&1"));
    CHECK(has(0, "v", "user.n", "one"));
    CHECK(strcmp(list(0, "v"), "user.n ") == 0);
    CHECK(shell("[ \"$(cat \"$B/v\")\" = one ]"));
    CHECK(has(1, ".versions/v/4", "user.n", "one"));
    CHECK(unlink(at(0, "v")) == 0);
    CHECK(shell("\"$KVNODE\" restore v 2 >\"$WORK/restore\" 2>&1"));
    CHECK(strcmp(list(1, "v"), "user.m user.n ") == 0);
    CHECK(strcmp(list(1, ".versions/v/4.deleted"), "") == 0);
    CHECK(shell("\"$KVNODE\" log | grep -q ' setxattr ' && \"$KVNODE\" log | grep -q ' removexattr '"));
    CHECK(shell("\"$KVNODE\" get v --json >/dev/null && \"$KVNODE\" history -v v >/dev/null"));
}

static void programs_copy_them(void)
{
    CHECK(mkdir(at(0, "tree"), 0755) == 0);
    put(at(0, "tree/f"), "text");
    CHECK(setxattr(at(0, "tree/f"), "user.color", "blue", 4, 0) == 0);
    CHECK(setxattr(at(0, "tree/f"), "user.bytes", "\0\377\n", 3, 0) == 0);
    CHECK(setxattr(at(0, "tree"), "user.color", "red", 3, 0) == 0);
    CHECK(shell("cp -a \"$A/tree\" \"$A/cp\" 2>\"$WORK/said\" && [ ! -s \"$WORK/said\" ]"));
    CHECK(strcmp(list(1, "cp/f"), "user.bytes user.color ") == 0);
    CHECK(has(1, "cp/f", "user.color", "blue"));
    CHECK(has(1, "cp", "user.color", "red"));
    CHECK(shell("cp -p \"$A/tree/f\" \"$A/plain\" 2>\"$WORK/said\" && [ ! -s \"$WORK/said\" ]"));
    CHECK(strcmp(list(0, "plain"), "") == 0);
    CHECK(shell("install -m 600 \"$A/tree/f\" \"$A/installed\" 2>\"$WORK/said\" && [ ! -s \"$WORK/said\" ]"));
    CHECK(shell("mv \"$A/installed\" \"$WORK/out\" && mv \"$WORK/out\" \"$B/moved\" 2>\"$WORK/said\""
                " && [ ! -s \"$WORK/said\" ]"));
    CHECK(shell("! command -v rsync >/dev/null ||"
                " { rsync -aX \"$A/tree/\" \"$A/rsync/\" && rsync -aXAi \"$A/tree/\" \"$A/rsync/\" "
                ">\"$WORK/said\" 2>&1"
                " && [ ! -s \"$WORK/said\" ]; }"));
    CHECK(shell("! command -v rsync >/dev/null ||"
                " [ \"$(getfattr --only-values -n user.color \"$B/rsync/f\" 2>/dev/null)\" = blue ]"));
    CHECK(shell("! command -v getfattr >/dev/null ||"
                " [ \"$(getfattr -d \"$A/tree/f\" 2>/dev/null | grep -c "
                "'^user.color=\"blue\"$\\|^user.bytes=0')\" = 2 ]"));
    CHECK(shell(
        "! command -v getfattr >/dev/null ||"
        " [ \"$(cd \"$A\" && getfattr -R -d -m - tree)\" = \"$(cd \"$B\" && getfattr -R -d -m - tree)\" ]"));
    CHECK(shell("! command -v setfacl >/dev/null ||"
                " setfacl -m u:1000:r \"$A/tree/f\" 2>&1 | grep -qi 'not supported'"));
    CHECK(shell("mkdir \"$A/tar\" && tar --xattrs -C \"$A/tree\" -cf - f | tar --xattrs --xattrs-include='*' "
                "-C \"$A/tar\" -xf -"));
    CHECK(has(1, "tar/f", "user.color", "blue"));
    CHECK(shell("rm -r \"$A/tree\" \"$A/cp\" \"$A/tar\""));
}

static void a_file_that_is_gone_has_none(void)
{
    uint64_t until = 0;
    char value[8];
    int fd;

    put(at(0, "gone"), "x");
    CHECK(setxattr(at(0, "gone"), "user.a", "1", 1, 0) == 0);
    fd = open(at(0, "gone"), O_RDWR);
    CHECK(unlink(at(1, "gone")) == 0);
    while (fgetxattr(fd, "user.a", value, sizeof value) >= 0 && look_again(&until, SOON_MS))
        ;
    CHECK_ERRNO(fgetxattr(fd, "user.a", value, sizeof value), ENODATA);
    CHECK(flistxattr(fd, NULL, 0) == 0);
    CHECK_ERRNO(fsetxattr(fd, "user.a", "2", 1, 0), EOPNOTSUPP);
    CHECK(close(fd) == 0);
}

/* What the other mount sees of it. */
static void what_has_a_time_to_live_goes(void)
{
    char value[64];
    uint64_t until = 0;
    struct timespec past[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};

    CHECK(mkdir(at(0, "ttl"), 0755) == 0);
    CHECK(setxattr(at(0, "ttl"), "user.kv.ttl", "600s", 4, 0) == 0);
    CHECK(has(1, "ttl", "user.kv.ttl", "10m"));
    put(at(1, "ttl/inherits"), "x");
    put(at(1, "ttl/dated"), "x");
    CHECK(mkdir(at(1, "ttl/sub"), 0755) == 0);
    CHECK(has(0, "ttl/inherits", "user.kv.ttl", "10m"));
    CHECK(getxattr(at(0, "ttl/inherits"), "user.kv.expires", value, sizeof value) == 20);
    CHECK(strcmp(list(0, "ttl/inherits"), "") == 0);
    CHECK_ERRNO(getxattr(at(0, "ttl/sub"), "user.kv.ttl", value, sizeof value), ENODATA);
    CHECK_ERRNO(getxattr(at(0, "ttl"), "user.kv.expires", value, sizeof value), ENODATA);
    CHECK_ERRNO(setxattr(at(0, "ttl/inherits"), "user.kv.expires", "1", 1, 0), EPERM);
    CHECK_ERRNO(setxattr(at(0, "ttl/inherits"), "user.kv.ttl", "0", 1, 0), EINVAL);
    CHECK_ERRNO(setxattr(at(0, "ttl/inherits"), "user.kv.ttl", "-1s", 3, 0), EINVAL);
    CHECK_ERRNO(setxattr(at(0, "ttl/inherits"), "user.kv.ttl", "3651d", 5, 0), EINVAL);
    CHECK(removexattr(at(0, "ttl/inherits"), "user.kv.ttl") == 0);
    CHECK_ERRNO(removexattr(at(0, "ttl/inherits"), "user.kv.ttl"), ENODATA);
    put(at(0, "ttl/renewed"), "x");
    CHECK(setxattr(at(0, "ttl/renewed"), "user.kv.ttl", "1500ms", 6, 0) == 0);
    CHECK(setxattr(at(0, "ttl/dated"), "user.kv.ttl", "1500ms", 6, 0) == 0);
    /* One is touched, one is given a date, as long as the second is there. */
    while (access(at(1, "ttl/dated"), F_OK) == 0 && look_again(&until, SOON_MS)) {
        CHECK(utimensat(AT_FDCWD, at(0, "ttl/renewed"), NULL, 0) == 0);
        utimensat(AT_FDCWD, at(0, "ttl/dated"), past, 0);
    }
    CHECK_ERRNO(access(at(1, "ttl/dated"), F_OK), ENOENT);
    CHECK(access(at(1, "ttl/renewed"), F_OK) == 0);
    until = 0;
    while (access(at(1, "ttl/renewed"), F_OK) == 0 && look_again(&until, SOON_MS))
        ;
    CHECK(access(at(1, "ttl/inherits"), F_OK) == 0);
    CHECK_ERRNO(access(at(0, "ttl/renewed"), F_OK), ENOENT);
    CHECK(shell("[ \"$(echo $(ls \"$B/ttl/.versions/renewed\"))\" = \"1 1.deleted\" ]"));
    CHECK(shell("\"$KVNODE\" log | grep -q ' expire .* ttl/renewed'"));
}

static void run(const char *name, void (*test)(void))
{
    problems = 0;
    test();
    printf("%sok %d - %s\n", problems > 0 ? "not " : "", ++n_tests, name);
    fflush(stdout);
    n_failed += problems > 0;
}

#define RUN(test) run(#test, test)

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: attributes A B\n");
        return 2;
    }
    mounts[0] = argv[1];
    mounts[1] = argv[2];
    umask(022);
    RUN(what_is_set_on_one_is_found_on_the_other);
    RUN(errors_are_those_of_linux);
    RUN(they_are_part_of_the_version);
    RUN(programs_copy_them);
    RUN(a_file_that_is_gone_has_none);
    RUN(what_has_a_time_to_live_goes);
    printf("1..%d\n", n_tests);
    return n_failed > 0;
}
