/* A user who takes as much as he can get of everything that all share: he meets his
 * bound, hears which one it is, and root writes, connects and restarts the node
 * meanwhile. And root who does, and the node that has to go on. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "tests/fault/lib/caller.h"
#include "tests/fault/lib/needed.h"

#define USER 12345
#define CALL_MS 8000
#define CLIENTS 300

static struct cluster *cluster;
static struct client *client; /* the user's */
static struct client_node node;
static uint64_t last_id;
static char detail[256];
static const char *unavailable;
static unsigned user_at; /* the node that he is connected to */

static int connect_user(struct client **client_out)
{
    int rv;

    assert_int_equal(setegid(USER), 0);
    assert_int_equal(seteuid(USER), 0);
    rv = client_open(cluster->nodes[user_at].socket, CLIENT_ADMIN, "greedy", 0, CALL_MS, client_out, &node);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(setegid(0), 0);
    return rv;
}

static int setup(void **state)
{
    const struct cluster_options options = {.n = 1, .flags = {"node.socket_mode=0666"}};

    (void)state;
    if (geteuid() != 0) {
        unavailable = "needs root, to be another user";
        return 0;
    }
    cluster = cluster_new(&options, &unavailable);
    if (cluster == NULL)
        return unavailable != NULL ? 0 : -1;
    chmod(cluster->dir, 0711);
    assert_int_equal(connect_user(&client), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (cluster == NULL)
        return 0;
    client_close(client);
    return cluster_free(cluster) ? 0 : -1;
}

static int ask(enum message_type type, const union request_body *body, union answer_body *answer_out)
{
    struct cursor in;
    int rv;

    client_ask(client, type, ++last_id, body);
    detail[0] = '\0';
    rv = client_call(client, last_id, CALL_MS, &in, detail, sizeof detail);
    if (rv == 0)
        assert_true(body_decode_answer((uint8_t)type, &in, answer_out));
    return rv;
}

static int write_raw(enum command_op op, uint64_t session, uint64_t seq, const struct command_body *body,
                     struct command_result *result_out)
{
    struct command cmd = {.op = (uint8_t)op, .session = session, .seq = seq, .acked_below = 1, .node = ""};
    struct buffer b = BUFFER_INIT;
    union request_body request;
    union answer_body answer;
    int rv;

    command_encode(&b, &cmd);
    command_body_encode(&b, (uint8_t)op, body);
    request.write = (struct write_request){.command = bytes_of(b.data, b.len)};
    rv = ask(MESSAGE_WRITE, &request, &answer);
    buffer_deinit(&b);
    if (rv != 0)
        return rv;
    *result_out = answer.write;
    return result_out->code;
}

static int new_session(uint64_t *session_out)
{
    uint8_t nonce[16];
    struct command_body body = {.nonce = nonce, .name = (const uint8_t *)"greedy", .name_len = 6};
    struct command_result result = {0};
    int rv;

    assert_int_equal(getrandom(nonce, sizeof nonce, 0), sizeof nonce);
    rv = write_raw(COMMAND_REGISTER, 0, 0, &body, &result);
    *session_out = result.session;
    return rv;
}

static void end_session(uint64_t session, uint64_t seq)
{
    struct command_result result;

    assert_int_equal(write_raw(COMMAND_END, session, seq, &(struct command_body){0}, &result), 0);
}

/* Root's side works: the command line with the node's session, and a new session. */
static void assert_root_writes(const char *value)
{
    struct command_result result;
    struct caller root;

    assert_int_equal(run_kvnode(cluster, 0, 5000, NULL, 0, (const char *const[]){"set", "key", value, NULL}),
                     0);
    caller_init(&root, cluster, 0);
    assert_int_equal(caller_register(&root, CALL_MS), 0);
    assert_int_equal(caller_set(&root, "other", value, strlen(value), CALL_MS, &result), 0);
    caller_deinit(&root);
}

static void sessions(void **state)
{
    uint64_t first, session;
    unsigned n = 0;
    int rv;

    (void)state;
    needed(unavailable);
    while ((rv = new_session(n == 0 ? &first : &session)) == 0 && n < 11000)
        n++;
    assert_int_equal(rv, KV_E_BUSY);
    assert_int_equal(n, 1000);
    assert_non_null(strstr(detail, "sessions"));
    assert_root_writes("1");
    /* The node's own session is taken anew. */
    cluster_signal(cluster, 0, SIGTERM);
    client_close(client);
    assert_true(cluster_up(cluster));
    assert_root_writes("2");
    assert_int_equal(connect_user(&client), 0);
    end_session(first, 1);
    assert_int_equal(new_session(&session), 0);
    end_session(session, 1);
}

/* Asks as root until further notice. */
static void connect_root(void)
{
    client_close(client);
    assert_int_equal(
        client_open(cluster->nodes[0].socket, CLIENT_ADMIN, "greedy", 0, CALL_MS, &client, &node), 0);
}

/* The last test: there is no room for sessions after it. */
static void sessions_of_root(void **state)
{
    uint64_t session;
    unsigned n = 0;
    int rv;

    (void)state;
    needed(unavailable);
    connect_root();
    while ((rv = new_session(&session)) == 0 && n < 11000)
        n++;
    assert_int_equal(rv, KV_E_BUSY);
    assert_true(n > 8000 && n <= 9900);
    assert_non_null(strstr(detail, "9900; root has "));
    client_close(client);
    for (int i = 0; i < 3; i++) {
        cluster_signal(cluster, 0, i == 0 ? SIGTERM : SIGKILL);
        assert_true(cluster_up(cluster));
        assert_int_equal(
            run_kvnode(cluster, 0, 5000, NULL, 0, (const char *const[]){"set", "own", "value", NULL}), 0);
    }
    assert_int_equal(connect_user(&client), 0);
    assert_int_equal(new_session(&session), KV_E_BUSY);
}

static void unfinished_uploads(void **state)
{
    static uint8_t bytes[COMMAND_PART_SIZE];
    struct command_body part = {.value = bytes, .value_len = sizeof bytes};
    struct command_result result;
    uint64_t session, seq = 1;
    char path[200];
    FILE *file;
    int rv;

    (void)state;
    needed(unavailable);
    assert_int_equal(new_session(&session), 0);
    while ((rv = write_raw(COMMAND_PART, session, seq, &part, &result)) == 0 && seq < 3000)
        seq++;
    assert_int_equal(rv, KV_E_BUSY);
    assert_true(seq * sizeof bytes <= 128 << 20);
    assert_non_null(strstr(detail, "unfinished"));
    assert_root_writes("3");
    /* Root's values in parts, too. */
    snprintf(path, sizeof path, "%s/large", cluster->dir);
    file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < 8; i++)
        assert_int_equal(fwrite(bytes, sizeof bytes, 1, file), 1);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(
        run_program((const char *const[]){"sh", "-c", "exec \"$0\" -n \"$1\" set large - <\"$2\"",
                                          FAULT_KVNODE, cluster->nodes[0].socket, path, NULL},
                    5000, NULL, 0),
        0);
    end_session(session, seq);
}

