#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kvnode/config/config.h"
#include "kvnode/group/clock_watch.h"
#include "kvnode/group/group.h"
#include "kvnode/peer/rivals.h"
#include "kvnode/peer/members.h"
#include "kvnode/peer/self.h"
#include "kvnode/peer/warnings.h"

static struct config_peer peers[] = {{.name = "n2", .id = 2}, {.name = "n3", .id = 3}};
static struct config config = {.name = "n1", .id = 1, .peers = peers, .n_peers = 2};

/* As n1 sees them; of itself it needs a door. */
static struct member member(const char *name, uint64_t id, enum member_state state)
{
    struct member m = {.id = id, .name = name, .voter = true, .known = true, .state = state};

    for (uint64_t other = 1; other <= 3; other++)
        m.health.links[m.health.n_links++] = other;
    strcpy(m.health.version, KVFS_VERSION);
    return m;
}

/* Whether one of the warnings has all of `text`; without text, whether there is none at all
 * but that of a node without a state.db, which these have. */
static bool told(const struct members *members, const struct store_usage *usage, const char *text)
{
    struct group_owner owner = {.config = &config};
    struct group group = {.owner = &owner};
    struct clock_watch clock = {.confirmed = false};
    struct rivals rivals = {.n = 0};
    struct self self = {.config = &config, .group = &group, .clock = &clock, .rivals = &rivals};
    struct journal *journal = NULL;
    json_t *list;
    bool found = false;

    assert_int_equal(group_store_new(&group, &journal, &group.store), 0);
    list = warnings(&self, members, usage);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *line = json_string_value(json_array_get(list, i));

        found |= text != NULL ? strstr(line, text) != NULL : strstr(line, "is being installed") == NULL;
    }
    json_decref(list);
    store_free(group.store);
    journal_free(journal);
    return text != NULL ? found : !found;
}

static void what_is_used_is_told_as_what_it_is(void **state)
{
    static const struct {
        uint64_t used, max;
        const char *text; /* of keys; NULL: nothing */
    } cases[] = {
        {799, 1000, NULL},
        {800, 1000, "at 80 % of the cluster's limit of 1000 (max_keys)"},
        {989, 1000, "at 98 % of"},
        {990, 1000, "keys are at the cluster's limit of 1000 (max_keys): new ones are refused"},
        {1000, 1000, "keys are at the cluster's limit"},
        {1001, 1000, "keys are at the cluster's limit"},
        {0, 0, "keys are at the cluster's limit"},
        {UINT64_MAX / 100 * 98, UINT64_MAX, "at 98 % of"},
    };
    const struct members members = {
        .n = 2, .voters = 3, .all = {member("n2", 2, MEMBER_HEALTHY), member("n3", 3, MEMBER_HEALTHY)}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct store_usage usage = {
            .keys = cases[i].used, .max_keys = cases[i].max, .bytes = 1, .max_bytes = 1 << 30};

        assert_true(told(&members, &usage, cases[i].text));
        usage = (struct store_usage){
            .bytes = cases[i].used, .max_bytes = cases[i].max, .keys = 1, .max_keys = 1000};
        if (cases[i].used > 0 && cases[i].used < cases[i].max / 100 * 99)
            assert_true(told(&members, &usage, cases[i].text != NULL ? "live data is at " : NULL));
        else
            assert_true(told(&members, &usage, "live data is at the cluster's limit of "));
    }
}

static void a_member_that_does_not_get_on_is_told_with_how_far_and_how_long(void **state)
{
    const struct store_usage usage = {.keys = 1, .max_keys = 1000, .bytes = 1, .max_bytes = 1 << 30};
    struct members members = {
        .n = 2, .voters = 3, .all = {member("n2", 2, MEMBER_STUCK), member("n3", 3, MEMBER_HEALTHY)}};

    members.all[0].behind = 33;
    members.all[0].lag_ms = 7500;
    assert_true(told(&members, &usage, "n2 does not catch up: it has lacked the last 33 commands for 7 s"));
    members.all[0] = member("n2", 2, MEMBER_BEHIND);
    assert_true(told(&members, &usage, NULL));
}

static void a_member_of_another_version_or_with_damage_is_named(void **state)
{
    const struct store_usage usage = {.keys = 1, .max_keys = 1000, .bytes = 1, .max_bytes = 1 << 30};
    struct members members = {
        .n = 2, .voters = 3, .all = {member("n2", 2, MEMBER_HEALTHY), member("n3", 3, MEMBER_HEALTHY)}};

    strcpy(members.all[0].health.version, "9.9.9");
    assert_true(told(&members, &usage, "n2 runs version 9.9.9, n1 version " KVFS_VERSION));
    members.all[0].health.version[0] = '\0';
    assert_true(told(&members, &usage, "n2 runs version (not told)"));
    members.all[0] = member("n2", 2, MEMBER_DAMAGED);
    members.all[0].health.flags = HEALTH_DAMAGED;
    assert_true(told(&members, &usage, "n2 found damage in its state.db"));
    members.all[0] = member("n2", 2, MEMBER_DISK_FULL);
    members.all[0].health.flags = HEALTH_LOG_FULL;
    assert_true(told(&members, &usage, "the disk of n2 is full: it acknowledges nothing"));
    members.all[0].health = member("n2", 2, MEMBER_HEALTHY).health;
    members.all[0].health.disk_total = 100 << 20;
    members.all[0].health.disk_free = 5 << 20;
    assert_true(told(&members, &usage, "the disk of n2 has 5 MiB of 100 MiB left"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_used_is_told_as_what_it_is),
        cmocka_unit_test(a_member_that_does_not_get_on_is_told_with_how_far_and_how_long),
        cmocka_unit_test(a_member_of_another_version_or_with_damage_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
