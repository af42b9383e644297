/* Sessions: exactly once. Results are kept from the client's first
 * unacknowledged number on; a command that is repeated is answered from them.
 * Sessions hang in a queue in the order in which they were last heard of, so
 * that expiry looks at its head only. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/state/journal_note.h"
#include "kvnode/state/store_internal.h"

struct session *session_find(const struct store *s, uint64_t id)
{
    struct session *ss;

    HASH_FIND(hh, s->sessions, &id, sizeof id, ss);
    return ss;
}

int store_session_owner(const struct store *s, uint64_t session, uint32_t *uid_out)
{
    const struct session *ss = session_find(s, session);

    if (ss == NULL)
        return KV_E_SESSION;
    *uid_out = ss->owner->uid;
    return KV_OK;
}

int store_session_nonce(const struct store *s, uint64_t session, uint8_t nonce_out[16])
{
    const struct session *ss = session_find(s, session);

    if (ss == NULL)
        return KV_E_SESSION;
    memcpy(nonce_out, ss->nonce, sizeof ss->nonce);
    return KV_OK;
}

void session_row(const struct session *ss, struct session_row *row_out)
{
    *row_out = (struct session_row){
        .id = ss->id,
        .client = ss->client,
        .client_len = ss->client_len,
        .owner = ss->owner->uid,
        .seen_ms = ss->seen_ms,
        .acked_below = ss->acked_below,
        .lease_ms = ss->lease_ms,
    };
    memcpy(row_out->nonce, ss->nonce, sizeof row_out->nonce);
}

static void session_begin(struct store *s, const struct session *ss)
{
    struct session_row row;

    session_row(ss, &row);
    s->digest -= session_row_digest(&row);
}

static void session_end(struct store *s, struct session *ss)
{
    struct session_row row;

    session_row(ss, &row);
    s->digest += session_row_digest(&row);
    journal_session(s->journal, ss);
}

static struct owner *owner_find(const struct store *s, uint32_t uid)
{
    struct owner *o;

    HASH_FIND(hh, s->owners, &uid, sizeof uid, o);
    return o;
}

static struct owner *owner_get(struct store *s, uint32_t uid)
{
    struct owner *o = owner_find(s, uid);

    if (o != NULL)
        return o;
    o = calloc(1, sizeof *o);
    if (o == NULL)
        return NULL;
    o->uid = uid;
    HASH_ADD(hh, s->owners, uid, sizeof o->uid, o);
    if (o->hh.tbl == NULL) {
        free(o);
        return NULL;
    }
    return o;
}

static void owner_put(struct store *s, struct owner *o)
{
    if (o->sessions > 0)
        return;
    HASH_DELETE(hh, s->owners, o);
    free(o);
}

/* Those of one moment by id, as a state is loaded: which end first is the same on every
 * node, whenever it was started. */
static void put_in_order(struct store *s, struct session *ss)
{
    struct session *before = TAILQ_LAST(&s->session_order, session_queue);

    while (before != NULL && before->seen_ms == ss->seen_ms && before->id > ss->id)
        before = TAILQ_PREV(before, session_queue, order);
    if (before != NULL)
        TAILQ_INSERT_AFTER(&s->session_order, before, ss, order);
    else
        TAILQ_INSERT_HEAD(&s->session_order, ss, order);
}

struct session *session_new(struct store *s, const struct session_row *row)
{
    struct session *ss = calloc(1, offsetof(struct session, client) + row->client_len);

    struct owner *o = owner_get(s, row->owner);

    if (ss == NULL || o == NULL)
        goto fail;
    ss->owner = o;
    ss->id = row->id;
    memcpy(ss->nonce, row->nonce, sizeof ss->nonce);
    ss->seen_ms = row->seen_ms;
    ss->acked_below = ss->trimmed_below = row->acked_below;
    ss->lease_ms = row->lease_ms;
    ss->client_len = row->client_len;
    if (row->client_len > 0)
        memcpy(ss->client, row->client, row->client_len);
    LIST_INIT(&ss->uploads);
    HASH_ADD(hh, s->sessions, id, sizeof ss->id, ss);
    if (ss->hh.tbl == NULL)
        goto fail;
    HASH_ADD(hh_nonce, s->nonces, nonce, sizeof ss->nonce, ss);
    if (ss->hh_nonce.tbl == NULL) {
        HASH_DELETE(hh, s->sessions, ss);
        goto fail;
    }
    put_in_order(s, ss);
    o->sessions++;
    s->users.sessions += owner_is_user(o);
    return ss;

fail:
    if (o != NULL)
        owner_put(s, o);
    free(ss);
    return NULL;
}

static void session_destroy(struct store *s, struct session *ss)
{
    session_forget_locks(s, ss);
    while (!LIST_EMPTY(&ss->uploads))
        upload_free(s, ss, LIST_FIRST(&ss->uploads));
    HASH_DELETE(hh, s->sessions, ss);
    HASH_DELETE(hh_nonce, s->nonces, ss);
    TAILQ_REMOVE(&s->session_order, ss, order);
    ss->owner->results -= ss->n;
    ss->owner->sessions--;
    s->users.sessions -= owner_is_user(ss->owner);
    owner_put(s, ss->owner);
    free(ss->results);
    free(ss);
}

