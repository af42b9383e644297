/* The memory rules of libraft 0.22.1, which its headers do not tell:
 *
 *  - Entries are given in an array of ours, their payloads in refcounted
 *    entries of ours. What the library wants to own is a "batch": a one-byte
 *    token stands for it. RECEIVE: it frees the token, unless the update asks
 *    to persist entries, then we do. SUBMIT: ours when refused.
 *  - The no-op of a new leader lives inside struct raft; its batch is ours.
 *  - INSTALL: data (a token) and configuration are freed by the library, unless
 *    the update asks for the install; then the token is ours and the
 *    configuration goes back in with PERSISTED_SNAPSHOT.
 *  - Metadata and configurations of START, SNAPSHOT, PERSISTED_SNAPSHOT and
 *    CONFIGURATION pass to the library.
 *  - START with an error has freed the entries' array and token. */
#include "sync/raft/engine/core.h"

#include <errno.h>
#include <raft.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"

/* The library compares addresses only; ours are the node layer's business. */
static const char no_address[] = "-";

struct core {
    struct raft r;
    struct raft_entry *entries; /* owned scratch: the array of an event */
    size_t cap_entries;
    struct engine_message *messages; /* owned scratch: the headers of an update */
    size_t cap_messages;
    struct raft_snapshot_metadata installing; /* its configuration is ours while r.snapshot.installing */
};

static int translate_error(int rv)
{
    switch (rv) {
    case 0:
        return 0;
    case RAFT_NOTLEADER:
        return KV_E_NOTLEADER;
    case RAFT_CANTCHANGE:
        return KV_E_BUSY;
    case RAFT_NOSPACE:
        return KV_E_NOSPC;
    case RAFT_BADID:
    case RAFT_BADROLE:
    case RAFT_NOTFOUND:
        return KV_E_NOENT;
    case RAFT_NOMEM:
        return -ENOMEM;
    case RAFT_SHUTDOWN:
        return -ENOTRECOVERABLE;
    case RAFT_MALFORMED:
        return -EBADMSG;
    default:
        return -EIO;
    }
}

int core_new(const struct engine_config *config, struct core **out)
{
    struct core *c = calloc(1, sizeof *c); /* raft_init() without io leaves fields unset */
    int rv;

    if (c == NULL)
        return -ENOMEM;
    rv = raft_init(&c->r, NULL, NULL, config->id, no_address);
    if (rv != 0) {
        free(c);
        return -ENOMEM;
    }
    c->r.tracer = NULL; /* the default formats a line at every step, even when off */
    raft_seed(&c->r,
              config->seed != 0 ? config->seed : 1); /* before the election timeout, which draws from it */
    raft_set_election_timeout(&c->r, config->election_ms);
    raft_set_heartbeat_timeout(&c->r, config->heartbeat_ms);
    raft_set_install_snapshot_timeout(&c->r, config->install_ms);
    raft_set_max_inflight_entries(&c->r, config->max_inflight);
    raft_set_pre_vote(&c->r, config->pre_vote);
    *out = c;
    return 0;
}

void core_free(struct core *c)
{
    if (c == NULL)
        return;
    if (c->r.snapshot.installing)
        raft_configuration_close(&c->installing.configuration);
    raft_close(&c->r, NULL); /* synchronous without io */
    free(c->entries);
    free(c->messages);
    free(c);
}

/* ---- from the library's types to ours ---- */

