/* Names, attributes, permissions, limits and the events that tell of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kvnode/state/settings.h"
#include "tests/unit/store/world.h"

static int setup(void **state)
{
    struct world *w = malloc(sizeof *w);

    world_init(w, true);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    assert_true(world_digest_is_right(w));
    world_deinit(w);
    free(w);
    return 0;
}

static void become(struct world *w, uint32_t uid, uint32_t gid)
{
    w->uid = uid;
    w->gid = gid;
    w->flags = uid == 0 ? COMMAND_TRUSTED : 0;
}

static void set_makes_missing_parents_if_asked(void **state)
{
    struct world *w = *state;

    assert_int_equal(world_set_bytes(w, "a/b/c", "v", 1, 0, 0), KV_E_NOENT);
    assert_int_equal(world_set(w, "a/b/c", "v"), KV_OK);
    assert_int_equal(w->result.created, 1);
    assert_int_equal(w->n_events, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(w->events[i].kind, EVENT_CREATE);
        assert_int_equal(w->events[i].last, i == 2);
    }
    assert_int_equal(w->events[2].attr.size, 1);
    assert_string_equal(world_get(w, "/a/b/c"), "v");
    assert_int_equal(world_set(w, "a/b/c/d", "v"), KV_E_NOTDIR);
    assert_int_equal(world_set(w, "a/b", "v"), KV_E_ISDIR);
}

static void set_can_expect_a_version(void **state)
{
    struct world *w = *state;

    assert_int_equal(world_set_bytes(w, "k", "1", 1, SET_MUST_EXIST, 0), KV_E_NOENT);
    assert_int_equal(world_set_bytes(w, "k", "1", 1, SET_IF_VERSION, 1), KV_E_VERSION);
    assert_int_equal(world_set_bytes(w, "k", "1", 1, SET_IF_VERSION, 0), KV_OK);
    assert_int_equal(world_set_bytes(w, "k", "2", 1, SET_IF_VERSION, 0), KV_E_VERSION);
    assert_int_equal(world_set_bytes(w, "k", "2", 1, SET_IF_VERSION, 1), KV_OK);
    assert_int_equal(w->result.base_version, 1);
    assert_int_equal(w->result.attr.version, 2);
    assert_int_equal(world_set_bytes(w, "k", "3", 1, SET_IF_VERSION, 1), KV_E_VERSION);
    assert_string_equal(world_get(w, "k"), "2");
}

static void pipes_and_sockets_are_names_without_content(void **state)
{
    struct world *w = *state;
    struct command_body body = {
        .parent = KV_ROOT_INO, .name = (const uint8_t *)"pipe", .name_len = 4, .mode = 0644};
    struct edit e = {.kind = EDIT_WRITE, .data = (const uint8_t *)"x", .len = 1};
    uint64_t bytes_before, ino;
    struct store_usage usage;
    struct buffer b = BUFFER_INIT;

    store_usage(w->s, &usage);
    bytes_before = usage.bytes;
    assert_int_equal(world_mknod(w, KV_ROOT_INO, "pipe", INODE_FIFO), KV_OK);
    ino = w->result.attr.ino;
    assert_int_equal(w->result.created, 1);
    assert_int_equal(w->result.attr.type, INODE_FIFO);
    assert_int_equal(w->result.attr.mode, 0644);
    assert_int_equal(w->result.attr.size, 0);
    assert_int_equal(w->result.attr.version, 1);
    assert_int_equal(w->n_events, 1);
    assert_int_equal(w->events[0].kind, EVENT_CREATE);
    assert_int_equal(w->events[0].attr.type, INODE_FIFO);
    assert_int_equal(world_mknod(w, KV_ROOT_INO, "pipe", INODE_SOCKET), KV_E_EXIST);
    assert_int_equal(world_mknod(w, KV_ROOT_INO, "socket", INODE_SOCKET), KV_OK);
    assert_int_equal(world_attr(w, "socket").type, INODE_SOCKET);
    assert_int_equal(world_command(w, COMMAND_CREATE, &body), KV_E_EXIST); /* also where it may exist */
    /* What has content only. */
    assert_int_equal(world_publish(w, ino, false, &e, 1), KV_E_INVAL);
    assert_int_equal(world_set(w, "pipe", "x"), KV_E_INVAL);
    assert_int_equal(world_set(w, "pipe/x", "x"), KV_E_NOTDIR);
    assert_int_equal(store_read(w->s, ino, 0, 1, &b), KV_E_INVAL);
    assert_int_equal(store_readlink(w->s, ino, &b), KV_E_INVAL);
    store_usage(w->s, &usage);
    assert_int_equal(usage.bytes, bytes_before);
    /* As with any name. */
    assert_int_equal(world_chmod(w, ino, 0600), KV_OK);
    assert_int_equal(world_rmdir(w, KV_ROOT_INO, "pipe"), KV_E_NOTDIR);
    assert_int_equal(world_exchange(w, KV_ROOT_INO, "pipe", KV_ROOT_INO, "socket"), KV_OK);
    assert_int_equal(world_attr(w, "socket").type, INODE_FIFO);
    assert_int_equal(world_rename(w, KV_ROOT_INO, "socket", KV_ROOT_INO, "pipe"), KV_OK);
    assert_int_equal(world_ino(w, "pipe"), ino);
    assert_int_equal(world_attr(w, "pipe").mode, 0600);
    assert_int_equal(world_unlink(w, KV_ROOT_INO, "pipe"), KV_OK);
    assert_string_equal(world_list(w, "/"), "");
    /* Who may not write to the directory makes none there. */
    become(w, 1000, 1000);
    assert_int_equal(world_mknod(w, KV_ROOT_INO, "mine", INODE_FIFO), KV_E_ACCES);
    buffer_deinit(&b);
}

