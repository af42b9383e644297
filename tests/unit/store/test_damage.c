/* A row of each kind that is not what was written: what loading, verifying and the scrub
 * say of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <unistd.h>

#include <sqlite3.h>

#include "kvnode/disk/state_db_scrub.h"
#include "sync/wire/ttl.h"
#include "tests/unit/store/place.h"

#define WHOLE "(whole)"
#define DIGEST "the digest is not that of index 19"

struct damage {
    const char *sql;
    const char *load, *verify, *scrub; /* behind "damaged: "; WHOLE: nothing is found */
};

static const struct damage damages[] = {
    {"UPDATE inode SET type=9 WHERE ino=3", "inode 3", "inode 3", "a row of table inode: 3"},
    {"UPDATE inode SET type=4 WHERE ino=3", "size of inode 3", DIGEST, DIGEST},
    {"UPDATE inode SET chunks='x' WHERE ino=3", "inode 3", "inode 3", "a row of table inode: 3"},
    {"UPDATE inode SET size=size+70000 WHERE ino=3", "size of inode 3", "a value of size 70006", DIGEST},
    {"UPDATE inode SET size=-1 WHERE ino=3", "size of inode 3", "a value of size 18446744073709551615",
     DIGEST},
    {"UPDATE inode SET mode=mode+1 WHERE ino=3", DIGEST, DIGEST, DIGEST},
    {"UPDATE inode SET type=1 WHERE ino=1", "inode 1", DIGEST, DIGEST},
    {"UPDATE inode SET history=7 WHERE ino=1", "history id of the root: 7", DIGEST, DIGEST},
    {"UPDATE inode SET history=1 WHERE ino=2", "history id of directory 2", DIGEST, DIGEST},
    {"UPDATE inode SET content=content+1 WHERE ino=3", WHOLE, "content of inode 3", DIGEST},
    {"DELETE FROM inode WHERE ino=3", "entry of inode 3", DIGEST, DIGEST},
    {"UPDATE entry SET flags=64 WHERE name='a'", "an entry of directory 2", "an entry of directory 2",
     "a row of table entry: 2"},
    {"UPDATE entry SET number=number+1000 WHERE name='a'", DIGEST, DIGEST, DIGEST},
    {"UPDATE entry SET ino=77 WHERE name='a'", "entry of inode 77", DIGEST, DIGEST},
    {"UPDATE entry SET history_digest=history_digest+1 WHERE name='a'", DIGEST, "history of entry 2", DIGEST},
    {"UPDATE entry SET name='' WHERE name='a'", "an entry of directory 2", "an entry of directory 2",
     "a row of table entry: 2"},
    {"UPDATE entry SET ino=3 WHERE flags&1=1", "dead entry 8", DIGEST, DIGEST},
    {"DELETE FROM entry WHERE name='a'", "no name for inode 3", "history of entry 3", DIGEST},
    {"DELETE FROM entry WHERE name='d'", "no name for inode 2", "history of entry 4", DIGEST},
    {"UPDATE session SET nonce=x'00' WHERE id=(SELECT max(id) FROM session)", "session 10", "session 10",
     "a row of table session: 10"},
    {"UPDATE session SET owner=5 WHERE id=(SELECT max(id) FROM session)", DIGEST, DIGEST, DIGEST},
    {"UPDATE result SET result=x'00' WHERE seq=(SELECT max(seq) FROM result)", "result 16", "result 16",
     "a row of table result: 1"},
    {"UPDATE result SET session=12345 WHERE seq=(SELECT max(seq) FROM result)", "result 16", DIGEST, DIGEST},
    {"UPDATE result SET seq=1000 WHERE seq=(SELECT max(seq) FROM result)", DIGEST, DIGEST, DIGEST},
    {"UPDATE part SET number=2", "part of command 1", DIGEST, DIGEST},
    {"UPDATE part SET data=x'00'", DIGEST, DIGEST, DIGEST},
    {"UPDATE part SET session=12345", "part of command 1", DIGEST, DIGEST},
    {"UPDATE setting SET name='nonsense' WHERE name='max_dead_names'", "unknown setting nonsense", DIGEST,
     DIGEST},
    {"UPDATE setting SET value='-1' WHERE name='max_dead_names'", "bad value of setting max_dead_names",
     DIGEST, DIGEST},
    {"UPDATE setting SET value='2' WHERE name='max_dead_names'", DIGEST, DIGEST, DIGEST},
    {"DELETE FROM setting", DIGEST, DIGEST, DIGEST},
    {"UPDATE dropped SET revision=revision+1", WHOLE, "history dropped up to revision 9",
     "a row of table dropped: 9"},
    {"UPDATE version SET mode=mode+1 WHERE name='a' AND version=1", WHOLE, "row of history of revision 2",
     "row of history of revision 2"},
    {"UPDATE version SET chunks=NULL WHERE name='a' AND version=1", WHOLE, "row of history of revision 2",
     "row of history of revision 2"},
    {"UPDATE version SET name='other' WHERE name='a' AND version=1", WHOLE, "history of entry 2",
     "history of entry 2"},
    {"DELETE FROM version WHERE name='a' AND version=1", WHOLE, "history of entry 2", "history of entry 2"},
    {"DELETE FROM chunk WHERE id=(SELECT chunks FROM inode WHERE ino=3)", "no chunk 2", "missing chunk 2",
     "no chunk 2"},
    {"UPDATE chunk SET data=x'00' WHERE id=(SELECT chunks FROM inode WHERE ino=3)", "chunk 2", "chunk 2",
     "chunk 2"},
    {"DELETE FROM chunk WHERE id=(SELECT chunks FROM version WHERE name='a' AND version=1)", WHOLE,
     "missing chunk 1", "no chunk 1"},
    {"UPDATE chunk SET data=x'00' WHERE id=(SELECT chunks FROM version WHERE name='a' AND version=1)", WHOLE,
     "chunk 1", "chunk 1"},
    {"UPDATE chunk SET checksum=checksum+1 WHERE id=(SELECT chunks FROM version WHERE name='a' AND "
     "version=1)",
     WHOLE, "chunk 1", "chunk 1"},
    {"UPDATE lock SET session=12345", "a lock of inode 7", DIGEST, DIGEST},
    {"UPDATE lock SET kind=2 WHERE wait=0", "a lock of inode 7", DIGEST, DIGEST},
    {"UPDATE lock SET exclusive=8 WHERE wait=0", "a lock of inode 7", "a lock of inode 7",
     "a row of table lock: 7"},
    {"UPDATE lock SET kind=3 WHERE wait=0", "a lock of inode 7", "a lock of inode 7",
     "a row of table lock: 7"},
    {"UPDATE lock SET start=8 WHERE wait=0", DIGEST, DIGEST, DIGEST},
    {"UPDATE lock SET start=end+1 WHERE wait=0", "a lock of inode 7", "a lock of inode 7",
     "a row of table lock: 7"},
    {"UPDATE lock SET wait=0 WHERE wait!=0", "a lock of inode 7", DIGEST, DIGEST},
    {"UPDATE lock SET wait=0, ticket=0 WHERE wait!=0", "a lock of inode 7", DIGEST, DIGEST},
    {"DELETE FROM lock WHERE wait!=0", DIGEST, DIGEST, DIGEST},
    {"UPDATE fence SET ino=12345", "the fence of inode 12345", DIGEST, DIGEST},
    {"UPDATE fence SET revision=revision+1", DIGEST, DIGEST, DIGEST},
    {"UPDATE fence SET exclusive=2", "the fence of inode 8", "the fence of inode 8",
     "a row of table fence: 8"},
    {"DELETE FROM fence", DIGEST, DIGEST, DIGEST},
    {"UPDATE session SET lease=NULL WHERE lease=5000", DIGEST, DIGEST, DIGEST},
    {"UPDATE session SET lease=3600001 WHERE lease=5000", "session 1", "session 1",
     "a row of table session: 1"},
    {"UPDATE inode SET xattr_size=70000 WHERE ino=8", "inode 8", "inode 8", "a row of table inode: 8"},
    {"UPDATE inode SET xattr_size=NULL WHERE ino=8", "size of inode 8", "a value of size 4", DIGEST},
    {"UPDATE inode SET xattr_size=xattr_size-1 WHERE ino=8", "extended attributes of inode 8",
     "extended attributes of inode 8", DIGEST},
    {"UPDATE inode SET xattr_digest=xattr_digest+1 WHERE ino=8", WHOLE, "extended attributes of inode 8",
     DIGEST},
    {"UPDATE inode SET type=4, size=0, ttl=NULL, expires=NULL WHERE ino=8", "size of inode 8",
     "a value of size 0", DIGEST},
    {"UPDATE inode SET ttl=NULL WHERE ino=8", "inode 8", "inode 8", "a row of table inode: 8"},
    {"UPDATE inode SET ttl=ttl+1 WHERE ino=8", DIGEST, DIGEST, DIGEST},
    {"UPDATE inode SET ttl=-1 WHERE ino=8", "inode 8", "inode 8", "a row of table inode: 8"},
    {"UPDATE inode SET expires=expires+1 WHERE ino=8", DIGEST, DIGEST, DIGEST},
    {"UPDATE inode SET expires=NULL WHERE ino=8", "inode 8", "inode 8", "a row of table inode: 8"},
    {"UPDATE inode SET ttl=5, expires=5 WHERE ino=2", "inode 2", "inode 2", "a row of table inode: 2"},
    {"UPDATE version SET xattr_size=xattr_size+1 WHERE name='x' AND attributes_only=1", WHOLE,
     "row of history of revision 15", "row of history of revision 15"},
    {"UPDATE version SET xattr_digest=0 WHERE name='x' AND attributes_only=1", WHOLE,
     "row of history of revision 15", "row of history of revision 15"},
    {"UPDATE chunk SET data=zeroblob(length(data)), checksum=checksum WHERE id=(SELECT max(id) FROM chunk)",
     "chunk 9", "chunk 9", "chunk 9"},
    {"DELETE FROM chunk WHERE id=(SELECT max(id) FROM chunk)", "no chunk 9", "missing chunk 9", "no chunk 9"},
    {"UPDATE meta SET digest=digest+1", DIGEST, DIGEST, DIGEST},
    {"UPDATE meta SET wall=wall+1", DIGEST, DIGEST, DIGEST},
    {"DELETE FROM meta", "no meta row, inodes: 6", "no meta row, format 9", WHOLE},
};

