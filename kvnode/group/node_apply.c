/* Applying what is committed, a little in each turn of the loop. The engine says up
 * to where the log is committed (and durable here); what the state machine does not
 * have of that is taken from the log. So a long command is prepared in steps, many
 * short ones are spread over turns, and the log's rest behind a state that was
 * healed is nothing special. Meanwhile heartbeats, votes and reads of the state as
 * it is go on. */
#include <errno.h>

#include "kvnode/group/reads.h"
#include "kvnode/group/writes.h"
#include "kvnode/node/node_state.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/raft/engine/entry.h"

/* Work (bytes copied and hashed) between two looks at the clock. */
#define STEP_BYTES ((size_t)256 * 1024)

static void on_behind(uv_idle_t *idle)
{
    (void)idle; /* its being active keeps the loop from sleeping */
}

void node_turn_again(struct node *n)
{
    uv_idle_start(&n->behind, on_behind);
}

static void apply_command(struct node *n, uint64_t index, const struct entry *e)
{
    struct command_result result;
    struct command cmd;
    int rv;

    rv = store_apply(n->store, index, e->data, e->len, &result);
    if (rv == -EOPNOTSUPP)
        node_die("the cluster is at a feature level that this program does not know (kvnode " KVFS_VERSION
                 "): start this node with the version that the other nodes have. Nothing is lost");
    if (rv != 0)
        node_die("out of memory while applying");
    if (command_decode(e->data, e->len, &cmd) == KV_OK)
        writes_applied(n->writes, &cmd, &result);
}

/* For names in reports; commands that do not decode are short. */
static const char *op_name(const struct entry *e)
{
    return e->type == ENTRY_COMMAND && e->len > 1 ? command_op_name(e->data[1]) : "barrier";
}

/* One entry, or a step towards it. */
static void apply_some(struct node *n, uint64_t index, struct entry *e)
{
    uint64_t since = clock_boot_ns();
    int rv = 0;

    entry_ref(e); /* an answer may lead to a trim */
    if (e->type == ENTRY_COMMAND)
        rv = store_prepare(n->store, e->data, e->len, STEP_BYTES);
    if (rv < 0)
        node_die("out of memory while applying");
    if (rv == 0) {
        if (e->type == ENTRY_COMMAND)
            apply_command(n, index, e);
        else
            store_skip(n->store, index);
        digest_ring_note(&n->digests, index, store_digest(n->store));
        reads_applied(n->reads);
    }
    turn_part(&n->turn, since, "apply", op_name(e), 0);
    entry_put(e);
}

void node_apply(struct node *n)
{
    struct entry *e = NULL;
    bool more;

    if (n->applying || n->stateless)
        return;
    n->applying = true;
    if (n->apply_until_ns == 0)
        n->apply_until_ns = clock_boot_ns() + TURN_APPLY_NS;
    while (!n->stateless && store_applied(n->store) < consensus_applied(n->consensus)) {
        uint64_t index = store_applied(n->store) + 1;

        e = consensus_entry(n->consensus, index);
        /* Not there: a state file has taken the log's place, and will take the state's. */
        if (e == NULL || turn_time_is_up(n->apply_until_ns))
            break;
        apply_some(n, index, e);
        e = NULL;
    }
    more = store_tidy(n->store);
    if (e != NULL || more || reads_wait_for_time(n->reads))
        node_turn_again(n);
    else
        uv_idle_stop(&n->behind);
    n->applying = false;
}
