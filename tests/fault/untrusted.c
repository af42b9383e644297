/* A user who may open the node's socket (its mode is 0666 here) and is neither
 * root nor the node's own: what he must not read and must not write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "sync/base/error.h"
#include "sync/wire/feature.h"
#include "tests/fault/lib/caller.h"
#include "tests/fault/lib/needed.h"

#define USER 12345
#define CALL_MS 8000

static struct cluster *cluster;
static struct caller root, user;
static const char *unavailable;
static uint64_t private_ino, secret_ino, public_ino, own_ino;

/* The node asks the kernel who we were when we connected. */
static void connect_as_user(struct caller *c)
{
    caller_init(c, cluster, 0);
    c->pinned = true;
    assert_int_equal(setegid(USER), 0);
    assert_int_equal(seteuid(USER), 0);
    assert_int_equal(caller_ask(c, MESSAGE_BARRIER, NULL, CALL_MS, NULL), 0);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(setegid(0), 0);
    assert_false(c->node.trusted);
}

/* A WRITE with every field as the caller likes it. */
struct forged {
    uint8_t has_owner;
    uint32_t uid;
    uint16_t flags;
    uint64_t session, seq, acked_below;
    uint64_t opened; /* with COMMAND_OPENED */
};

static int forge_bytes(struct caller *c, const struct forged *f, enum command_op op, const void *bytes,
                       size_t len, struct command_result *result_out)
{
    struct buffer b = BUFFER_INIT;
    union request_body request;
    union answer_body answer;
    struct command cmd = {.op = (uint8_t)op,
                          .flags = f->flags,
                          .session = f->session,
                          .seq = f->seq,
                          .acked_below = f->acked_below,
                          .uid = f->uid,
                          .gid = f->uid,
                          .node = "",
                          .body = bytes,
                          .body_len = len};
    int rv;

    memset(result_out, 0, sizeof *result_out);
    command_encode(&b, &cmd);
    request.write = (struct write_request){f->has_owner, f->uid, f->uid, bytes_of(b.data, b.len)};
    rv = caller_ask(c, MESSAGE_WRITE, &request, CALL_MS, &answer);
    buffer_deinit(&b);
    if (rv != 0)
        return rv;
    *result_out = answer.write;
    return result_out->code;
}

static int forge(struct caller *c, const struct forged *f, enum command_op op,
                 const struct command_body *body)
{
    struct command_result result;
    struct buffer b = BUFFER_INIT;
    int rv;

    command_body_encode(&b, (uint8_t)op, body);
    rv = forge_bytes(c, f, op, b.data, b.len, &result);
    buffer_deinit(&b);
    return rv;
}

static struct command_body set_body(const char *key, const char *value)
{
    return (struct command_body){.path = (const uint8_t *)key,
                                 .path_len = strlen(key),
                                 .flags = SET_PARENTS,
                                 .mode = 0644,
                                 .value = (const uint8_t *)value,
                                 .value_len = strlen(value)};
}

static struct buffer publish_bytes(uint64_t ino, size_t size)
{
    struct buffer b = BUFFER_INIT;
    uint8_t *data = calloc(1, size);

    memset(data, 'x', size);
    command_body_encode(&b, COMMAND_PUBLISH, &(struct command_body){.ino = ino});
    edit_encode(&b, &(struct edit){.kind = EDIT_WRITE, .data = data, .len = size});
    free(data);
    return b;
}

static void assert_value(const char *key, const char *value)
{
    struct attr attr;
    char got[64];
    size_t len;

    assert_int_equal(caller_get(&root, key, READ_LINEARIZABLE, CALL_MS, &attr, got, sizeof got, &len), 0);
    assert_int_equal(len, strlen(value));
    assert_memory_equal(got, value, len);
}

static uint64_t make(struct caller *c, const char *key, const char *value, uint16_t mode)
{
    struct command_result result;
    struct command_body body = {.valid = SETATTR_MODE, .mode = mode};

    assert_int_equal(caller_set(c, key, value, strlen(value), CALL_MS, &result), 0);
    body.ino = result.attr.ino;
    assert_int_equal(caller_write(c, COMMAND_SETATTR, &body, CALL_MS, &result), 0);
    return body.ino;
}

