/* The configuration file, read strictly: what is taken, and for each mistake the
 * file, the line and what would be allowed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvnode/config/config.h"

#define KEY_A "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBlufl3tKjPrt/qFLSo1HIXJv7k1iL1/kZ0JXrTVx/Bg"
#define KEY_B "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP7OO2sPlXjhJSm2nuEcqMZHdjSnVbt5jAe9Lb9nXCqY"
#define KEY_C "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPDwplfYHyXjpRYAB1b7NyjQO0xhHjWIbgP/Y3KW9Zam"
#define KEY_D "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKL6RR81QpZH6eRH3fhIaCT4fEukX+EfKQpZQLvOk3nl"
#define BASE                                                                                                 \
    "[node]\nname = n1\nid = 1\ndata = /srv/n1\nsocket = /run/n1.sock\n"                                     \
    "[cluster]\nid = 00000000000000ab\n"                                                                     \
    "[ssh]\nlisten = 10.0.0.1:7022\nuser = kv\n"
#define PEER2 "[peer n2]\nid = 2\naddress = 10.0.0.2:7022\nhost_key = " KEY_A "\nkey = " KEY_B "\n"

static const char *const no_flags[] = {NULL};

static int parse_flags(const char *text, const char *const *flags, size_t n, struct config **out,
                       char message[512])
{
    const struct config_request request = {.flags = flags, .n_flags = n};
    *out = NULL;
    message[0] = '\0';
    return config_parse(text, strlen(text), "f.conf", &request, out, message, 512);
}

static struct config *accepted(const char *text)
{
    struct config *c;
    char message[512];
    int rc = parse_flags(text, no_flags, 0, &c, message);
    if (rc != 0)
        fail_msg("refused: %s", message);
    return c;
}

/* The message begins with `begin` and has `part` in it. */
static void refused(const char *text, const char *begin, const char *part)
{
    struct config *c;
    char message[512];
    assert_int_equal(parse_flags(text, no_flags, 0, &c, message), -EINVAL);
    assert_null(c);
    if (strncmp(message, begin, strlen(begin)) != 0 || strstr(message, part) == NULL)
        fail_msg("message \"%s\" should begin with \"%s\" and contain \"%s\"", message, begin, part);
}

static void takes_a_complete_file(void **state)
{
    struct config *c = accepted(BASE "[raft]\nelection_ms = 500 ; shorter\nheartbeat_ms = 50\n"
                                     "[storage]\nlog_keep_bytes = 64 MiB\n" PEER2);
    assert_string_equal(c->name, "n1");
    assert_int_equal(c->id, 1);
    assert_int_equal(c->cluster_id, 0xab);
    assert_string_equal(c->listen_host, "10.0.0.1");
    assert_int_equal(c->listen_port, 7022);
    assert_true(c->private_sshd);
    assert_int_equal(c->election_ms, 500);
    assert_int_equal(c->log_keep_bytes, 64 << 20);
    assert_int_equal(c->socket_mode, 0600);
    assert_int_equal(c->n_peers, 1);
    assert_string_equal(c->peers[0].user, "kv");
    assert_string_equal(c->peers[0].key, KEY_B);
    assert_string_equal(c->founding, "/srv/n1/founding");
    config_free(c);
}

static void gives_defaults(void **state)
{
    struct config *c = accepted("[node]\nname=n1\nid=1\n[cluster]\nid=00000000000000ab\n");
    assert_int_equal(c->election_ms, 500);
    assert_int_equal(c->heartbeat_ms, 50);
    assert_int_equal(c->flush_ms, 200);
    assert_int_equal(c->log_keep_entries, 100000);
    assert_int_equal(c->log_keep_bytes, 64 << 20);
    assert_int_equal(c->log_level, LOG_LEVEL_INFO);
    assert_string_equal(c->listen_host, "127.0.0.1");
    config_free(c);
}

static void says_where_unknown_things_stand(void **state)
{
    refused(BASE "[rafts]\n",
            "f.conf:11: ", "allowed: [node], [cluster], [ssh], [raft], [storage], [http], [peer NAME]");
    refused(BASE "[raft]\nelection = 3\n", "f.conf:12: ", "allowed: election_ms, heartbeat_ms");
    refused(BASE PEER2 "port = 7\n", "f.conf:16: ", "allowed: id, address, user, host_key, key");
    refused("name = n1\n", "f.conf:1: ", "before the first [section]");
    refused(BASE "hello\n", "f.conf:11: ", "neither [section] nor name = value");
}