static void creating_an_existing_file_finds_it_unless_exclusive(void **state)
{
    struct world *w = *state;
    struct command_body body = {
        .parent = KV_ROOT_INO, .name = (const uint8_t *)"f", .name_len = 1, .mode = 0600};
    uint64_t ino;

    assert_int_equal(world_create(w, KV_ROOT_INO, "f"), KV_OK);
    assert_int_equal(w->result.created, 1);
    ino = w->result.attr.ino;
    assert_int_equal(world_create(w, KV_ROOT_INO, "f"), KV_E_EXIST);
    assert_int_equal(world_command(w, COMMAND_CREATE, &body), KV_OK);
    assert_int_equal(w->result.created, 0);
    assert_int_equal(w->result.attr.ino, ino);
    assert_int_equal(world_mkdir(w, KV_ROOT_INO, "d"), KV_OK);
    body.name = (const uint8_t *)"d";
    assert_int_equal(world_command(w, COMMAND_CREATE, &body), KV_E_ISDIR);
}

static void reserved_and_bad_names_are_refused(void **state)
{
    struct world *w = *state;
    char name[300];

    memset(name, 'x', sizeof name);
    name[256] = '\0';
    assert_int_equal(world_create(w, KV_ROOT_INO, ".versions"), KV_E_PERM);
    assert_int_equal(world_mkdir(w, KV_ROOT_INO, ".kvfs"), KV_E_PERM);
    assert_int_equal(world_create(w, KV_ROOT_INO, "a/b"), KV_E_INVAL);
    assert_int_equal(world_create(w, KV_ROOT_INO, ".."), KV_E_INVAL);
    assert_int_equal(world_create(w, KV_ROOT_INO, name), KV_E_NAMETOOLONG);
    name[255] = '\0';
    assert_int_equal(world_create(w, KV_ROOT_INO, name), KV_OK);
    assert_int_equal(world_set(w, "a/.versions/b", "x"), KV_E_PERM);
}

static void listing_resumes_behind_a_cookie(void **state)
{
    struct world *w = *state;

    assert_int_equal(world_create(w, KV_ROOT_INO, "b"), KV_OK);
    assert_int_equal(world_create(w, KV_ROOT_INO, "a"), KV_OK);
    assert_int_equal(world_create(w, KV_ROOT_INO, "c"), KV_OK);
    assert_string_equal(world_list(w, ""), "b a c");
    assert_int_equal(world_unlink(w, KV_ROOT_INO, "b"), KV_OK);
    assert_int_equal(world_create(w, KV_ROOT_INO, "b"), KV_OK);
    assert_string_equal(world_list(w, ""), "a c b");
    assert_int_equal(world_attr(w, "").size, 3);
}

static void rename_refuses_what_posix_refuses(void **state)
{
    struct world *w = *state;
    uint64_t d, e;
    struct command_body noreplace = {.parent = KV_ROOT_INO,
                                     .name = (const uint8_t *)"f",
                                     .name_len = 1,
                                     .new_parent = KV_ROOT_INO,
                                     .new_name = (const uint8_t *)"g",
                                     .new_name_len = 1,
                                     .flags = 1};

    assert_int_equal(world_set(w, "d/e/x", "v"), KV_OK);
    assert_int_equal(world_set(w, "f", "1"), KV_OK);
    assert_int_equal(world_set(w, "g", "2"), KV_OK);
    d = world_ino(w, "d");
    e = world_ino(w, "d/e");
    assert_int_equal(world_rename(w, KV_ROOT_INO, "d", e, "d"), KV_E_LOOP);
    assert_int_equal(world_rename(w, KV_ROOT_INO, "d", d, "d"), KV_E_LOOP);
    assert_int_equal(world_rename(w, KV_ROOT_INO, "d", KV_ROOT_INO, "f"), KV_E_NOTDIR);
    assert_int_equal(world_rename(w, KV_ROOT_INO, "f", KV_ROOT_INO, "d"), KV_E_ISDIR);
    assert_int_equal(world_rename(w, KV_ROOT_INO, "none", KV_ROOT_INO, "x"), KV_E_NOENT);
    assert_int_equal(world_rename(w, KV_ROOT_INO, "f", 12345, "x"), KV_E_STALE);
    assert_int_equal(world_command(w, COMMAND_RENAME, &noreplace), KV_E_EXIST);
    assert_int_equal(world_mkdir(w, KV_ROOT_INO, "empty"), KV_OK);
    assert_int_equal(world_rename(w, KV_ROOT_INO, "empty", KV_ROOT_INO, "d"), KV_E_NOTEMPTY);
    assert_int_equal(world_rename(w, KV_ROOT_INO, "d", KV_ROOT_INO, "empty"), KV_OK);
    assert_string_equal(world_get(w, "empty/e/x"), "v");
    assert_int_equal(world_rename(w, KV_ROOT_INO, "f", KV_ROOT_INO, "f"), KV_OK);
    assert_int_equal(w->events[0].kind, EVENT_NOTHING);
}

