#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "sync/base/buffer.h"
#include "sync/ssh/bridge.h"
#include "sync/ssh/identity.h"
#include "sync/ssh/process.h"
#include "sync/ssh/sshd_config.h"

/* Of a key made for this test and thrown away. */
#define PUBLIC "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
#define PUBLIC_2 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4A"

struct dir {
    char path[64], message[512];
};

static int setup(void **state)
{
    struct dir *d = calloc(1, sizeof *d);

    snprintf(d->path, sizeof d->path, "/tmp/kvfs-identity-XXXXXX");
    assert_non_null(mkdtemp(d->path));
    *state = d;
    return 0;
}

static int teardown(void **state)
{
    struct dir *d = *state;
    const char *const argv[] = {"rm", "-r", "--", d->path, NULL};
    int status;

    process_run(argv, 5000, NULL, &status);
    free(d);
    return 0;
}

static const char *in(const struct dir *d, const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", d->path, name);
    return path;
}

static void read_text(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY);
    ssize_t n;

    assert_true(fd >= 0);
    n = read(fd, out, size - 1);
    assert_true(n >= 0);
    out[n] = '\0';
    close(fd);
}

static void makes_a_key_that_ssh_keygen_reads_and_keeps_it(void **state)
{
    struct dir *d = *state;
    const char *path = in(d, "keys/client");
    const char *const argv[] = {"ssh-keygen", "-l", "-f", path, NULL};
    char first[IDENTITY_PUBLIC_MAX], second[IDENTITY_PUBLIC_MAX], print[IDENTITY_FINGERPRINT_MAX], pub[256];
    struct buffer output = BUFFER_INIT;
    struct stat st;
    int status;

    assert_int_equal(identity_ensure(path, "n1", d->message, sizeof d->message), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(stat(in(d, "keys"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(identity_read_public(path, first), 0);
    read_text(in(d, "keys/client.pub"), pub, sizeof pub);
    assert_int_equal(strncmp(pub, first, strlen(first)), 0);

    /* ssh-keygen agrees on the fingerprint. */
    assert_int_equal(identity_fingerprint(first, print), 0);
    assert_int_equal(process_run(argv, 5000, &output, &status), 0);
    buffer_put_u8(&output, 0);
    assert_non_null(strstr((char *)output.data, print));
    buffer_deinit(&output);

    /* Again: kept; a lost .pub comes back. */
    assert_int_equal(unlink(in(d, "keys/client.pub")), 0);
    assert_int_equal(identity_ensure(path, "n1", d->message, sizeof d->message), 0);
    assert_int_equal(identity_read_public(path, second), 0);
    assert_string_equal(first, second);
    assert_int_equal(stat(in(d, "keys/client.pub"), &st), 0);
}

static void refuses_a_key_that_others_may_read(void **state)
{
    struct dir *d = *state;
    const char *path = in(d, "keys/client");

    assert_int_equal(identity_ensure(path, "n1", d->message, sizeof d->message), 0);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(identity_ensure(path, "n1", d->message, sizeof d->message), -EPERM);
    assert_non_null(strstr(d->message, "chmod 600"));
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(chmod(in(d, "keys"), 0755), 0);
    assert_int_equal(identity_ensure(path, "n1", d->message, sizeof d->message), -EPERM);
    assert_non_null(strstr(d->message, "chmod 700"));
}

static void refuses_keys_of_other_kinds(void **state)
{
    struct dir *d = *state;
    const char *rsa = in(d, "rsa"), *locked = in(d, "locked");
    const char *const make_rsa[] = {"ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", rsa, NULL};
    const char *const make_locked[] = {"ssh-keygen", "-q", "-t",   "ed25519", "-N",
                                       "secret",     "-f", locked, NULL};
    char key[IDENTITY_PUBLIC_MAX];
    int status;

    assert_int_equal(process_run(make_rsa, 20000, NULL, &status), 0);
    assert_int_equal(process_run(make_locked, 20000, NULL, &status), 0);
    assert_int_equal(identity_read_public(rsa, key), -EINVAL);
    assert_int_equal(identity_read_public(locked, key), -EINVAL);
    assert_int_equal(identity_read_public("/dev/null", key), -EINVAL);
    assert_int_equal(identity_read_public(in(d, "none"), key), -ENOENT);
    assert_int_equal(identity_ensure(locked, "n1", d->message, sizeof d->message), -EINVAL);
    assert_non_null(strstr(d->message, "passphrase"));
}

static void accepts_public_keys_of_one_form_only(void **state)
{
    char key[IDENTITY_PUBLIC_MAX];

    (void)state;
    assert_true(identity_public_valid(PUBLIC, key));
    assert_string_equal(key, PUBLIC);
    assert_true(identity_public_valid(PUBLIC " somebody@somewhere\n", key));
    assert_string_equal(key, PUBLIC);
    assert_false(identity_public_valid("", key));
    assert_false(identity_public_valid("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ", key));
    assert_false(identity_public_valid("command=\"x\" " PUBLIC, key));
    assert_false(identity_public_valid("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA", key));
    assert_false(identity_public_valid(PUBLIC "AAAA", key));
}

static void writes_one_line_a_peer_with_a_forced_command(void **state)
{
    struct dir *d = *state;
    struct identity_peer peers[] = {
        {"n2", PUBLIC " x", "/usr/bin/kvnode", "/run/kvfs/peer.sock"},
        {"rack-3.n_3", PUBLIC_2, "/usr/bin/kvnode", "/run/kvfs/peer.sock"},
    };
    char text[1024];
    struct stat st;

    assert_int_equal(identity_write_authorized_keys(in(d, "a"), peers, 2, d->message, sizeof d->message), 0);
    read_text(in(d, "a"), text, sizeof text);
    assert_string_equal(text, "restrict,command=\"exec /usr/bin/kvnode bridge --peer n2 --socket "
                              "/run/kvfs/peer.sock\" " PUBLIC " n2\n"
                              "restrict,command=\"exec /usr/bin/kvnode bridge --peer rack-3.n_3 --socket "
                              "/run/kvfs/peer.sock\" " PUBLIC_2 " rack-3.n_3\n");
    assert_int_equal(stat(in(d, "a"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void refuses_what_a_shell_could_read(void **state)
{
    static const char *const names[] = {"",
                                        "a b",
                                        "a\"b",
                                        "n1;id",
                                        "-n1",
                                        ".n",
                                        "n$1",
                                        "n\n1",
                                        "n/1",
                                        "é",
                                        "a123456789012345678901234567890123"};
    static const char *const paths[] = {"",      "relative", "/a b",  "/a\"", "/a\\b", "/a\nb",
                                        "/a;id", "/$HOME",   "/a`b`", "/a'b", "/a%b",  "/~x"};
    struct dir *d = *state;
    struct identity_peer peer = {"n1", PUBLIC, "/usr/bin/kvnode", "/run/peer.sock"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct identity_peer bad = peer;

        bad.name = names[i];
        assert_int_equal(identity_write_authorized_keys(in(d, "a"), &bad, 1, d->message, sizeof d->message),
                         -EINVAL);
    }
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct identity_peer bad = peer;

        bad.bridge_path = paths[i];
        assert_int_equal(identity_write_authorized_keys(in(d, "a"), &bad, 1, d->message, sizeof d->message),
                         -EINVAL);
        bad = peer;
        bad.socket_path = paths[i];
        assert_int_equal(identity_write_authorized_keys(in(d, "a"), &bad, 1, d->message, sizeof d->message),
                         -EINVAL);
    }
    assert_int_equal(access(in(d, "a"), F_OK), -1);
}

static void refuses_one_key_for_two_peers_and_keeps_the_old_file(void **state)
{
    struct dir *d = *state;
    struct identity_peer peers[] = {
        {"n2", PUBLIC, "/usr/bin/kvnode", "/run/peer.sock"},
        {"n3", PUBLIC " other comment", "/usr/bin/kvnode", "/run/peer.sock"},
    };
    char before[512], after[512];

    assert_int_equal(identity_write_authorized_keys(in(d, "a"), peers, 1, d->message, sizeof d->message), 0);
    read_text(in(d, "a"), before, sizeof before);
    assert_int_equal(identity_write_authorized_keys(in(d, "a"), peers, 2, d->message, sizeof d->message),
                     -EEXIST);
    assert_non_null(strstr(d->message, "n2 and n3 have the same key"));
    peers[1].public_key = PUBLIC_2;
    peers[1].name = "n2";
    assert_int_equal(identity_write_authorized_keys(in(d, "a"), peers, 2, d->message, sizeof d->message),
                     -EEXIST);
    read_text(in(d, "a"), after, sizeof after);
    assert_string_equal(before, after);
}

static void pins_host_keys_by_address_and_port(void **state)
{
    struct dir *d = *state;
    struct identity_pin pins[] = {{"10.0.0.2", 7022, PUBLIC}, {"fe80::1", 22, PUBLIC_2}};
    char text[512];

    assert_int_equal(identity_write_known_hosts(in(d, "k"), pins, 2, d->message, sizeof d->message), 0);
    read_text(in(d, "k"), text, sizeof text);
    assert_string_equal(text, "[10.0.0.2]:7022 " PUBLIC "\n[fe80::1]:22 " PUBLIC_2 "\n");
    pins[1] = pins[0];
    assert_int_equal(identity_write_known_hosts(in(d, "k"), pins, 2, d->message, sizeof d->message), -EEXIST);
    pins[0].host = "a,b";
    assert_int_equal(identity_write_known_hosts(in(d, "k"), pins, 1, d->message, sizeof d->message), -EINVAL);
    pins[0].host = "*";
    assert_int_equal(identity_write_known_hosts(in(d, "k"), pins, 1, d->message, sizeof d->message), -EINVAL);
}

static void tells_paths_that_others_may_write_to(void **state)
{
    struct dir *d = *state;
    char culprit[512];

    /* Below /tmp, which is sticky. */
    assert_int_equal(sshd_path_safety(in(d, "later"), culprit, sizeof culprit), PATH_STICKY);
    assert_int_equal(sshd_path_safety("/etc/passwd", culprit, sizeof culprit), PATH_SAFE);
    assert_int_equal(chmod(d->path, 0770), 0);
    assert_int_equal(sshd_path_safety(in(d, "later"), culprit, sizeof culprit), PATH_EXPOSED);
    assert_string_equal(culprit, d->path);
}

static void names_a_program_that_is_not_there(void **state)
{
    const char *const argv[] = {"kvfs-no-such-program", NULL};
    int status;

    (void)state;
    assert_int_equal(process_run(argv, 1000, NULL, &status), -ENOENT);
}

static void kills_a_program_at_its_deadline(void **state)
{
    const char *const argv[] = {"sleep", "100", NULL};
    int status;

    (void)state;
    assert_int_equal(process_run(argv, 50, NULL, &status), -ETIMEDOUT);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(makes_a_key_that_ssh_keygen_reads_and_keeps_it),
        T(refuses_a_key_that_others_may_read),
        T(refuses_keys_of_other_kinds),
        T(accepts_public_keys_of_one_form_only),
        T(writes_one_line_a_peer_with_a_forced_command),
        T(refuses_what_a_shell_could_read),
        T(refuses_one_key_for_two_peers_and_keeps_the_old_file),
        T(pins_host_keys_by_address_and_port),
        T(tells_paths_that_others_may_write_to),
        T(names_a_program_that_is_not_there),
        T(kills_a_program_at_its_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
