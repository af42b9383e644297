#include "sync/raft/engine/entry.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct entry *entry_new_reserve(enum entry_type type, size_t len)
{
    struct entry *e;

    if (len > ENTRY_MAX_LEN)
        return NULL;
    e = malloc(sizeof *e + len);
    if (e == NULL)
        return NULL;
    atomic_init(&e->refs, 1);
    e->type = (uint8_t)type;
    e->len = (uint32_t)len;
    e->term = 0;
    return e;
}

struct entry *entry_new(enum entry_type type, const void *data, size_t len)
{
    struct entry *e = entry_new_reserve(type, len);

    if (e != NULL && len > 0)
        memcpy(e->data, data, len);
    return e;
}

struct entry *entry_ref(struct entry *e)
{
    atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
    return e;
}

void entry_put(struct entry *e)
{
    /* Release our reads and writes to whoever frees; acquire theirs when that is us. */
    if (e != NULL && atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) == 1)
        free(e);
}
