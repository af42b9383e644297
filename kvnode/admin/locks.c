/* locks: what is locked, by whom, and who waits. */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/request.h"
#include "kvnode/admin/verbs.h"

#include <inttypes.h>
#include <stdio.h>

#include "sync/base/error.h"
#include "sync/base/lock_ranges.h"

static void print_row(const struct admin *a, const char *key, const struct lock_row *r)
{
    char what[64] = "flock";

    if (a->opt[OPT_JSON] != NULL) {
        json_t *object =
            json_pack("{s:I, s:s, s:b, s:b, s:I, s:I, s:I, s:I, s:I}", "ino", (json_int_t)r->ino, "kind",
                      r->kind == LOCK_OF_FLOCK ? "flock" : "range", "exclusive", r->exclusive, "waits",
                      r->wait != 0, "start", (json_int_t)r->start, "end", (json_int_t)r->end, "session",
                      (json_int_t)r->session, "owner", (json_int_t)r->owner, "pid", (json_int_t)r->pid);

        json_set_bytes(object, "node", r->node, r->node_len);
        if (key != NULL)
            json_object_set_new(object, "key", json_string(key));
        json_line(object);
        return;
    }
    if (r->kind == LOCK_OF_RANGE && r->end == LOCK_RANGE_END)
        snprintf(what, sizeof what, "from %" PRIu64, r->start);
    else if (r->kind == LOCK_OF_RANGE)
        snprintf(what, sizeof what, "%" PRIu64 "-%" PRIu64, r->start, r->end);
    if (key != NULL)
        fputs(key, stdout);
    else
        printf("inode %" PRIu64, r->ino);
    printf("  %-9s  %s  %s  process %" PRIu32 " at %.*s, session %" PRIu64 ", owner %" PRIx64 "\n",
           r->exclusive ? "exclusive" : "shared", what, r->wait != 0 ? "waits" : "holds", r->pid,
           (int)r->node_len, (const char *)r->node, r->session, r->owner);
}

static int list(struct request_link *l, const char *key, uint64_t ino)
{
    union request_body ask = {.locks = {.at = request_at(l), .ino = ino, .all = key == NULL}};
    union answer_body answer;
    int rc;

    do {
        rc = request_ask(l, MESSAGE_LOCKS, &ask, &answer);
        if (rc != 0)
            return rc;
        struct cursor rows = rows_cursor(&answer.locks.rows);
        for (uint32_t i = 0; i < answer.locks.rows.count; i++) {
            struct lock_row row;

            lock_row_decode(&rows, &row);
            print_row(l->admin, key, &row);
            ask.locks.ino = row.ino + 1;
        }
        request_restart_clock(l);
    } while (answer.locks.more != 0 && answer.locks.rows.count > 0);
    return 0;
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
