/* publish: a directory becomes equal to a local tree, in one transaction. What a transaction cannot say of a
 * file, its mode, and symbolic links are made aside first, in a folder beside the directory whose names keep
 * no history, and moved into their places in the transaction. The modes of directories that are there follow
 * behind it. */
#include "kvnode/admin/publish.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/verbs.h"
#include "sync/base/error.h"
#include "sync/wire/txn.h"

#define KEY_SIZE (2 * KV_PATH_MAX + 64)

struct publish {
    const struct admin *a;
    struct request_link link;
    char root[KV_PATH_MAX + 1], into[KV_PATH_MAX + 1]; /* without slashes at their ends */
    char aside[KV_PATH_MAX + 64];                      /* where files are made; "": nothing is there */
    uint64_t aside_ino;
    struct tree local, remote;
    struct changes changes;
    bool missing; /* the directory is not there */
    size_t max;   /* changes in a transaction: the directories above take the rest */
    uint64_t revision;
    unsigned steps;
};

static void key_of(const struct publish *p, const char *path, char out[KEY_SIZE])
{
    snprintf(out, KEY_SIZE, "%s%s%s", p->into, p->into[0] != '\0' && path[0] != '\0' ? "/" : "", path);
}

static const char *path_of(const struct change *c)
{
    return c->local != NULL ? c->local->path : c->remote->path;
}

/* ---- what is said ---- */

static void tell_plan(const struct publish *p)
{
    static const char *const names[] = {"del", "mkdir", "set", "set", "chmod", "del"};
    for (size_t i = 0; i < p->changes.n; i++) {
        const struct change *c = &p->changes.list[i];
        const char *name =
            c->kind == CHANGE_STAGED && c->local->type == INODE_SYMLINK ? "symlink" : names[c->kind];
        if (p->a->opt[OPT_JSON] != NULL) {
            json_t *object = json_pack("{s:s}", "change", name);
            json_set_bytes(object, "path", path_of(c), strlen(path_of(c)));
            json_line(object);
            continue;
        }
        printf("%-8s ", name);
        format_name(stdout, path_of(c), strlen(path_of(c)), p->a->quote);
        putchar('\n');
    }
}

static int report(const struct publish *p)
{
    const struct changes *c = &p->changes;
    char revision[32], bytes[32];
    bool dry = p->a->opt[OPT_DRY_RUN] != NULL;
    format_revision(p->revision, revision, sizeof revision);
    format_size(c->bytes, bytes, sizeof bytes);
    if (p->a->opt[OPT_JSON] != NULL) {
        json_t *object =
            json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:i}", "done", !dry, "added", (json_int_t)c->added,
                      "replaced", (json_int_t)c->replaced, "deleted", (json_int_t)(c->deleted + c->cleared),
                      "modes", (json_int_t)c->modes, "unchanged", (json_int_t)c->unchanged, "bytes",
                      (json_int_t)c->bytes, "steps", (int)p->steps);
        if (p->revision != 0)
            json_object_set_new(object, "revision", json_string(revision));
        json_line(object);
        return EXIT_OK;
    }
    printf("%zu added, %zu replaced, %zu deleted, %zu unchanged (%s)%s%s\n", c->added, c->replaced,
           c->deleted + c->cleared, c->unchanged, bytes,
           dry                ? "; nothing was done (--dry-run)"
           : p->revision != 0 ? "; revision "
                              : "; nothing to do",
           !dry && p->revision != 0 ? revision : "");
    return EXIT_OK;
}

/* ---- what is made aside ---- */

static int aside_begin(struct publish *p)
{
    const char *slash = strrchr(p->into, '/');
    int parent = slash != NULL ? (int)(slash - p->into + 1) : 0;
    char key[KEY_SIZE + 32];
    struct command_result result;
    struct attr attr;
    snprintf(p->aside, sizeof p->aside, "%.*s.%s.publish-%ld~", parent, p->into,
             slash != NULL ? slash + 1 : p->into, (long)getpid());
    /* A file in it makes it, and the directories above. */
    snprintf(key, sizeof key, "%s/first~", p->aside);
    const struct command_body first = {
        .path = (const uint8_t *)key, .path_len = strlen(key), .flags = SET_PARENTS, .mode = 0600};
    int rc = request_write(&p->link, COMMAND_SET, &first, &result);
    if (rc == 0)
        rc = request_write(&p->link, COMMAND_DEL, &first, &result);
    if (rc == 0)
        rc = request_resolve(&p->link, p->aside, false, &attr);
    p->aside_ino = rc == 0 ? attr.ino : 0;
    return rc;
}

