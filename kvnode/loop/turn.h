/* The turns of the loop, watched: none may take long, as nothing else is answered
 * meanwhile, heartbeats neither. What a turn costs is the thread's CPU time, so that
 * other programs on the machine do not count; its longest part by the clock on the
 * wall gives the turn its name. Loop thread only.
 *
 * With a limit, which the tests set, three things are findings: a turn that takes more
 * CPU time, when it is the third of this node, as what the host of a virtual machine takes counts
 * too and hits anything; one part of it (a command, a request) that alone takes half of that,
 * when it does so for the third time, as interrupts count too and hit anything; and a
 * turn that stands still for five times that: by the clock, without the time in which it
 * worked, waited for a processor or one that the host took, or waited for input. So a loop that waits for a
 * disk or a lock is found, and one on a busy machine is not. A process that was stopped by a signal is not
 * judged by the clock.
 */
#ifndef KVFS_KVNODE_LOOP_TURN_H
#define KVFS_KVNODE_LOOP_TURN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What one turn spends on applying, requests, reads that waited, output and state files, before the next one.
 */
#define TURN_APPLY_NS 2000000
#define TURN_INPUT_NS 2000000
#define TURN_READS_NS 2000000
#define TURN_OUTPUT_NS 2000000
#define TURN_STATE_NS 1000000
/* In the environment: the limit in milliseconds. A finding is an error in the log that
 * begins with TURN_FINDING, and the tests fail by it. Without a meaning under a sanitizer. */
#define TURN_LIMIT_VARIABLE "KVFS_TURN_LIMIT_MS"
#define TURN_PART_SHARE 2
/* A page that has to be fetched, a lock of the kernel's: on a busy machine that is 20 to 50 ms now
 * and then, and nobody's fault here. */
#define TURN_STILL_TIMES 5
#define TURN_SUSPECTS 16
#define TURN_FINDING "a turn of the loop"
#define TURN_WHAT_MAX 48
#define TURN_SLOTS 128

struct turn {
    uint64_t cpu_ns; /* the thread's clock at the end of the last turn */
    uint64_t part_ns, part_since_ns;
    const char *part, *detail; /* of the longest part of this turn; static text */
    unsigned number;
    uint64_t limit_ns; /* 0: none */
    uint64_t wall_ns,
        idle_ns;        /* CLOCK_MONOTONIC at the end of the last turn, without and in waits for input */
    uint64_t waited_ns; /* for a processor, in all */
    uint64_t stolen_ns, stolen_at_ns; /* by the host of a virtual machine, and when that was read */
    int stat_fd, schedule_fd;         /* owned: /proc/stat, and where this thread has waited */
    unsigned continued;               /* SIGCONTs that were known at the end of the last turn */
    uint64_t excused_ns;
    unsigned over; /* turns of more than the limit */
    unsigned findings;
    struct {
        const char *part, *detail;
        unsigned number, times;
    } suspects[TURN_SUSPECTS];
    uint64_t max_ns;
    char max_what[TURN_WHAT_MAX];
    uint64_t n, slots[TURN_SLOTS]; /* of all turns, four slots to each doubling of the time */
};

void turn_init(struct turn *t);
void turn_deinit(struct turn *t);
/* How long the loop has waited for input in all, before turn_end(). Only needed with a limit. */
void turn_idle(struct turn *t, uint64_t idle_ns);
/* A part of this turn, perhaps with others in it, that began at since_ns (clock_boot_ns()): "apply", "del",
 * 0. The texts are static; detail may be NULL, then the number is shown. Returns the time. */
uint64_t turn_part(struct turn *t, uint64_t since_ns, const char *part, const char *detail, unsigned number);
/* The loop waited, since then, for what must be on the disk before anything else is done (a term, a vote):
 * rare, and no finding. */
void turn_waited(struct turn *t, uint64_t since_ns);
bool turn_time_is_up(uint64_t until_ns); /* clock_boot_ns() */
void turn_end(struct turn *t);
/* The time that so many of a million turns keep within, in µs, rounded up to the slot's end. */
uint64_t turn_quantile_us(const struct turn *t, uint64_t of_million);

#endif
