/* Named pipes and unix sockets on a mount: names that are the same everywhere, for what the kernel of one
 * machine connects.
 *
 *   special A B
 *
 * Prints TAP. A and B are two mounts of one cluster; what is opened through one of them is not connected with
 * the other, as if they were two machines. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
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
        if ((call) != -1 || errno != (err))                                                                  \
            problem(__LINE__, #call " gives " #err);                                                         \
    } while (0)

static bool is_type(int mount, const char *name, mode_t type)
{
    struct stat st;

    return lstat(at(mount, name), &st) == 0 && (st.st_mode & S_IFMT) == type && st.st_size == 0;
}

static bool is_gone(int mount, const char *name)
{
    uint64_t until = 0;
    struct stat st;
    bool gone;

    while (!(gone = lstat(at(mount, name), &st) != 0 && errno == ENOENT) && look_again(&until, SOON_MS))
        ;
    return gone;
}

/* Whether the child has ended well, within a bound. */
static bool ends_well(pid_t child)
{
    uint64_t until = 0;
    int status;
    pid_t got;

    while ((got = waitpid(child, &status, WNOHANG)) == 0 && look_again(&until, 20000))
        ;
    if (got == 0) {
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        return false;
    }
    return got == child && status == 0;
}

/* What is there to be read, within a bound. */
static bool gives(int fd, const char *text)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char got[64] = "";
    ssize_t n = poll(&p, 1, 20000) == 1 ? read(fd, got, sizeof got - 1) : -1;

    return n == (ssize_t)strlen(text) && strcmp(got, text) == 0;
}

static bool shell(const char *command)
{
    char line[4096];

    snprintf(line, sizeof line, "A='%s' B='%s'; %s", mounts[0], mounts[1], command);
    return system(line) == 0;
}

static void a_pipe_connects_two_processes(void)
{
    struct stat st;
    pid_t child;
    int fd;

    umask(022);
    CHECK(mkfifo(at(0, "pipe"), 0666) == 0);
    CHECK(is_type(0, "pipe", S_IFIFO));
    CHECK(is_type(1, "pipe", S_IFIFO));
    CHECK(stat(at(1, "pipe"), &st) == 0 && (st.st_mode & 07777) == 0644 && st.st_nlink == 1);
    CHECK_ERRNO(mkfifo(at(0, "pipe"), 0666), EEXIST);
    CHECK_ERRNO(mkfifo(at(1, "pipe"), 0666), EEXIST);
    CHECK_ERRNO(open(at(0, "pipe"), O_WRONLY | O_NONBLOCK), ENXIO); /* nobody reads */
    child = fork();
    if (child == 0) {
        fd = open(at(0, "pipe"), O_WRONLY | O_CREAT, 0600);
        _exit(fd >= 0 && write(fd, "through", 7) == 7 && close(fd) == 0 ? 0 : 1);
    }
    fd = open(at(0, "pipe"), O_RDONLY);
    CHECK(fd >= 0);
    CHECK(gives(fd, "through"));
    CHECK(ends_well(child));
    CHECK(read(fd, &st, 1) == 0);
    CHECK(close(fd) == 0);
    CHECK(is_type(0, "pipe", S_IFIFO)); /* with nothing in it */
}

static void it_is_local_to_where_it_is_opened(void)
{
    int reader, writer;

    CHECK(mkfifo(at(0, "local"), 0600) == 0);
    reader = open(at(0, "local"), O_RDONLY | O_NONBLOCK);
    CHECK(reader >= 0);
    CHECK_ERRNO(open(at(1, "local"), O_WRONLY | O_NONBLOCK), ENXIO);
    writer = open(at(0, "local"), O_WRONLY | O_NONBLOCK);
    CHECK(writer >= 0);
    CHECK(write(writer, "here", 4) == 4);
    CHECK(gives(reader, "here"));
    /* It goes on under another name, under other attributes and under none. */
    CHECK(rename(at(1, "local"), at(1, "renamed")) == 0);
    CHECK(chmod(at(1, "renamed"), 0640) == 0);
    CHECK(write(writer, "renamed", 7) == 7);
    CHECK(gives(reader, "renamed"));
    CHECK(is_gone(0, "local"));
    CHECK(is_type(0, "renamed", S_IFIFO));
    CHECK(close(writer) == 0);
    writer = open(at(0, "renamed"), O_WRONLY | O_NONBLOCK);
    CHECK(writer >= 0);
    CHECK(unlink(at(1, "renamed")) == 0);
    CHECK(is_gone(0, "renamed"));
    CHECK(write(writer, "gone", 4) == 4);
    CHECK(gives(reader, "gone"));
    CHECK(close(writer) == 0 && close(reader) == 0);
}

static struct sockaddr_un address(int mount, const char *name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    snprintf(a.sun_path, sizeof a.sun_path, "%s", at(mount, name));
    return a;
}

