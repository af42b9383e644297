#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/base/digest.h"
#include "sync/base/error.h"
#include "sync/raft/engine/configuration.h"
#include "sync/raft/transfer/snapshot_transfer.h"

/* A file of `size` bytes and both ends of its transfer. */
struct fixture {
    char directory[64], source[96], target[96];
    size_t size;
    uint8_t *content;
    struct snapshot_meta meta;
    struct snapshot_sender *sender;
    struct snapshot_receiver *receiver;
};

static void setup(struct fixture *f, size_t size)
{
    struct configuration c = {.n = 0};
    FILE *file;

    memset(f, 0, sizeof *f);
    strcpy(f->directory, "/tmp/kvfs-transfer-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    snprintf(f->source, sizeof f->source, "%s/state", f->directory);
    snprintf(f->target, sizeof f->target, "%s/incoming", f->directory);
    f->size = size;
    f->content = malloc(size + 1);
    for (size_t i = 0; i < size; i++)
        f->content[i] = (uint8_t)(i * 2654435761u >> 13);
    file = fopen(f->source, "w");
    assert_int_equal(fwrite(f->content, 1, size, file), size);
    fclose(file);
    configuration_add(&c, 1, "one", SERVER_VOTER);
    f->meta =
        (struct snapshot_meta){.index = 500, .term = 3, .conf_index = 20, .conf = configuration_encode(&c)};
    assert_int_equal(snapshot_receiver_new(f->target, &f->receiver), 0);
}

static void new_sender(struct fixture *f, uint64_t id, const uint64_t *digest)
{
    snapshot_sender_free(f->sender);
    assert_int_equal(
        snapshot_sender_new(open(f->source, O_RDONLY | O_CLOEXEC), id, 4, &f->meta, digest, &f->sender), 0);
}

static void teardown(struct fixture *f)
{
    snapshot_sender_free(f->sender);
    snapshot_receiver_free(f->receiver);
    snapshot_meta_deinit(&f->meta);
    unlink(f->source);
    unlink(f->target);
    assert_int_equal(rmdir(f->directory), 0);
    free(f->content);
}

/* Moves messages until the sender waits, or for `steps` of its messages. */
static int pump(struct fixture *f, unsigned steps)
{
    struct buffer out = BUFFER_INIT, reply = BUFFER_INIT;
    int result = 0;

    while (result >= 0 && steps > 0) {
        buffer_clear(&out);
        buffer_clear(&reply);
        result = snapshot_sender_step(f->sender, &out);
        if (result != SNAPSHOT_MESSAGE && result != SNAPSHOT_AGAIN)
            break;
        assert_true(out.len <= SNAPSHOT_MESSAGE_MAX_LEN);
        if (result == SNAPSHOT_AGAIN)
            continue;
        steps--;
        snapshot_receiver_receive(f->receiver, out.data, out.len, &reply);
        if (reply.len > 0)
            assert_int_equal(snapshot_sender_receive(f->sender, reply.data, reply.len), 0);
    }
    buffer_deinit(&out);
    buffer_deinit(&reply);
    return result;
}

static void finish(struct fixture *f)
{
    struct buffer reply = BUFFER_INIT;
    uint64_t term;
    const struct snapshot_meta *meta;
    struct stat st;
    uint8_t *got;
    int fd;

    assert_int_equal(snapshot_receiver_state(f->receiver), SNAPSHOT_RECEIVER_VERIFIED);
    assert_int_equal(snapshot_receiver_sync(f->receiver), 0);
    meta = snapshot_receiver_meta(f->receiver, &term);
    assert_int_equal(meta->index, 500);
    assert_int_equal(meta->conf_index, 20);
    assert_int_equal(term, 4);
    snapshot_receiver_finish(f->receiver, &reply);
    assert_int_equal(snapshot_sender_receive(f->sender, reply.data, reply.len), 0);
    assert_int_equal(pump(f, 1), SNAPSHOT_DONE);
    assert_int_equal(snapshot_receiver_state(f->receiver), SNAPSHOT_RECEIVER_IDLE);
    fd = open(f->target, O_RDONLY);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, f->size);
    got = malloc(f->size + 1);
    assert_int_equal(read(fd, got, f->size), f->size);
    assert_memory_equal(got, f->content, f->size);
    free(got);
    close(fd);
    buffer_deinit(&reply);
}

