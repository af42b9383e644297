/* Links through a real sshd on loopback: what works, what is refused and in which
 * words, and coming back after each way of losing the connection. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "sync/base/buffer.h"
#include "sync/base/clock.h"
#include "sync/ssh/doctor.h"
#include "sync/ssh/identity.h"
#include "sync/ssh/process.h"
#include "tests/unit/ssh/fixture.h"

static int setup(void **state)
{
    *state = fixture_new(NULL);
    return 0;
}

static int teardown(void **state)
{
    fixture_free(*state);
    return 0;
}

static void echo(int fd)
{
    char reply[5];

    write_all(fd, "hello", 5);
    read_exactly(fd, reply, 5);
    assert_memory_equal(reply, "hello", 5);
}

static void fingerprint(const char *key_path, char out[static IDENTITY_FINGERPRINT_MAX])
{
    char key[IDENTITY_PUBLIC_MAX];

    assert_int_equal(identity_read_public(key_path, key), 0);
    assert_int_equal(identity_fingerprint(key, out), 0);
}

static void carries_a_stream_and_names_the_peer(void **state)
{
    struct fixture *f = *state;
    struct ssh_link *link = fixture_link(f);
    int fd = fixture_expect_connected(f);

    echo(fd);
    assert_string_equal(f->node.peer, "n1");
    ssh_link_stop(link);
    assert_int_equal(read_to_end(fd), 0);
    close(fd);
    node_expect_ended(&f->node, 1);
}

static void delivers_what_was_written_before_the_closing(void **state)
{
    struct fixture *f = *state;
    struct ssh_link *link = fixture_link(f);
    int fd = fixture_expect_connected(f);
    static char data[100000];

    node_expect_accepted(&f->node, 1);
    write_all(fd, data, sizeof data);
    close(fd);
    node_expect_ended(&f->node, 1);
    assert_int_equal(node_read(&f->node), sizeof data);
    /* And dials again, without calling that a failure. */
    fd = fixture_expect_connected(f);
    echo(fd);
    assert_int_equal(f->n_failures[SSH_FAILED_REMOTE_ENDED] + f->n_failures[SSH_FAILED_LOST], 0);
    close(fd);
    ssh_link_stop(link);
}

static void passes_a_half_close_on_and_reads_the_rest(void **state)
{
    struct fixture *f = *state;
    struct ssh_link *link = fixture_link(f);
    int fd = fixture_expect_connected(f);
    static char data[50000];

    write_all(fd, data, sizeof data);
    shutdown(fd, SHUT_WR);
    assert_int_equal(read_to_end(fd), sizeof data);
    close(fd);
    ssh_link_stop(link);
}

static void refuses_a_key_that_the_peer_does_not_know(void **state)
{
    struct fixture *f = *state;
    struct ssh_link_config config = fixture_link_config(f);
    char print[IDENTITY_FINGERPRINT_MAX];
    struct ssh_link *link;
    const char *message;

    config.private_key_path = f->other_key;
    link = fixture_link_with(f, &config);
    message = fixture_expect_failure(f, SSH_FAILED_KEY_REFUSED, 1);
    fingerprint(f->other_key, print);
    assert_non_null(strstr(message, "n2 at 127.0.0.1 port "));
    assert_non_null(strstr(message, "our key was refused"));
    assert_non_null(strstr(message, print));
    assert_int_equal(f->n_connected, 0);
    ssh_link_stop(link);
}

static void lets_a_key_in_as_soon_as_it_is_listed(void **state)
{
    struct fixture *f = *state;
    struct ssh_link_config config = fixture_link_config(f);
    struct ssh_link *link;
    int fd;

    config.private_key_path = f->other_key;
    config.backoff_max_ms = 200;
    link = fixture_link_with(f, &config);
    fixture_expect_failure(f, SSH_FAILED_KEY_REFUSED, 1);
    fixture_authorize(f, f->other_key);
    fd = fixture_expect_connected(f);
    echo(fd);
    close(fd);
    ssh_link_stop(link);
}