static int ask_ino(struct caller *c, enum message_type type, uint64_t ino)
{
    union request_body request;

    if (type == MESSAGE_READ)
        request.read = (struct read_request){.at = READ_LOCAL, .ino = ino, .length = 100};
    else if (type == MESSAGE_READDIR)
        request.readdir = (struct readdir_request){.at = READ_LOCAL, .ino = ino, .n = 100};
    else if (type == MESSAGE_GETXATTR)
        request.getxattr = (struct xattr_request){READ_LOCAL, ino, bytes_text("user.secret")};
    else /* GETATTR, READLINK, LISTXATTR */
        request.getattr = (struct inode_request){.at = READ_LOCAL, .ino = ino};
    return caller_ask(c, type, &request, CALL_MS, NULL);
}

static int ask_version(struct caller *c, uint64_t directory, const char *name, uint64_t version)
{
    const union request_body request = {
        .version = {.directory = directory, .name = bytes_text(name), .version = version, .length = 100}};

    return caller_ask(c, MESSAGE_VERSION, &request, CALL_MS, NULL);
}

static int ask_version_xattrs(struct caller *c, uint64_t directory, const char *name, uint64_t version)
{
    const union request_body request = {
        .version_xattrs = {.directory = directory, .name = bytes_text(name), .version = version}};

    return caller_ask(c, MESSAGE_VERSION_XATTRS, &request, CALL_MS, NULL);
}

static int set_xattr(struct caller *c, uint64_t ino)
{
    const struct command_body body = {.ino = ino, .name = (const uint8_t *)"user.secret", .name_len = 11};
    struct command_result result;

    return caller_write(c, COMMAND_SETXATTR, &body, CALL_MS, &result);
}

static void chmod_ino(uint64_t ino, uint16_t mode)
{
    const struct command_body body = {.ino = ino, .valid = SETATTR_MODE, .mode = mode};
    struct command_result result;

    assert_int_equal(caller_write(&root, COMMAND_SETATTR, &body, CALL_MS, &result), 0);
}

static uint64_t ino_of(const char *path)
{
    const union request_body request = {.resolve = {.at = READ_LINEARIZABLE, .path = bytes_text(path)}};
    union answer_body answer;

    assert_int_equal(caller_ask(&root, MESSAGE_RESOLVE, &request, CALL_MS, &answer), 0);
    return answer.resolve.attr.ino;
}

/* A new cluster rises by itself, if nothing was written before. */
static bool is_at_its_level(void *arg)
{
    char out[8192], level[32];

    (void)arg;
    snprintf(level, sizeof level, "feature_level = %d", FEATURE_LEVEL);
    return run_kvnode(cluster, 0, 2000, out, sizeof out,
                      (const char *const[]){"config", "--cluster", NULL}) == 0 &&
           strstr(out, level) != NULL;
}

static int setup(void **state)
{
    const struct cluster_options options = {.n = 1, .flags = {"node.socket_mode=0666"}};
    struct command_result result;
    struct command_body chmod_root = {.ino = KV_ROOT_INO, .valid = SETATTR_MODE, .mode = 0777};

    (void)state;
    if (geteuid() != 0) {
        unavailable = "needs root, to be another user";
        return 0;
    }
    cluster = cluster_new(&options, &unavailable);
    if (cluster == NULL)
        return -1;
    assert_true(await(10000, is_at_its_level, NULL));
    chmod(cluster->dir, 0711);
    caller_init(&root, cluster, 0);
    assert_int_equal(caller_register(&root, CALL_MS), 0);
    assert_int_equal(caller_write(&root, COMMAND_SETATTR, &chmod_root, CALL_MS, &result), 0);
    secret_ino = make(&root, "secret", "first secret", 0600);
    assert_int_equal(caller_set(&root, "secret", "secret", 6, CALL_MS, &result), 0);
    make(&root, "private/inside", "hidden", 0600);
    private_ino = ino_of("private");
    chmod_ino(private_ino, 0700);
    public_ino = make(&root, "public", "public", 0644);
    connect_as_user(&user);
    assert_int_equal(caller_register(&user, CALL_MS), 0);
    own_ino = make(&user, "own", "own", 0644);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (cluster == NULL)
        return 0;
    caller_deinit(&root);
    caller_deinit(&user);
    return cluster_free(cluster) ? 0 : -1;
}

static int open_inode(struct caller *c, uint64_t ino, uint8_t access)
{
    const union request_body request = {.open = {.at = READ_LINEARIZABLE, .ino = ino, .access = access}};

    return caller_ask(c, MESSAGE_OPEN, &request, CALL_MS, NULL);
}

