#include "kvfs/link/stamp.h"

#define SET_BACK_NS (60 * INT64_C(1000000000))
#define SLOWER 128 /* by 1/128: more than the leader's 1/200, see writes.c */

void stamp_learn(struct stamp *s, uint64_t wall_ns, uint64_t boot_ns)
{
    s->heard_ns = (int64_t)wall_ns;
    s->heard_at_ns = boot_ns;
    if (s->last_ns - s->heard_ns > SET_BACK_NS)
        s->last_ns = s->heard_ns;
}

int64_t stamp_next(struct stamp *s, uint64_t boot_ns, uint64_t wall_ns)
{
    int64_t now = (int64_t)wall_ns;

    if (s->heard_ns != 0) {
        int64_t passed = (int64_t)(boot_ns - s->heard_at_ns);

        now = s->heard_ns + passed - passed / SLOWER;
    }
    s->last_ns = now > s->last_ns ? now : s->last_ns + 1;
    return s->last_ns;
}