static int connect_to(int mount, const char *name)
{
    const struct sockaddr_un a = address(mount, name);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), saved;

    if (fd >= 0 && connect(fd, (const struct sockaddr *)&a, sizeof a) == 0)
        return fd;
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static int bind_at(int mount, const char *name)
{
    const struct sockaddr_un a = address(mount, name);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), saved;

    if (fd >= 0 && bind(fd, (const struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 5) == 0)
        return fd;
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static void a_socket_is_bound_and_connected_to(void)
{
    int listener = bind_at(0, "socket"), fd, mine;
    pid_t child;

    CHECK(listener >= 0);
    CHECK(is_type(0, "socket", S_IFSOCK));
    CHECK(is_type(1, "socket", S_IFSOCK));
    CHECK_ERRNO(bind_at(0, "socket"), EADDRINUSE);
    CHECK_ERRNO(bind_at(1, "socket"), EADDRINUSE);
    CHECK_ERRNO(connect_to(1, "socket"), ECONNREFUSED); /* there nobody listens */
    CHECK_ERRNO(open(at(0, "socket"), O_RDONLY), ENXIO);
    child = fork();
    if (child == 0) {
        fd = connect_to(0, "socket");
        _exit(fd >= 0 && write(fd, "hello", 5) == 5 && gives(fd, "back") ? 0 : 1);
    }
    mine = accept(listener, NULL, NULL);
    CHECK(mine >= 0);
    CHECK(gives(mine, "hello"));
    CHECK(write(mine, "back", 4) == 4);
    CHECK(ends_well(child));
    CHECK(close(mine) == 0);
    /* Under a new name, given on the other mount, the same socket listens. */
    CHECK(rename(at(1, "socket"), at(1, "moved")) == 0);
    CHECK(is_gone(0, "socket"));
    fd = connect_to(0, "moved");
    CHECK(fd >= 0);
    close(fd);
    CHECK(unlink(at(1, "moved")) == 0);
    CHECK(is_gone(0, "moved"));
    CHECK_ERRNO(connect_to(0, "moved"), ENOENT);
    CHECK(close(listener) == 0);
    /* A name that a dead server has left behind is taken away by the next one. */
    listener = bind_at(1, "left");
    CHECK(listener >= 0 && close(listener) == 0);
    CHECK_ERRNO(connect_to(1, "left"), ECONNREFUSED);
    CHECK(unlink(at(1, "left")) == 0);
    listener = bind_at(1, "left");
    fd = connect_to(1, "left");
    CHECK(listener >= 0 && fd >= 0);
    close(fd);
    close(listener);
}

static void they_have_a_history(void)
{
    struct stat st;

    CHECK(mkfifo(at(0, "past"), 0600) == 0);
    CHECK(unlink(at(0, "past")) == 0);
    CHECK(mknod(at(0, "past"), S_IFSOCK | 0640, 0) == 0);
    CHECK(is_type(1, ".versions/past/1", S_IFIFO));
    CHECK(is_type(1, ".versions/past/2", S_IFSOCK));
    CHECK(is_type(1, ".versions/past/1.deleted", S_IFREG));
    CHECK(stat(at(0, ".versions/past/1"), &st) == 0 && (st.st_mode & 07777) == 0600);
    CHECK(shell("[ \"$(ls \"$A/.versions/past\" | tr '\\n' ' ')\" = '1 1.deleted 2 ' ]"));
    CHECK(shell("\"$KVNODE\" history past --json | grep -q '\"type\": *\"fifo\"'"));
    CHECK(shell("\"$KVNODE\" history past | grep -q '^1 .* fifo'"));
    CHECK(shell("\"$KVNODE\" ls -l past | grep -q '^srw-r-----'"));
    CHECK(shell("\"$KVNODE\" ls --json past | grep -q '\"type\": *\"socket\"'"));
    CHECK(shell("\"$KVNODE\" get past 2>&1 | grep -q 'it is a socket: it has no value'"));
    CHECK(shell("\"$KVNODE\" set past x 2>&1 | grep -q 'invalid\\|socket'"));
    CHECK(shell("\"$KVNODE\" log | grep -q ' mknod '"));
}

static void they_are_copied_and_packed(void)
{
    CHECK(mkdir(at(0, "from"), 0755) == 0);
    CHECK(mkfifo(at(0, "from/pipe"), 0600) == 0 && chmod(at(0, "from/pipe"), 0620) == 0);
    CHECK(mknod(at(0, "from/socket"), S_IFSOCK | 0600, 0) == 0);
    CHECK(symlink("pipe", at(0, "from/link")) == 0);
    CHECK(shell("cp -a \"$A/from\" \"$A/copy\""));
    CHECK(is_type(1, "copy/pipe", S_IFIFO));
    CHECK(is_type(1, "copy/socket", S_IFSOCK));
    CHECK(shell("[ \"$(stat -c %a \"$B/copy/pipe\")\" = 620 ]"));
    CHECK(shell("mkdir \"$A/tar\" && tar -C \"$A/from\" -cf - pipe link | tar -C \"$A/tar\" -xf -"));
    CHECK(is_type(1, "tar/pipe", S_IFIFO));
    CHECK(shell("rm -r \"$A/from\" \"$A/copy\" \"$A/tar\""));
    CHECK(is_gone(1, "from"));
}

static void devices_are_refused(void)
{
    CHECK_ERRNO(mknod(at(0, "device"), S_IFCHR | 0666, makedev(1, 3)), EPERM);
    CHECK_ERRNO(mknod(at(0, "device"), S_IFBLK | 0666, makedev(7, 0)), EPERM);
    CHECK_ERRNO(mknod(at(0, "device"), S_IFCHR | 0666, makedev(0, 0)), EPERM);
    CHECK_ERRNO(mkfifo(at(0, ".versions"), 0600), EEXIST);
    CHECK_ERRNO(mkfifo(at(0, ".kvfs/x"), 0600), EROFS);
    CHECK_ERRNO(mkfifo(at(0, "missing/x"), 0600), ENOENT);
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
        fprintf(stderr, "usage: special A B\n");
        return 2;
    }
    mounts[0] = argv[1];
    mounts[1] = argv[2];
    RUN(a_pipe_connects_two_processes);
    RUN(it_is_local_to_where_it_is_opened);
    RUN(a_socket_is_bound_and_connected_to);
    RUN(they_have_a_history);
    RUN(they_are_copied_and_packed);
    RUN(devices_are_refused);
    printf("1..%d\n", n_tests);
    return n_failed > 0;
}
