/* A batch is measured as one: its commands are proposed together, and committed together. */
#include "kvnode/group/meter.h"

void meter_proposed(struct meter *m, uint64_t term, uint64_t index, unsigned n, uint64_t now_ns)
{
    unsigned at;

    if (term != m->term)
        m->n = 0;
    m->term = term;
    /* What was refused after it was entered here has given its place to another. */
    while (m->n > 0 && m->out[(m->first + m->n - 1) % METER_BATCHES].index >= index)
        m->n--;
    if (m->n == METER_BATCHES)
        return;
    at = (m->first + m->n++) % METER_BATCHES;
    m->out[at].index = index;
    m->out[at].since_ns = now_ns;
    m->out[at].n = n;
}

void meter_committed(struct meter *m, uint64_t term, uint64_t index, uint64_t now_ns)
{
    if (term != m->term)
        m->n = 0; /* whether they were committed, another leader has decided */
    while (m->n > 0 && m->out[m->first].index <= index) {
        histogram_add(&m->commit, (now_ns - m->out[m->first].since_ns) / 1000, m->out[m->first].n);
        m->first = (m->first + 1) % METER_BATCHES;
        m->n--;
    }
}

void meter_executed(struct meter *m, enum command_op op)
{
    if (op != COMMAND_REGISTER && op != COMMAND_KEEPALIVE && op != COMMAND_END && op != COMMAND_PART &&
        op != COMMAND_TICK && op != COMMAND_CLOCK)
        m->writes++;
}

void meter_beat(struct meter *m, uint64_t now_ms)
{
    if (now_ms - m->window_ms < METER_WINDOW_MS)
        return;
    m->window_ms = now_ms;
    m->p50_us = histogram_quantile_us(&m->commit, &m->before, 500);
    m->p99_us = histogram_quantile_us(&m->commit, &m->before, 990);
    m->before = m->commit;
}