static void he_reads_no_secret(void **state)
{
    const union request_body inside = {.lookup = {READ_LOCAL, private_ino, bytes_text("inside")}},
                             names = {.names = {.directory = private_ino, .n = 100}},
                             history = {.history = {private_ino, bytes_text("inside"), 0, 100}};
    struct attr attr;
    char got[64];
    size_t len;
    uint64_t version;

    (void)state;
    needed(unavailable);
    assert_int_equal(caller_get(&user, "public", READ_LOCAL, CALL_MS, &attr, got, sizeof got, &len), 0);
    assert_int_equal(caller_get(&user, "secret", READ_LOCAL, CALL_MS, &attr, got, sizeof got, &len),
                     KV_E_ACCES);
    assert_int_equal(caller_get(&user, "private/inside", READ_LOCAL, CALL_MS, &attr, got, sizeof got, &len),
                     KV_E_ACCES);
    assert_int_equal(ask_ino(&user, MESSAGE_READ, secret_ino), KV_E_ACCES);
    assert_int_equal(ask_ino(&user, MESSAGE_READDIR, private_ino), KV_E_ACCES);
    assert_int_equal(caller_ask(&user, MESSAGE_LOOKUP, &inside, CALL_MS, NULL), KV_E_ACCES);
    assert_int_equal(caller_ask(&user, MESSAGE_NAMES, &names, CALL_MS, NULL), KV_E_ACCES);
    for (version = 1; version <= 2; version++) {
        assert_int_equal(ask_version(&user, KV_ROOT_INO, "secret", version), KV_E_ACCES);
        assert_int_equal(ask_version(&root, KV_ROOT_INO, "secret", version), 0);
    }
    assert_int_equal(ask_version(&user, private_ino, "inside", 1), KV_E_ACCES);
    assert_int_equal(set_xattr(&root, secret_ino), 0);
    assert_int_equal(set_xattr(&user, secret_ino), KV_E_ACCES);
    assert_int_equal(set_xattr(&user, public_ino), KV_E_ACCES);
    assert_int_equal(ask_ino(&root, MESSAGE_GETXATTR, secret_ino), 0);
    assert_int_equal(ask_ino(&user, MESSAGE_GETXATTR, secret_ino), KV_E_ACCES);
    assert_int_equal(ask_ino(&user, MESSAGE_GETXATTR, public_ino), KV_E_NOATTR);
    assert_int_equal(ask_ino(&user, MESSAGE_LISTXATTR, secret_ino), 0); /* as stat(2) */
    for (version = 1; version <= 2; version++) {
        assert_int_equal(ask_version_xattrs(&user, KV_ROOT_INO, "secret", version), KV_E_ACCES);
        assert_int_equal(ask_version_xattrs(&root, KV_ROOT_INO, "secret", version), 0);
    }
    assert_int_equal(ask_version_xattrs(&user, private_ino, "inside", 1), KV_E_ACCES);
    assert_int_equal(caller_ask(&user, MESSAGE_HISTORY, &history, CALL_MS, NULL), KV_E_ACCES);
    assert_int_equal(open_inode(&user, secret_ino, OPEN_READ), KV_E_ACCES);
    assert_int_equal(open_inode(&user, public_ino, OPEN_READ | OPEN_WRITE), KV_E_ACCES);
}

/* A secret that was once readable, or whose name is gone, or was removed and the
 * name taken again by something readable. */
static void old_versions_are_as_secret_as_they_were_or_are(void **state)
{
    struct command_result result;
    const char *const keys[] = {"closed", "gone", "again"};
    unsigned i;

    (void)state;
    needed(unavailable);
    make(&root, "closed", "one", 0644);
    make(&root, "closed", "two", 0600);
    for (i = 1; i < 3; i++) {
        const struct command_body del = {.path = (const uint8_t *)keys[i], .path_len = strlen(keys[i])};

        make(&root, keys[i], "one", 0600);
        assert_int_equal(caller_write(&root, COMMAND_DEL, &del, CALL_MS, &result), 0);
    }
    make(&root, "again", "two", 0644);
    for (i = 0; i < 3; i++) {
        assert_int_equal(ask_version(&root, KV_ROOT_INO, keys[i], 1), 0);
        assert_int_equal(ask_version(&user, KV_ROOT_INO, keys[i], 1), KV_E_ACCES);
    }
}

