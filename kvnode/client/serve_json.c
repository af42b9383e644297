#include "kvnode/client/serve_json.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kvnode/client/serve.h"
#include "kvnode/group/events.h"
#include "kvnode/group/leadership.h"
#include "kvnode/group/scrub.h"
#include "kvnode/group/verify.h"
#include "kvnode/node/node_state.h"
#include "kvnode/peer/door.h"
#include "kvnode/peer/members.h"
#include "kvnode/peer/peers.h"
#include "kvnode/peer/warnings.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/wire/body.h"

static json_t *hex64(uint64_t v)
{
    char text[17];

    snprintf(text, sizeof text, "%016" PRIx64, v);
    return json_string(text);
}

static json_t *json_u64(uint64_t v)
{
    return json_integer(v <= INT64_MAX ? (json_int_t)v : INT64_MAX);
}

static json_t *links(const struct node *n, const struct health *h)
{
    json_t *list = json_array();
    size_t i;

    for (i = 0; i < h->n_links; i++)
        json_array_append_new(list, json_string(config_member_name(n->config, h->links[i])));
    return list;
}

/* Last known, if it is not heard now. */
static void emit_health(const struct node *n, json_t *o, const struct member *m)
{
    const struct health *h = &m->health;

    json_object_set_new(o, "version", json_string(h->version));
    json_object_set_new(o, "feature_level", json_u64(h->level));
    json_object_set_new(o, "uptime_ms", json_u64(h->uptime_ms));
    json_object_set_new(o, "commit", json_u64(h->commit));
    json_object_set_new(o, "last_index", json_u64(h->last_index));
    json_object_set_new(o, "keys", json_u64(h->keys));
    json_object_set_new(o, "bytes", json_u64(h->live_bytes));
    json_object_set_new(o, "disk_free", json_u64(h->disk_free));
    json_object_set_new(o, "disk_total", json_u64(h->disk_total));
    json_object_set_new(o, "rss_bytes", json_u64(h->rss));
    json_object_set_new(o, "follows",
                        h->leader != 0 ? json_string(config_member_name(n->config, h->leader)) : json_null());
    json_object_set_new(o, "hears", links(n, h));
}

static json_t *member(const struct node *n, const struct member *m)
{
    static const char *const roles[] = {
        [PEER_FOLLOWER] = "follower", [PEER_CANDIDATE] = "candidate", [PEER_LEADER] = "leader"};
    bool heard = m->state > MEMBER_SILENT;
    int64_t offset = 0;
    json_t *o = json_object();

    json_object_set_new(o, "name", json_string(m->name));
    json_object_set_new(o, "id", json_u64(m->id));
    json_object_set_new(o, "voter", json_boolean(m->voter));
    json_object_set_new(o, "address", json_string(m->address));
    json_object_set_new(o, "role", json_string(heard && m->role <= PEER_LEADER ? roles[m->role] : "-"));
    json_object_set_new(o, "state", json_string(members_state_text(m->state)));
    json_object_set_new(o, "usable", json_boolean(members_usable(m)));
    json_object_set_new(o, "behind", json_u64(m->behind));
    json_object_set_new(o, "lag_ms", json_u64(m->lag_ms));
    json_object_set_new(o, "last_seen_ms",
                        m->last_seen_ms != 0 ? json_u64(clock_boot_ms() - m->last_seen_ms) : json_null());
    json_object_set_new(o, "applied", json_u64(m->applied));
    json_object_set_new(o, "digest_index", json_u64(m->digest_index));
    json_object_set_new(o, "digest", hex64(m->digest));
    json_object_set_new(o, "error", m->error[0] != '\0' ? json_string(m->error) : json_null());
    json_object_set_new(o, "clock_offset_ms",
                        m->self || skew_offset(&n->clock.skew, m->id, clock_boot_ms(), &offset)
                            ? json_integer(offset / 1000000)
                            : json_null());
    if (m->known)
        emit_health(n, o, m);
    return o;
}