/* ---- writes under way ---- */

static void queue_part(struct client *c, uint64_t id, uint64_t session, uint64_t seq)
{
    static uint8_t bytes[COMMAND_PART_SIZE];
    struct command_body part = {.value = bytes, .value_len = sizeof bytes};
    struct command cmd = {.op = COMMAND_PART, .session = session, .seq = seq, .acked_below = 1, .node = ""};
    struct buffer *b = client_queue(c, MESSAGE_WRITE, id);

    body_encode_request(b, MESSAGE_WRITE, NULL);
    command_encode(b, &cmd);
    command_body_encode(b, COMMAND_PART, &part);
    client_queue_end(c);
}

/* The next answer to a write: its code, and the text of a refusal in `detail`. */
static int next_answer(struct client *c)
{
    union answer_body answer;
    struct cursor body;
    struct frame frame;
    int rv = client_wait(c, 2 * CALL_MS, &frame); /* longer than a node takes to give up */

    if (rv != 1 && rv != 0)
        return rv;
    detail[0] = '\0';
    rv = client_answer(&frame, &body, detail, sizeof detail);
    if (rv != 0)
        return rv;
    assert_true(body_decode_answer(MESSAGE_WRITE, &body, &answer));
    return answer.write.code;
}

static bool is_flushed(void *arg)
{
    return client_flush(arg) == 0;
}