static void rename_over_tells_of_both(void **state)
{
    struct world *w = *state;
    uint64_t victim;

    assert_int_equal(world_set(w, "f", "1"), KV_OK);
    assert_int_equal(world_set(w, "d/g", "2"), KV_OK);
    victim = world_ino(w, "d/g");
    assert_int_equal(world_rename(w, KV_ROOT_INO, "f", world_ino(w, "d"), "g"), KV_OK);
    assert_int_equal(w->n_events, 2);
    assert_int_equal(w->events[0].kind, EVENT_REMOVE);
    assert_int_equal(w->events[0].ino, victim);
    assert_int_equal(w->events[0].attr.nlink, 0);
    assert_false(w->events[0].last);
    assert_int_equal(w->events[1].kind, EVENT_RENAME);
    assert_string_equal(w->events[1].name, "f");
    assert_string_equal(w->events[1].new_name, "g");
    assert_int_equal(w->events[1].new_parent, world_ino(w, "d"));
    assert_true(w->events[1].last);
}

static void exchanged_names_have_what_the_other_had(void **state)
{
    struct world *w = *state;
    uint64_t f, g, d;

    assert_int_equal(world_set(w, "f", "1"), KV_OK);
    assert_int_equal(world_set(w, "d/g", "2"), KV_OK);
    f = world_ino(w, "f");
    d = world_ino(w, "d");
    g = world_ino(w, "d/g");
    assert_int_equal(world_exchange(w, KV_ROOT_INO, "f", d, "g"), KV_OK);
    assert_int_equal(w->result.attr.ino, f);
    assert_int_equal(w->result.removed, 0);
    assert_int_equal(w->n_events, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(w->events[i].kind, EVENT_RENAME);
        assert_int_equal(w->events[i].ino, i == 0 ? f : g);
        assert_int_equal(w->events[i].parent, i == 0 ? KV_ROOT_INO : d);
        assert_string_equal(w->events[i].name, i == 0 ? "f" : "g");
        assert_int_equal(w->events[i].new_parent, i == 0 ? d : KV_ROOT_INO);
        assert_string_equal(w->events[i].new_name, i == 0 ? "g" : "f");
        assert_int_equal(w->events[i].last, i == 1);
    }
    assert_int_equal(world_ino(w, "f"), g);
    assert_int_equal(world_ino(w, "d/g"), f);
    assert_string_equal(world_get(w, "f"), "2");
    assert_string_equal(world_get(w, "d/g"), "1");
    assert_int_equal(world_version(w, "f"), 2);
    assert_int_equal(world_version(w, "d/g"), 2);
    assert_string_equal(world_list(w, ""), "f d");
}

static void a_file_and_a_directory_can_be_exchanged(void **state)
{
    struct world *w = *state;
    uint64_t d, e;

    assert_int_equal(world_set(w, "f", "1"), KV_OK);
    assert_int_equal(world_set(w, "d/g", "2"), KV_OK);
    assert_int_equal(world_mkdir(w, KV_ROOT_INO, "e"), KV_OK);
    d = world_ino(w, "d");
    e = world_ino(w, "e");
    assert_int_equal(world_exchange(w, KV_ROOT_INO, "f", KV_ROOT_INO, "d"), KV_OK);
    assert_string_equal(world_get(w, "f/g"), "2");
    assert_string_equal(world_get(w, "d"), "1");
    assert_int_equal(world_attr(w, "").nlink, 4);
    assert_int_equal(world_exchange(w, KV_ROOT_INO, "d", e, "none"), KV_E_NOENT);
    assert_int_equal(world_rename(w, KV_ROOT_INO, "d", e, "h"), KV_OK);
    /* The directory f and the file e/h: numbers of links follow. */
    assert_int_equal(world_exchange(w, KV_ROOT_INO, "f", e, "h"), KV_OK);
    assert_int_equal(world_attr(w, "").nlink, 3);
    assert_int_equal(world_attr(w, "e").nlink, 3);
    assert_int_equal(world_ino(w, "e/h"), d);
    assert_string_equal(world_get(w, "e/h/g"), "2");
    assert_string_equal(world_get(w, "f"), "1");
}

