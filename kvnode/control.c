#include "kvnode/control.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kvnode/events.h"
#include "kvnode/node_state.h"
#include "kvnode/peers.h"
#include "kvnode/scrub.h"
#include "kvnode/serve.h"
#include "kvnode/verify.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/wire/message.h"

/* A member this far behind the newest revision known is catching up. */
#define BEHIND_REVISIONS 1000
#define BEHIND_WARN_PERCENT 80

struct member_list {
    struct node *node;
    json_t *array;
    uint64_t newest; /* revision applied anywhere we know of */
    uint64_t now_ms;
    unsigned voters, reachable; /* this node included */
};

static json_t *hex64(uint64_t v)
{
    char text[17];

    snprintf(text, sizeof text, "%016" PRIx64, v);
    return json_string(text);
}

static void find_newest(void *arg, const struct peer_view *view)
{
    struct member_list *l = arg;

    if (view->up && view->applied > l->newest)
        l->newest = view->applied;
}

struct view_search {
    uint64_t id;
    struct peer_view view;
    bool found;
};

static void find_view(void *arg, const struct peer_view *view)
{
    struct view_search *s = arg;

    if (view->id == s->id) {
        s->view = *view;
        s->found = true;
    }
}

/* What the peer said last may be a heartbeat old; who leads this node knows itself. */
static const char *peer_role(const struct node *n, const struct peer_view *v)
{
    if (v->id == consensus_leader(n->consensus))
        return "leader";
    if (v->role == PEER_CANDIDATE)
        return "candidate";
    return v->role == PEER_LEADER && v->term >= consensus_term(n->consensus) ? "leader" : "follower";
}

static void emit_member(void *arg, uint64_t id, const char *address, bool voter)
{
    struct member_list *l = arg;
    struct node *n = l->node;
    struct view_search s = {.id = id};
    bool self = id == n->config->id;
    uint64_t applied, behind;
    const char *role = "-", *state = "unreachable";
    json_t *m = json_object();
    char own[300];

    snprintf(own, sizeof own, strchr(n->config->listen_host, ':') != NULL ? "[%s]:%u" : "%s:%u",
             n->config->listen_host, n->config->listen_port);
    peers_each(n->peers, &s, find_view);
    applied = self ? store_applied(n->store) : s.view.applied;
    behind = l->newest > applied ? l->newest - applied : 0;
    if (self || s.view.up) {
        state = behind > BEHIND_REVISIONS ? "behind" : "healthy";
        role = !self ? peer_role(n, &s.view) : consensus_is_leader(n->consensus) ? "leader" : "follower";
    }
    if (self && (consensus_disk_full(n->consensus) ||
                 (n->writeback != NULL && writeback_state(n->writeback) == WRITEBACK_FULL)))
        state = "disk full";
    l->voters += voter;
    l->reachable += voter && (self || s.view.up);
    json_object_set_new(m, "name", json_string(node_member_name(n, id)));
    json_object_set_new(m, "id", json_integer((json_int_t)id));
    json_object_set_new(m, "voter", json_boolean(voter));
    json_object_set_new(m, "address", json_string(s.found ? s.view.address : self ? own : address));
    json_object_set_new(m, "role", json_string(role));
    json_object_set_new(m, "state", json_string(state));
    json_object_set_new(m, "behind", json_integer((json_int_t)behind));
    if (self)
        json_object_set_new(m, "last_seen_ms", json_integer(0));
    else if (s.view.last_seen_ms != 0)
        json_object_set_new(m, "last_seen_ms", json_integer((json_int_t)(l->now_ms - s.view.last_seen_ms)));
    else
        json_object_set_new(m, "last_seen_ms", json_null());
    json_object_set_new(m, "applied", json_integer((json_int_t)applied));
    json_object_set_new(m, "digest_index",
                        json_integer((json_int_t)(self ? store_applied(n->store) : s.view.digest_index)));
    json_object_set_new(m, "digest", hex64(self ? store_digest(n->store) : s.view.digest));
    json_object_set_new(
        m, "error", !self && !s.view.up && s.view.error[0] != '\0' ? json_string(s.view.error) : json_null());
    json_array_append_new(l->array, m);
}

