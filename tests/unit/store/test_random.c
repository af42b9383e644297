/* Random commands against a naive model of the namespace, with restarts at
 * random points, beside a second store that never restarts: both must stay
 * equal, digest included, and equal to the model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sync/wire/ttl.h"
#include "tests/unit/store/place.h"

#define NODES 64
#define NUMBERS 4096
#define VALUE_MAX 150000

/* A name of the model's tree. Node 0 is the root. Names of one inode have its content each. */
struct node {
    bool used, directory, temporary;
    int parent;
    int order; /* in which the names were given */
    char name[8];
    uint64_t ino, version;
    int history; /* directories: place of their names in `numbers` */
    uint8_t *data;
    size_t len;
};

/* What is remembered of a (history, name). */
struct number {
    int history;
    char name[8];
    uint64_t last;
    int past; /* history id that a new directory inherits, or 0 */
};

struct model {
    struct node nodes[NODES];
    struct number numbers[NUMBERS];
    int n_numbers, next_history, next_order;
    unsigned seed;
};

static const char *const names[] = {"a", "b", "c", "d", "e~", ".f.swp"};

static unsigned roll(struct model *m, unsigned n)
{
    return (unsigned)rand_r(&m->seed) % n;
}

static int find(const struct model *m, int parent, const char *name)
{
    for (int i = 1; i < NODES; i++)
        if (m->nodes[i].used && m->nodes[i].parent == parent && strcmp(m->nodes[i].name, name) == 0)
            return i;
    return 0;
}

static int children(const struct model *m, int parent)
{
    int n = 0;

    for (int i = 1; i < NODES; i++)
        n += m->nodes[i].used && m->nodes[i].parent == parent;
    return n;
}

static int free_node(const struct model *m)
{
    for (int i = 1; i < NODES; i++)
        if (!m->nodes[i].used)
            return i;
    return 0;
}

static struct number *number_of(struct model *m, int parent, const char *name)
{
    int history = m->nodes[parent].history;
    struct number *n;

    for (int i = 0; i < m->n_numbers; i++)
        if (m->numbers[i].history == history && strcmp(m->numbers[i].name, name) == 0)
            return &m->numbers[i];
    assert_true(m->n_numbers < NUMBERS);
    n = &m->numbers[m->n_numbers++];
    *n = (struct number){.history = history};
    strcpy(n->name, name);
    return n;
}

static bool is_temporary(const char *name)
{
    return strcmp(name, "e~") == 0 || strcmp(name, ".f.swp") == 0;
}

/* The content of node i gets the next number of its name. */
static void model_number(struct model *m, int i)
{
    struct node *node = &m->nodes[i];
    struct number *n = number_of(m, node->parent, node->name);

    node->temporary = !node->directory && is_temporary(node->name);
    if (!node->directory)
        n->past = 0;
    node->version = node->temporary || node->directory ? 0 : ++n->last;
}

static int model_add(struct model *m, int parent, const char *name, bool directory, uint64_t ino)
{
    int i = free_node(m);
    struct number *n = number_of(m, parent, name);

    assert_true(i > 0);
    m->nodes[i] = (struct node){
        .used = true, .directory = directory, .parent = parent, .order = ++m->next_order, .ino = ino};
    strcpy(m->nodes[i].name, name);
    if (directory) {
        m->nodes[i].history = n->past != 0 ? n->past : ++m->next_history;
        n->past = 0;
    }
    model_number(m, i);
    return i;
}

static void model_remove(struct model *m, int i)
{
    struct node *node = &m->nodes[i];

    for (int k = 1; k < NODES; k++)
        if (m->nodes[k].used && m->nodes[k].parent == i)
            model_remove(m, k);
    if (node->directory)
        number_of(m, node->parent, node->name)->past = node->history;
    free(node->data);
    *node = (struct node){0};
}

static int names_of(const struct model *m, uint64_t ino)
{
    int n = 0;

    for (int i = 1; i < NODES; i++)
        n += m->nodes[i].used && m->nodes[i].ino == ino;
    return n;
}

