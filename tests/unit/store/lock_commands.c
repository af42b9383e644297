#include "tests/unit/store/lock_commands.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sync/base/lock_ranges.h"

#define RANGE LOCK_OF_RANGE

int lock_send_as(struct world *w, uint64_t session, uint64_t seq, uint8_t op, const struct command_body *body)
{
    struct buffer b = BUFFER_INIT;
    uint64_t own = w->session;
    int rv;

    command_body_encode(&b, op, body);
    w->acked_below = seq;
    w->session = session; /* whose answers it has */
    rv = world_raw(w, op, session, seq, b.data, b.len);
    w->session = own;
    buffer_deinit(&b);
    return rv;
}

int lock_send(struct world *w, uint64_t session, uint8_t op, const struct command_body *body)
{
    return lock_send_as(w, session, ++w->seq, op, body);
}

struct command_body lock_of(uint64_t ino, uint8_t kind, uint64_t owner, uint8_t flags, uint64_t start,
                            uint64_t end, uint64_t ticket)
{
    return (struct command_body){.ino = ino,
                                 .kind = kind,
                                 .flags = flags,
                                 .owner = owner,
                                 .start = start,
                                 .end = end,
                                 .ticket = ticket,
                                 .pid = (uint32_t)owner + 100};
}

int lock_put_back(struct world *w, uint64_t session, uint64_t ino, uint64_t epoch,
                  const struct lock_put *locks, size_t n)
{
    struct buffer b = BUFFER_INIT;
    struct command_body body = {.ino = ino, .version = epoch, .n_put = n};
    int rv;

    for (size_t i = 0; i < n; i++)
        lock_put_encode(&b, &locks[i]);
    body.put = b.data;
    rv = lock_send(w, session, COMMAND_LOCK_PUT, &body);
    buffer_deinit(&b);
    return rv;
}

uint64_t lock_join(struct world *w, const char *nonce)
{
    uint64_t session;

    assert_int_equal(world_register(w, nonce, &session), KV_OK);
    return session;
}

struct listing {
    char *text;
    uint64_t ino;
};

static bool only(void *arg, uint64_t ino)
{
    const struct listing *l = arg;

    return ino == l->ino;
}

static void add(void *arg, const struct lock_row *row)
{
    struct listing *l = arg;
    size_t at = strlen(l->text);

    if (row->kind == LOCK_DELEGATED)
        snprintf(l->text + at, 1024 - at, "[%llu]", (unsigned long long)row->session);
    else
        snprintf(l->text + at, 1024 - at, "%s%s%llu%c%s", at > 0 ? " " : "", row->wait != 0 ? "?" : "",
                 (unsigned long long)row->owner, (row->exclusive & LOCK_ROW_EXCLUSIVE) != 0 ? 'x' : 's',
                 (row->exclusive & LOCK_ROW_ASKS) != 0    ? "ask"
                 : (row->exclusive & LOCK_ROW_TRIES) != 0 ? "try"
                                                          : "");
}

const char *lock_list(const struct world *w, uint64_t ino)
{
    static char text[1024];
    struct listing l = {text, ino};

    text[0] = '\0';
    store_locks(w->s, ino, &l, only, add);
    return text;
}
