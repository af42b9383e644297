/* Applying what is committed, a little in each turn of the loop. The engine says up
 * to where the log is committed (and durable here); what the state machine does not
 * have of that is taken from the log. So a long command is prepared in steps, many
 * short ones are spread over turns, and the log's rest behind a state that was
 * healed is nothing special. Meanwhile heartbeats, votes and reads of the state as
 * it is go on. */
#include <errno.h>

#include "kvnode/group/leases.h"
#include "kvnode/group/reads.h"
#include "kvnode/group/writes.h"
#include "kvnode/group/group.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/raft/engine/entry.h"

/* Work (bytes copied and hashed) between two looks at the clock. */
#define STEP_BYTES ((size_t)256 * 1024)

static void on_behind(uv_idle_t *idle)
{
    (void)idle; /* its being active keeps the loop from sleeping */
}

void group_turn_again(struct group *g)
{
    uv_idle_start(&g->behind, on_behind);
}

static void apply_command(struct group *g, uint64_t index, const struct entry *e)
{
    struct command_result result;
    struct command cmd;
    int rv;

    rv = store_apply(g->store, index, e->data, e->len, &result);
    if (rv == -EOPNOTSUPP)
        group_die("the cluster is at a feature level that this program does not know (kvnode " KVFS_VERSION
                  "): start this node with the version that the other nodes have. Nothing is lost");
    if (rv != 0)
        group_die("out of memory while applying");
    if (command_decode(e->data, e->len, &cmd) == KV_OK) {
        meter_executed(&g->meter, cmd.op);
        writes_applied(g->writes, &cmd, &result);
    }
}

/* For names in reports; commands that do not decode are short. */
static const char *op_name(const struct entry *e)
{
    return e->type == ENTRY_COMMAND && e->len > 1 ? command_op_name(e->data[1]) : "barrier";
}

/* One entry, or a step towards it. */
static void apply_some(struct group *g, uint64_t index, struct entry *e)
{
    uint64_t since = clock_boot_ns();
    int rv = 0;

    entry_ref(e); /* an answer may lead to a trim */
    if (e->type == ENTRY_COMMAND)
        rv = store_prepare(g->store, e->data, e->len, STEP_BYTES);
    if (rv < 0)
        group_die("out of memory while applying");
    if (rv == 0) {
        if (e->type == ENTRY_COMMAND)
            apply_command(g, index, e);
        else
            store_skip(g->store, index);
        digest_ring_note(&g->digests, index, store_digest(g->store));
        leases_applied(g->leases, index);
        reads_applied(g->reads);
    }
    turn_part(g->owner->turn, since, "apply", op_name(e), 0);
    entry_put(e);
}

void group_apply(struct group *g)
{
    struct entry *e = NULL;
    bool more;

    if (g->applying || !group_serves(g))
        return;
    g->applying = true;
    if (g->apply_until_ns == 0)
        g->apply_until_ns = clock_boot_ns() + TURN_APPLY_NS;
    while (group_serves(g) && store_applied(g->store) < consensus_applied(g->consensus)) {
        uint64_t index = store_applied(g->store) + 1;

        e = consensus_entry(g->consensus, index);
        /* Not there: a state file has taken the log's place, and will take the state's. */
        if (e == NULL || turn_time_is_up(g->apply_until_ns))
            break;
        apply_some(g, index, e);
        e = NULL;
    }
    more = store_tidy(g->store);
    if (e != NULL || more || reads_wait_for_time(g->reads))
        group_turn_again(g);
    else
        uv_idle_stop(&g->behind);
    g->applying = false;
}
