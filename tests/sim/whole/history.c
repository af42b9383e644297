/* The clients' history, object by object, for the checker. */
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"
#include "tests/sim/whole/linear.h"
#include "tests/sim/whole/whole.h"

static const enum linear_kind kinds[OP_KINDS] = {
    [OP_SET] = LINEAR_SET,
    [OP_CAS] = LINEAR_CAS,
    [OP_CREATE] = LINEAR_CREATE,
    [OP_APPEND] = LINEAR_APPEND,
    [OP_UNLINK] = LINEAR_DELETE,
    [OP_DEL] = LINEAR_DELETE,
    [OP_OVERWRITE] = LINEAR_OVERWRITE,
    [OP_RENAME] = LINEAR_RENAME,
    [OP_GET] = LINEAR_READ,
};

/* False: it says nothing about the order. */
static bool convert(const struct op *op, struct linear_op *out)
{
    static const int refusals[OP_KINDS] = {[OP_CAS] = KV_E_VERSION,
                                           [OP_CREATE] = KV_E_EXIST,
                                           [OP_UNLINK] = KV_E_NOENT,
                                           [OP_DEL] = KV_E_NOENT,
                                           [OP_RENAME] = KV_E_NOENT};
    bool publication = op->kind == OP_APPEND || op->kind == OP_OVERWRITE;
    bool idle = op->outcome == OUTCOME_OPEN && op->truth.code != KV_OK; /* best left out */
    uint64_t at = idle ? 0 : op->executed_at != 0 ? op->executed_at : op->revision;

    *out = (struct linear_op){.kind = kinds[op->kind],
                              .a = op->a,
                              .b = op->b,
                              .value = op->kind == OP_GET ? op->content : op->id,
                              .expect = op->expect,
                              .call = op->call,
                              .answered = op->answered,
                              .open = op->outcome == OUTCOME_OPEN,
                              .hint = at == 0 ? INT64_MAX : (int64_t)(2 * at + (op->kind == OP_GET))};
    if (op_is_aside(op) || op->outcome == OUTCOME_NONE || (out->open && op->kind == OP_GET))
        return false;
    if (out->open || op->code == KV_OK)
        return true;
    if (publication && op->code == KV_E_STALE)
        return false; /* the inode that was meant is gone; the name may hold another */
    if (op->code != refusals[op->kind])
        violation("op %lu %s is refused: %s", op->id, op_text(op), error_text(op->code));
    out->refused = true;
    return true;
}

static void check_object(int object)
{
    size_t n = 0, stuck = 0;
    struct linear_op *list = calloc(op_count() + 1, sizeof *list);
    enum linear_result result;

    if (list == NULL)
        abort();
    for (size_t i = 0; i < op_count(); i++)
        if (op_at(i)->object == object && convert(op_at(i), &list[n]))
            n++;
    result = linear_check(list, n, &stuck);
    if (result != LINEAR_YES)
        for (size_t i = 0; options.verbose > 0 && i < n; i++)
            trace("%c kind %d %d>%d value %016lx expect %016lx %ld..%ld%s%s hint %ld",
                  i == stuck                    ? '*'
                  : i == linear_misfit(list, n) ? '!'
                                                : ' ',
                  list[i].kind, list[i].a, list[i].b, list[i].value, list[i].expect, list[i].call,
                  list[i].answered, list[i].open ? " open" : "", list[i].refused ? " refused" : "",
                  list[i].hint);
    free(list);
    if (result == LINEAR_NO)
        violation("the history of object %d is not linearizable", object);
    if (result == LINEAR_GAVE_UP)
        violation("no order was found for the history of object %d", object);
}

void history_check(void)
{
    for (int i = 0; i < N_OBJECTS; i++)
        check_object(i);
}
