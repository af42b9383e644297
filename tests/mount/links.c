/* Files with several names on mounts.
 *
 *   links A B
 *
 * Prints TAP. A and B are two mounts of one cluster. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/lib/look_again.h"

#define SOON_MS 5000
#define NAMES_MAX 1000

static const char *mounts[2];
static int n_tests, n_failed, problems;

__attribute__((format(printf, 2, 3))) static const char *at(int mount, const char *fmt, ...)
{
    static char paths[8][1024];
    static int next;
    char *path = paths[next++ % 8];
    int n = snprintf(path, sizeof paths[0], "%s/", mounts[mount]);
    va_list args;

    va_start(args, fmt);
    vsnprintf(path + n, sizeof paths[0] - (size_t)n, fmt, args);
    va_end(args);
    return path;
}

static void problem(int line, const char *what)
{
    printf("# line %d: %s (errno: %s)\n", line, what, strerror(errno));
    problems++;
}

#define CHECK(fact)                                                                                          \
    do {                                                                                                     \
        errno = 0;                                                                                           \
        if (!(fact))                                                                                         \
            problem(__LINE__, #fact);                                                                        \
    } while (0)

#define CHECK_ERRNO(call, err)                                                                               \
    do {                                                                                                     \
        errno = 0;                                                                                           \
        if ((call) != -1 || errno != (err))                                                                  \
            problem(__LINE__, #call " gives " #err);                                                         \
    } while (0)

static bool put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0;
}

static const char *get(const char *path)
{
    static char text[256];
    int fd = open(path, O_RDONLY);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;

    if (fd >= 0)
        close(fd);
    if (n < 0)
        return "(nothing)";
    text[n] = '\0';
    return text;
}

static bool is(const char *path, const char *text)
{
    const char *got = get(path);

    if (strcmp(got, text) == 0)
        return true;
    printf("# %s is \"%s\", not \"%s\"\n", path, got, text);
    return false;
}

static bool becomes(const char *path, const char *text)
{
    uint64_t until = 0;

    while (strcmp(get(path), text) != 0 && look_again(&until, SOON_MS))
        ;
    return is(path, text);
}

static ino_t ino(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 ? st.st_ino : 0;
}

/* On the mount where something was done at once, on the other as soon as it has heard of it. */
static bool has_names(int mount, const char *name, unsigned n)
{
    uint64_t until = 0;
    struct stat st = {0};

    while ((lstat(at(mount, "%s", name), &st) != 0 || st.st_nlink != n) && mount == 1 &&
           look_again(&until, SOON_MS))
        ;
    if (st.st_nlink != n)
        printf("# mount %d: %s has %u names, not %u\n", mount, name, (unsigned)st.st_nlink, n);
    return st.st_nlink == n;
}

static bool is_gone(int mount, const char *name)
{
    uint64_t until = 0;
    struct stat st;
    bool gone;

    while (!(gone = lstat(at(mount, "%s", name), &st) != 0 && errno == ENOENT) && mount == 1 &&
           look_again(&until, SOON_MS))
        ;
    return gone;
}

static bool shell(const char *command)
{
    char line[4096];

    snprintf(line, sizeof line, "A='%s' B='%s'; cd \"$A\" && { %s; }", mounts[0], mounts[1], command);
    return system(line) == 0;
}

static void several_names_show_one_file(void)
{
    struct stat st;

    CHECK(mkdir(at(0, "d"), 0755) == 0);
    CHECK(put(at(0, "one"), "text"));
    CHECK(stat(at(1, "one"), &st) == 0 && st.st_nlink == 1); /* the other mount knows it */
    CHECK(link(at(0, "one"), at(0, "two")) == 0);
    CHECK(link(at(0, "two"), at(0, "d/three")) == 0);
    for (int m = 0; m < 2; m++) {
        CHECK(has_names(m, "one", 3) && has_names(m, "two", 3) && has_names(m, "d/three", 3));
        CHECK(ino(at(m, "one")) != 0 && ino(at(m, "one")) == ino(at(m, "two")));
        CHECK(ino(at(m, "one")) == ino(at(m, "d/three")));
        CHECK(is(at(m, "d/three"), "text"));
    }
    CHECK(chmod(at(0, "two"), 0600) == 0);
    CHECK(stat(at(0, "one"), &st) == 0 && (st.st_mode & 07777) == 0600);
}

