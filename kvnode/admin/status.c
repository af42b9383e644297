#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/verbs.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *color_of(const struct admin *a, const char *state)
{
    if (!a->color)
        return "";
    return strcmp(state, "healthy") == 0  ? "\033[32m"
           : strcmp(state, "behind") == 0 ? "\033[33m"
                                          : "\033[31m";
}

/* "6 s", not "6.0 s": how long ago is no measurement. */
static void format_ago(json_int_t ms, char *out, size_t size)
{
    if (ms < 10000)
        snprintf(out, size, "%lld s", (long long)ms / 1000);
    else
        format_duration((uint64_t)ms, out, size);
}

static void print_member(const struct admin *a, const json_t *m, int width)
{
    const char *state = cluster_text(m, "state");
    const char *on = color_of(a, state);
    const json_t *seen = json_object_get(m, "last_seen_ms");
    bool unreachable = strcmp(state, "unreachable") == 0, silent = strcmp(state, "silent") == 0;
    char behind[80], ago[32];
    if (unreachable && !json_is_integer(seen)) {
        snprintf(behind, sizeof behind, "never seen");
    } else if (unreachable || silent) {
        format_ago(json_integer_value(seen), ago, sizeof ago);
        snprintf(behind, sizeof behind, silent ? "for %s" : "last seen %s ago", ago);
    } else if (strcmp(state, "stuck") == 0 || strcmp(state, "behind") == 0) {
        format_ago(cluster_number(m, "lag_ms"), ago, sizeof ago);
        snprintf(behind, sizeof behind, "%lld, for %s", (long long)cluster_number(m, "behind"), ago);
    } else {
        snprintf(behind, sizeof behind, "%lld", (long long)cluster_number(m, "behind"));
    }
    printf("%-*s  %-8s  %s%-11s%s  %s%s\n", width, cluster_text(m, "name"), cluster_text(m, "role"), on,
           state, on[0] != '\0' ? "\033[0m" : "", behind,
           json_is_false(json_object_get(m, "voter")) ? "  (no voter)" : "");
}

/* What every node said of itself, the last time it was heard. */
static void print_nodes(const json_t *members, int width)
{
    const json_t *m;
    size_t i;
    printf("\n%-*s  %-9s  %9s  %9s  %9s  %9s  %9s  %s\n", width, "NODE", "VERSION", "KEYS", "DATA",
           "DISK FREE", "MEMORY", "UP", "HEARS");
    json_array_foreach(members, i, m)
    {
        const json_t *hears = json_object_get(m, "hears"), *h;
        char data[32], disk[32], memory[32], up[32];
        size_t k;
        if (hears == NULL) {
            printf("%-*s  -\n", width, cluster_text(m, "name"));
            continue;
        }
        format_size((uint64_t)cluster_number(m, "bytes"), data, sizeof data);
        format_size((uint64_t)cluster_number(m, "disk_free"), disk, sizeof disk);
        format_size((uint64_t)cluster_number(m, "rss_bytes"), memory, sizeof memory);
        format_duration((uint64_t)cluster_number(m, "uptime_ms"), up, sizeof up);
        printf("%-*s  %-9s  %9lld  %9s  %9s  %9s  %9s  ", width, cluster_text(m, "name"),
               cluster_text(m, "version"), (long long)cluster_number(m, "keys"), data,
               cluster_number(m, "disk_total") != 0 ? disk : "?", memory, up);
        json_array_foreach(hears, k, h)
        {
            printf("%s%s", k > 0 ? "," : "", json_string_value(h));
        }
        puts(k > 0 ? "" : "-");
    }
}

static void print_details(const json_t *s)
{
    char uptime[32], bytes[32], max[32], memory[32];
    format_duration((uint64_t)cluster_number(s, "uptime_ms"), uptime, sizeof uptime);
    format_size((uint64_t)cluster_number(s, "bytes"), bytes, sizeof bytes);
    format_size((uint64_t)cluster_number(s, "max_bytes"), max, sizeof max);
    format_size((uint64_t)cluster_number(s, "memory_bytes"), memory, sizeof memory);
    printf("\nnode      %s (version %s, pid %lld, up %s)\n", cluster_text(s, "node"),
           cluster_text(s, "version"), (long long)cluster_number(s, "pid"), uptime);
    printf("cluster   %s, term %lld, revision %s\n", cluster_text(s, "cluster_id"),
           (long long)cluster_number(s, "term"), cluster_text(s, "revision"));
    printf("log       first %lld, applied %lld, committed %lld, last %lld, on disk %lld\n",
           (long long)cluster_number(s, "log_first"), (long long)cluster_number(s, "applied"),
           (long long)cluster_number(s, "commit"), (long long)cluster_number(s, "last_index"),
           (long long)cluster_number(s, "durable"));
    printf("digest    %s at %lld\n", cluster_text(s, "digest"), (long long)cluster_number(s, "digest_index"));
    printf("data      %lld of %lld keys, %s of %s; memory %s; %lld sessions\n",
           (long long)cluster_number(s, "keys"), (long long)cluster_number(s, "max_keys"), bytes, max, memory,
           (long long)cluster_number(s, "sessions"));
    const json_t *scrub = json_object_get(s, "scrub"), *ago = json_object_get(scrub, "ended_ms_ago");
    char took[32], when[32];
    format_duration((uint64_t)cluster_number(scrub, "took_ms"), took, sizeof took);
    format_duration((uint64_t)json_integer_value(ago), when, sizeof when);
    format_size((uint64_t)cluster_number(scrub, "read_bytes"), bytes, sizeof bytes);
    if (json_is_integer(ago))
        printf("scrub     %s, %s ago: %s in %s%s\n", cluster_text(scrub, "last"), when, bytes, took,
               json_is_true(json_object_get(scrub, "running")) ? "; running" : "");
    else
        printf("scrub     %s\n", json_is_true(json_object_get(scrub, "running")) ? "running" : "not yet");
    printf("files     %s, %s\n", cluster_text(s, "data_dir"), cluster_text(s, "socket"));
}

