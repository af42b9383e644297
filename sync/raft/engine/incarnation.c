#include "sync/raft/engine/incarnation.h"

#include <stddef.h>
#include <string.h>

static bool is_later(const struct incarnation *a, const struct incarnation *b)
{
    return a->era != b->era ? a->era > b->era : a->boot > b->boot;
}

/* Whether a life that is known is another one than that of its number which came before `said`. */
static bool came_otherwise(const struct incarnation *known, const struct incarnation *said)
{
    uint64_t ago = said->boot - known->boot;

    return ago >= 1 && ago <= INCARNATION_PAST && known->nonce != 0 && said->past[ago - 1] != 0 &&
           said->past[ago - 1] != known->nonce;
}

enum incarnation_fault incarnation_check(const struct incarnation *known, const struct incarnation *said)
{
    if (said->era > known->era)
        return INCARNATION_FINE;
    if (said->era < known->era)
        return INCARNATION_OLD_ERA;
    if (said->boot < known->boot)
        return INCARNATION_OLD_BOOT;
    /* How far it got within one life may be told late: no contradiction. */
    if (said->boot == known->boot && said->nonce != known->nonce)
        return INCARNATION_TWIN;
    if (came_otherwise(known, said))
        return INCARNATION_TWIN;
    if (said->boot > known->boot && said->born_index < known->index)
        return INCARNATION_LOG_SHORT;
    if (said->boot > known->boot && said->born_term < known->term)
        return INCARNATION_TERM_LOW;
    return known->gone || said->gone ? INCARNATION_KNOWN_GONE : INCARNATION_FINE;
}

const char *incarnation_fault_text(enum incarnation_fault fault)
{
    static const char *const texts[] = {
        [INCARNATION_FINE] = "nothing",
        [INCARNATION_KNOWN_GONE] = "its files were found to be older than what it has acknowledged",
        [INCARNATION_OLD_ERA] = "it was let in anew since these files were written",
        [INCARNATION_OLD_BOOT] = "it has been started more often than its files know",
        [INCARNATION_TWIN] = "its files were started once before, with another outcome",
        [INCARNATION_LOG_SHORT] = "its log ends before what it has acknowledged",
        [INCARNATION_TERM_LOW] = "its files are older than a term in which it may have voted",
    };

    return texts[fault];
}

struct incarnation *incarnations_find(struct incarnations *t, uint64_t id)
{
    for (unsigned i = 0; i < t->n; i++)
        if (t->all[i].id == id)
            return &t->all[i];
    return NULL;
}

struct incarnation *incarnations_get(struct incarnations *t, uint64_t id)
{
    struct incarnation *found = incarnations_find(t, id);

    if (found != NULL || t->n == INCARNATIONS_MAX)
        return found;
    t->all[t->n] = (struct incarnation){.id = id};
    return &t->all[t->n++];
}

static uint64_t max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

enum incarnation_news incarnations_merge(struct incarnations *t, const struct incarnation *said)
{
    struct incarnation *known = incarnations_find(t, said->id);
    struct incarnation was, *later;
    uint64_t past[INCARNATION_PAST];
    bool gone;

    if (known == NULL) {
        known = incarnations_get(t, said->id);
        if (known == NULL)
            return INCARNATION_OLD_NEWS;
        *known = *said;
        return INCARNATION_NEWS;
    }
    was = *known;
    if (said->era != known->era) {
        if (said->era > known->era)
            *known = *said;
    } else {
        /* The later life has to have begun with all that the earlier one had. */
        gone = is_later(said, known) ? incarnation_check(known, said) != INCARNATION_FINE
                                     : incarnation_check(said, known) != INCARNATION_FINE;
        later = is_later(said, known) ? (struct incarnation *)said : known;
        memcpy(past, later->past, sizeof past); /* later may be known itself */
        *known = (struct incarnation){.id = was.id,
                                      .era = was.era,
                                      .boot = later->boot,
                                      .nonce = later->nonce,
                                      .born_index = later->born_index,
                                      .born_term = later->born_term,
                                      .index = max(was.index, said->index),
                                      .term = max(was.term, said->term),
                                      .gone = gone};
        memcpy(known->past, past, sizeof past);
    }
    if (known->era != was.era || known->boot != was.boot || known->nonce != was.nonce ||
        known->gone != was.gone || (was.index == 0) != (known->index == 0))
        return INCARNATION_NEWS;
    return known->index != was.index || known->term != was.term ? INCARNATION_PROGRESS : INCARNATION_OLD_NEWS;
}

void incarnation_encode(struct buffer *b, const struct incarnation *i)
{
    buffer_put_u64(b, i->id);
    buffer_put_u64(b, i->era);
    buffer_put_u64(b, i->boot);
    buffer_put_u64(b, i->nonce);
    buffer_put_u64(b, i->born_index);
    buffer_put_u64(b, i->born_term);
    buffer_put_u64(b, i->index);
    buffer_put_u64(b, i->term);
    for (size_t k = 0; k < INCARNATION_PAST; k++)
        buffer_put_u64(b, i->past[k]);
    buffer_put_u8(b, i->gone ? 1 : 0);
}

bool incarnation_decode(struct cursor *in, struct incarnation *out)
{
    uint8_t gone;

    out->id = cursor_u64(in);
    out->era = cursor_u64(in);
    out->boot = cursor_u64(in);
    out->nonce = cursor_u64(in);
    out->born_index = cursor_u64(in);
    out->born_term = cursor_u64(in);
    out->index = cursor_u64(in);
    out->term = cursor_u64(in);
    for (size_t k = 0; k < INCARNATION_PAST; k++)
        out->past[k] = cursor_u64(in);
    gone = cursor_u8(in);
    out->gone = gone != 0;
    return !in->failed && out->id != 0 && gone <= 1;
}

void incarnations_encode(struct buffer *b, const struct incarnations *t)
{
    buffer_put_u16(b, (uint16_t)t->n);
    for (unsigned i = 0; i < t->n; i++)
        incarnation_encode(b, &t->all[i]);
}

bool incarnations_decode(struct cursor *in, struct incarnations *out)
{
    unsigned n = cursor_u16(in);

    out->n = 0;
    if (in->failed || n > INCARNATIONS_MAX)
        return false;
    for (; out->n < n; out->n++) {
        struct incarnation next;

        if (!incarnation_decode(in, &next) || incarnations_find(out, next.id) != NULL)
            return false;
        out->all[out->n] = next;
    }
    return true;
}