static void refuses_another_host_key_than_the_pinned_one(void **state)
{
    struct fixture *f = *state;
    char seen[IDENTITY_FINGERPRINT_MAX], pinned[IDENTITY_FINGERPRINT_MAX];
    struct ssh_link *link;
    const char *message;

    fixture_pin(f, f->other_key);
    link = fixture_link(f);
    message = fixture_expect_failure(f, SSH_FAILED_HOST_KEY_CHANGED, 1);
    fingerprint(f->host_key, seen);
    fingerprint(f->other_key, pinned);
    assert_non_null(strstr(message, seen));
    assert_non_null(strstr(message, pinned));
    assert_non_null(strstr(message, f->known_hosts));
    assert_int_equal(f->n_connected, 0);
    ssh_link_stop(link);
}

static void refuses_a_host_without_a_pin(void **state)
{
    struct fixture *f = *state;
    struct ssh_link *link;

    fixture_pin(f, NULL);
    link = fixture_link(f);
    assert_non_null(strstr(fixture_expect_failure(f, SSH_FAILED_HOST_KEY_UNKNOWN, 1),
                           "host key unknown: it shows SHA256:"));
    assert_int_equal(f->n_connected, 0);
    ssh_link_stop(link);
}

static void tells_that_the_pins_cannot_be_read(void **state)
{
    struct fixture *f = *state;
    struct ssh_link *link;

    unlink(f->known_hosts);
    link = fixture_link(f);
    assert_non_null(strstr(fixture_expect_failure(f, SSH_FAILED_OWN_KEY, 1), f->known_hosts));
    ssh_link_stop(link);
}

static void tells_that_our_key_cannot_be_read(void **state)
{
    struct fixture *f = *state;
    struct ssh_link *link;

    unlink(f->client_key);
    link = fixture_link(f);
    assert_non_null(strstr(fixture_expect_failure(f, SSH_FAILED_OWN_KEY, 1), "No such file"));
    ssh_link_stop(link);
}

static void tells_that_nothing_listens(void **state)
{
    struct fixture *f = *state;
    struct ssh_link_config config = fixture_link_config(f);
    struct ssh_link *link;

    config.port = free_port();
    link = fixture_link_with(f, &config);
    assert_non_null(strstr(fixture_expect_failure(f, SSH_FAILED_REFUSED, 3), "connection refused"));
    ssh_link_stop(link);
}

static void tells_that_a_name_has_no_address(void **state)
{
    struct fixture *f = *state;
    struct ssh_link_config config = fixture_link_config(f);
    struct ssh_link *link;

    config.host = "no-such-host.invalid";
    config.connect_timeout_ms = 3000;
    link = fixture_link_with(f, &config);
    fixture_expect_failure(f, SSH_FAILED_RESOLVE, 1);
    ssh_link_stop(link);
}

static void tells_that_the_peers_node_is_down(void **state)
{
    struct fixture *f = *state;
    struct ssh_link *link;
    const char *message;

    unlink(f->socket);
    link = fixture_link(f);
    message = fixture_expect_failure(f, SSH_FAILED_REMOTE_ENDED, 1);
    assert_non_null(strstr(message, "ended with status 1: kvnode bridge: the node does not answer"));
    ssh_link_stop(link);
}

static void gives_up_on_an_sshd_that_stands_still(void **state)
{
    struct fixture *f = *state;
    struct ssh_link_config config = fixture_link_config(f);
    struct ssh_link *link;
    int fd;

    config.connect_timeout_ms = 1000;
    config.backoff_max_ms = 100;
    /* Once through, so that it surely listens. */
    link = fixture_link(f);
    close(fixture_expect_connected(f));
    ssh_link_stop(link);
    while (f->n_taken < f->n_connected)
        close(fixture_expect_connected(f));
    kill(sshd_pid(f->sshd), SIGSTOP);
    link = fixture_link_with(f, &config);
    assert_non_null(strstr(fixture_expect_failure(f, SSH_FAILED_TIMEOUT, 1), "while exchanging keys"));
    ssh_link_stop(link);
    config.connect_timeout_ms = 0;
    link = fixture_link_with(f, &config);
    kill(sshd_pid(f->sshd), SIGCONT);
    fd = fixture_expect_connected(f);
    echo(fd);
    close(fd);
    ssh_link_stop(link);
}