static void translate_message(const struct raft_message *from, uint64_t id, struct engine_message *to)
{
    memset(to, 0, sizeof *to);
    to->from = id;
    to->to = from->server_id;
    switch (from->type) {
    case RAFT_APPEND_ENTRIES:
        to->type = RAFT_MESSAGE_APPEND;
        to->term = from->append_entries.term;
        to->append.prev_index = from->append_entries.prev_log_index;
        to->append.prev_term = from->append_entries.prev_log_term;
        to->append.leader_commit = from->append_entries.leader_commit;
        to->n_entries = from->append_entries.n_entries;
        break;
    case RAFT_APPEND_ENTRIES_RESULT:
        to->type = RAFT_MESSAGE_APPEND_RESULT;
        to->term = from->append_entries_result.term;
        to->append_result.rejected = from->append_entries_result.rejected;
        to->append_result.last_index = from->append_entries_result.last_log_index;
        break;
    case RAFT_REQUEST_VOTE:
        to->type = RAFT_MESSAGE_VOTE;
        to->term = from->request_vote.term;
        to->vote.last_index = from->request_vote.last_log_index;
        to->vote.last_term = from->request_vote.last_log_term;
        to->vote.disrupt_leader = from->request_vote.disrupt_leader;
        to->vote.pre_vote = from->request_vote.pre_vote;
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        to->type = RAFT_MESSAGE_VOTE_RESULT;
        to->term = from->request_vote_result.term;
        to->vote_result.granted = from->request_vote_result.vote_granted;
        to->vote_result.pre_vote = from->request_vote_result.pre_vote;
        break;
    case RAFT_INSTALL_SNAPSHOT:
        to->type = RAFT_MESSAGE_INSTALL;
        to->term = from->install_snapshot.term;
        break;
    case RAFT_TIMEOUT_NOW:
        to->type = RAFT_MESSAGE_TIMEOUT_NOW;
        to->term = from->timeout_now.term;
        to->timeout_now.last_index = from->timeout_now.last_log_index;
        to->timeout_now.last_term = from->timeout_now.last_log_term;
        break;
    }
}

static int translate_messages(struct core *c, const struct raft_update *from, struct core_update *u)
{
    if (!(from->flags & RAFT_UPDATE_MESSAGES))
        return 0;
    if (from->messages.n > c->cap_messages) {
        struct engine_message *grown = realloc(c->messages, from->messages.n * sizeof *grown);

        if (grown == NULL)
            return -ENOMEM;
        c->messages = grown;
        c->cap_messages = from->messages.n;
    }
    for (unsigned i = 0; i < from->messages.n; i++)
        translate_message(&from->messages.batch[i], c->r.id, &c->messages[i]);
    u->messages = c->messages;
    u->n_messages = from->messages.n;
    return 0;
}

static int translate_entries(struct core *c, const struct raft_update *from, size_t n_given,
                             struct core_update *u)
{
    struct raft_entry *batch = from->entries.batch;

    if (!(from->flags & RAFT_UPDATE_ENTRIES))
        return 0;
    u->entries_index = from->entries.index;
    u->n_entries = from->entries.n;
    if (n_given > 0 && batch >= c->entries && batch < c->entries + n_given) {
        u->given_first = (size_t)(batch - c->entries);
    } else {
        u->noop = entry_new((enum entry_type)batch->type, batch->buf.base, batch->buf.len);
        if (u->noop != NULL)
            u->noop->term = batch->term;
    }
    raft_free(batch[0].batch);
    return n_given > 0 || u->noop != NULL ? 0 : -ENOMEM;
}

static int step(struct core *c, uint64_t now, struct raft_event *event, size_t n_given, struct core_update *u)
{
    struct raft_update update;
    int rv;

    memset(u, 0, sizeof *u);
    event->time = now;
    event->capacity = 0;
    rv = raft_step(&c->r, event, &update);
    if (rv != 0)
        return translate_error(rv);
    if (update.flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR))
        u->term_or_vote = true;
    if (update.flags & RAFT_UPDATE_SNAPSHOT) {
        raft_free(update.snapshot.chunk.base);
        c->installing = update.snapshot.metadata; /* its configuration is ours now */
        u->install = true;
    }
    if (update.flags & RAFT_UPDATE_STATE)
        u->role = true;
    if (update.flags & RAFT_UPDATE_COMMIT_INDEX)
        u->commit = true;
    rv = translate_entries(c, &update, n_given, u);
    return rv != 0 ? rv : translate_messages(c, &update, u);
}

/* ---- from our types to the library's ---- */

