#include "kvnode/peer/progress.h"

void progress_note(struct progress *p, uint64_t now_ms, uint64_t newest, uint64_t applied)
{
    if (p->caught_ms == 0)
        p->caught_ms = p->risen_ms = p->mark_ms = now_ms;
    if (applied != p->applied)
        p->risen_ms = now_ms;
    p->applied = applied;
    p->caught = applied >= newest;
    if (p->caught) {
        p->caught_ms = now_ms;
    } else if (applied >= p->mark) {
        /* It had all of that, and is busy with what has come since. */
        p->caught_ms = p->mark_ms;
    } else {
        return;
    }
    p->mark = newest;
    p->mark_ms = now_ms;
}

uint64_t progress_lag_ms(const struct progress *p, uint64_t now_ms)
{
    return p->caught || p->caught_ms == 0 ? 0 : now_ms - p->caught_ms;
}
