/* What large commands leave: buffers of up to the longest value, whose memory would take
 * ten milliseconds and more to be given back at once. */
#include <stdlib.h>

#include "kvnode/state/store_internal.h"

#define LARGE ((size_t)2 * 1024 * 1024)

struct spent {
    struct spent *next;
    struct buffer memory;
};

void store_spend(struct store *s, struct buffer *b)
{
    struct spent *spent = b->cap > LARGE ? malloc(sizeof *spent) : NULL;

    if (spent == NULL) {
        buffer_deinit(b);
        return;
    }
    *spent = (struct spent){s->spent, *b};
    *b = (struct buffer)BUFFER_INIT;
    s->spent = spent;
}

bool store_tidy(struct store *s)
{
    struct spent *spent = s->spent;

    if (spent != NULL && !buffer_shed(&spent->memory, LARGE)) {
        s->spent = spent->next;
        free(spent);
    }
    return s->spent != NULL;
}

void store_spent_free(struct store *s)
{
    while (s->spent != NULL) {
        struct spent *spent = s->spent;

        s->spent = spent->next;
        buffer_deinit(&spent->memory);
        free(spent);
    }
}
