#include "kvnode/peer/warnings.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kvnode/config/config.h"
#include "kvnode/group/clock_watch.h"
#include "kvnode/group/group.h"
#include "kvnode/group/incoming.h"
#include "kvnode/peer/rivals.h"
#include "kvnode/peer/door.h"
#include "kvnode/peer/members.h"
#include "kvnode/peer/self.h"

#define USED_WARN_PERCENT 80
/* What is left then is gone with a few large writes. */
#define USED_FULL_PERCENT 99
#define AHEAD_WARN_NS UINT64_C(1000000000)
#define DISK_WARN_BYTES (UINT64_C(64) << 20)

__attribute__((format(printf, 2, 3))) static void add(json_t *list, const char *fmt, ...)
{
    char text[STATE_DB_ERROR_MAX];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    json_array_append_new(list, json_string(text));
}

static void size_text(uint64_t bytes, char out[static 24])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)bytes;
    size_t i = 0;

    for (; v >= 1024 && i < sizeof units / sizeof units[0] - 1; i++)
        v /= 1024;
    snprintf(out, 24, v >= 10 || v == (double)(uint64_t)v ? "%.0f %s" : "%.1f %s", v, units[i]);
}

static void about_disks(const struct self *self, const struct members *members, json_t *list)
{
    char free_text[24], total[24];
    size_t i;

    for (i = 0; i < members->n; i++) {
        const struct member *m = &members->all[i];
        const struct health *h = &m->health;

        if (m->state <= MEMBER_SILENT)
            continue;
        if (m->self && (h->flags & HEALTH_LOG_FULL))
            add(list, "the disk with log.db is full: this node acknowledges nothing");
        else if (h->flags & (HEALTH_LOG_FULL | HEALTH_STATE_FULL) && !m->self)
            add(list, "the disk of %s is full: it acknowledges nothing", m->name);
        else if (h->disk_total != 0 && h->disk_free < DISK_WARN_BYTES && h->disk_free < h->disk_total / 10) {
            size_text(h->disk_free, free_text);
            size_text(h->disk_total, total);
            add(list, "the disk of %s has %s of %s left", m->name, free_text, total);
        }
    }
    if (self->group->writeback == NULL) {
        add(list, "a state file from a peer is being installed");
    } else if (writeback_state(self->group->writeback) != WRITEBACK_OK) {
        char text[STATE_DB_ERROR_MAX];

        writeback_error(self->group->writeback, text);
        add(list, "%s", text);
    }
}

static unsigned percent(uint64_t used, uint64_t max)
{
    if (max == 0 || used >= max)
        return 100;
    return (unsigned)((double)used * 100 / (double)max);
}

static void about_use(const struct store_usage *usage, json_t *list)
{
    unsigned bytes = percent(usage->bytes, usage->max_bytes), keys = percent(usage->keys, usage->max_keys);
    char max[24];

    size_text(usage->max_bytes, max);
    if (bytes >= USED_FULL_PERCENT)
        add(list, "live data is at the cluster's limit of %s (max_bytes): what needs more is refused", max);
    else if (bytes >= USED_WARN_PERCENT)
        add(list, "live data is at %u %% of the cluster's limit of %s (max_bytes)", bytes, max);
    if (keys >= USED_FULL_PERCENT)
        add(list, "keys are at the cluster's limit of %" PRIu64 " (max_keys): new ones are refused",
            usage->max_keys);
    else if (keys >= USED_WARN_PERCENT)
        add(list, "keys are at %u %% of the cluster's limit of %" PRIu64 " (max_keys)", keys,
            usage->max_keys);
}

static void about_member(const struct self *self, const struct member *m, json_t *list)
{
    const char *why = "its data are older than what it has acknowledged";

    if (m->self && door_standing(self->door) == STANDING_GONE_BACK)
        add(list, "%s. The way back: %s", door_text(self->door), door_way_back(self->door));
    else if (m->self && door_standing(self->door) != STANDING_MEMBER)
        add(list, "%s", door_text(self->door));
    else if (m->state == MEMBER_GONE_BACK) {
        door_shut(self->door, m->id, &why);
        add(list, "%s has gone back: %s; it neither votes nor counts. The way back: kvnode readmit %s",
            m->name, why, m->name);
    } else if (m->state == MEMBER_WAITING)
        add(list, "%s waits until a member of the cluster lets it in", m->name);
    if (m->state == MEMBER_STUCK)
        add(list, "%s does not catch up: it has lacked the last %" PRIu64 " commands for %" PRIu64 " s",
            m->name, m->behind, m->lag_ms / 1000);
    if (!m->self && (m->health.flags & HEALTH_DAMAGED))
        add(list, "%s found damage in its state.db; kvnode status -n %s says more", m->name, m->name);
    if (!m->self && m->known && strcmp(m->health.version, KVFS_VERSION) != 0)
        add(list, "%s runs version %s, %s version %s", m->name,
            m->health.version[0] != '\0' ? m->health.version : "(not told)", self->config->name,
            KVFS_VERSION);
}

