#include "kvnode/client/serve_json.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kvnode/client/serve.h"
#include "kvnode/config/config.h"
#include "kvnode/group/clock_watch.h"
#include "kvnode/group/events.h"
#include "kvnode/group/group.h"
#include "kvnode/group/leadership.h"
#include "kvnode/group/leases.h"
#include "kvnode/group/scrub.h"
#include "kvnode/group/verify.h"
#include "kvnode/peer/door.h"
#include "kvnode/peer/members.h"
#include "kvnode/peer/rivals.h"
#include "kvnode/peer/self.h"
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

static json_t *links(const struct serve_owner *owner, const struct health *h)
{
    json_t *list = json_array();
    size_t i;

    for (i = 0; i < h->n_links; i++)
        json_array_append_new(list, json_string(config_member_name(owner->self->config, h->links[i])));
    return list;
}

/* Last known, if it is not heard now. */
static void emit_health(const struct serve_owner *owner, json_t *o, const struct member *m)
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
                        h->leader != 0 ? json_string(config_member_name(owner->self->config, h->leader))
                                       : json_null());
    json_object_set_new(o, "hears", links(owner, h));
    json_object_set_new(o, "http", h->http[0] != '\0' ? json_string(h->http) : json_null());
}

static json_t *member(const struct serve_owner *owner, const struct member *m)
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
                        m->self || skew_offset(&owner->self->clock->skew, m->id, clock_boot_ms(), &offset)
                            ? json_integer(offset / 1000000)
                            : json_null());
    if (m->known)
        emit_health(owner, o, m);
    return o;
}

static json_t *member_list(const struct serve_owner *owner, const struct members *all)
{
    json_t *list = json_array();
    size_t i;

    for (i = 0; i < all->n; i++)
        json_array_append_new(list, member(owner, &all->all[i]));
    return list;
}

/* Times of day as jansson's integers: milliseconds. */
static json_t *clocks(const struct serve_owner *owner)
{
    const struct skew_view *v = &owner->self->clock->view;
    json_t *o = json_object();
    int64_t now = (int64_t)clock_wall_ns();

    json_object_set_new(o, "agreed", json_boolean(v->agreed));
    json_object_set_new(o, "off", json_boolean(v->off));
    json_object_set_new(o, "own_unix_ms", json_integer(now / 1000000));
    json_object_set_new(o, "majority_unix_ms",
                        v->agreed ? json_integer((now + v->majority_ns) / 1000000) : json_null());
    json_object_set_new(o, "stored_unix_ms",
                        json_integer((json_int_t)(store_wall_ns(owner->group->store) / 1000000)));
    json_object_set_new(o, "ahead_ms",
                        json_integer((json_int_t)(clock_watch_ahead_ns(owner->self->clock,
                                                                       store_wall_ns(owner->group->store)) /
                                                  1000000)));
    return o;
}