static json_t *member_list(const struct node *n, const struct members *all)
{
    json_t *list = json_array();
    size_t i;

    for (i = 0; i < all->n; i++)
        json_array_append_new(list, member(n, &all->all[i]));
    return list;
}

/* Times of day as jansson's integers: milliseconds. */
static json_t *clocks(struct node *n)
{
    const struct skew_view *v = &n->clock.view;
    json_t *o = json_object();
    int64_t now = (int64_t)clock_wall_ns();

    json_object_set_new(o, "agreed", json_boolean(v->agreed));
    json_object_set_new(o, "off", json_boolean(v->off));
    json_object_set_new(o, "own_unix_ms", json_integer(now / 1000000));
    json_object_set_new(o, "majority_unix_ms",
                        v->agreed ? json_integer((now + v->majority_ns) / 1000000) : json_null());
    json_object_set_new(o, "stored_unix_ms",
                        json_integer((json_int_t)(store_wall_ns(n->group->store) / 1000000)));
    json_object_set_new(
        o, "ahead_ms",
        json_integer(
            (json_int_t)(clock_watch_ahead_ns(&n->clock, store_wall_ns(n->group->store)) / 1000000)));
    return o;
}

static json_t *scrub(struct node *n, json_t *warnings)
{
    static const char *const states[] = {
        [SCRUB_NONE] = NULL,         [SCRUB_RUNNING] = "running", [SCRUB_CLEAN] = "clean",
        [SCRUB_DAMAGED] = "damaged", [SCRUB_FAILED] = "failed",
    };
    struct scrub_view v;
    json_t *o = json_object();

    scrub_look(n->group->scrub, &v);
    json_object_set_new(o, "interval_s", json_integer(n->config->scrub_interval_s));
    json_object_set_new(o, "running", json_boolean(v.state == SCRUB_RUNNING));
    json_object_set_new(o, "last", v.last != SCRUB_NONE ? json_string(states[v.last]) : json_null());
    json_object_set_new(o, "ended_ms_ago",
                        v.last != SCRUB_NONE ? json_integer((json_int_t)(clock_boot_ms() - v.ended_boot_ms))
                                             : json_null());
    json_object_set_new(o, "ended_unix_ms",
                        v.last != SCRUB_NONE ? json_integer((json_int_t)(v.ended_wall_ns / 1000000))
                                             : json_null());
    json_object_set_new(o, "took_ms", json_integer((json_int_t)v.took_ms));
    json_object_set_new(o, "read_bytes", json_integer((json_int_t)v.last_read));
    json_object_set_new(o, "error", v.error[0] != '\0' ? json_string(v.error) : json_null());
    json_object_set_new(o, "mending", json_boolean(n->group->mending));
    if (v.damaged || v.last == SCRUB_FAILED)
        json_array_append_new(warnings, json_string(v.error));
    return o;
}

/* CPU time of the loop's turns. */
static json_t *turns(const struct turn *t)
{
    json_t *o = json_object();

    json_object_set_new(o, "turns", json_u64(t->n));
    json_object_set_new(o, "p50", json_u64(turn_quantile_us(t, 500000)));
    json_object_set_new(o, "p99", json_u64(turn_quantile_us(t, 990000)));
    json_object_set_new(o, "p99_99", json_u64(turn_quantile_us(t, 999900)));
    json_object_set_new(o, "max", json_u64(t->max_ns / 1000));
    json_object_set_new(o, "what", t->n > 0 ? json_string(t->max_what) : json_null());
    return o;
}

/* What people have to do before this node serves anybody; null: nothing. */
static json_t *way_back(const struct node *n)
{
    char text[256];

    if (rivals_prevail(&n->rivals, n->config->n_peers + 1)) {
        warnings_rival(&n->self, 0, text, sizeof text);
        return json_string(text);
    }
    return door_way_back(n->door)[0] != '\0' ? json_string(door_way_back(n->door)) : json_null();
}

