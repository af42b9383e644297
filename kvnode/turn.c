#include "kvnode/turn.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sync/base/clock.h"
#include "sync/base/log.h"

/* A new largest one is logged from here on, with or without a limit. */
#define WORTH_SAYING_NS 50000000

static uint64_t cpu_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void turn_init(struct turn *t)
{
    const char *limit = getenv(TURN_LIMIT_VARIABLE);

    *t = (struct turn){.cpu_ns = cpu_now()};
    if (limit != NULL)
        t->limit_ns = strtoull(limit, NULL, 10) * 1000000;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    t->limit_ns *= TURN_SANITIZED;
#endif
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

void turn_end(struct turn *t)
{
    uint64_t now = cpu_now(), took = now - t->cpu_ns;
    char what[TURN_WHAT_MAX];

    t->cpu_ns = now;
    t->n++;
    t->slots[slot_of(took / 1000)]++;
    if (took > t->max_ns || (t->limit_ns != 0 && took > t->limit_ns)) {
        name(t, what);
        if (t->limit_ns != 0 && took > t->limit_ns)
            log_error("a turn of the loop took %" PRIu64 " us of CPU time, over the limit of %" PRIu64
                      " ms; its longest part: %s, %" PRIu64 " us by the clock",
                      took / 1000, t->limit_ns / 1000000, what, t->part_ns / 1000);
        else if (took > WORTH_SAYING_NS)
            log_warn("a turn of the loop took %" PRIu64 " ms of CPU time; its longest part: %s",
                     took / 1000000, what);
    }
    if (took > t->max_ns) {
        t->max_ns = took;
        memcpy(t->max_what, what, sizeof what);
    }
    t->part_ns = 0;
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