static void he_writes_only_what_he_may(void **state)
{
    struct forged f = {.session = user.session, .seq = 1000, .acked_below = 1000};
    struct command_body body;
    struct command_result result;
    struct buffer b;

    (void)state;
    needed(unavailable);
    body = set_body("public", "his");
    assert_int_equal(forge(&user, &f, COMMAND_SET, &body), KV_E_ACCES);
    f.seq++;
    f.flags = COMMAND_TRUSTED;
    assert_int_equal(forge(&user, &f, COMMAND_SET, &body), KV_E_ACCES);
    f.seq++;
    f.flags = 0;
    f.has_owner = 1;
    f.uid = 0;
    assert_int_equal(forge(&user, &f, COMMAND_SET, &body), KV_E_PERM);
    f.has_owner = 0;
    body = (struct command_body){
        .name = (const uint8_t *)"max_keys", .name_len = 8, .value = (const uint8_t *)"1", .value_len = 1};
    f.seq++;
    assert_int_equal(forge(&user, &f, COMMAND_SETTING, &body), KV_E_PERM);
    /* Publishing without having opened; opened for reading; closed again. */
    b = publish_bytes(public_ino, 10);
    f.seq++;
    assert_int_equal(forge_bytes(&user, &f, COMMAND_PUBLISH, b.data, b.len, &result), KV_E_ACCES);
    assert_int_equal(open_inode(&user, public_ino, OPEN_READ), 0);
    f.seq++;
    assert_int_equal(forge_bytes(&user, &f, COMMAND_PUBLISH, b.data, b.len, &result), KV_E_ACCES);
    buffer_deinit(&b);
    assert_value("public", "public");
    user.seq = f.seq;
}

static int part(struct caller *c, const struct forged *f, const struct buffer *whole, uint32_t number,
                size_t at, size_t len)
{
    struct buffer b = BUFFER_INIT;
    struct command_result result;
    int rv;

    command_body_encode(&b, COMMAND_PART,
                        &(struct command_body){.part = number, .value = whole->data + at, .value_len = len});
    rv = forge_bytes(c, f, COMMAND_PART, b.data, b.len, &result);
    buffer_deinit(&b);
    return rv;
}

/* The inode of a large publication stands in its first part. */
/* The command itself, with its number of parts, the inode if it has it open, and its last piece. */
static int last_piece(const struct forged *f, uint32_t n_parts, const uint8_t *bytes, size_t len,
                      struct command_result *result_out)
{
    struct buffer b = BUFFER_INIT;
    int rv;

    command_last_piece_encode(&b, n_parts, (f->flags & COMMAND_OPENED) != 0 ? f->opened : 0, bytes, len);
    rv = forge_bytes(&user, f, COMMAND_PUBLISH, b.data, b.len, result_out);
    buffer_deinit(&b);
    return rv;
}

static void large_publications_cannot_be_swapped_under_way(void **state)
{
    struct forged f = {.session = user.session, .seq = 2000, .acked_below = 1};
    struct buffer own = publish_bytes(own_ino, 1000), other = publish_bytes(public_ino, 1000);
    struct command_result result;
    struct caller second;

    (void)state;
    needed(unavailable);
    connect_as_user(&second);
    assert_int_equal(caller_register(&second, CALL_MS), 0);
    assert_int_equal(open_inode(&user, own_ino, OPEN_WRITE), 0);
    f.flags = COMMAND_PARTS;
    /* Parts of the one under this session, of the other under another. */
    assert_int_equal(part(&user, &(struct forged){.session = user.session, .seq = 2000, .acked_below = 1},
                          &other, 0, 0, 500),
                     0);
    assert_int_equal(part(&user, &(struct forged){.session = second.session, .seq = 2000, .acked_below = 1},
                          &own, 0, 0, 500),
                     0);
    assert_int_equal(last_piece(&f, 1, other.data + 500, other.len - 500, &result), KV_E_ACCES);
    /* Another connection cannot replace the first part: this goes to the own file. */
    f.seq = 2001;
    assert_int_equal(part(&user, &(struct forged){.session = user.session, .seq = 2001, .acked_below = 1},
                          &own, 0, 0, 500),
                     0);
    assert_int_equal(part(&second, &(struct forged){.session = user.session, .seq = 2001, .acked_below = 1},
                          &other, 0, 0, 500),
                     0);
    assert_int_equal(last_piece(&f, 1, other.data + 500, other.len - 500, &result), KV_OK);
    /* A first part that ends within the number. */
    f.seq = 2002;
    assert_int_equal(part(&user, &(struct forged){.session = user.session, .seq = 2002, .acked_below = 1},
                          &other, 0, 0, 3),
                     0);
    assert_int_equal(part(&user, &(struct forged){.session = user.session, .seq = 2002, .acked_below = 1},
                          &other, 1, 3, 500),
                     0);
    assert_int_equal(last_piece(&f, 2, other.data + 503, other.len - 503, &result), KV_E_ACCES);
    assert_value("public", "public");
    /* And what is allowed works. */
    f.seq = 2003;
    assert_int_equal(part(&user, &(struct forged){.session = user.session, .seq = 2003, .acked_below = 1},
                          &own, 0, 0, 500),
                     0);
    assert_int_equal(last_piece(&f, 1, own.data + 500, own.len - 500, &result), 0);
    user.seq = f.seq;
    caller_deinit(&second);
    buffer_deinit(&own);
    buffer_deinit(&other);
}

