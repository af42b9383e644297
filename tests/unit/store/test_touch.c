/* What commands may change: a reader who keeps answers, drops them as he is told when a command comes into
 * the log, and keeps none anew that a command on its way may change, never has a wrong one. Random commands,
 * applied late, some never. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kvnode/state/store_internal.h"
#include "kvnode/state/touch.h"
#include "sync/wire/ttl.h"
#include "sync/wire/txn.h"
#include "tests/unit/store/world.h"

#define INODES 512
#define NAMES 5
#define WAITING 8

static const char *const names[NAMES] = {"a", "b", "c", "d", "e~"};

struct kept {
    bool attr, data, listing, name[NAMES];
    int code;
    struct attr attr_of;
    uint64_t xattrs_of; /* with attr */
    uint64_t data_of, listing_of;
    uint64_t name_of[NAMES]; /* 0: missing */
};

struct waiting {
    uint64_t index;
    struct touches told; /* to mounts, when it came */
    uint8_t *bytes;      /* owned */
    size_t len;
};

struct cache {
    struct world w;
    struct touch_list *list;
    struct waiting waiting[WAITING];
    unsigned n_waiting;
    uint64_t next; /* index in the log */
    struct kept kept[INODES];
    struct kept mount[INODES]; /* of one who knows of what is under way only what he was told */
    unsigned seed;
    unsigned long checked, refilled;
};

static unsigned roll(struct cache *c, unsigned n)
{
    return (unsigned)rand_r(&c->seed) % n;
}

static unsigned place(uint64_t ino)
{
    assert_in_range(ino, 1, INODES - 1);
    return (unsigned)ino;
}

/* ---- what the store says ---- */

static int attr_now(struct cache *c, unsigned ino, struct attr *attr_out)
{
    memset(attr_out, 0, sizeof *attr_out);
    return store_getattr(c->w.s, ino, attr_out);
}

static uint64_t fold(uint64_t h, const void *bytes, size_t len)
{
    const uint8_t *b = bytes;

    while (len-- > 0)
        h = (h ^ *b++) * 1099511628211u;
    return h;
}

static uint64_t data_now(struct cache *c, unsigned ino)
{
    struct buffer b = BUFFER_INIT;
    uint64_t h = (uint64_t)store_read(c->w.s, ino, 0, 1000, &b);

    h = fold(h, b.data, b.len);
    buffer_deinit(&b);
    return h;
}

static uint64_t xattrs_now(struct cache *c, unsigned ino)
{
    struct buffer b = BUFFER_INIT;
    uint64_t h = (uint64_t)store_listxattr(c->w.s, ino, &b);

    store_getxattr(c->w.s, ino, "user.a", 6, &b);
    store_getxattr(c->w.s, ino, XATTR_TTL, strlen(XATTR_TTL), &b);
    h = fold(h, b.data, b.len);
    buffer_deinit(&b);
    return h;
}

static bool fold_name(void *arg, uint64_t cookie, const uint8_t *name, size_t len, const struct attr *attr)
{
    uint64_t *h = arg;

    *h = fold(*h, name, len) + attr->ino;
    return true;
}

static uint64_t listing_now(struct cache *c, unsigned ino)
{
    uint64_t h = 1;

    if (store_readdir(c->w.s, ino, 0, &h, fold_name) != KV_OK)
        return 0;
    return h;
}

static uint64_t name_now(struct cache *c, unsigned ino, unsigned name)
{
    struct attr a;

    return store_lookup(c->w.s, NULL, ino, names[name], strlen(names[name]), &a) == KV_OK ? a.ino : 0;
}

/* ---- keeping ---- */

static bool was_told(const struct cache *c, uint64_t ino, uint8_t what)
{
    for (unsigned i = 0; i < c->n_waiting; i++) {
        const struct touches *t = &c->waiting[i].told;

        if (t->all)
            return true;
        for (unsigned k = 0; k < t->n; k++)
            if (t->of[k].ino == ino && (t->of[k].what & what) != 0)
                return true;
    }
    return false;
}

/* Attributes a mount keeps by the directory, too (lease_attr_s()): not here. */
static void fill_mount(struct cache *c)
{
    unsigned ino = 1 + roll(c, 40), name = roll(c, NAMES);
    struct kept *k = &c->mount[ino];
    struct attr a;

    if (attr_now(c, ino, &a) != KV_OK)
        return;
    if (!was_told(c, ino, TOUCH_DATA)) {
        k->data = true;
        k->data_of = data_now(c, ino);
    }
    if (!was_told(c, ino, TOUCH_NAMES)) {
        k->listing = k->name[name] = true;
        k->listing_of = listing_now(c, ino);
        k->name_of[name] = name_now(c, ino, name);
    }
}

