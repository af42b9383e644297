/* Lock tables that a session has for itself: whatever is asked of three sessions that take and give back
 * tables, the answers are those of three that do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kvnode/state/store_internal.h"
#include "sync/base/lock_ranges.h"
#include "tests/unit/store/lock_commands.h"
#include "tests/unit/store/place.h"

#define END LOCK_RANGE_END
#define FLOCK LOCK_OF_FLOCK
#define RANGE LOCK_OF_RANGE
#define EXCLUSIVE LOCK_FLAG_EXCLUSIVE
#define WAIT LOCK_FLAG_WAIT
#define TAKE LOCK_FLAG_TAKE

#define MOUNTS 3
#define INODES 3

/* What such a mount does: it decides in the tables that it has, and gives one back when it is wanted, or when
 * somebody would have to wait in it. */
struct mount {
    uint64_t session;
    uint64_t epoch[INODES]; /* 0: it has it not */
    struct lock_put held[INODES][LOCK_PUT_MAX];
    size_t n[INODES];
};

struct both {
    struct world *w;    /* with tables */
    struct world plain; /* without */
    struct mount mounts[MOUNTS];
    char told[2][512]; /* what has ended, in both */
    bool late;         /* who is wanted gives back later */
    bool wanted[MOUNTS][INODES];
    unsigned seed;
    uint64_t tickets, here, recalls, deadlocks, refused;
    bool broken; /* a planted bug: a mount that gives nothing back of what it has */
};

static int die(struct both *b, int n)
{
    return rand_r(&b->seed) % n;
}

static void remember(char *to, const char *what)
{
    size_t at = strlen(to);

    snprintf(to + at, 512 - at, "%s%s", at > 0 && *what != '\0' ? " " : "", what);
}

/* Of told(), the waits that have ended. */
static void after_command(struct both *b)
{
    for (int i = 0; i < b->w->n_events; i++) {
        const struct world_event *e = &b->w->events[i];
        char text[64];

        if (e->kind != EVENT_NOTHING || e->parent == 0)
            continue;
        if (e->new_parent != 0) {
            snprintf(text, sizeof text, "%llu!%d", (unsigned long long)e->new_parent, (int)e->base_revision);
            remember(b->told[0], text);
            continue;
        }
        for (int m = 0; m < MOUNTS; m++)
            if (b->mounts[m].session == e->parent && b->mounts[m].epoch[e->ino - 9] == e->base_revision)
                b->wanted[m][e->ino - 9] = true;
    }
}

static void give_back(struct both *b, int m, int i)
{
    struct mount *x = &b->mounts[m];
    uint64_t epoch = x->epoch[i];

    x->epoch[i] = 0;
    b->wanted[m][i] = false;
    b->recalls++;
    assert_int_equal(
        lock_put_back(b->w, x->session, 9 + (uint64_t)i, epoch, x->held[i], b->broken ? 0 : x->n[i]), KV_OK);
    x->n[i] = 0;
    after_command(b);
}

static void give_back_what_is_wanted(struct both *b)
{
    for (int m = 0; m < MOUNTS; m++)
        for (int i = 0; i < INODES; i++)
            if (b->wanted[m][i] && (!b->late || die(b, 3) == 0))
                give_back(b, m, i);
}

/* Ranges of the same owner are cut; the table has room for what comes of it here. */
static void set_here(struct mount *x, int i, const struct command_body *l, int mode)
{
    struct lock_ranges r = {0};
    struct lock_put rest[LOCK_PUT_MAX];
    size_t n = 0;

    for (size_t k = 0; k < x->n[i]; k++) {
        const struct lock_put *h = &x->held[i][k];

        if (h->kind == l->kind && h->owner == l->owner)
            lock_ranges_set(&r, h->start, h->end, h->exclusive != 0 ? LOCK_EXCLUSIVE : LOCK_SHARED);
        else
            rest[n++] = *h;
    }
    lock_ranges_set(&r, l->start, l->end, (enum lock_mode)mode);
    for (size_t k = 0; k < r.n && n < LOCK_PUT_MAX; k++)
        rest[n++] = (struct lock_put){.kind = l->kind,
                                      .exclusive = r.at[k].mode == LOCK_EXCLUSIVE,
                                      .owner = l->owner,
                                      .start = r.at[k].start,
                                      .end = r.at[k].end,
                                      .pid = l->pid};
    lock_ranges_deinit(&r);
    assert_true(n < LOCK_PUT_MAX);
    memcpy(x->held[i], rest, n * sizeof *rest);
    x->n[i] = n;
}

static bool is_in_the_way(const struct mount *x, int i, const struct command_body *l)
{
    for (size_t k = 0; k < x->n[i]; k++) {
        const struct lock_put *h = &x->held[i][k];

        if (h->kind == l->kind && h->owner != l->owner && h->start <= l->end && l->start <= h->end &&
            (h->exclusive != 0 || (l->flags & EXCLUSIVE) != 0))
            return true;
    }
    return false;
}