static void exchange_refuses_what_cannot_be(void **state)
{
    struct world *w = *state;
    uint64_t d, e;
    struct command_body both = {.parent = KV_ROOT_INO,
                                .name = (const uint8_t *)"f",
                                .name_len = 1,
                                .new_parent = KV_ROOT_INO,
                                .new_name = (const uint8_t *)"d",
                                .new_name_len = 1,
                                .flags = MOVE_NOREPLACE | MOVE_EXCHANGE};

    assert_int_equal(world_set(w, "d/e/x", "v"), KV_OK);
    assert_int_equal(world_set(w, "f", "1"), KV_OK);
    d = world_ino(w, "d");
    e = world_ino(w, "d/e");
    assert_int_equal(world_exchange(w, KV_ROOT_INO, "d", e, "x"), KV_E_LOOP);
    assert_int_equal(world_exchange(w, e, "x", KV_ROOT_INO, "d"), KV_E_LOOP);
    assert_int_equal(world_exchange(w, KV_ROOT_INO, "d", d, "e"), KV_E_LOOP);
    assert_int_equal(world_exchange(w, KV_ROOT_INO, "f", KV_ROOT_INO, "none"), KV_E_NOENT);
    assert_int_equal(world_exchange(w, KV_ROOT_INO, "none", KV_ROOT_INO, "f"), KV_E_NOENT);
    assert_int_equal(world_exchange(w, KV_ROOT_INO, "f", 12345, "x"), KV_E_STALE);
    assert_int_equal(world_command(w, COMMAND_RENAME, &both), KV_E_PROTOCOL);
    assert_int_equal(world_exchange(w, KV_ROOT_INO, "f", KV_ROOT_INO, "f"), KV_OK);
    assert_int_equal(w->events[0].kind, EVENT_NOTHING);
    assert_string_equal(world_get(w, "d/e/x"), "v");
    /* Both names are given up, so both need what removing them would. */
    assert_int_equal(world_mkdir(w, KV_ROOT_INO, "open"), KV_OK);
    assert_int_equal(world_chmod(w, world_ino(w, "open"), 0777), KV_OK);
    become(w, 1000, 1000);
    assert_int_equal(world_create(w, world_ino(w, "open"), "mine"), KV_OK);
    assert_int_equal(world_exchange(w, world_ino(w, "open"), "mine", KV_ROOT_INO, "f"), KV_E_ACCES);
    assert_int_equal(world_exchange(w, KV_ROOT_INO, "f", world_ino(w, "open"), "mine"), KV_E_ACCES);
    become(w, 0, 0);
    assert_int_equal(world_chmod(w, KV_ROOT_INO, 01777), KV_OK);
    become(w, 1000, 1000);
    assert_int_equal(world_exchange(w, world_ino(w, "open"), "mine", KV_ROOT_INO, "f"), KV_E_PERM);
    become(w, 0, 0);
}

static void a_publication_tells_what_it_was_based_on(void **state)
{
    struct world *w = *state;
    uint64_t ino, before;
    struct edit edits[] = {{.kind = EDIT_APPEND, .data = (const uint8_t *)"b", .len = 1},
                           {.kind = EDIT_MTIME, .number = 77}};
    struct command_body body = {.version = 9};

    assert_int_equal(world_set(w, "f", "a"), KV_OK);
    ino = w->result.attr.ino;
    before = w->result.attr.content_revision;
    assert_int_equal(world_publish(w, ino, false, edits, 2), KV_OK);
    assert_int_equal(w->events[0].kind, EVENT_CONTENT);
    assert_int_equal(w->events[0].base_revision, before);
    assert_int_equal(w->result.base_revision, before);
    assert_int_equal(w->result.base_version, 1);
    assert_int_equal(w->result.attr.mtime_ns, 77);
    assert_string_equal(world_get(w, "f"), "ab");
    body.ino = ino;
    assert_int_equal(world_command(w, COMMAND_PUBLISH, &body), KV_E_VERSION);
    assert_int_equal(world_unlink(w, KV_ROOT_INO, "f"), KV_OK);
    assert_int_equal(world_publish(w, ino, false, edits, 2), KV_E_STALE);
}

/* A version counts changes of a name: after a rename it may be the same again. */
static void a_publication_can_be_bound_to_the_content_that_it_was_made_on(void **state)
{
    struct world *w = *state;
    struct command_body body = {.flags = PUBLISH_IF_REVISION};
    struct edit edit = {.kind = EDIT_APPEND, .data = (const uint8_t *)"b", .len = 1};
    struct buffer b = BUFFER_INIT;

    edit_encode(&b, &edit);
    body.edits = b.data;
    body.edits_len = b.len;
    assert_int_equal(world_set(w, "f", "a"), KV_OK);
    body.ino = w->result.attr.ino;
    body.version = w->result.attr.content_revision;
    assert_int_equal(world_rename(w, KV_ROOT_INO, "f", KV_ROOT_INO, "g"), KV_OK);
    assert_int_equal(world_chmod(w, body.ino, 0600), KV_OK);
    assert_int_equal(world_command(w, COMMAND_PUBLISH, &body), KV_OK);
    assert_string_equal(world_get(w, "g"), "ab");
    assert_int_equal(world_command(w, COMMAND_PUBLISH, &body), KV_E_VERSION);
    assert_string_equal(world_get(w, "g"), "ab");
    body.version = 0;
    assert_int_equal(world_command(w, COMMAND_PUBLISH, &body), KV_E_VERSION);
    buffer_deinit(&b);
}