static void fill_one(struct cache *c)
{
    unsigned ino = 1 + roll(c, 40), name = roll(c, NAMES);
    struct kept *k = &c->kept[ino];
    struct attr a;

    if (attr_now(c, ino, &a) != KV_OK) /* nobody keeps that a number stands for nothing */
        return;
    switch (roll(c, 4)) {
    case 0:
        if (touch_on(c->list, ino, TOUCH_ATTR, UINT64_MAX) == 0) {
            k->attr = true;
            k->code = attr_now(c, ino, &k->attr_of);
            k->xattrs_of = xattrs_now(c, ino);
        }
        break;
    case 1:
        if (touch_on(c->list, ino, TOUCH_DATA, UINT64_MAX) == 0) {
            k->data = true;
            k->data_of = data_now(c, ino);
        }
        break;
    case 2:
        if (touch_on(c->list, ino, TOUCH_NAMES, UINT64_MAX) == 0) {
            k->listing = true;
            k->listing_of = listing_now(c, ino);
        }
        break;
    default:
        if (touch_on_name(c->list, ino, names[name], strlen(names[name]), UINT64_MAX) == 0) {
            k->name[name] = true;
            k->name_of[name] = name_now(c, ino, name);
        }
        break;
    }
    c->refilled += c->n_waiting > 0;
}

static void forget(struct kept *all, const struct touches *t)
{
    if (t->all) {
        memset(all, 0, INODES * sizeof *all);
        return;
    }
    for (unsigned i = 0; i < t->n; i++) {
        struct kept *k = &all[place(t->of[i].ino)];

        if ((t->of[i].what & TOUCH_ATTR) != 0)
            k->attr = false;
        if ((t->of[i].what & TOUCH_DATA) != 0)
            k->data = false;
        if ((t->of[i].what & TOUCH_NAMES) != 0) {
            k->listing = false;
            memset(k->name, 0, sizeof k->name);
        }
    }
}

static void check(struct cache *c, const struct kept *all)
{
    for (unsigned ino = 1; ino < INODES; ino++) {
        const struct kept *k = &all[ino];
        struct attr a;
        int code = attr_now(c, ino, &a);

        if (k->attr) {
            assert_int_equal(code, k->code);
            assert_memory_equal(&a, &k->attr_of, sizeof a);
            assert_int_equal(xattrs_now(c, ino), k->xattrs_of);
        }
        if (code != KV_OK) /* what it had stays with those who have it open */
            continue;
        if (k->data)
            assert_int_equal(data_now(c, ino), k->data_of);
        if (k->listing)
            assert_int_equal(listing_now(c, ino), k->listing_of);
        for (unsigned i = 0; i < NAMES; i++)
            if (k->name[i])
                assert_int_equal(name_now(c, ino, i), k->name_of[i]);
        c->checked += k->attr + k->data + k->listing + k->name[0];
    }
}

/* ---- commands ---- */

/* Into the log, not into the state. */
static void on_logged(void *arg, const void *bytes, size_t len)
{
    struct cache *c = arg;
    struct waiting *w = &c->waiting[c->n_waiting++];

    *w = (struct waiting){.index = c->next++, .bytes = malloc(len), .len = len};
    assert_non_null(w->bytes);
    memcpy(w->bytes, bytes, len);
    assert_int_equal(touch_add(c->list, c->w.s, w->index, w->bytes, w->len, &w->told), 0);
    forget(c->kept, &w->told);
    forget(c->mount, &w->told);
}

static void apply_oldest(struct cache *c)
{
    struct waiting w = c->waiting[0];

    memmove(c->waiting, c->waiting + 1, --c->n_waiting * sizeof w);
    c->w.instead = NULL;
    assert_int_equal(w.index, c->w.index + 1);
    world_apply(&c->w, w.bytes, w.len);
    touch_applied(c->list, c->w.s, w.index);
    free(w.bytes);
    check(c, c->kept);
    check(c, c->mount);
}

static void cut_newest(struct cache *c)
{
    unsigned n = 1 + roll(c, c->n_waiting);

    while (n-- > 0)
        free(c->waiting[--c->n_waiting].bytes);
    c->next = c->w.index + 1 + c->n_waiting;
    touch_cut(c->list, c->next);
}

