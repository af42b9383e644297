/* What a page shows of the last minutes: writes and their times, second by second, and who has led since
 * when. Kept from the node's start, in memory, bounded. Loop thread only. */
#ifndef KVFS_KVNODE_WEB_PULSE_H
#define KVFS_KVNODE_WEB_PULSE_H

#include <stdbool.h>
#include <stdint.h>

#define PULSE_SAMPLES 600
#define PULSE_INTERVAL_MS 1000
#define PULSE_LEADERS 32

struct self;
struct web_request;

struct pulse {
    bool begun;             /* what it missed before it was started has been executed: that is no news */
    uint64_t at_ms, writes; /* boot clock and counter at the last sample; 0: there was none */
    uint64_t n;             /* samples ever; the last PULSE_SAMPLES are kept */
    struct {
        uint32_t writes; /* in a second */
        uint32_t p50_us,
            p99_us; /* from proposal to commit at the leader; 0: not known, or nothing was written */
    } samples[PULSE_SAMPLES];

    uint64_t term, leader; /* the last one known */
    uint64_t lost_ms;      /* boot clock: since then there is none, or he is not heard; 0: he is */
    uint64_t n_leaders;    /* ever */
    struct {
        int64_t wall_ms;
        uint64_t term, leader;
        uint64_t without_ms; /* how long this node knew none before */
    } leaders[PULSE_LEADERS];
};

/* Every beat. */
void pulse_beat(struct pulse *p, const struct self *self, uint64_t now_ms);
/* GET /v1/pulse. */
void pulse_start(struct web_request *r);

#endif