/* Fills the scratch array; the token is NULL when n is 0. */
static int give_entries(struct core *c, struct entry *const *entries, size_t n, void **token_out)
{
    *token_out = NULL;
    if (n == 0)
        return 0;
    if (n > c->cap_entries) {
        struct raft_entry *grown = realloc(c->entries, n * sizeof *grown);

        if (grown == NULL)
            return -ENOMEM;
        c->entries = grown;
        c->cap_entries = n;
    }
    *token_out = raft_malloc(1);
    if (*token_out == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        c->entries[i] = (struct raft_entry){
            .term = entries[i]->term,
            .type = (enum raft_entry_type)entries[i]->type,
            .buf = {entries[i]->data, entries[i]->len},
            .batch = *token_out,
        };
    return 0;
}

static int give_configuration(const struct entry *change, struct raft_configuration *out)
{
    struct raft_buffer blob = {(void *)change->data, change->len};

    raft_configuration_init(out);
    return translate_error(raft_configuration_decode(&blob, out));
}

static int give_metadata(const struct snapshot_meta *meta, struct raft_snapshot_metadata *out)
{
    out->index = meta->index;
    out->term = meta->term;
    out->configuration_index = meta->conf_index;
    return give_configuration(meta->conf, &out->configuration);
}

int core_start(struct core *c, uint64_t now, const struct engine_stored *stored, struct core_update *u)
{
    struct raft_event event = {.type = RAFT_START};
    struct raft_snapshot_metadata metadata;
    struct raft_entry *entries = NULL;
    void *token = NULL;
    int rv;

    if (stored->snapshot != NULL) {
        rv = give_metadata(stored->snapshot, &metadata);
        if (rv != 0)
            return rv;
        event.start.metadata = &metadata;
    }
    if (stored->n_entries > 0) {
        entries = raft_malloc(stored->n_entries * sizeof *entries);
        token = raft_malloc(1);
        if (entries == NULL || token == NULL) {
            raft_free(entries);
            raft_free(token);
            return -ENOMEM;
        }
        for (size_t i = 0; i < stored->n_entries; i++)
            entries[i] = (struct raft_entry){
                .term = stored->entries[i]->term,
                .type = (enum raft_entry_type)stored->entries[i]->type,
                .buf = {stored->entries[i]->data, stored->entries[i]->len},
                .batch = token,
            };
    }
    event.start.term = stored->term;
    event.start.voted_for = stored->vote;
    event.start.start_index = stored->start_index;
    event.start.entries = entries;
    event.start.n_entries = (unsigned)stored->n_entries;
    rv = step(c, now, &event, 0, u);
    if (rv != 0)
        return rv < 0 ? rv : -EIO; /* the library has freed both */
    raft_free(token);
    raft_free(entries);
    return 0;
}

static int receive_append(struct core *c, uint64_t now, const struct engine_message *m, size_t first,
                          size_t n, struct raft_message *message, struct core_update *u)
{
    struct raft_event event = {.type = RAFT_RECEIVE};
    struct raft_append_entries *append = &message->append_entries;
    void *token;
    int rv;

    rv = give_entries(c, m->entries + first, n, &token);
    if (rv != 0)
        return rv;
    message->type = RAFT_APPEND_ENTRIES;
    append->term = m->term;
    append->prev_log_index = m->append.prev_index;
    append->prev_log_term = m->append.prev_term;
    append->leader_commit = m->append.leader_commit;
    append->entries = n > 0 ? c->entries : NULL;
    append->n_entries = (unsigned)n;
    event.receive.message = message;
    return step(c, now, &event, n, u); /* the token is the core's, whatever happens */
}

static int receive_install(struct core *c, uint64_t now, const struct engine_message *m,
                           struct raft_message *message, struct core_update *u)
{
    struct raft_event event = {.type = RAFT_RECEIVE};
    struct raft_install_snapshot *install = &message->install_snapshot;
    int rv;

    rv = give_configuration(m->meta.conf, &install->conf);
    if (rv != 0)
        return rv;
    install->data.base = raft_malloc(1);
    if (install->data.base == NULL) {
        raft_configuration_close(&install->conf);
        return -ENOMEM;
    }
    install->data.len = 1;
    message->type = RAFT_INSTALL_SNAPSHOT;
    install->term = m->term;
    install->last_index = m->meta.index;
    install->last_term = m->meta.term;
    install->conf_index = m->meta.conf_index;
    event.receive.message = message;
    return step(c, now, &event, 0, u);
}

static int receive_vote(struct core *c, uint64_t now, const struct engine_message *m, bool as_voter,
                        struct raft_message *message, struct core_update *u)
{
    struct raft_event event = {.type = RAFT_RECEIVE};
    struct raft_request_vote *vote = &message->request_vote;
    int lent = -1, role = 0;
    int rv;

    message->type = RAFT_REQUEST_VOTE;
    vote->version = 2;
    vote->term = m->term;
    vote->candidate_id = m->from;
    vote->last_log_index = m->vote.last_index;
    vote->last_log_term = m->vote.last_term;
    vote->disrupt_leader = m->vote.disrupt_leader;
    vote->pre_vote = m->vote.pre_vote;
    event.receive.message = message;
    for (unsigned i = 0; as_voter && i < c->r.configuration.n; i++)
        if (c->r.configuration.servers[i].id == c->r.id) {
            lent = (int)i;
            role = c->r.configuration.servers[i].role;
            c->r.configuration.servers[i].role = RAFT_VOTER;
        }
    rv = step(c, now, &event, 0, u);
    if (lent >= 0)
        c->r.configuration.servers[lent].role = role;
    return rv;
}

int core_receive(struct core *c, uint64_t now, const struct engine_message *m, size_t first, size_t n,
                 bool as_voter, struct core_update *u)
{
    struct raft_event event = {.type = RAFT_RECEIVE};
    struct raft_message message;

    memset(&message, 0, sizeof message);
    memset(u, 0, sizeof *u);
    message.server_id = m->from;
    message.server_address = no_address;
    event.receive.message = &message;
    switch (m->type) {
    case RAFT_MESSAGE_APPEND:
        return receive_append(c, now, m, first, n, &message, u);
    case RAFT_MESSAGE_INSTALL:
        return receive_install(c, now, m, &message, u);
    case RAFT_MESSAGE_VOTE:
        return receive_vote(c, now, m, as_voter, &message, u);
    case RAFT_MESSAGE_APPEND_RESULT:
        message.type = RAFT_APPEND_ENTRIES_RESULT;
        message.append_entries_result.version = 2;
        message.append_entries_result.term = m->term;
        message.append_entries_result.rejected = m->append_result.rejected;
        message.append_entries_result.last_log_index = m->append_result.last_index;
        break;
    case RAFT_MESSAGE_VOTE_RESULT:
        message.type = RAFT_REQUEST_VOTE_RESULT;
        message.request_vote_result.version = 2;
        message.request_vote_result.term = m->term;
        message.request_vote_result.vote_granted = m->vote_result.granted;
        message.request_vote_result.pre_vote = m->vote_result.pre_vote;
        break;
    case RAFT_MESSAGE_TIMEOUT_NOW:
        message.type = RAFT_TIMEOUT_NOW;
        message.timeout_now.term = m->term;
        message.timeout_now.last_log_index = m->timeout_now.last_index;
        message.timeout_now.last_log_term = m->timeout_now.last_term;
        break;
    default:
        return 0; /* the engine's own */
    }
    return step(c, now, &event, 0, u);
}

int core_entries_saved(struct core *c, uint64_t now, uint64_t index, struct core_update *u)
{
    struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};

    event.persisted_entries.index = index;
    return step(c, now, &event, 0, u);
}

