/* Which changes make which versions, as readers of history see them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/store/place.h"

/* CREATE, and PUBLISH through the creating handle. */
static uint64_t save(struct place *p, const char *name, const char *text)
{
    struct edit e = {.kind = EDIT_WRITE, .data = (const uint8_t *)text, .len = strlen(text)};
    uint64_t ino;

    assert_int_equal(world_create(&p->w, KV_ROOT_INO, name), KV_OK);
    ino = p->w.result.attr.ino;
    assert_int_equal(world_publish(&p->w, ino, true, &e, 1), KV_OK);
    return ino;
}

static void overwrite(struct place *p, uint64_t ino, const char *text)
{
    struct edit e[] = {{.kind = EDIT_TRUNCATE},
                       {.kind = EDIT_WRITE, .data = (const uint8_t *)text, .len = strlen(text)}};

    assert_int_equal(world_publish(&p->w, ino, false, e, 2), KV_OK);
}

static void create_and_publish_are_one_version(void **state)
{
    struct place *p = *state;
    uint64_t ino = save(p, "f", "one");

    assert_string_equal(place_versions(p, "f"), "1*");
    assert_string_equal(place_version(p, "f", 1), "one");
    overwrite(p, ino, "two");
    assert_string_equal(place_versions(p, "f"), "2* 1");
    assert_string_equal(place_version(p, "f", 1), "one");
    assert_string_equal(place_version(p, "f", 2), "two");
    assert_string_equal(place_version(p, "f", 3), "(22)"); /* KV_E_NOVERSION */
}

static void a_publication_through_another_handle_is_a_version_of_its_own(void **state)
{
    struct place *p = *state;

    assert_int_equal(world_create(&p->w, KV_ROOT_INO, "f"), KV_OK);
    overwrite(p, p->w.result.attr.ino, "one");
    assert_string_equal(place_versions(p, "f"), "2* 1");
    assert_string_equal(place_version(p, "f", 1), "");
}

static void attributes_changed_before_the_first_publication_belong_to_the_creation(void **state)
{
    struct place *p = *state;
    struct edit e = {.kind = EDIT_APPEND, .data = (const uint8_t *)"x", .len = 1};
    uint64_t ino;

    assert_int_equal(world_create(&p->w, KV_ROOT_INO, "f"), KV_OK);
    ino = p->w.result.attr.ino;
    assert_int_equal(world_chmod(&p->w, ino, 0600), KV_OK);
    assert_string_equal(place_versions(p, "f"), "1a 1*");
    place_restart(p);
    assert_int_equal(world_publish(&p->w, ino, true, &e, 1), KV_OK);
    assert_string_equal(place_versions(p, "f"), "1*");
    assert_int_equal(world_attr(&p->w, "f").mode, 0600);
}

static void an_empty_file_that_is_closed_is_one_version(void **state)
{
    struct place *p = *state;
    struct edit e = {.kind = EDIT_TRUNCATE};

    assert_int_equal(world_create(&p->w, KV_ROOT_INO, "f"), KV_OK);
    assert_int_equal(world_publish(&p->w, p->w.result.attr.ino, true, &e, 1), KV_OK);
    assert_string_equal(place_versions(p, "f"), "1*");
}

static void attributes_take_a_revision_but_no_number(void **state)
{
    struct place *p = *state;
    uint64_t ino = save(p, "f", "one"), revision = p->w.result.attr.revision;

    assert_int_equal(world_chmod(&p->w, ino, 0600), KV_OK);
    assert_true(p->w.result.attr.revision > revision);
    assert_int_equal(p->w.result.attr.version, 1);
    assert_string_equal(place_versions(p, "f"), "1a 1*");
}

static void unchanged_content_takes_no_number(void **state)
{
    struct place *p = *state;
    uint64_t ino = save(p, "f", "one");

    overwrite(p, ino, "one"); /* a real write: the time changes */
    assert_string_equal(place_versions(p, "f"), "1a 1*");
    assert_int_equal(world_chmod(&p->w, ino, 0644), KV_OK); /* the mode it has */
    assert_int_equal(world_publish(&p->w, ino, false, NULL, 0), KV_OK);
    assert_int_equal(world_set(&p->w, "f", "one"), KV_OK);
    assert_int_equal(p->w.events[0].kind, EVENT_NOTHING);
    assert_string_equal(place_versions(p, "f"), "1a 1*");
}