static void aside_end(struct publish *p)
{
    struct command_result result;
    const struct command_body body = {
        .path = (const uint8_t *)p->aside, .path_len = strlen(p->aside), .flags = 1};
    if (p->aside[0] == '\0')
        return;
    request_restart_clock(&p->link);
    (void)request_write(&p->link, COMMAND_DEL, &body, &result);
    p->aside[0] = '\0';
}

static void aside_name(size_t number, char out[32])
{
    snprintf(out, 32, "%zu~", number);
}

static int make_file(struct publish *p, const char *key, const struct tree_entry *e)
{
    struct command_result result;
    struct buffer value = BUFFER_INIT;
    int rc = tree_load(p->root, e->path, p->link.node.value_limit, &value);
    const struct command_body body = {.path = (const uint8_t *)key,
                                      .path_len = strlen(key),
                                      .flags = SET_PARENTS,
                                      .mode = e->mode,
                                      .value = value.data,
                                      .value_len = value.len};
    if (rc == 0)
        rc = request_write(&p->link, COMMAND_SET, &body, &result);
    buffer_deinit(&value);
    return rc;
}

static int make_aside(struct publish *p, size_t number)
{
    const struct tree_entry *e = p->changes.list[number].local;
    char name[32], key[KEY_SIZE + 32];
    struct command_result result;
    aside_name(number, name);
    snprintf(key, sizeof key, "%s/%s", p->aside, name);
    request_restart_clock(&p->link);
    if (e->type == INODE_FILE)
        return make_file(p, key, e);
    const struct command_body link = {.parent = p->aside_ino,
                                      .name = (const uint8_t *)name,
                                      .name_len = strlen(name),
                                      .target = (const uint8_t *)e->target,
                                      .target_len = strlen(e->target)};
    return request_write(&p->link, COMMAND_SYMLINK, &link, &result);
}

/* ---- the transactions ---- */

static int add_item(struct publish *p, size_t number, struct buffer *items)
{
    const struct change *c = &p->changes.list[number];
    char key[KEY_SIZE], from[KEY_SIZE + 32], name[32];
    struct buffer value = BUFFER_INIT;
    int rc = 0;
    key_of(p, path_of(c), key);
    struct txn_item item = {.kind = c->kind == CHANGE_MKDIR    ? TXN_MKDIR
                                    : c->kind == CHANGE_SET    ? TXN_SET
                                    : c->kind == CHANGE_STAGED ? TXN_MOVE
                                                               : TXN_DEL,
                            .path = (const uint8_t *)key,
                            .path_len = strlen(key)};
    if (c->kind == CHANGE_SET) {
        rc = tree_load(p->root, c->local->path, TXN_BYTES_MAX, &value);
        item.value = value.data;
        item.value_len = value.len;
    } else if (c->kind == CHANGE_STAGED) {
        aside_name(number, name);
        snprintf(from, sizeof from, "%s/%s", p->aside, name);
        item.path = (const uint8_t *)from;
        item.path_len = strlen(from);
        item.to = (const uint8_t *)key;
        item.to_len = strlen(key);
    }
    if (rc == 0)
        txn_encode(items, &item);
    buffer_deinit(&value);
    return items->failed ? -ENOMEM : rc;
}

/* Where a transaction that begins with this change ends: at its bounds, or where another kind begins that
 * must not be in it. Modes of directories are no part of any. */
static size_t step_end(const struct publish *p, size_t from)
{
    const struct changes *c = &p->changes;
    uint64_t bytes = 0;
    size_t at = from;
    while (at < c->n && at - from < p->max && c->list[at].kind != CHANGE_MODE) {
        bytes += c->list[at].kind == CHANGE_SET ? c->list[at].local->size : 0;
        if (at > from && (bytes > TXN_BYTES_MAX || c->list[at].kind == CHANGE_CLEAR ||
                          (c->list[at - 1].kind == CHANGE_CLEAR && c->list[at].kind != CHANGE_CLEAR)))
            break;
        at++;
    }
    return at > from ? at : from + 1;
}

