/* Extended attributes: set, replaced and removed, within their limits, by whom; as versions; after a restart.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "kvnode/state/store_rows.h"
#include "sync/wire/feature.h"
#include "sync/wire/xattr.h"
#include "tests/unit/store/place.h"

static void become(struct place *p, uint32_t uid)
{
    p->w.uid = p->w.gid = uid;
    p->w.flags = uid == 0 ? COMMAND_TRUSTED : 0;
}

static uint64_t make(struct place *p, const char *path, const char *value)
{
    assert_int_equal(world_set(&p->w, path, value), KV_OK);
    return world_ino(&p->w, path);
}

static uint64_t bytes_used(const struct place *p)
{
    struct store_usage usage;

    store_usage(p->w.s, &usage);
    return usage.bytes;
}

/* "name=value …" of a version, by name; "(code)" if there is none. */
static const char *version_xattrs(struct place *p, const char *name, uint64_t version)
{
    static char text[1024];
    struct buffer b = BUFFER_INIT;
    struct cursor c;
    struct xattr x;
    int rv = history_xattrs(place_history(p), KV_ROOT_INO, name, strlen(name), version, &b);

    text[0] = '\0';
    if (rv != KV_OK)
        snprintf(text, sizeof text, "(%d)", rv);
    c = cursor_of(b.data, b.len);
    while (rv == KV_OK && xattr_next(&c, &x) == 1)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%.*s=%.*s", text[0] != '\0' ? " " : "",
                 (int)x.name.len, (const char *)x.name.data, (int)x.value.len, (const char *)x.value.data);
    buffer_deinit(&b);
    return text;
}

