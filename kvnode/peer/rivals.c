#include "kvnode/peer/rivals.h"

static size_t find(const struct rivals *r, uint64_t peer)
{
    size_t i = 0;

    while (i < r->n && r->all[i].id != peer)
        i++;
    return i;
}

bool rivals_hear(struct rivals *r, uint64_t peer, uint64_t cluster, uint64_t own)
{
    size_t i = find(r, peer);

    if (cluster == own) {
        if (i == r->n)
            return false;
        r->all[i] = r->all[--r->n];
        return true;
    }
    if (i == r->n) {
        if (r->n == RIVALS_MAX)
            return false;
        r->all[r->n++].id = peer;
    } else if (r->all[i].cluster == cluster) {
        return false;
    }
    r->all[i].cluster = cluster;
    return true;
}

uint64_t rivals_cluster(const struct rivals *r, uint64_t peer)
{
    size_t i = find(r, peer);

    return i < r->n ? r->all[i].cluster : 0;
}

bool rivals_prevail(const struct rivals *r, size_t n)
{
    return r->n > 0 && (n - r->n) * 2 <= n;
}
