/* locks: what is locked, by whom, and who waits. */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/request.h"
#include "kvnode/admin/verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "sync/base/error.h"
#include "sync/base/lock_ranges.h"

/* What there is to say of who has it, or waits, beside the row. */
static void print_json(const struct lock_row *r, const char *key, const struct held_answer *held)
{
    json_t *object =
        json_pack("{s:I, s:s, s:b, s:b, s:I, s:I, s:I, s:I, s:I}", "ino", (json_int_t)r->ino, "kind",
                  lock_kind_name(r->kind), "exclusive", (r->exclusive & LOCK_ROW_EXCLUSIVE) != 0, "waits",
                  r->wait != 0, "start", (json_int_t)r->start, "end", (json_int_t)r->end, "session",
                  (json_int_t)r->session, "owner", (json_int_t)r->owner, "pid", (json_int_t)r->pid);
    char since[40];

    json_set_bytes(object, "node", r->node, r->node_len);
    if (key != NULL)
        json_object_set_new(object, "key", json_string(key));
    else if (held->path.len > 0)
        json_set_bytes(object, "key", held->path.data, held->path.len);
    if (held->client.len > 0)
        json_set_bytes(object, "client", held->client.data, held->client.len);
    if (held->fence != 0 && r->kind == LOCK_OF_FLOCK && r->wait == 0) {
        format_time_utc((int64_t)held->since_ns, since, sizeof since);
        json_object_set_new(object, "fence", json_integer((json_int_t)held->fence));
        json_object_set_new(object, "since", json_string(since));
    }
    json_line(object);
}

static void print_row(const struct admin *a, const char *key, const struct lock_row *r,
                      const struct held_answer *held)
{
    char what[64] = "flock", since[40];

    if (a->opt[OPT_JSON] != NULL) {
        print_json(r, key, held);
        return;
    }
    if (r->kind == LOCK_DELEGATED)
        snprintf(what, sizeof what, "all");
    else if (r->kind == LOCK_OF_RANGE && r->end == LOCK_RANGE_END)
        snprintf(what, sizeof what, "from %" PRIu64, r->start);
    else if (r->kind == LOCK_OF_RANGE)
        snprintf(what, sizeof what, "%" PRIu64 "-%" PRIu64, r->start, r->end);
    if (key != NULL)
        fputs(key, stdout);
    else if (held->path.len > 0)
        format_name(stdout, held->path.data, held->path.len, a->quote);
    else
        printf("inode %" PRIu64, r->ino);
    printf("  %-9s  %s  %s  process %" PRIu32 " at %.*s", lock_mode_name(r), what,
           r->wait != 0 ? "waits" : "holds", r->pid, (int)r->node_len, (const char *)r->node);
    if (held->client.len > 0) {
        fputs(" (", stdout);
        format_name(stdout, held->client.data, held->client.len, a->quote);
        putchar(')');
    }
    if (held->fence != 0 && r->kind == LOCK_OF_FLOCK && r->wait == 0) {
        format_time((int64_t)held->since_ns, since, sizeof since);
        printf(", since %s, fence %" PRIu64, since, held->fence);
    }
    printf(", session %" PRIu64 ", owner %" PRIx64 "\n", r->session, r->owner);
}

/* A node of before does not know more than the row. 0, KV_E_*, -errno. */
static int describe(struct request_link *l, const char *key, const struct lock_row *r)
{
    const union request_body ask = {.held = {.at = request_at(l), .ino = r->ino, .session = r->session}};
    union answer_body answer = {.held = {0}};
    int rc = request_ask(l, MESSAGE_HELD, &ask, &answer);

    if (rc == KV_E_NOTSUP)
        answer.held = (struct held_answer){0};
    else if (rc != 0)
        return rc;
    print_row(l->admin, key, r, &answer.held);
    return 0;
}

static int list(struct request_link *l, const char *key, uint64_t ino)
{
    union request_body ask = {.locks = {.at = request_at(l), .ino = ino, .all = key == NULL}};
    union answer_body answer;
    struct buffer page = BUFFER_INIT; /* answers are gone with the next request */
    bool more;
    int rc;

    do {
        rc = request_ask(l, MESSAGE_LOCKS, &ask, &answer);
        if (rc != 0)
            break;
        uint32_t n = answer.locks.rows.count;
        more = answer.locks.more != 0 && n > 0;
        buffer_clear(&page);
        buffer_put_bytes(&page, answer.locks.rows.bytes.data, answer.locks.rows.bytes.len);
        if (page.failed) {
            rc = -ENOMEM;
            break;
        }
        struct cursor rows = cursor_of(page.data, page.len);
        for (uint32_t i = 0; i < n && rc == 0; i++) {
            struct lock_row row;

            lock_row_decode(&rows, &row);
            rc = describe(l, key, &row);
            ask.locks.ino = row.ino + 1;
            request_restart_clock(l);
        }
    } while (rc == 0 && more);
    buffer_deinit(&page);
    return rc;
}

int verb_locks(struct admin *a)
{
    const char *key = a->n_args > 0 ? a->args[0] : NULL;
    struct attr attr = {0};
    struct request_link l;
    int rc = 0, exit = key != NULL ? admin_key(a, key, true, false) : EXIT_OK;

    if (exit == EXIT_OK)
        exit = request_open(a, &l);
    if (exit != EXIT_OK)
        return exit;
    if (key != NULL)
        rc = request_resolve(&l, key, a->opt[OPT_LOCAL] != NULL, &attr);
    if (rc == 0)
        rc = list(&l, key, attr.ino);
    if (rc != 0)
        exit = cluster_fail(&l, key != NULL ? key : "locks", rc, false);
    request_close(&l);
    return exit;
}