static json_t *status(struct node *n)
{
    struct members members;
    uint64_t leader = consensus_leader(n->group->consensus);
    struct store_usage usage;
    struct rlimit files;
    char revision[40];
    json_t *o = json_object(), *warned;

    store_usage(n->group->store, &usage);
    members_look(&n->self, &members);
    snprintf(revision, sizeof revision, "%u-%" PRIu64, NODE_GROUP, store_applied(n->group->store));
    json_object_set_new(o, "node", json_string(n->config->name));
    json_object_set_new(o, "id", json_integer(n->config->id));
    json_object_set_new(o, "cluster_id", hex64(n->config->cluster_id));
    json_object_set_new(o, "role",
                        json_string(consensus_is_leader(n->group->consensus)      ? "leader"
                                    : consensus_is_candidate(n->group->consensus) ? "candidate"
                                                                                  : "follower"));
    json_object_set_new(o, "leader",
                        leader != 0 ? json_string(config_member_name(n->config, leader)) : json_null());
    json_object_set_new(o, "ready",
                        json_boolean(leader != 0 && (leader != n->config->id ||
                                                     consensus_leader_ready(n->group->consensus))));
    json_object_set_new(o, "term", json_integer((json_int_t)consensus_term(n->group->consensus)));
    json_object_set_new(o, "revision", json_string(revision));
    json_object_set_new(o, "applied", json_integer((json_int_t)store_applied(n->group->store)));
    json_object_set_new(o, "commit", json_integer((json_int_t)consensus_commit(n->group->consensus)));
    json_object_set_new(o, "last_index", json_integer((json_int_t)consensus_last(n->group->consensus)));
    json_object_set_new(o, "log_first", json_integer((json_int_t)consensus_first(n->group->consensus)));
    json_object_set_new(o, "durable",
                        json_integer(n->group->writeback != NULL
                                         ? (json_int_t)writeback_durable_index(n->group->writeback)
                                         : 0));
    json_object_set_new(o, "digest", hex64(store_digest(n->group->store)));
    json_object_set_new(o, "digest_index", json_integer((json_int_t)store_applied(n->group->store)));
    json_object_set_new(o, "uptime_ms", json_u64(clock_boot_ms() - n->self.started_ms));
    json_object_set_new(o, "pid", json_integer(getpid()));
    json_object_set_new(o, "version", json_string(KVFS_VERSION));
    json_object_set_new(o, "data_dir", json_string(n->config->data_dir));
    json_object_set_new(o, "socket", json_string(n->config->socket));
    json_object_set_new(o, "quorum", json_boolean(members.writable));
    json_object_set_new(o, "voters", json_integer(members.voters));
    json_object_set_new(o, "usable", json_integer(members.usable));
    json_object_set_new(o, "failures_tolerated", json_integer(members.tolerated));
    json_object_set_new(o, "leaderless_ms", leader == 0 ? json_u64(members.leaderless_ms) : json_null());
    json_object_set_new(o, "minority", json_boolean(group_in_minority(n->group)));
    json_object_set_new(o, "no_service",
                        node_no_service(n) != NULL ? json_string(node_no_service(n)) : json_null());
    json_object_set_new(o, "way_back", way_back(n));
    json_object_set_new(o, "leader_elsewhere",
                        members.elsewhere != 0 ? json_string(config_member_name(n->config, members.elsewhere))
                                               : json_null());
    json_object_set_new(o, "keys", json_integer((json_int_t)usage.keys));
    json_object_set_new(o, "bytes", json_integer((json_int_t)usage.bytes));
    json_object_set_new(o, "max_keys", json_integer((json_int_t)usage.max_keys));
    json_object_set_new(o, "max_bytes", json_integer((json_int_t)usage.max_bytes));
    json_object_set_new(o, "value_limit", json_integer((json_int_t)usage.value_limit));
    json_object_set_new(o, "feature_level", json_u64(store_level(n->group->store)));
    json_object_set_new(o, "sessions", json_integer((json_int_t)usage.sessions));
    json_object_set_new(o, "memory_bytes", json_integer((json_int_t)usage.memory));
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        json_object_set_new(o, "open_files_limit", json_u64(files.rlim_cur));
    json_object_set_new(o, "clients", json_integer((json_int_t)serve_clients(n->serve)));
    json_object_set_new(o, "subscribers", json_integer((json_int_t)events_subscribers(n->group->events)));
    json_object_set_new(o, "clock", clocks(n));
    json_object_set_new(o, "turn_us", turns(&n->turn));
    json_object_set_new(o, "members", member_list(n, &members));
    warned = warnings(&n->self, &members, &usage);
    json_object_set_new(o, "scrub", scrub(n, warned));
    json_object_set_new(o, "warnings", warned);
    return o;
}

