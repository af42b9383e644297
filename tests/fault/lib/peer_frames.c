#include "tests/fault/lib/peer_frames.h"

#include <stdlib.h>
#include <string.h>

#include "sync/raft/message.h"
#include "sync/ssh/bridge.h"
#include "sync/wire/command.h"
#include "sync/wire/frame.h"

void peer_preamble(struct buffer *b, const char *name)
{
    bridge_preamble_put(b, name);
}

void peer_hello(struct buffer *b, uint64_t cluster, uint16_t id, const char *name)
{
    size_t at = frame_begin(b, PEER_FIRST, 0, 0);

    buffer_put_text(b, "kvfs-peer-1");
    buffer_put_u64(b, cluster);
    buffer_put_u16(b, id);
    buffer_put_text(b, name);
    frame_end(b, at);
}

static void put_raft(struct buffer *b, uint64_t from, uint64_t to, unsigned n)
{
    static const enum raft_message_kind types[] = {
        RAFT_MESSAGE_APPEND,      RAFT_MESSAGE_APPEND_RESULT, RAFT_MESSAGE_VOTE, RAFT_MESSAGE_VOTE_RESULT,
        RAFT_MESSAGE_TIMEOUT_NOW, RAFT_MESSAGE_PING,          RAFT_MESSAGE_PONG, RAFT_MESSAGE_ECHO};
    struct engine_message *m = message_new(types[n % 8], from, to);

    if (m == NULL)
        return;
    m->term = 1;
    if (m->type == RAFT_MESSAGE_APPEND) {
        m->append.prev_index = n;
        m->append.prev_term = 1;
        m->entries = calloc(2, sizeof *m->entries);
        m->entries[0] = entry_new(ENTRY_COMMAND, "not a command at all", 20);
        m->entries[1] = entry_new(ENTRY_BARRIER, "", 0);
        m->entries[0]->term = m->entries[1]->term = 1;
        m->n_entries = 2;
    }
    message_encode(m, b);
    message_free(m);
}

static void put_command(struct buffer *b, unsigned n)
{
    static const uint8_t groups[8] = {0, 0, 0, 1, 0, 0, 0, 2};
    const struct command cmd = {.op = COMMAND_SET,
                                .session = 1,
                                .seq = n,
                                .acked_below = 1,
                                .n_groups = 2,
                                .groups = groups,
                                .node = "n1",
                                .node_len = 2};
    const struct command_body body = {
        .path = (const uint8_t *)"peer", .path_len = 4, .value = (const uint8_t *)"v", .value_len = 1};

    command_encode(b, &cmd);
    command_body_encode(b, COMMAND_SET, &body);
}

void peer_frame(struct buffer *b, uint8_t type, uint64_t from, uint64_t to, unsigned n)
{
    size_t at = frame_begin(b, type, 0, n);

    switch (type) {
    case 101:
        put_raft(b, from, to, n);
        break;
    case 102:
        put_command(b, n);
        break;
    case 103:
        buffer_put_u64(b, 1);
        buffer_put_u64(b, n);
        buffer_put_u64(b, 0);
        break;
    case 105:
        buffer_put_u16(b, 0);
        buffer_put_u64(b, 0);
        break;
    case 106:
        buffer_put_u8(b, 0);
        buffer_put_u64(b, 1);
        buffer_put_u64(b, n);
        buffer_put_u64(b, n);
        buffer_put_u64(b, 7);
        buffer_put_u8(b, 0);
        break;
    case 107:
    case 108: /* numbers as they may stand in the heads of a transfer's messages */
        buffer_put_u8(b, 1);
        buffer_put_u8(b, (uint8_t)(1 + n % 4));
        buffer_put_u64(b, n);
        buffer_put_u64(b, 1);
        buffer_put_u64(b, n);
        buffer_put_u64(b, 1000);
        buffer_put_u64(b, 0);
        break;
    default: /* 104, 109: empty */
        break;
    }
    frame_end(b, at);
}

bool peer_counts(const void *frame, size_t len)
{
    struct engine_message *m;
    struct frame f;
    bool counts;

    if (frame_parse(frame, len, &f) <= 0 || f.type != 101 || message_decode(f.payload, f.len, &m) != 0)
        return false;
    counts = m->term > 1 || (m->type == RAFT_MESSAGE_PONG && m->ping.peer_term > 1);
    message_free(m);
    return counts;
}
