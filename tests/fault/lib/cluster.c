#include "tests/fault/lib/cluster.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kvnode/loop/turn.h"
#include "sync/base/clock.h"
#include "tests/fault/lib/clocks.h"
#include "tests/fault/lib/net.h"
#include "tests/fault/lib/small_disk.h"

/* Of a mount that is no FUSE mount, for the guard. */
#define NO_CONNECTION 0xfffffff0u

/* A turn of a node's loop that takes longer is an error in its log, and fails the test. */
#define TURN_LIMIT_MS "40"

extern char **environ;

/* ---- waiting ---- */

void pause_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

bool await(unsigned timeout_ms, bool (*condition)(void *arg), void *arg)
{
    uint64_t deadline = clock_boot_ms() + timeout_ms;
    unsigned wait = 2;

    for (;;) {
        if (condition(arg))
            return true;
        if (clock_boot_ms() >= deadline)
            return false;
        pause_ms(wait);
        wait = wait < 20 ? wait * 2 : 20;
    }
}

unsigned rounds(unsigned fallback)
{
    const char *text = getenv("KVFS_FAULT_ROUNDS");
    int n = text != NULL ? atoi(text) : 0;

    return n > 0 ? (unsigned)n : fallback;
}

/* ---- programs ---- */

static pid_t spawn(const char *const argv[], int out_fd, unsigned files)
{
    struct rlimit limit = {files, files};
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    for (char **e = environ; *e != NULL;) {
        if (strncmp(*e, "KVNODE_", 7) == 0 && strncmp(*e, "KVNODE_NODE=", 12) != 0) {
            char name[64];

            snprintf(name, sizeof name, "%.*s", (int)strcspn(*e, "="), *e);
            unsetenv(name);
            e = environ;
        } else {
            e++;
        }
    }
    setenv("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0:exitcode=99", 0);
    setenv("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1:exitcode=99", 0);
    setenv(TURN_LIMIT_VARIABLE, TURN_LIMIT_MS, 0);
    if (files != 0)
        setrlimit(RLIMIT_NOFILE, &limit);
    setpgid(0, 0);
    dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
    dup2(out_fd, STDOUT_FILENO);
    dup2(out_fd, STDERR_FILENO);
    execvp(argv[0], (char *const *)argv);
    _exit(127);
}

