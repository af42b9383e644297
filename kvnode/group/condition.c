#include "kvnode/group/condition.h"

/* allowed[from][to] */
static const bool allowed[CONDITIONS][CONDITIONS] = {
    [CONDITION_SERVING] = {[CONDITION_MENDING] = true, [CONDITION_REPLACING] = true},
    [CONDITION_MENDING] =
        {[CONDITION_SERVING] = true, [CONDITION_REPLACING] = true, [CONDITION_HEALING] = true},
    [CONDITION_AWAITED] = {[CONDITION_REPLACING] = true, [CONDITION_HEALING] = true},
    [CONDITION_REPLACING] = {[CONDITION_SERVING] = true},
    [CONDITION_HEALING] = {[CONDITION_SERVING] = true, [CONDITION_AWAITED] = true},
};

bool condition_move(enum condition *c, enum condition to)
{
    if (!allowed[*c][to])
        return false;
    *c = to;
    return true;
}

bool condition_serves(enum condition c)
{
    return c == CONDITION_SERVING || c == CONDITION_MENDING;
}

bool condition_asks(enum condition c)
{
    return c == CONDITION_MENDING || c == CONDITION_AWAITED;
}
