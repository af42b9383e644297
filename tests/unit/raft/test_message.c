#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sync/base/error.h"
#include "sync/raft/engine/configuration.h"
#include "sync/raft/engine/message.h"

static struct engine_message *message(enum raft_message_kind type)
{
    struct engine_message *m = message_new(type, 1, 2);

    m->term = 7;
    m->sent_ms = 123456;
    return m;
}

static struct engine_message *append_of(unsigned n)
{
    struct engine_message *m = message(RAFT_MESSAGE_APPEND);

    m->append.prev_index = 10;
    m->append.prev_term = 3;
    m->append.leader_commit = 9;
    m->entries = calloc(n + 1, sizeof(struct entry *));
    for (m->n_entries = 0; m->n_entries < n; m->n_entries++) {
        m->entries[m->n_entries] = entry_new(ENTRY_COMMAND, "payload", m->n_entries % 8);
        m->entries[m->n_entries]->term = m->n_entries > 2 ? 4 : 3;
    }
    return m;
}

static struct buffer encode(const struct engine_message *m)
{
    struct buffer b = BUFFER_INIT;

    message_encode(m, &b);
    assert_false(b.failed);
    return b;
}

static int decode_result(const struct buffer *b)
{
    struct engine_message *m = NULL;
    uint8_t *copy = malloc(b->len > 0 ? b->len : 1); /* its exact size, for the sanitizer */
    int result;

    if (b->len > 0)
        memcpy(copy, b->data, b->len);
    result = message_decode(copy, b->len, &m);
    if (result == 0)
        message_free(m);
    else
        assert_null(m);
    free(copy);
    return result;
}

/* Takes m. */
static struct engine_message *over_the_wire(struct engine_message *m)
{
    struct buffer b = encode(m);
    struct engine_message *decoded;

    assert_int_equal(message_decode(b.data, b.len, &decoded), 0);
    assert_int_equal(decoded->type, m->type);
    assert_int_equal(decoded->from, 1);
    assert_int_equal(decoded->to, 2);
    assert_int_equal(decoded->term, 7);
    assert_int_equal(decoded->sent_ms, 123456);
    buffer_deinit(&b);
    message_free(m);
    return decoded;
}

static void every_type_survives_its_encoding(void **state)
{
    struct engine_message *m;

    m = over_the_wire(append_of(5));
    assert_int_equal(m->append.prev_index, 10);
    assert_int_equal(m->append.prev_term, 3);
    assert_int_equal(m->append.leader_commit, 9);
    assert_int_equal(m->n_entries, 5);
    assert_int_equal(m->entries[4]->term, 4);
    assert_int_equal(m->entries[4]->len, 4);
    assert_memory_equal(m->entries[4]->data, "payl", 4);
    message_free(m);

    m = message(RAFT_MESSAGE_APPEND_RESULT);
    m->append_result.rejected = 5;
    m->append_result.last_index = 4;
    m = over_the_wire(m);
    assert_int_equal(m->append_result.rejected, 5);
    assert_int_equal(m->append_result.last_index, 4);
    message_free(m);

    m = message(RAFT_MESSAGE_VOTE);
    m->vote.last_index = 20;
    m->vote.last_term = 6;
    m->vote.disrupt_leader = true;
    m = over_the_wire(m);
    assert_int_equal(m->vote.last_index, 20);
    assert_int_equal(m->vote.last_term, 6);
    assert_true(m->vote.disrupt_leader);
    assert_false(m->vote.pre_vote);
    message_free(m);

    m = message(RAFT_MESSAGE_VOTE_RESULT);
    m->vote_result.pre_vote = true;
    m = over_the_wire(m);
    assert_true(m->vote_result.pre_vote);
    assert_false(m->vote_result.granted);
    message_free(m);

    m = message(RAFT_MESSAGE_TIMEOUT_NOW);
    m->timeout_now.last_index = 33;
    m->timeout_now.last_term = 7;
    m = over_the_wire(m);
    assert_int_equal(m->timeout_now.last_index, 33);
    message_free(m);

    m = message(RAFT_MESSAGE_PING);
    m->ping.seq = 99;
    m = over_the_wire(m);
    assert_int_equal(m->ping.seq, 99);
    message_free(m);

    m = message(RAFT_MESSAGE_PONG);
    m->ping.seq = 99;
    m->ping.peer_term = 8;
    m = over_the_wire(m);
    assert_int_equal(m->ping.peer_term, 8);
    message_free(m);

    message_free(over_the_wire(message(RAFT_MESSAGE_ECHO)));

    m = message(RAFT_MESSAGE_LEASE);
    m->lease.kind = LEASE_RETURN;
    m->lease.invalidated = 77;
    m = over_the_wire(m);
    assert_int_equal(m->lease.kind, LEASE_RETURN);
    assert_int_equal(m->lease.invalidated, 77);
    message_free(m);

    m = message(RAFT_MESSAGE_GRANT);
    m->grant.length_ms = 200;
    m->grant.visible = 78;
    m = over_the_wire(m);
    assert_int_equal(m->grant.length_ms, 200);
    assert_int_equal(m->grant.visible, 78);
    message_free(m);
}