void warnings_rival(const struct self *self, size_t i, char *out, size_t size)
{
    snprintf(out, size,
             "%s belongs to cluster %016" PRIx64 ", this node to %016" PRIx64
             ": take its [peer] section out, or make one of the two anew: kvnode init --cluster ID",
             config_member_name(self->config, self->rivals->all[i].id), self->rivals->all[i].cluster,
             self->config->cluster_id);
}

/* All have been upgraded: what the new version brings waits for somebody's word. */
static void about_level(const struct self *self, const struct members *members, json_t *list)
{
    uint64_t known = members_level(members);

    if (group_serves(self->group) && known > store_level(self->group->store))
        add(list,
            "all nodes know feature level %" PRIu64 ", the cluster is at %u: kvnode config --cluster "
            "feature_level=%" PRIu64 " puts it in force, and no earlier version can be used from then on",
            known, store_level(self->group->store), known);
}

static void about_refused(const struct self *self, json_t *list)
{
    uint32_t format;

    if (self->group->incoming != NULL && incoming_refused(self->group->incoming, &format))
        add(list,
            "the state that the leader sends has format %u, which kvnode " KVFS_VERSION
            " of this node does not know: it waits until it is upgraded",
            format);
}

static void about_rivals(const struct self *self, json_t *list)
{
    char text[256];
    size_t i;

    for (i = 0; i < self->rivals->n; i++) {
        warnings_rival(self, i, text, sizeof text);
        add(list, "%s", text);
    }
}

/* The log says who is a member, for good; the file says who is linked with. */
static void about_sections(const struct self *self, const struct members *members, json_t *list)
{
    size_t i, k;

    for (i = 0; i < members->n; i++)
        if (!members->all[i].self && config_peer_by_id(self->config, (uint16_t)members->all[i].id) == NULL)
            add(list, "%s (id %" PRIu64 ") is a member, and %s has no [peer] section for it",
                members->all[i].address, members->all[i].id, self->config->name);
    for (i = 0; i < self->config->n_peers; i++) {
        for (k = 0; k < members->n && members->all[k].id != self->config->peers[i].id; k++)
            ;
        if (k == members->n)
            add(list, "%s is no member of this cluster: those are fixed when it is founded, and %s counts %u",
                self->config->peers[i].name, self->config->name, members->voters);
    }
    if (members->voters > 0 && members->voters % 2 == 0)
        add(list, "this cluster has %u voters, of which no more may fail than of one less", members->voters);
}

static void about_clocks(const struct self *self, const struct members *members, json_t *list)
{
    uint64_t ahead = clock_watch_ahead_ns(self->clock, store_wall_ns(self->group->store));
    size_t i;

    for (i = 0; i < members->n; i++)
        if (members->all[i].state > MEMBER_SILENT && (members->all[i].health.flags & HEALTH_CLOCK_OFF) != 0)
            add(list, "the clock of %s is not the majority's: it stamps nothing. See kvnode clock",
                members->all[i].name);
    if (ahead > AHEAD_WARN_NS)
        add(list,
            "the time of the last change is %.1f s ahead of the nodes' clocks, and new ones go on from "
            "there. "
            "See kvnode clock",
            (double)ahead / 1e9);
}

static bool somebody_hears(const struct members *members, uint64_t id)
{
    size_t i;

    for (i = 0; i < members->n; i++)
        if (members->all[i].state > MEMBER_SILENT && members->all[i].id != id &&
            members_hears(&members->all[i], id))
            return true;
    return false;
}

/* Of a node that nobody hears its own line says enough. */
static void about_links(const struct members *members, json_t *list)
{
    size_t i, k;

    for (i = 0; i < members->n; i++) {
        for (k = i + 1; k < members->n; k++) {
            const struct member *a = &members->all[i], *b = &members->all[k];
            bool there = members_hears(a, b->id), back = members_hears(b, a->id);

            if ((there && back) || !somebody_hears(members, a->id) || !somebody_hears(members, b->id))
                continue;
            if (!there && !back)
                add(list, "%s and %s do not hear each other", a->name, b->name);
            else
                add(list, "%s does not hear %s", there ? b->name : a->name, there ? a->name : b->name);
        }
    }
}

json_t *warnings(const struct self *self, const struct members *members, const struct store_usage *usage)
{
    json_t *list = json_array();
    size_t i;

    about_disks(self, members, list);
    for (i = 0; i < members->n; i++)
        about_member(self, &members->all[i], list);
    about_rivals(self, list);
    about_level(self, members, list);
    about_refused(self, list);
    about_sections(self, members, list);
    about_clocks(self, members, list);
    about_links(members, list);
    about_use(usage, list);
    return list;
}
