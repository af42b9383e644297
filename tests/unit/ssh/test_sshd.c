/* The private sshd's life: starting, refusing to, dying, dying with its parent. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sync/base/buffer.h"
#include "sync/base/clock.h"
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

static struct sshd_config config_of(const struct fixture *f)
{
    return (struct sshd_config){.run_dir = f->dir,
                                .port = free_port(),
                                .host_key_path = f->host_key,
                                .authorized_keys_path = f->authorized_keys};
}

static struct sshd *new_sshd(const struct sshd_config *config)
{
    struct sshd *s;
    char message[512];

    assert_int_equal(sshd_new(config, &s, message, sizeof message), 0);
    return s;
}

static void starts_once_and_stops(void **state)
{
    struct fixture *f = *state;
    char message[512];
    pid_t pid = sshd_pid(f->sshd);

    assert_true(pid > 0);
    assert_int_equal(sshd_start(f->sshd, message, sizeof message), -EALREADY);
    sshd_stop(f->sshd);
    assert_int_equal(sshd_pid(f->sshd), 0);
    assert_int_equal(kill(pid, 0), -1);
    fixture_start_sshd(f);
    assert_true(sshd_pid(f->sshd) > 0);
}

static void stops_one_that_stands_still(void **state)
{
    struct fixture *f = *state;
    uint64_t start = clock_boot_ms();

    kill(sshd_pid(f->sshd), SIGSTOP);
    sshd_stop(f->sshd);
    assert_true(clock_boot_ms() - start < 5000);
}

static void tells_that_the_port_is_taken(void **state)
{
    struct fixture *f = *state;
    struct sshd_config config = config_of(f);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(config.port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sshd *s = new_sshd(&config);
    char message[512], expected[64];

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(sshd_start(s, message, sizeof message), -EADDRINUSE);
    snprintf(expected, sizeof expected, "port %u at 127.0.0.1 is taken", config.port);
    assert_non_null(strstr(message, expected));
    close(fd);
    sshd_free(s);
}

static void refuses_bad_arguments(void **state)
{
    struct fixture *f = *state;
    const struct sshd_config good = config_of(f);
    struct sshd_config config;
    struct sshd *s;
    char message[512];

    config = good;
    config.run_dir = "/tmp/a b";
    assert_int_equal(sshd_new(&config, &s, message, sizeof message), -EINVAL);
    config = good;
    config.port = 0;
    assert_int_equal(sshd_new(&config, &s, message, sizeof message), -EINVAL);
    config = good;
    config.listen_address = "0.0.0.0\nPermitTTY yes";
    assert_int_equal(sshd_new(&config, &s, message, sizeof message), -EINVAL);
    config = good;
    config.log_level = "INFO\nX";
    assert_int_equal(sshd_new(&config, &s, message, sizeof message), -EINVAL);
    config = good;
    config.program = "/no/sshd";
    assert_int_equal(sshd_new(&config, &s, message, sizeof message), -ENOENT);
    assert_non_null(strstr(message, "openssh-server"));
}

static void shows_why_sshd_refuses_the_configuration(void **state)
{
    struct fixture *f = *state;
    struct sshd_config config = config_of(f);
    struct sshd *s;
    char message[512];

    config.extra = "NoSuchOption yes";
    s = new_sshd(&config);
    assert_int_equal(sshd_start(s, message, sizeof message), -EINVAL);
    assert_non_null(strstr(message, "sshd_config"));
    sshd_free(s);
    config = config_of(f);
    config.host_key_path = "/tmp/kvfs-no-such-key";
    s = new_sshd(&config);
    assert_int_equal(sshd_start(s, message, sizeof message), -ENOENT);
    sshd_free(s);
}

static void refuses_authorized_keys_that_others_may_write(void **state)
{
    struct fixture *f = *state;
    struct sshd_config config = config_of(f);
    struct sshd *s = new_sshd(&config);
    char message[512];

    assert_int_equal(chmod(f->authorized_keys, 0666), 0);
    assert_int_equal(sshd_start(s, message, sizeof message), -EPERM);
    assert_non_null(strstr(message, f->authorized_keys));
    sshd_free(s);
}

static void tells_how_it_died_and_when_to_start_it_again(void **state)
{
    struct fixture *f = *state;
    uint64_t deadline = clock_boot_ms() + WAIT_MS;
    uint32_t retry_ms = 0, before = 0;
    char message[512];

    for (int i = 0; i < 3; i++) {
        pid_t pid = sshd_pid(f->sshd);
        int status;

        kill(pid, SIGKILL);
        assert_int_equal(process_wait(pid, WAIT_MS, &status), 0);
        assert_false(sshd_reaped(f->sshd, pid + 1, status, &retry_ms, message, sizeof message));
        assert_true(sshd_reaped(f->sshd, pid, status, &retry_ms, message, sizeof message));
        assert_non_null(strstr(message, "killed by signal 9"));
        assert_true(retry_ms > before);
        before = retry_ms;
        assert_int_equal(sshd_pid(f->sshd), 0);
        fixture_start_sshd(f);
    }
    assert_true(clock_boot_ms() < deadline);
}

static void dies_with_its_parent(void **state)
{
    struct fixture *f = *state;
    struct sshd_config config = config_of(f);
    uint64_t deadline = clock_boot_ms() + WAIT_MS;
    int fds[2], status;
    pid_t child, orphan = 0;

    /* The orphan becomes this process's child, so it can be waited for. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    assert_int_equal(pipe(fds), 0);
    child = fork();
    if (child == 0) {
        struct sshd *s;
        char message[512] = "";
        pid_t pid;

        prctl(PR_SET_PDEATHSIG, SIGKILL); /* should the test fail before it kills us */
        s = new_sshd(&config);
        pid = sshd_start(s, message, sizeof message) == 0 ? sshd_pid(s) : -1;
        if (pid < 0)
            print_error("sshd_start: %s\n", message);
        if (write(fds[1], &pid, sizeof pid) < 0 || pid < 0)
            _exit(1);
        pause();
    }
    assert_int_equal(read(fds[0], &orphan, sizeof orphan), sizeof orphan);
    assert_true(orphan > 0);
    kill(child, SIGKILL);
    assert_int_equal(process_wait(child, WAIT_MS, &status), 0);
    assert_int_equal(process_wait(orphan, WAIT_MS, &status), 0);
    assert_true(clock_boot_ms() < deadline);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    close(fds[0]);
    close(fds[1]);
}