static void streams_files_of_every_size(void **state)
{
    static const size_t sizes[] = {0,
                                   1,
                                   SNAPSHOT_CHUNK_BYTES - 1,
                                   SNAPSHOT_CHUNK_BYTES,
                                   SNAPSHOT_CHUNK_BYTES + 1,
                                   3 * SNAPSHOT_WINDOW_BYTES + 77};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct fixture f;

        setup(&f, sizes[i]);
        new_sender(&f, 1, NULL);
        assert_int_equal(pump(&f, 100000), SNAPSHOT_WAIT);
        finish(&f);
        teardown(&f);
    }
}

static void takes_a_digest_that_is_known_already(void **state)
{
    struct fixture f;
    uint64_t digest, computed;

    setup(&f, 1000000);
    digest = 0;
    new_sender(&f, 1, NULL);
    assert_false(snapshot_sender_digest(f.sender, &computed));
    pump(&f, 1);
    assert_true(snapshot_sender_digest(f.sender, &digest));
    new_sender(&f, 2, &digest);
    assert_true(snapshot_sender_digest(f.sender, &computed));
    assert_int_equal(pump(&f, 1000), SNAPSHOT_WAIT);
    finish(&f);
    teardown(&f);
}

static void keeps_no_more_than_the_window_in_flight(void **state)
{
    struct fixture f;
    struct buffer out = BUFFER_INIT;
    size_t chunks = 0;
    int result;

    setup(&f, 10 * SNAPSHOT_WINDOW_BYTES);
    new_sender(&f, 1, NULL);
    pump(&f, 1);
    while ((result = snapshot_sender_step(f.sender, &out)) == SNAPSHOT_MESSAGE)
        chunks++;
    assert_int_equal(result, SNAPSHOT_WAIT);
    assert_int_equal(chunks, SNAPSHOT_WINDOW_BYTES / SNAPSHOT_CHUNK_BYTES);
    buffer_deinit(&out);
    teardown(&f);
}

static void goes_on_where_it_was_when_the_link_was_lost(void **state)
{
    struct fixture f;
    uint64_t size, received;

    setup(&f, 20 * SNAPSHOT_CHUNK_BYTES);
    new_sender(&f, 1, NULL);
    for (unsigned n = 1; n < 23; n += 3) {
        received = snapshot_receiver_received(f.receiver, &size);
        pump(&f, 3);
        assert_true(snapshot_receiver_received(f.receiver, &size) >= received);
        snapshot_sender_restart(f.sender);
    }
    assert_true(snapshot_receiver_received(f.receiver, &size) >= 10 * SNAPSHOT_CHUNK_BYTES);
    assert_int_equal(pump(&f, 1000), SNAPSHOT_WAIT);
    finish(&f);
    teardown(&f);
}

static void another_transfer_starts_over(void **state)
{
    struct fixture f;
    uint64_t size;

    setup(&f, 20 * SNAPSHOT_CHUNK_BYTES);
    new_sender(&f, 1, NULL);
    pump(&f, 5);
    assert_int_not_equal(snapshot_receiver_received(f.receiver, &size), 0);
    new_sender(&f, 2, NULL);
    pump(&f, 1);
    assert_int_equal(snapshot_receiver_received(f.receiver, &size), 0);
    assert_int_equal(pump(&f, 1000), SNAPSHOT_WAIT);
    finish(&f);
    teardown(&f);
}

static void answers_again_when_its_last_answer_was_lost(void **state)
{
    struct fixture f;
    struct buffer lost = BUFFER_INIT;

    setup(&f, 1000);
    new_sender(&f, 7, NULL);
    assert_int_equal(pump(&f, 1000), SNAPSHOT_WAIT);
    assert_int_equal(snapshot_receiver_sync(f.receiver), 0);
    snapshot_receiver_finish(f.receiver, &lost);
    snapshot_sender_restart(f.sender);
    assert_int_equal(pump(&f, 1000), SNAPSHOT_DONE);
    buffer_deinit(&lost);
    teardown(&f);
}

static void refuses_a_file_whose_digest_is_wrong(void **state)
{
    struct fixture f;
    uint64_t wrong = 12345;

    setup(&f, 3 * SNAPSHOT_CHUNK_BYTES);
    new_sender(&f, 1, &wrong);
    assert_int_equal(pump(&f, 1000), -EREMOTEIO);
    assert_int_equal(snapshot_sender_refusal(f.sender), KV_E_IO);
    assert_int_equal(snapshot_receiver_state(f.receiver), SNAPSHOT_RECEIVER_IDLE);
    assert_int_not_equal(access(f.target, F_OK), 0);
    teardown(&f);
}