static void refuses_every_truncation_and_every_longer_message(void **state)
{
    static const enum raft_message_kind types[] = {
        RAFT_MESSAGE_APPEND,      RAFT_MESSAGE_APPEND_RESULT, RAFT_MESSAGE_VOTE, RAFT_MESSAGE_VOTE_RESULT,
        RAFT_MESSAGE_TIMEOUT_NOW, RAFT_MESSAGE_PING,          RAFT_MESSAGE_PONG, RAFT_MESSAGE_ECHO,
        RAFT_MESSAGE_LEASE,       RAFT_MESSAGE_GRANT};

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct engine_message *m = types[i] == RAFT_MESSAGE_APPEND ? append_of(4) : message(types[i]);
        struct buffer b = encode(m);
        size_t whole = b.len;

        for (b.len = 0; b.len < whole; b.len++)
            assert_int_equal(decode_result(&b), KV_E_PROTOCOL);
        buffer_put_u8(&b, 0);
        assert_int_equal(decode_result(&b), KV_E_PROTOCOL);
        buffer_deinit(&b);
        message_free(m);
    }
}

static void refuses_an_unknown_version_and_unknown_types(void **state)
{
    struct engine_message *m = message(RAFT_MESSAGE_ECHO);
    struct buffer b = encode(m);

    assert_int_equal(decode_result(&b), 0);
    b.data[0] = RAFT_MESSAGE_VERSION + 1;
    assert_int_equal(decode_result(&b), KV_E_PROTOCOL);
    b.data[0] = RAFT_MESSAGE_VERSION;
    for (unsigned type = 0; type < 256; type++) {
        b.data[1] = (uint8_t)type;
        if (type != RAFT_MESSAGE_ECHO)
            assert_int_equal(decode_result(&b), KV_E_PROTOCOL);
    }
    b.data[1] = RAFT_MESSAGE_INSTALL; /* comes by a transfer only */
    assert_int_equal(decode_result(&b), KV_E_PROTOCOL);
    buffer_deinit(&b);
    message_free(m);
}

/* Takes m: it is not well formed. */
static void refused(struct engine_message *m)
{
    struct buffer b = encode(m);

    assert_int_equal(decode_result(&b), KV_E_PROTOCOL);
    buffer_deinit(&b);
    message_free(m);
}

static void refuses_what_the_core_takes_for_granted(void **state)
{
    struct engine_message *m;

    m = append_of(0);
    m->append.prev_term = 0; /* of index 10 */
    refused(m);

    m = message(RAFT_MESSAGE_LEASE);
    m->lease.kind = LEASE_RETURN + 1;
    refused(m);

    m = message(RAFT_MESSAGE_LEASE);
    m->lease.invalidated = MESSAGE_MAX_INDEX;
    refused(m);

    m = message(RAFT_MESSAGE_GRANT);
    m->grant.visible = MESSAGE_MAX_INDEX;
    refused(m);
    m = append_of(0);
    m->append.prev_index = 0; /* of term 3 */
    refused(m);
    m = append_of(0);
    m->append.prev_term = 8; /* above the leader's */
    refused(m);
    m = append_of(0);
    m->append.prev_index = MESSAGE_MAX_INDEX;
    refused(m);
    m = append_of(2);
    m->entries[1]->term = 2; /* goes back */
    refused(m);
    m = append_of(2);
    m->entries[1]->term = 8; /* above the leader's */
    refused(m);
    m = append_of(2);
    m->entries[1]->type = 4;
    refused(m);
    m = append_of(2);
    m->entries[1]->type = ENTRY_CHANGE; /* no configuration in it */
    refused(m);
    m = message(RAFT_MESSAGE_PING);
    m->from = 0;
    refused(m);
    m = message(RAFT_MESSAGE_PING);
    m->to = 1; /* itself */
    refused(m);
    m = message(RAFT_MESSAGE_PING);
    m->term = 0;
    refused(m);
    m = message(RAFT_MESSAGE_APPEND_RESULT);
    m->append_result.last_index = MESSAGE_MAX_INDEX;
    refused(m);
}