static json_t *scrub(const struct serve_owner *owner, json_t *warnings)
{
    static const char *const states[] = {
        [SCRUB_NONE] = NULL,         [SCRUB_RUNNING] = "running", [SCRUB_CLEAN] = "clean",
        [SCRUB_DAMAGED] = "damaged", [SCRUB_FAILED] = "failed",
    };
    struct scrub_view v;
    json_t *o = json_object();

    scrub_look(owner->group->scrub, &v);
    json_object_set_new(o, "interval_s", json_integer(owner->self->config->scrub_interval_s));
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
    json_object_set_new(o, "mending", json_boolean(owner->group->condition == CONDITION_MENDING));
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
static json_t *way_back(const struct serve_owner *owner)
{
    char text[256];

    if (rivals_prevail(owner->self->rivals, owner->self->config->n_peers + 1)) {
        warnings_rival(owner->self, 0, text, sizeof text);
        return json_string(text);
    }
    return door_way_back(owner->door)[0] != '\0' ? json_string(door_way_back(owner->door)) : json_null();
}

static json_t *status(const struct serve_owner *owner, const struct serve *serve)
{
    struct members members;
    uint64_t leader = consensus_leader(owner->group->consensus);
    struct store_usage usage;
    struct rlimit files;
    char revision[40];
    json_t *o = json_object(), *warned;

    store_usage(owner->group->store, &usage);
    members_look(owner->self, &members);
    snprintf(revision, sizeof revision, "%u-%" PRIu64, owner->group->number,
             store_applied(owner->group->store));
    json_object_set_new(o, "node", json_string(owner->self->config->name));
    json_object_set_new(o, "id", json_integer(owner->self->config->id));
    json_object_set_new(o, "cluster_id", hex64(owner->self->config->cluster_id));
    json_object_set_new(o, "role",
                        json_string(consensus_is_leader(owner->group->consensus)      ? "leader"
                                    : consensus_is_candidate(owner->group->consensus) ? "candidate"
                                                                                      : "follower"));
    json_object_set_new(o, "leader",
                        leader != 0 ? json_string(config_member_name(owner->self->config, leader))
                                    : json_null());
    json_object_set_new(o, "ready",
                        json_boolean(leader != 0 && (leader != owner->self->config->id ||
                                                     consensus_leader_ready(owner->group->consensus))));
    json_object_set_new(o, "term", json_integer((json_int_t)consensus_term(owner->group->consensus)));
    json_object_set_new(o, "revision", json_string(revision));
    json_object_set_new(o, "applied", json_integer((json_int_t)store_applied(owner->group->store)));
    json_object_set_new(o, "commit", json_integer((json_int_t)consensus_commit(owner->group->consensus)));
    json_object_set_new(o, "last_index", json_integer((json_int_t)consensus_last(owner->group->consensus)));
    json_object_set_new(o, "log_first", json_integer((json_int_t)consensus_first(owner->group->consensus)));
    json_object_set_new(o, "durable",
                        json_integer(owner->group->writeback != NULL
                                         ? (json_int_t)writeback_durable_index(owner->group->writeback)
                                         : 0));
    json_object_set_new(o, "digest", hex64(store_digest(owner->group->store)));
    json_object_set_new(o, "digest_index", json_integer((json_int_t)store_applied(owner->group->store)));
    json_object_set_new(o, "uptime_ms", json_u64(clock_boot_ms() - owner->self->started_ms));
    json_object_set_new(o, "pid", json_integer(getpid()));
    json_object_set_new(o, "version", json_string(KVFS_VERSION));
    json_object_set_new(o, "data_dir", json_string(owner->self->config->data_dir));
    json_object_set_new(o, "socket", json_string(owner->self->config->socket));
    json_object_set_new(o, "quorum", json_boolean(members.writable));
    json_object_set_new(o, "voters", json_integer(members.voters));
    json_object_set_new(o, "usable", json_integer(members.usable));
    json_object_set_new(o, "failures_tolerated", json_integer(members.tolerated));
    json_object_set_new(o, "leaderless_ms", leader == 0 ? json_u64(members.leaderless_ms) : json_null());
    json_object_set_new(o, "minority", json_boolean(group_in_minority(owner->group)));
    json_object_set_new(o, "no_service",
                        self_no_service(owner->self) != NULL ? json_string(self_no_service(owner->self))
                                                             : json_null());
    json_object_set_new(o, "way_back", way_back(owner));
    json_object_set_new(o, "leader_elsewhere",
                        members.elsewhere != 0
                            ? json_string(config_member_name(owner->self->config, members.elsewhere))
                            : json_null());
    json_object_set_new(o, "keys", json_integer((json_int_t)usage.keys));
    json_object_set_new(o, "bytes", json_integer((json_int_t)usage.bytes));
    json_object_set_new(o, "max_keys", json_integer((json_int_t)usage.max_keys));
    json_object_set_new(o, "max_bytes", json_integer((json_int_t)usage.max_bytes));
    json_object_set_new(o, "value_limit", json_integer((json_int_t)usage.value_limit));
    json_object_set_new(o, "feature_level", json_u64(store_level(owner->group->store)));
    json_object_set_new(o, "lease", json_boolean(leases_held(owner->group->leases)));
    json_object_set_new(o, "sessions", json_integer((json_int_t)usage.sessions));
    json_object_set_new(o, "memory_bytes", json_integer((json_int_t)usage.memory));
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        json_object_set_new(o, "open_files_limit", json_u64(files.rlim_cur));
    json_object_set_new(o, "clients", json_integer((json_int_t)serve_clients(serve)));
    json_object_set_new(o, "subscribers", json_integer((json_int_t)events_subscribers(owner->group->events)));
    json_object_set_new(o, "clock", clocks(owner));
    json_object_set_new(o, "turn_us", turns(owner->turn));
    json_object_set_new(o, "members", member_list(owner, &members));
    warned = warnings(owner->self, &members, &usage);
    json_object_set_new(o, "scrub", scrub(owner, warned));
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

static json_t *settings(const struct serve_owner *owner)
{
    json_t *o = json_object();

    store_settings(owner->group->store, o, emit_setting);
    return o;
}

static int transfer(const struct serve_owner *owner, const char *to)
{
    uint64_t id = 0;

    if (to != NULL) {
        const struct config_peer *peer = config_peer_by_name(owner->self->config, to);

        if (peer == NULL && strcmp(to, owner->self->config->name) != 0)
            return KV_E_NOENT;
        id = peer != NULL ? peer->id : owner->self->config->id;
    }
    return leadership_hand_over(owner->group, id);
}

static int readmit(const struct serve_owner *owner, const char *name, char **text_out)
{
    const struct config_peer *peer = name != NULL ? config_peer_by_name(owner->self->config, name) : NULL;
    int rv;

    if (peer == NULL)
        return name != NULL && strcmp(name, owner->self->config->name) == 0 ? KV_E_EXIST : KV_E_NOENT;
    rv = door_readmit(owner->door, peer->id);
    if (rv == KV_OK)
        *text_out = strdup("{}");
    return rv;
}

static int verify(const struct serve_owner *owner, json_t *request, char **text_out)
{
    json_int_t run = json_integer_value(json_object_get(request, "run")),
               rate = json_integer_value(json_object_get(request, "rate"));
    json_t *answer;
    int rv;

    if (run <= 0 || rate < 0)
        return KV_E_INVAL;
    rv = verify_poll(owner->group->verify, (uint64_t)run, (uint64_t)rate, &answer);
    if (rv != KV_OK) {
        *text_out = strdup("another verify is under way");
        return rv;
    }
    *text_out = json_dumps(answer, JSON_COMPACT);
    json_decref(answer);
    return *text_out != NULL ? KV_OK : KV_E_BUSY;
}

static int admin(const struct serve_owner *owner, bool trusted, const struct bytes *text, char **text_out)
{
    json_t *request = json_loadb((const char *)text->data, text->len, 0, NULL);
    const char *command = json_string_value(json_object_get(request, "command"));
    int rv = KV_E_NOTSUP;

    if (command == NULL) {
        rv = KV_E_INVAL;
    } else if (strcmp(command, "members") == 0) {
        struct members members;
        json_t *list;

        members_look(owner->self, &members);
        list = member_list(owner, &members);
        *text_out = json_dumps(list, JSON_COMPACT);
        json_decref(list);
        rv = *text_out != NULL ? KV_OK : KV_E_BUSY;
    } else if (!trusted) {
        rv = KV_E_PERM;
    } else if (strcmp(command, "transfer") == 0) {
        rv = transfer(owner, json_string_value(json_object_get(request, "to")));
        if (rv == KV_OK)
            *text_out = strdup("{}");
    } else if (strcmp(command, "readmit") == 0) {
        rv = readmit(owner, json_string_value(json_object_get(request, "node")), text_out);
    } else if (strcmp(command, "verify") == 0) {
        rv = verify(owner, request, text_out);
    }
    json_decref(request);
    return rv;
}

int serve_json(const struct serve_owner *owner, const struct serve *serve, bool trusted, uint8_t type,
               const union request_body *in, char **text_out)
{
    json_t *o;

    if (type == MESSAGE_ADMIN)
        return admin(owner, trusted, &in->admin.json, text_out);
    o = type == MESSAGE_STATUS ? status(owner, serve) : settings(owner);
    *text_out = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return *text_out != NULL ? KV_OK : KV_E_BUSY;
}
