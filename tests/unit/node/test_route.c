#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kvnode/peer/door.h"
#include "kvnode/peer/route.h"
#include "sync/base/error.h"

#define PEER 2
#define OTHER_GROUP 7

/* The door, as far as a route asks it. */
static bool shut;

bool door_shut(const struct door *d, uint64_t peer, const char **why_out)
{
    return shut && peer == PEER;
}

static unsigned taken[PEER_LAST + 1];

static int take(void *arg, uint64_t peer, const struct frame *frame)
{
    assert_int_equal(peer, PEER);
    taken[frame->type]++;
    return arg != NULL ? *(const int *)arg : 0;
}

static const struct peer_handlers *group(void *arg, uint16_t number)
{
    return number == 0 ? arg : NULL;
}

static struct route route_of(struct peer_handlers *handlers)
{
    struct route r = {.group = group, .arg = handlers};

    shut = false;
    for (size_t i = 0; i <= PEER_LAST; i++)
        taken[i] = 0;
    peer_handlers_enter(&r.nodes, PEER_STATUS, take, NULL);
    peer_handlers_enter(&r.nodes, PEER_LIVES, take, NULL);
    peer_handlers_enter(&r.nodes, PEER_ADMISSION, take, NULL);
    peer_handlers_enter(&r.nodes, PEER_READMIT, take, NULL);
    peer_handlers_enter(handlers, PEER_RAFT, take, NULL);
    peer_handlers_enter(handlers, PEER_COMMAND, take, NULL);
    return r;
}

static int send(const struct route *r, uint8_t type, uint16_t number)
{
    const struct frame f = {.type = type, .group = number, .payload = (const uint8_t *)""};

    return route_take(r, PEER, &f);
}

static void each_type_goes_to_the_one_that_entered_itself(void **state)
{
    static const uint8_t types[] = {PEER_STATUS,  PEER_LIVES, PEER_ADMISSION,
                                    PEER_READMIT, PEER_RAFT,  PEER_COMMAND};
    struct peer_handlers handlers = {0};
    struct route r = route_of(&handlers);

    for (size_t i = 0; i < sizeof types; i++) {
        assert_int_equal(send(&r, types[i], 0), 0);
        for (size_t k = 0; k < sizeof types; k++)
            assert_int_equal(taken[types[k]], k <= i);
    }
}

static void a_type_that_nobody_takes_is_ignored(void **state)
{
    struct peer_handlers handlers = {0};
    struct route r = route_of(&handlers);

    for (unsigned type = 0; type < 256; type++)
        if (type < PEER_FIRST || type > PEER_LAST || taken[type] == 0)
            assert_int_equal(send(&r, (uint8_t)type, 0), 0);
    assert_int_equal(taken[PEER_VERIFY], 0);
    assert_int_equal(taken[PEER_RAFT], 1);
}

static void a_group_that_is_not_here_is_refused(void **state)
{
    struct peer_handlers handlers = {0};
    struct route r = route_of(&handlers);

    for (unsigned type = 0; type < 256; type++)
        assert_int_equal(send(&r, (uint8_t)type, OTHER_GROUP), KV_E_PROTOCOL);
    shut = true;
    assert_int_equal(send(&r, PEER_RAFT, OTHER_GROUP), KV_E_PROTOCOL);
    for (size_t i = 0; i <= PEER_LAST; i++)
        assert_int_equal(taken[i], 0);
}

static void of_a_node_that_has_gone_back_only_its_life_counts(void **state)
{
    struct peer_handlers handlers = {0};
    struct route r = route_of(&handlers);

    shut = true;
    for (unsigned type = PEER_FIRST; type <= PEER_LAST; type++)
        assert_int_equal(send(&r, (uint8_t)type, 0), 0);
    for (unsigned type = PEER_FIRST; type <= PEER_LAST; type++)
        assert_int_equal(taken[type], type == PEER_STATUS || type == PEER_LIVES || type == PEER_ADMISSION);
}

static void what_the_one_that_takes_it_says_is_passed_on(void **state)
{
    static int malformed = KV_E_PROTOCOL;
    struct peer_handlers handlers = {0};
    struct route r = route_of(&handlers);

    peer_handlers_enter(&handlers, PEER_SNAPSHOT, take, &malformed);
    assert_int_equal(send(&r, PEER_SNAPSHOT, 0), KV_E_PROTOCOL);
    assert_int_equal(send(&r, PEER_RAFT, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_goes_to_the_one_that_entered_itself),
        cmocka_unit_test(a_type_that_nobody_takes_is_ignored),
        cmocka_unit_test(a_group_that_is_not_here_is_refused),
        cmocka_unit_test(of_a_node_that_has_gone_back_only_its_life_counts),
        cmocka_unit_test(what_the_one_that_takes_it_says_is_passed_on),
    };

    return cmocka_run_group_tests_name("route", tests, NULL, NULL);
}