static void refuses_a_count_of_entries_beyond_the_bytes_at_hand(void **state)
{
    struct engine_message *m = append_of(1);
    struct buffer b = encode(m);
    size_t at = 2 + 4 * 8 + 3 * 8;

    buffer_set_u32(&b, at, UINT32_MAX);
    assert_int_equal(decode_result(&b), KV_E_PROTOCOL);
    buffer_set_u32(&b, at, RAFT_MESSAGE_MAX_ENTRIES);
    assert_int_equal(decode_result(&b), KV_E_PROTOCOL);
    buffer_set_u32(&b, at, 1);
    assert_int_equal(decode_result(&b), 0);
    buffer_deinit(&b);
    message_free(m);
}

static void refuses_flags_other_than_0_and_1(void **state)
{
    struct engine_message *m = message(RAFT_MESSAGE_VOTE);
    struct buffer b = encode(m);

    b.data[b.len - 1] = 2;
    assert_int_equal(decode_result(&b), KV_E_PROTOCOL);
    buffer_deinit(&b);
    message_free(m);
}

static void the_largest_message_fits_its_limit(void **state)
{
    struct engine_message *m = append_of(RAFT_MESSAGE_MAX_ENTRIES);
    struct buffer b;

    entry_put(m->entries[RAFT_MESSAGE_MAX_ENTRIES - 1]);
    m->entries[RAFT_MESSAGE_MAX_ENTRIES - 1] = entry_new_reserve(ENTRY_COMMAND, ENTRY_MAX_LEN);
    m->entries[RAFT_MESSAGE_MAX_ENTRIES - 1]->term = 7;
    memset(m->entries[RAFT_MESSAGE_MAX_ENTRIES - 1]->data, 1, ENTRY_MAX_LEN);
    b = encode(m);
    assert_true(b.len + RAFT_MESSAGE_SPLIT_BYTES <= RAFT_MESSAGE_MAX_LEN);
    assert_int_equal(decode_result(&b), 0);
    buffer_deinit(&b);
    message_free(m);
}

static void a_copy_shares_the_entries(void **state)
{
    struct engine_message *m = append_of(3);
    struct engine_message *copy = message_copy(m);

    assert_ptr_equal(copy->entries[2], m->entries[2]);
    message_free(m);
    assert_int_equal(copy->entries[2]->len, 2);
    message_free(copy);
}

static void the_trace_of_a_message_is_cut_to_its_buffer(void **state)
{
    struct engine_message *m = append_of(3);
    char text[128], small[8];

    message_format(m, text, sizeof text);
    assert_string_equal(text, "1->2 append term 7 prev 10^3 n 3 commit 9");
    message_format(m, small, sizeof small);
    assert_int_equal(strlen(small), sizeof small - 1);
    message_free(m);
}

/* ---- configurations and labels ---- */

