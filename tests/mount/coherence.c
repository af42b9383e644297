/* Two mounts of one cluster: what is closed on one is what is opened on the
 * other, from that moment on.
 *
 *   coherence A B ROUNDS [CHECK]
 *
 * Each check changes something through one mount and looks through the other,
 * in turn, with one process: so "after" means after. Prints TAP. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/look_again.h"

#define SOON_MS 1000

static const char *mounts[2];
static int rounds;
static int n_tests, n_failed;

static const char *at(int mount, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static const char *at(int mount, const char *fmt, ...)
{
    static char paths[8][512];
    static int next;
    char *path = paths[next++ % 8];
    int n = snprintf(path, sizeof paths[0], "%s/", mounts[mount & 1]);
    va_list args;

    va_start(args, fmt);
    vsnprintf(path + n, sizeof paths[0] - (size_t)n, fmt, args);
    va_end(args);
    return path;
}

static bool put_flags(const char *path, const char *text, int flags)
{
    int fd = open(path, flags, 0644);
    ssize_t len = (ssize_t)strlen(text);

    if (fd < 0)
        return false;
    if (write(fd, text, (size_t)len) != len) {
        close(fd);
        return false;
    }
    return close(fd) == 0;
}

static bool put(const char *path, const char *text)
{
    return put_flags(path, text, O_WRONLY | O_CREAT | O_TRUNC);
}

/* The content, or the errno's name in brackets. */
static const char *get(const char *path)
{
    static char text[4096];
    int fd = open(path, O_RDONLY);
    ssize_t n;

    if (fd < 0) {
        snprintf(text, sizeof text, "[open: %s]", strerror(errno));
        return text;
    }
    n = read(fd, text, sizeof text - 1);
    if (n < 0)
        snprintf(text, sizeof text, "[read: %s]", strerror(errno));
    else
        text[n] = '\0';
    close(fd);
    return text;
}

struct tally {
    int bad;
    char first[512];
};

static void expect(struct tally *t, int round, const char *want, const char *got)
{
    if (strcmp(want, got) == 0)
        return;
    if (t->bad++ == 0)
        snprintf(t->first, sizeof t->first, "round %d: wanted %.120s, got %.120s", round, want, got);
}

static void expect_true(struct tally *t, int round, bool fact, const char *what)
{
    if (fact)
        return;
    if (t->bad++ == 0)
        snprintf(t->first, sizeof t->first, "round %d: %s: %s", round, what, strerror(errno));
}

static void report(const struct tally *t, const char *name)
{
    n_tests++;
    n_failed += t->bad > 0;
    printf("%s %d - %s\n", t->bad > 0 ? "not ok" : "ok", n_tests, name);
    if (t->bad > 0)
        printf("# %d of %d; first: %s\n", t->bad, rounds, t->first);
    fflush(stdout);
}

static void write_here_read_there(void)
{
    struct tally t = {0};
    char text[64];
    int i;

    for (i = 0; i < rounds; i++) {
        /* Longer and shorter, so that a stale size shows. */
        snprintf(text, sizeof text, "%.*s%d", i % 40, "........................................", i);
        expect_true(&t, i, put(at(i, "co-file"), text), "write");
        expect(&t, i, text, get(at(i + 1, "co-file")));
    }
    report(&t, "what is closed on one mount is opened on the other");
}

static void append_in_turn(void)
{
    struct tally t = {0};
    char want[4096] = "", piece[16];
    int i;

    put(at(0, "co-append"), "");
    for (i = 0; i < rounds / 4; i++) {
        if (strlen(want) > 3000) {
            want[0] = '\0';
            put(at(i, "co-append"), "");
        }
        snprintf(piece, sizeof piece, "%d,", i);
        strcat(want, piece);
        expect_true(&t, i, put_flags(at(i, "co-append"), piece, O_WRONLY | O_APPEND), "append");
        expect(&t, i, want, get(at(i + 1, "co-append")));
    }
    report(&t, "appends in turn");
}

static void rename_over_here_read_there(void)
{
    struct tally t = {0};
    char text[64];
    int i;

    for (i = 0; i < rounds; i++) {
        snprintf(text, sizeof text, "renamed %d", i);
        expect_true(&t, i, put(at(i, "co-tmp%d", i & 1), text), "write");
        expect_true(&t, i, rename(at(i, "co-tmp%d", i & 1), at(i, "co-target")) == 0, "rename");
        expect(&t, i, text, get(at(i + 1, "co-target")));
    }
    report(&t, "a file renamed over another");
}

