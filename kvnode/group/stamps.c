#include "kvnode/group/stamps.h"

#define SLOWER 200

uint64_t stamps_next(struct stamps *s, uint64_t clock_ns, uint64_t boot_ns, uint64_t stored_ns)
{
    uint64_t passed = boot_ns - s->from_boot_ns, continued = 0;

    if (s->set_back)
        return clock_ns;
    if (s->from_ns != 0)
        continued = s->from_ns + passed - passed / SLOWER;
    if (stored_ns > continued) {
        continued = s->from_ns = stored_ns;
        s->from_boot_ns = boot_ns;
    }
    return clock_ns > continued ? clock_ns : continued;
}

void stamps_setting_back(struct stamps *s)
{
    *s = (struct stamps){.set_back = true};
}

void stamps_set_back(struct stamps *s)
{
    *s = (struct stamps){0};
}