/* After each close, at once. */
static void a_write_through_one_is_read_through_the_others(void)
{
    char text[32];

    CHECK(put(at(0, "w1"), "0"));
    CHECK(link(at(0, "w1"), at(0, "d/w2")) == 0);
    for (int i = 1; i < 200 && problems == 0; i++) {
        int m = i & 1;

        snprintf(text, sizeof text, "%d through mount %d", i, m);
        CHECK(put(at(m, i & 2 ? "w1" : "d/w2"), text));
        CHECK(is(at(1 - m, "w1"), text) && is(at(1 - m, "d/w2"), text));
        CHECK(is(at(m, "w1"), text) && is(at(m, "d/w2"), text));
    }
}

static void names_go_one_by_one(void)
{
    struct stat st;
    int fd;

    CHECK(put(at(0, "u1"), "text"));
    CHECK(link(at(0, "u1"), at(0, "u2")) == 0 && link(at(0, "u1"), at(0, "u3")) == 0);
    CHECK(has_names(1, "u3", 3));
    fd = open(at(0, "u1"), O_RDWR);
    CHECK(fd >= 0);
    CHECK(unlink(at(0, "u1")) == 0);
    CHECK(is_gone(0, "u1") && is_gone(1, "u1"));
    CHECK(has_names(0, "u2", 2) && has_names(1, "u2", 2));
    CHECK(fstat(fd, &st) == 0 && st.st_nlink == 2);
    CHECK(pwrite(fd, "T", 1, 0) == 1 && fsync(fd) == 0);
    CHECK(is(at(1, "u2"), "Text") && is(at(0, "u3"), "Text"));
    CHECK(unlink(at(1, "u2")) == 0); /* by the other mount */
    CHECK(is(at(0, "u3"), "Text"));
    CHECK(pwrite(fd, "x", 1, 3) == 1 && close(fd) == 0);
    CHECK(is(at(1, "u3"), "Texx"));
    CHECK(has_names(1, "u3", 1));
    fd = open(at(0, "u3"), O_RDONLY);
    CHECK(unlink(at(0, "u3")) == 0);
    CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0);
    CHECK(close(fd) == 0);
    CHECK(is_gone(1, "u3"));
}

static void a_rename_replaces_one_name(void)
{
    CHECK(put(at(0, "r1"), "old") && put(at(0, "rnew"), "new"));
    CHECK(link(at(0, "r1"), at(0, "r2")) == 0);
    CHECK(has_names(1, "r2", 2));
    CHECK(rename(at(0, "rnew"), at(0, "r1")) == 0);
    for (int m = 0; m < 2; m++) {
        CHECK(is(at(m, "r1"), "new") && is(at(m, "r2"), "old"));
        CHECK(has_names(m, "r1", 1) && has_names(m, "r2", 1));
    }
}

static void a_rename_to_another_name_of_the_same_does_nothing(void)
{
    CHECK(put(at(0, "s1"), "text"));
    CHECK(link(at(0, "s1"), at(0, "d/s2")) == 0);
    CHECK(rename(at(0, "s1"), at(0, "d/s2")) == 0);
    CHECK(rename(at(1, "d/s2"), at(1, "s1")) == 0);
    CHECK(syscall(SYS_renameat2, AT_FDCWD, at(1, "d/s2"), AT_FDCWD, at(1, "s1"), 2 /* RENAME_EXCHANGE */) ==
          0);
    CHECK_ERRNO(syscall(SYS_renameat2, AT_FDCWD, at(1, "d/s2"), AT_FDCWD, at(1, "s1"), 1 /* NOREPLACE */),
                EEXIST);
    for (int m = 0; m < 2; m++)
        CHECK(has_names(m, "s1", 2) && has_names(m, "d/s2", 2));
}

