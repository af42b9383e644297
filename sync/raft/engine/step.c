/* Carrying out what the core asks for, in the only safe order:
 *
 *   1. term and vote durable: nothing may be sent that a restart could contradict
 *   2. entries into the log and to the disk's queue; a truncation takes back
 *      what older writes would have acknowledged
 *   3. the install of a snapshot
 *   4. messages (they may leave before the entries are durable: a leader
 *      counts itself, and a follower answers, only after engine_entries_saved())
 *   5. role, commit index (lease.c: as far as it may be shown)
 *
 * then, at the end of every entry point, entries are applied. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"
#include "sync/raft/engine/internal.h"

void step_send(struct engine *e, struct engine_message *m)
{
    if (m->type != RAFT_MESSAGE_ECHO && m->type != RAFT_MESSAGE_GRANT) /* those repeat the other's */
        m->sent_ms = e->now;
    e->ops.send(e->ops.ctx, m);
}

/* Lack of memory loses a message, which Raft allows. */
static void send_append_part(struct engine *e, const struct engine_message *header, uint64_t prev, uint32_t n)
{
    struct engine_message *m = message_new(RAFT_MESSAGE_APPEND, header->from, header->to);
    struct peer *peer = engine_peer(e, header->to);
    uint64_t commit = lease_announce(e, header->append.leader_commit);
    uint64_t reach = prev + n < commit ? prev + n : commit;

    if (m == NULL)
        return;
    m->term = header->term;
    m->append.prev_index = prev;
    m->append.prev_term =
        prev == header->append.prev_index ? header->append.prev_term : engine_term_at(e, prev);
    m->append.leader_commit = commit;
    if (n > 0) {
        struct entry *const *from = entry_log_from(&e->log, prev + 1);

        m->entries = malloc(n * sizeof(struct entry *));
        if (m->entries == NULL) {
            message_free(m);
            return;
        }
        for (uint32_t i = 0; i < n; i++)
            m->entries[i] = entry_ref(from[i]);
        m->n_entries = n;
    }
    if (peer != NULL && peer->told_commit < reach)
        peer->told_commit = reach;
    step_send(e, m);
}

/* The core names prev_index and a number; we fill, and split by size. */
static int send_append(struct engine *e, const struct engine_message *header)
{
    uint64_t prev = header->append.prev_index;
    uint32_t n = header->n_entries;

    /* A server stops voting and standing when its log says so, committed or
     * not: let it see its demotion only once that is committed. */
    if (e->demoted == header->to && e->commit < e->demoted_at && !e->knobs.no_change_guard) {
        if (prev >= e->demoted_at)
            return 0;
        if (prev + n >= e->demoted_at)
            n = (uint32_t)(e->demoted_at - 1 - prev);
    }
    if (n > 0 && (entry_log_at(&e->log, prev + 1) == NULL || entry_log_at(&e->log, prev + n) == NULL))
        return engine_die(e, -ENOTRECOVERABLE,
                          "the core sends entries %" PRIu64 "..%" PRIu64 " that the log has not", prev + 1,
                          prev + n);
    do {
        uint32_t part = 0;
        size_t bytes = 0;

        while (part < n && part < RAFT_MESSAGE_MAX_ENTRIES) {
            bytes += entry_log_at(&e->log, prev + part + 1)->len;
            if (part > 0 && bytes > RAFT_MESSAGE_SPLIT_BYTES)
                break;
            part++;
        }
        send_append_part(e, header, prev, part);
        prev += part;
        n -= part;
    } while (n > 0);
    return 0;
}

static void send_header(struct engine *e, const struct engine_message *header)
{
    struct engine_message *m = message_copy(header);

    if (m == NULL)
        return;
    if (m->type == RAFT_MESSAGE_APPEND_RESULT && e->answering_stale && !e->knobs.no_init_fix) {
        /* The core leaves last_index uninitialised here, and `rejected` can be
         * 0: a leader re-elected in our term would take it as an acknowledgement. */
        m->append_result.last_index = 0;
    } else if (m->type == RAFT_MESSAGE_APPEND_RESULT && !e->knobs.no_fast_back) {
        /* The core walks back one entry a round trip. Our commit index is the
         * best safe hint: everything up to it matches every leader's log. */
        if (m->append_result.rejected != 0 && m->append_result.last_index + 1 == m->append_result.rejected &&
            e->commit < m->append_result.last_index)
            m->append_result.last_index = e->commit;
    } else if (m->type == RAFT_MESSAGE_VOTE_RESULT && m->vote_result.pre_vote && !m->vote_result.granted &&
               !e->knobs.no_prevote_fix && m->term < core_term(e->core)) {
        /* The core echoes the candidate's term: it would never learn ours, and
         * long log, low term against short log, high term is a deadlock. */
        m->term = core_term(e->core);
    }
    step_send(e, m);
}