/* Of a file with two names: d/a, which is the first, and b. */
#define DIGEST_OF_TWO "the digest is not that of index 4"
static const struct damage damages_of_two[] = {
    {"DELETE FROM entry WHERE name='b'", DIGEST_OF_TWO, "history of entry 1", DIGEST_OF_TWO},
    {"UPDATE entry SET ino=2 WHERE name='b'", "entry of inode 2", DIGEST_OF_TWO, DIGEST_OF_TWO},
    {"UPDATE entry SET ino=1 WHERE name='b'", "entry of inode 1", DIGEST_OF_TWO, DIGEST_OF_TWO},
    {"UPDATE entry SET number=0 WHERE name='b'", "names of inode 3", DIGEST_OF_TWO, DIGEST_OF_TWO},
    {"UPDATE entry SET number=9 WHERE name='b'", DIGEST_OF_TWO, DIGEST_OF_TWO, DIGEST_OF_TWO},
    {"UPDATE entry SET last_version=9 WHERE name='a'", "names of inode 3", DIGEST_OF_TWO, DIGEST_OF_TWO},
    {"UPDATE inode SET version=1 WHERE ino=3", "names of inode 3", DIGEST_OF_TWO, DIGEST_OF_TWO},
    {"UPDATE inode SET fresh=1, size=0, chunks=NULL, content=0 WHERE ino=3", "names of inode 3",
     DIGEST_OF_TWO, DIGEST_OF_TWO},
    {"DELETE FROM inode WHERE ino=3", "entry of inode 3", DIGEST_OF_TWO, DIGEST_OF_TWO},
    {"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999)"
     " INSERT INTO entry SELECT 1, 'n' || i, 2, 100 + i, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM n",
     "entry of inode 3", DIGEST_OF_TWO, DIGEST_OF_TWO},
};