static void warn_of_damage(void *arg, const struct peer_view *view)
{
    json_t *list = arg;
    char text[200];

    if (!view->up || !view->damaged)
        return;
    snprintf(text, sizeof text, "%s found damage in its state.db; kvnode status -n %s says more", view->name,
             view->name);
    json_array_append_new(list, json_string(text));
}

static json_t *scrub(struct node *n, json_t *warnings)
{
    static const char *const states[] = {
        [SCRUB_NONE] = NULL,         [SCRUB_RUNNING] = "running", [SCRUB_CLEAN] = "clean",
        [SCRUB_DAMAGED] = "damaged", [SCRUB_FAILED] = "failed",
    };
    struct scrub_view v;
    json_t *o = json_object();

    scrub_look(n->scrub, &v);
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
    json_object_set_new(o, "mending", json_boolean(n->mending));
    if (v.damaged || v.last == SCRUB_FAILED)
        json_array_append_new(warnings, json_string(v.error));
    return o;
}

static json_t *warnings(struct node *n, const struct store_usage *usage)
{
    json_t *list = json_array();

    if (consensus_disk_full(n->consensus))
        json_array_append_new(list,
                              json_string("the disk with log.db is full: this node acknowledges nothing"));
    if (n->writeback == NULL) {
        json_array_append_new(list, json_string("a state file from a peer is being installed"));
    } else if (writeback_state(n->writeback) != WRITEBACK_OK) {
        char text[STATE_DB_ERROR_MAX];

        writeback_error(n->writeback, text);
        json_array_append_new(list, json_string(text));
    }
    if (usage->bytes > usage->max_bytes / 100 * BEHIND_WARN_PERCENT)
        json_array_append_new(list, json_string("live data is over 80 % of max_bytes"));
    if (usage->keys > usage->max_keys / 100 * BEHIND_WARN_PERCENT)
        json_array_append_new(list, json_string("keys are over 80 % of max_keys"));
    peers_each(n->peers, list, warn_of_damage);
    return list;
}

static void list_members(struct node *n, struct member_list *l)
{
    *l = (struct member_list){.node = n, .array = json_array(), .newest = store_applied(n->store)};
    l->now_ms = clock_boot_ms();
    peers_each(n->peers, l, find_newest);
    consensus_members(n->consensus, l, emit_member);
}

static json_t *status(struct node *n)
{
    struct member_list l;
    uint64_t leader = consensus_leader(n->consensus);
    struct store_usage usage;
    char revision[40];
    json_t *o = json_object(), *warned;
    unsigned majority;

    store_usage(n->store, &usage);
    list_members(n, &l);
    majority = l.voters / 2 + 1;
    snprintf(revision, sizeof revision, "%u-%" PRIu64, NODE_GROUP, store_applied(n->store));
    json_object_set_new(o, "node", json_string(n->config->name));
    json_object_set_new(o, "id", json_integer(n->config->id));
    json_object_set_new(o, "cluster_id", hex64(n->config->cluster_id));
    json_object_set_new(o, "role",
                        json_string(consensus_is_leader(n->consensus)      ? "leader"
                                    : consensus_is_candidate(n->consensus) ? "candidate"
                                                                           : "follower"));
    json_object_set_new(o, "leader", leader != 0 ? json_string(node_member_name(n, leader)) : json_null());
    json_object_set_new(
        o, "ready",
        json_boolean(leader != 0 && (leader != n->config->id || consensus_leader_ready(n->consensus))));
    json_object_set_new(o, "term", json_integer((json_int_t)consensus_term(n->consensus)));
    json_object_set_new(o, "revision", json_string(revision));
    json_object_set_new(o, "applied", json_integer((json_int_t)store_applied(n->store)));
    json_object_set_new(o, "commit", json_integer((json_int_t)consensus_commit(n->consensus)));
    json_object_set_new(o, "last_index", json_integer((json_int_t)consensus_last(n->consensus)));
    json_object_set_new(o, "log_first", json_integer((json_int_t)consensus_first(n->consensus)));
    json_object_set_new(
        o, "durable",
        json_integer(n->writeback != NULL ? (json_int_t)writeback_durable_index(n->writeback) : 0));
    json_object_set_new(o, "digest", hex64(store_digest(n->store)));
    json_object_set_new(o, "digest_index", json_integer((json_int_t)store_applied(n->store)));
    json_object_set_new(o, "uptime_ms", json_integer((json_int_t)(l.now_ms - n->started_ms)));
    json_object_set_new(o, "pid", json_integer(getpid()));
    json_object_set_new(o, "version", json_string(KVFS_VERSION));
    json_object_set_new(o, "data_dir", json_string(n->config->data_dir));
    json_object_set_new(o, "socket", json_string(n->config->socket));
    json_object_set_new(o, "quorum", json_boolean(l.reachable >= majority));
    json_object_set_new(o, "failures_tolerated",
                        json_integer(l.reachable >= majority ? (json_int_t)(l.reachable - majority) : 0));
    json_object_set_new(o, "keys", json_integer((json_int_t)usage.keys));
    json_object_set_new(o, "bytes", json_integer((json_int_t)usage.bytes));
    json_object_set_new(o, "max_keys", json_integer((json_int_t)usage.max_keys));
    json_object_set_new(o, "max_bytes", json_integer((json_int_t)usage.max_bytes));
    json_object_set_new(o, "value_limit", json_integer((json_int_t)usage.value_limit));
    json_object_set_new(o, "sessions", json_integer((json_int_t)usage.sessions));
    json_object_set_new(o, "memory_bytes", json_integer((json_int_t)usage.memory));
    json_object_set_new(o, "clients", json_integer((json_int_t)serve_clients(n->serve)));
    json_object_set_new(o, "subscribers", json_integer((json_int_t)events_subscribers(n->events)));
    json_object_set_new(o, "members", l.array);
    warned = warnings(n, &usage);
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

    store_settings(n->store, o, emit_setting);
    return o;
}