/* What a program is told: KV_OK, KV_E_LOCKED, KV_E_DEADLK, or -1: it waits. */
static int lock_with_tables(struct both *b, int m, int i, struct command_body l)
{
    struct mount *x = &b->mounts[m];
    int rv;

    if (x->epoch[i] != 0) {
        b->here++;
        if (!is_in_the_way(x, i, &l)) {
            set_here(x, i, &l, (l.flags & EXCLUSIVE) != 0 ? LOCK_EXCLUSIVE : LOCK_SHARED);
            return KV_OK;
        }
        if ((l.flags & WAIT) == 0)
            return KV_E_LOCKED;
        give_back(b, m, i);
    }
    l.flags |= die(b, 4) != 0 ? TAKE : 0;
    rv = lock_send(b->w, x->session, COMMAND_LOCK_TAKE, &l);
    if (rv == KV_OK && b->w->result.created == 1) {
        x->epoch[i] = b->w->result.base_revision;
        if (x->epoch[i] != 0)
            set_here(x, i, &l, (l.flags & EXCLUSIVE) != 0 ? LOCK_EXCLUSIVE : LOCK_SHARED);
    } else if (rv == KV_OK) {
        rv = -1;
    }
    after_command(b);
    return rv;
}

static void unlock_with_tables(struct both *b, int m, int i, const struct command_body *l)
{
    struct mount *x = &b->mounts[m];

    if (x->epoch[i] != 0) {
        set_here(x, i, l, LOCK_NONE);
        return;
    }
    assert_int_equal(lock_send(b->w, x->session, COMMAND_UNLOCK, l), KV_OK);
    after_command(b);
}

/* The plain one has the same tickets, so what ends there has the same names. */
static int plain(struct both *b, int m, uint8_t op, const struct command_body *l)
{
    struct world *w = &b->plain;
    int rv = lock_send(w, b->mounts[m].session, op, l);

    for (int i = 0; i < w->n_events; i++) {
        char text[64];

        if (w->events[i].kind != EVENT_NOTHING || w->events[i].parent == 0)
            continue;
        snprintf(text, sizeof text, "%llu!%d", (unsigned long long)w->events[i].new_parent,
                 (int)w->events[i].base_revision);
        remember(b->told[1], text);
    }
    return op == COMMAND_LOCK && rv == KV_OK && w->result.created == 0 ? -1 : rv;
}

/* "7!33": what the last try, which waited for the table, was told; taken out of the text. */
static int taken_out(char *text, uint64_t ticket)
{
    char name[32], *at, *end;
    int code;

    snprintf(name, sizeof name, "%llu!", (unsigned long long)ticket);
    at = strstr(text, name);
    if (at == NULL || (at != text && at[-1] != ' '))
        return -1;
    code = (int)strtol(at + strlen(name), &end, 10);
    memmove(at, *end == ' ' ? end + 1 : end, strlen(*end == ' ' ? end + 1 : end) + 1);
    if (*at == '\0' && at != text)
        at[-1] = '\0';
    return code;
}

/* Everybody leaves a file, and those who waited for it in their turn. */
static bool everybody_leaves(struct both *b, int i)
{
    for (int round = 0; round < 24; round++)
        for (int m = 0; m < MOUNTS; m++)
            for (int k = 0; k < 4; k++) {
                const struct command_body l =
                    lock_of(9 + (uint64_t)i, (uint8_t)(k / 2), 1 + (uint64_t)k % 2, 0, 0, END, 0);

                unlock_with_tables(b, m, i, &l);
                plain(b, m, COMMAND_UNLOCK, &l);
                b->w->elapsed_ms = b->plain.elapsed_ms = 1000;
                if (strcmp(b->told[0], b->told[1]) != 0)
                    return false;
                b->told[0][0] = b->told[1][0] = '\0';
            }
    return true;
}

/* One thing that a program asks, of both. */
static bool same_step(struct both *b)
{
    int m = die(b, MOUNTS), i = die(b, INODES);
    struct command_body l = lock_of(9 + (uint64_t)i, (uint8_t)die(b, 2), 1 + (uint64_t)die(b, 2),
                                    (uint8_t)die(b, 4), (uint64_t)die(b, 16), 0, 0);
    int first, second;

    b->w->elapsed_ms = b->plain.elapsed_ms = 1000; /* nobody is silent for too long */
    l.end = die(b, 8) == 0 ? END : l.start + (uint64_t)die(b, 8);
    if (l.kind == FLOCK) {
        l.start = 0;
        l.end = END;
    }
    b->told[0][0] = b->told[1][0] = '\0';
    if (die(b, 20) == 0)
        return everybody_leaves(b, i);
    if (die(b, 3) == 0) {
        unlock_with_tables(b, m, i, &l);
        plain(b, m, COMMAND_UNLOCK, &l);
        give_back_what_is_wanted(b);
    } else if (die(b, 4) == 0) {
        l.ticket = b->tickets > 4 ? b->tickets - (uint64_t)die(b, 4) : 1;
        first = lock_send(b->w, b->mounts[m].session, COMMAND_UNWAIT, &l);
        after_command(b);
        second = plain(b, m, COMMAND_UNWAIT, &l);
        if (first != second)
            return false;
    } else {
        l.ticket = ++b->tickets;
        first = lock_with_tables(b, m, i, l);
        give_back_what_is_wanted(b);
        second = plain(b, m, COMMAND_LOCK, &l);
        if (first == -1) {
            int code = taken_out(b->told[0], l.ticket);

            first = code >= 0 ? code : -1;
        }
        b->deadlocks += first == KV_E_DEADLK;
        b->refused += first == KV_E_LOCKED;
        if (first != second)
            return false;
    }
    return strcmp(b->told[0], b->told[1]) == 0 && world_digest_is_right(b->w);
}

