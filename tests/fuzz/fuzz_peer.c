/* What peers say to each other besides the engine's messages, commands, state files and
 * health: HELLO, LIVES, ADMISSION and the small ones. What decodes encodes to the
 * same bytes, and no sequence of lives makes a table forget. The first byte chooses. */
#include <stdlib.h>
#include <string.h>

#include "sync/raft/engine/configuration.h"
#include "sync/raft/engine/incarnation.h"
#include "sync/wire/peer_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_be_same(struct buffer *b, const uint8_t *data, size_t size)
{
    if (!b->failed && (b->len != size || memcmp(b->data, data, size) != 0))
        abort();
    buffer_deinit(b);
}

/* A later record of an era never takes back what an earlier one said. */
static void merge(struct incarnations *table, const struct incarnation *said)
{
    struct incarnation *known = incarnations_find(table, said->id), was;
    unsigned n = table->n;
    enum incarnation_news news;

    if (known != NULL)
        was = *known;
    news = incarnations_merge(table, said);
    if (known == NULL) {
        if ((table->n == n) != (news == INCARNATION_OLD_NEWS) || (n == INCARNATIONS_MAX) != (table->n == n))
            abort();
        return;
    }
    if (known->era < was.era ||
        (known->era == was.era && (known->index < was.index || known->term < was.term ||
                                   known->boot < was.boot || (was.gone && !known->gone))))
        abort();
    if (incarnations_merge(table, said) != INCARNATION_OLD_NEWS && !known->gone)
        abort(); /* the same again is no news */
}

static bool lives(struct cursor *in, const uint8_t *data, size_t size)
{
    static struct incarnations table;
    struct incarnations said;
    struct buffer b = BUFFER_INIT;

    if (!incarnations_decode(in, &said))
        return false;
    incarnations_encode(&b, &said);
    must_be_same(&b, data, size - in->len);
    table.n = 0;
    for (unsigned i = 0; i < said.n; i++)
        merge(&table, &said.all[i]);
    /* And what one table says of the first node of another. */
    for (unsigned i = 0; i < said.n && said.n > 0; i++) {
        struct incarnation one = said.all[i];

        one.id = said.all[0].id;
        merge(&table, &one);
        incarnation_fault_text(incarnation_check(&said.all[0], &one));
    }
    return cursor_done(in);
}

static void hello(const uint8_t *data, size_t size)
{
    struct cursor in = cursor_of(data, size);
    struct buffer b = BUFFER_INIT;
    struct peer_hello h;
    char name[256] = "";

    if (!peer_hello_decode(&in, &h) || !h.same_protocol || h.name_len >= sizeof name ||
        memchr(h.name, '\0', h.name_len) != NULL)
        return;
    memcpy(name, h.name, h.name_len);
    peer_hello_encode(&b, h.cluster, h.id, name);
    must_be_same(&b, data, size - in.len);
    lives(&in, data + (size - in.len), in.len);
}

static void admission(const uint8_t *data, size_t size)
{
    static struct configuration conf;
    struct cursor in = cursor_of(data, size);
    struct buffer b = BUFFER_INIT;
    struct peer_admission a;
    struct entry *e;

    if (!peer_admission_decode(&in, &a))
        return;
    peer_admission_encode(&b, &a);
    must_be_same(&b, data, size);
    if (configuration_decode(a.configuration, a.len, &conf) != 0)
        return;
    e = configuration_encode(&conf);
    if (e != NULL && (e->len != a.len || memcmp(e->data, a.configuration, a.len) != 0))
        abort();
    entry_put(e);
}

static void status(const uint8_t *data, size_t size)
{
    struct cursor in = cursor_of(data, size);
    struct buffer b = BUFFER_INIT;
    struct peer_status s, again;

    if (!peer_status_decode(&in, &s))
        return;
    peer_status_encode(&b, &s); /* in the order and with the fields of this build */
    in = cursor_of(b.data, b.len);
    if (!b.failed &&
        (!peer_status_decode(&in, &again) || again.role != s.role || again.term != s.term ||
         again.applied != s.applied || again.digest_index != s.digest_index || again.digest != s.digest ||
         again.flags != s.flags || memcmp(&again.health, &s.health, sizeof s.health) != 0))
        abort();
    buffer_deinit(&b);
}

static void small(unsigned which, const uint8_t *data, size_t size)
{
    struct cursor in = cursor_of(data, size);
    struct buffer b = BUFFER_INIT;
    struct peer_refused refused;
    struct peer_read_answer read_answer;
    struct peer_verify verify;
    struct peer_verify_answer answer;
    uint64_t id;

    switch (which) {
    case 0:
        if (!peer_id_decode(&in, &id))
            return;
        peer_id_encode(&b, id);
        break;
    case 1:
        if (!peer_verify_decode(&in, &verify))
            return;
        peer_verify_encode(&b, &verify);
        break;
    case 2:
        if (!peer_refused_decode(&in, &refused))
            return;
        peer_refused_encode(&b, &refused);
        break;
    case 3:
        if (!peer_read_answer_decode(&in, &read_answer))
            return;
        peer_read_answer_encode(&b, &read_answer);
        break;
    case 4:
        if (!peer_verify_answer_decode(&in, &answer))
            return;
        if (answer.place > PEER_PLACE_STATELESS || answer.error_len > PEER_ERROR_MAX)
            abort();
        peer_verify_answer_encode(&b, &answer);
        break;
    default:
        status(data, size);
        return;
    }
    must_be_same(&b, data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cursor in;

    if (size == 0)
        return 0;
    in = cursor_of(data + 1, size - 1);
    switch (data[0] % 4) {
    case 0:
        hello(data + 1, size - 1);
        break;
    case 1:
        lives(&in, data + 1, size - 1);
        break;
    case 2:
        admission(data + 1, size - 1);
        break;
    default:
        small(data[0] / 4 % 6, data + 1, size - 1);
    }
    return 0;
}