/* A listener that never accepts; with its queue full, connecting hangs too. */
static int dead_listener(uint16_t *port_out, int *fillers, int n_fillers)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t size = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &size), 0);
    *port_out = ntohs(a.sin_port);
    for (int i = 0; i < n_fillers; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        connect(fillers[i], (struct sockaddr *)&a, sizeof a);
    }
    return fd;
}

static void gives_up_on_a_host_that_does_not_answer(void **state)
{
    struct fixture *f = *state;
    struct ssh_link_config config = fixture_link_config(f);
    struct ssh_link *link;
    int fillers[4], fd = dead_listener(&config.port, fillers, 4);

    config.connect_timeout_ms = 300;
    link = fixture_link_with(f, &config);
    fixture_expect_failure(f, SSH_FAILED_TIMEOUT, 1);
    ssh_link_stop(link);
    for (int i = 0; i < 4; i++)
        close(fillers[i]);
    close(fd);
}

static void stops_within_moments_in_every_state(void **state)
{
    struct fixture *f = *state;
    struct ssh_link_config config = fixture_link_config(f);
    int fillers[4], fd = dead_listener(&config.port, fillers, 4), silent_fd;
    uint16_t ports[3] = {config.port};
    uint64_t start;

    silent_fd = dead_listener(&ports[1], NULL, 0); /* connects, then silence */
    ports[2] = free_port();                        /* refused: in its delay */
    config.connect_timeout_ms = 60000;
    config.backoff_min_ms = 60000;
    for (int i = 0; i < 3; i++) {
        struct ssh_link *link;

        config.port = ports[i];
        link = fixture_link_with(f, &config);
        if (i == 2)
            fixture_expect_failure(f, SSH_FAILED_REFUSED, 1);
        else
            poll(NULL, 0, 50); /* nothing can be observed of a connect that hangs */
        start = clock_boot_ms();
        ssh_link_stop(link);
        assert_true(clock_boot_ms() - start < 5000);
    }
    /* At random moments of connecting. */
    config.port = f->port;
    for (int i = 0; i < 20; i++) {
        struct ssh_link *link = fixture_link_with(f, &config);

        poll(NULL, 0, i * 7);
        ssh_link_stop(link);
    }
    for (int i = 0; i < 4; i++)
        close(fillers[i]);
    close(silent_fd);
    close(fd);
}

static void comes_back_after_its_session_was_killed(void **state)
{
    struct fixture *f = *state;
    struct ssh_link *link = fixture_link(f);
    int fd = fixture_expect_connected(f);

    echo(fd);
    assert_true(fixture_kill_sessions(f) > 0);
    assert_int_equal(read_to_end(fd), 0);
    close(fd);
    assert_non_null(strstr(fixture_expect_failure(f, SSH_FAILED_LOST, 1), "the connection broke"));
    fd = fixture_expect_connected(f);
    echo(fd);
    close(fd);
    ssh_link_stop(link);
}

/* The node holds the stream, but sshd ends the session with its command. */
static void comes_back_after_its_bridge_was_killed(void **state)
{
    struct fixture *f = *state;
    struct ssh_link *link = fixture_link(f);
    int fd = fixture_expect_connected(f);

    echo(fd);
    node_kill_bridge(&f->node);
    node_expect_ended(&f->node, 1);
    assert_int_equal(read_to_end(fd), 0);
    close(fd);
    fd = fixture_expect_connected(f);
    echo(fd);
    close(fd);
    ssh_link_stop(link);
}

static void comes_back_after_sshd_was_restarted(void **state)
{
    struct fixture *f = *state;
    struct ssh_link_config config = fixture_link_config(f);
    struct ssh_link *link;
    int fd;

    config.backoff_max_ms = 200;
    link = fixture_link_with(f, &config);
    fd = fixture_expect_connected(f);
    echo(fd);
    fixture_kill_sessions(f);
    fixture_kill_sshd(f);
    assert_int_equal(read_to_end(fd), 0);
    close(fd);
    fixture_expect_failure(f, SSH_FAILED_REFUSED, 1);
    fixture_start_sshd(f);
    fd = fixture_expect_connected(f);
    echo(fd);
    close(fd);
    ssh_link_stop(link);
}

