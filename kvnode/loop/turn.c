#include "kvnode/loop/turn.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "sync/base/log.h"

/* A new largest one is logged from here on, with or without a limit. */
#define WORTH_SAYING_NS 50000000

#define SUSPECT_TIMES 3
/* Shorter than any limit that makes sense, so that a turn that stood still is looked at. */
#define STOLEN_EVERY_NS 10000000

static volatile sig_atomic_t continued;

static void on_continued(int sig)
{
    continued++;
}

static uint64_t now_of(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Where the kernel does not tell it, what is told by the clock is no finding. */
static uint64_t waited(const struct turn *t)
{
    char text[64];
    ssize_t n = pread(t->schedule_fd, text, sizeof text - 1, 0);
    unsigned long long ran, waited;

    if (n <= 0)
        return UINT64_MAX;
    text[n] = '\0';
    return sscanf(text, "%llu %llu", &ran, &waited) == 2 ? waited : UINT64_MAX;
}

/* What the host of a virtual machine has taken from its processors, all together; 0 elsewhere. */
static uint64_t stolen(const struct turn *t)
{
    char text[160];
    ssize_t n = pread(t->stat_fd, text, sizeof text - 1, 0);
    unsigned long long ticks = 0;

    text[n > 0 ? n : 0] = '\0';
    (void)!sscanf(text, "cpu %*u %*u %*u %*u %*u %*u %*u %llu", &ticks);
    return ticks * (1000000000 / (uint64_t)sysconf(_SC_CLK_TCK));
}

void turn_init(struct turn *t)
{
    const char *limit = getenv(TURN_LIMIT_VARIABLE);
    struct sigaction action = {.sa_handler = on_continued, .sa_flags = SA_RESTART};

    *t = (struct turn){.cpu_ns = now_of(CLOCK_THREAD_CPUTIME_ID), .schedule_fd = -1, .stat_fd = -1};
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    if (limit != NULL)
        t->limit_ns = strtoull(limit, NULL, 10) * 1000000;
#endif
    if (t->limit_ns == 0)
        return;
    sigaction(SIGCONT, &action, NULL);
    t->schedule_fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    t->stat_fd = open("/proc/stat", O_RDONLY | O_CLOEXEC);
    t->wall_ns = t->stolen_at_ns = now_of(CLOCK_MONOTONIC);
    t->stolen_ns = stolen(t);
    t->waited_ns = waited(t);
    t->continued = (unsigned)continued;
}

void turn_deinit(struct turn *t)
{
    if (t->limit_ns != 0 && t->schedule_fd >= 0)
        close(t->schedule_fd);
    if (t->limit_ns != 0 && t->stat_fd >= 0)
        close(t->stat_fd);
    t->limit_ns = 0;
}

void turn_idle(struct turn *t, uint64_t idle_ns)
{
    t->wall_ns += idle_ns - t->idle_ns; /* as if the turn had begun so much later */
    t->idle_ns = idle_ns;
}

uint64_t turn_part(struct turn *t, uint64_t since_ns, const char *part, const char *detail, unsigned number)
{
    uint64_t now = clock_boot_ns();

    /* The part within it that most of the time went to says more. */
    if (now - since_ns > t->part_ns && (t->part_since_ns < since_ns || now - since_ns > 2 * t->part_ns)) {
        t->part_ns = now - since_ns;
        t->part_since_ns = since_ns;
        t->part = part;
        t->detail = detail;
        t->number = number;
    }
    return now;
}

void turn_waited(struct turn *t, uint64_t since_ns)
{
    t->excused_ns += turn_part(t, since_ns, "what must be durable first", "", 0) - since_ns;
}

bool turn_time_is_up(uint64_t until_ns)
{
    return clock_boot_ns() >= until_ns;
}

/* Four slots to a doubling: the highest bit and the two behind it. */
static unsigned slot_of(uint64_t us)
{
    unsigned high, slot;

    if (us < 4)
        return (unsigned)us;
    high = 63 - (unsigned)__builtin_clzll(us);
    slot = (high - 1) * 4 + (unsigned)(us >> (high - 2) & 3);
    return slot < TURN_SLOTS ? slot : TURN_SLOTS - 1;
}

static uint64_t slot_end(unsigned slot)
{
    unsigned high = slot / 4 + 1;

    return slot < 4 ? slot + 1 : (uint64_t)(slot % 4 + 5) << (high - 2);
}

static void name(const struct turn *t, char what[static TURN_WHAT_MAX])
{
    if (t->part == NULL)
        snprintf(what, TURN_WHAT_MAX, "nothing that is watched");
    else if (t->detail != NULL)
        snprintf(what, TURN_WHAT_MAX, "%s%s%s", t->part, t->detail[0] != '\0' ? " " : "", t->detail);
    else
        snprintf(what, TURN_WHAT_MAX, "%s %u", t->part, t->number);
}

__attribute__((format(printf, 2, 3))) static void finding(struct turn *t, const char *fmt, ...)
{
    char text[256], what[TURN_WHAT_MAX];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    name(t, what);
    t->findings++;
    log_error(TURN_FINDING " %s; its longest part: %s, %" PRIu64 " us by the clock", text, what,
              t->part_ns / 1000);
}

/* The longest part of this turn took half of the limit: is that the third time? */
static bool is_usual(struct turn *t)
{
    for (unsigned i = 0; i < TURN_SUSPECTS; i++) {
        if (t->suspects[i].times == 0) {
            t->suspects[i].part = t->part;
            t->suspects[i].detail = t->detail;
            t->suspects[i].number = t->number;
        }
        if (t->suspects[i].part == t->part && t->suspects[i].detail == t->detail &&
            t->suspects[i].number == t->number)
            return ++t->suspects[i].times >= SUSPECT_TIMES;
    }
    return false;
}

static void judge(struct turn *t, uint64_t took)
{
    uint64_t now = now_of(CLOCK_MONOTONIC), wall = now > t->wall_ns ? now - t->wall_ns : 0;
    uint64_t was_waiting = t->waited_ns, rest = wall > t->part_ns ? wall - t->part_ns : 0, still;
    bool stopped = t->continued != (unsigned)continued;

    t->waited_ns = waited(t);
    t->wall_ns = now;
    t->continued = (unsigned)continued;
    if (took > t->limit_ns && ++t->over >= SUSPECT_TIMES) {
        finding(t, "took %" PRIu64 " us of CPU time, over the limit of %" PRIu64 " ms", took / 1000,
                t->limit_ns / 1000000);
    } else if (took > rest && took - rest > t->limit_ns / TURN_PART_SHARE && is_usual(t)) {
        /* All CPU time that is not the part's was spent beside it, at most as much as the clock says. */
        finding(t, "took %" PRIu64 " us of CPU time, %" PRIu64 " us at least of it for one thing",
                took / 1000, (took - rest) / 1000);
    }
    /* Not each time: the kernel takes its time to tell. */
    if (now - t->stolen_at_ns >= STOLEN_EVERY_NS) {
        uint64_t was_stolen = t->stolen_ns;

        t->stolen_ns = stolen(t);
        t->stolen_at_ns = now;
        t->excused_ns += t->stolen_ns - was_stolen;
    }
    if (stopped || t->waited_ns == UINT64_MAX || was_waiting == UINT64_MAX)
        return;
    still = took + (t->waited_ns - was_waiting) + t->excused_ns;
    still = wall > still ? wall - still : 0;
    if (still > TURN_STILL_TIMES * t->limit_ns)
        finding(t, "stood still for %" PRIu64 " us of %" PRIu64 " us", still / 1000, wall / 1000);
}

void turn_end(struct turn *t)
{
    uint64_t now = now_of(CLOCK_THREAD_CPUTIME_ID), took = now - t->cpu_ns;

    t->cpu_ns = now;
    t->n++;
    t->slots[slot_of(took / 1000)]++;
    if (t->limit_ns != 0)
        judge(t, took);
    if (took > t->max_ns) {
        t->max_ns = took;
        name(t, t->max_what);
        if (t->limit_ns == 0 && took > WORTH_SAYING_NS)
            log_warn(TURN_FINDING " took %" PRIu64 " ms of CPU time; its longest part: %s", took / 1000000,
                     t->max_what);
    }
    t->part_ns = t->excused_ns = 0;
    t->part = NULL;
}

uint64_t turn_quantile_us(const struct turn *t, uint64_t of_million)
{
    uint64_t seen = 0;

    for (unsigned i = 0; i < TURN_SLOTS; i++) {
        seen += t->slots[i];
        if (t->n > 0 && seen * 1000000 >= t->n * of_million)
            return slot_end(i);
    }
    return 0;
}
