/* The decoder is the engine's gate: the core and the guards take for granted
 * what is checked here (terms, types, limits), so every message of a peer
 * passes it. */
#include "sync/raft/engine/message.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"
#include "sync/raft/engine/configuration.h"

#define ENTRY_HEADER (1 + 8 + 4) /* type, term, length */

struct engine_message *message_new(enum raft_message_kind type, uint64_t from, uint64_t to)
{
    struct engine_message *m = calloc(1, sizeof *m);

    if (m == NULL)
        return NULL;
    m->type = type;
    m->from = from;
    m->to = to;
    return m;
}

struct engine_message *message_new_install(uint64_t from, uint64_t to, uint64_t term,
                                           const struct snapshot_meta *meta)
{
    struct engine_message *m = message_new(RAFT_MESSAGE_INSTALL, from, to);

    if (m == NULL)
        return NULL;
    m->term = term;
    snapshot_meta_copy(meta, &m->meta);
    return m;
}

struct engine_message *message_copy(const struct engine_message *m)
{
    struct engine_message *copy = malloc(sizeof *copy);

    if (copy == NULL)
        return NULL;
    *copy = *m;
    if (m->n_entries > 0) {
        copy->entries = malloc(m->n_entries * sizeof(struct entry *));
        if (copy->entries == NULL) {
            free(copy);
            return NULL;
        }
        for (uint32_t i = 0; i < m->n_entries; i++)
            copy->entries[i] = entry_ref(m->entries[i]);
    }
    snapshot_meta_copy(&m->meta, &copy->meta);
    return copy;
}

void message_free(struct engine_message *m)
{
    if (m == NULL)
        return;
    for (uint32_t i = 0; i < m->n_entries; i++)
        entry_put(m->entries[i]);
    free(m->entries);
    snapshot_meta_deinit(&m->meta);
    free(m);
}

void message_encode(const struct engine_message *m, struct buffer *out)
{
    assert(m->type != RAFT_MESSAGE_INSTALL);
    buffer_put_u8(out, RAFT_MESSAGE_VERSION);
    buffer_put_u8(out, (uint8_t)m->type);
    buffer_put_u64(out, m->from);
    buffer_put_u64(out, m->to);
    buffer_put_u64(out, m->term);
    buffer_put_u64(out, m->sent_ms);
    switch (m->type) {
    case RAFT_MESSAGE_APPEND:
        buffer_put_u64(out, m->append.prev_index);
        buffer_put_u64(out, m->append.prev_term);
        buffer_put_u64(out, m->append.leader_commit);
        buffer_put_u32(out, m->n_entries);
        for (uint32_t i = 0; i < m->n_entries; i++) {
            buffer_put_u8(out, m->entries[i]->type);
            buffer_put_u64(out, m->entries[i]->term);
            buffer_put_string(out, m->entries[i]->data, m->entries[i]->len);
        }
        break;
    case RAFT_MESSAGE_APPEND_RESULT:
        buffer_put_u64(out, m->append_result.rejected);
        buffer_put_u64(out, m->append_result.last_index);
        break;
    case RAFT_MESSAGE_VOTE:
        buffer_put_u64(out, m->vote.last_index);
        buffer_put_u64(out, m->vote.last_term);
        buffer_put_u8(out, m->vote.disrupt_leader);
        buffer_put_u8(out, m->vote.pre_vote);
        break;
    case RAFT_MESSAGE_VOTE_RESULT:
        buffer_put_u8(out, m->vote_result.granted);
        buffer_put_u8(out, m->vote_result.pre_vote);
        break;
    case RAFT_MESSAGE_TIMEOUT_NOW:
        buffer_put_u64(out, m->timeout_now.last_index);
        buffer_put_u64(out, m->timeout_now.last_term);
        break;
    case RAFT_MESSAGE_PING:
        buffer_put_u64(out, m->ping.seq);
        break;
    case RAFT_MESSAGE_PONG:
        buffer_put_u64(out, m->ping.seq);
        buffer_put_u64(out, m->ping.peer_term);
        break;
    case RAFT_MESSAGE_LEASE:
        buffer_put_u8(out, (uint8_t)m->lease.kind);
        buffer_put_u64(out, m->lease.invalidated);
        break;
    case RAFT_MESSAGE_GRANT:
        buffer_put_u32(out, m->grant.length_ms);
        buffer_put_u64(out, m->grant.visible);
        break;
    case RAFT_MESSAGE_ECHO:
    case RAFT_MESSAGE_INSTALL:
        break;
    }
}