static int publish_named(struct forged *f, const struct buffer *whole, uint64_t opened)
{
    struct command_result result;
    int rv;

    f->seq++;
    f->flags = 0;
    assert_int_equal(part(&user, f, whole, 0, 0, 500), 0);
    f->flags = COMMAND_PARTS | COMMAND_OPENED;
    f->opened = opened;
    rv = last_piece(f, 1, whole->data + 500, whole->len - 500, &result);
    user.seq = f->seq;
    return rv;
}

/* What is said to be open is, and is what the parts are for. */
static void large_publications_go_through_a_handle(void **state)
{
    struct forged f = {.session = user.session, .seq = 2100, .acked_below = 1};
    struct buffer own = publish_bytes(own_ino, 1000), other = publish_bytes(public_ino, 1000);

    (void)state;
    needed(unavailable);
    assert_int_equal(open_inode(&user, own_ino, OPEN_WRITE), 0);
    assert_int_equal(publish_named(&f, &other, public_ino), KV_E_ACCES); /* open to read only */
    assert_int_equal(publish_named(&f, &other, own_ino), KV_E_ACCES);
    assert_int_equal(publish_named(&f, &own, public_ino), KV_E_ACCES);
    assert_value("public", "public");
    assert_int_equal(publish_named(&f, &own, own_ino), KV_OK);
    buffer_deinit(&own);
    buffer_deinit(&other);
}

/* Numbers of sessions are easy to guess. */
static void sessions_of_others_are_out_of_reach(void **state)
{
    struct command_result result;
    struct command_body body = set_body("own", "mine");
    uint64_t s;

    (void)state;
    needed(unavailable);
    /* The node's own and root's are among these. */
    assert_int_equal(run_kvnode(cluster, 0, 5000, NULL, 0, (const char *const[]){"set", "cli", "1", NULL}),
                     0);
    for (s = 1; s < 64; s++) {
        struct forged f = {.session = s, .seq = root.seq + 1, .acked_below = root.seq + 1};

        if (s == user.session)
            continue;
        assert_int_not_equal(forge(&user, &f, COMMAND_SET, &body), 0);
        f.acked_below = UINT64_MAX;
        f.seq = UINT64_MAX;
        assert_int_not_equal(forge(&user, &f, COMMAND_SET, &body), 0);
        assert_int_not_equal(forge(&user, &f, COMMAND_END, &body), 0);
    }
    assert_int_equal(caller_set(&root, "public", "public", 6, CALL_MS, &result), 0);
    assert_int_equal(run_kvnode(cluster, 0, 5000, NULL, 0, (const char *const[]){"set", "cli", "2", NULL}),
                     0);
    assert_value("own", "own");
}

static struct held_answer ask_held(struct caller *c, uint64_t ino, uint64_t session)
{
    const union request_body request = {.held = {.at = READ_LINEARIZABLE, .ino = ino, .session = session}};
    union answer_body answer;

    assert_int_equal(caller_ask(c, MESSAGE_HELD, &request, CALL_MS, &answer), 0);
    return answer.held;
}