static void signal_others(struct cluster *c, unsigned leader, int sig)
{
    for (unsigned i = 0; i < c->n; i++)
        if (i != leader)
            cluster_signal(c, i, sig);
}

/* Nothing is committed while the others stand still, so all that is admitted is under way:
 * 64 MiB of one user's. What is more is refused at once, and root's goes in. */
static void writes_under_way(void **state)
{
    enum { SENT = 320, ADMITTED_MAX = (64 << 20) / COMMAND_PART_SIZE };
    const struct cluster_options options = {.n = 3, .flags = {"node.socket_mode=0666"}};
    struct cluster *single = cluster, *three;
    struct client *greedy = client, *own;
    struct client_node ignored;
    unsigned leader, refused = 0;
    uint64_t session, roots;

    (void)state;
    needed(unavailable);
    three = cluster_new(&options, &unavailable);
    needed(unavailable);
    assert_non_null(three);
    chmod(three->dir, 0711);
    leader = cluster_leader(three, CALL_MS);
    assert_true(leader < 3);
    cluster = three;
    user_at = leader;
    assert_int_equal(
        client_open(three->nodes[leader].socket, CLIENT_ADMIN, "root", 0, CALL_MS, &own, &ignored), 0);
    client = own;
    assert_int_equal(new_session(&roots), 0);
    assert_int_equal(connect_user(&client), 0);
    assert_int_equal(new_session(&session), 0);
    signal_others(three, leader, SIGSTOP);
    for (uint64_t i = 1; i <= SENT; i++)
        queue_part(client, last_id + i, session, i);
    for (; refused < SENT - ADMITTED_MAX; refused++) {
        assert_int_equal(next_answer(client), KV_E_BUSY);
        assert_non_null(strstr(detail, "this user has as many writes under way as one may have"));
    }
    queue_part(own, last_id, roots, 1);
    assert_true(await(CALL_MS, is_flushed, own));
    signal_others(three, leader, SIGCONT);
    assert_int_equal(next_answer(own), 0);
    /* Whatever becomes of the others: they are answered, and then there is room again. */
    for (unsigned rest = SENT - refused; rest > 0; rest--) {
        int rv = next_answer(client);

        assert_true(rv >= 0);
        refused += rv == KV_E_BUSY;
    }
    assert_true(refused <= SENT - ADMITTED_MAX + 8); /* what frames and bodies take besides */
    last_id += SENT;
    assert_int_equal(new_session(&session), 0);
    client_close(own);
    client_close(client);
    assert_true(cluster_free(three));
    cluster = single;
    client = greedy;
    user_at = 0;
}

static void connections(void **state)
{
    static struct client *all[CLIENTS];
    unsigned n = 0;
    int rv = 0;

    (void)state;
    needed(unavailable);
    while (n < CLIENTS && (rv = connect_user(&all[n])) == 0)
        n++;
    assert_int_equal(rv, KV_E_BUSY); /* an answer, not a closed socket */
    assert_int_equal(n, 239);
    assert_root_writes("4");
    assert_true(cluster_logged(cluster, 0, "240"));
    while (n-- > 0)
        client_close(all[n]);
}