static bool decode_bool(struct cursor *c)
{
    uint8_t v = cursor_u8(c);

    if (v > 1)
        c->failed = true;
    return v == 1;
}

/* One entry that may follow an entry of *term in a message of a leader of
 * leader_term. NULL: malformed (c->failed) or out of memory. */
static struct entry *decode_entry(struct cursor *c, uint64_t *term, uint64_t leader_term)
{
    struct configuration conf;
    struct entry *e;
    uint8_t type = cursor_u8(c);
    uint64_t entry_term = cursor_u64(c);
    size_t len;
    const uint8_t *data = cursor_string(c, ENTRY_MAX_LEN, &len);

    if (c->failed)
        return NULL;
    if (type < ENTRY_COMMAND || type > ENTRY_CHANGE || entry_term == 0 || entry_term < *term ||
        entry_term > leader_term || (type == ENTRY_CHANGE && configuration_decode(data, len, &conf) != 0)) {
        c->failed = true;
        return NULL;
    }
    e = entry_new((enum entry_type)type, data, len);
    if (e == NULL)
        return NULL;
    *term = e->term = entry_term;
    return e;
}

static int decode_append(struct cursor *c, struct engine_message *m)
{
    uint64_t term;
    uint32_t n;

    m->append.prev_index = cursor_u64(c);
    m->append.prev_term = cursor_u64(c);
    m->append.leader_commit = cursor_u64(c);
    n = cursor_u32(c);
    if (c->failed || n > RAFT_MESSAGE_MAX_ENTRIES || n > c->len / ENTRY_HEADER ||
        (m->append.prev_index == 0) != (m->append.prev_term == 0) ||
        m->append.prev_index >= MESSAGE_MAX_INDEX || m->append.prev_term > m->term)
        return KV_E_PROTOCOL;
    if (n == 0)
        return 0;
    m->entries = malloc(n * sizeof(struct entry *));
    if (m->entries == NULL)
        return -ENOMEM;
    term = m->append.prev_term;
    while (m->n_entries < n) {
        struct entry *e = decode_entry(c, &term, m->term);

        if (e == NULL)
            return c->failed ? KV_E_PROTOCOL : -ENOMEM;
        m->entries[m->n_entries++] = e;
    }
    return 0;
}

static int decode_body(struct cursor *c, struct engine_message *m)
{
    uint8_t kind;

    switch (m->type) {
    case RAFT_MESSAGE_APPEND:
        return decode_append(c, m);
    case RAFT_MESSAGE_APPEND_RESULT:
        m->append_result.rejected = cursor_u64(c);
        m->append_result.last_index = cursor_u64(c);
        return m->append_result.last_index >= MESSAGE_MAX_INDEX ? KV_E_PROTOCOL : 0;
    case RAFT_MESSAGE_VOTE:
        m->vote.last_index = cursor_u64(c);
        m->vote.last_term = cursor_u64(c);
        m->vote.disrupt_leader = decode_bool(c);
        m->vote.pre_vote = decode_bool(c);
        return 0;
    case RAFT_MESSAGE_VOTE_RESULT:
        m->vote_result.granted = decode_bool(c);
        m->vote_result.pre_vote = decode_bool(c);
        return 0;
    case RAFT_MESSAGE_TIMEOUT_NOW:
        m->timeout_now.last_index = cursor_u64(c);
        m->timeout_now.last_term = cursor_u64(c);
        return 0;
    case RAFT_MESSAGE_PING:
        m->ping.seq = cursor_u64(c);
        return 0;
    case RAFT_MESSAGE_PONG:
        m->ping.seq = cursor_u64(c);
        m->ping.peer_term = cursor_u64(c);
        return 0;
    case RAFT_MESSAGE_ECHO:
        return 0;
    case RAFT_MESSAGE_LEASE:
        kind = cursor_u8(c);
        m->lease.kind = (enum lease_kind)kind;
        m->lease.invalidated = cursor_u64(c);
        return kind > LEASE_RETURN || m->lease.invalidated >= MESSAGE_MAX_INDEX ? KV_E_PROTOCOL : 0;
    case RAFT_MESSAGE_GRANT:
        m->grant.length_ms = cursor_u32(c);
        m->grant.visible = cursor_u64(c);
        return m->grant.visible >= MESSAGE_MAX_INDEX ? KV_E_PROTOCOL : 0;
    case RAFT_MESSAGE_INSTALL:
        break;
    }
    return KV_E_PROTOCOL;
}