static void names_are_exchanged(void)
{
    CHECK(put(at(0, "x1"), "x") && put(at(0, "y"), "y"));
    CHECK(link(at(0, "x1"), at(0, "x2")) == 0);
    CHECK(syscall(SYS_renameat2, AT_FDCWD, at(0, "x1"), AT_FDCWD, at(0, "y"), 2) == 0);
    for (int m = 0; m < 2; m++) {
        CHECK(is(at(m, "x1"), "y") && is(at(m, "y"), "x") && is(at(m, "x2"), "x"));
        CHECK(has_names(m, "y", 2) && has_names(m, "x2", 2) && has_names(m, "x1", 1));
    }
}

static void what_is_refused(void)
{
    const char *outside = "/tmp/kvfs-links-outside";

    CHECK(put(at(0, "f"), "text") && symlink("nowhere", at(0, "sym")) == 0);
    CHECK_ERRNO(link(at(0, "f"), at(0, "one")), EEXIST);
    CHECK_ERRNO(link(at(1, "f"), at(1, "d")), EEXIST);
    CHECK_ERRNO(link(at(0, "d"), at(0, "dir")), EPERM);
    CHECK_ERRNO(link(at(0, "missing"), at(0, "x")), ENOENT);
    CHECK_ERRNO(link(at(0, "f"), at(0, "missing/x")), ENOENT);
    CHECK_ERRNO(link(at(0, "f"), at(0, "one/x")), ENOTDIR);
    CHECK_ERRNO(link(at(0, "f"), outside), EXDEV);
    CHECK_ERRNO(link(at(0, "f"), at(0, ".versions/x")), EROFS);
    CHECK_ERRNO(link(at(0, "f"), at(0, ".versions")), EEXIST);
    CHECK_ERRNO(link(at(0, ".versions/f/1"), at(0, "x")), EROFS);
    CHECK_ERRNO(link(at(0, ".kvfs/cluster"), at(0, "x")),
                access(at(0, ".kvfs/cluster"), F_OK) == 0 ? EROFS : ENOENT);
    CHECK(linkat(AT_FDCWD, at(0, "sym"), AT_FDCWD, at(0, "sym2"), 0) == 0); /* the link itself */
    CHECK(has_names(0, "sym", 2) && has_names(1, "sym2", 2));
    CHECK_ERRNO(linkat(AT_FDCWD, at(0, "sym"), AT_FDCWD, at(0, "sym3"), AT_SYMLINK_FOLLOW), ENOENT);
    /* What was removed by the other mount is gone, also for who does not know it yet. */
    CHECK(put(at(0, "g"), "text") && ino(at(1, "g")) != 0);
    CHECK(unlink(at(0, "g")) == 0);
    CHECK_ERRNO(link(at(1, "g"), at(1, "x")), ENOENT);
}

static void a_file_has_1000_names_at_most(void)
{
    struct stat st;

    CHECK(mkdir(at(0, "many"), 0755) == 0 && put(at(0, "many/0"), "text"));
    for (int i = 1; i < NAMES_MAX && problems == 0; i++)
        CHECK(link(at(0, "many/%d", i / 2), at(0, "many/%d", i)) == 0);
    CHECK_ERRNO(link(at(0, "many/7"), at(0, "many/x")), EMLINK);
    CHECK_ERRNO(link(at(1, "many/8"), at(1, "many/x")), EMLINK);
    CHECK(put(at(1, "many/777"), "through one"));
    CHECK(is(at(0, "many/5"), "through one"));
    CHECK(unlink(at(1, "many/3")) == 0);
    CHECK(link(at(0, "many/7"), at(0, "many/x")) == 0);
    CHECK(stat(at(0, "many/x"), &st) == 0 && st.st_nlink == NAMES_MAX);
    CHECK(shell("rm -r many"));
}

