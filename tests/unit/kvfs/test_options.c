#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>
#include <fcntl.h>
#include <cmocka.h>

#include "kvfs/link/options.h"

/* Parses the words of a command line; messages are not shown. */
static enum options_result parse(const char *line, struct options *o)
{
    static char copy[1024];
    char *argv[32], *save, *word;
    int argc = 0, err = dup(STDERR_FILENO), out = dup(STDOUT_FILENO), null = open("/dev/null", O_WRONLY);
    enum options_result result;

    snprintf(copy, sizeof copy, "%s", line);
    for (word = strtok_r(copy, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    argv[argc] = NULL;
    fflush(stdout);
    dup2(null, STDERR_FILENO);
    dup2(null, STDOUT_FILENO);
    result = options_parse(argc, argv, o);
    fflush(stdout);
    dup2(err, STDERR_FILENO);
    dup2(out, STDOUT_FILENO);
    close(err);
    close(out);
    close(null);
    return result;
}

static void nodes_and_mountpoint(void **state)
{
    struct options o;

    assert_int_equal(parse("kvfs n1,n2,/run/x.sock /mnt", &o), OPTIONS_RUN);
    assert_int_equal(o.n_nodes, 3);
    assert_string_equal(o.nodes[0], "n1");
    assert_string_equal(o.nodes[2], "/run/x.sock");
    assert_string_equal(o.mountpoint, "/mnt");
    assert_int_equal(o.timeout_ms, 5000);
    assert_int_equal(o.commit_ms, 5000);
    assert_int_equal(o.versions, VERSIONS_HIDDEN);
    assert_false(o.foreground);
    assert_true(o.read_strict && !o.read_local);
    options_free(&o);
    assert_int_equal(parse("kvfs n1 /mnt -o read=open", &o), OPTIONS_RUN);
    assert_true(!o.read_strict && !o.read_local);
    options_free(&o);
    assert_int_equal(parse("kvfs n1 /mnt -o read=linearizable", &o), OPTIONS_RUN); /* what strict is */
    assert_true(o.read_strict && !o.read_local);
    options_free(&o);
}

static void every_option(void **state)
{
    struct options o;

    assert_int_equal(parse("kvfs -f -s -o timeout=2.5,commit=1,versions=visible,read=local n1 /mnt "
                           "-o prefix=a/b,uid=5,gid=6,umask=027,log=/tmp/l,author=deploy,allow_other,ro",
                           &o),
                     OPTIONS_RUN);
    assert_true(o.foreground);
    assert_true(o.single);
    assert_true(o.read_local && !o.read_strict);
    assert_int_equal(o.timeout_ms, 2500);
    assert_int_equal(o.commit_ms, 1000);
    assert_int_equal(o.versions, VERSIONS_VISIBLE);
    assert_string_equal(o.prefix, "a/b");
    assert_string_equal(o.log_path, "/tmp/l");
    assert_string_equal(o.author, "deploy");
    assert_int_equal(o.uid, 5);
    assert_int_equal(o.gid, 6);
    assert_int_equal(o.umask, 027);
    options_free(&o);
}

static void takes_what_mount_passes(void **state)
{
    struct options o;

    assert_int_equal(
        parse("/sbin/mount.kvfs n1 /srv/kv -s -n -v -o rw,_netdev,nofail,users,noauto,prefix=x", &o),
        OPTIONS_RUN);
    assert_false(o.single);
    assert_string_equal(o.prefix, "x");
    assert_string_equal(o.mountpoint, "/srv/kv");
    options_free(&o);
}

static void says_how_long_to_wait(void **state)
{
    static const struct {
        const char *line;
        uint64_t ms;
    } lines[] = {{"kvfs n1 /mnt", 60000},
                 {"kvfs n1 /mnt -o retry=0", 0},
                 {"kvfs n1 /mnt -o retry=90", 90000},
                 {"kvfs n1 /mnt -o retry=90s", 90000},
                 {"kvfs n1 /mnt -o retry=5m", 300000},
                 {"kvfs n1 /mnt -o retry=2h,bg", 7200000},
                 {"kvfs n1 /mnt -o bg", OPTIONS_FOREVER}};
    struct options o;
    size_t i;

    for (i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        assert_int_equal(parse(lines[i].line, &o), OPTIONS_RUN);
        assert_true(o.retry_ms == lines[i].ms);
        assert_int_equal(o.background, strstr(lines[i].line, "bg") != NULL);
        options_free(&o);
    }
}

static void words_of_mount_are_taken_or_handed_on(void **state)
{
    struct options o;
    char all[512] = "";
    int i;

    assert_int_equal(
        parse("mount.kvfs n1 /mnt -o x-systemd.requires=kvnode@n1.service,X-mount.mkdir,user=me,relatime,"
              "nodiratime,strictatime,lazytime,group,noatime,ro,remount",
              &o),
        OPTIONS_RUN);
    assert_true(o.remount);
    assert_int_equal(o.mount_flags, MS_RDONLY | MS_NOATIME);
    for (i = 0; i < o.fuse.argc; i++) {
        strcat(all, o.fuse.argv[i]);
        strcat(all, " ");
    }
    assert_non_null(strstr(all, "noatime"));
    assert_null(strstr(all, "relatime"));
    assert_null(strstr(all, "x-systemd"));
    assert_null(strstr(all, "remount"));
    options_free(&o);
    assert_int_equal(parse("kvfs n1 /mnt -o ro,remount,rw", &o), OPTIONS_RUN);
    assert_int_equal(o.mount_flags, 0);
    assert_int_equal(o.mount_flags_off, MS_RDONLY);
    options_free(&o);
}

static void paths_are_meant_from_here(void **state)
{
    struct options o;

    assert_int_equal(chdir("/usr"), 0);
    assert_int_equal(parse("kvfs run/n1.sock,n2 /mnt -o log=some/log", &o), OPTIONS_RUN);
    assert_string_equal(o.nodes[0], "/usr/run/n1.sock");
    assert_string_equal(o.nodes[1], "n2");
    assert_string_equal(o.log_path, "/usr/some/log");
    options_free(&o);
}

static void refuses_bad_values(void **state)
{
    static const char *const lines[] = {"kvfs",
                                        "kvfs n1 /mnt /more",
                                        "kvfs , /mnt",
                                        "kvfs n1 /mnt -o timeout=0",
                                        "kvfs n1 /mnt -o timeout=soon",
                                        "kvfs n1 /mnt -o commit=-1",
                                        "kvfs n1 /mnt -o versions=some",
                                        "kvfs n1 /mnt -o read=loose",
                                        "kvfs n1 /mnt -o umask=9",
                                        "kvfs n1 /mnt -o uid=-1",
                                        "kvfs n1 /mnt -o retry=",
                                        "kvfs n1 /mnt -o retry=-1",
                                        "kvfs n1 /mnt -o retry=5x",
                                        "kvfs n1 /mnt -o author=",
                                        "kvfs n1 /mnt -o author=a@b",
                                        "kvfs n1 /mnt -o retry=99999999999"};
    struct options o;
    size_t i;

    for (i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        if (parse(lines[i], &o) != OPTIONS_USAGE)
            fail_msg("accepted: %s", lines[i]);
        options_free(&o);
    }
}

static void finds_the_nodes_of_this_machine(void **state)
{
    char directory[] = "/tmp/kvfs-options-XXXXXX", path[64], line[64];
    struct options o;

    assert_non_null(mkdtemp(directory));
    setenv("KVNODE_SOCKET_DIR", directory, 1);
    assert_int_equal(parse("kvfs /mnt", &o), OPTIONS_USAGE);
    options_free(&o);
    snprintf(path, sizeof path, "%s/n7.sock", directory);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    snprintf(line, sizeof line, "kvfs /mnt");
    assert_int_equal(parse(line, &o), OPTIONS_RUN);
    assert_int_equal(o.n_nodes, 1);
    assert_string_equal(o.nodes[0], path);
    options_free(&o);
    unlink(path);
    rmdir(directory);
    unsetenv("KVNODE_SOCKET_DIR");
}

static void help_and_version_are_no_errors(void **state)
{
    struct options o;

    assert_int_equal(parse("kvfs --help", &o), OPTIONS_DONE);
    options_free(&o);
    assert_int_equal(parse("kvfs -V", &o), OPTIONS_DONE);
    options_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_and_mountpoint),
        cmocka_unit_test(every_option),
        cmocka_unit_test(takes_what_mount_passes),
        cmocka_unit_test(says_how_long_to_wait),
        cmocka_unit_test(words_of_mount_are_taken_or_handed_on),
        cmocka_unit_test(paths_are_meant_from_here),
        cmocka_unit_test(refuses_bad_values),
        cmocka_unit_test(finds_the_nodes_of_this_machine),
        cmocka_unit_test(help_and_version_are_no_errors),
    };

    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