static const char *random_path(struct cache *c)
{
    static char path[64];
    unsigned depth = 1 + roll(c, 4);

    path[0] = '\0';
    for (unsigned i = 0; i < depth; i++)
        snprintf(path + strlen(path), sizeof path - strlen(path), "%s%s", i > 0 ? "/" : "",
                 names[roll(c, NAMES)]);
    return path;
}

static void world_txn(struct world *w, uint8_t kind, const char *path, const char *to)
{
    struct txn_item item = {.kind = kind, .path = (const uint8_t *)path, .path_len = strlen(path)};
    struct command_body body = {0};
    struct buffer b = BUFFER_INIT;

    if (kind == TXN_MOVE) {
        item.to = (const uint8_t *)to;
        item.to_len = strlen(to);
    } else if (kind == TXN_SET) {
        item.value = (const uint8_t *)to;
        item.value_len = strlen(to);
    }
    txn_encode(&b, &item);
    body.items = b.data;
    body.items_len = b.len;
    world_command(w, COMMAND_TXN, &body);
    buffer_deinit(&b);
}

static void world_prune(struct world *w, const char *path)
{
    const struct command_body body = {.path = (const uint8_t *)path, .path_len = strlen(path)};

    world_command(w, COMMAND_PRUNE, &body);
}

static void log_one(struct cache *c)
{
    struct world *w = &c->w;
    uint64_t parent = 1 + roll(c, 40), other = 1 + roll(c, 40);
    const char *name = names[roll(c, NAMES)], *new_name = names[roll(c, NAMES)];
    char from[64];

    w->instead = on_logged;
    w->instead_arg = c;
    switch (roll(c, 24)) {
    case 0:
        world_create(w, parent, name);
        break;
    case 1:
    case 2:
        world_mkdir(w, parent, name);
        break;
    case 3:
        world_symlink(w, parent, name, "target");
        break;
    case 4:
        world_unlink(w, parent, name);
        break;
    case 5:
        world_rmdir(w, parent, name);
        break;
    case 6:
        world_rename(w, parent, name, other, new_name);
        break;
    case 7:
        world_rename(w, 1, name, 1, new_name);
        break;
    case 8:
        world_exchange(w, parent, name, other, new_name);
        break;
    case 9:
        world_chmod(w, parent, roll(c, 2) ? 0755 : 0700);
        break;
    case 10:
        world_append(w, parent, "more", 4);
        break;
    case 11:
        world_del(w, random_path(c), roll(c, 12) == 0);
        break;
    case 13:
        world_setxattr(w, parent, roll(c, 2) ? "user.a" : "user.b", name, 0);
        break;
    case 14:
        world_removexattr(w, parent, "user.a");
        break;
    case 12:
        world_mknod(w, parent, name, roll(c, 2) ? INODE_FIFO : INODE_SOCKET);
        break;
    case 15:
    case 16:
        world_link(w, other, parent, name);
        break;
    case 17:
        world_setxattr(w, parent, XATTR_TTL, "20ms", 0);
        break;
    case 18:
        world_set_ttl(w, random_path(c), "short", 10);
        break;
    case 19:
        world_expire(w);
        break;
    case 20:
        snprintf(from, sizeof from, "%s", random_path(c));
        if (roll(c, 40) == 0)
            world_prune(w, from);
        else if (roll(c, 2) == 0)
            world_txn(w, (uint8_t)(TXN_SET + roll(c, 2)), from, new_name);
        else
            world_txn(w, TXN_MOVE, from, random_path(c));
        break;
    default:
        world_set_bytes(w, random_path(c), name, 1 + roll(c, 1), SET_PARENTS, 0);
        break;
    }
}

static uint64_t next_ino(const struct cache *c)
{
    struct meta_row row;

    store_meta(c->w.s, &row);
    return row.next_ino;
}

static unsigned long checked, refilled; /* of all seeds */

