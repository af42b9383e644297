/* What a mount does in a second, beside the floor of the disk under it, in one run.
 *
 *   mount_bench --dir DIR_IN_MOUNT --disk DIR [--seconds N] [--files N]
 *
 * One JSON object a line: op, clients, ops_per_s, p50_us, p99_us, max_us, ratio
 * (to the floor). echo: the calls that a shell makes for `echo x > f` on an
 * existing file, durable when the last one returns (fsynced by a majority).
 * open-read-close: of a 100-byte file. list: `ls -l` of N files, in seconds. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 64
#define SAMPLES_MAX 400000
#define FLOOR_BYTES (64 * 1024 * 1024)

struct samples { /* shared between processes */
    uint32_t n;
    uint32_t us[SAMPLES_MAX];
};

static double seconds = 3;
static double floor_rate;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    fprintf(stderr, "mount_bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static double report(const char *op, unsigned clients, struct samples *all, double took)
{
    double rate = all->n / took;

    qsort(all->us, all->n, sizeof all->us[0], by_value);
    printf("{\"op\":\"%s\",\"clients\":%u,\"ops_per_s\":%.0f,\"p50_us\":%u,\"p99_us\":%u,\"max_us\":%u,"
           "\"ratio\":%.3f}\n",
           op, clients, rate, all->us[all->n / 2], all->us[all->n - 1 - all->n / 100], all->us[all->n - 1],
           floor_rate > 0 ? rate / floor_rate : 1);
    fflush(stdout);
    return rate;
}

static void floor_once(int fd, uint32_t i)
{
    static char block[128];

    if (pwrite(fd, block, sizeof block, (off_t)(i % (FLOOR_BYTES / 128)) * 128) != (ssize_t)sizeof block ||
        fdatasync(fd) != 0)
        fail("floor");
}

/* bash and dash: open, move to descriptor 1, write, move back. */
static void echo_once(const char *path, uint32_t i)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%u\n", i);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666), saved;

    if (fd < 0)
        fail(path);
    saved = fcntl(1, F_DUPFD_CLOEXEC, 10);
    if (saved < 0 || dup2(fd, 1) < 0 || close(fd) != 0 || write(1, text, (size_t)n) != n)
        fail("echo");
    if (dup2(saved, 1) < 0 || close(saved) != 0)
        fail("echo");
}

static void read_once(const char *path)
{
    char text[256];
    int fd = open(path, O_RDONLY);

    if (fd < 0 || read(fd, text, sizeof text) <= 0 || close(fd) != 0)
        fail(path);
}

enum op { OP_FLOOR, OP_ECHO, OP_READ };

static void run_client(enum op op, const char *path, struct samples *s)
{
    double end = now() + seconds, warm = now() + seconds / 10;
    uint32_t i = 0;
    int fd = -1;

    if (op == OP_FLOOR && (fd = open(path, O_WRONLY)) < 0)
        fail(path);
    for (;;) {
        double t = now(), after;

        if (t > end)
            break;
        if (op == OP_FLOOR)
            floor_once(fd, i++);
        else if (op == OP_ECHO)
            echo_once(path, i++);
        else
            read_once(path);
        after = now();
        if (t > warm && s->n < SAMPLES_MAX)
            s->us[s->n++] = (uint32_t)((after - t) * 1e6);
    }
}

static double measure(const char *name, enum op op, const char *dir, unsigned clients)
{
    struct samples *s =
        mmap(NULL, sizeof *s * (clients + 1), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[CLIENTS_MAX];
    unsigned i;
    double rate;

    if (s == MAP_FAILED)
        fail("mmap");
    for (i = 0; i < clients; i++) {
        char path[4096];

        snprintf(path, sizeof path, "%s/bench%u", dir, i);
        if (op != OP_FLOOR)
            echo_once(path, 0);
        fflush(stdout);
        pids[i] = fork();
        if (pids[i] == 0) {
            run_client(op, path, &s[i]);
            _exit(0);
        }
    }
    for (i = 0; i < clients; i++) {
        int status;

        if (waitpid(pids[i], &status, 0) != pids[i] || status != 0) {
            fprintf(stderr, "mount_bench: a client failed\n");
            exit(1);
        }
        for (uint32_t k = 0; k < s[i].n && s[clients].n < SAMPLES_MAX; k++)
            s[clients].us[s[clients].n++] = s[i].us[k];
    }
    rate = report(name, clients, &s[clients], seconds * 0.9);
    munmap(s, sizeof *s * (clients + 1));
    return rate;
}

static void make_floor_file(const char *dir)
{
    char path[4096], *block = calloc(1, 1 << 20);
    int fd, i;

    snprintf(path, sizeof path, "%s/bench0", dir);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || block == NULL)
        fail(path);
    for (i = 0; i < FLOOR_BYTES >> 20; i++)
        if (write(fd, block, 1 << 20) != 1 << 20)
            fail(path);
    if (fsync(fd) != 0)
        fail(path);
    close(fd);
    free(block);
}

static void list(const char *dir, unsigned files)
{
    char path[4200], name[64];
    unsigned i, n = 0;
    struct dirent *e;
    struct stat st;
    double t;
    DIR *d;

    snprintf(path, sizeof path, "%s/many", dir);
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        fail(path);
    for (i = 0; i < files; i++) {
        int fd;

        snprintf(path, sizeof path, "%s/many/file%u", dir, i);
        fd = open(path, O_WRONLY | O_CREAT, 0644);
        if (fd < 0 || close(fd) != 0)
            fail(path);
    }
    snprintf(path, sizeof path, "%s/many", dir);
    t = now();
    d = opendir(path);
    if (d == NULL)
        fail(path);
    while ((e = readdir(d)) != NULL) {
        snprintf(name, sizeof name, "%.60s", e->d_name);
        if (fstatat(dirfd(d), name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            fail(name);
        n++;
    }
    closedir(d);
    printf("{\"op\":\"list\",\"files\":%u,\"seconds\":%.3f}\n", n - 2, now() - t);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"dir", required_argument, NULL, 'd'},
                                            {"disk", required_argument, NULL, 'k'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {"files", required_argument, NULL, 'f'},
                                            {NULL, 0, NULL, 0}};
    const char *dir = NULL, *disk = NULL;
    unsigned files = 10000;
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'd')
            dir = optarg;
        else if (c == 'k')
            disk = optarg;
        else if (c == 's')
            seconds = atof(optarg);
        else if (c == 'f')
            files = (unsigned)strtoul(optarg, NULL, 10);
        else
            return 2;
    }
    if (dir == NULL || disk == NULL) {
        fprintf(stderr, "usage: mount_bench --dir DIR_IN_MOUNT --disk DIR [--seconds N] [--files N]\n");
        return 2;
    }
    make_floor_file(disk);
    floor_rate = measure("floor", OP_FLOOR, disk, 1);
    measure("echo", OP_ECHO, dir, 1);
    measure("echo", OP_ECHO, dir, 16);
    measure("open-read-close", OP_READ, dir, 1);
    if (files > 0)
        list(dir, files);
    return 0;
}
