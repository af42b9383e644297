/* The guard: a loop over three things that may happen. A word of kvnode hold's, or its end; a child's end; a
 * deadline. What it says to kvnode hold is struct news. */
#include "kvnode/admin/hold_guard.h"
#include "kvnode/admin/hold_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sync/base/clock.h"

/* What is left when the command has ended, or nobody holds the lock any more, is given so long. */
#define GRACE_MS 2000
#define LOOK_MS 20

struct guard_shared {
    _Atomic uint64_t end_ms, kill_ms;
};

enum { WORD_RUN = 0, WORD_END = 255 }; /* else a signal's number */

struct news {
    uint8_t kind;
    int value;
};
enum { NEWS_EXEC_FAILED = 1, NEWS_STATUS = 2, NEWS_ALL_ENDED = 3 };

/* ---- the guard's side ---- */

/* The guard ends by its pipe only; the command has them as they were (nohup). */
static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU};
#define N_IGNORED (sizeof ignored / sizeof ignored[0])

struct watch {
    struct guard_shared *shared;
    const char *key, *cgroup;
    char **argv;
    int words, news, output; /* file descriptors */
    pid_t self, command;     /* 0: not running */
    bool started, ending;
    uint64_t kill_ms; /* of what is ending */
    void (*before[N_IGNORED])(int);
};

static void tell(const struct watch *w, uint8_t kind, int value)
{
    const struct news n = {.kind = kind, .value = value};
    (void)!write(w->news, &n, sizeof n); /* nobody may be there to read it */
}

static void be_command(const struct watch *w, int failed)
{
    sigset_t none;
    int error;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (size_t i = 0; i < N_IGNORED; i++)
        signal(ignored[i], w->before[i]);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* should the guard be killed */
    if (getppid() != w->self)         /* it is gone already */
        _exit(126);
    setsid();
    tree_cgroup_enter(w->cgroup);
    if (w->output >= 0 && (dup2(w->output, STDOUT_FILENO) < 0 || dup2(w->output, STDERR_FILENO) < 0))
        _exit(126);
    execvp(w->argv[0], w->argv);
    error = errno;
    (void)!write(failed, &error, sizeof error);
    _exit(127);
}

static void run(struct watch *w)
{
    char fence[24];
    uint64_t number = 0;
    int failed[2], error = 0;
    if (read(w->words, &number, sizeof number) != sizeof number) /* written with the word */
        return;
    snprintf(fence, sizeof fence, "%llu", (unsigned long long)number);
    setenv("KVNODE_FENCE", fence, 1);
    setenv("KVNODE_KEY", w->key, 1);
    w->started = true;
    if (pipe2(failed, O_CLOEXEC) != 0 || (w->command = fork()) < 0) {
        tell(w, NEWS_EXEC_FAILED, errno);
        w->command = 0;
        return;
    }
    if (w->command == 0)
        be_command(w, failed[1]);
    close(failed[1]);
    if (w->output >= 0)
        close(w->output);
    if (read(failed[0], &error, sizeof error) == sizeof error)
        tell(w, NEWS_EXEC_FAILED, error);
    close(failed[0]);
}

/* One byte, with what belongs to it. False: nobody is there to say anything. */
static bool take_word(struct watch *w)
{
    uint8_t word;
    ssize_t n = read(w->words, &word, 1);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return true;
    if (n <= 0 || word == WORD_END)
        return false;
    if (word == WORD_RUN)
        run(w);
    else if (w->command > 0)
        kill(-w->command, word);
    return true;
}

/* True: there is no child left. */
static bool reap(struct watch *w)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid != w->command)
            continue;
        w->command = 0;
        tell(w, NEWS_STATUS, status);
    }
    return pid < 0 && errno == ECHILD;
}

static void begin_to_end(struct watch *w, uint64_t kill_ms)
{
    if (!w->ending || kill_ms < w->kill_ms)
        w->kill_ms = kill_ms;
    if (w->ending)
        return;
    w->ending = true;
    tree_signal(SIGTERM);
    tree_signal(SIGCONT);
}

/* Milliseconds until something is to be looked at again. */
static int look_at_the_time(struct watch *w)
{
    uint64_t now = clock_boot_ms(), end = atomic_load(&w->shared->end_ms),
             kill_at = atomic_load(&w->shared->kill_ms), next;
    if (now >= end)
        begin_to_end(w, kill_at);
    if (now >= kill_at || (w->ending && now >= w->kill_ms)) {
        tree_cgroup_kill(w->cgroup);
        tree_signal(SIGKILL);
        return LOOK_MS; /* what was born meanwhile */
    }
    next = w->ending && w->kill_ms < kill_at ? w->kill_ms : kill_at;
    if (!w->ending && end < next)
        next = end;
    /* The deadline moves, seldom to an earlier time: then there is a word. */
    return next - now < 1000 ? (int)(next - now) : 1000;
}