static int transfer(struct node *n, const char *to)
{
    uint64_t id = 0;

    if (to != NULL) {
        const struct config_peer *peer = config_peer_by_name(n->config, to);

        if (peer == NULL)
            return strcmp(to, n->config->name) == 0 ? KV_E_INVAL : KV_E_NOENT;
        id = peer->id;
    }
    return consensus_transfer(n->consensus, id);
}

static int verify(struct node *n, json_t *request, char **text_out)
{
    json_int_t run = json_integer_value(json_object_get(request, "run")),
               rate = json_integer_value(json_object_get(request, "rate"));
    json_t *answer;
    int rv;

    if (run <= 0 || rate < 0)
        return KV_E_INVAL;
    rv = verify_poll(n->verify, (uint64_t)run, (uint64_t)rate, &answer);
    if (rv != KV_OK) {
        *text_out = strdup("another verify is under way");
        return rv;
    }
    *text_out = json_dumps(answer, JSON_COMPACT);
    json_decref(answer);
    return *text_out != NULL ? KV_OK : KV_E_BUSY;
}

static int admin(struct node *n, bool trusted, const void *body, size_t len, char **text_out)
{
    struct cursor in = cursor_of(body, len);
    size_t text_len;
    const uint8_t *text = cursor_string(&in, 65536, &text_len);
    json_t *request;
    const char *command;
    int rv = KV_E_NOTSUP;

    if (!cursor_done(&in))
        return KV_E_PROTOCOL;
    request = json_loadb((const char *)text, text_len, 0, NULL);
    command = json_string_value(json_object_get(request, "command"));
    if (command == NULL) {
        rv = KV_E_INVAL;
    } else if (strcmp(command, "members") == 0) {
        struct member_list l;

        list_members(n, &l);
        *text_out = json_dumps(l.array, JSON_COMPACT);
        json_decref(l.array);
        rv = *text_out != NULL ? KV_OK : KV_E_BUSY;
    } else if (!trusted) {
        rv = KV_E_PERM;
    } else if (strcmp(command, "transfer") == 0) {
        rv = transfer(n, json_string_value(json_object_get(request, "to")));
        if (rv == KV_OK)
            *text_out = strdup("{}");
    } else if (strcmp(command, "verify") == 0) {
        rv = verify(n, request, text_out);
    }
    json_decref(request);
    return rv;
}

int control_text(struct node *n, bool trusted, uint8_t type, const void *body, size_t len, char **text_out)
{
    json_t *o;

    if (type == MESSAGE_ADMIN)
        return admin(n, trusted, body, len, text_out);
    o = type == MESSAGE_STATUS ? status(n) : settings(n);
    *text_out = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return *text_out != NULL ? KV_OK : KV_E_BUSY;
}