static void comes_back_after_the_peers_node_closed(void **state)
{
    struct fixture *f = *state;
    struct ssh_link *link = fixture_link(f);
    int fd;

    for (unsigned i = 1; i <= 3; i++) {
        fd = fixture_expect_connected(f);
        echo(fd);
        node_drop(&f->node);
        assert_int_equal(read_to_end(fd), 0);
        close(fd);
        assert_non_null(strstr(fixture_expect_failure(f, SSH_FAILED_REMOTE_ENDED, i), "ended with status 0"));
    }
    ssh_link_stop(link);
}

static void slows_down_while_the_peers_command_ends_at_once(void **state)
{
    struct fixture *f = *state;
    struct ssh_link_config config = fixture_link_config(f);
    struct ssh_link *link;
    uint64_t start = clock_boot_ms();

    node_set_mode(&f->node, NODE_CLOSE);
    config.backoff_min_ms = 100;
    config.backoff_max_ms = 100000;
    link = fixture_link_with(f, &config);
    fixture_expect_failure(f, SSH_FAILED_REMOTE_ENDED, 5);
    /* At least 100 ms between two, although each came as far as the command. */
    assert_true(clock_boot_ms() - start >= 400);
    ssh_link_stop(link);
}

/* With OpenSSH's own client and the peer's good key. */
static int run_ssh(struct fixture *f, struct buffer *output, const char *const extra[])
{
    const char *argv[48];
    char port[8], hosts[PATH_MAX];
    int n = 0, status = 0;

    snprintf(port, sizeof port, "%u", f->port);
    snprintf(hosts, sizeof hosts, "UserKnownHostsFile=%s", f->known_hosts);
    for (const char *const *a =
             (const char *const[]){"ssh", "-F", "/dev/null", "-p", port, "-i", f->client_key, "-o", hosts,
                                   "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", NULL};
         *a != NULL; a++)
        argv[n++] = *a;
    for (; *extra != NULL; extra++)
        argv[n++] = *extra;
    argv[n] = NULL;
    buffer_clear(output);
    assert_int_equal(process_run(argv, WAIT_MS, output, &status), 0);
    buffer_put_u8(output, 0);
    return status;
}

static void a_key_can_do_nothing_but_reach_the_node(void **state)
{
    struct fixture *f = *state;
    struct buffer output = BUFFER_INIT;
    struct ssh_link_config config = fixture_link_config(f);
    char touch[PATH_MAX], evil[PATH_MAX], forward[64];
    struct ssh_link *link;
    int fd;

    snprintf(evil, sizeof evil, "%s/evil", f->dir);
    snprintf(touch, sizeof touch, "touch %.4000s", evil);

    /* Another command: the bridge runs instead. */
    config.command = touch;
    link = fixture_link_with(f, &config);
    fd = fixture_expect_connected(f);
    echo(fd);
    close(fd);
    ssh_link_stop(link);
    run_ssh(f, &output, (const char *const[]){"127.0.0.1", touch, NULL});
    assert_int_equal(access(evil, F_OK), -1);

    /* A subsystem, too. */
    run_ssh(f, &output, (const char *const[]){"-s", "127.0.0.1", "sftp", NULL});
    assert_null(strstr((char *)output.data, "sftp-server"));

    /* A terminal. */
    run_ssh(f, &output, (const char *const[]){"-tt", "127.0.0.1", NULL});
    assert_non_null(strstr((char *)output.data, "PTY allocation request failed"));

    /* Forwarding, of both kinds. */
    snprintf(forward, sizeof forward, "127.0.0.1:%u", f->port);
    assert_int_not_equal(run_ssh(f, &output, (const char *const[]){"-W", forward, "127.0.0.1", NULL}), 0);
    assert_non_null(strstr((char *)output.data, "prohibited"));
    snprintf(forward, sizeof forward, "127.0.0.1:%u:127.0.0.1:%u", free_port(), f->port);
    assert_int_not_equal(run_ssh(f, &output,
                                 (const char *const[]){"-o", "ExitOnForwardFailure=yes", "-N", "-R", forward,
                                                       "127.0.0.1", NULL}),
                         0);
    assert_non_null(strstr((char *)output.data, "remote port forwarding failed"));

    /* A password. */
    assert_int_not_equal(
        run_ssh(f, &output, (const char *const[]){"-o", "PubkeyAuthentication=no", "127.0.0.1", NULL}), 0);
    assert_non_null(strstr((char *)output.data, "Permission denied (publickey)"));
    buffer_deinit(&output);
}