static void print_status(const struct admin *a, const json_t *s)
{
    const json_t *members = json_object_get(s, "members"), *warnings = json_object_get(s, "warnings"), *m;
    char sentence[400];
    size_t i;
    int width = 4;
    json_array_foreach(members, i, m) if ((int)strlen(cluster_text(m, "name")) > width) width =
        (int)strlen(cluster_text(m, "name"));
    printf("%-*s  %-8s  %-11s  %s\n", width, "NODE", "ROLE", "STATE", "BEHIND");
    json_array_foreach(members, i, m)
    {
        print_member(a, m, width);
    }
    cluster_sentence(s, sentence, sizeof sentence);
    puts(sentence);
    json_array_foreach(members, i, m)
    {
        const char *error = cluster_text(m, "error");
        if (error[0] != '\0' && a->opt[OPT_VERBOSE] != NULL)
            printf("%s: %s\n", cluster_text(m, "name"), error);
    }
    json_array_foreach(warnings, i, m)
    {
        printf("warning: %s\n", json_string_value(m));
    }
    if (a->opt[OPT_VERBOSE] == NULL)
        return;
    print_nodes(members, width);
    print_details(s);
}

static int show(struct admin *a, struct request_link *l, bool again)
{
    json_t *status;
    int rc = cluster_status(l, &status);
    if (rc != 0)
        return cluster_fail(l, NULL, rc, false);
    if (again && a->opt[OPT_JSON] == NULL && isatty(STDOUT_FILENO))
        fputs("\033[H\033[J", stdout);
    bool quorum = json_is_true(json_object_get(status, "quorum"));
    if (a->opt[OPT_JSON] != NULL) {
        json_line(status);
    } else {
        print_status(a, status);
        json_decref(status);
    }
    return quorum ? EXIT_OK : EXIT_UNAVAILABLE;
}

int verb_status(struct admin *a)
{
    struct request_link l;
    int exit = request_open(a, &l);
    if (exit != EXIT_OK)
        return exit;
    exit = show(a, &l, a->opt[OPT_WATCH] != NULL);
    while (a->opt[OPT_WATCH] != NULL && fflush(stdout) == 0) {
        const struct timespec second = {.tv_sec = 1};
        nanosleep(&second, NULL);
        request_restart_clock(&l);
        exit = show(a, &l, true);
    }
    request_close(&l);
    return exit;
}

int verb_members(struct admin *a)
{
    struct request_link l;
    json_t *status, *m;
    size_t i;
    int exit = request_open(a, &l);
    if (exit != EXIT_OK)
        return exit;
    int rc = cluster_status(&l, &status);
    if (rc != 0) {
        exit = cluster_fail(&l, NULL, rc, false);
    } else {
        const json_t *members = json_object_get(status, "members");
        if (a->opt[OPT_JSON] == NULL)
            printf("%-12s %-6s %-9s %s\n", "NODE", "ID", "VOTER", "ADDRESS");
        json_array_foreach(members, i, m)
        {
            if (a->opt[OPT_JSON] != NULL) {
                json_line(json_pack("{s:O?, s:O?, s:O?, s:O?}", "name", json_object_get(m, "name"), "id",
                                    json_object_get(m, "id"), "voter", json_object_get(m, "voter"), "address",
                                    json_object_get(m, "address")));
                continue;
            }
            printf("%-12s %-6lld %-9s %s\n", cluster_text(m, "name"), (long long)cluster_number(m, "id"),
                   json_is_true(json_object_get(m, "voter")) ? "yes" : "no", cluster_text(m, "address"));
        }
        json_decref(status);
    }
    request_close(&l);
    return exit;
}
