#include "kvnode/group/clock_watch.h"

#include <stdlib.h>

#include "sync/base/clock.h"
#include "sync/base/log.h"
#include "sync/wire/command.h"

/* Without a majority that agrees there is nobody to wait for. */
#define DOUBT_MS 10000
/* A clock that was just put right may take a moment, and so may a machine that wakes. */
#define OFF_FOR_MS 3000

static void tell(struct clock_watch *w)
{
    double seconds = (double)w->view.majority_ns / 1e9;

    if (w->view.off && !w->told)
        log_warn("this node's clock is %.1f s %s those of the majority: it stamps nothing; set it right",
                 seconds < 0 ? -seconds : seconds, seconds < 0 ? "ahead of" : "behind");
    else if (w->told && !w->view.off && w->view.agreed)
        log_info("this node's clock agrees with those of the majority again");
    w->told = w->view.off || (w->told && !w->view.agreed);
}

/* The time of day, after a look whether it has been set. */
static uint64_t look(struct clock_watch *w)
{
    uint64_t wall = clock_wall_ns();
    int64_t base = (int64_t)wall - (int64_t)clock_boot_ns();

    if (llabs(base - w->base_ns) > SKEW_OFF_NS) {
        w->skew = (struct skew){0}; /* what was compared with the clock as it was */
        w->view = (struct skew_view){0};
        w->confirmed = false;
        w->doubted_ms = clock_boot_ms();
    }
    w->base_ns = base;
    return wall;
}

void clock_watch_beat(struct clock_watch *w, uint64_t self, const uint64_t *voters, size_t n_voters,
                      uint64_t now_ms)
{
    look(w);
    w->view = skew_judge(&w->skew, self, voters, n_voters, now_ms);
    w->confirmed = w->confirmed || w->view.agreed || now_ms > w->doubted_ms + DOUBT_MS;
    tell(w);
    if (!w->view.off)
        w->off_since_ms = 0;
    else if (w->off_since_ms == 0)
        w->off_since_ms = now_ms;
}

bool clock_watch_gives_way(const struct clock_watch *w, uint64_t now_ms)
{
    return w->off_since_ms != 0 && now_ms - w->off_since_ms >= OFF_FOR_MS;
}

bool clock_watch_trusts(const struct clock_watch *w, uint64_t peer, uint64_t now_ms)
{
    int64_t offset;

    return skew_offset(&w->skew, peer, now_ms, &offset) && llabs(offset - w->view.majority_ns) <= SKEW_OFF_NS;
}

uint64_t clock_watch_wall_ns(struct clock_watch *w, uint64_t stored_ns)
{
    uint64_t wall = look(w);

    if (stored_ns == 0) /* there is nothing to go on from */
        return wall;
    return w->view.off || !w->confirmed ? 0 : wall;
}

uint64_t clock_watch_ahead_ns(const struct clock_watch *w, uint64_t stored_ns)
{
    int64_t clock = (int64_t)clock_wall_ns() + w->view.majority_ns;
    int64_t ahead = (int64_t)stored_ns - clock;

    return w->view.agreed && ahead > 0 ? (uint64_t)ahead : 0;
}

uint64_t clock_watch_set_back_ns(struct clock_watch *w, uint64_t stored_ns)
{
    uint64_t wall = look(w);

    if (!w->confirmed || !w->view.agreed || clock_watch_ahead_ns(w, stored_ns) <= CLOCK_BACK_MIN_NS)
        return 0;
    return wall + (uint64_t)w->view.majority_ns;
}
