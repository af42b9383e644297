/* clock: the nodes' clocks against each other and against the time of the last
 * change; --set-back mends a cluster into which a wrong clock once stamped a time
 * that the others will not reach for long. */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/verbs.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sync/base/error.h"

/* Less than this mends itself in minutes, and is not worth what setting it back costs. */
#define AHEAD_MS (CLOCK_BACK_MIN_NS / 1000000)

static const char consequences[] =
    "This sets the cluster's time back to the nodes' clocks. What is changed from then on bears a time that "
    "is\n"
    "EARLIER than that of what was changed last: make, rsync -u and find -newer may take new files for old "
    "ones,\n"
    "names of versions by time (@TIME) may mean others, and files keep the times in the\n"
    "future that they have (touch them). The order of versions and their numbers do not change.\n";

static bool is_true(const json_t *o, const char *name)
{
    return json_is_true(json_object_get(o, name));
}

static void print_clocks(const json_t *status)
{
    const json_t *clock = json_object_get(status, "clock"), *m;
    double ahead = (double)cluster_number(clock, "ahead_ms") / 1000;
    json_int_t base = cluster_number(clock, "majority_unix_ms") - cluster_number(clock, "own_unix_ms");
    size_t i;

    printf("%-12s %s\n", "NODE",
           is_true(clock, "agreed") ? "CLOCK, AGAINST THE MAJORITY'S" : "CLOCK, AGAINST THIS NODE'S");
    json_array_foreach(json_object_get(status, "members"), i, m)
    {
        const json_t *offset = json_object_get(m, "clock_offset_ms");

        if (json_is_integer(offset))
            printf("%-12s %+.1f s\n", cluster_text(m, "name"),
                   (double)(json_integer_value(offset) - (is_true(clock, "agreed") ? base : 0)) / 1000);
        else
            printf("%-12s not heard\n", cluster_text(m, "name"));
    }
    if (!is_true(clock, "agreed"))
        printf("No majority of the nodes has clocks that agree.\n");
    else if (cluster_number(clock, "ahead_ms") <= (json_int_t)AHEAD_MS)
        printf("The time of the last change is not ahead of the clocks.\n");
    else
        printf(
            "The time of the last change is %.1f s ahead of the clocks. New changes go on from there, a "
            "little\n"
            "slower than time passes, until the clocks have caught up (in about %.1f days). To mend that:\n"
            "kvnode clock --set-back\n",
            ahead, ahead * 200 / 86400);
}

/* 0, or the exit status. */
static int confirm(struct admin *a)
{
    char answer[8] = "";

    if (a->opt[OPT_YES] != NULL)
        return EXIT_OK;
    if (!isatty(STDIN_FILENO))
        return admin_usage(a, "--set-back: --yes is needed where nobody can be asked");
    fputs(consequences, stderr);
    fprintf(stderr, "Go on? [yes/no] ");
    if (fgets(answer, sizeof answer, stdin) == NULL || strcmp(answer, "yes\n") != 0)
        return admin_fail(a, EXIT_FAILED, NULL, "nothing was changed");
    return EXIT_OK;
}

/* Somebody may have thought about it for long: the clocks as they are now. */
static int ask_clocks(struct request_link *l, uint64_t *wall_ns_out)
{
    json_t *status = NULL;
    int rc = cluster_status(l, &status);

    if (rc == 0)
        *wall_ns_out =
            (uint64_t)cluster_number(json_object_get(status, "clock"), "majority_unix_ms") * 1000000;
    json_decref(status);
    return rc;
}

static int set_back(struct admin *a, struct request_link *l, const json_t *clock)
{
    struct command_body body = {0};
    struct command_result result;
    int rc, exit;

    if (!is_true(clock, "agreed"))
        return admin_fail(
            a, EXIT_REFUSED, NULL,
            "no majority of the nodes has clocks that agree: set them right first (kvnode clock)");
    if (cluster_number(clock, "ahead_ms") <= (json_int_t)AHEAD_MS)
        return admin_fail(a, EXIT_REFUSED, NULL, "the time of the last change is not ahead of the clocks");
    exit = confirm(a);
    if (exit != EXIT_OK)
        return exit;
    request_restart_clock(l);
    rc = ask_clocks(l, &body.wall_ns);
    if (rc == 0)
        rc = request_write(l, COMMAND_CLOCK, &body, &result);
    if (rc == KV_E_REFUSED)
        return admin_fail(a, EXIT_REFUSED, NULL,
                          "the leader does not find the cluster's time ahead of a majority's clocks, which "
                          "agree: nothing was changed. Try: kvnode clock");
    if (rc != 0)
        return cluster_fail(l, NULL, rc, true);
    admin_say(a, "the cluster's time is the nodes' clocks' again: it was %.1f s ahead",
              (double)cluster_number(clock, "ahead_ms") / 1000);
    return EXIT_OK;
}

int verb_clock(struct admin *a)
{
    struct request_link l;
    json_t *status = NULL;
    int exit = request_open(a, &l);

    if (exit != EXIT_OK)
        return exit;
    int rc = cluster_status(&l, &status);
    if (rc != 0)
        exit = cluster_fail(&l, NULL, rc, false);
    else if (a->opt[OPT_SET_BACK] != NULL)
        exit = set_back(a, &l, json_object_get(status, "clock"));
    else if (a->opt[OPT_JSON] != NULL)
        json_line(json_incref(json_object_get(status, "clock")));
    else
        print_clocks(status);
    json_decref(status);
    request_close(&l);
    return exit;
}