static void a_removed_file_is_kept_aside_for_its_owner(void **state)
{
    struct world *w = *state;
    struct caller owner = {.uid = 7, .gid = 7}, other = {.uid = 8, .gid = 7};
    struct buffer b = BUFFER_INIT;
    struct attr attr;
    uint64_t ino;

    assert_int_equal(world_mkdir(w, KV_ROOT_INO, "d"), KV_OK);
    assert_int_equal(world_chmod(w, world_ino(w, "d"), 0777), KV_OK);
    become(w, 7, 7);
    assert_int_equal(world_set(w, "d/f", "value"), KV_OK);
    ino = w->result.attr.ino;
    assert_int_equal(store_read_removed(w->s, NULL, ino, 0, 100, &attr, &b), KV_E_STALE);
    assert_int_equal(world_unlink(w, world_ino(w, "d"), "f"), KV_OK);
    become(w, 0, 0);
    assert_int_equal(store_getattr(w->s, ino, &attr), KV_E_STALE);
    assert_int_equal(store_pin(w->s, ino), KV_E_STALE);
    assert_int_equal(store_read_removed(w->s, &other, ino, 0, 100, &attr, &b), KV_E_STALE);
    assert_int_equal(store_read_removed(w->s, &owner, ino, 1, 3, &attr, &b), KV_OK);
    assert_int_equal(attr.nlink, 0);
    assert_int_equal(attr.size, 5);
    assert_int_equal(b.len, 3);
    assert_memory_equal(b.data, "alu", 3);
    /* The oldest goes when there are too many. */
    for (int i = 0; i < 10001; i++) {
        char name[16];

        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(world_set(w, name, "x"), KV_OK);
        assert_int_equal(world_unlink(w, KV_ROOT_INO, name), KV_OK);
    }
    assert_int_equal(store_read_removed(w->s, NULL, ino, 0, 100, &attr, &b), KV_E_STALE);
    buffer_deinit(&b);
}

static void a_pinned_value_outlives_its_name(void **state)
{
    struct world *w = *state;
    struct buffer b = BUFFER_INIT;
    struct attr attr;
    uint64_t ino;

    assert_int_equal(world_set(w, "f", "value"), KV_OK);
    ino = w->result.attr.ino;
    assert_int_equal(store_pin(w->s, ino), KV_OK);
    assert_int_equal(store_pin(w->s, ino), KV_OK);
    assert_int_equal(world_unlink(w, KV_ROOT_INO, "f"), KV_OK);
    store_unpin(w->s, ino);
    assert_int_equal(store_getattr(w->s, ino, &attr), KV_OK);
    assert_int_equal(attr.nlink, 0);
    assert_int_equal(store_read(w->s, ino, 0, 100, &b), KV_OK);
    assert_memory_equal(b.data, "value", 5);
    assert_int_equal(world_chmod(w, ino, 0600), KV_E_STALE);
    store_unpin(w->s, ino);
    assert_int_equal(store_getattr(w->s, ino, &attr), KV_E_STALE);
    assert_int_equal(store_pin(w->s, ino), KV_E_STALE);
    /* It may still be held by what is no handle, as one may that was not pinned. */
    buffer_clear(&b);
    assert_int_equal(store_read_removed(w->s, NULL, ino, 0, 100, &attr, &b), KV_OK);
    assert_memory_equal(b.data, "value", 5);
    buffer_deinit(&b);
}

static void what_is_let_go_of_for_its_size_is_gone(void **state)
{
    struct world *w = *state;
    struct buffer b = BUFFER_INIT;
    struct attr attr;
    uint64_t ino;

    assert_int_equal(world_set(w, "f", "value"), KV_OK);
    ino = w->result.attr.ino;
    assert_int_equal(store_pin(w->s, ino), KV_OK);
    assert_int_equal(world_unlink(w, KV_ROOT_INO, "f"), KV_OK);
    store_unpin_drop(w->s, ino);
    assert_int_equal(store_read_removed(w->s, NULL, ino, 0, 100, &attr, &b), KV_E_STALE);
    buffer_deinit(&b);
}

static void deleting_a_directory_is_all_or_nothing(void **state)
{
    struct world *w = *state;

    assert_int_equal(world_set(w, "a/b/c", "v"), KV_OK);
    assert_int_equal(world_set(w, "a/d", "v"), KV_OK);
    assert_int_equal(world_del(w, "a", false), KV_E_NOTEMPTY);
    become(w, 1000, 1000);
    assert_int_equal(world_chmod(w, world_ino(w, "a"), 0777), KV_E_PERM);
    become(w, 0, 0);
    assert_int_equal(world_chmod(w, world_ino(w, "a"), 0777), KV_OK);
    assert_int_equal(world_chmod(w, KV_ROOT_INO, 0777), KV_OK);
    become(w, 1000, 1000);
    assert_int_equal(world_del(w, "a", true), KV_E_ACCES); /* a/b/c is not theirs to remove */
    become(w, 0, 0);
    assert_string_equal(world_list(w, "a"), "b d");
    assert_int_equal(world_del(w, "a", true), KV_OK);
    assert_int_equal(w->result.removed, 4);
    assert_int_equal(w->n_events, 4);
    assert_string_equal(world_list(w, ""), "");
}

