/* Two trees and their differences. Files of equal length are compared byte by byte; nothing goes by times. */
#include "kvnode/admin/publish.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvnode/admin/value.h"
#include "kvnode/admin/walk.h"
#include "sync/base/error.h"
#include "sync/wire/txn.h"

void tree_free(struct tree *t)
{
    for (size_t i = 0; i < t->n; i++) {
        free(t->entries[i].path);
        free(t->entries[i].target);
    }
    free(t->entries);
    *t = (struct tree){0};
}

/* NULL: out of memory. */
static struct tree_entry *add(struct tree *t, const char *path)
{
    if (t->n == t->cap) {
        size_t cap = t->cap > 0 ? 2 * t->cap : 64;
        struct tree_entry *grown = reallocarray(t->entries, cap, sizeof *grown);
        if (grown == NULL)
            return NULL;
        t->entries = grown;
        t->cap = cap;
    }
    struct tree_entry *e = &t->entries[t->n];
    *e = (struct tree_entry){.path = strdup(path)};
    if (e->path == NULL)
        return NULL;
    t->n++;
    return e;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct tree_entry *)a)->path, ((const struct tree_entry *)b)->path);
}

static void sort(struct tree *t)
{
    if (t->n > 0)
        qsort(t->entries, t->n, sizeof t->entries[0], by_path);
}

static int take_link(struct tree_entry *e, const char *path)
{
    char target[KV_PATH_MAX + 1];
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n < 0)
        return -errno;
    target[n] = '\0';
    e->size = (uint64_t)n;
    e->target = strdup(target);
    return e->target != NULL ? 0 : -ENOMEM;
}

/* rel: below the root. An exit status. */
static int take_local(const struct admin *a, const FTSENT *f, const char *rel, const char *into,
                      struct tree *out)
{
    const struct stat *st = f->fts_statp;
    char key[KV_PATH_MAX + 1], why[400];
    if (f->fts_info == FTS_DNR || f->fts_info == FTS_ERR || f->fts_info == FTS_NS)
        return admin_fail(a, EXIT_FAILED, f->fts_path, "%s; nothing was done", strerror(f->fts_errno));
    if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode) && !S_ISLNK(st->st_mode))
        return admin_fail(a, EXIT_REFUSED, f->fts_path,
                          "it is no file, directory or symbolic link; nothing was done");
    if (snprintf(key, sizeof key, "%s%s%s", into, into[0] != '\0' ? "/" : "", rel) >= (int)sizeof key)
        return admin_fail(a, EXIT_REFUSED, f->fts_path,
                          "its key would be longer than %d bytes; nothing was done", KV_PATH_MAX);
    if (key_check(key, false, why, sizeof why) != KV_OK)
        return admin_fail(a, EXIT_REFUSED, f->fts_path, "%s; nothing was done", why);
    struct tree_entry *e = add(out, rel);
    int rc = e != NULL ? 0 : -ENOMEM;
    if (rc == 0) {
        e->type = S_ISDIR(st->st_mode) ? INODE_DIRECTORY : S_ISLNK(st->st_mode) ? INODE_SYMLINK : INODE_FILE;
        e->mode = (uint16_t)(st->st_mode & 07777);
        e->size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
    }
    if (rc == 0 && S_ISLNK(st->st_mode))
        rc = take_link(e, f->fts_accpath);
    return rc == 0 ? EXIT_OK : admin_fail(a, EXIT_FAILED, f->fts_path, "%s; nothing was done", strerror(-rc));
}

int tree_read_local(const struct admin *a, const char *root, const char *into, struct tree *out)
{
    char *roots[] = {(char *)root, NULL};
    struct stat st;
    FTSENT *f;
    int exit = EXIT_OK;
    if (stat(root, &st) != 0)
        return admin_fail(a, EXIT_FAILED, root, "%s; nothing was done", strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return admin_fail(a, EXIT_FAILED, root, "it is no directory; nothing was done");
    FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, NULL);
    if (fts == NULL)
        return admin_fail(a, EXIT_FAILED, root, "%s; nothing was done", strerror(errno));
    while (exit == EXIT_OK && (f = fts_read(fts)) != NULL) {
        const char *rel = f->fts_path + strlen(root);
        while (*rel == '/')
            rel++;
        if (f->fts_info != FTS_DP && rel[0] != '\0')
            exit = take_local(a, f, rel, into, out);
        else if (f->fts_info == FTS_DNR || f->fts_info == FTS_ERR)
            exit = admin_fail(a, EXIT_FAILED, f->fts_path, "%s; nothing was done", strerror(f->fts_errno));
    }
    fts_close(fts);
    sort(out);
    return exit;
}