static void a_deletion_is_a_tombstone_of_the_version_it_ended(void **state)
{
    struct place *p = *state;

    save(p, "f", "one");
    assert_int_equal(world_unlink(&p->w, KV_ROOT_INO, "f"), KV_OK);
    assert_string_equal(place_versions(p, "f"), "1x 1");
    place_restart(p);
    save(p, "f", "two");
    assert_string_equal(place_versions(p, "f"), "2* 1x 1");
    assert_string_equal(place_version(p, "f", 1), "one");
}

static void renaming_over_a_key_makes_its_next_version(void **state)
{
    struct place *p = *state;

    save(p, "f", "one");
    save(p, "g", "two");
    assert_int_equal(world_rename(&p->w, KV_ROOT_INO, "g", KV_ROOT_INO, "f"), KV_OK);
    assert_true(p->w.result.removed != 0);
    assert_string_equal(place_versions(p, "f"), "2* 1");
    assert_string_equal(place_version(p, "f", 2), "two");
    assert_string_equal(place_versions(p, "g"), "1x 1");
}

static void sed_in_place_makes_one_version(void **state)
{
    struct place *p = *state;

    save(p, "f", "one");
    for (int i = 0; i < 3; i++) {
        uint64_t ino = save(p, "sedQ8xT2k", "edited");

        assert_int_equal(p->w.result.attr.version, 0);
        assert_int_equal(world_chmod(&p->w, ino, 0640), KV_OK);
        assert_int_equal(world_rename(&p->w, KV_ROOT_INO, "sedQ8xT2k", KV_ROOT_INO, "f"), KV_OK);
    }
    assert_string_equal(place_versions(p, "f"), "4* 3 2 1");
    assert_string_equal(place_versions(p, "sedQ8xT2k"), "(1)"); /* KV_E_NOENT */
    place_restart(p);
    assert_string_equal(world_get(&p->w, "f"), "edited");
}

static void vim_saving_with_a_backup_makes_one_version(void **state)
{
    struct place *p = *state;

    save(p, "f", "one");
    for (int i = 0; i < 3; i++) {
        char text[16];

        assert_int_equal(world_rename(&p->w, KV_ROOT_INO, "f", KV_ROOT_INO, "f~"), KV_OK);
        if (i == 1)
            place_restart(p); /* between the two steps */
        snprintf(text, sizeof text, "edit %d", i);
        save(p, "f", text);
        assert_int_equal(world_unlink(&p->w, KV_ROOT_INO, "f~"), KV_OK);
    }
    assert_string_equal(place_versions(p, "f"), "4* 3 2 1");
    assert_string_equal(place_version(p, "f", 1), "one");
    assert_string_equal(place_version(p, "f", 3), "edit 1");
}

static void a_file_moved_aside_for_long_was_deleted(void **state)
{
    struct place *p = *state;

    save(p, "f", "one");
    assert_int_equal(world_rename(&p->w, KV_ROOT_INO, "f", KV_ROOT_INO, "f~"), KV_OK);
    assert_string_equal(place_versions(p, "f"), "1x 1");
    p->w.elapsed_ms += 60000;
    save(p, "f", "two");
    assert_string_equal(place_versions(p, "f"), "2* 1x 1");
    assert_string_equal(world_get(&p->w, "f~"), "one");
}

static void a_temporary_file_that_gets_a_real_name_becomes_a_version(void **state)
{
    struct place *p = *state;
    uint64_t ino = save(p, "f~", "draft");

    overwrite(p, ino, "better draft");
    assert_string_equal(place_versions(p, "f~"), "(1)");
    assert_int_equal(world_rename(&p->w, KV_ROOT_INO, "f~", KV_ROOT_INO, "f"), KV_OK);
    assert_int_equal(p->w.result.attr.version, 1);
    assert_string_equal(place_versions(p, "f"), "1*");
    assert_string_equal(place_version(p, "f", 1), "better draft");
    overwrite(p, ino, "final");
    assert_string_equal(place_version(p, "f", 1), "better draft");
}

static void locks_are_temporary_below_dot_git_only(void **state)
{
    struct place *p = *state;

    assert_int_equal(world_set(&p->w, ".git/refs/heads/main.lock", "x"), KV_OK);
    assert_int_equal(world_set(&p->w, "Cargo.lock", "x"), KV_OK);
    assert_int_equal(world_version(&p->w, ".git/refs/heads/main.lock"), 0);
    assert_int_equal(world_version(&p->w, "Cargo.lock"), 1);
}

