/* ls: the entries of a directory, sorted by their names' bytes, or one key. */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/request.h"
#include "kvnode/admin/verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"

#define PAGE 1000
#define AUTHORS_WINDOW 1024 /* questions in flight */

struct entry {
    char *name; /* owned */
    size_t len;
    struct attr attr;
    char author[100]; /* who wrote the current version; "-": not known */
};

struct listing {
    struct entry *entries; /* owned */
    size_t n, cap;
};

static void listing_free(struct listing *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->entries[i].name);
    free(t->entries);
}

static struct entry *listing_add(struct listing *t, const void *name, size_t len)
{
    if (t->n == t->cap) {
        size_t cap = t->cap == 0 ? 64 : t->cap * 2;
        struct entry *grown = reallocarray(t->entries, cap, sizeof *grown);
        if (grown == NULL)
            return NULL;
        t->entries = grown;
        t->cap = cap;
    }
    struct entry *e = &t->entries[t->n];
    *e = (struct entry){.name = malloc(len + 1), .len = len, .author = "-"};
    if (e->name == NULL)
        return NULL;
    memcpy(e->name, name, len);
    e->name[len] = '\0';
    t->n++;
    return e;
}

static int by_name(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int order = memcmp(x->name, y->name, x->len < y->len ? x->len : y->len);
    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

/* The newest row of each file's history names its author. Asked for many at a time. */
static int find_authors(struct request_link *l, uint64_t directory, struct listing *t)
{
    uint64_t first = l->last_id + 1;
    size_t sent = 0, answered = 0;
    int rc = 0;
    while (rc == 0 && answered < t->n) {
        struct frame frame;
        /* Half a window at a time: a question at a time would be a round through the cluster each. */
        size_t upto = sent - answered <= AUTHORS_WINDOW / 2 ? answered + AUTHORS_WINDOW : sent;
        for (; sent < t->n && sent < upto; sent++) {
            const struct entry *e = &t->entries[sent];
            const union request_body body = {.history = {
                                                 .directory = directory,
                                                 .name = bytes_of(e->name, e->len),
                                                 .n = request_rows(l, 1),
                                             }};
            client_ask(l->client, MESSAGE_HISTORY, first + sent, &body);
        }
        rc = client_wait(l->client, request_left(l), &frame);
        request_restart_clock(l);
        for (; rc == 1; rc = client_next(l->client, &frame)) {
            union answer_body answer;
            struct version_row row;
            struct cursor in;
            if (frame.type != MESSAGE_ANSWER || frame.id < first || frame.id - first >= t->n)
                continue;
            answered++;
            if (client_answer(&frame, &in, NULL, 0) != 0)
                continue; /* removed meanwhile, or not to be seen */
            if (!body_decode_answer(MESSAGE_HISTORY, &in, &answer) || answer.history.rows.count != 1)
                continue;
            in = rows_cursor(&answer.history.rows);
            version_row_decode(&in, &row);
            struct entry *e = &t->entries[frame.id - first];
            format_author(row.author_uid, row.author_node, e->author, sizeof e->author);
        }
    }
    l->last_id = first + sent;
    return rc;
}

static void print_entry(const struct admin *a, const struct entry *e)
{
    const struct attr *t = &e->attr;
    char mode[11], user[64], group[64], when[32];
    if (a->opt[OPT_JSON] != NULL) {
        format_time_utc(t->mtime_ns, when, sizeof when);
        json_t *object = json_pack("{s:s, s:i, s:I, s:I, s:I, s:s, s:I, s:I}", "type", format_type(t->type),
                                   "mode", (int)t->mode, "uid", (json_int_t)t->uid, "gid", (json_int_t)t->gid,
                                   "size", (json_int_t)t->size, "time", when, "version",
                                   (json_int_t)t->version, "ino", (json_int_t)t->ino);
        json_set_bytes(object, "name", e->name, e->len);
        if (a->opt[OPT_LONG] != NULL)
            json_object_set_new(object, "author", json_string(e->author));
        json_line(object);
        return;
    }
    if (a->opt[OPT_LONG] != NULL) {
        format_mode(t->type, t->mode, mode);
        format_user(t->uid, user, sizeof user);
        format_group(t->gid, group, sizeof group);
        format_time(t->mtime_ns, when, sizeof when);
        char version[24] = "-";
        if (t->version != 0)
            snprintf(version, sizeof version, "v%" PRIu64, t->version);
        printf("%s %-8s %-8s %10" PRIu64 " %s %-6s %-12s ", mode, user, group, t->size, when, version,
               e->author);
    }
    const char *on = a->color && t->type == INODE_DIRECTORY ? "\033[1;34m" : "";
    fputs(on, stdout);
    format_name(stdout, e->name, e->len, a->quote);
    printf("%s%s\n", on[0] != '\0' ? "\033[0m" : "", t->type == INODE_DIRECTORY ? "/" : "");
}

static int read_page(struct request_link *l, uint64_t ino, uint64_t *cookie, bool *eof_out, struct listing *t)
{
    const union request_body body = {
        .readdir = {.at = request_at(l), .ino = ino, .cookie = *cookie, .n = PAGE}};
    union answer_body answer;
    int rc = request_ask(l, MESSAGE_READDIR, &body, &answer);
    if (rc != 0)
        return rc;
    struct cursor rows = rows_cursor(&answer.readdir.rows);
    for (uint32_t i = 0; i < answer.readdir.rows.count; i++) {
        struct readdir_row row;
        readdir_row_decode(&rows, &row);
        struct entry *e = listing_add(t, row.name.data, row.name.len);
        if (e == NULL)
            return -ENOMEM;
        e->attr = row.attr;
        *cookie = row.cookie;
    }
    *eof_out = answer.readdir.eof != 0 || answer.readdir.rows.count == 0;
    return 0;
}

static int read_directory(struct request_link *l, uint64_t ino, struct listing *t)
{
    uint64_t cookie = 0;
    bool eof = false;
    int rc = 0;
    while (rc == 0 && !eof) {
        rc = read_page(l, ino, &cookie, &eof, t);
        request_restart_clock(l); /* the deadline counts from the last progress */
    }
    if (t->n > 0)
        qsort(t->entries, t->n, sizeof t->entries[0], by_name);
    return rc;
}

static int list(struct request_link *l, const char *key, const struct attr *attr, struct listing *t)
{
    uint64_t directory = attr->ino;
    int rc = 0;
    if (attr->type == INODE_DIRECTORY) {
        rc = read_directory(l, attr->ino, t);
    } else {
        const char *name;
        size_t len;
        rc = request_parent(l, key, &directory, &name, &len);
        struct entry *e = rc == 0 ? listing_add(t, name, len) : NULL;
        if (e != NULL)
            e->attr = *attr;
        else if (rc == 0)
            rc = -ENOMEM;
    }
    if (rc == 0 && l->admin->opt[OPT_LONG] != NULL)
        rc = find_authors(l, directory, t);
    return rc;
}

int verb_ls(struct admin *a)
{
    const char *key = a->n_args > 0 ? a->args[0] : "";
    struct listing t = {0};
    struct request_link l;
    struct attr attr;
    int exit = admin_key(a, key, true, false);
    if (exit == EXIT_OK)
        exit = request_open(a, &l);
    if (exit != EXIT_OK)
        return exit;
    int rc = request_resolve(&l, key, a->opt[OPT_LOCAL] != NULL, &attr);
    if (rc == 0)
        rc = list(&l, key, &attr, &t);
    for (size_t i = 0; rc == 0 && i < t.n; i++)
        print_entry(a, &t.entries[i]);
    if (rc != 0)
        exit = cluster_fail(&l, key[0] != '\0' ? key : "/", rc, false);
    listing_free(&t);
    request_close(&l);
    return exit;
}