/* What a query of one number gives, of everything that was applied. */
static int64_t number(struct place *p, const char *sql)
{
    sqlite3_stmt *st;
    sqlite3 *db;
    int64_t n;

    place_flush(p);
    assert_int_equal(sqlite3_open_v2(p->path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

static int64_t n_chunks(struct place *p)
{
    return number(p, "SELECT count(*) FROM chunk");
}

static void are_set_replaced_and_removed(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t ino = make(p, "f", "text"), before = bytes_used(p);
    int64_t ctime;

    assert_string_equal(world_xattrs(w, ino), "");
    ctime = world_attr(w, "f").ctime_ns;
    assert_int_equal(world_setxattr(w, ino, "user.b", "two", 0), KV_OK);
    assert_int_equal(w->result.attr.ino, ino);
    assert_true(w->result.attr.ctime_ns > ctime);
    assert_int_equal(w->result.attr.mtime_ns, world_attr(w, "f").mtime_ns);
    assert_int_equal(w->result.attr.version, 1);
    assert_int_equal(w->n_events, 1);
    assert_int_equal(w->events[0].kind, EVENT_ATTR);
    assert_int_equal(w->events[0].ino, ino);
    assert_string_equal(w->events[0].name, "f");
    assert_int_equal(world_setxattr(w, ino, "user.a", "one", 0), KV_OK);
    assert_int_equal(world_setxattr(w, ino, "user.ab", "", 0), KV_OK);
    assert_string_equal(world_xattrs(w, ino), "user.a user.ab user.b");
    assert_string_equal(world_xattr(w, ino, "user.b"), "two");
    assert_string_equal(world_xattr(w, ino, "user.ab"), "");
    assert_int_equal(bytes_used(p) - before, 6 * 4 + 3 + 3 + 6 + 7 + 6);
    /* To what it is already: nothing changes. */
    ctime = world_attr(w, "f").ctime_ns;
    assert_int_equal(world_setxattr(w, ino, "user.a", "one", 0), KV_OK);
    assert_int_equal(w->events[0].kind, EVENT_NOTHING);
    assert_int_equal(world_attr(w, "f").ctime_ns, ctime);
    /* XATTR_CREATE and XATTR_REPLACE. */
    assert_int_equal(world_setxattr(w, ino, "user.a", "new", XATTR_ADD), KV_E_EXIST);
    assert_int_equal(world_setxattr(w, ino, "user.c", "new", XATTR_CHANGE), KV_E_NOATTR);
    assert_string_equal(world_xattr(w, ino, "user.a"), "one");
    assert_int_equal(world_setxattr(w, ino, "user.c", "new", XATTR_ADD), KV_OK);
    assert_int_equal(world_setxattr(w, ino, "user.a", "1", XATTR_CHANGE), KV_OK);
    assert_int_equal(world_removexattr(w, ino, "user.missing"), KV_E_NOATTR);
    assert_int_equal(world_removexattr(w, ino, "user.ab"), KV_OK);
    assert_string_equal(world_xattrs(w, ino), "user.a user.b user.c");
    assert_int_equal(world_removexattr(w, ino, "user.a"), KV_OK);
    assert_int_equal(world_removexattr(w, ino, "user.c"), KV_OK);
    assert_int_equal(world_removexattr(w, ino, "user.b"), KV_OK);
    assert_string_equal(world_xattrs(w, ino), "");
    assert_int_equal(bytes_used(p), before);
    assert_int_equal(world_setxattr(w, 12345, "user.a", "x", 0), KV_E_STALE);
    assert_int_equal(world_removexattr(w, 12345, "user.a"), KV_E_STALE);
    assert_string_equal(world_get(w, "f"), "text");
}

/* An inode without them has the digest that it would have had without this. */
static void one_without_them_has_its_old_digest(void **state)
{
    struct inode_row row = {.ino = 5, .type = INODE_FILE, .xattr_digest = 7};
    struct history_row past = {.ino = 5, .xattr_digest = 7};
    uint64_t digest = inode_row_digest(&row), of_past = history_row_digest(&past);

    row.xattr_digest = past.xattr_digest = 8;
    assert_true(inode_row_digest(&row) == digest && history_row_digest(&past) == of_past);
    row.xattr_size = past.xattr_size = 1;
    assert_true(inode_row_digest(&row) != digest && history_row_digest(&past) != of_past);
    digest = inode_row_digest(&row);
    of_past = history_row_digest(&past);
    row.xattr_digest = past.xattr_digest = 9;
    assert_true(inode_row_digest(&row) != digest && history_row_digest(&past) != of_past);
}

static void have_limits(void **state)
{
    static uint8_t big[KV_XATTR_VALUE_MAX];
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t ino = make(p, "f", ""), used = bytes_used(p);
    char name[300];

    memset(big, 'v', sizeof big);
    /* All of one inode. */
    memset(name, 'n', KV_XATTR_NAME_MAX);
    memcpy(name, XATTR_USER, strlen(XATTR_USER));
    name[KV_XATTR_NAME_MAX] = '\0';
    assert_int_equal(world_setxattr_bytes(w, ino, name, big, sizeof big, 0), KV_OK); /* the longest of both */
    assert_int_equal(world_setxattr(w, ino, "user.w", "", 0), KV_E_NOSPC);
    assert_int_equal(bytes_used(p) - used, KV_XATTRS_MAX);
    place_restart(p);
    assert_int_equal(bytes_used(p) - used, KV_XATTRS_MAX);
    assert_int_equal(world_setxattr_bytes(w, ino, name, big, sizeof big - 14, 0), KV_OK);
    assert_int_equal(world_setxattr(w, ino, "user.w", "", 0), KV_OK);
    assert_int_equal(bytes_used(p) - used, KV_XATTRS_MAX);
    assert_int_equal(world_setxattr(w, ino, "user.w", "1", 0), KV_E_NOSPC);
    assert_int_equal(world_removexattr(w, ino, "user.w"), KV_OK);
    assert_int_equal(world_setxattr_bytes(w, ino, name, big, 1, 0), KV_OK);
    assert_int_equal(bytes_used(p) - used, KV_XATTR_NAME_MAX + 9);
    assert_int_equal(world_removexattr(w, ino, name), KV_OK);
    for (unsigned i = 0; i < KV_XATTRS_COUNT_MAX; i++) {
        snprintf(name, sizeof name, "user.%u", i);
        assert_int_equal(world_setxattr(w, ino, name, "", 0), KV_OK);
    }
    assert_int_equal(world_setxattr(w, ino, "user.more", "", 0), KV_E_NOSPC);
    assert_int_equal(world_setxattr(w, ino, "user.1", "other", 0), KV_OK);
    /* Of the cluster. What shrinks is always possible. */
    ino = make(p, "g", "");
    assert_int_equal(world_setxattr_bytes(w, ino, "user.v", big, 50000, 0), KV_OK);
    snprintf(name, sizeof name, "%llu", (unsigned long long)(1 << 20));
    assert_int_equal(world_setting(w, "value_limit", name), KV_OK);
    assert_int_equal(world_setting(w, "max_bytes", name), KV_OK);
    for (int i = 0; i < 30; i++) {
        snprintf(name, sizeof name, "d%d", i);
        if (world_mkdir(w, KV_ROOT_INO, name) != KV_OK ||
            world_setxattr_bytes(w, w->result.attr.ino, "user.v", big, 60000, 0) != KV_OK)
            break;
    }
    assert_int_equal(w->result.code, KV_E_NOSPC);
    assert_true(bytes_used(p) > (1 << 20) - 61000 && bytes_used(p) <= 1 << 20);
    assert_int_equal(world_setxattr_bytes(w, ino, "user.v", big, 10, 0), KV_OK);
    assert_int_equal(world_rmdir(w, KV_ROOT_INO, "d0"), KV_OK);
    assert_true(bytes_used(p) < (1 << 20) - 60000);
}

static void are_for_those_who_may_write(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t ino, dir, link;
    const struct command_body own = {.valid = SETATTR_UID | SETATTR_MODE, .uid = 1000, .mode = 0644};
    struct command_body body = own;

    ino = make(p, "open/f", "x");
    assert_int_equal(world_chmod(w, world_ino(w, "open"), 0755), KV_OK);
    body.ino = ino;
    assert_int_equal(world_setattr(w, &body), KV_OK);
    become(p, 1001);
    assert_int_equal(world_setxattr(w, ino, "user.a", "x", 0), KV_E_ACCES);
    become(p, 1000);
    assert_int_equal(world_setxattr(w, ino, "user.a", "x", 0), KV_OK);
    become(p, 1001);
    assert_int_equal(world_removexattr(w, ino, "user.a"), KV_E_ACCES);
    become(p, 1000);
    assert_int_equal(world_chmod(w, ino, 0446), KV_OK); /* the owner may not, either; others may */
    assert_int_equal(world_removexattr(w, ino, "user.a"), KV_E_ACCES);
    become(p, 1001);
    assert_int_equal(world_removexattr(w, ino, "user.a"), KV_OK);
    /* Whoever cannot come there by a path. */
    become(p, 0);
    assert_int_equal(world_chmod(w, world_ino(w, "open"), 0700), KV_OK);
    become(p, 1001);
    assert_int_equal(world_setxattr(w, ino, "user.a", "x", 0), KV_E_ACCES);
    w->flags = COMMAND_OPENED;
    assert_int_equal(world_setxattr(w, ino, "user.a", "x", 0), KV_OK);
    /* A directory with the sticky bit is its owner's. */
    become(p, 0);
    assert_int_equal(world_mkdir(w, KV_ROOT_INO, "tmp"), KV_OK);
    dir = w->result.attr.ino;
    assert_int_equal(world_chmod(w, dir, 01777), KV_OK);
    become(p, 1001);
    assert_int_equal(world_setxattr(w, dir, "user.a", "x", 0), KV_E_PERM);
    become(p, 0);
    assert_int_equal(world_chmod(w, dir, 0777), KV_OK);
    become(p, 1001);
    assert_int_equal(world_setxattr(w, dir, "user.a", "x", 0), KV_OK);
    /* What is neither file nor directory has none. */
    become(p, 0);
    assert_int_equal(world_symlink(w, KV_ROOT_INO, "link", "f"), KV_OK);
    link = w->result.attr.ino;
    assert_int_equal(world_setxattr(w, link, "user.a", "x", 0), KV_E_PERM);
    assert_int_equal(world_mknod(w, KV_ROOT_INO, "pipe", INODE_FIFO), KV_OK);
    assert_int_equal(world_setxattr(w, w->result.attr.ino, "user.a", "x", 0), KV_E_PERM);
    /* Names that are no ordinary ones. */
    assert_int_equal(world_setxattr(w, ino, "user.kv.version", "x", 0), KV_E_PERM);
    assert_int_equal(world_setxattr(w, ino, "trusted.x", "x", 0), KV_E_INVAL);
    assert_int_equal(world_setxattr(w, ino, "user.", "x", 0), KV_E_INVAL);
}

static void come_back_with_the_version(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t ino = make(p, "f", "one");

    assert_int_equal(world_setxattr(w, ino, "user.a", "1", 0), KV_OK);
    assert_int_equal(world_setxattr(w, ino, "user.b", "1", 0), KV_OK);
    assert_string_equal(place_versions(p, "f"), "1a 1a 1*");
    assert_int_equal(world_set(w, "f", "two"), KV_OK);
    assert_string_equal(world_xattrs(w, ino), "user.a user.b"); /* as the mode stays */
    assert_int_equal(world_setxattr(w, ino, "user.a", "2", 0), KV_OK);
    assert_int_equal(world_removexattr(w, ino, "user.b"), KV_OK);
    assert_int_equal(world_set(w, "f", "three"), KV_OK);
    assert_int_equal(world_removexattr(w, ino, "user.a"), KV_OK);
    for (int i = 0; i < 2; i++) {
        assert_string_equal(version_xattrs(p, "f", 1), "user.a=1 user.b=1");
        assert_string_equal(version_xattrs(p, "f", 2), "user.a=2");
        assert_string_equal(version_xattrs(p, "f", 3), "");
        assert_string_equal(version_xattrs(p, "f", 4), "(22)");
        assert_string_equal(version_xattrs(p, "missing", 1), "(1)");
        assert_string_equal(place_version(p, "f", 1), "one");
        assert_string_equal(place_version(p, "f", 2), "two");
        place_restart(p);
    }
    /* Another name takes them along, and keeps them when it ends. */
    assert_int_equal(world_setxattr(w, ino, "user.c", "3", 0), KV_OK);
    assert_int_equal(world_rename(w, KV_ROOT_INO, "f", KV_ROOT_INO, "g"), KV_OK);
    assert_string_equal(world_xattrs(w, ino), "user.c");
    assert_int_equal(world_unlink(w, KV_ROOT_INO, "g"), KV_OK);
    assert_string_equal(version_xattrs(p, "g", 1), "user.c=3");
    assert_string_equal(version_xattrs(p, "f", 3), "user.c=3");
    assert_string_equal(version_xattrs(p, "f", 1), "user.a=1 user.b=1");
    /* What comes by that name has none. */
    ino = make(p, "g", "new");
    assert_string_equal(world_xattrs(w, ino), "");
    assert_string_equal(version_xattrs(p, "g", 2), "");
}

static void survive_a_restart(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    uint64_t ino = make(p, "d/f", "text"), dir = world_ino(w, "d"), temporary = make(p, "e~", "text"), digest;
    uint64_t used;

    assert_int_equal(world_setxattr(w, ino, "user.a", "file", 0), KV_OK);
    assert_int_equal(world_setxattr(w, dir, "user.a", "directory", 0), KV_OK);
    assert_int_equal(world_setxattr(w, KV_ROOT_INO, "user.a", "root", 0), KV_OK);
    assert_int_equal(world_setxattr(w, temporary, "user.a", "temporary", 0), KV_OK);
    digest = store_digest(w->s);
    used = bytes_used(p);
    place_restart(p);
    assert_true(store_digest(w->s) == digest);
    assert_int_equal(bytes_used(p), used);
    assert_string_equal(world_xattr(w, ino, "user.a"), "file");
    assert_string_equal(world_xattr(w, dir, "user.a"), "directory");
    assert_string_equal(world_xattr(w, KV_ROOT_INO, "user.a"), "root");
    assert_string_equal(world_xattr(w, temporary, "user.a"), "temporary");
    assert_int_equal(world_removexattr(w, KV_ROOT_INO, "user.a"), KV_OK);
    assert_int_equal(world_removexattr(w, dir, "user.a"), KV_OK);
    place_restart(p);
    assert_string_equal(world_xattrs(w, KV_ROOT_INO), "");
    assert_string_equal(world_xattrs(w, dir), "");
    assert_string_equal(world_xattr(w, ino, "user.a"), "file");
}

/* Chunks of what nothing tells of any more are not kept. */
static void leave_nothing_behind(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    struct edit e = {.kind = EDIT_APPEND, .data = (const uint8_t *)"x", .len = 1};
    uint64_t ino;
    char text[32];
    int64_t before;

    /* Without history: a temporary name, the root. */
    ino = make(p, "e~", "");
    for (int i = 0; i < 20; i++) {
        snprintf(text, sizeof text, "%d", i);
        assert_int_equal(world_setxattr(w, ino, "user.a", text, 0), KV_OK);
        assert_int_equal(world_setxattr(w, KV_ROOT_INO, "user.a", text, 0), KV_OK);
        if (i % 3 == 0)
            place_flush(p);
        if (i % 7 == 0)
            place_restart(p);
    }
    assert_int_equal(n_chunks(p), 2);
    assert_int_equal(world_unlink(w, KV_ROOT_INO, "e~"), KV_OK);
    assert_int_equal(world_removexattr(w, KV_ROOT_INO, "user.a"), KV_OK);
    assert_int_equal(n_chunks(p), 0);
    /* Before the first publication: they are that version's, as they are at last. */
    for (int flush = 0; flush < 2; flush++) {
        snprintf(text, sizeof text, "fresh%d", flush);
        before = n_chunks(p);
        assert_int_equal(world_create(w, KV_ROOT_INO, text), KV_OK);
        ino = w->result.attr.ino;
        assert_int_equal(world_setxattr(w, ino, "user.a", "first", 0), KV_OK);
        assert_int_equal(world_setxattr(w, ino, "user.a", "second", 0), KV_OK);
        if (flush != 0)
            place_flush(p);
        assert_int_equal(world_setxattr(w, ino, "user.a", "third", 0), KV_OK);
        assert_int_equal(world_publish(w, ino, true, &e, 1), KV_OK);
        assert_string_equal(place_versions(p, text), "1*");
        assert_string_equal(version_xattrs(p, text, 1), "user.a=third");
        assert_int_equal(n_chunks(p) - before, 2); /* content, attributes */
        place_restart(p);
        assert_string_equal(world_xattr(w, ino, "user.a"), "third");
    }
    /* With the history of a name. */
    ino = make(p, "f", "");
    before = n_chunks(p);
    assert_int_equal(world_setxattr(w, ino, "user.a", "1", 0), KV_OK);
    assert_int_equal(world_setxattr(w, ino, "user.a", "2", 0), KV_OK);
    assert_int_equal(n_chunks(p) - before, 2);
    assert_int_equal(world_unlink(w, KV_ROOT_INO, "f"), KV_OK);
    assert_int_equal(n_chunks(p) - before, 2);
    assert_int_equal(world_setting(w, "max_dead_names", "0"), KV_OK);
    assert_int_equal(n_chunks(p), before);
    assert_true(place_verifies(p));
}

static void belong_to_level_2(void **state)
{
    assert_int_equal(feature_level_of(&(struct command){.op = COMMAND_SETXATTR}), 2);
    assert_int_equal(feature_level_of(&(struct command){.op = COMMAND_REMOVEXATTR}), 2);
    assert_int_equal(feature_level_of(&(struct command){.op = COMMAND_MKNOD}), 2);
    assert_int_equal(feature_level_of(&(struct command){.op = COMMAND_SETATTR}), 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, place_setup, place_teardown_whole)
    const struct CMUnitTest tests[] = {
        TEST(are_set_replaced_and_removed),
        cmocka_unit_test(one_without_them_has_its_old_digest),
        TEST(have_limits),
        TEST(are_for_those_who_may_write),
        TEST(come_back_with_the_version),
        TEST(survive_a_restart),
        TEST(leave_nothing_behind),
        cmocka_unit_test(belong_to_level_2),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
