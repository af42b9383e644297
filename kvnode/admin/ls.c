/* ls: the entries of a directory in listing order, or one key. */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/request.h"
#include "kvnode/admin/verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"

#define PAGE 256

struct entry {
    char *name; /* owned */
    size_t len;
    struct attr attr;
};

/* Who wrote the current version: the first row of the history, or "-". */
static void find_author(struct request_link *l, uint64_t directory, const char *name, size_t len, char *out,
                        size_t size)
{
    struct buffer body = BUFFER_INIT;
    struct cursor answer;
    struct version_row row;
    snprintf(out, size, "-");
    buffer_put_u64(&body, directory);
    buffer_put_string(&body, name, len);
    buffer_put_u64(&body, 0);
    buffer_put_u32(&body, 1);
    if (request_ask(l, MESSAGE_HISTORY, &body, &answer) == 0) {
        (void)cursor_u8(&answer);
        if (cursor_u32(&answer) == 1) {
            version_row_decode(&answer, &row);
            if (!answer.failed)
                format_author(row.author_uid, row.author_node, out, size);
        }
    }
    buffer_deinit(&body);
}

static void print_entry(struct request_link *l, uint64_t directory, const struct entry *e)
{
    const struct admin *a = l->admin;
    const struct attr *t = &e->attr;
    static const char *const types[] = {"?", "file", "directory", "symlink"};
    char author[128] = "-", mode[11], user[64], group[64], when[32];
    if (a->opt[OPT_LONG] != NULL && t->type == INODE_FILE && directory != 0)
        find_author(l, directory, e->name, e->len, author, sizeof author);
    if (a->opt[OPT_JSON] != NULL) {
        format_time_utc(t->mtime_ns, when, sizeof when);
        json_t *object = json_pack(
            "{s:s, s:i, s:I, s:I, s:I, s:s, s:I, s:I}", "type", types[t->type <= 3 ? t->type : 0], "mode",
            (int)t->mode, "uid", (json_int_t)t->uid, "gid", (json_int_t)t->gid, "size", (json_int_t)t->size,
            "time", when, "version", (json_int_t)t->version, "ino", (json_int_t)t->ino);
        json_set_bytes(object, "name", e->name, e->len);
        if (a->opt[OPT_LONG] != NULL)
            json_object_set_new(object, "author", json_string(author));
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
               author);
    }
    const char *on = a->color && t->type == INODE_DIRECTORY ? "\033[1;34m" : "";
    printf("%s%.*s%s%s\n", on, (int)e->len, e->name, on[0] != '\0' ? "\033[0m" : "",
           t->type == INODE_DIRECTORY ? "/" : "");
}

/* One page of entries, copied, since printing may ask further. */
static int read_page(struct request_link *l, uint64_t ino, uint64_t *cookie, bool *eof_out,
                     struct entry *entries, size_t *n_out)
{
    struct buffer body = BUFFER_INIT;
    struct cursor answer;
    *n_out = 0;
    buffer_put_u8(&body, l->admin->opt[OPT_LOCAL] != NULL ? READ_LOCAL : READ_LINEARIZABLE);
    buffer_put_u64(&body, ino);
    buffer_put_u64(&body, *cookie);
    buffer_put_u32(&body, PAGE);
    int rc = request_ask(l, MESSAGE_READDIR, &body, &answer);
    buffer_deinit(&body);
    if (rc != 0)
        return rc;
    *eof_out = cursor_u8(&answer) != 0;
    uint32_t count = cursor_u32(&answer);
    for (uint32_t i = 0; i < count && i < PAGE; i++) {
        struct entry *e = &entries[*n_out];
        *cookie = cursor_u64(&answer);
        const uint8_t *name = cursor_string(&answer, KV_NAME_MAX, &e->len);
        attr_decode(&answer, &e->attr);
        if (answer.failed)
            return -EPROTO;
        e->name = strndup((const char *)name, e->len);
        if (e->name == NULL)
            return -ENOMEM;
        (*n_out)++;
    }
    if (count == 0)
        *eof_out = true;
    return 0;
}

static int list(struct request_link *l, uint64_t ino)
{
    uint64_t cookie = 0;
    bool eof = false;
    struct entry *entries = calloc(PAGE, sizeof *entries);
    int rc = entries == NULL ? -ENOMEM : 0;
    while (rc == 0 && !eof) {
        size_t n;
        rc = read_page(l, ino, &cookie, &eof, entries, &n);
        for (size_t i = 0; i < n; i++) {
            if (rc == 0)
                print_entry(l, ino, &entries[i]);
            free(entries[i].name);
        }
        request_restart_clock(l);
    }
    free(entries);
    return rc;
}

int verb_ls(struct admin *a)
{
    const char *key = a->n_args > 0 ? a->args[0] : "";
    struct request_link l;
    struct attr attr;
    int exit = request_open(a, &l);
    if (exit != EXIT_OK)
        return exit;
    int rc = request_resolve(&l, key, a->opt[OPT_LOCAL] != NULL, &attr);
    if (rc == 0 && attr.type == INODE_DIRECTORY) {
        rc = list(&l, attr.ino);
    } else if (rc == 0) {
        struct entry e = {.attr = attr};
        uint64_t directory;
        const char *name;
        rc = request_parent(&l, key, &directory, &name, &e.len);
        e.name = rc == 0 ? strndup(name, e.len) : NULL;
        if (e.name != NULL)
            print_entry(&l, directory, &e);
        free(e.name);
    }
    if (rc != 0)
        exit = cluster_fail(&l, key[0] != '\0' ? key : "/", rc, false);
    request_close(&l);
    return exit;
}
