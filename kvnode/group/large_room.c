#include "kvnode/group/large_room.h"

#define SHARED_MS 200 /* since the last small one */
#define PAUSE_MAX_MS 500
/* The pause is so many times as long as what it follows. What a large one leaves to do behind
 * it (the state's database, fsync) takes from the pause too: with 1 the small ones keep 42 % of
 * their rate, not half. */
#define PAUSE_TIMES 2
#define COST_MIN 4096
#define LINK_MAX (2UL << 20)
#define LINK_MS 1000
#define LINK_TRICKLE_MS 100

void large_room_init(struct large_room *r)
{
    *r = (struct large_room){.room = LARGE_ROOM_MIN};
}

size_t large_room_cost(size_t len)
{
    return len > COST_MIN ? len : COST_MIN;
}

void large_room_small(struct large_room *r, uint64_t session, uint64_t now)
{
    if (session != r->session)
        r->small_ms = now;
}

void large_room_large(struct large_room *r, uint64_t session)
{
    r->session = session;
}

static bool is_shared(const struct large_room *r, uint64_t now)
{
    return now - r->small_ms < SHARED_MS;
}

void large_room_took(struct large_room *r, size_t bytes, uint64_t took_ms, uint64_t now)
{
    size_t room = r->room;

    if (is_shared(r, now)) {
        uint64_t pause = took_ms < PAUSE_MAX_MS / PAUSE_TIMES ? PAUSE_TIMES * took_ms : PAUSE_MAX_MS;

        r->pause_ms = now + pause;
        room = 0;
    } else {
        room += bytes;
    }
    r->room = room < LARGE_ROOM_MIN ? LARGE_ROOM_MIN : room > LARGE_ROOM_MAX ? LARGE_ROOM_MAX : room;
}

void large_room_proposed(struct large_room *r, uint64_t index, size_t bytes, uint64_t now)
{
    if (bytes == 0)
        return;
    r->batches[(r->first + r->n++) % LARGE_BATCHES] = (struct large_batch){index, bytes, now};
    r->bytes += bytes;
}

void large_room_applied(struct large_room *r, uint64_t applied, uint64_t now)
{
    while (r->n > 0 && r->batches[r->first].index <= applied) {
        const struct large_batch *b = &r->batches[r->first];

        large_room_took(r, b->bytes, now - b->sent_ms, now);
        r->bytes -= b->bytes;
        r->first = (r->first + 1) % LARGE_BATCHES;
        r->n--;
    }
}

uint64_t large_room_pause(const struct large_room *r, uint64_t now)
{
    return is_shared(r, now) && now < r->pause_ms ? r->pause_ms - now : 0;
}

bool large_room_has(const struct large_room *r, size_t more, uint64_t now)
{
    if (is_shared(r, now) && r->bytes + more > 0)
        return false;
    return large_room_pause(r, now) == 0 && r->bytes + more < r->room && r->n < LARGE_BATCHES;
}

bool large_room_link_is_full(struct large_room *r, size_t unsent, uint64_t now)
{
    if (unsent <= LINK_MAX) {
        r->link_full_ms = 0;
        return false;
    }
    if (r->link_full_ms == 0)
        r->link_full_ms = now;
    if (now - r->link_full_ms < LINK_MS)
        return true;
    r->link_full_ms = now - LINK_MS + LINK_TRICKLE_MS; /* this one, and no more for a while */
    return false;
}
