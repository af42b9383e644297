/* watch: the changes of one key, or of what is below it, as they come; or a command run for them.
 *
 * A token stands for a place in the stream of operations: all up to it was told, or is being told to the
 * command that has it. The state that --initial shows is read behind the place from which changes follow, so
 * what changes meanwhile is told twice rather than not at all. */
#include "kvnode/admin/batch.h"
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/follow.h"
#include "kvnode/admin/log_row.h"
#include "kvnode/admin/value.h"
#include "kvnode/admin/verbs.h"
#include "kvnode/admin/walk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/wire/token.h"

#define PAGE 500
#define PAGE_VALUES 50
#define HEARTBEAT_MS 10000

struct watch {
    const struct admin *a;
    const char *below; /* only this key and what is below it; "" for all */
    struct request_link link;
    struct follow follow;
    struct batch batch;
    bool seen; /* a change was printed, or is in the batch */
    bool ran;  /* the command, at least once */
    uint64_t heartbeat_ms;
    int exit;
};

static void add_token(const struct watch *w, json_t *object, uint64_t revision)
{
    char token[PLACE_TOKEN_SIZE];
    place_token_format(w->link.node.cluster_id, revision, token);
    json_object_set_new(object, "token", json_string(token));
}

/* ---- one line each ---- */

static void print_value(const struct watch *w, json_t *object, const struct buffer *value)
{
    if (object != NULL) {
        json_set_bytes(object, "value", value->data, value->len);
        return;
    }
    (void)w;
    for (size_t at = 0; at < value->len;) {
        const uint8_t *line = value->data + at, *end = memchr(line, '\n', value->len - at);
        size_t n = end != NULL ? (size_t)(end - line) : value->len - at;
        fputs("    ", stdout);
        fwrite(line, 1, n, stdout);
        putchar('\n');
        at += n + 1;
    }
}

/* The value that a row is of, if it can be had. A node that is gone is no reason to leave it out. */
static int fetch(struct watch *w, const struct version_row *row, const uint8_t *key, size_t len,
                 struct value *v, bool *found_out)
{
    char path[2 * KV_PATH_MAX + 1];
    *found_out = false;
    if (row->deleted || row->attributes_only || row->type != INODE_FILE || len > 2 * KV_PATH_MAX ||
        row->size > READ_LENGTH_MAX)
        return 0;
    memcpy(path, key, len);
    path[len] = '\0';
    int rc = fetch_version(&w->link, path, row->version, v);
    *found_out = rc == 0;
    return rc < 0 || rc == KV_E_UNAVAILABLE || rc == KV_E_NOTLEADER || rc == KV_E_BUSY ? rc : 0;
}

static int show(struct watch *w, const struct log_row *r, uint64_t token)
{
    bool values = w->a->opt[OPT_VALUES] != NULL, found = false;
    struct value v = {.data = BUFFER_INIT};
    int rc = values ? fetch(w, &r->row, r->key, r->key_len, &v, &found) : 0;
    if (rc == 0 && w->a->opt[OPT_JSON] != NULL) {
        json_t *object = log_row_json(r);
        add_token(w, object, token);
        if (found)
            print_value(w, object, &v.data);
        else if (values && r->row.size > READ_LENGTH_MAX)
            json_object_set_new(object, "value_too_long", json_true());
        json_line(object);
    } else if (rc == 0) {
        log_row_print(w->a, r);
        if (found)
            print_value(w, NULL, &v.data);
    }
    buffer_deinit(&v.data);
    return rc;
}

/* ---- what follow tells ---- */

static int on_row(void *arg, const struct log_row *r, bool last)
{
    struct watch *w = arg;
    if (follow_concerns(w->below, r)) {
        int rc = w->a->command == NULL ? show(w, r, last ? r->row.revision : r->row.revision - 1) : 0;
        if (rc != 0)
            return rc;
        if (w->a->command != NULL)
            batch_add(&w->batch, r->key, r->key_len);
        w->seen = true;
    }
    /* The whole of a revision: otherwise the next watch would begin with the rest of it. */
    return w->a->opt[OPT_ONCE] != NULL && w->a->command == NULL && w->seen && last ? FOLLOW_END : 0;
}

