/* verify: one node asks all; this asks that node how far they are until they are done. */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/verbs.h"

#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "sync/base/clock.h"

#define POLL_MIN_MS 20
#define POLL_MAX_MS 200
#define TELL_AFTER_MS 2000

static const char *color_of(const struct admin *a, const char *state)
{
    if (!a->color)
        return "";
    return strcmp(state, "ok") == 0 ? "\033[32m" : strcmp(state, "checking") == 0 ? "\033[33m" : "\033[31m";
}

/* On a terminal, over two seconds: one line that is written over. */
static void tell_progress(const struct admin *a, const json_t *nodes)
{
    const json_t *m;
    size_t i;
    if (a->opt[OPT_QUIET] != NULL || !isatty(STDERR_FILENO))
        return;
    fputs("\r\033[K", stderr);
    json_array_foreach(nodes, i, m)
    {
        json_int_t read = cluster_number(m, "read_bytes"), size = cluster_number(m, "size_bytes");
        bool final = json_is_true(json_object_get(m, "final"));
        fprintf(stderr, "%s%s %s", i > 0 ? "  " : "", cluster_text(m, "node"),
                final ? cluster_text(m, "state") : "");
        if (!final)
            fprintf(stderr, "%lld %%", (long long)(read >= size ? size > 0 ? 99 : 0 : 100 * read / size));
    }
    fflush(stderr);
}

static void clear_progress(const struct admin *a)
{
    if (a->opt[OPT_QUIET] == NULL && isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

/* Something that grows while anything happens. */
static json_int_t progress_of(const json_t *nodes)
{
    json_int_t sum = 0;
    const json_t *m;
    size_t i;
    json_array_foreach(nodes, i, m)
    {
        sum += cluster_number(m, "read_bytes") + json_is_true(json_object_get(m, "final")) +
               (cluster_text(m, "digest")[0] != '\0');
    }
    return sum;
}

/* Until all nodes are done, or none gets on. The last answer in *answer_out. */
static int wait_for_nodes(struct admin *a, struct request_link *l, uint64_t rate, json_t **answer_out)
{
    uint64_t run = 0, begin = clock_boot_ms(), pause = POLL_MIN_MS;
    json_int_t before = -1;
    *answer_out = NULL;
    if (getrandom(&run, sizeof run, 0) != (ssize_t)sizeof run)
        run = clock_boot_ns();
    run = (run >> 1) | 1; /* a number of JSON */
    for (;;) {
        json_t *answer;
        int rc = cluster_admin(l,
                               json_pack("{s:s, s:I, s:I}", "command", "verify", "run", (json_int_t)run,
                                         "rate", (json_int_t)rate),
                               &answer);
        if (rc != 0)
            return rc;
        json_decref(*answer_out);
        *answer_out = answer;
        if (json_is_true(json_object_get(answer, "done")))
            return 0;
        const json_t *nodes = json_object_get(answer, "nodes");
        json_int_t now = progress_of(nodes);
        if (now != before)
            request_restart_clock(l);
        else if (request_left(l) <= pause)
            return 0;
        before = now;
        if (clock_boot_ms() - begin > TELL_AFTER_MS)
            tell_progress(a, nodes);
        const struct timespec t = {.tv_nsec = (long)pause * 1000000};
        nanosleep(&t, NULL);
        pause = 2 * pause < POLL_MAX_MS ? 2 * pause : POLL_MAX_MS;
    }
}

static void print_node(const struct admin *a, const json_t *m, int width)
{
    const char *state = cluster_text(m, "state"), *on = color_of(a, state),
               *digest = cluster_text(m, "digest");
    char index[24] = "-", size[32] = "-";
    if (digest[0] != '\0')
        snprintf(index, sizeof index, "%lld", (long long)cluster_number(m, "index"));
    if (cluster_number(m, "read_bytes") > 0)
        format_size((uint64_t)cluster_number(m, "read_bytes"), size, sizeof size);
    printf("%-*s  %s%-11s%s  %-10s  %-16s  %s\n", width, cluster_text(m, "node"), on, state,
           on[0] != '\0' ? "\033[0m" : "", index, digest[0] != '\0' ? digest : "-", size);
}

static void print_sentence(size_t n, size_t bad, size_t unasked)
{
    if (bad > 0)
        printf("%zu of %zu nodes %s not well. What is damaged, a node fetches anew by itself; a node that "
               "differs "
               "does not: stop it and delete its state.db.\n",
               bad, n, bad == 1 ? "is" : "are");
    else if (unasked > 0)
        printf("%zu of %zu nodes could not be asked; the others have the same state, and it is whole.\n",
               unasked, n);
    else if (n == 1)
        puts("What the node stores is whole.");
    else
        printf("All %zu nodes have the same state, and what they store is whole.\n", n);
}

static int print_answer(const struct admin *a, const json_t *answer)
{
    const json_t *nodes = json_object_get(answer, "nodes"), *m;
    size_t i, bad = 0, unasked = 0;
    int width = 4;
    json_array_foreach(nodes, i, m) if ((int)strlen(cluster_text(m, "node")) > width) width =
        (int)strlen(cluster_text(m, "node"));
    if (a->opt[OPT_JSON] == NULL)
        printf("%-*s  %-11s  %-10s  %-16s  %s\n", width, "NODE", "STATE", "REVISION", "DIGEST", "READ");
    json_array_foreach(nodes, i, m)
    {
        const char *state = cluster_text(m, "state");
        bool is_bad = strcmp(state, "differs") == 0 || strcmp(state, "damaged") == 0;
        bad += is_bad;
        unasked += !is_bad && strcmp(state, "ok") != 0;
        if (a->opt[OPT_JSON] == NULL)
            print_node(a, m, width);
        else
            json_line(json_pack("{s:O?, s:O?, s:O?, s:O?, s:O?, s:O?}", "node", json_object_get(m, "node"),
                                "state", json_object_get(m, "state"), "index", json_object_get(m, "index"),
                                "digest", json_object_get(m, "digest"), "read_bytes",
                                json_object_get(m, "read_bytes"), "error", json_object_get(m, "error")));
    }
    if (a->opt[OPT_JSON] == NULL) {
        json_array_foreach(nodes, i, m)
        {
            if (cluster_text(m, "error")[0] != '\0')
                printf("%s: %s\n", cluster_text(m, "node"), cluster_text(m, "error"));
        }
        print_sentence(json_array_size(nodes), bad, unasked);
    }
    return bad > 0 ? EXIT_FAILED : unasked > 0 ? EXIT_UNAVAILABLE : EXIT_OK;
}

int verb_verify(struct admin *a)
{
    struct request_link l;
    uint64_t rate = 0;
    json_t *answer;
    if (a->opt[OPT_RATE] != NULL && !admin_parse_number(a->opt[OPT_RATE], 1, 100000, &rate))
        return admin_usage(a, "--rate %s: use a number of MiB a second from 1 to 100000", a->opt[OPT_RATE]);
    int exit = request_open(a, &l);
    if (exit != EXIT_OK)
        return exit;
    int rc = wait_for_nodes(a, &l, rate << 20, &answer);
    clear_progress(a);
    if (rc != 0)
        exit = cluster_fail(&l, NULL, rc, false);
    else
        exit = print_answer(a, answer);
    json_decref(answer);
    request_close(&l);
    return exit;
}