static void mode_bits_are_checked(void **state)
{
    struct world *w = *state;
    struct caller who = {.uid = 1000, .gid = 1000};
    uint64_t d;
    struct attr attr;

    assert_int_equal(world_set(w, "d/f", "v"), KV_OK);
    d = world_ino(w, "d");
    become(w, 1000, 1000);
    assert_int_equal(world_create(w, d, "g"), KV_E_ACCES);
    assert_int_equal(world_unlink(w, d, "f"), KV_E_ACCES);
    assert_int_equal(world_set(w, "d/f", "w"), KV_E_ACCES);
    assert_int_equal(world_rename(w, d, "f", d, "g"), KV_E_ACCES);
    become(w, 0, 0);
    assert_int_equal(world_chmod(w, d, 0770), KV_OK);
    assert_int_equal(store_lookup(w->s, &who, d, "f", 1, &attr), KV_E_ACCES);
    assert_int_equal(store_access(w->s, &who, d, 1), KV_E_ACCES);
    become(w, 1000, 1000);
    assert_int_equal(world_set(w, "d/f", "w"), KV_E_ACCES);
    w->groups[0] = 0; /* the directory's group */
    w->n_groups = 1;
    assert_int_equal(world_create(w, d, "g"), KV_OK);
    assert_int_equal(w->result.attr.uid, 1000);
    assert_int_equal(w->result.attr.gid, 1000);
    w->n_groups = 0;
    w->flags = COMMAND_TRUSTED; /* the kernel has checked */
    assert_int_equal(world_create(w, d, "h"), KV_OK);
}

static void the_sticky_bit_protects_what_others_own(void **state)
{
    struct world *w = *state;
    uint64_t d;

    assert_int_equal(world_mkdir(w, KV_ROOT_INO, "tmp"), KV_OK);
    d = w->result.attr.ino;
    assert_int_equal(world_chmod(w, d, 01777), KV_OK);
    become(w, 1000, 1000);
    assert_int_equal(world_create(w, d, "mine"), KV_OK);
    become(w, 2000, 2000);
    assert_int_equal(world_unlink(w, d, "mine"), KV_E_PERM);
    assert_int_equal(world_create(w, d, "yours"), KV_OK);
    assert_int_equal(world_rename(w, d, "yours", d, "mine"), KV_E_PERM);
    become(w, 1000, 1000);
    assert_int_equal(world_unlink(w, d, "mine"), KV_OK);
}

static void owners_change_what_is_theirs(void **state)
{
    struct world *w = *state;
    struct command_body own = {.valid = SETATTR_UID | SETATTR_GID, .uid = 1000, .gid = 1000};
    struct command_body now = {.valid = SETATTR_MTIME_NOW};
    uint64_t ino;

    assert_int_equal(world_chmod(w, KV_ROOT_INO, 0777), KV_OK);
    become(w, 1000, 1000);
    assert_int_equal(world_create(w, KV_ROOT_INO, "f"), KV_OK);
    ino = own.ino = now.ino = w->result.attr.ino;
    assert_int_equal(world_chmod(w, ino, 04755), KV_OK);
    assert_int_equal(w->result.attr.mode, 04755);
    assert_int_equal(world_setattr(w, &own), KV_OK);
    own.uid = 2000;
    assert_int_equal(world_setattr(w, &own), KV_E_PERM);
    own.uid = 1000;
    own.gid = 2000;
    assert_int_equal(world_setattr(w, &own), KV_E_PERM);
    w->groups[0] = 2000;
    w->n_groups = 1;
    assert_int_equal(world_setattr(w, &own), KV_OK);
    assert_int_equal(w->result.attr.mode, 0755); /* a new group clears setuid */
    become(w, 2000, 1);
    assert_int_equal(world_chmod(w, ino, 0666), KV_E_PERM);
    assert_int_equal(world_setattr(w, &now), KV_E_ACCES);
    become(w, 0, 0);
    own.uid = 3000;
    assert_int_equal(world_setattr(w, &own), KV_OK);
}

static void setgid_directories_pass_their_group_on(void **state)
{
    struct world *w = *state;
    struct command_body own = {.valid = SETATTR_GID, .gid = 500};

    assert_int_equal(world_mkdir(w, KV_ROOT_INO, "d"), KV_OK);
    own.ino = w->result.attr.ino;
    assert_int_equal(world_setattr(w, &own), KV_OK);
    assert_int_equal(world_chmod(w, own.ino, 02777), KV_OK);
    become(w, 1000, 1000);
    assert_int_equal(world_create(w, own.ino, "f"), KV_OK);
    assert_int_equal(w->result.attr.gid, 500);
    assert_int_equal(world_mkdir(w, own.ino, "e"), KV_OK);
    assert_int_equal(w->result.attr.mode, 02755);
}