/* Who holds a lock that he sees, and where; not who has which session, nor names that he could not list. */
static void of_locks_he_learns_who_holds_them(void **state)
{
    struct command_result result;
    struct command_body body = {.kind = LOCK_OF_FLOCK, .flags = LOCK_FLAG_EXCLUSIVE, .owner = 1};
    uint64_t unlisted;

    (void)state;
    needed(unavailable);
    unlisted = make(&root, "unlisted/hidden", "x", 0644);
    chmod_ino(ino_of("unlisted"), 0711);
    assert_int_equal(ask_held(&user, public_ino, root.session).client.len, 0);
    body.ino = public_ino;
    assert_int_equal(caller_write(&root, COMMAND_LOCK, &body, CALL_MS, &result), 0);
    assert_true(ask_held(&user, public_ino, root.session).client.len > 0);
    assert_int_equal(ask_held(&user, public_ino, root.session).path.len, strlen("public"));
    assert_int_equal(ask_held(&user, unlisted, root.session).client.len, 0);
    assert_int_equal(ask_held(&user, unlisted, root.session).path.len, 0);
    assert_int_equal(ask_held(&root, unlisted, root.session).path.len, strlen("unlisted/hidden"));
    body.end = UINT64_MAX >> 1;
    assert_int_equal(caller_write(&root, COMMAND_UNLOCK, &body, CALL_MS, &result), 0);
}

static void numbers_lead_no_further_than_paths(void **state)
{
    struct command_result result;
    struct command_body body;
    uint64_t file, dir, held, lobby;

    (void)state;
    needed(unavailable);
    file = make(&root, "private/open/file", "hidden", 0666);
    dir = ino_of("private/open");
    chmod_ino(dir, 0777);
    assert_int_equal(ask_ino(&user, MESSAGE_GETATTR, file), KV_E_ACCES);
    assert_int_equal(ask_ino(&user, MESSAGE_READ, file), KV_E_ACCES);
    assert_int_equal(ask_ino(&user, MESSAGE_READLINK, file), KV_E_ACCES);
    assert_int_equal(ask_ino(&user, MESSAGE_GETXATTR, file), KV_E_ACCES);
    assert_int_equal(ask_ino(&user, MESSAGE_LISTXATTR, file), KV_E_ACCES);
    assert_int_equal(set_xattr(&user, file), KV_E_ACCES);
    assert_int_equal(ask_ino(&user, MESSAGE_GETATTR, dir), KV_E_ACCES);
    assert_int_equal(ask_ino(&user, MESSAGE_READDIR, dir), KV_E_ACCES);
    assert_int_equal(open_inode(&user, file, OPEN_READ), KV_E_ACCES);
    body =
        (struct command_body){.parent = dir, .name = (const uint8_t *)"planted", .name_len = 7, .mode = 0644};
    assert_int_equal(caller_write(&user, COMMAND_CREATE, &body, CALL_MS, &result), KV_E_ACCES);
    body = (struct command_body){.ino = file, .valid = SETATTR_MTIME_NOW};
    assert_int_equal(caller_write(&user, COMMAND_SETATTR, &body, CALL_MS, &result), KV_E_ACCES);
    /* What was opened in time stays open, on that connection. */
    held = make(&root, "lobby/held", "held", 0666);
    lobby = ino_of("lobby");
    assert_int_equal(open_inode(&user, held, OPEN_READ), 0);
    chmod_ino(lobby, 0700);
    assert_int_equal(ask_ino(&user, MESSAGE_READ, held), 0);
    assert_int_equal(ask_ino(&user, MESSAGE_GETATTR, held), 0);
    assert_int_equal(caller_write(&user, COMMAND_SETATTR,
                                  &(struct command_body){.ino = held, .valid = SETATTR_MTIME_NOW}, CALL_MS,
                                  &result),
                     0);
    {
        struct caller second;

        connect_as_user(&second);
        assert_int_equal(ask_ino(&second, MESSAGE_READ, held), KV_E_ACCES);
        caller_deinit(&second);
    }
}

static bool mentions(const uint8_t *text, size_t len, const char *word)
{
    return memmem(text, len, word, strlen(word)) != NULL;
}

