/* /metrics: the text format of Prometheus, version 0.0.4. What is counted here is counted of HTTP; the rest
 * is asked of the parts that know it, when it is asked for. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "kvnode/config/config.h"
#include "kvnode/group/events.h"
#include "kvnode/group/group.h"
#include "kvnode/group/leases.h"
#include "kvnode/group/mounts.h"
#include "kvnode/loop/turn.h"
#include "kvnode/peer/members.h"
#include "kvnode/peer/self.h"
#include "kvnode/web/web_internal.h"
#include "sync/base/clock.h"

static const char *const ops[WEB_OPS] = {"get", "head", "put", "post", "patch", "delete"};
/* Upper bounds, µs. */
static const uint32_t bounds_us[WEB_BUCKETS] = {100,   250,   500,    1000,    2500,    5000,
                                                10000, 25000, 100000, 1000000, 10000000};
static const unsigned codes[WEB_CODES] = {200, 201, 304, 400, 401, 403, 404, 405, 409,
                                          412, 413, 421, 500, 501, 503, 504, 507, 0};

void metrics_count(struct web *w, const struct web_request *r)
{
    uint64_t took_us = (clock_boot_ns() - r->since_ns) / 1000;
    struct web_counts *c;
    unsigned op, i;

    for (op = 0; op < WEB_OPS && (r->method == NULL || strcasecmp(ops[op], r->method) != 0); op++)
        ;
    if (op == WEB_OPS || r->status == 0)
        return;
    c = &w->counts[op];
    for (i = 0; i < WEB_BUCKETS && took_us > bounds_us[i]; i++)
        ;
    c->buckets[i]++; /* the last one: above all bounds */
    c->n++;
    c->sum_us += took_us;
    for (i = 0; codes[i] != 0 && codes[i] != r->status; i++)
        ;
    c->codes[i]++;
}

void metrics_beat(struct web *w)
{
    uint64_t term = consensus_term(w->owner.group->consensus);

    if (term > w->term && w->term != 0)
        w->terms += term - w->term;
    w->term = term;
}

