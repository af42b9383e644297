/* Writes are counted here, as every node executes them all; their times are the leader's, who tells them with
 * his health. */
#include "kvnode/web/pulse.h"

#include "kvnode/config/config.h"
#include "kvnode/group/group.h"
#include "kvnode/peer/peers.h"
#include "kvnode/peer/self.h"
#include "kvnode/web/web_internal.h"
#include "sync/base/clock.h"

struct leader_view {
    uint64_t id;
    bool heard;
    uint64_t commit, p50_us, p99_us;
};

static void look_for(void *arg, const struct peer_view *view)
{
    struct leader_view *l = arg;

    if (view->id != l->id || !view->fresh)
        return;
    l->heard = true;
    l->commit = view->status.health.commit;
    l->p50_us = view->status.health.commit_p50_us;
    l->p99_us = view->status.health.commit_p99_us;
}

static void look(const struct self *self, struct leader_view *out)
{
    const struct group *g = self->group;

    *out = (struct leader_view){.id = consensus_leader(g->consensus)};
    if (consensus_is_leader(g->consensus)) {
        out->heard = true;
        out->commit = consensus_commit(g->consensus);
        out->p50_us = g->meter.p50_us;
        out->p99_us = g->meter.p99_us;
    } else if (out->id != 0) {
        peers_each(self->peers, out, look_for);
    }
}

static void watch_leader(struct pulse *p, const struct self *self, const struct leader_view *l,
                         uint64_t now_ms)
{
    uint64_t term = consensus_term(self->group->consensus);
    unsigned at = (unsigned)(p->n_leaders % PULSE_LEADERS);

    if (!l->heard) {
        if (p->lost_ms == 0)
            p->lost_ms = now_ms;
        return;
    }
    if (l->id != p->leader || term != p->term) {
        p->leaders[at].wall_ms = (int64_t)(clock_wall_ns() / 1000000);
        p->leaders[at].term = term;
        p->leaders[at].leader = l->id;
        p->leaders[at].without_ms = p->lost_ms != 0 ? now_ms - p->lost_ms : 0;
        p->n_leaders++;
    }
    p->leader = l->id;
    p->term = term;
    p->lost_ms = 0;
}

static uint32_t bounded(uint64_t v)
{
    return v < UINT32_MAX ? (uint32_t)v : UINT32_MAX;
}

void pulse_beat(struct pulse *p, const struct self *self, uint64_t now_ms)
{
    uint64_t writes = self->group->meter.writes, passed = now_ms - p->at_ms;
    unsigned at = (unsigned)(p->n % PULSE_SAMPLES);
    struct leader_view l;

    look(self, &l);
    watch_leader(p, self, &l, now_ms);
    p->begun |= l.heard && l.commit > 0 && store_applied(self->group->store) >= l.commit;
    if (!p->begun || passed < PULSE_INTERVAL_MS)
        return;
    if (p->at_ms != 0) {
        p->samples[at].writes = bounded(((writes - p->writes) * 1000 + passed / 2) / passed);
        p->samples[at].p50_us = bounded(l.p50_us);
        p->samples[at].p99_us = bounded(l.p99_us);
        p->n++;
    }
    /* A beat that comes late does not put off those after it. */
    p->at_ms = p->at_ms != 0 && passed < 2 * PULSE_INTERVAL_MS ? p->at_ms + PULSE_INTERVAL_MS : now_ms;
    p->writes = writes;
}

static json_t *samples(const struct pulse *p, uint64_t since)
{
    uint64_t first = p->n > PULSE_SAMPLES ? p->n - PULSE_SAMPLES : 0, i;
    json_t *list = json_array();

    for (i = since > first && since <= p->n ? since : first; i < p->n; i++) {
        unsigned at = (unsigned)(i % PULSE_SAMPLES);

        json_array_append_new(list, json_pack("[I, I, I]", (json_int_t)p->samples[at].writes,
                                              (json_int_t)p->samples[at].p50_us,
                                              (json_int_t)p->samples[at].p99_us));
    }
    return list;
}

static json_t *leaders(const struct pulse *p, const struct config *config)
{
    uint64_t i = p->n_leaders > PULSE_LEADERS ? p->n_leaders - PULSE_LEADERS : 0;
    json_t *list = json_array();

    for (; i < p->n_leaders; i++) {
        unsigned at = (unsigned)(i % PULSE_LEADERS);

        json_array_append_new(list,
                              json_pack("{s:I, s:I, s:s, s:I}", "unix_ms", (json_int_t)p->leaders[at].wall_ms,
                                        "term", (json_int_t)p->leaders[at].term, "leader",
                                        config_member_name(config, p->leaders[at].leader), "without_ms",
                                        (json_int_t)p->leaders[at].without_ms));
    }
    return list;
}

void pulse_start(struct web_request *r)
{
    const struct self *self = r->web->owner.self;
    const struct pulse *p = &r->web->pulse;
    uint64_t since;

    if (!url_number(r->url, PARAM_SINCE, 0, 0, UINT64_MAX, &since)) {
        web_fail(r, 400, "%s", r->url->why);
        return;
    }
    web_reply_json(r, 200,
                   json_pack("{s:s, s:I, s:I, s:I, s:I, s:o, s:o}", "node", self->config->name, "unix_ms",
                             (json_int_t)(clock_wall_ns() / 1000000), "interval_ms",
                             (json_int_t)PULSE_INTERVAL_MS, "without_leader_ms",
                             (json_int_t)(p->lost_ms != 0 ? clock_boot_ms() - p->lost_ms : 0), "next",
                             (json_int_t)p->n, "samples", samples(p, since), "leaders",
                             leaders(p, self->config)));
}