static void a_directory_made_anew_inherits_its_history(void **state)
{
    struct place *p = *state;

    assert_int_equal(world_set(&p->w, "app/conf/a", "one"), KV_OK);
    assert_int_equal(world_del(&p->w, "app", true), KV_OK);
    place_restart(p);
    assert_int_equal(world_set(&p->w, "app/conf/a", "two"), KV_OK);
    assert_string_equal(place_versions(p, "app/conf/a"), "2* 1x 1");
    assert_string_equal(place_version(p, "app/conf/a", 1), "one");
}

static void a_renamed_directory_takes_its_history_along(void **state)
{
    struct place *p = *state;

    assert_int_equal(world_set(&p->w, "app/a", "one"), KV_OK);
    assert_int_equal(world_rename(&p->w, KV_ROOT_INO, "app", KV_ROOT_INO, "new"), KV_OK);
    assert_int_equal(world_set(&p->w, "new/a", "two"), KV_OK);
    assert_string_equal(place_versions(p, "new/a"), "2* 1");
    assert_int_equal(world_set(&p->w, "app/a", "other"), KV_OK);
    assert_string_equal(place_versions(p, "app/a"), "1*");
}

static void a_name_keeps_counting_when_it_was_a_directory_between(void **state)
{
    struct place *p = *state;

    save(p, "n", "one");
    assert_int_equal(world_unlink(&p->w, KV_ROOT_INO, "n"), KV_OK);
    assert_int_equal(world_mkdir(&p->w, KV_ROOT_INO, "n"), KV_OK);
    assert_int_equal(world_rmdir(&p->w, KV_ROOT_INO, "n"), KV_OK);
    save(p, "n", "two");
    assert_int_equal(world_version(&p->w, "n"), 2);
}

static void pipes_and_sockets_have_a_history_and_survive_a_restart(void **state)
{
    struct place *p = *state;
    struct version_row row;
    struct buffer b = BUFFER_INIT;
    uint64_t ino;

    assert_int_equal(world_mknod(&p->w, KV_ROOT_INO, "x", INODE_FIFO), KV_OK);
    ino = p->w.result.attr.ino;
    assert_int_equal(world_chmod(&p->w, ino, 0600), KV_OK);
    assert_int_equal(world_unlink(&p->w, KV_ROOT_INO, "x"), KV_OK);
    assert_int_equal(world_mknod(&p->w, KV_ROOT_INO, "x", INODE_SOCKET), KV_OK);
    assert_string_equal(place_versions(p, "x"), "2* 1x 1a 1");
    place_restart(p);
    assert_int_equal(world_attr(&p->w, "x").type, INODE_SOCKET);
    assert_int_equal(world_attr(&p->w, "x").size, 0);
    assert_string_equal(place_versions(p, "x"), "2* 1x 1a 1");
    assert_int_equal(history_read(place_history(p), KV_ROOT_INO, "x", 1, 1, 0, 100, &row, &b), KV_OK);
    assert_int_equal(row.type, INODE_FIFO);
    assert_int_equal(row.op, COMMAND_MKNOD);
    assert_int_equal(b.len, 0);
    save(p, "f", "file");
    assert_int_equal(world_rename(&p->w, KV_ROOT_INO, "f", KV_ROOT_INO, "x"), KV_OK);
    assert_string_equal(place_versions(p, "x"), "3* 2 1x 1a 1");
    buffer_deinit(&b);
}

static bool label_one(void *arg, const struct version_row *row)
{
    char *text = arg;
    size_t at = strlen(text);

    snprintf(text + at, 256 - at, "[%s]", row->label);
    return true;
}

static void who_writes_under_a_name_is_known_by_it(void **state)
{
    char longest[COMMAND_LABEL_MAX + 1] = {0}, want[256], got[256] = "";
    struct place *p = *state;
    bool more;

    memset(longest, 'x', COMMAND_LABEL_MAX);
    snprintf(want, sizeof want, "[][%s][deploy]", longest);
    p->w.label = "deploy";
    assert_int_equal(world_set(&p->w, "f", "1"), KV_OK);
    p->w.label = longest;
    assert_int_equal(world_set(&p->w, "f", "2"), KV_OK);
    p->w.label = NULL;
    assert_int_equal(world_set(&p->w, "f", "3"), KV_OK);
    assert_true(place_verifies(p));
    place_restart(p);
    assert_int_equal(history_list(place_history(p), KV_ROOT_INO, "f", 1, 0, 10, got, label_one, &more),
                     KV_OK);
    assert_string_equal(got, want);
}