static void run(unsigned seed)
{
    static struct cache c;

    memset(&c, 0, sizeof c);
    world_init(&c.w, false);
    c.list = touch_list_new();
    assert_non_null(c.list);
    c.seed = seed;
    c.next = c.w.index + 1;
    for (unsigned step = 0; step < 4000 && next_ino(&c) < INODES - 20; step++) {
        unsigned what = roll(&c, 10);

        if (what < 3 && c.n_waiting < WAITING)
            log_one(&c);
        else if (what < 6 && c.n_waiting > 0)
            apply_oldest(&c);
        else if (what == 6 && c.n_waiting > 0 && roll(&c, 8) == 0)
            cut_newest(&c);
        else
            (what == 9 ? fill_mount : fill_one)(&c);
    }
    while (c.n_waiting > 0)
        apply_oldest(&c);
    assert_int_equal(touch_count(c.list), 0);
    checked += c.checked;
    refilled += c.refilled;
    touch_list_free(c.list);
    world_deinit(&c.w);
}

/* mkdir x; mv d x/sub; set x/sub/file, all on their way: the first two are acknowledged elsewhere already. */
static void a_path_below_what_is_not_there_yet_may_change_everything(void **state)
{
    static struct cache c;
    uint64_t d, file;

    memset(&c, 0, sizeof c);
    world_init(&c.w, false);
    c.list = touch_list_new();
    assert_int_equal(world_set_bytes(&c.w, "d/file", "old", 3, SET_PARENTS, 0), KV_OK);
    d = world_ino(&c.w, "d");
    file = world_ino(&c.w, "d/file");
    assert_true(d != 0 && file != 0);
    c.next = c.w.index + 1;
    c.w.instead = on_logged;
    c.w.instead_arg = &c;
    c.kept[place(file)].data = true;
    c.kept[place(file)].data_of = data_now(&c, (unsigned)file);
    world_mkdir(&c.w, 1, "x");
    world_rename(&c.w, 1, "d", next_ino(&c), "sub");
    world_set_bytes(&c.w, "x/sub/file", "new", 3, SET_PARENTS, 0);
    assert_false(c.kept[place(file)].data); /* dropped when the last of them came into the log */
    assert_int_equal(touch_on(c.list, file, TOUCH_DATA, UINT64_MAX), c.next - 1);
    while (c.n_waiting > 0)
        apply_oldest(&c);
    assert_int_equal(world_ino(&c.w, "x/sub/file"), file);
    assert_string_equal(world_get(&c.w, "x/sub/file"), "new");
    touch_list_free(c.list);
    world_deinit(&c.w);
}

/* ln file x; set x: the second writes to what the first gives the name to. */
static void a_path_to_what_is_being_linked_may_change_everything(void **state)
{
    static struct cache c;
    uint64_t file;

    memset(&c, 0, sizeof c);
    world_init(&c.w, false);
    c.list = touch_list_new();
    assert_int_equal(world_set_bytes(&c.w, "d/file", "old", 3, SET_PARENTS, 0), KV_OK);
    file = world_ino(&c.w, "d/file");
    c.next = c.w.index + 1;
    c.w.instead = on_logged;
    c.w.instead_arg = &c;
    c.kept[place(file)].data = true;
    c.kept[place(file)].data_of = data_now(&c, (unsigned)file);
    world_link(&c.w, file, 1, "x");
    assert_true(c.kept[place(file)].data);
    world_set_bytes(&c.w, "x", "new", 3, 0, 0);
    assert_false(c.kept[place(file)].data);
    while (c.n_waiting > 0)
        apply_oldest(&c);
    assert_string_equal(world_get(&c.w, "d/file"), "new");
    touch_list_free(c.list);
    world_deinit(&c.w);
}

/* mv d e: who opens d/file by its number came by a path that is about to be another. */
static void a_move_is_found_by_what_is_below_it(void **state)
{
    static struct cache c;
    uint64_t file, d, move;

    memset(&c, 0, sizeof c);
    world_init(&c.w, false);
    c.list = touch_list_new();
    assert_int_equal(world_set_bytes(&c.w, "d/file", "old", 3, SET_PARENTS, 0), KV_OK);
    file = world_ino(&c.w, "d/file");
    d = world_ino(&c.w, "d");
    c.next = c.w.index + 1;
    c.w.instead = on_logged;
    c.w.instead_arg = &c;
    world_create(&c.w, d, "other");
    assert_int_equal(touch_on_move(c.list, UINT64_MAX), 0);
    move = c.next;
    world_rename(&c.w, 1, "d", 1, "e");
    world_append(&c.w, d, "x", 1);
    assert_int_equal(touch_on(c.list, file, TOUCH_ANY, UINT64_MAX), 0);
    assert_int_equal(touch_on_move(c.list, UINT64_MAX), move);
    assert_int_equal(touch_on_move(c.list, move - 1), 0);
    while (c.n_waiting > 0)
        apply_oldest(&c);
    assert_int_equal(touch_on_move(c.list, UINT64_MAX), 0);
    touch_list_free(c.list);
    world_deinit(&c.w);
}