/* That of the inode's oldest name. */
static uint64_t version_of(const struct model *m, uint64_t ino)
{
    const struct node *first = NULL;

    for (const struct node *n = m->nodes + 1; n < m->nodes + NODES; n++)
        if (n->used && n->ino == ino && (first == NULL || n->order < first->order))
            first = n;
    return first->version;
}

static bool is_below(const struct model *m, int i, int top)
{
    while (i != 0 && i != top)
        i = m->nodes[i].parent;
    return i == top;
}

static void resize(struct node *node, size_t len)
{
    uint8_t *data = realloc(node->data, len > 0 ? len : 1);

    assert_non_null(data);
    if (len > node->len)
        memset(data + node->len, 0, len - node->len);
    node->data = data;
    node->len = len;
}

/* One random publication, done to both. */
static void step_publish(struct model *m, struct world *w, int i)
{
    static uint8_t bytes[VALUE_MAX];
    struct node *node = &m->nodes[i];
    struct edit edits[3];
    size_t n = 1 + roll(m, 3), old_len = node->len;
    uint8_t *old = malloc(old_len + 1);

    memcpy(old, node->data != NULL ? node->data : bytes, old_len);
    for (size_t k = 0; k < sizeof bytes; k += 1 + roll(m, 999))
        bytes[k] = (uint8_t)roll(m, 256);
    for (size_t k = 0; k < n; k++) {
        size_t len = roll(m, 4) == 0 ? roll(m, 70000) : roll(m, 300);
        size_t at = roll(m, 3) == 0 ? roll(m, 90000) : roll(m, (unsigned)node->len + 10);

        switch (roll(m, 4)) {
        case 0:
            edits[k] = (struct edit){.kind = EDIT_TRUNCATE, .number = at};
            resize(node, at);
            break;
        case 1:
            edits[k] = (struct edit){.kind = EDIT_WRITE, .number = at, .data = bytes, .len = len};
            if (len > 0 && at + len > node->len)
                resize(node, at + len);
            if (len > 0)
                memcpy(node->data + at, bytes, len);
            break;
        default:
            if (node->len + len > VALUE_MAX)
                len = 0;
            edits[k] = (struct edit){.kind = EDIT_APPEND, .data = bytes, .len = len};
            resize(node, node->len + len);
            if (len > 0)
                memcpy(node->data + node->len - len, bytes, len);
            break;
        }
    }
    assert_int_equal(world_publish(w, node->ino, false, edits, n), KV_OK);
    if (node->len != old_len || (old_len > 0 && memcmp(node->data, old, old_len) != 0)) {
        for (struct node *other = m->nodes + 1; other < m->nodes + NODES; other++) {
            if (!other->used || other->ino != node->ino)
                continue;
            if (!other->temporary)
                other->version = ++number_of(m, other->parent, other->name)->last;
            if (other == node)
                continue;
            resize(other, node->len);
            memcpy(other->data, node->data, node->len);
        }
    }
    free(old);
    assert_int_equal(w->result.attr.version, version_of(m, node->ino));
    assert_int_equal(w->result.attr.size, node->len);
}

static void step_rename(struct model *m, struct world *w, int parent, int from, int to_parent,
                        const char *name)
{
    struct node *node = &m->nodes[from];
    int over = find(m, to_parent, name), expect = KV_OK;
    int rv = world_rename(w, m->nodes[parent].ino, node->name, m->nodes[to_parent].ino, name);

    if (over != 0 && m->nodes[over].ino == node->ino) {
        assert_int_equal(rv, KV_OK);
        return;
    }
    if (node->directory && is_below(m, to_parent, from))
        expect = KV_E_LOOP;
    else if (over != 0 && node->directory && !m->nodes[over].directory)
        expect = KV_E_NOTDIR;
    else if (over != 0 && node->directory && children(m, over) > 0)
        expect = KV_E_NOTEMPTY;
    else if (over != 0 && !node->directory && m->nodes[over].directory)
        expect = KV_E_ISDIR;
    assert_int_equal(rv, expect);
    if (rv != KV_OK)
        return;
    if (over != 0) {
        model_remove(m, over);
        number_of(m, to_parent, name)->past = 0;
    }
    node->parent = to_parent;
    node->order = ++m->next_order;
    strcpy(node->name, name);
    model_number(m, from);
    if (node->directory)
        number_of(m, to_parent, name)->past = 0;
    assert_int_equal(w->result.attr.version, node->version);
}