static void a_replaced_link_is_the_next_version(void **state)
{
    struct place *p = *state;

    assert_int_equal(world_symlink(&p->w, KV_ROOT_INO, "l", "a"), KV_OK);
    assert_int_equal(world_symlink(&p->w, KV_ROOT_INO, "tmp", "b"), KV_OK);
    assert_int_equal(world_rename(&p->w, KV_ROOT_INO, "tmp", KV_ROOT_INO, "l"), KV_OK);
    assert_string_equal(place_versions(p, "l"), "2* 1");
    assert_string_equal(place_version(p, "l", 1), "a");
    assert_string_equal(world_get(&p->w, "l"), "b");
}

static bool count_one(void *arg, const struct version_row *row)
{
    *(uint64_t *)arg = row->revision;
    return true;
}

static void history_is_read_in_pages(void **state)
{
    struct place *p = *state;
    uint64_t ino = save(p, "f", "0"), before = 0;
    bool more = true;
    int pages = 0;

    for (int i = 1; i < 25; i++) {
        char text[16];

        snprintf(text, sizeof text, "%d", i);
        overwrite(p, ino, text);
    }
    while (more) {
        assert_int_equal(
            history_list(place_history(p), KV_ROOT_INO, "f", 1, before, 10, &before, count_one, &more),
            KV_OK);
        pages++;
    }
    assert_int_equal(pages, 3);
    assert_string_equal(place_version(p, "f", 7), "6");
}

static void the_state_at_a_time_is_found(void **state)
{
    struct place *p = *state;
    struct version_row row;
    uint64_t ino = save(p, "f", "one"), then = p->w.wall_ns;

    overwrite(p, ino, "two");
    assert_int_equal(history_at(place_history(p), KV_ROOT_INO, "f", 1, then, &row), KV_OK);
    assert_int_equal(row.version, 1);
    assert_int_equal(history_at(place_history(p), KV_ROOT_INO, "f", 1, then - 1000000000, &row),
                     KV_E_NOVERSION);
}

struct seen {
    char text[1024];
};

/* The log in pages of n rows. */
struct page {
    struct seen *seen;
    int n, left, pages;
    uint64_t revision, directory;
    uint8_t name[256];
    size_t name_len;
};

static bool log_one(void *arg, const struct history_entry *e)
{
    struct seen *seen = arg;
    size_t at = strlen(seen->text);

    snprintf(seen->text + at, sizeof seen->text - at, "%s%s:%.*s", at > 0 ? " " : "",
             command_op_name(e->row.op), (int)e->key.name_len, (const char *)e->key.name);
    if (e->from.directory != 0)
        snprintf(seen->text + strlen(seen->text), 64, "<%.*s", (int)e->from.name_len,
                 (const char *)e->from.name);
    if (e->to.directory != 0)
        snprintf(seen->text + strlen(seen->text), 64, ">%.*s", (int)e->to.name_len, (const char *)e->to.name);
    if (e->row.restored != 0)
        snprintf(seen->text + strlen(seen->text), 64, "=%d", (int)e->row.restored);
    assert_int_equal(e->row.author_uid, 0);
    assert_string_equal(e->row.author_node, "n1");
    return true;
}

static bool page_one(void *arg, const struct history_entry *e)
{
    struct page *page = arg;

    if (page->left-- == 0)
        return false;
    page->revision = e->row.revision;
    page->directory = e->key.directory;
    page->name_len = e->key.name_len;
    memcpy(page->name, e->key.name, e->key.name_len);
    return log_one(page->seen, e);
}

static void log_in_pages(struct place *p, int n, struct seen *seen)
{
    struct page page = {.seen = seen, .n = n};

    do {
        const struct history_place at = {page.directory, page.name, page.name_len};
        uint64_t dropped;

        page.left = n;
        assert_int_equal(history_log(place_history(p), page.revision, page.pages++ > 0 ? &at : NULL, &page,
                                     page_one, &dropped),
                         KV_OK);
        assert_int_equal(dropped, 0);
    } while (page.left < 0);
}

