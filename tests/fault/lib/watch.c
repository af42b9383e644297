#include "tests/fault/lib/watch.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/base/clock.h"

#define LOOK_MS 100

struct watch *watch_new(void)
{
    struct watch *w = mmap(NULL, sizeof *w, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return w != MAP_FAILED ? w : NULL;
}

void watch_enter(struct watched *s, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(s->what, sizeof s->what, fmt, ap);
    va_end(ap);
    s->tid = (int)syscall(SYS_gettid);
    s->since_ms = clock_boot_ms();
}

void watch_leave(struct watched *s)
{
    int saved = errno;
    uint64_t took = clock_boot_ms() - s->since_ms;

    s->since_ms = 0;
    s->calls++;
    if (took > s->longest_ms) {
        s->longest_ms = took;
        memcpy(s->longest, s->what, sizeof s->longest);
    }
    errno = saved;
}

const struct watched *watch_longest(const struct watch *w)
{
    const struct watched *longest = &w->slots[0];
    unsigned i;

    for (i = 1; i < WATCH_SLOTS; i++)
        if (w->slots[i].longest_ms > longest->longest_ms)
            longest = &w->slots[i];
    return longest;
}

/* By a program that can be killed: some of these files are themselves waited for
 * while the process is in the middle of execve(2). */
static void print_file(const char *what, pid_t pid, const char *file)
{
    char path[64], out[4096];
    const char *const argv[] = {"cat", path, NULL};

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    run_program(argv, 2000, out, sizeof out);
    fprintf(stderr, "# %s %d: %s: ", what, (int)pid, file);
    for (const char *p = out; *p != '\0'; p++) {
        fputc(*p, stderr);
        if (*p == '\n' && p[1] != '\0')
            fputs("#   ", stderr);
    }
    fputs(out[0] == '\0' || out[strlen(out) - 1] != '\n' ? "\n" : "", stderr);
}

static void print_thread(const char *what, pid_t tid)
{
    static const char *const files[] = {"comm", "wchan", "syscall", "stack"};
    size_t i;

    for (i = 0; i < sizeof files / sizeof files[0]; i++)
        print_file(what, tid, files[i]);
}

static void print_kvfs(const struct mounted *m)
{
    char path[64];
    struct dirent *entry;
    DIR *dir;

    snprintf(path, sizeof path, "/proc/%d/task", (int)m->pid);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL)
        if (entry->d_name[0] != '.')
            print_thread("kvfs", (pid_t)atoi(entry->d_name));
    if (dir != NULL)
        closedir(dir);
    if (access("/usr/bin/gdb", X_OK) == 0) {
        static char out[65536];
        char pid[16];
        const char *const argv[] = {"gdb", "-p", pid, "-batch", "-ex", "thread apply all bt", NULL};

        snprintf(pid, sizeof pid, "%d", (int)m->pid);
        run_program(argv, 20000, out, sizeof out);
        fprintf(stderr, "%s\n", out);
    }
}

static void report(const struct watched *s, uint64_t ms, const struct mounted *mounts, unsigned n)
{
    unsigned i;

    fprintf(stderr, "# %s takes %llu ms and has no end\n", s->what, (unsigned long long)ms);
    print_thread("caller", s->tid);
    for (i = 0; i < n; i++)
        print_kvfs(&mounts[i]);
    for (i = 0; i < n; i++)
        fprintf(stderr, "# %s: connection %u is %s\n", mounts[i].path, mounts[i].connection,
                guard_abort(mounts[i].connection) ? "aborted" : "not to be aborted");
}

static void look(struct watch *w, const struct mounted *mounts, unsigned n, unsigned limit_ms)
{
    unsigned i;

    for (;;) {
        for (i = 0; i < WATCH_SLOTS; i++) {
            struct watched *s = &w->slots[i];
            uint64_t since = s->since_ms, now = clock_boot_ms();

            if (since == 0 || now < since + limit_ms)
                continue;
            if (!w->hung)
                report(s, now - since, mounts, n);
            else
                fprintf(stderr, "# %s has taken %llu ms\n", s->what, (unsigned long long)(now - since));
            w->hung = true;
            pause_ms(1000);
        }
        pause_ms(LOOK_MS);
    }
}

bool watch_start(struct watch *w, const struct cluster *c, const struct mounted *mounts, unsigned n,
                 unsigned limit_ms)
{
    pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close_range(3, ~0U, 0); /* the guard waits for the end of all who have its pipe */
        look(w, mounts, n, limit_ms);
    }
    if (pid < 0)
        return false;
    w->pid = pid;
    guard_process(c->guard, pid);
    return true;
}

bool watch_free(struct watch *w)
{
    bool ok;

    if (w == NULL)
        return true;
    if (w->pid > 0) {
        kill(w->pid, SIGKILL);
        waitpid(w->pid, NULL, 0);
    }
    ok = !w->hung;
    munmap(w, sizeof *w);
    return ok;
}