static void step_exchange(struct model *m, struct world *w, int from, int to_parent, const char *name)
{
    struct node *node = &m->nodes[from], *other;
    int over = find(m, to_parent, name), parent = node->parent, expect = KV_OK;
    int rv = world_exchange(w, m->nodes[parent].ino, node->name, m->nodes[to_parent].ino, name);
    char old[8];
    int order;

    if (over == 0)
        expect = KV_E_NOENT;
    else if (over != from && ((node->directory && is_below(m, to_parent, from)) ||
                              (m->nodes[over].directory && is_below(m, parent, over))))
        expect = KV_E_LOOP;
    assert_int_equal(rv, expect);
    if (rv != KV_OK || m->nodes[over].ino == node->ino)
        return;
    other = &m->nodes[over];
    order = node->order;
    node->order = other->order;
    other->order = order;
    strcpy(old, node->name);
    node->parent = to_parent;
    strcpy(node->name, name);
    other->parent = parent;
    strcpy(other->name, old);
    model_number(m, from);
    model_number(m, over);
    assert_int_equal(w->result.attr.version, node->version);
}

static void step_link(struct model *m, struct world *w, int of, int parent, const char *name)
{
    int at = find(m, parent, name), rv;

    if (at == 0 && free_node(m) == 0)
        return;
    rv = world_link(w, m->nodes[of].ino, m->nodes[parent].ino, name);
    assert_int_equal(rv, at != 0 ? KV_E_EXIST : m->nodes[of].directory ? KV_E_PERM : KV_OK);
    if (rv != KV_OK)
        return;
    at = model_add(m, parent, name, false, m->nodes[of].ino);
    resize(&m->nodes[at], m->nodes[of].len);
    if (m->nodes[of].len > 0)
        memcpy(m->nodes[at].data, m->nodes[of].data, m->nodes[of].len);
    assert_int_equal(w->result.attr.version, m->nodes[at].version);
    assert_int_equal(w->result.attr.nlink, names_of(m, m->nodes[of].ino));
}

static void step(struct model *m, struct world *w)
{
    int parents[NODES], n = 0, parent, at;
    const char *name = names[roll(m, 6)];
    uint64_t ino;

    for (int i = 0; i < NODES; i++)
        if (m->nodes[i].used && m->nodes[i].directory)
            parents[n++] = i;
    parent = parents[roll(m, (unsigned)n)];
    ino = m->nodes[parent].ino;
    at = find(m, parent, name);
    switch (roll(m, 12)) {
    case 11:
        if (at != 0)
            step_link(m, w, at, parents[roll(m, (unsigned)n)], names[roll(m, 6)]);
        break;
    case 10:
        if (at != 0)
            step_exchange(m, w, at, parents[roll(m, (unsigned)n)], names[roll(m, 6)]);
        break;
    case 0:
    case 1:
        if (at == 0 && free_node(m) == 0)
            return;
        assert_int_equal(world_create(w, ino, name), at != 0 ? KV_E_EXIST : KV_OK);
        if (at == 0)
            at = model_add(m, parent, name, false, w->result.attr.ino);
        break;
    case 2:
        if (at == 0 && free_node(m) == 0)
            return;
        assert_int_equal(world_mkdir(w, ino, name), at != 0 ? KV_E_EXIST : KV_OK);
        if (at == 0)
            at = model_add(m, parent, name, true, w->result.attr.ino);
        break;
    case 3:
        assert_int_equal(world_unlink(w, ino, name), at == 0                  ? KV_E_NOENT
                                                     : m->nodes[at].directory ? KV_E_ISDIR
                                                                              : KV_OK);
        if (at != 0 && !m->nodes[at].directory)
            model_remove(m, at);
        break;
    case 4:
        assert_int_equal(world_rmdir(w, ino, name), at == 0                   ? KV_E_NOENT
                                                    : !m->nodes[at].directory ? KV_E_NOTDIR
                                                    : children(m, at) > 0     ? KV_E_NOTEMPTY
                                                                              : KV_OK);
        if (at != 0 && m->nodes[at].directory && children(m, at) == 0)
            model_remove(m, at);
        break;
    case 5:
    case 6:
        if (at != 0)
            step_rename(m, w, parent, at, parents[roll(m, (unsigned)n)], names[roll(m, 6)]);
        break;
    case 7:
        if (at != 0)
            assert_int_equal(world_chmod(w, m->nodes[at].ino, (uint16_t)roll(m, 512)), KV_OK);
        break;
    default:
        if (at != 0 && !m->nodes[at].directory)
            step_publish(m, w, at);
        break;
    }
}