static void refuses_another_transfer_while_one_is_installed(void **state)
{
    struct fixture f;
    struct snapshot_sender *other;

    setup(&f, 100);
    new_sender(&f, 1, NULL);
    pump(&f, 1000);
    other = f.sender;
    f.sender = NULL;
    new_sender(&f, 2, NULL);
    assert_int_equal(pump(&f, 1000), -EREMOTEIO);
    assert_int_equal(snapshot_sender_refusal(f.sender), KV_E_BUSY);
    snapshot_sender_free(f.sender);
    f.sender = other;
    finish(&f);
    teardown(&f);
}

static void says_when_the_source_became_shorter(void **state)
{
    struct fixture f;

    setup(&f, 5 * SNAPSHOT_CHUNK_BYTES);
    new_sender(&f, 1, NULL);
    pump(&f, 2);
    assert_int_equal(truncate(f.source, 100), 0);
    assert_int_equal(pump(&f, 1000), -EIO);
    teardown(&f);
}

static void refuses_when_the_target_cannot_be_written(void **state)
{
    struct fixture f;

    setup(&f, 100);
    snapshot_receiver_free(f.receiver);
    assert_int_equal(snapshot_receiver_new("/nowhere/at/all", &f.receiver), 0);
    new_sender(&f, 1, NULL);
    assert_int_equal(pump(&f, 1000), -EREMOTEIO);
    assert_int_equal(snapshot_sender_refusal(f.sender), KV_E_IO);
    teardown(&f);
}

/* Feeds the receiver truncated and altered copies of each message of a
 * transfer: it must refuse or ignore them, and go through with the true ones. */
static void survives_malformed_messages(void **state)
{
    struct fixture f;
    struct buffer out = BUFFER_INIT, reply = BUFFER_INIT;
    int result;

    setup(&f, 300);
    new_sender(&f, 1, NULL);
    while ((result = snapshot_sender_step(f.sender, &out)) == SNAPSHOT_MESSAGE || result == SNAPSHOT_AGAIN) {
        for (size_t len = 0; len < out.len; len++) {
            uint8_t *copy = malloc(len > 0 ? len : 1);

            memcpy(copy, out.data, len);
            assert_int_equal(snapshot_receiver_receive(f.receiver, copy, len, &reply), KV_E_PROTOCOL);
            assert_int_equal(snapshot_sender_receive(f.sender, copy, len), KV_E_PROTOCOL);
            free(copy);
        }
        assert_int_equal(reply.len, 0);
        if (out.len > 0)
            assert_int_equal(snapshot_receiver_receive(f.receiver, out.data, out.len, &reply), 0);
        if (reply.len > 0)
            assert_int_equal(snapshot_sender_receive(f.sender, reply.data, reply.len), 0);
        buffer_clear(&out);
        buffer_clear(&reply);
    }
    finish(&f);
    buffer_deinit(&out);
    buffer_deinit(&reply);
    teardown(&f);
}

static void refuses_chunks_out_of_order_and_beyond_the_end(void **state)
{
    struct fixture f;
    struct buffer out = BUFFER_INIT, reply = BUFFER_INIT;

    setup(&f, 3 * SNAPSHOT_CHUNK_BYTES);
    new_sender(&f, 1, NULL);
    pump(&f, 1);
    assert_int_equal(snapshot_sender_step(f.sender, &out), SNAPSHOT_MESSAGE);
    buffer_set_u64(&out, 10, SNAPSHOT_CHUNK_BYTES);
    assert_int_equal(snapshot_receiver_receive(f.receiver, out.data, out.len, &reply), KV_E_PROTOCOL);
    buffer_set_u64(&out, 10, UINT64_MAX);
    assert_int_equal(snapshot_receiver_receive(f.receiver, out.data, out.len, &reply), KV_E_PROTOCOL);
    buffer_set_u64(&out, 2, 99); /* of another transfer */
    assert_int_equal(snapshot_receiver_receive(f.receiver, out.data, out.len, &reply), 0);
    assert_int_equal(reply.len, 0);
    buffer_deinit(&out);
    buffer_deinit(&reply);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_files_of_every_size),
        cmocka_unit_test(takes_a_digest_that_is_known_already),
        cmocka_unit_test(keeps_no_more_than_the_window_in_flight),
        cmocka_unit_test(goes_on_where_it_was_when_the_link_was_lost),
        cmocka_unit_test(another_transfer_starts_over),
        cmocka_unit_test(answers_again_when_its_last_answer_was_lost),
        cmocka_unit_test(refuses_a_file_whose_digest_is_wrong),
        cmocka_unit_test(refuses_another_transfer_while_one_is_installed),
        cmocka_unit_test(says_when_the_source_became_shorter),
        cmocka_unit_test(refuses_when_the_target_cannot_be_written),
        cmocka_unit_test(survives_malformed_messages),
        cmocka_unit_test(refuses_chunks_out_of_order_and_beyond_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