static void a_configuration_survives_its_encoding(void **state)
{
    struct configuration c = {.n = 0}, d;
    struct entry *e;

    assert_null(configuration_encode(&c));
    assert_int_equal(configuration_add(&c, 1, "10.0.0.1:7000", SERVER_VOTER), 0);
    assert_int_equal(configuration_add(&c, UINT64_C(1) << 63, "x", SERVER_STANDBY), 0);
    assert_int_equal(configuration_add(&c, 1, "y", SERVER_VOTER), KV_E_EXIST);
    assert_int_equal(configuration_add(&c, 2, "x", SERVER_VOTER), KV_E_EXIST);
    assert_int_equal(configuration_add(&c, 0, "y", SERVER_VOTER), KV_E_INVAL);
    assert_int_equal(configuration_add(&c, 2, "", SERVER_VOTER), KV_E_INVAL);
    assert_int_equal(configuration_add(&c, 2, "y", (enum server_role)2), KV_E_INVAL); /* a spare: never */
    e = configuration_encode(&c);
    assert_int_equal(e->type, ENTRY_CHANGE);
    assert_int_equal(configuration_decode(e->data, e->len, &d), 0);
    assert_int_equal(d.n, 2);
    assert_string_equal(d.servers[0].address, "10.0.0.1:7000");
    assert_int_equal(d.servers[1].id, UINT64_C(1) << 63);
    assert_int_equal(d.servers[1].role, SERVER_STANDBY);
    assert_int_equal(configuration_voters(&d), 1);
    assert_int_equal(configuration_remove(&d, 7), KV_E_NOENT);
    assert_int_equal(configuration_remove(&d, 1), 0);
    assert_int_equal(d.n, 1);
    assert_int_equal(d.servers[0].role, SERVER_STANDBY);
    entry_put(e);
}

static void refuses_every_truncation_of_a_configuration(void **state)
{
    struct configuration c = {.n = 0}, d;
    struct entry *e;

    configuration_add(&c, 1, "one", SERVER_VOTER);
    configuration_add(&c, 2, "two", SERVER_VOTER);
    e = configuration_encode(&c);
    for (size_t len = 0; len < e->len; len++) {
        uint8_t *copy = malloc(len > 0 ? len : 1);

        memcpy(copy, e->data, len);
        assert_int_equal(configuration_decode(copy, len, &d), KV_E_PROTOCOL);
        free(copy);
    }
    e->data[1] = 3; /* one more server than there is */
    assert_int_equal(configuration_decode(e->data, e->len, &d), KV_E_PROTOCOL);
    e->data[1] = 2;
    e->data[8] = 1; /* 2^56 servers */
    assert_int_equal(configuration_decode(e->data, e->len, &d), KV_E_PROTOCOL);
    entry_put(e);
}

static void a_label_survives_its_encoding(void **state)
{
    struct configuration c = {.n = 0};
    struct snapshot_meta m = {.index = 10, .term = 3, .conf_index = 4}, d;
    struct buffer b = BUFFER_INIT;
    struct cursor cursor;

    configuration_add(&c, 1, "one", SERVER_VOTER);
    m.conf = configuration_encode(&c);
    snapshot_meta_encode(&m, &b);
    cursor = cursor_of(b.data, b.len);
    assert_int_equal(snapshot_meta_decode(&cursor, &d), 0);
    assert_true(cursor_done(&cursor));
    assert_int_equal(d.index, 10);
    assert_int_equal(d.term, 3);
    assert_int_equal(d.conf_index, 4);
    assert_memory_equal(d.conf->data, m.conf->data, m.conf->len);
    snapshot_meta_deinit(&d);
    for (size_t len = 0; len < b.len; len++) {
        cursor = cursor_of(b.data, len);
        assert_int_equal(snapshot_meta_decode(&cursor, &d), KV_E_PROTOCOL);
    }
    buffer_set_u64(&b, 16, 11); /* a configuration from behind the index */
    cursor = cursor_of(b.data, b.len);
    assert_int_equal(snapshot_meta_decode(&cursor, &d), KV_E_PROTOCOL);
    buffer_deinit(&b);
    snapshot_meta_deinit(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_survives_its_encoding),
        cmocka_unit_test(refuses_every_truncation_and_every_longer_message),
        cmocka_unit_test(refuses_an_unknown_version_and_unknown_types),
        cmocka_unit_test(refuses_what_the_core_takes_for_granted),
        cmocka_unit_test(refuses_a_count_of_entries_beyond_the_bytes_at_hand),
        cmocka_unit_test(refuses_flags_other_than_0_and_1),
        cmocka_unit_test(the_largest_message_fits_its_limit),
        cmocka_unit_test(a_copy_shares_the_entries),
        cmocka_unit_test(the_trace_of_a_message_is_cut_to_its_buffer),
        cmocka_unit_test(a_configuration_survives_its_encoding),
        cmocka_unit_test(refuses_every_truncation_of_a_configuration),
        cmocka_unit_test(a_label_survives_its_encoding),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