static void remove_here_make_there(void)
{
    struct tally t = {0};
    char text[64];
    int i;

    for (i = 0; i < rounds; i++) {
        snprintf(text, sizeof text, "made %d", i);
        expect_true(&t, i, put(at(i, "co-made"), text), "write");
        expect(&t, i, text, get(at(i + 1, "co-made")));
        expect_true(&t, i, unlink(at(i + 1, "co-made")) == 0, "unlink");
        /* Made again at once on the side that has just removed it. */
    }
    report(&t, "removed on one, made on the other");
}

static void rename_a_directory_above(void)
{
    struct tally t = {0};
    uint64_t until;
    char text[64];
    int i;

    mkdir(at(0, "co-dir0"), 0755);
    mkdir(at(0, "co-dir0/sub"), 0755);
    for (i = 0; i < rounds / 4; i++) {
        snprintf(text, sizeof text, "in directory %d", i);
        expect_true(&t, i, put(at(i, "co-dir%d/sub/key", i & 1), text), "write");
        expect(&t, i, text, get(at(i + 1, "co-dir%d/sub/key", i & 1)));
        expect_true(&t, i, rename(at(i, "co-dir%d", i & 1), at(i, "co-dir%d", (i + 1) & 1)) == 0, "rename");
        /* That the new name was missing may be remembered until the event comes. */
        until = 0;
        while (access(at(i + 1, "co-dir%d", (i + 1) & 1), F_OK) != 0 && look_again(&until, SOON_MS))
            ;
        expect(&t, i, text, get(at(i + 1, "co-dir%d/sub/key", (i + 1) & 1)));
        /* The old name must not lead anywhere by an open. */
        expect(&t, i, "[open: No such file or directory]", get(at(i + 1, "co-dir%d/sub/key", i & 1)));
    }
    report(&t, "a directory renamed above a file");
}

static void work_in_a_directory_that_moves(void)
{
    struct tally t = {0};
    char text[64];
    int i, dir;

    mkdir(at(0, "co-home0"), 0755);
    put(at(0, "co-home0/key"), "x");
    dir = open(at(1, "co-home0"), O_RDONLY | O_DIRECTORY);
    expect_true(&t, 0, dir >= 0, "open of the directory");
    for (i = 0; i < rounds / 8; i++) {
        int fd;
        ssize_t n;
        char got[64] = "";

        snprintf(text, sizeof text, "home %d", i);
        expect_true(&t, i, put(at(0, "co-home%d/key", i & 1), text), "write");
        expect_true(&t, i, rename(at(0, "co-home%d", i & 1), at(0, "co-home%d", (i + 1) & 1)) == 0, "rename");
        fd = openat(dir, "key", O_RDONLY);
        expect_true(&t, i, fd >= 0, "openat in a directory that was renamed elsewhere");
        n = fd >= 0 ? read(fd, got, sizeof got - 1) : 0;
        got[n > 0 ? n : 0] = '\0';
        expect(&t, i, text, got);
        if (fd >= 0)
            close(fd);
    }
    close(dir);
    report(&t, "openat below a directory that is renamed elsewhere");
}

static void descriptors_and_maps_see_it_soon(void)
{
    struct tally t = {0};
    char text[64], got[64];
    int i, fd;
    char *map;

    put(at(0, "co-open"), "start.....");
    fd = open(at(1, "co-open"), O_RDONLY);
    map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    for (i = 0; i < rounds / 20; i++) {
        uint64_t until = 0;
        bool seen;

        snprintf(text, sizeof text, "open%06d", i);
        expect_true(&t, i, put_flags(at(0, "co-open"), text, O_WRONLY), "write");
        do {
            ssize_t n = pread(fd, got, sizeof got - 1, 0);

            got[n > 0 ? n : 0] = '\0';
            seen = strcmp(got, text) == 0 && memcmp(map, text, strlen(text)) == 0;
        } while (!seen && look_again(&until, SOON_MS));
        expect_true(&t, i, seen, "an open file and a map show the change within a second");
    }
    munmap(map, 4096);
    close(fd);
    report(&t, "open files and maps follow");
}

static bool has_mode(int mount, const char *name, mode_t mode)
{
    struct stat st;

    return stat(at(mount, "%s", name), &st) == 0 && (st.st_mode & 0777) == mode;
}

