#include "kvnode/group/skew.h"

#include <stdlib.h>

static size_t find(const struct skew *s, uint64_t id)
{
    size_t i = 0;

    while (i < SKEW_PEERS_MAX && s->peers[i].id != id)
        i++;
    return i;
}

void skew_hear(struct skew *s, uint64_t id, int64_t offset_ns, uint64_t now_ms)
{
    size_t i = find(s, id);
    struct skew_peer *p;

    if (i == SKEW_PEERS_MAX)
        i = find(s, 0);
    if (i == SKEW_PEERS_MAX)
        return;
    p = &s->peers[i];
    if (p->id == 0 || now_ms - p->heard_ms > SKEW_FRESH_MS)
        *p = (struct skew_peer){.id = id};
    p->offsets[p->n++ % SKEW_SAMPLES] = offset_ns;
    p->heard_ms = now_ms;
}

bool skew_offset(const struct skew *s, uint64_t id, uint64_t now_ms, int64_t *offset_out)
{
    size_t at = find(s, id);
    const struct skew_peer *p = &s->peers[at < SKEW_PEERS_MAX ? at : 0];
    unsigned i;

    if (at == SKEW_PEERS_MAX || id == 0 || now_ms - p->heard_ms > SKEW_FRESH_MS)
        return false;
    *offset_out = p->offsets[0];
    for (i = 1; i < p->n && i < SKEW_SAMPLES; i++)
        if (p->offsets[i] > *offset_out)
            *offset_out = p->offsets[i];
    return true;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

struct skew_view skew_judge(const struct skew *s, uint64_t self, const uint64_t *voters, size_t n_voters,
                            uint64_t now_ms)
{
    int64_t clocks[SKEW_PEERS_MAX + 1];
    size_t n = 0, i, first, best_first = 0, best = 0;
    struct skew_view view = {0};
    int64_t offset;

    for (i = 0; i < n_voters && n < SKEW_PEERS_MAX + 1; i++) {
        if (voters[i] == self)
            clocks[n++] = 0;
        else if (skew_offset(s, voters[i], now_ms, &offset))
            clocks[n++] = offset;
    }
    qsort(clocks, n, sizeof clocks[0], compare);
    /* The longest run of clocks of which none is further than that from the first. */
    for (first = 0; first < n; first++) {
        for (i = first; i < n && clocks[i] <= clocks[first] + SKEW_OFF_NS; i++)
            ;
        if (i - first > best) {
            best = i - first;
            best_first = first;
        }
    }
    if (best == 0 || best < n_voters / 2 + 1)
        return view;
    view.agreed = true;
    view.majority_ns = clocks[best_first + best / 2];
    view.off = clocks[best_first] > 0 || clocks[best_first + best - 1] < 0;
    if (view.off && llabs(view.majority_ns) <= SKEW_OFF_NS)
        view.off = false;
    return view;
}
