/* GET of a directory: what is in it, with `recursive` what is below it too, at most `limit`, page by page. */
#include <stdlib.h>
#include <string.h>

#include "kvnode/web/web_internal.h"
#include "sync/base/error.h"

/* A directory that is still to be listed. */
struct below {
    uint64_t ino;
    char *path; /* owned; "", or with a slash at the end, relative */
};

/* r->state; made for GET of a directory only. */
struct listing {
    json_t *entries; /* owned */
    uint64_t limit, n, after;
    uint64_t cookie; /* in the directory that is being listed */
    bool recursive, more;
    struct below *stack; /* owned; the last one is being listed */
    size_t depth, room;
};

static void ask_next(struct web_request *r);

static bool put(struct listing *l, const struct below *b)
{
    struct below *stack;

    if (l->depth == l->room) {
        stack = realloc(l->stack, (l->room + 32) * sizeof *stack);
        if (stack == NULL)
            return false;
        l->stack = stack;
        l->room += 32;
    }
    l->stack[l->depth++] = *b;
    return true;
}

static bool push(struct listing *l, uint64_t ino, const char *parent, const struct bytes *name)
{
    size_t parent_len = strlen(parent), len = parent_len + name->len + 2;
    struct below b = {.ino = ino, .path = malloc(len)};
    char *path = b.path;

    if (path == NULL)
        return false;
    memcpy(path, parent, parent_len);
    memcpy(path + parent_len, name->data != NULL ? (const void *)name->data : "", name->len);
    path[parent_len + name->len] = '/';
    path[name->len > 0 ? len - 1 : parent_len] = '\0';
    if (put(l, &b))
        return true;
    free(path);
    return false;
}

static void add(struct listing *l, const char *parent, const struct readdir_row *row)
{
    const struct attr *a = &row->attr;
    json_t *o = json_object();
    char path[KV_PATH_MAX + KV_NAME_MAX + 2];
    size_t len = strlen(parent);

    memcpy(path, parent, len);
    memcpy(path + len, row->name.data, row->name.len);
    web_json_set(o, "name", path, len + row->name.len);
    json_object_set_new(o, "type", json_string(web_type_name(a->type)));
    if (a->nlink > 0) { /* else only names may be seen */
        json_object_set_new(o, "mode", json_integer(a->mode));
        json_object_set_new(o, "uid", json_integer((json_int_t)a->uid));
        json_object_set_new(o, "gid", json_integer((json_int_t)a->gid));
        json_object_set_new(o, "size", json_integer((json_int_t)a->size));
        json_object_set_new(o, "time", web_json_time(a->mtime_ns));
        json_object_set_new(o, "version", json_integer((json_int_t)a->version));
        json_object_set_new(o, "revision", web_json_token(a->content_revision));
    }
    json_array_append_new(l->entries, o);
    l->n++;
}

static void finish(struct web_request *r)
{
    struct listing *l = r->state;
    json_t *o = json_object();

    web_json_set(o, "key", r->key, r->key_len);
    json_object_set_new(o, "entries", l->entries);
    l->entries = NULL;
    json_object_set_new(o, "more", json_boolean(l->more));
    if (l->more && !l->recursive)
        json_object_set_new(o, "next", json_sprintf("%llu", (unsigned long long)l->cookie));
    web_reply_json(r, 200, o);
}

static void on_page(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;
    struct listing *l = r->state;
    const struct below here = l->stack[l->depth - 1];
    struct readdir_row row;
    struct cursor c;
    bool eof = true;
    uint32_t i;

    /* What was removed meanwhile, or may not be listed, is left out, but for the directory that was asked
     * for. */
    if (code != KV_OK && here.path[0] == '\0') {
        web_fail_code(r, code, detail, false);
        return;
    }
    if (code == KV_OK) {
        eof = answer->readdir.eof != 0 || answer->readdir.rows.count == 0;
        c = rows_cursor(&answer->readdir.rows);
        l->depth--; /* what is in it is pushed in its place */
        for (i = 0; i < answer->readdir.rows.count; i++) {
            readdir_row_decode(&c, &row);
            l->cookie = row.cookie;
            add(l, here.path, &row);
            if (l->recursive && row.attr.type == INODE_DIRECTORY &&
                strlen(here.path) + row.name.len + 2 <= KV_PATH_MAX &&
                !push(l, row.attr.ino, here.path, &row.name))
                l->more = true;
        }
        /* The rest of this one comes first. */
        if (!eof && l->recursive) {
            l->more = l->n >= l->limit;
            if (!l->more && put(l, &here)) {
                ask_next(r);
                return;
            }
            l->more = true;
        }
    } else {
        l->depth--;
    }
    free(here.path);
    l->more |= !eof || (l->depth > 0 && l->n >= l->limit);
    if (l->more || l->depth == 0) {
        finish(r);
        return;
    }
    l->cookie = 0;
    ask_next(r);
}

static void ask_next(struct web_request *r)
{
    struct listing *l = r->state;
    union request_body ask = {0};

    ask.readdir = (struct readdir_request){.at = READ_LOCAL,
                                           .ino = l->stack[l->depth - 1].ino,
                                           .cookie = l->cookie,
                                           .n = (uint32_t)(l->limit - l->n)};
    web_ask(r, MESSAGE_READDIR, &ask, on_page);
}

static void on_resolved(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;
    struct listing *l = r->state;
    struct bytes none = {0};

    if (code == KV_OK && answer->resolve.attr.type != INODE_DIRECTORY)
        code = KV_E_NOTDIR;
    if (code == KV_OK && !push(l, answer->resolve.attr.ino, "", &none))
        code = KV_E_BUSY;
    if (code != KV_OK) {
        web_fail_code(r, code, detail, false);
        return;
    }
    l->cookie = l->after;
    ask_next(r);
}

void kv_list(struct web_request *r)
{
    struct listing *l = calloc(1, sizeof *l);
    union request_body ask = {0};

    r->state = l;
    if (l == NULL || (l->entries = json_array()) == NULL) {
        web_fail_code(r, KV_E_BUSY, "out of memory", false);
        return;
    }
    l->recursive = url_has(r->url, PARAM_RECURSIVE);
    if (!url_number(r->url, PARAM_LIMIT, WEB_ROWS_MAX, 1, WEB_ROWS_MAX, &l->limit) ||
        !url_number(r->url, PARAM_AFTER, 0, 0, UINT64_MAX, &l->after)) {
        web_fail(r, 400, "%s", r->url->why);
    } else if (l->recursive && l->after != 0) {
        web_fail(r, 400, "`recursive` goes with no `after`: list what is below page by page");
    } else if (url_has(r->url, PARAM_VERSION) || url_has(r->url, PARAM_HISTORY) ||
               url_has(r->url, PARAM_TEXT) || url_has(r->url, PARAM_AS_OF)) {
        web_fail(r, 400,
                 "`version`, `as-of`, `history` and `text` belong to a key, which does not end in a slash");
    } else {
        ask.resolve =
            (struct path_request){.at = url_has(r->url, PARAM_LOCAL) ? READ_LOCAL : READ_LINEARIZABLE,
                                  .path = bytes_of(r->key, r->key_len)};
        web_ask(r, MESSAGE_RESOLVE, &ask, on_resolved);
    }
}

void kv_list_cancel(struct web_request *r)
{
    struct listing *l = r->state;

    if (l == NULL)
        return;
    json_decref(l->entries);
    while (l->depth > 0)
        free(l->stack[--l->depth].path);
    free(l->stack);
}