static void names_follow_soon(void)
{
    struct tally t = {0};
    int i;

    for (i = 0; i < rounds / 20; i++) {
        mode_t mode = 0600 + (unsigned)(i % 8);
        uint64_t until = 0;
        struct stat st;

        stat(at(1, "co-name"), &st); /* so that its absence is cached */
        expect_true(&t, i, put(at(0, "co-name"), "x"), "write");
        while (access(at(1, "co-name"), F_OK) != 0 && look_again(&until, SOON_MS))
            ;
        expect_true(&t, i, access(at(1, "co-name"), F_OK) == 0, "a new name appears within a second");
        expect_true(&t, i, chmod(at(0, "co-name"), mode) == 0, "chmod");
        until = 0;
        while (!has_mode(1, "co-name", mode) && look_again(&until, SOON_MS))
            ;
        expect_true(&t, i, has_mode(1, "co-name", mode), "a mode follows within a second");
        expect_true(&t, i, unlink(at(0, "co-name")) == 0, "unlink");
        until = 0;
        while (stat(at(1, "co-name"), &st) == 0 && look_again(&until, SOON_MS))
            ;
        expect_true(&t, i, stat(at(1, "co-name"), &st) != 0, "a removed name goes within a second");
    }
    report(&t, "names and modes follow");
}

/* Another process replaces a file without pause; opening it never fails and never shows half of it. */
static void open_what_is_replaced_all_the_time(void)
{
    struct tally t = {0};
    int i, status, done[2];
    char byte;
    pid_t child;

    put(at(0, "co-busy"), "busy 0 busy");
    if (pipe2(done, O_NONBLOCK) != 0)
        return;
    child = fork();
    if (child == 0) {
        char text[64];

        for (i = 0; read(done[0], &byte, 1) != 1; i++) {
            snprintf(text, sizeof text, "busy %d busy", i);
            if (!put(at(0, "co-busy.tmp"), text) || rename(at(0, "co-busy.tmp"), at(0, "co-busy")) != 0)
                _exit(1);
        }
        _exit(0);
    }
    for (i = 0; i < rounds; i++) {
        const char *got = get(at(1, "co-busy"));
        size_t len = strlen(got);

        if (strncmp(got, "busy ", 5) != 0 || len < 11 || strcmp(got + len - 5, " busy") != 0)
            expect(&t, i, "busy N busy", got);
    }
    if (write(done[1], "x", 1) != 1)
        kill(child, SIGKILL);
    waitpid(child, &status, 0);
    expect_true(&t, i, status == 0, "the writer went well");
    close(done[0]);
    close(done[1]);
    report(&t, "a file that is replaced all the time can be opened");
}

static void unlinked_there_still_readable_here(void)
{
    struct tally t = {0};
    char text[64], got[64];
    int i;

    for (i = 0; i < rounds / 10; i++) {
        uint64_t until = 0;
        struct stat st;
        int fd;
        ssize_t n;

        snprintf(text, sizeof text, "unlinked %d", i);
        put(at(0, "co-gone"), text);
        fd = open(at(1, "co-gone"), O_RDWR);
        expect_true(&t, i, fd >= 0, "open");
        expect_true(&t, i, unlink(at(0, "co-gone")) == 0, "unlink");
        n = pread(fd, got, sizeof got - 1, 0);
        got[n > 0 ? n : 0] = '\0';
        expect(&t, i, text, n < 0 ? strerror(errno) : got);
        while (fstat(fd, &st) == 0 && st.st_nlink != 0 && look_again(&until, 5000))
            ;
        expect_true(&t, i, st.st_nlink == 0, "that it is removed is told");
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        n = pread(fd, got, sizeof got - 1, 0);
        got[n > 0 ? n : 0] = '\0';
        expect(&t, i, text, n < 0 ? strerror(errno) : got);
        close(fd);
    }
    report(&t, "a file unlinked on the other mount stays readable");
}

/* An open descriptor here keeps the file, not its name. */
static void removed_there_not_to_be_opened_here(void)
{
    struct tally t = {0};
    char path[64];
    int i;

    for (i = 0; i < rounds; i++) {
        int kept = open(at(0, "co-gone2"), O_RDWR | O_CREAT | O_EXCL, 0644), fd;

        expect_true(&t, i, kept >= 0, "made");
        if (i % 2 == 1)
            expect_true(&t, i, write(kept, "kept", 4) == 4 && fsync(kept) == 0, "written");
        expect_true(&t, i, unlink(at(1, "co-gone2")) == 0, "removed");
        fd = open(at(0, "co-gone2"), O_RDONLY);
        expect_true(&t, i, fd < 0 && errno == ENOENT, "what is removed cannot be opened");
        if (fd >= 0)
            close(fd);
        snprintf(path, sizeof path, "/proc/self/fd/%d", kept);
        fd = open(path, O_RDONLY);
        expect_true(&t, i, fd >= 0, "but by its descriptor it can");
        if (fd >= 0)
            close(fd);
        close(kept);
    }
    report(&t, "removed there, not to be opened here");
}

