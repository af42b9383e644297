/* Sessions: exactly once. Results are kept from the client's first
 * unacknowledged number on; a command that is repeated is answered from them.
 * Sessions hang in a queue in the order in which they were last heard of, so
 * that expiry looks at its head only. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/journal_note.h"
#include "kvnode/store_internal.h"

struct session *session_find(const struct store *s, uint64_t id)
{
    struct session *ss;

    HASH_FIND(hh, s->sessions, &id, sizeof id, ss);
    return ss;
}

const uint8_t *store_session_client(const struct store *s, uint64_t session, size_t *len_out)
{
    const struct session *ss = session_find(s, session);

    *len_out = ss != NULL ? ss->client_len : 0;
    return ss != NULL ? ss->client : NULL;
}

void session_row(const struct session *ss, struct session_row *row_out)
{
    *row_out = (struct session_row){
        .id = ss->id,
        .client = ss->client,
        .client_len = ss->client_len,
        .seen_ms = ss->seen_ms,
        .acked_below = ss->acked_below,
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

struct session *session_new(struct store *s, const struct session_row *row)
{
    struct session *ss = calloc(1, offsetof(struct session, client) + row->client_len);

    if (ss == NULL)
        return NULL;
    ss->id = row->id;
    memcpy(ss->nonce, row->nonce, sizeof ss->nonce);
    ss->seen_ms = row->seen_ms;
    ss->acked_below = ss->trimmed_below = row->acked_below;
    ss->client_len = row->client_len;
    if (row->client_len > 0)
        memcpy(ss->client, row->client, row->client_len);
    LIST_INIT(&ss->uploads);
    HASH_ADD(hh, s->sessions, id, sizeof ss->id, ss);
    if (ss->hh.tbl == NULL) {
        free(ss);
        return NULL;
    }
    HASH_ADD(hh_nonce, s->nonces, nonce, sizeof ss->nonce, ss);
    if (ss->hh_nonce.tbl == NULL) {
        HASH_DELETE(hh, s->sessions, ss);
        free(ss);
        return NULL;
    }
    TAILQ_INSERT_TAIL(&s->session_order, ss, order);
    return ss;
}

static void upload_free(struct store *s, struct session *ss, struct upload *up)
{
    LIST_REMOVE(up, peers);
    ss->upload_bytes -= up->bytes.len - up->joined;
    s->part_bytes -= up->bytes.len - up->joined;
    buffer_deinit(&up->bytes);
    free(up);
}

static void session_destroy(struct store *s, struct session *ss)
{
    while (!LIST_EMPTY(&ss->uploads))
        upload_free(s, ss, LIST_FIRST(&ss->uploads));
    HASH_DELETE(hh, s->sessions, ss);
    HASH_DELETE(hh_nonce, s->nonces, ss);
    TAILQ_REMOVE(&s->session_order, ss, order);
    free(ss->results);
    free(ss);
}

void session_drop_upload(struct store *s, struct session *ss, struct upload *up)
{
    s->digest -= up->digest;
    journal_parts_gone(s->journal, ss->id, up->seq);
    upload_free(s, ss, up);
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
    if (ss->n == 0) {
        ss->first = 0;
    } else if (ss->first > ss->cap / 2) {
        memmove(ss->results, ss->results + ss->first, ss->n * sizeof *ss->results);
        ss->first = 0;
    }
}

void session_drop(struct store *s, struct session *ss)
{
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

void session_expire(struct store *s)
{
    struct session *ss;

    while ((ss = TAILQ_FIRST(&s->session_order)) != NULL &&
           s->elapsed_ms - ss->seen_ms > s->settings.number[SETTING_SESSION_TIMEOUT])
        session_drop(s, ss);
}

void session_touch(struct store *s, struct session *ss, uint64_t acked_below)
{
    size_t n = 0;
    struct upload *up, *next;

    session_begin(s, ss);
    ss->seen_ms = s->elapsed_ms;
    TAILQ_REMOVE(&s->session_order, ss, order);
    TAILQ_INSERT_TAIL(&s->session_order, ss, order);
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

int session_register(struct apply *ap)
{
    struct store *s = ap->s;
    struct session *ss;
    struct session_row row = {
        .id = ap->index,
        .client = ap->body->name,
        .client_len = (uint8_t)ap->body->name_len,
        .seen_ms = s->elapsed_ms,
        .acked_below = 1,
    };

    HASH_FIND(hh_nonce, s->nonces, ap->body->nonce, sizeof ss->nonce, ss);
    if (ss != NULL) {
        ap->result->session = ss->id;
        session_touch(s, ss, 0);
        return KV_OK;
    }
    if (HASH_CNT(hh, s->sessions) >= SESSIONS_MAX)
        return KV_E_BUSY;
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
    return 0;
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

struct upload *session_upload(const struct session *ss, uint64_t seq)
{
    struct upload *up;

    LIST_FOREACH (up, &ss->uploads, peers)
        if (up->seq == seq)
            return up;
    return NULL;
}

int session_join(const struct session *ss, const struct command *cmd, const void **body_out, size_t *len_out)
{
    struct upload *up = session_upload(ss, cmd->seq);
    struct cursor c = cursor_of(cmd->body, cmd->body_len);
    uint32_t n_parts = cursor_u32(&c);

    /* One that was sent ahead of a part that got lost must not do without it. */
    if (c.failed || up == NULL || up->n_parts != n_parts)
        return KV_E_PART;
    up->bytes.len -= up->joined;
    up->joined = c.len;
    buffer_put_bytes(&up->bytes, c.data, c.len);
    if (up->bytes.failed)
        return -ENOMEM;
    *body_out = up->bytes.data;
    *len_out = up->bytes.len;
    return 0;
}

int session_add_part(struct store *s, struct session *ss, uint64_t seq, uint32_t number, const void *bytes,
                     size_t len)
{
    struct upload *up = session_upload(ss, seq);
    uint64_t digest = part_row_digest(ss->id, seq, number, bytes, len);

    if (up == NULL) {
        up = calloc(1, sizeof *up);
        if (up == NULL)
            return -ENOMEM;
        up->seq = seq;
        LIST_INSERT_HEAD(&ss->uploads, up, peers);
    }
    up->bytes.len -= up->joined;
    up->joined = 0;
    buffer_put_bytes(&up->bytes, bytes, len);
    if (up->bytes.failed)
        return -ENOMEM;
    up->n_parts++;
    up->digest += digest;
    s->digest += digest;
    ss->upload_bytes += len;
    s->part_bytes += len;
    return 0;
}

int session_part(struct store *s, struct session *ss, uint64_t seq, uint32_t number, const void *bytes,
                 size_t len)
{
    struct upload *up = session_upload(ss, seq);
    uint32_t present = up != NULL ? up->n_parts : 0;
    int rv;

    /* Whatever its number: a late repetition of part 0 must not begin anew what has
     * gone on meanwhile. The body of a number never changes. */
    if (number < present)
        return KV_OK;
    if (number > present)
        return KV_E_PART;
    if (ss->upload_bytes + len > s->settings.number[SETTING_VALUE_LIMIT] + 65536)
        return KV_E_FBIG;
    if (s->part_bytes + len > PART_BYTES_MAX)
        return KV_E_BUSY;
    rv = session_add_part(s, ss, seq, number, bytes, len);
    if (rv == 0)
        journal_part(s->journal, ss->id, seq, number, bytes, len);
    return rv;
}
