#include <stdlib.h>

#include "tests/sim/sim.h"

static struct event *heap;
static size_t n_heap, cap_heap;
static uint64_t next_seq, random_state;

uint64_t rnd(void) /* splitmix64 */
{
    uint64_t z = (random_state += 0x9e3779b97f4a7c15u);

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

int64_t rnd_range(int64_t from, int64_t to)
{
    return from + (int64_t)(rnd() % (uint64_t)(to - from + 1));
}

bool rnd_chance(double p)
{
    return (double)(rnd() >> 11) * (1.0 / 9007199254740992.0) < p;
}

uint64_t mix(uint64_t a, uint64_t b)
{
    a ^= b + 0x9e3779b97f4a7c15u + (a << 6) + (a >> 2);
    a *= 0xff51afd7ed558ccdu;
    return a ^ a >> 33;
}

static bool before(const struct event *a, const struct event *b)
{
    return a->t < b->t || (a->t == b->t && a->seq < b->seq);
}

void events_free_data(struct event *e)
{
    switch (e->type) {
    case EVENT_MESSAGE:
        message_free(e->data);
        break;
    case EVENT_SNAPSHOT_FILE:
    case EVENT_SNAPSHOT_ARRIVES:
    case EVENT_SNAPSHOT_FINISHED:
    case EVENT_SNAPSHOT_FAILED:
        transfer_free(e->data);
        break;
    default:
        break;
    }
}

void events_reset(uint64_t seed)
{
    for (size_t i = 0; i < n_heap; i++)
        events_free_data(&heap[i]);
    n_heap = 0;
    next_seq = 0;
    random_state = seed * 7919 + 12345;
}

static void push(struct event e)
{
    size_t i;

    if (n_heap == cap_heap) {
        cap_heap = cap_heap > 0 ? cap_heap * 2 : 1024;
        heap = realloc(heap, cap_heap * sizeof *heap);
        if (heap == NULL)
            abort();
    }
    i = n_heap++;
    while (i > 0 && before(&e, &heap[(i - 1) / 2])) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = e;
}

void events_push(int64_t t, enum event_type type, int node, void *data)
{
    push((struct event){t, next_seq++, type, node, world.nodes[node].epoch, data});
}

void events_push_again(const struct event *e, int64_t t)
{
    struct event later = *e;

    later.t = t;
    later.seq = next_seq++;
    push(later);
}

bool events_next(int64_t *t_out)
{
    if (n_heap == 0)
        return false;
    *t_out = heap[0].t;
    return true;
}

struct event events_pop(void)
{
    struct event first = heap[0];
    struct event last = heap[--n_heap];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < n_heap) {
        if (child + 1 < n_heap && before(&heap[child + 1], &heap[child]))
            child++;
        if (before(&last, &heap[child]))
            break;
        heap[i] = heap[child];
        i = child;
    }
    if (n_heap > 0)
        heap[i] = last;
    return first;
}
