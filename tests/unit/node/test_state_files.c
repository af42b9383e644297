/* A state file from one group to another, and one that the other's program cannot read. Both ends are the
 * node's own; the engine, the state and the links between them are the test's. */
#include <endian.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include "kvnode/group/group.h"
#include "kvnode/group/incoming.h"
#include "kvnode/group/outgoing.h"
#include "sync/base/error.h"
#include "sync/raft/engine/configuration.h"
#include "tests/lib/look_again.h"

#define LEADER 1
#define LAGGARD 2
#define FILE_BYTES (700 * 1024)
#define WITHIN_MS 10000

struct end {
    struct group group;
    struct group_owner owner;
    struct peer_links links;
    struct buffer frame; /* that is being made */
    struct end *other;
    uint64_t id;
    enum peer_frame type;
};

/* Frames on their way; those that come back are made while these are taken. */
struct sent {
    struct end *to;
    uint64_t from;
    enum peer_frame type;
    struct buffer bytes;
};

static struct fixture {
    uv_loop_t loop;
    struct turn turn;
    struct config config;
    struct end leader, laggard;
    struct sent sent[256];
    unsigned n_sent;
    uint32_t format; /* of the files that are made */
    unsigned n_made, n_delivered, n_failed, n_received;
} * f;

/* ---- in the place of the engine and of the state ---- */

int consensus_pin_log(struct consensus *c, uint64_t index)
{
    (void)c;
    (void)index;
    return KV_OK;
}

void consensus_unpin_log(struct consensus *c, uint64_t index)
{
    (void)c;
    (void)index;
}

int consensus_snapshot_meta(struct consensus *c, uint64_t index, struct snapshot_meta *out)
{
    struct configuration conf = {.n = 0};

    (void)c;
    configuration_add(&conf, LEADER, "one", SERVER_VOTER);
    *out = (struct snapshot_meta){
        .index = index, .term = 3, .conf_index = 20, .conf = configuration_encode(&conf)};
    return KV_OK;
}

uint64_t consensus_term(const struct consensus *c)
{
    (void)c;
    return 3;
}

int consensus_transfer(struct consensus *c, uint64_t to)
{
    (void)c;
    (void)to;
    return KV_OK;
}

bool consensus_is_leader(const struct consensus *c)
{
    (void)c;
    return true;
}

void consensus_snapshot_sent(struct consensus *c, uint64_t peer)
{
    (void)c;
    (void)peer;
    f->n_delivered++;
}

void consensus_snapshot_failed(struct consensus *c, uint64_t peer)
{
    (void)c;
    (void)peer;
    f->n_failed++;
}

uint64_t consensus_first(const struct consensus *c)
{
    (void)c;
    return 1;
}

uint64_t consensus_applied(const struct consensus *c)
{
    (void)c;
    return 5;
}

bool consensus_snapshot_received(struct consensus *c, uint64_t from, uint64_t term,
                                 const struct snapshot_meta *meta)
{
    (void)c;
    (void)term;
    (void)meta;
    assert_int_equal(from, LEADER);
    f->n_received++;
    return false;
}

uint64_t writeback_durable_index(const struct writeback *wb)
{
    (void)wb;
    return 500;
}

bool writeback_free(struct writeback *wb, bool flush, uint64_t timeout_ms)
{
    (void)flush;
    (void)timeout_ms;
    return wb == NULL;
}

int state_db_snapshot(const char *path, const char *out_path, uint64_t *index_out,
                      char error[STATE_DB_ERROR_MAX])
{
    static uint8_t bytes[FILE_BYTES];
    uint32_t id = htobe32(STATE_DB_APPLICATION_ID), format = htobe32(f->format);
    int fd = open(out_path, O_WRONLY | O_CREAT | O_EXCL, 0600);

    (void)path;
    (void)error;
    memcpy(bytes + 60, &format, sizeof format);
    memcpy(bytes + 68, &id, sizeof id);
    *index_out = 500;
    if (fd < 0 || write(fd, bytes, sizeof bytes) != sizeof bytes)
        return -EIO;
    close(fd);
    f->n_made++;
    return 0;
}

int state_db_verify(const char *path, uint64_t *index_out, uint64_t *digest_out,
                    char error[STATE_DB_ERROR_MAX])
{
    (void)path;
    (void)error;
    *index_out = *digest_out = 0;
    return 0;
}

/* No file is installed here. */
#define NEVER(declaration)                                                                                   \
    declaration                                                                                              \
    {                                                                                                        \
        abort();                                                                                             \
    }
NEVER(void consensus_reset_log(struct consensus *c, const struct snapshot_meta *meta))
NEVER(int state_db_claim(const char *path, const struct state_owner *own, char error[STATE_DB_ERROR_MAX]))
NEVER(int state_db_install(const char *dir, const char *incoming, uint64_t *index_out,
                           char error[STATE_DB_ERROR_MAX]))
NEVER(int state_db_load(const char *path, struct store *s, char error[STATE_DB_ERROR_MAX]))
NEVER(void group_die(const char *why))
NEVER(int group_store_new(struct group *g, struct journal **journal_out, struct store **store_out))
NEVER(void group_store_drop(struct group *g, enum condition why, struct dropped *dropped_out))
NEVER(void group_store_replace(struct group *g, struct journal *journal, struct store *store,
                               struct writeback *writeback))
NEVER(void group_healed(struct group *g))
NEVER(struct state_owner group_state_owner(const struct group *g))
NEVER(int group_start_writeback(struct group *g, const struct state_owner *own, struct journal *journal,
                                struct store *store, struct writeback **out, char *why))
