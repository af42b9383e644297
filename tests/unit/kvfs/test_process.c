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

#include "kvfs/link/process.h"

static pid_t thread_id(void)
{
    return (pid_t)syscall(SYS_gettid);
}

static void *other_thread(void *arg)
{
    *(pid_t *)arg = process_of(thread_id());
    return NULL;
}

static void every_thread_is_of_its_process(void **state)
{
    pid_t of_other = 0;
    pthread_t t;

    assert_int_equal(process_of(thread_id()), getpid());
    assert_int_equal(pthread_create(&t, NULL, other_thread, &of_other), 0);
    pthread_join(t, NULL);
    assert_int_equal(of_other, getpid());
}

static void a_forked_child_is_a_process_of_its_own(void **state)
{
    pid_t parent = getpid(), child = fork();
    int status;

    if (child == 0)
        _exit(process_of(thread_id()) == getpid() && getpid() != parent ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void of_what_is_gone_or_out_of_sight_nothing_is_known(void **state)
{
    assert_int_equal(process_of(0x3fffff), 0);
    assert_int_equal(process_of(0), 0);
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
    assert_false(process_has_duplicate(thread_id(), st.st_ino, O_RDWR));
    close(fd);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_is_of_its_process),
        cmocka_unit_test(a_forked_child_is_a_process_of_its_own),
        cmocka_unit_test(of_what_is_gone_or_out_of_sight_nothing_is_known),
        cmocka_unit_test(a_running_process_is_not_killed),
        cmocka_unit_test(a_descriptor_elsewhere_is_not_held),
    };

    return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
