/* log: the operation log's newest rows, oldest first, then (--follow) each new
 * one. watch: the same, followed from now on, for one key or what is below it.
 *
 * A subscription only says that something happened; the rows are always read
 * from the log after the last one printed, so none is lost or doubled. */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/request.h"
#include "kvnode/admin/verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 500
#define LOOK_AGAIN_MS 500

struct printer {
    const struct admin *a;
    const char *below; /* only this key and what is below it; "" for all */
    uint64_t skip;     /* rows not to print */
    uint64_t seen;     /* rows that matched */
    bool silent;       /* only count */
};

static bool concerns(const char *below, const uint8_t *key, size_t len)
{
    while (*below == '/')
        below++;
    size_t n = strlen(below);
    while (n > 0 && below[n - 1] == '/')
        n--;
    return n == 0 || (len >= n && memcmp(key, below, n) == 0 && (len == n || key[n] == '/'));
}

static void print_row(struct printer *p, const struct log_row *r)
{
    char when[32], author[128], size[32], version[40] = "-";
    if (p->a->opt[OPT_JSON] != NULL) {
        json_t *object = json_version_row(&r->row);
        json_set_bytes(object, "key", r->key, r->key_len);
        if (r->from_len > 0)
            json_set_bytes(object, "from", r->from, r->from_len);
        json_line(object);
        return;
    }
    format_time(r->row.wall_ns, when, sizeof when);
    format_author(r->row.author_uid, r->row.author_node, author, sizeof author);
    format_size(r->row.size, size, sizeof size);
    if (r->row.version != 0)
        snprintf(version, sizeof version, "%" PRIu64 "%s", r->row.version, r->row.deleted ? ".deleted" : "");
    /* A directory that `set` made on the way is no set. */
    bool made = r->row.type == INODE_DIRECTORY && r->row.op == COMMAND_SET;
    bool sized = !r->row.deleted && r->row.type != INODE_DIRECTORY;
    printf("%-19s  %-9s %-10s %10s  %-12s  ", when,
           made ? command_op_name(COMMAND_MKDIR) : version_row_op(&r->row), version, sized ? size : "-",
           author);
    format_name(stdout, r->key, r->key_len, p->a->quote);
    if (r->from_len > 0) {
        fputs("  from ", stdout);
        format_name(stdout, r->from, r->from_len, p->a->quote);
    }
    putchar('\n');
}

/* Reads all rows after *after and moves it. 0, KV_E_*, -errno. */
static int read_rows(struct request_link *l, uint64_t *after, struct printer *p)
{
    for (bool more = true; more;) {
        struct buffer body = BUFFER_INIT;
        struct cursor answer;
        buffer_put_u64(&body, *after);
        buffer_put_u32(&body, request_rows(l, PAGE));
        int rc = request_ask(l, MESSAGE_LOG, &body, &answer);
        buffer_deinit(&body);
        if (rc != 0)
            return rc;
        more = cursor_u8(&answer) != 0;
        uint32_t count = cursor_u32(&answer);
        for (uint32_t i = 0; i < count; i++) {
            struct log_row r;
            log_row_decode(&answer, &r);
            if (answer.failed)
                return -EPROTO;
            *after = r.row.revision;
            if (!concerns(p->below, r.key, r.key_len) && !concerns(p->below, r.from, r.from_len))
                continue;
            if (p->seen++ >= p->skip && !p->silent)
                print_row(p, &r);
        }
        more = more && count > 0;
        request_restart_clock(l);
    }
    return 0;
}

/* The newest revision; with --local the newest that the node has applied. */
static int barrier(struct request_link *l, uint64_t *revision_out)
{
    struct cursor answer;
    json_t *status;
    if (l->admin->opt[OPT_LOCAL] != NULL) {
        int rc = cluster_status(l, &status);
        if (rc == 0)
            *revision_out = (uint64_t)cluster_number(status, "applied");
        json_decref(status);
        return rc;
    }
    int rc = request_ask(l, MESSAGE_BARRIER, NULL, &answer);
    if (rc == 0)
        *revision_out = cursor_u64(&answer);
    return rc;
}

/* Finds a place from which at least `last` rows follow, in growing steps back. */
static int find_start(struct request_link *l, uint64_t now, uint64_t last, uint64_t *start_out,
                      uint64_t *skip_out)
{
    for (uint64_t back = last * 4 + 64;; back *= 4) {
        struct printer count = {.a = l->admin, .below = "", .silent = true};
        uint64_t after = now > back ? now - back : 0;
        *start_out = after;
        int rc = read_rows(l, &after, &count);
        if (rc != 0)
            return rc;
        if (count.seen >= last || *start_out == 0) {
            *skip_out = count.seen > last ? count.seen - last : 0;
            return 0;
        }
    }
}

/* Prints rows as they come, until the connection is lost. */
static int follow(struct request_link *l, uint64_t after, struct printer *p)
{
    struct buffer body = BUFFER_INIT;
    struct cursor answer;
    struct frame frame;
    buffer_put_u64(&body, after);
    int rc = request_ask(l, MESSAGE_SUBSCRIBE, &body, &answer);
    buffer_deinit(&body);
    while (rc == 0) {
        rc = read_rows(l, &after, p);
        if (fflush(stdout) != 0)
            return 0; /* the reader has gone */
        if (rc != 0)
            break;
        rc = client_wait(l->client, LOOK_AGAIN_MS, &frame);
        rc = rc == 1 || rc == -ETIMEDOUT ? 0 : rc;
    }
    return rc;
}

int verb_log(struct admin *a)
{
    uint64_t last = 20, now = 0, after = 0;
    struct printer p = {.a = a, .below = ""};
    if (a->opt[OPT_LAST] != NULL && !admin_parse_number(a->opt[OPT_LAST], 1, 100000000, &last))
        return admin_usage(a, "--last %s: use a number from 1", a->opt[OPT_LAST]);
    struct request_link l;
    int exit = request_open(a, &l);
    if (exit != EXIT_OK)
        return exit;
    int rc = barrier(&l, &now);
    if (rc == 0)
        rc = find_start(&l, now, last, &after, &p.skip);
    if (rc == 0)
        rc = a->opt[OPT_FOLLOW] != NULL ? follow(&l, after, &p) : read_rows(&l, &after, &p);
    if (rc != 0)
        exit = cluster_fail(&l, NULL, rc, false);
    request_close(&l);
    return exit;
}

int verb_watch(struct admin *a)
{
    struct printer p = {.a = a, .below = a->n_args > 0 ? a->args[0] : ""};
    struct request_link l;
    uint64_t after = 0;
    int exit = admin_key(a, p.below, true, false);
    if (exit != EXIT_OK)
        return exit;
    exit = request_open(a, &l);
    if (exit != EXIT_OK)
        return exit;
    int rc = barrier(&l, &after);
    if (rc == 0)
        rc = follow(&l, after, &p);
    if (rc != 0)
        exit = cluster_fail(&l, a->n_args > 0 ? a->args[0] : NULL, rc, false);
    request_close(&l);
    return exit;
}
