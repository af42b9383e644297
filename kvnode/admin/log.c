/* log: the operation log's newest rows, oldest first, then (--follow) each new
 * one. watch: the same, followed from now on, for one key or what is below it.
 *
 * A subscription only says that something happened; the rows are always read
 * from the log after the last one printed, so none is lost or doubled. Where that was is
 * known by the log's own cursor, which means the same to every node: whoever follows goes
 * on at the next node when his own dies, and waits for one if there is none: for as long as it takes,
 * or with --timeout until there has been none that could be read for so long.
 *
 * Rows go with the history of their names (max_dead_names). Who comes late is told between which
 * revisions some are missing, once, before the rows that are there. */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/request.h"
#include "kvnode/admin/verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"

#define PAGE 500
#define LOOK_AGAIN_MS 500

/* How far the log has been read. */
struct place {
    uint64_t after;                 /* revision from behind which it was to be read */
    uint8_t cursor[LOG_CURSOR_MAX]; /* the node's; empty at first */
    size_t len;
};

struct printer {
    const struct admin *a;
    const char *below; /* only this key and what is below it; "" for all */
    uint64_t skip;     /* rows not to print */
    uint64_t seen;     /* rows that matched */
    uint64_t told;     /* revision up to which it does not matter, or was told, that rows are gone */
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
    bool sized = !r->row.deleted && (r->row.type == INODE_FILE || r->row.type == INODE_SYMLINK);
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

/* What follows the cursor; nothing does at a node that does not know what is gone. */
static void take_gap(uint64_t after, uint64_t until, struct printer *p)
{
    char from[32], to[32];
    if (until <= p->told || p->silent)
        return;
    format_revision(after > p->told ? after : p->told, from, sizeof from);
    format_revision(until, to, sizeof to);
    p->told = until;
    if (p->a->opt[OPT_JSON] != NULL) {
        json_line(json_pack("{s:s, s:s, s:s}", "operation", "gap", "after", from, "revision", to));
        return;
    }
    fflush(stdout); /* the rows before it */
    admin_fail(p->a, EXIT_OK, NULL, "not all changes between revision %s and %s are kept any more", from, to);
}

static bool take_cursor(const struct bytes *cursor, struct place *at)
{
    if (cursor->len == 0)
        return false;
    memcpy(at->cursor, cursor->data, cursor->len);
    at->len = cursor->len;
    return true;
}

/* Reads all rows behind the place and moves it, row by row: what was printed is not printed
 * again, whatever happens next. 0, KV_E_*, -errno. */
static int read_rows(struct request_link *l, struct place *at, struct printer *p)
{
    for (bool more = true; more;) {
        const union request_body body = {.log = {.after = at->after,
                                                 .n = request_rows(l, PAGE),
                                                 .has_cursor = true,
                                                 .cursor = bytes_of(at->cursor, at->len)}};
        union answer_body answer;
        /* Nothing of a page is printed before its end is known to be whole. */
        int rc = request_ask(l, MESSAGE_LOG, &body, &answer);
        if (rc != 0)
            return rc;
        more = answer.log.more != 0;
        if (!take_cursor(&answer.log.cursor, at))
            return -EPROTO;
        take_gap(answer.log.gap_after, answer.log.gap_until, p);
        struct cursor rows = rows_cursor(&answer.log.rows);
        for (uint32_t i = 0; i < answer.log.rows.count; i++) {
            struct log_row r;
            log_row_decode(&rows, &r);
            if (!concerns(p->below, r.key, r.key_len) && !concerns(p->below, r.from, r.from_len))
                continue;
            if (p->seen++ >= p->skip && !p->silent)
                print_row(p, &r);
        }
        request_restart_clock(l);
    }
    return 0;
}

/* The newest revision; with --local the newest that the node has applied. */
static int barrier(struct request_link *l, uint64_t *revision_out)
{
    union answer_body answer;
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
        *revision_out = answer.barrier.revision;
    return rc;
}

/* Finds a place from which at least `last` rows follow, in growing steps back. */
static int find_start(struct request_link *l, uint64_t now, uint64_t last, uint64_t *start_out,
                      uint64_t *skip_out)
{
    for (uint64_t back = last * 4 + 64;; back *= 4) {
        struct printer count = {.a = l->admin, .below = "", .silent = true};
        struct place at = {.after = now > back ? now - back : 0};
        *start_out = at.after;
        int rc = read_rows(l, &at, &count);
        if (rc != 0)
            return rc;
        if (count.seen >= last || *start_out == 0) {
            *skip_out = count.seen > last ? count.seen - last : 0;
            return 0;
        }
    }
}

/* Whether it is the node that failed, and another one, or it itself later, may do. */
static bool may_pass(int rc)
{
    return rc == -ECONNRESET || rc == -EPIPE || rc == -ECONNREFUSED || rc == -ENOENT || rc == -ETIMEDOUT ||
           rc == KV_E_UNAVAILABLE || rc == KV_E_NOTLEADER || rc == KV_E_BUSY;
}

static int subscribe(struct request_link *l, uint64_t after)
{
    union answer_body answer;
    return request_ask(l, MESSAGE_SUBSCRIBE, &(union request_body){.subscribe.after = after}, &answer);
}

/* since_ms: of the last word of any node. */
static bool is_over(const struct request_link *l, uint64_t since_ms)
{
    return l->admin->opt[OPT_TIMEOUT] != NULL && clock_boot_ms() - since_ms >= l->admin->timeout_ms;
}

/* Waits for any node. -ETIMEDOUT: for too long. */
static int find_node(struct request_link *l, uint64_t cluster, uint64_t since_ms)
{
    bool told = false;
    for (;;) {
        int rc = request_reconnect(l);
        if (rc == 0 && l->node.cluster_id != cluster) {
            admin_say(l->admin, "kvnode: node %s belongs to another cluster now", l->node.name);
            return -EPROTO;
        }
        if (rc == 0) {
            admin_say(l->admin, "kvnode: going on at node %s", l->node.name);
            return 0;
        }
        if (!told)
            admin_say(l->admin, "kvnode: no node answers (%s); waiting for one", l->detail);
        told = true;
        if (is_over(l, since_ms))
            return -ETIMEDOUT;
        request_pause(LOOK_AGAIN_MS);
    }
}

/* Prints rows as they come, until the reader goes or what happens is beyond waiting. */
static int follow(struct request_link *l, uint64_t after, struct printer *p)
{
    const uint64_t cluster = l->node.cluster_id;
    uint64_t heard_ms = clock_boot_ms();
    unsigned failures = 0; /* since then */
    struct place at = {.after = after};
    struct frame frame;
    l->no_repeat = true; /* a new connection needs its own subscription */
    int rc = subscribe(l, after);
    for (;;) {
        if (rc == 0)
            rc = read_rows(l, &at, p);
        if (fflush(stdout) != 0)
            return 0; /* the reader has gone */
        if (rc == 0) {
            rc = client_wait(l->client, LOOK_AGAIN_MS, &frame);
            rc = rc == 1 || rc == -ETIMEDOUT ? 0 : rc;
            heard_ms = clock_boot_ms();
            failures = 0;
        }
        if (rc == 0)
            continue;
        /* A node that waits for people is not waited for. */
        if (!may_pass(rc) || l->way_back[0] != '\0')
            return rc;
        if (l->client != NULL)
            admin_say(l->admin, "kvnode: node %s: %s", l->node.name, rc > 0 ? error_text(rc) : strerror(-rc));
        /* One that stands still has taken all the time there was; another one may answer at once. */
        if (failures++ > 0 && is_over(l, heard_ms))
            return rc;
        rc = find_node(l, cluster, heard_ms);
        if (rc != 0)
            return rc;
        rc = subscribe(l, after);
    }
}

/* --since: a revision as --json shows it, 0-N, or N. */
static int parse_since(const struct admin *a, uint64_t *after_out)
{
    const char *text = a->opt[OPT_SINCE];
    if (strncmp(text, "0-", 2) == 0)
        text += 2;
    if (!admin_parse_number(text, 0, INT64_MAX, after_out))
        return admin_usage(a, "--since %s: use a revision such as 0-123", a->opt[OPT_SINCE]);
    if (a->opt[OPT_LAST] != NULL)
        return admin_usage(a, "--since and --last exclude each other");
    return EXIT_OK;
}

/* A revision that there is not yet would be waited for in silence. */
static int check_since(const struct admin *a, uint64_t after, uint64_t now)
{
    char newest[32];
    if (after <= now)
        return EXIT_OK;
    format_revision(now, newest, sizeof newest);
    return admin_fail(a, EXIT_FAILED, NULL, "--since %s: the newest revision is %s", a->opt[OPT_SINCE],
                      newest);
}

int verb_log(struct admin *a)
{
    uint64_t last = 20, now = 0;
    struct place start = {0};
    struct printer p = {.a = a, .below = ""};
    if (a->opt[OPT_LAST] != NULL && !admin_parse_number(a->opt[OPT_LAST], 1, 100000000, &last))
        return admin_usage(a, "--last %s: use a number from 1", a->opt[OPT_LAST]);
    struct request_link l;
    int exit = a->opt[OPT_SINCE] != NULL ? parse_since(a, &start.after) : EXIT_OK;
    if (exit == EXIT_OK)
        exit = request_open(a, &l);
    if (exit != EXIT_OK)
        return exit;
    int rc = barrier(&l, &now);
    if (rc == 0 && a->opt[OPT_SINCE] != NULL) {
        exit = check_since(a, start.after, now);
    } else if (rc == 0) {
        rc = find_start(&l, now, last, &start.after, &p.skip);
        p.told = now; /* the newest of those that there are */
    }
    if (rc == 0 && exit == EXIT_OK)
        rc = a->opt[OPT_FOLLOW] != NULL ? follow(&l, start.after, &p) : read_rows(&l, &start, &p);
    if (rc != 0)
        exit = cluster_fail(&l, NULL, rc, false);
    request_close(&l);
    return exit;
}

int verb_watch(struct admin *a)
{
    struct printer p = {.a = a, .below = a->n_args > 0 ? a->args[0] : ""};
    struct request_link l;
    uint64_t now = 0, after = 0;
    int exit = admin_key(a, p.below, true, false);
    if (exit == EXIT_OK && a->opt[OPT_SINCE] != NULL)
        exit = parse_since(a, &after);
    if (exit != EXIT_OK)
        return exit;
    exit = request_open(a, &l);
    if (exit != EXIT_OK)
        return exit;
    int rc = barrier(&l, &now);
    if (rc == 0 && a->opt[OPT_SINCE] != NULL)
        exit = check_since(a, after, now);
    else
        after = now;
    if (rc == 0 && exit == EXIT_OK)
        rc = follow(&l, after, &p);
    if (rc != 0)
        exit = cluster_fail(&l, a->n_args > 0 ? a->args[0] : NULL, rc, false);
    request_close(&l);
    return exit;
}