static int open_inode(uint64_t ino)
{
    const union request_body request = {.open = {.at = READ_LINEARIZABLE, .ino = ino, .access = OPEN_READ}};
    union answer_body answer;

    return ask(MESSAGE_OPEN, &request, &answer);
}

static int read_inode(uint64_t ino)
{
    const union request_body request = {.read = {.at = READ_LOCAL, .ino = ino, .length = 16}};
    union answer_body answer;

    return ask(MESSAGE_READ, &request, &answer);
}

struct first_read {
    uint64_t ino;
    int rv;
};

static bool is_let_go(void *arg)
{
    struct first_read *r = arg;

    r->rv = read_inode(r->ino);
    return r->rv != 0;
}

/* Six removed files of 16 MiB are 96 MiB; 64 are his. */
static void removed_files_held_open(void **state)
{
    enum { FILES = 6, SIZE = 16 << 20 };
    uint8_t *bytes = calloc(1, SIZE);
    struct command_result result;
    struct first_read first;
    struct caller root;
    uint64_t inos[FILES];

    (void)state;
    needed(unavailable);
    caller_init(&root, cluster, 0);
    assert_int_equal(caller_register(&root, CALL_MS), 0);
    for (int i = 0; i < FILES; i++) {
        assert_int_equal(caller_set(&root, "held", bytes, SIZE, CALL_MS, &result), 0);
        inos[i] = result.attr.ino;
        assert_int_equal(open_inode(inos[i]), 0);
        assert_int_equal(caller_write(&root, COMMAND_DEL,
                                      &(struct command_body){.path = (const uint8_t *)"held", .path_len = 4},
                                      CALL_MS, &result),
                         0);
    }
    first = (struct first_read){.ino = inos[0]};
    assert_true(await(CALL_MS, is_let_go, &first));
    assert_int_equal(first.rv, KV_E_STALE);
    for (int i = 3; i < FILES; i++) /* what was removed last is still his */
        assert_int_equal(read_inode(inos[i]), 0);
    assert_true(cluster_logged(cluster, 0, "is let go of"));
    caller_deinit(&root);
    free(bytes);
}

/* A mount of root's, which asks in his name. */

static int open_as(struct caller *root, uint64_t ino, uint32_t uid)
{
    const union request_body request = {
        .open = {.at = READ_LOCAL, .ino = ino, .access = OPEN_READ, .has_uid = true, .uid = uid}};

    return caller_ask(root, MESSAGE_OPEN, &request, CALL_MS, NULL);
}

static int read_as_root(struct caller *root, uint64_t ino)
{
    const union request_body request = {.read = {.at = READ_LOCAL, .ino = ino, .length = 16}};

    return caller_ask(root, MESSAGE_READ, &request, CALL_MS, NULL);
}

struct shared_read {
    struct caller *root;
    uint64_t ino;
};

static bool is_gone_there(void *arg)
{
    struct shared_read *r = arg;

    return read_as_root(r->root, r->ino) == KV_E_STALE;
}

/* What one user of it holds is let go of before anything of another's or of root's. */
static void through_a_mount_for_all(void **state)
{
    enum { FILES = 7, SIZE = 16 << 20 };
    static const uint32_t uids[FILES] = {0, USER + 1, USER, USER, USER, USER, USER};
    uint8_t *bytes = calloc(1, SIZE);
    struct command_result result;
    struct shared_read first;
    struct caller root;
    uint64_t inos[FILES];

    (void)state;
    needed(unavailable);
    client_close(client); /* what he held of his own has ended */
    assert_int_equal(connect_user(&client), 0);
    caller_init(&root, cluster, 0);
    assert_int_equal(caller_register(&root, CALL_MS), 0);
    for (int i = 0; i < FILES; i++) {
        assert_int_equal(caller_set(&root, "held", bytes, SIZE, CALL_MS, &result), 0);
        inos[i] = result.attr.ino;
        assert_int_equal(open_as(&root, inos[i], uids[i]), 0);
        assert_int_equal(caller_write(&root, COMMAND_DEL,
                                      &(struct command_body){.path = (const uint8_t *)"held", .path_len = 4},
                                      CALL_MS, &result),
                         0);
    }
    first = (struct shared_read){&root, inos[2]};
    assert_true(await(CALL_MS, is_gone_there, &first));
    for (int i = 0; i < FILES; i++) {
        if (i < 2 || i > 4)
            assert_int_equal(read_as_root(&root, inos[i]), 0);
    }
    caller_deinit(&root);
    free(bytes);
}