static void refuses_a_second_value(void **state)
{
    refused(BASE "[node]\nid = 1\n", "f.conf:12: ", "given twice, first in line 3");
    refused(BASE PEER2 "id = 2\n", "f.conf:16: ", "given twice");
    refused(BASE PEER2 PEER2, "f.conf:16: ", "a second [peer n2]");
}

static void refuses_values_out_of_bounds(void **state)
{
    static const struct {
        const char *line, *allowed;
    } cases[] = {
        {"[raft]\nelection_ms = 49\n", "from 50 to 60000"},
        {"[raft]\nelection_ms = 1s\n", "from 50 to 60000"},
        {"[raft]\nelection_ms = -1\n", "from 50 to 60000"},
        {"[raft]\nelection_ms = \n", "from 50 to 60000"},
        {"[raft]\nelection_ms = 99999999999999999999999\n", "from 50 to 60000"},
        {"[storage]\nlog_keep_entries = 1\n", "from 2048"},
        {"[http]\nlisten = localhost:7080\n", "a number as its address"},
        {"[http]\ntoken_file = tokens\n", "an absolute path"},
        {"[http]\nallow_plain = maybe\n", "yes or no"},
        {"[http]\nlisten = 127.0.0.1\n", "ADDRESS:PORT"},
        {"[http]\nhosts = a b\n", "with commas between"},
        {"[storage]\nlog_keep_bytes = 99999999 GiB\n", "a number from"},
        {"[node]\nlog_level = loud\n", "error, warn, info or debug"},
        {"[node]\nsocket_mode = 0999\n", "octal"},
        {"[node]\nsocket_mode = 07777\n", "octal"},
        {"[node]\nsocket_group = a b\n", "letters, digits"},
        {"[ssh]\nsshd = other\n", "private or system"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[1024];
        snprintf(text, sizeof text, "%s%s", BASE, cases[i].line);
        refused(text, "f.conf:12: ", cases[i].allowed);
    }
    refused("[node]\nname = .n1\n", "f.conf:2: ", "1 to 32 of");
    refused("[node]\nid = 0\n", "f.conf:2: ", "from 1 to 65535");
    refused("[node]\nid = 65536\n", "f.conf:2: ", "from 1 to 65535");
    refused("[node]\ndata = here\n", "f.conf:2: ", "an absolute path");
    refused("[cluster]\nid = 12\n", "f.conf:2: ", "16 hexadecimal digits");
    refused("[cluster]\nid = 0000000000000000\n", "f.conf:2: ", "not all 0");
    refused("[ssh]\nlisten = host\n", "f.conf:2: ", "HOST:PORT");
    refused("[ssh]\nlisten = host:0\n", "f.conf:2: ", "HOST:PORT");
    refused("[ssh]\nlisten = ::1:7022\n", "f.conf:2: ", "[IPV6]:PORT");
}

static void refuses_what_inih_would_bend(void **state)
{
    char text[1024];
    refused(BASE "  [raft]\n", "f.conf:11: ", "begins with a blank");
    refused(BASE "[raft]\n election_ms = 500\n", "f.conf:12: ", "begins with a blank");
    refused(BASE "[raft] election_ms = 500\n", "f.conf:11: ", "after a section's ]");
    refused(BASE "[raft\n", "f.conf:11: ", "no ]");
    refused(BASE "[raft]\nelection_ms = 500 # half\n", "f.conf:12: ", "begins no comment");
    refused(BASE "[raft]\nelection_ms = 5\00100\n", "f.conf:12: ", "control character");
    snprintf(text, sizeof text, "%s; %0188d\n", BASE, 0);
    config_free(accepted(text));
    snprintf(text, sizeof text, "%s; %0189d\n", BASE, 0);
    refused(text, "f.conf:11: ", "longer than 190 bytes");
}

static void refuses_a_nul(void **state)
{
    static const char text[] = BASE "[raft]\nelection_ms = 500\0 1\n";
    const struct config_request request = {0};
    struct config *c = NULL;
    char message[512];
    assert_int_equal(config_parse(text, sizeof text - 1, "f.conf", &request, &c, message, sizeof message),
                     -EINVAL);
    assert_non_null(strstr(message, "f.conf:12: a control character"));
}

static void takes_windows_line_ends_and_no_last_newline(void **state)
{
    struct config *c = accepted("[node]\r\nname = n1\r\nid = 1\r\n[cluster]\r\nid = 00000000000000ab");
    assert_string_equal(c->name, "n1");
    config_free(c);
}

static void says_what_is_missing(void **state)
{
    refused("", "f.conf: ", "[node] name is missing");
    refused("[node]\nname = n1\n", "f.conf: ", "[node] id is missing");
    refused("[node]\nname = n1\nid = 1\n", "f.conf: ", "[cluster] id is missing");
    refused(BASE "[peer n2]\nid = 2\n", "f.conf:11: ", "has no address");
    refused(BASE "[peer n2]\n", "f.conf:11: ", "has no id");
}

static void refuses_peers_that_cannot_be(void **state)
{
    refused(BASE "[peer n1]\nid = 2\naddress = h:1\nhost_key = " KEY_A "\nkey = " KEY_B "\n",
            "f.conf:11: ", "another id");
    refused(BASE "[peer n2]\nid = 1\naddress = h:1\nhost_key = " KEY_A "\nkey = " KEY_B "\n",
            "f.conf:11: ", "another name");
    refused(BASE PEER2 "[peer n3]\nid = 2\naddress = h:1\nhost_key = " KEY_C "\nkey = " KEY_D "\n",
            "f.conf:16: ", "the same id as [peer n2]");
    refused(BASE PEER2 "[peer n3]\nid = 3\naddress = h:1\nhost_key = " KEY_C "\nkey = " KEY_B "\n",
            "f.conf:16: ", "the same key as");
    refused(BASE PEER2 "[peer n3]\nid = 3\naddress = 10.0.0.2:7022\nhost_key = " KEY_C "\nkey = " KEY_D "\n",
            "f.conf:16: ", "the same address as");
    refused(BASE "[peer n2]\nid = 2\naddress = h:1\nhost_key = ssh-rsa AAAA\n", "f.conf:14: ", "ed25519");
    refused(BASE "[peer a/b]\n", "f.conf:11: ", "1 to 32 of");
}

static void leaves_out_its_own_peer_section(void **state)
{
    struct config *c = accepted(BASE PEER2 "[peer n1]\nid = 1\naddress = 10.0.0.1:7022\nhost_key = " KEY_C
                                           "\nkey = " KEY_D "\n");
    assert_int_equal(c->n_peers, 1);
    assert_string_equal(c->peers[0].name, "n2");
    assert_null(config_peer_by_name(c, "n1"));
    assert_non_null(config_peer_by_id(c, 2));
    config_free(c);
}

struct find {
    const char *section, *name;
    char value[64], source[64];
};

static void find_setting(void *arg, const char *section, const char *name, const char *value,
                         const char *source)
{
    struct find *f = arg;
    if (strcmp(section, f->section) != 0 || strcmp(name, f->name) != 0)
        return;
    snprintf(f->value, sizeof f->value, "%s", value);
    snprintf(f->source, sizeof f->source, "%s", source);
}

static void a_flag_beats_a_variable_beats_the_file(void **state)
{
    static const char text[] = BASE "[raft]\nelection_ms = 500\n";
    static const char *const flags[] = {"raft.election_ms=700"};
    struct find f = {.section = "raft", .name = "election_ms"};
    struct config *c;
    char message[512];
    c = accepted(text);
    config_each(c, &f, find_setting);
    assert_string_equal(f.source, "f.conf:12");
    config_free(c);
    setenv("KVNODE_RAFT_ELECTION_MS", "600", 1);
    c = accepted(text);
    config_each(c, &f, find_setting);
    assert_int_equal(c->election_ms, 600);
    assert_string_equal(f.source, "KVNODE_RAFT_ELECTION_MS");
    config_free(c);
    assert_int_equal(parse_flags(text, flags, 1, &c, message), 0);
    config_each(c, &f, find_setting);
    assert_int_equal(c->election_ms, 700);
    assert_string_equal(f.source, "flag");
    config_free(c);
    setenv("KVNODE_RAFT_ELECTION_MS", "6", 1);
    refused(text, "KVNODE_RAFT_ELECTION_MS: ", "from 50 to 60000");
    unsetenv("KVNODE_RAFT_ELECTION_MS");
}

static void refuses_wrong_flags(void **state)
{
    static const struct {
        const char *flag, *part;
    } cases[] = {{"raft.election_ms", "SECTION.NAME=VALUE"},
                 {"raft.bogus=1", "no such setting"},
                 {"raft.election_ms=1", "from 50 to 60000"}};
    for (size_t i = 0; i < 3; i++) {
        struct config *c;
        char message[512];
        assert_int_equal(parse_flags(BASE, &cases[i].flag, 1, &c, message), -EINVAL);
        assert_non_null(strstr(message, cases[i].part));
    }
}

static void a_bad_value_in_the_file_is_an_error_under_a_flag_too(void **state)
{
    static const char *const flags[] = {"raft.election_ms=700"};
    struct config *c;
    char message[512];
    assert_int_equal(parse_flags(BASE "[raft]\nelection_ms = x\n", flags, 1, &c, message), -EINVAL);
    assert_non_null(strstr(message, "f.conf:12: "));
}

static void refuses_a_heartbeat_that_is_too_slow(void **state)
{
    refused(BASE "[raft]\nelection_ms = 200\nheartbeat_ms = 67\n", "f.conf: ", "over a third");
}

static void refuses_socket_paths_that_do_not_fit(void **state)
{
    char text[1024], long_path[128];
    memset(long_path, 'x', sizeof long_path);
    long_path[0] = '/';
    long_path[107] = '\0';
    snprintf(text, sizeof text,
             "[node]\nname = n1\nid = 1\ndata = /d\nsocket = %s\n[cluster]\nid = 00000000000000ab\n",
             long_path);
    config_free(accepted(text));
    long_path[107] = 'x';
    long_path[108] = '\0';
    snprintf(text, sizeof text,
             "[node]\nname = n1\nid = 1\ndata = /d\nsocket = %s\n[cluster]\nid = 00000000000000ab\n",
             long_path);
    refused(text, "f.conf: ", "107 bytes");
    snprintf(text, sizeof text,
             "[node]\nname = n1\nid = 1\ndata = %s\nsocket = /s\n[cluster]\nid = 00000000000000ab\n",
             long_path);
    refused(text, "f.conf: ", "peer socket");
}

static void honours_the_runtime_directory(void **state)
{
    char path[CONFIG_SOCKET_PATH_MAX + 1];
    setenv("RUNTIME_DIRECTORY", "/run/kv:/run/other", 1);
    struct config *c = accepted("[node]\nname=n7\nid=1\ndata=/d\n[cluster]\nid=00000000000000ab\n");
    assert_string_equal(c->socket, "/run/kv/n7.sock");
    assert_int_equal(config_peer_socket(c, path), 0);
    assert_string_equal(path, "/run/kv/n7.peer");
    config_free(c);
    unsetenv("RUNTIME_DIRECTORY");
    c = accepted(BASE);
    assert_int_equal(config_peer_socket(c, path), 0);
    assert_string_equal(path, "/srv/n1/peer.sock");
    config_free(c);
}

static void splits_addresses(void **state)
{
    char host[64];
    uint16_t port;
    assert_int_equal(config_split_address("[fe80::1]:22", host, sizeof host, &port), 0);
    assert_string_equal(host, "fe80::1");
    assert_int_equal(port, 22);
    static const char *const bad[] = {"",     ":1",    "h:",   "h:65536", "h:1x",
                                      "h: 1", "[::1]", "[]:1", "a b:1",   "h:-1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(config_split_address(bad[i], host, sizeof host, &port), -EINVAL);
}

/* Every prefix of a good file is either taken or refused with a message. */
static void survives_every_cut(void **state)
{
    static const char text[] = BASE "[raft]\nelection_ms = 500\n" PEER2;
    for (size_t n = 0; n < sizeof text; n++) {
        const struct config_request request = {0};
        struct config *c = NULL;
        char message[512] = "", *copy = malloc(n + 1);
        assert_non_null(copy);
        memcpy(copy, text, n);
        if (config_parse(copy, n, "f.conf", &request, &c, message, sizeof message) == 0)
            config_free(c);
        else
            assert_true(strncmp(message, "f.conf", 6) == 0);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_a_complete_file),
        cmocka_unit_test(gives_defaults),
        cmocka_unit_test(says_where_unknown_things_stand),
        cmocka_unit_test(refuses_a_second_value),
        cmocka_unit_test(refuses_values_out_of_bounds),
        cmocka_unit_test(refuses_what_inih_would_bend),
        cmocka_unit_test(refuses_a_nul),
        cmocka_unit_test(takes_windows_line_ends_and_no_last_newline),
        cmocka_unit_test(says_what_is_missing),
        cmocka_unit_test(refuses_peers_that_cannot_be),
        cmocka_unit_test(leaves_out_its_own_peer_section),
        cmocka_unit_test(a_flag_beats_a_variable_beats_the_file),
        cmocka_unit_test(refuses_wrong_flags),
        cmocka_unit_test(a_bad_value_in_the_file_is_an_error_under_a_flag_too),
        cmocka_unit_test(refuses_a_heartbeat_that_is_too_slow),
        cmocka_unit_test(refuses_socket_paths_that_do_not_fit),
        cmocka_unit_test(honours_the_runtime_directory),
        cmocka_unit_test(splits_addresses),
        cmocka_unit_test(survives_every_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