static void the_operation_log_tells_what_happened(void **state)
{
    struct place *p = *state;
    struct seen seen = {""};
    uint64_t dropped;
    struct command_body restore = {.path = (const uint8_t *)"g",
                                   .path_len = 1,
                                   .flags = SET_RESTORE,
                                   .from_version = 1,
                                   .value = (const uint8_t *)"back",
                                   .value_len = 4};

    save(p, "f", "one");
    assert_int_equal(world_set(&p->w, "d/k", "v"), KV_OK);
    assert_int_equal(world_rename(&p->w, KV_ROOT_INO, "f", KV_ROOT_INO, "g"), KV_OK);
    assert_int_equal(world_command(&p->w, COMMAND_SET, &restore), KV_OK);
    for (int n = 1; n < 8; n++) {
        seen.text[0] = '\0';
        log_in_pages(p, n, &seen);
        assert_string_equal(seen.text, "write:f set:d set:k rename:f>g rename:g<f set:g=1");
    }
    seen.text[0] = '\0';
    assert_int_equal(history_log(place_history(p), p->w.index - 1, NULL, &seen, log_one, &dropped), KV_OK);
    assert_string_equal(seen.text, "set:g=1");
}

static bool name_one(void *arg, const uint8_t *name, size_t len)
{
    struct seen *seen = arg;
    size_t at = strlen(seen->text);

    snprintf(seen->text + at, sizeof seen->text - at, "%s%.*s", at > 0 ? " " : "", (int)len,
             (const char *)name);
    return strlen(seen->text) < 3;
}

static void names_with_history_are_listed_in_order(void **state)
{
    struct place *p = *state;
    struct seen seen = {""};
    uint64_t version = 0;
    bool deleted;

    save(p, "b", "1");
    save(p, "a", "1");
    overwrite(p, save(p, "c", "1"), "2");
    save(p, "d~", "1");
    assert_int_equal(world_unlink(&p->w, KV_ROOT_INO, "b"), KV_OK);
    assert_int_equal(history_names(place_history(p), KV_ROOT_INO, "", 0, &seen, name_one), KV_OK);
    assert_string_equal(seen.text, "a b");
    seen.text[0] = '\0';
    assert_int_equal(history_names(place_history(p), KV_ROOT_INO, "a", 1, &seen, name_one), KV_OK);
    assert_string_equal(seen.text, "b c");
    assert_int_equal(store_past_name(p->w.s, KV_ROOT_INO, "b", 1, &version, &deleted), KV_OK);
    assert_true(deleted);
    assert_int_equal(store_past_name(p->w.s, KV_ROOT_INO, "c", 1, &version, &deleted), KV_OK);
    assert_int_equal(version, 2);
    assert_false(deleted);
    assert_int_equal(store_past_name(p->w.s, KV_ROOT_INO, "d~", 2, &version, &deleted), KV_E_NOENT);
}

static void a_history_id_leads_back_to_the_path(void **state)
{
    struct place *p = *state;
    struct buffer b = BUFFER_INIT;
    uint64_t id;

    assert_int_equal(world_set(&p->w, "a/b/c", "v"), KV_OK);
    assert_int_equal(store_history_id(p->w.s, world_ino(&p->w, "a/b"), &id), KV_OK);
    assert_int_equal(world_rename(&p->w, world_ino(&p->w, "a"), "b", KV_ROOT_INO, "x"), KV_OK);
    assert_int_equal(store_history_path(p->w.s, id, &b), KV_OK);
    assert_int_equal(b.len, 1);
    assert_memory_equal(b.data, "x", 1);
    buffer_clear(&b);
    assert_int_equal(store_history_path(p->w.s, KV_ROOT_INO, &b), KV_OK);
    assert_int_equal(b.len, 0);
    assert_int_equal(world_del(&p->w, "x", true), KV_OK);
    assert_int_equal(store_history_path(p->w.s, id, &b), KV_E_NOENT);
    buffer_deinit(&b);
}

