/* log: the operation log's newest rows, oldest first, or those after a place, then (--follow) each new one.
 */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/follow.h"
#include "kvnode/admin/log_row.h"
#include "kvnode/admin/verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"

#define PAGE 500

struct printer {
    const struct admin *a;
    uint64_t skip; /* rows not to print */
    uint64_t seen; /* rows that matched */
    uint64_t told; /* revision up to which it does not matter, or was told, that rows are gone */
    bool silent;   /* only count */
};

static bool is_by(const char *by, const struct version_row *row)
{
    char author[100];
    if (strchr(by, '@') == NULL)
        return strcmp(by, row->label) == 0;
    format_author(row->author_uid, row->author_node, author, sizeof author);
    if (strcmp(by, author) == 0)
        return true;
    snprintf(author, sizeof author, "%" PRIu32 "@%s", row->author_uid, row->author_node);
    return strcmp(by, author) == 0;
}

static bool is_asked(const struct admin *a, const struct log_row *r)
{
    return (a->opt[OPT_KEY] == NULL || follow_concerns(a->opt[OPT_KEY], r)) &&
           (a->opt[OPT_BY] == NULL || is_by(a->opt[OPT_BY], &r->row)) &&
           (a->opt[OPT_OF_OP] == NULL || strcmp(a->opt[OPT_OF_OP], log_row_op(r)) == 0);
}

static int on_row(void *arg, const struct log_row *r, bool last)
{
    struct printer *p = arg;
    (void)last;
    if (!is_asked(p->a, r) || p->seen++ < p->skip || p->silent)
        return 0;
    if (p->a->opt[OPT_JSON] != NULL)
        json_line(log_row_json(r));
    else
        log_row_print(p->a, r);
    return 0;
}

/* What follows the cursor; nothing does at a node that does not know what is gone. */
static int on_gap(void *arg, uint64_t after, uint64_t until)
{
    struct printer *p = arg;
    char from[32], to[32];
    if (until <= p->told || p->silent)
        return 0;
    format_revision(after > p->told ? after : p->told, from, sizeof from);
    format_revision(until, to, sizeof to);
    p->told = until;
    if (p->a->opt[OPT_JSON] != NULL) {
        json_line(json_pack("{s:s, s:s, s:s}", "operation", "gap", "after", from, "revision", to));
        return 0;
    }
    fflush(stdout); /* the rows before it */
    admin_fail(p->a, EXIT_OK, NULL, "not all changes between revision %s and %s are kept any more", from, to);
    return 0;
}

static struct follow from_revision(struct request_link *l, uint64_t after, struct printer *p)
{
    return (struct follow){
        .link = l, .page = PAGE, .after = after, .covered = after, .row = on_row, .gap = on_gap, .arg = p};
}

/* Finds a place from which at least `last` rows follow, in growing steps back. */
static int find_start(struct request_link *l, uint64_t now, uint64_t last, uint64_t *start_out,
                      uint64_t *skip_out)
{
    for (uint64_t back = last * 4 + 64;; back *= 4) {
        struct printer count = {.a = l->admin, .silent = true};
        struct follow f = from_revision(l, now > back ? now - back : 0, &count);
        *start_out = f.after;
        int rc = follow_read(&f);
        if (rc != 0)
            return rc;
        if (count.seen >= last || *start_out == 0) {
            *skip_out = count.seen > last ? count.seen - last : 0;
            return 0;
        }
    }
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

/* Those that rows of the log have. */
static int check_op(const struct admin *a, const char *name)
{
    static const char *const ops[] = {"write",    "set",         "del",     "create", "mkdir",  "mknod",
                                      "symlink",  "link",        "unlink",  "rmdir",  "rename", "setattr",
                                      "setxattr", "removexattr", "restore", "expire"};
    char all[200] = "";
    for (size_t i = 0, len = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (strcmp(ops[i], name) == 0)
            return EXIT_OK;
        len += (size_t)snprintf(all + len, sizeof all - len, "%s%s", i > 0 ? ", " : "", ops[i]);
    }
    return admin_usage(a, "--op %s: there is no such operation, but: %s", name, all);
}

static int check_options(const struct admin *a, uint64_t *last_out)
{
    *last_out = 20;
    if (a->opt[OPT_LAST] != NULL && !admin_parse_number(a->opt[OPT_LAST], 1, 100000000, last_out))
        return admin_usage(a, "--last %s: use a number from 1", a->opt[OPT_LAST]);
    if (a->opt[OPT_SINCE] != NULL && a->opt[OPT_LAST] != NULL)
        return admin_usage(a, "--since and --last exclude each other");
    int exit = a->opt[OPT_OF_OP] != NULL ? check_op(a, a->opt[OPT_OF_OP]) : EXIT_OK;
    if (exit != EXIT_OK)
        return exit;
    return a->opt[OPT_KEY] != NULL ? admin_key(a, a->opt[OPT_KEY], true, false) : EXIT_OK;
}

int verb_log(struct admin *a)
{
    uint64_t last, now = 0, after = 0;
    struct printer p = {.a = a};
    struct request_link l;
    int exit = check_options(a, &last);
    if (exit == EXIT_OK)
        exit = request_open(a, &l);
    if (exit != EXIT_OK)
        return exit;
    if (a->opt[OPT_SINCE] != NULL)
        exit = follow_since(&l, a->opt[OPT_SINCE], &after);
    int rc = exit == EXIT_OK ? follow_newest(&l, &now) : 0;
    if (rc == 0 && exit == EXIT_OK && a->opt[OPT_SINCE] != NULL) {
        exit = check_since(a, after, now);
    } else if (rc == 0 && exit == EXIT_OK) {
        rc = find_start(&l, now, last, &after, &p.skip);
        p.told = now; /* the newest of those that there are */
    }
    if (rc == 0 && exit == EXIT_OK) {
        struct follow f = from_revision(&l, after, &p);
        rc = a->opt[OPT_FOLLOW] != NULL ? follow_run(&f) : follow_read(&f);
    }
    if (rc != 0)
        exit = cluster_fail(&l, NULL, rc, false);
    request_close(&l);
    return exit;
}