struct remote {
    struct tree *out;
    size_t skip; /* of each key */
};

static int take_remote(void *arg, const char *key, const struct attr *attr)
{
    struct remote *r = arg;
    if (strlen(key) <= r->skip)
        return attr->type == INODE_DIRECTORY ? 0 : KV_E_NOTDIR;
    struct tree_entry *e = add(r->out, key + r->skip);
    if (e == NULL)
        return -ENOMEM;
    e->type = attr->type;
    e->mode = attr->mode;
    e->size = attr->size;
    e->ino = attr->ino;
    return 0;
}

int tree_read_remote(struct request_link *l, const char *key, struct tree *out)
{
    struct remote r = {out, key[0] != '\0' ? strlen(key) + 1 : 0};
    int rc = walk(l, key, take_remote, &r);
    sort(out);
    return rc == KV_E_NOENT ? 0 : rc;
}

int tree_load(const char *root, const char *path, uint64_t most, struct buffer *out)
{
    char full[2 * PATH_MAX];
    snprintf(full, sizeof full, "%s/%s", root, path);
    int fd = open(full, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), rc = fd < 0 ? -errno : 0;
    size_t from = out->len;
    ssize_t n = 1;
    while (rc == 0 && n > 0 && out->len - from <= most) {
        if (!buffer_reserve(out, 65536)) {
            rc = -ENOMEM;
            break;
        }
        n = read(fd, out->data + out->len, 65536);
        if (n < 0 && errno != EINTR)
            rc = -errno;
        out->len += n > 0 ? (size_t)n : 0;
        n = n < 0 ? 1 : n;
    }
    if (fd >= 0)
        close(fd);
    return rc;
}

/* ---- differences ---- */

static int put(struct changes *c, enum change_kind kind, const struct tree_entry *local,
               const struct tree_entry *remote)
{
    if (c->n == c->cap) {
        size_t cap = c->cap > 0 ? 2 * c->cap : 64;
        struct change *grown = reallocarray(c->list, cap, sizeof *grown);
        if (grown == NULL)
            return -ENOMEM;
        c->list = grown;
        c->cap = cap;
    }
    c->list[c->n++] = (struct change){kind, local, remote};
    if (kind == CHANGE_SET || kind == CHANGE_STAGED)
        c->bytes += local->size;
    c->staged += kind == CHANGE_STAGED;
    c->modes += kind == CHANGE_MODE;
    c->deleted += kind == CHANGE_DEL;
    c->cleared += kind == CHANGE_CLEAR;
    if (kind == CHANGE_MKDIR || kind == CHANGE_SET || kind == CHANGE_STAGED) {
        c->added += remote == NULL;
        c->replaced += remote != NULL;
    }
    return 0;
}

void changes_free(struct changes *c)
{
    free(c->list);
    *c = (struct changes){0};
}

static int same_target(struct request_link *l, const struct tree_entry *local,
                       const struct tree_entry *remote, bool *same_out)
{
    const union request_body body = {.readlink = {.at = READ_LINEARIZABLE, .ino = remote->ino}};
    union answer_body answer;
    int rc = request_ask(l, MESSAGE_READLINK, &body, &answer);
    if (rc == 0)
        *same_out = answer.readlink.target.len == strlen(local->target) &&
                    memcmp(answer.readlink.target.data, local->target, answer.readlink.target.len) == 0;
    return rc;
}

static int same_content(struct request_link *l, const char *root, const char *into,
                        const struct tree_entry *local, bool *same_out)
{
    char key[KV_PATH_MAX + KV_NAME_MAX + 2];
    struct value v = {.data = BUFFER_INIT};
    struct buffer here = BUFFER_INIT;
    snprintf(key, sizeof key, "%s%s%s", into, into[0] != '\0' ? "/" : "", local->path);
    int rc = tree_load(root, local->path, local->size, &here);
    if (rc == 0)
        rc = fetch_value(l, key, false, &v);
    if (rc == 0)
        *same_out =
            v.data.len == here.len && (here.len == 0 || memcmp(v.data.data, here.data, here.len) == 0);
    buffer_deinit(&v.data);
    buffer_deinit(&here);
    return rc;
}