int message_decode(const void *data, size_t len, struct engine_message **out)
{
    struct cursor c = cursor_of(data, len);
    struct engine_message *m;
    uint8_t version, type;
    int result;

    *out = NULL;
    version = cursor_u8(&c);
    type = cursor_u8(&c);
    if (c.failed || len > RAFT_MESSAGE_MAX_LEN || version != RAFT_MESSAGE_VERSION)
        return KV_E_PROTOCOL;
    m = message_new((enum raft_message_kind)type, 0, 0);
    if (m == NULL)
        return -ENOMEM;
    m->from = cursor_u64(&c);
    m->to = cursor_u64(&c);
    m->term = cursor_u64(&c);
    m->sent_ms = cursor_u64(&c);
    result = decode_body(&c, m);
    if (result == 0 && (!cursor_done(&c) || m->from == 0 || m->to == 0 || m->from == m->to))
        result = KV_E_PROTOCOL;
    /* A refusal can come from a server that has no term yet. */
    if (result == 0 && m->term == 0 && m->type != RAFT_MESSAGE_VOTE_RESULT &&
        m->type != RAFT_MESSAGE_APPEND_RESULT)
        result = KV_E_PROTOCOL;
    if (result != 0) {
        message_free(m);
        return result;
    }
    *out = m;
    return 0;
}

void message_format(const struct engine_message *m, char *text, size_t len)
{
    int n = snprintf(text, len, "%" PRIu64 "->%" PRIu64 " ", m->from, m->to);

    if (n < 0 || (size_t)n >= len)
        return;
    text += n;
    len -= (size_t)n;
    switch (m->type) {
    case RAFT_MESSAGE_APPEND:
        snprintf(text, len, "append term %" PRIu64 " prev %" PRIu64 "^%" PRIu64 " n %u commit %" PRIu64,
                 m->term, m->append.prev_index, m->append.prev_term, m->n_entries, m->append.leader_commit);
        break;
    case RAFT_MESSAGE_APPEND_RESULT:
        snprintf(text, len, "append result term %" PRIu64 " %s %" PRIu64 " last %" PRIu64, m->term,
                 m->append_result.rejected > 0 ? "rejected" : "accepted", m->append_result.rejected,
                 m->append_result.last_index);
        break;
    case RAFT_MESSAGE_VOTE:
        snprintf(text, len, "%svote? term %" PRIu64 " last %" PRIu64 "^%" PRIu64 "%s",
                 m->vote.pre_vote ? "pre-" : "", m->term, m->vote.last_index, m->vote.last_term,
                 m->vote.disrupt_leader ? " disrupt" : "");
        break;
    case RAFT_MESSAGE_VOTE_RESULT:
        snprintf(text, len, "%svote %s term %" PRIu64, m->vote_result.pre_vote ? "pre-" : "",
                 m->vote_result.granted ? "granted" : "refused", m->term);
        break;
    case RAFT_MESSAGE_INSTALL:
        snprintf(text, len, "install term %" PRIu64 " snapshot %" PRIu64 "^%" PRIu64, m->term, m->meta.index,
                 m->meta.term);
        break;
    case RAFT_MESSAGE_TIMEOUT_NOW:
        snprintf(text, len, "timeout now term %" PRIu64, m->term);
        break;
    case RAFT_MESSAGE_PING:
        snprintf(text, len, "ping term %" PRIu64 " seq %" PRIu64, m->term, m->ping.seq);
        break;
    case RAFT_MESSAGE_PONG:
        snprintf(text, len, "pong term %" PRIu64 " seq %" PRIu64 " peer term %" PRIu64, m->term, m->ping.seq,
                 m->ping.peer_term);
        break;
    case RAFT_MESSAGE_ECHO:
        snprintf(text, len, "echo term %" PRIu64 " sent %" PRIu64, m->term, m->sent_ms);
        break;
    case RAFT_MESSAGE_LEASE:
        snprintf(text, len, "lease term %" PRIu64 " %s invalidated %" PRIu64 " sent %" PRIu64, m->term,
                 m->lease.kind == LEASE_REQUEST  ? "request"
                 : m->lease.kind == LEASE_RETURN ? "return"
                                                 : "index",
                 m->lease.invalidated, m->sent_ms);
        break;
    case RAFT_MESSAGE_GRANT:
        snprintf(text, len, "grant term %" PRIu64 " for %u ms from %" PRIu64 " visible %" PRIu64, m->term,
                 m->grant.length_ms, m->sent_ms, m->grant.visible);
        break;
    }
}