int core_snapshot_installed(struct core *c, uint64_t now, struct core_update *u)
{
    struct raft_event event = {.type = RAFT_PERSISTED_SNAPSHOT};

    event.persisted_snapshot.metadata = c->installing;
    event.persisted_snapshot.last = true; /* never split */
    return step(c, now, &event, 0, u);
}

int core_snapshot_taken(struct core *c, uint64_t now, const struct snapshot_meta *meta, unsigned trailing,
                        struct core_update *u)
{
    struct raft_event event = {.type = RAFT_SNAPSHOT};
    int rv = give_metadata(meta, &event.snapshot.metadata);

    if (rv != 0)
        return rv;
    event.snapshot.trailing = trailing;
    return step(c, now, &event, 0, u);
}

int core_change_committed(struct core *c, uint64_t now, uint64_t index, const struct entry *change,
                          struct core_update *u)
{
    struct raft_event event = {.type = RAFT_CONFIGURATION};
    int rv = give_configuration(change, &event.configuration.conf);

    if (rv != 0)
        return rv;
    event.configuration.index = index;
    return step(c, now, &event, 0, u);
}

int core_timeout(struct core *c, uint64_t now, struct core_update *u)
{
    struct raft_event event = {.type = RAFT_TIMEOUT};

    return step(c, now, &event, 0, u);
}