/* plain: the mode comes of itself. */
static enum change_kind how_to_make(const struct tree_entry *local, bool plain)
{
    return local->type == INODE_FILE && plain && local->size <= TXN_BYTES_MAX ? CHANGE_SET : CHANGE_STAGED;
}

/* Both have the name. */
static int compare(struct request_link *l, const char *root, const char *into, const struct tree_entry *local,
                   const struct tree_entry *remote, struct changes *c)
{
    bool same = false;
    int rc = 0;
    if ((local->type == INODE_DIRECTORY) != (remote->type == INODE_DIRECTORY)) {
        rc = put(c, CHANGE_CLEAR, NULL, remote);
        enum change_kind kind =
            local->type == INODE_DIRECTORY ? CHANGE_MKDIR : how_to_make(local, local->mode == 0644);
        return rc == 0 ? put(c, kind, local, remote) : rc;
    }
    if (local->type == INODE_DIRECTORY) {
        c->unchanged += local->mode == remote->mode;
        return local->mode != remote->mode ? put(c, CHANGE_MODE, local, remote) : 0;
    }
    if (local->type == remote->type && local->type == INODE_SYMLINK)
        rc = same_target(l, local, remote, &same);
    else if (local->type == remote->type && local->size == remote->size)
        rc = same_content(l, root, into, local, &same);
    if (rc != 0)
        return rc;
    bool kept = local->type == remote->type && (local->type == INODE_SYMLINK || local->mode == remote->mode);
    if (same && kept) {
        c->unchanged++;
        return 0;
    }
    return put(c, how_to_make(local, kept), local, remote);
}

static int make_new(struct changes *c, const struct tree_entry *local)
{
    return put(c, local->type == INODE_DIRECTORY ? CHANGE_MKDIR : how_to_make(local, local->mode == 0644),
               local, NULL);
}

static bool is_below(const char *path, const char *directory)
{
    size_t n = strlen(directory);
    return strncmp(path, directory, n) == 0 && path[n] == '/';
}

static int rank(enum change_kind kind)
{
    return kind == CHANGE_SET || kind == CHANGE_STAGED ? CHANGE_SET : (int)kind;
}

/* Each kind together; directories before what is in them, and behind it where they go. */
static int by_order(const void *a, const void *b)
{
    const struct change *x = a, *y = b;
    bool going = x->kind == CHANGE_DEL || x->kind == CHANGE_CLEAR;
    const char *p = x->local != NULL ? x->local->path : x->remote->path;
    const char *q = y->local != NULL ? y->local->path : y->remote->path;
    if (rank(x->kind) != rank(y->kind))
        return rank(x->kind) - rank(y->kind);
    return going ? strcmp(q, p) : strcmp(p, q);
}

int changes_find(struct request_link *l, const char *root, const char *into, const struct tree *local,
                 const struct tree *remote, struct changes *out, const char **culprit)
{
    const char *cleared = NULL; /* a directory that becomes something else */
    int rc = 0;
    *culprit = NULL;
    for (size_t i = 0, j = 0; rc == 0 && (i < local->n || j < remote->n);) {
        const struct tree_entry *here = i < local->n ? &local->entries[i] : NULL;
        const struct tree_entry *there = j < remote->n ? &remote->entries[j] : NULL;
        int order = here == NULL ? 1 : there == NULL ? -1 : strcmp(here->path, there->path);
        i += order <= 0;
        j += order >= 0;
        if (order < 0)
            rc = make_new(out, here);
        else if (order == 0)
            rc = compare(l, root, into, here, there, out);
        else
            rc = put(out, cleared != NULL && is_below(there->path, cleared) ? CHANGE_CLEAR : CHANGE_DEL, NULL,
                     there);
        if (order == 0 && there->type == INODE_DIRECTORY && here->type != INODE_DIRECTORY)
            cleared = there->path;
        if (rc != 0)
            *culprit = order > 0 ? there->path : here->path;
    }
    if (rc == 0 && out->n > 0)
        qsort(out->list, out->n, sizeof out->list[0], by_order);
    return rc;
}
