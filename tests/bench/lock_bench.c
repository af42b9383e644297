/* What locks cost: lock_bench FILE OTHER [N], the same file through two mounts, of two nodes. Prints, in us:
 *
 *   alone     lock and unlock, p50 and p99, of a file that nobody else locks, after the first time; and the
 * first recalled  the first lock through the other mount of a file that the first one has locked (and
 * unlocked) handed    from unlock(2) begun through one mount to a waiting lock(2) done through the other, p50
 *   contended two programs, one on each mount, that lock and unlock without pause: time for each lock
 *   set       a small file written and closed through the first mount, p50, to compare */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static _Atomic uint64_t *shared; /* [0] when it was unlocked, [1] rounds done by the other, [2] who waits */

static uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int open_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT, 0644);

    if (fd < 0)
        die(path);
    return fd;
}

static void lock(int fd, int how)
{
    if (flock(fd, how) < 0)
        die("flock");
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static uint64_t part(uint64_t *v, int n, int percent)
{
    qsort(v, (size_t)n, sizeof *v, compare);
    return v[(n - 1) * percent / 100];
}

static void alone(const char *path, int n, uint64_t *v)
{
    int fd = open_file(path);
    uint64_t begin = now_us(), first;

    lock(fd, LOCK_EX);
    lock(fd, LOCK_UN);
    first = now_us() - begin;
    for (int i = 0; i < n; i++) {
        begin = now_us();
        lock(fd, LOCK_EX);
        lock(fd, LOCK_UN);
        v[i] = now_us() - begin;
    }
    printf("alone      p50 %llu  p99 %llu  first %llu\n", (unsigned long long)part(v, n, 50),
           (unsigned long long)part(v, n, 99), (unsigned long long)first);
    close(fd);
}

/* A file each, since what was wanted once is shared for a while. */
static void recalled(const char *path, const char *other, int n, uint64_t *v)
{
    char a[4096], b[4096];

    for (int i = 0; i < n; i++) {
        uint64_t begin;
        int fa, fb;

        snprintf(a, sizeof a, "%s.%d", path, i);
        snprintf(b, sizeof b, "%s.%d", other, i);
        fa = open_file(a);
        fb = open_file(b);
        lock(fa, LOCK_EX);
        lock(fa, LOCK_UN);
        begin = now_us();
        lock(fb, LOCK_EX);
        v[i] = now_us() - begin;
        lock(fb, LOCK_UN);
        close(fa);
        close(fb);
        unlink(a);
    }
    printf("recalled   p50 %llu  p99 %llu\n", (unsigned long long)part(v, n, 50),
           (unsigned long long)part(v, n, 99));
}

static void waiter(const char *path, int n)
{
    int fd = open_file(path);

    for (int i = 0; i < n; i++) {
        while (shared[2] != (uint64_t)i + 1)
            usleep(50);
        lock(fd, LOCK_EX);
        shared[3 + i] = now_us();
        lock(fd, LOCK_UN);
        shared[1] = (uint64_t)i + 1;
    }
    _exit(0);
}

/* Until the cluster knows of somebody who waits. */
static void await_waiter(const char *path)
{
    uint64_t until = now_us() + 10000000;
    char text[4096];

    for (;;) {
        ssize_t n = getxattr(path, "user.kv.lock", text, sizeof text - 1);

        text[n > 0 ? n : 0] = '\0';
        if (strstr(text, "waits") != NULL)
            return;
        if (now_us() > until) {
            fprintf(stderr, "nobody waits for %s\n", path);
            exit(1);
        }
        usleep(50);
    }
}

static void handed(const char *path, const char *other, int n, uint64_t *v)
{
    int fd = open_file(path);
    pid_t child = fork();

    if (child == 0)
        waiter(other, n);
    for (int i = 0; i < n; i++) {
        uint64_t begin;

        lock(fd, LOCK_EX);
        shared[2] = (uint64_t)i + 1;
        await_waiter(path);
        begin = now_us();
        lock(fd, LOCK_UN);
        while (shared[1] != (uint64_t)i + 1)
            usleep(50);
        v[i] = shared[3 + i] - begin;
    }
    waitpid(child, NULL, 0);
    printf("handed     p50 %llu  p99 %llu\n", (unsigned long long)part(v, n, 50),
           (unsigned long long)part(v, n, 99));
    close(fd);
}

static void both(const char *path, int n)
{
    int fd = open_file(path);

    for (int i = 0; i < n; i++) {
        lock(fd, LOCK_EX);
        lock(fd, LOCK_UN);
    }
    close(fd);
}

static void contended(const char *path, const char *other, int n)
{
    uint64_t begin = now_us();
    pid_t child = fork();

    if (child == 0) {
        both(other, n);
        _exit(0);
    }
    both(path, n);
    waitpid(child, NULL, 0);
    printf("contended  %llu\n", (unsigned long long)((now_us() - begin) / (2 * (uint64_t)n)));
}

static void set(const char *path, int n, uint64_t *v)
{
    for (int i = 0; i < n; i++) {
        int fd = open_file(path);
        uint64_t begin;

        if (pwrite(fd, "some text\n", 10, 0) != 10)
            die("write");
        begin = now_us();
        if (close(fd) < 0)
            die("close");
        v[i] = now_us() - begin;
    }
    printf("set        p50 %llu  p99 %llu\n", (unsigned long long)part(v, n, 50),
           (unsigned long long)part(v, n, 99));
}

int main(int argc, char **argv)
{
    int n = argc > 3 ? atoi(argv[3]) : 300;
    uint64_t *v;
    char name[4096];

    if (argc < 3 || n < 10) {
        fprintf(stderr, "usage: lock_bench FILE OTHER [N]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    v = calloc((size_t)n * 10, sizeof *v);
    shared = mmap(NULL, ((size_t)n + 3) * sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                  -1, 0);
    if (v == NULL || shared == MAP_FAILED)
        die("memory");
    alone(argv[1], n * 10, v);
    recalled(argv[1], argv[2], n / 10, v);
    handed(argv[1], argv[2], n / 3, v);
    contended(argv[1], argv[2], n);
    snprintf(name, sizeof name, "%s.set", argv[1]);
    set(name, n, v);
    free(v);
    return 0;
}