static void budgets_are_kept(void **state)
{
    struct world *w = *state;
    struct store_usage usage;

    assert_int_equal(world_set(w, "a", "0123456789"), KV_OK);
    assert_int_equal(world_setting(w, "max_keys", "2"), KV_OK);
    assert_int_equal(world_setting(w, "max_bytes", "16"), KV_OK);
    assert_int_equal(world_setting(w, "value_limit", "12"), KV_OK);
    assert_int_equal(world_set(w, "a", "0123456789abc"), KV_E_FBIG);
    assert_int_equal(world_truncate(w, world_ino(w, "a"), 13), KV_E_FBIG);
    assert_int_equal(world_set(w, "b", "0123456"), KV_E_NOSPC);
    assert_int_equal(world_set(w, "b", "012345"), KV_OK);
    assert_int_equal(world_set(w, "c", ""), KV_E_NOSPC);
    assert_int_equal(world_mkdir(w, KV_ROOT_INO, "c"), KV_E_NOSPC);
    assert_int_equal(world_append(w, world_ino(w, "b"), "x", 1), KV_E_NOSPC);
    assert_int_equal(world_setting(w, "max_bytes", "1"), KV_OK);
    assert_int_equal(world_setting(w, "value_limit", "1"), KV_OK);
    assert_int_equal(world_truncate(w, world_ino(w, "a"), 5), KV_OK); /* shrinking always works */
    assert_int_equal(world_set(w, "a", "0123"), KV_OK);
    assert_int_equal(world_rename(w, KV_ROOT_INO, "a", KV_ROOT_INO, "z"), KV_OK);
    assert_int_equal(world_unlink(w, KV_ROOT_INO, "z"), KV_OK);
    store_usage(w->s, &usage);
    assert_int_equal(usage.keys, 1);
    assert_int_equal(usage.bytes, 6);
    assert_int_equal(usage.max_bytes, 1);
}

static void huge_offsets_are_refused_not_followed(void **state)
{
    struct world *w = *state;
    uint64_t ino;

    assert_int_equal(world_create(w, KV_ROOT_INO, "f"), KV_OK);
    ino = w->result.attr.ino;
    assert_int_equal(world_write(w, ino, UINT64_MAX, "x", 1), KV_E_FBIG);
    assert_int_equal(world_write(w, ino, INT64_MAX, "x", 1), KV_E_FBIG);
    assert_int_equal(world_truncate(w, ino, UINT64_MAX), KV_E_FBIG);
    assert_int_equal(world_write(w, ino, 64 << 20, "x", 1), KV_E_FBIG);
    assert_int_equal(world_write(w, ino, (64 << 20) - 1, "x", 1), KV_OK);
    assert_int_equal(w->result.attr.size, 64 << 20);
}

static void last_setting(void *arg, const char *name, const char *value, const char *fallback)
{
    char *text = arg;

    if (strcmp(name, "max_keys") == 0)
        snprintf(text, 64, "%s/%s", value, fallback);
}

static void settings_are_checked(void **state)
{
    struct world *w = *state;
    char text[64];

    assert_int_equal(world_setting(w, "max_keys", "x"), KV_E_INVAL);
    assert_int_equal(world_setting(w, "max_keys", "12MiB"), KV_E_INVAL);
    assert_int_equal(world_setting(w, "value_limit", "2GiB"), KV_E_INVAL);
    assert_int_equal(world_setting(w, "session_timeout", "1s"), KV_E_INVAL);
    assert_int_equal(world_setting(w, "session_timeout", "90"), KV_E_INVAL);
    assert_int_equal(world_setting(w, "session_timeout", "1h"), KV_OK);
    assert_int_equal(world_setting(w, "no_such", "1"), KV_E_INVAL);
    assert_int_equal(world_setting(w, "no_history", "a/b/c"), KV_E_INVAL);
    assert_int_equal(world_setting(w, "no_history", "*.tmp build/*.o"), KV_OK);
    assert_int_equal(world_setting(w, "max_keys", "77"), KV_OK);
    store_settings(w->s, text, last_setting);
    assert_string_equal(text, "77/1000000");
    assert_int_equal(world_setting(w, "max_keys", "default"), KV_OK);
    store_settings(w->s, text, last_setting);
    assert_string_equal(text, "1000000/1000000");
    assert_int_equal(world_set(w, "src/build/deep/x.o", "v"), KV_OK);
    assert_int_equal(w->result.attr.version, 0);
    assert_int_equal(world_set(w, "src/x.o", "v"), KV_OK);
    assert_int_equal(w->result.attr.version, 1);
    become(w, 1000, 1000);
    assert_int_equal(world_setting(w, "max_keys", "5"), KV_E_PERM);
}