static void allows_nothing_but_forced_commands(void **state)
{
    static const char *const lines[] = {"\nPasswordAuthentication no\n",
                                        "\nKbdInteractiveAuthentication no\n",
                                        "\nPubkeyAuthentication yes\n",
                                        "\nDisableForwarding yes\n",
                                        "\nPermitTTY no\n",
                                        "\nPermitUserEnvironment no\n",
                                        "\nAuthorizedKeysCommand none\n"};
    struct fixture *f = *state;
    struct buffer text = BUFFER_INIT;

    sshd_config_text(f->sshd, &text);
    buffer_put_u8(&text, 0);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        assert_non_null(strstr((char *)text.data, lines[i]));
    assert_null(strstr((char *)text.data, "Subsystem"));
    if (geteuid() == 0)
        assert_non_null(strstr((char *)text.data, "\nPermitRootLogin forced-commands-only\n"));
    buffer_deinit(&text);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(starts_once_and_stops),
        T(stops_one_that_stands_still),
        T(tells_that_the_port_is_taken),
        T(refuses_bad_arguments),
        T(shows_why_sshd_refuses_the_configuration),
        T(refuses_authorized_keys_that_others_may_write),
        T(tells_how_it_died_and_when_to_start_it_again),
        T(dies_with_its_parent),
        T(allows_nothing_but_forced_commands),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