int core_submit(struct core *c, uint64_t now, struct entry *const *entries, size_t n, struct core_update *u)
{
    struct raft_event event = {.type = RAFT_SUBMIT};
    void *token;
    int rv;

    rv = give_entries(c, entries, n, &token);
    if (rv != 0)
        return rv;
    event.submit.entries = c->entries;
    event.submit.n = (unsigned)n;
    rv = step(c, now, &event, n, u);
    if (rv > 0)
        raft_free(token); /* refused: still ours */
    return rv;
}

int core_transfer(struct core *c, uint64_t now, uint64_t id, struct core_update *u)
{
    struct raft_event event = {.type = RAFT_TRANSFER};

    event.transfer.server_id = id;
    return step(c, now, &event, 0, u);
}

/* ---- accessors ---- */

uint64_t core_timeout_ms(const struct core *c)
{
    return raft_timeout(&c->r);
}

enum engine_role core_role(const struct core *c)
{
    switch (c->r.state) {
    case RAFT_CANDIDATE:
        return ENGINE_CANDIDATE;
    case RAFT_LEADER:
        return ENGINE_LEADER;
    default:
        return ENGINE_FOLLOWER;
    }
}

uint64_t core_term(const struct core *c)
{
    return raft_current_term(&c->r);
}

uint64_t core_vote(const struct core *c)
{
    return raft_voted_for(&c->r);
}

uint64_t core_leader(const struct core *c)
{
    if (c->r.state == RAFT_LEADER)
        return c->r.id;
    return c->r.state == RAFT_FOLLOWER ? c->r.follower_state.current_leader.id : 0;
}

uint64_t core_commit_index(const struct core *c)
{
    return raft_commit_index(&c->r);
}

uint64_t core_stored_index(const struct core *c)
{
    return c->r.last_stored;
}

uint64_t core_last_index(const struct core *c)
{
    return raft_last_index((struct raft *)&c->r);
}

bool core_installing(const struct core *c)
{
    return c->r.snapshot.installing;
}

uint64_t core_transferee(const struct core *c)
{
    return raft_transferee(&c->r);
}

void core_set_window(struct core *c, unsigned n)
{
    raft_set_max_inflight_entries(&c->r, n);
}

bool core_match_index(const struct core *c, uint64_t id, uint64_t *index_out)
{
    raft_index match;

    *index_out = 0;
    if (raft_match_index(&c->r, id, &match) != 0)
        return false;
    *index_out = match;
    return true;
}

uint64_t core_uncommitted_change(const struct core *c)
{
    return c->r.configuration_uncommitted_index;
}

unsigned core_n_servers(const struct core *c)
{
    return c->r.configuration.n;
}

uint64_t core_server_id(const struct core *c, unsigned i)
{
    return c->r.configuration.servers[i].id;
}

bool core_server_votes(const struct core *c, unsigned i)
{
    return c->r.configuration.servers[i].role == RAFT_VOTER;
}

void core_configuration(const struct core *c, struct configuration *out)
{
    out->n = 0;
    for (unsigned i = 0; i < c->r.configuration.n; i++) {
        const struct raft_server *s = &c->r.configuration.servers[i];

        configuration_add(out, s->id, s->address, (enum server_role)s->role);
    }
}