NEVER(void dropped_free(struct dropped *d))

/* ---- links ---- */

static struct buffer *link_begin(void *arg, uint16_t group, uint64_t peer, enum peer_frame type, uint64_t id)
{
    struct end *e = arg;

    (void)id;
    assert_int_equal(peer, e->other->id);
    buffer_clear(&e->frame);
    e->type = type;
    return &e->frame;
}

static void link_end(void *arg, uint64_t peer)
{
    struct end *e = arg;

    (void)peer;
    assert_true(f->n_sent < sizeof f->sent / sizeof f->sent[0]);
    f->sent[f->n_sent++] = (struct sent){.to = e->other, .from = e->id, .type = e->type, .bytes = e->frame};
    e->frame = (struct buffer)BUFFER_INIT;
}

static bool link_up(void *arg, uint64_t peer)
{
    (void)arg;
    (void)peer;
    return true;
}

static size_t link_pending(void *arg, uint64_t peer)
{
    (void)arg;
    (void)peer;
    return 0;
}

static void deliver(void)
{
    for (unsigned i = 0; i < f->n_sent; i++) {
        struct sent *s = &f->sent[i];
        const struct frame frame = {.type = (uint8_t)s->type, .payload = s->bytes.data, .len = s->bytes.len};

        assert_int_equal(peer_handlers_take(&s->to->group.handlers, s->from, &frame), 0);
        buffer_deinit(&s->bytes);
    }
    f->n_sent = 0;
}

static void turn(void)
{
    uv_run(&f->loop, UV_RUN_NOWAIT);
    incoming_turn_end(f->laggard.group.incoming);
    outgoing_turn_end(f->leader.group.outgoing);
    deliver();
}

/* ---- tests ---- */

static void end_init(struct end *e, uint64_t id, struct end *other)
{
    char dir[] = "/tmp/kvfs-files-XXXXXX";

    assert_non_null(mkdtemp(dir));
    e->id = id;
    e->other = other;
    e->links = (struct peer_links){
        .arg = e, .begin = link_begin, .end = link_end, .up = link_up, .pending = link_pending};
    e->owner =
        (struct group_owner){.config = &f->config, .loop = &f->loop, .turn = &f->turn, .links = &e->links};
    e->group.owner = &e->owner;
    e->group.writeback = (struct writeback *)&e->group; /* it is there */
    snprintf(e->group.dir, sizeof e->group.dir, "%s", dir);
    e->group.outgoing = outgoing_new(&e->group);
    e->group.incoming = incoming_new(&e->group);
}

static void end_deinit(struct end *e)
{
    outgoing_free(e->group.outgoing);
    incoming_free(e->group.incoming);
    buffer_deinit(&e->frame);
}

static int setup(void **state)
{
    (void)state;
    f = calloc(1, sizeof *f);
    f->config.name = (char *)"n1";
    f->config.id = LEADER;
    uv_loop_init(&f->loop);
    end_init(&f->leader, LEADER, &f->laggard);
    end_init(&f->laggard, LAGGARD, &f->leader);
    f->format = STATE_DB_USER_VERSION;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    end_deinit(&f->leader);
    end_deinit(&f->laggard);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(rmdir(f->leader.group.dir), 0); /* nothing is left in them */
    assert_int_equal(rmdir(f->laggard.group.dir), 0);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    free(f);
    return 0;
}

static void turns_until_delivered(void)
{
    uint64_t until = 0;

    do
        turn();
    while (f->n_delivered == 0 && look_again(&until, WITHIN_MS));
    assert_int_equal(f->n_delivered, 1);
    assert_int_equal(f->n_received, 1);
}

static void a_file_is_delivered(void **state)
{
    uint32_t format;

    (void)state;
    outgoing_send(f->leader.group.outgoing, LAGGARD);
    turns_until_delivered();
    assert_int_equal(f->n_made, 1);
    assert_false(incoming_refused(f->laggard.group.incoming, &format));
}

static void a_file_of_a_newer_format_is_refused_once_and_taken_when_it_can_be(void **state)
{
    uint64_t until = 0;
    uint32_t format;

    (void)state;
    f->format = STATE_DB_USER_VERSION + 1;
    outgoing_send(f->leader.group.outgoing, LAGGARD);
    do
        turn();
    while (!incoming_refused(f->laggard.group.incoming, &format) && look_again(&until, WITHIN_MS));
    assert_true(incoming_refused(f->laggard.group.incoming, &format));
    assert_int_equal(format, STATE_DB_USER_VERSION + 1);

    /* Neither the engine nor the laggard, which asks for it, makes the leader do it again. */
    for (unsigned i = 0; i < 100; i++) {
        if (i % 10 == 5)
            outgoing_send(f->leader.group.outgoing, LAGGARD);
        if (i % 10 == 9) {
            assert_non_null(link_begin(&f->laggard, 0, LEADER, PEER_WANT_STATE, 0));
            link_end(&f->laggard, LEADER);
        }
        turn();
    }
    assert_int_equal(f->n_made, 1);
    assert_int_equal(f->n_failed, 0);
    assert_int_equal(f->n_received, 0);

    /* It has been upgraded: as if it knew that format. */
    f->format = STATE_DB_USER_VERSION;
    outgoing_linked(f->leader.group.outgoing, LAGGARD);
    turns_until_delivered();
    assert_int_equal(f->n_made, 2);
    assert_false(incoming_refused(f->laggard.group.incoming, &format));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_file_is_delivered),
        TEST(a_file_of_a_newer_format_is_refused_once_and_taken_when_it_can_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