/* What came after the one revision, up to the other, is not there; newest: from where on all is there again.
 */
static int reset(struct watch *w, uint64_t after, uint64_t until, uint64_t newest)
{
    char from[32], to[32];
    format_revision(after, from, sizeof from);
    format_revision(until, to, sizeof to);
    if (w->a->command != NULL) {
        /* The command's output is not mixed with it. */
    } else if (w->a->opt[OPT_JSON] != NULL) {
        json_t *object = json_pack("{s:b, s:s, s:s}", "reset", 1, "after", from, "until", to);
        add_token(w, object, newest);
        json_line(object);
    } else {
        puts("reset");
    }
    fflush(stdout);
    const char *subject = w->below[0] != '\0' ? w->below : NULL;
    if (newest < until)
        w->exit =
            admin_fail(w->a, EXIT_VERSION, subject,
                       "the newest revision is %s, and %s is not one of this cluster's history: what is "
                       "there has to be looked at anew (--initial)",
                       from, to);
    else
        w->exit = admin_fail(
            w->a, EXIT_VERSION, subject,
            "not all changes between revision %s and %s are kept any more: what is there has to be "
            "looked at anew (--initial)",
            from, to);
    return FOLLOW_END;
}

static int on_gap(void *arg, uint64_t after, uint64_t until)
{
    return reset(arg, after, until, until);
}

static int start(struct watch *w)
{
    char token[PLACE_TOKEN_SIZE];
    if (w->a->command == NULL || !w->batch.any || w->batch.child != 0)
        return 0;
    place_token_format(w->link.node.cluster_id, w->follow.covered, token);
    w->exit = batch_start(&w->batch, token);
    w->ran = true;
    return w->exit == EXIT_OK ? 0 : FOLLOW_END;
}

/* What has ended makes room for the next. */
static int take_end(struct watch *w)
{
    int status = 0;
    if (!batch_ended(&w->batch, &status))
        return 0;
    if (status != 0)
        admin_fail(w->a, EXIT_FAILED, NULL, "%s: exit status %d", w->a->command[0], status);
    if (w->a->opt[OPT_ONCE] == NULL)
        return 0;
    w->exit = status;
    return FOLLOW_END;
}

static int on_page_end(void *arg)
{
    struct watch *w = arg;
    int rc = take_end(w);
    return rc == 0 ? start(w) : rc;
}

static void heartbeat(struct watch *w)
{
    uint64_t now = clock_boot_ms();
    char when[40];
    if (w->a->opt[OPT_JSON] == NULL || w->a->command != NULL || now < w->heartbeat_ms)
        return;
    w->heartbeat_ms = now + HEARTBEAT_MS;
    format_time_utc((int64_t)clock_wall_ns(), when, sizeof when);
    json_t *object = json_pack("{s:b, s:s}", "heartbeat", 1, "time", when);
    add_token(w, object, w->follow.covered);
    json_line(object);
    fflush(stdout);
}

static int on_idle(void *arg)
{
    struct watch *w = arg;
    heartbeat(w);
    return on_page_end(w);
}

static int on_extra_fd(void *arg)
{
    return batch_fd(&((struct watch *)arg)->batch);
}

static unsigned on_wait(void *arg)
{
    const struct watch *w = arg;
    uint64_t now = clock_boot_ms();
    if (w->a->opt[OPT_JSON] == NULL || w->a->command != NULL)
        return UINT32_MAX;
    return now < w->heartbeat_ms ? (unsigned)(w->heartbeat_ms - now) : 0;
}

/* ---- what there is at first ---- */