static void patterns_match_names(void **state)
{
    static const struct {
        const char *glob, *name;
        bool match;
    } cases[] = {
        {".*.sw?", ".file.swp", true},
        {".*.sw?", "file.swp", false},
        {"4913", "4913", true},
        {"4913", "49130", false},
        {"*~", "a~", true},
        {"*~", "~a", false},
        {"sedXXXXXX", "sedQ8xT2k", true},
        {"sedXXXXXX", "sediments", false},
        {"sedXXXXXX", "sedImport", false},
        {"sedXXXXXX", "sedREADME", false},
        {"sedXXXXXX", "sedQ8xT2", false},
        {".*.XXXXXX", ".a.b.x1Y2z3", true},
        {".*.XXXXXX", ".config.backup", false},
        {".*.XXXXXX", ".x.202401", false},
        {"[a-c]?", "b1", true},
        {"[!a-c]?", "b1", false},
        {"[]x]", "]", true},
        {"a[b", "a[b", true},
        {"*a*b*c", "xxaxxbxxbc", true},
        {"*a*b*c", "xxaxxbxxb", false},
        {"", "", true},
        {"*", "", true},
        {"?", "", false},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (glob_match(cases[i].glob, strlen(cases[i].glob), (const uint8_t *)cases[i].name,
                       strlen(cases[i].name)) != cases[i].match)
            fail_msg("%s %s %s", cases[i].glob, cases[i].match ? "should match" : "should not match",
                     cases[i].name);
}

static void deep_trees_are_walked_without_recursion(void **state)
{
    struct world *w = *state;
    uint64_t ino = KV_ROOT_INO, last_with_a_path = 0;

    for (int i = 0; i < 20000; i++) {
        assert_int_equal(world_mkdir(w, ino, "d"), KV_OK);
        ino = w->result.attr.ino;
        if (i == STORE_DEPTH_MAX - 2)
            last_with_a_path = ino;
    }
    assert_int_equal(world_rename(w, KV_ROOT_INO, "d", last_with_a_path, "x"), KV_E_LOOP);
    /* Below that no directory is moved: who looks whether it would lie in itself has an end. */
    assert_int_equal(world_rename(w, KV_ROOT_INO, "d", ino, "x"), KV_E_NAMETOOLONG);
    assert_int_equal(world_mkdir(w, KV_ROOT_INO, "other"), KV_OK);
    assert_int_equal(world_rename(w, KV_ROOT_INO, "other", ino, "x"), KV_E_NAMETOOLONG);
    assert_int_equal(world_rename(w, KV_ROOT_INO, "other", last_with_a_path, "x"), KV_OK);
    assert_int_equal(world_set(w, "f", "v"), KV_OK);
}

/* One command removes so many names at most; the rest of a tree goes in steps before. */
static void a_tree_goes_in_short_commands(void **state)
{
    struct world *w = *state;
    struct command_body prune = {.path = (const uint8_t *)"big", .path_len = 3};
    char path[64];
    uint64_t other;

    for (int i = 0; i < 2 * STORE_DEL_MAX; i++) {
        snprintf(path, sizeof path, "big/d%d/f%d", i % 7, i);
        assert_int_equal(world_set(w, path, "v"), KV_OK);
    }
    assert_int_equal(store_below(w->s, "big", 3, 100), 100);
    assert_int_equal(store_below(w->s, "big", 3, 100000), 2 * STORE_DEL_MAX + 7);
    assert_int_equal(store_below(w->s, "none", 4, 100), 0);
    assert_int_equal(world_del(w, "big", true), KV_E_BUSY);
    assert_int_equal(store_below(w->s, "big", 3, 100000), 2 * STORE_DEL_MAX + 7);
    /* For a request that was executed already: nothing goes. */
    assert_int_equal(world_register(w, "another--client!", &other), KV_OK);
    assert_int_equal(world_raw(w, COMMAND_DEL, other, 1, "\0\0\0\4none\1", 9), KV_E_NOENT);
    prune.session = other;
    prune.seq = 1;
    assert_int_equal(world_command(w, COMMAND_PRUNE, &prune), KV_E_STALE);
    prune.seq = 2;
    assert_int_equal(world_command(w, COMMAND_PRUNE, &prune), KV_OK);
    assert_int_equal(w->result.removed, STORE_DEL_MAX);
    /* Only what the caller may remove, and all of a step or nothing. */
    w->flags = 0;
    w->uid = 1000;
    assert_int_equal(world_command(w, COMMAND_PRUNE, &prune), KV_E_ACCES);
    w->flags = COMMAND_TRUSTED;
    w->uid = 0;
    assert_int_equal(world_command(w, COMMAND_PRUNE, &prune), KV_OK);
    assert_int_equal(store_below(w->s, "big", 3, 100000), 7);
    assert_int_equal(world_del(w, "big", true), KV_OK);
    assert_int_equal(w->result.removed, 8);
    assert_int_equal(world_ino(w, "big"), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(set_makes_missing_parents_if_asked),
        TEST(set_can_expect_a_version),
        TEST(pipes_and_sockets_are_names_without_content),
        TEST(creating_an_existing_file_finds_it_unless_exclusive),
        TEST(reserved_and_bad_names_are_refused),
        TEST(listing_resumes_behind_a_cookie),
        TEST(rename_refuses_what_posix_refuses),
        TEST(rename_over_tells_of_both),
        TEST(exchanged_names_have_what_the_other_had),
        TEST(a_file_and_a_directory_can_be_exchanged),
        TEST(exchange_refuses_what_cannot_be),
        TEST(a_publication_tells_what_it_was_based_on),
        TEST(a_publication_can_be_bound_to_the_content_that_it_was_made_on),
        TEST(a_removed_file_is_kept_aside_for_its_owner),
        TEST(a_pinned_value_outlives_its_name),
        TEST(what_is_let_go_of_for_its_size_is_gone),
        TEST(deleting_a_directory_is_all_or_nothing),
        TEST(mode_bits_are_checked),
        TEST(the_sticky_bit_protects_what_others_own),
        TEST(owners_change_what_is_theirs),
        TEST(setgid_directories_pass_their_group_on),
        TEST(budgets_are_kept),
        TEST(huge_offsets_are_refused_not_followed),
        TEST(settings_are_checked),
        TEST(patterns_match_names),
        TEST(a_tree_goes_in_short_commands),
        TEST(deep_trees_are_walked_without_recursion),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