int run_program(const char *const argv[], unsigned timeout_ms, char *out, size_t size)
{
    uint64_t deadline = clock_boot_ms() + timeout_ms;
    int fds[2], status = -1;
    size_t len = 0;
    pid_t pid;

    if (size > 0)
        out[0] = '\0';
    if (pipe2(fds, O_CLOEXEC) != 0)
        return -1;
    pid = spawn(argv, fds[1], 0);
    close(fds[1]);
    while (pid > 0) {
        uint64_t now = clock_boot_ms();
        struct pollfd p = {.fd = fds[0], .events = POLLIN};
        char piece[4096];
        ssize_t n;

        if (now >= deadline || poll(&p, 1, (int)(deadline - now)) == 0) {
            kill(pid, SIGKILL);
            break;
        }
        n = read(fds[0], piece, sizeof piece);
        if (n <= 0)
            break;
        if (len + 1 < size) {
            size_t fits = (size_t)n < size - 1 - len ? (size_t)n : size - 1 - len;

            memcpy(out + len, piece, fits);
            len += fits;
            out[len] = '\0';
        }
    }
    close(fds[0]);
    if (pid > 0)
        waitpid(pid, &status, 0);
    return pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int run_kvnode(struct cluster *c, unsigned i, unsigned timeout_ms, char *out, size_t size,
               const char *const args[])
{
    const char *argv[24] = {FAULT_KVNODE, "-n", c->nodes[i].socket};
    size_t k = 3;

    while (*args != NULL && k < 23)
        argv[k++] = *args++;
    argv[k] = NULL;
    return run_program(argv, timeout_ms, out, size);
}

/* ---- making ---- */

__attribute__((format(printf, 1, 2))) static void complain(const char *fmt, ...)
{
    va_list ap;

    fputs("# ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

static bool port_is_given(const struct cluster *c, unsigned port)
{
    char address[sizeof c->nodes[0].address];
    unsigned i;

    snprintf(address, sizeof address, "127.0.0.1:%u", port);
    for (i = 0; i < c->n; i++)
        if (strcmp(c->nodes[i].address, address) == 0)
            return true;
    return false;
}

/* Below the range from which the kernel takes ports of outgoing connections. Nobody listens
 * there before the nodes are started, so what the others have been given is left out. */
static unsigned free_port(const struct cluster *c)
{
    unsigned tries;

    for (tries = 0; tries < 500; tries++) {
        struct sockaddr_in at = {.sin_family = AF_INET};
        uint16_t r = 0;
        int fd, rv;

        (void)!getrandom(&r, sizeof r, 0);
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        at.sin_port = htons((uint16_t)(10000 + r % 20000));
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        rv = bind(fd, (struct sockaddr *)&at, sizeof at);
        close(fd);
        if (rv == 0 && !port_is_given(c, ntohs(at.sin_port)))
            return ntohs(at.sin_port);
    }
    return 0;
}

static bool make_clock(const struct cluster *c, struct cluster_node *n)
{
    char path[100];
    int fd;
    void *p = MAP_FAILED;

    snprintf(path, sizeof path, "%s/%s.clock", c->dir, n->name);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && ftruncate(fd, sizeof *n->clock) == 0)
        p = mmap(NULL, sizeof *n->clock, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    n->clock = p != MAP_FAILED ? p : NULL;
    return n->clock != NULL;
}

static bool make_node(struct cluster *c, unsigned i, const char *cluster_id)
{
    struct cluster_node *n = &c->nodes[i];
    char id[8], out[2048], dir[sizeof c->dir], name[sizeof n->name];

    memcpy(dir, c->dir, sizeof dir);
    snprintf(name, sizeof name, "n%u", (i + 1) % 100);
    memcpy(n->name, name, sizeof name);
    snprintf(id, sizeof id, "%u", i + 1);
    snprintf(n->data, sizeof n->data, "%s/%s.data", dir, name);
    snprintf(n->conf, sizeof n->conf, "%s/%s.conf", dir, name);
    snprintf(n->log, sizeof n->log, "%s/%s.log", dir, name);
    snprintf(n->socket, sizeof n->socket, "%s/%s.sock", dir, name);
    if (c->options.namespaces)
        net_address(c->net, i, n->address, sizeof n->address);
    else
        snprintf(n->address, sizeof n->address, "127.0.0.1:%u", free_port(c));
    if (c->options.disk_mb[i] != 0) {
        if (mkdir(n->data, 0700) != 0 || !small_disk_mount(n->data, c->options.disk_mb[i]))
            return false;
        guard_mount(c->guard, NO_CONNECTION - i, n->data);
        /* init wants to make the folder itself. */
        strcat(n->data, "/d");
    }
    if (c->options.clocks && !make_clock(c, n))
        return false;
    const char *const argv[] = {FAULT_KVNODE, "init",     "-c",       n->conf,
                                "--name",     n->name,    "--id",     id,
                                "--data",     n->data,    "--socket", n->socket,
                                "--listen",   n->address, "-q",       i == 0 ? NULL : "--cluster",
                                cluster_id,   NULL};
    if (run_program(argv, 10000, out, sizeof out) != 0) {
        complain("%s: kvnode init: %s", n->name, out);
        return false;
    }
    return true;
}

/* The first node founds the cluster, and gives it its id. */
static bool learn_cluster(const char *conf, char id_out[static 20])
{
    char line[256];
    bool found = false;
    FILE *f = fopen(conf, "re");

    while (f != NULL && !found && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "[cluster]", 9) == 0 && fgets(line, sizeof line, f) != NULL)
            found = sscanf(line, "id = %16[0-9a-f]", id_out) == 1;
    if (f != NULL)
        fclose(f);
    return found;
}

static bool introduce(struct cluster *c, unsigned from, unsigned to)
{
    const char *const argv[] = {FAULT_KVNODE, "config", "-c", c->nodes[from].conf, "--peer", NULL};
    char out[4096];
    FILE *f;

    if (run_program(argv, 10000, out, sizeof out) != 0) {
        complain("kvnode config --peer: %s", out);
        return false;
    }
    f = fopen(c->nodes[to].conf, "ae");
    if (f == NULL)
        return false;
    fprintf(f, "\n%s", out);
    return fclose(f) == 0;
}

struct cluster *cluster_make(const struct cluster_options *options, const char **skip_out)
{
    struct cluster *c = calloc(1, sizeof *c);
    const char *tmp = getenv("TMPDIR");
    char cluster_id[20] = "";
    unsigned i, k;

    *skip_out = NULL;
    signal(SIGPIPE, SIG_IGN);
    for (i = 0; i < options->n; i++)
        if ((options->disk_mb[i] != 0 || options->namespaces) && geteuid() != 0)
            *skip_out = "needs root";
    if (c == NULL || *skip_out != NULL) {
        free(c);
        return NULL;
    }
    c->options = *options;
    c->n = options->n;
    /* A socket's path has 107 bytes. */
    snprintf(c->dir, sizeof c->dir, "%s/kvfs-fault-XXXXXX", tmp != NULL && strlen(tmp) < 40 ? tmp : "/tmp");
    c->guard = guard_start((options->seconds != 0 ? options->seconds : 240) * rounds(1));
    if (c->guard == NULL || mkdtemp(c->dir) == NULL) {
        complain("%s: %s", c->dir, strerror(errno));
        free(c);
        return NULL;
    }
    if (options->namespaces && (c->net = net_new(c->n)) == 0) {
        *skip_out = "needs network namespaces (ip netns)";
        cluster_free(c);
        return NULL;
    }
    for (i = 0; i < c->n; i++)
        if (!make_node(c, i, cluster_id) || (i == 0 && !learn_cluster(c->nodes[0].conf, cluster_id)))
            goto failed;
    for (i = 0; i < c->n; i++)
        for (k = 0; k < c->n; k++)
            if (i != k && !introduce(c, i, k))
                goto failed;
    return c;

failed:
    cluster_free(c);
    return NULL;
}

bool cluster_up(struct cluster *c)
{
    bool up = true;
    unsigned i;

    for (i = 0; i < c->n && up; i++)
        up = cluster_start(c, i);
    up = up && cluster_leader(c, 15000) != CLUSTER_MAX;
    for (i = 0; i < c->n && up; i++)
        up = cluster_serves(c, i, 10000);
    if (!up) {
        complain("the cluster does not come up");
        c->keep = true;
    }
    return up;
}

struct cluster *cluster_new(const struct cluster_options *options, const char **skip_out)
{
    struct cluster *c = cluster_make(options, skip_out);

    if (c != NULL && !cluster_up(c)) {
        cluster_free(c);
        return NULL;
    }
    return c;
}

/* ---- processes ---- */

bool cluster_start(struct cluster *c, unsigned i)
{
    struct cluster_node *n = &c->nodes[i];
    const char *argv[2 * FLAGS_MAX + 16];
    char space[32], clock[128], asan[512];
    size_t k = 0, f;
    int fd;

    if (n->pid != 0)
        return true;
    if (c->options.namespaces) {
        net_name(c->net, i, space, sizeof space);
        argv[k++] = "ip";
        argv[k++] = "netns";
        argv[k++] = "exec";
        argv[k++] = space;
    }
    if (c->options.clocks) {
        snprintf(clock, sizeof clock, "KVFS_TEST_CLOCK=%s/%s.clock", c->dir, n->name);
        argv[k++] = "env";
        argv[k++] = "LD_PRELOAD=" FAULT_CLOCK_SHIFT;
        /* Whatever else is asked of it: it must not mind what is loaded before it. */
        snprintf(asan, sizeof asan, "ASAN_OPTIONS=%s:verify_asan_link_order=0",
                 getenv("ASAN_OPTIONS") != NULL ? getenv("ASAN_OPTIONS") : "detect_leaks=1:exitcode=99");
        argv[k++] = asan;
        argv[k++] = clock;
    }
    argv[k++] = FAULT_KVNODE;
    argv[k++] = "run";
    argv[k++] = "-c";
    argv[k++] = n->conf;
    for (f = 0; f < FLAGS_MAX && c->options.flags[f] != NULL; f++) {
        argv[k++] = "-o";
        argv[k++] = c->options.flags[f];
    }
    argv[k] = NULL;
    fd = open(n->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    n->pid = spawn(argv, fd, c->options.files);
    n->dead = false;
    close(fd);
    if (n->pid < 0) {
        n->pid = 0;
        return false;
    }
    guard_process(c->guard, n->pid);
    return true;
}

bool cluster_ended(struct cluster *c, unsigned i, unsigned timeout_ms)
{
    struct cluster_node *n = &c->nodes[i];
    uint64_t deadline = clock_boot_ms() + timeout_ms;

    while (n->pid != 0) {
        pid_t got = waitpid(n->pid, &n->status, WNOHANG);

        if (got == n->pid || (got < 0 && errno == ECHILD)) {
            guard_process_gone(c->guard, n->pid);
            n->pid = 0;
            break;
        }
        if (clock_boot_ms() >= deadline)
            return false;
        pause_ms(1);
    }
    return true;
}

bool cluster_runs(struct cluster *c, unsigned i)
{
    struct cluster_node *n = &c->nodes[i];

    if (n->pid == 0)
        return false;
    if (cluster_ended(c, i, 0)) {
        n->dead = true;
        complain("%s ended by itself, status %d", n->name, n->status);
        return false;
    }
    return true;
}

void cluster_signal(struct cluster *c, unsigned i, int sig)
{
    struct cluster_node *n = &c->nodes[i];

    if (!cluster_runs(c, i))
        return;
    kill(n->pid, sig);
    if (sig == SIGKILL || sig == SIGTERM) {
        if (!cluster_ended(c, i, 40000)) {
            complain("%s does not end", n->name);
            kill(n->pid, SIGKILL);
            cluster_ended(c, i, 5000);
            n->dead = true;
        } else if (sig == SIGTERM && n->status != 0) {
            complain("%s: status %d after SIGTERM", n->name, n->status);
            n->dead = true;
        }
    }
}

static char *read_log(const struct cluster *c, unsigned i)
{
    FILE *f = fopen(c->nodes[i].log, "re");
    char *text = NULL;
    size_t size = 0;

    if (f == NULL)
        return NULL;
    if (getdelim(&text, &size, '\0', f) < 0) {
        free(text);
        text = NULL;
    }
    fclose(f);
    return text;
}

bool cluster_logged(const struct cluster *c, unsigned i, const char *needle)
{
    char *text = read_log(c, i);
    bool found = text != NULL && strstr(text, needle) != NULL;

    free(text);
    return found;
}

struct log_search {
    const struct cluster *c;
    unsigned i;
    const char *text;
};

static bool is_logged(void *arg)
{
    struct log_search *s = arg;

    return cluster_logged(s->c, s->i, s->text);
}

bool cluster_logs(const struct cluster *c, unsigned i, const char *text, unsigned timeout_ms)
{
    struct log_search s = {c, i, text};

    return await(timeout_ms, is_logged, &s);
}

size_t cluster_log_size(const struct cluster *c, unsigned i)
{
    struct stat st;

    return stat(c->nodes[i].log, &st) == 0 ? (size_t)st.st_size : 0;
}

const char *cluster_log_since(const struct cluster *c, unsigned i, size_t from)
{
    static char text[65536];
    FILE *f = fopen(c->nodes[i].log, "re");
    size_t n = 0;

    if (f != NULL && fseek(f, (long)from, SEEK_SET) == 0)
        n = fread(text, 1, sizeof text - 1, f);
    if (f != NULL)
        fclose(f);
    text[n] = '\0';
    return text;
}

/* ---- the end ---- */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path) == 0 || errno == EBUSY ? 0 : -1;
}

/* Shows the line it is in. */
static bool log_has(const struct cluster *c, unsigned i, const char *needle)
{
    char *text = read_log(c, i), *found = text != NULL ? strstr(text, needle) : NULL;

    if (found != NULL) {
        while (found > text && found[-1] != '\n')
            found--;
        complain("%s says \"%.*s\"", c->nodes[i].log, (int)strcspn(found, "\n"), found);
    }
    free(text);
    return found != NULL;
}

static bool log_is_clean(const struct cluster *c, unsigned i)
{
    static const char finding[] = " error: " TURN_FINDING;
    static const char *const bad[] = {
        "AddressSanitizer", "LeakSanitizer", "runtime error:", "ssertion", "ThreadSanitizer", finding};
    size_t k;

    for (k = 0; k < sizeof bad / sizeof bad[0]; k++)
        if (log_has(c, i, bad[k]))
            return false;
    return true;
}

bool cluster_free(struct cluster *c)
{
    bool ok = true;
    unsigned i;

    if (c == NULL)
        return true;
    for (i = 0; i < c->n; i++) {
        if (c->nodes[i].pid != 0)
            kill(c->nodes[i].pid, SIGCONT);
        cluster_runs(c, i);
    }
    for (i = 0; i < c->n; i++)
        if (c->nodes[i].pid != 0)
            kill(c->nodes[i].pid, SIGTERM);
    for (i = 0; i < c->n; i++) {
        struct cluster_node *n = &c->nodes[i];
        bool ran = n->pid != 0;

        if (!cluster_ended(c, i, 40000)) {
            complain("%s does not end", n->name);
            ok = false;
            kill(n->pid, SIGKILL);
            cluster_ended(c, i, 5000);
        } else if (ran && n->status != 0) {
            complain("%s ended with status %d", n->name, n->status);
            ok = false;
        }
        if (n->dead || !log_is_clean(c, i))
            ok = false;
        if (n->clock != NULL)
            munmap(n->clock, sizeof *n->clock);
    }
    for (i = 0; i < c->n; i++) {
        if (c->options.disk_mb[i] != 0) { /* the logs beside it have to do */
            char mounted[170];

            snprintf(mounted, sizeof mounted, "%s/n%u.data", c->dir, i + 1);
            small_disk_unmount(mounted);
            guard_mount_gone(c->guard, NO_CONNECTION - i);
        }
    }
    if (ok && !c->keep && getenv("KVFS_FAULT_KEEP") == NULL) {
        nftw(c->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    } else {
        complain("left behind: %s", c->dir);
    }
    if (c->net != 0)
        net_free(c->net, c->n);
    guard_end(c->guard);
    free(c);
    return ok;
}