static int on_entry(void *arg, const char *key, const struct attr *attr)
{
    struct watch *w = arg;
    struct value v = {.data = BUFFER_INIT};
    char when[32], size[32], version[24] = "-";
    if (w->a->command != NULL) {
        batch_add(&w->batch, key, strlen(key));
        return 0;
    }
    bool valued = w->a->opt[OPT_VALUES] != NULL && attr->type == INODE_FILE && attr->size <= READ_LENGTH_MAX;
    int rc = valued ? fetch_value(&w->link, key, w->a->opt[OPT_LOCAL] != NULL, &v) : 0;
    valued = valued && rc == 0;
    if (w->a->opt[OPT_JSON] != NULL) {
        char revision[32];
        format_revision(attr->revision, revision, sizeof revision);
        format_time_utc(attr->mtime_ns, when, sizeof when);
        json_t *object = json_pack("{s:s, s:I, s:s, s:s, s:s, s:I}", "operation", "exists", "version",
                                   (json_int_t)attr->version, "revision", revision, "time", when, "type",
                                   format_type(attr->type), "size", (json_int_t)attr->size);
        json_set_bytes(object, "key", key, strlen(key));
        add_token(w, object, w->follow.after);
        if (valued)
            print_value(w, object, &v.data);
        json_line(object);
    } else {
        format_time(attr->mtime_ns, when, sizeof when);
        format_size(attr->size, size, sizeof size);
        if (attr->version != 0)
            snprintf(version, sizeof version, "%" PRIu64, attr->version);
        bool sized = attr->type == INODE_FILE || attr->type == INODE_SYMLINK;
        printf("%-19s  %-9s %-10s %10s  %-15s  ", when, "exists", version, sized ? size : "-", "-");
        format_name(stdout, key, strlen(key), w->a->quote);
        putchar('\n');
        if (valued)
            print_value(w, NULL, &v.data);
    }
    buffer_deinit(&v.data);
    return rc < 0 ? rc : 0;
}

static int show_present(struct watch *w)
{
    int rc = walk(&w->link, w->below, on_entry, w);
    fflush(stdout);
    return rc == KV_E_NOENT ? 0 : rc;
}

/* ---- the verb ---- */

static int check_options(const struct admin *a)
{
    if (a->opt[OPT_SINCE] != NULL && a->opt[OPT_INITIAL] != NULL)
        return admin_usage(a, "--since and --initial exclude each other");
    if (a->opt[OPT_VALUES] != NULL && a->command != NULL)
        return admin_usage(a, "--values: a command gets the keys alone");
    return admin_key(a, a->n_args > 0 ? a->args[0] : "", true, false);
}

/* Where it begins: behind --since, or now. FOLLOW_END: not at all. */
static int find_place(struct watch *w)
{
    uint64_t newest = 0, after = 0;
    int rc = follow_newest(&w->link, &newest);
    if (rc != 0)
        return rc;
    if (w->a->opt[OPT_SINCE] != NULL)
        w->exit = follow_since(&w->link, w->a->opt[OPT_SINCE], &after);
    else
        after = newest;
    if (w->exit != EXIT_OK)
        return FOLLOW_END;
    /* All that was ever told of this cluster is here by now: a place beyond it is one of another state. */
    if (after > newest && w->a->opt[OPT_LOCAL] == NULL)
        return reset(w, newest, after, newest);
    w->follow.after = w->follow.covered = after;
    return 0;
}

int verb_watch(struct admin *a)
{
    struct watch w = {.a = a, .below = a->n_args > 0 ? a->args[0] : ""};
    int exit = check_options(a);
    if (exit == EXIT_OK)
        exit = request_open(a, &w.link);
    if (exit != EXIT_OK)
        return exit;
    w.follow = (struct follow){.link = &w.link,
                               .page = a->opt[OPT_VALUES] != NULL ? PAGE_VALUES : PAGE,
                               .row = on_row,
                               .gap = on_gap,
                               .page_end = on_page_end,
                               .idle = on_idle,
                               .extra_fd = on_extra_fd,
                               .wait = on_wait,
                               .arg = &w};
    w.heartbeat_ms = clock_boot_ms() + HEARTBEAT_MS;
    batch_init(&w.batch, a);
    int rc = find_place(&w);
    if (rc == 0 && a->opt[OPT_INITIAL] != NULL)
        rc = show_present(&w);
    if (rc == 0)
        rc = follow_run(&w.follow);
    if (rc != 0 && rc != FOLLOW_END)
        w.exit = cluster_fail(&w.link, a->n_args > 0 ? a->args[0] : NULL, rc, false);
    batch_deinit(&w.batch);
    request_close(&w.link);
    return w.exit;
}