static void guard_main(struct watch *w)
{
    sigset_t set;
    bool alone = false;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int children = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    for (size_t i = 0; i < N_IGNORED; i++)
        w->before[i] = signal(ignored[i], SIG_IGN);
    setsid();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_NAME, "kvnode-guard");
    for (;;) {
        bool none = reap(w);
        if (none && (w->started || alone)) {
            tree_cgroup_remove(w->cgroup);
            tell(w, NEWS_ALL_ENDED, 0);
            return;
        }
        if (w->started && w->command == 0) /* what it has left behind */
            begin_to_end(w, clock_boot_ms() + GRACE_MS);
        int timeout = none ? 1000 : look_at_the_time(w);
        struct pollfd p[] = {{.fd = children, .events = POLLIN},
                             {.fd = alone ? -1 : w->words, .events = POLLIN}};
        struct signalfd_siginfo info;
        if (poll(p, 2, timeout) < 0)
            continue;
        if (p[0].revents != 0)
            (void)!read(children, &info, sizeof info);
        if (p[1].revents != 0 && !take_word(w)) {
            alone = true;
            begin_to_end(w, clock_boot_ms() + GRACE_MS);
        }
    }
}

/* ---- the other side ---- */

int guard_start(struct guard *g, const char *key, char **argv, int output)
{
    int words[2], news[2];
    *g = (struct guard){.to = -1, .from = -1};
    g->shared = mmap(NULL, sizeof *g->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (g->shared == MAP_FAILED)
        return -errno;
    guard_deadline(g, UINT64_MAX, UINT64_MAX);
    tree_cgroup_make(g->cgroup, sizeof g->cgroup);
    if (pipe2(words, O_CLOEXEC) != 0)
        return -errno;
    if (pipe2(news, O_CLOEXEC) != 0)
        return -errno;
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* for when the guard dies */
    g->pid = fork();
    if (g->pid < 0)
        return -errno;
    if (g->pid == 0) {
        struct watch w = {.self = getpid(),
                          .cgroup = g->cgroup,
                          .shared = g->shared,
                          .key = key,
                          .argv = argv,
                          .words = words[0],
                          .news = news[1],
                          .output = output};
        close(words[1]);
        close(news[0]);
        guard_main(&w);
        _exit(0);
    }
    close(words[0]);
    close(news[1]);
    g->to = words[1];
    g->from = news[0];
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

void guard_deadline(struct guard *g, uint64_t end_ms, uint64_t kill_ms)
{
    bool sooner = end_ms < atomic_load(&g->shared->end_ms);
    /* What is later first: the guard never sees an end behind its kill. */
    if (!sooner)
        atomic_store(&g->shared->kill_ms, kill_ms);
    atomic_store(&g->shared->end_ms, end_ms);
    atomic_store(&g->shared->kill_ms, kill_ms);
    if (sooner && g->started)
        guard_signal(g, SIGCONT); /* wakes it */
}

void guard_run(struct guard *g, uint64_t fence)
{
    uint8_t words[1 + sizeof fence] = {WORD_RUN};
    memcpy(words + 1, &fence, sizeof fence);
    g->started = true;
    (void)!write(g->to, words, sizeof words);
}

void guard_signal(struct guard *g, int number)
{
    uint8_t word = (uint8_t)number;
    (void)!write(g->to, &word, 1);
}

int guard_fd(const struct guard *g)
{
    return g->from;
}

bool guard_news(struct guard *g)
{
    struct news n;
    ssize_t got = read(g->from, &n, sizeof n);
    if (got < 0 && errno == EINTR)
        return false;
    if (got != sizeof n) {
        g->died = true;
        return guard_kill(g, LOOK_MS) == 0;
    }
    if (n.kind == NEWS_EXEC_FAILED)
        g->exec_error = n.value;
    if (n.kind == NEWS_STATUS) {
        g->ended = true;
        g->status = n.value;
    }
    return n.kind == NEWS_ALL_ENDED;
}

unsigned guard_kill(struct guard *g, unsigned patience_ms)
{
    uint64_t until = clock_boot_ms() + patience_ms;
    unsigned refused;
    if (g->pid > 0)
        kill(g->pid, SIGKILL);
    do {
        struct timespec pause = {.tv_nsec = 2000000};
        pid_t pid;
        tree_cgroup_kill(g->cgroup);
        refused = tree_signal(SIGKILL);
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
            g->pid = pid == g->pid ? 0 : g->pid;
        if (pid < 0 && errno == ECHILD) {
            g->pid = 0;
            return 0;
        }
        nanosleep(&pause, NULL);
    } while (clock_boot_ms() < until);
    return refused > 0 ? refused : 1;
}

void guard_end(struct guard *g)
{
    int status;
    if (g->to >= 0)
        close(g->to);
    g->to = -1;
    if (g->pid > 0)
        while (waitpid(g->pid, &status, 0) < 0 && errno == EINTR)
            ;
    g->pid = 0;
    if (g->from >= 0)
        close(g->from);
    g->from = -1;
    tree_cgroup_remove(g->cgroup);
    munmap(g->shared, sizeof *g->shared);
}
