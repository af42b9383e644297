/* The turns of the loop, watched: none may take long, as nothing else is answered
 * meanwhile, heartbeats neither. What a turn costs is the thread's CPU time, so that
 * other programs on the machine do not count; its longest part by the clock on the
 * wall gives the turn its name. Loop thread only. */
#ifndef KVFS_KVNODE_TURN_H
#define KVFS_KVNODE_TURN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What one turn spends on applying, on requests and on output, before the next one. */
#define TURN_APPLY_NS 2000000
#define TURN_INPUT_NS 2000000
#define TURN_OUTPUT_NS 2000000
/* In the environment: a turn that takes more milliseconds is an error in the log,
 * and the tests fail by it. Under a sanitizer it is TURN_SANITIZED times as much. */
#define TURN_SANITIZED 10
#define TURN_LIMIT_VARIABLE "KVFS_TURN_LIMIT_MS"
#define TURN_WHAT_MAX 48
#define TURN_SLOTS 128

struct turn {
    uint64_t cpu_ns; /* the thread's clock at the end of the last turn */
    uint64_t part_ns, part_since_ns;
    const char *part, *detail; /* of the longest part of this turn; static text */
    unsigned number;
    uint64_t limit_ns; /* 0: none */
    uint64_t max_ns;
    char max_what[TURN_WHAT_MAX];
    uint64_t n, slots[TURN_SLOTS]; /* of all turns, four slots to each doubling of the time */
};

void turn_init(struct turn *t);
/* A part of this turn, perhaps with others in it, that began at since_ns (clock_boot_ns()): "apply", "del",
 * 0. The texts are static; detail may be NULL, then the number is shown. Returns the time. */
uint64_t turn_part(struct turn *t, uint64_t since_ns, const char *part, const char *detail, unsigned number);
bool turn_time_is_up(uint64_t until_ns); /* clock_boot_ns() */
void turn_end(struct turn *t);
/* The time that so many of a million turns keep within, in µs, rounded up to the slot's end. */
uint64_t turn_quantile_us(const struct turn *t, uint64_t of_million);

#endif