/* d/n with "old", which both keep, and nothing under way. */
static uint64_t begin(struct cache *c)
{
    uint64_t n;

    memset(c, 0, sizeof *c);
    world_init(&c->w, false);
    c->list = touch_list_new();
    assert_non_null(c->list);
    assert_int_equal(world_set_ttl(&c->w, "d/n", "old", 10), KV_OK);
    assert_int_equal(world_set_bytes(&c->w, "e/x", "x", 1, SET_PARENTS, 0), KV_OK);
    for (int i = 0; i < 6; i++) {
        char path[16];

        snprintf(path, sizeof path, "d/more%d", i);
        assert_int_equal(world_set_ttl(&c->w, path, "v", 5), KV_OK);
    }
    n = world_ino(&c->w, "d/n");
    c->next = c->w.index + 1;
    c->w.instead = on_logged;
    c->w.instead_arg = c;
    return n;
}

/* The last one of what is under way is of d/n. What is before it is applied, and d/n is another file, or
 * none: whoever looks it up waits for the last, and a mount was told of it. */
static void last_is_seen(struct cache *c, uint64_t n)
{
    uint64_t d = world_ino(&c->w, "d"), last = c->next - 1, now;

    assert_true(c->waiting[c->n_waiting - 1].told.all);
    while (c->n_waiting > 1)
        apply_oldest(c);
    now = world_ino(&c->w, "d/n");
    assert_int_not_equal(now, n);
    assert_int_equal(touch_on_entry(c->list, c->w.s, d, "n", 1, UINT64_MAX), last);
    assert_int_equal(touch_on_path(c->list, c->w.s, "d/n", 3, UINT64_MAX), last);
    if (now != 0)
        assert_int_equal(touch_on(c->list, now, TOUCH_DATA, UINT64_MAX), last);
    apply_oldest(c);
    assert_string_equal(world_get(&c->w, "d/n"), "new");
    assert_int_equal(touch_count(c->list), 0);
    touch_list_free(c->list);
    world_deinit(&c->w);
}

static void set_n(struct cache *c)
{
    world_set_bytes(&c->w, "d/n", "new", 3, 0, 0);
}

static void a_path_behind_a_transaction_is_found_again(void **state)
{
    static struct cache c;
    uint64_t n = begin(&c);

    world_txn(&c.w, TXN_DEL, "d/n", NULL);
    set_n(&c);
    last_is_seen(&c, n);
    n = begin(&c);
    world_txn(&c.w, TXN_MOVE, "e/x", "d/n");
    set_n(&c);
    last_is_seen(&c, n);
}

static void a_path_behind_what_is_pruned_is_found_again(void **state)
{
    static struct cache c;
    uint64_t n = begin(&c);

    world_prune(&c.w, "d");
    world_mkdir(&c.w, 1, "d"); /* refused if it is there still */
    set_n(&c);
    while (c.n_waiting > 1)
        apply_oldest(&c);
    last_is_seen(&c, n);
}

static void a_path_behind_what_expires_is_found_again(void **state)
{
    static struct cache c;
    uint64_t n = begin(&c);

    c.w.elapsed_ms += 1000;
    world_expire(&c.w); /* seven: not named one by one */
    set_n(&c);
    last_is_seen(&c, n);
    n = begin(&c);
    world_unlink(&c.w, world_ino(&c.w, "d"), "more0");
    while (c.n_waiting > 0)
        apply_oldest(&c);
    c.w.instead = NULL;
    for (int i = 1; i < 6; i++) {
        char path[16];

        snprintf(path, sizeof path, "d/more%d", i);
        assert_int_equal(world_del(&c.w, path, false), KV_OK);
    }
    c.next = c.w.index + 1;
    c.w.instead = on_logged;
    c.w.elapsed_ms += 1000;
    world_expire(&c.w); /* one */
    assert_false(c.waiting[0].told.all);
    set_n(&c);
    last_is_seen(&c, n);
}