/* Commands whose outcome the model does not predict (with few dead names kept,
 * numbering starts anew now and then). */
static void step_unmodelled(struct model *m, struct world *w)
{
    static const char *const dirs[] = {"", "x/", "x/y/", "x/y/z/"};
    char path[64], other[64], value[64];
    struct attr a, b;

    snprintf(path, sizeof path, "%s%s", dirs[roll(m, 4)], names[roll(m, 6)]);
    snprintf(other, sizeof other, "%s%s", dirs[roll(m, 4)], names[roll(m, 6)]);
    snprintf(value, sizeof value, "value %u", roll(m, 5));
    switch (roll(m, 13)) {
    case 9:
        a = world_attr(w, path);
        b = world_attr(w, "x");
        if (a.ino != 0)
            world_link(w, a.ino, b.type == INODE_DIRECTORY && roll(m, 2) ? b.ino : KV_ROOT_INO,
                       names[roll(m, 6)]);
        break;
    case 0:
        world_del(w, roll(m, 4) == 0 ? "x" : path, true);
        break;
    case 6:
    case 7:
        a = world_attr(w, path);
        world_setxattr(w, a.ino, roll(m, 2) ? "user.a" : "user.b", value, 0);
        break;
    case 8:
        a = world_attr(w, roll(m, 2) ? path : "x");
        world_removexattr(w, a.ino, "user.a");
        break;
    case 1:
        a = world_attr(w, path);
        if (a.type == INODE_FILE)
            world_append(w, a.ino, value, strlen(value));
        break;
    case 2:
        a = world_attr(w, "x");
        b = world_attr(w, "x/y");
        if (a.type == INODE_DIRECTORY)
            (roll(m, 2) ? world_rename : world_exchange)(
                w, roll(m, 2) ? a.ino : KV_ROOT_INO, names[roll(m, 6)],
                b.type == INODE_DIRECTORY && roll(m, 2) ? b.ino : a.ino, names[roll(m, 6)]);
        break;
    case 3:
        world_symlink(w, KV_ROOT_INO, names[roll(m, 6)], other);
        break;
    case 10:
        a = world_attr(w, roll(m, 3) ? path : "x");
        world_setxattr(w, a.ino, XATTR_TTL, roll(m, 2) ? "40ms" : "5s", 0);
        break;
    case 11:
        world_set_ttl(w, path, value, 1 + roll(m, 100));
        break;
    case 12:
        world_expire(w);
        break;
    default:
        world_set(w, path, value);
        break;
    }
}

struct compare {
    const struct model *m;
    const struct world *w;
    int parent, n;
};