static void emit_setting(void *arg, const char *name, const char *value, const char *fallback)
{
    json_t *o = json_object();

    json_object_set_new(o, "value", json_string(value));
    json_object_set_new(o, "default", json_string(fallback));
    json_object_set_new(arg, name, o);
}

static json_t *settings(struct node *n)
{
    json_t *o = json_object();

    store_settings(n->group->store, o, emit_setting);
    return o;
}

static int transfer(struct node *n, const char *to)
{
    uint64_t id = 0;

    if (to != NULL) {
        const struct config_peer *peer = config_peer_by_name(n->config, to);

        if (peer == NULL && strcmp(to, n->config->name) != 0)
            return KV_E_NOENT;
        id = peer != NULL ? peer->id : n->config->id;
    }
    return leadership_hand_over(n->group, id);
}

static int readmit(struct node *n, const char *name, char **text_out)
{
    const struct config_peer *peer = name != NULL ? config_peer_by_name(n->config, name) : NULL;
    int rv;

    if (peer == NULL)
        return name != NULL && strcmp(name, n->config->name) == 0 ? KV_E_EXIST : KV_E_NOENT;
    rv = door_readmit(n->door, peer->id);
    if (rv == KV_OK)
        *text_out = strdup("{}");
    return rv;
}

static int verify(struct node *n, json_t *request, char **text_out)
{
    json_int_t run = json_integer_value(json_object_get(request, "run")),
               rate = json_integer_value(json_object_get(request, "rate"));
    json_t *answer;
    int rv;

    if (run <= 0 || rate < 0)
        return KV_E_INVAL;
    rv = verify_poll(n->group->verify, (uint64_t)run, (uint64_t)rate, &answer);
    if (rv != KV_OK) {
        *text_out = strdup("another verify is under way");
        return rv;
    }
    *text_out = json_dumps(answer, JSON_COMPACT);
    json_decref(answer);
    return *text_out != NULL ? KV_OK : KV_E_BUSY;
}

static int admin(struct node *n, bool trusted, const struct bytes *text, char **text_out)
{
    json_t *request = json_loadb((const char *)text->data, text->len, 0, NULL);
    const char *command = json_string_value(json_object_get(request, "command"));
    int rv = KV_E_NOTSUP;

    if (command == NULL) {
        rv = KV_E_INVAL;
    } else if (strcmp(command, "members") == 0) {
        struct members members;
        json_t *list;

        members_look(&n->self, &members);
        list = member_list(n, &members);
        *text_out = json_dumps(list, JSON_COMPACT);
        json_decref(list);
        rv = *text_out != NULL ? KV_OK : KV_E_BUSY;
    } else if (!trusted) {
        rv = KV_E_PERM;
    } else if (strcmp(command, "transfer") == 0) {
        rv = transfer(n, json_string_value(json_object_get(request, "to")));
        if (rv == KV_OK)
            *text_out = strdup("{}");
    } else if (strcmp(command, "readmit") == 0) {
        rv = readmit(n, json_string_value(json_object_get(request, "node")), text_out);
    } else if (strcmp(command, "verify") == 0) {
        rv = verify(n, request, text_out);
    }
    json_decref(request);
    return rv;
}

int serve_json(struct node *n, bool trusted, uint8_t type, const union request_body *in, char **text_out)
{
    json_t *o;

    if (type == MESSAGE_ADMIN)
        return admin(n, trusted, &in->admin.json, text_out);
    o = type == MESSAGE_STATUS ? status(n) : settings(n);
    *text_out = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return *text_out != NULL ? KV_OK : KV_E_BUSY;
}