/* Forgets the results of the first n kept numbers. */
static void trim_results(struct store *s, struct session *ss, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct kept_result *k = &ss->results[ss->first + i];

        s->digest -= result_row_digest(ss->id, k->seq, &k->result);
    }
    ss->first += n;
    ss->n -= n;
    ss->owner->results -= n;
    if (ss->n == 0) {
        ss->first = 0;
    } else if (ss->first > ss->cap / 2) {
        memmove(ss->results, ss->results + ss->first, ss->n * sizeof *ss->results);
        ss->first = 0;
    }
}

void session_drop(struct store *s, struct session *ss)
{
    session_unlock(s, ss);
    session_begin(s, ss);
    trim_results(s, ss, ss->n);
    while (!LIST_EMPTY(&ss->uploads))
        session_drop_upload(s, ss, LIST_FIRST(&ss->uploads));
    journal_session_gone(s->journal, ss);
    session_destroy(s, ss);
}

void session_drop_all(struct store *s)
{
    while (!TAILQ_EMPTY(&s->session_order))
        session_destroy(s, TAILQ_FIRST(&s->session_order));
}

/* The one that is to end next, because it was silent for too long; NULL: none is. */
static struct session *next_expired(const struct store *s)
{
    struct session *ss = TAILQ_FIRST(&s->session_order), *locks = session_first_with_locks(s);
    uint64_t timeout = s->settings.number[SETTING_SESSION_TIMEOUT];

    /* The lock time that one has asked for counts, though it be longer. */
    while (ss != NULL && s->elapsed_ms - ss->seen_ms > timeout && ss->lease_ms > timeout && ss->locks != NULL)
        ss = TAILQ_NEXT(ss, order);
    if (ss != NULL && s->elapsed_ms - ss->seen_ms > timeout)
        return ss;
    return locks != NULL && s->elapsed_ms > session_locks_until(locks) ? locks : NULL;
}

/* A few with each command, so that none is long when thousands end at once. */
void session_expire(struct store *s)
{
    struct session *ss;
    uint32_t locks = 0;

    for (int n = 0; n < EXPIRE_MAX && locks < EXPIRE_LOCKS_MAX && (ss = next_expired(s)) != NULL; n++) {
        locks += session_unlock(s, ss);
        session_drop(s, ss);
    }
}

void session_touch(struct store *s, struct session *ss, uint64_t acked_below)
{
    size_t n = 0;
    struct upload *up, *next;

    session_begin(s, ss);
    if (ss->seen_ms != s->elapsed_ms) {
        ss->seen_ms = s->elapsed_ms;
        TAILQ_REMOVE(&s->session_order, ss, order);
        put_in_order(s, ss);
        session_renew_locks(s, ss);
    }
    if (acked_below > ss->acked_below) {
        ss->acked_below = acked_below;
        while (n < ss->n && ss->results[ss->first + n].seq < acked_below)
            n++;
        trim_results(s, ss, n);
        for (up = LIST_FIRST(&ss->uploads); up != NULL; up = next) {
            next = LIST_NEXT(up, peers);
            if (up->seq < acked_below)
                session_drop_upload(s, ss, up);
        }
    }
    session_end(s, ss);
}

void session_set_lease(struct store *s, struct session *ss, uint32_t lease_ms)
{
    if (ss->lease_ms == lease_ms)
        return;
    session_begin(s, ss);
    ss->lease_ms = lease_ms;
    session_renew_locks(s, ss);
    session_end(s, ss);
}

static uint64_t sessions_of(const struct store *s, uint32_t uid)
{
    const struct owner *o = owner_find(s, uid);

    return o != NULL ? o->sessions : 0;
}

/* The user with most sessions, the lowest uid of several; NULL: there is none. */
static const struct owner *greediest(const struct store *s)
{
    const struct owner *most = NULL;
    struct owner *o, *next;

    HASH_ITER(hh, s->owners, o, next)
    {
        if (owner_is_user(o) && (most == NULL || o->sessions > most->sessions ||
                                 (o->sessions == most->sessions && o->uid < most->uid)))
            most = o;
    }
    return most;
}

/* Which bound keeps that owner from one more session. */
enum session_bound { BOUND_NONE, BOUND_USER, BOUND_USERS, BOUND_ROOT };

static enum session_bound bound_met(const struct store *s, uint32_t uid)
{
    uint64_t n_root = sessions_of(s, 0);

    if (uid == COMMAND_UID_NODE)
        return BOUND_NONE;
    if (uid != 0 && sessions_of(s, uid) >= SESSIONS_OWNER_MAX)
        return BOUND_USER;
    if (uid != 0 && s->users.sessions >= SESSIONS_USERS_MAX)
        return BOUND_USERS;
    return n_root + s->users.sessions >= SESSIONS_MAX - SESSIONS_NODES_MAX ? BOUND_ROOT : BOUND_NONE;
}