/* What is not published yet has no other names that show less. */
static void a_new_name_shows_what_was_written(void)
{
    int fd = open(at(0, "e1"), O_RDWR | O_CREAT | O_EXCL, 0644);

    CHECK(fd >= 0 && write(fd, "written", 7) == 7);
    CHECK(link(at(0, "e1"), at(0, "e2")) == 0);
    CHECK(is(at(1, "e2"), "written"));
    CHECK(write(fd, " on", 3) == 3 && fsync(fd) == 0);
    CHECK(is(at(1, "e2"), "written on") && is(at(0, "e2"), "written on"));
    CHECK(close(fd) == 0);
}

/* Whichever name was told last: an open by a path that has changed does not find what was there. */
static void directories_above_a_name_move(void)
{
    CHECK(mkdir(at(0, "p"), 0755) == 0 && mkdir(at(0, "q"), 0755) == 0);
    CHECK(put(at(0, "p/f"), "0"));
    CHECK(link(at(0, "p/f"), at(0, "q/f")) == 0);
    for (int i = 0; i < 20 && problems == 0; i++) {
        CHECK(is(at(0, "p/f"), i > 0 ? "new" : "0"));
        CHECK(ino(at(0, "q/f")) != 0); /* told last */
        CHECK(rename(at(1, "p"), at(1, "away")) == 0);
        CHECK_ERRNO(open(at(0, "p/f"), O_RDONLY), ENOENT);
        CHECK(mkdir(at(1, "p"), 0755) == 0 && put(at(1, "p/f"), "other"));
        CHECK(becomes(at(0, "p/f"), "other")); /* that a name was missing may be remembered for a moment */
        CHECK(unlink(at(1, "p/f")) == 0 && rmdir(at(1, "p")) == 0);
        CHECK(rename(at(1, "away"), at(1, "p")) == 0);
        CHECK(put(at(1, "q/f"), "new"));
    }
}

static void each_name_has_the_history(void)
{
    CHECK(put(at(0, "h1"), "one") && put(at(0, "h1"), "two"));
    CHECK(link(at(0, "h1"), at(0, "d/h2")) == 0);
    CHECK(put(at(1, "d/h2"), "three"));
    CHECK(is(at(0, ".versions/h1/3"), "three") && is(at(0, ".versions/h1/2"), "two"));
    CHECK(is(at(0, "d/.versions/h2/1"), "two") && is(at(0, "d/.versions/h2/2"), "three"));
    CHECK(unlink(at(0, "h1")) == 0 && put(at(0, "d/h2"), "four"));
    CHECK(is(at(1, "d/.versions/h2/3"), "four") && is(at(1, ".versions/h1/3"), "three"));
    CHECK(shell("[ -e .versions/h1/3.deleted ] && [ ! -e .versions/h1/4 ]"));
    CHECK(shell("cp .versions/h1/2 h1") && is(at(0, "h1"), "two") && is(at(0, "d/h2"), "four"));
}

static void programs_make_them(void)
{
    CHECK(shell("mkdir tree tree/sub && echo a >tree/a && echo b >tree/sub/b && ln tree/a tree/sub/c"));
    CHECK(shell("cp -al tree copy && [ $(stat -c %h copy/sub/c) = 4 ] && [ copy/sub/b -ef tree/sub/b ]"));
    CHECK(shell("[ $(stat -c %h \"$B/tree/a\") = 4 ] && diff -r \"$B/tree\" \"$B/copy\""));
    CHECK(shell("rm -r copy && [ $(stat -c %h tree/a) = 2 ]"));
    CHECK(shell("tar cf tree.tar tree && mkdir untar && tar xf tree.tar -C untar &&"
                " [ untar/tree/a -ef untar/tree/sub/c ] && [ $(stat -c %h untar/tree/a) = 2 ]"));
    CHECK(shell("cp -a tree kept && [ kept/a -ef kept/sub/c ]"));
    CHECK(shell("command -v rsync >/dev/null || exit 0; rsync -aH tree/ synced/ &&"
                " [ synced/a -ef synced/sub/c ] && rsync -a --link-dest=\"$PWD/tree\" tree/ snapshot/ &&"
                " [ snapshot/sub/b -ef tree/sub/b ]"));
    CHECK(shell("echo x >old && ln -f old new && ln -f tree/a new && [ $(stat -c %h old) = 1 ]"));
    /* A lock as mail programs make it. */
    CHECK(shell(
        "echo $$ >lock.1 && ln lock.1 lock && ! ln lock.1 lock 2>/dev/null && [ $(stat -c %h lock.1) = 2 ]"));
}