static bool compare_one(void *arg, uint64_t cookie, const uint8_t *name, size_t len, const struct attr *attr)
{
    struct compare *c = arg;
    char text[256];
    struct buffer b = BUFFER_INIT;
    const struct node *node;

    snprintf(text, sizeof text, "%.*s", (int)len, (const char *)name);
    node = &c->m->nodes[find(c->m, c->parent, text)];
    assert_true(node->used);
    assert_int_equal(attr->ino, node->ino);
    assert_int_equal(attr->type == INODE_DIRECTORY, node->directory);
    assert_int_equal(attr->version, node->version);
    if (!node->directory) {
        assert_int_equal(attr->nlink, names_of(c->m, node->ino));
        assert_int_equal(attr->size, node->len);
        assert_int_equal(store_read(c->w->s, attr->ino, 0, VALUE_MAX * 2, &b), KV_OK);
        assert_int_equal(b.len, node->len);
        if (b.len > 0)
            assert_memory_equal(b.data, node->data, b.len);
    }
    buffer_deinit(&b);
    c->n++;
    return true;
}

static void compare(const struct model *m, const struct world *w)
{
    for (int i = 0; i < NODES; i++) {
        struct compare c = {.m = m, .w = w, .parent = i};

        if (!m->nodes[i].used || !m->nodes[i].directory)
            continue;
        assert_int_equal(store_readdir(w->s, m->nodes[i].ino, 0, &c, compare_one), KV_OK);
        assert_int_equal(c.n, children(m, i));
    }
    assert_true(world_digest_is_right(w));
}

/* The second store hears of every command. */
static void on_command(void *arg, uint64_t index, const void *bytes, size_t len)
{
    struct command_result result;

    assert_int_equal(store_apply(arg, index, bytes, len, &result), 0);
}

static void run(unsigned seed, int steps, bool limit_dead)
{
    struct place p;
    struct model *m = calloc(1, sizeof *m);
    struct store *twin = store_new(0, NULL, NULL);

    place_init(&p);
    m->seed = seed;
    m->nodes[0] = (struct node){.used = true, .directory = true, .ino = KV_ROOT_INO, .history = 0};
    on_command(twin, p.w.index, p.w.bytes.data, p.w.bytes.len);
    p.w.tap = on_command;
    p.w.tap_arg = twin;
    if (limit_dead)
        assert_int_equal(world_setting(&p.w, "max_dead_names", "3"), KV_OK);
    for (int i = 0; i < steps; i++) {
        int error;

        if (!limit_dead)
            step(m, &p.w);
        else
            step_unmodelled(m, &p.w);
        assert_int_equal(store_digest(p.w.s), store_digest(twin));
        if (roll(m, 4) == 0)
            journal_ripen(p.w.j, roll(m, 1500));
        if (roll(m, 10) == 0)
            writeback_poll(p.wb, UINT64_MAX / 2, &error);
        if (roll(m, 100) == 0) {
            place_restart(&p);
            assert_int_equal(store_digest(p.w.s), store_digest(twin));
            if (!limit_dead)
                compare(m, &p.w);
        }
        if (roll(m, 300) == 0)
            assert_true(place_verifies(&p));
    }
    if (!limit_dead)
        compare(m, &p.w);
    assert_true(place_verifies(&p));
    place_restart(&p);
    assert_int_equal(store_digest(p.w.s), store_digest(twin));
    for (int i = 0; i < NODES; i++)
        free(m->nodes[i].data);
    free(m);
    store_free(twin);
    place_deinit(&p);
}

static void a_store_equals_the_model_and_its_twin_across_restarts(void **state)
{
    const char *seeds = getenv("KVFS_TEST_SEEDS");
    unsigned n = seeds != NULL ? (unsigned)atoi(seeds) : 8;

    for (unsigned seed = 1; seed <= n; seed++)
        run(seed, 700, false);
}

static void histories_that_are_dropped_are_dropped_alike(void **state)
{
    const char *seeds = getenv("KVFS_TEST_SEEDS");
    unsigned n = seeds != NULL ? (unsigned)atoi(seeds) : 4;

    for (unsigned seed = 1; seed <= n; seed++)
        run(1000 + seed, 700, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_equals_the_model_and_its_twin_across_restarts),
        cmocka_unit_test(histories_that_are_dropped_are_dropped_alike),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