static void fill_two(struct place *p)
{
    assert_int_equal(world_set(&p->w, "d/a", "first"), KV_OK);
    assert_int_equal(world_set(&p->w, "d/a", "second"), KV_OK);
    assert_int_equal(world_link(&p->w, 3, KV_ROOT_INO, "b"), KV_OK);
    place_flush(p);
}

/* Rows in every table. */
static void fill(struct place *p)
{
    static char big[100000];
    struct buffer part = BUFFER_INIT;
    uint64_t session;

    memset(big, 'b', sizeof big);
    assert_int_equal(world_set(&p->w, "d/a", "first"), KV_OK);
    assert_int_equal(world_set(&p->w, "d/a", "second"), KV_OK);
    assert_int_equal(world_set_bytes(&p->w, "d/big", big, sizeof big, 0, 0), KV_OK);
    assert_int_equal(world_setting(&p->w, "max_dead_names", "1"), KV_OK);
    assert_int_equal(world_set(&p->w, "gone/1", "x"), KV_OK);
    assert_int_equal(world_set(&p->w, "gone/2", "x"), KV_OK);
    assert_int_equal(world_del(&p->w, "gone/1", false), KV_OK);
    assert_int_equal(world_del(&p->w, "gone/2", false), KV_OK);
    assert_int_equal(world_register(&p->w, "0123456789abcdef", &session), KV_OK);
    buffer_put_u32(&part, 0);
    buffer_put_string(&part, "part", 4);
    assert_int_equal(world_raw(&p->w, COMMAND_PART, session, 1, part.data, part.len), KV_OK);
    buffer_deinit(&part);
    for (uint64_t owner = 1; owner <= 2; owner++) { /* one has it, the other waits */
        const struct command_body lock = {.ino = 7,
                                          .kind = LOCK_OF_RANGE,
                                          .flags = LOCK_FLAG_EXCLUSIVE | LOCK_FLAG_WAIT,
                                          .owner = owner,
                                          .start = owner,
                                          .end = 9,
                                          .ticket = owner};

        assert_int_equal(world_command(&p->w, COMMAND_LOCK, &lock), KV_OK);
    }
    assert_int_equal(world_set(&p->w, "x", "with"), KV_OK);
    assert_int_equal(world_setxattr(&p->w, world_ino(&p->w, "x"), "user.one", "1", 0), KV_OK);
    assert_int_equal(world_setxattr(&p->w, world_ino(&p->w, "x"), "user.two", "2", 0), KV_OK);
    assert_int_equal(world_setxattr(&p->w, world_ino(&p->w, "x"), XATTR_TTL, "1h", 0), KV_OK);
    assert_int_equal(
        world_command(
            &p->w, COMMAND_LOCK,
            &(struct command_body){.ino = world_ino(&p->w, "x"), .flags = LOCK_FLAG_FENCE, .lease_ms = 5000}),
        KV_OK);
    assert_int_equal(
        world_command(&p->w, COMMAND_UNLOCK, &(struct command_body){.ino = world_ino(&p->w, "x")}), KV_OK);
    place_flush(p);
}