static void ssh_keygen_keeps_what_was_there(void)
{
    CHECK(shell("command -v ssh-keygen >/dev/null || exit 0; mkdir ssh && cd ssh &&"
                " ssh-keygen -q -t ed25519 -N '' -f key && for h in one two three; do"
                " echo \"$h $(cut -d' ' -f1,2 key.pub)\"; done >known_hosts &&"
                " ssh-keygen -q -R two -f known_hosts >/dev/null 2>&1 &&"
                " [ $(wc -l <\"$B/ssh/known_hosts\") = 2 ] && [ $(wc -l <\"$B/ssh/known_hosts.old\") = 3 ] &&"
                " [ $(stat -c %h known_hosts known_hosts.old | sort -u) = 1 ] &&"
                " ssh-keygen -q -R one -f known_hosts >/dev/null 2>&1 && [ $(wc -l <known_hosts.old) = 2 ]"));
}

static void git_clones_by_links(void)
{
    CHECK(shell("command -v git >/dev/null || exit 0;"
                " export GIT_CONFIG_NOSYSTEM=1 HOME=/nonexistent GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t"
                " GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t;"
                " git init -q repo && for i in 1 2 3 4 5; do echo $i >repo/f$i; done &&"
                " git -C repo add . && git -C repo commit -qm one &&"
                " git clone -q --local repo clone && git -C clone fsck --strict >/dev/null 2>&1 &&"
                " [ $(find clone/.git/objects -type f -links 2 | wc -l) -ge 7 ] &&"
                " echo more >clone/f1 && git -C clone commit -qam two && git -C clone gc -q &&"
                " git -C \"$B/repo\" fsck >/dev/null 2>&1 && [ $(git -C repo log --oneline | wc -l) = 1 ] &&"
                " [ $(git -C \"$B/clone\" log --oneline | wc -l) = 2 ]"));
}

/* dpkg keeps the status of before as a link. */
static void dpkg_keeps_its_status(void)
{
    CHECK(shell("command -v dpkg >/dev/null && [ $(id -u) = 0 ] || exit 0;"
                " mkdir -p dpkg/updates dpkg/info dpkg/triggers && : >dpkg/status && : >dpkg/available &&"
                " printf 'Package: x\\nStatus: install ok installed\\nMaintainer: t <t@t>\\n"
                "Architecture: all\\nVersion: 1\\nDescription: x\\n' >dpkg/status &&"
                " echo 'x hold' | dpkg --admindir=\"$PWD/dpkg\" --set-selections &&"
                " grep -q 'hold ok' \"$B/dpkg/status\" && grep -q 'install ok' \"$B/dpkg/status-old\""));
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
        fprintf(stderr, "usage: links A B\n");
        return 2;
    }
    mounts[0] = argv[1];
    mounts[1] = argv[2];
    umask(022);
    RUN(several_names_show_one_file);
    RUN(a_write_through_one_is_read_through_the_others);
    RUN(names_go_one_by_one);
    RUN(a_rename_replaces_one_name);
    RUN(a_rename_to_another_name_of_the_same_does_nothing);
    RUN(names_are_exchanged);
    RUN(what_is_refused);
    RUN(a_file_has_1000_names_at_most);
    RUN(a_new_name_shows_what_was_written);
    RUN(directories_above_a_name_move);
    RUN(each_name_has_the_history);
    RUN(programs_make_them);
    RUN(ssh_keygen_keeps_what_was_there);
    RUN(git_clones_by_links);
    RUN(dpkg_keeps_its_status);
    printf("1..%d\n", n_tests);
    return n_failed > 0;
}
