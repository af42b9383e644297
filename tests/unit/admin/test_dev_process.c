/* Daemons and their pid files. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvnode/admin/dev_process.h"

struct fixture {
    char dir[64], log[80], pid_file[80];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    strcpy(f->dir, "/tmp/kvfs-test-XXXXXX");
    if (mkdtemp(f->dir) == NULL)
        return -1;
    snprintf(f->log, sizeof f->log, "%s/log", f->dir);
    snprintf(f->pid_file, sizeof f->pid_file, "%s/pid", f->dir);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    unlink(f->log);
    unlink(f->pid_file);
    rmdir(f->dir);
    free(f);
    return 0;
}

static pid_t spawn(struct fixture *f, const char *script)
{
    char *const argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)script, NULL};
    pid_t pid;
    assert_int_equal(dev_spawn(argv, f->log, f->pid_file, "/usr/bin/true", &pid), 0);
    return pid;
}

static void finds_its_process_until_that_ends(void **state)
{
    struct fixture *f = *state;
    pid_t pid = spawn(f, "exec sleep 60");
    assert_int_equal(dev_running(f->pid_file), pid);
    assert_false(dev_wait_gone(pid, 1));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_true(dev_wait_gone(pid, 5000));
    assert_int_equal(dev_running(f->pid_file), 0);
}

static void sees_a_pause(void **state)
{
    struct fixture *f = *state;
    pid_t pid = spawn(f, "kill -STOP $$; exec sleep 60");
    for (int i = 0; i < 500 && !dev_is_paused(pid); i++)
        assert_false(dev_wait_gone(pid, 10));
    assert_true(dev_is_paused(pid));
    assert_int_equal(dev_running(f->pid_file), pid);
    kill(pid, SIGKILL);
    assert_true(dev_wait_gone(pid, 5000));
}

static void takes_no_other_process_for_its_own(void **state)
{
    struct fixture *f = *state;
    FILE *file = fopen(f->pid_file, "w");
    assert_non_null(file);
    fprintf(file, "%ld 1\n", (long)getpid()); /* this process did not start one tick after boot */
    fclose(file);
    assert_int_equal(dev_running(f->pid_file), 0);
    static const char *const damaged[] = {"", "x", "1 1\n", "-1 1\n", "99999999 1\n", "7\n"};
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        file = fopen(f->pid_file, "w");
        assert_non_null(file);
        fputs(damaged[i], file);
        fclose(file);
        assert_int_equal(dev_running(f->pid_file), 0);
    }
    unlink(f->pid_file);
    assert_int_equal(dev_running(f->pid_file), 0);
}

static void gives_a_daemon_a_clean_environment(void **state)
{
    struct fixture *f = *state;
    char text[256] = "";
    setenv("KVNODE_RAFT_ELECTION_MS", "1", 1);
    setenv("RUNTIME_DIRECTORY", "/x", 1);
    pid_t pid = spawn(f, "echo $KVNODE_PROGRAM,$KVNODE_RAFT_ELECTION_MS,$RUNTIME_DIRECTORY,$(pwd)");
    assert_true(dev_wait_gone(pid, 5000));
    FILE *file = fopen(f->log, "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    assert_string_equal(text, "/usr/bin/true,,,/\n");
    unsetenv("RUNTIME_DIRECTORY");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(finds_its_process_until_that_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(sees_a_pause, setup, teardown),
        cmocka_unit_test_setup_teardown(takes_no_other_process_for_its_own, setup, teardown),
        cmocka_unit_test_setup_teardown(gives_a_daemon_a_clean_environment, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