bool store_register_refused(const struct store *s, uint32_t owner, const uint8_t nonce[16], char *why_out,
                            size_t size)
{
    const struct session *ss;
    const struct owner *most;

    HASH_FIND(hh_nonce, s->nonces, nonce, sizeof ss->nonce, ss);
    if (ss != NULL)
        return false;
    switch (bound_met(s, owner)) {
    case BOUND_NONE:
        return false;
    case BOUND_USER:
        snprintf(why_out, size, "user %" PRIu32 " has as many sessions as one may have (%d of the cluster's)",
                 owner, SESSIONS_OWNER_MAX);
        return true;
    case BOUND_USERS:
        most = greediest(s);
        snprintf(why_out, size,
                 "the users have as many sessions as they may have together (%d; most of them user %" PRIu32
                 ": %" PRIu32 ")",
                 SESSIONS_USERS_MAX, most->uid, most->sessions);
        return true;
    case BOUND_ROOT:
        break;
    }
    snprintf(why_out, size,
             "the cluster has as many sessions as it may have but for its nodes' own (%d; root has %" PRIu64
             " of them, users %" PRIu64 ")",
             SESSIONS_MAX - SESSIONS_NODES_MAX, sessions_of(s, 0), s->users.sessions);
    return true;
}

/* Room for a node's registration: of its own former lives, or of a node that is silent
 * and will register anew, one ends. */
static void limit_node_sessions(struct store *s)
{
    while (sessions_of(s, COMMAND_UID_NODE) >= SESSIONS_NODES_MAX) {
        struct session *ss = TAILQ_FIRST(&s->session_order);

        while (ss->owner->uid != COMMAND_UID_NODE)
            ss = TAILQ_NEXT(ss, order);
        session_drop(s, ss);
    }
}

static uint32_t owner_of_new(const struct caller *who)
{
    if (!who->trusted)
        return who->uid;
    return who->uid == COMMAND_UID_NODE ? COMMAND_UID_NODE : 0;
}

int session_register(struct apply *ap)
{
    struct store *s = ap->s;
    struct session *ss;
    struct session_row row = {
        .id = ap->index,
        .client = ap->body->name,
        .client_len = (uint8_t)ap->body->name_len,
        .owner = owner_of_new(&ap->who),
        .seen_ms = s->elapsed_ms,
        .acked_below = 1,
    };

    HASH_FIND(hh_nonce, s->nonces, ap->body->nonce, sizeof ss->nonce, ss);
    if (ss != NULL) {
        ap->result->session = ss->id;
        session_touch(s, ss, 0);
        return KV_OK;
    }
    if (bound_met(s, row.owner) != BOUND_NONE)
        return KV_E_BUSY;
    if (row.owner == COMMAND_UID_NODE)
        limit_node_sessions(s);
    memcpy(row.nonce, ap->body->nonce, sizeof row.nonce);
    ss = session_new(s, &row);
    if (ss == NULL)
        return -ENOMEM;
    session_end(s, ss);
    ap->result->session = ss->id;
    return KV_OK;
}

/* Place of the first kept number >= seq, from the first one. */
static size_t find_result(const struct session *ss, uint64_t seq)
{
    size_t low = 0, high = ss->n;

    /* Nearly always the newest. */
    if (high > 0 && ss->results[ss->first + high - 1].seq < seq)
        return high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (ss->results[ss->first + middle].seq < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct command_result *session_kept(const struct session *ss, uint64_t seq)
{
    size_t i = find_result(ss, seq);

    if (i == ss->n || ss->results[ss->first + i].seq != seq)
        return NULL;
    return &ss->results[ss->first + i].result;
}

int session_add_result(struct session *ss, uint64_t seq, const struct command_result *result, bool queued)
{
    size_t i = find_result(ss, seq);
    struct kept_result *at;

    if (ss->first + ss->n == ss->cap) {
        if (ss->first > 0) {
            memmove(ss->results, ss->results + ss->first, ss->n * sizeof *ss->results);
            ss->first = 0;
        } else {
            size_t cap = ss->cap > 0 ? 2 * ss->cap : 4;
            struct kept_result *results = realloc(ss->results, cap * sizeof *results);

            if (results == NULL)
                return -ENOMEM;
            ss->results = results;
            ss->cap = cap;
        }
    }
    at = ss->results + ss->first + i;
    memmove(at + 1, at, (ss->n - i) * sizeof *at);
    *at = (struct kept_result){.seq = seq, .queued = queued, .result = *result};
    ss->n++;
    ss->owner->results++;
    return 0;
}

bool session_results_full(const struct session *ss)
{
    return ss->n >= SESSION_RESULTS_MAX ||
           (owner_is_user(ss->owner) && ss->owner->results >= OWNER_RESULTS_MAX);
}

int session_keep(struct store *s, struct session *ss, uint64_t seq, const struct command_result *result)
{
    int rv = session_add_result(ss, seq, result, false);

    if (rv < 0)
        return rv;
    s->digest += result_row_digest(ss->id, seq, result);
    journal_session(s->journal, ss);
    return 0;
}