static int send_messages(struct engine *e, const struct core_update *u)
{
    for (size_t i = 0; i < u->n_messages; i++) {
        const struct engine_message *header = &u->messages[i];
        int result = 0;

        if (header->type == RAFT_MESSAGE_APPEND)
            result = send_append(e, header);
        else if (header->type == RAFT_MESSAGE_INSTALL)
            snapshot_request(e, header->to);
        else
            send_header(e, header);
        if (result != 0)
            return result;
    }
    return 0;
}

static int append_entries(struct engine *e, const struct core_update *u, struct entry *const *given)
{
    uint64_t index = u->entries_index;
    bool flush;
    int result;

    if (index <= entry_log_last(&e->log)) {
        if (index <= e->applied)
            return engine_die(e, -ENOTRECOVERABLE,
                              "the core takes back entry %" PRIu64 ", applied is %" PRIu64, index,
                              e->applied);
        entry_log_cut_tail(&e->log, index);
        if (!e->knobs.no_write_clip)
            write_queue_clip(&e->writes, index);
    }
    if (index != entry_log_last(&e->log) + 1)
        return engine_die(e, -ENOTRECOVERABLE, "the core appends at %" PRIu64 ", the log ends at %" PRIu64,
                          index, entry_log_last(&e->log));
    for (size_t i = 0; i < u->n_entries; i++) {
        struct entry *entry = entry_ref(u->noop != NULL ? u->noop : given[u->given_first + i]);

        if (!entry_log_push(&e->log, entry)) {
            entry_put(entry);
            return engine_die(e, -ENOMEM, "out of memory for the log");
        }
    }
    if (!write_queue_push(&e->writes, index, index + u->n_entries - 1))
        return engine_die(e, -ENOMEM, "out of memory for the log");
    /* Our own configuration change must not exist on others only. */
    flush = core_role(e->core) == ENGINE_LEADER && entry_log_at(&e->log, index)->type == ENTRY_CHANGE &&
            !e->knobs.no_change_guard;
    result = e->ops.save_entries(e->ops.ctx, index, entry_log_from(&e->log, index), u->n_entries, flush);
    if (result != 0)
        return engine_die(e, result < 0 ? result : -EIO, "log entries could not be saved");
    return 0;
}

static int begin_install(struct engine *e)
{
    int result;

    write_queue_clip(&e->writes, 1); /* none of the queued writes is in our log any more */
    entry_log_reset(&e->log, e->installing.index + 1);
    lease_void(e);
    result = e->ops.install(e->ops.ctx, &e->installing);
    if (result != 0)
        return engine_die(e, result < 0 ? result : -EIO, "a snapshot could not be installed");
    return 0;
}

static bool take_role(struct engine *e, const struct core_update *u)
{
    enum engine_role was = e->role;
    bool elected;

    e->role = core_role(e->core);
    elected = e->role == ENGINE_LEADER;
    if (elected) {
        e->demoted = 0;
        e->transferred = false;
        e->term_first = u->n_entries > 0 ? u->entries_index : 0;
    }
    reads_fail(e);
    if (was != e->role || elected)
        e->ops.on_role(e->ops.ctx, e->role, core_term(e->core));
    return elected;
}

/* The core appends a no-op only if its log is longer than its commit index. We
 * want one in every term: reads and membership changes need it. */
static int submit_barrier(struct engine *e)
{
    static const uint8_t zeros[8];
    struct entry *barrier = entry_new(ENTRY_BARRIER, zeros, sizeof zeros);
    int result;

    if (barrier == NULL)
        return engine_die(e, -ENOMEM, "out of memory for a barrier");
    result = step_submit(e, &barrier, 1, &e->term_first);
    entry_put(barrier);
    return result < 0 ? result : 0;
}