struct results {
    unsigned n[3];
    char failed[512];
};

static void on_report(void *arg, enum ssh_check result, const char *name, const char *detail,
                      const char *mend)
{
    struct results *r = arg;

    assert_true(detail[0] != '\0');
    assert_true((mend[0] == '\0') == (result == SSH_CHECK_PASS));
    r->n[result]++;
    if (result == SSH_CHECK_FAIL)
        snprintf(r->failed + strlen(r->failed), sizeof r->failed - strlen(r->failed), "%s;", name);
}

static void the_doctor_finds_what_is_wrong(void **state)
{
    struct fixture *f = *state;
    struct ssh_check_config c = {.client_key_path = f->client_key,
                                 .host_key_path = f->host_key,
                                 .authorized_keys_path = f->authorized_keys,
                                 .known_hosts_path = f->known_hosts,
                                 .bridge_path = f->bridge,
                                 .socket_path = f->socket,
                                 .host = "127.0.0.1",
                                 .port = f->port};
    struct results r = {{0}, ""};
    struct ssh_link *link = fixture_link(f);

    close(fixture_expect_connected(f)); /* sshd listens now */
    ssh_link_stop(link);
    assert_int_equal(chmod(f->socket, 0600), 0);
    ssh_check_files(&c, on_report, &r);
    ssh_check_programs(&c, on_report, &r);
    ssh_check_port(&c, on_report, &r);
    assert_string_equal(r.failed, "");
    assert_int_equal(r.n[SSH_CHECK_PASS], 9);

    assert_int_equal(chmod(f->client_key, 0644), 0);
    assert_int_equal(chmod(f->authorized_keys, 0666), 0);
    unlink(f->known_hosts);
    c.port = free_port();
    c.bridge_path = "/no/kvnode";
    r = (struct results){{0}, ""};
    ssh_check_environment(&c, on_report, &r);
    assert_non_null(strstr(r.failed, "client key;"));
    assert_non_null(strstr(r.failed, "authorized keys;"));
    assert_non_null(strstr(r.failed, "pinned host keys;"));
    assert_non_null(strstr(r.failed, "port;"));
    assert_non_null(strstr(r.failed, "bridge program;"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(carries_a_stream_and_names_the_peer),
        T(delivers_what_was_written_before_the_closing),
        T(passes_a_half_close_on_and_reads_the_rest),
        T(refuses_a_key_that_the_peer_does_not_know),
        T(lets_a_key_in_as_soon_as_it_is_listed),
        T(refuses_another_host_key_than_the_pinned_one),
        T(refuses_a_host_without_a_pin),
        T(tells_that_the_pins_cannot_be_read),
        T(tells_that_our_key_cannot_be_read),
        T(tells_that_nothing_listens),
        T(tells_that_a_name_has_no_address),
        T(tells_that_the_peers_node_is_down),
        T(gives_up_on_an_sshd_that_stands_still),
        T(gives_up_on_a_host_that_does_not_answer),
        T(stops_within_moments_in_every_state),
        T(comes_back_after_its_session_was_killed),
        T(comes_back_after_its_bridge_was_killed),
        T(comes_back_after_sshd_was_restarted),
        T(comes_back_after_the_peers_node_closed),
        T(slows_down_while_the_peers_command_ends_at_once),
        T(a_key_can_do_nothing_but_reach_the_node),
        T(the_doctor_finds_what_is_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
