/* The watchdog over the turns of the loop: what is a finding, and what is none. */
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvnode/loop/turn.h"
#include "sync/base/clock.h"

#define LIMIT_MS 20
#define CROWD 6

static uint64_t ms_of(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void work(unsigned ms)
{
    uint64_t until = ms_of(CLOCK_THREAD_CPUTIME_ID) + ms;

    while (ms_of(CLOCK_THREAD_CPUTIME_ID) <= until)
        ;
}

static void stand_still(unsigned ms)
{
    struct timespec t = {.tv_nsec = (long)ms * 1000000};

    nanosleep(&t, NULL);
}

/* What is written to standard error is there for the log that tests look through. */
static char said[1024];

static void end(struct turn *t)
{
    int fds[2], err = dup(STDERR_FILENO);
    ssize_t n;

    assert_int_equal(pipe(fds), 0);
    dup2(fds[1], STDERR_FILENO);
    close(fds[1]);
    turn_end(t);
    dup2(err, STDERR_FILENO);
    close(err);
    n = read(fds[0], said, sizeof said - 1);
    close(fds[0]);
    said[n > 0 ? n : 0] = '\0';
}

static int begin(void **state)
{
    static struct turn t;

    setenv(TURN_LIMIT_VARIABLE, "20", 1);
    turn_init(&t);
    *state = &t;
    return 0;
}

static int over(void **state)
{
    turn_deinit(*state);
    return 0;
}

/* A sanitizer's build has no watchdog: there the last test says all there is to say. */
static bool is_watched(const struct turn *t)
{
    return t->limit_ns != 0;
}

static void a_short_turn_is_none(void **state)
{
    struct turn *t = *state;
    uint64_t since = clock_boot_ns();

    work(2);
    turn_part(t, since, "apply", "set", 0);
    end(t);
    assert_int_equal(t->findings, 0);
    assert_string_equal(said, "");
    assert_string_equal(t->max_what, "apply set");
}

static void too_much_work_is_a_finding_by_its_name(void **state)
{
    struct turn *t = *state;
    uint64_t since;

    if (!is_watched(t))
        return;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(t->findings, 0);
        work(12);
        since = clock_boot_ns();
        work(14);
        turn_part(t, since, "frame of type", NULL, 17);
        end(t);
    }
    assert_int_equal(t->findings, 1);
    assert_non_null(strstr(said, " error: " TURN_FINDING " took "));
    assert_non_null(strstr(said, "frame of type 17"));
    /* The next one is judged by itself. */
    work(1);
    end(t);
    assert_int_equal(t->findings, 1);
}

static void one_thing_that_takes_half_of_it_thrice_is_a_finding(void **state)
{
    struct turn *t = *state;
    uint64_t since = clock_boot_ns();

    if (!is_watched(t))
        return;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(t->findings, 0);
        since = clock_boot_ns();
        work(13);
        turn_part(t, since, "apply", "del", 0);
        end(t);
    }
    assert_int_equal(t->findings, 1);
    assert_non_null(strstr(said, "for one thing"));
    /* Many that take as long together are not. */
    for (int i = 0; i < 13; i++) {
        since = clock_boot_ns();
        work(0);
        turn_part(t, since, "apply", "del", 0);
    }
    end(t);
    assert_int_equal(t->findings, 1);
}

static void a_loop_that_waits_is_a_finding(void **state)
{
    struct turn *t = *state;
    uint64_t since = clock_boot_ns();

    if (!is_watched(t) || t->waited_ns == UINT64_MAX)
        return; /* this kernel does not tell who waits for a processor */
    stand_still(130);
    turn_part(t, since, "write-behind", "", 0);
    end(t);
    assert_int_equal(t->findings, 1);
    assert_non_null(strstr(said, TURN_FINDING " stood still for "));
    assert_non_null(strstr(said, "write-behind"));
}

static void a_wait_for_what_must_be_durable_is_none(void **state)
{
    struct turn *t = *state;
    uint64_t since = clock_boot_ns();

    stand_still(130);
    turn_waited(t, since);
    end(t);
    assert_int_equal(t->findings, 0);
    since = clock_boot_ns();
    stand_still(130);
    end(t);
    assert_int_equal(t->findings, t->limit_ns != 0 && t->waited_ns != UINT64_MAX ? 1 : 0);
}

static void waiting_for_input_is_none(void **state)
{
    struct turn *t = *state;
    uint64_t before = ms_of(CLOCK_MONOTONIC);

    stand_still(130);
    turn_idle(t, (ms_of(CLOCK_MONOTONIC) - before) * 1000000);
    end(t);
    assert_int_equal(t->findings, 0);
}

static void a_process_that_was_stopped_is_not_judged_by_the_clock(void **state)
{
    struct turn *t = *state;
    int status;
    pid_t parent = getpid(), pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        kill(parent, SIGSTOP);
        stand_still(130);
        kill(parent, SIGCONT);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    end(t);
    assert_int_equal(t->findings, 0);
}

/* All on one processor, where each gets a part of the time. */
static void a_crowded_machine_is_none(void **state)
{
    struct turn *t = *state;
    cpu_set_t all, one;
    pid_t crowd[CROWD];
    uint64_t cpu, wall;

    if (!is_watched(t))
        return;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    for (int i = 0; i < CROWD; i++) {
        crowd[i] = fork();
        if (crowd[i] == 0)
            for (;;)
                ;
    }
    /* The clock alone would find this. Whoever got more than his share tries again. */
    for (int i = 0; i < 20; i++) {
        turn_deinit(t);
        turn_init(t);
        cpu = ms_of(CLOCK_THREAD_CPUTIME_ID);
        wall = ms_of(CLOCK_MONOTONIC);
        while (ms_of(CLOCK_MONOTONIC) - wall < 3 * LIMIT_MS)
            ;
        if (ms_of(CLOCK_THREAD_CPUTIME_ID) - cpu < LIMIT_MS - 2)
            break;
    }
    end(t);
    for (int i = 0; i < CROWD; i++) {
        kill(crowd[i], SIGKILL);
        waitpid(crowd[i], NULL, 0);
    }
    sched_setaffinity(0, sizeof all, &all);
    assert_int_equal(t->findings, 0);
}

static void without_a_limit_nothing_is(void **state)
{
    struct turn t;

    (void)state;
    unsetenv(TURN_LIMIT_VARIABLE);
    turn_init(&t);
    work(25);
    end(&t);
    assert_int_equal(t.findings, 0);
    assert_string_equal(said, "");
    assert_true(t.max_ns >= 25000000);
    assert_in_range(turn_quantile_us(&t, 500000), 25000, 40000);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, over)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_short_turn_is_none),
        TEST(too_much_work_is_a_finding_by_its_name),
        TEST(one_thing_that_takes_half_of_it_thrice_is_a_finding),
        TEST(a_loop_that_waits_is_a_finding),
        TEST(a_wait_for_what_must_be_durable_is_none),
        TEST(waiting_for_input_is_none),
        TEST(a_process_that_was_stopped_is_not_judged_by_the_clock),
        TEST(a_crowded_machine_is_none),
        TEST(without_a_limit_nothing_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
