#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "kvnode/group/group.h"
#include "kvnode/group/scrub.h"
#include "kvnode/group/verify.h"

/* ---- what it asks: a scrub that does as it is told, and links that keep what is sent ---- */

static unsigned scrubs;
static struct scrub_view found;

void scrub_begin(struct scrub *s, uint64_t bytes_per_s)
{
    scrubs++;
    found = (struct scrub_view){.state = SCRUB_RUNNING};
}

void scrub_look(struct scrub *s, struct scrub_view *out)
{
    *out = found;
}

bool group_serves(const struct group *g)
{
    return false;
}

void consensus_members(const struct consensus *c, void *arg,
                       void (*emit)(void *arg, uint64_t id, const char *address, bool voter))
{
}

static struct buffer sent;
static uint64_t sent_to;

static struct buffer *begin(void *arg, uint16_t group, uint64_t peer, enum peer_frame type, uint64_t id)
{
    assert_int_equal(type, PEER_VERIFY_ANSWER);
    assert_int_equal(group, 3);
    sent_to = peer;
    return &sent;
}

static void end(void *arg, uint64_t peer)
{
}

/* What the node answers to that peer. */
static uint8_t ask(struct group *g, uint64_t peer, uint64_t run)
{
    struct peer_verify_answer answer;
    struct buffer question = BUFFER_INIT;
    struct frame frame = {.type = PEER_VERIFY, .id = run};
    struct cursor in;

    peer_verify_encode(&question, &(struct peer_verify){.index = 1});
    frame.payload = question.data;
    frame.len = question.len;
    buffer_clear(&sent);
    assert_int_equal(peer_handlers_take(&g->handlers, peer, &frame), 0);
    buffer_deinit(&question);
    assert_int_equal(sent_to, peer);
    in = cursor_of(sent.data, sent.len);
    assert_true(peer_verify_answer_decode(&in, &answer));
    return answer.scrub;
}

static void a_run_begins_one_scrub_whoever_goes_on_with_it(void **state)
{
    const struct peer_links links = {.begin = begin, .end = end};
    const struct group_owner owner = {.links = &links};
    struct group group = {.owner = &owner, .number = 3};
    struct verify *v = verify_new(&group);

    assert_non_null(v);
    scrubs = 0;
    assert_int_equal(ask(&group, 2, 7), SCRUB_RUNNING);
    assert_int_equal(ask(&group, 2, 7), SCRUB_RUNNING);
    assert_int_equal(scrubs, 1);
    found = (struct scrub_view){.state = SCRUB_DAMAGED, .error = "chunk 1"};
    /* The client has lost node 2, and asks node 3 under the same number. */
    assert_int_equal(ask(&group, 3, 7), SCRUB_DAMAGED);
    assert_int_equal(ask(&group, 2, 7), SCRUB_DAMAGED);
    assert_int_equal(scrubs, 1);
    assert_int_equal(ask(&group, 3, 8), SCRUB_RUNNING);
    assert_int_equal(scrubs, 2);
    verify_free(v);
    buffer_deinit(&sent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_begins_one_scrub_whoever_goes_on_with_it),
    };

    return cmocka_run_group_tests_name("verify", tests, NULL, NULL);
}