/* The directory itself and those above it, if they are not there. */
static int add_directories(struct publish *p, struct buffer *items)
{
    char key[KV_PATH_MAX + 1];
    struct attr attr;
    for (size_t len = 1; len <= strlen(p->into); len++) {
        if (p->into[len] != '/' && p->into[len] != '\0')
            continue;
        snprintf(key, sizeof key, "%.*s", (int)len, p->into);
        int rc = request_resolve(&p->link, key, false, &attr);
        if (rc == KV_E_NOENT)
            txn_encode(items,
                       &(struct txn_item){.kind = TXN_MKDIR, .path = (const uint8_t *)key, .path_len = len});
        else if (rc != 0)
            return rc;
    }
    return items->failed ? -ENOMEM : 0;
}

static int do_step(struct publish *p, size_t from, size_t until)
{
    struct buffer items = BUFFER_INIT;
    struct command_result result = {0};
    int rc = p->steps == 0 ? add_directories(p, &items) : 0;
    for (size_t i = from; rc == 0 && i < until; i++)
        rc = add_item(p, i, &items);
    const struct command_body body = {.items = items.data, .items_len = items.len};
    request_restart_clock(&p->link);
    if (rc == 0 && txn_check(items.data, items.len) == KV_E_FBIG)
        rc = KV_E_FBIG;
    if (rc == 0)
        rc = request_write(&p->link, COMMAND_TXN, &body, &result);
    if (rc == 0)
        p->revision = result.revision;
    buffer_deinit(&items);
    return rc;
}

static int do_mode(struct publish *p, const struct change *c)
{
    const struct command_body body = {.ino = c->remote->ino, .valid = SETATTR_MODE, .mode = c->local->mode};
    struct command_result result = {0};
    request_restart_clock(&p->link);
    int rc = request_write(&p->link, COMMAND_SETATTR, &body, &result);
    if (rc == 0)
        p->revision = result.revision;
    return rc;
}

/* A new directory has mode 0755 at first. */
static int do_new_modes(struct publish *p)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < p->changes.n; i++) {
        const struct change *c = &p->changes.list[i];
        struct tree_entry there = {0};
        struct attr attr;
        char key[KEY_SIZE];
        if (c->kind != CHANGE_MKDIR || c->local->mode == 0755)
            continue;
        key_of(p, c->local->path, key);
        rc = request_resolve(&p->link, key, false, &attr);
        if (rc != 0)
            break;
        there.ino = attr.ino;
        rc = do_mode(p, &(struct change){CHANGE_MODE, c->local, &there});
    }
    return rc;
}

static int carry_out(struct publish *p)
{
    int rc = p->changes.staged > 0 ? aside_begin(p) : 0;
    size_t steps = 0, modes = p->changes.n;
    for (size_t i = 0; rc == 0 && i < p->changes.n; i++)
        if (p->changes.list[i].kind == CHANGE_STAGED)
            rc = make_aside(p, i);
    for (size_t i = 0; i < p->changes.n; i = step_end(p, i))
        steps += p->changes.list[i].kind != CHANGE_MODE;
    for (size_t i = 0; rc == 0 && i < p->changes.n;) {
        size_t until = step_end(p, i);
        if (p->changes.list[i].kind == CHANGE_MODE) {
            modes = modes < i ? modes : i;
            i++;
            continue;
        }
        if (steps > 1)
            admin_say(p->a, "kvnode: step %u of %zu: %zu change%s", p->steps + 1, steps, until - i,
                      until - i == 1 ? "" : "s");
        rc = do_step(p, i, until);
        p->steps += rc == 0;
        i = until;
    }
    if (rc == 0)
        rc = do_new_modes(p);
    for (; rc == 0 && modes < p->changes.n && p->changes.list[modes].kind == CHANGE_MODE; modes++)
        rc = do_mode(p, &p->changes.list[modes]);
    aside_end(p);
    return rc;
}

/* Whether one transaction takes it, or --in-steps was said. */
static int check_bounds(const struct publish *p)
{
    const struct changes *c = &p->changes;
    char bytes[32];
    size_t n = c->n - c->modes;
    if (p->a->opt[OPT_IN_STEPS] != NULL)
        return EXIT_OK;
    format_size(c->bytes, bytes, sizeof bytes);
    if (n > p->max || c->bytes > TXN_BYTES_MAX)
        return admin_fail(
            p->a, EXIT_REFUSED, p->into,
            "%zu changes with %s are more than one transaction takes (%zu, 64 MiB); nothing was "
            "done. --in-steps does it in several, which readers see one after the other",
            n, bytes, p->max);
    for (size_t i = 0; i < c->n; i++) {
        const struct change *x = &c->list[i];
        if (x->local != NULL && x->remote != NULL &&
            (x->local->type == INODE_DIRECTORY) != (x->remote->type == INODE_DIRECTORY))
            return admin_fail(
                p->a, EXIT_REFUSED, p->into,
                "%s is a directory on one side only, which one transaction cannot change; nothing "
                "was done. --in-steps does it in several, which readers see one after the other",
                path_of(x));
    }
    return EXIT_OK;
}

