/* Everything but the protocol, on the socket where sshd's bridges hand streams over.
 * Whoever can open it is the node's own user, so this is about accidents: old
 * versions, mixed-up keys, a bridge that dies in the middle of a frame. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/fault/lib/caller.h"
#include "tests/fault/lib/peer_frames.h"
#include "tests/fault/lib/raw.h"

#define NODES 3

static struct cluster *cluster;
static struct dice dice;
static uint64_t cluster_id;
static char sockets[NODES][200];

static int setup(void **state)
{
    const struct cluster_options options = {.n = NODES, .files = 256};
    struct rlimit files = {4096, 4096};
    struct caller c;
    const char *skip;
    unsigned i;

    (void)state;
    setrlimit(RLIMIT_NOFILE, &files);
    dice_init(&dice, "garbage_peer");
    cluster = cluster_new(&options, &skip);
    if (cluster == NULL)
        return -1;
    for (i = 0; i < NODES; i++)
        snprintf(sockets[i], sizeof sockets[i], "%s/peer.sock", cluster->nodes[i].data);
    caller_init(&c, cluster, 0);
    if (caller_ask(&c, MESSAGE_BARRIER, NULL, 5000, NULL) != 0)
        return -1;
    cluster_id = c.node.cluster_id;
    caller_deinit(&c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return cluster_free(cluster) ? 0 : -1;
}

static void assert_well(void)
{
    unsigned i;

    for (i = 0; i < NODES; i++) {
        struct command_result result;
        struct caller w;

        assert_true(cluster_runs(cluster, i));
        caller_init(&w, cluster, i);
        w.pinned = true;
        assert_int_equal(caller_set(&w, "well", cluster->nodes[i].name, 2, 9000, &result), 0);
        caller_deinit(&w);
    }
    assert_true(cluster_equal(cluster, 20000));
}

/* A stream handed over to n3, which n1 dials. */
static int send_as(const char *key, const struct buffer *b)
{
    int fd = peer_stream(sockets[2], key);

    assert_true(fd >= 0);
    raw_send(fd, b->data, b->len, 5000);
    return fd;
}

static void what_is_no_bridge_is_closed(void **state)
{
    unsigned n = 100 * rounds(1), i, k;

    (void)state;
    for (i = 0; i < n; i++) {
        uint8_t junk[500];
        size_t len = 1 + dice_roll(&dice, sizeof junk);
        int fd;

        for (k = 0; k < len; k++)
            junk[k] = (uint8_t)dice_roll(&dice, 256);
        if (i % 2 == 0)
            memcpy(junk, "KVBR\2\0\0\0", len < 8 ? len : 8);
        fd = peer_open(sockets[i % NODES]);
        assert_true(fd >= 0);
        raw_send(fd, junk, len, 5000);
        assert_true(raw_closed(fd, 5000));
        close(fd);
    }
    assert_well();
}

static void a_hello_must_fit_the_key(void **state)
{
    const struct {
        const char *key, *name;
        uint64_t cluster;
        uint16_t id;
    } wrong[] = {
        {"n1", "n1", cluster_id + 1, 1}, {"n1", "n2", cluster_id, 1}, {"n1", "n1", cluster_id, 2},
        {"n1", "", cluster_id, 1},       {"n1", "n1", 0, 0},          {"n3", "n3", cluster_id, 3},
        {"zz", "zz", cluster_id, 1},
    };
    unsigned i;

    (void)state;
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct buffer b = BUFFER_INIT;
        int fd;

        peer_hello(&b, wrong[i].cluster, wrong[i].id, wrong[i].name, NULL);
        fd = send_as(wrong[i].key, &b);
        assert_true(raw_closed(fd, 5000));
        close(fd);
        buffer_deinit(&b);
    }
    assert_well();
}

static void nothing_is_taken_before_the_hello(void **state)
{
    unsigned type;

    (void)state;
    for (type = 0; type < 256; type++) {
        struct buffer b = BUFFER_INIT;
        int fd;

        if (type == PEER_FIRST)
            continue;
        peer_frame(&b, (uint8_t)type, 1, 3, type);
        fd = send_as("n1", &b);
        assert_true(raw_closed(fd, 5000));
        close(fd);
        buffer_deinit(&b);
    }
    assert_well();
}

/* As the dialling node itself, whose real link is replaced each time and comes back. */
static void garbage_from_a_peer_ends_its_link_only(void **state)
{
    unsigned n = 150 * rounds(1), i, k;

    (void)state;
    for (i = 0; i < n; i++) {
        struct buffer b = BUFFER_INIT;
        unsigned frames = 1 + (unsigned)dice_roll(&dice, 5);
        struct incarnation life;
        struct view n1;
        int fd;

        /* Of another life it would have gone back, and nothing of it would be read; nor may it
         * have got less far than n1 itself has told since. */
        assert_true(peer_life(sockets[2], cluster_id, 1, "n1", &life));
        assert_true(cluster_view(cluster, 0, 5000, &n1));
        if (life.index < n1.commit)
            life.index = n1.commit;
        if (life.term < n1.term)
            life.term = n1.term;
        peer_hello(&b, cluster_id, 1, "n1", &life);
        for (k = 0; k < frames; k++) {
            uint8_t type = (uint8_t)(PEER_FIRST + 1 + dice_roll(&dice, PEER_LAST - PEER_FIRST + 1));
            struct buffer f = BUFFER_INIT;
            unsigned flips = (unsigned)dice_roll(&dice, 6), j;

            peer_frame(&f, type, 1, 3, (unsigned)dice_roll(&dice, 1000));
            for (j = 0; j < flips; j++)
                f.data[(i % 4 == 0 ? 0 : 4) + dice_roll(&dice, f.len - 4)] ^=
                    (uint8_t)(1u << dice_roll(&dice, 8));
            if (dice_roll(&dice, 5) == 0) { /* cut short, in a whole frame */
                struct buffer cut = BUFFER_INIT;

                raw_frame(&cut, type, k, f.data + FRAME_HEADER_LEN,
                          dice_roll(&dice, f.len - FRAME_HEADER_LEN + 1));
                buffer_deinit(&f);
                f = cut;
            }
            if (!peer_counts(f.data, f.len))
                buffer_put_bytes(&b, f.data, f.len);
            buffer_deinit(&f);
        }
        if (i % 3 == 0 && b.len > 3)
            b.len -= dice_roll(&dice, 3); /* the bridge dies in the middle */
        fd = send_as("n1", &b);
        raw_drain(fd, 3);
        close(fd);
        buffer_deinit(&b);
    }
    assert_well();
}

static void silent_bridges_go_and_keep_nobody_out(void **state)
{
    int fds[700];
    unsigned i;

    (void)state;
    for (i = 0; i < 700; i++) {
        fds[i] = i % 2 == 0 ? peer_open(sockets[2]) : peer_stream(sockets[2], "n1");
        assert_true(fds[i] >= 0);
    }
    assert_well();
    for (i = 0; i < 700; i++) {
        assert_true(raw_closed(fds[i], 15000));
        close(fds[i]);
    }
    assert_well();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_bridge_is_closed),
        cmocka_unit_test(a_hello_must_fit_the_key),
        cmocka_unit_test(nothing_is_taken_before_the_hello),
        cmocka_unit_test(garbage_from_a_peer_ends_its_link_only),
        cmocka_unit_test(silent_bridges_go_and_keep_nobody_out),
    };

    cmocka_set_test_filter(getenv("KVFS_FAULT_ONLY"));
    return cmocka_run_group_tests(tests, setup, teardown);
}
