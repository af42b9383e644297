#include "kvnode/group/fair_queue.h"

#include <stdlib.h>

#include "sync/wire/command.h"

/* What a session may send in its turn: one large command, some dozens of small ones. */
#define QUANTUM_SMALL (16 * 1024)
#define QUANTUM_LARGE (256 * 1024)

static void class_init(struct fair_class *c, size_t quantum)
{
    *c = (struct fair_class){.quantum = quantum};
    TAILQ_INIT(&c->lanes);
}

void fair_queue_init(struct fair_queue *q)
{
    class_init(&q->small, QUANTUM_SMALL);
    class_init(&q->large, QUANTUM_LARGE);
}

static struct fair_class *class_of(struct fair_queue *q, const struct fair_item *item)
{
    return item->large ? &q->large : &q->small;
}

static struct fair_lane *lane_get(struct fair_class *c, uint64_t session)
{
    struct fair_lane *lane;

    HASH_FIND(hh, c->by_session, &session, sizeof session, lane);
    if (lane != NULL)
        return lane;
    lane = calloc(1, sizeof *lane);
    if (lane == NULL)
        return NULL;
    lane->session = session;
    TAILQ_INIT(&lane->items);
    HASH_ADD(hh, c->by_session, session, sizeof lane->session, lane);
    if (!HASH_ADDED(hh, lane)) {
        free(lane);
        return NULL;
    }
    lane->credit = c->quantum;
    TAILQ_INSERT_TAIL(&c->lanes, lane, link);
    return lane;
}

static void lane_put(struct fair_class *c, struct fair_lane *lane)
{
    if (!TAILQ_EMPTY(&lane->items))
        return;
    TAILQ_REMOVE(&c->lanes, lane, link);
    HASH_DELETE(hh, c->by_session, lane);
    free(lane);
}

struct fair_item *fair_queue_add(struct fair_queue *q, const struct command *cmd, struct entry *e)
{
    struct fair_item *item = calloc(1, sizeof *item);
    struct fair_class *c;

    if (item == NULL)
        return NULL;
    item->large = cmd->op == COMMAND_PART || (cmd->flags & COMMAND_PARTS) != 0 || e->len > FAIR_SMALL_MAX;
    c = class_of(q, item);
    item->session = cmd->session;
    item->lane = lane_get(c, cmd->session);
    if (item->lane == NULL) {
        free(item);
        return NULL;
    }
    item->entry = entry_ref(e);
    TAILQ_INSERT_TAIL(&item->lane->items, item, link);
    c->n++;
    c->bytes += e->len;
    return item;
}

static void take_out(struct fair_queue *q, struct fair_item *item)
{
    struct fair_class *c = class_of(q, item);
    struct fair_lane *lane = item->lane;

    TAILQ_REMOVE(&lane->items, item, link);
    item->lane = NULL;
    c->n--;
    c->bytes -= item->entry->len;
    lane_put(c, lane);
}

/* A turn ends with the item that uses the credit up. */
struct fair_item *fair_queue_take(struct fair_queue *q, bool large)
{
    struct fair_class *c = large ? &q->large : &q->small;
    struct fair_lane *lane = TAILQ_FIRST(&c->lanes);
    struct fair_item *item;

    if (lane == NULL)
        return NULL;
    item = TAILQ_FIRST(&lane->items);
    if (lane->credit > item->entry->len) {
        lane->credit -= item->entry->len;
    } else {
        lane->credit = c->quantum;
        TAILQ_REMOVE(&c->lanes, lane, link);
        TAILQ_INSERT_TAIL(&c->lanes, lane, link);
    }
    take_out(q, item);
    return item;
}

void fair_item_free(struct fair_item *item)
{
    entry_put(item->entry);
    free(item);
}

void fair_queue_drop(struct fair_queue *q, struct fair_item *item)
{
    take_out(q, item);
    fair_item_free(item);
}

static void class_deinit(struct fair_queue *q, struct fair_class *c)
{
    while (!TAILQ_EMPTY(&c->lanes))
        fair_queue_drop(q, TAILQ_FIRST(&TAILQ_FIRST(&c->lanes)->items));
}

void fair_queue_deinit(struct fair_queue *q)
{
    class_deinit(q, &q->small);
    class_deinit(q, &q->large);
}
