#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "kvfs/process.h"
#include "sync/base/clock.h"

static pid_t thread_id(void)
{
    return (pid_t)syscall(SYS_gettid);
}

static void *other_thread(void *arg)
{
    pid_t opener = *(pid_t *)arg;

    return process_is_one_of(thread_id(), &opener, 1, 0) ? arg : NULL;
}

static void another_thread_of_the_opener_is_the_opener(void **state)
{
    pid_t self = thread_id();
    pthread_t t;
    void *result;

    assert_int_equal(pthread_create(&t, NULL, other_thread, &self), 0);
    pthread_join(t, &result);
    assert_non_null(result);
}

static void a_forked_child_is_not_the_opener(void **state)
{
    pid_t self = thread_id(), child = fork();
    int status;

    if (child == 0)
        _exit(process_is_one_of(thread_id(), &self, 1, clock_boot_ms()) ? 1 : 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void a_process_older_than_the_handle_is_no_child(void **state)
{
    pid_t nobody = 0x3fffff; /* its thread has ended */

    assert_true(process_is_one_of(thread_id(), &nobody, 1, clock_boot_ms() + 60000));
    assert_false(process_is_one_of(thread_id(), &nobody, 1, 1));
}

static void a_running_process_is_not_killed(void **state)
{
    assert_false(process_is_killed(thread_id()));
    assert_true(process_is_killed(0x3fffff));
}

static void a_descriptor_elsewhere_is_not_held(void **state)
{
    char path[] = "/tmp/kvfs-process-XXXXXX";
    int fd = mkstemp(path);
    struct stat st;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    /* The same inode number, open for writing, but on no kvfs mount. */
    assert_false(process_holds(thread_id(), st.st_ino));
    close(fd);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_thread_of_the_opener_is_the_opener),
        cmocka_unit_test(a_forked_child_is_not_the_opener),
        cmocka_unit_test(a_process_older_than_the_handle_is_no_child),
        cmocka_unit_test(a_running_process_is_not_killed),
        cmocka_unit_test(a_descriptor_elsewhere_is_not_held),
    };

    return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
