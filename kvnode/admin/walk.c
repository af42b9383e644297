#include "kvnode/admin/walk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"

#define PAGE 1000

/* Directories that are still to be read: a stack. */
struct pending {
    char *path; /* owned */
    uint64_t ino;
    struct pending *below;
};

struct walk {
    struct request_link *l;
    int (*entry)(void *arg, const char *key, const struct attr *attr);
    void *arg;
    struct pending *top;
    struct buffer page; /* a copy of the rows: entry() may ask */
};

static int push(struct walk *w, const char *path, uint64_t ino)
{
    struct pending *p = malloc(sizeof *p);
    char *copy = strdup(path);
    if (p == NULL || copy == NULL) {
        free(p);
        free(copy);
        return -ENOMEM;
    }
    *p = (struct pending){copy, ino, w->top};
    w->top = p;
    return 0;
}

static void pop(struct walk *w)
{
    struct pending *p = w->top;
    w->top = p->below;
    free(p->path);
    free(p);
}

static int take(struct walk *w, const char *directory, const struct readdir_row *row)
{
    char path[KV_PATH_MAX + KV_NAME_MAX + 2];
    snprintf(path, sizeof path, "%s%s%.*s", directory, directory[0] != '\0' ? "/" : "", (int)row->name.len,
             (const char *)row->name.data);
    int rc = w->entry(w->arg, path, &row->attr);
    if (rc == 0 && row->attr.type == INODE_DIRECTORY)
        rc = push(w, path, row->attr.ino);
    return rc;
}

static int read_directory(struct walk *w, const char *directory, uint64_t ino)
{
    uint64_t cookie = 0;
    for (bool eof = false; !eof;) {
        const union request_body body = {
            .readdir = {.at = request_at(w->l), .ino = ino, .cookie = cookie, .n = PAGE}};
        union answer_body answer;
        int rc = request_ask(w->l, MESSAGE_READDIR, &body, &answer);
        if (rc == KV_E_NOENT || rc == KV_E_STALE || rc == KV_E_ACCES)
            return 0;
        if (rc != 0)
            return rc;
        eof = answer.readdir.eof != 0 || answer.readdir.rows.count == 0;
        uint32_t n = answer.readdir.rows.count;
        buffer_clear(&w->page);
        buffer_put_bytes(&w->page, answer.readdir.rows.bytes.data, answer.readdir.rows.bytes.len);
        if (w->page.failed)
            return -ENOMEM;
        struct cursor rows = cursor_of(w->page.data, w->page.len);
        for (uint32_t i = 0; i < n; i++) {
            struct readdir_row row;
            readdir_row_decode(&rows, &row);
            cookie = row.cookie;
            rc = take(w, directory, &row);
            if (rc != 0)
                return rc;
        }
        request_restart_clock(w->l); /* the deadline counts from the last progress */
    }
    return 0;
}

static int walk_below(struct walk *w)
{
    while (w->top != NULL) {
        struct pending p = *w->top;
        char *path = strdup(p.path);
        pop(w);
        int rc = path != NULL ? read_directory(w, path, p.ino) : -ENOMEM;
        free(path);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int walk(struct request_link *l, const char *key,
         int (*entry)(void *arg, const char *key, const struct attr *attr), void *arg)
{
    struct walk w = {.l = l, .entry = entry, .arg = arg};
    char path[KV_PATH_MAX + 1];
    struct attr attr;
    while (*key == '/')
        key++;
    size_t len = strlen(key);
    while (len > 0 && key[len - 1] == '/')
        len--;
    snprintf(path, sizeof path, "%.*s", (int)len, key);
    int rc = request_resolve(l, path, l->admin->opt[OPT_LOCAL] != NULL, &attr);
    if (rc == 0 && path[0] != '\0')
        rc = entry(arg, path, &attr);
    if (rc == 0 && attr.type == INODE_DIRECTORY)
        rc = push(&w, path, attr.ino);
    if (rc == 0)
        rc = walk_below(&w);
    while (w.top != NULL)
        pop(&w);
    buffer_deinit(&w.page);
    return rc;
}