static void change(const char *path, const char *sql)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    if (sqlite3_changes(db) == 0)
        fail_msg("%s: changes nothing", sql);
    sqlite3_close(db);
}

static int load(const char *path, char error[STATE_DB_ERROR_MAX])
{
    struct store *s = store_new(0, NULL, NULL);
    int rv = state_db_load(path, s, error);

    store_free(s);
    return rv;
}

static int verify(const char *path, char error[STATE_DB_ERROR_MAX])
{
    uint64_t index, digest;

    return state_db_verify(path, &index, &digest, error);
}

static int scrub(const char *path, char error[STATE_DB_ERROR_MAX])
{
    struct state_scrub_progress progress;
    struct state_scrub *s;
    int rv = state_scrub_open(path, &s, error);

    while (rv == 0 && (rv = state_scrub_step(s, &progress)) == 1)
        rv = 0;
    state_scrub_close(s);
    return rv;
}

static const char *said(int rv, const char *error)
{
    static char text[STATE_DB_ERROR_MAX];
    const char *at = strstr(error, "damaged: "), *end;

    if (rv == 0)
        return WHOLE;
    if (rv != -EUCLEAN || at == NULL || (end = strstr(at, "; ")) == NULL)
        return error;
    at += strlen("damaged: ");
    snprintf(text, sizeof text, "%.*s", (int)(end - at), at);
    return text;
}

static void check(struct place *p, const struct damage *list, size_t n)
{
    char path[128], error[STATE_DB_ERROR_MAX];
    uint64_t index;
    int n_wrong = 0;

    snprintf(path, sizeof path, "%s/copy", p->dir);
    for (size_t i = 0; i < n; i++) {
        const struct damage *d = &list[i];
        static const struct {
            const char *what;
            int (*look)(const char *path, char error[STATE_DB_ERROR_MAX]);
        } looks[] = {{"verify", verify}, {"scrub", scrub}, {"load", load}};
        const char *const expect[] = {d->verify, d->scrub, d->load};

        assert_int_equal(state_db_snapshot(p->path, path, &index, error), 0);
        change(path, d->sql);
        for (int k = 0; k < 3; k++) {
            const char *text;

            error[0] = '\0';
            text = said(looks[k].look(path, error), error);
            if (strcmp(text, expect[k]) != 0) {
                print_message("%s: %s says \"%s\", not \"%s\"\n", d->sql, looks[k].what, text, expect[k]);
                n_wrong++;
            }
        }
        unlink(path);
    }
    assert_int_equal(n_wrong, 0);
}

static void each_kind_of_row_is_told_as_what_it_is(void **state)
{
    struct place *p = *state;

    fill(p);
    check(p, damages, sizeof damages / sizeof damages[0]);
}

static void names_of_one_inode_are_told_too(void **state)
{
    struct place *p = *state;
    char path[128], error[STATE_DB_ERROR_MAX];
    uint64_t index;

    fill_two(p);
    check(p, damages_of_two, sizeof damages_of_two / sizeof damages_of_two[0]);
    snprintf(path, sizeof path, "%s/copy", p->dir);
    assert_int_equal(state_db_snapshot(p->path, path, &index, error), 0);
    assert_int_equal(load(path, error), 0);
    assert_int_equal(verify(path, error), 0);
    assert_int_equal(scrub(path, error), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_kind_of_row_is_told_as_what_it_is, place_setup, place_teardown),
        cmocka_unit_test_setup_teardown(names_of_one_inode_are_told_too, place_setup, place_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