static void head(FILE *f, const char *name, const char *type, const char *help)
{
    fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void one(FILE *f, const char *name, const char *type, const char *help, double value)
{
    head(f, name, type, help);
    fprintf(f, "%s %.17g\n", name, value);
}

static void requests(FILE *f, const struct web *w)
{
    unsigned op, i;

    head(f, "kvnode_requests_total", "counter", "HTTP requests that were answered.");
    for (op = 0; op < WEB_OPS; op++)
        for (i = 0; i < WEB_CODES; i++)
            if (w->counts[op].codes[i] > 0 && codes[i] != 0)
                fprintf(f, "kvnode_requests_total{op=\"%s\",code=\"%u\"} %" PRIu64 "\n", ops[op], codes[i],
                        w->counts[op].codes[i]);
            else if (w->counts[op].codes[i] > 0)
                fprintf(f, "kvnode_requests_total{op=\"%s\",code=\"other\"} %" PRIu64 "\n", ops[op],
                        w->counts[op].codes[i]);
    head(f, "kvnode_request_seconds", "histogram",
         "From a request's headers to the end of its answer, over HTTP.");
    for (op = 0; op < WEB_OPS; op++) {
        const struct web_counts *c = &w->counts[op];
        uint64_t n = 0;

        for (i = 0; i < WEB_BUCKETS; i++) {
            n += c->buckets[i];
            fprintf(f, "kvnode_request_seconds_bucket{op=\"%s\",le=\"%g\"} %" PRIu64 "\n", ops[op],
                    bounds_us[i] / 1e6, n);
        }
        fprintf(f, "kvnode_request_seconds_bucket{op=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", ops[op], c->n);
        fprintf(f, "kvnode_request_seconds_sum{op=\"%s\"} %.6f\n", ops[op], (double)c->sum_us / 1e6);
        fprintf(f, "kvnode_request_seconds_count{op=\"%s\"} %" PRIu64 "\n", ops[op], c->n);
    }
}

static void peers(FILE *f, const struct web *w)
{
    struct members members;
    size_t i;

    members_look(w->owner.self, &members);
    one(f, "kvnode_writable", "gauge", "1: the cluster accepts writes, as far as this node knows.",
        members.writable);
    one(f, "kvnode_failures_tolerated", "gauge", "So many nodes may fail, whichever they are.",
        members.tolerated);
    head(f, "kvnode_peer_up", "gauge", "1: this node hears that one.");
    for (i = 0; i < members.n; i++)
        if (!members.all[i].self)
            fprintf(f, "kvnode_peer_up{peer=\"%s\"} %d\n", members.all[i].name,
                    members.all[i].state > MEMBER_SILENT);
    head(f, "kvnode_peer_lag", "gauge", "Committed commands that the node is not known to have applied.");
    for (i = 0; i < members.n; i++)
        if (!members.all[i].self)
            fprintf(f, "kvnode_peer_lag{peer=\"%s\"} %" PRIu64 "\n", members.all[i].name,
                    members.all[i].behind);
}

#define LOCKS_COUNTED_MAX 4096

static bool counts_on(void *arg, uint64_t ino)
{
    (void)ino;
    return *(const uint64_t *)arg < LOCKS_COUNTED_MAX;
}

static void count_lock(void *arg, const struct lock_row *row)
{
    (void)row;
    ++*(uint64_t *)arg;
}

static void state(FILE *f, const struct web *w)
{
    const struct group *g = w->owner.group;
    uint64_t locks = 0, held = w->owner.self->probe.state_bytes;
    uint64_t commit = consensus_commit(g->consensus), applied = store_applied(g->store);
    struct store_usage usage;

    store_usage(g->store, &usage);
    one(f, "kvnode_commits_total", "counter", "Entries of the log that are known to be committed.",
        (double)commit);
    one(f, "kvnode_applied_total", "counter", "Entries of the log that are applied here.", (double)applied);
    one(f, "kvnode_apply_lag", "gauge", "Committed entries that are not applied here.",
        commit > applied ? (double)(commit - applied) : 0);
    one(f, "kvnode_term", "gauge", "The term of the consensus.", (double)consensus_term(g->consensus));
    one(f, "kvnode_is_leader", "gauge", "1: this node leads.", consensus_is_leader(g->consensus));
    one(f, "kvnode_elections_total", "counter", "Terms that have begun since this node was started.",
        (double)w->terms);
    one(f, "kvnode_has_lease", "gauge", "1: this node holds a read lease.", leases_held(g->leases));
    one(f, "kvnode_keys", "gauge", "Names of files, directories and links.", (double)usage.keys);
    one(f, "kvnode_max_keys", "gauge", "The cluster's limit of them.", (double)usage.max_keys);
    one(f, "kvnode_value_bytes", "gauge", "Bytes of all current values.", (double)usage.bytes);
    one(f, "kvnode_max_value_bytes", "gauge", "The cluster's limit of them.", (double)usage.max_bytes);
    one(f, "kvnode_memory_bytes", "gauge", "What the state takes in memory over its values, estimated.",
        (double)usage.memory);
    one(f, "kvnode_sessions", "gauge", "Sessions of clients.", (double)usage.sessions);
    one(f, "kvnode_watchers", "gauge", "Subscribers of the stream of changes, mounts among them.",
        events_subscribers(g->events));
    one(f, "kvnode_mounts", "gauge", "Mounts that cache what this node tells them.", mounts_n(g->mounts));
    one(f, "kvnode_lease_recalls_total", "counter",
        "How often a mount had to forget something that it had under this node's lease.",
        (double)mounts_recalls(g->mounts));
    store_locks(g->store, 0, &locks, counts_on, count_lock);
    one(f, "kvnode_locks", "gauge", "Locks that are held or waited for; counted up to some thousands.",
        (double)locks);
    one(f, "kvnode_writes_total", "counter", "Commands of clients that were executed here, as on every node.",
        (double)g->meter.writes);
    one(f, "kvnode_db_bytes", "gauge", "Size of state.db: values, names and their history.", (double)held);
    one(f, "kvnode_history_bytes", "gauge",
        "Size of state.db beyond the current values: history, for the most.",
        held > usage.bytes ? (double)(held - usage.bytes) : 0);
    one(f, "kvnode_http_connections", "gauge", "HTTP connections.", w->n_connections);
    one(f, "kvnode_disk_free_bytes", "gauge", "Room on the disk of the node's data.",
        (double)w->owner.self->probe.disk_free);
}

/* The bounds that Prometheus is told of: each doubling's. */
static void histogram(FILE *f, const char *name, const char *help, const struct histogram *h)
{
    uint64_t n = 0;
    unsigned i;

    head(f, name, "histogram", help);
    for (i = 0; i < HISTOGRAM_SLOTS - 1; i++) {
        n += h->slots[i];
        if (i % 4 == 0)
            fprintf(f, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, (double)histogram_bound_us(i) / 1e6, n);
    }
    fprintf(f, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum %.6f\n%s_count %" PRIu64 "\n", name, h->n, name,
            (double)h->sum_us / 1e6, name, h->n);
}

static void times(FILE *f, const struct web *w)
{
    struct histogram syncs;

    log_store_syncs(shared_log_store(w->owner.group->owner->log), &syncs);
    histogram(f, "kvnode_commit_seconds",
              "From a command's proposal by this node, as the leader, to its being committed.",
              &w->owner.group->meter.commit);
    histogram(f, "kvnode_fsync_seconds", "What the disk takes for a transaction of log.db.", &syncs);
}

static void loop(FILE *f, const struct turn *t)
{
    static const double quantiles[] = {0.5, 0.99, 0.9999};
    unsigned i;

    head(f, "kvnode_turn_seconds", "gauge",
         "CPU time of a turn of the loop that so large a part of them keeps within.");
    for (i = 0; i < 3; i++)
        fprintf(f, "kvnode_turn_seconds{part=\"%g\"} %g\n", quantiles[i],
                (double)turn_quantile_us(t, (uint64_t)(quantiles[i] * 1e6)) / 1e6);
    one(f, "kvnode_turns_total", "counter", "Turns of the loop.", (double)t->n);
}

static void process(FILE *f, const struct self *self)
{
    struct rusage usage;
    struct rlimit files;

    if (getrusage(RUSAGE_SELF, &usage) == 0)
        one(f, "process_cpu_seconds_total", "counter", "CPU time of the process, user and system.",
            (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    one(f, "process_resident_memory_bytes", "gauge", "Resident memory of the process.",
        (double)self->probe.rss);
    one(f, "process_start_time_seconds", "gauge", "When the process was started, since 1970.",
        (double)(clock_wall_ns() / 1000000) / 1e3 - (double)(clock_boot_ms() - self->started_ms) / 1e3);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        one(f, "process_max_fds", "gauge", "The limit of open descriptors.", (double)files.rlim_cur);
}

void info_metrics(struct web_request *r)
{
    const struct web *w = r->web;
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    if (f == NULL) {
        web_fail(r, 503, "out of memory");
        return;
    }
    head(f, "kvnode_build_info", "gauge", "The program's version; always 1.");
    fprintf(f, "kvnode_build_info{version=\"%s\",node=\"%s\"} 1\n", KVFS_VERSION,
            w->owner.self->config->name);
    state(f, w);
    peers(f, w);
    requests(f, w);
    times(f, w);
    loop(f, w->owner.turn);
    process(f, w->owner.self);
    if (fclose(f) == 0)
        web_reply_text(r, 200, "text/plain; version=0.0.4; charset=utf-8", text, len);
    else
        web_fail(r, 503, "out of memory");
    free(text);
}