/* Mounts are told once, when it comes. */
static void a_path_behind_what_takes_or_gives_its_name_may_change_everything(void **state)
{
    static struct cache c;
    uint64_t n = begin(&c), d = world_ino(&c.w, "d");

    world_unlink(&c.w, d, "n");
    assert_false(c.waiting[0].told.all);
    set_n(&c);
    last_is_seen(&c, n);
    n = begin(&c);
    world_del(&c.w, "d/n", false);
    set_n(&c);
    last_is_seen(&c, n);
    /* What comes, as well: the second writes to it, and what follows below it. */
    n = begin(&c);
    world_set_bytes(&c.w, "p/q", "1", 1, SET_PARENTS, 0);
    world_set_bytes(&c.w, "p/q", "2", 1, SET_PARENTS, 0);
    world_set_bytes(&c.w, "p/r", "3", 1, SET_PARENTS, 0);
    assert_false(c.waiting[0].told.all);
    assert_true(c.waiting[1].told.all && c.waiting[2].told.all);
    while (c.n_waiting > 0)
        apply_oldest(&c);
    touch_list_free(c.list);
    world_deinit(&c.w);
}

/* It changes everything as long as one of those that it meets is not applied. */
static void a_path_behind_two_is_looked_at_after_each(void **state)
{
    static struct cache c;
    uint64_t n = begin(&c);

    world_txn(&c.w, TXN_SET, "e/y", "v");
    world_txn(&c.w, TXN_SET, "e/z", "v");
    set_n(&c);
    apply_oldest(&c);
    assert_int_equal(touch_on(c.list, world_ino(&c.w, "e"), TOUCH_ANY, c.next - 1), c.next - 1);
    apply_oldest(&c);
    assert_int_equal(touch_on(c.list, world_ino(&c.w, "e"), TOUCH_ANY, c.next - 1), 0);
    assert_int_equal(touch_on(c.list, n, TOUCH_DATA, c.next - 1), c.next - 1);
    apply_oldest(&c);
    touch_list_free(c.list);
    world_deinit(&c.w);
}

/* New names side by side, and the same key again and again, say what they change, behind a transaction that
 * was applied, too. */
static void paths_side_by_side_stay_apart(void **state)
{
    static struct cache c;
    uint64_t d;

    begin(&c);
    d = world_ino(&c.w, "d");
    world_txn(&c.w, TXN_SET, "e/y", "v");
    set_n(&c);
    assert_true(c.waiting[0].told.all && c.waiting[1].told.all);
    apply_oldest(&c);
    c.w.instead = on_logged;
    assert_int_equal(touch_on(c.list, d, TOUCH_ANY, UINT64_MAX), 0);
    set_n(&c);
    world_set_bytes(&c.w, "d/one", "v", 1, 0, 0);
    world_set_bytes(&c.w, "d/two", "v", 1, 0, 0);
    world_create(&c.w, d, "three");
    world_del(&c.w, "d/more1", false);
    world_set_bytes(&c.w, "d/more2", "v", 1, 0, 0);
    for (unsigned i = 1; i < c.n_waiting; i++)
        assert_false(c.waiting[i].told.all);
    world_set_bytes(&c.w, "d/two", "w", 1, 0, 0);
    assert_true(c.waiting[c.n_waiting - 1].told.all);
    while (c.n_waiting > 0)
        apply_oldest(&c);
    touch_list_free(c.list);
    world_deinit(&c.w);
}

static void whoever_keeps_answers_by_it_never_has_a_wrong_one(void **state)
{
    const char *seeds = getenv("KVFS_TOUCH_SEEDS");
    unsigned n = seeds != NULL ? (unsigned)atoi(seeds) : 60;

    for (unsigned seed = 1; seed <= n; seed++)
        run(seed);
    /* It says something: much is kept, while commands are on their way. */
    assert_true(checked > 5000ul * n && refilled > 500ul * n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_below_what_is_not_there_yet_may_change_everything),
        cmocka_unit_test(a_path_to_what_is_being_linked_may_change_everything),
        cmocka_unit_test(a_move_is_found_by_what_is_below_it),
        cmocka_unit_test(a_path_behind_a_transaction_is_found_again),
        cmocka_unit_test(a_path_behind_what_is_pruned_is_found_again),
        cmocka_unit_test(a_path_behind_what_expires_is_found_again),
        cmocka_unit_test(a_path_behind_what_takes_or_gives_its_name_may_change_everything),
        cmocka_unit_test(a_path_behind_two_is_looked_at_after_each),
        cmocka_unit_test(paths_side_by_side_stay_apart),
        cmocka_unit_test(whoever_keeps_answers_by_it_never_has_a_wrong_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