/* Both sides append to one file at the same time: nothing is lost. */
static void append_at_once(void)
{
    struct tally t = {0};
    int i, n = rounds / 10, status, seen[2] = {0, 0};
    pid_t child;
    FILE *f;
    char line[64];

    put(at(0, "co-both"), "");
    child = fork();
    for (i = 0; i < n; i++) {
        snprintf(line, sizeof line, "%d %d\n", child == 0, i);
        if (!put_flags(at(child == 0, "co-both"), line, O_WRONLY | O_APPEND))
            expect_true(&t, i, false, "append");
    }
    if (child == 0)
        _exit(t.bad > 0);
    waitpid(child, &status, 0);
    expect_true(&t, n, status == 0, "the other side appended");
    f = fopen(at(1, "co-both"), "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        int who, number;

        if (sscanf(line, "%d %d", &who, &number) == 2 && (who == 0 || who == 1) && number == seen[who])
            seen[who]++;
        else
            expect(&t, 0, "a whole line in order", line);
    }
    if (f != NULL)
        fclose(f);
    expect_true(&t, n, seen[0] == n && seen[1] == n, "every line is there once, in order");
    report(&t, "appending on both mounts at once loses nothing");
}

/* O_EXCL decides in the cluster: exactly one side wins. */
static void exclusive_creation_has_one_winner(void)
{
    struct tally t = {0};
    int i, n = rounds / 10, wins[2] = {0, 0}, to[2];
    pid_t child;

    if (pipe(to) != 0)
        return;
    child = fork();
    for (i = 0; i < n; i++) {
        int fd = open(at(child == 0, "co-excl%d", i), O_CREAT | O_EXCL | O_WRONLY, 0644);
        char won = fd >= 0;

        if (fd >= 0)
            close(fd);
        if (child == 0) {
            if (write(to[1], &won, 1) != 1)
                _exit(1);
        } else {
            char other;

            if (read(to[0], &other, 1) != 1)
                break;
            if (won + other != 1)
                expect_true(&t, i, false, won ? "both won" : "none won");
            wins[0] += won;
            wins[1] += other;
        }
    }
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
    close(to[0]);
    close(to[1]);
    report(&t, "exclusive creation has one winner");
    printf("# %d and %d wins\n", wins[0], wins[1]);
}

/* Every creation that is reported made one file, and no other did: as many names
 * go as came, however soon the other side removes them. */
static void what_is_created_is_removed_once(void)
{
    struct tally t = {0};
    struct {
        _Atomic int created, removed;
    } *sum = mmap(NULL, sizeof *sum, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int who, n = rounds * 3;

    if (sum == MAP_FAILED)
        return;
    for (who = 0; who < 4; who++) {
        const char *path = at(who, "co-once");

        if (fork() != 0)
            continue;
        while (sum->created < n) {
            int fd = who < 2 ? open(path, O_CREAT | O_EXCL | O_WRONLY, 0644) : -1;

            if (fd >= 0) {
                sum->created++;
                close(fd);
            }
            if (who >= 2 && unlink(path) == 0)
                sum->removed++;
        }
        _exit(0);
    }
    while (wait(NULL) > 0)
        ;
    sum->removed += unlink(at(0, "co-once")) == 0;
    errno = 0;
    expect_true(&t, n, sum->created == sum->removed, "as many created as removed");
    report(&t, "what is created is removed once");
    printf("# %d created, %d removed\n", sum->created, sum->removed);
    munmap(sum, sizeof *sum);
}

#define CHECK(name)                                                                                          \
    {                                                                                                        \
#name, name                                                                                          \
    }

static const struct {
    const char *name;
    void (*run)(void);
} checks[] = {
    CHECK(write_here_read_there),
    CHECK(append_in_turn),
    CHECK(rename_over_here_read_there),
    CHECK(remove_here_make_there),
    CHECK(rename_a_directory_above),
    CHECK(work_in_a_directory_that_moves),
    CHECK(descriptors_and_maps_see_it_soon),
    CHECK(names_follow_soon),
    CHECK(open_what_is_replaced_all_the_time),
    CHECK(unlinked_there_still_readable_here),
    CHECK(removed_there_not_to_be_opened_here),
    CHECK(append_at_once),
    CHECK(exclusive_creation_has_one_winner),
    CHECK(what_is_created_is_removed_once),
};

int main(int argc, char **argv)
{
    struct timespec start, end;
    size_t i;

    if (argc != 4 && argc != 5)
        return 2;
    mounts[0] = argv[1];
    mounts[1] = argv[2];
    rounds = atoi(argv[3]);
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        if (argc == 4 || strcmp(argv[4], checks[i].name) == 0)
            checks[i].run();
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("# %ld s\n1..%d\n", (long)(end.tv_sec - start.tv_sec), n_tests);
    return n_failed > 0;
}