/* ---- the process's descriptors ---- */

static unsigned count_descriptors(pid_t pid)
{
    char path[64];
    unsigned n = 0;
    DIR *dir;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n - 2;
}

/* Of its time on a processor. */
static uint64_t used_ms(pid_t pid)
{
    unsigned long user = 0, system = 0;
    char path[64], text[1024];
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    assert_int_equal(
        sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system),
        2);
    return (user + system) * 1000 / (unsigned long)sysconf(_SC_CLK_TCK);
}

static int connect_raw(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", cluster->nodes[0].socket);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    return fd;
}

static bool says_so(void *arg)
{
    (void)arg;
    return cluster_logged(cluster, 0, "a client cannot be accepted now");
}

/* Who waits to be accepted keeps the socket readable: the node does not turn round it. It
 * goes on for those it has, and takes the others when it can. */
static void no_descriptor_for_one_more(void **state)
{
    enum { WAITING = 20, WATCHED_MS = 2000 };
    pid_t pid;
    struct command_result result;
    struct rlimit before, none;
    struct caller root;
    int waiting[WAITING], i;
    uint64_t used, end;

    (void)state;
    needed(unavailable);
    caller_init(&root, cluster, 0);
    assert_int_equal(caller_register(&root, CALL_MS), 0);
    pid = cluster->nodes[0].pid;
    assert_int_equal(prlimit(pid, RLIMIT_NOFILE, NULL, &before), 0);
    none = (struct rlimit){.rlim_cur = count_descriptors(pid), .rlim_max = before.rlim_max};
    assert_int_equal(prlimit(pid, RLIMIT_NOFILE, &none, NULL), 0);
    for (i = 0; i < WAITING; i++)
        waiting[i] = connect_raw();
    assert_true(await(CALL_MS, says_so, NULL));
    end = clock_boot_ms() + WATCHED_MS;
    for (i = 0; clock_boot_ms() < end; i++)
        assert_int_equal(caller_set(&root, "one", &i, sizeof i, CALL_MS, &result), 0);
    end = clock_boot_ms() + WATCHED_MS;
    used = used_ms(pid); /* without work from now on */
    while (clock_boot_ms() < end)
        usleep(50000);
    used = used_ms(pid) - used;
    printf("# %d writes meanwhile; then %llu ms of a processor in %d ms\n", i, (unsigned long long)used,
           WATCHED_MS);
    assert_true(used < WATCHED_MS / 4);
    assert_int_equal(prlimit(pid, RLIMIT_NOFILE, &before, NULL), 0);
    assert_root_writes("5");
    for (i = 0; i < WAITING; i++)
        close(waiting[i]);
    caller_deinit(&root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions),
        cmocka_unit_test(unfinished_uploads),
        cmocka_unit_test(writes_under_way),
        cmocka_unit_test(connections),
        cmocka_unit_test(removed_files_held_open),
        cmocka_unit_test(through_a_mount_for_all),
        cmocka_unit_test(no_descriptor_for_one_more),
        cmocka_unit_test(sessions_of_root),
    };

    cmocka_set_test_filter(getenv("KVFS_FAULT_ONLY"));
    return cmocka_run_group_tests(tests, setup, teardown);
}
