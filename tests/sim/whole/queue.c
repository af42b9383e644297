/* A heap of happenings, ordered by time and then by the order in which they were
 * asked for: so a run depends on its seed alone. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/whole/whole.h"

struct item {
    int64_t t;
    uint64_t order;
    struct host *host;
    unsigned epoch; /* of the host when it was asked for */
    happening *what;
    void *arg;
    uint64_t number;
    void (*drop)(void *arg);
};

static struct item *heap;
static size_t n_heap, cap_heap;
static uint64_t next_order, random_state;

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

void queue_reset(uint64_t seed)
{
    for (size_t i = 0; i < n_heap; i++)
        if (heap[i].drop != NULL)
            heap[i].drop(heap[i].arg);
    n_heap = 0;
    next_order = 0;
    random_state = seed * 7919 + 4242;
}

static bool before(const struct item *a, const struct item *b)
{
    return a->t < b->t || (a->t == b->t && a->order < b->order);
}

static void push(struct item item)
{
    size_t i;

    if (n_heap == cap_heap) {
        cap_heap = cap_heap > 0 ? cap_heap * 2 : 1024;
        heap = realloc(heap, cap_heap * sizeof *heap);
        if (heap == NULL)
            abort();
    }
    item.order = next_order++;
    for (i = n_heap++; i > 0 && before(&item, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = item;
}

static struct item pop(void)
{
    struct item first = heap[0], last = heap[--n_heap];
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

void queue_at(int64_t t, struct host *h, happening *what, void *arg, uint64_t number, void (*drop)(void *arg))
{
    push((struct item){t > world.now ? t : world.now, 0, h, h != NULL ? h->epoch : 0, what, arg, number,
                       drop});
}

bool queue_step(int64_t until)
{
    struct item x;

    if (n_heap == 0 || heap[0].t > until)
        return false;
    x = pop();
    world.now = x.t;
    counters.happenings++;
    if (x.host == NULL) {
        x.what(NULL, x.arg, x.number);
    } else if (x.epoch != x.host->epoch || !x.host->up) {
        if (x.drop != NULL)
            x.drop(x.arg);
    } else if (x.host->paused_until > world.now) {
        x.t = x.host->paused_until;
        push(x);
    } else {
        host_run(x.host, x.what, x.arg, x.number);
    }
    return true;
}

void trace(const char *format, ...)
{
    va_list args;

    if (options.verbose == 0)
        return;
    printf("%10.6f ", (double)world.now / SECOND);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}