static void appends_share_what_they_have(void **state)
{
    struct place *p = *state;
    uint64_t ino = save(p, "log", ""), index, digest;
    char line[1000];
    FILE *f;
    long size;

    for (int i = 0; i < 500; i++) {
        for (size_t k = 0; k < sizeof line; k++)
            line[k] = (char)rand();
        assert_int_equal(world_append(&p->w, ino, line, sizeof line), KV_OK);
        if (i % 50 == 0)
            place_flush(p);
    }
    place_restart(p);
    f = fopen(p->path, "r");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    size = ftell(f);
    fclose(f);
    assert_true(size < 3 << 20);
    assert_int_equal(state_db_verify(p->path, &index, &digest, p->error), 0);
}

static void the_oldest_dead_names_lose_their_history(void **state)
{
    struct place *p = *state;

    assert_int_equal(world_setting(&p->w, "max_dead_names", "1"), KV_OK);
    save(p, "a", "1");
    save(p, "b", "1");
    assert_int_equal(world_unlink(&p->w, KV_ROOT_INO, "a"), KV_OK);
    assert_int_equal(world_unlink(&p->w, KV_ROOT_INO, "b"), KV_OK);
    assert_string_equal(place_versions(p, "a"), "(1)");
    assert_string_equal(place_versions(p, "b"), "1x 1");
    save(p, "a", "2");
    assert_string_equal(place_versions(p, "a"), "1*");
}

static bool skip_one(void *arg, const struct history_entry *e)
{
    (void)arg;
    (void)e;
    return true;
}

static uint64_t dropped_up_to(struct place *p)
{
    uint64_t dropped;

    assert_int_equal(history_log(place_history(p), 0, NULL, NULL, skip_one, &dropped), KV_OK);
    return dropped;
}

static void the_log_tells_up_to_where_rows_are_gone(void **state)
{
    struct place *p = *state;
    uint64_t a_went, b_went;

    assert_int_equal(world_setting(&p->w, "max_dead_names", "1"), KV_OK);
    save(p, "a", "1");
    save(p, "b", "1");
    assert_int_equal(world_unlink(&p->w, KV_ROOT_INO, "a"), KV_OK);
    a_went = p->w.index;
    assert_int_equal(dropped_up_to(p), 0);
    save(p, "c", "1");
    assert_int_equal(world_unlink(&p->w, KV_ROOT_INO, "b"), KV_OK);
    b_went = p->w.index;
    assert_int_equal(dropped_up_to(p), a_went);
    place_restart(p);
    assert_int_equal(dropped_up_to(p), a_went);
    save(p, "a", "2"); /* lives: its new rows stay */
    assert_int_equal(world_setting(&p->w, "max_dead_names", "0"), KV_OK);
    assert_int_equal(dropped_up_to(p), b_went);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, place_setup, place_teardown_whole)
    const struct CMUnitTest tests[] = {
        TEST(create_and_publish_are_one_version),
        TEST(a_publication_through_another_handle_is_a_version_of_its_own),
        TEST(attributes_changed_before_the_first_publication_belong_to_the_creation),
        TEST(an_empty_file_that_is_closed_is_one_version),
        TEST(attributes_take_a_revision_but_no_number),
        TEST(unchanged_content_takes_no_number),
        TEST(a_deletion_is_a_tombstone_of_the_version_it_ended),
        TEST(renaming_over_a_key_makes_its_next_version),
        TEST(sed_in_place_makes_one_version),
        TEST(vim_saving_with_a_backup_makes_one_version),
        TEST(a_file_moved_aside_for_long_was_deleted),
        TEST(a_temporary_file_that_gets_a_real_name_becomes_a_version),
        TEST(locks_are_temporary_below_dot_git_only),
        TEST(a_directory_made_anew_inherits_its_history),
        TEST(a_renamed_directory_takes_its_history_along),
        TEST(a_name_keeps_counting_when_it_was_a_directory_between),
        TEST(pipes_and_sockets_have_a_history_and_survive_a_restart),
        TEST(who_writes_under_a_name_is_known_by_it),
        TEST(a_replaced_link_is_the_next_version),
        TEST(history_is_read_in_pages),
        TEST(the_state_at_a_time_is_found),
        TEST(the_operation_log_tells_what_happened),
        TEST(names_with_history_are_listed_in_order),
        TEST(a_history_id_leads_back_to_the_path),
        TEST(appends_share_what_they_have),
        TEST(the_oldest_dead_names_lose_their_history),
        TEST(the_log_tells_up_to_where_rows_are_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