static int find_changes(struct publish *p)
{
    const char *culprit = NULL;
    struct attr attr;
    int rc = request_resolve(&p->link, p->into, false, &attr);
    p->missing = rc == KV_E_NOENT;
    p->max = TXN_ITEMS_MAX;
    for (const char *s = p->into; p->missing && *s != '\0'; s++)
        p->max -= s == p->into || *s == '/';
    rc = p->missing ? 0 : rc == 0 ? tree_read_remote(&p->link, p->into, &p->remote) : rc;
    if (rc == KV_E_NOTDIR)
        return admin_fail(p->a, EXIT_REFUSED, p->into, "it is no directory; nothing was done");
    if (rc == 0)
        rc = changes_find(&p->link, p->root, p->into, &p->local, &p->remote, &p->changes, &culprit);
    return rc == 0 ? EXIT_OK : cluster_fail(&p->link, culprit != NULL ? culprit : p->into, rc, true);
}

static int publish(struct publish *p)
{
    int exit = find_changes(p);
    if (exit == EXIT_OK)
        exit = check_bounds(p);
    if (exit != EXIT_OK)
        return exit;
    if (p->a->opt[OPT_DRY_RUN] != NULL) {
        tell_plan(p);
        return report(p);
    }
    bool any = p->changes.n > 0 || p->missing;
    int rc = any ? request_register(&p->link, "kvnode publish") : 0;
    if (rc == 0 && any)
        rc = p->changes.n > 0 ? carry_out(p) : do_step(p, 0, 0);
    request_end_session(&p->link);
    if (rc == 0)
        return report(p);
    const char *into = p->into[0] != '\0' ? p->into : "/";
    if (p->steps > 0)
        return admin_fail(p->a, EXIT_UNKNOWN, into, "%s: %u steps were done, the others were not",
                          rc > 0 ? error_text(rc) : strerror(-rc), p->steps);
    if (rc == KV_E_NOENT || rc == KV_E_EXIST || rc == KV_E_NOTEMPTY)
        return admin_fail(p->a, EXIT_REFUSED, into,
                          "it was changed by somebody else meanwhile (%s); nothing was done. Try again",
                          error_text(rc));
    if (rc == KV_E_INVAL)
        return admin_fail(p->a, EXIT_REFUSED, into,
                          "two names of one file (hard links) would change, which one transaction cannot do; "
                          "nothing was done. Delete one of them before (kvnode del)");
    return cluster_fail(&p->link, into, rc, true);
}

/* Without slashes at the ends. */
static bool take_path(const char *from, bool both, char *out, size_t size)
{
    while (both && *from == '/')
        from++;
    size_t len = strlen(from);
    while (len > (both ? 0 : 1) && from[len - 1] == '/')
        len--;
    return snprintf(out, size, "%.*s", (int)len, from) < (int)size;
}

int verb_publish(struct admin *a)
{
    struct publish *p = calloc(1, sizeof *p);
    if (p == NULL)
        return admin_fail(a, EXIT_FAILED, NULL, "%s", strerror(ENOMEM));
    p->a = a;
    int exit = a->args[1][0] != '\0' ? admin_key(a, a->args[1], true, true)
                                     : admin_usage(a, "DIR is empty; / is the directory of all keys");
    if (exit == EXIT_OK && (!take_path(a->args[0], false, p->root, sizeof p->root) ||
                            !take_path(a->args[1], true, p->into, sizeof p->into)))
        exit = admin_fail(a, EXIT_FAILED, a->args[0], "%s; nothing was done", strerror(ENAMETOOLONG));
    if (exit == EXIT_OK)
        exit = tree_read_local(a, p->root, p->into, &p->local);
    if (exit == EXIT_OK)
        exit = request_open(a, &p->link);
    if (exit == EXIT_OK) {
        exit = publish(p);
        request_close(&p->link);
    }
    tree_free(&p->local);
    tree_free(&p->remote);
    changes_free(&p->changes);
    free(p);
    return exit;
}
