#include "kvnode/group/reserve.h"

#include "sync/base/error.h"

#define SLACK_SHARE 16

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t beyond(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static void hold(struct reserve *r, struct reservation *v, uint64_t bytes)
{
    if (v->bytes == 0 && bytes > 0)
        LIST_INSERT_HEAD(&r->holders, v, link);
    else if (v->bytes > 0 && bytes == 0)
        LIST_REMOVE(v, link);
    r->bytes = r->bytes - v->bytes + bytes;
    v->bytes = bytes;
}

/* What the user's other connections hold. */
static uint64_t held_by_user(const struct reserve *r, const struct reservation *v)
{
    const struct reservation *other;
    uint64_t sum = 0;

    LIST_FOREACH (other, &r->holders, link)
        sum += other != v && !other->trusted && other->uid == v->uid ? other->bytes : 0;
    return sum;
}

int reserve_set(struct reserve *r, struct reservation *v, const struct store_usage *usage, uint64_t held,
                uint64_t least, uint64_t wanted, uint64_t *granted_out)
{
    uint64_t room, share = UINT64_MAX;

    if (wanted < least)
        wanted = least;
    hold(r, v, min_u64(v->bytes, held));
    room = beyond(beyond(usage->max_bytes, usage->bytes), r->bytes - v->bytes);
    if (!v->trusted)
        share = beyond(RESERVE_USER_VALUES * usage->value_limit, held_by_user(r, v));
    *granted_out = v->bytes;
    if (wanted <= v->bytes) {
        hold(r, v, wanted);
    } else if (least > share) {
        return KV_E_BUSY;
    } else if (least <= room) {
        uint64_t bytes = least + min_u64(wanted - least, (room - least) / SLACK_SHARE);

        bytes = min_u64(bytes, share);
        if (bytes > v->bytes)
            hold(r, v, bytes);
    }
    *granted_out = v->bytes;
    return KV_OK;
}

void reserve_drop(struct reserve *r, struct reservation *v)
{
    hold(r, v, 0);
}