int step_update(struct engine *e, struct core_update *u, struct entry *const *given)
{
    bool elected = false;
    int result = 0;

    lease_follow(e);
    if (u->term_or_vote) {
        result = e->ops.save_term(e->ops.ctx, core_term(e->core), core_vote(e->core));
        if (result != 0)
            result = engine_die(e, result < 0 ? result : -EIO, "term and vote could not be saved");
    }
    /* A new leader's peers start from nothing, before its first messages note what they carry. */
    if (result == 0 && u->role && core_role(e->core) == ENGINE_LEADER)
        e->n_peers = 0;
    if (result == 0 && u->n_entries > 0)
        result = append_entries(e, u, given);
    entry_put(u->noop);
    u->noop = NULL;
    if (result == 0 && u->install)
        result = begin_install(e);
    /* What the messages announce is what we show. */
    if (result == 0 && e->role == ENGINE_LEADER && !u->role)
        lease_show(e);
    if (result == 0)
        result = send_messages(e, u);
    if (result == 0 && u->role)
        elected = take_role(e, u);
    if (result == 0 && u->commit)
        lease_show(e);
    if (result == 0 && elected && e->term_first == 0 && !e->knobs.no_barrier)
        result = submit_barrier(e);
    return result;
}

/* How many entries behind `match` fit, one at least; `given` come behind those of the log. */
static uint32_t window_of(const struct engine *e, uint64_t match, struct entry *const *given, size_t n_given)
{
    uint64_t last = entry_log_last(&e->log), bytes = 0;
    uint32_t n = 0;

    if (match + 1 < e->log.first) /* probed without entries, or a state file is sent */
        return e->config.max_inflight;
    for (; n < e->config.max_inflight && match + n < last + n_given; n++) {
        uint64_t index = match + n + 1;

        if (bytes >= e->config.max_inflight_bytes)
            return n;
        bytes += index <= last ? entry_log_at(&e->log, index)->len : given[index - last - 1]->len;
    }
    return bytes < e->config.max_inflight_bytes ? e->config.max_inflight : n;
}

static void open_window(struct engine *e, uint64_t peer, uint64_t match, struct entry *const *given, size_t n)
{
    uint32_t window = e->config.max_inflight;
    uint64_t at;

    if (e->role != ENGINE_LEADER)
        return;
    for (unsigned i = 0; i < core_n_servers(e->core); i++) {
        uint64_t id = core_server_id(e->core, i);

        if ((peer == 0 ? id != e->config.id : id == peer) && core_match_index(e->core, id, &at)) {
            uint32_t one = window_of(e, at > match ? at : match, given, n);

            window = one < window ? one : window;
        }
    }
    core_set_window(e->core, window);
}

void step_open_window(struct engine *e, uint64_t peer, uint64_t match)
{
    open_window(e, peer, match, NULL, 0);
}

int step_submit(struct engine *e, struct entry *const *entries, size_t n, uint64_t *first_index_out)
{
    uint64_t first = entry_log_last(&e->log) + 1;
    struct core_update u;
    int result;

    for (size_t i = 0; i < n; i++)
        entries[i]->term = core_term(e->core);
    open_window(e, 0, 0, entries, n);
    result = engine_check(e, core_submit(e->core, e->now, entries, n, &u), "submit");
    if (result != 0)
        return result;
    if (first_index_out != NULL)
        *first_index_out = first;
    return step_update(e, &u, entries);
}

static int apply_one(struct engine *e, uint64_t index, struct entry *entry)
{
    struct core_update u;
    int result;

    e->applied = index;
    if (index > e->fsm_index) {
        e->fsm_index = index;
        result = e->ops.apply(e->ops.ctx, index, entry);
        if (result != 0)
            return engine_die(e, result < 0 ? result : -EIO, "entry %" PRIu64 " could not be applied", index);
    }
    if (entry->type != ENTRY_CHANGE || index <= e->snapshot.index)
        return 0; /* the core has the snapshot's configuration */
    result = snapshot_note_configuration(e, index, entry);
    if (result != 0)
        return result;
    result = engine_check(e, core_change_committed(e->core, e->now, index, entry, &u), "configuration");
    return result != 0 ? result : step_update(e, &u, NULL);
}

int step_advance(struct engine *e)
{
    while (!e->is_installing && e->applied < e->commit) {
        uint64_t index = e->applied + 1;
        struct entry *entry = entry_log_at(&e->log, index);
        int result;

        if (entry == NULL)
            return engine_die(e, -ENOTRECOVERABLE, "committed entry %" PRIu64 " is not in the log", index);
        if (index > core_stored_index(e->core))
            break;
        entry_ref(entry); /* an operation may trim the log */
        result = apply_one(e, index, entry);
        entry_put(entry);
        if (result != 0)
            return result;
    }
    return 0;
}