static void both_begin(struct both *b, struct world *w, unsigned seed)
{
    static const char *const nonces[] = {"the first session", "the other session", "the third session"};

    b->w = w;
    b->seed = seed;
    world_init(&b->plain, false);
    for (int m = 0; m < MOUNTS; m++) {
        uint64_t of_plain = lock_join(&b->plain, nonces[m]);

        b->mounts[m].session = lock_join(w, nonces[m]);
        assert_true(of_plain == b->mounts[m].session);
    }
}

static void programs_are_told_the_same_with_tables_and_without(void **state)
{
    struct place *p = *state;
    struct both b = {0};

    both_begin(&b, &p->w, 5);
    for (int i = 0; i < 12000; i++) {
        if (!same_step(&b))
            fail_msg("step %d: with tables \"%s\", without \"%s\"", i, b.told[0], b.told[1]);
        if (i % 2000 == 1999)
            place_restart(p);
    }
    print_message("# decided in a table %d, given back %d, refused %d, deadlocks %d\n", (int)b.here,
                  (int)b.recalls, (int)b.refused, (int)b.deadlocks);
    assert_true(b.here > 100 && b.recalls > 200 && b.refused > 200 && b.deadlocks > 20);
    world_deinit(&b.plain);
}

/* That the comparison can find something: a mount that forgets what it has. */
static void a_mount_that_gives_back_less_is_found(void **state)
{
    struct place *p = *state;
    struct both b = {.broken = true};
    int i = 0;

    both_begin(&b, &p->w, 5);
    while (i < 2000 && same_step(&b))
        i++;
    assert_true(i < 2000);
    world_deinit(&b.plain);
}

/* Those who are wanted take their time: never two that are in each other's way, nobody waits for nothing, and
 * all as in the file. */
static void whoever_takes_his_time_the_state_is_sound(void **state)
{
    struct place *p = *state;
    struct both b = {.late = true};

    both_begin(&b, &p->w, 7);
    for (int i = 0; i < 6000; i++) {
        int m = die(&b, MOUNTS), ino = die(&b, INODES);
        struct command_body l = lock_of(9 + (uint64_t)ino, (uint8_t)die(&b, 2), 1 + (uint64_t)die(&b, 2),
                                        (uint8_t)die(&b, 4), 0, END, ++b.tickets);

        p->w.elapsed_ms = 1000;
        b.told[0][0] = '\0';
        if (!b.wanted[m][ino] && die(&b, 2) == 0)
            unlock_with_tables(&b, m, ino, &l);
        else if (!b.wanted[m][ino])
            lock_with_tables(&b, m, ino, l);
        give_back_what_is_wanted(&b);
        assert_true(world_digest_is_right(&p->w));
        if (i % 500 == 0)
            place_restart(p);
    }
    b.late = false;
    for (int round = 0; round < 2000; round++) {
        p->w.elapsed_ms = 1000;
        give_back_what_is_wanted(&b);
        for (int m = 0; m < MOUNTS; m++) {
            struct command_body l = lock_of(9 + (uint64_t)round % INODES, (uint8_t)(round / INODES % 2),
                                            1 + (uint64_t)(round / (2 * INODES) % 2), 0, 0, END, 0);

            unlock_with_tables(&b, m, round % INODES, &l);
        }
    }
    for (int i = 0; i < INODES; i++) {
        for (int m = 0; m < MOUNTS; m++)
            if (b.mounts[m].epoch[i] != 0)
                give_back(&b, m, i);
        assert_string_equal(lock_list(&p->w, 9 + (uint64_t)i), "");
    }
    world_deinit(&b.plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define OF_PLACE(test) cmocka_unit_test_setup_teardown(test, place_setup, place_teardown_whole)
        OF_PLACE(programs_are_told_the_same_with_tables_and_without),
        OF_PLACE(a_mount_that_gives_back_less_is_found),
        OF_PLACE(whoever_takes_his_time_the_state_is_sound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