/* The log in pages of three rows; how many rows say the word. */
static unsigned log_mentions(struct caller *c, const char *word)
{
    uint8_t at[LOG_CURSOR_MAX];
    union request_body request = {.log = {.n = 3, .has_cursor = true}};
    union answer_body answer;
    unsigned n = 0;

    do {
        struct cursor rows;
        uint32_t i;

        assert_int_equal(caller_ask(c, MESSAGE_LOG, &request, CALL_MS, &answer), 0);
        rows = rows_cursor(&answer.log.rows);
        for (i = 0; i < answer.log.rows.count; i++) {
            struct log_row r;

            log_row_decode(&rows, &r);
            n += mentions(r.key, r.key_len, word) || mentions(r.from, r.from_len, word);
        }
        assert_int_equal(answer.log.gap_after, 0); /* nothing is gone */
        assert_int_equal(answer.log.gap_until, 0);
        memcpy(at, answer.log.cursor.data, answer.log.cursor.len);
        request.log.cursor = bytes_of(at, answer.log.cursor.len);
    } while (answer.log.more != 0);
    return n;
}

static void the_log_tells_him_what_he_could_list(void **state)
{
    struct command_result result;
    struct command_body body = {.parent = private_ino,
                                .name = (const uint8_t *)"inside-moved",
                                .name_len = 12,
                                .new_parent = KV_ROOT_INO,
                                .new_name = (const uint8_t *)"outside",
                                .new_name_len = 7};

    (void)state;
    needed(unavailable);
    make(&root, "private/inside-moved", "x", 0644);
    assert_int_equal(caller_write(&root, COMMAND_RENAME, &body, CALL_MS, &result), 0);
    assert_true(log_mentions(&root, "inside") > 2);
    assert_int_equal(log_mentions(&user, "inside"), 0);
    assert_int_equal(log_mentions(&user, "private/"), 0);
    assert_true(log_mentions(&user, "outside") > 0);
    assert_true(log_mentions(&user, "public") > 0);
}

/* The next event about ino, after which a write to key comes. */
static void next_event(struct caller *c, uint64_t ino, struct event *e_out)
{
    struct frame frame;

    do {
        struct cursor in;

        assert_int_equal(client_wait(c->client, CALL_MS, &frame), 1);
        assert_int_equal(frame.type, MESSAGE_EVENT);
        in = cursor_of(frame.payload, frame.len);
        assert_int_equal(event_decode(&in, e_out), KV_OK);
    } while (e_out->ino != ino);
}

static void events_tell_him_no_more_than_that_something_changed(void **state)
{
    struct command_result result;
    struct caller watcher;
    union request_body request;
    struct event e;
    uint64_t hidden;

    (void)state;
    needed(unavailable);
    hidden = make(&root, "private/changing", "one", 0644);
    connect_as_user(&watcher);
    request.subscribe.after = watcher.node.applied;
    assert_int_equal(caller_ask(&watcher, MESSAGE_SUBSCRIBE, &request, CALL_MS, NULL), 0);
    assert_int_equal(caller_set(&root, "private/changing", "two", 3, CALL_MS, &result), 0);
    next_event(&watcher, hidden, &e);
    assert_int_equal(e.kind, EVENT_CONTENT);
    assert_int_equal(e.name_len, 0);
    assert_int_equal(e.attr.type, 0);
    assert_int_equal(e.attr.size, 0);
    assert_int_equal(caller_set(&root, "public", "public", 6, CALL_MS, &result), 0);
    assert_int_equal(caller_set(&root, "public", "PUBLIC", 6, CALL_MS, &result), 0);
    next_event(&watcher, public_ino, &e);
    assert_int_equal(e.name_len, 6);
    assert_int_equal(e.attr.size, 6);
    assert_int_equal(caller_set(&root, "public", "public", 6, CALL_MS, &result), 0);
    caller_deinit(&watcher);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(he_reads_no_secret),
        cmocka_unit_test(old_versions_are_as_secret_as_they_were_or_are),
        cmocka_unit_test(numbers_lead_no_further_than_paths),
        cmocka_unit_test(the_log_tells_him_what_he_could_list),
        cmocka_unit_test(events_tell_him_no_more_than_that_something_changed),
        cmocka_unit_test(sessions_of_others_are_out_of_reach),
        cmocka_unit_test(of_locks_he_learns_who_holds_them),
        cmocka_unit_test(he_writes_only_what_he_may),
        cmocka_unit_test(large_publications_cannot_be_swapped_under_way),
        cmocka_unit_test(large_publications_go_through_a_handle),
    };

    cmocka_set_test_filter(getenv("KVFS_FAULT_ONLY"));
    return cmocka_run_group_tests(tests, setup, teardown);
}
